"""The part of the torture that `make test` runs, and proof that it would notice a fault.

torture.py says what it does. TORTURE_SEED=N uses that seed. A program with one deliberate fault
(tidemq-KILL_..., a switch in our own code) must be caught by the ledger, and the test prints what it
said. Faults that only a power cut shows are in test/powercut.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONG = bool(os.environ.get("TIDEMQ_LONG"))
SEED = os.environ.get("TORTURE_SEED")
MUTATIONS = ["KILL_ACK_BEFORE_WRITE", "KILL_FORGET_INBOUND"]
if LONG:
    MUTATIONS += ["KILL_RELEASE_UNWRITTEN", "KILL_OUTBOUND_UNWRITTEN", "KILL_DROP_ROW",
                  "KILL_SEAL_SHORT", "KILL_NO_COPY", "KILL_NO_SUB_ROW"]


def torture(*args, binary=None, folder):
    """Runs the harness; returns its status and what it said."""
    command = [sys.executable, str(HERE / "torture.py"), "--folder", str(folder), *args]
    if SEED:
        command += ["--seed", SEED]
    env = {**os.environ, **({"TIDEMQ_BIN": str(binary)} if binary else {})}
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         env=env, check=False)
    print(f"\n{run.stdout}")
    return run.returncode, run.stdout


def build(mutation):
    """A server with this fault."""
    folder = ROOT / "build" / "release"
    run = subprocess.run(["cmake", "--build", folder, "--target", f"tidemq-{mutation}"],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder / f"tidemq-{mutation}"


def test_nothing_is_lost(tmp_path):
    """The server as it is: every promise holds, and every named point was reached."""
    size = ["--cycles", "1000"] if LONG else ["--seconds", "110"]
    status, output = torture(*size, folder=tmp_path)
    assert status == 0, output[-6000:]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_fault_is_caught(tmp_path, mutation):
    """A server with this fault breaks a promise, and the ledger says which."""
    status, output = torture("--cycles", "200", "--stop", binary=build(mutation), folder=tmp_path)
    caught = re.findall(r"^seed \d+ run \d+: (?!Traceback)(.{0,200})", output, re.M)
    assert status and caught, f"{mutation} went unnoticed:\n{output[-3000:]}"
    print(f"{mutation}: {caught[0]}")
