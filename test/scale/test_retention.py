"""Retention while everybody is at work: the disk stays under its bound, and whoever falls behind
is told."""

import collections
import itertools
import select
import struct
import time

import crowd
import pytest
from tidemq import wait_until

MIB = 1 << 20
SEGMENT = MIB
BOUND = 24 * MIB
KEPT = 2000  # retained messages
PAYLOAD = 2048
WINDOW = 200


def numbers_of(peer, timeout_s=30):
    """Takes and acknowledges messages until none comes in time; yields (topic, number)."""
    while True:
        found = peer.packet(timeout_s)
        if not found:
            return
        kind, body = found
        assert kind >> 4 == 3
        size = struct.unpack(">H", body[:2])[0]
        peer.sock.sendall(b"\x40\x02" + body[2 + size : 4 + size])
        yield body[2 : 2 + size].decode(), struct.unpack(">Q", body[4 + size : 12 + size])[0]


class Load:
    """Publishes numbered messages at QoS 1 with a window, and reads along with a session at work."""

    def __init__(self, server):
        self.server = server
        self.sent = self.acknowledged = 0
        self.publisher = crowd.Peer(server, "publisher", True)
        self.reader = crowd.Peer(server, "at-work", False)
        self.reader.subscribe("load/#")
        self.read = 0

    def _publish(self):
        count = WINDOW - (self.sent - self.acknowledged)
        if count < WINDOW // 2:
            return
        self.publisher.sock.sendall(b"".join(
            crowd.publish_packet(f"load/{n % 7}", struct.pack(">Q", n) + bytes(PAYLOAD - 8), 1,
                                 n % WINDOW + 1)
            for n in range(self.sent, self.sent + count)))
        self.sent += count

    def _acknowledged(self):
        while (found := self.publisher.packet(0)):
            assert found[0] == 0x40
            self.acknowledged += 1

    def _read(self):
        for _, number in numbers_of(self.reader, 0):
            assert number == self.read
            self.read += 1

    def step(self):
        """Sends what the window allows and takes what has come."""
        self._publish()
        select.select([self.publisher.sock, self.reader.sock], [], [], 1)
        self._acknowledged()
        self._read()

    def run(self, done):
        """Until done() says so; the session at work has everything then."""
        while not done():
            self.step()
        while self.acknowledged < self.sent or self.read < self.sent:
            select.select([self.publisher.sock, self.reader.sock], [], [], 1)
            self._acknowledged()
            self._read()


def set_retained(server, count, first=0):
    """Retained messages keep/N, each with its number."""
    peer = crowd.Peer(server, "keeper", True)
    for start in range(first, first + count, WINDOW):
        part = range(start, min(start + WINDOW, first + count))
        peer.sock.sendall(b"".join(
            crowd.publish_packet(f"keep/{n}", struct.pack(">Q", n) + bytes(92), 1, n - start + 1,
                                 retain=True) for n in part))
        for _ in part:
            assert peer.packet()[0] == 0x40
    peer.leave()


def disk_use(server):
    """Bytes of log and index files, and of LMDB's."""
    use = collections.Counter()
    for path in server.data_dir.rglob("*"):
        try:
            if path.is_file():
                use[path.parent.name] += path.stat().st_size
        except FileNotFoundError:
            pass  # freed meanwhile
    return use["log"] + use["index"], use["meta"]


def leave_session(server, client_id):
    """An absent session on load/#."""
    absent = crowd.Peer(server, client_id, False)
    absent.subscribe("load/#")
    absent.leave()


def check_absent(server, load, client_id):
    """The session's cursor fell off: it gets what is left, in order, and every message that it does
    not get is counted for it. (Retention may still go on while it reads.)"""
    before = server.metrics()["tidemq_messages_trimmed_total"]
    peer = crowd.Peer(server, client_id, False)
    assert peer.present
    got = []
    for _, number in numbers_of(peer):
        got.append(number)
        if number == load.sent - 1:
            break
    assert all(a < b for a, b in itertools.pairwise(got))
    missed = load.sent - len(got)
    assert got[0] > 0
    assert server.metrics()["tidemq_messages_trimmed_total"] - before == missed
    assert server.cli_json("client", "show", client_id)["trimmed"] == missed
    shown = server.cli("client", "show", client_id).stdout
    assert [line.split()[-1] for line in shown.splitlines() if "rimmed" in line] == [str(missed)]
    peer.leave()
    return len(got)


