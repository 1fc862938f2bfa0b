#!/usr/bin/env python3
"""Runs what the documentation tells people to type: every command block of README.md and docs/.

The `sh` blocks of a page run one after the other in one bash session, in a fresh folder, as a reader
would run them: with the built program in PATH, each command expected to succeed (`set -e`), servers
in the background ended afterwards. `yaml` blocks are configurations and must be sound. A block that
cannot be run says so to its reader in the line before it:

    *(not run by the tests: it needs root)*

The pages use the default ports; here other, free ones are put in their place, so that the pages can
be tried beside a running server. Segments are small, so that a start is quick.

    check_docs.py [PAGE...]

The last line is "N passed, N failed", counted in blocks; the status is 1 if anything failed.
"""

import argparse
import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("TIDEMQ_BIN", ROOT / "build" / "release" / "tidemq"))
PAGE_TIMEOUT_S = 120
USUAL_PORTS = [1883, 18080, 8888, 8883]  # MQTT, administration, WebSocket, TLS
REASON = re.compile(r"^\*\(not run by the tests: \S.*\)\*$")
INERT = {"text", "json", "ini", "js"}  # shown, not typed
MARK = "@@ block at line "


@dataclass
class Block:
    """A fenced block: where it begins, its language, its lines, and why it is not run if it is not."""

    line: int
    language: str
    text: str
    reason: str


def blocks_read(path, faults):
    """The blocks of a page; what is wrong with their form goes to `faults`."""
    blocks, lines, begin = [], path.read_text(encoding="utf-8").splitlines(), None
    before, used = "", set()
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if begin is None:
                begin = number
                before = lines[number - 2].strip() if number > 1 else ""
                if REASON.match(before):
                    used.add(number - 1)
            else:
                reason = before if REASON.match(before) else ""
                language = lines[begin - 1][3:].strip()
                blocks.append(Block(begin, language, "\n".join(lines[begin : number - 1]), reason))
                begin = None
    if begin is not None:
        faults.append(f"{path.name}:{begin}: the block does not end")
    for number, line in enumerate(lines, 1):
        if REASON.match(line.strip()) and number not in used:
            faults.append(f"{path.name}:{number}: a reason with no block behind it")
    for block in blocks:
        if block.language not in INERT | {"sh", "yaml"}:
            faults.append(f"{path.name}:{block.line}: a block needs one of the languages sh, yaml, "
                          f"{', '.join(sorted(INERT))}; this one has '{block.language}'")
    return blocks


def free_ports():
    """For each usual port one that nobody uses now."""
    socks = [socket.socket() for _ in USUAL_PORTS]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


def environment(folder, ports):
    """What the reader's shell would have, and the other ports."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "tidemq").symlink_to(BINARY.resolve())
    env = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMQ_")}
    env.pop("NOTIFY_SOCKET", None)
    env.update(
        PATH=f"{tools}{os.pathsep}{env['PATH']}",
        TIDEMQ_LISTENERS=f"[mqtt://127.0.0.1:{ports[0]}]",
        TIDEMQ_ADMIN_LISTEN=f"127.0.0.1:{ports[1]}",
        TIDEMQ_STORE_SEGMENT_SIZE="4MiB",
        no_proxy="127.0.0.1",
    )
    return env


def run_commands(blocks, folder, env, ports):
    """Runs the blocks in one session. Returns (line of the block that failed or None, output)."""
    script = ["set -eo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for block in blocks:
        script += [f"echo '{MARK}{block.line}'", block.text]
    text = "\n".join(script) + "\n"
    for usual, free in zip(USUAL_PORTS, ports):
        text = re.sub(rf"\b{usual}\b", str(free), text)
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(["bash", "-c", text], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                              stdout=output, stderr=subprocess.STDOUT,
                              start_new_session=True) as process:
            try:
                status = process.wait(PAGE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                status = f"not done after {PAGE_TIMEOUT_S} s"
            try:  # what the page left in the background
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        output.seek(0)
        said = output.read().decode(errors="replace")
    if status == 0:
        return None, said
    reached = re.findall(rf"^{re.escape(MARK)}(\d+)$", said, re.M)
    return int(reached[-1]) if reached else blocks[0].line, f"{said}\nstatus {status}"


def check_yaml(block, folder, env):
    """Whether a configuration is sound; returns what is wrong, or nothing."""
    path = folder / f"line{block.line}.yaml"
    path.write_text(block.text, encoding="utf-8")
    run = subprocess.run([BINARY, "serve", "--config", path, "--check"], env=env, cwd=folder,
                         capture_output=True, text=True, timeout=30, check=False)
    return "" if run.returncode == 0 else run.stderr.strip()


def check_page(path):
    """Runs one page. Returns (passed, faults, how many are not run)."""
    faults = []
    blocks = blocks_read(path, faults)
    commands = [b for b in blocks if b.language == "sh" and not b.reason]
    configurations = [b for b in blocks if b.language == "yaml" and not b.reason]
    excused = sum(bool(b.reason) for b in blocks)
    passed = 0
    with tempfile.TemporaryDirectory(prefix="tidemq-docs-") as name:
        folder = Path(name)
        ports = free_ports()
        env = environment(folder, ports)
        work = folder / "work"
        work.mkdir()
        for block in configurations:
            wrong = check_yaml(block, folder, env)
            passed += not wrong
            if wrong:
                faults.append(f"{path.name}:{block.line}: {wrong}")
        if commands:
            failed_line, said = run_commands(commands, work, env, ports)
            for block in commands:
                if failed_line is None or block.line < failed_line:
                    passed += 1
                elif block.line == failed_line:
                    faults.append(f"{path.name}:{block.line}: a command failed:\n{said[-3000:]}")
                else:
                    faults.append(f"{path.name}:{block.line}: not reached")
    return passed, faults, excused


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pages", nargs="*", type=Path)
    args = parser.parse_args()
    pages = args.pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    passed, failed = 0, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, (good, faults, excused) in zip(pages, pool.map(check_page, pages)):
            passed += good
            failed += len(faults)
            print(f"{path.name}: {good} run, {excused} not run with a reason, {len(faults)} failed")
            for fault in faults:
                print(fault)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
