"""Retained messages. Sections 3.3.1.3 and 3.8.3.1."""

import pytest
import wire
from wire import PUBACK, PUBLISH, UNSUBACK, V5


def holds(joined, version, text, rows, qos=2):
    """A new subscriber is sent exactly these rows of (topic, payload, qos), all retained."""
    peer = joined(version)
    peer.subscribe((text, qos))
    found = [peer.expect(PUBLISH) for _ in rows]
    assert sorted((packet.topic, packet.payload, packet.qos) for packet in found) == sorted(rows)
    assert all(packet.retain for packet in found)
    peer.quiet()
    peer.close()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_stored_and_replaced(joined, version, topic, qos):
    """The last retained message of a topic, with its QoS, reaches later subscribers.

    [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-7] [MQTT3-3.3.1-8] [MQTT5-3.3.1-5]
    [MQTT5-3.3.1-9]
    """
    publisher = joined(version)
    publisher.publish(topic, b"first", 1, 1, retain=True)
    publisher.publish(topic, b"second", qos, 2, retain=True)
    holds(joined, version, topic, [(topic, b"second", qos)])
    holds(joined, version, topic, [(topic, b"second", 0)], qos=0)


def test_retain_flag_of_an_established_subscription(joined, version, topic):
    """Whoever was subscribed already gets it as any message: RETAIN 0.

    [MQTT3-3.3.1-9] [MQTT5-3.3.1-12]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 1))
    for qos in range(3):
        publisher.publish(topic, b"x", qos, 1, retain=True)
        assert not subscriber.take(topic, b"x", min(qos, 1)).retain


def test_removed_by_an_empty_payload(joined, version, topic):
    """An empty payload removes it, is delivered, and is not kept itself.

    [MQTT3-3.3.1-10] [MQTT3-3.3.1-11] [MQTT5-3.3.1-6] [MQTT5-3.3.1-7]
    """
    publisher, subscriber = joined(version), joined(version)
    for qos in range(3):
        name = f"{topic}/{qos}"
        publisher.publish(name, b"x", 1, 1, retain=True)
        subscriber.subscribe((name, 2))
        subscriber.take(name, b"x", 1)
        for packet_id in (2, 3):
            publisher.publish(name, b"", qos, packet_id, retain=True)
            subscriber.take(name, b"", qos)
            holds(joined, version, name, [])


def test_not_touched_by_ordinary_messages(joined, version, topic):
    """RETAIN 0 neither stores, nor replaces, nor removes.

    [MQTT3-3.3.1-12] [MQTT5-3.3.1-8]
    """
    publisher = joined(version)
    publisher.publish(topic, b"not kept", 1, 1)
    holds(joined, version, topic, [])
    publisher.publish(topic, b"kept", 1, 2, retain=True)
    for payload in (b"other", b""):
        publisher.publish(topic, payload, 1, 3)
    holds(joined, version, topic, [(topic, b"kept", 1)])


def test_every_matching_topic(joined, version, topic):
    """A wildcard brings the retained messages of every topic it matches, and no other.

    [MQTT3-3.3.1-6] [MQTT5-3.3.1-9] [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]
    """
    publisher = joined(version)
    names = ["a", "a/b", "a/c", "a//", "b/c", "", "$d", "$d/e"]
    for name in names:
        publisher.publish(f"{topic}/{name}", f"={name}", 1, 1, retain=True)
    cases = {
        f"{topic}/#": names,
        f"{topic}/+": ["a", "", "$d"],
        f"{topic}/a/+": ["a/b", "a/c"],
        f"{topic}/a/#": ["a", "a/b", "a/c", "a//"],
        f"{topic}/+/c": ["a/c", "b/c"],
        f"+/{topic}": [],
    }
    for text, wanted in cases.items():
        holds(
            joined, version, text, [(f"{topic}/{name}", f"={name}".encode(), 1) for name in wanted]
        )


def test_dollar_topics_stay_hidden(joined, version, topic):
    """Retained messages of $ topics do not come with a leading wildcard.

    [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]
    """
    joined(version).publish(f"${topic}/x", b"d", 1, 1, retain=True)
    for text in (f"+/x/{topic}", "+/x", "#"):
        peer = joined(version)
        peer.subscribe(text)
        for packet in peer.drain():
            assert not packet.topic.startswith("$")
    holds(joined, version, f"${topic}/+", [(f"${topic}/x", b"d", 1)])


def test_sent_again_on_resubscription(joined, version, topic):
    """The same filter again brings the retained messages again.

    [MQTT3-3.8.4-3] [MQTT5-3.8.4-4] [MQTT5-3.3.1-9]
    """
    joined(version).publish(topic, b"x", 1, 1, retain=True)
    peer = joined(version)
    for number in range(1, 4):
        peer.subscribe((topic, 1), packet_id=number)
        assert peer.take(topic, b"x", 1).retain
        peer.quiet()


@pytest.mark.parametrize("handling", [0, 1, 2])
def test_retain_handling(joined, topic, handling):
    """0: always; 1: for a new subscription only; 2: never.

    [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]
    """
    joined().publish(topic, b"x", 1, 1, retain=True)
    peer = joined()
    expected = {0: [1, 1, 1], 1: [1, 0, 1], 2: [0, 0, 0]}[handling]
    for step, count in enumerate(expected):
        if step == 2:
            peer.send(wire.unsubscribe(V5, 9, topic))
            peer.expect(UNSUBACK, reasons=[0])
        peer.subscribe((topic, 1 | handling << 4), packet_id=step + 1)
        for _ in range(count):
            assert peer.take(topic, b"x", 1).retain
        peer.quiet()


def test_retain_as_published(joined, topic):
    """1: RETAIN is what the publisher said; 0: RETAIN is 0; retained ones for a new
    subscription have it either way.

    [MQTT5-3.3.1-12] [MQTT5-3.3.1-13]
    """
    plain, exact, publisher = joined(), joined(), joined()
    plain.subscribe((topic, 0))
    exact.subscribe((topic, 0x08))
    for retain in (True, False):
        publisher.publish(topic, b"x", 1, 1, retain=retain)
        assert not plain.take(topic, b"x").retain
        assert exact.take(topic, b"x").retain is retain
    for options in (0, 0x08):
        late = joined()
        late.subscribe((topic, options))
        assert late.take(topic, b"x").retain


def test_properties_are_kept(joined, topic):
    """A retained message keeps its properties and the subscription's identifier goes with it.

    [MQTT5-3.3.4-3] [MQTT5-3.3.2-17]
    """
    user = [("user", ("b", "1")), ("user", ("a", "2"))]
    joined().publish(topic, b"x", 1, 1, retain=True, properties=[("content_type", "t"), *user])
    peer = joined()
    peer.subscribe((topic, 0), properties=[("subscription_id", 77)])
    found = peer.expect(PUBLISH, payload=b"x")
    assert found.all("subscription_id") == [77]
    assert found.get("content_type") == "t"
    assert [pair for pair in found.props if pair[0] == "user"] == user


def test_many(joined, version, topic):
    """500 retained messages reach a new subscriber that acknowledges each."""
    publisher = joined(version)
    publisher.send(
        *(wire.publish(version, f"{topic}/{n}", str(n), 1, n, retain=True) for n in range(1, 501))
    )
    for number in range(1, 501):
        publisher.accepted(PUBACK, number)
    peer = joined(version)
    peer.send(wire.subscribe(version, 1, (f"{topic}/+", 1)))
    peer.expect(wire.SUBACK)
    seen = set()
    while len(seen) < 500:
        packet = peer.expect(PUBLISH, qos=1)
        assert packet.retain
        seen.add(int(packet.payload))
        peer.ack(PUBACK, packet.packet_id)
    assert seen == set(range(1, 501))
    peer.quiet()
