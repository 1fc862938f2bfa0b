"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK and filters. Sections 3.8 to 3.11 and 4.7."""

import pytest
import wire
from wire import MALFORMED, PROTOCOL_ERROR, PUBACK, PUBLISH, SUBACK, UNSUBACK, V5, V311

FILTER_INVALID = 0x8F


def test_exact_bytes(joined, version, topic):
    """SUBACK and UNSUBACK carry the packet id and, for each filter, one code in its place.

    [MQTT3-2.3.1-7] [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1]
    [MQTT3-3.9.3-2] [MQTT3-3.10.4-4] [MQTT3-3.10.4-5] [MQTT5-2.2.1-6] [MQTT5-3.8.4-1]
    [MQTT5-3.8.4-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7] [MQTT5-3.9.3-1]
    [MQTT5-3.9.3-2] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.11.3-1] [MQTT5-3.11.3-2]
    """
    peer = joined(version)
    filters = [(f"{topic}/{n}", qos) for n, qos in enumerate((2, 0, 1, 2, 1, 0))]
    peer.send(wire.subscribe(version, 0xFFFE, *filters))
    middle = b"\0" if version == V5 else b""
    codes = bytes([2, 0, 1, 2, 1, 0])
    body = b"\xff\xfe" + middle + codes
    assert peer.receive().raw == bytes([0x90, len(body)]) + body
    names = [name for name, _ in filters]
    peer.send(wire.unsubscribe(version, 0x0203, names[0], "never/subscribed", names[5]))
    found = peer.expect(UNSUBACK, packet_id=0x0203)
    if version == V5:
        assert found.raw == b"\xb0\x06\x02\x03\0\x00\x11\x00"
    else:
        assert found.raw == b"\xb0\x02\x02\x03"


def test_several_filters_act_as_several_packets(joined, version, topic):
    """Filters of one SUBSCRIBE and of one UNSUBSCRIBE each take effect, in their order.

    [MQTT3-3.8.4-4] [MQTT3-3.10.4-6] [MQTT5-3.8.4-5] [MQTT5-3.10.4-6]
    """
    peer, publisher = joined(version), joined(version)
    names = [f"{topic}/{number}" for number in range(20)]
    peer.subscribe(*names)
    for name in names:
        publisher.publish(name, name)
        peer.take(name, name)
    peer.send(wire.unsubscribe(version, 2, *names[::2]))
    peer.expect(UNSUBACK, packet_id=2)
    for name in names:
        publisher.publish(name, name)
    for name in names[1::2]:
        peer.take(name, name)
    peer.quiet()


def test_the_last_of_equal_filters_counts(joined, version, topic):
    """One filter twice in a SUBSCRIBE: the second entry replaces the first.

    [MQTT3-3.8.4-3] [MQTT3-3.8.4-4] [MQTT5-3.8.4-3] [MQTT5-3.8.4-5]
    """
    peer, publisher = joined(version), joined(version)
    peer.subscribe((topic, 2), (topic, 0))
    publisher.publish(topic, b"x", 2, 1)
    peer.take(topic, b"x", 0)
    peer.quiet()


def test_no_filter(joined, version):
    """SUBSCRIBE and UNSUBSCRIBE without a filter.

    [MQTT3-3.8.3-3] [MQTT3-3.10.3-2] [MQTT5-3.8.3-2] [MQTT5-3.10.3-2]
    """
    for build in (wire.subscribe, wire.unsubscribe):
        peer = joined(version)
        peer.send(build(version, 1))
        peer.refused(PROTOCOL_ERROR)


def test_packet_id_0(joined, version):
    """Packet id 0.

    [MQTT3-2.3.1-1] [MQTT5-2.2.1-3]
    """
    for build in (wire.subscribe, wire.unsubscribe):
        peer = joined(version)
        peer.send(build(version, 0, "a"))
        peer.refused(PROTOCOL_ERROR)


def test_reserved_options_3(joined):
    """In 3.1.1 everything above QoS 2 in the options byte ends the connection.

    [MQTT3-3.8.3-4]
    """
    for options in (3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xFF):
        peer = joined(V311)
        peer.send(wire.subscribe(V311, 1, ("a", options)))
        peer.closed()


OPTIONS_5 = {
    0x03: PROTOCOL_ERROR,
    0x30: PROTOCOL_ERROR,
    0x31: PROTOCOL_ERROR,
    0x40: MALFORMED,
    0x80: MALFORMED,
    0xC0: MALFORMED,
}


