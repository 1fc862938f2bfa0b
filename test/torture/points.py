"""The named points of points.def, and the plan of a run: which life ends where.

A plan is made of the seed alone, before anything runs, so that the same seed makes the same plan.
"""

import ctypes
import itertools
import os
import pathlib
import random
import subprocess
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("TORTURE_BUILD", HERE.parents[1] / "build" / "torture"))
LIBRARY = BUILD / "killer.so"

SERVE_LIMIT_S = 1.5  # a life whose point does not come is killed after this
LONG_S, SHORT_S = 0.9, 0.3
START_S = 0.1  # about what a start takes

RARE = ("merge.", "retention.", "segment.", "pool.")

# A kill at the first leaves what the second needs to happen in the next start.
ENABLES = {
    "retention.committed": ("recovery.segment_removed", "recovery.segment_freed"),
    "retention.segment_removed": ("recovery.segment_removed",),
    "retention.segment_recycled": ("recovery.segment_freed", "recovery.segment_removed"),
    "segment.rename": ("recovery.segment_freed",),
    "segment.dir_sync": ("recovery.segment_freed",),
    "pool.fill": ("recovery.pool_removed",),
}
# Two lives that end in their first seal leave so much index that the third start seals it.
TWO_SEALS = ("seal.before_rename", "seal.before_rename")
AFTER_TWO_SEALS = ("recovery.seal_write", "recovery.seal_rename")


@dataclass
class Point:
    """A point, armed: the number-th call, before ('b'), in the middle ('m') or after it ('a')."""

    name: str
    moment: str
    number: int = 1
    part: int = 128

    def __str__(self):
        return f"{self.name}:{self.moment}:{self.number}:{self.part}"


@dataclass
class Cycle:
    """One life of the server: the starts that are killed before it, and its end."""

    number: int
    starts: list = field(default_factory=list)  # points; a float: killed after so long
    point: Point = None  # None: killed at a random moment
    after_s: float = 0.0  # the moment, or the longest wait for the point
    check: bool = True


def build():
    """Compiles the library when it is missing or out of date."""
    subprocess.run(["make", "-s", "-C", HERE, f"BUILD={BUILD}"], check=True)


def load():
    """{name: moments}, as the library knows them."""
    library = ctypes.CDLL(str(LIBRARY))
    library.torture_point.restype = ctypes.c_char_p
    rows = iter(lambda index=itertools.count(): library.torture_point(next(index)), None)
    return dict(row.decode().split(" ") for row in rows)


def names_for(moments, has_retention):
    """(those of a serving life, those of a start, those of the first start)."""
    serve, starts, create = [], [], []
    for name in moments:
        if name.startswith("create."):
            create.append(name)
        elif name.startswith("recovery.") and "new_epoch" not in name:
            starts.append(name)
        elif has_retention or not name.startswith("retention."):
            serve.append(name)
    return serve, starts, create


class Planner:
    """Makes the plan of one run."""

    def __init__(self, seed, run, has_retention, moments, wanted=()):
        self.moments = moments
        self.random = random.Random(f"{seed} {run} plan")
        before = [name for name, enabled in ENABLES.items() if set(enabled) & set(wanted)]
        before += [TWO_SEALS[0]] if set(AFTER_TWO_SEALS) & set(wanted) else []
        wanted = {name: moments[name] for name in (*wanted, *before)}
        serve, self.starts, self.create = (
            some or every for some, every in zip(names_for(wanted, True),
                                                 names_for(moments, has_retention)))
        # All runs walk through one order of the names, each from where the one before has ended.
        random.Random(f"{seed} {has_retention} order").shuffle(serve)
        self.serve = serve
        self.at = run // 2 * 17

    def arm(self, name, first=False):
        """One call of that name, chosen."""
        number = self.random.randint(1, 150 if name.startswith("log.") else 3)
        if first or "new_epoch" in name:
            number = 1
        elif name.startswith(RARE):
            number = max(1, number - 1)
        return Point(name, self.random.choice(self.moments[name]), number,
                     self.random.randrange(1, 256))

    def next_name(self):
        """The next name in the order."""
        self.at += 1
        return self.serve[self.at % len(self.serve)]

    def end(self, cycle, forced):
        """Decides how a life ends."""
        if forced:
            cycle.point, cycle.after_s = self.arm(forced, first=True), SERVE_LIMIT_S
        elif self.random.random() < 0.65:
            cycle.point, cycle.after_s = self.arm(self.next_name()), SERVE_LIMIT_S
            if cycle.point.name.startswith("merge."):
                cycle.after_s *= 2  # it takes eight index files
        else:
            cycle.after_s = self.random.choice((0.02, SHORT_S, LONG_S)) * self.random.random()

    def plan(self, count):
        """The cycles of a run."""
        cycles, forced = [], []
        for number in range(count):
            cycle = Cycle(number, check=self.random.random() < 0.7)
            if number == 0:
                cycle.starts = [self.arm(name, first=True)
                                for name in self.random.sample(self.create, 2)]
            elif forced and isinstance(forced[0], tuple):
                cycle.starts = [self.arm(name, first=True) for name in forced.pop(0)]
            elif self.random.random() < 0.3:
                names = self.random.choices(self.starts, k=self.random.randint(1, 3))
                cycle.starts = [self.arm(name, first=self.random.random() < 0.5) for name in names]
            elif self.random.random() < 0.1:
                cycle.starts = [self.random.random() * START_S]
            self.end(cycle, forced.pop(0) if forced else None)
            if not forced:
                forced = self.consequence(cycle)
            cycles.append(cycle)
        return cycles

    def consequence(self, cycle):
        """What the next cycles do because of how this one ends: names of ends, tuples of starts."""
        name = cycle.point.name if cycle.point else ""
        if name == TWO_SEALS[0]:
            return [TWO_SEALS[1], AFTER_TWO_SEALS]
        enabled = ENABLES.get(name, ())
        return [tuple(self.random.sample(enabled, len(enabled)))] if enabled else []
