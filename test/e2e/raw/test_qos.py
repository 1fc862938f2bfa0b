"""The acknowledgement flows in both directions. Sections 3.4 to 3.7, 4.3, 4.4, 4.6, 4.9."""

import pytest
import wire
from wire import MALFORMED, PROTOCOL_ERROR, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V311

NOT_FOUND = 0x92


def keep(version):
    """CONNECT options for a session that outlives its connection."""
    return {"clean": False, "properties": [("session_expiry", 300)] if version == V5 else []}


def resume(joined, peer):
    """The same client on a new connection."""
    return joined(peer.version, client_id=peer.client_id, **keep(peer.version))


def test_exact_acknowledgements(joined, version, topic):
    """The shortest form of each: 40 02, 50 02, 70 02 and the packet id.

    [MQTT3-2.3.1-6] [MQTT3-3.3.4-1] [MQTT3-4.3.2-2] [MQTT3-4.3.3-2] [MQTT5-2.2.1-5]
    [MQTT5-3.3.4-1] [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-11]
    """
    peer = joined(version)
    peer.send(wire.publish(version, topic, b"x", 1, 0xFFFF))
    answer = peer.accepted(PUBACK, 0xFFFF)
    assert version == V5 or answer.raw == b"\x40\x02\xff\xff"
    peer.send(wire.publish(version, topic, b"x", 2, 0x0100))
    answer = peer.accepted(PUBREC, 0x0100)
    assert version == V5 or answer.raw == b"\x50\x02\x01\x00"
    peer.ack(PUBREL, 0x0100)
    answer = peer.expect(PUBCOMP, packet_id=0x0100, reason=0)
    assert answer.raw[:4] == b"\x70\x02\x01\x00" or version == V5
    peer.quiet()


def test_qos_1_ids_are_new_after_puback(joined, version, topic):
    """After PUBACK the same packet id is a new message, whatever DUP says.

    [MQTT3-4.3.2-2] [MQTT5-4.3.2-5]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 1))
    for dup in (False, True, True):
        publisher.publish(topic, b"again", 1, 7, dup=dup)
        subscriber.take(topic, b"again", 1)


def test_qos_2_is_delivered_once(joined, version, topic):
    """Until PUBREL the same id is the same message; after PUBCOMP it is a new one.

    [MQTT3-4.3.3-2] [MQTT5-4.3.3-10] [MQTT5-4.3.3-12] [MQTT5-4.3.3-11]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 2))
    for _ in range(2):
        for dup in (False, True, True):
            publisher.send(wire.publish(version, topic, b"once", 2, 7, dup=dup))
            publisher.accepted(PUBREC, 7)
        publisher.ack(PUBREL, 7)
        publisher.expect(PUBCOMP, packet_id=7, reason=0)
        subscriber.take(topic, b"once", 2)
        subscriber.quiet()


def test_qos_2_is_delivered_once_across_connections(joined, version, topic):
    """The id is remembered with the session, not with the connection.

    [MQTT3-4.3.3-2] [MQTT3-4.4.0-1] [MQTT3-3.1.2-4] [MQTT5-4.3.3-10] [MQTT5-3.1.2-5]
    """
    subscriber = joined(version)
    subscriber.subscribe((topic, 2))
    publisher = joined(version, **keep(version))
    for dup in (False, True, True):
        publisher.send(wire.publish(version, topic, b"once", 2, 7, dup=dup))
        publisher.expect(PUBREC, packet_id=7)
        publisher.close()
        publisher = resume(joined, publisher)
    publisher.ack(PUBREL, 7)
    publisher.expect(PUBCOMP, packet_id=7, reason=0)
    publisher.close()
    publisher = resume(joined, publisher)
    publisher.ack(PUBREL, 7)
    publisher.expect(PUBCOMP, packet_id=7)
    subscriber.take(topic, b"once", 2)
    subscriber.quiet()


