"""Sessions: persistent, expiring, taken over, refused twice; what waits for an absent client."""

import pytest
from client import Client, Refused
from tidemq import wait_until

TAKEN_OVER = 0x8E


@pytest.mark.parametrize("qos", [1, 2])
def test_offline_messages_in_order(new_client, topic, version, qos):
    """What was published while the client was away arrives on its return, in order."""
    away = new_client(version=version, clean=False, expiry_s=600)
    away.subscribe(f"{topic}/#", 2)
    away.disconnect()
    publisher = new_client()
    for number in range(200):
        publisher.publish(f"{topic}/{number % 3}", str(number), qos)
    away.connect()
    assert away.session_present
    assert away.take_many(200) == [str(n) for n in range(200)]
    away.quiet()


def test_backlog_then_live(new_client, topic):
    """Messages published while a backlog is being read come behind it."""
    away = new_client(clean=False, expiry_s=600)
    away.subscribe(topic, 1)
    away.disconnect()
    publisher = new_client()
    sent = [publisher.start_publish(topic, str(n), 1) for n in range(3000)]
    for mid in sent:
        publisher.finish(mid)
    away.connect()
    for number in range(3000, 3500):
        publisher.start_publish(topic, str(number), 1)
    assert away.take_many(3500) == [str(n) for n in range(3500)]
    away.quiet()


def test_qos_0_does_not_wait(new_client, topic, version):
    """QoS 0 messages, or QoS 0 subscriptions, keep nothing for an absent client."""
    away = new_client(version=version, clean=False, expiry_s=600)
    away.subscribe_all([(f"{topic}/one", 1), (f"{topic}/zero", 0)])
    away.disconnect()
    publisher = new_client()
    publisher.publish(f"{topic}/zero", b"0", 1)
    publisher.publish(f"{topic}/one", b"1", 1)
    away.connect()
    assert away.take().payload == b"1"
    away.quiet()


def test_clean_start_discards(new_client, topic, version):
    """A clean start forgets subscriptions and messages."""
    client = new_client(version=version, clean=False, expiry_s=600)
    client.subscribe(topic, 1)
    client.disconnect()
    new_client().publish(topic, b"lost", 1)
    fresh = new_client(client.client_id, version=version, clean=True)
    assert not fresh.session_present
    fresh.quiet()
    new_client().publish(topic, b"nobody subscribes", 1)
    fresh.quiet()


def test_clean_session_ends_with_the_connection(new_client, topic, version):
    """Without an expiry nothing outlives the connection. [MQTT3-3.1.2-6] [MQTT5-3.1.2-23]"""
    client = new_client(version=version, clean=True)
    client.subscribe(topic, 1)
    client.drop()
    client = new_client(client.client_id, version=version, clean=False, expiry_s=600)
    assert not client.session_present


def test_session_expires(server, new_client, topic):
    """After its Session Expiry Interval a session is gone, not before."""
    short = new_client(clean=False, expiry_s=1)
    long = new_client(clean=False, expiry_s=600)
    for client in (short, long):
        client.subscribe(topic, 1)
        client.disconnect()
    new_client().publish(topic, b"x", 1)

    def known():
        return {row["client_id"] for row in server.cli_json("client", "list")}

    assert long.client_id in known()
    wait_until(lambda: short.client_id not in known(), what="the expiry of the session")
    short.connect()
    long.connect()
    assert (short.session_present, long.session_present) == (False, True)
    assert long.take().payload == b"x"
    short.quiet()


def test_disconnect_changes_the_expiry(server, new_client, topic):
    """DISCONNECT may shorten or lengthen the life of a session."""
    client = new_client(clean=False, expiry_s=600)
    client.subscribe(topic, 1)
    client.disconnect(SessionExpiryInterval=0)
    client.connect()
    assert not client.session_present
    client.disconnect(SessionExpiryInterval=300)
    row = server.cli_json("client", "show", client.client_id)
    assert (row["online"], row["expiry_s"]) == (False, 300)


def test_the_expiry_has_a_maximum(make_server, new_client):
    """sessions.expiry_max bounds what 5.0 clients ask for, and is what 3.1.1 clients get."""
    server = make_server(**{"sessions.expiry_max": "100s"})
    assert new_client(to=server, clean=False, expiry_s=50).granted.json().get(
        "SessionExpiryInterval", 50) == 50
    assert new_client(to=server, clean=False, expiry_s=0xFFFFFFFF).granted.SessionExpiryInterval == 100
    old = new_client(to=server, version=4, clean=False)
    assert server.cli_json("client", "show", old.client_id)["expiry_s"] == 100


def test_sessions_of_3_expire(make_server, new_client):
    """A 3.1.1 session is gone after sessions.expiry_max too."""
    server = make_server(**{"sessions.expiry_max": "1s"})
    client = new_client(to=server, version=4, clean=False)
    client.subscribe("a", 1)
    client.disconnect()
    wait_until(lambda: not server.cli_json("client", "list"), what="the expiry of the session")
    client.connect()
    assert not client.session_present


