"""Servers for the tests of scale."""

import itertools
import os

import pytest
from tidemq import Server

_counter = itertools.count(1)


def pytest_configure(config):
    """The mark of what only test-long runs."""
    config.addinivalue_line("markers", "long: only with TIDEMQ_LONG=1")


def pytest_collection_modifyitems(items):
    """What is long is no part of a short run."""
    if not os.environ.get("TIDEMQ_LONG"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(name="scale")
def fixture_scale():
    """A number for a short run, or the other for a long one."""
    return lambda short, full: full if os.environ.get("TIDEMQ_LONG") else short


@pytest.fixture(name="make_server")
def fixture_make_server(tmp_path):
    """Makes servers that live as long as the test; their data goes with them."""
    servers = []

    def make(**config):
        server = Server(tmp_path / f"server{next(_counter)}",
                        {"shutdown.timeout": "10m", **config})
        server.patience_s = 600
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()
    for server in servers:
        server.check()
        for path in server.data_dir.rglob("*"):
            if path.is_file():
                path.unlink()