def test_pubrel_for_an_unknown_id(joined, version):
    """PUBREL is always answered; in 5.0 with 0x92 if the id is not known.

    [MQTT3-4.3.3-2] [MQTT5-4.3.3-11] [MQTT5-3.7.2-1]
    """
    peer = joined(version)
    peer.ack(PUBREL, 99)
    peer.expect(PUBCOMP, packet_id=99, reason=NOT_FOUND if version == V5 else 0)
    peer.quiet()


def test_pubrec_for_an_unknown_id(joined, version):
    """A PUBREC for no message of ours: in 5.0 PUBREL with 0x92, so that the peer can go on.

    [MQTT5-3.6.2-1] [MQTT3-4.3.3-1]
    """
    peer = joined(version)
    peer.ack(PUBREC, 99)
    peer.expect(PUBREL, packet_id=99, reason=NOT_FOUND if version == V5 else 0)
    peer.quiet()


def test_puback_and_pubcomp_for_an_unknown_id(joined, version):
    """Acknowledgements of nothing are ignored."""
    peer = joined(version)
    peer.ack(PUBACK, 99)
    peer.ack(PUBCOMP, 99)
    peer.quiet()


def test_acknowledgement_of_the_wrong_kind(joined, version, topic):
    """PUBACK does not end a QoS 2 delivery, nor PUBREC a QoS 1 delivery.

    [MQTT3-4.3.3-1] [MQTT5-4.3.3-3] [MQTT5-4.3.2-3]
    """
    for qos, wrong in ((2, PUBACK), (1, PUBCOMP)):
        publisher = joined(version)
        subscriber = joined(version, **keep(version))
        subscriber.subscribe((topic, qos))
        publisher.publish(topic, b"x", qos, 1)
        packet_id = subscriber.expect(PUBLISH, qos=qos).packet_id
        subscriber.ack(wrong, packet_id)
        found = subscriber.receive_or_end()
        assert found is None or found.kind in (wire.PINGRESP, wire.DISCONNECT)
        subscriber.close()
        again = resume(joined, subscriber)
        assert again.expect(PUBLISH, packet_id=packet_id, qos=qos).dup
        again.send(wire.unsubscribe(version, 3, topic))


@pytest.mark.parametrize("kind", wire.ACKS, ids=[wire.NAMES[kind] for kind in wire.ACKS])
def test_packet_id_0(joined, version, kind):
    """No acknowledgement has packet id 0.

    [MQTT3-2.3.1-1] [MQTT5-2.2.1-5]
    """
    peer = joined(version)
    peer.ack(kind, 0)
    peer.refused(PROTOCOL_ERROR)


