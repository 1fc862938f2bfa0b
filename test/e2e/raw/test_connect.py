"""CONNECT and CONNACK, byte by byte: 3.1, 3.1.1 and 5.0 sections 3.1 and 3.2."""

import pytest
import wire
from wire import CONNACK, MALFORMED, PROTOCOL_ERROR, PUBLISH, V5, V31, V311, Will

REFUSED_VERSION_3 = bytes([0x20, 2, 0, 1])
REFUSED_ID_3 = bytes([0x20, 2, 0, 2])


def raw_answer(open_peer, data, version=V311):
    """Everything the server sends in answer to `data` up to the end of the stream."""
    peer = open_peer(version)
    peer.send(data)
    out = b""
    while (packet := peer.receive()) is not None:
        out += packet.raw
    return out


@pytest.mark.parametrize("version", [V31, V311])
def test_accepted_3(open_peer, version):
    """An accepted CONNECT of 3.x is answered with exactly 20 02 00 00.

    [MQTT3-3.1.4-4] [MQTT3-3.2.0-1] [MQTT3-3.2.2-1]
    """
    peer = open_peer(version)
    assert peer.connect().raw == bytes([0x20, 2, 0, 0])
    peer.quiet()


def test_accepted_5(open_peer):
    """An accepted CONNECT of 5.0 gets reason 0 and only what the client needs to know.

    [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.2-1] [MQTT5-3.2.2-2] [MQTT5-3.2.2-22]
    [MQTT5-3.1.2-28] [MQTT5-4.12.0-6] [MQTT5-2.2.2-1]
    """
    peer = open_peer()
    answer = peer.connect(keep_alive=60)
    assert not answer.session_present
    for name in ("server_keep_alive", "response_information", "auth_method", "assigned_client_id"):
        assert answer.get(name) is None, name
    assert answer.get("receive_maximum") == 1024
    assert answer.get("maximum_qos", 2) == 2
    assert answer.get("maximum_packet_size") == 1 << 20
    for name in ("retain_available", "wildcard_available", "shared_available"):
        assert answer.get(name, 1) == 1, name
    assert answer.get("subscription_id_available", 1) == 1
    peer.quiet()


def test_connack_comes_first_and_once(open_peer, version, topic):
    """Packets that follow CONNECT at once are served after the one CONNACK.

    [MQTT3-3.2.0-1] [MQTT5-3.2.0-1] [MQTT5-3.2.0-2]
    """
    peer = open_peer(version)
    peer.send(
        wire.connect(version, peer.client_id),
        wire.subscribe(version, 5, topic),
        wire.publish(version, topic, b"early"),
        wire.pingreq(),
    )
    peer.expect(CONNACK, reason=0)
    kinds = [peer.receive().kind for _ in range(3)]
    assert sorted(kinds) == sorted([wire.SUBACK, PUBLISH, wire.PINGRESP])
    peer.quiet()


def test_one_byte_at_a_time(open_peer, version, topic):
    """The stream has no packet boundaries: every byte in a segment of its own.

    [MQTT5-4.2.0-1] [MQTT3-7.1.1-1]
    """
    peer = open_peer(version)
    stream = wire.connect(version, peer.client_id, will=Will(topic), user="u", password="p")
    stream += wire.subscribe(version, 2, topic) + wire.publish(version, topic, b"x", 1, 3)
    for index in range(len(stream)):
        peer.send(stream[index : index + 1])
    peer.expect(CONNACK, reason=0)
    peer.expect(wire.SUBACK, packet_id=2)
    kinds = {peer.receive().kind, peer.receive().kind}
    assert kinds == {PUBLISH, wire.PUBACK}


@pytest.mark.parametrize("name", [b"mqtt", b"MQTTX", b"MQT", b"", b"HTTP", b"\xff\xff"])
def test_wrong_protocol_name(open_peer, name):
    """Another protocol's name: nothing is revealed, the connection ends.

    [MQTT3-3.1.2-1] [MQTT5-3.1.2-1]
    """
    for level in (V311, V5):
        assert raw_answer(open_peer, wire.connect(level, "x", name=name)) == b""


