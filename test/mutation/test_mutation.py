"""Power cuts under the whole server, and proof that these tests would notice a fault.

A server runs under the recorder of test/powerfail while a client publishes and marks each message
that has been acknowledged. From the record crash images are built, and a server is started on each:
everything that was marked must be there. The server as it is passes; a build with one deliberate
fault (-DMUTATION=..., a switch in our own code) must not, and the test prints which assertion caught
it.

`make test` tries two mutations on few images; `make test-long` all of them on many. What a power cut
cannot show in so few images, because it takes two cuts at chosen places, the engine's own tests must
catch: they run on a build with that fault.
"""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from check_image import CONFIG, KEPT_AT, SESSION, payload_of
from quick import Connection, Sender
from tidemq import BINARY, ROOT, Server

sys.path.insert(0, str(ROOT / "test" / "powerfail"))
import powerfail  # noqa: E402

LONG = bool(os.environ.get("TIDEMQ_LONG"))
IMAGES = 400 if LONG else 60
MESSAGES = 1500 if LONG else 300
MUTATIONS = ["NO_FDATASYNC", "ACK_BEFORE_SYNC"]
UNIT_MUTATIONS = ["NO_EPOCH_CHECK"]
if LONG:
    MUTATIONS += ["NO_DIR_FSYNC", "NO_CRC_CHECK"]
    UNIT_MUTATIONS += ["SEGMENT_BEFORE_CHECKPOINT", "CHECKPOINT_BEFORE_SEGMENT"]
CHECKER = pathlib.Path(__file__).with_name("check_image.py")


@pytest.fixture(name="simulator", scope="module", autouse=True)
def fixture_simulator():
    """The recorder and the replayer, built."""
    powerfail.build()


def build(mutation, target="tidemq", build_type="RelWithDebInfo"):
    """A target with this fault; returns the folder of the build."""
    folder = ROOT / "build" / "mutation" / f"{mutation.lower()}-{target}"
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DMUTATION={mutation}",
         f"-DCMAKE_BUILD_TYPE={build_type}"],
        ["cmake", "--build", folder, "--target", target],
    ):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder


def publish_and_mark(server, recording):
    """A session that stays away, and messages for it: each acknowledgement becomes a mark."""
    address = (server.host, server.port)
    away = Connection(address, SESSION)
    away.subscribe("m/#", 2)
    away.close()
    publisher = Connection(address, "publisher")
    sender, sent, marked, known = Sender(4), 0, 0, set()
    while marked < MESSAGES:
        while sender.room and sent < MESSAGES:
            sent += 1
            sender.publish(publisher, f"m/{sent % 2}", payload_of(sent), 1 + (sent + 1) % 2)
        kind, _, body = publisher.receive()
        sender.handle(publisher, kind, body)
        for payload in sender.acknowledged[len(known):]:
            known.add(int(payload.split(b" ", 1)[0]))
        before = marked
        while marked + 1 in known:
            marked += 1
            if marked == KEPT_AT - 1:
                keep_one(address)
        if marked > before:
            recording.mark(marked)
    publisher.close()


def keep_one(address):
    """A retained message, acknowledged before the mark KEPT_AT is set."""
    connection = Connection(address, "keeper", clean=True)
    connection.send(bytes([0x33]) + bytes([2 + 6 + 2 + 4]) + b"\0\6kept/a" + b"\0\1" + b"kept")
    assert connection.receive()[0] == 4
    connection.close()


def record(folder, binary):
    """One run of the server under the recorder."""
    recording = powerfail.Recording(folder)
    env = {name: value for name, value in recording.env().items() if name[:2] in ("LD", "PF")}
    server = Server(folder / "server", {**CONFIG, "data_dir": recording.dir}, env=env, binary=binary)
    server.start()
    try:
        publish_and_mark(server, recording)
    finally:
        server.kill()
    server.check()
    return recording


def cut(folder, binary, images=IMAGES):
    """Builds images and checks each; returns how many failed, and what their checkers said."""
    recording = record(folder, binary)
    command = [sys.executable, CHECKER, binary]
    failed, output = 0, ""
    for mode, count in (("random", images // 2), ("none", images // 4), ("sectors", images // 4)):
        found, said = recording.images(count, command, seed=len(mode), mode=mode)
        failed, output = failed + found, output + said
    return failed, output


def test_nothing_is_lost(tmp_path):
    """The server as it is: whatever the moment of the cut, what was acknowledged is there."""
    failed, output = cut(tmp_path, BINARY)
    assert failed == 0, output[-3000:]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_is_caught(tmp_path, mutation):
    """A server with this fault loses something, and an assertion says so."""
    failed, output = cut(tmp_path, build(mutation) / "tidemq")
    assert failed > 0, f"{mutation} went unnoticed in {IMAGES} images"
    caught = sorted(set(re.findall(r"assertion failed: ([^:\n]+)", output)))
    assert caught, output[-3000:]
    print(f"\n{mutation}: {failed} of {IMAGES} images, caught by: {'; '.join(caught)}")


@pytest.mark.parametrize("mutation", UNIT_MUTATIONS)
def test_mutation_is_caught_by_the_engines_tests(mutation):
    """The tests of the engine fail on a build with this fault, and say where."""
    folder = build(mutation, "tidemq_store_local_tests", "Debug")
    run = subprocess.run(["ctest", "--test-dir", folder, "-R", "^store/local/", "--output-on-failure",
                          "-j", "2"], capture_output=True, text=True, timeout=600, check=False)
    caught = re.findall(r"(\w+_test\.c):(\d+): error: Failure!", run.stdout)
    assert run.returncode != 0 and caught, f"{mutation} went unnoticed:\n{run.stdout[-3000:]}"
    names = sorted({f"{path}:{line}" for path, line in caught})
    print(f"\n{mutation}: caught by {', '.join(names)}")
