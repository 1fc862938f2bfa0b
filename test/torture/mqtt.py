"""MQTT 3.1.1 and 5.0 for many clients in one thread: packets, connections that never block, and the
loop that serves them."""

import errno
import heapq
import itertools
import select
import socket
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)

READ_SIZE = 1 << 18
ID = struct.Struct(">H")


def packet(head, body):
    """One packet from its first byte and its body."""
    length, prefix = len(body), bytearray([head])
    while True:
        byte, length = length & 127, length >> 7
        prefix.append(byte | (128 if length else 0))
        if not length:
            return bytes(prefix) + body


def text(value):
    """A string with its length."""
    raw = value.encode()
    return ID.pack(len(raw)) + raw


def binary(raw):
    """Bytes with their length."""
    return ID.pack(len(raw)) + raw


def connect_packet(version, client_id, clean, expiry_s=0, will=None):
    """CONNECT. will: (topic, payload, qos) or None. Version 4 knows no expiry."""
    flags = clean << 1
    if will:
        flags |= 4 | will[2] << 3
    body = text("MQTT") + bytes([version, flags]) + b"\0\0"
    if version == 5:
        body += b"\5\x11" + struct.pack(">I", expiry_s)
    body += text(client_id)
    if will:
        body += (b"\0" if version == 5 else b"") + text(will[0]) + binary(will[1])
    return packet(CONNECT << 4, body)


def publish_packet(version, topic, payload, qos, packet_id, flags=0):
    """PUBLISH. flags: 8 for DUP, 1 for RETAIN."""
    body = text(topic) + (ID.pack(packet_id) if qos else b"") + (b"\0" if version == 5 else b"")
    return packet(PUBLISH << 4 | qos << 1 | flags, body + payload)


def subscribe_packet(version, packet_id, topic_filter, qos):
    """SUBSCRIBE for one filter."""
    body = ID.pack(packet_id) + (b"\0" if version == 5 else b"")
    return packet(SUBSCRIBE << 4 | 2, body + text(topic_filter) + bytes([qos]))


def unsubscribe_packet(version, packet_id, topic_filter):
    """UNSUBSCRIBE for one filter."""
    body = ID.pack(packet_id) + (b"\0" if version == 5 else b"")
    return packet(UNSUBSCRIBE << 4 | 2, body + text(topic_filter))


def answer(kind, packet_id):
    """PUBACK, PUBREC, PUBREL or PUBCOMP: success."""
    return bytes((kind << 4 | (2 if kind == PUBREL else 0), 2, packet_id >> 8, packet_id & 255))


def take_packets(buffer):
    """All whole packets at the start of a bytearray as (kind, flags, body); removes them."""
    found, at, size = [], 0, len(buffer)
    while size - at >= 2:
        length, shift, body_at = 0, 0, at + 1
        while body_at < size:
            byte = buffer[body_at]
            body_at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        else:
            break
        if size - body_at < length:
            break
        head = buffer[at]
        found.append((head >> 4, head & 15, bytes(buffer[body_at : body_at + length])))
        at = body_at + length
    if at:
        del buffer[:at]
    return found


def parse_publish(version, flags, body):
    """(topic, payload, qos, packet_id) of a PUBLISH; properties are skipped."""
    size = body[0] << 8 | body[1]
    at = 2 + size
    topic, qos, packet_id = body[2:at].decode(), flags >> 1 & 3, 0
    if qos:
        packet_id = body[at] << 8 | body[at + 1]
        at += 2
    if version == 5:
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += length
    return topic, body[at:], qos, packet_id


class Connection:
    """A connection. Its owner has on_packet(connection, kind, flags, body) and on_gone(connection),
    the latter called once when the peer is gone, after all that had come from it."""

    def __init__(self, loop, address, owner, version):
        self.loop, self.owner, self.version = loop, owner, version
        self.received, self.unsent = bytearray(), bytearray()
        self.held_until = 0.0  # what is sent waits until then
        self.waits_for_room = False
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True
        code = self.sock.connect_ex(address)
        loop.add(self)
        if code not in (0, errno.EINPROGRESS):
            self.end()

    def send(self, data):
        """Sends it, at the end of this turn of the loop."""
        if self.is_open:
            if not self.unsent:
                self.loop.dirty.append(self)
            self.unsent += data

    def flush(self):
        """Gives the kernel what it takes."""
        if not self.is_open or not self.unsent:
            return
        try:
            sent = self.sock.send(self.unsent)
            del self.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.end()
            return
        if bool(self.unsent) != self.waits_for_room:
            self.waits_for_room = bool(self.unsent)
            self.loop.want_room(self, self.waits_for_room)

    def end(self):
        """The peer is gone: reads what it had still sent, tells the owner."""
        if not self.is_open:
            return
        self.is_open = False
        try:
            while data := self.sock.recv(READ_SIZE):
                self.received += data
        except OSError:
            pass
        self.loop.remove(self)
        self.sock.close()
        for found in take_packets(self.received):
            self.owner.on_packet(self, *found)
        self.owner.on_gone(self)

    def close(self):
        """Drops the connection without a word; the owner is not told."""
        if self.is_open:
            self.flush()
        if self.is_open:
            self.is_open = False
            self.loop.remove(self)
            self.sock.close()

    def on_ready(self, events):
        """Reads and writes."""
        if events & select.EPOLLOUT:
            self.flush()
        if not self.is_open or not events & ~select.EPOLLOUT:
            return
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        if not data:
            self.end()
            return
        self.received += data
        for found in take_packets(self.received):
            if not self.is_open:
                return  # the owner has dropped it
            self.owner.on_packet(self, *found)


class Loop:
    """Readiness, timers, and an end."""

    def __init__(self):
        self.epoll = select.epoll()
        self.by_fd, self.dirty, self.timers = {}, [], []
        self.order = itertools.count()

    def add(self, connection):
        """Watches a connection."""
        self.by_fd[connection.sock.fileno()] = connection
        self.epoll.register(connection.sock.fileno(), select.EPOLLIN)

    def remove(self, connection):
        """No longer."""
        fd = connection.sock.fileno()
        del self.by_fd[fd]
        self.epoll.unregister(fd)

    def want_room(self, connection, wanted):
        """Whether to tell when it can be written to."""
        self.epoll.modify(connection.sock.fileno(),
                          select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def later(self, delay_s, call):
        """Calls it then."""
        heapq.heappush(self.timers, (time.monotonic() + delay_s, next(self.order), call))

    def clear(self, call=None):
        """Forgets when to call it, or everything that was to be called."""
        self.timers = [row for row in self.timers if call and row[2] != call]
        heapq.heapify(self.timers)

    def connections(self):
        """Those that are open."""
        return list(self.by_fd.values())

    def flush(self):
        """Sends what this turn has produced; what is held back waits."""
        now = time.monotonic()
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            if connection.held_until > now and connection.is_open:
                self.later(connection.held_until - now, connection.flush)
            else:
                connection.flush()

    def turn(self, until):
        """Waits for something until that moment at the latest, and deals with it."""
        self.flush()
        now = time.monotonic()
        wake = min(until, self.timers[0][0]) if self.timers else until
        for fd, events in self.epoll.poll(max(0.0, wake - now)):
            connection = self.by_fd.get(fd)
            if connection:
                connection.on_ready(events)
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            heapq.heappop(self.timers)[2]()
        self.flush()
