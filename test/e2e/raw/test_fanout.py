"""One message to many: each subscriber gets its own form of it, though the server encodes only a few."""

import wire
from wire import PUBLISH, V311, V5

KINDS = {
    "3.1.1": (V311, 0, (), {}),
    "5.0": (V5, 0, (), {}),
    "retain as published": (V5, 0x08, (), {}),
    "with an identifier": (V5, 0, [("subscription_id", 5)], {}),
    "with aliases": (V5, 0, (), {"properties": [("topic_alias_maximum", 3)]}),
    "at QoS 1": (V5, 1, (), {}),
    "small packets only": (V5, 0, (), {"properties": [("maximum_packet_size", 100)]}),
}
EACH = 12


def test_many_kinds_of_subscribers(joined, topic):
    """Twelve of each kind get thirty messages of several sizes, with and without RETAIN, in order.

    [MQTT3-3.3.5-1] [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT5-3.3.4-3] [MQTT5-3.1.2-24]
    """
    peers = []
    for number in range(EACH):
        for kind, (version, options, properties, connect) in KINDS.items():
            peer = joined(version, **connect)
            peer.subscribe((f"{topic}/{'+' if number % 2 else '#'}", options), properties=properties)
            peers.append((kind, peer))
    publisher = joined()
    messages = [(f"{number} ".encode() + bytes([65 + number]) * size, bool(number % 3 == 2))
                for number, size in enumerate((0, 10, 300, 5000, 20000) * 6)]
    publisher.send(*(wire.publish(V5, f"{topic}/x", payload, retain=retain,
                                  properties=[("content_type", "t")])
                     for payload, retain in messages))
    publisher.quiet()
    for kind, peer in peers:
        for payload, retain in messages:
            if kind == "small packets only" and len(payload) > 50:
                continue
            found = peer.receive()
            assert (found.kind, found.payload, found.qos) == (PUBLISH, payload, 0), kind
            assert found.retain is (retain and kind == "retain as published"), kind
            if kind == "3.1.1":
                continue
            assert found.get("content_type") == "t"
            assert found.all("subscription_id") == ([5] if kind == "with an identifier" else [])
            if kind != "with aliases":
                assert found.topic == f"{topic}/x"
        peer.quiet()


def test_a_stalled_one_of_many(joined, topic):
    """One of many that does not read for a while gets everything that fits, in order, when it reads
    again; the others are not held up."""
    stalled, *others = (joined(V311) for _ in range(16))
    for peer in (stalled, *others):
        peer.subscribe((f"{topic}/#", 0))
    publisher = joined(V311)
    for start in range(0, 2000, 100):
        publisher.send(*(wire.publish(V311, f"{topic}/x", f"{number:<1000}")
                         for number in range(start, start + 100)))
        for peer in others:
            for number in range(start, start + 100):
                peer.take(f"{topic}/x", f"{number:<1000}")
    for number in range(2000):
        stalled.take(f"{topic}/x", f"{number:<1000}")
    stalled.quiet()