def test_reserved_options_5(joined):
    """Reserved bits are malformed; QoS 3 and Retain Handling 3 are protocol errors.

    [MQTT5-3.8.3-5]
    """
    for options, reason in OPTIONS_5.items():
        peer = joined()
        peer.send(wire.subscribe(V5, 1, "good", ("a", options)))
        peer.refused(reason)


BAD_FILTERS = [
    "",
    "#a",
    "a#",
    "a/#/b",
    "##",
    "#/",
    "#/#",
    "a+",
    "+a",
    "a/+b",
    "a/b+/c",
    "++",
    "a/+#",
]


@pytest.mark.parametrize("text", BAD_FILTERS)
def test_bad_filters(joined, version, text):
    """Filters that break the rules for wildcards, and the empty one.

    [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.3-1] [MQTT3-4.8.0-1] [MQTT5-4.7.1-1]
    [MQTT5-4.7.1-2] [MQTT5-4.7.3-1]
    """
    for build in (wire.subscribe, wire.unsubscribe):
        peer = joined(version)
        peer.send(build(version, 1, "good", text))
        peer.refused(FILTER_INVALID)


MATCHES = {
    "sport/tennis/player1/#": {
        "sport/tennis/player1": True,
        "sport/tennis/player1/ranking": True,
        "sport/tennis/player1/score/wimbledon": True,
        "sport/tennis/player2": False,
    },
    "sport/#": {"sport": True, "sport/": True, "sports": False},
    "sport/tennis/+": {
        "sport/tennis/player1": True,
        "sport/tennis/player1/ranking": False,
        "sport/tennis/": True,
        "sport/tennis": False,
    },
    "sport/+": {"sport": False, "sport/": True},
    "+/+": {"/finance": True, "finance": False, "a/b": True, "a/b/c": False},
    "/+": {"/finance": True, "finance": False},
    "+": {"finance": True, "/finance": False},
    "+/tennis/#": {"sport/tennis": True, "sport/tennis/x": True, "tennis": False},
    "sport/+/player1": {"sport/tennis/player1": True, "sport/player1": False},
    "#": {"a": True, "/": True, "a//b": True},
    "a//b": {"a//b": True, "a/b": False, "a/x/b": False},
    "a/+/b": {"a//b": True, "a/x/b": True},
    "/": {"/": True, "//": False},
    "//": {"//": True, "/": False},
    "ACCOUNTS": {"ACCOUNTS": True, "Accounts": False},
}


@pytest.mark.parametrize("text", MATCHES, ids=MATCHES)
def test_matching(joined, version, text):
    """The specification's own examples of what a filter matches, and their kin.

    [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.3-4] [MQTT3-4.5.0-1] [MQTT3-3.3.2-3]
    [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.3-4] [MQTT5-4.5.0-1] [MQTT5-3.3.2-3]
    """
    peer = joined(version)
    peer.subscribe(text, "matching/mark")
    peer.ignores_retained = True
    for name, matches in MATCHES[text].items():
        peer.send(wire.publish(version, name, b"m"), wire.publish(version, "matching/mark"))
        if matches:
            peer.take(name, b"m")
        peer.take("matching/mark", b"")


def test_dollar_topics(joined, version, topic):
    """A wildcard in the first place does not match a name that starts with $.

    [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]
    """
    peer, publisher = joined(version), joined(version)
    peer.subscribe("#", "+/x", "+/#")
    peer.ignores_retained = True
    publisher.publish(f"${topic}/x", b"nobody")
    publisher.publish(f"a{topic}/x", b"others")
    peer.take(f"a{topic}/x", b"others")
    peer.quiet()
    for number, text in enumerate((f"${topic}/+", f"${topic}/x", f"${topic}/#"), 2):
        peer.subscribe(text, packet_id=number)
        publisher.publish(f"${topic}/x", b"dollar")
        peer.take(f"${topic}/x", b"dollar")
        peer.send(wire.unsubscribe(version, number + 10, text))
        peer.expect(UNSUBACK, packet_id=number + 10)


def test_replacing_a_subscription(joined, version, topic):
    """The same filter again: one subscription, with the new QoS and no message lost or doubled.

    [MQTT3-3.8.4-3] [MQTT5-3.8.4-3] [MQTT5-3.8.4-4]
    """
    peer, publisher = joined(version), joined(version)
    for number, qos in enumerate((0, 2, 1, 1, 0), 1):
        peer.subscribe((topic, qos), packet_id=number)
        publisher.publish(topic, str(number), 2, number)
        peer.take(topic, str(number), qos)
        peer.quiet()
    peer.send(wire.unsubscribe(version, 9, topic))
    peer.expect(UNSUBACK, packet_id=9)
    publisher.publish(topic, b"gone", 2, 1)
    peer.quiet()


