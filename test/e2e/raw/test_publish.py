"""PUBLISH, its topic names, flags and properties. Section 3.3."""

import pytest
import wire
from wire import MALFORMED, PROTOCOL_ERROR, PUBACK, V5, V31, V311

TOPIC_NAME_INVALID = 0x90


def test_exact_bytes_3(joined, topic):
    """What a 3.1.1 subscriber gets at QoS 0 is the packet that was published, byte for byte.

    [MQTT3-3.3.1-2] [MQTT3-3.3.2-1] [MQTT3-2.3.1-5] [MQTT3-4.3.1-1] [MQTT3-3.3.4-1]
    """
    peer = joined(V311)
    peer.subscribe(topic)
    sent = wire.publish(V311, topic, b"\x00\xff payload")
    peer.send(sent)
    assert peer.expect(wire.PUBLISH).raw == sent


def test_exact_bytes_5(joined, topic):
    """The same in 5.0: a property length of zero and nothing else.

    [MQTT5-3.3.1-2] [MQTT5-3.3.2-1] [MQTT5-2.2.1-2] [MQTT5-2.2.2-1] [MQTT5-4.3.1-1]
    """
    peer = joined(V5)
    peer.subscribe(topic)
    sent = wire.publish(V5, topic, b"\x00\xff payload")
    peer.send(sent)
    assert peer.expect(wire.PUBLISH).raw == sent


@pytest.mark.parametrize("sender", [V31, V311, V5])
@pytest.mark.parametrize("receiver", [V31, V311, V5])
def test_between_versions(joined, topic, sender, receiver):
    """Each version's clients reach each other's at every QoS."""
    subscriber, publisher = joined(receiver), joined(sender)
    subscriber.subscribe((topic, 2))
    for qos in range(3):
        publisher.publish(topic, f"qos {qos}", qos, qos + 1)
        subscriber.take(topic, f"qos {qos}", qos)


WILD = ["#", "+", "a/+/b", "a/#", "a+", "a#b"]


@pytest.mark.parametrize("name", WILD)
def test_wildcards_in_a_topic_name(joined, version, name):
    """A topic name has no wildcard.

    [MQTT3-3.3.2-2] [MQTT3-4.7.1-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]
    """
    for qos in range(3):
        peer = joined(version)
        peer.send(wire.publish(version, name, b"x", qos, 1))
        peer.refused(TOPIC_NAME_INVALID)


def test_empty_topic_name(joined, version):
    """A topic name has a character; in 5.0 an alias may stand in for it, without one it is 0x82.

    [MQTT3-4.7.3-1] [MQTT5-4.7.3-1]
    """
    for qos in range(3):
        peer = joined(version)
        peer.send(wire.publish(version, "", b"x", qos, 1))
        peer.refused(PROTOCOL_ERROR)


def test_qos_3(joined, version, topic):
    """Both QoS bits set.

    [MQTT3-3.3.1-4] [MQTT5-3.3.1-4]
    """
    for flags in (6, 7, 14, 15):
        peer = joined(version)
        peer.send(wire.packet(wire.PUBLISH, flags, wire.string(topic) + b"\0\1\0x"))
        peer.refused(MALFORMED)


def test_dup_at_qos_0(joined, version, topic):
    """DUP at QoS 0 means nothing and is refused.

    [MQTT3-3.3.1-2] [MQTT5-3.3.1-2]
    """
    peer = joined(version)
    peer.send(wire.publish(version, topic, b"x", dup=True))
    peer.refused(MALFORMED)


def test_packet_id_0(joined, version, topic):
    """A QoS 1 or 2 PUBLISH with packet id 0.

    [MQTT3-2.3.1-1] [MQTT5-2.2.1-3]
    """
    for qos in (1, 2):
        peer = joined(version)
        peer.send(wire.publish(version, topic, b"x", qos, 0))
        peer.refused(PROTOCOL_ERROR)


def test_qos_0_has_no_packet_id(joined, version, topic):
    """The two bytes behind the topic of a QoS 0 PUBLISH are no packet id.

    [MQTT3-2.3.1-5] [MQTT5-2.2.1-2]
    """
    peer = joined(version)
    peer.subscribe(topic)
    tail = b"\0\5" if version == V311 else b"\0\0\5"
    peer.send(wire.packet(wire.PUBLISH, 0, wire.string(topic) + tail))
    assert peer.expect(wire.PUBLISH, qos=0).payload == b"\0\5"


