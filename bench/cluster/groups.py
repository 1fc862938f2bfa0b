"""What 100,000 durable sessions cost a Broker as consumer offsets: a group for each, or one group on
an LMQ for each. The same in etcd stands in the tables of `etcd` (keys per second in batches)."""

import time

import lab
from remoting import CREATE_GROUP, LMQ, UPDATE_OFFSET, BrokerClient

WINDOW = 64


def mib(size):
    """For a table."""
    return f"{size / lab.MIB:.0f}"


def names_of(kind, number):
    """Group and LMQ of a session."""
    return (f"s{number:06}-1" if kind == "group each" else "sessions-1"), f"{LMQ}q{number:06}"


def commits(kind, count, offset):
    """Requests that store an offset for each session."""
    for number in range(count):
        group, queue = names_of(kind, number)
        yield lab.Template(UPDATE_OFFSET, {"consumerGroup": group, "topic": queue, "queueId": 0,
                                           "commitOffset": offset})


def through(server, requests):
    """Sends all over two connections. Returns the rate and the lanes."""
    lanes = []
    for index in range(2):
        lanes.append(lab.Lane(server.client(120), requests[index::2], WINDOW))
    seconds = lab.pump(lanes)
    for lane in lanes:
        lane.client.close()
        assert set(lane.codes) <= {0}, lane.codes
    return len(requests) / seconds, lanes


def wrong_offsets(server, kind, count, offset):
    """How many sessions of a sample have another offset than that."""
    with server.client(60) as client:
        sample = range(0, count, max(1, count // 2000))
        wrong = 0
        for number in sample:
            group, queue = names_of(kind, number)
            wrong += client.query_offset(group, queue) != offset
    return f"{wrong} of {len(sample)}"


def one_kind(kind, count):
    """One row for each step."""
    rows = []

    def row(step, rate="-", latency="-", note="-"):
        rss, anon = server.memory()
        rows.append((kind, step, rate, latency, mib(rss), mib(anon), mib(server.disk()), note))
        lab.say(*rows[-1])

    with lab.broker(heap_mib=1024) as server:
        row("before")
        if kind == "group each":
            requests = [lab.Template(CREATE_GROUP, {}, BrokerClient.group_body(names_of(kind, number)[0]))
                        for number in range(count)]
        else:
            requests = [lab.Template(CREATE_GROUP, {}, BrokerClient.group_body("sessions-1"))]
        rate, lanes = through(server, requests)
        row(f"{len(requests):,} groups created", f"{rate:,.0f}", lab.p50_p99(lanes[0].latencies_s))
        for turn in (1, 2):
            cpu = server.cpu_s()
            rate, lanes = through(server, list(commits(kind, count, turn)))
            row(f"{count:,} offsets stored, time {turn}", f"{rate:,.0f}", lab.p50_p99(lanes[0].latencies_s),
                f"{(server.cpu_s() - cpu) / count * 1e6:.0f} us CPU each")
        server.restart(kill=True)
        row("killed at once, started again", note=f"ready after {server.start_times_s[-1]:.0f} s, wrong "
            f"offsets: {wrong_offsets(server, kind, count, 2)}")
        began = time.monotonic()
        server.stop()
        stopped = time.monotonic() - began
        server.start()
        row("stopped, started again", note=f"stop {stopped:.0f} s, ready after "
            f"{server.start_times_s[-1]:.0f} s, wrong offsets: {wrong_offsets(server, kind, count, 2)}")
    return rows


def run(quick):
    """Prints the table."""
    count = 2000 if quick else 100_000
    rows = [row for kind in ("group each", "one group") for row in one_kind(kind, count)]
    lab.table("Offsets of sessions on an LMQ each (RocksDB, config v2, heap 1 GiB)",
              ("kind", "step", "per second", "p50 / p99 ms", "RSS MiB", "of it anonymous", "disk MiB",
               "note"), rows)
