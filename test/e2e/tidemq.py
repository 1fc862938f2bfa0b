"""A TideMQ server as tests see it: started, stopped, killed, restarted on the same data.

The binary is build/release/tidemq, or the one that TIDEMQ_BIN names, so that the same tests run on
a build with sanitizers. A server has its own folder with its data and its output, listens on free
ports of 127.0.0.1 and keeps them across restarts. That it is ready is known from its notification
(NOTIFY_SOCKET), not guessed by waiting.
"""

import itertools
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import transport

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("TIDEMQ_BIN", ROOT / "build" / "release" / "tidemq")).resolve()

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
# Words in the server's output that no test may cause.
FATAL = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|assertion failed|stack smashing",
    re.I,
)
DEFAULTS = {
    **transport.defaults(),
    "admin.listen": "127.0.0.1:0",
    "topics.auto_create": True,
    "auth.anonymous": True,
    "store.segment_size": "4MiB",
    "store.pool_segments": 1,
    "sys.interval": "1s",
}

if os.environ.get("TIDEMQ_TEST_STORE"):
    DEFAULTS["store"] = os.environ["TIDEMQ_TEST_STORE"]
if os.environ.get("TIDEMQ_TEST_LOOPS"):
    DEFAULTS["threads.loops"] = int(os.environ["TIDEMQ_TEST_LOOPS"])

_counter = itertools.count(1)


def setting(value):
    """A configuration value as `--set` takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value)


def clean_environment(**extra):
    """This environment without what would configure a server; None removes a variable."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TIDEMQ_")}
    env.pop("NOTIFY_SOCKET", None)
    env.update(extra)
    return {k: v for k, v in env.items() if v is not None}


def sanitizers():
    """The runtimes of gcc's sanitizers that the server is linked with. They must be preloaded before
    any other library, and they keep freed memory, so that resident memory says little."""
    linked = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"=> (\S*/lib(?:a|ub|t)san\.\S*)", linked)


class Notifications:
    """The socket of a service manager: what a server says about itself."""

    def __init__(self):
        self.name = f"@tidemq-test-{os.getpid()}-{next(_counter)}"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.sock.bind("\0" + self.name[1:])

    def wait(self, word, process, timeout_s=START_TIMEOUT_S):
        """Waits until a message has the line `word`; False when the process ended before."""
        deadline = time.monotonic() + timeout_s
        pidfd = os.pidfd_open(process.pid)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            while True:
                left = deadline - time.monotonic()
                assert left > 0, f"no {word} within {timeout_s} s"
                ready = [fd for fd, _ in poll.poll(left * 1000)]
                if self.sock.fileno() in ready:
                    if word in self.sock.recv(65536).decode().split("\n"):
                        return True
                elif ready:
                    return False
        finally:
            os.close(pidfd)

    def close(self):
        """Releases the name."""
        self.sock.close()


class StartFailed(Exception):
    """The server ended before it was ready."""


