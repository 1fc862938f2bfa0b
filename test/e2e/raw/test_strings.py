"""UTF-8 in every string field. Sections 1.5.3 of 3.1.1, 1.5.4 and 1.5.7 of 5.0."""

import pytest
import wire
from wire import MALFORMED, V5, V311, Will

BAD = {
    "U+0000": b"a\x00b",
    "surrogate D800": b"\xed\xa0\x80",
    "surrogate DFFF": b"\xed\xbf\xbf",
    "surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "overlong U+0000": b"\xc0\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong of three": b"\xe0\x80\xaf",
    "overlong of four": b"\xf0\x80\x80\xaf",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "lone continuation": b"a\x80",
    "cut sequence": b"a\xe2\x82",
    "bad continuation": b"\xe2\x28\xa1",
    "FF": b"\xff",
}

IN_CONNECT = {
    "client id": wire.connect,
    "will topic": lambda v, bad: wire.connect(v, "x", will=Will(bad)),
    "user name": lambda v, bad: wire.connect(v, "x", user=bad),
}

IN_CONNECT_5 = {
    "user property name": lambda bad: {"properties": [("user", (bad, "v"))]},
    "user property value": lambda bad: {"properties": [("user", ("n", bad))]},
    "auth method": lambda bad: {"properties": [("auth_method", bad)]},
    "will content type": lambda bad: {"will": Will("t", properties=(("content_type", bad),))},
    "will response topic": lambda bad: {"will": Will("t", properties=(("response_topic", bad),))},
    "will user property": lambda bad: {"will": Will("t", properties=(("user", ("n", bad)),))},
}

IN_PACKETS = {
    "topic name": lambda v, bad: wire.publish(v, bad, b"x", 1, 1),
    "SUBSCRIBE filter": lambda v, bad: wire.subscribe(v, 1, "good", bad),
    "UNSUBSCRIBE filter": lambda v, bad: wire.unsubscribe(v, 1, "good", bad),
}

IN_PACKETS_5 = {
    "response topic": lambda bad: wire.publish(
        V5, "t", b"", 1, 1, properties=[("response_topic", bad)]
    ),
    "content type": lambda bad: wire.publish(
        V5, "t", b"", 1, 1, properties=[("content_type", bad)]
    ),
    "PUBLISH user name": lambda bad: wire.publish(
        V5, "t", b"", 1, 1, properties=[("user", (bad, ""))]
    ),
    "PUBLISH user value": lambda bad: wire.publish(
        V5, "t", b"", 1, 1, properties=[("user", ("", bad))]
    ),
    "SUBSCRIBE user": lambda bad: wire.subscribe(V5, 1, "t", properties=[("user", ("", bad))]),
    "UNSUBSCRIBE user": lambda bad: wire.unsubscribe(V5, 1, "t", properties=[("user", ("", bad))]),
    "PUBACK reason": lambda bad: wire.ack(V5, wire.PUBACK, 1, 0, [("reason_string", bad)]),
    "PUBREL user": lambda bad: wire.ack(V5, wire.PUBREL, 1, 0, [("user", (bad, ""))]),
    "DISCONNECT reason": lambda bad: wire.disconnect(V5, 0, [("reason_string", bad)]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("build", IN_CONNECT.values(), ids=IN_CONNECT.keys())
def test_connect(open_peer, version, build, bad):
    """Ill-formed text in the strings of CONNECT.

    [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT3-3.1.3-4] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11]
    [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-3.1.3-4] [MQTT5-3.1.3-11] [MQTT5-3.1.3-12]
    """
    peer = open_peer(version)
    peer.send(build(version, bad))
    if version == V5:
        peer.expect(wire.CONNACK, reason=MALFORMED)
    peer.closed()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_connect_properties(open_peer, bad):
    """Ill-formed text in the properties of CONNECT and of its will.

    [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-1.5.7-1] [MQTT5-3.3.2-13] [MQTT5-3.3.2-19]
    """
    for name, options in IN_CONNECT_5.items():
        peer = open_peer()
        peer.send(wire.connect(V5, "x", **options(bad)))
        assert peer.expect(wire.CONNACK).reason == MALFORMED, name
        peer.closed()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("build", IN_PACKETS.values(), ids=IN_PACKETS.keys())
def test_packets(joined, version, build, bad):
    """Ill-formed text in topic names and filters.

    [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT3-3.3.2-1] [MQTT3-3.8.3-1] [MQTT3-3.10.3-1]
    [MQTT3-4.7.3-2] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-3.3.2-1] [MQTT5-3.8.3-1]
    [MQTT5-3.10.3-1] [MQTT5-4.7.3-2]
    """
    peer = joined(version)
    peer.send(build(version, bad))
    peer.refused(MALFORMED)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_packet_properties(joined, bad):
    """Ill-formed text in properties.

    [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-1.5.7-1] [MQTT5-3.3.2-13] [MQTT5-3.3.2-19]
    """
    for build in IN_PACKETS_5.values():
        peer = joined()
        peer.send(build(bad))
        peer.refused(MALFORMED)


ODD = ["\ufeff", "\u0001", "\u007f", "\u009f", "\ufffe", "\uffff", "\U0010ffff", "\U0001f600", " "]


@pytest.mark.parametrize("odd", ODD, ids=[f"U+{ord(odd):04X}" for odd in ODD])
def test_odd_but_allowed(joined, version, topic, odd):
    """Characters that are unusual yet allowed pass unchanged, U+FEFF at each place too.

    [MQTT3-1.5.3-3] [MQTT5-1.5.4-3] [MQTT3-4.7.3-4] [MQTT5-4.7.3-4]
    """
    peer = joined(version)
    for name in (f"{topic}/{odd}", f"{topic}/a{odd}b", f"{topic}/x{odd}"):
        peer.subscribe((name, 1))
        peer.send(wire.publish(version, name, odd, 1, 9))
        kinds = {}
        for _ in range(2):
            packet = peer.receive()
            kinds[packet.kind] = packet
        assert kinds[wire.PUBLISH].topic == name and kinds[wire.PUBLISH].payload == odd.encode()
        peer.ack(wire.PUBACK, kinds[wire.PUBLISH].packet_id)


def test_no_normalisation(joined, version, topic):
    """Names that look alike but differ in their bytes are different names.

    [MQTT3-4.7.3-4] [MQTT5-4.7.3-4]
    """
    peer = joined(version)
    names = ["\u00e9", "e\u0301", "E", "e", " e", "\ufeffe", "\u212b", "\u00c5", "", "/"]
    for number, name in enumerate(names, 1):
        peer.subscribe(f"{topic}/{name}", packet_id=number)
    for name in names:
        peer.send(wire.publish(version, f"{topic}/{name}", name))
        peer.take(f"{topic}/{name}", name)
    peer.quiet()


def test_ids_are_bytes(open_peer):
    """Client ids are compared as bytes: two forms of one letter are two clients.

    [MQTT3-3.1.3-2] [MQTT5-3.1.3-2]
    """
    composed, decomposed = open_peer(V311), open_peer(V5)
    composed.connect("idé")
    decomposed.connect("ide\u0301")
    composed.quiet()
