"""State that clients make the server keep: sessions, subscriptions, wills, retained messages."""

import itertools
import os

import pytest
import wire
from conftest import LIMIT, MIB, connected, subscribe_many
from tidemq import wait_until
from wire import PUBACK, UNSUBACK, V5, Will

LONG = bool(os.environ.get("TIDEMQ_LONG"))
QUOTA, UNAVAILABLE_3 = 0x97, 3


def test_a_million_subscriptions_changing(watched, citizen):
    """Subscriptions made and removed over many sessions, again and again: memory is flat from one
    round to the next. In the long run they are a million."""
    sessions, each = (1000, 1000) if LONG else (40, 1000)
    server, watch = watched(limit=1024 * MIB if LONG else LIMIT, **{
        "store.checkpoint_interval": "1s", "limits.filters_per_client": each, "store.tail_bytes": "1MiB"})
    good = citizen(server)
    peers = [connected(server, f"s{n}", clean=False)[0] for n in range(sessions)]
    resident = []
    for turn in range(3):
        for number, peer in enumerate(peers):
            names = [f"deep/{turn}/{number}/{n}/+" for n in range(each)]
            assert subscribe_many(peer, names) == [1] * each
        assert server.metrics()["tidemq_subscriptions"] == sessions * each + 1
        for number, peer in enumerate(peers):
            names = [f"deep/{turn}/{number}/{n}/+" for n in range(each)]
            peer.send(wire.unsubscribe(4, 8, *names))
            peer.pick(UNSUBACK, 8)
        assert server.metrics()["tidemq_subscriptions"] == 1
        resident.append(watch.now())
    assert resident[2] <= resident[1] * 1.1 + 2 * MIB, [f"{r / MIB:.1f}" for r in resident]
    good.served(within_s=10)
    for peer in peers:
        peer.close()


@pytest.fixture(name="until_refused")
def fixture_until_refused():
    """Connects clients that keep something until one is refused; closes them at the end."""
    peers = []

    def until_refused(make, most=200_000):
        for number in range(most):
            peer, code = make(number)
            peers.append(peer)
            if code:
                return number, code
        raise AssertionError("nobody was refused")

    yield until_refused
    for peer in peers:
        peer.close()


def test_subscriptions_until_memory_is_full(watched, citizen, until_refused):
    """SUBACK says 0x97, with 3.1.1 0x80; who is there is served; with room again it is granted."""
    server, _ = watched(**{"limits.filters_per_client": 100_000})
    good = citizen(server)
    numbers = itertools.count()

    def one(number):
        peer = connected(server, f"s{number}", version=V5)[0]
        for _ in range(10):
            names = [f"deep/{next(numbers)}/{'x' * 50}/+" for _ in range(500)]
            codes = subscribe_many(peer, names)
            if codes[-1] != 1:
                return peer, codes[-1]
        return peer, 0

    _, code = until_refused(one)
    assert code == QUOTA
    used = server.metrics()["tidemq_memory_used"]
    assert LIMIT / 2 < used <= LIMIT
    good.served(within_s=8)
    old, reason = connected(server, "citizen", clean=False, version=V5)
    assert reason == 0
    seen, kept = set(), []
    while {(4, UNAVAILABLE_3), (5, QUOTA), (9, QUOTA)} - seen:  # what is given back is taken again
        names = [f"deep/{next(numbers)}/{'x' * 50}/+" for _ in range(500)]
        seen.add((9, subscribe_many(old, names)[-1]))
        for version in (4, 5):
            peer, reason = connected(server, f"new{next(numbers)}", version=version)
            kept.append(peer)
            seen.add((version, reason))
        assert len(kept) < 2000
    for peer in kept:
        peer.close()


def test_sessions_and_wills_until_memory_is_full(watched, citizen, until_refused, new_client):
    """CONNACK says 0x97, with 3.1.1 0x03; sessions that are there come back; when some have gone
    there is room for others."""
    server, _ = watched()
    good = citizen(server)
    will = Will("gone/a", bytes(60_000))
    names = itertools.count()

    def one(_):
        return connected(server, f"w{next(names)}", clean=False, will=will, version=V5)

    count, code = until_refused(one)
    assert code == QUOTA and count > 100
    good.served(within_s=8)
    for _ in range(20):  # a checkpoint may have given memory back meanwhile
        refused = connected(server, "new", version=V5)[1], connected(server, "new")[1]
        if refused == (QUOTA, UNAVAILABLE_3):
            break
        until_refused(one)
    assert refused == (QUOTA, UNAVAILABLE_3)
    back = new_client("citizen", to=server, clean=False, expiry_s=600)
    assert back.session_present
    back.publish("citizen/me", b"x", 1)
    assert back.take().payload == b"x"
    for number in range(count // 2):
        peer, code = connected(server, f"w{number}", version=V5)  # clean: the session ends
        peer.close()
        assert code == 0
    wait_until(lambda: server.metrics()["tidemq_memory_used"] < LIMIT * 3 / 4, what="room")
    assert new_client("new", to=server).connected


def test_retained_messages_until_memory_is_full(watched, citizen):
    """PUBACK says 0x97 for one more topic; those that are there can be replaced and removed."""
    server, _ = watched(**{"retention.bytes": "1GiB", "limits.topic_levels": 8})
    good = citizen(server)
    peer, _ = connected(server, "keeper", version=V5)
    name = "kept/" + "x" * 2000 + "/{}"
    numbers, refused = itertools.count(), []
    while not refused:
        batch = [next(numbers) for _ in range(200)]
        peer.send(*[wire.publish(V5, name.format(n), b"m", 1, n % 200 + 1, retain=True)
                    for n in batch])
        answers = [peer.receive() for _ in batch]
        assert all(answer.kind == PUBACK for answer in answers)
        refused = [answer for answer in answers if answer.reason >= 0x80]
        assert batch[0] < 500_000
    assert {answer.reason for answer in refused} == {QUOTA}
    assert dict(refused[0].props)["reason_string"] == "memory.limit is reached"
    for payload in (b"new", b""):
        peer.send(wire.publish(V5, name.format(0), payload, 1, 1, retain=True))
        assert peer.receive().reason in (0, 0x10)
    good.served(within_s=8)
