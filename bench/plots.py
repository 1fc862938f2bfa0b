"""The plots of a benchmark's report."""
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402  (the backend comes first)

import rows
import stats

COLOURS = {"tidemq": "#0072b2", "mosquitto": "#d55e00", "rumqttd": "#009e73", "mochi": "#cc79a7",
           "hivemq": "#e69f00", "moquette": "#56b4e9", "aedes": "#8c564b", "floor": "#888888"}
MARKERS = {"tidemq": "o", "mosquitto": "s", "rumqttd": "^", "floor": "d"}
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
         "axes.axisbelow": True, "axes.grid": True, "grid.color": "#dddddd",
         "grid.linewidth": 0.7, "legend.frameon": False, "axes.titlesize": 11,
         "axes.titleweight": "bold", "figure.dpi": 110, "savefig.dpi": 130}
CPU_ROWS = ("fan_in_qos0", "fan_in_qos1", "fan_in_qos1_persistent", "fan_in_qos2", "fan_out_qos0",
            "fan_out_qos1")
SHORT = {"fan_in_qos0": "fan-in QoS 0", "fan_in_qos1": "fan-in QoS 1",
         "fan_in_qos1_persistent": "fan-in QoS 1,\npersistent session",
         "fan_in_qos2": "fan-in QoS 2", "fan_out_qos0": "fan-out QoS 0",
         "fan_out_qos1": "fan-out QoS 1"}


def plain(value, _=None):
    """A number on an axis: 1,000 or 0.1, no powers."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def short(value):
    """A number on a bar."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def log_axis(axis, set_scale):
    """A logarithmic axis with plain numbers on it."""
    set_scale("log")
    axis.set_major_formatter(ticker.FuncFormatter(plain))
    axis.set_minor_formatter(ticker.NullFormatter())


def save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(folder / name)
    pyplot.close(figure)
    return name


def row_of(key):
    return next(row for row in rows.ROWS if row.key == key)


def group_bars(axes, names, groups):
    """Horizontal bars, one group for each (label, {server: value}), on a logarithmic axis."""
    height = 0.84 / max(1, len(names))
    for at, (_, found) in enumerate(groups):
        present = [name for name in names if found.get(name)]
        for i, name in enumerate(present):
            y = at - 0.42 + height * (i + 0.5 + (len(names) - len(present)) / 2)
            axes.barh(y, found[name], height * 0.9, color=COLOURS[name])
            axes.text(found[name] * 1.06, y, short(found[name]), va="center", fontsize=7.5)
    axes.set_yticks(range(len(groups)), [label for label, _ in groups])
    axes.set_ylim(-0.5, len(groups) - 0.5)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    log_axis(axes.xaxis, axes.set_xscale)
    axes.margins(x=0.14)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in names]
    axes.legend(handles, names, loc="lower left", ncols=len(names), fontsize=9,
                bbox_to_anchor=(0, 1.0), columnspacing=1.2, handlelength=1.2, borderaxespad=0.3)


def draw_bars(folder, name, title, unit, names, groups):
    """One plot of grouped bars; None when there is nothing to show."""
    groups = [(label, found) for label, found in groups if any(found.values())]
    names = [n for n in names if any(found.get(n) for _, found in groups)]
    if not groups:
        return None
    bars = sum(len([n for n in names if found.get(n)]) for _, found in groups)
    figure, axes = pyplot.subplots(figsize=(9, max(2.6, 1.5 + 0.2 * bars + 0.15 * len(groups))))
    group_bars(axes, names, groups)
    figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=12)
    axes.set_xlabel(f"{unit} (logarithmic)")
    return save(figure, folder, name)


def cpu_plot(folder, content, names):
    groups = [(SHORT[key], {n: stats.median(content, row_of(key), n, "cpu") for n in names})
              for key in CPU_ROWS]
    return draw_bars(folder, "cpu.png", "Server CPU per million messages delivered: less is better",
                     "CPU seconds per million", names, groups)


def latency_plot(folder, content, names):
    groups = [(label, {n: stats.median(content, row_of("pairs"), n, key) for n in names})
              for key, label in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))]
    return draw_bars(folder, "latency.png",
                     "Publish to delivery, 100 pairs, QoS 1, 1,000 messages per second",
                     "microseconds", names, groups)


