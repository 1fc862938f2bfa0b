#!/usr/bin/env python3
"""Measures a crowded server: very many durable sessions, very many retained messages, and what
checkpoints and seals cost those who wait for an acknowledgement.

    python3 bench/scale.py                      a million of each; prints Markdown
    python3 bench/scale.py --count 100000       less
    python3 bench/scale.py --only sessions      one part: sessions, retained, background

Times are of the wall clock; what the server computed is given beside them, because times say little
on a machine that does something else too. The load comes from test/scale/crowd.py.
"""

import argparse
import datetime
import multiprocessing
import os
import pathlib
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "test" / "scale"), str(ROOT / "test" / "e2e")]

# pylint: disable=wrong-import-position
import crowd  # noqa: E402
from tidemq import Server  # noqa: E402

MIB = 1 << 20
PATIENCE_S = 900
WINDOW = 500
PROBE_PAUSE_S = 0.002
BASELINE_S = 10
BACKGROUND_S = 30
QUEUES = 5_000  # of absent sessions that messages are published for
CHURN = 20_000  # sessions that come back again and again


def cpu_s(server):
    """Processor time of the server so far, all threads."""
    return time.clock_gettime((~server.process.pid << 3) | 2)


def loop_cpu_s(server):
    """The same of its main thread, which reads everything back at a start."""
    pid = server.process.pid
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def memory(server):
    """Resident memory now, and its peak, in MiB."""
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return [int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) / 1024 for key in ("VmRSS", "VmHWM")]


def disk(server):
    """MiB in log, index and LMDB."""
    sizes = []
    for name in ("log", "index", "meta"):
        files = (path for path in (server.data_dir / name).iterdir() if path.is_file())
        sizes.append(sum(path.stat().st_blocks * 512 for path in files) / MIB)
    return sizes


