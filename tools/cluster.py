#!/usr/bin/env python3
"""Starts the servers of a cluster on this machine, on free ports of 127.0.0.1: three RocketMQ NameSrvs
with a controller each (two would lose their majority with one), two Broker groups of a master and a
replica, and three etcd members. Prints their addresses, and ends them all with Ctrl-C.

    make cluster                      with what tools/install.sh test installs
    tools/cluster.py --version 5.3.3  another RocketMQ

Data and logs lie in build/cluster-* and go with the cluster; a server that ends before is named, and
its log is kept. A killed Broker's replica is promoted: try `kill -9` with one of the numbers printed.
There is no TideMQ in it yet: it has no engine for a cluster so far.
"""

import argparse
import contextlib
import os
import pathlib
import re
import select
import shutil
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "test" / "cluster")]

# pylint: disable=wrong-import-position
import jars  # noqa: E402
from cluster import Cluster  # noqa: E402
from process import Group, StartFailed  # noqa: E402


def interrupt(*_):
    """SIGTERM does what Ctrl-C does."""
    raise KeyboardInterrupt


def describe(cluster):
    """What runs where, for people and for the test."""
    def line(what, process, address, more=""):
        print(f"  {what:<22} {address:<24} pid {process.process.pid}{more}")

    for namesrv in cluster.namesrvs:
        line("NameSrv", namesrv, namesrv.address, f", controller {namesrv.controller_address}")
    for name, brokers in cluster.brokers.items():
        master = cluster.master_address(name)
        for broker in brokers:
            role = "master" if broker.address == master else "replica"
            line(f"Broker {name} {role}", broker, broker.address)
    for etcd in cluster.etcds:
        line("etcd", etcd, etcd.url)


def watch(group):
    """Waits for Ctrl-C, and tells which servers end before it."""
    alive = {os.pidfd_open(process.process.pid): process for process in group.processes}
    failed = []
    try:
        while alive:
            for fd in select.select(list(alive), [], [])[0]:
                process = alive.pop(fd)
                os.close(fd)
                failed.append(process)
                code = process.process.wait()
                print(f"{process.name} ended, "
                      + (f"signal {-code}" if code < 0 else f"exit code {code}"), flush=True)
    except KeyboardInterrupt:
        return failed
    return failed


def run(folder, version):
    """The life of a cluster; returns the servers that ended by themselves."""
    group = Group(folder)
    try:
        print(f"Starting in {folder} ...", flush=True)
        began = time.monotonic()
        cluster = Cluster(group, version=version)
        cluster.start()
        print(f"Ready after {time.monotonic() - began:.0f} s:")
        describe(cluster)
        print("Ctrl-C ends them all.", flush=True)
        return watch(group)
    finally:
        # a second Ctrl-C must not leave anything behind
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        group.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default=jars.NEWEST, help=f"of RocketMQ; {jars.NEWEST} by default")
    args = parser.parse_args()
    if not re.fullmatch(r"\d+\.\d+\.\d+", args.version):
        parser.error(f"'{args.version}' is no version such as {jars.NEWEST}")
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    (ROOT / "build").mkdir(exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cluster-", dir=ROOT / "build"))
    failed = None
    try:
        failed = run(folder, args.version)
    except (StartFailed, TimeoutError, RuntimeError) as error:
        print(f"The cluster did not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        failed = []  # before it was ready
    finally:
        if failed == []:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
        else:
            print(f"The logs are in {folder}")
    print("All servers have ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