def test_unsubscribe_compares_bytes(joined, version, topic):
    """Only the very same filter is removed: not one it matches, nor one that matches it.

    [MQTT3-3.10.4-1] [MQTT5-3.10.4-1] [MQTT3-3.10.4-2] [MQTT5-3.10.4-2]
    """
    peer, publisher = joined(version), joined(version)
    peer.subscribe(f"{topic}/+")
    for number, text in enumerate((f"{topic}/#", f"{topic}/a", "+/+", f"{topic.upper()}/+"), 2):
        peer.send(wire.unsubscribe(version, number, text))
        found = peer.expect(UNSUBACK, packet_id=number)
        assert version != V5 or found.reasons == [0x11]
        publisher.publish(f"{topic}/a", b"x")
        peer.take(f"{topic}/a", b"x")
    peer.send(wire.unsubscribe(version, 9, f"{topic}/+"))
    found = peer.expect(UNSUBACK, packet_id=9)
    assert version != V5 or found.reasons == [0]
    publisher.publish(f"{topic}/a", b"x")
    peer.quiet()


def test_deliveries_that_began_are_completed(joined, version, topic):
    """UNSUBSCRIBE leaves what is in flight: it is acknowledged, and sent again if it must be.

    [MQTT3-3.10.4-3] [MQTT5-3.10.4-3]
    """
    expiry = [("session_expiry", 60)] if version == V5 else []
    publisher, peer = joined(version), joined(version, clean=False, properties=expiry)
    peer.subscribe((topic, 2))
    for qos in (1, 2):
        publisher.publish(topic, str(qos), qos, qos)
    first, second = peer.expect(PUBLISH, qos=1), peer.expect(PUBLISH, qos=2)
    peer.send(wire.unsubscribe(version, 3, topic))
    peer.expect(UNSUBACK, packet_id=3)
    peer.close()
    again = joined(version, client_id=peer.client_id, clean=False, properties=expiry)
    again.expect(PUBLISH, packet_id=first.packet_id, payload=b"1")
    again.expect(PUBLISH, packet_id=second.packet_id, payload=b"2")
    again.ack(PUBACK, first.packet_id)
    again.ack(wire.PUBREC, second.packet_id)
    again.expect(wire.PUBREL, packet_id=second.packet_id)
    again.ack(wire.PUBCOMP, second.packet_id)
    publisher.publish(topic, b"late", 1, 9)
    again.quiet()


def test_races(joined, version, topic):
    """SUBSCRIBE and UNSUBSCRIBE of one filter, 200 times in one go, with messages all the while.

    Each is answered in its order; what counts in the end is the last of them.
    [MQTT3-3.8.4-1] [MQTT3-3.10.4-2] [MQTT5-3.8.4-1] [MQTT5-3.10.4-2]
    """
    peer, publisher = joined(version), joined(version)
    packets, wanted = [], []
    for number in range(1, 401):
        build, kind = ((wire.subscribe, SUBACK), (wire.unsubscribe, UNSUBACK))[number % 2 == 0]
        packets.append(build(version, number, topic))
        wanted.append((kind, number))
        packets.append(wire.publish(version, topic, str(number)))
    publisher.send(*(wire.publish(version, topic, b"other") for _ in range(200)))
    peer.send(*packets)
    answers = []
    while len(answers) < len(wanted):
        packet = peer.receive()
        assert packet is not None
        if packet.kind != PUBLISH:
            answers.append((packet.kind, packet.packet_id))
    assert answers == wanted
    publisher.publish(topic, b"after", 1, 1)
    peer.quiet()
    peer.subscribe((topic, 1), packet_id=500)
    publisher.publish(topic, b"last", 1, 2)
    peer.take(topic, b"last", 1)


def test_overlapping_subscriptions(joined, version, topic):
    """Several matching filters: one delivery, at the highest QoS among them.

    [MQTT3-3.3.5-1] [MQTT5-3.3.4-2]
    """
    peer, publisher = joined(version), joined(version)
    peer.subscribe((f"{topic}/a", 0), (f"{topic}/+", 2), (f"{topic}/#", 1))
    publisher.publish(f"{topic}/a", b"x", 2, 1)
    peer.take(f"{topic}/a", b"x", 2)
    peer.quiet()


