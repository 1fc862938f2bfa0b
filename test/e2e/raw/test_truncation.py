"""Every packet of a client, cut before each of its bytes, with the remaining length adjusted.

wire.parse is the referee: a prefix that the specification still allows must be served, any other
must end the connection with the reason that the parser gives.
"""

import pytest
import wire
from wire import PUBACK, PUBREL, V5, V31, V311, Refused, Will

USER = [("user", ("key", "value")), ("user", ("key", "second"))]

WILL_5 = Will(
    "w/t",
    b"will payload",
    2,
    True,
    (
        ("will_delay", 5),
        ("payload_format", 1),
        ("message_expiry", 60),
        ("content_type", "text/plain"),
        ("response_topic", "r/t"),
        ("correlation_data", b"\0\1\2"),
        *USER,
    ),
)

CONNECTS = {
    "3.1": (V31, wire.connect(V31, "cut31", will=Will("w/t"), user="user", password="pass")),
    "3.1.1": (V311, wire.connect(V311, "cut4", will=Will("w/t"), user="user", password="pass")),
    "5.0": (
        V5,
        wire.connect(
            V5,
            "cut5",
            will=WILL_5,
            user="user",
            password="pass",
            properties=[
                ("session_expiry", 30),
                ("receive_maximum", 10),
                ("maximum_packet_size", 1000),
                ("topic_alias_maximum", 5),
                ("request_response", 1),
                ("request_problem", 1),
                *USER,
            ],
        ),
    ),
}

REASON = [("reason_string", "because"), *USER]
PUBLISH_5 = [
    ("payload_format", 1),
    ("message_expiry", 60),
    ("topic_alias", 3),
    ("response_topic", "r/t"),
    ("correlation_data", b"\0\1\2"),
    *USER,
    ("content_type", "text/plain"),
]

PACKETS = {
    "PUBLISH 0": lambda v: wire.publish(v, "c/t", b"load"),
    "PUBLISH 1": lambda v: wire.publish(v, "c/t", b"load", 1, 0x0102, properties=PUBLISH_5),
    "PUBLISH 2": lambda v: wire.publish(v, "c/t", b"load", 2, 0x0102, properties=PUBLISH_5),
    "PUBACK": lambda v: wire.ack(v, PUBACK, 0x0102, 0, REASON),
    "PUBREC": lambda v: wire.ack(v, wire.PUBREC, 0x0102, 0x80, REASON),
    "PUBREL": lambda v: wire.ack(v, PUBREL, 0x0102, 0x92, REASON),
    "PUBCOMP": lambda v: wire.ack(v, wire.PUBCOMP, 0x0102, 0x92, REASON),
    "SUBSCRIBE": lambda v: wire.subscribe(
        v, 0x0102, ("a/b", 1), ("c/+/#", 2), properties=[("subscription_id", 200), *USER]
    ),
    "UNSUBSCRIBE": lambda v: wire.unsubscribe(v, 0x0102, "a/b", "c/+/#", properties=USER),
    "DISCONNECT": lambda v: wire.disconnect(v, 4, [("session_expiry", 0), *REASON]),
    "AUTH": lambda v: wire.auth(0x19, [("auth_method", "x"), ("auth_data", b"\0\1"), *REASON]),
}


def verdict(version, kind, flags, body):
    """0 if the specification allows the packet, else the reason code it is refused with."""
    try:
        wire.parse(version, kind, flags, body)
    except Refused as refused:
        return refused.reason
    return 0


@pytest.mark.parametrize("case", CONNECTS.values(), ids=CONNECTS.keys())
def test_connect_cut(open_peer, case):
    """CONNECT: 5.0 answers from the byte on that tells the version; before it, and in 3.x, silence.

    [MQTT3-3.1.4-1] [MQTT3-3.1.2-9] [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] [MQTT3-3.1.3-1]
    [MQTT5-3.1.4-1] [MQTT5-3.1.2-9] [MQTT5-3.1.2-17] [MQTT5-3.1.2-19] [MQTT5-3.1.3-1]
    """
    version, whole = case
    kind, flags, body = wire.split(whole)
    assert verdict(version, kind, flags, body) == 0
    for size in range(len(body)):
        cut = body[:size]
        reason = verdict(version, kind, flags, cut)
        peer = open_peer(version)
        peer.send(wire.packet(kind, flags, cut))
        if version == V31 and reason == 0 or version == V31 and size >= len(body) - 12:
            # 3.1 lets user name and password be absent although announced
            answer = peer.receive()
            assert answer is None or answer.reason == 0, f"{size} bytes: {answer}"
        elif version == V5 and size >= 7:
            peer.expect(wire.CONNACK, reason=reason, session_present=False)
            peer.closed()
        else:
            peer.closed()
        peer.close()


@pytest.mark.parametrize("build", PACKETS.values(), ids=PACKETS.keys())
def test_packet_cut(joined, version, build):
    """Each packet after CONNECT.

    [MQTT3-4.8.0-1] [MQTT3-2.3.1-1] [MQTT3-3.8.3-3] [MQTT3-3.10.3-2]
    [MQTT5-4.13.1-1] [MQTT5-2.2.1-3] [MQTT5-2.2.2-1] [MQTT5-3.8.3-2] [MQTT5-3.10.3-2]
    """
    kind, flags, body = wire.split(build(version))
    if kind == wire.AUTH and version != V5:
        peer = joined(version)
        peer.send(build(version))
        peer.closed()
        return
    for size in range(len(body)):
        cut = body[:size]
        reason = verdict(version, kind, flags, cut)
        peer = joined(version)
        peer.send(wire.packet(kind, flags, cut))
        if kind == wire.DISCONNECT and not reason:
            peer.closed()
        elif kind == wire.AUTH:
            peer.refused(reason or wire.PROTOCOL_ERROR)
        elif reason:
            peer.refused(reason)
        else:
            peer.drain()
        peer.close()


@pytest.mark.parametrize("build", PACKETS.values(), ids=PACKETS.keys())
def test_property_length_beyond_the_packet(joined, build):
    """A property length that reaches past the end of its packet, by one byte and by far.

    [MQTT5-4.13.1-1] [MQTT5-2.2.2-1]
    """
    kind, flags, body = wire.split(build(V5))
    at = {
        wire.PUBLISH: 5 + (2 if flags & 6 else 0),
        wire.SUBSCRIBE: 2,
        wire.UNSUBSCRIBE: 2,
        wire.DISCONNECT: 1,
        wire.AUTH: 1,
    }.get(kind, 3)
    rest = len(body) - at - 1
    for length in (wire.varint(rest + 1), b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x7f"):
        peer = joined()
        peer.send(wire.packet(kind, flags, body[:at] + length + body[at + 1 :]))
        peer.refused(wire.MALFORMED)
