"""MQTT 5.0: properties of messages and connections."""

import struct
import time

import pytest
import transport
from client import Refused


def test_properties_pass_through(new_client, topic):
    """What a publisher says about its message arrives unchanged, user properties in order.
    [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]"""
    client = new_client()
    client.subscribe(topic, 1)
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("\u4e2d", "\u00e9")]
    sent = {
        "PayloadFormatIndicator": 1, "ContentType": "text/plain", "ResponseTopic": f"{topic}/answer",
        "CorrelationData": bytes(range(256)), "UserProperty": pairs,
    }
    for qos in (0, 1, 2):
        new_client().publish(topic, "text", qos, **sent)
        found = client.take().properties
        for name, value in sent.items():
            assert getattr(found, name) == value, name


def test_properties_survive_waiting(make_server, new_client):
    """The same for a message that waited through kill -9."""
    server = make_server()
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe("a", 1)
    away.disconnect()
    sent = {"ContentType": "x/y", "ResponseTopic": "b", "CorrelationData": b"\0z",
            "UserProperty": [("k", "1"), ("k", "0")]}
    new_client(to=server).publish("a", b"x", 1, **sent)
    server.restart(kill=True)
    away.connect()
    found = away.take().properties
    for name, value in sent.items():
        assert getattr(found, name) == value, name


def test_request_and_response(new_client, topic):
    """A requester gets the answer that belongs to its request."""
    asker, server_side = new_client(), new_client()
    server_side.subscribe(f"{topic}/ask", 1)
    asker.subscribe(f"{topic}/answers", 1)
    asker.publish(f"{topic}/ask", b"2+2", 1, ResponseTopic=f"{topic}/answers", CorrelationData=b"7")
    request = server_side.take()
    server_side.publish(request.properties.ResponseTopic, b"4", 1,
                        CorrelationData=request.properties.CorrelationData)
    answer = asker.take()
    assert (answer.payload, answer.properties.CorrelationData) == (b"4", b"7")


def test_message_expiry(server, new_client, topic):
    """A message that waited longer than its expiry is not delivered and is counted; one that did
    not says what is left. [MQTT5-3.3.2-5] [MQTT5-3.3.2-6]"""
    away = new_client(clean=False, expiry_s=600)
    away.subscribe(topic, 1)
    away.disconnect()
    publisher = new_client()
    before = server.metrics()["tidemq_messages_expired_total"]
    published = time.monotonic()
    publisher.publish(topic, b"short", 1, MessageExpiryInterval=1)
    publisher.publish(topic, b"long", 1, MessageExpiryInterval=100)
    publisher.publish(topic, b"forever", 1)
    watch = new_client(clean=False, expiry_s=60, will={
        "topic": f"{topic}/clock", "qos": 1, "WillDelayInterval": 2})
    publisher.subscribe(f"{topic}/clock", 1)
    watch.drop()
    publisher.take()
    away.connect()
    first = away.take()
    waited = time.monotonic() - published
    assert first.payload == b"long"
    assert 100 - waited - 1 <= first.properties.MessageExpiryInterval <= 98
    assert away.take().payload == b"forever"
    away.quiet()
    assert server.metrics()["tidemq_messages_expired_total"] == before + 1


def test_topic_alias_towards_the_server(new_client, topic):
    """An alias stands for a name once it has been given, and can be given another."""
    subscriber, publisher = new_client(), new_client()
    assert publisher.granted.TopicAliasMaximum >= 2
    subscriber.subscribe(f"{topic}/#", 1)
    publisher.publish(f"{topic}/a", b"1", 1, TopicAlias=1)
    # paho refuses an empty topic without an alias only: this is the form that uses it.
    publisher.finish(publisher.start_publish("", b"2", 1, TopicAlias=1))
    publisher.publish(f"{topic}/b", b"3", 1, TopicAlias=1)
    publisher.finish(publisher.start_publish("", b"4", 1, TopicAlias=1))
    found = [subscriber.take() for _ in range(4)]
    assert [m.topic for m in found] == [f"{topic}/a"] * 2 + [f"{topic}/b"] * 2


