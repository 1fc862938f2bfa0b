"""The fixed header: types, flags, lengths. Sections 2 of 3.1.1 and 5.0."""

import pytest
import wire
from wire import MALFORMED, PROTOCOL_ERROR, V5, V311, Peer

BODIES = {
    wire.PUBACK: wire.u16(1),
    wire.PUBREC: wire.u16(1),
    wire.PUBREL: wire.u16(1),
    wire.PUBCOMP: wire.u16(1),
    wire.SUBSCRIBE: None,
    wire.UNSUBSCRIBE: None,
    wire.PINGREQ: b"",
    wire.DISCONNECT: b"",
}


def body_of(kind, version):
    """A right body for a packet whose flags will be wrong."""
    if kind == wire.SUBSCRIBE:
        return wire.split(wire.subscribe(version, 1, "a"))[2]
    if kind == wire.UNSUBSCRIBE:
        return wire.split(wire.unsubscribe(version, 1, "a"))[2]
    return BODIES[kind]


@pytest.mark.parametrize("kind", BODIES, ids=[wire.NAMES[kind] for kind in BODIES])
def test_reserved_flags(joined, version, kind):
    """Each wrong value of the reserved flags, for each packet a client may send.

    [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1]
    [MQTT3-3.14.1-1] [MQTT5-2.1.3-1] [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1]
    [MQTT5-3.14.1-1] [MQTT5-4.13.1-1]
    """
    right = 2 if kind in (wire.PUBREL, wire.SUBSCRIBE, wire.UNSUBSCRIBE) else 0
    for flags in set(range(16)) - {right}:
        peer = joined(version)
        peer.send(wire.packet(kind, flags, body_of(kind, version)))
        peer.refused(MALFORMED)


def test_connect_flags_in_the_fixed_header(open_peer, version):
    """CONNECT itself with reserved flags.

    [MQTT3-2.2.2-2] [MQTT5-2.1.3-1]
    """
    for flags in range(1, 16):
        peer = open_peer(version)
        peer.send(wire.packet(wire.CONNECT, flags, wire.split(wire.connect(version, "x"))[2]))
        packet = peer.receive()
        if packet is not None:
            assert version == V5 and packet.kind == wire.CONNACK and packet.reason == MALFORMED
            peer.closed()


def test_type_0(joined, version):
    """Packet type 0 is forbidden in every version.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    peer = joined(version)
    peer.send(b"\0\0")
    peer.refused(MALFORMED)


def test_type_15_in_3(joined):
    """AUTH does not exist in 3.1.1: type 15 is forbidden there.

    [MQTT3-4.8.0-1]
    """
    peer = joined(V311)
    peer.send(wire.auth())
    peer.closed()


SERVER_ONLY = {
    "CONNACK": lambda v: wire.packet(wire.CONNACK, 0, b"\0\0\0" if v == V5 else b"\0\0"),
    "SUBACK": lambda v: wire.packet(wire.SUBACK, 0, b"\0\1\0\0" if v == V5 else b"\0\1\0"),
    "UNSUBACK": lambda v: wire.packet(wire.UNSUBACK, 0, b"\0\1\0\0" if v == V5 else b"\0\1"),
    "PINGRESP": lambda v: wire.packet(wire.PINGRESP, 0),
}


@pytest.mark.parametrize("build", SERVER_ONLY.values(), ids=SERVER_ONLY.keys())
def test_packets_only_servers_send(joined, version, build):
    """A client that sends a server's packet is at fault.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    peer = joined(version)
    peer.send(build(version))
    peer.refused(PROTOCOL_ERROR)


LENGTHS = {
    "five bytes": b"\x81\x80\x80\x80\x01",
    "five bytes, zero": b"\x80\x80\x80\x80\x00",
    "zero in two": b"\x80\x00",
    "zero in three": b"\x80\x80\x00",
    "zero in four": b"\x80\x80\x80\x00",
}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS.keys())
def test_bad_remaining_length(joined, version, length):
    """Remaining lengths that take a fifth byte, or more bytes than they need.

    [MQTT5-1.5.5-1] [MQTT3-4.8.0-1]
    """
    peer = joined(version)
    peer.send(b"\xc0" + length)
    peer.refused(MALFORMED)


