"""Messages from publisher to subscriber: each QoS in both directions, order, sizes, flow."""

import itertools

import pytest


@pytest.mark.parametrize("out_qos", [0, 1, 2])
@pytest.mark.parametrize("in_qos", [0, 1, 2])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_each_qos(new_client, topic, version, in_qos, out_qos):
    """A message arrives once, with the lower of both QoS. [MQTT3-3.8.4-6] [MQTT5-3.8.4-8]"""
    subscriber, publisher = new_client(version=version), new_client(version=version)
    assert subscriber.subscribe(f"{topic}/a", out_qos) == out_qos
    assert publisher.publish(f"{topic}/a", b"payload", in_qos) == 0
    message = subscriber.take()
    assert (message.topic, message.payload) == (f"{topic}/a", b"payload")
    assert message.qos == min(in_qos, out_qos)
    assert not message.retain and not message.dup
    subscriber.quiet()


@pytest.mark.parametrize("pair", list(itertools.product((3, 4, 5), repeat=2)), ids=str)
def test_versions_talk_to_each_other(new_client, topic, pair):
    """A publisher of one version reaches a subscriber of another."""
    publisher, subscriber = (new_client(version=version) for version in pair)
    subscriber.subscribe(f"{topic}/#", 2)
    for qos in (0, 1, 2):
        publisher.publish(f"{topic}/{qos}", bytes([qos]), qos)
    found = {subscriber.take().topic for _ in range(3)}
    assert found == {f"{topic}/{qos}" for qos in (0, 1, 2)}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order(new_client, topic, version, qos):
    """1,000 messages of one publisher arrive in order. [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]"""
    subscriber, publisher = new_client(version=version), new_client(version=version)
    subscriber.subscribe(topic, qos)
    sent = [publisher.start_publish(topic, str(n), qos) for n in range(1000)]
    assert subscriber.take_many(1000) == [str(n) for n in range(1000)]
    if qos:
        assert all(publisher.finish(mid)[0] == 0 for mid in sent)


def test_no_payload(new_client, topic, version):
    """An empty payload is a message."""
    client = new_client(version=version)
    client.subscribe(topic, 1)
    client.publish(topic, b"", 1)
    assert client.take().payload == b""


@pytest.mark.parametrize("size", [127, 128, 16383, 65536, 1_000_000])
def test_sizes(new_client, topic, size):
    """Payloads around the sizes where the encoding of the length changes."""
    client = new_client()
    client.subscribe(topic, 1)
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    client.publish(topic, payload, 1)
    assert client.take().payload == payload


def test_too_large_a_packet(new_client, topic):
    """More than limits.max_packet_size: 0x95, which CONNACK had announced."""
    client = new_client()
    assert client.granted.MaximumPacketSize == 1 << 20
    client.start_publish(topic, b"x" * (1 << 20), 1)
    assert client.closed() == 0x95


def test_one_to_many(new_client, topic):
    """50 subscribers get each of 20 messages once."""
    subscribers = [new_client() for _ in range(50)]
    for number, subscriber in enumerate(subscribers):
        subscriber.subscribe(topic, number % 3)
    publisher = new_client()
    for number in range(20):
        publisher.publish(topic, str(number), 2)
    for subscriber in subscribers:
        assert subscriber.take_many(20) == [str(n) for n in range(20)]
        assert subscriber.messages.empty()


def test_many_to_one(new_client, topic):
    """20 publishers at once: nothing is lost, and each one's order holds."""
    subscriber = new_client()
    subscriber.subscribe(f"{topic}/+", 1)
    publishers = [new_client() for _ in range(20)]
    for number in range(50):
        for who, publisher in enumerate(publishers):
            publisher.start_publish(f"{topic}/{who}", str(number), 1)
    found = {f"{topic}/{who}": [] for who in range(20)}
    for _ in range(1000):
        message = subscriber.take()
        found[message.topic].append(int(message.payload))
    assert all(rows == list(range(50)) for rows in found.values())


def test_keep_alive(new_client):
    """A client that says nothing for one and a half times its keep alive is dropped, and one that
    pings stays. [MQTT3-3.1.2-24] [MQTT5-3.1.2-22]"""
    pinging, silent = new_client(keep_alive_s=1), new_client(keep_alive_s=1)
    silent.paho._send_pingreq = lambda: 0  # paho would end the connection without its answer
    silent.paho._keepalive = 0
    assert silent.closed(timeout_s=10) in (0x8D, 0x80)
    assert pinging.connected


def test_receive_maximum_of_a_subscriber(new_client, topic):
    """Not more than its Receive Maximum is in flight to a client. [MQTT5-3.3.4-9]"""
    slow = new_client(manual_ack=True, ReceiveMaximum=3)
    slow.subscribe(topic, 1)
    publisher = new_client()
    for number in range(10):
        publisher.publish(topic, str(number), 1)
    first = [slow.take() for _ in range(3)]
    assert [m.payload for m in first] == [b"0", b"1", b"2"]
    # The SUBACK comes behind anything that the server would have sent.
    slow.subscribe(f"{topic}/other", 1)
    assert slow.messages.empty()
    slow.ack(first[0])
    assert slow.take().payload == b"3"
    for message in first[1:]:
        slow.ack(message)
    assert slow.take_many(2) == ["4", "5"]


def test_max_inflight(new_client, make_server):
    """limits.max_inflight is the window for all, 3.1.1 clients too."""
    server = make_server(**{"limits.max_inflight": 2})
    for version in (4, 5):
        slow = new_client(to=server, version=version, manual_ack=True)
        slow.subscribe(f"window{version}", 1)
        publisher = new_client(to=server)
        for number in range(4):
            publisher.publish(f"window{version}", str(number), 1)
        held = [slow.take(), slow.take()]
        slow.subscribe("other", 1)
        assert slow.messages.empty()
        slow.ack(held[0])
        assert slow.take().payload == b"2"


def test_retry_interval_for_3(new_client, make_server):
    """With sessions.retry_interval a 3.1.1 client is sent what it did not acknowledge again, with
    DUP; a 5.0 client never is. [MQTT5-4.4.0-1]"""
    server = make_server(**{"sessions.retry_interval": "1s"})
    old = new_client(to=server, version=4, manual_ack=True)
    new = new_client(to=server, version=5, manual_ack=True)
    for client in (old, new):
        client.subscribe("retry", 1)
    new_client(to=server).publish("retry", b"x", 1)
    first, again = old.take(), old.take()
    assert (first.mid, first.dup) == (again.mid, False) and again.dup
    assert new.take().dup is False
    new.subscribe("other", 1)
    assert new.messages.empty()
