"""Random walks of a subscriber that comes and goes, against what it must have seen in the end.

The subscriber acknowledges late, in part, or not at all, breaks its connection, takes itself over
and changes the version of the protocol, while others publish. Whatever it did: QoS 2 messages
arrive exactly once and in order; QoS 1 messages arrive all, and in order when each is counted at
its first arrival. A failing walk is repeated by its seed.
"""

import random

import pytest
import wire
from wire import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, V5, V311, Peer

STEPS = 120


class Subscriber:
    """A client with state of its own, as the protocol asks of one."""

    def __init__(self, server, chance, filters):
        self.server, self.chance, self.filters = server, chance, filters
        self.peer = None
        self.client_id = None
        self.owed = []  # acknowledgements that were not sent yet: (kind, packet id)
        self.open = set()  # QoS 2 packet ids between PUBLISH and PUBREL
        self.seen = {1: [], 2: []}

    def come(self):
        """Connects, breaking or taking over what there was."""
        old = self.peer
        if old and self.chance.random() < 0.5:
            old.close()
        self.peer = Peer(self.server, self.chance.choice((V311, V5)))
        self.client_id = self.client_id or self.peer.client_id
        properties = []
        if self.peer.version == V5:
            properties = [("session_expiry", 600), ("receive_maximum", self.chance.randint(1, 20))]
        answer = self.peer.connect(self.client_id, clean=False, properties=properties)
        if old:
            assert answer.session_present
            old.close()
        else:
            for number, text in enumerate(self.filters, 1):
                self.peer.subscribe((text, 2), packet_id=number)
        self.owed = []

    def take(self, packet):
        """Notes one packet and what it asks for."""
        if packet.kind == PUBREL:
            self.open.discard(packet.packet_id)
            self.owed.append((PUBCOMP, packet.packet_id))
            return
        assert packet.kind == PUBLISH, str(packet)
        number = int(packet.payload[-9:])
        if packet.qos == 1:
            self.seen[1].append(number)
            self.owed.append((PUBACK, packet.packet_id))
            return
        if packet.packet_id not in self.open:
            self.open.add(packet.packet_id)
            self.seen[2].append(number)
        self.owed.append((PUBREC, packet.packet_id))

    def listen(self):
        """Takes what comes before the answer to a PINGREQ."""
        for packet in self.peer.drain():
            self.take(packet)

    def pay(self, count):
        """Sends the oldest acknowledgements that are owed."""
        for kind, packet_id in self.owed[:count]:
            self.peer.ack(kind, packet_id)
        del self.owed[:count]

    def finish(self, counts):
        """Goes on until everything has arrived and nothing is open."""
        self.come()
        while not self.complete(counts) or self.open:
            self.pay(len(self.owed))
            packet = self.peer.receive()
            assert packet is not None
            self.take(packet)
        while self.owed:  # QoS 1 messages whose acknowledgements were lost come once more
            self.pay(len(self.owed))
            self.listen()

    def complete(self, counts):
        """Whether every message has been seen."""
        return all(len(set(self.seen[qos])) == counts[qos] for qos in counts)


@pytest.mark.parametrize("seed", range(8))
def test_walk(server, joined, topic, seed):
    """One walk; overlapping filters of the subscriber bring each message once all the same.

    [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT3-4.6.0-6] [MQTT3-4.3.3-1] [MQTT3-3.3.5-1]
    [MQTT5-4.4.0-1] [MQTT5-4.6.0-1] [MQTT5-4.6.0-5] [MQTT5-4.3.3-6] [MQTT5-3.3.4-2]
    [MQTT5-3.3.4-9]
    """
    chance = random.Random(seed)
    subscriber = Subscriber(
        server, chance, [f"{topic}/+", f"{topic}/#", f"{topic}/a"][: 1 + seed % 3]
    )
    subscriber.come()
    publishers = {1: joined(V311), 2: joined(V5)}
    counts = {1: 0, 2: 0}
    for _ in range(STEPS):
        what = chance.random()
        if what < 0.4:
            qos = chance.choice((1, 2))
            for _ in range(chance.randint(1, 8)):
                publishers[qos].publish(f"{topic}/a", str(counts[qos]), qos, 1)
                counts[qos] += 1
        elif what < 0.6:
            subscriber.listen()
        elif what < 0.9:
            subscriber.pay(chance.randint(0, len(subscriber.owed)))
        else:
            subscriber.come()
    subscriber.finish(counts)
    assert subscriber.seen[2] == list(range(counts[2]))
    assert list(dict.fromkeys(subscriber.seen[1])) == list(range(counts[1]))
    subscriber.peer.close()


