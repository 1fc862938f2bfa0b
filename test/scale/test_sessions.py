"""Very many durable sessions with one subscription each: what they cost, how the server starts with
them, and that nothing walks over all of them while others wait."""

import json
import struct
import time

import crowd
import pytest
from tidemq import wait_until

SESSION_BYTES = 1610  # of memory: a million sessions in 1.5 GiB
DISK_BYTES = 700  # in LMDB
LOG_BYTES = 1500  # of log, for a session that comes, subscribes and goes


def cpu_s(server):
    """Processor time of the server so far."""
    return time.clock_gettime((~server.process.pid << 3) | 2)


def stalls_are_none(server):
    """No turn of the loop had too much to do."""
    longest = server.metrics()["tidemq_loop_cpu_longest_us"]
    assert longest <= crowd.TURN_MAX_US, f"one turn computed for {longest / 1000:.0f} ms"


def deliver_to_some(server, count, step):
    """A message for some of the sessions, which are there and get it."""
    publisher = crowd.Peer(server, "publisher", True)
    numbers = range(0, count, step)
    for number in numbers:
        publisher.sock.sendall(crowd.publish_packet(f"crowd/{number}/state",
                                                    struct.pack(">Q", number), 1, 1))
        assert publisher.packet() == (0x40, b"\0\1")
    for number in numbers:
        peer = crowd.Peer(server, crowd.session_id(number), False)
        assert peer.present
        kind, body = peer.packet()
        assert kind >> 4 == 3 and body[-8:] == struct.pack(">Q", number)
        size = struct.unpack(">H", body[:2])[0]
        peer.sock.sendall(b"\x40\x02" + body[2 + size : 4 + size])
        peer.leave()
    publisher.leave()


def list_all(server, limit):
    """All client IDs, page by page."""
    found, after = [], ""
    while True:
        page = json.loads(server.http(f"/v1/clients?limit={limit}&after={after}")[2])
        found += [row["client_id"] for row in page["clients"]]
        after = page.get("next")
        if not after:
            return found


def check_there(server, count):
    """All sessions and subscriptions are known."""
    metrics = server.metrics()
    assert metrics["tidemq_sessions"] == count
    assert metrics["tidemq_subscriptions"] == count
    assert metrics["tidemq_queues"] == count


@pytest.mark.timeout(3600)
def test_sessions_are_small_and_come_back(make_server, scale):
    """Made, stopped, killed, changed, killed: they are all there, cost what they may, and what one
    costs does not depend on how many there are."""
    count = scale(20_000, 1_000_000)
    server = make_server(**{"store.segment_size": "64MiB", "store.checkpoint_interval": "5s",
                            "memory.limit": "4GiB",
                            "sys.interval": "1s"})
    base, address = server.rss(), (server.host, server.port)
    half = count // 2
    spent = [cpu_s(server)]
    for first in (0, half):
        assert crowd.run(address, crowd.sessions(half, first)) == half
        spent.append(cpu_s(server))
    assert spent[2] - spent[1] <= 2.5 * (spent[1] - spent[0]), "the second half cost much more"
    check_there(server, count)
    stalls_are_none(server)
    assert server.metrics()["tidemq_store_bytes_total"] <= LOG_BYTES * count
    for kill in (False, True):
        server.restart(kill=kill)
        check_there(server, count)
        per_session = (server.rss() - base) / count
        assert per_session <= SESSION_BYTES, f"{per_session:.0f} bytes a session"
    meta = (server.data_dir / "meta" / "data.mdb").stat().st_blocks * 512
    assert meta <= DISK_BYTES * count + (1 << 20)
    changed = count // 4
    assert crowd.run(address, crowd.sessions(changed, present=True)) == changed
    server.restart(kill=True)
    check_there(server, count)
    deliver_to_some(server, count, count // 40)
    stalls_are_none(server)


@pytest.mark.timeout(3600)
def test_a_list_of_all_clients_costs_each_of_them_once(make_server, scale):
    """Pages come in order, and a page costs the same wherever it is."""
    count = scale(5_000, 200_000)
    server = make_server(**{"store.segment_size": "64MiB"})
    crowd.run((server.host, server.port), crowd.sessions(count))
    expected = sorted(crowd.session_id(number) for number in range(count))
    assert list_all(server, 1000) == expected
    ids = expected[:: count // 200]
    spent = []
    for part in (ids[:50], ids[-50:]):
        before = cpu_s(server)
        for after in part:
            json.loads(server.http(f"/v1/clients?limit=10&after={after}")[2])
        spent.append(cpu_s(server) - before)
    assert max(spent) <= 4 * min(spent) + 0.05
    stalls_are_none(server)


def settle(peer):
    """What the server has written behind is on the disk with this message, which is acknowledged."""
    peer.sock.sendall(crowd.publish_packet("settle/x", b"", 1, 1))
    assert peer.packet()[0] == 0x40


@pytest.mark.timeout(3600)
def test_sessions_that_expire_all_at_once_are_ended_in_parts(make_server, scale):
    """All of them expired while the server was away: it ends them, others are served meanwhile."""
    count = scale(3_000, 200_000)
    expiry_s = scale(8, 60)
    server = make_server(**{"store.segment_size": "64MiB", "sessions.expiry_max": f"{expiry_s}s"})
    crowd.run((server.host, server.port), crowd.sessions(count))
    kept = server.metrics()["tidemq_sessions"]
    server.stop()
    last = time.time()
    wait_until(lambda: time.time() > last + expiry_s, timeout_s=2 * expiry_s,
               what="the time of expiry")
    server.start()
    other = crowd.Peer(server, "other", True)
    while server.metrics()["tidemq_sessions"] > 1:
        other.sock.sendall(b"\xc0\0")
        assert other.packet() == (0xD0, b"")
    # Some may have expired before it was stopped.
    assert server.metrics()["tidemq_sessions_expired_total"] >= kept / 2 > 0
    assert server.metrics()["tidemq_subscriptions"] == 0
    stalls_are_none(server)
    settle(other)
    server.restart(kill=True)
    assert server.metrics()["tidemq_sessions"] == 0