class Server:
    """One server and its data. The keys of the configuration are given as they are written."""

    patience_s = START_TIMEOUT_S  # for a start, and for a stop

    def __init__(self, folder, config=None, *, config_file=None, env=None, binary=BINARY):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.folder / "data"
        self.config = {**DEFAULTS, **(config or {})}
        self.config.setdefault("data_dir", self.data_dir)
        self.data_dir = pathlib.Path(self.config["data_dir"])
        self.config_file = config_file
        self.env = env or {}
        self.binary = binary
        self.process = None
        self.scheme, self.host, self.port, self.admin_url = "mqtt", "127.0.0.1", None, None
        self.exit_codes = []

    # --- life -----------------------------------------------------------------------------------

    def command(self):
        """The command line."""
        args = [str(self.binary), "serve"]
        if self.config_file:
            args += ["--config", str(self.config_file)]
        for key, value in self.config.items():
            if value is not None:
                args += ["--set", f"{key}={setting(value)}"]
        return args

    def start(self):
        """Starts it and waits until it is ready. Raises StartFailed with what it said."""
        assert self.process is None, "it runs already"
        manager = Notifications()
        self.stdout_path.write_text("")
        env = clean_environment(NOTIFY_SOCKET=manager.name, **self.env)
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=self.folder, env=env,
            )
        try:
            ready = manager.wait("READY=1", self.process, self.patience_s)
        except AssertionError:
            self.kill()
            raise
        finally:
            manager.close()
        if not ready:
            code = self.process.wait()
            self.process = None
            raise StartFailed(f"exit code {code}: {self.log[-2000:]}")
        self._learn_addresses()
        return self

    def _learn_addresses(self):
        """Takes the bound addresses from the banner, and keeps them for the next start."""
        mqtt = re.findall(r"^ +MQTT +(\S+)$", self.stdout, re.M)
        admin = re.search(r"^ +Admin +(http://\S+)", self.stdout, re.M)
        if mqtt and ":0" in setting(self.config["listeners"]):
            options = [str(url).partition("?")[1:] for url in self.config["listeners"]]
            self.config["listeners"] = [url + "".join(more) for url, more in zip(mqtt, options)]
        if admin:
            self.admin_url = admin[1]
            self.config["admin.listen"] = admin[1].removeprefix("http://")
        for url in mqtt or self.config["listeners"]:
            found = re.match(r"(mqtts?|wss?|quic)://(\[[^]]*\]|[^:]*):(\d+)", url)
            if found:
                self.scheme, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
                break

    def url_of(self, scheme):
        """What the first listener with that scheme is bound to."""
        return next(url for url in self.config["listeners"] if url.startswith(f"{scheme}://"))

    @property
    def running(self):
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def _wait(self, timeout_s):
        code = self.process.wait(timeout_s)
        self.exit_codes.append(code)
        self.process = None
        return code

    def kill(self):
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self._wait(STOP_TIMEOUT_S)

    def signal(self, number):
        """Sends a signal."""
        self.process.send_signal(number)

    def stop(self, timeout_s=None):
        """SIGTERM; waits for an orderly end. Returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self._wait(timeout_s or self.patience_s)
        assert code == 0, f"exit code {code} after SIGTERM: {self.log[-2000:]}"
        return code

    def restart(self, kill=False):
        """Stops or kills it, and starts it on the same data and ports."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def check(self):
        """Fails when the output tells of a fault that no input may cause."""
        found = FATAL.search(self.log)
        assert not found, f"the server's log has '{found[0]}':\n" + self.log[
            max(0, found.start() - 500) : found.start() + 4000
        ]

    # --- what it says ---------------------------------------------------------------------------

    @property
    def stdout_path(self):
        """Where the banner goes; of the current start only."""
        return self.folder / "stdout"

    @property
    def stderr_path(self):
        """Where the log goes; of all starts."""
        return self.folder / "stderr"

    @property
    def stdout(self):
        """The banner."""
        return self.stdout_path.read_text() if self.stdout_path.exists() else ""

    @property
    def log(self):
        """All log lines so far."""
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    @property
    def token(self):
        """The bearer token of the admin API."""
        return (self.data_dir / "admin.token").read_text().strip()

    def wait_for_room(self, kind):
        """Waits until the log has room for a line of that kind: of more than 20 in a second, which may
        begin at any time, it only tells how many there were."""
        def written():
            now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            return sum(line.startswith(now) and f" {kind}: " in line for line in self.log.splitlines()[-60:])
        wait_until(lambda: written() < 9, what=f"room for a line of {kind}")

    def rss(self):
        """Resident memory in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    # --- administration -------------------------------------------------------------------------

    def http(self, path, *, method="GET", body=None, token=True, headers=None):
        """One request to the admin endpoint. Returns (status, headers, text)."""
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {self.token if token is True else token}"
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        request = urllib.request.Request(
            self.admin_url + path, data=data, headers=headers, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as err:
            return err.code, err.headers, err.read().decode()

    def action(self, name, **params):
        """One action of the control plane; returns what stands in Response."""
        if name != "DescribeInstanceList":
            params.setdefault("InstanceId", self.instance_id())
        status, _, text = self.http(
            "/", method="POST", body=params,
            headers={"X-TC-Action": name, "Content-Type": "application/json"},
        )
        assert status == 200, text
        return json.loads(text)["Response"]

    def instance_id(self):
        """The one instance's ID."""
        return json.loads(self.http("/v1/status")[2])["instance_id"]

    def metrics(self):
        """All numbers of /metrics by name."""
        text = self.http("/metrics", token=False)[2]
        rows = (line.split(" ") for line in text.splitlines() if line and line[0] != "#")
        return {row[0]: float(row[1]) for row in rows}

    def cli(self, *args, check=True, text_in=None):
        """Runs the command line against this server; returns the finished process."""
        where = ["--admin", self.admin_url, "--data-dir", str(self.data_dir)]
        run = subprocess.run(
            [str(BINARY), *args, *where], capture_output=True, text=True, timeout=60,
            input=text_in, env=clean_environment(), check=False,
        )
        assert not check or run.returncode == 0, (args, run.returncode, run.stdout, run.stderr)
        return run

    def cli_json(self, *args):
        """The same with --json, decoded."""
        return json.loads(self.cli(*args, "--json").stdout)


def run_serve(*args, env=None, cwd=None, timeout_s=30):
    """Runs `tidemq serve` with arguments that make it end by itself."""
    return subprocess.run(
        [str(BINARY), "serve", *map(str, args)], capture_output=True, text=True,
        timeout=timeout_s, env=clean_environment(**(env or {})), cwd=cwd, check=False,
    )


def wait_until(condition, timeout_s=20, what="the condition"):
    """Asks again and again, for what no event tells. Returns what the condition returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.02)
