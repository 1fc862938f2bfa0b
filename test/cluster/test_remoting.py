"""The client itself: frames, headers and stored messages, without any server."""

import struct

import pytest
import remoting
from remoting import Command, Malformed

FIELDS = {"topic": "t", "queueId": 3, "flag": True, "i": "KEYS\x01é\x02", "empty": ""}
AS_TEXT = {"topic": "t", "queueId": "3", "flag": "true", "i": "KEYS\x01é\x02", "empty": ""}


@pytest.mark.parametrize("kind", [remoting.JSON_HEADER, remoting.BINARY_HEADER])
def test_frames_come_back(kind):
    """Encoded and decoded, a command says the same."""
    command = Command(310, FIELDS, b"body\x00", 2**31 - 1, 1, "a remark")
    frame = remoting.frame_of(command, kind)
    assert struct.unpack_from(">I", frame)[0] == len(frame) - 4
    assert frame[4] == kind
    found = remoting.parse_frame(frame[4:])
    assert (found.code, found.fields, found.body) == (310, AS_TEXT, b"body\x00")
    assert (found.opaque, found.remark, found.is_answer) == (2**31 - 1, "a remark", True)


@pytest.mark.parametrize("kind", [remoting.JSON_HEADER, remoting.BINARY_HEADER])
def test_a_truncated_header_is_refused(kind):
    """Cut anywhere, with the length of the header corrected or not."""
    frame = remoting.frame_of(Command(310, FIELDS), kind)[4:]
    for size in range(len(frame)):
        with pytest.raises(Malformed):
            remoting.parse_frame(frame[:size])
    for size in range(len(frame) - 4):
        with pytest.raises(Malformed):
            remoting.parse_frame(struct.pack(">I", kind << 24 | size) + frame[4 : 4 + size])


def test_binary_headers_have_no_large_codes():
    """POP's code does not fit."""
    with pytest.raises(ValueError, match="200050"):
        remoting.frame_of(Command(remoting.POP), remoting.BINARY_HEADER)


def test_keys_without_quotes():
    """As NameSrvs write them; what stands in strings stays."""
    text = '{"a":{0:"{1:2}",-2 : "x\\",3:"},"b":[{4:5}]}'
    assert remoting.loose_json(text) == {"a": {"0": "{1:2}", "-2": 'x",3:'}, "b": [{"4": 5}]}


def stored(topic="t", magic=remoting.MAGIC_V1, sys_flag=0, properties="K\x01v\x02"):
    """A message as a Broker writes it."""
    born = b"\0" * (16 if sys_flag & remoting.BORN_V6 else 4) + struct.pack(">i", 1)
    store = (b"\0" * 15 + b"\1" if sys_flag & remoting.STORE_V6 else b"\x7f\0\0\1")
    length = ">H" if magic == remoting.MAGIC_V2 else ">B"
    rest = (struct.pack(">Iiiqqiq", 0, 2, 0, 7, 100, sys_flag, 11) + born + struct.pack(">q", 12)
            + store + struct.pack(">i", 9876) + struct.pack(">iqi", 0, 0, 4) + b"body"
            + struct.pack(length, len(topic)) + topic.encode()
            + struct.pack(">H", len(properties)) + properties.encode())
    return struct.pack(">iI", len(rest) + 8, magic) + rest


def test_messages_in_a_row():
    """Both magics, both address families, one after the other."""
    long = "x" * 200
    data = (stored() + stored(long, remoting.MAGIC_V2)
            + stored(sys_flag=remoting.BORN_V6 | remoting.STORE_V6))
    first, second, third = remoting.parse_messages(data)
    assert (first.topic, first.queue_id, first.offset, first.position) == ("t", 2, 7, 100)
    assert (first.born_ms, first.stored_ms, first.store_host) == (11, 12, "127.0.0.1:9876")
    assert (first.body, first.properties) == (b"body", {"K": "v"})
    assert second.topic == long
    assert third.store_host == "::1:9876" and third.body == b"body"


def test_a_truncated_message_is_refused():
    """Cut anywhere, with its length corrected or not."""
    data = stored()
    for size in range(1, len(data)):
        with pytest.raises(Malformed):
            remoting.parse_messages(data[:size])
        with pytest.raises(Malformed):
            remoting.parse_messages(struct.pack(">i", size) + data[4:size])


def test_the_offset_in_an_lmq():
    """It stands at the place of the LMQ's name."""
    multi = "INNER_MULTI_DISPATCH\x01%LMQ%a,%LMQ%b\x02INNER_MULTI_QUEUE_OFFSET\x015,6\x02"
    (message,) = remoting.parse_messages(stored(properties=multi))
    assert (message.offset_in("%LMQ%a"), message.offset_in("%LMQ%b")) == (5, 6)
    assert message.offset_in("t") == 7
