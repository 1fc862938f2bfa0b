#!/usr/bin/env python3
"""Runs all tests: what is behind `make test` and `make test-long`.

First everything is built, then the suites run two at a time, each with its output in
build/test-logs. A suite says how many of its tests passed and failed; one that does not say so, that
ran nothing or that skipped something counts as a failure of its own. The last line is
"N passed, N failed"; the status is 1 if anything failed.

    test.py              everything that fits into half an hour
    test.py --long       the full sizes as well
    test.py --only e2e   one suite (may be given more than once), building what it needs
    test.py --list       the names of the suites
    test.py --venv       only make the Python environment, build/venv, which benchmarks use too
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
LOGS = BUILD / "test-logs"
VENV = BUILD / "venv"
PACKAGES = ["pytest>=8", "pytest-timeout", "pytest-xdist", "paho-mqtt>=2,<3",
            "aioquic>=1.2,<2", "tlslite-ng>=0.8,<0.9", "tencentcloud-sdk-python-mqtt>=3.1.195,<4",
            "pyjwt[crypto]>=2.8,<3", "websockets>=13", "matplotlib>=3.8,<4"]
TAIL_LINES = 60
# What of the end-to-end tests is run over QUIC, too: a client in Python takes fifty milliseconds for each
# connection, so that all of them take longer than `make test` has.
QUIC_PART = ["test_delivery.py", "test_sessions.py", "test_wills.py", "test_retained_messages.py",
             "test_shared.py", "test_life.py", "test_memory.py", "test_durability.py",
             "test_properties.py", "raw/test_publish.py", "raw/test_qos.py", "raw/test_session.py",
             "raw/test_will.py"]

PLAIN = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)
PYTEST = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*$", re.M)
CTEST = re.compile(r"tests passed, (\d+) tests failed out of (\d+)")

ASAN_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


@dataclass
class Suite:
    """One suite: how it is run, what has to be built before, how long it may take."""

    name: str
    command: list
    builds: tuple = ()
    env: dict = None
    timeout_s: int = 900


@dataclass
class Result:
    """What became of a suite or a build."""

    name: str
    passed: int
    failed: int
    seconds: float
    note: str = ""


def pytest(name, *args, builds=("release",), workers=0, env=None, timeout_s=900, each_s=120):
    """A suite of pytest."""
    command = [VENV / "bin" / "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={each_s}",
               "-rf", "--tb=short", f"--basetemp={BUILD / 'test-tmp' / name}"]
    if workers:
        command += ["-n", workers]
    return Suite(name, [*command, *args], builds, env or {}, timeout_s)


def ctest(preset, *options):
    """The unit tests of one build, or those that options of ctest choose."""
    command = ["ctest", "--test-dir", BUILD / preset, "-j", "2", "--output-on-failure",
               "--no-tests=error", *options]
    return Suite(f"units-{preset}", command, (preset,), ASAN_ENV)


def suites(is_long):
    """All suites; those that take longest first."""
    python = VENV / "bin" / "python"
    e2e = ROOT / "test" / "e2e"
    asan = {**ASAN_ENV, "TIDEMQ_BIN": str(BUILD / "asan" / "tidemq")}
    many = 10800 if is_long else 900
    other_engine = pytest("e2e-mem", e2e, workers=2, env={"TIDEMQ_TEST_STORE": "mem"})
    loops = {"TIDEMQ_TEST_LOOPS": "2"}
    races = pytest("e2e-loops-tsan", e2e, builds=("tsan",), workers=2, timeout_s=3600, each_s=300,
                   env={**ASAN_ENV, **loops, "TIDEMQ_BIN": str(BUILD / "tsan" / "tidemq")})
    quic = pytest("e2e-quic", *([e2e] if is_long else [e2e / name for name in QUIC_PART]), workers=2,
                  timeout_s=3600, each_s=300, env={"TIDEMQ_TEST_TRANSPORT": "quic"})
    wss = {"TIDEMQ_TEST_TRANSPORT": "wss"}
    # Over TLS and WebSocket together all of it is run each time, over each by itself in test-long.
    others = [pytest("e2e-tls", e2e, workers=2, env={"TIDEMQ_TEST_TRANSPORT": "mqtts"}),
              pytest("e2e-ws", e2e, workers=2, env={"TIDEMQ_TEST_TRANSPORT": "ws"}),
              pytest("e2e-wss", e2e, workers=2, env=wss)]
    servers = ROOT / "test" / "cluster"  # RocketMQ's, whose start takes most of the time: in test-long
    cluster = pytest("cluster", *([servers] if is_long else [servers / "test_remoting.py"]), builds=(),
                     timeout_s=1800, each_s=300)
    damage_asan = pytest("damage-asan", ROOT / "test" / "damage", builds=("asan",), workers=2, env=asan,
                         timeout_s=many, each_s=many)
    return [
        Suite("style", [python, "tools/check_style.py", BUILD / "asan", "--jobs", "2"], ("asan",),
              timeout_s=1500),
        pytest("e2e", e2e, workers=2),
        pytest("e2e-asan", e2e, builds=("asan",), workers=2, env=asan, timeout_s=many),
        pytest("e2e-loops-wss", e2e, workers=2, env={**loops, **wss}),
        quic,
        pytest("clients", ROOT / "test" / "clients", timeout_s=1800, each_s=900),
        cluster,
        pytest("torture", ROOT / "test" / "torture", timeout_s=many, each_s=many),
        pytest("scale", ROOT / "test" / "scale", timeout_s=many, each_s=many),
        pytest("powercut", "-s", ROOT / "test" / "powercut", timeout_s=many, each_s=many),
        pytest("damage", ROOT / "test" / "damage", workers=2, timeout_s=many, each_s=many),
        pytest("disk", ROOT / "test" / "disk"),
        pytest("overload", ROOT / "test" / "overload", timeout_s=many, each_s=many),
        pytest("powerfail", ROOT / "test" / "powerfail", builds=(), each_s=600),
        ctest("asan"),
        ctest("tsan", "-R", "^(base|io|wire|net|store|auth|broker|proxy)", "-E", "metawalk"),  # that has one thread only
        Suite("docs", [python, "tools/check_docs.py"], ("release",)),
        pytest("tools", ROOT / "tools", ROOT / "test" / "spec", workers=2),
        Suite("tree", [python, "tools/check_tree.py"]),
        Suite("spec", [python, "tools/spec_cover.py", "--check"]),
        *([pytest("e2e-loops", e2e, workers=2, env=loops), other_engine, races, *others, damage_asan]
          if is_long else []),
    ]


# --- building -------------------------------------------------------------------------------------


def run(command, log, env=None, timeout_s=1800):
    """Runs a command with its output in a log; returns its status, None when it took too long."""
    with open(log, "ab") as out:
        with subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=out,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              env={**os.environ, **(env or {})}, start_new_session=True) as process:
            try:
                return process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                out.write(f"\nstopped after {timeout_s} s\n".encode())
                return None


def make_venv(log):
    """The Python environment of the tests, made once and completed when the list changes."""
    stamp = VENV / "packages.txt"
    wanted = "\n".join(PACKAGES)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    return (run([sys.executable, "-m", "venv", VENV], log)
            or run([VENV / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES],
                   log)
            or stamp.write_text(wanted) * 0)


def build_preset(name, log):
    """Configures and builds one of CMakePresets.json."""
    targets = ["--target", "tidemq"] if name == "release" else []
    return (run(["cmake", "--preset", name], log)
            or run(["cmake", "--build", "--preset", name, *targets], log))


def build(names):
    """Builds what the suites need; returns a result for each build that failed, and the times."""
    steps = [("venv", make_venv)]
    steps += [(name, lambda log, name=name: build_preset(name, log))
              for name in ("release", "asan", "tsan") if name in names]
    results = []
    for name, step in steps:
        log = LOGS / f"build-{name}.log"
        log.unlink(missing_ok=True)
        start = time.monotonic()
        failed = step(log) != 0
        seconds = time.monotonic() - start
        print(f"{'FAILED' if failed else 'built '} {name:<12} {seconds:6.1f} s", flush=True)
        if failed:
            show_tail(log)
        results.append(Result(f"build-{name}", 0, int(failed), seconds))
    return results


# --- running --------------------------------------------------------------------------------------


def counts(text):
    """(passed, failed, skipped) as the last closing line in the output says, or None."""
    found = None
    for match in sorted([*PLAIN.finditer(text), *PYTEST.finditer(text), *CTEST.finditer(text)],
                        key=lambda match: match.start()):
        if match.re is PLAIN:
            found = int(match[1]), int(match[2]), 0
        elif match.re is CTEST:
            found = int(match[2]) - int(match[1]), int(match[1]), 0
        else:
            words = {word.rstrip("s"): int(number)
                     for number, word in re.findall(r"(\d+) ([a-z]+)", match[1])}
            found = (words.get("passed", 0), words.get("failed", 0) + words.get("error", 0),
                     words.get("skipped", 0) + words.get("xfailed", 0) + words.get("deselected", 0))
    return found


def judge(suite, status, text, seconds):
    """The result of a suite: what it says, and a failure where that cannot be believed."""
    said = counts(text)
    if status is None:
        passed, failed = said[:2] if said else (0, 0)
        return Result(suite.name, passed, failed + 1, seconds, f"stopped after {suite.timeout_s} s")
    if said is None:
        return Result(suite.name, 0, 1, seconds, f"no counts, status {status}")
    passed, failed, skipped = said
    if passed == 0 and failed == 0:
        return Result(suite.name, 0, 1, seconds, "ran nothing")
    if skipped:
        return Result(suite.name, passed, failed + skipped, seconds, f"{skipped} skipped")
    if status != 0 and failed == 0:
        return Result(suite.name, passed, 1, seconds, f"status {status}")
    return Result(suite.name, passed, failed, seconds)


def show_tail(log):
    """The end of a log."""
    lines = log.read_text(errors="replace").splitlines()
    print(f"--- the end of {log.relative_to(ROOT)}", *lines[-TAIL_LINES:], "---", sep="\n", flush=True)


def run_suite(suite, environment, lock):
    """Runs one suite and tells of it."""
    log = LOGS / f"{suite.name}.log"
    log.unlink(missing_ok=True)
    start = time.monotonic()
    status = run(suite.command, log, {**environment, **(suite.env or {})}, suite.timeout_s)
    result = judge(suite, status, log.read_text(errors="replace"), time.monotonic() - start)
    with lock:
        word = "FAILED" if result.failed else "ok    "
        print(f"{word} {result.name:<12} {result.seconds:6.1f} s  {result.passed} passed, "
              f"{result.failed} failed {result.note}", flush=True)
        if result.failed:
            show_tail(log)
    return result


def table(results, seconds):
    """What ran, and the plain closing line."""
    print(f"\n{'suite':<16}{'passed':>8}{'failed':>8}{'seconds':>9}")
    for result in results:
        if result.passed or result.failed or result.seconds >= 1:
            print(f"{result.name:<16}{result.passed:>8}{result.failed:>8}{result.seconds:>9.1f}"
                  f"  {result.note}".rstrip())
    print(f"{'together':<32}{seconds:>9.1f}\n")
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--long", action="store_true", help="the full sizes")
    parser.add_argument("--only", action="append", metavar="SUITE", help="this suite")
    parser.add_argument("--list", action="store_true", help="show the names of the suites")
    parser.add_argument("--venv", action="store_true", help="only make the Python environment")
    args = parser.parse_args()
    chosen = suites(args.long)
    if args.list:
        print(*(suite.name for suite in chosen), sep="\n")
        return 0
    if args.only:
        unknown = set(args.only) - {suite.name for suite in chosen}
        if unknown:
            parser.error(f"no such suite: {', '.join(sorted(unknown))}")
        chosen = [suite for suite in chosen if suite.name in args.only]
    start = time.monotonic()
    LOGS.mkdir(parents=True, exist_ok=True)
    if args.venv:
        return 1 if build(())[0].failed else 0
    shutil.rmtree(BUILD / "test-tmp", ignore_errors=True)
    (BUILD / "test-tmp").mkdir()
    results = build({name for suite in chosen for name in suite.builds})
    environment = {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
                   "PYTHONDONTWRITEBYTECODE": "1"}
    if args.long:
        environment["TIDEMQ_LONG"] = "1"
    lock = threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run_suite, suite, environment, lock) for suite in chosen]
        results += [job.result() for job in jobs]
    return table(results, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
