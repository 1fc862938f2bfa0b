"""More messages than the disk takes, and readers that do not read."""

import os
import select
import socket
import time

import wire
from conftest import LIMIT, MIB, connected, subscribe_many
from tidemq import wait_until
from wire import PUBACK, V5

LONG = bool(os.environ.get("TIDEMQ_LONG"))
SECONDS = 60 if LONG else 4


def flood(peers, packet, seconds):
    """Sends the packet over and over on all connections, as fast as they take it, and reads away
    what comes. Returns (bytes sent, seconds in which no connection took anything, ended)."""
    sent, stuck, ended = 0, 0.0, 0
    rest = {}
    for peer in peers:
        peer.sock.setblocking(False)
        rest[peer.sock] = memoryview(packet)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end and rest:
        readable, writable, _ = select.select(list(rest), list(rest), [], 0.1)
        if not writable:
            stuck += time.monotonic() - now
        for sock in writable:
            try:
                count = sock.send(rest[sock])
            except BlockingIOError:
                continue
            except OSError:
                ended += 1
                del rest[sock]
                continue
            sent += count
            rest[sock] = rest[sock][count:] or memoryview(packet)
        for sock in readable:
            try:
                if sock in rest and not sock.recv(1 << 16):
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                ended += 1
                rest.pop(sock, None)
    return sent, stuck, ended


def test_more_publishers_than_the_disk_takes(watched, citizen, slow_disk):
    """3.1.1 publishers at QoS 1 send without waiting to a disk of 4 MiB/s: they are slowed down by
    their sockets, nobody is refused or closed, and the well-behaved has its answers."""
    server, _ = watched(env=slow_disk(4 * MIB), **{"store.segment_size": "16MiB"})
    good = citizen(server)
    peers = [connected(server, f"flood{n}")[0] for n in range(20)]
    packet = wire.publish(4, "flood/a", bytes(32 * 1024), 1, 1)
    before = server.metrics()
    sent, stuck, ended = flood(peers, packet, SECONDS)
    after = server.metrics()
    assert ended == 0, "slowed down, not refused"
    assert after["tidemq_publish_refused_total"] == before["tidemq_publish_refused_total"]
    assert stuck > SECONDS * 0.2, f"nobody was slowed: {sent / MIB:.0f} MiB, {stuck:.1f} s"
    written = after["tidemq_store_bytes_total"] - before["tidemq_store_bytes_total"]
    assert written < (SECONDS + 4) * 4 * MIB + 20 * MIB
    good.served(within_s=8)
    for peer in peers:
        peer.close()


def test_a_flood_beyond_receive_maximum_is_refused(watched, citizen):
    """With 5.0 the server has said how many messages may be open: 0x93 for who sends more."""
    server, _ = watched(**{"limits.receive_maximum": 10})
    good = citizen(server)
    peer, reason = connected(server, "flood", version=V5)
    assert reason == 0
    server.signal(19)  # SIGSTOP: so that all of them are open at once
    try:
        peer.send(*[wire.publish(V5, "flood/a", b"x" * 100, 1, n) for n in range(1, 100)])
    finally:
        server.signal(18)  # SIGCONT
    seen = []
    while (found := peer.receive()) is not None:
        seen.append(found)
    assert seen[-1].kind == wire.DISCONNECT and seen[-1].reason == 0x93, seen[-1]
    good.served(within_s=5)


def test_subscribers_that_never_read(watched, citizen):
    """Hundreds of subscribers at QoS 0 and 1 read nothing of 200 MiB: their part stays in the log or
    is dropped, and who reads gets all of his."""
    server, _ = watched(**{"store.segment_size": "16MiB"})
    good = citizen(server)
    count, size = (300, 32 * 1024) if LONG else (100, 32 * 1024)
    stuck = []
    for number in range(2 * count):
        peer = connected(server, f"stuck{number}")[0]
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert subscribe_many(peer, ["wide/#"], number % 2) == [number % 2]
        stuck.append(peer)
    reader = connected(server, "reader", clean=False)[0]
    assert subscribe_many(reader, ["wide/#"]) == [1]
    reader.sock.settimeout(60)
    writer = connected(server, "writer")[0]
    writer.sock.settimeout(60)
    messages = 2000 if LONG else 500
    for number in range(messages):
        writer.send(wire.publish(4, "wide/a", str(number).encode().ljust(size), 1, 1))
        assert writer.receive().kind == PUBACK
        found = reader.receive()
        assert int(found.payload[:20]) == number
        reader.ack(PUBACK, found.packet_id)
    assert server.metrics()["tidemq_publish_qos0_dropped_total"] > 0
    good.served(within_s=8)
    for peer in stuck:
        peer.close()


def test_messages_never_acknowledged(watched, citizen):
    """Subscribers that read and never answer, and publishers that never end QoS 2: what they make
    the server keep is bounded, few messages each when memory is short."""
    server, _ = watched(**{"limits.max_inflight": 65535, "limits.receive_maximum": 65535})
    good = citizen(server)
    peers = []
    for number in range(400 if LONG else 60):
        peer = connected(server, f"mute{number}", version=V5)[0]
        assert subscribe_many(peer, ["many/#"]) == [1]
        peers.append(peer)
    writer = connected(server, "writer")[0]
    for _ in range(60 if LONG else 20):
        writer.send(*[wire.publish(4, "many/a", b"x" * 16, 1, n + 1) for n in range(500)])
        for _ in range(500):
            assert writer.receive().kind == PUBACK
        for peer in peers:
            peer.sock.setblocking(False)
            try:
                while peer.sock.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
    for peer in peers:
        peer.sock.setblocking(True)
        peer.sock.settimeout(30)
        peer.send(*[wire.publish(V5, "qos2/a", b"x", 2, n) for n in range(1, 2000)])
    wait_until(lambda: server.metrics()["tidemq_publish_received_total"]
               >= len(peers) * 1999, timeout_s=60, what="all of QoS 2 having come")
    assert server.metrics()["tidemq_memory_used"] <= LIMIT
    good.served(within_s=8)
    for peer in peers:
        peer.close()
