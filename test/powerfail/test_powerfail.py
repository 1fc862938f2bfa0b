"""Tests of the power-cut simulator itself, and LMDB as its referee."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import powerfail
from powerfail import BUILD, Recording, tree

SUBJECT = BUILD / "subject"
LMDB_SUBJECT = BUILD / "lmdb_subject"

# Scenarios that change something by one libc call; most are named after it.
CALLS = """
open open_trunc open64 openat openat64 openat_cwd creat creat64 open_2 open64_2 openat_2 openat64_2
mkstemp mkstemp64 mkostemp mkostemp64 mkstemps mkstemps64 mkostemps mkostemps64 tmpfile fopen
write write_twice writev writev_many pwrite pwrite64 pwritev pwritev64 pwritev2 pwritev2_here
pwritev2_append pwritev64v2 sendfile sendfile64 copy_file_range copy_file_range_here splice
dup dup2 dup3 fcntl_dup reopened pwrite_append
ftruncate ftruncate64 truncate truncate64 fallocate fallocate64 fallocate_punch fallocate_zero
posix_fallocate posix_fallocate64
rename rename_over rename_dir rename_across renameat renameat2 renameat2_exchange
unlink unlinkat unlinkat_dir rmdir remove remove_dir link linkat mkdir mkdirat mkdtemp close_all
""".split()
# Those named after no function of libc, and the functions that they call.
FUNCTIONS = {"open_2": "__open_2", "open64_2": "__open64_2", "openat_2": "__openat_2",
             "openat64_2": "__openat64_2"}

SYNCS = ["fsync", "fdatasync", "fsync_dup", "syncfs", "sync"]
DURABLE_WRITES = ["write_dsync", "pwrite_dsync", "pwrite_sync", "writev_dsync",
                  "pwritev_dsync_dup", "pwritev2_rwf_dsync", "pwritev2_rwf_sync"]


@pytest.fixture(scope="session", autouse=True)
def _built():
    powerfail.build()


def record(folder, scenario, behind=(), program=SUBJECT, **faults):
    recording = Recording(folder)
    args = [program, scenario] if scenario else [program]
    run = subprocess.run(args, env=recording.env(behind=behind, **faults), capture_output=True, text=True,
                         timeout=50)
    assert run.returncode == 0, run.stderr
    recording.output = run.stdout
    return recording


def files(path):
    """The names in an image with their first bytes."""
    return {name: content and content[1] for name, content in tree(path).items()}


# --- the recorder sees each call ---

@pytest.mark.parametrize("scenario", CALLS)
def test_call_is_recorded(tmp_path, scenario):
    """With nothing lost, the image is what the program left, and without the call it is not."""
    recording = record(tmp_path, scenario)
    live = tree(recording.dir)
    image, _, _ = recording.image("all", mode="all")
    assert tree(image) == live
    before, mark, _ = recording.image("before", recording.point_after_mark(1), mode="all")
    assert mark == 1
    assert tree(before) != live


def test_subject_calls_what_the_scenarios_are_named_after():
    """The compiler has not turned one call into another."""
    symbols = subprocess.run(["nm", "-D", "--undefined-only", SUBJECT], check=True,
                             capture_output=True, text=True).stdout
    called = {line.split()[1].split("@")[0] for line in symbols.splitlines()}
    variants = re.compile("_(trunc|cwd|many|twice|here|append|punch|zero|over|dir|across|exchange)$")
    names = {FUNCTIONS.get(s, variants.sub("", s)) for s in CALLS + ["fsync", "fdatasync", "syncfs",
                                                                    "sync", "sync_file_range"]}
    names -= {"tmpfile", "fcntl_dup", "reopened", "close_all"}
    assert names <= called, names - called


def test_recorder_wraps_every_alias():
    """Each call of the subject that changes files is one of the recorder's, not libc's."""
    symbols = subprocess.run(["nm", "-D", "--defined-only", BUILD / "recorder.so"], check=True,
                             capture_output=True, text=True).stdout
    wrapped = {line.split()[2] for line in symbols.splitlines()}
    needed = """open open64 openat openat64 creat creat64 write writev pwrite pwrite64 pwritev
        pwritev64 pwritev2 pwritev64v2 ftruncate ftruncate64 fallocate fallocate64 posix_fallocate
        posix_fallocate64 fsync fdatasync syncfs sync sync_file_range rename renameat renameat2
        unlink unlinkat link linkat mkdir mkdirat mmap mmap64 pf_mark""".split()
    assert set(needed) <= wrapped, set(needed) - wrapped


def test_ways_around_the_recorder_are_reported(tmp_path):
    recording = record(tmp_path, "unseen")
    _, _, summary = recording.image("image", mode="all")
    unseen = [line.split()[-1] for line in recording.records() if line.split()[1] == "unseen"]
    assert unseen == ["mmap", "mmap", "fopen", "fopen", "fdopen", "symlink", "symlink"]
    assert "unseen=7" in summary


def test_directory_that_stood_before_is_durable(tmp_path):
    recording = Recording(tmp_path)
    (recording.dir / "dir").mkdir()
    (recording.dir / "dir" / "old").write_bytes(os.urandom(3 << 20))
    os.link(recording.dir / "dir" / "old", recording.dir / "linked")
    with open(recording.dir / "sparse", "wb") as sparse:
        sparse.truncate(5 << 20)
    before = tree(recording.dir)
    record(tmp_path, "mkdir")
    image, _, _ = recording.image("none", point="0.0", mode="none")
    assert tree(image) == before


def test_threads_keep_their_order(tmp_path):
    """Many threads, one shared file: the log replays to what is there."""
    recording = record(tmp_path, "threads")
    image, _, _ = recording.image("all", mode="all")
    assert tree(image) == tree(recording.dir)


@pytest.mark.parametrize("seed", range(8))
def test_random_operations_replay(tmp_path, seed):
    """Whatever was settled on the way: with all applied, and after sync(), the image is right."""
    recording = record(tmp_path, "random", SUBJECT_SEED=str(seed))
    live = tree(recording.dir)
    last = len(recording.records()) - 2  # before the sync
    assert tree(recording.image("unsynced", last, mode="all")[0]) == live
    for mode in ("none", "sectors"):
        assert tree(recording.image(mode, mode=mode)[0]) == live
    lost, _, _ = recording.image("lost", last, mode="none")
    assert tree(lost) != live


def test_two_processes_share_a_log(tmp_path):
    record(tmp_path, "state")
    recording = record(tmp_path, "state")
    assert len([line for line in recording.records() if line.split()[1] == "start"]) == 2
    failed, output = recording.images(100, [SUBJECT, "state"])
    assert failed == 0, output
    image, _, _ = recording.image("all", mode="all")
    assert tree(image) == tree(recording.dir)


def test_modes_of_new_files_are_kept(tmp_path):
    recording = record(tmp_path, "random", SUBJECT_SEED="1")
    image, _, _ = recording.image("all", mode="all")
    modes = {path.stat().st_mode & 0o777 for path in image.rglob("*") if path.is_file()}
    assert modes == {0o600}


# --- what a sync promises ---

@pytest.mark.parametrize("scenario", SYNCS)
def test_synced_data_survives_and_unsynced_is_lost(tmp_path, scenario):
    recording = record(tmp_path, scenario)
    lost, _, _ = recording.image("lost", recording.point_after_mark(2), mode="none")
    assert files(lost) == {"file": b"before.."}
    for mode in ("none", "prefix", "sectors", "random"):
        kept, _, _ = recording.image(mode, mode=mode)
        assert files(kept) == {"file": b"aftere."}


@pytest.mark.parametrize("scenario", SYNCS + ["pwrite_dsync", "fsync_dir"])
def test_nosync_promises_nothing(tmp_path, scenario):
    recording = record(tmp_path, scenario, PF_NOSYNC="all")
    image, _, _ = recording.image("image", mode="none")
    assert files(image) == {}


@pytest.mark.parametrize("ignored, left", [("files", {"file": b""}), ("dirs", {}),
                                           ("dsync", {"file": b"before.."})])
def test_some_syncs_can_be_ignored(tmp_path, ignored, left):
    recording = record(tmp_path, "pwrite_dsync", PF_NOSYNC=ignored)
    image, _, _ = recording.image("image", mode="none")
    assert files(image) == left


def test_sync_file_range_is_no_barrier(tmp_path):
    recording = record(tmp_path, "sync_file_range")
    image, _, _ = recording.image("image", mode="none")
    assert files(image) == {"file": b"before.."}
    assert [line for line in recording.records() if "hint" in line and "sync_file_range" in line]


@pytest.mark.parametrize("scenario", DURABLE_WRITES)
def test_durable_write_survives_alone(tmp_path, scenario):
    """An O_DSYNC write is there; an unsynced one to the same file still is not."""
    recording = record(tmp_path, scenario)
    before, _, _ = recording.image("before", recording.point_after_mark(2), mode="none")
    assert files(before) == {"file": b"before.."}
    image, _, _ = recording.image("image", mode="none")
    assert files(image) == {"file": b"two parts"}
    whole, _, _ = recording.image("whole", mode="all")
    assert tree(whole) == tree(recording.dir)


def test_durable_write_can_be_torn_until_it_returns(tmp_path):
    recording = record(tmp_path, "pwrite_dsync")
    durable = [int(line.split()[0]) for line in recording.records() if " durable " in line]
    seen = {files(recording.image(f"image-{seed}", durable[0], seed)[0])["file"][:9]
            for seed in range(20)}
    assert {b"before..", b"two parts"} <= seen


def test_write_during_a_sync_is_not_covered(tmp_path):
    recording = record(tmp_path, "concurrent", behind=[BUILD / "slow_sync.so"])
    assert files(recording.dir)["file"] == b"before.." + bytes(504) + b"during"
    image, _, _ = recording.image("image", mode="none")
    assert files(image) == {"file": b"before.."}
    operations = [line.split()[1] for line in recording.records()][-4:]
    assert operations == ["write", "sync-begin", "write", "sync-end"]


def test_failed_sync_is_not_made_good_by_the_next(tmp_path):
    """Linux drops the dirty pages after EIO; a retry that succeeds promises nothing."""
    good = record(tmp_path / "good", "fdatasync_twice")
    assert files(good.image("image", mode="none")[0])["file"] == b"aftere."
    bad = record(tmp_path / "bad", "fdatasync_twice", PF_FAIL="fdatasync:1:EIO")
    assert files(bad.image("image", mode="none")[0])["file"] == b"before.."


def test_directory_sync_keeps_names(tmp_path):
    recording = record(tmp_path, "fsync_dir")
    point = recording.point_after_mark(2)
    old = {"dir": None, "moved": b"moved", "removed": b"removed"}
    assert files(recording.image("lost", point, mode="none")[0]) == old
    kept, _, _ = recording.image("kept", mode="none")
    assert tree(kept) == tree(recording.dir)

    outcomes = set()
    for seed in range(60):
        names = set(files(recording.image(f"image-{seed}", point, seed, "prefix")[0]))
        assert ("moved" in names) != ("dir/moved" in names), "a rename is atomic"
        assert "dir/moved" not in names or "dir/made" in names, "a directory keeps its order"
        assert "linked" not in names or "removed" not in names, "a directory keeps its order"
        outcomes.add(frozenset(names))
    assert len(outcomes) > 4


# --- many images ---

def test_synced_records_survive_every_image(tmp_path):
    recording = record(tmp_path, "ledger")
    failed, output = recording.images(200, [SUBJECT, "ledger"])
    assert failed == 0, output


def test_unsynced_records_are_lost_in_some_image(tmp_path):
    recording = record(tmp_path, "ledger", PF_NOSYNC="all")
    failed, output = recording.images(50, [SUBJECT, "ledger"])
    assert failed > 25, output


def test_rename_with_directory_sync_survives_every_image(tmp_path):
    recording = record(tmp_path, "state")
    failed, output = recording.images(200, [SUBJECT, "state"])
    assert failed == 0, output


def test_rename_without_directory_sync_is_lost_in_some_image(tmp_path):
    recording = record(tmp_path, "state_unsynced")
    failed, output = recording.images(50, [SUBJECT, "state"])
    assert failed > 0, output


def test_failing_image_can_be_built_again(tmp_path):
    """The printed point and seed rebuild the very image that failed."""
    recording = record(tmp_path, "ledger", PF_NOSYNC="all")
    failed, output = recording.images(5, ["sh", "-c", 'cp -r "$0" "$0.kept"; exit 3'], seed=9)
    assert failed == 5
    found = re.findall(r"image (\d+): mark (\d+), exit 3, again with --point (\d+) --seed (\d+)",
                       output)
    assert len(found) == 5
    for index, mark, point, seed in found:
        image, again, _ = recording.image(f"again-{index}", point, seed)
        assert again == int(mark)
        assert tree(image) == tree(recording.folder / "images-9-random" / f"{index}.kept")


def record_python(folder, code):
    """Records a few lines of Python in the watched directory."""
    recording = Recording(folder)
    subprocess.run([sys.executable, "-c", f"import os\n{code}"], check=True, cwd=recording.dir,
                   env=recording.env(), timeout=50)
    return recording


def test_hole_loses_one_run_of_sectors(tmp_path):
    """All is there but a run of sectors, often the first ones: what came later is on the disk."""
    recording = record_python(tmp_path, """