def test_take_over(new_client, topic, version):
    """The same client ID again: the older connection ends, the session goes on."""
    older = new_client(version=version, clean=False, expiry_s=600)
    older.subscribe(topic, 1)
    newer = new_client(older.client_id, version=version, clean=False, expiry_s=600)
    assert newer.session_present
    reason = older.closed()
    if version == 5:
        assert reason == TAKEN_OVER
    new_client().publish(topic, b"x", 1)
    assert newer.take().payload == b"x"
    newer.quiet()


def test_take_over_resends_what_was_in_flight(new_client, topic, version):
    """Unacknowledged messages go to the newer connection with DUP and the same packet ID."""
    older = new_client(version=version, clean=False, expiry_s=600, manual_ack=True)
    older.subscribe(topic, 1)
    publisher = new_client()
    for number in range(5):
        publisher.publish(topic, str(number), 1)
    held = [older.take() for _ in range(5)]
    older.ack(held[0])
    older.ack(held[1])
    # The order of packets: behind this SUBACK both PUBACKs have been seen.
    older.subscribe(f"{topic}/other", 1)
    newer = new_client(older.client_id, version=version, clean=False, expiry_s=600)
    again = [newer.take() for _ in range(3)]
    assert [(m.payload, m.mid, m.dup) for m in again] == [
        (m.payload, m.mid, True) for m in held[2:]]
    newer.quiet()


def test_many_take_overs(server, new_client, topic):
    """A client ID fought over by many connections ends with one owner and no loss."""
    name = f"{topic}-fought"
    clients = [Client(server, name, clean=False, expiry_s=600).connect() for _ in range(20)]
    last = clients[-1]
    last.subscribe(topic, 1)
    for client in clients[:-1]:
        assert client.closed() == TAKEN_OVER
    new_client().publish(topic, b"x", 1)
    assert last.take().payload == b"x"
    rows = [r for r in server.cli_json("client", "list") if r["client_id"] == name]
    assert len(rows) == 1 and rows[0]["online"]
    last.disconnect()


def test_duplicate_client_id_reject(make_server, new_client, version):
    """sessions.duplicate_client_id: reject refuses the newer connection; once the older has gone,
    the ID is free."""
    server = make_server(**{"sessions.duplicate_client_id": "reject"})
    older = new_client("same", to=server, version=version)
    with pytest.raises(Refused):
        new_client("same", to=server, version=version)
    older.subscribe("a", 1)
    older.publish("a", b"x", 1)
    assert older.take().payload == b"x"
    older.disconnect()
    assert new_client("same", to=server, version=version).connected


def test_assigned_client_id(new_client):
    """An empty client ID gets one that no other has; 3.1.1 clients must be clean for that."""
    first, second = new_client(""), new_client("")
    ids = {first.granted.AssignedClientIdentifier, second.granted.AssignedClientIdentifier}
    assert len(ids) == 2 and "" not in ids
    again = new_client(first.granted.AssignedClientIdentifier)
    assert again.connected and first.closed() == TAKEN_OVER
    assert new_client("", version=4, clean=True).connected


def test_server_keep_alive(make_server, new_client):
    """limits.keep_alive_max is told to who asks for more, or for none. [MQTT5-3.2.2-21]"""
    server = make_server(**{"limits.keep_alive_max": "30s"})
    assert new_client(to=server, keep_alive_s=600).granted.ServerKeepAlive == 30
    assert "ServerKeepAlive" not in new_client(to=server, keep_alive_s=10).granted.json()


def test_subscriptions_survive(server, new_client, topic):
    """A resumed session has its subscriptions, with their options."""
    client = new_client(clean=False, expiry_s=600)
    client.subscribe(f"{topic}/a", 2, no_local=True)
    client.subscribe(f"{topic}/b", 1, as_published=True, SubscriptionIdentifier=7)
    client.disconnect()
    client.connect()
    rows = server.cli_json("client", "show", client.client_id)["subscriptions"]
    assert {(r["filter"], r["qos"]) for r in rows} == {(f"{topic}/a", 2), (f"{topic}/b", 1)}
    client.publish(f"{topic}/a", b"own", 1)
    new_client().publish(f"{topic}/b", b"kept", 1, retain=True)
    message = client.take()
    assert message.retain and message.properties.SubscriptionIdentifier == [7]
    new_client().publish(f"{topic}/b", b"", 1, retain=True)
    assert client.take().payload == b""
    client.quiet()


def test_unsubscribe_ends_delivery(new_client, topic, version):
    """Nothing new arrives for a filter that is no more; 5.0 is told when there was none."""
    client = new_client(version=version)
    client.subscribe(topic, 1)
    client.publish(topic, b"1", 1)
    assert client.take().payload == b"1"
    codes = client.unsubscribe(topic, f"{topic}/never")
    if version == 5:
        assert codes == [0, 0x11]
    new_client().publish(topic, b"2", 1)
    client.quiet()
