#!/usr/bin/env python3
"""Benchmarks TideMQ beside other MQTT servers, in one interleaved run.

Each row of rows.py is run by each server of peers.py in turn (A B A B ...), so that whatever else
the machine does meets them alike. The results are written to a folder after every run, so that a
run that was stopped can be taken up again with --resume; bench/report makes tables and plots of
them. See bench/README.md.
"""
import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time

import disk
import peers
import rows
import scenarios
import servers

RESULTS = servers.ROOT / "bench" / "results"


def parse_args(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="small counts and one run of each, five to ten minutes")
    parser.add_argument("--servers", help="comma-separated, in the order of their turns (all; "
                        "quick: those without a virtual machine to warm up): "
                        + ",".join(peers.SERVERS))
    parser.add_argument("--rows", help="comma-separated names of rows or series; main: the rows "
                        "without the series; default: all but extras; of "
                        + ", ".join(row.key for row in rows.MAIN) + "; series "
                        + ", ".join(series.key for series in rows.SERIES))
    parser.add_argument("--repeat", type=int, help="runs of each row and server (3; quick: 1); "
                        "slow servers and long rows have fewer")
    parser.add_argument("--minutes", type=float, default=45,
                        help="after so long, only first runs of TideMQ are begun (%(default)s)")
    parser.add_argument("--batch", type=int, help="messages per write of a publisher (10)")
    parser.add_argument("--loadgen", help="the load generator's program")
    parser.add_argument("--work-dir", default=str(servers.ROOT / "build"),
                        help="where the servers' data goes meanwhile: a real disk (%(default)s)")
    parser.add_argument("--output", help="folder for the results (bench/results/TIME)")
    parser.add_argument("--resume", metavar="FOLDER",
                        help="take up the run whose results are in the folder")
    args = parser.parse_args(words)
    args.repeat = args.repeat or (1 if args.quick else 3)
    args.servers = args.servers or ",".join(
        name for name, cls in peers.SERVERS.items() if not (args.quick and cls.warm_up))
    args.loadgen = args.loadgen or servers.first_existing(
        servers.ROOT / "build/release/tidemq-loadgen", servers.ROOT / "build/bench/tidemq-loadgen")
    if not args.loadgen:
        parser.error("build the load generator first: cmake -S bench/loadgen -B build/bench "
                     "&& cmake --build build/bench")
    unknown = [name for name in args.servers.split(",") if name not in peers.SERVERS]
    args.rows, more = choose_rows(args.rows.split(",") if args.rows else [])
    if unknown + more:
        parser.error("unknown: " + ", ".join(unknown + more))
    args.output = pathlib.Path(args.resume or args.output
                               or RESULTS / time.strftime("%Y-%m-%d-%H%M"))
    return args


def choose_rows(names):
    """The rows that the names stand for, and the names that stand for none."""
    if not names:
        return [row for row in rows.ROWS if not row.extra], []
    known = {series.key: [row for row in rows.ROWS if row.series == series.key]
             for series in rows.SERIES}
    known["main"] = [row for row in rows.MAIN if not row.extra]
    known.update({row.key: [row] for row in rows.ROWS if row.key not in known})
    chosen = [row for name in names for row in known.get(name, [])]
    return chosen, [name for name in names if name not in known]


class Journal:
    """The results, in a file that is complete after each."""

    def __init__(self, folder, resumed):
        self.path = folder / "raw.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.content = {"results": [], "left_out": {}}
        if resumed:
            self.content = json.loads(self.path.read_text())

    def has(self, row, name, turn):
        return any(r["row"] == row.key and r["server"] == name and r["turn"] == turn
                   for r in self.content["results"])

    def failed(self, row, name):
        """Whether a server has run a row and brought no figure, or never came to serve at all."""
        mine = [r for r in self.content["results"] if r["server"] == name]
        return (any(r["row"] == row.key and not r["figures"] for r in mine)
                or (mine and not any("start_s" in r for r in mine)))

    def add(self, result):
        self.content["results"].append(result)
        self.save()

    def leave_out(self, row, name, why):
        self.content["left_out"].setdefault(row.key, {})[name] = why

    def save(self):
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(self.content, indent=1) + "\n")
        written.replace(self.path)


