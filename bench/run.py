#!/usr/bin/env python3
"""Benchmarks TideMQ beside other MQTT servers, in one interleaved run, and prints Markdown tables.

Each row of rows.py is run by each server of servers.py in turn (A B A B ...), so that whatever
else the machine does meets them alike. Raw results go to bench/results/. See bench/README.md.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import rows
import servers

BASELINE = "mosquitto"
SUBJECT = "tidemq"
FLOOR = "floor"


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small counts, about two minutes")
    parser.add_argument("--servers", default=",".join(servers.SERVERS),
                        help="comma-separated, in the order of their turns (%(default)s)")
    parser.add_argument("--rows", help="comma-separated; default: all that have a target; of "
                        + ", ".join(row.key for row in rows.ROWS))
    parser.add_argument("--repeat", type=int, help="runs of each row and server (5; quick: 3)")
    parser.add_argument("--batch", type=int, help="messages per write of a publisher (10)")
    parser.add_argument("--loadgen", help="the load generator's program")
    parser.add_argument("--work-dir", default=str(servers.ROOT / "build"),
                        help="where the servers' data goes meanwhile: a real disk (%(default)s)")
    parser.add_argument("--output", help="file for the raw results (bench/results/TIME.json)")
    args = parser.parse_args()
    args.repeat = args.repeat or (3 if args.quick else 5)
    args.loadgen = args.loadgen or servers.first_existing(
        servers.ROOT / "build/release/tidemq-loadgen", servers.ROOT / "build/bench/tidemq-loadgen")
    if not args.loadgen:
        parser.error("build the load generator first: cmake -S bench/loadgen -B build/bench "
                     "&& cmake --build build/bench")
    known = {row.key: row for row in rows.ROWS}
    wanted = args.rows.split(",") if args.rows else [r.key for r in rows.ROWS if not r.extra]
    unknown = [key for key in wanted if key not in known]
    unknown += [name for name in args.servers.split(",") if name not in servers.SERVERS]
    if unknown:
        parser.error("unknown: " + ", ".join(unknown))
    args.rows = [known[key] for key in wanted]
    return args


def find_programs(names):
    found = {}
    for name in names.split(","):
        program = servers.SERVERS[name].find()
        if program:
            found[name] = program
        else:
            print(f"{name} is not installed or built; left out.", file=sys.stderr)
    return found


def run_loadgen(args, server, load):
    command = [args.loadgen, *load, "--port", str(server.port), "--payload", str(rows.PAYLOAD),
               "--server-pid", str(server.process.pid), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.startswith("{"):
        raise RuntimeError(f"'{' '.join(command)}' printed no result")
    return json.loads(done.stdout)


def run_row(args, row, name, program):
    """One run of one row against a fresh server; returns a result for the report."""
    cls = servers.SERVERS[name]
    folder = tempfile.mkdtemp(prefix="bench-", dir=args.work_dir)
    server = cls(program, folder, row.durable_for(cls))
    result = {"row": row.key, "server": name, "load_average": os.getloadavg()[0]}
    try:
        result["start_s"] = server.start()
        before = server.counters()
        found = rows.run_once(row, server, lambda load: run_loadgen(args, server, load),
                              row.load_args(args.quick, args.batch))
        after = server.counters()
        result.update(found=found, value=rows.value_of(row, found), error=found["error"])
        if row.kind != "lost":
            result["counters"] = {key: after[key] - before.get(key, 0) for key in after}
    except (RuntimeError, OSError, ValueError) as error:
        result.update(found=None, value=None, error=str(error))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return result


def run_all(args, programs):
    results = []
    for row in args.rows:
        for turn in range(args.repeat):
            for name, program in programs.items():
                if not servers.SERVERS[name].supports(row):
                    continue
                began = time.monotonic()
                result = run_row(args, row, name, program)
                result["turn"] = turn
                results.append(result)
                print(f"{row.key} {name} {turn + 1}/{args.repeat}: {show_value(result['value'])} "
                      f"{row.unit}, {time.monotonic() - began:.1f} s {result['error']}".rstrip(),
                      file=sys.stderr, flush=True)
    return results


def show_number(value):
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}"


def show_value(value):
    if isinstance(value, (tuple, list)):
        return " / ".join(show_number(part) for part in value)
    return show_number(value)


def of_row(results, row, name):
    return [r for r in results if r["row"] == row.key and r["server"] == name and r["found"]]


def median_value(results, row, name):
    """The median of the row's figure; a pair of medians for a latency; None without any."""
    values = [r["value"] for r in of_row(results, row, name) if r["value"] is not None]
    if not values:
        return None
    if row.kind == "latency":
        return tuple(statistics.median(value[i] for value in values) for i in range(2))
    return statistics.median(values)


def show_spread(results, row, name):
    values = [r["value"] for r in of_row(results, row, name) if r["value"] is not None]
    middle = median_value(results, row, name)
    if middle is None:
        return "-"
    if row.kind == "latency":
        low, high = ([pick(value[i] for value in values) for i in range(2)] for pick in (min, max))
    else:
        low, high = min(values), max(values)
    return f"**{show_value(middle)}** ({show_value(low)} to {show_value(high)})"


def show_ratio(results, row, name, to):
    value, base = median_value(results, row, name), median_value(results, row, to)
    if value is None or base is None:
        return "-"
    pairs = zip(value, base) if row.kind == "latency" else [(value, base)]
    return " / ".join(f"{v / b:.2f}" if b else "-" for v, b in pairs)


def show_met(results, row):
    value = median_value(results, row, SUBJECT)
    if value is None or row.target is None:
        return "-"
    if row.kind == "latency":
        met = all(v <= t for v, t in zip(value, row.target))
    else:
        met = value >= row.target if row.higher_is_better else value <= row.target
    return "yes" if met else "no"


