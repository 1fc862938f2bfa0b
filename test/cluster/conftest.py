"""Real servers for the cluster tests. Their output is shown when a test fails."""

import itertools
import os
from dataclasses import dataclass

import jars
import process
import pytest
from rocketmq import Broker, NameSrv

_counter = itertools.count(1)
_groups = {}  # of fixtures in use, by the scope they live in


@dataclass
class Plain:
    """A NameSrv with one Broker."""

    namesrv: NameSrv
    broker: Broker


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Adds what the servers printed to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for scope, group in _groups.items():
            if scope in item.fixturenames:
                report.sections.append((f"servers of '{scope}'", group.logs()))


def group_of(scope, folder):
    """A group that lives as long as a fixture; a generator for it."""
    group = _groups[scope] = process.Group(folder)
    try:
        yield group
    finally:
        del _groups[scope]
        group.end()


@pytest.fixture(name="servers")
def fixture_servers(tmp_path):
    """A group for servers that live as long as the test."""
    yield from group_of("servers", tmp_path)


@pytest.fixture(name="plain", scope="session", params=jars.VERSIONS)
def fixture_plain(request, tmp_path_factory):
    """A NameSrv and a Broker of each version, shared by all tests that disturb nothing."""
    for group in group_of("plain", tmp_path_factory.mktemp("plain")):
        namesrv = NameSrv(group.folder, version=request.param)
        broker = Broker(group.folder, namesrvs=[namesrv.address], version=request.param)
        group.start(namesrv, broker)
        yield Plain(namesrv, broker)


@pytest.fixture(name="broker")
def fixture_broker(plain):
    """A connection to the shared Broker."""
    with plain.broker.client() as client:
        yield client


@pytest.fixture(name="name")
def fixture_name():
    """A name that no other test uses."""
    return f"t{os.getpid()}-{next(_counter)}"


@pytest.fixture(name="topic")
def fixture_topic(broker, name):
    """A topic that no other test uses."""
    broker.create_topic(name)
    return name
