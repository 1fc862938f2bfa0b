"""Sizes, depths and floods: what a client may ask for and what it may not."""

import pytest
import wire
from wire import PUBACK, PUBLISH, UNSUBACK, V5, V311

TOPIC_NAME_INVALID = 0x90
FILTER_INVALID = 0x8F


def test_longest_topic(joined, version, topic):
    """A name of 65,535 bytes is a name like any other.

    [MQTT3-4.7.3-3] [MQTT5-4.7.3-3]
    """
    name = f"{topic}/" + "x" * (65535 - len(topic) - 1)
    peer = joined(version)
    peer.subscribe(f"{topic}/#")
    peer.send(wire.publish(version, name, b"x"))
    peer.take(name, b"x")
    other = joined(version)
    other.subscribe(name)
    other.send(wire.publish(version, name, b"y"))
    other.take(name, b"y")


@pytest.mark.parametrize("levels", [100, 128, 129, 1000, 65535])
def test_deep_topics(joined, version, topic, levels):
    """128 levels are delivered; more are refused with 0x90, in 3.1.1 by the end of the connection.

    [MQTT3-3.3.5-2] [MQTT5-3.4.2-1]
    """
    name = (f"{topic}" + "/" * (levels - 1))[:65535]
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe(f"{topic}/#")
    if levels <= 128:
        publisher.publish(name, b"deep", 1, 1)
        subscriber.take(name, b"deep")
        return
    for qos, kind in ((0, None), (1, PUBACK), (2, wire.PUBREC)):
        publisher.send(wire.publish(version, name, b"deep", qos, 1))
        if version != V5 and qos == 1:
            publisher.closed()
            break
        if qos:
            publisher.expect(kind, packet_id=1, reason=TOPIC_NAME_INVALID)
        else:
            publisher.quiet()
    subscriber.quiet()


@pytest.mark.parametrize(
    "text", ["/" * 65535, "+/" * 32767, "a/" * 32767 + "#", "+/" * 32767 + "#"]
)
def test_deep_filters(joined, version, text):
    """The same for filters: 0x8F or 0x80 in SUBACK; UNSUBSCRIBE of one is answered all the same.

    [MQTT3-3.10.4-5] [MQTT5-3.10.4-5] [MQTT3-3.8.4-5] [MQTT5-3.8.4-7]
    """
    peer = joined(version)
    peer.send(wire.subscribe(version, 1, (text, 1)))
    refused = FILTER_INVALID if version == V5 else 0x80
    peer.expect(wire.SUBACK, packet_id=1, reasons=[refused])
    publisher = joined(version)
    publisher.publish("a/b/c", b"x", 1, 1)
    peer.send(wire.unsubscribe(version, 2, text))
    peer.expect(UNSUBACK, packet_id=2)
    peer.quiet()


def test_many_filters_in_one_packet(joined, version, topic):
    """A SUBSCRIBE with 5,000 filters gets 5,000 codes.

    [MQTT3-3.8.4-5] [MQTT5-3.8.4-6] [MQTT3-3.9.3-1] [MQTT5-3.9.3-1]
    """
    peer = joined(version)
    filters = [(f"{topic}/{number}", number % 3) for number in range(5000)]
    peer.send(wire.subscribe(version, 1, *filters))
    assert peer.expect(wire.SUBACK).reasons == [qos for _, qos in filters]
    peer.send(wire.unsubscribe(version, 2, *(name for name, _ in filters)))
    found = peer.expect(UNSUBACK, packet_id=2)
    assert version != V5 or found.reasons == [0] * 5000


def test_maximum_packet_size_of_the_client(joined, topic):
    """A message larger than the client takes is left out; those around it arrive.

    [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]
    """
    publisher = joined()
    for qos in range(3):
        subscriber = joined(properties=[("maximum_packet_size", 100), ("receive_maximum", 1)])
        subscriber.subscribe((topic, qos))
        for payload in (b"before", b"x" * 200, b"after", b"y" * 100, b"end"):
            publisher.publish(topic, payload, qos, 1)
        for payload in (b"before", b"after", b"end"):
            assert len(subscriber.take(topic, payload, qos).raw) <= 100
        subscriber.quiet()
        subscriber.end()


def test_maximum_packet_size_to_the_byte(joined, topic):
    """A packet of exactly the client's maximum is sent, one byte more is not.

    [MQTT5-3.1.2-24]
    """
    size_max = 64
    subscriber, publisher = joined(properties=[("maximum_packet_size", size_max)]), joined()
    subscriber.subscribe((topic, 0))
    room = size_max - len(wire.publish(V5, topic))
    publisher.publish(topic, b"x" * (room + 1))
    publisher.publish(topic, b"x" * room)
    assert len(subscriber.take(topic, b"x" * room).raw) == size_max
    subscriber.quiet()