fd = os.open("file", os.O_CREAT | os.O_WRONLY)
for n in range(4):
    os.pwrite(fd, bytes([n + 1]) * 4096, n * 4096)
os.fsync(os.open(".", os.O_RDONLY))""")
    patterns = set()
    for seed in range(40):
        image, _, _ = recording.image(f"image{seed}", seed=seed, mode="hole")
        content = (image / "file").read_bytes()
        assert len(content) == 4 * 4096
        kept = ""
        for at in range(0, len(content), 512):
            sector = content[at : at + 512]
            assert sector in (bytes(512), bytes([at // 4096 + 1]) * 512)
            kept += "1" if any(sector) else "0"
        assert re.fullmatch("1*0+1*", kept), kept
        patterns.add((kept[0], kept[-1]))
    assert {("0", "1"), ("1", "1")} <= patterns


def test_directory_operations_can_be_lost_one_by_one(tmp_path):
    """A later operation on other names may be there without an earlier one; not so with mode prefix,
    and never one that builds on a name that is lost."""
    recording = record_python(tmp_path, """
for name in "abcd":
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
os.rename("a", "e")
os.rename("b", "f")
os.unlink("c")""")
    names = {"sectors": set(), "prefix": set()}
    for mode, found in names.items():
        for seed in range(80):
            image, _, _ = recording.image(f"{mode}{seed}", seed=seed, mode=mode)
            found.add("".join(sorted(os.listdir(image))))
    history = {"", "a", "ab", "abc", "abcd", "bcde", "cdef", "def"}
    assert names["prefix"] == history
    assert "d" in names["sectors"] and "bde" in names["sectors"]
    for found in names["sectors"]:
        assert not {"a", "e"} <= set(found) and not {"b", "f"} <= set(found)
    assert len(names["sectors"]) > len(history)


def test_chosen_cuts_are_the_images_of_their_points(tmp_path):
    """What another program asks for line by line is what --point builds."""
    recording = record(tmp_path, "random", SUBJECT_SEED="3")
    last = len(recording.records())
    cuts = [(last // 2, 5, "sectors"), (last // 2, 6, "hole"), (last - 1, 5, "random")]
    run = subprocess.run(
        [BUILD / "replay", recording.log, recording.dir, tmp_path / "cuts", "--cuts"],
        input="".join(f"{point} {seed} {mode} image{n}\n" for n, (point, seed, mode) in enumerate(cuts)),
        capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["image0", "image1", "image2"]
    for n, (point, seed, mode) in enumerate(cuts):
        image, mark, _ = recording.image(f"point{n}", point, seed, mode)
        assert tree(tmp_path / "cuts" / f"image{n}") == tree(image)
        assert run.stdout.splitlines()[n].split()[1] == str(mark)


@pytest.mark.parametrize("lines, said", [
    ("9 1 all a\n8 1 all b\n", "must not descend"), ("9 1 all\n", "a cut is"),
    ("9 1 most a\n", "usage"), ("9999999 1 all a\n", "not a point")])
def test_mistakes_in_chosen_cuts_are_refused(tmp_path, lines, said):
    recording = record(tmp_path, "random", SUBJECT_SEED="3")
    run = subprocess.run(
        [BUILD / "replay", recording.log, recording.dir, tmp_path / "cuts", "--cuts"],
        input=lines, capture_output=True, text=True)
    assert run.returncode == 2 and said in run.stderr, run.stderr


def test_seeds_differ(tmp_path):
    recording = record(tmp_path, "ledger")
    point = recording.point_after_mark(500) + 9
    images = [tree(recording.image(f"image-{seed}", point, seed, "sectors")[0])
              for seed in range(4)]
    assert all(images[0] != other for other in images[1:])


def test_marks_of_an_image_can_be_listed(tmp_path):
    recording = record(tmp_path, "state")
    run = recording.replay(tmp_path / "image", "--point", recording.point_after_mark(5), "--marks")
    assert run.stdout.startswith("5\n")
    assert (tmp_path / "image.marks").read_text() == "1\n2\n3\n4\n5\n"


def test_marks_from_another_process(tmp_path):
    recording = record(tmp_path, "write")
    recording.mark(77)
    _, mark, _ = recording.image("image")
    assert mark == 77


def test_log_of_a_killed_process_is_read(tmp_path):
    """A record that SIGKILL cut off is passed over, and marks behind it are found."""
    recording = record(tmp_path, "write")
    whole = recording.log.read_bytes()
    recording.log.write_bytes(whole[:-1])
    recording.mark(78)
    image, mark, _ = recording.image("image", mode="all")
    assert mark == 78
    assert files(image)["file"] == b"0123456789"


def test_killed_process_leaves_a_usable_log(tmp_path):
    recording = Recording(tmp_path)
    with subprocess.Popen([SUBJECT, "bulk"], env=recording.env()) as process:
        while not recording.log.exists() or recording.log.stat().st_size < 1 << 20:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    failed, output = recording.images(20, [SUBJECT, "bulk"])
    assert failed == 0, output


def test_part_of_the_directory_can_be_rebuilt(tmp_path):
    recording = record(tmp_path, "rename")
    recording.dir = recording.dir / "b"
    image, _, _ = recording.image("image", mode="all")
    assert files(image) == {"three": b"first"}


def test_many_images_of_a_long_log_take_seconds(tmp_path):
    recording = record(tmp_path, "bulk")
    assert recording.log.stat().st_size > 24 << 20
    start = time.monotonic()
    failed, output = recording.images(200, [SUBJECT, "bulk"])
    seconds = time.monotonic() - start
    print(f"200 images of a log of {recording.log.stat().st_size >> 20} MiB: {seconds:.1f} s")
    assert failed == 0, output
    assert seconds < 30


# --- faults ---

def test_calls_fail_where_asked(tmp_path):
    recording = record(tmp_path, "faults", PF_FAIL="fdatasync:2:EIO,pwrite:3:28,rename:1:EDQUOT")
    assert recording.output.splitlines() == [
        "pwrite 10 ", "fdatasync 0 ", "pwrite 10 ", "fdatasync -1 EIO", "pwrite -1 ENOSPC",
        "fdatasync 0 ", "pwritev 9 ", "rename -1 EDQUOT"]
    image, _, _ = recording.image("all", mode="all")
    assert tree(image) == tree(recording.dir)


def test_groups_of_calls_fail_from_some_call_on(tmp_path):
    recording = record(tmp_path, "faults", PF_FAIL="any-write:3+:ENOSPC,any-sync:1:EIO")
    assert recording.output.splitlines() == [
        "pwrite 10 ", "fdatasync -1 EIO", "pwrite 10 ", "fdatasync 0 ", "pwrite -1 ENOSPC",
        "fdatasync 0 ", "pwritev -1 ENOSPC", "rename 0 "]


def test_short_writes(tmp_path):
    recording = record(tmp_path, "faults", PF_SHORT="2")
    assert re.findall(r"pwritev? (\d+)", recording.output) == ["10", "5", "10", "4"]
    image, _, _ = recording.image("all", mode="all")
    assert tree(image) == tree(recording.dir)


@pytest.mark.parametrize("faults", [{"PF_FAIL": "fdatasync:0:EIO"}, {"PF_FAIL": "pwrite:1:EWHAT"},
                                    {"PF_FAIL": "pwrite"}, {"PF_SHORT": "x"}, {"PF_NOSYNC": "no"},
                                    {"PF_DIR": "relative"}, {"PF_DIR": "/nonexistent"}])
def test_mistakes_stop_the_program(tmp_path, faults):
    recording = Recording(tmp_path)
    run = subprocess.run([SUBJECT, "write"], env=recording.env(**faults), capture_output=True,
                         text=True)
    assert run.returncode == 99
    assert "powerfail recorder" in run.stderr


def test_log_inside_the_directory_is_refused(tmp_path):
    recording = Recording(tmp_path)
    env = recording.env(PF_LOG=str(recording.dir / "log"))
    run = subprocess.run([SUBJECT, "write"], env=env, capture_output=True, text=True)
    assert run.returncode == 99


# --- the referee: LMDB alone ---

def test_lmdb_loses_nothing(tmp_path):
    recording = record(tmp_path, None, program=LMDB_SUBJECT)
    failed, output = recording.images(200, [LMDB_SUBJECT])
    assert failed == 0, output


@pytest.mark.parametrize("ignored", ["all", "files", "dsync"])
def test_lmdb_loses_with_syncs_off(tmp_path, ignored):
    """Without syncs of files, or only without those that O_DSYNC implies, commits are lost."""
    recording = record(tmp_path, None, program=LMDB_SUBJECT, PF_NOSYNC=ignored)
    failed, output = recording.images(200, [LMDB_SUBJECT])
    assert failed >= 1, output
