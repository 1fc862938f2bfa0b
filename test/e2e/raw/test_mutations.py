"""Valid packets with one byte changed, and streams of damaged packets.

wire.parse, with what binds only clients added here, is the referee: the server must take what it
takes and refuse what it refuses. Which of several faults in one packet is told is left open.
"""

import random

import pytest
import wire
from test_truncation import CONNECTS, PACKETS
from wire import DISCONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, V5, V31, Refused

ALIAS_MAX = 64
REASONS = {0x81, 0x82, 0x84, 0x85, 0x8F, 0x90, 0x94, 0x95}
CHANGES = (
    lambda byte: 0x00,
    lambda byte: 0xFF,
    lambda byte: byte ^ 0x80,
    lambda byte: byte ^ 0x01,
    lambda byte: byte ^ 0x02,
    lambda byte: (byte + 1) & 0xFF,
    lambda byte: (byte - 1) & 0xFF,
    lambda byte: ord("#"),
    lambda byte: ord("+"),
)


def filter_check(text):
    """Refuses a filter whose wildcards stand in wrong places."""
    levels = text.split("/")
    for index, level in enumerate(levels):
        if ("+" in level or "#" in level) and len(level) > 1:
            raise Refused(0x8F, text)
        if level == "#" and index < len(levels) - 1:
            raise Refused(0x8F, text)
    if levels[0] == "$share":
        if len(levels) < 3 or not levels[1] or levels[1] in "+#" or not "/".join(levels[2:]):
            raise Refused(0x8F, text)


def filters_check(version, kind, body):
    """Refuses a SUBSCRIBE or UNSUBSCRIBE with a bad filter."""
    reader = wire.Reader(body)
    reader.u16()
    if version == V5:
        wire.read_props(reader, kind)
    while reader.left():
        filter_check(reader.string())
        if kind == SUBSCRIBE:
            reader.byte()


def publish_check(packet):
    """Refuses what only a server may put into a PUBLISH, and bad aliases."""
    if packet.dup and not packet.qos:
        raise wire.malformed("DUP at QoS 0")
    if packet.all("subscription_id"):
        raise wire.protocol_error("subscription id from a client")
    if any(wild in packet.get("response_topic", "x") for wild in "+#"):
        raise wire.protocol_error("wildcard in a response topic")
    alias = packet.get("topic_alias")
    if alias is not None and not 1 <= alias <= ALIAS_MAX:
        raise Refused(0x94, f"alias {alias}")
    if not packet.topic:
        raise wire.protocol_error("an alias that was never set")


def verdict(version, kind, flags, body):
    """0 if a client may send it, else a reason why not."""
    try:
        packet = wire.parse(version, kind, flags, body)
        if kind == PUBLISH:
            publish_check(packet)
        elif kind in (SUBSCRIBE, UNSUBSCRIBE):
            filters_check(version, kind, body)
        elif kind == DISCONNECT and packet.get("session_expiry", 0):
            raise wire.protocol_error("an expiry where CONNECT had none")
        elif kind == wire.AUTH:
            raise wire.protocol_error("AUTH without a method")
    except Refused as refused:
        return refused.reason
    return 0


def mutants(body):
    """Every body with one byte changed, each once."""
    seen = {body}
    for index, byte in enumerate(body):
        for change in CHANGES:
            mutant = body[:index] + bytes([change(byte)]) + body[index + 1 :]
            if mutant not in seen:
                seen.add(mutant)
                yield mutant


def check(peer, kind, reason, mutant):
    """The server's behaviour against the verdict."""
    if not reason:
        if kind == DISCONNECT:
            peer.closed()
        else:
            peer.drain()
        return
    if peer.version == V5:
        out = peer.expect(DISCONNECT)
        assert out.reason in REASONS, f"{out} for {mutant.hex(' ')}, verdict 0x{reason:02x}"
    peer.closed()


