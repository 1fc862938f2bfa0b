"""Answers that depend on the configuration: topics, rights, passwords, limits, client ids."""

import subprocess

import pytest
import wire
from tidemq import BINARY
from wire import CONNACK, PUBACK, PUBLISH, PUBREC, V5, V31, V311, Peer

NOT_AUTHORIZED = 0x87
TOPIC_NAME_INVALID = 0x90
FILTER_INVALID = 0x8F


@pytest.fixture(name="strict", scope="module")
def fixture_strict(make_server_module):
    """A server that creates no topics, admits no anonymous clients, and has small limits."""
    return make_server_module(
        **{
            "topics.auto_create": False,
            "topics.deny_subscribe": ["denied/#"],
            "limits.keep_alive_max": "30s",
            "limits.receive_maximum": 5,
            "limits.max_packet_size": "4KiB",
            "limits.topic_alias_max": 0,
            "sessions.expiry_max": "60s",
            "sessions.duplicate_client_id": "reject",
        }
    )


@pytest.fixture(name="guest")
def fixture_guest(strict):
    """Opens connections to it and takes them through CONNECT."""
    peers = []

    def guest(version=V5, **options):
        peers.append(Peer(strict, version))
        peers[-1].connect(**options)
        return peers[-1]

    yield guest
    for peer in peers:
        peer.close()


def test_capabilities(strict):
    """CONNACK tells what differs from what was asked for and from the protocol's defaults.

    [MQTT5-3.2.2-21] [MQTT5-3.2.2-15] [MQTT5-3.2.2-18]
    """
    with Peer(strict, V5) as peer:
        answer = peer.connect(keep_alive=600, properties=[("session_expiry", 3600)])
        assert answer.get("server_keep_alive") == 30
        assert answer.get("session_expiry") == 60
        assert answer.get("receive_maximum") == 5
        assert answer.get("maximum_packet_size") == 4096
        assert answer.get("topic_alias_maximum", 0) == 0
    with Peer(strict, V5) as peer:
        answer = peer.connect(keep_alive=20, properties=[("session_expiry", 50)])
        assert answer.get("server_keep_alive") is None
        assert answer.get("session_expiry", 50) == 50


def test_publish_to_a_missing_topic_5(guest):
    """QoS 1 and 2: 0x90 in the acknowledgement; QoS 0: dropped. The connection goes on.

    [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-4.3.3-9]
    """
    peer = guest()
    peer.publish("missing/a", b"x")
    for _ in range(2):
        peer.send(wire.publish(V5, "missing/a", b"x", 1, 1))
        assert peer.expect(PUBACK, packet_id=1, reason=TOPIC_NAME_INVALID).get("reason_string")
        peer.send(wire.publish(V5, "missing/a", b"x", 2, 2))
        assert peer.expect(PUBREC, packet_id=2, reason=TOPIC_NAME_INVALID).get("reason_string")
    for number in range(3, 20):
        peer.send(wire.publish(V5, "missing/a", b"x", 2, number))
        peer.expect(PUBREC, packet_id=number, reason=TOPIC_NAME_INVALID)
    peer.quiet()


@pytest.mark.parametrize("version", [V31, V311])
@pytest.mark.parametrize("qos", [1, 2])
def test_publish_to_a_missing_topic_3(guest, version, qos):
    """3.x cannot say no: the connection ends.

    [MQTT3-3.3.5-2]
    """
    peer = guest(version)
    peer.publish("missing/a", b"x")
    peer.send(wire.publish(version, "missing/a", b"x", qos, 1))
    peer.closed()


def test_reasons_are_left_out(guest):
    """A reason string is left out if the client wants none or its packets are too small for it.

    [MQTT5-3.1.2-29] [MQTT5-3.4.2-2] [MQTT5-3.5.2-2]
    """
    for properties in ([("request_problem", 0)], [("maximum_packet_size", 20)]):
        peer = guest(properties=properties)
        peer.send(wire.publish(V5, "missing/a", b"x", 1, 1))
        assert peer.expect(PUBACK, reason=TOPIC_NAME_INVALID).props == []
        peer.send(wire.publish(V5, "missing/a", b"x", 2, 2))
        assert peer.expect(PUBREC, reason=TOPIC_NAME_INVALID).props == []


