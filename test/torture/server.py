"""The server of a torture run: started with a point armed, killed, asked over HTTP."""

import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess

import points
from ledger import Fault

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("TIDEMQ_BIN", ROOT / "build" / "release" / "tidemq")).resolve()
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
ANSWER_TIMEOUT_S = 30
FATAL = re.compile(r"AddressSanitizer|runtime error:|assertion failed|stack smashing", re.I)


class Server:
    """One data directory and whichever process has it."""

    def __init__(self, folder, config):
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.data, self.hits, self.log = folder / "data", folder / "hits", folder / "stderr"
        self.config = {**config, "data_dir": self.data, "listeners": "[mqtt://127.0.0.1:0]",
                       "admin.listen": "127.0.0.1:0"}
        self.process = self.pidfd = self.address = self.admin = None
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notices.bind(f"\0tidemq-torture-{os.getpid()}-{id(self)}")

    def environment(self, point):
        """The server's environment: nothing that would configure it, and the killer."""
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("TIDEMQ_", "TORTURE_"))}
        env["NOTIFY_SOCKET"] = self.notices.getsockname().decode().replace("\0", "@")
        env["LD_PRELOAD"] = str(points.LIBRARY)
        if point:
            env["TORTURE_POINT"] = f"{point}:{self.hits}"
        return env

    def start(self, point=None, kill_after_s=None):
        """Starts it, and kills it after that time if one is given. Returns whether it got ready; if
        not, the armed point has ended it."""
        command = [str(BINARY), "serve"]
        for key, value in self.config.items():
            command += ["--set", f"{key}={value}"]
        with open(self.folder / "stdout", "wb") as out, open(self.log, "ab") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, env=self.environment(point))
        self.pidfd = os.pidfd_open(self.process.pid)
        poll = select.poll()
        poll.register(self.notices, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        if kill_after_s is not None:
            select.select([self.pidfd], [], [], kill_after_s)
            self.kill(None)
            return False
        while True:
            ready = [fd for fd, _ in poll.poll(START_TIMEOUT_S * 1000)]
            if not ready:
                raise Fault(f"the server does not start within {START_TIMEOUT_S} s")
            if self.notices.fileno() in ready:
                if b"READY=1" in self.notices.recv(65536).split(b"\n"):
                    break
            else:
                self.reap(point, by_itself=True)
                return False
        banner = (self.folder / "stdout").read_text()
        found = re.search(r"^ +MQTT +mqtt://([^:]+):(\d+)$", banner, re.M)
        self.address = (found[1], int(found[2]))
        found = re.search(r"^ +Admin +http://([^:]+):(\d+)", banner, re.M)
        self.admin = (found[1], int(found[2]))
        return True

    def is_alive(self):
        """Whether the process runs."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def reap(self, point, by_itself):
        """Takes the end of the process. Returns whether the armed point was hit; only that may have
        ended it by itself."""
        code = self.process.wait()
        os.close(self.pidfd)
        self.process = None
        hit = self.hits.exists()
        self.hits.unlink(missing_ok=True)
        while select.select([self.notices], [], [], 0)[0]:
            self.notices.recv(65536)
        if code != -signal.SIGKILL or (hit and not point) or (by_itself and not hit):
            raise Fault(f"the server ended with {code}: {self.tail()}")
        return hit

    def kill(self, point):
        """SIGKILL. Returns whether the armed point was hit before."""
        by_itself = not self.is_alive()
        self.process.kill()
        return self.reap(point, by_itself)

    def stop(self):
        """SIGTERM and an orderly end."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        os.close(self.pidfd)
        self.process = None
        if code:
            raise Fault(f"the server ended with {code} after SIGTERM: {self.tail()}")

    def done(self):
        """Ends what is left; the data stays."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.notices.close()

    def tail(self):
        """The end of its log."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    def check_log(self):
        """Fails when the log tells of what may never be."""
        found = FATAL.search(self.log.read_text(errors="replace"))
        if found:
            raise Fault(f"the server's log has '{found[0]}'")

    def check_store(self):
        """`tidemq store check` on the data of a stopped server."""
        run = subprocess.run([str(BINARY), "store", "check", str(self.data)], capture_output=True,
                             text=True, timeout=120, check=False)
        if run.returncode:
            raise Fault(f"store check: {run.stdout[-800:]} {run.stderr[-400:]}")

    def ask(self, path):
        """GET of the admin API. Returns the document, None for 404. Raises OSError or HTTPException
        when the server dies meanwhile."""
        token = (self.data / "admin.token").read_text().strip()
        connection = http.client.HTTPConnection(*self.admin, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise Fault(f"{path} answers {answer.status}: {body[:300]}")
        return json.loads(body)