@pytest.mark.parametrize("name,level", [("MQTT", each) for each in (0, 1, 2, 3)])
def test_old_protocol_level(open_peer, name, level):
    """A level below those of its name gets CONNACK 1, then the end.

    [MQTT3-3.1.2-2] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT5-3.1.2-2]
    """
    assert raw_answer(open_peer, wire.connect(V311, "x", name=name, level=level)) == (
        REFUSED_VERSION_3
    )


@pytest.mark.parametrize("name,level", [("MQIsdp", 4), ("MQIsdp", 5), ("MQIsdp", 2)])
def test_level_of_another_name(open_peer, name, level):
    """MQIsdp is the name of level 3 only.

    [MQTT3-3.1.2-2]
    """
    assert raw_answer(open_peer, wire.connect(V311, "x", name=name, level=level)) == (
        REFUSED_VERSION_3
    )


@pytest.mark.parametrize("level", [6, 7, 0x7F])
def test_future_protocol_level(open_peer, level):
    """A level above 5 gets CONNACK 0x84 in the form of 5.0, then the end.

    [MQTT5-3.1.2-2] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7]
    """
    answer = raw_answer(open_peer, wire.connect(V5, "x", level=level), V5)
    assert answer == bytes([0x20, 3, 0, 0x84, 0])


@pytest.mark.parametrize("level", [0x83, 0x84, 0x85, 0xFF])
def test_bridge_protocol_level(open_peer, level):
    """The bit that bridges of mosquitto set makes a level nobody serves: CONNACK 1, then the end.

    [MQTT3-3.1.2-2]
    """
    assert raw_answer(open_peer, wire.connect(V311, "x", level=level)) == REFUSED_VERSION_3


BAD_FLAGS = {
    "reserved": 0x03,
    "will qos 3": 0x02 | 0x04 | 0x18,
    "will qos without will": 0x02 | 0x08,
    "will qos 2 without will": 0x02 | 0x10,
    "will retain without will": 0x02 | 0x20,
}


@pytest.mark.parametrize("flags", BAD_FLAGS.values(), ids=BAD_FLAGS.keys())
def test_bad_connect_flags(open_peer, version, flags):
    """Connect flags that no version allows.

    [MQTT3-3.1.2-3] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-14] [MQTT3-3.1.2-15]
    [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]
    [MQTT5-3.1.2-3] [MQTT5-3.1.2-11] [MQTT5-3.1.2-12] [MQTT5-3.1.2-13] [MQTT5-3.1.4-1]
    [MQTT5-3.2.2-7]
    """
    peer = open_peer(version)
    peer.send(wire.connect(version, "x", flags=flags, will=Will("t") if flags & 4 else None))
    if version == V5:
        peer.expect(CONNACK, reason=MALFORMED, session_present=False)
    peer.closed()


def test_password_needs_user_name_in_3(open_peer):
    """In 3.1.1 a password without a user name ends the connection.

    [MQTT3-3.1.2-22]
    """
    assert raw_answer(open_peer, wire.connect(V311, "x", password="secret")) == b""


def test_password_alone_in_5(open_peer):
    """In 5.0 a password may come without a user name."""
    open_peer().connect(password="secret")


FIELDS = {
    "user name missing": {"flags": 0x82},
    "password missing": {"flags": 0xC2, "user": "u"},
    "will missing": {"flags": 0x06},
    "user name not announced": {"flags": 0x02, "user": "u"},
    "password not announced": {"flags": 0x82, "user": "u", "password": "p"},
    "will not announced": {"flags": 0x02, "will": Will("t")},
    "bytes behind": {"tail": b"\0"},
}


@pytest.mark.parametrize("options", FIELDS.values(), ids=FIELDS.keys())
def test_payload_against_flags(open_peer, version, options):
    """The payload has exactly the fields that the flags announce, in their order.

    [MQTT3-3.1.2-9] [MQTT3-3.1.2-11] [MQTT3-3.1.2-18] [MQTT3-3.1.2-19] [MQTT3-3.1.2-20]
    [MQTT3-3.1.2-21] [MQTT3-3.1.3-1] [MQTT3-3.1.3-3] [MQTT3-3.1.4-1]
    [MQTT5-3.1.2-9] [MQTT5-3.1.2-16] [MQTT5-3.1.2-17] [MQTT5-3.1.2-18] [MQTT5-3.1.2-19]
    [MQTT5-3.1.3-1] [MQTT5-3.1.3-3] [MQTT5-3.1.4-1]
    """
    peer = open_peer(version)
    peer.send(wire.connect(version, "x", **options))
    if version == V5:
        peer.expect(CONNACK, reason=MALFORMED, session_present=False)
    peer.closed()


