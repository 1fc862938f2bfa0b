#!/usr/bin/env python3
"""Runs the commands that the README, its siblings and the pages in docs/ show.

Each fenced `sh` block of a page runs, in order, in one bash session with `set -e`, in an empty
folder, with the built program first in the PATH. A block is left out only when the line before its
fence says why:

    *(not run by the tests: it needs root)*

Pages name the usual ports 1883 and 18080; here each page gets two free ones instead, and small log
files, through the environment and by replacing the numbers in the commands. What a page starts in
the background is ended by its process id when the page is done.

Other fences must say what they are: text, yaml, c. Links between the pages must lead somewhere.

usage: check_docs.py [PAGE]...

TIDEMQ_BIN names another program than build/release/tidemq. Prints what failed and
`N passed, N failed`, counted in blocks and pages; exits 1 on any failure.
"""
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("TIDEMQ_BIN", ROOT / "build/release/tidemq")).resolve()
PAGE_TIMEOUT_S = 120
END_TIMEOUT_S = 10
FENCE = re.compile(r"^\s*```(.*)$")
REASON = re.compile(r"^\*\(not run by the tests: \S.*\)\*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PORTS = ("1883", "18080")
OTHER_FENCES = {"text", "yaml", "c"}


class Block:
    """One fenced block: its language, where it begins, its lines, and the line before its fence."""

    def __init__(self, language, line, before):
        self.language = language
        self.line = line
        self.before = before
        self.lines = []


def blocks_of(text):
    """The fenced blocks of a page; a fence that is not closed raises ValueError."""
    blocks, block, before = [], None, ""
    for number, line in enumerate(text.split("\n"), 1):
        fence = FENCE.match(line)
        if fence and block is None:
            block = Block(fence[1].strip(), number + 1, before)
        elif fence:
            blocks.append(block)
            block, before = None, ""
        elif block is not None:
            block.lines.append(line)
        elif line.strip():
            before = line.strip()
    if block is not None:
        raise ValueError(f"line {block.line - 1}: a fence is not closed")
    return blocks


def anchor_of(heading):
    """The anchor that Markdown renderers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def without_fences(text):
    return re.sub(r"^\s*```.*?^\s*```$", "", text, flags=re.M | re.S)


def link_faults(page, text):
    """Links to files or headings that do not exist."""
    for match in LINK.finditer(without_fences(text)):
        name, _, anchor = match[1].partition("#")
        if "://" in name:
            continue
        target = page.parent / name if name else page
        if not target.exists():
            yield f"the link to {match[1]} leads nowhere"
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", without_fences(target.read_text("utf-8")), re.M)
            if anchor not in map(anchor_of, headings):
                yield f"{match[1]}: there is no such heading"


def free_ports(count):
    """Ports of 127.0.0.1 that nobody has at present, all different."""
    with_sockets = [socket.socket() for _ in range(count)]
    try:
        for one in with_sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in with_sockets]
    finally:
        for one in with_sockets:
            one.close()


def script_of(blocks, ports):
    """The page as one script that tells on descriptor 3 which block it has finished."""
    parts = ["set -e -o pipefail"]
    for block in blocks:
        text = "\n".join(block.lines)
        for usual, port in zip(PORTS, ports):
            text = re.sub(rf"\b{usual}\b", port, text)
        parts.append(f"{text}\necho {block.line} >&3")
    return "\n".join(parts) + "\n"


def environment_of(folder, ports):
    env = {key: value for key, value in os.environ.items() if not key.startswith("TIDEMQ_")}
    env.update(
        PATH=f"{folder / 'bin'}{os.pathsep}{env['PATH']}",
        TIDEMQ_LISTENERS=f"[mqtt://127.0.0.1:{ports[0]}]",
        TIDEMQ_ADMIN_LISTEN=f"127.0.0.1:{ports[1]}",
        TIDEMQ_STORE_SEGMENT_SIZE="1MiB",
        TIDEMQ_RETENTION_BYTES="64MiB",
    )
    return env


def members_of(group):
    """Process ids of a process group, zombies left out."""
    members = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            members.append(int(entry.name))
    return members


def end_group(group):
    """Ends what the page left running, gently first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        waiting = members_of(group)
        for pid in waiting:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(handle, number)
                wait_for(handle)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)


def wait_for(handle):
    """Waits until the process behind a pidfd has ended, for a while."""
    select.select([handle], [], [], END_TIMEOUT_S)


def run_blocks(blocks):
    """Runs the blocks of a page. Returns the lines of those that finished, and the output."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="check-docs-"))
    work = folder / "work"
    work.mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "tidemq").symlink_to(BINARY)
    ports = free_ports(len(PORTS))
    try:
        with open(folder / "out", "wb") as out, open(folder / "done", "wb") as done:
            command = ["bash", "-c", 'exec 3>&"$0"; . "$1"', str(done.fileno()),
                       str(folder / "script")]
            (folder / "script").write_text(script_of(blocks, ports), "utf-8")
            with subprocess.Popen(command, cwd=work, env=environment_of(folder, ports), stdout=out,
                                  stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  pass_fds=[done.fileno()], start_new_session=True) as process:
                try:
                    process.wait(PAGE_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    out.write(f"\nstopped after {PAGE_TIMEOUT_S} s\n".encode())
                end_group(process.pid)
        finished = {int(line) for line in (folder / "done").read_text("utf-8").split()}
        return finished, (folder / "out").read_text("utf-8", errors="replace")
    finally:
        shutil.rmtree(folder)


def check_page(page):
    """Checks one page. Returns (passed, faults)."""
    name = page.relative_to(ROOT)
    text = page.read_text("utf-8")
    try:
        blocks = blocks_of(text)
    except ValueError as error:
        return 0, [f"{name}: {error}"]
    faults = [f"{name}: {fault}" for fault in link_faults(page, text)]
    faults += [f"{name}:{block.line}: say what this is: ```sh, ```text, ```yaml or ```c"
               for block in blocks if block.language not in OTHER_FENCES | {"sh"}]
    shells = [block for block in blocks if block.language == "sh"]
    to_run = [block for block in shells if not REASON.match(block.before)]
    passed = 0 if faults else 1
    if to_run:
        finished, output = run_blocks(to_run)
        passed += len(finished)
        failed = next((block for block in to_run if block.line not in finished), None)
        if failed:
            faults.append(f"{name}:{failed.line}: this block failed; the page printed:\n{output}")
    return passed, faults


def pages():
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def main():
    chosen = [pathlib.Path(name).resolve() for name in sys.argv[1:]] or pages()
    if not BINARY.exists():
        sys.exit(f"{BINARY} does not exist: make build")
    passed, faults = 0, []
    for page in chosen:
        page_passed, page_faults = check_page(page)
        passed += page_passed
        faults += page_faults
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{passed} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
