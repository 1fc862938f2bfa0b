"""Records programs and rebuilds what a power cut would have left of their files.

    recording = Recording(tmp_path)            # tmp_path/data is watched, tmp_path/log is written
    subprocess.run([...], env=recording.env())
    recording.mark(7)                          # or pf_mark(7) inside the recorded program
    recording.images(200, ["./checker"])       # runs ./checker IMAGE MARK on each

See README.md beside this file.
"""
import os
import pathlib
import re
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("POWERFAIL_BUILD", HERE.parents[1] / "build" / "powerfail"))

RECORD = struct.Struct("<QHHHHQQQQ")  # struct pf_record in pflog.h
MAGIC = 0x31474F4C5F464354
MARK = 14


def build():
    """Compiles what is missing or out of date in BUILD."""
    subprocess.run(["make", "-s", "-C", HERE, f"BUILD={BUILD}"], check=True)


def list_records(log):
    """A log as a list of lines, the record's index and operation first."""
    run = subprocess.run([BUILD / "replay", log, "--list"], check=True, capture_output=True,
                         text=True)
    return run.stdout.splitlines()


class Recording:
    """One watched directory and its operation log."""

    def __init__(self, folder, directory=None):
        folder = pathlib.Path(folder)
        self.dir = pathlib.Path(directory or folder / "data")
        self.log = folder / "log"
        self.folder = folder
        self.dir.mkdir(parents=True, exist_ok=True)

    def env(self, ahead=(), behind=(), **faults):
        """The environment for a program to record; faults are PF_FAIL, PF_SHORT, PF_NOSYNC.

        `ahead`, `behind`: libraries to preload before the recorder (the runtime of gcc's
        sanitizers must come first) and after it."""
        libraries = ":".join(str(path) for path in (*ahead, BUILD / "recorder.so", *behind))
        return {**os.environ, "LD_PRELOAD": libraries, "PF_DIR": str(self.dir),
                "PF_LOG": str(self.log), **faults}

    def mark(self, value):
        """Notes from outside that `value` is promised. The recorded program must have started."""
        record = RECORD.pack(MAGIC, MARK, 0, 0, 0, 0, value, 0, 0)
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, record)
        finally:
            os.close(fd)

    def replay(self, *args):
        """Runs the replayer with the log and the watched directory; returns the finished run."""
        args = [BUILD / "replay", self.log, self.dir, *args]
        return subprocess.run([str(a) for a in args], capture_output=True, text=True)

    def image(self, name, point="1.0", seed=1, mode="random"):
        """Builds one image; returns its path, the last mark before the cut and the summary."""
        path = self.folder / name
        run = self.replay(path, "--point", point, "--seed", seed, "--mode", mode)
        assert run.returncode == 0, run.stderr
        mark, summary = run.stdout.splitlines()
        return path, int(mark), summary

    def images(self, count, command, seed=1, mode="random", jobs=2):
        """Runs `command IMAGE MARK` on many images; returns how many failed, and the output."""
        out = self.folder / f"images-{seed}-{mode}"
        run = self.replay(out, "--images", count, "--seed", seed, "--mode", mode,
                          "--jobs", jobs, "--each", *command)
        assert run.returncode in (0, 1), run.stderr
        return int(re.search(r"failed=(\d+)", run.stdout)[1]), run.stdout + run.stderr

    def records(self):
        """The log as a list of lines, the record's index and operation first."""
        return list_records(self.log)

    def point_after_mark(self, value):
        """The crash point right after a mark."""
        for line in self.records():
            index, op, *fields = line.split()
            if op == "mark" and f"arg1={value}" in fields:
                return int(index) + 1
        raise AssertionError(f"no mark {value} in {self.log}")


def tree(path):
    """All files and directories below `path`, with their content; hard links show their count."""
    path = pathlib.Path(path)
    found = {}
    for p in sorted(path.rglob("*")):
        is_dir = p.is_dir()
        found[p.relative_to(path).as_posix()] = None if is_dir else (p.stat().st_nlink,
                                                                     p.read_bytes())
    return found