@pytest.mark.parametrize("seed", range(4))
def test_walk_over_restarts(make_server, seed):
    """The same while the server is killed and started again: what was acknowledged to its publisher
    is delivered, QoS 2 exactly once.

    [MQTT3-4.1.0-1] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1] [MQTT5-4.1.0-1] [MQTT5-4.4.0-1]
    """
    chance = random.Random(200 + seed)
    small = {"store.segment_size": "1MiB", "store.checkpoint_interval": "100ms"}
    small["store.seal_entries"] = 1000
    server = make_server(**(small if seed % 2 else {}))
    width = chance.choice((1, 100, 5000))
    subscriber = Subscriber(server, chance, ["walk/+", "walk/#"][: 1 + seed % 2])
    subscriber.come()
    publishers, counts = {}, {1: 0, 2: 0}
    for _ in range(STEPS * 2 // 3):
        what = chance.random()
        if what < 0.4:
            qos = chance.choice((1, 2))
            if qos not in publishers:
                publishers[qos] = Peer(server, V5)
                publishers[qos].connect(f"publisher{qos}")
            for _ in range(chance.randint(1, 8)):
                publishers[qos].publish("walk/a", str(counts[qos]).zfill(width), qos, 1)
                counts[qos] += 1
        elif what < 0.6:
            subscriber.listen()
        elif what < 0.85:
            subscriber.pay(chance.randint(0, len(subscriber.owed)))
        elif what < 0.93:
            subscriber.come()
        else:
            chance.choice((server.kill, server.kill, server.stop))()
            while publishers:
                publishers.popitem()[1].close()
            server.start()
            subscriber.come()
    subscriber.finish(counts)
    assert subscriber.seen[2] == list(range(counts[2]))
    assert list(dict.fromkeys(subscriber.seen[1])) == list(range(counts[1]))
    for peer in (subscriber.peer, *publishers.values()):
        peer.close()
    server.stop()


@pytest.mark.parametrize("seed", range(4))
def test_publisher_walk(server, joined, topic, seed):
    """The other direction: a publisher that loses its connection anywhere in a QoS 2 flow and goes
    on with the same packet ids is heard exactly once.

    [MQTT3-4.3.3-2] [MQTT3-4.4.0-1] [MQTT5-4.3.3-10] [MQTT5-4.3.3-12]
    """
    chance = random.Random(100 + seed)
    subscriber = joined(V5)
    subscriber.subscribe((topic, 2))
    version = chance.choice((V311, V5))
    keep = {"clean": False, "properties": [("session_expiry", 600)] if version == V5 else []}
    client_id = f"{topic}-publisher"

    def fresh():
        peer = Peer(server, version)
        peer.connect(client_id, **keep)
        return peer

    peer = fresh()
    for number in range(40):
        packet_id = chance.randint(1, 5)
        dup = False
        while True:
            peer.send(wire.publish(version, topic, str(number), 2, packet_id, dup=dup))
            if chance.random() < 0.7:
                peer.accepted(PUBREC, packet_id)
                break
            peer.close()
            peer, dup = fresh(), True
        while True:
            peer.ack(PUBREL, packet_id)
            if chance.random() < 0.7:
                peer.expect(PUBCOMP, packet_id=packet_id)
                break
            peer.close()
            peer = fresh()
        subscriber.take(topic, str(number), 2)
    subscriber.quiet()
    peer.close()


def test_a_slow_reader_gets_everything(joined, version, topic):
    """16 MiB for a subscriber that reads nothing meanwhile: all of it arrives then, in order.

    [MQTT3-4.6.0-6] [MQTT5-4.6.0-5] [MQTT3-4.5.0-1] [MQTT5-4.5.0-1]
    """
    subscriber, publisher = joined(version), joined(version)
    subscriber.subscribe((topic, 1))
    count, filler = 4000, "x" * 4096
    for start in range(0, count, 500):
        for number in range(start, start + 500):
            publisher.send(
                wire.publish(version, topic, f"{number:06}{filler}", 1, number % 500 + 1)
            )
        for number in range(start, start + 500):
            publisher.accepted(PUBACK, number % 500 + 1)
    for number in range(count):
        packet = subscriber.expect(PUBLISH, qos=1)
        assert int(packet.payload[:6]) == number
        subscriber.ack(PUBACK, packet.packet_id)
    subscriber.quiet()
