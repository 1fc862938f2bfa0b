"""Makes report.md and the plots of a benchmark's results. Usage: report.py [FOLDER], by default the
newest in bench/results; `bench/report` calls it with the tests' Python, which has matplotlib."""
import json
import pathlib
import statistics
import sys

import plots
import rows
import scenarios
import stats

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
BASELINE, FLOOR = "mosquitto", "floor"
NOT_MEASURED = [
    ("rows on RocketMQ", "TideMQ has no such engine yet"),
    ("mosquitto 2.1.2, FlashMQ, NanoMQ", "no registry that this command installs from has them"),
]
LATENCIES = """\
## Latencies and the machine

Microseconds, medians of the runs. *Generator late*: how long after its time the generator itself, which
does not wait for the server, came to publish. A machine that stands still for milliseconds
(another tenant, a limit on processor time) shows there, and in every server's p99. *Disk's sync*: 2,000 times
4 KiB and fdatasync, one after the other, before the server was started; no durable answer is
faster.

"""
METHOD = """\
## Method

- Servers take turns run by run, each run with a fresh server, an empty folder on a real disk and
  a free port of 127.0.0.1, left alone until it is quiet. Figures are medians over the runs, with
  the least and the most behind them; compare figures of one report only.
- **CPU** is user and system time of the server process, all threads, from the first publish until
  200 ms after the last delivery and acknowledgement, divided by deliveries (fan-out to 500 makes
  500 of each message). Connecting and subscribing are not in it.
- Load comes from one generator, the same for all: payload {payload} B, {batch} messages per write,
  at most 100 unacknowledged per publisher and 10,000 undelivered (fan-out: 100) in all, MQTT 3.1.1.
  With a rate: one message per write, unless the row says more.
- TideMQ syncs to disk before each PUBACK and PUBREC in every row. What others keep is shown by the
  row on kill -9.
- Slow servers get fewer messages and runs (the second table has the counts), so that the whole ends
  in time. Servers in a Java virtual machine first take a load that is not counted.
- **Ready again**: from starting the process to the answer to the first CONNECT. **Memory** is
  resident anonymous memory; the kernel's is not in it. **Disk** is the growth of the folder.
- The generator's own share of a core is in the second table; over 90 % it may have been what was
  slow: rates are then too low, CPU figures hold.
"""


