"""Sessions: resuming, discarding, expiry, take-over. Sections 3.1.2, 3.1.4, 3.2.2, 4.1."""

import pytest
import wire
from tidemq import wait_until
from wire import PROTOCOL_ERROR, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V311

TAKEN_OVER = 0x8E


def keep(version, expiry_s=300):
    """CONNECT options for a session that outlives its connection."""
    return {"clean": False, "properties": [("session_expiry", expiry_s)] if version == V5 else []}


def reconnect(open_peer, peer, **options):
    """The same client on a new connection; returns it and its CONNACK."""
    again = open_peer(peer.version)
    return again, again.connect(peer.client_id, **options)


def wait_gone(server, peer):
    """What is published before the server knows that the client is gone is sent to it, and comes again
    with DUP."""
    wait_until(lambda: not server.cli_json("client", "show", peer.client_id)["online"],
               what="the end of the connection")


def test_session_present(open_peer, version):
    """Session Present says whether state was there: never after a clean start.

    [MQTT3-3.1.2-4] [MQTT3-3.1.2-6] [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]
    [MQTT3-3.1.4-3] [MQTT5-3.1.2-4] [MQTT5-3.1.2-5] [MQTT5-3.1.2-6] [MQTT5-3.2.2-2]
    [MQTT5-3.2.2-3] [MQTT5-3.1.4-4] [MQTT5-3.1.2-23]
    """
    peer = open_peer(version)
    assert not peer.connect(**keep(version)).session_present
    peer.end()
    peer, answer = reconnect(open_peer, peer, **keep(version))
    assert answer.session_present
    peer.close()
    peer, answer = reconnect(open_peer, peer, **keep(version))
    assert answer.session_present
    peer.end()
    peer, answer = reconnect(open_peer, peer, clean=True)
    assert not answer.session_present
    peer.end()
    peer, answer = reconnect(open_peer, peer, **keep(version))
    assert not answer.session_present


def test_exact_session_present_3(open_peer):
    """20 02 01 00.

    [MQTT3-3.2.2-2]
    """
    peer = open_peer(V311)
    peer.connect(clean=False)
    peer.end()
    assert reconnect(open_peer, peer, clean=False)[1].raw == b"\x20\x02\x01\x00"


@pytest.mark.parametrize("qos", [1, 2])
def test_offline_messages(server, open_peer, joined, version, topic, qos):
    """What was published while the client was away arrives on its return, in order.

    [MQTT3-3.1.2-5] [MQTT3-4.5.0-1] [MQTT3-4.1.0-1] [MQTT5-4.5.0-1] [MQTT5-4.1.0-1]
    [MQTT5-3.1.2-23]
    """
    peer, publisher = joined(version, **keep(version)), joined(version)
    peer.subscribe((f"{topic}/+", qos))
    peer.close()
    wait_gone(server, peer)
    for number in range(30):
        publisher.publish(f"{topic}/{number % 3}", str(number), qos, 1)
    again, answer = reconnect(open_peer, peer, **keep(version))
    assert answer.session_present
    for number in range(30):
        assert not again.take(f"{topic}/{number % 3}", str(number), qos).dup
    again.quiet()


def test_clean_start_discards(open_peer, joined, version, topic):
    """A clean start loses subscriptions and waiting messages for good, retained ones for nobody.

    [MQTT3-3.1.2-6] [MQTT3-3.1.2-7] [MQTT5-3.1.2-4]
    """
    peer, publisher = joined(version, **keep(version)), joined(version)
    peer.subscribe((f"{topic}/#", 1))
    peer.end()
    publisher.publish(f"{topic}/a", b"waiting", 1, 1)
    publisher.publish(f"{topic}/r", b"retained", 1, 1, retain=True)
    peer, _ = reconnect(open_peer, peer, clean=True)
    publisher.publish(f"{topic}/a", b"now", 1, 1)
    peer.quiet()
    peer.end()
    peer, answer = reconnect(open_peer, peer, **keep(version))
    assert not answer.session_present
    peer.quiet()
    peer.subscribe((f"{topic}/r", 0))
    assert peer.take(f"{topic}/r", b"retained").retain


def test_clean_session_ends_with_its_connection_3(open_peer, joined, topic):
    """CleanSession 1 leaves nothing behind.

    [MQTT3-3.1.2-6] [MQTT3-4.1.0-2]
    """
    peer, publisher = joined(V311), joined(V311)
    peer.subscribe((topic, 1))
    peer.close()
    publisher.publish(topic, b"x", 1, 1)
    again, answer = reconnect(open_peer, peer, clean=False)
    assert not answer.session_present
    again.quiet()


