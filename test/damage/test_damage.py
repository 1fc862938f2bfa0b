"""Every kind of damage to every file: found, or without any meaning; never a crash, a hang, a wrong
byte, or a message missing from what was called sound.

The seed is printed; TIDEMQ_DAMAGE_SEED=N makes the same choices again.
"""

import os
import random
import re
import subprocess
import sys
import pathlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from damages import all_damages, copy_dir  # noqa: E402
from filling import OBSERVE, Wrong, make, observe  # noqa: E402
from layout import DEAD, LIVE, Layout  # noqa: E402
from tidemq import BINARY, FATAL, Server, StartFailed, clean_environment  # noqa: E402

LONG = bool(os.environ.get("TIDEMQ_LONG"))
SEED = int(os.environ.get("TIDEMQ_DAMAGE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SCALE = 120 if LONG else 3
SERVED = 600 if LONG else 8
REPAIRED = int(os.environ.get("TIDEMQ_DAMAGE_REPAIRS", "300" if LONG else "6"))


@pytest.fixture(name="store", scope="module", params=["stopped", "killed"])
def fixture_store(request, tmp_path_factory):
    """A filled directory, how it lies on disk, and what a server on it delivers."""
    print(f"TIDEMQ_DAMAGE_SEED={SEED}")
    folder = tmp_path_factory.mktemp(request.param)
    data_dir = make(folder / "filled", kill=request.param == "killed").data_dir
    layout = Layout(data_dir)
    return folder, layout, look(folder, copy_dir(data_dir, folder / "copy"))


def run(*args, timeout_s=120):
    """A command of the store; fails when it crashed."""
    done = subprocess.run([str(BINARY), "store", *map(str, args)], capture_output=True, text=True,
                          timeout=timeout_s, env=clean_environment(), check=False,
                          stdin=subprocess.DEVNULL)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1) and not FATAL.search(said), (args, done.returncode, said)
    return done.returncode, said


def look(folder, data_dir, patience_s=10):
    """Starts a server on the directory and observes it; the text of its refusal when it does not
    start. It must end in an orderly way."""
    server = Server(folder / "serving", {**OBSERVE, "data_dir": data_dir})
    server.stderr_path.unlink(missing_ok=True)
    try:
        server.start()
    except StartFailed as refused:
        server.check()
        assert "exit code 1:" in str(refused), refused
        return str(refused)
    try:
        seen = observe(server, patience_s)
        assert server.running, server.log[-3000:]
        server.stop()
    finally:
        server.kill()
        server.check()
    return seen


def names_place(damage, said):
    """Whether a report says what and where."""
    numbers = [path.name for path in damage.changes]
    numbers += [str(int(path.stem)) for path in damage.changes if path.suffix == ".log"]
    if "cut off before what had been made durable" in said:  # a file behind it is gone
        numbers += [f"{int(path.stem) - 1:020}.log" for path in damage.changes
                    if path.suffix == ".log"]
    named = any(re.search(rf"\b{re.escape(name)}\b", said) for name in numbers)
    place = re.search(r"offset \d+|is missing|cut off|position \d+", said)
    edge = re.search(r"(log:? (begins|ends|does not begin)|index: (a|the) file is missing) .*position \d+", said)
    return bool((named and place) or edge)


def test_check_finds_every_damage(store):
    """And calls sound what no byte that matters has changed in."""
    _, layout, _ = store
    code, said = run("check", layout.data_dir)
    assert code == 0, said
    counts = {}
    for damage in all_damages(layout, SEED, SCALE):
        kind = damage.kind(layout)
        damage.apply()
        try:
            code, said = run("check", layout.data_dir)
        finally:
            damage.undo()
        counts[kind, code] = counts.get((kind, code), 0) + 1
        if kind == LIVE:
            assert code == 1, f"not found: {damage.name}\n{said}"
        if kind == DEAD:
            assert code == 0, f"found where nothing is: {damage.name}\n{said}"
        if code == 1:
            assert names_place(damage, said), f"{damage.name} is told without its place:\n{said}"
    print(counts)
    assert counts[LIVE, 1] > 100 and counts[DEAD, 0] > 20
    code, said = run("check", layout.data_dir)
    assert code == 0, said


def choose(layout, count, salt):
    """Some of the damages, each kind of file and damage as often as any other."""
    rng = random.Random(SEED + salt)
    groups = {}
    for damage in all_damages(layout, SEED + salt, 4):
        key = (re.sub(r"\d+", "", damage.what), *sorted(path.suffix for path in damage.changes))
        groups.setdefault(key, []).append(damage)
    chosen = []
    while len(chosen) < count:
        for key in sorted(groups):
            chosen.append(rng.choice(groups[key]))
    rng.shuffle(chosen)
    return chosen[:count]


def same(seen, expected):
    """Compares two observations; the difference, or None. What was in flight may be told apart only
    by whom it went to first."""
    for name, value in expected.items():
        got = seen[name]
        if isinstance(value, dict) and "messages" in value:
            if got is None or got["present"] != value["present"]:
                return f"{name}: session present: {got}"
            missing = set(value["messages"]) - set(got["messages"])
            extra = set(got["messages"]) - set(value["messages"])
            if missing or extra:
                return f"{name}: {len(missing)} missing, {len(extra)} more than there were"
        elif got != value:
            return f"{name}: {str(got)[:300]} instead of {str(value)[:300]}"
    return None


def test_a_server_on_damage_is_right_or_refuses(store):
    """It refuses with what and where, or delivers only what was published; all of it, when the check
    found nothing."""
    folder, layout, expected = store
    outcomes = {}
    for damage in choose(layout, SERVED, 1):
        work = copy_dir(layout.data_dir, folder / "work")
        damage.apply(work, layout.data_dir)
        code, said = run("check", work)
        try:
            seen = look(folder, work, patience_s=10 if code == 0 else 1)
        except Wrong as wrong:
            pytest.fail(f"{damage.name}: wrong bytes: {wrong}")
        damage.before = {}
        if isinstance(seen, str):
            assert code == 1, f"{damage.name}: refused, but the check found nothing: {seen}"
            assert names_place(damage, seen), f"{damage.name}: refused without a place: {seen}"
            outcomes["refused"] = outcomes.get("refused", 0) + 1
            continue
        key = "served, damage told" if code else "served, sound"
        outcomes[key] = outcomes.get(key, 0) + 1
        if code == 0 and damage.kind(layout) == DEAD:
            difference = same(seen, expected)
            assert not difference, f"{damage.name}: called sound, but {difference}\n{said}"
    print(outcomes)


def hurt_messages(layout, damage):
    """The (topic, payload) of records that the damage touches."""
    hurt = set()
    for segment in layout.segments:
        if segment.path not in damage.changes:
            continue
        after = damage.changes[segment.path]
        for record in segment.records:
            span = slice(record.offset, record.offset + record.size)
            if after is None or after[span] != segment.data[span]:
                hurt.add((record.topic, record.payload))
    return hurt


def test_repair(store):
    """It says what it would do and does nothing; with --yes it does it, the check is content, the
    server starts, and all that was not damaged is delivered."""
    folder, layout, expected = store
    from hashlib import md5

    outcomes = {}
    for damage in choose(layout, REPAIRED, 2):
        work = copy_dir(layout.data_dir, folder / "work")
        damage.apply(work, layout.data_dir)
        damage.before = {}
        damaged = run("check", work)[0] == 1
        before = {p: p.read_bytes() for p in work.rglob("*") if p.is_file()}
        code, plan = run("repair", work)
        assert code == (1 if damaged else 0), f"{damage.name}:\n{plan}"
        assert before == {p: p.read_bytes() for p in work.rglob("*") if p.is_file()}, damage.name
        code, said = run("repair", "--yes", work)
        assert code == 0, f"{damage.name}: not repaired:\n{said}"
        code, after = run("check", work)
        assert code == 0, f"{damage.name}: damaged after its repair:\n{said}\n{after}"
        kept = {p.read_bytes() for p in work.glob("damaged-*/*/*")}
        for path in damage.changes:
            content = before.get(work / path.relative_to(layout.data_dir))
            now = work / path.relative_to(layout.data_dir)
            unchanged = now.exists() and now.read_bytes() == content
            assert not damaged or content is None or unchanged or content in kept or \
                path.suffix == ".seg" or path.name == "data.mdb", \
                f"{damage.name}: the damaged file was not kept\n{said}"
        try:
            seen = look(folder, work)
        except Wrong as wrong:
            pytest.fail(f"{damage.name}: wrong bytes after the repair: {wrong}\n{said}")
        assert not isinstance(seen, str), f"{damage.name}: {seen}\n{said}"
        rows_lost = "are lost" in said
        hurt = {(topic, md5(payload).hexdigest()) for topic, payload in hurt_messages(layout, damage)}
        for name in ("one", "two", "both", "member"):
            if seen[name]["present"]:
                missing = set(expected[name]["messages"]) - set(seen[name]["messages"]) - hurt
                assert not missing or "retained messages and topics" in said, \
                    f"{damage.name}: {name} lacks {len(missing)}, such as {sorted(missing)[:3]}\n{said}"
            else:
                assert rows_lost, f"{damage.name}: the session {name} is gone\n{said}"
        outcomes[damaged, rows_lost] = outcomes.get((damaged, rows_lost), 0) + 1
    print(outcomes)