def test_bad_remaining_length_of_connect(open_peer):
    """The same before anything is known of the client: the end, without a word.

    [MQTT5-1.5.5-1] [MQTT3-3.1.4-1]
    """
    for length in (b"\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x01", b"\x8c\x80\x00"):
        peer = open_peer(V311)
        peer.send(b"\x10" + length + wire.connect(V311, "")[2:])
        peer.closed()


def test_huge_remaining_length_before_connect(open_peer):
    """A CONNECT that announces 256 MiB is refused at its header: nobody waits for the rest.

    [MQTT3-3.1.4-1] [MQTT5-3.1.4-1]
    """
    for _ in range(50):
        peer = open_peer(V311)
        peer.send(b"\x10\xff\xff\xff\x7f")
        peer.closed()


@pytest.mark.parametrize("first", [0x30, 0x32, 0x82, 0xA2, 0x40])
def test_huge_remaining_length(joined, version, first):
    """After CONNECT too, the header is enough: 0x95 in 5.0.

    [MQTT5-3.2.2-15] [MQTT5-4.13.1-1]
    """
    peer = joined(version)
    peer.send(bytes([first]) + b"\xff\xff\xff\x7f")
    peer.refused(0x95)


def test_largest_packet(joined, version, topic):
    """A packet of exactly the maximum size passes; one byte more does not.

    [MQTT5-3.2.2-15]
    """
    size_max = 1 << 20
    peer = joined(version)
    body = size_max - 4  # the type byte and a remaining length of three bytes
    payload = b"x" * (body - len(wire.split(wire.publish(version, topic, b"", 1, 1))[2]))
    largest = wire.publish(version, topic, payload, 1, 1)
    assert len(largest) == size_max
    peer.send(largest)
    peer.accepted(wire.PUBACK, 1)
    peer.send(wire.publish(version, topic, payload + b"x", 1, 2))
    peer.refused(0x95)


EMPTY = {"PINGREQ": wire.PINGREQ, "DISCONNECT": wire.DISCONNECT}


def test_body_where_none_belongs(joined, version):
    """PINGREQ has no body; in 3.1.1 neither has DISCONNECT.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    for kind in EMPTY.values() if version != V5 else (wire.PINGREQ,):
        peer = joined(version)
        peer.send(wire.packet(kind, 0, b"\0"))
        peer.refused(MALFORMED)


@pytest.mark.parametrize("kind", wire.ACKS, ids=[wire.NAMES[kind] for kind in wire.ACKS])
def test_bytes_behind_an_acknowledgement(joined, version, kind):
    """Acknowledgements end where their last field ends.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    tail = b"\x00\x00\x00" if version == V5 else b"\x00"
    peer = joined(version)
    peer.send(wire.packet(kind, 2 if kind == wire.PUBREL else 0, wire.u16(1) + tail))
    peer.refused(MALFORMED)


def test_many_packets_in_one_segment(joined, version, topic):
    """500 packets at once are answered one by one, in order.

    [MQTT3-3.8.4-1] [MQTT3-3.12.4-1] [MQTT5-3.8.4-1] [MQTT5-3.12.4-1]
    """
    peer = joined(version)
    peer.send(*(wire.publish(version, topic, b"x", 1, each) for each in range(1, 501)))
    for each in range(1, 501):
        peer.accepted(wire.PUBACK, each)
    peer.quiet()


def test_stream_ends_inside_a_packet(server, joined, version, topic):
    """A connection cut inside a packet is gone; the part that came has no effect.

    [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]
    """
    watcher = joined(version)
    watcher.subscribe(topic)
    whole = wire.publish(version, topic, b"half")
    for cut in range(1, len(whole)):
        with Peer(server, version) as peer:
            peer.connect(will=wire.Will(topic, b"cut"))
            peer.send(whole[:cut])
        watcher.take(topic, b"cut")
    watcher.quiet()