def test_subscription_identifiers(joined, topic):
    """Each delivery tells which subscriptions caused it; a replaced one tells the new number.

    [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.8.4-3]
    """
    peer, publisher = joined(), joined()
    peer.subscribe((f"{topic}/a", 1), properties=[("subscription_id", 1)])
    peer.subscribe(
        (f"{topic}/+", 0), (f"{topic}/b", 0), properties=[("subscription_id", 268435455)]
    )
    peer.subscribe((f"{topic}/#", 2))
    publisher.publish(f"{topic}/a", b"x", 1, 1)
    assert sorted(peer.take(f"{topic}/a", b"x", 1).all("subscription_id")) == [1, 268435455]
    publisher.publish(f"{topic}/c/d", b"x", 1, 1)
    assert peer.take(f"{topic}/c/d", b"x", 1).all("subscription_id") == []
    peer.subscribe((f"{topic}/a", 1), properties=[("subscription_id", 128)])
    publisher.publish(f"{topic}/a", b"x", 0)
    assert sorted(peer.take(f"{topic}/a", b"x").all("subscription_id")) == [128, 268435455]
    peer.quiet()


SUBSCRIBE_PROPERTIES = {
    "subscription id 0": ([("subscription_id", 0)], PROTOCOL_ERROR),
    "subscription id twice": ([("subscription_id", 1)] * 2, PROTOCOL_ERROR),
    "overlong subscription id": ([b"\x0b\x81\x00"], MALFORMED),
    "subscription id of five bytes": ([b"\x0b\xff\xff\xff\xff\x01"], MALFORMED),
    "topic alias": ([("topic_alias", 1)], MALFORMED),
    "reason string": ([("reason_string", "x")], MALFORMED),
    "unknown": ([b"\x7e\x00"], MALFORMED),
}


@pytest.mark.parametrize("case", SUBSCRIBE_PROPERTIES.values(), ids=SUBSCRIBE_PROPERTIES.keys())
def test_bad_subscribe_properties(joined, case):
    """Properties that are wrong in SUBSCRIBE.

    [MQTT5-1.5.5-1] [MQTT5-4.13.1-1]
    """
    properties, reason = case
    peer = joined()
    peer.send(wire.subscribe(V5, 1, "a", properties=properties))
    peer.refused(reason)


def test_bad_unsubscribe_properties(joined):
    """UNSUBSCRIBE has user properties and nothing else.

    [MQTT5-4.13.1-1]
    """
    for properties in ([("subscription_id", 1)], [("reason_string", "x")], [b"\x7e\x00"]):
        peer = joined()
        peer.send(wire.unsubscribe(V5, 1, "a", properties=properties))
        peer.refused(MALFORMED)


def test_no_local(joined, topic):
    """No Local keeps a client's own messages from it, and only those.

    [MQTT5-3.8.3-3]
    """
    peer, other = joined(), joined()
    peer.subscribe((topic, 1 | 0x04))
    peer.publish(topic, b"own", 1, 1)
    peer.publish(topic, b"own", 0)
    other.publish(topic, b"foreign", 1, 1)
    peer.take(topic, b"foreign", 1)
    peer.quiet()


def test_no_local_beside_another_filter(joined, topic):
    """No Local on one filter leaves what another one brings.

    [MQTT5-3.8.3-3] [MQTT5-3.3.4-2]
    """
    peer = joined()
    peer.subscribe((f"{topic}/a", 2 | 0x04), properties=[("subscription_id", 1)])
    peer.subscribe((f"{topic}/+", 1), properties=[("subscription_id", 2)])
    peer.send(wire.publish(V5, f"{topic}/a", b"own", 1, 1))
    peer.pick(PUBACK, 1)
    assert peer.take(f"{topic}/a", b"own", 1).all("subscription_id") == [2]
    other = joined()
    other.publish(f"{topic}/a", b"foreign", 2, 1)
    assert sorted(peer.take(f"{topic}/a", b"foreign", 2).all("subscription_id")) == [1, 2]
    peer.quiet()


SHARED_BAD = [
    "$share/",
    "$share//a",
    "$share/g",
    "$share/g/",
    "$share/+/a",
    "$share/#/a",
    "$share/g#/a",
]