def quantiles(times):
    """p50, p99 and the longest, in ms, and how many."""
    times.sort()
    pick = [times[len(times) // 2], times[len(times) * 99 // 100], times[-1]] if times else [0] * 3
    return [value * 1000 for value in pick] + [len(times)]


def probe(server, what, stop, pipe):
    """In a process of its own: times of one message after the other at QoS 1, until told to stop.
    what: until its PUBACK ("ack"), or until it is with its subscriber ("delivery")."""
    sender = crowd.Peer(server, f"probe-{os.getpid()}", True)
    receiver = None
    if what == "delivery":
        receiver = crowd.Peer(server, f"probe-{os.getpid()}-in", True)
        receiver.subscribe("probe/#")
    times = []
    while not stop.is_set():
        begun = time.perf_counter()
        sender.sock.sendall(crowd.publish_packet("probe/x", bytes(64), 1, 1))
        if receiver:
            body = receiver.packet()[1]
            times.append(time.perf_counter() - begun)
            receiver.sock.sendall(b"\x40\x02" + body[9:11])
        assert sender.packet()[0] == 0x40
        if not receiver:
            times.append(time.perf_counter() - begun)
        time.sleep(PROBE_PAUSE_S)
    pipe.send(times)


class Probe:
    """A probe while a block runs; `times` afterwards."""

    def __init__(self, server, what):
        self.stop = multiprocessing.Event()
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=probe,
                                               args=(server, what, self.stop, other))
        self.times = []

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.times = self.pipe.recv()
        self.process.join()


def start(folder, **config):
    """A new server with the defaults of a real one, in a folder of its own."""
    defaults = {"store.segment_size": "256MiB", "store.pool_segments": 2, "sys.interval": "10s",
                "memory.limit": "8GiB", "shutdown.timeout": "15m"}
    server = Server(folder, {**defaults, **config})
    server.patience_s = PATIENCE_S
    return server.start()


def table(title, head, rows):
    """Prints one table."""
    print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        cells = (f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row)
        print(f"| {' | '.join(cells)} |", flush=True)


def stalls(server):
    """What the loop's own measure says."""
    metrics = server.metrics()
    return [int(metrics["tidemq_loop_stalls_total"]),
            metrics["tidemq_loop_cpu_longest_us"] / 1000]


# --- sessions ------------------------------------------------------------------------------------


def restart(server, how, rows):
    """Stops it in this way, starts it again and notes what that took."""
    begun = time.monotonic()
    if how == "SIGTERM":
        server.stop()
    else:
        server.kill()
    stopped = time.monotonic()
    server.start()
    rows.append([how, stopped - begun, time.monotonic() - stopped, loop_cpu_s(server),
                 *memory(server), int(server.metrics()["tidemq_sessions"])])


def measure_sessions(folder, count):
    """Leaves them, in parts whose cost is compared; then restarts."""
    server = start(folder)
    address, rows = (server.host, server.port), []
    part, done = max(count // 1000, 1000), 0
    with Probe(server, "ack") as acks:
        while done < count:
            step = min(part, count - done)
            before, begun = cpu_s(server), time.monotonic()
            crowd.run(address, crowd.sessions(step, done))
            done += step
            rows.append([f"{done:,}", (cpu_s(server) - before) / step * 1e6,
                         step / (time.monotonic() - begun), *memory(server)])
            part = done * 9
    table(f"Durable sessions with one subscription each, up to {count:,}",
          ["sessions", "CPU us for one more", "made per s", "RSS MiB", "peak MiB"], rows)
    log, _, meta = disk(server)
    metrics = server.metrics()
    print(f"\nLog files {log:,.0f} MiB with those prepared ahead, "
          f"{metrics['tidemq_store_bytes_total'] / count:,.0f} bytes appended for a session; LMDB "
          f"{meta:,.0f} MiB. Checkpoints: {metrics['tidemq_store_checkpoints_total']:.0f} in "
          f"{metrics['tidemq_store_checkpoint_steps_total']:.0f} steps.")
    p50, p99, most, samples = quantiles(acks.times)
    print(f"PUBACK meanwhile: p50 {p50:.2f}, p99 {p99:.2f}, longest {most:.1f} ms of {samples:,}. "
          "Turns that computed for 10 ms or more: {}, the longest {:.1f} ms.".format(*stalls(server)))
    rows = []
    restart(server, "SIGTERM", rows)
    restart(server, "kill -9", rows)
    crowd.run(address, crowd.sessions(count // 5, present=True))
    restart(server, "kill -9, a fifth had changed", rows)
    table("Restart", ["end", "stop s", "start to ready s", "of it CPU s (main thread)", "RSS MiB",
                      "peak MiB", "sessions"], rows)
    server.kill()


# --- retained ------------------------------------------------------------------------------------


def fill(server, count):
    """Retained messages of 100 bytes on topics in no order; the seconds of the server for them."""
    before = cpu_s(server)
    peer = crowd.Peer(server, "filler", True)
    for first in range(0, count, WINDOW):
        part = range(first, min(first + WINDOW, count))
        peer.sock.sendall(b"".join(
            crowd.publish_packet(f"kept/{n * 2654435761 % 2**32:08x}/{n}",
                                 struct.pack(">Q", n) + bytes(92), 1, n - first + 1, retain=True)
            for n in part))
        for _ in part:
            assert peer.packet()[0] == 0x40
    peer.leave()
    return cpu_s(server) - before


def walk(server, count, pipe):
    """In a process of its own: takes all of them at QoS 0; sends how many bytes that were."""
    peer = crowd.Peer(server, "walker", True)
    peer.sock.sendall(crowd.subscribe_packet(["kept/#"], 0))
    assert peer.packet()[0] == 0x90
    seen = size = 0
    while seen < count:
        kind, body = peer.packet()
        assert kind == 0x31
        seen += 1
        size += len(body)
    pipe.send(size)


def walk_beside_others(server, count):
    """The walk, with the most memory the server had during it, and its processor time."""
    pipe, other = multiprocessing.Pipe()
    walker = multiprocessing.Process(target=walk, args=(server, count, other))
    before, most, begun = cpu_s(server), 0, time.monotonic()
    with Probe(server, "delivery") as deliveries:
        walker.start()
        while not pipe.poll(0.2):
            assert walker.is_alive(), "the walk failed"
            most = max(most, memory(server)[0])
        took = time.monotonic() - begun
    walker.join()
    return deliveries.times, took, cpu_s(server) - before, most


def measure_retained(folder, count):
    """Fills it, measures deliveries without a walk and beside one, twice, in turns."""
    server = start(folder)
    filled_cpu_s = fill(server, count)
    rss = memory(server)[0]
    log, index, meta = disk(server)
    print(f"\n{count:,} retained messages of 100 bytes: {filled_cpu_s / count * 1e6:.1f} us of "
          f"processor time to set one, RSS {rss:,.0f} MiB; log {log:,.0f}, index {index:,.0f}, LMDB "
          f"{meta:,.0f} MiB.")
    rows = []
    for turn in (1, 2):
        with Probe(server, "delivery") as alone:
            time.sleep(BASELINE_S)
        rows.append([f"without, {turn}", *quantiles(alone.times), "", "", ""])
        times, took, spent, most = walk_beside_others(server, count)
        rows.append([f"beside the walk, {turn}", *quantiles(times), took, spent, most])
    table("Delivery to others, beside a subscription to all retained messages",
          ["run", "p50 ms", "p99 ms", "longest ms", "samples", "walk s", "CPU s", "RSS MiB"], rows)
    print("\nTurns that computed for 10 ms or more: {}, the longest {:.1f} ms.".format(
        *stalls(server)))
    server.kill()


# --- checkpoints and seals -----------------------------------------------------------------------


def churn(server, stop):
    """In a process of its own: sessions that come back, so that rows change."""
    address, first = (server.host, server.port), QUEUES
    while not stop.is_set():
        turn, place = divmod(first - QUEUES, CHURN)
        crowd.run(address, crowd.sessions(1000, QUEUES + place, present=turn > 0), width=64)
        first += 1000


def publish_many(server, stop):
    """In a process of its own: messages for the queues of many filters, some thousand a second."""
    peer = crowd.Peer(server, "many", True)
    first = 0
    while not stop.is_set():
        peer.sock.sendall(b"".join(
            crowd.publish_packet(f"crowd/{(first + n) % QUEUES}/state", bytes(200), 1, n + 1)
            for n in range(100)))
        for _ in range(100):
            assert peer.packet()[0] == 0x40
        first += 100
        time.sleep(0.01)


def measure_background(folder):
    """PUBACK with checkpoints and seals all the time, and with none, under the same load."""
    rows = []
    for name, config in (
        ("none", {"store.checkpoint_interval": "1h", "store.seal_entries": 64_000_000}),
        ("checkpoint each 1 s, seal each 20,000 entries",
         {"store.checkpoint_interval": "1s", "store.seal_entries": 20_000}),
    ):
        server = start(folder / name.split()[0], **config)
        crowd.run((server.host, server.port), crowd.sessions(QUEUES))
        stop = multiprocessing.Event()
        load = [multiprocessing.Process(target=run, args=(server, stop))
                for run in (churn, publish_many)]
        for process in load:
            process.start()
        with Probe(server, "ack") as acks:
            time.sleep(BACKGROUND_S)
        stop.set()
        for process in load:
            process.join()
        metrics = server.metrics()
        rows.append([name, *quantiles(acks.times), int(metrics["tidemq_store_checkpoints_total"]),
                     int(metrics["tidemq_store_checkpoint_steps_total"]),
                     int(metrics["tidemq_store_seals_total"]), cpu_s(server), *stalls(server)])
        server.kill()
    table("PUBACK while checkpoints and seals run",
          ["background work", "p50 ms", "p99 ms", "longest ms", "samples", "checkpoints", "steps",
           "seals", "CPU s", "stalls", "longest turn ms"], rows)


def describe():
    """Where and when this was."""
    version = subprocess.run([str(ROOT / "build/release/tidemq"), "version"], check=True,
                             capture_output=True, text=True).stdout.split("\n")[0]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], check=True,
                            capture_output=True, text=True).stdout.strip()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"# A crowded server\n\n{version}, commit {commit}, {datetime.date.today()}, "
          f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, load average at "
          f"the beginning {load}.\nCommand: `python3 bench/scale.py {' '.join(sys.argv[1:])}`".rstrip())


def main():
    """Runs the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="sessions, retained messages")
    parser.add_argument("--only", choices=("sessions", "retained", "background"))
    parser.add_argument("--folder", help="where the data goes; the system's temporary folder")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tidemq-scale-", dir=args.folder)).resolve()
    describe()
    try:
        if args.only in (None, "sessions"):
            measure_sessions(folder / "sessions", args.count)
        if args.only in (None, "retained"):
            measure_retained(folder / "retained", args.count)
        if args.only in (None, "background"):
            measure_background(folder / "background")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
