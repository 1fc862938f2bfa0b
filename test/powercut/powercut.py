"""Records a server under a workload, cuts the power at chosen moments, and checks what comes up.

    powercut.py FOLDER POINT SEED MODE [BINARY]

does one cut of a recording that was kept again, and says which assertion fails. The tests print this
command for each cut that failed. A recording is the operations of the server (`log`) and the events of
its clients (`events`); from the same recording, point, seed and mode comes the same image.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "test" / "e2e"), str(ROOT / "test" / "powerfail")]

import powerfail  # noqa: E402
from quick import Gone  # noqa: E402
from tidemq import BINARY, StartFailed, clean_environment  # noqa: E402
from workload import PLANS, Run, start_server  # noqa: E402
from world import Broken, World, expect  # noqa: E402

KEPT = ROOT / "build" / "powercut-failed"
JOBS = 2
MODES = ("none", "prefix", "sectors", "hole", "random", "random")
TORN = ("prefix", "sectors", "hole")
PROMISES = {"acked", "completed", "subscribed", "unsubscribed", "willed", "idle"}  # events


# --- recording ------------------------------------------------------------------------------------


@dataclass
class Recorded:
    """A recording in a folder, with what its clients did."""

    folder: pathlib.Path
    plan_name: str
    events: list
    source: str  # the directory that was recorded, which need not be there any more
    known: int = 0  # so many events had happened before the recording began

    @property
    def log(self):
        """The operations."""
        return self.folder / "log"

    def save(self):
        """Writes the events beside the operations."""
        with open(self.folder / "events", "w", encoding="ascii") as out:
            json.dump([self.plan_name, self.events, self.source, self.known], out)
        return self

    @staticmethod
    def load(folder):
        """What was saved."""
        with open(folder / "events", encoding="ascii") as text:
            return Recorded(folder, *json.load(text))


def recorder_env(recording):
    """What the recorder needs in the environment of a server."""
    return {name: value for name, value in recording.env().items() if name[:2] in ("LD", "PF")}


def record(folder, plan_name, binary, seed):
    """Runs the workload of a plan under the recorder."""
    recording = powerfail.Recording(folder)
    plan = PLANS[plan_name]
    server = start_server(folder / "server", plan, recording.dir, binary,
                          env=recorder_env(recording))
    world = World()
    server.start()
    try:
        Run(plan, server, world, seed, recording.mark).run()
    finally:
        server.kill()
    server.check()
    return Recorded(folder, plan_name, world.events, str(recording.dir)).save()


@dataclass
class Trial:
    """How images are tried: whose clients come back to which server, and what they choose then."""

    plan_name: str
    binary: pathlib.Path
    seed: int

    def at(self, cut):
        """The same for another cut."""
        return Trial(self.plan_name, self.binary, cut.seed)


def finish(trial, folder, data_dir, world, recording=None):
    """Starts a server on an image and lets all clients come back; raises Broken."""
    plan, seed = PLANS[trial.plan_name], trial.seed
    env = recorder_env(recording) if recording else None
    server = start_server(folder, plan, data_dir, trial.binary, env=env,
                          config={"store.pool_segments": 2 if recording else 0})
    try:
        try:
            server.start()
        except StartFailed as err:
            raise Broken("the server starts after the cut", err) from None
        try:
            if recording:
                Run(plan, server, world, seed, recording.mark).go_on()
            else:
                Run(plan, server, world, seed).finish()
        except (Gone, OSError) as err:
            raise Broken("the server answers", f"{err} {server.log[-500:]}") from None
        server.check()
    finally:
        server.kill()
    return world


# --- choosing -------------------------------------------------------------------------------------


@dataclass(order=True)
class Cut:
    """One image: where, what of the rest, and why just there."""

    point: int
    seed: int
    mode: str
    kind: str = ""


@dataclass
class Operation:
    """One line of the replayer's list."""

    index: int
    name: str
    ino: int
    arg1: int
    size: int  # of the data
    names: list