@pytest.mark.parametrize("build", PACKETS.values(), ids=PACKETS.keys())
def test_one_byte_changed(joined, version, build):
    """Each packet of a client with each of its bytes changed in nine ways.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1] [MQTT5-4.13.2-1]
    """
    kind, flags, body = wire.split(build(version))
    for mutant in mutants(body):
        peer = joined(version)
        peer.send(wire.packet(kind, flags, mutant))
        reason = verdict(version, kind, flags, mutant)
        try:
            check(peer, kind, reason, mutant)
        except AssertionError as error:
            error.args = (f"{mutant.hex(' ')}, verdict 0x{reason:02x}: {error}",)
            raise
        peer.close()


@pytest.mark.parametrize("case", list(CONNECTS.values())[1:], ids=list(CONNECTS)[1:])
def test_one_byte_of_connect_changed(open_peer, case):
    """CONNECT of 3.1.1 and 5.0, from the connect flags on, likewise.

    [MQTT3-3.1.4-1] [MQTT5-3.1.4-1] [MQTT5-3.1.4-2]
    """
    version, whole = case
    kind, flags, body = wire.split(whole)
    for mutant in mutants(body[7:]):
        mutant = body[:7] + mutant
        reason = connect_verdict(version, mutant)
        peer = open_peer(version)
        peer.send(wire.packet(kind, flags, mutant))
        out = peer.receive()
        shown = f"{mutant.hex(' ')}, verdict 0x{reason:02x}: {out}"
        if not reason:
            assert out is not None and out.kind == wire.CONNACK and not out.reason, shown
            peer.send(wire.disconnect(version))
        elif version == V5:
            assert out is not None and out.kind == wire.CONNACK and out.reason in REASONS, shown
        else:
            assert out is None or out.reason in (1, 2), shown
        peer.close()


def connect_verdict(version, body):
    """The same for CONNECT."""
    try:
        wire.parse(version, wire.CONNECT, 0, body)
        reader = wire.Reader(body[7:])
        flags = reader.byte()
        reader.u16()
        if version == V5:
            wire.read_props(reader, wire.CONNECT)
        client_id = reader.string()
        if not client_id and version != V5 and not flags & 2:
            raise Refused(0x85, "no client id")
        if flags & 4:
            if version == V5:
                will = wire.Packet(wire.WILL, props=wire.read_props(reader, wire.WILL))
                if any(wild in will.get("response_topic", "x") for wild in "+#"):
                    raise wire.protocol_error("wildcard in a response topic")
            topic = reader.string()
            if not topic or any(wild in topic for wild in "+#"):
                raise Refused(0x90, "will topic")
    except Refused as refused:
        return refused.reason
    return 0


@pytest.mark.parametrize("seed", range(8))
def test_damaged_streams(joined, version, seed):
    """Streams of packets with several bytes changed, removed and doubled: what comes back is
    well-formed to its end, and the server serves others.

    [MQTT3-4.8.0-1] [MQTT5-4.13.1-1]
    """
    chance = random.Random(f"{seed} {version}")
    names = [name for name in PACKETS if name != "AUTH" or version == V5]
    for _ in range(40):
        stream = bytearray()
        for name in chance.choices(names, k=4):
            stream += PACKETS[name](version)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(stream))
            what = chance.randrange(3)
            if what == 0:
                stream[at] = chance.randrange(256)
            elif what == 1:
                del stream[at]
            else:
                stream.insert(at, stream[at])
        peer = joined(version)
        peer.send(bytes(stream))
        peer.half_close()
        while peer.receive() is not None:
            pass
        peer.close()
    joined(version).quiet()


def test_damaged_before_connect(open_peer):
    """Bytes without any sense instead of a CONNECT: silence, and the end."""
    chance = random.Random(31)
    for size in range(1, 200):
        peer = open_peer(V31)
        data = bytes(chance.randrange(256) for _ in range(size))
        peer.send(data if data[0] != 0x10 else b"\xff" + data)
        peer.half_close()
        peer.closed()
        peer.close()