@pytest.mark.parametrize("kind", wire.ACKS, ids=[wire.NAMES[kind] for kind in wire.ACKS])
def test_reason_codes_of_acknowledgements(joined, kind):
    """Reason codes that the packet does not have, and properties that it does not have.

    [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
    """
    for reason in (0x01, 0x04, 0x7F, 0x81, 0x95, 0xFF):
        peer = joined()
        peer.ack(kind, 9, reason)
        peer.refused(PROTOCOL_ERROR)
    for properties in ([("topic_alias", 1)], [("session_expiry", 1)]):
        peer = joined()
        peer.ack(kind, 9, 0, properties)
        peer.refused(MALFORMED)
    peer = joined()
    peer.ack(kind, 9, 0, [("reason_string", "a"), ("reason_string", "b")])
    peer.refused(PROTOCOL_ERROR)


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_qos_is_the_lower_one(joined, version, topic, granted):
    """Each QoS published against each QoS granted.

    [MQTT3-3.8.4-6] [MQTT5-3.8.4-8]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, granted))
    for qos in range(3):
        publisher.publish(topic, b"x", qos, 1)
        subscriber.take(topic, b"x", min(qos, granted))


@pytest.mark.parametrize("qos", [1, 2])
def test_unacknowledged_publish_is_sent_again(joined, version, topic, qos):
    """On a new connection: same ids, same order, DUP set. On the same connection: never.

    [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT3-3.3.1-1] [MQTT3-2.3.1-3] [MQTT3-2.3.1-4]
    [MQTT3-4.3.2-1] [MQTT3-4.3.3-1] [MQTT3-4.1.0-1]
    [MQTT5-4.4.0-1] [MQTT5-4.6.0-1] [MQTT5-3.3.1-1] [MQTT5-2.2.1-4] [MQTT5-4.3.2-1]
    [MQTT5-4.3.2-3] [MQTT5-4.3.3-1] [MQTT5-4.3.3-3]
    """
    publisher = joined(version)
    subscriber = joined(version, **keep(version))
    subscriber.subscribe((topic, qos))
    for number in range(5):
        publisher.publish(topic, str(number), qos, 1)
    first = [subscriber.expect(PUBLISH, payload=str(n).encode(), qos=qos) for n in range(5)]
    ids = [packet.packet_id for packet in first]
    assert 0 not in ids and len(set(ids)) == 5
    assert not any(packet.dup for packet in first)
    subscriber.quiet()
    subscriber.close()
    again = resume(joined, subscriber)
    for number, packet_id in enumerate(ids):
        found = again.expect(PUBLISH, payload=str(number).encode(), packet_id=packet_id, qos=qos)
        assert found.dup
    again.quiet()
    if qos == 1:
        again.ack(PUBACK, ids[0])
        again.ack(PUBACK, ids[2])
    else:
        for packet_id in (ids[0], ids[2]):
            again.ack(PUBREC, packet_id)
            again.expect(PUBREL, packet_id=packet_id)
            again.ack(PUBCOMP, packet_id)
    again.quiet()
    again.close()
    last = resume(joined, again)
    for number in (1, 3, 4):
        assert last.take(topic, str(number), qos).dup
    last.quiet()


def test_pubrel_is_sent_again(joined, version, topic):
    """After PUBREC it is the PUBREL that is repeated, with its id; never the PUBLISH.

    [MQTT3-4.4.0-1] [MQTT3-4.3.3-1] [MQTT5-4.4.0-1] [MQTT5-4.3.3-4] [MQTT5-4.3.3-5]
    [MQTT5-4.3.3-6]
    """
    publisher = joined(version)
    subscriber = joined(version, **keep(version))
    subscriber.subscribe((topic, 2))
    publisher.publish(topic, b"x", 2, 1)
    packet_id = subscriber.expect(PUBLISH, qos=2).packet_id
    subscriber.ack(PUBREC, packet_id)
    subscriber.expect(PUBREL, packet_id=packet_id, reason=0)
    for _ in range(2):
        subscriber.close()
        subscriber = resume(joined, subscriber)
        subscriber.expect(PUBREL, packet_id=packet_id, reason=0)
        subscriber.quiet()
    subscriber.ack(PUBCOMP, packet_id)
    subscriber.quiet()
    subscriber.close()
    resume(joined, subscriber).quiet()


def test_pubrec_again_gets_pubrel_again(joined, version, topic):
    """A receiver that repeats its PUBREC gets its PUBREL.

    [MQTT5-4.3.3-4] [MQTT3-4.3.3-1]
    """
    publisher, subscriber = joined(version), joined(version)
    subscriber.subscribe((topic, 2))
    publisher.publish(topic, b"x", 2, 1)
    packet_id = subscriber.expect(PUBLISH, qos=2).packet_id
    for _ in range(2):
        subscriber.ack(PUBREC, packet_id)
        subscriber.expect(PUBREL, packet_id=packet_id, reason=0)
    subscriber.ack(PUBCOMP, packet_id)
    subscriber.quiet()


@pytest.mark.parametrize("qos,kind", [(1, PUBACK), (2, PUBREC)])
def test_failure_ends_the_delivery(joined, topic, qos, kind):
    """PUBACK or PUBREC of 0x80 and above: the message is done with and its id free.

    [MQTT5-4.4.0-2] [MQTT5-4.3.3-4] [MQTT5-4.3.3-9]
    """
    publisher = joined()
    subscriber = joined(**keep(V5))
    subscriber.subscribe((topic, qos))
    publisher.publish(topic, b"refused", qos, 1)
    subscriber.ack(kind, subscriber.expect(PUBLISH, qos=qos).packet_id, 0x83)
    subscriber.quiet()
    subscriber.close()
    again = resume(joined, subscriber)
    again.quiet()
    publisher.publish(topic, b"next", qos, 1)
    again.take(topic, b"next", qos)


def test_order(joined, version, topic):
    """Messages of one client, topic and QoS arrive in their order, mixed with other QoS.

    [MQTT3-4.6.0-5] [MQTT3-4.6.0-6] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 2))
    count = 60
    publisher.send(*(wire.publish(version, topic, str(n), n % 3, n + 1) for n in range(count)))
    for number in range(count):
        if number % 3 == 1:
            publisher.pick(PUBACK, number + 1)
        elif number % 3 == 2:
            publisher.pick(PUBREC, number + 1)
            publisher.ack(PUBREL, number + 1)
    seen = {0: [], 1: [], 2: []}
    while sum(map(len, seen.values())) < count:
        packet = subscriber.receive()
        if packet.kind == PUBLISH:
            seen[packet.qos].append(int(packet.payload))
            if packet.qos:
                subscriber.ack(PUBACK if packet.qos == 1 else PUBREC, packet.packet_id)
        else:
            assert packet.kind == PUBREL
            subscriber.ack(PUBCOMP, packet.packet_id)
    for qos, numbers in seen.items():
        assert numbers == list(range(qos, count, 3))