class Operations:
    """The operations of a recording, and which of them are of interest."""

    def __init__(self, recorded):
        self.events = recorded.events
        self.list = []
        self.name_of = {}  # inode: the name it has had last
        self.kinds = {}
        self.begun = []  # (index, inode) of the renames that make a segment
        for line in powerfail.list_records(recorded.log):
            index, name, ino, arg1, _, data, *names = line.split()
            operation = Operation(int(index), name, int(ino[4:]), int(arg1[5:]), int(data[5:]), names)
            self.list.append(operation)
            self._classify(operation)
        self.first = next(o.index for o in self.list if o.name == "base-end") + 1

    def _add(self, kind, index):
        self.kinds.setdefault(kind, []).append(index)

    def _classify(self, operation):
        """Notes under which kinds a cut around this operation comes."""
        index, name, names = operation.index, operation.name, operation.names
        if name in ("create", "link") and names:
            self.name_of[operation.ino] = names[0]
        known = self.name_of.get(operation.ino, "")
        if name == "mark":
            event = self.events[operation.arg1 - 1][0]
            if event in PROMISES:
                self._add(event, index + 1)
        elif name == "start":
            self._add("start", index)
        elif name == "unlink":
            self._add("unlink", index)
        elif name == "rename":
            self._rename(index, *names)
        elif known == "data.mdb" and name in ("durable", "sync-end"):
            self._add("checkpoint", index + 1)
        elif known.endswith(".log") and name == "write":
            self._add("write", index + 1)

    def _rename(self, index, before, after):
        ino = next(ino for ino, known in self.name_of.items() if known == before)
        self.name_of[ino] = after
        if after.endswith(".log"):
            self._add("segment", index + 1)
            self.begun.append((index, ino))
        elif after.endswith(".seg"):
            self._add("recycle", index + 1)
        elif after.endswith(".idx"):
            self._add("seal", index + 1)
        else:
            self._add("rename", index + 1)

    def count(self, kind):
        """How often something happened."""
        return len(self.kinds.get(kind, ()))

    def first_writes(self):
        """The points at which a segment (but not the first of all) has its name and several pages of
        records, which are not synced."""
        points = []
        for begun, ino in self.begun[1:]:
            own = (o for o in self.list[begun:] if o.ino == ino)
            written = next((o for o in own if o.name == "write"), None)
            if written and written.size >= 4 * 4096:
                points += range(written.index + 1, next(own).index + 2)
        return points

    def choose(self, count, seed, kinds=None):
        """Cuts: a part of them anywhere, the others next to operations of each kind in turn."""
        rng = random.Random(seed)
        kinds = kinds or ["any", *sorted(self.kinds)]
        cuts = []
        for number in range(count):
            kind = kinds[number % len(kinds)]
            mode = rng.choice(MODES)
            if kind == "any":
                point = rng.randrange(self.first, len(self.list) + 1)
            elif kind == "first write":
                anywhere = [rng.randrange(self.first, len(self.list) + 1)]
                point, mode = rng.choice(self.first_writes() or anywhere), "hole"
            elif kind == "write":
                point, mode = rng.choice(self.kinds[kind]), rng.choice(TORN)
            elif kind in PROMISES:
                point = rng.choice(self.kinds[kind])
            else:
                point = rng.choice(self.kinds[kind]) + rng.choice((-1, 0, 0, 1, 2, 3))
            point = min(max(point, self.first), len(self.list))
            cuts.append(Cut(point, rng.getrandbits(63), mode, kind))
        return sorted(cuts)


# --- checking -------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What became of some images: how many, and the failures by assertion."""

    images: int = 0
    failed: int = 0
    caught: Counter = field(default_factory=Counter)  # assertion: images
    details: list = field(default_factory=list)
    seconds: float = 0.0

    def count(self, broken, folder, cut):
        """One more image; `broken`: the assertion that failed and its details, or None."""
        self.images += 1
        if broken:
            self.failed += 1
            self.caught[broken[0]] += 1
            self.details.append(f"{broken[1]}\n    {cut.kind or 'any'}: test/powercut/powercut.py "
                                f"{folder} {cut.point} {cut.seed} {cut.mode}")

    def add(self, other):
        """The sum of both."""
        self.images += other.images
        self.failed += other.failed
        self.caught += other.caught
        self.details += other.details

    def __str__(self):
        names = "; ".join(f"{name} ({count})" for name, count in self.caught.most_common())
        return (f"{self.failed} of {self.images} images, {self.seconds:.1f} s"
                + (f", caught by: {names}" if names else ""))


