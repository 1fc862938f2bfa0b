"""DISCONNECT and PINGREQ. Sections 3.12 and 3.14."""

import pytest
import wire
from wire import MALFORMED, PROTOCOL_ERROR, V5, V311


def test_disconnect_ends_the_connection(joined, version):
    """DISCONNECT is answered by the end of the stream and by nothing else.

    [MQTT3-3.14.4-1] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]
    """
    peer = joined(version)
    peer.end()


def test_nothing_after_disconnect(joined, version, topic):
    """Packets behind a DISCONNECT are not processed.

    [MQTT3-3.14.4-2] [MQTT5-3.14.4-1]
    """
    peer = joined(version)
    peer.send(
        wire.disconnect(version),
        wire.publish(version, topic, b"late", retain=True),
        wire.pingreq(),
    )
    peer.closed()
    after = joined(version)
    after.subscribe(topic)
    after.quiet()


FORMS = {
    "empty": b"",
    "reason": b"\x00",
    "reason and no properties": b"\x00\x00",
    "with will": b"\x04",
    "reason string": b"\x00" + wire.props(("reason_string", "bye")),
    "user properties": b"\x00" + wire.props(("user", ("a", "b")), ("user", ("a", "b"))),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
def test_forms_5(joined, body):
    """Every length of a valid DISCONNECT.

    [MQTT5-3.14.4-2] [MQTT5-3.14.2-1]
    """
    peer = joined()
    peer.send(wire.packet(wire.DISCONNECT, 0, body))
    peer.closed()


BAD = {
    "cut property length": (b"\x00\x05", MALFORMED),
    "bytes behind": (b"\x00\x00\x00", MALFORMED),
    "topic alias": (b"\x00" + wire.props(("topic_alias", 1)), MALFORMED),
    "expiry twice": (b"\x00" + wire.props(*[("session_expiry", 0)] * 2), PROTOCOL_ERROR),
    "reason string twice": (b"\x00" + wire.props(*[("reason_string", "x")] * 2), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_forms_5(joined, case):
    """Malformed DISCONNECTs are answered with their reason.

    [MQTT5-4.13.1-1] [MQTT5-3.14.2-1]
    """
    body, reason = case
    peer = joined()
    peer.send(wire.packet(wire.DISCONNECT, 0, body))
    peer.refused(reason)


def test_unknown_reasons_5(joined):
    """Reason codes that no DISCONNECT has.

    [MQTT5-3.14.2-1]
    """
    for reason in (0x01, 0x03, 0x05, 0x7F, 0x84, 0x91, 0x92, 0xFF):
        peer = joined()
        peer.send(wire.disconnect(V5, reason))
        peer.refused(PROTOCOL_ERROR)


def test_exact_pingresp(joined, version):
    """C0 00 is answered with D0 00, each of them.

    [MQTT3-3.12.4-1] [MQTT5-3.12.4-1]
    """
    peer = joined(version)
    peer.send(b"\xc0\x00" * 10)
    for _ in range(10):
        assert peer.receive().raw == b"\xd0\x00"
    peer.quiet()


def test_exact_disconnect_5(joined):
    """The server's DISCONNECT has a reason, at most a reason string, and never an expiry.

    [MQTT5-3.14.2-2] [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] [MQTT5-3.14.2-1]
    """
    peer = joined()
    peer.send(b"\x00\x00")
    found = peer.expect(wire.DISCONNECT, reason=MALFORMED)
    assert {name for name, _ in found.props} <= {"reason_string"}
    peer.closed()


def test_no_disconnect_in_3(joined):
    """3.1.1 knows no DISCONNECT from the server: the stream just ends.

    [MQTT3-4.8.0-1]
    """
    peer = joined(V311)
    peer.send(b"\x00\x00")
    peer.closed()