@pytest.mark.parametrize("version", [V31, V311, V5])
def test_all_fields_together(open_peer, version, topic):
    """Client id, will, user name and password in their order are accepted.

    [MQTT3-3.1.3-1] [MQTT5-3.1.3-1]
    """
    peer = open_peer(version)
    peer.connect(will=Will(topic, b"w", 1, True), user="user", password=b"\xff\x00")
    peer.end()


CLIENT_IDS = [
    "a",
    "Z",
    "0",
    "0123456789abcdefghijklm",
    "nopqrstuvwxyzABCDEFGHIJ",
    "KLMNOPQRSTUVWXYZ",
]


@pytest.mark.parametrize("client_id", CLIENT_IDS)
def test_client_ids_that_every_server_takes(open_peer, version, client_id):
    """1 to 23 digits and letters.

    [MQTT3-3.1.3-5] [MQTT5-3.1.3-5]
    """
    peer = open_peer(version)
    peer.connect(client_id)
    peer.end()


def test_client_ids_beyond(open_peer, version):
    """Longer ids and other characters are taken too, and told apart byte for byte.

    [MQTT3-3.1.3-2] [MQTT3-3.1.3-4] [MQTT5-3.1.3-2] [MQTT5-3.1.3-4]
    """
    ids = ["x" * 200, "/a/+/#", "\u00e9", "e\u0301", "\ufeffx", "with space", "\U0001f600"]
    peers = []
    for client_id in ids:
        peers.append(open_peer(version))
        peers[-1].connect(client_id)
    for peer in peers:
        peer.quiet()


@pytest.mark.parametrize("version", [V31, V311])
def test_empty_client_id_with_state_in_3(open_peer, version):
    """No client id and CleanSession 0: CONNACK 2, then the end.

    [MQTT3-3.1.3-8] [MQTT3-3.1.3-9] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5]
    """
    assert raw_answer(open_peer, wire.connect(version, "", clean=False)) == REFUSED_ID_3


def test_empty_client_id_in_31(open_peer):
    """3.1 has no server-made client ids."""
    assert raw_answer(open_peer, wire.connect(V31, "", clean=True)) == REFUSED_ID_3


def test_empty_client_id_in_311(open_peer, topic):
    """Each gets an id of its own: neither ends the other.

    [MQTT3-3.1.3-6]
    """
    first, second = open_peer(V311), open_peer(V311)
    first.connect("")
    second.connect("")
    first.subscribe(topic)
    second.publish(topic, b"still there")
    first.take(topic, b"still there")


@pytest.mark.parametrize("clean", [True, False])
def test_assigned_client_id_in_5(open_peer, clean):
    """The id is new, told to the client, and names its session from then on.

    [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16] [MQTT5-3.1.3-2]
    """
    ids = []
    for _ in range(3):
        peer = open_peer()
        answer = peer.connect("", clean=clean, properties=[("session_expiry", 60)])
        ids.append(answer.get("assigned_client_id"))
        peer.end()
    assert all(ids) and len(set(ids)) == 3
    again = open_peer()
    answer = again.connect(ids[0], clean=False)
    assert answer.session_present and answer.get("assigned_client_id") is None


def test_second_connect(joined, version):
    """A second CONNECT ends the connection.

    [MQTT3-3.1.0-2] [MQTT3-4.8.0-1] [MQTT5-3.1.0-2] [MQTT5-4.13.1-1] [MQTT5-4.13.2-1]
    [MQTT5-3.2.0-2]
    """
    peer = joined(version)
    peer.send(wire.connect(version, peer.client_id))
    peer.refused(PROTOCOL_ERROR)


