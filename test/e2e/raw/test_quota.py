"""Rates and numbers of limits.*: each answered as docs/limits.md says, in both versions.

A bucket holds a second's worth, so a flood sent at once finds its end however slow the machine is;
what must come later is waited for, and the shortest time it may take is checked.
"""

import time

import pytest
import wire
from wire import CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, V5, V311, Peer

QUOTA_EXCEEDED = 0x97
CONNECTION_RATE = 0x9F
IMPLEMENTATION = 0x83
FLOOD = 60


def grown(server, before, name):
    """By how much a counter has grown."""
    return server.metrics()[name] - before[name]


@pytest.fixture(name="joined_to")
def fixture_joined_to(open_peer):
    """Opens connections to a server of the test's and takes them through CONNECT."""

    def joined_to(server, version, **options):
        peer = open_peer(version, server)
        peer.connect(**options)
        return peer

    return joined_to


@pytest.fixture(name="slow", scope="module", params=["limits.tps", "limits.client_tps"])
def fixture_slow(make_server_module, request):
    """A server with few messages a second for all, or for each client; and which it is."""
    return make_server_module(**{request.param: 8}), request.param


def refused_by(name):
    """The counter of a limit."""
    return f"tidemq_{name.replace('limits.', 'limit_')}_refused_total"


@pytest.mark.parametrize("qos", [1, 2])
def test_publisher_over_rate(slow, joined_to, topic, qos):
    """MQTT 5: the first are taken, then PUBACK or PUBREC says 0x97 and which key it was.

    [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
    """
    server, name = slow
    before = server.metrics()
    peer = joined_to(server, V5)
    kind = PUBACK if qos == 1 else PUBREC
    deadline = time.monotonic() + 30
    while True:  # until the bucket, which other tests of this server have used, is full enough
        peer.send(wire.publish(V5, topic, b"first", qos, 1))
        if peer.expect(kind, packet_id=1).reason in (wire.SUCCESS, wire.NO_SUBSCRIBERS):
            break
        assert time.monotonic() < deadline, "nothing is ever taken"
    peer.send(*(wire.publish(V5, topic, b"m", qos, n) for n in range(2, FLOOD)))
    answers = [peer.pick(kind, n) for n in range(2, FLOOD)]  # what is stored is answered later
    refused = [answer for answer in answers if answer.reason == QUOTA_EXCEEDED]
    assert refused and all(each.get("reason_string") == f"{name} is reached" for each in refused)
    peer.quiet()
    assert grown(server, before, refused_by(name)) >= len(refused)
    assert grown(server, before, "tidemq_publish_refused_total") >= len(refused)


@pytest.mark.parametrize("qos", [1, 2])
def test_old_publisher_over_rate(slow, joined_to, topic, qos):
    """MQTT 3.1.1: it is slowed down; every message is taken, in its order, none refused.

    [MQTT3-3.3.5-2]
    """
    server, name = slow
    before = server.metrics()
    subscriber, peer = joined_to(server, V5), joined_to(server, V311)
    started = time.monotonic()
    count = 8 // qos  # of weight 2 and 4: 16 in all, and 8 are saved up at most
    peer.send(*(wire.publish(V311, topic, f"{n}", qos, n) for n in range(1, count + 1)))
    for number in range(1, count + 1):
        peer.expect(PUBACK if qos == 1 else PUBREC, packet_id=number)
    assert time.monotonic() - started > 0.9
    peer.quiet()
    subscriber.quiet()
    assert grown(server, before, "tidemq_limit_reads_held_total") >= 1
    assert grown(server, before, refused_by(name)) >= 1
    assert grown(server, before, "tidemq_limit_reads_closed_total") == 0


def test_qos0_is_dropped_without_a_word(slow, joined_to, version, topic):
    """QoS 0 over the rate goes nowhere, and the connection stays.

    [MQTT3-4.3.1-1] [MQTT5-4.3.1-1]
    """
    server, name = slow
    before = server.metrics()
    peer = joined_to(server, version)
    peer.send(*(wire.publish(version, topic, b"m") for _ in range(FLOOD)))
    peer.quiet()
    dropped = grown(server, before, "tidemq_limit_qos0_dropped_total")
    assert 0 < dropped <= FLOOD
    assert grown(server, before, "tidemq_publish_qos0_dropped_total") == dropped
    assert grown(server, before, refused_by(name)) == dropped


