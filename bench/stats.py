"""What is computed from the results of a run: medians, ratios, targets, growth. Pure functions over
the content of raw.json, see run.py."""
import statistics

import rows

BUSY = 0.9  # of a core: a generator that used more may have been what was slow


def results_of(content, row, server):
    """A server's runs of a row."""
    return [r for r in content["results"] if r["row"] == row.key and r["server"] == server]


def values(content, row, server, key):
    """A figure from every run that has it."""
    return [r["figures"][key] for r in results_of(content, row, server)
            if r["figures"].get(key) is not None]


def median(content, row, server, key):
    """The median of a figure over the runs; None without any."""
    found = values(content, row, server, key)
    return statistics.median(found) if found else None


def ratio(content, row, server, other, key):
    """The ratio of two servers' medians; None where one has none or the second is 0."""
    value, base = median(content, row, server, key), median(content, row, other, key)
    return value / base if value is not None and base else None


def count_of(content, row, server):
    """The most messages or things that a server ran a row with; 0 when it did not."""
    return max((r["count"] for r in results_of(content, row, server)), default=0)


def best_other(content, row, figure, apart):
    """The best server but the subject and those `apart` that delivered all, and in rows of many
    things had as many, with the subject's ratio to it: (name, ratio); None without one."""
    found = {}
    for name in content["servers"]:
        got, due = delivered(content, row, name)
        same = not row.others_count or (count_of(content, row, name)
                                        == count_of(content, row, rows.SUBJECT))
        value = median(content, row, name, figure.key)
        if value and got >= due and same and name not in (rows.SUBJECT, *apart):
            found[name] = value
    value = median(content, row, rows.SUBJECT, figure.key)
    if value is None or not found:
        return None
    best = (max if figure.higher_is_better else min)(found, key=found.get)
    return best, value / found[best]


def is_met(figure, value):
    """Whether a value reaches the figure's target; None without target or value."""
    if value is None or figure.target is None:
        return None
    return value >= figure.target if figure.higher_is_better else value <= figure.target


def ratio_aim(figure):
    """The figure's target as a share of what mosquitto took where it was set, or None."""
    return figure.target / figure.beside if figure.beside else None


def times_beside(content, row, server):
    """Medians, in microseconds, of what stands beside a row's latencies: {"late": p99 of how late
    the generator was to publish, "disk_p50": ..., "disk_p99": of a sync by itself}; without what
    no run has."""
    runs = results_of(content, row, server)
    found = {"late": [r["found"]["slip"]["p99_us"] for r in runs
                      if r["found"] and r["found"].get("slip")],
             **{f"disk_{key}": [r["disk_us"][key] for r in runs if "disk_us" in r]
                for key in ("p50", "p99")}}
    return {key: statistics.median(times) for key, times in found.items() if times}


def delivered(content, row, server):
    """(delivered, due) of all runs of a row."""
    found = [r["found"] for r in results_of(content, row, server) if r["found"]]
    return (sum(f["delivered"] for f in found), sum(f["deliveries_expected"] for f in found))


def points(content, key, series, server):
    """[(x, median)] of a series' figure. What was run twice with the same x counts as one."""
    found = {}
    for row in rows.ROWS:
        if row.series == series.key:
            for r in results_of(content, row, server):
                if r["figures"].get(key) is not None:
                    found.setdefault(row.x or r["count"], []).append(r["figures"][key])
    return sorted((x, statistics.median(all_of_x)) for x, all_of_x in found.items())


def growth(curve):
    """The most by which a cost grows from one point of a curve to a later one, as (factor, x of the
    first, x of the second); None with fewer than two points. Costs of 0 are left out. A factor
    below 1 means that it falls everywhere."""
    curve = [(x, value) for x, value in curve if value > 0]
    steps = [(later / value, x, later_x) for i, (x, value) in enumerate(curve)
             for later_x, later in curve[i + 1:]]
    return max(steps) if steps else None


def measured_part(result):
    """The part of a run that its figures are about: the last one that moved something."""
    parts = [part for part in (result["found"] or {}).get("measures", []) if part["wall_s"] > 0]
    return parts[-1] if parts else None


def generator_share(part):
    """The load generator's share of one core in a part of a run."""
    return part["generator_cpu_s"] / part["wall_s"]


def errors(content):
    """{(row key, server): [texts]} of the runs in which something went wrong."""
    found = {}
    for r in content["results"]:
        text = r["error"] or ("" if r["found"] is None or r["found"]["ok"] else "incomplete")
        if text and text not in found.setdefault((r["row"], r["server"]), []):
            found[r["row"], r["server"]].append(text)
    return {key: texts for key, texts in found.items() if texts}