FIRST = {
    "PUBLISH": wire.publish(V311, "t", b"x"),
    "PUBACK": wire.ack(V311, wire.PUBACK, 1),
    "PUBREC": wire.ack(V311, wire.PUBREC, 1),
    "PUBREL": wire.ack(V311, wire.PUBREL, 1),
    "PUBCOMP": wire.ack(V311, wire.PUBCOMP, 1),
    "SUBSCRIBE": wire.subscribe(V311, 1, "#"),
    "UNSUBSCRIBE": wire.unsubscribe(V311, 1, "#"),
    "PINGREQ": wire.pingreq(),
    "DISCONNECT": wire.disconnect(V311),
    "AUTH": wire.auth(0x18, [("auth_method", "x")]),
    "CONNACK": bytes([0x20, 2, 0, 0]),
    "type 0": bytes([0, 0]),
    "CONNECT with flags": b"\x11" + wire.connect(V311, "x")[1:],
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100f1010000ed0303") + bytes(235),
}


@pytest.mark.parametrize("data", FIRST.values(), ids=FIRST.keys())
def test_first_packet_is_connect(open_peer, data):
    """Anything but CONNECT at first: the end, without a word.

    [MQTT3-3.1.0-1] [MQTT5-3.1.0-1] [MQTT5-3.14.0-1] [MQTT5-3.2.0-1]
    """
    assert raw_answer(open_peer, data) == b""


def test_nothing_after_a_refused_connect(open_peer, joined, version, topic):
    """What follows a refused CONNECT in the same segment is not processed.

    [MQTT3-3.1.4-5] [MQTT5-3.1.4-6] [MQTT5-3.14.0-1]
    """
    peer = open_peer(version)
    peer.send(
        wire.connect(version, "x", flags=0x03),
        wire.publish(version, topic, b"no", retain=True),
        wire.pingreq(),
    )
    if version == V5:
        peer.expect(CONNACK, reason=MALFORMED)
    peer.closed()
    after = joined(version)
    after.subscribe(topic)
    after.quiet()


CONNECT_PROPERTIES = {
    "receive maximum 0": ([("receive_maximum", 0)], PROTOCOL_ERROR),
    "maximum packet size 0": ([("maximum_packet_size", 0)], PROTOCOL_ERROR),
    "request problem 2": ([("request_problem", 2)], PROTOCOL_ERROR),
    "request response 2": ([("request_response", 2)], PROTOCOL_ERROR),
    "auth data alone": ([("auth_data", b"x")], PROTOCOL_ERROR),
    "session expiry twice": ([("session_expiry", 1)] * 2, PROTOCOL_ERROR),
    "receive maximum twice": ([("receive_maximum", 9)] * 2, PROTOCOL_ERROR),
    "maximum packet size twice": ([("maximum_packet_size", 99)] * 2, PROTOCOL_ERROR),
    "alias maximum twice": ([("topic_alias_maximum", 9)] * 2, PROTOCOL_ERROR),
    "request problem twice": ([("request_problem", 1)] * 2, PROTOCOL_ERROR),
    "request response twice": ([("request_response", 1)] * 2, PROTOCOL_ERROR),
    "topic alias": ([("topic_alias", 1)], MALFORMED),
    "will delay outside the will": ([("will_delay", 1)], MALFORMED),
    "reason string": ([("reason_string", "x")], MALFORMED),
    "assigned id": ([("assigned_client_id", "x")], MALFORMED),
    "unknown identifier": ([b"\x7f\x00"], MALFORMED),
    "identifier 0": ([b"\x00\x00"], MALFORMED),
    "identifier of two bytes": ([b"\xa6\x00\x00\x01a\x00\x01b"], MALFORMED),
    "value cut short": ([b"\x11\x00\x00"], MALFORMED),
}


@pytest.mark.parametrize("case", CONNECT_PROPERTIES.values(), ids=CONNECT_PROPERTIES.keys())
def test_bad_connect_properties(open_peer, case):
    """Properties that are wrong in CONNECT are answered with their reason in CONNACK.

    [MQTT5-3.1.4-1] [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-3.2.2-8] [MQTT5-1.5.5-1]
    """
    properties, reason = case
    peer = open_peer()
    peer.send(wire.connect(V5, "x", properties=properties))
    peer.expect(CONNACK, reason=reason, session_present=False)
    peer.closed()


WILL_PROPERTIES = {
    "will delay twice": ([("will_delay", 1)] * 2, PROTOCOL_ERROR),
    "payload format 2": ([("payload_format", 2)], PROTOCOL_ERROR),
    "content type twice": ([("content_type", "x")] * 2, PROTOCOL_ERROR),
    "topic alias": ([("topic_alias", 1)], MALFORMED),
    "session expiry": ([("session_expiry", 1)], MALFORMED),
    "subscription id": ([("subscription_id", 1)], MALFORMED),
}


