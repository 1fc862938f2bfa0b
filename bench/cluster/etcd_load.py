"""What etcd sustains through its JSON gateway, which is what a proxy uses: transactions alone and
batched, one member and three, the share of fsync, watches, leases, and what 100,000 keys cost."""

import json
import os
import selectors
import socket
import threading
import time

import lab
from etcd import Etcd, encoded, members_of, put_of, version_is

VALUE = os.urandom(768)  # 1,024 bytes of base64 on the wire; stored are the 768
KIB = os.urandom(1024)
FSYNC = "etcd_disk_wal_fsync_duration_seconds"
COMMIT = "etcd_disk_backend_commit_duration_seconds"


class HttpLane:
    """A connection to the gateway, one request under way."""

    def __init__(self, address, path, bodies):
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.path, self.bodies = path, iter(bodies)
        self.input, self.sent_at, self.latencies_s, self.done = b"", 0.0, [], False

    def fileno(self):
        """For the selector."""
        return self.sock.fileno()

    def next(self):
        """Sends the next request, or is done."""
        body = next(self.bodies, None)
        if body is None:
            self.done = True
            return
        self.sent_at = time.monotonic()
        head = (f"POST /v3/{self.path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.sock.sendall(head.encode() + body)

    def take(self):
        """Reads; when the answer is whole, sends the next."""
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("etcd closed the connection")
        self.input += data
        head, end, body = self.input.partition(b"\r\n\r\n")
        if not end:
            return
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            whole = body.endswith(b"\r\n0\r\n\r\n")
        else:
            whole = len(body) >= next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                                      if line.startswith(b"content-length:"))
        if not whole:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.input
        self.latencies_s.append(time.monotonic() - self.sent_at)
        self.input = b""
        self.next()


def pump(lanes):
    """Runs lanes side by side; returns seconds, latencies and the processor time of this process."""
    began, cpu = time.monotonic(), time.process_time()
    with selectors.DefaultSelector() as selector:
        for lane in lanes:
            selector.register(lane, selectors.EVENT_READ, lane)
            lane.next()
        while not all(lane.done for lane in lanes):
            for key, _ in selector.select(lab.PATIENCE_S):
                key.data.take()
    for lane in lanes:
        lane.sock.close()
    latencies = [value for lane in lanes for value in lane.latencies_s]
    return time.monotonic() - began, latencies, time.process_time() - cpu


def transactions(prefix, count, batch, value, keys=5000):
    """Bodies of compare-and-put transactions with `batch` keys each."""
    for number in range(count):
        puts = [{"requestPut": put_of(f"{prefix}/{(number * batch + index) % keys:08}", value)}
                for index in range(batch)]
        compare = [version_is(f"generation/{number % keys}", 0)]
        yield json.dumps({"compare": compare, "success": puts}).encode()


def members(group, count, *options):
    """Started members."""
    names = members_of(*(f"e{number}-{len(group.processes)}" for number in range(count)))
    found = [Etcd(group.folder, name, members=names, quota_mib=2048, options=options) for name in names]
    group.start(*found)
    return found


def measured(etcds, connections, batch, count, value):
    """One row: rate and latency, what the members computed, and their disk's part."""
    with etcds[0].client() as client:
        before, cpu = client.metrics(), sum(etcd.cpu_s() for etcd in etcds)
        share = count // connections
        lanes = [HttpLane(etcds[index % len(etcds)].address, "kv/txn",
                          transactions(f"r{index}", share, batch, value)) for index in range(connections)]
        seconds, latencies, own_cpu = pump(lanes)
        after, cpu = client.metrics(), sum(etcd.cpu_s() for etcd in etcds) - cpu
    grown = {name: after[name] - before[name] for part in (FSYNC, COMMIT)
             for name in (f"{part}_sum", f"{part}_count")}
    rate = share * connections / seconds
    fsyncs = max(1, grown[f"{FSYNC}_count"])
    return (len(etcds), connections, batch, f"{rate:,.0f}", f"{rate * batch:,.0f}", lab.p50_p99(latencies),
            f"{cpu / (share * connections) * 1000:.2f}", f"{own_cpu / seconds:.0%}",
            f"{share * connections / fsyncs:.1f}", f"{grown[f'{FSYNC}_sum'] / fsyncs * 1000:.2f}",
            f"{grown[f'{FSYNC}_sum'] / seconds:.0%}", f"{grown[f'{COMMIT}_sum'] / seconds:.0%}")


RATE_COLUMNS = ("members", "connections", "puts each", "transactions/s", "keys/s", "p50 / p99 ms",
                "CPU ms each, all members", "CPU of the client", "transactions per fsync", "ms per fsync",
                "time in fsync", "time in commits of the file")