def test_expiry_0_ends_with_its_connection_5(open_peer, joined, topic):
    """No Session Expiry Interval means 0: the session ends with the connection.

    [MQTT5-4.1.0-2] [MQTT5-3.1.2-23] [MQTT5-3.2.2-3]
    """
    for properties in ([], [("session_expiry", 0)]):
        peer = joined(clean=False, properties=properties)
        peer.subscribe((topic, 1))
        peer.close()
        again, answer = reconnect(open_peer, peer, clean=False)
        assert not answer.session_present
        again.quiet()


def test_expiry_passes(open_peer, joined, topic, second_passes):
    """After its expiry interval a session is gone; one with a longer interval is not.

    [MQTT5-4.1.0-2]
    """
    short, lasting = joined(**keep(V5, 1)), joined(**keep(V5, 60))
    for peer in (short, lasting):
        peer.subscribe((topic, 1))
        peer.close()
    second_passes()
    assert not reconnect(open_peer, short, clean=False)[1].session_present
    assert reconnect(open_peer, lasting, clean=False)[1].session_present


def test_expiry_does_not_end_a_connected_session(joined, topic, second_passes):
    """The interval counts from the end of the connection, not from its begin.

    [MQTT5-4.1.0-1] [MQTT3-4.1.0-2]
    """
    peer, publisher = joined(**keep(V5, 1)), joined()
    peer.subscribe((topic, 1))
    second_passes()
    publisher.publish(topic, b"x", 1, 1)
    peer.take(topic, b"x", 1)


def test_disconnect_changes_the_expiry(open_peer, joined):
    """DISCONNECT may shorten the interval, or lengthen one that is not 0.

    [MQTT5-4.1.0-2] [MQTT5-3.1.2-23]
    """
    peer = joined(**keep(V5, 60))
    peer.send(wire.disconnect(V5, 0, [("session_expiry", 0)]))
    peer.closed()
    assert not reconnect(open_peer, peer, clean=False)[1].session_present
    peer = joined(**keep(V5, 1))
    peer.send(wire.disconnect(V5, 0, [("session_expiry", 60)]))
    peer.closed()
    assert reconnect(open_peer, peer, clean=False)[1].session_present


def test_disconnect_cannot_revive_the_expiry(joined):
    """An interval of 0 in CONNECT cannot become another in DISCONNECT.

    [MQTT5-4.13.1-1] [MQTT5-3.14.2-2]
    """
    peer = joined()
    peer.send(wire.disconnect(V5, 0, [("session_expiry", 60)]))
    peer.refused(PROTOCOL_ERROR)


def test_take_over(open_peer, joined, version, topic):
    """The same client id again: the older connection ends, the session goes on.

    [MQTT3-3.1.4-2] [MQTT5-3.1.4-3] [MQTT5-3.1.2-5] [MQTT5-3.14.2-1]
    """
    first, publisher = joined(version, **keep(version)), joined(version)
    first.subscribe((topic, 1))
    second, answer = reconnect(open_peer, first, **keep(version))
    assert answer.session_present
    first.refused(TAKEN_OVER)
    publisher.publish(topic, b"x", 1, 1)
    second.take(topic, b"x", 1)


@pytest.mark.parametrize("old,new", [(V311, V5), (V5, V311)])
def test_take_over_between_versions(open_peer, joined, topic, old, new):
    """A client may come back with another version of the protocol and finds its session.

    [MQTT3-3.1.4-2] [MQTT5-3.1.4-3]
    """
    first = joined(old, **keep(old))
    first.subscribe((topic, 1))
    second = open_peer(new)
    assert second.connect(first.client_id, **keep(new)).session_present
    first.refused(TAKEN_OVER)
    second.send(wire.publish(new, topic, b"x"))
    second.take(topic, b"x")


def test_take_over_by_a_clean_start(open_peer, joined, version, topic):
    """A clean start takes the id over and discards what the older connection had.

    [MQTT3-3.1.4-2] [MQTT3-3.1.2-6] [MQTT5-3.1.4-3] [MQTT5-3.1.2-4]
    """
    first = joined(version, **keep(version))
    first.subscribe((topic, 1))
    second, answer = reconnect(open_peer, first, clean=True)
    assert not answer.session_present
    first.refused(TAKEN_OVER)
    joined(version).publish(topic, b"x", 1, 1)
    second.quiet()


