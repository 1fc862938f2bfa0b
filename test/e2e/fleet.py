"""Servers of a test and its clients, for every suite that starts servers."""

import itertools

import pytest
from client import Client
from tidemq import Server

_counter = itertools.count(1)


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