def watch_latency(etcds, count, pause_s, batch=1):
    """From the begin of a put to its event at a watcher of another member."""
    times, got = {}, []
    with etcds[0].client() as writer, etcds[-1].client() as watcher:
        events = watcher.watch("w/")
        assert next(events) == []

        def listen():
            for found in events:
                now = time.monotonic()
                got.extend(now - times[event["kv"]["key"]] for event in found)
                if len(got) >= count * batch:
                    return
        listener = threading.Thread(target=listen)
        listener.start()
        for number in range(count):
            keys = [f"w/{number}-{index}" for index in range(batch)]
            times.update({encoded(key): time.monotonic() for key in keys})
            writer.transaction([put_of(key, "v") for key in keys])
            time.sleep(pause_s)
        listener.join(60)
    return len(etcds), count, batch, len(got), lab.p50_p99(got)


def keep_alives(etcds, leases, count, connections=16):
    """Leases granted and renewed."""
    lanes = [HttpLane(etcds[0].address, "lease/grant",
                      [json.dumps({"TTL": "600", "ID": str(1 + index * leases + number)}).encode()
                       for number in range(leases // connections)]) for index in range(connections)]
    granted, _, _ = pump(lanes)
    found = []
    with etcds[0].client() as client:
        cpu, began = etcds[0].cpu_s(), time.monotonic()
        for number in range(count):  # the answer is a stream of one
            start = time.monotonic()
            assert client.keep_alive(1 + number % (leases // connections)) == 600
            found.append(time.monotonic() - start)
        seconds, cpu = time.monotonic() - began, etcds[0].cpu_s() - cpu
    return (len(etcds), leases, f"{leases / granted:,.0f}", f"{count / seconds:,.0f}",
            lab.p50_p99(found), f"{cpu / count * 1000:.2f}")


def size_of_keys(group, count, value, label):
    """What keys of one size cost on disk and in memory, and a restart with them."""
    (etcd,) = members(group, 1)
    before = etcd.memory()[0]
    lanes = [HttpLane(etcd.address, "kv/txn", transactions(f"k{index}", count // 4 // 100, 100, value,
                                                          keys=count)) for index in range(4)]
    seconds, _, _ = pump(lanes)
    rss, disk = etcd.memory()[0], etcd.disk()
    with etcd.client() as client:
        numbers = client.metrics()
        keys = client.count("k")
    etcd.restart(kill=True)
    row = (label, f"{keys:,}", f"{keys / seconds:,.0f}",
           f"{numbers['etcd_mvcc_db_total_size_in_bytes'] / lab.MIB:.0f}", f"{disk / lab.MIB:.0f}",
           f"{(rss - before) / lab.MIB:.0f}", f"{rss / lab.MIB:.0f}", f"{etcd.start_times_s[-1]:.1f}",
           f"{etcd.memory()[0] / lab.MIB:.0f}")
    etcd.kill()
    return row


def run(quick):
    """Prints the tables."""
    part = 10 if quick else 1
    rows, watches, leases = [], [], []
    with lab.servers() as group:
        for options, count in (((), 1), ((), 3), (("--unsafe-no-fsync",), 1)):
            etcds = members(group, count, *options)
            shapes = ((1, 1, 500), (16, 1, 2000), (64, 1, 4000), (4, 16, 800), (4, 100, 300))
            for connections, batch, transactions_ in shapes:
                row = measured(etcds, connections, batch, transactions_ // part, VALUE)
                rows.append((f"{row[0]}{' without fsync' if options else ''}", *row[1:]))
                lab.say(*rows[-1])
            if not options:
                watches += [watch_latency(etcds, 500 // part, 0.01),
                            watch_latency(etcds, 200 // part, 0.05, batch=50)]
                leases.append(keep_alives(etcds, 1600, 2000 // part))
            for etcd in etcds:
                etcd.kill()
        lab.table("Transactions of one comparison and puts of 768 bytes", RATE_COLUMNS, rows)
        lab.table("Watch, put at the first member, event at the last",
                  ("members", "transactions", "puts each", "events", "p50 / p99 ms"), watches)
        lab.table("Leases", ("members", "leases", "granted/s, 16 connections", "kept alive/s, 1 connection",
                             "p50 / p99 ms", "CPU ms each"), leases)
        count = 100_000 // part
        lab.table("Keys", ("value", "keys", "written/s", "database MiB", "folder MiB", "RSS more MiB",
                           "RSS MiB", "restart s", "RSS then MiB"),
                  [size_of_keys(group, count, KIB, "1 KiB"),
                   size_of_keys(group, count, KIB[:100], "100 bytes")])
