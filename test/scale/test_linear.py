"""Cost grows with the work: what one delivery and one match cost hardly depends on how many there
are. Processor time of the server is compared, in runs of the same length."""

import itertools
import select
import time

import crowd
import pytest

PAYLOAD = bytes(64)
SEED = 2654435761


def cpu_s(server):
    """Processor time of the server so far."""
    return time.clock_gettime((~server.process.pid << 3) | 2)


def take(peers, size):
    """Reads until each has had `size` bytes more."""
    poll = select.poll()
    left = {}
    for peer in peers:
        poll.register(peer.sock, select.POLLIN)
        left[peer.sock.fileno()] = (peer, size)
    while left:
        ready = poll.poll(60_000)
        assert ready, "nothing comes any more"
        for fd, _ in ready:
            peer, missing = left[fd]
            missing -= len(peer.sock.recv(1 << 18))
            assert missing >= 0
            left[fd] = peer, missing
            if missing == 0:
                del left[fd]
                poll.unregister(fd)


def cost_of_delivery(server, subscribers, deliveries):
    """Seconds for each delivery when one message goes to so many subscribers, at QoS 0."""
    peers = [crowd.Peer(server, f"sub{subscribers}-{n}", True) for n in range(subscribers)]
    topic = f"fan/{subscribers}"
    for peer in peers:
        peer.sock.sendall(crowd.subscribe_packet([topic], 0))
        assert peer.packet() == (0x90, b"\0\1\0")
    publisher = crowd.Peer(server, "publisher", True)
    message = crowd.publish_packet(topic, PAYLOAD)
    messages = max(deliveries // subscribers, 1)
    before = cpu_s(server)
    for _ in range(messages):
        publisher.sock.sendall(message)
        take(peers, len(message))
    spent = cpu_s(server) - before
    for peer in [publisher, *peers]:
        peer.leave()
    return spent / (messages * subscribers)


@pytest.mark.timeout(900)
def test_fan_out_costs_each_subscriber_the_same(make_server, scale):
    """1 to 10 to 1,000 (10,000) subscribers."""
    server = make_server(**{"topics.qos0_log": False})
    sizes = [10, 100, 1000] + scale([], [10_000])
    costs = [cost_of_delivery(server, size, 10 * sizes[-1]) for size in sizes]
    shown = ", ".join(f"{size}: {cost * 1e6:.2f} us" for size, cost in zip(sizes, costs))
    # With few subscribers a message's own cost is shared by few, so only growth is looked for.
    for small, large in itertools.combinations(costs, 2):
        assert large <= 2 * small + 1e-6, shown
    print(shown)


def add_filters(server, first, count):
    """Filters with and without wildcards, on one connection, a thousand in a packet."""
    peer = crowd.Peer(server, f"filters-{first}", True)
    for start in range(first, first + count, 1000):
        filters = [f"many/{n * SEED % 2**32:08x}/{'+' if n % 8 == 0 else 'a'}/{n}"
                   for n in range(start, min(start + 1000, first + count))]
        peer.sock.sendall(crowd.subscribe_packet(filters, 0))
        assert peer.packet()[0] == 0x90
    return peer


def cost_of_match(server, count, publishes):
    """Seconds for a publish with a new topic that goes down the tree to its last level, at QoS 0."""
    publisher = crowd.Peer(server, "publisher", True)
    before = cpu_s(server)
    for start in range(0, publishes, 500):
        publisher.sock.sendall(b"".join(
            crowd.publish_packet(f"many/{k * 7919 % count * SEED % 2**32:08x}/a/{count}-{k}", PAYLOAD)
            for k in range(start, start + 500)))
        publisher.sock.sendall(b"\xc0\0")
        assert publisher.packet() == (0xD0, b"")
    spent = cpu_s(server) - before
    publisher.leave()
    return spent / publishes


@pytest.mark.timeout(900)
def test_a_match_hardly_depends_on_the_number_of_filters(make_server, scale):
    """10^3, 10^4, 10^5 (10^6) filters: a match may miss the processor's caches, no more. Adding them
    costs the same each, and never holds up the loop."""
    server = make_server(**{"topics.qos0_log": False, "limits.filters_per_client": 1_000_000,
                            "memory.limit": "4GiB"})
    sizes = [1000, 10_000, 100_000] + scale([], [1_000_000])
    there, holders, added, matched = 0, [], [], []
    for size in sizes:
        before = cpu_s(server)
        holders.append(add_filters(server, there, size - there))
        added.append((cpu_s(server) - before) / (size - there))
        there = size
        matched.append(cost_of_match(server, size, 30_000))
    assert server.metrics()["tidemq_subscriptions"] == there
    shown = ", ".join(f"{size}: {a * 1e6:.2f} and {m * 1e6:.2f} us"
                      for size, a, m in zip(sizes, added, matched))
    print(shown)
    assert max(matched[1:]) <= 4 * matched[0] + 2e-6, shown
    assert max(added[1:]) <= 4 * added[0] + 4e-6, shown
    assert server.metrics()["tidemq_loop_cpu_longest_us"] <= crowd.TURN_MAX_US
    for holder in holders:
        holder.leave()
