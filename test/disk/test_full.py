"""A full disk: a small ext4 of its own, really full.

Publishers get 0x97, or with 3.1.1 no acknowledgement; readers go on; it is said; and when there is
room again the server goes on by itself. What was acknowledged is there after a kill.
"""

import re

import pytest
import wire
from client import Refused
from tidemq import StartFailed, wait_until
from wire import DISCONNECT, PUBACK, PUBREC, V5, V311, Peer

KIB, MIB = 1 << 10, 1 << 20
QUOTA = 0x97
CONFIG = {"store.segment_size": "4MiB", "store.pool_segments": 1, "store.tail_bytes": "1MiB"}


class Publisher:
    """Publishes numbered messages at QoS 1 or 2 and knows which were acknowledged."""

    def __init__(self, server, version, topic, qos, size=16 * KIB):
        self.server, self.version, self.topic, self.qos = server, version, topic, qos
        self.size = size
        self.acknowledged, self.refusal, self.count = [], None, 0
        self.peer = None

    def publish(self):
        """One message; True when it was acknowledged. A refusal is kept as it came."""
        if self.peer is None:
            self.peer = Peer(self.server, self.version)
            self.peer.connect()
        name = f"{self.topic}-{self.count}"
        self.count += 1
        self.peer.send(wire.publish(self.version, self.topic, name.encode().ljust(self.size), self.qos, 7))
        answer = self.peer.receive()
        if answer is None or answer.kind == DISCONNECT:
            self.refusal = answer
            self.close()
            return False
        assert answer.kind == (PUBACK if self.qos == 1 else PUBREC)
        if (answer.reason or 0) >= 0x80:
            self.refusal = answer
            return False
        self.acknowledged.append(name)
        if self.qos == 2:
            self.peer.ack(wire.PUBREL, 7)
            self.peer.expect(wire.PUBCOMP, packet_id=7)
        return True

    def close(self):
        """Drops the connection."""
        if self.peer:
            self.peer.close()
        self.peer = None


def not_ready(server):
    """What /readyz says against being ready, or None."""
    status, _, text = server.http("/readyz", token=False)
    return text if status == 503 else None


def fill_up(publishers, most=4000):
    """Publishes in turn until every publisher has been refused."""
    for _ in range(most):
        accepted = [publisher.publish() for publisher in publishers]
        if not any(accepted):
            return
    raise AssertionError("the disk never was full")


def all_there(new_client, server, publishers):
    """A session that was away gets all that was acknowledged, each publisher's in order."""
    away = new_client("away", to=server, clean=False, expiry_s=600)
    assert away.session_present
    wanted = {publisher.topic: publisher.acknowledged for publisher in publishers}
    found = {topic: [] for topic in wanted}
    while any(names and names[-1] not in found[topic] for topic, names in wanted.items()):
        message = away.take()
        found[message.topic].append(message.payload.decode().rstrip())
    for topic, names in wanted.items():
        assert [name for name in found[topic] if name in set(names)] == names
        assert len(set(found[topic])) == len(found[topic])
    away.disconnect()


def test_full_and_room_again(make_disk, make_server, new_client):
    """All versions and QoS; readers and their backlog; SUBSCRIBE; status; then room, and a kill."""
    disk = make_disk(64)
    disk.fill(leave=24 * MIB)
    server = make_server(data_dir=disk.path / "data", **CONFIG)
    for name, topic in (("away", "+"), ("reader", "a"), ("backlog", "a")):
        client = new_client(name, to=server, clean=False, expiry_s=600)
        client.subscribe(topic, 2)
        client.disconnect()
    reader = new_client("reader", to=server, clean=False, expiry_s=600)
    publishers = [Publisher(server, V5, "a", 1), Publisher(server, V5, "b", 2),
                  Publisher(server, V311, "c", 1), Publisher(server, V311, "d", 2)]
    fill_up(publishers)
    for publisher in publishers[:2]:
        assert publisher.refusal.reason == QUOTA, publisher.refusal
        assert dict(publisher.refusal.props)["reason_string"] == "storage takes no writes at present"
    for publisher in publishers[2:]:
        assert publisher.refusal is None, "3.1.1 has no word for it: the connection ends"
    assert "No space left on device" in wait_until(lambda: not_ready(server), what="/readyz")
    assert server.metrics()["tidemq_store_writable"] == 0
    status = server.cli("status", check=False)
    assert "No space left on device" in status.stdout + status.stderr
    # Readers go on: the one that is connected, one that comes for its backlog, and QoS 0.
    count = len(publishers[0].acknowledged)
    assert [m.split()[0] for m in reader.take_many(count)] == publishers[0].acknowledged
    backlog = new_client("backlog", to=server, clean=False, expiry_s=600)
    assert backlog.session_present
    assert [m.split()[0] for m in backlog.take_many(count)] == publishers[0].acknowledged
    live = new_client(to=server)
    live.subscribe("a/q0", 0)
    live.publish("a/q0", b"still here", 0)
    assert live.take().payload == b"still here"
    # What would have to be stored is refused, and the connection stays.
    assert backlog.subscribe("new", 1) == QUOTA
    assert backlog.unsubscribe("a") == [0x83]
    assert backlog.connected
    with pytest.raises(Refused):
        new_client("fresh", to=server, clean=False, expiry_s=600)
    # Room again: without a restart.
    disk.empty()
    wait_until(lambda: not not_ready(server), what="the server being ready")
    for publisher in publishers:
        publisher.close()
        assert publisher.publish()
    assert backlog.subscribe("new", 1) == 1
    server.restart(kill=True)
    all_there(new_client, server, publishers)


def test_full_at_the_start(make_disk, make_server, new_client):
    """Killed on a full disk. The next start finds no room at all: it says so, or, when LMDB has free
    pages of its own, serves readers and refuses publishers. With room it has everything."""
    disk = make_disk(64)
    disk.fill(leave=24 * MIB)
    server = make_server(data_dir=disk.path / "data", **CONFIG)
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe("a", 1)
    away.disconnect()
    publisher = Publisher(server, V5, "a", 1)
    fill_up([publisher])
    publisher.close()
    server.kill()
    disk.fill()
    try:
        server.start()
    except StartFailed as failed:
        assert re.search(r"could not start: .*No space left on device", str(failed))
    else:
        fill_up([publisher])
        publisher.close()
        server.kill()
    disk.empty()
    server.start()
    publisher.publish()
    wait_until(lambda: not not_ready(server), what="the server being ready")
    publisher.close()
    assert publisher.publish()
    all_there(new_client, server, [publisher])


def test_no_room_for_a_new_server(make_disk, make_server):
    """Nothing can be made on a full disk: one sentence says so, and with room it starts."""
    disk = make_disk(16)
    server = make_server(start=False, data_dir=disk.path / "data", **CONFIG)
    disk.fill()
    with pytest.raises(StartFailed) as failed:
        server.start()
    assert re.search(r"could not start: .*No space left on device", str(failed.value)), failed.value
    disk.empty()
    server.start()