def puback_plot(folder, content, names):
    """PUBACK times of TideMQ in the paced rows, with the target."""
    keys = [row.key for row in rows.MAIN if row.scenario == "puback"
            and stats.median(content, row, rows.SUBJECT, "p50") is not None]
    if not keys or rows.SUBJECT not in names:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 4.2))
    for i, (key, label, colour) in enumerate((("p50", "p50", "#9ecae1"), ("p99", "p99", "#0072b2"),
                                              ("p999", "p99.9", "#08306b"))):
        found = [stats.median(content, row_of(k), rows.SUBJECT, key) / 1000 for k in keys]
        places = [at + (i - 1) * 0.27 for at in range(len(keys))]
        bars = axes.bar(places, found, 0.25, color=colour, label=label)
        axes.bar_label(bars, [short(value) for value in found], fontsize=8, padding=2)
    axes.axhline(5, color="#d55e00", linewidth=1.4, linestyle="--", label="target of p99: 5 ms")
    axes.set_xticks(range(len(keys)), [tick_text(content, key) for key in keys], fontsize=9)
    axes.grid(False, axis="x")
    log_axis(axes.yaxis, axes.set_yscale)
    axes.margins(y=0.15)
    axes.set_ylabel("milliseconds (logarithmic)")
    figure.suptitle("TideMQ: publish to durable PUBACK while checkpoints and seals run", x=0.02,
                    ha="left", fontweight="bold", fontsize=12)
    axes.legend(loc="lower left", ncols=4, fontsize=9, bbox_to_anchor=(0, 1.0), borderaxespad=0.3)
    return save(figure, folder, "puback.png")


def tick_text(content, key):
    """A paced row's rate, configuration, and what the engine did meanwhile."""
    row = row_of(key)
    counts = [stats.median(content, row, rows.SUBJECT, name) or 0
              for name in ("checkpoints", "seals")]
    rate = row.load[row.load.index("--rate") + 1]
    return (f"{rate:,} msg/s\n{'frequent' if row.settings else 'default'}\n"
            f"{counts[0]:.0f} checkpoints, {counts[1]:.0f} seals")


def figure_of(series, key):
    """How a figure of a series is labelled."""
    return next(figure for row in rows.ROWS if row.series == series.key
                for figure in row.figures if figure.key == key)


def series_plot(folder, content, series, names):
    """A curve for each figure of a series, side by side; None without two points."""
    curves = {key: {n: found for n in names
                    if len(found := stats.points(content, key, series, n)) > 1}
              for key in series.figures}
    keys = [key for key in series.figures if curves[key]]
    if not keys:
        return None
    across = 2 if len(keys) == 4 else min(3, len(keys))
    down = -(-len(keys) // across)
    figure, grid = pyplot.subplots(down, across, squeeze=False,
                                   figsize=(max(6.5, 4.3 * across), 3.9 * down))
    for axes, key in zip(grid.flat, keys):
        draw_curves(axes, series, figure_of(series, key), curves[key])
    for axes in list(grid.flat)[len(keys):]:
        axes.set_axis_off()
    figure.suptitle(series.title, x=0.02, ha="left", fontweight="bold", fontsize=12)
    return save(figure, folder, f"series_{series.key}.png")


def draw_curves(axes, series, figure, curves):
    for name, found in curves.items():
        axes.plot(*zip(*found), color=COLOURS[name], marker=MARKERS.get(name, "o"), label=name,
                  linewidth=2, markersize=6)
    if series.key != "loops":
        log_axis(axes.xaxis, axes.set_xscale)
    axes.set_xticks(sorted({x for found in curves.values() for x, _ in found}))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(short_count))
    log_axis(axes.yaxis, axes.set_yscale)
    low, high = axes.get_ylim()
    if high / low < 20:  # room, so that a small change does not look like a large one
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 5, middle * 5)
    axes.yaxis.set_major_locator(ticker.LogLocator(10, subs=(1, 2, 5)))
    axes.set_xlabel(series.x_label)
    axes.set_ylabel(figure.unit)
    axes.set_title(figure.label, loc="left")
    axes.legend(fontsize=9)


def short_count(value, _=None):
    """1,000,000 as 1M: the sizes of a series."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if value >= size and value % size == 0:
            return f"{value / size:g}{letter}"
    return f"{value / 1024:g}Ki" if value >= 1024 and value % 1024 == 0 else f"{value:g}"


def draw_all(folder, content):
    """Draws what the results have; returns {name of a plot: file}."""
    names = [name for name in COLOURS if name in content["servers"]]
    with pyplot.rc_context(STYLE):
        files = {"cpu": cpu_plot(folder, content, names),
                 "latency": latency_plot(folder, content, names),
                 "puback": puback_plot(folder, content, names)}
        for series in rows.SERIES:
            files[series.key] = series_plot(folder, content, series, names)
    return {name: file for name, file in files.items() if file}