@pytest.mark.parametrize("text", [*SHARED_BAD, "$share/g/a#", "$share/g/#/a"])
def test_bad_shared_filters(joined, version, text):
    """A shared filter is $share/, a name without wildcards, and a valid filter.

    [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
    """
    peer = joined(version)
    peer.send(wire.subscribe(version, 1, text))
    peer.refused(FILTER_INVALID)


def test_no_local_on_a_shared_filter(joined):
    """No Local has no meaning there: a protocol error.

    [MQTT5-3.8.3-4]
    """
    peer = joined()
    peer.send(wire.subscribe(V5, 1, ("$share/g/a", 0x04)))
    peer.refused(PROTOCOL_ERROR)


def test_a_share_of_its_own(joined, version, topic):
    """$share alone, or as a plain level, is an ordinary filter."""
    peer, publisher = joined(version), joined(version)
    peer.subscribe(f"{topic}/$share/g")
    publisher.publish(f"{topic}/$share/g", b"x")
    peer.take(f"{topic}/$share/g", b"x")


def collect(members, count):
    """What each member of a group was sent, `count` messages in all."""
    found = [[] for _ in members]
    while sum(map(len, found)) < count:
        for member, seen in zip(members, found):
            for packet in member.drain():
                assert packet.kind == PUBLISH
                seen.append(packet)
                if packet.qos:
                    member.ack(PUBACK, packet.packet_id)
    return found


def test_shared_delivery(joined, version, topic):
    """Each message goes to one member, at the QoS granted to that member.

    [MQTT5-4.8.2-3] [MQTT5-4.8.2-1]
    """
    members, publisher = [joined(version) for _ in range(3)], joined(version)
    for qos, member in zip((1, 0, 1), members):
        member.subscribe((f"$share/group/{topic}/+", qos))
    outsider = joined(version)
    outsider.subscribe((f"$share/other/{topic}/#", 1))
    for number in range(60):
        publisher.publish(f"{topic}/a", str(number), 1, number + 1)
    found = collect(members, 60)
    for qos, seen in zip((1, 0, 1), found):
        assert seen and {packet.qos for packet in seen} == {qos}
    numbers = sorted(int(packet.payload) for seen in found for packet in seen)
    assert numbers == list(range(60))
    assert len(collect([outsider], 60)[0]) == 60


def test_shared_message_of_a_lost_member(joined, topic):
    """A refused message is discarded, not handed to another member.

    [MQTT5-4.8.2-6]
    """
    members, publisher = [joined(), joined()], joined()
    for member in members:
        member.subscribe((f"$share/refuse/{topic}", 1))
    for number in range(10):
        publisher.publish(topic, str(number), 1, number + 1)
    seen = []
    while len(seen) < 10:
        for member in members:
            for packet in member.drain():
                seen.append(packet.payload)
                member.ack(PUBACK, packet.packet_id, 0x80)
    for member in members:
        member.quiet()
    assert len(set(seen)) == 10


def test_shared_qos_2_stays_with_its_member(joined, topic):
    """A QoS 2 delivery that began goes on with the same client when it returns.

    [MQTT5-4.8.2-4]
    """
    keep = {"clean": False, "properties": [("session_expiry", 60)]}
    first, other, publisher = joined(**keep), joined(), joined()
    first.subscribe((f"$share/two/{topic}", 2))
    publisher.publish(topic, b"x", 2, 1)
    packet_id = first.expect(PUBLISH, qos=2).packet_id
    first.ack(wire.PUBREC, packet_id)
    first.expect(wire.PUBREL, packet_id=packet_id)
    other.subscribe((f"$share/two/{topic}", 2))
    first.close()
    again = joined(client_id=first.client_id, **keep)
    again.expect(wire.PUBREL, packet_id=packet_id)
    again.ack(wire.PUBCOMP, packet_id)
    other.quiet()


def test_shared_qos_2_of_an_ended_session(joined, topic):
    """A QoS 2 delivery that began is not given to another member when its session ends.

    [MQTT5-4.8.2-5]
    """
    first, other, publisher = joined(), joined(), joined()
    first.subscribe((f"$share/gone/{topic}", 2))
    publisher.publish(topic, b"begun", 2, 1)
    first.expect(PUBLISH, qos=2, payload=b"begun")
    other.subscribe((f"$share/gone/{topic}", 2))
    first.close()
    joined(client_id=first.client_id, clean=True).end()
    publisher.publish(topic, b"next", 2, 1)
    other.take(topic, b"next", 2)
    other.quiet()
