"""Topic filters and the options of a subscription."""

import pytest

MATCHES = [
    ("{t}/#", "{t}", True),
    ("{t}/#", "{t}/a/b", True),
    ("{t}/+", "{t}/a", True),
    ("{t}/+", "{t}", False),
    ("{t}/+", "{t}/", True),
    ("{t}/+", "{t}/a/b", False),
    ("{t}/+/c", "{t}/b/c", True),
    ("{t}/+/c", "{t}//c", True),
    ("{t}/a", "{t}/A", False),
    ("{t}/a", "{t}/a/", False),
    ("+/+", "{t}/a", True),
    ("+/+", "{t}/a/b", False),
    ("#", "{t}/a", True),
    ("#", "${t}/a", False),
    ("+/a", "${t}/a", False),
    ("${t}/#", "${t}/a", True),
    ("{t}/\u00e9\u4e2d/#", "{t}/\u00e9\u4e2d/x", True),
]


@pytest.mark.parametrize("row", MATCHES, ids=lambda row: f"{row[0]} {row[1]}")
def test_match(new_client, topic, row):
    """Wildcards and `$` names. Section 4.7 of both specifications."""
    topic_filter, name, matches = row[0].format(t=topic), row[1].format(t=topic), row[2]
    client = new_client()
    client.subscribe(topic_filter, 1)
    publisher = new_client()
    for qos in (0, 1):
        assert publisher.publish(name, str(qos), qos) in (0, 0x10)
    found = [m for m in client.settle() if m.topic == name]
    assert sorted(m.payload for m in found) == ([b"0", b"1"] if matches else [])


def test_overlap_is_one_message(new_client, topic, version):
    """Filters that overlap bring a message once, at the highest QoS among them, with the
    identifiers of all. [MQTT3-3.3.5-1] [MQTT5-3.3.4-3]"""
    client = new_client(version=version)
    extra = [{"SubscriptionIdentifier": n} if version == 5 else {} for n in (1, 2, 3)]
    client.subscribe(f"{topic}/#", 0, **extra[0])
    client.subscribe(f"{topic}/+", 2, **extra[1])
    client.subscribe(f"{topic}/a", 1, **extra[2])
    new_client().publish(f"{topic}/a", b"x", 2)
    message = client.take()
    assert message.qos == 2
    if version == 5:
        assert sorted(message.properties.SubscriptionIdentifier) == [1, 2, 3]
    client.quiet()


def test_a_new_subscription_replaces(new_client, topic, version):
    """The same filter again replaces the old options. [MQTT3-3.8.4-3] [MQTT5-3.8.4-3]"""
    client = new_client(version=version)
    client.subscribe(topic, 0)
    client.subscribe(topic, 2)
    new_client().publish(topic, b"x", 2)
    assert client.take().qos == 2
    client.quiet()


def test_no_local(new_client, topic):
    """Own messages stay away, others' come. [MQTT5-3.8.3-3]"""
    client, other = new_client(), new_client()
    client.subscribe(topic, 1, no_local=True)
    client.publish(topic, b"own", 1)
    client.publish(topic, b"own", 0)
    other.publish(topic, b"other", 1)
    assert client.take().payload == b"other"
    client.quiet()


def test_no_local_offline(new_client, topic):
    """No local holds for what waits for a session too."""
    client = new_client(clean=False, expiry_s=600, manual_ack=True, ReceiveMaximum=1)
    client.subscribe(topic, 1, no_local=True)
    other = new_client()
    other.publish(topic, b"blocks the window", 1)
    held = client.take()
    client.publish(topic, b"own", 1)
    other.publish(topic, b"other", 1)
    client.ack(held)
    assert client.take().payload == b"other"


def test_subscription_identifiers(new_client, topic):
    """Each message tells which subscription it is for. [MQTT5-3.3.4-3] [MQTT5-3.3.4-4]"""
    client = new_client()
    client.subscribe(f"{topic}/a", 1, SubscriptionIdentifier=1)
    client.subscribe(f"{topic}/b", 1, SubscriptionIdentifier=268_435_455)
    client.subscribe(f"{topic}/c", 1)
    publisher = new_client()
    for name in "abc":
        publisher.publish(f"{topic}/{name}", b"", 1)
    found = [client.take() for _ in range(3)]
    assert found[0].properties.SubscriptionIdentifier == [1]
    assert found[1].properties.SubscriptionIdentifier == [268_435_455]
    assert not hasattr(found[2].properties, "SubscriptionIdentifier")


def test_many_filters_in_one_packet(new_client, topic, version):
    """500 filters at once, each with its own code."""
    client = new_client(version=version)
    codes = client.subscribe_all([(f"{topic}/{n}", n % 3) for n in range(500)])
    assert codes == [n % 3 for n in range(500)]
    new_client().publish(f"{topic}/499", b"x", 1)
    assert client.take().topic == f"{topic}/499"


def test_deny_subscribe(make_server, new_client, version):
    """topics.deny_subscribe: 0x87, or 0x80 for 3.1.1; others in the packet are granted."""
    server = make_server(**{"topics.deny_subscribe": ["secret/#", "a/+/b"]})
    client = new_client(to=server, version=version)
    denied = 0x87 if version == 5 else 0x80
    filters = ["secret/#", "secret/x", "a/+/b", "public/#"]
    assert client.subscribe_all([(f, 1) for f in filters]) == [denied, denied, denied, 1]
    new_client(to=server).publish("secret/x", b"", 1)
    client.quiet()


def test_deny_subscribe_of_wildcards_only(make_server, new_client, version):
    """`#` as an entry denies `#` itself and nothing else; wider filters than an entry are granted."""
    server = make_server(**{"topics.deny_subscribe": ["'#'", "a/+"]})
    client = new_client(to=server, version=version)
    denied = 0x87 if version == 5 else 0x80
    rows = {"#": denied, "a/b": denied, "a/+": denied, "a/#": 1, "+/b": 1, "b/#": 1, "+/#": 1, "x": 1}
    assert client.subscribe_all([(f, 1) for f in rows]) == list(rows.values())


def test_limit_of_filters(make_server, new_client, version):
    """limits.filters_per_client: the one too many gets 0x97, or 0x80."""
    server = make_server(**{"limits.filters_per_client": 3})
    client = new_client(to=server, version=version)
    codes = client.subscribe_all([(f"a/{n}", 1) for n in range(4)])
    assert codes == [1, 1, 1, 0x97 if version == 5 else 0x80]
    client.unsubscribe("a/0")
    assert client.subscribe("a/3", 1) == 1