def test_stored_messages_come_later(make_server, joined_to, version, topic):
    """Deliveries count: over the rate what is stored waits, and all of it comes in order; QoS 0 to
    another client is dropped meanwhile.

    [MQTT3-4.6.0-6] [MQTT5-4.6.0-6]
    """
    server = make_server(**{"limits.client_tps": 20})
    subscriber, lossy = joined_to(server, version), joined_to(server, version)
    subscriber.subscribe((topic, 1))
    lossy.subscribe((topic, 0))
    publishers = [joined_to(server, V5) for _ in range(4)]
    started = time.monotonic()
    for number in range(32):
        publishers[number // 8].publish(topic, f"{number}", 1, number + 1)
    for number in range(32):
        subscriber.take(topic, f"{number}", 1)
    assert time.monotonic() - started > 1.5  # 64 of weight, 20 saved up, 20 a second
    metrics = server.metrics()
    assert metrics["tidemq_limit_deliveries_delayed_total"] >= 1
    got = len(lossy.drain())
    assert got + metrics["tidemq_limit_qos0_dropped_total"] == 32 and got >= 1


def test_clients_online(make_server, open_peer, version):
    """limits.clients: CONNACK 0x97, in 3.1.1 return code 3; a client may replace itself.

    [MQTT3-3.2.2-5] [MQTT5-3.2.2-7]
    """
    server = make_server(**{"limits.clients": 2})
    first, second = open_peer(version, server), open_peer(version, server)
    first.connect("one")
    second.connect("two")
    third = open_peer(version, server)
    answer = third.connect("three", reason=QUOTA_EXCEEDED if version == V5 else 3)
    assert version != V5 or "limits.clients" in answer.get("reason_string")
    third.closed()
    again = open_peer(version, server)
    again.connect("two")
    first.end()
    open_peer(version, server).connect("three")
    assert server.metrics()["tidemq_limit_clients_refused_total"] == 1


WILL = wire.Will("will/topic", b"gone")


@pytest.mark.parametrize(
    "name, will", [("limits.connect_rate", None), ("limits.will_connect_rate", WILL)]
)
def test_connects_per_second(make_server, open_peer, version, name, will):
    """New connections, with a will or all: CONNACK 0x9F, in 3.1.1 return code 3.

    [MQTT3-3.2.2-5] [MQTT5-3.2.2-7]
    """
    server = make_server(**{name: 2})
    peers = [open_peer(version, server) for _ in range(20)]
    for peer in peers:
        peer.send(wire.connect(version, peer.client_id, will=will))
    codes = [peer.expect(CONNACK).reason for peer in peers]
    refused = CONNECTION_RATE if version == V5 else 3
    assert set(codes) == {0, refused} and codes.count(0) >= 2
    assert server.metrics()[refused_by(name)] == codes.count(refused)
    if will:
        with Peer(server, version) as peer:
            peer.connect()


def test_subscribes_per_second(make_server, joined_to, version):
    """SUBACK says 0x97 or 0x80 for each filter, and nothing was subscribed.

    [MQTT3-3.8.4-5] [MQTT5-3.8.4-7] [MQTT5-3.9.3-2]
    """
    server = make_server(**{"limits.subscribe_rate": 2})
    peer = joined_to(server, version)
    peer.send(*(wire.subscribe(version, n, f"a/{n}", f"b/{n}") for n in range(1, FLOOD)))
    answers = [peer.expect(SUBACK, packet_id=n).reasons for n in range(1, FLOOD)]
    refused = [QUOTA_EXCEEDED if version == V5 else 0x80] * 2
    assert answers[:2] == [[0, 0], [0, 0]] and refused in answers
    metrics = server.metrics()
    assert metrics["tidemq_subscriptions"] == 2 * answers.count([0, 0])
    assert metrics["tidemq_limit_subscribe_rate_refused_total"] == answers.count(refused)


def test_unsubscribes_per_second(make_server, joined_to):
    """MQTT 5: UNSUBACK says 0x83, and the subscription is still there.

    [MQTT5-3.10.4-5] [MQTT5-3.11.3-2]
    """
    server = make_server(**{"limits.unsubscribe_rate": 1})
    peer = joined_to(server, V5)
    peer.subscribe("a/1", "a/2", "a/3")
    peer.send(*(wire.unsubscribe(V5, n, f"a/{n}") for n in (1, 2, 3)))
    codes = [peer.expect(UNSUBACK, packet_id=n).reasons[0] for n in (1, 2, 3)]
    assert codes[0] == 0 and IMPLEMENTATION in codes
    metrics = server.metrics()
    assert metrics["tidemq_subscriptions"] == codes.count(IMPLEMENTATION)
    assert metrics["tidemq_limit_unsubscribe_rate_refused_total"] == codes.count(IMPLEMENTATION)


def test_old_unsubscribes_per_second(make_server, joined_to):
    """MQTT 3.1.1, whose UNSUBACK can only say yes: they wait.

    [MQTT3-3.10.4-4]
    """
    server = make_server(**{"limits.unsubscribe_rate": 2})
    peer = joined_to(server, V311)
    peer.subscribe("a/1", "a/2", "a/3", "a/4")
    started = time.monotonic()
    peer.send(*(wire.unsubscribe(V311, n, f"a/{n}") for n in (1, 2, 3, 4)))
    for number in (1, 2, 3, 4):
        peer.expect(UNSUBACK, packet_id=number)
    assert time.monotonic() - started > 0.9
    metrics = server.metrics()
    assert metrics["tidemq_subscriptions"] == 0
    assert metrics["tidemq_limit_unsubscribe_rate_refused_total"] >= 1


def test_subscriptions_of_all(make_server, joined_to, version):
    """limits.subscriptions, over all clients: 0x97 or 0x80.

    [MQTT3-3.8.4-5] [MQTT5-3.8.4-7]
    """
    server = make_server(**{"limits.subscriptions": 3})
    first, second = joined_to(server, version), joined_to(server, version)
    first.subscribe("a/1", "a/2")
    second.send(wire.subscribe(version, 1, "a/1", "a/2"))
    refused = QUOTA_EXCEEDED if version == V5 else 0x80
    answer = second.expect(SUBACK, packet_id=1, reasons=[0, refused])
    assert version != V5 or answer.get("reason_string") == "limits.subscriptions is reached"
    assert server.metrics()["tidemq_limit_subscriptions_refused_total"] == 1