def test_topic_alias_of_the_server(new_client, topic):
    """A client that allows one alias gets the name with the first message and the alias alone with
    the next. paho asks for none, hence the bytes. [MQTT5-3.3.2-11]"""
    subscriber = new_client(connect=False)
    publisher = new_client()
    scheme = subscriber.server.scheme
    with transport.open_socket(scheme, subscriber.address) as sock:
        stream = sock.makefile("rb")

        def packet():
            kind = stream.read(1)[0]
            length, shift = 0, 0
            while True:
                byte = stream.read(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return kind, stream.read(length)

        # CONNECT with Topic Alias Maximum 1, then SUBSCRIBE at QoS 0.
        name = f"{topic}-raw".encode()
        body = b"\0\x04MQTT\x05\x02\0\x3c" + b"\x03\x22\0\x01" + struct.pack(">H", len(name)) + name
        sock.sendall(bytes([0x10, len(body)]) + body)
        assert packet()[0] == 0x20
        topic_filter = f"{topic}/#".encode()
        body = b"\0\x01\0" + struct.pack(">H", len(topic_filter)) + topic_filter + b"\0"
        sock.sendall(bytes([0x82, len(body)]) + body)
        assert packet()[0] == 0x90
        known, names, aliased = {}, [], 0
        for number in range(4):
            publisher.publish(f"{topic}/long/name/of/a/topic", str(number), 1)
            kind, body = packet()
            assert kind == 0x30
            size = struct.unpack(">H", body[:2])[0]
            found, props = body[2 : 2 + size].decode(), body[3 + size : 3 + size + body[2 + size]]
            if props[:1] == b"\x23":
                alias = struct.unpack(">H", props[1:3])[0]
                assert alias == 1
                if found:
                    known[alias] = found
                else:
                    aliased += 1
                    found = known[alias]
            names.append(found)
        assert names == [f"{topic}/long/name/of/a/topic"] * 4
        assert aliased == 3


def test_receive_maximum_of_the_server(make_server, new_client):
    """CONNACK names it. [MQTT5-3.3.4-7]"""
    server = make_server(**{"limits.receive_maximum": 5})
    assert new_client(to=server).granted.ReceiveMaximum == 5


def test_maximum_packet_size_of_a_client(server, new_client, topic):
    """A message larger than the client takes is dropped for it alone, and counted.
    [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
    small, large = new_client(MaximumPacketSize=500), new_client()
    for client in (small, large):
        client.subscribe(topic, 1)
    before = server.metrics()["tidemq_messages_too_large_total"]
    publisher = new_client()
    publisher.publish(topic, b"x" * 1000, 1)
    publisher.publish(topic, b"fits", 1)
    assert small.take().payload == b"fits"
    assert [len(large.take().payload) for _ in range(2)] == [1000, 4]
    small.quiet()
    assert server.metrics()["tidemq_messages_too_large_total"] == before + 1


def test_no_matching_subscribers(new_client, topic):
    """A PUBACK that says so, or plain success: both are right; never a failure."""
    assert new_client().publish(f"{topic}/nobody", b"x", 1) in (0, 0x10)


def test_enhanced_authentication_is_refused(new_client):
    """No method exists yet: 0x8C."""
    with pytest.raises(Refused) as refused:
        new_client(AuthenticationMethod="SCRAM-SHA-256", AuthenticationData=b"x")
    assert refused.value.reason == 0x8C


def test_capabilities(new_client):
    """What CONNACK leaves out is available."""
    granted = new_client().granted.json()
    for name in ("RetainAvailable", "WildcardSubscriptionAvailable",
                 "SubscriptionIdentifierAvailable", "SharedSubscriptionAvailable"):
        assert granted.get(name, 1) == 1
    assert granted.get("MaximumQoS", 2) == 2


def test_user_properties_of_other_packets(new_client, topic):
    """CONNECT, SUBSCRIBE and DISCONNECT may carry them."""
    client = new_client(UserProperty=[("who", "me")])
    assert client.subscribe(topic, 1, UserProperty=[("why", "test")]) == 1
    client.publish(topic, b"x", 1)
    assert client.take().payload == b"x"
    client.disconnect(UserProperty=[("bye", "bye")])
