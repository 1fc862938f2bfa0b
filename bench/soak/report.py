"""What a soak has measured: the judgement, the CSV, the Markdown page and the plot."""

import csv

MIB = 1 << 20
GROWTH_MIB_H = 8.0  # along the line fitted to the lowest of each tenth
GROWTH_LEAST_MIB = 1.0  # what a short run may show all the same
DESCRIPTORS_MORE = 16
PARTS = 10


def slope(points):
    """Least squares: units of y for each unit of x."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def floors(rows, name, length_s):
    """The lowest value of each tenth of the run: what is held for a burst only does not count."""
    lowest = {}
    for row in rows:
        part = int(row["seconds"] * PARTS / length_s)
        if part not in lowest or row[name] < lowest[part][name]:
            lowest[part] = row
    return [(row["seconds"] / 3600, row[name] / MIB) for row in lowest.values()]


def judge(samples, disk_limit):
    """Rows of (what, found, allowed, whether it holds). The first third is warm-up."""
    end = samples[-1]["seconds"]
    late = [row for row in samples if row["seconds"] >= end / 3]
    middle = [row for row in late if row["seconds"] < end * 2 / 3]
    last = [row for row in late if row["seconds"] >= end * 2 / 3]
    hours = (late[-1]["seconds"] - late[0]["seconds"]) / 3600
    growth = {name: slope(floors(late, name, end)) for name in ("anonymous", "counted")}
    allowed = max(GROWTH_MIB_H, GROWTH_LEAST_MIB / hours if hours else 0)
    files = [max(row["descriptors"] for row in part) for part in (middle, last)]
    disk = max(row["disk"] for row in samples)
    delivered = [part[-1]["delivered"] - part[0]["delivered"] for part in (middle, last)]
    return [
        *((f"{name} memory, lowest of each tenth, MiB an hour over the last two thirds",
           f"{per_hour:+.2f}", f"<= {allowed:.2f}", per_hour <= allowed)
          for name, per_hour in growth.items()),
        ("most open files, last third against the one before", f"{files[1]} / {files[0]}",
         f"<= {DESCRIPTORS_MORE} more", files[1] <= files[0] + DESCRIPTORS_MORE),
        ("most bytes on disk, MiB", f"{disk / MIB:.1f}", f"<= {disk_limit / MIB:.0f}",
         disk <= disk_limit),
        ("delivered in the last third, of the third before", f"{delivered[1] / delivered[0]:.2f}",
         ">= 0.90", delivered[1] >= 0.9 * delivered[0]),
        ("connections that the server ended", str(samples[-1]["lost"]), "0",
         samples[-1]["lost"] == 0),
    ]


def write_csv(path, samples):
    """All samples."""
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(samples[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(samples)


def write_page(path, title, settings, rows, counts, samples):
    """The Markdown page."""
    lines = [f"# {title}", "", *settings, "", "| measured | found | allowed | holds |",
             "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {found} | {allowed} | {'yes' if holds else 'NO'} |"
              for what, found, allowed, holds in rows]
    lines += ["", "| third | anonymous memory, MiB: least, mean, most | resident, most | open files "
              "| disk, MiB |", "| --- | --- | --- | --- | --- |"]
    end = samples[-1]["seconds"]
    for number in range(3):
        part = [row for row in samples
                if end * number / 3 <= row["seconds"] <= end * (number + 1) / 3]
        memory = [row["anonymous"] / MIB for row in part]
        lines.append(
            f"| {number + 1} | {min(memory):.1f}, {sum(memory) / len(memory):.1f}, "
            f"{max(memory):.1f} | {max(row['resident'] for row in part) / MIB:.1f} | "
            f"{max(row['descriptors'] for row in part)} | "
            f"{max(row['disk'] for row in part) / MIB:.1f} |")
    lines += ["", "| counted | |", "| --- | --- |"]
    lines += [f"| {name} | {value:,} |" for name, value in counts.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(path, title, samples):
    """Memory, files, disk and deliveries over time."""
    import matplotlib  # the judgement alone does not need it
    matplotlib.use("Agg")
    from matplotlib import pyplot
    minutes = [row["seconds"] / 60 for row in samples]
    figure, axes = pyplot.subplots(4, 1, figsize=(9, 10), sharex=True)
    axes[0].plot(minutes, [row["resident"] / MIB for row in samples], label="resident")
    axes[0].plot(minutes, [row["anonymous"] / MIB for row in samples], label="anonymous")
    axes[0].plot(minutes, [row["counted"] / MIB for row in samples], label="tidemq_memory_used")
    axes[0].set_ylabel("memory, MiB")
    axes[0].legend(loc="lower right")
    axes[1].plot(minutes, [row["descriptors"] for row in samples])
    axes[1].set_ylabel("open files")
    axes[2].plot(minutes, [row["disk"] / MIB for row in samples])
    axes[2].set_ylabel("disk, MiB")
    pairs = list(zip(samples, samples[1:]))
    axes[3].plot(minutes[1:], [(after["delivered"] - before["delivered"])
                               / max(0.001, after["seconds"] - before["seconds"])
                               for before, after in pairs])
    axes[3].set_ylabel("delivered a second")
    axes[3].set_xlabel("minutes")
    for one in axes:
        one.set_ylim(bottom=0)
        one.axvspan(0, minutes[-1] / 3, color="0.92")
        one.grid(alpha=0.3)
    axes[0].set_title(title + " (grey: warm-up)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
