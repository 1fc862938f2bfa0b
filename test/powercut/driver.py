"""Clients on real connections, all on one thread, that note what they do and are told in a World."""

import select
import struct

from quick import (PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, Connection, answer,
                   packet, parse_publish, publish_packet, text)
from world import COMING, expect, number_of

UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 10, 11, 12, 13, 14
ASK_IDS = 1000  # packet IDs of SUBSCRIBE and UNSUBSCRIBE are above those of PUBLISH
PROMPT, SLOW = range(2)  # how a client answers what it receives: at once, or when told to


class Driver:
    """All connections to one server. `on_event` is called with the count of events after each."""

    def __init__(self, address, world, on_event=None):
        self.address, self.world = address, world
        self.on_event = on_event
        self.connections = {}
        self.manners = {}
        self.owed = []  # (name, kind, packet ID) of answers that are put off
        self.retained = {}  # what came with RETAIN set: topic: payload
        self.pongs = 0
        self.last_ask = 0

    def note(self, *event):
        """An event, told to whoever records."""
        self.world.note(*event)
        if self.on_event:
            self.on_event(len(self.world.events))

    # --- connections ------------------------------------------------------------------------------

    def connect(self, name, clean=False, manner=PROMPT):
        """Connects, and sends again what has no final answer."""
        self.note("connect", name, clean)
        client = self.world.clients[name]
        connection = self.connections[name] = Connection(self.address, name, clean=clean)
        self.manners[name] = manner
        if not clean and not connection.session_present:
            expect(not client.promised, "the session is there", f"{name} is not known any more")
            self.note("fresh", name)
        for packet_id, (number, received) in client.out.items():
            message = self.world.messages[number]
            again = (answer(PUBREL, packet_id) if received else
                     publish_packet(message.topic, message.payload, message.qos, packet_id, dup=True,
                                    retain=message.retain))
            connection.send(again)
        for packet_id, topic_filter in list(client.asked.items()):
            self._ask_again(name, packet_id, topic_filter)

    def _ask_again(self, name, packet_id, topic_filter):
        """A client that got no SUBACK or UNSUBACK asks once more."""
        subscription = self.world.clients[name].subscriptions[topic_filter]
        coming = subscription.changes[-1][1] == COMING
        self._send_ask(name, packet_id, topic_filter, subscription.qos if coming else None)

    def connect_with_will(self, name, topic, qos, size):
        """A clean session that leaves a message when it dies; returns the message's number."""
        number = self.world.next_number()
        self.note("connect", name, True)
        self.note("will", name, number, topic, qos, size)
        will = (topic, self.world.messages[number].payload, qos)
        self.connections[name] = Connection(self.address, name, clean=True, will=will)
        self.note("willed", name, number)
        return number

    def close(self, name):
        """Drops the connection without a word."""
        self.connections.pop(name).close()
        self.owed = [entry for entry in self.owed if entry[0] != name]

    def leave(self, name, number):
        """DISCONNECT: the will of that number is not to be published."""
        self.note("leave", name, number)
        self.connections[name].send(packet(DISCONNECT, 0, b""))
        self.close(name)

    def close_all(self):
        """Drops all connections."""
        for name in list(self.connections):
            self.close(name)

    # --- asking -----------------------------------------------------------------------------------

    def room(self, name, window):
        """How many messages a client may send now."""
        return window - len(self.world.clients[name].out)

    def publish(self, name, topic, qos, size, retain=False):
        """Sends a new message with the lowest free packet ID; returns its number."""
        client, number = self.world.clients[name], self.world.next_number()
        packet_id = next(n for n in range(1, ASK_IDS) if n not in client.out)
        self.note("send", name, packet_id, number, topic, qos, size, retain)
        self.connections[name].send(publish_packet(topic, self.world.messages[number].payload, qos,
                                                   packet_id, retain=retain))
        return number

    def subscribe(self, name, topic_filter, qos):
        """SUBSCRIBE, without waiting."""
        self.last_ask = self.last_ask % 60000 + 1
        packet_id = ASK_IDS + self.last_ask
        self.note("subscribe", name, packet_id, topic_filter, qos)
        self._send_ask(name, packet_id, topic_filter, qos)

    def unsubscribe(self, name, topic_filter):
        """UNSUBSCRIBE, without waiting."""
        self.last_ask = self.last_ask % 60000 + 1
        packet_id = ASK_IDS + self.last_ask
        self.note("unsubscribe", name, packet_id, topic_filter)
        self._send_ask(name, packet_id, topic_filter, None)

    def _send_ask(self, name, packet_id, topic_filter, qos):
        body = struct.pack(">H", packet_id) + text(topic_filter)
        kind = UNSUBSCRIBE if qos is None else SUBSCRIBE
        self.connections[name].send(packet(kind, 2, body if qos is None else body + bytes([qos])))

    # --- answers ----------------------------------------------------------------------------------

    def pump(self, timeout_s=0.0):
        """Handles what has arrived; waits for something. Returns how many packets there were."""
        names = [name for name, connection in self.connections.items() if connection.buffer]
        count = sum(self._take(name) for name in names)
        socks = {connection.sock: name for name, connection in self.connections.items()}
        for sock in select.select(list(socks), [], [], 0 if count else timeout_s)[0]:
            count += self._take(socks[sock])
        return count

    def _take(self, name):
        """Handles what one connection has received; returns the number of packets."""
        count, connection = 0, self.connections[name]
        while found := connection.receive(0):
            self._handle(name, *found)
            count += 1
        return count

    def pump_until(self, condition, what, timeout_s=20):
        """Handles what arrives until the condition holds; fails when nothing comes any more."""
        while not condition():
            expect(self.pump(timeout_s), "the server answers", f"no {what} within {timeout_s} s")

    def settle(self, names):
        """Until none of these clients waits for an answer."""
        clients = [self.world.clients[name] for name in names]
        self.pump_until(lambda: not any(client.out or client.asked for client in clients),
                        "acknowledgement")

    def ping(self):
        """Takes whatever the server had to send before it answers a PINGREQ on each connection."""
        self.pongs = 0
        for connection in self.connections.values():
            connection.send(packet(PINGREQ, 0, b""))
        self.pump_until(lambda: self.pongs == len(self.connections), "PINGRESP")

    def _handle(self, name, kind, flags, body):
        if kind == PUBLISH:
            self._on_publish(name, flags, body)
            return
        if kind == PINGRESP:
            self.pongs += 1
            return
        client = self.world.clients[name]
        packet_id = struct.unpack(">H", body[:2])[0]
        sent = client.out.get(packet_id)
        if kind == PUBACK and sent:
            self.note("acked", name, packet_id)
        elif kind == PUBREC:
            if sent and not sent[1]:
                self.note("acked", name, packet_id)
            self.connections[name].send(answer(PUBREL, packet_id))
        elif kind == PUBCOMP and sent:
            self.note("completed", name, packet_id)
        elif kind == PUBREL:
            self._owe(name, PUBCOMP, packet_id)
        elif kind in (SUBACK, UNSUBACK) and packet_id in client.asked:
            self.note("subscribed" if kind == SUBACK else "unsubscribed", name, packet_id)

    def _on_publish(self, name, flags, body):
        topic, payload, qos, packet_id = parse_publish(flags, body)
        if flags & 1:
            self.retained[topic] = payload
        else:
            number = number_of(payload)
            message = self.world.messages.get(number)
            expect(message and payload == message.payload and topic == message.topic,
                   "what is delivered was published", f"{name} got {topic} {payload[:40]!r}")
            held = self.world.clients[name].held
            if qos < 2 or packet_id not in held:
                self.note("deliver", name, number, packet_id if qos == 2 else 0)
        if qos:
            self._owe(name, PUBACK if qos == 1 else PUBREC, packet_id)

    def _owe(self, name, kind, packet_id):
        if self.manners[name] == PROMPT:
            self._answer(name, kind, packet_id)
        else:
            self.owed.append((name, kind, packet_id))

    def _answer(self, name, kind, packet_id):
        if kind == PUBCOMP:
            self.note("free", name, packet_id)
        self.connections[name].send(answer(kind, packet_id))

    def pay(self, count):
        """Gives some of the answers that were put off, the oldest first."""
        paid, self.owed = self.owed[:count], self.owed[count:]
        for entry in paid:
            self._answer(*entry)
