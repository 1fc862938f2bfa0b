"""Shared subscriptions, for 3.1.1 clients too: spread, kept, handed on, still there after kill -9."""

import pytest
from tidemq import wait_until


def collect(members, count):
    """Takes messages of all members until `count` are there: a list for each member."""
    found = [[] for _ in members]

    def complete():
        for at, member in enumerate(members):
            while not member.messages.empty():
                found[at].append(member.messages.get().payload.decode())
        return sum(map(len, found)) >= count

    wait_until(complete, what=f"the arrival of {count} messages")
    return found


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one(new_client, topic, version, qos):
    """Three members get each message once, together, and none gets all."""
    members = [new_client(version=version) for _ in range(3)]
    for member in members:
        assert member.subscribe(f"$share/g/{topic}/#", qos) == qos
    publisher = new_client()
    for number in range(90):
        publisher.publish(f"{topic}/{number}", str(number), qos)
    found = collect(members, 90)
    assert sorted(sum(found, []), key=int) == [str(n) for n in range(90)]
    assert all(found), [len(rows) for rows in found]
    for member in members:
        member.quiet()


def test_groups_and_plain_subscribers_are_apart(new_client, topic):
    """Two groups and an ordinary subscription: each has all messages; one client that has both a
    shared and an ordinary one gets it for each."""
    first, second, plain, both = (new_client() for _ in range(4))
    first.subscribe(f"$share/one/{topic}", 1)
    second.subscribe(f"$share/two/{topic}", 1)
    plain.subscribe(topic, 1)
    both.subscribe(f"$share/three/{topic}", 1)
    both.subscribe(topic, 1)
    publisher = new_client()
    for number in range(10):
        publisher.publish(topic, str(number), 1)
    expected = [str(n) for n in range(10)]
    for client in (first, second, plain):
        assert client.take_many(10) == expected
        client.quiet()
    assert sorted(both.take_many(20)) == sorted(expected * 2)


def test_waits_for_a_durable_member(new_client, topic, version):
    """With all durable members away the group keeps what comes."""
    member = new_client(version=version, clean=False, expiry_s=600)
    member.subscribe(f"$share/g/{topic}", 1)
    member.disconnect()
    publisher = new_client()
    for number in range(50):
        publisher.publish(topic, str(number), 1)
    member.connect()
    assert member.take_many(50) == [str(n) for n in range(50)]
    member.quiet()


def test_an_offline_member_is_passed_over(new_client, topic):
    """A message never waits for an absent member while another one is there."""
    away = new_client(clean=False, expiry_s=600)
    here = new_client(clean=False, expiry_s=600)
    for member in (away, here):
        member.subscribe(f"$share/g/{topic}", 1)
    away.disconnect()
    publisher = new_client()
    for number in range(20):
        publisher.publish(topic, str(number), 1)
    assert here.take_many(20) == [str(n) for n in range(20)]


def test_loss_of_a_member_hands_on(new_client, topic):
    """What a clean member had not acknowledged when it vanished goes to another. [MQTT5-4.8.2-4]"""
    lost = new_client(manual_ack=True)
    lost.subscribe(f"$share/g/{topic}", 1)
    publisher = new_client()
    for number in range(10):
        publisher.publish(topic, str(number), 1)
    held = [lost.take() for _ in range(10)]
    lost.ack(held[0])
    lost.subscribe(f"{topic}/barrier", 1)
    other = new_client()
    other.subscribe(f"$share/g/{topic}", 1)
    lost.drop()
    assert sorted(other.take_many(9), key=int) == [str(n) for n in range(1, 10)]
    other.quiet()


def test_unsubscribe_hands_on(new_client, topic):
    """A member that leaves the group gives back what it has not been sent yet."""
    slow = new_client(manual_ack=True, ReceiveMaximum=1)
    slow.subscribe(f"$share/g/{topic}", 1)
    publisher = new_client()
    for number in range(5):
        publisher.publish(topic, str(number), 1)
    held = slow.take()
    other = new_client()
    other.subscribe(f"$share/g/{topic}", 1)
    slow.unsubscribe(f"$share/g/{topic}")
    slow.ack(held)
    assert {"1", "2", "3", "4"} <= set(other.take_many(4))


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_durable_across_restart(make_server, new_client, version, kill):
    """Members, position and messages of a group outlive the server."""
    server = make_server()
    members = [new_client(f"m{n}", to=server, version=version, clean=False, expiry_s=600)
               for n in range(2)]
    for member in members:
        member.subscribe("$share/g/work/#", 1)
    publisher = new_client(to=server)
    for number in range(10):
        publisher.publish("work/a", str(number), 1)
    collect(members, 10)
    for member in members:
        member.disconnect()
    for number in range(10, 60):
        publisher.publish("work/a", str(number), 1)
    server.restart(kill=kill)
    for member in members:
        member.connect()
        assert member.session_present
    found = sum(collect(members, 50), [])
    extra = {str(n) for n in range(10)}
    if kill:
        # The last moments of acknowledgements may be lost: then old ones come again.
        while not {str(n) for n in range(10, 60)} <= set(found):
            found += sum(collect(members, 1), [])
    assert set(found) - extra == {str(n) for n in range(10, 60)}
    if not kill:
        assert len(found) == 50 and not set(found) & extra


def test_bad_share_names(new_client, topic, version):
    """A share name is not empty and has no wildcard; no-local is refused. [MQTT5-4.8.2-1]"""
    for bad in (f"$share//{topic}", "$share/g/", "$share/g"):
        client = new_client(version=version)
        try:
            code = client.subscribe(bad, 1)
        except AssertionError:
            continue  # the connection was closed: as good an answer
        assert code >= 0x80, bad
    if version == 5:
        client = new_client()
        with pytest.raises(AssertionError):
            client.subscribe(f"$share/g/{topic}", 1, no_local=True)
        assert client.closed() == 0x82


def test_admin_shows_the_group(server, new_client, topic):
    """The client's page shows the subscription with its share name."""
    client = new_client()
    client.subscribe(f"$share/g/{topic}/#", 1)
    rows = server.cli_json("client", "show", client.client_id)["subscriptions"]
    assert [row["filter"] for row in rows] == [f"$share/g/{topic}/#"]
