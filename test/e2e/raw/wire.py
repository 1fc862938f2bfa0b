"""MQTT 3.1, 3.1.1 and 5.0 on the wire, for tests: a builder, a strict parser, and a raw client.

Written from the specifications and sharing nothing with the server, so that a fault common to the
server's encoder and decoder shows here. The builders make wrong packets as readily as right ones:
each returns plain bytes. The parser refuses whatever a specification refuses and says with which
reason code; the truncation tests use it as their referee.
"""

import itertools
import os
import struct
from dataclasses import dataclass, field

import transport

V31, V311, V5 = 3, 4, 5

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)
WILL = 16  # not a packet: the place of the will's properties

NAMES = (
    "0 CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK"
    " PINGREQ PINGRESP DISCONNECT AUTH WILL"
).split()

SUCCESS = 0x00
MALFORMED = 0x81
PROTOCOL_ERROR = 0x82

NO_SUBSCRIBERS = 0x10

TIMEOUT_S = 10

ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP)
REASONED = (CONNACK, *ACKS, SUBACK, UNSUBACK, DISCONNECT, AUTH)
WITH_PROPERTIES = (CONNECT, CONNACK, PUBLISH, *ACKS, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK)

# name: (identifier, type, packets that may carry it)
PROPERTIES = {
    "payload_format": (0x01, "byte", (PUBLISH, WILL)),
    "message_expiry": (0x02, "u32", (PUBLISH, WILL)),
    "content_type": (0x03, "string", (PUBLISH, WILL)),
    "response_topic": (0x08, "string", (PUBLISH, WILL)),
    "correlation_data": (0x09, "binary", (PUBLISH, WILL)),
    "subscription_id": (0x0B, "varint", (PUBLISH, SUBSCRIBE)),
    "session_expiry": (0x11, "u32", (CONNECT, CONNACK, DISCONNECT)),
    "assigned_client_id": (0x12, "string", (CONNACK,)),
    "server_keep_alive": (0x13, "u16", (CONNACK,)),
    "auth_method": (0x15, "string", (CONNECT, CONNACK, AUTH)),
    "auth_data": (0x16, "binary", (CONNECT, CONNACK, AUTH)),
    "request_problem": (0x17, "byte", (CONNECT,)),
    "will_delay": (0x18, "u32", (WILL,)),
    "request_response": (0x19, "byte", (CONNECT,)),
    "response_information": (0x1A, "string", (CONNACK,)),
    "server_reference": (0x1C, "string", (CONNACK, DISCONNECT)),
    "reason_string": (0x1F, "string", REASONED),
    "receive_maximum": (0x21, "u16", (CONNECT, CONNACK)),
    "topic_alias_maximum": (0x22, "u16", (CONNECT, CONNACK)),
    "topic_alias": (0x23, "u16", (PUBLISH,)),
    "maximum_qos": (0x24, "byte", (CONNACK,)),
    "retain_available": (0x25, "byte", (CONNACK,)),
    "user": (0x26, "pair", (*WITH_PROPERTIES, DISCONNECT, AUTH, WILL)),
    "maximum_packet_size": (0x27, "u32", (CONNECT, CONNACK)),
    "wildcard_available": (0x28, "byte", (CONNACK,)),
    "subscription_id_available": (0x29, "byte", (CONNACK,)),
    "shared_available": (0x2A, "byte", (CONNACK,)),
}
BY_IDENTIFIER = {row[0]: (name, row[1], row[2]) for name, row in PROPERTIES.items()}
BOOLEANS = (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A)
NEVER_ZERO = (0x0B, 0x21, 0x27)

REASONS = {
    CONNACK: {0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0, 0x92},
    PUBCOMP: {0, 0x92},
    SUBACK: {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0, 4, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, *range(0x90, 0xA3)},
    AUTH: {0, 0x18, 0x19},
}
REASONS[DISCONNECT] -= {0x91, 0x92}


class Refused(Exception):
    """Bytes that the specification refuses; `reason` is the MQTT 5 reason code for it."""

    def __init__(self, reason, why):
        super().__init__(f"0x{reason:02x}: {why}")
        self.reason = reason