@pytest.mark.parametrize("qos", [1, 2])
def test_receive_maximum_of_the_client(joined, topic, qos):
    """No more unacknowledged messages than the client allows; other packets are not held back.

    [MQTT5-3.3.4-9] [MQTT5-3.3.4-10] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] [MQTT5-4.9.0-3]
    """
    publisher = joined()
    subscriber = joined(properties=[("receive_maximum", 2)])
    subscriber.subscribe((topic, qos))
    for number in range(6):
        publisher.publish(topic, str(number), qos, 1)
    window = [subscriber.expect(PUBLISH, payload=str(n).encode()) for n in range(2)]
    subscriber.quiet()
    subscriber.subscribe(f"{topic}/other", packet_id=9)
    publisher.publish(f"{topic}/other", b"qos 0 passes")
    subscriber.take(f"{topic}/other", b"qos 0 passes")
    for number in range(2, 6):
        done = window.pop(0)
        subscriber.ack(PUBACK if qos == 1 else PUBREC, done.packet_id)
        if qos == 2:
            subscriber.expect(PUBREL, packet_id=done.packet_id)
            subscriber.quiet()
            subscriber.ack(PUBCOMP, done.packet_id)
        window.append(subscriber.expect(PUBLISH, payload=str(number).encode()))
        subscriber.quiet()


def test_receive_maximum_of_the_server(open_peer, joined, topic):
    """One QoS 2 message more than announced, without a PUBREL: 0x93.

    [MQTT5-3.3.4-7] [MQTT5-4.13.1-1]
    """
    peer = open_peer()
    limit = peer.connect().get("receive_maximum", 0xFFFF)
    assert limit == 1024
    for number in range(1, limit + 1):
        peer.send(wire.publish(V5, topic, b"x", 2, number))
    for number in range(1, limit + 1):
        peer.accepted(PUBREC, number)
    peer.send(wire.publish(V5, topic, b"x", 2, 5, dup=True))
    peer.expect(PUBREC, packet_id=5)
    peer.send(wire.publish(V5, topic, b"x", 2, limit + 1))
    peer.refused(0x93)
    joined().quiet()


def test_pubrel_makes_room(open_peer, topic):
    """Each PUBREL gives one place of the window back.

    [MQTT5-4.9.0-1] [MQTT5-3.3.4-7]
    """
    peer = open_peer()
    limit = peer.connect().get("receive_maximum")
    peer.send(*(wire.publish(V5, topic, b"x", 2, number) for number in range(1, limit + 1)))
    for number in range(1, limit + 1):
        peer.expect(PUBREC, packet_id=number)
    for number in range(1, 20):
        peer.ack(PUBREL, number)
        peer.expect(PUBCOMP, packet_id=number, reason=0)
        peer.send(wire.publish(V5, topic, b"x", 2, number))
        peer.accepted(PUBREC, number)
    peer.ack(PUBREL, 20)
    peer.expect(PUBCOMP, packet_id=20)
    peer.publish(topic, b"x", 1, 21)