def find_programs(args, journal):
    found, missing = {}, {}
    for name in args.servers.split(","):
        cls = peers.SERVERS[name]
        program = cls.find()
        if program:
            found[name] = program
        else:
            missing[name] = peers.why_not_built(name)
            print(f"{name} is left out: {missing[name]}", file=sys.stderr)
    missing.update({name: "not asked" for name in peers.SERVERS
                    if name not in args.servers.split(",")})
    journal.content.update(
        quick=args.quick, repeat=args.repeat, batch=args.batch or 10, payload=rows.PAYLOAD,
        kernel=platform.release(), cores=os.cpu_count(), missing=missing,
        began=journal.content.get("began") or time.strftime("%Y-%m-%d %H:%M"),
        load_average=journal.content.get("load_average", os.getloadavg()[0]),
        servers={name: {"version": peers.SERVERS[name].version(program),
                        "settings": peers.SERVERS[name].settings,
                        "warm_up": bool(peers.SERVERS[name].warm_up)}
                 for name, program in found.items()})
    return found


def run_once(args, row, name, program):
    """One run of one row against a fresh server; returns a result."""
    cls = peers.SERVERS[name]
    folder = tempfile.mkdtemp(prefix="bench-", dir=args.work_dir)
    settings = row.settings if name == rows.SUBJECT else ()
    server = cls(program, folder, row.durable_for(cls), settings, row.transport)
    count = row.count_for(cls, args.quick)
    result = {"row": row.key, "server": name, "count": count, "found": None, "figures": {},
              "notes": {}, "error": ""}
    try:
        if row.scenario in scenarios.TIMED:
            result["disk_us"] = disk.sync_times(folder)
        result["start_s"] = server.start()
        for load in cls.warm_up:
            scenarios.Run(args.loadgen, row, server, count).generate(args=load)
        found, figures, notes = scenarios.run_row(args.loadgen, row, server, count, args.batch)
        result.update(found=found, figures=figures, notes=notes, error=found["error"])
    except (RuntimeError, OSError, ValueError) as error:
        result["error"] = str(error) or type(error).__name__
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return result


def why_not(args, row, name, program):
    """Why a server does not run a row; empty when it does."""
    cls = peers.SERVERS[name]
    if row.servers and name not in row.servers:
        return "not asked"
    if not row.count_for(cls, args.quick):
        return "not in quick runs"
    return cls.why_not(program, row)


def turns_of(args, row, cls):
    return min(limit for limit in (args.repeat, row.turns, cls.turns) if limit)


def show_figures(row, figures):
    return ", ".join(f"{figure.key} {figures[figure.key]:,.4g}" for figure in row.figures
                     if figure.key in figures) or "no figure"


def run_turn(args, journal, row, programs, turn):
    """One turn of a row: each server once, if it is to run."""
    for name, program in programs.items():
        reason = why_not(args, row, name, program)
        if reason:
            if reason != "not asked":
                journal.leave_out(row, name, reason)
            continue
        first = turn == 0 and name == rows.SUBJECT
        if (turn >= turns_of(args, row, peers.SERVERS[name]) or journal.has(row, name, turn)
                or journal.failed(row, name) or (args.is_late() and not first)):
            continue
        began = time.monotonic()
        result = run_once(args, row, name, program)
        result.update(turn=turn, took_s=time.monotonic() - began)
        journal.add(result)
        print(f"{time.strftime('%H:%M:%S')} {row.key} {name} {turn + 1}: "
              f"{show_figures(row, result['figures'])}; {result['took_s']:.1f} s {result['error']}"
              .rstrip(), file=sys.stderr, flush=True)


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # ends the server it runs, too
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    pathlib.Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    journal = Journal(args.output, args.resume)
    programs = find_programs(args, journal)
    if not programs:
        sys.exit("no server to run")
    deadline = time.monotonic() + args.minutes * 60
    args.is_late = lambda: time.monotonic() > deadline
    for row in args.rows:
        for turn in range(args.repeat):
            run_turn(args, journal, row, programs, turn)
    journal.content.update(late=args.is_late(), load_average_end=os.getloadavg()[0],
                           ended=time.strftime("%Y-%m-%d %H:%M"))
    journal.save()
    print(f"Results: {os.path.relpath(journal.path)}")
    wrong = [r for r in journal.content["results"]
             if r["server"] == rows.SUBJECT and (not r["found"] or r["error"])]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
