"""A disk that really fails: an ext4 image on a tmpfs that has less room than the image promises.
Writes are taken into memory, and fdatasync fails (EIO, with newer kernels ENOSPC) when the kernel
cannot write them back.

What the server does then is seen from outside, with strace: a file whose fdatasync has failed is
never synced again and nothing more is written to it; the log goes on in another file."""

import os
import pathlib
import re
import select
import shutil
import subprocess

import pytest
from tidemq import BINARY, wait_until
from test_full import CONFIG, QUOTA, Publisher, all_there, fill_up, not_ready
from wire import V5, V311


def traced(tmp_path):
    """A program that runs the server under strace; the calls go to the file returned with it."""
    out = tmp_path / "calls"
    program = tmp_path / "traced"
    program.write_text(
        "#!/bin/sh\n"
        f"exec {shutil.which('strace')} -f -y --seccomp-bpf -e "
        "trace=fdatasync,fsync,pwritev,pwritev2,pwrite64,write,close,rename,renameat,renameat2 "
        f"-o {out} {BINARY} \"$@\"\n")
    program.chmod(0o755)
    return program, out


def calls_of(out):
    """(name, descriptor, path, error) of each call on a log file, in their order.
    A call that another one interrupted in the listing is put together again."""
    begun = {}
    for line in out.read_text(errors="replace").splitlines():
        found = re.match(r"^(\d+) +(.*)$", line)
        if not found:
            continue
        thread, text = found.groups()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)$", text)
        if resumed:
            text = begun.pop(thread, "") + resumed[1]
        call = re.match(r"(\w+)\((\d+)<([^>]*)>", text)
        if call and "/data/log/" in call[3]:
            failed = re.search(r"= -1 (E\w+)", text)
            yield call[1], int(call[2]), call[3], failed[1] if failed else None


def judge_calls(out):
    """No write to a file whose fdatasync has failed, and no sync of it again, until it is closed.
    Returns the names of those files."""
    failed, later, names = {}, [], []
    for name, fd, path, error in calls_of(out):
        if name == "close":
            failed.pop(fd, None)
            continue
        if fd in failed:
            later.append((name, path, error))
        if name == "fdatasync" and error:
            failed[fd] = path
            names.append(pathlib.Path(path).name)
    assert not later, f"calls on a file whose sync had failed: {later}"
    return names


@pytest.fixture(name="traced_server")
def fixture_traced_server(tmp_path, make_server):
    """Makes servers under strace."""
    def traced_server(**config):
        program, out = traced(tmp_path)
        server = make_server(start=False, **config)
        server.binary = program
        return server.start(), out

    return traced_server


def test_a_failed_sync_is_not_repeated(make_disk, traced_server, new_client):
    """EIO at fdatasync: publishers are refused, readers go on, and with a disk that works again the
    server goes on by itself, in another file. Nothing acknowledged is missing after a kill."""
    disk = make_disk(256, room_mib=40)
    # No files are prepared: it is the log's own sync that fails, in the middle of a file.
    config = {**CONFIG, "store.segment_size": "16MiB", "store.pool_segments": 0}
    server, out = traced_server(data_dir=disk.path / "data", **config)
    for name in ("away", "reader"):
        client = new_client(name, to=server, clean=False, expiry_s=600)
        client.subscribe("+", 1)
        client.disconnect()
    reader = new_client("reader", to=server, clean=False, expiry_s=600)
    publishers = [Publisher(server, V5, "a", 1), Publisher(server, V311, "b", 1)]
    fill_up(publishers)
    assert publishers[0].refusal.reason == QUOTA
    assert publishers[1].refusal is None
    said = wait_until(lambda: not_ready(server), what="/readyz")
    assert re.search("could not .* the log: (Input/output error|No space left on device)", said)
    count = sum(len(publisher.acknowledged) for publisher in publishers)
    found = [message.split()[0] for message in reader.take_many(count)]
    assert sorted(found) == sorted(name for each in publishers for name in each.acknowledged)
    disk.grow(200)
    wait_until(lambda: not not_ready(server), what="the server being ready")
    for publisher in publishers:
        publisher.close()
        for _ in range(20):
            assert publisher.publish()
    failed = judge_calls(out)
    assert any(name.endswith(".log") for name in failed), f"no sync of the log failed: {failed}"
    server_pid = int(subprocess.run(["pgrep", "-P", str(server.process.pid)], check=True,
                                    capture_output=True, text=True).stdout)
    gone = os.pidfd_open(server_pid)
    os.kill(server_pid, 9)
    assert select.select([gone], [], [], 60)[0]
    os.close(gone)
    server.kill()
    server.binary = BINARY
    server.start()
    all_there(new_client, server, publishers)
