"""A server process of the cluster tests: a folder of its own, an output file, and a life of starts,
pauses, kills and restarts on the same data.

Ports are free ones of 127.0.0.1, kept over restarts. A process ends with the Python process that
started it, whatever ends that (PR_SET_PDEATHSIG), and never gets the terminal's Ctrl-C itself. The
launching thread must live as long as the process, so launch from the main thread.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

START_TIMEOUT_S = 300  # a Broker computes for ten seconds and more
STOP_TIMEOUT_S = 60
PORTS_BEGIN, PORTS_END = 12000, 30000  # below the ports that the kernel gives to clients

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LIBC = ctypes.CDLL(None)
_next_port = itertools.count(PORTS_BEGIN + os.getpid() * 61 % (PORTS_END - PORTS_BEGIN))


def _die_with(parent):
    """What a new process does before it becomes the server: asks to be killed when its parent ends,
    unless that is gone already."""
    def ask():
        if _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
            os._exit(1)
    return ask


def is_free(port):
    """Whether nobody is bound to a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count=1):
    """The first of `count` free ports in a row that this process has not given out before."""
    while True:
        first = next(_next_port)
        rest = [next(_next_port) for _ in range(count - 1)]
        ports = [PORTS_BEGIN + (port - PORTS_BEGIN) % (PORTS_END - PORTS_BEGIN)
                 for port in [first, *rest]]
        if ports[-1] - ports[0] == count - 1 and all(map(is_free, ports)):
            return ports[0]


class StartFailed(Exception):
    """The process ended, or said nothing in time, before it was ready."""


class Process:
    """One process. Subclasses say how it is started (command, environment, prepare) and, in `ready`, how
    one sees that it serves; READY_LINE is enough where the output says so."""

    READY_LINE = None  # a pattern in the output of this start
    KEEP = ("stdout", "*.log")  # what clear() leaves

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.process = None
        self.launched_at = None
        self.start_times_s = []  # of each start, until ready
        self._seen = 0  # where the output of this start begins

    # --- what subclasses say ----------------------------------------------------------------------

    def command(self):
        """The words of the command line."""
        raise NotImplementedError

    def environment(self):
        """What is added to this environment."""
        return {}

    def prepare(self):
        """Writes configuration files; before each start."""

    def ready(self):
        """Whether it serves; asked after READY_LINE was seen."""
        return True

    # --- life ---------------------------------------------------------------------------------------

    def launch(self):
        """Starts it without waiting. Returns itself."""
        assert self.process is None, f"{self.name} runs already"
        self.prepare()
        self._seen = self.output_path.stat().st_size if self.output_path.exists() else 0
        self.launched_at = time.monotonic()
        with open(self.output_path, "ab") as out:
            self.process = subprocess.Popen(
                [*map(str, self.command())], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                cwd=self.folder, env={**os.environ, **self.environment()}, start_new_session=True,
                preexec_fn=_die_with(os.getpid()))
        return self

    def wait_ready(self, timeout_s=START_TIMEOUT_S):
        """Waits until it serves. Raises StartFailed with the end of its output. Returns itself."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while not (self._said_ready() and self.ready()):
                late = time.monotonic() - self.launched_at > timeout_s
                # the poll is the pause: it ends at once when the process does
                if late or select.select([pidfd], [], [], 0.02)[0]:
                    what = "was not ready in time" if late else "ended before it was ready"
                    end = self.output[-3000:]
                    self.kill()
                    raise StartFailed(f"{self.name} {what}: {end}")
        finally:
            os.close(pidfd)
        self.start_times_s.append(time.monotonic() - self.launched_at)
        return self

    def start(self, timeout_s=START_TIMEOUT_S):
        """launch and wait_ready."""
        return self.launch().wait_ready(timeout_s)

    def _said_ready(self):
        return self.READY_LINE is None or re.search(self.READY_LINE, self.output)

    def _wait(self, timeout_s):
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def stop(self, timeout_s=STOP_TIMEOUT_S):
        """SIGTERM; waits for the end, and kills it when that takes too long. Returns the exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self._wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self._wait(STOP_TIMEOUT_S)

    def pause(self):
        """SIGSTOP: it keeps its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self, kill=False):
        """Stops or kills it, and starts it with the same folder and ports."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def clear(self):
        """Removes its data; its output stays."""
        assert self.process is None, f"{self.name} still runs"
        kept = {path for pattern in self.KEEP for path in self.folder.glob(pattern)}
        for path in self.folder.iterdir():
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    # --- what it says ---------------------------------------------------------------------------------

    @property
    def running(self):
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def output_path(self):
        """Where its output goes; of all starts."""
        return self.folder / "stdout"

    @property
    def output(self):
        """What it has printed since the last start."""
        if not self.output_path.exists():
            return ""
        with open(self.output_path, "rb") as file:
            file.seek(self._seen)
            return file.read().decode(errors="replace")

    def memory(self):
        """Its memory in bytes: all that is resident, and the part that no file backs."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return tuple(int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) * 1024
                     for key in ("VmRSS", "RssAnon"))

    def cpu_s(self):
        """Processor time so far, all threads."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def disk(self):
        """Bytes its folder takes on disk."""
        total = 0
        for top, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(top, name)).st_blocks * 512
        return total


class Group:
    """Processes that end together; ends what it was given, and nothing else."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []

    def add(self, process):
        """Takes a process, started or not. Returns it."""
        self.processes.append(process)
        return process

    def start(self, *processes):
        """Starts several at once and waits for all."""
        for process in processes:
            self.add(process).launch()
        for process in processes:
            process.wait_ready()

    def end(self):
        """Kills all and removes their data; their output stays. The last started goes first."""
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.clear()
        self.processes.clear()

    def stop(self):
        """Ends all in order, at once; kills what does not end in time."""
        running = [process for process in reversed(self.processes) if process.running]
        for process in running:
            process.resume()
            process.process.terminate()
        for process in running:
            try:
                process.stop()
            except subprocess.TimeoutExpired:
                pass  # it is killed then

    def logs(self, size=3000):
        """The end of each process's output, to be shown when a test failed."""
        return "\n".join(f"--- {process.name}\n{process.output[-size:]}" for process in self.processes)