def test_maximum_packet_size_of_answers(joined, topic):
    """Answers stay within the client's maximum: reason strings and user properties go first.

    [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2]
    [MQTT5-3.5.2-3] [MQTT5-3.9.2-1] [MQTT5-3.9.2-2] [MQTT5-3.11.2-1] [MQTT5-3.11.2-2]
    [MQTT5-3.14.2-3] [MQTT5-3.14.2-4]
    """
    size_max = 30
    peer = joined(properties=[("maximum_packet_size", size_max)])
    peer.send(
        wire.publish(V5, "$SYS/no", b"x", 1, 1),
        wire.publish(V5, "$SYS/no", b"x", 2, 2),
        wire.ack(V5, wire.PUBREL, 77),
        wire.subscribe(V5, 3, topic, "/" * 60000),
        wire.unsubscribe(V5, 4, topic, "never/subscribed"),
    )
    for kind in (PUBACK, wire.PUBREC, wire.PUBCOMP, wire.SUBACK, UNSUBACK):
        assert len(peer.expect(kind).raw) <= size_max
    peer.send(b"\0\0")
    assert len(peer.expect(wire.DISCONNECT).raw) <= size_max
    peer.closed()


def test_no_problem_information(joined, topic):
    """Request Problem Information 0: no reason strings, no user properties of the server's own.

    [MQTT5-3.1.2-29]
    """
    peer = joined(properties=[("request_problem", 0)])
    peer.send(
        wire.publish(V5, "$SYS/no", b"x", 1, 1),
        wire.publish(V5, "$SYS/no", b"x", 2, 2),
        wire.ack(V5, wire.PUBREL, 77),
        wire.subscribe(V5, 3, topic, "/" * 60000),
        wire.unsubscribe(V5, 4, topic, "never/subscribed"),
    )
    for kind in (PUBACK, wire.PUBREC, wire.PUBCOMP, wire.SUBACK, UNSUBACK):
        assert peer.expect(kind).props == []


def test_overlong_properties(joined, topic):
    """User properties of 64 KiB each, up to the packet's own limit, pass; a section that says it
    is longer than the packet does not (test_truncation).

    [MQTT5-3.3.2-17]
    """
    subscriber, publisher = joined(), joined()
    subscriber.subscribe((topic, 1))
    big = [("user", ("n" * 65535, "v" * 65535)) for _ in range(5)]
    publisher.publish(topic, b"x", 1, 1, properties=big)
    assert subscriber.take(topic, b"x", 1).all("user") == [value for _, value in big]
    many = [("user", (str(number), "")) for number in range(20000)]
    publisher.publish(topic, b"x", 1, 1, properties=many)
    assert subscriber.take(topic, b"x", 1).all("user") == [value for _, value in many]


def test_large_connect(open_peer, version):
    """A CONNECT of more than 100 KiB is taken: long client id, will, user name, properties."""
    peer = open_peer(version)
    options = {"will": wire.Will("t", b"x" * 65535), "user": "u" * 20000, "password": b"p" * 9999}
    if version == V5:
        options["properties"] = [("user", ("n" * 5000, "v" * 5000))]
    peer.connect(f"{peer.client_id}-{'c' * 1000}", **options)
    peer.end()


def test_a_reader_that_does_not_read(server, joined, topic):
    """A subscriber that stops reading holds nobody up: the publisher's acknowledgements come.

    [MQTT3-4.5.0-1]
    """
    stuck, publisher = joined(V311), joined(V311)
    stuck.subscribe((topic, 0))
    for _ in range(40):
        publisher.publish(topic, b"x" * (1 << 19), 1, 1)
    publisher.quiet()
    stuck.close()
    with wire.Peer(server, V5) as other:
        other.connect()
        other.quiet()


def test_pings_without_reading(joined, version):
    """100,000 PINGREQ in one go, answers unread until then: all are answered.

    [MQTT3-3.12.4-1] [MQTT5-3.12.4-1]
    """
    peer = joined(version)
    count = 100000
    peer.send(wire.pingreq() * count)
    for _ in range(count):
        assert peer.receive().kind == wire.PINGRESP


def test_messages_to_oneself(joined, version, topic):
    """A client that publishes to itself through many filters is served like any other."""
    peer = joined(version)
    peer.subscribe(*((f"{topic}/{'+/' * n}#", 1) for n in range(20)))
    peer.send(wire.publish(version, f"{topic}/" + "a/" * 15, b"x", 1, 1))
    found = [peer.receive(), peer.receive(), *peer.drain()]
    assert sorted(packet.kind for packet in found) == [PUBLISH, PUBACK]
