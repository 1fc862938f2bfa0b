"""Power cuts under the whole server, LMDB included, and proof that these tests would notice a fault.

A server runs under the recorder of test/powerfail while clients of all kinds use it (workload.py);
what they do and what they are promised become marks in the record. From the record crash images are
built, of cuts at random and next to operations of each kind (powercut.py). A server is started on each,
the clients come back with what they knew at the cut, and everything must be as it was promised
(world.py). Some of these returns are recorded and cut again.

The server as it is passes. A program with one deliberate fault (tidemq-NAME, see cmake/mutations.cmake)
must not: the test prints which assertion caught it, in how many images of how many.

TIDEMQ_POWERCUT_SEED=N makes the same choices again; for a cut that failed a command is printed that
does that one again from the recording, which is kept.
"""

import os
import random
import shutil
import subprocess

import powercut
import pytest
from powercut import ROOT, Operations, check_cuts, record
from segments import MESSAGE_COPY, segments
from tidemq import BINARY

LONG = bool(os.environ.get("TIDEMQ_LONG"))
SEED = int(os.environ.get("TIDEMQ_POWERCUT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SINGLE = {"mixed": (600, 110), "trim": (600, 110), "pages": (200, 40)}  # images: long, short
TWICE = {"mixed": (40, 8), "trim": (40, 6), "pages": (40, 10)}  # first cuts: long, short
HELD = {  # what each recording must hold at least
    "mixed": {"start": 2, "segment": 2, "seal": 1, "checkpoint": 15, "write": 100, "acked": 300,
              "completed": 100, "subscribed": 15, "unsubscribed": 10, "willed": 15, "idle": 4},
    "trim": {"start": 2, "segment": 6, "seal": 3, "checkpoint": 25, "recycle": 3, "unlink": 2,
             "acked": 700, "completed": 200, "subscribed": 30, "unsubscribed": 20, "willed": 30},
    "pages": {"segment": 4, "checkpoint": 2, "acked": 700},
}
if LONG:
    SINGLE["many"], TWICE["many"] = (300, 0), (10, 0)
    HELD["many"] = {"seal": 9, "unlink": 8}  # eight index files become one
INNER = 20 if LONG else 8  # second cuts of each
TAKES = 8  # recordings of a server with a fault, until it is noticed

# Fault: plan, kinds of cuts (None: all), images or first cuts, second cuts of each.
MUTATIONS = {
    "NO_EPOCH_CHECK": ("pages", ["first write"], 12, 6),
    "PUBCOMP_BEFORE_SYNC": ("mixed", ["completed"], 12, 0),
    "STALE_RETAINED_COPY": ("trim", ["recycle", "unlink"], 30, 0),
}
if LONG:
    MUTATIONS |= {
        "NO_FDATASYNC": ("mixed", None, 65, 0),
        "ACK_BEFORE_SYNC": ("mixed", None, 65, 0),
        "NO_DIR_FSYNC": ("mixed", None, 65, 0),
        "NO_CRC_CHECK": ("mixed", ["write"], 65, 0),
        "SEGMENT_BEFORE_CHECKPOINT": ("trim", ["recycle", "checkpoint"], 65, 0),
        "CHECKPOINT_BEFORE_SEGMENT": ("mixed", ["idle", "checkpoint"], 65, 0),
    }


def build(mutation):
    """The program with this fault."""
    folder = BINARY.parent
    run = subprocess.run(["cmake", "--build", folder, "--target", f"tidemq-{mutation}"],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder / f"tidemq-{mutation}"


@pytest.fixture(name="recordings", scope="module")
def fixture_recordings(tmp_path_factory):
    """Makes the recording of a plan when it is first asked for; the same one afterwards."""
    powercut.powerfail.build()
    print(f"\nTIDEMQ_POWERCUT_SEED={SEED}")
    shutil.rmtree(powercut.KEPT, ignore_errors=True)
    made = {}

    def recording(plan_name, binary=BINARY, take=0):
        key = plan_name, binary, take
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{plan_name}-{binary.name}")
            made[key] = record(folder, plan_name, binary, SEED + take)
        return made[key]

    return recording


# --- what the recordings hold ---------------------------------------------------------------------


@pytest.mark.parametrize("plan_name", HELD)
def test_recording_holds_what_is_to_be_cut(recordings, plan_name):
    """Each kind of operation and of promise is in it, often enough to be hit."""
    operations = Operations(recordings(plan_name))
    counts = {kind: operations.count(kind) for kind in HELD[plan_name]}
    assert all(counts[kind] >= count for kind, count in HELD[plan_name].items()), counts


def test_recording_sees_every_write(recordings):
    """Nothing but LMDB's lock file, which counts for nothing after a start, is written past the
    recorder."""
    for plan_name in SINGLE:
        operations = Operations(recordings(plan_name))
        unseen = {operations.name_of[row.ino] for row in operations.list if row.name == "unseen"}
        assert unseen == {"lock.mdb"}


def test_retained_messages_are_copied_forward(recordings):
    """In the recording with retention, records of the log are such copies."""
    recorded = recordings("trim")
    copies = sum(bool(flags & MESSAGE_COPY) for segment in segments(recorded.folder / "data" / "log")
                 for _, _, flags in segment.records())
    assert copies >= 20, copies


def test_records_are_pages(recordings):
    """In the recording that is for it, so that those of two starts can meet."""
    sizes = [size for segment in segments(recordings("pages").folder / "data" / "log")
             for _, size, _ in segment.records()]
    assert sizes.count(4096) > len(sizes) * 0.9


# --- the server as it is --------------------------------------------------------------------------


@pytest.mark.parametrize("plan_name", SINGLE)
def test_nothing_is_lost(recordings, plan_name):
    """Whatever the moment of the cut, what was promised holds."""
    recorded = recordings(plan_name)
    verdict = check_cuts(recorded, Operations(recorded).choose(SINGLE[plan_name][not LONG], SEED))
    print(f"\n{plan_name}: {verdict}")
    assert verdict.failed == 0, "\n".join(verdict.details[:10])


@pytest.mark.parametrize("plan_name", TWICE)
def test_nothing_is_lost_when_recovery_is_cut(recordings, plan_name):
    """Nor when the power goes a second time, while the server recovers and the clients come back."""
    recorded = recordings(plan_name)
    kinds = ["first write"] if plan_name == "pages" else None
    cuts = Operations(recorded).choose(TWICE[plan_name][not LONG], SEED + 1, kinds)
    verdict = check_cuts(recorded, cuts, inner=INNER)
    print(f"\n{plan_name}, cut twice: {verdict}")
    assert verdict.failed == 0, "\n".join(verdict.details[:10])


# --- deliberate faults ----------------------------------------------------------------------------


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_is_caught(recordings, mutation):
    """A server with this fault breaks a promise, and an assertion says which. Some faults show only
    when threads meet in one way: then another recording is made."""
    plan_name, kinds, count, inner = MUTATIONS[mutation]
    binary = build(mutation)
    images = 0
    for take in range(TAKES):
        recorded = recordings(plan_name, binary, take)
        cuts = Operations(recorded).choose(count * (3 if LONG else 1), SEED + take, kinds)
        verdict = check_cuts(recorded, cuts, binary, inner)
        images += verdict.images
        print(f"\n{mutation}: {verdict}")
        if verdict.failed > 0:
            return
    raise AssertionError(f"{mutation} went unnoticed in {images} images of {TAKES} recordings")


def test_all_mutations_are_tried():
    """No switch in the sources is without a test; `make test` tries some of them only. Those whose names
    begin with KILL_ are the torture's."""
    names = set()
    for path in (ROOT / "src").rglob("*.c"):
        for word in path.read_text(encoding="utf-8").split():
            if word.startswith("MUTATION_") and not word.startswith("MUTATION_KILL_"):
                names.add(word.removeprefix("MUTATION_"))
    assert names >= set(MUTATIONS)
    assert not LONG or names == set(MUTATIONS)