def show(value):
    """A number with as many digits as mean something."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}"


def show_spread(found, is_subject):
    if not found:
        return "-"
    middle = show(statistics.median(found))
    middle = f"**{middle}**" if is_subject else middle
    low, high = show(min(found)), show(max(found))
    return middle if low == high else f"{middle} ({low} to {high})"


def show_ratio(value):
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def show_aimed(ratio, aim):
    """A ratio, and whether it is within its aim."""
    if ratio is None or aim is None:
        return show_ratio(ratio)
    return f"{show_ratio(ratio)} (aim {show_ratio(aim)}: {'yes' if ratio <= aim else '**no**'})"


def show_met(figure, value):
    return {None: "-", True: "yes", False: "**no**"}[stats.is_met(figure, value)]


def table(header, lines):
    return "\n".join("| " + " | ".join(line) + " |"
                     for line in [header, ["---"] * len(header), *lines]) + "\n"


def ran(content, row):
    return any(r["row"] == row.key for r in content["results"])


def names_of(content):
    """Servers in the order of the tables."""
    order = [rows.SUBJECT, BASELINE, FLOOR]
    return sorted(content["servers"], key=lambda name: (order.index(name) if name in order else 9))


def head(content):
    lines = [f"# Benchmark of {content['began']}{', quick' if content['quick'] else ''}\n",
             f"Linux {content['kernel']}, {content['cores']} cores, load average "
             f"{content['load_average']:.2f} at the start and "
             f"{content.get('load_average_end', 0):.2f} at the end; up to {content['repeat']} runs "
             "of each row and server, interleaved.\n"]
    for name in names_of(content):
        server = content["servers"][name]
        lines.append(f"- {server['version']}: {server['settings']}")
    for name, why in content["missing"].items():
        lines.append(f"- {name} did not take part: {why}")
    if content.get("late"):
        lines.append("- The time ran out: some runs of other servers were not begun.")
    return "\n".join(lines) + "\n"


def main_table(content):
    names = names_of(content)
    header = ["work: figure", "target", "met", *names, f"{rows.SUBJECT} / {BASELINE}",
              f"{rows.SUBJECT} / {FLOOR}", f"{rows.SUBJECT} / best other"]
    lines = []
    for row in rows.MAIN:
        if not ran(content, row):
            continue
        for figure in row.figures:
            found = {name: stats.values(content, row, name, figure.key) for name in names}
            if not any(found.values()):
                continue
            middle = stats.median(content, row, rows.SUBJECT, figure.key)
            lines.append([f"{row.title}: {figure.label} ({figure.unit})", figure.target_text or "-",
                          show_met(figure, middle if is_full(content, row) else None),
                          *(show_spread(found[name], name == rows.SUBJECT)
                            + (short_of(content, row, name) if found[name] else "")
                            for name in names),
                          show_aimed(stats.ratio(content, row, rows.SUBJECT, BASELINE, figure.key),
                                     stats.ratio_aim(figure)),
                          show_ratio(stats.ratio(content, row, rows.SUBJECT, FLOOR, figure.key)),
                          show_best(stats.best_other(content, row, figure, [FLOOR]))])
    return table(header, lines)


def latency_table(content):
    """Latencies with what the machine itself did meanwhile; empty when none were measured."""
    lines = []
    for row in rows.MAIN:
        if row.scenario not in scenarios.TIMED:
            continue
        for name in names_of(content):
            times = [stats.median(content, row, name, key) for key in ("p50", "p99", "p999")]
            beside = stats.times_beside(content, row, name)
            if times[0] is not None:
                lines.append([row.title, name, *map(show, times), show(beside.get("late")),
                              show(beside.get("disk_p50")), show(beside.get("disk_p99"))])
    if not lines:
        return ""
    return LATENCIES + table(["work", "server", "p50", "p99", "p99.9", "generator late, p99",
                              "disk's sync, p50", "disk's sync, p99"], lines)


def is_full(content, row):
    """Whether TideMQ ran a row of many things with all of them, as its target wants."""
    return not row.others_count or stats.count_of(content, row, rows.SUBJECT) == row.count


def show_best(found):
    return f"{show_ratio(found[1])} ({found[0]})" if found else "-"


def short_of(content, row, name):
    """A mark where a server did not deliver everything, or did the row with fewer things."""
    count = stats.count_of(content, row, name)
    mark = f" [{count:,}]" if row.others_count and count != row.count else ""
    got, due = stats.delivered(content, row, name)
    if row.scenario == "kill" or got >= due:
        return mark
    return f"{mark} [{min(99.99, 100 * got / due):.4g} % delivered]"


def percent(share):
    return f"{100 * share:.0f}"


def detail_table(content):
    header = ["work", "server", "runs", "messages or things", "per s", "server % of a core",
              "generator % of a core"]
    lines = []
    for row in rows.ROWS:
        for name in names_of(content):
            found = stats.results_of(content, row, name)
            parts = [part for part in map(stats.measured_part, found) if part]
            if not parts:
                continue
            rate = statistics.median(
                (part["delivered"] or part["acked"] or part["connections"] or part["subscribed"])
                / part["wall_s"] for part in parts)
            busy = statistics.median(part.get("server_cpu_s", 0) / part["wall_s"] for part in parts)
            share = statistics.median(map(stats.generator_share, parts))
            mark = " (the generator may be the limit)" if share > stats.BUSY else ""
            lines.append([row.key, name, str(len(parts)), f"{found[0]['count']:,}", show(rate),
                          percent(busy), percent(share) + mark])
    return table(header, lines)


def series_part(content, series, files):
    """A series: its curves, its numbers, and whether the cost grows linearly with the work."""
    names = [name for name in names_of(content)
             if any(len(stats.points(content, key, series, name)) for key in series.figures)]
    if not names:
        reasons = {why for row in rows.ROWS if row.series == series.key
                   for why in content["left_out"].get(row.key, {}).values()}
        why = "; ".join(sorted(reasons)) or "not asked for"
        return f"### {series.title}\n\nNot measured: {why}.\n"
    text = [f"### {series.title}\n"]
    if series.key in files:
        text.append(f"![{series.title}]({files[series.key]})\n")
    text.append(f"Linear here means: no cost grows by more than {series.factor:g} from one size to "
                f"a larger one ({series.why}).\n")
    lines = []
    sizes = sorted({x for key in series.figures for name in names
                    for x, _ in stats.points(content, key, series, name)})
    for key in series.figures:
        figure = plots.figure_of(series, key)
        for name in names:
            curve = dict(stats.points(content, key, series, name))
            if curve:
                lines.append([f"{figure.label} ({figure.unit})", name,
                              *(show(curve.get(x)) for x in sizes), verdict(curve, series.factor)])
    text.append(table(["figure", "server", *(f"{x:,}" for x in sizes), "most growth"], lines))
    return "\n".join(text)


def verdict(curve, factor):
    found = stats.growth(sorted(curve.items()))
    if found is None:
        return "-"
    grown, first, second = found
    if grown <= 1:
        return f"none, falls (x{grown:.2f}): linear or better"
    word = "linear" if grown <= factor else "**more than linear**"
    return f"x{grown:.2f} from {first:,} to {second:,}: {word}"


def trouble(content):
    """What went wrong, and which server does not run which row and why."""
    lines = [f"- {key}, {name}: {'; '.join(texts)[:300]}"
             for (key, name), texts in sorted(stats.errors(content).items())]
    for key, servers in content["left_out"].items():
        lines += [f"- {key}, {name}: not run, {why}" for name, why in servers.items()]
    lines += [f"- {what}: not measured, {why}" for what, why in NOT_MEASURED]
    return "\n".join(lines) + "\n"


def pictures(files):
    titles = {"cpu": "Server CPU", "latency": "Latency of pairs", "puback": "PUBACK under load"}
    return "\n".join(f"![{title}]({files[key]})\n" for key, title in titles.items() if key in files)


def report(content, files):
    """The whole report as Markdown."""
    method = METHOD.format(payload=content["payload"], batch=content["batch"])
    parts = [head(content), "## Targets and peers\n",
             "Median (least to most) of the runs. Lower is better, but for rates. "
             "[N]: with so many things instead; a target is not judged then. Best other: of those "
             "that delivered everything, the floor apart. *Aim*: the target as a share of what "
             "mosquitto took on the machine that the target was set on; it holds for a faster or "
             "slower machine, too.\n",
             main_table(content), pictures(files), latency_table(content),
             "## Does cost grow with the work?\n",
             *(series_part(content, series, files) for series in rows.SERIES),
             "## Counts, rates, and the generator\n", detail_table(content),
             "## What failed or was not run\n", trouble(content), method]
    return "\n".join(parts)


def newest():
    found = sorted(RESULTS.glob("*/raw.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit("no results: run bench/run.py first")
    return found[-1].parent


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else newest()
    content = json.loads((folder / "raw.json").read_text())
    files = plots.draw_all(folder, content)
    target = folder / "report.md"
    target.write_text(report(content, files))
    print(f"{target}\n" + "\n".join(str(folder / file) for file in files.values()))


if __name__ == "__main__":
    main()
