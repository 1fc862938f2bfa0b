"""Fixtures of the raw packet tests."""

import itertools
import os

import pytest
import wire
from wire import V5, V311, Peer

_counter = itertools.count(1)


@pytest.fixture(name="open_peer")
def fixture_open_peer(server):
    """Opens raw connections to the default server and closes them at the end."""
    peers = []

    def open_peer(version=V5, to=server):
        peers.append(Peer(to, version))
        return peers[-1]

    yield open_peer
    for peer in peers:
        peer.close()


@pytest.fixture(name="joined")
def fixture_joined(open_peer):
    """Opens a connection and takes it through CONNECT and CONNACK."""

    def joined(version=V5, **options):
        peer = open_peer(version)
        peer.connect(**options)
        return peer

    return joined


@pytest.fixture(name="version", params=[V311, V5], ids=["3.1.1", "5.0"])
def fixture_version(request):
    """Both versions whose packets differ."""
    return request.param


@pytest.fixture(name="topic")
def fixture_topic(server):
    """A first-level topic that no other test uses; what it retains is removed in the end."""
    name = f"raw-topic-{os.getpid()}-{next(_counter)}"
    yield name
    with Peer(server, V5) as peer:
        peer.connect()
        for number in range(1, 100):
            peer.send(wire.subscribe(V5, number, f"{name}/#", f"${name}/#"))
            found = [packet for packet in peer.drain() if packet.kind == wire.PUBLISH]
            for packet in found:
                peer.send(wire.publish(V5, packet.topic, retain=True))
            if not found:
                break


@pytest.fixture(name="second_passes")
def fixture_second_passes(open_peer):
    """Waits until the server ends a connection whose keep alive is one second: 1.5 s later."""

    def second_passes():
        peer = open_peer(V311)
        peer.connect(keep_alive=1)
        peer.closed()

    return second_passes