def malformed(why):
    """The exception for a Malformed Packet."""
    return Refused(MALFORMED, why)


def protocol_error(why):
    """The exception for a Protocol Error."""
    return Refused(PROTOCOL_ERROR, why)


# ---- building


def u16(value):
    """Two bytes, big end first."""
    return struct.pack(">H", value)


def u32(value):
    """Four bytes, big end first."""
    return struct.pack(">I", value)


def varint(value):
    """A variable byte integer in its shortest form."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def octets(text):
    """Text as UTF-8; bytes stay what they are, which lets tests send ill-formed text."""
    return text if isinstance(text, bytes) else text.encode()


def string(text):
    """A length-prefixed string or binary field."""
    data = octets(text)
    return u16(len(data)) + data


def packet(kind, flags, body=b""):
    """A whole packet from its type, its flags and what follows the remaining length."""
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def prop(name, value):
    """One property."""
    identifier, sort, _ = PROPERTIES[name]
    encode = {
        "byte": lambda v: bytes([v]),
        "u16": u16,
        "u32": u32,
        "varint": varint,
        "string": string,
        "binary": string,
        "pair": lambda v: string(v[0]) + string(v[1]),
    }[sort]
    return varint(identifier) + encode(value)


def props(*pairs):
    """A property section: its length and the properties, given as (name, value) or raw bytes."""
    body = b"".join(p if isinstance(p, bytes) else prop(*p) for p in pairs)
    return varint(len(body)) + body


@dataclass
class Will:
    """A will, for connect()."""

    topic: str
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    properties: tuple = ()

    def flags(self):
        """Its part of the connect flags."""
        return 0x04 | self.qos << 3 | (0x20 if self.retain else 0)

    def encode(self, version):
        """Its part of the payload."""
        head = props(*self.properties) if version == V5 else b""
        return head + string(self.topic) + string(self.payload)


def connect(version, client_id="", clean=True, keep_alive=60, **options):
    """A CONNECT; options: will, user, password, properties, and flags, name, level, tail."""
    will, user, password = (options.get(k) for k in ("will", "user", "password"))
    flags = 0x02 if clean else 0
    flags |= will.flags() if will else 0
    flags |= (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    name = options.get("name", "MQIsdp" if version == V31 else "MQTT")
    body = string(name) + bytes([options.get("level", version), options.get("flags", flags)])
    body += u16(keep_alive)
    if version == V5:
        body += props(*options.get("properties", ()))
    body += string(client_id)
    body += will.encode(version) if will else b""
    body += string(user) if user is not None else b""
    body += string(password) if password is not None else b""
    return packet(CONNECT, 0, body + options.get("tail", b""))


def publish(version, topic, payload=b"", qos=0, packet_id=0, **options):
    """A PUBLISH; options: retain, dup, properties."""
    flags = (8 if options.get("dup") else 0) | qos << 1 | (1 if options.get("retain") else 0)
    body = string(topic) + (u16(packet_id) if qos else b"")
    if version == V5:
        body += props(*options.get("properties", ()))
    return packet(PUBLISH, flags, body + octets(payload))


def ack(version, kind, packet_id, reason=None, properties=None):
    """A PUBACK, PUBREC, PUBREL or PUBCOMP, as short as its arguments allow."""
    body = u16(packet_id)
    if version == V5 and (reason is not None or properties is not None):
        body += bytes([reason or 0])
        body += props(*properties) if properties is not None else b""
    return packet(kind, 2 if kind == PUBREL else 0, body)


def subscribe(version, packet_id, *filters, properties=()):
    """A SUBSCRIBE; each filter is a string (QoS 0) or (string, options byte)."""
    body = u16(packet_id) + (props(*properties) if version == V5 else b"")
    for each in filters:
        text, options = (each, 0) if isinstance(each, (str, bytes)) else each
        body += string(text) + bytes([options])
    return packet(SUBSCRIBE, 2, body)


def unsubscribe(version, packet_id, *filters, properties=()):
    """An UNSUBSCRIBE."""
    body = u16(packet_id) + (props(*properties) if version == V5 else b"")
    return packet(UNSUBSCRIBE, 2, body + b"".join(string(each) for each in filters))


def pingreq():
    """A PINGREQ."""
    return packet(PINGREQ, 0)


def disconnect(version, reason=None, properties=None):
    """A DISCONNECT, as short as its arguments allow."""
    body = b""
    if version == V5 and (reason is not None or properties is not None):
        body = bytes([reason or 0]) + (props(*properties) if properties is not None else b"")
    return packet(DISCONNECT, 0, body)


def auth(reason=0x18, properties=()):
    """An AUTH."""
    return packet(AUTH, 0, bytes([reason]) + props(*properties))


# ---- parsing


class Reader:
    """Takes fields off the front of a body; running out of bytes is a malformed packet."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def left(self):
        """How many bytes remain."""
        return len(self.data) - self.at

    def take(self, count):
        """The next `count` bytes."""
        if self.left() < count:
            raise malformed(f"{count} bytes wanted at {self.at}, {self.left()} there")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        """One byte as a number."""
        return self.take(1)[0]

    def u16(self):
        """Two bytes as a number."""
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        """Four bytes as a number."""
        return struct.unpack(">I", self.take(4))[0]

    def varint(self):
        """A variable byte integer; overlong and five-byte forms are malformed."""
        value = 0
        for index in range(4):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * index
            if not byte & 0x80:
                if index and not byte:
                    raise malformed("overlong variable byte integer")
                return value
        raise malformed("variable byte integer of five bytes")

    def binary(self):
        """A length-prefixed field."""
        return self.take(self.u16())

    def string(self):
        """A UTF-8 string without U+0000 and surrogates."""
        data = self.binary()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed(f"ill-formed UTF-8 {data!r}") from error
        if "\0" in text:
            raise malformed("U+0000 in a string")
        return text

    def rest(self):
        """Everything that remains."""
        return self.take(self.left())