def test_qos_2_flood_in_3(joined, topic):
    """3.1.1 has no window: thousands without a PUBREL are all answered, and so are their PUBRELs.

    [MQTT3-4.3.3-2] [MQTT3-2.3.1-6]
    """
    peer = joined(V311)
    for start in range(1, 4000, 200):
        peer.send(*(wire.publish(V311, topic, b"x", 2, n) for n in range(start, start + 200)))
    for number in range(1, 4001):
        peer.expect(PUBREC, packet_id=number)
    peer.send(*(wire.ack(V311, PUBREL, number) for number in range(1, 4001)))
    for number in range(1, 4001):
        peer.expect(PUBCOMP, packet_id=number)
    peer.quiet()


def test_ids_towards_the_client_are_unique(joined, version, topic):
    """Hundreds unacknowledged, by two subscriptions and both QoS: no id is used twice.

    [MQTT3-2.3.1-4] [MQTT5-2.2.1-4]
    """
    publisher, subscriber = joined(version), joined(version)
    subscriber.subscribe((f"{topic}/1", 1), (f"{topic}/2", 2))
    count = 200
    for number in range(count):
        publisher.publish(f"{topic}/{number % 2 + 1}", b"x", number % 2 + 1, 1)
    seen = set()
    for packet in subscriber.drain():
        assert packet.packet_id and packet.packet_id not in seen
        seen.add(packet.packet_id)
    assert len(seen) >= 16


def test_expiry_does_not_stop_a_delivery_that_began(joined, topic, second_passes):
    """A QoS 2 message that was sent before it expired is carried to its end.

    [MQTT5-4.3.3-7] [MQTT5-4.3.3-13]
    """
    publisher = joined()
    subscriber = joined(**keep(V5))
    subscriber.subscribe((topic, 2))
    for number in (1, 2):
        publisher.publish(topic, str(number), 2, number, properties=[("message_expiry", 1)])
    ids = [subscriber.expect(PUBLISH, qos=2).packet_id for _ in range(2)]
    subscriber.ack(PUBREC, ids[0])
    subscriber.expect(PUBREL, packet_id=ids[0])
    subscriber.close()
    second_passes()
    again = resume(joined, subscriber)
    found = [again.receive(), again.receive()]
    kinds = {packet.kind: packet for packet in found}
    assert kinds[PUBREL].packet_id == ids[0]
    assert kinds[PUBLISH].packet_id == ids[1] and kinds[PUBLISH].dup
    again.ack(PUBCOMP, ids[0])
    again.ack(PUBREC, ids[1])
    again.expect(PUBREL, packet_id=ids[1])
    again.ack(PUBCOMP, ids[1])
    again.quiet()


