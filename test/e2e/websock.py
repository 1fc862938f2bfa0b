"""WebSocket on a socket, for tests: requests and frames byte by byte, right or wrong.

Written from RFC 6455 and sharing nothing with the server. Channel gives it the methods of a socket,
so that what speaks MQTT over TCP does so over WebSocket too.
"""

import base64
import hashlib
import io
import os
import socket
import ssl
import struct
from dataclasses import dataclass

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TIMEOUT_S = 10
KEY = base64.b64encode(b"sixteen bytes ok").decode()
HEADERS = {
    "Host": "broker.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqtt",
}


def request(path="/mqtt", method="GET", version="HTTP/1.1", **changes):
    """An upgrade request; a change sets a header, named with _ for -, or removes it (None)."""
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode()


def accept_of(key):
    """The answer's proof that the key was understood."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def frame(opcode, payload=b"", *, fin=True, masked=True, form=None, rsv=0):
    """A frame. form: how many bytes the length takes (0, 2 or 8), right or wrong."""
    size = len(payload)
    if form is None:
        form = 0 if size < 126 else 2 if size < 65536 else 8
    code = {0: size, 2: 126, 8: 127}[form]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | code])
    head += {0: b"", 2: struct.pack(">H", size & 0xFFFF), 8: struct.pack(">Q", size)}[form]
    if not masked:
        return head + payload
    mask = os.urandom(4)
    wide = mask * (size // 4 + 1)
    xored = int.from_bytes(payload, "big") ^ int.from_bytes(wide[:size], "big")
    return head + mask + xored.to_bytes(size, "big")


@dataclass
class Frame:
    """A frame of the server."""

    opcode: int
    payload: bytes

    @property
    def code(self):
        """Of a close frame; None when it has none."""
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else None


class WebSocket:
    """A connected socket with WebSocket on it; a server's frames are checked as strictly as it
    checks ours."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    @classmethod
    def connect(cls, host, port, tls=None):
        """A connection of its own. tls: a context, for wss; then an end without TLS's goodbye is an
        error."""
        sock = socket.create_connection((host, port), timeout=TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            sock = tls.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
        return cls(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *parts):
        """Sends bytes."""
        self.sock.sendall(b"".join(parts))

    def more(self):
        """Reads what is there; False at the end."""
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def _take(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"the end in the middle of {self.buffer[:80]!r}"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def answer(self):
        """The HTTP answer: its status and its headers, in lower case, with the body as ''."""
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"no answer but {self.buffer!r}"
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        assert first.startswith("HTTP/1.1 "), first
        headers = {}
        for line in lines:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        headers[""] = self._take(int(headers.get("content-length", 0))).decode()
        return int(first.split(" ")[1]), headers

    def open(self, **changes):
        """The request and its answer, which accepts it. Returns the answer's headers."""
        self.send(request(**changes))
        status, headers = self.answer()
        assert status == 101, (status, headers)
        assert headers["sec-websocket-accept"] == accept_of(KEY)
        return headers

    def receive(self):
        """The next frame; None at the end of the stream."""
        if not self.buffer and not self.more():
            return None
        first, second = self._take(2)
        assert first & 0x70 == 0, "reserved bits"
        assert first & 0x80, "a fragment"
        assert second < 128, "masked"
        size = second
        if second == 126:
            size = struct.unpack(">H", self._take(2))[0]
            assert size >= 126, "not the shortest length"
        elif second == 127:
            size = struct.unpack(">Q", self._take(8))[0]
            assert size >= 65536, "not the shortest length"
        out = Frame(first & 15, self._take(size))
        assert out.opcode in (BINARY, CLOSE, PING, PONG), out
        assert out.opcode == BINARY or size <= 125, out
        return out

    def expect(self, opcode, payload=None):
        """The next frame, which must be that one."""
        out = self.receive()
        assert out is not None, "the end"
        assert out.opcode == opcode and payload in (None, out.payload), out
        return out

    def closed(self, code):
        """The next frame is a close frame with that code, and the stream ends behind it."""
        found = self.expect(CLOSE)
        assert found.code == code, found
        assert self.receive() is None
        return found.payload[2:].decode()


class Incoming(io.RawIOBase):
    """What a channel receives, as a file."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def readable(self):
        """It is."""
        return True

    def readinto(self, room):
        """Fills some of the room."""
        data = self.channel.recv(len(room))
        room[:len(data)] = data
        return len(data)


class Channel:
    """The bytes in the binary frames of a connected socket, as a socket."""

    def __init__(self, sock, path="/mqtt"):
        self.web = WebSocket(sock)
        self.web.open(path=path)
        self._bytes = b""
        self._ended = False
        self._unsent, self._part = b"", 0  # of a frame that is half out, and its payload's size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def setblocking(self, blocks):
        """Of the socket below."""
        self.web.sock.setblocking(blocks)

    def makefile(self, _mode):
        """For reading."""
        return io.BufferedReader(Incoming(self))

    def setsockopt(self, *args):
        """Of the socket below."""
        self.web.sock.setsockopt(*args)

    def settimeout(self, seconds):
        """Of the socket below."""
        self.web.sock.settimeout(seconds)

    def fileno(self):
        """Of the socket below."""
        return self.web.sock.fileno()

    def sendall(self, data):
        """One binary frame."""
        if data:
            self.web.send(frame(BINARY, data))

    def send(self, data):
        """As much as a frame holds, once all of it is out; 0: to be tried again."""
        if not self._unsent:
            self._unsent, self._part = frame(BINARY, bytes(data[:16384])), len(data[:16384])
        try:
            self._unsent = self._unsent[self.web.sock.send(self._unsent):]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        return 0 if self._unsent else self._part

    def recv(self, size, *_):
        """What came in frames; b'' at the end, be it told by a close frame or not."""
        while not self._bytes and not self._ended:
            found = self.web.receive()
            if found is None:
                self._ended = True
            elif found.opcode == BINARY:
                self._bytes = found.payload
            elif found.opcode == PING:
                self.web.send(frame(PONG, found.payload))
        taken, self._bytes = self._bytes[:size], self._bytes[size:]
        return taken

    def close(self):
        """Drops the connection."""
        self.web.sock.close()