def test_many_take_overs(open_peer, version):
    """A client that connects a hundred times over: each older connection ends, the last stays."""
    peers = []
    for _ in range(100):
        peers.append(open_peer(version))
        peers[-1].send(wire.connect(version, f"{peers[0].client_id}-again"))
    for peer in peers[:-1]:
        packet = peer.receive()
        if packet is not None and packet.kind == wire.CONNACK:
            peer.refused(TAKEN_OVER)
    peers[-1].expect(wire.CONNACK, reason=0)
    peers[-1].quiet()


@pytest.mark.parametrize("clean", [False, True])
def test_packet_id_reuse_across_take_over(open_peer, joined, version, topic, clean):
    """A QoS 2 id that was open when the connection was taken over is the same message in the
    session, a new one in a new session.

    [MQTT3-4.3.3-2] [MQTT3-2.3.1-3] [MQTT5-4.3.3-10] [MQTT5-3.1.4-3] [MQTT5-3.1.2-4]
    """
    subscriber = joined(version)
    subscriber.subscribe((topic, 2))
    first = joined(version, **keep(version))
    first.send(wire.publish(version, topic, b"x", 2, 7))
    first.expect(PUBREC, packet_id=7)
    subscriber.take(topic, b"x", 2)
    options = {"clean": True} if clean else keep(version)
    second, _ = reconnect(open_peer, first, **options)
    first.refused(TAKEN_OVER)
    second.send(wire.publish(version, topic, b"x", 2, 7, dup=True))
    second.accepted(PUBREC, 7)
    second.ack(PUBREL, 7)
    second.expect(PUBCOMP, packet_id=7, reason=0)
    if clean:
        subscriber.take(topic, b"x", 2)
    second.publish(topic, b"y", 2, 7)
    subscriber.take(topic, b"y", 2)
    subscriber.quiet()


def test_outbound_ids_across_take_over(open_peer, joined, version, topic):
    """What the older connection did not acknowledge comes again with its id; late
    acknowledgements on the older connection change nothing.

    [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] [MQTT3-2.3.1-3]
    """
    first, publisher = joined(version, **keep(version)), joined(version)
    first.subscribe((topic, 1))
    publisher.publish(topic, b"x", 1, 1)
    packet_id = first.expect(PUBLISH, qos=1).packet_id
    second, _ = reconnect(open_peer, first, **keep(version))
    first.ack(PUBACK, packet_id)
    first.refused(TAKEN_OVER)
    assert second.expect(PUBLISH, packet_id=packet_id, payload=b"x").dup
    second.ack(PUBACK, packet_id)
    second.quiet()


def test_pipelined_publishes_before_take_over_are_kept(open_peer, joined, version, topic):
    """Messages acknowledged before the take-over are delivered; DUPs of others are not doubled.

    [MQTT3-4.3.3-2] [MQTT5-4.3.3-10]
    """
    subscriber = joined(version)
    subscriber.subscribe((topic, 2))
    first = joined(version, **keep(version))
    first.send(*(wire.publish(version, topic, str(n), 2, n) for n in range(1, 51)))
    second, _ = reconnect(open_peer, first, **keep(version))
    for number in range(1, 51):
        second.send(wire.publish(version, topic, str(number), 2, number, dup=True))
    for number in range(1, 51):
        second.accepted(PUBREC, number)
        second.ack(PUBREL, number)
    for number in range(1, 51):
        second.expect(PUBCOMP, packet_id=number, reason=0)
    seen = []
    while len(seen) < 50:
        packet = subscriber.receive()
        if packet.kind == PUBLISH:
            seen.append(int(packet.payload))
            subscriber.ack(PUBREC, packet.packet_id)
        else:
            subscriber.ack(PUBCOMP, packet.packet_id)
    assert sorted(seen) == list(range(1, 51))
    assert all(packet.kind == PUBREL for packet in subscriber.drain())


def test_session_state_is_told_apart(joined, version, topic):
    """Ids that differ in case or in a blank are different sessions.

    [MQTT3-3.1.3-2] [MQTT5-3.1.3-2]
    """
    peers = [joined(version, client_id=f"{topic}{tail}") for tail in ("a", "A", "a ", " a")]
    for peer in peers:
        peer.quiet()
