"""Retained messages: kept, replaced, removed, handled in three ways, still there after kill -9."""

import pytest


@pytest.fixture(name="keep")
def fixture_keep(new_client):
    """Publishes retained messages, and removes them in the end."""
    publisher = new_client()
    topics = set()

    def keep(name, payload, qos=1, **values):
        topics.add(name)
        assert publisher.publish(name, payload, qos, retain=True, **values) in (0, 0x10)

    yield keep
    for name in topics:
        publisher.publish(name, b"", 1, retain=True)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_new_subscribers_get_it(new_client, keep, topic, version, qos):
    """The last retained message comes with RETAIN set, and only that. [MQTT3-3.3.1-6]
    [MQTT5-3.3.1-5]"""
    keep(f"{topic}/a", b"old", qos)
    keep(f"{topic}/a", b"new", qos)
    client = new_client(version=version)
    client.subscribe(f"{topic}/a", 2)
    message = client.take()
    assert (message.payload, message.qos, message.retain) == (b"new", qos, True)
    client.quiet()


def test_live_subscribers_see_no_flag(new_client, keep, topic, version):
    """Who subscribes already gets it like any message. [MQTT3-3.3.1-9] [MQTT5-3.3.1-12]"""
    client = new_client(version=version)
    client.subscribe(topic, 1)
    keep(topic, b"x")
    assert not client.take().retain


def test_empty_removes(new_client, keep, topic, version):
    """An empty payload removes, and is delivered itself. [MQTT3-3.3.1-10] [MQTT5-3.3.1-6]"""
    live = new_client(version=version)
    live.subscribe(topic, 1)
    keep(topic, b"x")
    keep(topic, b"")
    assert live.take_many(2) == ["x", ""]
    late = new_client(version=version)
    late.subscribe(topic, 1)
    late.quiet()


def test_wildcards_find_all(new_client, keep, topic, version):
    """Each matching topic's message comes once; `$` names do not match a leading wildcard."""
    names = [f"{topic}/{a}/{b}" for a in "xyz" for b in range(20)]
    for name in names:
        keep(name, name)
    keep(f"${topic}/x/1", b"hidden")
    client = new_client(version=version)
    client.subscribe(f"{topic}/+/#", 1)
    assert sorted(client.take_many(60)) == sorted(names)
    client.quiet()
    client.subscribe("+/x/1", 1)
    assert client.take().topic == f"{topic}/x/1"
    client.quiet()


def test_retain_handling(new_client, keep, topic):
    """0: at each SUBSCRIBE; 1: for a new subscription only; 2: never. [MQTT5-3.3.1-9]
    [MQTT5-3.3.1-10] [MQTT5-3.3.1-11]"""
    keep(topic, b"x")
    client = new_client()
    client.subscribe(topic, 1, retain=2)
    client.quiet()
    client.subscribe(topic, 1, retain=1)
    client.quiet()
    client.subscribe(topic, 1, retain=0)
    assert client.take().payload == b"x"
    client.unsubscribe(topic)
    client.subscribe(topic, 1, retain=1)
    assert client.take().payload == b"x"
    client.quiet()


def test_retain_as_published(new_client, keep, topic):
    """The flag is kept for who asks. [MQTT5-3.3.1-13]"""
    client = new_client()
    client.subscribe(topic, 1, as_published=True)
    keep(topic, b"x")
    assert client.take().retain
    new_client().publish(topic, b"y", 1)
    assert not client.take().retain


def test_shared_subscriptions_get_none(new_client, keep, topic):
    """No retained messages for a shared subscription (MQTT 5.0, section 4.8.2)."""
    keep(topic, b"x")
    client = new_client()
    client.subscribe(f"$share/g/{topic}", 1)
    client.quiet()


def test_retained_expire(new_client, keep, topic):
    """An expired retained message is not sent; one that lives tells what is left."""
    keep(f"{topic}/short", b"x", MessageExpiryInterval=1)
    keep(f"{topic}/long", b"y", MessageExpiryInterval=100)
    early = new_client()
    early.subscribe(f"{topic}/short", 1)
    assert early.take().payload == b"x"
    # A will with a delay of two seconds is the clock of this test.
    new_client(clean=False, expiry_s=60, will={
        "topic": f"{topic}/clock", "qos": 1, "WillDelayInterval": 2}).drop()
    early.subscribe(f"{topic}/clock", 1)
    assert early.take().topic == f"{topic}/clock"
    late = new_client()
    late.subscribe(f"{topic}/#", 1)
    message = late.take()
    assert message.topic == f"{topic}/long"
    assert 90 <= message.properties.MessageExpiryInterval <= 98
    late.quiet()


def test_retained_survive_kill_9(make_server, new_client):
    """Kept, replaced and removed: all as acknowledged, after kill -9 and after a second one."""
    server = make_server()
    publisher = new_client(to=server)
    for number in range(100):
        publisher.publish(f"kept/{number}", f"old{number}", 1, retain=True)
    for number in range(0, 100, 2):
        publisher.publish(f"kept/{number}", f"new{number}", 2, retain=True)
    for number in range(0, 100, 5):
        publisher.publish(f"kept/{number}", b"", 1, retain=True)
    expected = sorted(("old", "new")[n % 2 == 0] + str(n) for n in range(100) if n % 5)
    for _ in range(2):
        server.restart(kill=True)
        client = new_client(to=server)
        client.subscribe("kept/#", 1)
        assert sorted(client.take_many(len(expected))) == expected
        client.quiet()
        client.disconnect()


def test_retained_outlive_the_log(make_server, new_client):
    """A retained message is still there when retention has removed the segment it was written to."""
    server = make_server(**{"store.segment_size": "1MiB", "retention.bytes": "4MiB",
                            "store.checkpoint_interval": "200ms"})
    publisher = new_client(to=server)
    publisher.publish("kept/a", b"precious", 1, retain=True)
    first = server.cli_json("store", "stats")["first_position"]
    block = bytes(100_000)
    for _ in range(40):
        for _ in range(8):
            publisher.publish("flood", block, 1)
        if server.cli_json("store", "stats")["first_position"] > first + (2 << 20):
            break
    assert server.cli_json("store", "stats")["first_position"] > first + (2 << 20)
    for _ in range(2):
        client = new_client(to=server)
        client.subscribe("kept/#", 1)
        assert client.take().payload == b"precious"
        server.restart(kill=True)
