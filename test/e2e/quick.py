"""A small MQTT 3.1.1 client whose every packet the test decides: for power cuts and other tests.

It keeps what a client must keep over connections (packet IDs in use, what was sent, what was
received) in a State that outlives the connection, as a real one would on its disk.
"""

import select
import socket
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK = 8, 9


class Gone(Exception):
    """The connection ended, or could not be made."""


def packet(kind, flags, body):
    """One packet."""
    length, head = len(body), bytes([kind << 4 | flags])
    while True:
        byte, length = length & 127, length >> 7
        head += bytes([byte | (128 if length else 0)])
        if not length:
            return head + body


def text(value):
    """A string with its length."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def publish_packet(topic, payload, qos, packet_id, dup=False, retain=False):
    """PUBLISH."""
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"") + payload
    return packet(PUBLISH, dup << 3 | qos << 1 | retain, body)


def answer(kind, packet_id):
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return packet(kind, 2 if kind == PUBREL else 0, struct.pack(">H", packet_id))


class Connection:
    """One connection. `session_present` says what CONNACK said; `will` is (topic, payload, qos)."""

    def __init__(self, address, client_id, clean=False, timeout_s=20, will=None):
        self.timeout_s = timeout_s
        self.buffer = bytearray()
        flags, fields = clean << 1, text(client_id)
        if will:
            flags |= 4 | will[2] << 3
            fields += text(will[0]) + struct.pack(">H", len(will[1])) + will[1]
        try:
            self.sock = socket.create_connection(address, timeout=timeout_s)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.send(packet(CONNECT, 0, text("MQTT") + bytes([4, flags, 0, 0]) + fields))
            kind, _, body = self.receive()
        except OSError as err:
            raise Gone(str(err)) from None
        if kind != CONNACK or body[1] != 0:
            raise Gone(f"CONNACK {body.hex()}")
        self.session_present = bool(body[0] & 1)

    def send(self, data):
        """Sends all of it."""
        try:
            self.sock.sendall(data)
        except OSError as err:
            raise Gone(str(err)) from None

    def close(self):
        """Drops the connection without a word."""
        self.sock.close()

    def _take(self):
        """The first whole packet of the buffer, or None."""
        length = shift = 0
        for at in range(1, min(len(self.buffer), 5)):
            length |= (self.buffer[at] & 127) << shift
            shift += 7
            if self.buffer[at] < 128:
                end = at + 1 + length
                if len(self.buffer) < end:
                    return None
                head, body = self.buffer[0], bytes(self.buffer[at + 1 : end])
                del self.buffer[:end]
                return head >> 4, head & 15, body
        return None

    def receive(self, timeout_s=None):
        """The next packet as (kind, flags, body); None when none came in time (if one is given)."""
        while True:
            found = self._take()
            if found:
                return found
            wait_s = self.timeout_s if timeout_s is None else timeout_s
            if not select.select([self.sock], [], [], wait_s)[0]:
                if timeout_s is None:
                    raise Gone(f"no answer within {wait_s} s")
                return None
            try:
                data = self.sock.recv(1 << 18)
            except OSError as err:
                raise Gone(str(err)) from None
            if not data:
                raise Gone("closed")
            self.buffer += data

    def subscribe(self, topic_filter, qos):
        """SUBSCRIBE; returns what came before its SUBACK."""
        self.send(packet(SUBSCRIBE, 2, b"\0\1" + text(topic_filter) + bytes([qos])))
        before = []
        while True:
            found = self.receive()
            if found[0] == SUBACK:
                assert found[2] == bytes([0, 1, qos]), found
                return before
            before.append(found)


def parse_publish(flags, body):
    """(topic, payload, qos, packet_id) of a PUBLISH."""
    size = struct.unpack(">H", body[:2])[0]
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    qos = flags >> 1 & 3
    if not qos:
        return topic, rest, 0, 0
    return topic, rest[2:], qos, struct.unpack(">H", rest[:2])[0]


class Receiver:
    """The receiving half of a session: acknowledges, and notes each delivery once as MQTT has it.

    QoS 2 is handed on when its PUBLISH comes and its ID is not held already."""

    def __init__(self, note):
        self.note = note  # called with (topic, payload, qos)
        self.held = set()

    def handle(self, connection, kind, flags, body):
        """Deals with a packet; True when it was one of this half."""
        if kind == PUBLISH:
            topic, payload, qos, packet_id = parse_publish(flags, body)
            if qos < 2 or packet_id not in self.held:
                self.note(topic, payload, qos)
            if qos == 2:
                self.held.add(packet_id)
            if qos:
                connection.send(answer(PUBACK if qos == 1 else PUBREC, packet_id))
            return True
        if kind == PUBREL:
            packet_id = struct.unpack(">H", body[:2])[0]
            self.held.discard(packet_id)
            connection.send(answer(PUBCOMP, packet_id))
            return True
        return False


class Sender:
    """The sending half of a session: the window, its packet IDs (the lowest free one, so that they
    are reused at once), and what has to be sent again on a new connection."""

    def __init__(self, window):
        self.window = window
        self.open = {}  # packet_id: [topic, payload, qos, released], in the order sent
        self.acknowledged = []  # payloads, in the order of the final answer for the sender

    @property
    def room(self):
        """How many messages may be sent now."""
        return self.window - len(self.open)

    def publish(self, connection, topic, payload, qos):
        """Sends a message with the lowest free packet ID."""
        packet_id = next(n for n in range(1, self.window + 1) if n not in self.open)
        self.open[packet_id] = [topic, payload, qos, False]
        connection.send(publish_packet(topic, payload, qos, packet_id))

    def resume(self, connection):
        """Sends again what has no final answer, in the order it was first sent."""
        for packet_id, (topic, payload, qos, released) in list(self.open.items()):
            if released:
                connection.send(answer(PUBREL, packet_id))
            else:
                connection.send(publish_packet(topic, payload, qos, packet_id, dup=True))

    def handle(self, connection, kind, body):
        """Deals with a packet; True when it was one of this half."""
        if kind not in (PUBACK, PUBREC, PUBCOMP):
            return False
        packet_id = struct.unpack(">H", body[:2])[0]
        entry = self.open.get(packet_id)
        if kind == PUBREC:
            if entry and not entry[3]:
                entry[3] = True
                self.acknowledged.append(entry[1])
            connection.send(answer(PUBREL, packet_id))
        elif entry:
            if kind == PUBACK:
                self.acknowledged.append(entry[1])
            del self.open[packet_id]
        return True
