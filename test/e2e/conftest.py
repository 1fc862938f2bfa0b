"""Servers and clients for the end-to-end tests."""

import itertools
import os

import pytest
from client import Client
from tidemq import Server

_counter = itertools.count(1)


def pytest_collection_modifyitems(items):
    """On another engine (TIDEMQ_TEST_STORE=mem) only what the default server can show is run: tests
    with servers of their own are about restarts, files and configuration."""
    if os.environ.get("TIDEMQ_TEST_STORE"):
        own = {"make_server", "make_server_module"}
        items[:] = [item for item in items if not own & set(item.fixturenames)]


class Fleet:
    """The servers of one scope; ends what it started, and nothing else."""

    def __init__(self, folder):
        self.folder = folder
        self.servers = []

    def make(self, *, start=True, folder=None, config_file=None, env=None, **config):
        """A new server with these keys; started unless told otherwise."""
        server = Server(
            folder or self.folder / f"server{next(_counter)}", config,
            config_file=config_file, env=env,
        )
        self.servers.append(server)
        return server.start() if start else server

    def end(self):
        """Ends all servers, then fails if one of them had a fault."""
        for server in self.servers:
            server.kill()
        for server in self.servers:
            server.check()


@pytest.fixture(name="make_server")
def fixture_make_server(tmp_path):
    """Makes servers that live as long as the test."""
    fleet = Fleet(tmp_path)
    yield fleet.make
    fleet.end()


@pytest.fixture(name="make_server_module", scope="module")
def fixture_make_server_module(tmp_path_factory):
    """Makes servers that live as long as the tests of one file."""
    fleet = Fleet(tmp_path_factory.mktemp("servers"))
    yield fleet.make
    fleet.end()


@pytest.fixture(name="server", scope="session")
def fixture_server(tmp_path_factory):
    """The default server, shared by all tests that need nothing special. Its orderly end, in which
    a build with sanitizers tells of leaks, is part of the test."""
    fleet = Fleet(tmp_path_factory.mktemp("server"))
    server = fleet.make()
    yield server
    alive = server.running
    if alive:
        server.stop()
    fleet.end()
    assert alive, f"the server died: {server.log[-3000:]}"


@pytest.fixture(name="topic")
def fixture_topic():
    """A first-level topic that no other test uses."""
    return f"t{os.getpid()}-{next(_counter)}"


@pytest.fixture(name="new_client")
def fixture_new_client(request):
    """Makes connected clients of the default server, or of another one (to=...)."""
    clients = []

    def new_client(client_id=None, *, to=None, connect=True, **options):
        to = to or request.getfixturevalue("server")
        client = Client(to, client_id, **options)
        clients.append(client)
        return client.connect() if connect else client

    yield new_client
    for client in clients:
        client.abandon()


@pytest.fixture(name="version", params=[4, 5], ids=["3.1.1", "5.0"])
def fixture_version(request):
    """Both versions."""
    return request.param