def test_qos_0_is_not_kept_from_a_reader(joined, version, topic):
    """QoS 0 between QoS 1 messages is delivered to a connected subscriber.

    [MQTT3-4.3.1-1] [MQTT5-4.3.1-1]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 1))
    for number in range(10):
        publisher.publish(topic, str(number), number % 2, 1)
        found = subscriber.take(topic, str(number), number % 2)
        assert not found.dup and (found.packet_id != 0) == bool(number % 2)


@pytest.mark.parametrize("qos", [1, 2])
def test_smaller_receive_maximum_on_return(joined, topic, qos):
    """A client that returns with a smaller window gets what is unacknowledged bit by bit.

    [MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.4.0-1]
    """
    publisher = joined()
    first = joined(**keep(V5))
    first.subscribe((topic, qos))
    for number in range(6):
        publisher.publish(topic, str(number), qos, 1)
    ids = [first.expect(PUBLISH, payload=str(n).encode()).packet_id for n in range(6)]
    first.close()
    narrow = {"clean": False, "properties": [("session_expiry", 300), ("receive_maximum", 2)]}
    again = joined(client_id=first.client_id, **narrow)
    for start in (0, 2, 4):
        for number in (start, start + 1):
            again.expect(PUBLISH, payload=str(number).encode(), packet_id=ids[number])
        again.quiet()
        for number in (start, start + 1):
            again.ack(PUBACK if qos == 1 else PUBREC, ids[number])
            if qos == 2:
                again.pick(PUBREL, ids[number])
        for number in (start, start + 1):
            if qos == 2:
                again.ack(PUBCOMP, ids[number])
    again.quiet()


@pytest.mark.parametrize("qos,kind", [(1, PUBACK), (2, PUBREC)])
def test_a_refusal_makes_room(joined, topic, qos, kind):
    """PUBACK and PUBREC of 0x80 and above give their place of the window back.

    [MQTT5-4.9.0-1] [MQTT5-4.4.0-2]
    """
    publisher, subscriber = joined(), joined(properties=[("receive_maximum", 1)])
    subscriber.subscribe((topic, qos))
    for number in range(5):
        publisher.publish(topic, str(number), qos, 1)
    for number in range(5):
        found = subscriber.expect(PUBLISH, payload=str(number).encode())
        subscriber.quiet()
        subscriber.ack(kind, found.packet_id, 0x80)
    subscriber.quiet()


def test_smaller_packets_on_return(joined, topic):
    """A client that returns with a smaller maximum packet size does not get what no longer fits; it
    is told to let go of a packet ID that it may hold for such a message.

    [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
    """
    publisher, first = joined(), joined(**keep(V5))
    first.subscribe((topic, 2))
    for qos in (1, 2):
        publisher.publish(topic, b"x" * 500, qos, 1)
        large = first.expect(PUBLISH, qos=qos).packet_id
        publisher.publish(topic, b"small", qos, 1)
        first.expect(PUBLISH, qos=qos)
    first.close()
    small = {"clean": False, "properties": [("session_expiry", 300), ("maximum_packet_size", 200)]}
    again = joined(client_id=first.client_id, **small)
    again.pick(PUBREL, large)
    again.ack(PUBCOMP, large)
    for qos in (1, 2):
        again.take(topic, b"small", qos)
    again.quiet()


def test_versions_change_within_a_flow(joined, topic):
    """Flows that began in one version of the protocol end in the other.

    [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] [MQTT3-4.3.3-2] [MQTT5-4.3.3-10]
    """
    for old, new in ((V311, V5), (V5, V311)):
        publisher, peer = joined(old), joined(old, **keep(old))
        peer.subscribe((topic, 2))
        publisher.publish(topic, b"out", 2, 1)
        packet_id = peer.expect(PUBLISH, qos=2).packet_id
        peer.send(wire.publish(old, f"{topic}/in", b"in", 2, 77))
        peer.accepted(PUBREC, 77)
        peer.close()
        again = joined(new, client_id=peer.client_id, **keep(new))
        assert again.expect(PUBLISH, packet_id=packet_id, payload=b"out").dup
        again.ack(PUBREC, packet_id)
        again.expect(PUBREL, packet_id=packet_id)
        again.ack(PUBCOMP, packet_id)
        again.send(wire.publish(new, f"{topic}/in", b"in", 2, 77, dup=True))
        again.accepted(PUBREC, 77)
        again.ack(PUBREL, 77)
        again.expect(PUBCOMP, packet_id=77, reason=0)
        again.quiet()


def test_pubrel_right_behind_its_publish(joined, version, topic):
    """A client that does not wait for PUBREC before PUBREL ends with the id free all the same."""
    subscriber, publisher = joined(version), joined(version, **keep(version))
    subscriber.subscribe((topic, 2))
    for number in range(3):
        publisher.send(
            wire.publish(version, topic, str(number), 2, 5), wire.ack(version, PUBREL, 5)
        )
        publisher.pick(PUBREC, 5)
        publisher.ack(PUBREL, 5)
        publisher.pick(PUBCOMP, 5)
        publisher.drain()
        subscriber.take(topic, str(number), 2)
    subscriber.quiet()
