#!/usr/bin/env python3
"""Kills the server again and again, at random and at named points, and keeps the ledger.

    torture.py                     1000 lives, in runs of 25, two runs at a time
    torture.py --seconds 150       as many as fit
    torture.py --seed 7 --run 3    run 3 of seed 7 once more: the same choices
    torture.py --list              the named points

A run has a data directory and a configuration of its own; every life in it but the last ends by
SIGKILL. All choices come from the seed, which is printed; how threads and clients meet is the
machine's. When a promise is broken the run's folder is kept and named. The last line is "N passed,
N failed", counted in runs and, as one more, whether every named point was reached.
"""

import argparse
import concurrent.futures
import datetime
import os
import pathlib
import random
import shutil
import sys
import time
import traceback
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import points  # noqa: E402
from ledger import Fault  # noqa: E402
from run import Run  # noqa: E402

CYCLES = 25
MAKE_UP_RUNS = 3


def execute(seed, number, folder, cycles, wanted):
    """One run, in a process of its own. Returns what became of it."""
    start = time.monotonic()
    run = Run(seed, number, folder, cycles, points.load(), wanted)
    fault = None
    try:
        run.execute()
    except Fault as err:
        fault = str(err)
    except Exception:  # a fault of the harness must not pass for silence
        fault = traceback.format_exc()
    if fault is None:
        shutil.rmtree(folder)
    else:
        fault = f"seed {seed} run {number}: {fault}\n  data kept in {folder}"
    return {"number": number, "fault": fault, "hits": run.hits, "misses": run.misses,
            "kills": run.kills, "lives": run.lives, "counts": run.ledger.counts,
            "wills": len(run.wills), "seconds": time.monotonic() - start, "wanted": wanted,
            "retention": run.config["retention.bytes"]}


class Torture:
    """All runs and their sum."""

    def __init__(self, args):
        self.args = args
        self.start = time.monotonic()
        self.deadline = self.start + args.seconds if args.seconds else None
        self.results, self.hits, self.misses = [], Counter(), Counter()

    def tell(self, result):
        """A line for each run."""
        self.results.append(result)
        self.hits.update(result["hits"])
        self.misses.update(result["misses"])
        counts = ", ".join(f"{value} {name}" for name, value in result["counts"].items())
        again = f" --want {','.join(result['wanted'])}" if result["wanted"] else ""
        print(f"run {result['number']:>3} {'FAILED' if result['fault'] else 'ok    '} "
              f"{result['seconds']:5.1f} s  {result['lives']} lives, {result['kills']} kills, "
              f"retention {result['retention']}; {counts}, {result['wills']} wills{again}",
              flush=True)
        if result["fault"]:
            print(result["fault"], flush=True)

    def runs(self, numbers, wanted=()):
        """Executes runs, `jobs` at a time, until the numbers or the time are used up."""
        args, pending = self.args, set()
        numbers = iter(numbers)
        with concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
            while True:
                while len(pending) < args.jobs:
                    number = next(numbers, None)
                    late = self.deadline and not wanted and time.monotonic() > self.deadline
                    failed = args.stop and any(result["fault"] for result in self.results)
                    if number is None or late or failed:
                        break
                    pending.add(pool.submit(execute, args.seed, number,
                                            args.folder / f"run{number}", CYCLES, wanted))
                if not pending:
                    return
                done, pending = concurrent.futures.wait(
                    pending, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    self.tell(future.result())

    def never_hit(self):
        """Named points at which no server has died yet."""
        names = {row.split(" ")[0] for row in self.hits}
        return [name for name in points.load() if name not in names]

    def make_up(self):
        """Runs for the points that were never reached: with retention for those that need it."""
        if self.args.stop and any(result["fault"] for result in self.results):
            return
        number = len(self.results) + len(self.results) % 2
        for number in range(number, number + 2 * MAKE_UP_RUNS, 2):
            never = self.never_hit()
            kinds = [name.startswith(("retention.", "recovery.segment")) for name in never]
            for needs_retention in {*kinds}:
                self.runs([number + needs_retention], tuple(
                    name for name, kind in zip(never, kinds) if kind == needs_retention))

    def total(self):
        """Prints the sums; returns the status."""
        print("\npoint, moment (b: before, m: in the middle, a: after): hits (armed and not reached)")
        for name, moments in points.load().items():
            row = (f"{moment} {self.hits[f'{name} {moment}']} ({self.misses[f'{name} {moment}']})"
                   for moment in moments)
            print(f"  {name:<28} {'  '.join(row)}")
        sums = Counter()
        for result in self.results:
            sums.update(result["counts"])
            sums.update({name: result[name] for name in ("lives", "kills", "wills")})
        seconds = time.monotonic() - self.start
        print(f"\nseed {self.args.seed}: {len(self.results)} runs in {seconds:.0f} s; "
              + ", ".join(f"{sums[name]} {name}" for name in sums)
              + f"; {sum(self.hits.values())} kills at named points")
        failed = sum(bool(result["fault"]) for result in self.results)
        never = self.never_hit()
        if never and self.args.run is None:
            print(f"never reached: {', '.join(never)}")
            failed += 1
        print(f"{len(self.results) + (self.args.run is None) - failed} passed, {failed} failed")
        return 1 if failed else 0


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 32))
    parser.add_argument("--cycles", type=int, default=1000, help="lives together")
    parser.add_argument("--seconds", type=float, help="begin no more runs after this time")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--run", type=int, help="this run only")
    parser.add_argument("--stop", action="store_true", help="begin no more runs after a fault")
    parser.add_argument("--want", default="", help="points of a run that was made for them")
    parser.add_argument("--folder", type=pathlib.Path, help="where the data goes",
                        default=HERE.parents[1] / "build" / "torture" / "data")
    parser.add_argument("--list", action="store_true", help="show the named points")
    return parser.parse_args()


def main():
    args = parse()
    points.build()
    if args.list:
        print(*(f"{name} {moments}" for name, moments in points.load().items()), sep="\n")
        return 0
    args.folder = args.folder / str(args.seed)
    shutil.rmtree(args.folder, ignore_errors=True)
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} processors: "
          f"{' '.join(sys.argv)}\nseed {args.seed}", flush=True)
    torture = Torture(args)
    if args.run is not None:
        torture.runs([args.run], tuple(filter(None, args.want.split(","))))
        return torture.total()
    count = sys.maxsize if args.seconds else -(-args.cycles // CYCLES)
    torture.runs(range(count))
    torture.make_up()
    return torture.total()


if __name__ == "__main__":
    sys.exit(main())
