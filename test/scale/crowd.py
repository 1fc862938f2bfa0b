"""Very many MQTT clients from one thread: for the tests and the benchmark of a crowded server.

A client here is a few bytes to send and the bytes that must come back, so that a million of them
cost minutes and no memory. `run` keeps a number of them under way at once.
"""

import errno
import select
import socket
import struct
import time

ADDRESSES = 64  # clients come from so many addresses, or the ports of one would run out
READ_SIZE = 1 << 18
TURN_MAX_US = 40_000  # of processor time in one turn of the server's loop: more is a fault


def packet(kind, body):
    """One packet; kind: its first byte."""
    length, head = len(body), bytes([kind])
    while True:
        byte, length = length & 127, length >> 7
        head += bytes([byte | (128 if length else 0)])
        if not length:
            return head + body


def text(value):
    """A string with its length."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def connect_packet(client_id, clean=False):
    """CONNECT of 3.1.1 without keep alive."""
    return packet(0x10, text("MQTT") + bytes([4, clean << 1, 0, 0]) + text(client_id))


def subscribe_packet(filters, qos, packet_id=1):
    """SUBSCRIBE to one filter or several."""
    entries = b"".join(text(each) + bytes([qos]) for each in filters)
    return packet(0x82, struct.pack(">H", packet_id) + entries)


def publish_packet(topic, payload, qos=0, packet_id=0, retain=False):
    """PUBLISH."""
    number = struct.pack(">H", packet_id) if qos else b""
    return packet(0x30 | qos << 1 | retain, text(topic) + number + payload)


def take_packet(data):
    """The first whole packet: its first byte, its body, and the size of both; None: not whole."""
    length = shift = 0
    for at in range(1, min(len(data), 5)):
        length |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            end = at + 1 + length
            return (data[0], data[at + 1 : end], end) if len(data) >= end else None
    return None


class Unexpected(Exception):
    """The server answered something else, or closed."""


class Client:
    """One client's script: what it sends, and what must be answered before it leaves."""

    __slots__ = ("first", "answer", "last", "got", "sock", "sent")

    def __init__(self, first, answer, last=b"\xe0\0"):
        self.first = first
        self.answer = answer
        self.last = last
        self.got = 0
        self.sent = False
        self.sock = None

    def start(self, address, number):
        """Begins to connect."""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.bind((f"127.0.1.{1 + number % ADDRESSES}", 0))
        code = self.sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        return self.sock.fileno()

    def send(self):
        """Connected: sends all, which fits into the socket's buffer."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
        if self.sock.send(self.first) != len(self.first):
            raise Unexpected("too much for one write")
        self.sent = True

    def read(self):
        """Takes what came; True when the client is done."""
        data = self.sock.recv(4096)
        if data != self.answer[self.got : self.got + len(data)] or not data:
            raise Unexpected(f"{data!r} instead of {self.answer[self.got:]!r}")
        self.got += len(data)
        if self.got < len(self.answer):
            return False
        self.sock.send(self.last)
        self.sock.close()
        return True


class Peer:
    """One connection: a client of 3.1.1 that reads packets as they come."""

    def __init__(self, server, client_id, clean):
        self.sock = socket.create_connection((server.host, server.port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sock.sendall(connect_packet(client_id, clean))
        kind, body = self.packet()
        assert kind == 0x20 and body[1] == 0
        self.present = body[0] == 1

    def packet(self, timeout_s=30):
        """The next packet: its first byte and its body; None when none comes in time."""
        while True:
            found = take_packet(self.buffer)
            if found:
                kind, body, size = found
                self.buffer = self.buffer[size:]
                return kind, body
            poll = select.poll()  # select knows descriptors below 1,024 only
            poll.register(self.sock, select.POLLIN)
            if not poll.poll(timeout_s * 1000):
                return None
            data = self.sock.recv(1 << 18)
            assert data, "closed"
            self.buffer += data

    def subscribe(self, topic_filter):
        """At QoS 1."""
        self.sock.sendall(subscribe_packet([topic_filter], 1))
        assert self.packet() == (0x90, b"\0\1\1")

    def leave(self):
        """DISCONNECT."""
        self.sock.sendall(b"\xe0\0")
        assert self.sock.recv(1) == b""
        self.sock.close()


def run(address, clients, width=256):
    """Runs all clients of an iterable, `width` at a time. Returns how many there were."""
    poll = select.epoll()
    active, number = {}, 0
    clients = iter(clients)
    more = True
    while more or active:
        while more and len(active) < width:
            client = next(clients, None)
            if client is None:
                more = False
                break
            fd = client.start(address, number)
            active[fd] = client
            poll.register(fd, select.EPOLLOUT)
            number += 1
        for fd, _ in poll.poll(60) if active else ():
            client = active[fd]
            if not client.sent:
                client.send()
                poll.modify(fd, select.EPOLLIN)
            elif client.read():
                del active[fd]  # closing took it out of the poll
    poll.close()
    return number


def session_id(number):
    """The client ID of a session: as those of devices are, in no order."""
    return f"device-{number * 2654435761 % 2**32:08x}"


def sessions(count, first=0, filter_of="crowd/{}/state".format, qos=1, present=False):
    """Clients that leave a durable session with one subscription each; present: they have it."""
    for number in range(first, first + count):
        yield Client(
            connect_packet(session_id(number)) + subscribe_packet([filter_of(number)], qos),
            bytes([0x20, 2, present, 0]) + b"\x90\x03\0\x01" + bytes([qos]),
        )
