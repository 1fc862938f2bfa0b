#!/usr/bin/env python3
"""Runs a server under a steady mixed load and judges whether its memory stays flat.

One server with small log files and frequent checkpoints and seals, so that all of its upkeep runs
many times: publishers at QoS 0, 1 and 2, fast and slow subscribers, a shared group, sessions and
subscriptions that come and go, retained messages, retention that recycles log files. Memory,
descriptors, disk and deliveries are sampled; report.py says what is flat. Writes PNG, CSV and
Markdown. The status is 1 when something is not flat.

    soak.py --minutes 30 --output bench/results/soak
"""

import argparse
import asyncio
import collections
import datetime
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

import clients  # noqa: E402
import report  # noqa: E402
from tidemq import Server  # noqa: E402

MIB = 1 << 20
RETENTION = 48 * MIB
CONFIG = {
    "memory.limit": "256MiB", "store.segment_size": "4MiB", "store.pool_segments": 2,
    "store.tail_bytes": "8MiB", "store.checkpoint_interval": "5s", "store.seal_entries": 20000,
    "retention.bytes": f"{RETENTION // MIB}MiB", "sessions.expiry_max": "60s",
}
METADATA_MOST = 64 * MIB  # of the disk, beside log and index


def parse_args():
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=100,
                        help="messages a second of each of three publishers (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench/results/soak",
                        help="name of the results, without the endings .png, .csv, .md")
    parser.add_argument("--work-dir", type=pathlib.Path, default=ROOT / "build",
                        help="where the server's data goes: a real disk (%(default)s)")
    return parser.parse_args()


def disk_bytes(folder):
    """What the files take, as far as they are not removed meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def read_metrics(server):
    """The numbers of /metrics."""
    with urllib.request.urlopen(server.admin_url + "/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in
            (line.split(" ") for line in lines if line and line[0] != "#")}


def sample(server, began, counts):
    """One line of the CSV."""
    process = pathlib.Path(f"/proc/{server.process.pid}")
    status = dict(re.findall(r"(\w+):\s+(\d+) kB", (process / "status").read_text()))
    metrics = read_metrics(server)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "anonymous": int(status["RssAnon"]) * 1024,
        "resident": int(status["VmRSS"]) * 1024,
        "counted": int(metrics["tidemq_memory_used"]),
        "descriptors": len(os.listdir(process / "fd")),
        "disk": disk_bytes(server.data_dir),
        "published": counts["published"],
        "delivered": int(metrics["tidemq_publish_sent_total"]),
        "sessions": int(metrics["tidemq_sessions"]),
        "subscriptions": int(metrics["tidemq_subscriptions"]),
        "retained": int(metrics["tidemq_retained"]),
        "checkpoints": int(metrics["tidemq_store_checkpoints_total"]),
        "seals": int(metrics["tidemq_store_seals_total"]),
        "trimmed": int(metrics["tidemq_messages_trimmed_total"]),
        "lost": counts["lost connections"],
    }


async def soak(server, args, counts):
    """Load and samples; returns the samples."""
    stopped = asyncio.Event()
    load = clients.Load(server.port, args.rate, args.seed, counts)
    working = asyncio.create_task(load.run(stopped))
    began = time.monotonic()
    length_s = args.minutes * 60
    step_s = max(1.0, length_s / 600)
    samples = []
    while not samples or samples[-1]["seconds"] < length_s:
        samples.append(await asyncio.to_thread(sample, server, began, counts))
        print(f"{samples[-1]['seconds']:7.0f} s  anonymous {samples[-1]['anonymous'] / MIB:6.1f} MiB  "
              f"files {samples[-1]['descriptors']:4}  disk {samples[-1]['disk'] / MIB:6.1f} MiB  "
              f"delivered {samples[-1]['delivered']:,}", flush=True)
        await asyncio.wait([working], timeout=step_s)
        if working.done():
            working.result()
            raise RuntimeError("the load has ended")
    stopped.set()
    await working
    return samples


def settings(args):
    """What the page says about the run."""
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True, check=False).stdout.strip()
    config = ", ".join(f"{key} {value}" for key, value in CONFIG.items())
    return [
        f"Command: `bench/soak/soak.py --minutes {args.minutes:g} --rate {args.rate} "
        f"--seed {args.seed}`, tree at {commit}, {datetime.date.today()}, {os.cpu_count()} "
        f"processors, {platform.release()}.",
        f"Server: {config}; else the defaults.",
    ]


def main():
    """Runs, writes and judges."""
    args = parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-", dir=args.work_dir))
    counts = collections.Counter()
    server = Server(folder, CONFIG)
    lines = settings(args)
    try:
        server.start()
        samples = asyncio.run(soak(server, args, counts))
        server.stop()
        server.check()
    finally:
        server.kill()
        shutil.rmtree(folder)
    title = f"Soak of {args.minutes:g} minutes"
    rows = report.judge(samples, RETENTION + METADATA_MOST)
    totals = {**counts, **{name: samples[-1][name] for name in
                           ("delivered", "checkpoints", "seals", "trimmed", "retained", "sessions")}}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    report.write_csv(args.output.with_suffix(".csv"), samples)
    report.write_page(args.output.with_suffix(".md"), title, lines, rows, totals, samples)
    report.plot(args.output.with_suffix(".png"), title, samples)
    for what, found, allowed, holds in rows:
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {found} (allowed: {allowed})")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