def check_retained(server, count):
    """All of them are there, each with its own payload."""
    peer = crowd.Peer(server, "looks", True)
    peer.subscribe("keep/#")
    seen = dict(itertools.islice(numbers_of(peer), count))
    assert seen == {f"keep/{n}": n for n in range(count)}
    peer.leave()


def small_store(**more):
    """Everything small, so that much of everything happens."""
    return {
        "store.segment_size": "1MiB", "store.pool_segments": 2, "store.tail_bytes": "1MiB",
        "store.seal_entries": 5000, "store.checkpoint_interval": "1s", **more,
    }


class Watch:
    """Looks at the disk now and then: the most there was."""

    def __init__(self, server):
        self.server = server
        self.most = 0

    def look(self):
        """One look."""
        self.most = max(self.most, disk_use(self.server)[0])


def test_disk_use_stays_under_its_bound_in_bytes(make_server):
    """Four times as much as may be kept is published, with retained messages that live on in the
    oldest part."""
    server = make_server(**small_store(**{"retention.bytes": "24MiB"}))
    leave_session(server, "absent")
    set_retained(server, KEPT)
    load, watch = Load(server), Watch(server)

    def enough():
        watch.look()
        return load.sent * PAYLOAD > 4 * BOUND

    load.run(enough)
    assert watch.most <= BOUND
    assert disk_use(server)[1] <= 4 * MIB
    kept = check_absent(server, load, "absent")
    assert kept * PAYLOAD >= BOUND / 3, "much more was given up than had to be"
    check_retained(server, KEPT)
    metrics = server.metrics()
    assert metrics["tidemq_retained_copied_total"] >= KEPT
    assert metrics["tidemq_loop_cpu_longest_us"] <= crowd.TURN_MAX_US
    set_retained(server, 1)  # acknowledged: what was written behind before it is on the disk too
    for kill in (True, False):
        server.restart(kill=kill)
        check_retained(server, KEPT)
        assert server.cli_json("client", "show", "absent")["trimmed"] > 0
    assert disk_use(server)[0] <= BOUND


@pytest.mark.long
def test_disk_use_stays_under_its_bound_in_time(make_server):
    """Nothing is kept much longer than a minute (the shortest time that may be set), while messages
    keep coming."""
    keep_s = 60
    server = make_server(**small_store(**{"retention.time": f"{keep_s}s",
                                          "retention.bytes": "4GiB"}))
    leave_session(server, "absent")
    set_retained(server, KEPT)
    load = Load(server)
    begun = time.monotonic()
    sent_at = []  # (when, how many had been sent)

    def enough():
        sent_at.append((time.monotonic(), load.sent))
        wait_until(lambda: time.monotonic() > sent_at[-1][0] + 0.1)  # so many messages a second
        return server.metrics()["tidemq_store_segments"] > 0 and time.monotonic() > begun + 3 * keep_s

    load.run(enough)
    # A segment is left after an eighth of the time; it goes when what follows it is too old.
    newest_gone = max(count for when, count in sent_at if when < time.monotonic() - keep_s * 1.5)
    oldest_kept = min(count for when, count in sent_at if when > time.monotonic() - keep_s)
    before = server.metrics()["tidemq_messages_trimmed_total"]
    check_absent(server, load, "absent")
    trimmed = server.metrics()["tidemq_messages_trimmed_total"] - before
    assert newest_gone <= trimmed <= oldest_kept
    check_retained(server, KEPT)
    assert disk_use(server)[0] <= (load.sent - newest_gone) * (PAYLOAD + 256) + 8 * MIB
