"""$SYS topics, with mosquitto's names."""

import re

from tidemq import wait_until

# What mosquitto 2.0 publishes, all of it (`mosquitto_sub -t '$SYS/#'` with clients at work), but the
# bridges' topics, which it has only with bridges: TideMQ has none.
NAMES = {
    "version", "uptime",
    "clients/total", "clients/connected", "clients/disconnected", "clients/active",
    "clients/inactive", "clients/expired", "clients/maximum",
    "heap/current", "heap/maximum",
    "bytes/received", "bytes/sent", "messages/received", "messages/sent", "messages/stored",
    "publish/messages/received", "publish/messages/sent", "publish/messages/dropped",
    "publish/bytes/received", "publish/bytes/sent",
    "retained messages/count", "store/messages/count", "store/messages/bytes",
    "subscriptions/count", "shared_subscriptions/count",
}
LOADS = {
    f"load/{name}/{span}"
    for name in (
        "messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped",
        "bytes/received", "bytes/sent", "sockets", "connections",
    )
    for span in ("1min", "5min", "15min")
}
PREFIX = "$SYS/broker/"


def read_all(client):
    """Subscribes, waits for every name, and returns the values."""
    wanted, found = NAMES | LOADS, {}

    def complete():
        while not client.messages.empty():
            message = client.messages.get()
            found[message.topic.removeprefix(PREFIX)] = message.payload.decode()
        return wanted <= set(found)

    client.subscribe("$SYS/#", 0)
    try:
        wait_until(complete)
    except AssertionError:
        raise AssertionError(f"missing: {sorted(wanted - set(found))}") from None
    return found


def test_names(new_client):
    """Each arrives at once as a retained message, with a value of the expected form."""
    found = read_all(new_client())
    assert found["version"].lower().startswith("tidemq")
    assert re.fullmatch(r"\d+ seconds", found["uptime"])
    for name in NAMES - {"version", "uptime"}:
        assert re.fullmatch(r"\d+", found[name]), (name, found[name])
    for name in LOADS:
        assert re.fullmatch(r"-?\d+\.\d\d", found[name]), (name, found[name])
    own = {name for name in found if name.startswith("load/")} - LOADS
    assert not own, "mosquitto has no such loads"


def test_values_follow_the_traffic(make_server, new_client):
    """They are counted, not made up: each one's number is known after known traffic."""
    server = make_server()
    publisher = new_client(to=server)
    subscriber = new_client(to=server)
    subscriber.subscribe("t/#", 1)
    for number in range(5):
        publisher.publish(f"t/{number}", b"12345678", 1, retain=True)
    for _ in range(5):
        subscriber.take()
    publisher.disconnect()
    watcher = new_client(to=server)
    watcher.subscribe("$SYS/broker/load/publish/received/15min", 0)
    while watcher.take().payload == b"0.00":
        pass
    found = read_all(new_client(to=server))
    assert found["publish/messages/received"] == "5"
    assert found["publish/bytes/received"] == "40"
    assert int(found["publish/messages/sent"]) >= 5
    assert int(found["publish/bytes/sent"]) >= 40
    for name in ("retained messages/count", "store/messages/count", "messages/stored"):
        assert found[name] == "5", name
    assert int(found["store/messages/bytes"]) >= 5 * (8 + 3)
    assert int(found["clients/maximum"]) >= 2
    assert int(found["heap/maximum"]) >= int(found["heap/current"])
    for name in ("messages/received", "messages/sent", "publish/received", "publish/sent",
                 "bytes/received", "bytes/sent", "sockets", "connections"):
        values = [float(found[f"load/{name}/{span}"]) for span in ("1min", "5min", "15min")]
        assert values[0] > values[1] > values[2] > 0, (name, values)


def test_updates(new_client):
    """They come again after sys.interval."""
    client = new_client()
    client.subscribe("$SYS/broker/uptime", 0)
    values = {client.take().payload for _ in range(3)}
    assert len(values) >= 2


def test_nobody_else_publishes_there(new_client):
    """A client's own message to $SYS is refused."""
    client = new_client()
    assert client.publish("$SYS/broker/version", b"mine", 1) >= 0x80


def test_not_with_a_hash(new_client, topic):
    """`#` does not bring them. [MQTT3-4.7.2-1] [MQTT5-4.7.2-1]"""
    client = new_client()
    client.subscribe("#", 0)
    client.subscribe("$SYS/broker/uptime", 0)
    first = client.take()
    while first.topic != "$SYS/broker/uptime":
        first = client.take()
    client.unsubscribe("$SYS/broker/uptime")
    client.settle()
    watcher = new_client()
    watcher.subscribe("$SYS/broker/uptime", 0)
    watcher.take()
    watcher.take()
    assert not [m for m in client.settle() if m.topic.startswith("$")]