def test_empty_and_large_payloads(joined, version, topic):
    """Payloads from nothing to half a mebibyte arrive as they were sent."""
    peer = joined(version)
    peer.subscribe((topic, 1))
    for size in (0, 1, 127, 128, 16383, 16384, 65535, 65536, 1 << 19):
        payload = bytes(each % 251 for each in range(256)) * (size // 256 + 1)
        peer.send(wire.publish(version, topic, payload[:size], 1, 7))
        found = [peer.receive(), peer.receive()]
        found.sort(key=lambda packet: packet.kind)
        assert [packet.kind for packet in found] == [wire.PUBLISH, PUBACK]
        assert found[0].payload == payload[:size]
        peer.ack(PUBACK, found[0].packet_id)


def test_dup_is_not_passed_on(joined, version, topic):
    """DUP of an incoming PUBLISH says nothing about the outgoing one.

    [MQTT3-3.3.1-3] [MQTT5-3.3.1-3] [MQTT3-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-4.3.3-2]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 2))
    publisher.publish(topic, b"one", 1, 3, dup=True)
    assert not subscriber.take(topic, b"one", 1).dup
    publisher.publish(topic, b"two", 2, 4, dup=True)
    assert not subscriber.take(topic, b"two", 2).dup


PUBLISH_PROPERTIES = {
    "payload format 2": ([("payload_format", 2)], PROTOCOL_ERROR),
    "payload format twice": ([("payload_format", 0)] * 2, PROTOCOL_ERROR),
    "message expiry twice": ([("message_expiry", 1)] * 2, PROTOCOL_ERROR),
    "content type twice": ([("content_type", "a")] * 2, PROTOCOL_ERROR),
    "response topic twice": ([("response_topic", "a")] * 2, PROTOCOL_ERROR),
    "correlation data twice": ([("correlation_data", b"a")] * 2, PROTOCOL_ERROR),
    "topic alias twice": ([("topic_alias", 1)] * 2, PROTOCOL_ERROR),
    "subscription id": ([("subscription_id", 1)], PROTOCOL_ERROR),
    "session expiry": ([("session_expiry", 1)], MALFORMED),
    "reason string": ([("reason_string", "x")], MALFORMED),
    "will delay": ([("will_delay", 1)], MALFORMED),
    "unknown": ([b"\x7f\x00"], MALFORMED),
    "cut number": ([b"\x02\x00\x00"], MALFORMED),
    "cut string": ([b"\x03\x00\x09x"], MALFORMED),
    "cut pair": ([b"\x26\x00\x01x"], MALFORMED),
    "overlong identifier": ([b"\x81\x00\x01"], MALFORMED),
    "alias 0": ([("topic_alias", 0)], 0x94),
    "response topic with +": ([("response_topic", "a/+")], PROTOCOL_ERROR),
    "response topic with #": ([("response_topic", "#")], PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", PUBLISH_PROPERTIES.values(), ids=PUBLISH_PROPERTIES.keys())
def test_bad_properties(joined, topic, case):
    """Properties that are wrong in PUBLISH, each with its reason.

    [MQTT5-3.3.2-8] [MQTT5-3.3.2-14] [MQTT5-3.3.4-6] [MQTT5-4.13.1-1] [MQTT5-1.5.5-1]
    """
    properties, reason = case
    for qos in (0, 1):
        peer = joined()
        peer.send(wire.publish(V5, topic, b"x", qos, 1, properties=properties))
        peer.refused(reason)


def test_properties_are_passed_on(joined, topic):
    """What the publisher says about its message reaches subscribers unaltered and in order.

    [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
    [MQTT5-3.3.2-20]
    """
    subscriber, publisher = joined(), joined()
    subscriber.subscribe((topic, 2))
    user = [("user", pair) for pair in (("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "0"))]
    sent = [
        user[0],
        ("content_type", "text/plain"),
        user[1],
        ("response_topic", "back/to/me"),
        user[2],
        ("correlation_data", bytes(range(256))),
        ("payload_format", 1),
        *user[3:],
    ]
    for qos in range(3):
        publisher.publish(topic, "\u00e9", qos, 1, properties=sent)
        found = subscriber.take(topic, "\u00e9", qos)
        assert [pair for pair in found.props if pair[0] == "user"] == user
        for name, value in sent:
            if name != "user":
                assert found.get(name) == value


def test_properties_stay_in_5(joined, topic):
    """A 3.1.1 subscriber gets the message of a 5.0 publisher without properties."""
    subscriber, publisher = joined(V311), joined(V5)
    subscriber.subscribe(topic)
    publisher.publish(topic, b"x", properties=[("content_type", "y"), ("user", ("a", "b"))])
    assert subscriber.take(topic, b"x").raw == wire.publish(V311, topic, b"x")


def test_message_expiry_counts_down(joined, topic, second_passes):
    """The interval sent is the one received less the time the message waited.

    [MQTT5-3.3.2-6]
    """
    subscriber, publisher = joined(clean=True, properties=[("session_expiry", 60)]), joined()
    subscriber.subscribe((topic, 1))
    subscriber.end()
    publisher.publish(topic, b"x", 1, 1, properties=[("message_expiry", 100)])
    second_passes()
    again = joined(client_id=subscriber.client_id, clean=False)
    assert 90 <= again.take(topic, b"x", 1).get("message_expiry") <= 99


def test_expired_messages_are_not_delivered(joined, topic, second_passes):
    """A message whose interval passed before delivery began is gone, also as a retained one.

    [MQTT5-3.3.2-5]
    """
    subscriber, publisher = joined(properties=[("session_expiry", 60)]), joined()
    subscriber.subscribe((topic, 1))
    subscriber.end()
    short = [("message_expiry", 1)]
    publisher.publish(topic, b"short", 1, 1, properties=short, retain=True)
    publisher.publish(topic, b"lasting", 1, 2)
    second_passes()
    again = joined(client_id=subscriber.client_id, clean=False)
    again.take(topic, b"lasting", 1)
    again.quiet()
    fresh = joined()
    fresh.subscribe(topic)
    fresh.quiet()


def test_topic_alias(joined, topic):
    """An alias set once stands for its topic; set again it stands for the new one.

    [MQTT5-3.3.2-12]
    """
    subscriber, publisher = joined(), joined()
    subscriber.subscribe(f"{topic}/#")
    alias = [("topic_alias", 1)]
    publisher.publish(f"{topic}/a", b"1", properties=alias)
    publisher.publish("", b"2", properties=alias)
    publisher.publish(f"{topic}/b", b"3", properties=alias)
    publisher.publish("", b"4", 1, 9, properties=alias)
    for name, payload in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")):
        assert subscriber.take(f"{topic}/{name}", payload).get("topic_alias") is None


def test_topic_alias_range(open_peer, topic):
    """Every alias up to the announced maximum is accepted; the next one is 0x94.

    [MQTT5-3.3.2-12] [MQTT5-3.3.2-9] [MQTT5-3.2.2-17]
    """
    peer = open_peer()
    alias_max = peer.connect().get("topic_alias_maximum", 0)
    assert alias_max > 0
    for alias in {1, 2, alias_max // 2 + 1, alias_max}:
        peer.publish(f"{topic}/{alias}", b"x", properties=[("topic_alias", alias)])
        peer.publish("", b"x", properties=[("topic_alias", alias)])
    if alias_max < 0xFFFF:
        peer.send(wire.publish(V5, topic, b"x", properties=[("topic_alias", alias_max + 1)]))
        peer.refused(0x94)


def test_unknown_topic_alias(joined):
    """An alias that was never set.

    [MQTT5-3.3.2-7]
    """
    peer = joined()
    peer.send(wire.publish(V5, "", b"x", properties=[("topic_alias", 1)]))
    peer.refused(PROTOCOL_ERROR)


def test_topic_alias_ends_with_its_connection(open_peer, topic):
    """An alias of an earlier connection means nothing, even if the session goes on.

    [MQTT5-3.3.2-7]
    """
    first = open_peer()
    first.connect(properties=[("session_expiry", 60)])
    first.publish(topic, b"x", properties=[("topic_alias", 1)])
    first.close()
    second = open_peer()
    assert second.connect(first.client_id, clean=False).session_present
    second.send(wire.publish(V5, "", b"x", properties=[("topic_alias", 1)]))
    second.refused(PROTOCOL_ERROR)


def test_alias_towards_the_client(joined, topic):
    """The server uses aliases only within the client's maximum, and correctly.

    [MQTT5-3.1.2-26] [MQTT5-3.1.2-27] [MQTT5-3.3.2-11] [MQTT5-3.3.2-8]
    """
    publisher = joined()
    for alias_max in (0, 1, 2):
        subscriber = joined(properties=[("topic_alias_maximum", alias_max)] if alias_max else [])
        subscriber.subscribe((f"{topic}/+", 1))
        known = {}
        for number in range(12):
            name = f"{topic}/{number % 4}"
            publisher.publish(name, b"x", 1, 1)
            found = subscriber.expect(wire.PUBLISH)
            subscriber.ack(PUBACK, found.packet_id)
            alias = found.get("topic_alias")
            if alias is not None:
                assert 1 <= alias <= alias_max
                if found.topic:
                    known[alias] = found.topic
            assert (found.topic or known[alias]) == name
        subscriber.end()


def test_matching_name(joined, version, topic):
    """A delivery carries the name that was published, not the filter.

    [MQTT3-3.3.2-3] [MQTT5-3.3.2-3]
    """
    peer = joined(version)
    peer.subscribe(f"{topic}/+/c/#")
    peer.send(wire.publish(version, f"{topic}/b/c/d/e", b"x"))
    peer.take(f"{topic}/b/c/d/e", b"x")