class Images:
    """The images of a recording, one after the other, as the cuts ask for them."""

    def __init__(self, recorded, out):
        self.out, self.known = out, recorded.known
        self.process = subprocess.Popen(
            [powerfail.BUILD / "replay", recorded.log, recorded.source, out, "--cuts"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def build(self, cut, name):
        """Returns the image's path and how many events had happened."""
        self.process.stdin.write(f"{cut.point} {cut.seed} {cut.mode} {name}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer and answer[0] == name, f"the replayer did not build {cut}"
        return self.out / name, max(int(answer[1]), self.known)

    def close(self):
        """Ends the replayer."""
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait() == 0
        shutil.rmtree(self.out, ignore_errors=True)


def check_store(binary, image):
    """What a cut leaves is no damage."""
    run = subprocess.run([binary, "store", "check", image], capture_output=True, text=True,
                         env=clean_environment(), check=False)
    expect(run.returncode == 0, "store check finds no damage", run.stdout[-300:] + run.stderr[-300:])


def check_image(trial, events, image):
    """One image and its clients. Returns None, or the assertion's name and details."""
    folder = image.with_name(image.name + ".run")
    try:
        if any(event[0] == "connect" for event in events):  # there has been a store
            check_store(trial.binary, image)
        finish(trial, folder, image, World(events))
        return None
    except Broken as err:
        return err.name, str(err)
    finally:
        shutil.rmtree(image, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


_loaded = {}


def _work(folder, image, mark, binary, cut, inner):
    """One image in a process of the pool; with `inner` its recovery is recorded and cut as well."""
    if folder not in _loaded:
        _loaded.clear()
        _loaded[folder] = Recorded.load(folder)
    recorded = _loaded[folder]
    events = recorded.events[:mark]
    trial = Trial(recorded.plan_name, binary, cut.seed)
    verdict = Verdict()
    if not inner:
        verdict.count(check_image(trial, events, image), folder, cut)
        return verdict
    again = record_again(trial, events, image)
    verdict.count(again if isinstance(again, tuple) else None, folder, cut)
    if isinstance(again, Recorded):
        check_again(verdict, trial, again, inner)
    if not verdict.failed:
        shutil.rmtree(image.with_name(image.name + ".again"))
    return verdict


def record_again(trial, events, image):
    """Lets the clients come back on an image under the recorder. Returns the recording, or the
    assertion's name and details."""
    folder = image.with_name(image.name + ".again")
    recording = powerfail.Recording(folder, folder / "data")
    recording.dir.rmdir()
    image.rename(recording.dir)
    world = World(events)
    try:
        finish(trial, folder / "server", recording.dir, world, recording)
    except Broken as err:
        return err.name, str(err)
    return Recorded(folder, trial.plan_name, world.events, str(recording.dir), len(events) + 1).save()


def check_again(verdict, trial, again, count):
    """Cuts what was recorded after a cut."""
    images = Images(again, again.folder / "images")
    kinds = ["acked"] if again.plan_name == "pages" else None  # where new records end before old ones
    for number, cut in enumerate(Operations(again).choose(count, trial.seed, kinds)):
        path, mark = images.build(cut, str(number))
        verdict.count(check_image(trial.at(cut), again.events[:mark], path), again.folder, cut)
    images.close()


def check_cuts(recorded, cuts, binary=BINARY, inner=0):
    """Builds the image of each cut and checks it, two at a time; with `inner` so many second cuts of
    each as well."""
    begin = time.monotonic()
    total = Verdict()
    images = Images(recorded, recorded.folder / f"images{time.monotonic_ns()}")
    running = []
    with ProcessPoolExecutor(JOBS) as pool:
        for number, cut in enumerate(cuts):
            while len(running) > JOBS:
                total.add(running.pop(0).result())
            path, mark = images.build(cut, str(number))
            running.append(pool.submit(_work, recorded.folder, path, mark, binary, cut, inner))
        for job in running:
            total.add(job.result())
    total.seconds = time.monotonic() - begin
    if total.failed:
        keep(recorded, total)
    images.close()
    return total


def keep(recorded, verdict):
    """Puts a recording where it stays; the commands that the verdict shows refer to it."""
    target = KEPT / f"{recorded.plan_name}-{time.strftime('%H%M%S')}-{os.getpid()}"
    shutil.copytree(recorded.folder, target, ignore=shutil.ignore_patterns("data", "server"))
    verdict.details = [line.replace(str(recorded.folder), str(target)) for line in verdict.details]


def main():
    folder, point, seed, mode, *binary = sys.argv[1:]
    powerfail.build()
    recorded = Recorded.load(pathlib.Path(folder).resolve())
    images = Images(recorded, recorded.folder / f"images{os.getpid()}")
    cut = Cut(int(point), int(seed), mode)
    path, mark = images.build(cut, "0")
    trial = Trial(recorded.plan_name, pathlib.Path(binary[0]).resolve() if binary else BINARY, cut.seed)
    broken = check_image(trial, recorded.events[:mark], path)
    images.close()
    print(broken[1] if broken else "all is as promised")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