@dataclass
class Packet:
    """A parsed packet; fields that its type lacks keep their defaults."""

    kind: int
    flags: int = 0
    topic: str = ""
    payload: bytes = b""
    packet_id: int = 0
    reason: int = 0
    reasons: list = field(default_factory=list)
    session_present: bool = False
    props: list = field(default_factory=list)
    raw: bytes = b""

    @property
    def dup(self):
        """The DUP flag of a PUBLISH."""
        return bool(self.flags & 8)

    @property
    def qos(self):
        """The QoS of a PUBLISH."""
        return self.flags >> 1 & 3

    @property
    def retain(self):
        """The RETAIN flag of a PUBLISH."""
        return bool(self.flags & 1)

    def all(self, name):
        """The values of every property of that name, in their order."""
        return [value for key, value in self.props if key == name]

    def get(self, name, default=None):
        """The value of a property that appears at most once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} appears {len(values)} times"
        return values[0] if values else default

    def __str__(self):
        return f"{NAMES[self.kind]}[{self.raw.hex(' ')}]"


def read_property(reader, place):
    """One property as (name, value), checked for place and value."""
    identifier = reader.varint()
    if identifier not in BY_IDENTIFIER:
        raise malformed(f"unknown property 0x{identifier:02x}")
    name, sort, places = BY_IDENTIFIER[identifier]
    if place not in places:
        raise malformed(f"{name} in {NAMES[place]}")
    if sort == "pair":
        return name, (reader.string(), reader.string())
    value = getattr(reader, sort)()
    if identifier in BOOLEANS and value > 1:
        raise protocol_error(f"{name} is {value}")
    if identifier in NEVER_ZERO and value == 0:
        raise protocol_error(f"{name} is 0")
    return name, value


def read_props(reader, place):
    """A property section as a list of (name, value)."""
    inner = Reader(reader.take(reader.varint()))
    found = []
    while inner.left():
        name, value = read_property(inner, place)
        repeatable = name == "user" or (name == "subscription_id" and place == PUBLISH)
        if not repeatable and any(name == other for other, _ in found):
            raise protocol_error(f"{name} twice")
        found.append((name, value))
    return found


def flags_check(kind, flags):
    """Reserved fixed-header flags."""
    if kind == PUBLISH:
        if flags >> 1 & 3 == 3:
            raise malformed("QoS 3")
    elif flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
        raise malformed(f"flags {flags:04b} in {NAMES[kind]}")


def parse_connect(out, reader, _version):
    """CONNECT."""
    name, level = reader.string(), reader.byte()
    if (name, level) not in (("MQTT", V311), ("MQTT", V5), ("MQIsdp", V31)):
        raise Refused(0x84, f"{name} {level}")
    flags = reader.byte()
    if flags & 1 or flags >> 3 & 3 == 3 or (not flags & 4 and flags & 0x38):
        raise malformed(f"connect flags {flags:08b}")
    if level != V5 and flags & 0xC0 == 0x40:
        raise malformed("password without user name")
    reader.u16()
    out.props = read_props(reader, CONNECT) if level == V5 else []
    reader.string()
    if flags & 4:
        if level == V5:
            read_props(reader, WILL)
        reader.string()
        reader.binary()
    if flags & 0x80:
        reader.string()
    if flags & 0x40:
        reader.binary()


def parse_connack(out, reader, version):
    """CONNACK."""
    flags = reader.byte()
    if flags & 0xFE:
        raise malformed(f"acknowledge flags {flags:08b}")
    out.session_present = bool(flags)
    out.reason = reader.byte()
    # A server that refuses the version itself may answer in the form of 3.1.1.
    out.props = read_props(reader, CONNACK) if version == V5 and reader.left() else []


def parse_publish(out, reader, version):
    """PUBLISH."""
    out.topic = reader.string()
    if any(wild in out.topic for wild in "+#"):
        raise Refused(0x90, "wildcard in a topic name")
    if out.qos:
        out.packet_id = reader.u16()
        if not out.packet_id:
            raise protocol_error("packet id 0")
    out.props = read_props(reader, PUBLISH) if version == V5 else []
    if not out.topic and out.get("topic_alias") is None:
        raise protocol_error("no topic")
    out.payload = reader.rest()


def parse_ack(out, reader, version):
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""
    out.packet_id = reader.u16()
    if not out.packet_id:
        raise protocol_error("packet id 0")
    if version == V5 and reader.left():
        out.reason = reader.byte()
        out.props = read_props(reader, out.kind) if reader.left() else []


def parse_subscribe(out, reader, version):
    """SUBSCRIBE and UNSUBSCRIBE."""
    out.packet_id = reader.u16()
    if not out.packet_id:
        raise protocol_error("packet id 0")
    out.props = read_props(reader, out.kind) if version == V5 else []
    if not reader.left():
        raise protocol_error("no filter")
    while reader.left():
        if not reader.string():
            raise Refused(0x8F, "empty filter")
        if out.kind == SUBSCRIBE:
            options = reader.byte()
            if options & (0xC0 if version == V5 else 0xFC):
                raise malformed(f"options {options:08b}")
            if options & 3 == 3 or options >> 4 & 3 == 3:
                raise protocol_error(f"options {options:08b}")


def parse_suback(out, reader, version):
    """SUBACK and UNSUBACK."""
    out.packet_id = reader.u16()
    out.props = read_props(reader, out.kind) if version == V5 else []
    out.reasons = list(reader.rest())
    if out.kind == SUBACK and version != V5 and set(out.reasons) - {0, 1, 2, 0x80}:
        raise malformed(f"codes {out.reasons}")
    if out.kind == SUBACK or version == V5:
        if not out.reasons:
            raise malformed("no reason codes")


def parse_reason(out, reader, version):
    """DISCONNECT and AUTH."""
    if version == V5 and reader.left():
        out.reason = reader.byte()
        out.props = read_props(reader, out.kind) if reader.left() else []


def parse_empty(_out, _reader, _version):
    """PINGREQ and PINGRESP."""


PARSERS = {
    CONNECT: parse_connect,
    CONNACK: parse_connack,
    PUBLISH: parse_publish,
    **dict.fromkeys(ACKS, parse_ack),
    SUBSCRIBE: parse_subscribe,
    SUBACK: parse_suback,
    UNSUBSCRIBE: parse_subscribe,
    UNSUBACK: parse_suback,
    PINGREQ: parse_empty,
    PINGRESP: parse_empty,
    DISCONNECT: parse_reason,
    AUTH: parse_reason,
}


def parse(version, kind, flags, body):
    """A packet from its parts; raises Refused."""
    if kind == 0 or (kind == AUTH and version != V5):
        raise malformed(f"packet type {kind}")
    flags_check(kind, flags)
    out = Packet(kind, flags)
    reader = Reader(body)
    PARSERS[kind](out, reader, version)
    if reader.left():
        raise malformed(f"{reader.left()} bytes too many")
    if version == V5:
        for reason in out.reasons or [out.reason]:
            if kind in REASONS and reason not in REASONS[kind]:
                raise protocol_error(f"reason 0x{reason:02x}")
    return out


def split(data):
    """The parts (kind, flags, body) of one whole packet."""
    reader = Reader(data)
    head = reader.byte()
    body = reader.take(reader.varint())
    assert not reader.left(), "more than one packet"
    return head >> 4, head & 15, body


# ---- talking


class Peer:
    """One connection to the server, speaking bytes. sock: instead of one that it opens."""

    _counter = itertools.count(1)

    def __init__(self, server, version=V5, sock=None):
        self.version = version
        self.client_id = f"raw{os.getpid()}x{next(self._counter)}"
        self.sock = sock or transport.open_socket(server.scheme, (server.host, server.port), TIMEOUT_S)
        self._buffer = b""
        self._held = []
        self.ignores_retained = False  # for wide filters at QoS 0: other tests may retain too

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Drops the connection as a failed network would: no DISCONNECT."""
        self.sock.close()

    def half_close(self):
        """Ends what we send; what the server sends still arrives."""
        try:
            transport.half_close(self.sock)
        except OSError:
            pass  # the server was faster

    def send(self, *packets):
        """Sends bytes; the peer having closed already is for the next receive to find."""
        try:
            self.sock.sendall(b"".join(packets))
        except transport.GONE:
            pass

    def _more(self):
        """Reads what is there; False at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except transport.GONE:
            data = b""
        self._buffer += data
        return bool(data)

    def _frame(self):
        """The size of the first buffered packet's head and body, or None if it is not all there."""
        for index in range(1, min(5, len(self._buffer))):
            if not self._buffer[index] & 0x80:
                length = Reader(self._buffer[1 : index + 1]).varint()
                whole = index + 1 + length
                return (index + 1, whole) if len(self._buffer) >= whole else None
        assert len(self._buffer) < 5, f"no packet: {self._buffer[:16].hex(' ')}"
        return None

    def receive(self):
        """The next packet, strictly parsed; None at the end of the stream."""
        return self._held.pop(0) if self._held else self._read()

    def _read(self):
        """The next packet from the socket that is not to be ignored."""
        while True:
            out = self._next()
            if not (self.ignores_retained and out and out.kind == PUBLISH and out.retain):
                return out

    def _next(self):
        """The next packet from the socket."""
        while (frame := self._frame()) is None:
            if not self._more():
                assert not self._buffer, f"half a packet: {self._buffer.hex(' ')}"
                return None
        start, end = frame
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        out = parse(self.version, raw[0] >> 4, raw[0] & 15, raw[start:])
        out.raw = raw
        return out

    def expect(self, kind, **fields):
        """The next packet, which must be of that type and have those fields."""
        out = self.receive()
        assert out is not None, f"closed instead of {NAMES[kind]}"
        assert out.kind == kind, f"{out} instead of {NAMES[kind]}"
        for name, value in fields.items():
            found = getattr(out, name)
            assert found == value, f"{name} is {found!r}, not {value!r} in {out}"
        return out

    def pick(self, kind, packet_id):
        """That packet, whatever comes before it; the others stay for receive(), in their order."""
        for index, packet in enumerate(self._held):
            if packet.kind == kind and packet.packet_id == packet_id:
                return self._held.pop(index)
        while (out := self._read()) is not None:
            if out.kind == kind and out.packet_id == packet_id:
                return out
            self._held.append(out)
        seen = [str(each) for each in self._held]
        raise AssertionError(f"closed instead of {NAMES[kind]} {packet_id}, after {seen}")

    def connect(self, client_id=None, reason=SUCCESS, **options):
        """CONNECT and its CONNACK; returns the CONNACK."""
        if client_id is not None:
            self.client_id = client_id
        self.send(connect(self.version, self.client_id, **options))
        return self.expect(CONNACK, reason=reason)

    def subscribe(self, *filters, packet_id=1, properties=()):
        """SUBSCRIBE and its SUBACK; returns the SUBACK, which grants what was asked for."""
        self.send(subscribe(self.version, packet_id, *filters, properties=properties))
        out = self.pick(SUBACK, packet_id)
        asked = [0 if isinstance(each, (str, bytes)) else each[1] & 3 for each in filters]
        assert out.reasons == asked, f"granted {out.reasons}, asked for {asked}"
        return out

    def publish(self, topic, payload=b"", qos=0, packet_id=1, **options):
        """PUBLISH and, by QoS, all that follows up to its end."""
        self.send(publish(self.version, topic, payload, qos, packet_id, **options))
        if qos == 1:
            self.accepted(PUBACK, packet_id)
        elif qos == 2:
            self.accepted(PUBREC, packet_id)
            self.send(ack(self.version, PUBREL, packet_id))
            self.expect(PUBCOMP, packet_id=packet_id, reason=SUCCESS)
        else:
            self.quiet()

    def accepted(self, kind, packet_id):
        """The next packet is a PUBACK or PUBREC that says the message was taken."""
        out = self.expect(kind, packet_id=packet_id)
        assert out.reason in (SUCCESS, NO_SUBSCRIBERS), f"refused by {out}"
        return out

    def ack(self, kind, packet_id, reason=None, properties=None):
        """Sends a PUBACK, PUBREC, PUBREL or PUBCOMP."""
        self.send(ack(self.version, kind, packet_id, reason, properties))

    def take(self, topic, payload, qos=0):
        """The next packet as a PUBLISH, with its acknowledgements; returns it."""
        out = self.expect(PUBLISH, topic=topic, payload=octets(payload), qos=qos)
        if qos == 1:
            self.ack(PUBACK, out.packet_id)
        elif qos == 2:
            self.ack(PUBREC, out.packet_id)
            self.pick(PUBREL, out.packet_id)
            self.ack(PUBCOMP, out.packet_id)
        return out

    def quiet(self):
        """Nothing is on its way: a PINGREQ is answered before anything else comes."""
        self.send(pingreq())
        self.expect(PINGRESP)

    def drain(self):
        """The packets that come before the answer to a PINGREQ: not more than a sample."""
        self.send(pingreq())
        found = []
        while (out := self.receive()) is not None and out.kind != PINGRESP:
            found.append(out)
        assert out is not None, f"closed after {[str(each) for each in found]}"
        return found

    def receive_or_end(self):
        """The next packet, be it only the answer to a PINGREQ; None at the end of the stream."""
        self.send(pingreq())
        return self.receive()

    def closed(self):
        """The stream ends, and nothing comes before its end."""
        out = self.receive()
        assert out is None, f"{out} instead of the end"

    def refused(self, *reasons):
        """The server ends the connection: in 5.0 with a DISCONNECT of one of these reasons."""
        if self.version == V5:
            out = self.expect(DISCONNECT)
            shown = [f"0x{each:02x}" for each in reasons]
            assert out.reason in reasons, f"reason 0x{out.reason:02x} instead of {shown}"
            assert out.get("session_expiry") is None, f"session expiry in {out}"
        self.closed()

    def end(self):
        """An orderly DISCONNECT."""
        self.send(disconnect(self.version))
        self.closed()
