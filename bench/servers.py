"""What the benchmark knows of servers, and TideMQ, mosquitto and the floor. Further ones are in
peers.py, which has the list of all.

A server is started afresh, with an empty folder of its own, for every run. Settings that differ
from the server's own defaults are stated in `settings`, which the report prints.
"""
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import rows

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
QUIET_CPU_S = 0.005  # a server is quiet when it used less than this in one QUIET_STEP_S
QUIET_STEP_S = 0.2
QUIET_STEPS = 5
QUIET_TIMEOUT_S = 20


def free_port():
    """A port that nobody has, below those that outgoing connections of others may take meanwhile."""
    while True:
        port = random.randrange(10000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def cpu_seconds(pid):
    """User and system time of all threads of a process, ended ones included, from its CPU clock
    (what /proc/PID/stat shows in hundredths of a second)."""
    return time.clock_gettime((~pid << 3) | 2)


def first_existing(*paths):
    return next((str(path) for path in paths if path and pathlib.Path(path).is_file()), None)


def anon_bytes(pid):
    """Resident anonymous memory of a process."""
    found = re.search(r"^RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def make_certificate(folder):
    """A key and a certificate for localhost, in files of the folder; returns their paths. On a curve,
    as the rows with TLS say."""
    key, certificate = folder / "server.key", folder / "server.pem"
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "30", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl made no certificate: {done.stderr[-500:]}")
    return key, certificate


def disk_bytes(folder):
    """What the files below a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in pathlib.Path(folder).rglob("*")
               if path.is_file())


class Server:
    """One server process. Subclasses say which program, how it is called and configured."""

    name = ""
    settings = ""
    share = 1.0  # of the rows' messages: slow servers get fewer, so that a run ends in time
    turns = 0  # at most so many runs of a row; 0: as many as asked for
    quiet_timeout_s = QUIET_TIMEOUT_S
    warm_up = ()  # loads that are run before the measured one, and not counted

    def __init__(self, program, folder, durable, extra=(), transport=rows.PLAIN):
        self.program = program
        self.folder = pathlib.Path(folder)
        self.durable = durable
        self.extra = list(extra)  # a row's own settings; only TideMQ has any
        self.transport = transport
        self.port = free_port()  # for MQTT over TCP, whatever the row
        self.load_port = self.port if transport == rows.PLAIN else free_port()
        self.process = None

    @classmethod
    def find(cls):
        """The program's path, or None when it is not installed or built."""
        raise NotImplementedError

    @classmethod
    def version(cls, program):
        """One line for the report."""
        del program
        return cls.name

    @classmethod
    def why_not(cls, program, row):
        """Why the server cannot run a row; empty when it can."""
        del program, row
        return ""

    def command(self):
        raise NotImplementedError

    def environment(self):
        """The process's environment."""
        return None

    def counters(self):
        """Further figures of the running server: {'log_bytes': bytes appended to its log}."""
        return {}

    def start(self):
        """Starts the server and waits until it has answered a CONNECT and has gone quiet, so that
        its preparations are not counted with the load. Returns the seconds until it answered."""
        took = self.start_serving()
        self.wait_quiet()
        return took

    def start_serving(self):
        """Starts the server; returns the seconds until it has answered a CONNECT."""
        began = time.monotonic()
        with open(self.folder / "output", "ab") as output:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, cwd=self.folder,
                                            env=self.environment())
        while True:
            try:
                self.exchange(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04warm", 4)
                return time.monotonic() - began
            except OSError:
                self.check_alive()
                if time.monotonic() - began > START_TIMEOUT_S:
                    raise RuntimeError(f"{self.name} does not answer on port {self.port}")
                time.sleep(0.005)

    def exchange(self, request, answer_size):
        """Sends bytes over a connection of their own and waits for so many."""
        with socket.create_connection(("127.0.0.1", self.port), START_TIMEOUT_S) as link:
            link.sendall(request)
            while answer_size > 0:
                got = len(link.recv(answer_size))
                if got == 0:
                    raise ConnectionError(f"{self.name} closed the connection")
                answer_size -= got

    def check_alive(self):
        if self.process.poll() is not None:
            text = (self.folder / "output").read_text(errors="replace")
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {text[-2000:]}")

    def wait_quiet(self):
        deadline = time.monotonic() + self.quiet_timeout_s
        before = cpu_seconds(self.process.pid)
        quiet = 0
        while time.monotonic() < deadline:
            time.sleep(QUIET_STEP_S)
            self.check_alive()
            now = cpu_seconds(self.process.pid)
            quiet = quiet + 1 if now - before < QUIET_CPU_S else 0
            if quiet == QUIET_STEPS:
                return
            before = now

    def anon_bytes(self):
        """Resident anonymous memory."""
        return anon_bytes(self.process.pid)

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Mosquitto(Server):
    name = "mosquitto"
    settings = ("max_queued_messages 0 and max_inflight_messages 0 (no limits, so that it drops "
                "nothing), set_tcp_nodelay true, log_dest none; persistence on (default "
                "autosave) in the durable rows, else off")
    share = 0.5

    @classmethod
    def find(cls):
        return first_existing(os.environ.get("BENCH_MOSQUITTO"), shutil.which("mosquitto"),
                              "/usr/sbin/mosquitto")

    @classmethod
    def version(cls, program):
        text = subprocess.run([program, "-h"], stdout=subprocess.PIPE, text=True,
                              check=False).stdout
        found = re.search(r"version (\S+)", text)
        return f"mosquitto {found[1]}" if found else "mosquitto"

    def command(self):
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true",
                 "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true",
                 "log_dest none", f"persistence {'true' if self.durable else 'false'}"]
        lines += self.second_listener()
        if self.durable:
            lines.append(f"persistence_location {self.folder}/")
        if os.geteuid() == 0:
            lines.append("user root")
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return [self.program, "-c", str(config)]

    def second_listener(self):
        """The lines for the row's transport."""
        lines = []
        if self.transport != rows.PLAIN:
            lines.append(f"listener {self.load_port} 127.0.0.1")
        if self.transport in rows.WITH_FRAMES:
            lines.append("protocol websockets")
        if self.transport in rows.WITH_TLS:
            key, certificate = make_certificate(self.folder)
            lines += [f"keyfile {key}", f"certfile {certificate}"]
        return lines


class TideMQ(Server):
    name = "tidemq"
    settings = ("defaults (fdatasync before every PUBACK and PUBREC, in all rows); "
                "topics.auto_create true, auth.anonymous true")

    def __init__(self, program, folder, durable, extra=(), transport=rows.PLAIN):
        super().__init__(program, folder, durable, extra, transport)
        self.admin_port = free_port()

    @classmethod
    def find(cls):
        return first_existing(os.environ.get("BENCH_TIDEMQ"), ROOT / "build/release/tidemq")

    @classmethod
    def why_not(cls, program, row):
        """A row may set keys that this build does not have."""
        if not row.settings:
            return ""
        known = subprocess.run([program, "config", "reference"], stdout=subprocess.PIPE, text=True,
                               check=False).stdout
        missing = [key for key in (setting.split("=")[0] for setting in row.settings)
                   if f"### `{key}`" not in known]
        return f"it has no configuration key {', '.join(missing)}" if missing else ""

    @classmethod
    def version(cls, program):
        done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=False)
        commit = done.stdout.strip()
        return f"tidemq, tree at {commit}" if commit else "tidemq"

    def listeners(self):
        """One for TCP, and one for the row's transport."""
        urls = [f"mqtt://127.0.0.1:{self.port}"]
        if self.transport == rows.PLAIN:
            return [f"listeners=[{urls[0]}]"]
        urls.append(f"{self.transport}://127.0.0.1:{self.load_port}")
        key, certificate = make_certificate(self.folder)
        return [f"listeners=[{', '.join(urls)}]", f"tls.private_key={key}",
                f"tls.certificate={certificate}"]

    def command(self):
        settings = [f"data_dir={self.folder}/data", *self.listeners(),
                    f"admin.listen=127.0.0.1:{self.admin_port}", "topics.auto_create=true",
                    "auth.anonymous=true"]
        extra = os.environ.get("BENCH_TIDEMQ_SET", "").split()
        return [self.program, "serve"] + [word for setting in settings + self.extra + extra
                                          for word in ("--set", setting)]

    def publish_one(self):
        """One acknowledged message, so that the server has begun its first log file; to a topic
        that the policies of the row with policies allow."""
        self.exchange(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04warm"
                      b"\x32\x10\x00\x0abench/warm\x00\x01up", 4 + 4)  # CONNACK, PUBACK

    def wait_quiet(self):
        """A new server prepares log files for the first seconds, and one more when it begins to
        write: that is not counted with the load, as it is once in 256 MiB of messages."""
        super().wait_quiet()
        self.publish_one()
        super().wait_quiet()

    def counters(self):
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        names = {"tidemq_store_bytes": "log_bytes", "tidemq_store_syncs": "syncs",
                 "tidemq_store_checkpoints": "checkpoints", "tidemq_store_seals": "seals",
                 "tidemq_loop_stalls": "stalls"}
        found = {}
        for metric, name in names.items():
            line = re.search(rf"^{metric}(?:_total)?(?:{{.*}})? (\S+)", text, re.MULTILINE)
            if line:
                found[name] = float(line[1])
        return found


class Floor(Server):
    name = "floor"
    settings = ("a relay that cuts packets apart, passes them on and, at QoS 1, writes each turn's "
                "batch with pwritev and fdatasync before it acknowledges; not an MQTT server")

    @classmethod
    def find(cls):
        return first_existing(os.environ.get("BENCH_FLOOR"), ROOT / "build/release/tidemq-floor",
                              ROOT / "build/bench/tidemq-floor")

    @classmethod
    def why_not(cls, program, row):
        return "" if row.has_floor else "the relay has nothing to do there"

    def command(self):
        return [self.program, "--port", str(self.port)] + (
            ["--log", str(self.folder / "log")] if self.durable else [])
