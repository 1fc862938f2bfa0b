#!/usr/bin/env python3
"""Builds the servers that TideMQ is compared with, each by the ordinary client of its registry.

They go into build/peers, and each step says what it does. One that cannot be built is left out: the
reason is written down for the report, and the others go on.

    build.py             all of them, those that are missing or whose sources here have changed
    build.py aedes ...   these
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build" / "peers"
TIMEOUT_S = 1800


class Failed(Exception):
    """A build that did not succeed; the text says why."""


def run(log, *command, cwd=None, env=None):
    """Runs one step; its output goes to the log."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise Failed(f"{words[0]} is not installed")
    print("  " + " ".join(words), file=sys.stderr, flush=True)
    with open(log, "ab") as out:
        try:
            status = subprocess.run(words, cwd=cwd, stdout=out, stderr=out, check=False,
                                    stdin=subprocess.DEVNULL, timeout=TIMEOUT_S,
                                    env={**os.environ, **(env or {})}).returncode
        except subprocess.TimeoutExpired as error:
            raise Failed(f"'{' '.join(words)}' took longer than {TIMEOUT_S} s") from error
    if status != 0:
        raise Failed(f"'{' '.join(words)}' failed, see {log}")


def rumqttd(folder, log):
    """rumqttd, from crates.io. Not --locked: the lock file it ships names a package that
    current compilers refuse."""
    run(log, "cargo", "install", "rumqttd", "--version", "0.20.0", "--root", folder,
        env={"CARGO_TARGET_DIR": str(BUILT / "cargo-target")})
    shutil.rmtree(BUILT / "cargo-target", ignore_errors=True)


def mochi(folder, log):
    """mochi-mqtt, a Go module, with the main program in mochi/."""
    run(log, "go", "build", "-trimpath", "-o", folder / "peer", ".", cwd=HERE / "mochi")


def hivemq(folder, log):
    """HiveMQ CE, from Maven Central, with the main program in hivemq/."""
    run(log, "mvn", "-q", "-B", "-f", HERE / "hivemq" / "pom.xml", f"-Dwhere={folder}", "package")


def moquette(folder, log):
    """Moquette, from Maven Central, with the main program in moquette/."""
    run(log, "mvn", "-q", "-B", "-f", HERE / "moquette" / "pom.xml", f"-Dwhere={folder}", "package")


def aedes(folder, log):
    """aedes, from npm, beside a copy of the main program in aedes/."""
    for path in (HERE / "aedes").iterdir():
        shutil.copy(path, folder)
    run(log, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", cwd=folder)


PEERS = {build.__name__: build for build in (rumqttd, mochi, hivemq, moquette, aedes)}


def newest_source(name):
    """When what a peer is built from here has last changed."""
    paths = [HERE / "build.py", *(path for path in (HERE / name).rglob("*") if path.is_file())]
    return max(path.stat().st_mtime for path in paths)


def build(name):
    """Builds one peer unless it is there. Returns whether it is there now."""
    folder, log = BUILT / name, BUILT / f"{name}.log"
    stamp, note = folder / "built", BUILT / f"{name}.failed"
    if stamp.exists() and stamp.stat().st_mtime >= newest_source(name):
        return True
    print(f"{name}: {' '.join(PEERS[name].__doc__.split())}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        PEERS[name](folder, log)
    except Failed as error:
        note.write_text(f"{error}\n")
        print(f"{name}: {error}; left out", file=sys.stderr, flush=True)
        return False
    stamp.touch()
    print(f"{name}: built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return True


def main():
    names = sys.argv[1:] or list(PEERS)
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    BUILT.mkdir(parents=True, exist_ok=True)
    built = [name for name in names if build(name)]
    print(f"peers: {', '.join(built) or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    main()
