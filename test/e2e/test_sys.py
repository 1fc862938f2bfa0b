"""$SYS topics, with mosquitto's names."""

import re

from tidemq import wait_until

NAMES = """
version uptime clients/connected clients/disconnected clients/total clients/maximum
messages/received messages/sent publish/messages/received publish/messages/sent
publish/bytes/received publish/bytes/sent bytes/received bytes/sent
retained\\ messages/count subscriptions/count
""".replace("\\ ", "\0").split()


def test_names(new_client):
    """Each arrives at once as a retained message, with a value of the expected form."""
    client = new_client()
    client.subscribe("$SYS/#", 0)
    wanted = {"$SYS/broker/" + name.replace("\0", " ") for name in NAMES}
    found = {}

    def complete():
        while not client.messages.empty():
            message = client.messages.get()
            found[message.topic] = message.payload.decode()
        return wanted <= set(found)

    try:
        wait_until(complete)
    except AssertionError:
        raise AssertionError(f"missing: {sorted(wanted - set(found))}") from None
    assert found["$SYS/broker/version"].lower().startswith("tidemq")
    assert re.fullmatch(r"\d+ seconds", found["$SYS/broker/uptime"])
    for name in wanted - {"$SYS/broker/version", "$SYS/broker/uptime"}:
        assert re.fullmatch(r"\d+", found[name]), (name, found[name])
    assert int(found["$SYS/broker/clients/connected"]) >= 1


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