def test_subscribe_to_a_missing_topic(guest, version):
    """Each filter has its own answer: 0x8F or 0x80 for what is missing, 0x87 or 0x80 for what is
    denied.

    [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-3.9.3-2] [MQTT5-3.8.4-7] [MQTT5-3.9.3-1]
    """
    peer = guest(version)
    peer.send(
        wire.subscribe(version, 7, ("missing/a", 1), ("#", 1), ("denied/a", 0), ("$SYS/#", 2))
    )
    found = peer.pick(wire.SUBACK, 7).reasons
    refused = [FILTER_INVALID, NOT_AUTHORIZED] if version == V5 else [0x80, 0x80]
    assert [found[0], found[2]] == refused and found[1] == 1 and found[3] <= 2


def test_alias_where_none_is_allowed(guest):
    """A server without aliases refuses each.

    [MQTT5-3.2.2-18] [MQTT5-3.2.2-17]
    """
    peer = guest()
    peer.send(wire.publish(V5, "a", b"x", properties=[("topic_alias", 1)]))
    peer.refused(0x94)


def test_small_receive_maximum(guest):
    """The sixth QoS 2 message without a PUBREL is one too many.

    [MQTT5-3.3.4-7]
    """
    peer = guest()
    for number in range(1, 6):
        peer.send(wire.publish(V5, "$SYS", b"x", 2, number))
        peer.receive()
    peer.quiet()


def test_small_packets(guest, version):
    """4 KiB and one byte.

    [MQTT5-3.2.2-15]
    """
    peer = guest(version)
    peer.send(wire.packet(wire.PUBLISH, 0, wire.string("a") + b"\0" * (4096 - 3 - 3)))
    peer.quiet()
    peer.send(b"\x30" + wire.varint(4096 - 2))
    peer.refused(0x95)


def test_duplicate_client_id_is_rejected(strict, guest, version):
    """`sessions.duplicate_client_id: reject`: the newer connection is refused, the older goes on.

    [MQTT3-3.1.3-9] [MQTT5-3.1.3-8]
    """
    first = guest(version)
    with Peer(strict, version) as second:
        second.send(wire.connect(version, first.client_id))
        second.expect(CONNACK, reason=0x85 if version == V5 else 2, session_present=False)
        second.closed()
    first.quiet()


def test_refusal_within_the_maximum_packet_size(strict, guest):
    """A refusing CONNACK leaves its reason string out rather than be too large for the client.

    [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.1.2-24]
    """
    first = guest()
    with Peer(strict, V5) as second:
        second.send(wire.connect(V5, first.client_id))
        assert second.expect(CONNACK, reason=0x85).get("reason_string")
    with Peer(strict, V5) as second:
        second.send(wire.connect(V5, first.client_id, properties=[("maximum_packet_size", 20)]))
        answer = second.expect(CONNACK, reason=0x85)
        assert answer.get("reason_string") is None and len(answer.raw) <= 20


@pytest.mark.parametrize("size_max", range(1, 40))
def test_connack_within_the_maximum_packet_size(strict, size_max):
    """However small the maximum: what the server sends stays within it, or it ends the connection.

    [MQTT5-3.1.2-24]
    """
    with Peer(strict, V5) as peer:
        properties = [("maximum_packet_size", size_max), ("session_expiry", 3600)]
        peer.send(wire.connect(V5, peer.client_id, keep_alive=600, properties=properties))
        while (packet := peer.receive()) is not None:
            assert len(packet.raw) <= size_max
            if packet.kind == CONNACK and not packet.reason:
                peer.quiet()
                peer.end()


@pytest.fixture(name="tight", scope="module")
def fixture_tight(make_server_module):
    """A server whose limits are reached at once."""
    return make_server_module(
        **{
            "limits.connect_timeout": "300ms",
            "limits.filters_per_client": 3,
            "limits.payload_max": "10B",
            "limits.topics": 2,
            "limits.topic_levels": 4,
        }
    )


PARTS = (b"", b"\x10", b"\x10\x80", wire.connect(V5, "x")[:8], wire.connect(V311, "x")[:-1])


