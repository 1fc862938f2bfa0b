"""Clients that do valid things in senseless order, breaking off anywhere.

Nothing is known of what they must receive, but all of it is well-formed, the server outlives them
(its own assertions and the sanitizers watch), and whoever comes afterwards is served.
"""

import random

import pytest
import wire
from wire import PUBACK, PUBCOMP, PUBREC, PUBREL, V5, V31, V311, Peer, Will

CLIENTS = 6
STEPS = 500


class Crowd:
    """Some client ids, each with a connection or none, and the choices made for them."""

    def __init__(self, server, topic, chance):
        self.server, self.topic, self.chance = server, topic, chance
        self.peers = {}

    def name(self):
        """A topic name."""
        return f"{self.topic}/{self.chance.choice('abc')}"

    def filter(self, version):
        """A filter, sometimes with wildcards, sometimes shared."""
        text = self.chance.choice([self.name(), f"{self.topic}/+", f"{self.topic}/#", "#"])
        if self.chance.random() < 0.3:
            return f"$share/{self.chance.choice('gh')}/{text}", self.chance.randint(0, 2)
        retain = self.chance.choice((0, 0x10, 0x20)) if version == V5 else 0
        local = self.chance.choice((0, 0x04, 0x08)) if version == V5 else 0
        return text, self.chance.randint(0, 2) | retain | local

    def connect(self, number):
        """A connection for a client, with or without state, will, limits."""
        chance = self.chance
        peer = Peer(self.server, chance.choice((V31, V311, V5, V5)))
        options = {"clean": chance.random() < 0.3, "keep_alive": chance.choice((0, 60))}
        if peer.version == V5:
            options["properties"] = chance.choice(
                [
                    [],
                    [("session_expiry", 60)],
                    [("session_expiry", 60), ("receive_maximum", chance.randint(1, 3))],
                    [("session_expiry", 0xFFFFFFFF), ("topic_alias_maximum", 2)],
                    [("session_expiry", 1), ("maximum_packet_size", chance.randint(20, 60))],
                ]
            )
        if chance.random() < 0.4:
            delay = (("will_delay", chance.randint(0, 2)),) if peer.version == V5 else ()
            flags = chance.randint(0, 2), chance.random() < 0.2
            options["will"] = Will(self.name(), b"will", *flags, properties=delay)
        peer.send(wire.connect(peer.version, f"{self.topic}-{number}", **options))
        self.peers[number] = peer

    def request(self, peer):
        """One valid packet."""
        chance, version = self.chance, peer.version
        packet_id = chance.randint(1, 6)
        what = chance.randrange(6)
        if what <= 2:
            options = {"retain": chance.random() < 0.2}
            if version == V5 and chance.random() < 0.3:
                options["properties"] = [("message_expiry", chance.randint(0, 2))]
            size = chance.choice((0, 1, 30, 3000))
            qos = chance.randint(0, 2)
            return wire.publish(version, self.name(), b"x" * size, qos, packet_id, **options)
        if what == 3:
            filters = [self.filter(version) for _ in range(chance.randint(1, 3))]
            if any(text[0] == "$" and options & 4 for text, options in filters):
                return wire.pingreq()
            identifier = chance.random() < 0.5 and version == V5
            properties = [("subscription_id", chance.randint(1, 9))] if identifier else []
            return wire.subscribe(version, packet_id, *filters, properties=properties)
        if what == 4:
            return wire.unsubscribe(version, packet_id, self.filter(version)[0])
        kind = chance.choice((PUBACK, PUBREC, PUBREL, PUBCOMP))
        reason = chance.choice((None, None, 0x80)) if kind in (PUBACK, PUBREC) else None
        return wire.ack(version, kind, packet_id, reason)

    def answer(self, peer):
        """Reads what is there and acknowledges part of it."""
        peer.send(wire.pingreq())
        while (packet := peer.receive()) is not None and packet.kind != wire.PINGRESP:
            answers = {wire.PUBLISH: (None, PUBACK, PUBREC), PUBREC: PUBREL, PUBREL: PUBCOMP}
            kind = answers.get(packet.kind)
            kind = kind[packet.qos] if packet.kind == wire.PUBLISH else kind
            if kind and self.chance.random() < 0.7:
                peer.ack(kind, packet.packet_id)
        return packet is not None

    def leave(self, number):
        """Ends a connection in one of the ways there are."""
        peer = self.peers.pop(number)
        what = self.chance.randrange(4)
        if what == 0:
            peer.send(wire.disconnect(peer.version))
        elif what == 1 and peer.version == V5:
            peer.send(wire.disconnect(V5, 4))
        elif what == 2:
            peer.send(wire.publish(peer.version, self.name(), b"half")[:-2])
        peer.close()

    def step(self):
        """One thing that one client does."""
        number = self.chance.randrange(CLIENTS)
        if number not in self.peers:
            self.connect(number)
            return
        what = self.chance.random()
        if what < 0.1:
            self.leave(number)
        elif what < 0.15:
            self.connect(number)  # takes over
        elif what < 0.4:
            if not self.answer(self.peers[number]):
                self.peers.pop(number).close()
        else:
            count = self.chance.randint(1, 6)
            self.peers[number].send(*(self.request(self.peers[number]) for _ in range(count)))


@pytest.mark.parametrize("seed", range(8))
def test_churn(server, joined, topic, seed):
    """A crowd, and afterwards a pair of clients that must find everything in order.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    crowd = Crowd(server, topic, random.Random(seed))
    for _ in range(STEPS):
        crowd.step()
    for peer in crowd.peers.values():
        peer.close()
    for number in range(CLIENTS):
        with Peer(server, V5) as peer:
            peer.connect(f"{topic}-{number}", clean=True)
            peer.end()
    publisher, subscriber = joined(), joined(V311)
    subscriber.subscribe((f"{topic}/after", 2))
    for qos in range(3):
        publisher.publish(f"{topic}/after", b"after", qos, 1)
        subscriber.take(f"{topic}/after", b"after", qos)
    subscriber.quiet()
