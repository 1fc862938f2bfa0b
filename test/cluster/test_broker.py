"""What a proxy relies on, against a real NameSrv and Broker of both versions."""

import struct
import threading
import time

import pytest
import remoting
from remoting import LMQ, BrokerClient, Refused

PATIENCE_S = 20


def dispatch(*queues):
    """The property that names LMQs."""
    return {"INNER_MULTI_DISPATCH": ",".join(queues)}


def read(broker, queue, count, queue_id=0):
    """`count` messages from the begin of a queue, waiting for them."""
    messages, offset, deadline = [], 0, time.monotonic() + PATIENCE_S
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{queue} has {len(messages)} of {count} messages"
        got = broker.pull(queue, queue_id, offset, suspend_ms=1000)
        messages, offset = messages + got.messages, got.next_offset
    return messages


def test_routes(plain, broker, topic):
    """A topic is in its route as soon as it was created; others are refused."""
    with plain.namesrv.client() as namesrv:
        route = namesrv.route(topic)
        assert route["brokerDatas"][0]["brokerAddrs"] == {"0": plain.broker.address}
        assert route["queueDatas"][0]["writeQueueNums"] == 8
        assert namesrv.brokers() == {"broker-a": {0: plain.broker.address}}
        for unknown in (f"{topic}-no", f"{LMQ}{topic}"):
            with pytest.raises(Refused) as refused:
                namesrv.route(unknown)
            assert refused.value.code == remoting.TOPIC_NOT_EXIST
    assert broker.runtime_info()["bootTimestamp"].isdigit()


@pytest.mark.parametrize("kind", [remoting.JSON_HEADER, remoting.BINARY_HEADER])
def test_a_message_reaches_its_queues(plain, topic, kind):
    """The queue of its topic and each LMQ that it names, with payload and properties as they were."""
    lmqs = [f"{LMQ}{topic}-a", f"{LMQ}{topic}-b"]
    payload = bytes(range(256))
    with BrokerClient(plain.broker.address, kind=kind) as broker:
        broker.send_message(topic, b"first", dispatch(lmqs[1]), queue_id=5)
        broker.send_message(topic, payload, {"KEYS": "k", "mine": "é", **dispatch(*lmqs)}, queue_id=5)
        for queue, queue_id, offset in ((topic, 5, 1), (lmqs[0], 0, 0), (lmqs[1], 0, 1)):
            message = read(broker, queue, offset + 1, queue_id)[-1]
            assert (message.topic, message.body, message.properties["mine"]) == (topic, payload, "é")
            assert message.queue_id == 5 and message.offset == 1  # its topic's, in LMQs, too
            assert message.offset_in(queue) == offset
        assert broker.max_offset(lmqs[1]) == 2


def test_an_lmq_without_messages(broker, topic):
    """Nobody needs to create one."""
    got = broker.pull(f"{LMQ}{topic}")
    assert (got.code, got.messages, got.max_offset) == (remoting.PULL_NOT_FOUND, [], 0)


def test_a_pull_waits_for_a_message(plain, broker, topic):
    """It is answered at once when one comes."""
    queue, times = f"{LMQ}{topic}", {}

    def wait():
        with plain.broker.client() as other:
            times["messages"] = other.pull(queue, suspend_ms=20_000).messages
            times["got"] = time.monotonic()

    read_begin = broker.pull(queue).max_offset
    assert read_begin == 0
    waiter = threading.Thread(target=wait)
    waiter.start()
    broker.send_message(topic, b"x", dispatch(queue))
    sent = time.monotonic()
    waiter.join(PATIENCE_S)
    assert [message.body for message in times["messages"]] == [b"x"]
    assert times["got"] - sent < 4, "it came with the Broker's own look every five seconds only"


def test_refusals(broker, topic):
    """Each with its code."""
    large = b"x" * (5 << 20)
    for fields, body, code in (
        (broker.send_fields(topic), large, 13),
        (broker.send_fields(f"{topic}-no"), b"x", remoting.TOPIC_NOT_EXIST),
    ):
        with pytest.raises(Refused) as refused:
            broker.call(remoting.SEND_V2, fields, body)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        broker.call(29999)
    assert refused.value.code == 3


def test_offsets(broker, topic):
    """Consumer offsets of a group on an LMQ."""
    group, queue = f"g-{topic}", f"{LMQ}{topic}"
    with pytest.raises(Refused) as refused:
        broker.commit_offset(group, queue, 1)
    assert refused.value.code == 26
    broker.create_group(group)
    broker.commit_offset(group, queue, 7)
    assert broker.query_offset(group, queue) == 7


def test_pipelined_requests(broker, topic):
    """Many are under way at once on a connection, and each gets its answer."""
    queue = f"{LMQ}{topic}"
    requests = {broker.send(remoting.SEND_V2, broker.send_fields(topic, dispatch(queue)),
                            struct.pack(">i", number)): number for number in range(500)}
    offsets = {int(broker.receive(opaque).fields["queueOffset"]) for opaque in requests}
    assert offsets == set(range(500))
    bodies = [message.body for message in read(broker, queue, 500)]
    assert sorted(bodies) == [struct.pack(">i", number) for number in range(500)]


def pop(broker, queue, group, count, **options):
    """`count` messages, popped one after the other."""
    popped, deadline = [], time.monotonic() + PATIENCE_S
    while len(popped) < count:
        assert time.monotonic() < deadline, f"popped {len(popped)} of {count} messages"
        popped += broker.pop(queue, group, "broker-a", poll_ms=500, **options)
    return popped


def test_pop_of_an_lmq(broker, topic):
    """Acknowledged messages are gone, others come again after their time."""
    group, queue = f"g-{topic}", f"{LMQ}{topic}"
    broker.create_group(group)
    for body in (b"a", b"b", b"c"):
        broker.send_message(topic, body, dispatch(queue))
    read(broker, queue, 3)
    first = pop(broker, queue, group, 3, invisible_ms=3000)
    assert [popped.message.body for popped in first] == [b"a", b"b", b"c"]
    assert not broker.pop(queue, group, "broker-a")
    broker.ack(first[0])
    kept = broker.change_invisible(first[1], 600_000)
    again = pop(broker, queue, group, 1, invisible_ms=600_000)
    assert [popped.message.body for popped in again] == [b"c"]
    broker.ack(kept)
    broker.ack(again[0])
    assert not broker.pop(queue, group, "broker-a", poll_ms=1000)