def show_delivered(results, row, name):
    found = [r["found"] for r in of_row(results, row, name)]
    expected = sum(f["deliveries_expected"] for f in found)
    if not expected:
        return "-"
    delivered = sum(f["delivered"] for f in found)
    percent = 100 * delivered / expected
    return "100 %" if delivered == expected else f"{min(percent, 99.99):.2f} %"


def generator_figures(results, row, name):
    """Median CPU seconds of the generator per million deliveries, and its share of one core."""
    cost, share = [], []
    for r in of_row(results, row, name):
        for part in r["found"]["measures"]:
            if part["name"] in ("run", "drain"):
                if part["delivered"]:
                    cost.append(part["generator_cpu_s"] / part["delivered"] * 1e6)
                if part["wall_s"]:
                    share.append(100 * part["generator_cpu_s"] / part["wall_s"])
    return (statistics.median(cost) if cost else None,
            statistics.median(share) if share else None)


def print_table(header, lines):
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def log_line(results, names):
    """The row on log bytes per message, from the counters of the durable rows."""
    per_message = []
    for r in results:
        logged = (r.get("counters") or {}).get("log_bytes")
        if r["server"] == SUBJECT and r["row"] == "fan_in_qos1_persistent" and logged:
            per_message.append(logged / r["found"]["published"])
    if not per_message:
        return []
    middle = statistics.median(per_message)
    limit = 1.5 * rows.PAYLOAD
    shown = f"**{middle:.0f}** ({min(per_message):.0f} to {max(per_message):.0f})"
    cells = [shown if name == SUBJECT else "-" for name in names]
    return [[f"log written per message of {rows.PAYLOAD} B (bytes)", *cells, "-", "-", "-", "-",
             f"<= {limit:.0f}", "yes" if middle <= limit else "no"]]


def print_main_table(args, results, names):
    header = ["work", *names, f"{SUBJECT} / {BASELINE}", f"{SUBJECT} / {FLOOR}",
              "delivered (" + ", ".join(names) + ")",
              "generator CPU s per million (" + ", ".join(names) + ")", "target", "met"]
    lines = []
    for row in args.rows:
        cost = [generator_figures(results, row, name)[0] for name in names]
        lines.append([f"{row.title} ({row.unit})",
                      *(show_spread(results, row, name) for name in names),
                      show_ratio(results, row, SUBJECT, BASELINE),
                      show_ratio(results, row, SUBJECT, FLOOR),
                      ", ".join(show_delivered(results, row, name) for name in names),
                      ", ".join(show_number(value) for value in cost),
                      row.target_text or "-", show_met(results, row)])
    print_table(header, lines + log_line(results, names))


def median_of(found, pick):
    values = [pick(f) for f in found]
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def show_latency(found, name):
    if not any(f[name]["count"] for f in found):
        return "-"
    return " / ".join(show_number(median_of(found, lambda f, k=k: f[name][k]))
                      for k in ("p50_us", "p99_us", "p999_us"))


def print_detail_table(args, results, names):
    header = ["work", "server", "messages", "deliveries or acks per s",
              "delivery p50 / p99 / p99.9 us", "PUBACK p50 / p99 / p99.9 us",
              "server % of a core", "generator % of a core"]
    lines = []
    for row in args.rows:
        for name in names:
            found = [r["found"] for r in of_row(results, row, name)]
            parts = [f["measures"][-1] for f in found if f["measures"]]
            if not parts:
                continue
            rate = median_of(parts, lambda p: (p["delivered"] or p["acked"]) / p["wall_s"])
            busy = median_of(parts, lambda p: 100 * p.get("server_cpu_s", 0) / p["wall_s"])
            generator = median_of(parts, lambda p: 100 * p["generator_cpu_s"] / p["wall_s"])
            lines.append([row.key, name, show_number(median_of(found, lambda f: f["published"])),
                          show_number(rate), show_latency(found, "delivery"),
                          show_latency(found, "ack"), show_number(busy), show_number(generator)])
    print_table(header, lines)


def print_report(args, programs, results):
    names = list(programs)
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    print(f"\n# Benchmark of {now}{', quick' if args.quick else ''}\n")
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, load average "
          f"{results[0]['load_average']:.2f} at the start and {os.getloadavg()[0]:.2f} at the end; "
          f"{args.repeat} runs of each, interleaved; payload {rows.PAYLOAD} B, "
          f"{args.batch or 10} messages per write. Median (least to most).\n")
    for name in names:
        print(f"- {servers.SERVERS[name].version(programs[name])}: "
              f"{servers.SERVERS[name].settings}")
    print()
    print_main_table(args, results, names)
    print("Details, medians. Without a rate limit the latencies are those of full queues.\n")
    print_detail_table(args, results, names)
    errors = sorted({f"{r['row']}, {r['server']}: {r['error']}" for r in results if r["error"]})
    for error in errors:
        print(f"- {error}")


def main():
    args = parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    pathlib.Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    programs = find_programs(args.servers)
    if not programs:
        sys.exit("no server to run")
    results = run_all(args, programs)
    print_report(args, programs, results)
    output = pathlib.Path(args.output) if args.output else (
        servers.ROOT / "bench/results" / time.strftime("%Y%m%d-%H%M%S.json"))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"quick": args.quick, "repeat": args.repeat,
                                  "kernel": platform.release(), "cores": os.cpu_count(),
                                  "servers": {name: servers.SERVERS[name].version(program)
                                              for name, program in programs.items()},
                                  "results": results}, indent=1) + "\n")
    print(f"\nRaw results: {os.path.relpath(output)}")
    wrong = [r for r in results if r["server"] == SUBJECT and (not r["found"] or r["error"])]
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