def test_connect_timeout(tight):
    """A connection that does not finish its CONNECT in time is closed, however far it got."""
    peers = [Peer(tight, V311) for _ in PARTS]
    for peer, part in zip(peers, PARTS):
        peer.send(part)
    for peer in peers:
        peer.closed()
        peer.close()


def test_connect_timeout_ends_with_connect(tight, version):
    """Whoever has connected may be silent longer than that."""
    with Peer(tight, version) as peer, Peer(tight, version) as silent:
        peer.connect()
        silent.closed()
        peer.quiet()


def test_filters_per_client(tight, version):
    """The fourth filter: 0x97 or 0x80; a replaced one counts once, an unsubscribed one no more.

    [MQTT3-3.8.4-5] [MQTT5-3.8.4-7] [MQTT5-3.9.3-2]
    """
    refused = 0x97 if version == V5 else 0x80
    with Peer(tight, version) as peer:
        peer.connect()
        peer.send(wire.subscribe(version, 1, "t/1", "t/1", "t/2", "t/3", "t/4"))
        peer.expect(wire.SUBACK, packet_id=1, reasons=[0, 0, 0, 0, refused])
        peer.send(wire.unsubscribe(version, 2, "t/1"))
        peer.expect(wire.UNSUBACK, packet_id=2)
        peer.subscribe("t/4", packet_id=3)


def test_payload_max(tight, version):
    """A payload above the limit: 0x97, in 3.1.1 the end.

    [MQTT3-3.3.5-2] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
    """
    with Peer(tight, version) as peer:
        peer.connect()
        peer.publish("t/1", b"0123456789", 1, 1)
        peer.send(wire.publish(version, "t/1", b"0123456789a", 1, 2))
        if version != V5:
            peer.closed()
            return
        peer.expect(PUBACK, packet_id=2, reason=0x97)
        peer.send(wire.publish(version, "t/1", b"0123456789a", 2, 3))
        peer.expect(PUBREC, packet_id=3, reason=0x97)
        peer.quiet()


def test_levels_and_topics(tight):
    """One level or one first-level topic too many, in names and in filters.

    [MQTT5-3.4.2-1] [MQTT5-3.9.3-2]
    """
    with Peer(tight, V5) as peer:
        peer.connect()
        peer.publish("t/b/c/d", b"x", 1, 1)
        peer.send(wire.publish(V5, "t/b/c/d/e", b"x", 1, 2))
        peer.expect(PUBACK, packet_id=2, reason=TOPIC_NAME_INVALID)
        peer.publish("u/b", b"x", 1, 3)
        peer.send(wire.publish(V5, "v/b", b"x", 1, 4))
        peer.expect(PUBACK, packet_id=4, reason=0x97)
        peer.send(wire.subscribe(V5, 5, "t/b/c/d/#", "t/b/c/#", "v/#"))
        peer.expect(wire.SUBACK, packet_id=5, reasons=[FILTER_INVALID, 0, 0x97])


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(make_server_module, tmp_path_factory):
    """A server for one user, "known" with the password "right"."""
    file = tmp_path_factory.mktemp("passwords") / "passwords"
    command = [BINARY, "password", "set", file, "known"]
    subprocess.run(command, input="right\n", text=True, check=True, capture_output=True)
    return make_server_module(**{"auth.anonymous": False, "auth.password_file": file})


def test_no_credentials(guarded):
    """Anonymous clients: CONNACK 5 in 3.x, 0x87 in 5.0, then the end.

    [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT5-3.1.4-2] [MQTT5-3.2.2-7]
    """
    for version, reason in ((V31, 5), (V311, 5), (V5, NOT_AUTHORIZED)):
        with Peer(guarded, version) as peer:
            peer.connect(reason=reason)
            peer.closed()


CREDENTIALS = [("known", "wrong"), ("nobody", "right"), ("known", ""), ("known", None), ("", "")]


@pytest.mark.parametrize("user,password", CREDENTIALS)
def test_wrong_credentials(guarded, user, password):
    """CONNACK 4 in 3.x, 0x86 in 5.0, then the end; what follows CONNECT is not processed.

    [MQTT3-3.1.4-5] [MQTT5-3.1.4-2] [MQTT5-3.1.4-6] [MQTT5-3.2.2-6]
    """
    for version, reason in ((V31, 4), (V311, 4), (V5, 0x86)):
        with Peer(guarded, version) as peer:
            peer.send(
                wire.connect(version, "x", user=user, password=password),
                wire.subscribe(version, 1, "#"),
                wire.pingreq(),
            )
            peer.expect(CONNACK, reason=reason, session_present=False)
            peer.closed()


