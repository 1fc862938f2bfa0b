"""Servers and clients for the end-to-end tests."""

import itertools
import os

import pytest
from fleet import Fleet, fixture_make_server, fixture_new_client  # noqa: F401 (fixtures)

_counter = itertools.count(1)


def pytest_collection_modifyitems(items):
    """On another engine (TIDEMQ_TEST_STORE=mem) only what the default server can show is run: tests
    with servers of their own are about restarts, files and configuration. Over another transport
    (TIDEMQ_TEST_TRANSPORT) files that are about listeners of their own (OWN_LISTENERS) would only be run
    once more."""
    if os.environ.get("TIDEMQ_TEST_TRANSPORT", "mqtt") != "mqtt":
        items[:] = [item for item in items if not getattr(item.module, "OWN_LISTENERS", False)]
    if os.environ.get("TIDEMQ_TEST_STORE"):
        own = {"make_server", "make_server_module"}
        items[:] = [item for item in items if not own & set(item.fixturenames)]


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


@pytest.fixture(name="version", params=[4, 5], ids=["3.1.1", "5.0"])
def fixture_version(request):
    """Both versions."""
    return request.param
