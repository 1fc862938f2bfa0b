"""Very many retained messages: a subscription to all of them, with others at work beside it."""

import itertools
import select
import struct

import crowd
import pytest

MIB = 1 << 20
WINDOW = 500
FLAT = 8 * MIB


def topic_of(number):
    """A topic as devices have them: in no order."""
    return f"kept/{number * 2654435761 % 2**32:08x}/{number}"


def fill(server, count):
    """Sets them."""
    peer = crowd.Peer(server, "filler", True)
    for start in range(0, count, WINDOW):
        part = range(start, min(start + WINDOW, count))
        peer.sock.sendall(b"".join(
            crowd.publish_packet(topic_of(n), struct.pack(">Q", n) + bytes(92), 1, n - start + 1,
                                 retain=True) for n in part))
        for _ in part:
            assert peer.packet()[0] == 0x40
    peer.leave()


class Pair:
    """Two clients at work: one message under way at any time, at QoS 1."""

    def __init__(self, server):
        self.sender = crowd.Peer(server, "sender", True)
        self.receiver = crowd.Peer(server, "receiver", True)
        self.receiver.subscribe("work/#")
        self.count = 0
        self.open = 0

    def fds(self):
        """What to wait for."""
        return [self.sender.sock, self.receiver.sock]

    def step(self):
        """Takes what has come; sends the next when the last has arrived and is acknowledged."""
        for peer in (self.sender, self.receiver):
            while self.open and (found := peer.packet(0)):
                kind, body = found
                if kind >> 4 == 3:
                    assert struct.unpack(">Q", body[-8:])[0] == self.count
                    peer.sock.sendall(b"\x40\x02" + body[8:10])
                self.open -= 1
        if self.open == 0:
            self.count += 1
            self.open = 2
            self.sender.sock.sendall(
                crowd.publish_packet("work/1", struct.pack(">Q", self.count), 1, 1))


def walk(server, pair, count, qos):
    """Subscribes to all of them and takes them; what was seen, and how far memory grew."""
    walker = crowd.Peer(server, f"walker{qos}", True)
    before, most = server.rss(), 0
    walker.sock.sendall(crowd.subscribe_packet(["kept/#"], qos))
    assert walker.packet() == (0x90, b"\0\1" + bytes([qos]))
    seen = bytearray(count)
    left = count
    for turn in itertools.count():
        if left == 0:
            break
        if turn % 500 == 0:
            most = max(most, server.rss())
        select.select([walker.sock, *pair.fds()], [], [], 30)
        pair.step()
        answers = []
        while left and (found := walker.packet(0)):
            kind, body = found
            assert kind & 1, "it is a retained one"
            size = struct.unpack(">H", body[:2])[0]
            start = 2 + size + (2 if qos else 0)
            number = struct.unpack(">Q", body[start : start + 8])[0]
            assert body[2 : 2 + size].decode() == topic_of(number)
            assert not seen[number], "twice"
            seen[number] = 1
            left -= 1
            if qos:
                answers.append(b"\x40\x02" + body[2 + size : start])
        walker.sock.sendall(b"".join(answers))
    assert all(seen)
    walker.leave()
    return most - before


@pytest.mark.timeout(3600)
def test_all_retained_messages_are_streamed(make_server, scale):
    """Each comes once, the server's memory stays flat, nobody is held up; also after a restart,
    when nothing of them is in memory, and when the client reads slowly."""
    count = scale(20_000, 1_000_000)
    server = make_server(**{"store.segment_size": "16MiB", "store.tail_bytes": "1MiB",
                            "store.checkpoint_interval": "1s", "memory.limit": "4GiB"})
    fill(server, count)
    assert server.metrics()["tidemq_retained"] == count
    pair = Pair(server)
    for qos in (0, 1):
        worked = pair.count
        grown = walk(server, pair, count, qos)
        assert grown <= FLAT, f"{grown / MIB:.1f} MiB"
        assert pair.count > worked, "the others were held up"
    assert server.metrics()["tidemq_loop_cpu_longest_us"] <= crowd.TURN_MAX_US
    server.restart(kill=True)
    assert server.metrics()["tidemq_retained"] == count
    grown = walk(server, Pair(server), count, 1)
    assert grown <= FLAT, f"{grown / MIB:.1f} MiB"
    metrics = server.metrics()
    assert metrics["tidemq_store_reads_disk_total"] > count * 0.8
    assert metrics["tidemq_loop_cpu_longest_us"] <= crowd.TURN_MAX_US