@pytest.mark.parametrize("case", WILL_PROPERTIES.values(), ids=WILL_PROPERTIES.keys())
def test_bad_will_properties(open_peer, case):
    """Properties that are wrong in a will.

    [MQTT5-3.1.2-9] [MQTT5-3.1.4-1]
    """
    properties, reason = case
    peer = open_peer()
    peer.send(wire.connect(V5, "x", will=Will("t", properties=properties)))
    peer.expect(CONNACK, reason=reason)
    peer.closed()


WILL_TOPICS = ["a/+", "#", "a/#/b", "+", ""]


@pytest.mark.parametrize("will_topic", WILL_TOPICS)
def test_bad_will_topic(open_peer, version, will_topic):
    """A will needs a topic name: not empty, no wildcards.

    [MQTT3-3.1.3-10] [MQTT3-4.7.1-1] [MQTT3-4.7.3-1] [MQTT5-3.1.3-11] [MQTT5-4.7.0-1]
    [MQTT5-4.7.3-1]
    """
    peer = open_peer(version)
    peer.send(wire.connect(version, "x", will=Will(will_topic)))
    if version == V5:
        peer.expect(CONNACK, reason=0x90, session_present=False)
    peer.closed()


def test_auth_method_is_refused(open_peer):
    """No method exists: CONNACK 0x8C, no AUTH, and the end.

    [MQTT5-4.12.0-1] [MQTT5-4.12.0-4] [MQTT5-3.2.2-7]
    """
    for extra in ([], [("auth_data", b"\0\1")]):
        peer = open_peer()
        peer.send(wire.connect(V5, "x", properties=[("auth_method", "SCRAM-SHA-256"), *extra]))
        peer.expect(CONNACK, reason=0x8C, session_present=False)
        peer.closed()


def test_auth_without_method(joined):
    """AUTH on a connection whose CONNECT named no method is refused.

    [MQTT5-4.12.0-7] [MQTT5-4.12.1-2] [MQTT5-3.15.2-1]
    """
    for packet in (wire.auth(0x18, [("auth_method", "x")]), wire.auth(0x19), wire.packet(15, 0)):
        peer = joined()
        peer.send(packet)
        peer.refused(PROTOCOL_ERROR)


def test_malformed_auth(joined):
    """AUTH with flags, with an unknown reason, or cut short.

    [MQTT5-3.15.1-1] [MQTT5-3.15.2-1]
    """
    peer = joined()
    peer.send(wire.packet(wire.AUTH, 1, b"\x18\x00"))
    peer.refused(MALFORMED)
    for body, reason in ((b"\x01\x00", PROTOCOL_ERROR), (b"\x18\x05\x15\x00", MALFORMED)):
        peer = joined()
        peer.send(wire.packet(wire.AUTH, 0, body))
        peer.refused(reason)


def test_keep_alive(open_peer, joined, version, topic):
    """One and a half keep alives of silence: the end as of a failed network, so the will goes out.

    [MQTT3-3.1.2-24] [MQTT5-3.1.2-22] [MQTT3-3.1.2-8]
    """
    watcher = joined(version)
    watcher.subscribe(topic)
    peer = open_peer(version)
    peer.connect(keep_alive=1, will=Will(topic, b"timed out"))
    peer.refused(0x8D)
    watcher.take(topic, b"timed out")


def test_keep_alive_is_kept_by_any_packet(joined, version):
    """Two connections of equal age: the one that pings outlives the silent one.

    [MQTT3-3.1.2-24] [MQTT5-3.1.2-22] [MQTT3-3.12.4-1] [MQTT5-3.12.4-1]
    """
    silent, talking = joined(version, keep_alive=2), joined(version, keep_alive=2)
    joined(V311, keep_alive=1).closed()
    talking.quiet()
    silent.refused(0x8D)
    talking.quiet()


def test_keep_alive_0_never_ends(open_peer, version, second_passes):
    """Keep alive 0 switches the mechanism off, but for the server's own maximum of 18 hours."""
    peer = open_peer(version)
    answer = peer.connect(keep_alive=0)
    assert answer.get("server_keep_alive", 65535) == 65535
    second_passes()
    peer.quiet()