def test_right_credentials(guarded):
    """The one user gets in, and packets sent behind CONNECT at once wait for the answer.

    [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] [MQTT5-3.1.2-17] [MQTT5-3.1.2-19] [MQTT5-3.2.0-1]
    """
    for version in (V31, V311, V5):
        with Peer(guarded, version) as peer:
            peer.send(
                wire.connect(version, "x", user="known", password="right"),
                wire.subscribe(version, 1, "a"),
                wire.pingreq(),
            )
            for kind in (CONNACK, wire.SUBACK, wire.PINGRESP):
                peer.expect(kind)


def test_restart_keeps_what_was_acknowledged(make_server, version):
    """SIGKILL after the acknowledgements: subscriptions, messages, QoS 2 ids and retained messages
    are there again.

    [MQTT3-4.1.0-1] [MQTT3-3.1.2-5] [MQTT3-4.3.3-2] [MQTT5-4.1.0-1] [MQTT5-3.1.2-23]
    [MQTT5-4.3.3-10]
    """
    server = make_server()
    keep = {"clean": False, "properties": [("session_expiry", 300)] if version == V5 else []}
    with Peer(server, version) as subscriber, Peer(server, version) as publisher:
        subscriber.connect("subscriber", **keep)
        subscriber.subscribe(("durable/#", 2))
        subscriber.close()
        publisher.connect("publisher", **keep)
        publisher.publish("durable/1", b"one", 1, 1)
        publisher.publish("durable/kept", b"kept", 1, 1, retain=True)
        publisher.send(wire.publish(version, "durable/2", b"two", 2, 9))
        publisher.accepted(PUBREC, 9)
        server.kill()
    server.start()
    with Peer(server, version) as subscriber, Peer(server, version) as publisher:
        assert publisher.connect("publisher", **keep).session_present
        publisher.send(wire.publish(version, "durable/2", b"two", 2, 9, dup=True))
        publisher.accepted(PUBREC, 9)
        publisher.ack(wire.PUBREL, 9)
        publisher.expect(wire.PUBCOMP, packet_id=9, reason=0)
        assert subscriber.connect("subscriber", **keep).session_present
        for name, payload, qos in (("1", b"one", 1), ("kept", b"kept", 1), ("2", b"two", 2)):
            subscriber.take(f"durable/{name}", payload, qos)
        subscriber.quiet()
        subscriber.subscribe(("durable/kept", 1), packet_id=5)
        assert subscriber.take("durable/kept", b"kept", 1).retain
    server.stop()


def test_unacknowledged_after_a_restart(make_server, version):
    """What a subscriber had not acknowledged comes again after SIGKILL, with its id and DUP.

    [MQTT3-4.4.0-1] [MQTT5-4.4.0-1]
    """
    server = make_server()
    keep = {"clean": False, "properties": [("session_expiry", 300)] if version == V5 else []}
    with Peer(server, version) as subscriber, Peer(server, version) as publisher:
        subscriber.connect("subscriber", **keep)
        subscriber.subscribe(("durable/#", 2))
        publisher.connect()
        publisher.publish("durable/2", b"two", 2, 1)
        packet_id = subscriber.expect(PUBLISH, qos=2).packet_id
        server.kill()
    server.start()
    with Peer(server, version) as subscriber:
        assert subscriber.connect("subscriber", **keep).session_present
        found = subscriber.expect(PUBLISH, qos=2, payload=b"two", packet_id=packet_id)
        assert found.dup
        subscriber.ack(PUBREC, packet_id)
        subscriber.expect(wire.PUBREL, packet_id=packet_id)
        server.kill()
    server.start()
    with Peer(server, version) as subscriber:
        assert subscriber.connect("subscriber", **keep).session_present
        subscriber.expect(wire.PUBREL, packet_id=packet_id)
        subscriber.ack(wire.PUBCOMP, packet_id)
        subscriber.quiet()
    server.stop()
