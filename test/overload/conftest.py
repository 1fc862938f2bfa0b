"""A server with little memory, watched, and a client that behaves while others do not."""

import os
import pathlib
import re
import subprocess
import threading
import time

import pytest
import wire
from fleet import fixture_make_server, fixture_new_client  # noqa: F401 (fixtures)
from tidemq import wait_until
from wire import CONNACK, PINGRESP, PUBACK, PUBLISH, SUBACK, V5, Peer

MIB = 1 << 20
LIMIT = 64 * MIB
# Above the limit, for what the server does not count: stacks, LMDB's pages being written, and what
# the allocator has not given back to the system.
OVERHEAD = 8 * MIB
HERE = pathlib.Path(__file__).resolve().parent


class Watch:
    """Looks at the server's memory all the time, and at the CPU it uses."""

    def __init__(self, server):
        self.status = pathlib.Path(f"/proc/{server.process.pid}/status")
        self.stat = pathlib.Path(f"/proc/{server.process.pid}/stat")
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self):
        """Resident bytes of the server's own. Pages of files that are mapped, its program's and
        those of LMDB, do not count: the kernel takes them back as it likes."""
        return int(re.search(r"RssAnon:\s+(\d+) kB", self.status.read_text())[1]) * 1024

    def cpu_s(self):
        """Seconds of CPU used so far."""
        fields = self.stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _run(self):
        while not self._stop.wait(0.02):
            try:
                self.most = max(self.most, self.now())
            except (OSError, TypeError):  # it has ended
                return

    def close(self):
        """Ends it."""
        self._stop.set()
        self._thread.join()


class Citizen:
    """A client that behaves: it publishes to itself at QoS 1 and pings, all the time. `worst` is the
    longest it had to wait for both."""

    def __init__(self, server):
        self.peer = Peer(server, V5)
        self.peer.sock.settimeout(30)
        self.peer.connect("citizen", properties=(("session_expiry", 600),))
        self.peer.subscribe(("citizen/me", 1))
        self.worst, self.count, self.error = 0.0, 0, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _turn(self):
        began = time.monotonic()
        payload = str(self.count).encode().ljust(100)
        self.peer.send(wire.publish(V5, "citizen/me", payload, 1, 7), wire.packet(wire.PINGREQ, 0))
        wanted = {PUBACK, PUBLISH, PINGRESP}
        while wanted:
            found = self.peer.receive()
            assert found is not None, "the server closed the connection"
            assert found.kind in wanted, found
            wanted.remove(found.kind)
            if found.kind == PUBLISH:
                assert found.payload == payload
                self.peer.ack(PUBACK, found.packet_id)
            else:
                assert not found.reason, found
        self.worst = max(self.worst, time.monotonic() - began)
        self.count += 1

    def _run(self):
        try:
            while not self._stop.wait(0.05):
                self._turn()
        except Exception as error:  # noqa: BLE001 (told by check)
            self.error = error

    def served(self, within_s, at_least=3):
        """Ends it: it had all it wanted, each time within so many seconds."""
        wait_until(lambda: self.error or self.count >= at_least, timeout_s=60, what="any service")
        self._stop.set()
        self._thread.join(60)
        self.peer.close()
        assert self.error is None, f"after {self.count} turns: {self.error!r}"
        assert self.worst <= within_s, f"it waited {self.worst:.1f} s"


@pytest.fixture(name="watched")
def fixture_watched(make_server):
    """Makes servers with a memory.limit; gives (server, watch). Each is judged at the end."""
    watches = []

    def watched(env=None, limit=LIMIT, **config):
        server = make_server(env=env, **{"memory.limit": f"{limit // MIB}MiB", **config})
        watches.append((server, Watch(server), limit))
        return watches[-1][:2]

    yield watched
    for server, watch, limit in watches:
        alive = server.running
        watch.close()
        assert alive, server.log[-3000:]
        assert watch.most <= limit + OVERHEAD, f"{watch.most / MIB:.1f} MiB resident"


@pytest.fixture(name="citizen")
def fixture_citizen():
    """Makes a client that behaves."""
    made = []

    def citizen(server):
        made.append(Citizen(server))
        return made[-1]

    yield citizen
    for each in made:
        each._stop.set()
        each.peer.close()


@pytest.fixture(name="slow_disk", scope="session")
def fixture_slow_disk(tmp_path_factory):
    """The environment of a server whose disk takes few bytes a second."""
    library = tmp_path_factory.mktemp("slow") / "slow_disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library,
                    HERE / "slow_disk.c", "-ldl"], check=True)
    return lambda bytes_s: {"LD_PRELOAD": str(library), "SLOW_DISK_BYTES_S": str(bytes_s)}


def connected(server, client_id, *, clean=True, will=None, version=4):
    """A connected socket of a client that will misbehave, and CONNACK's code."""
    peer = Peer(server, version)
    options = {"will": will} if will else {}
    if version == V5 and not clean:
        options["properties"] = (("session_expiry", 600),)
    peer.send(wire.connect(version, client_id, clean, 0, **options))
    found = peer.receive()
    assert found is None or found.kind == CONNACK
    return peer, None if found is None else found.reason


def subscribe_many(peer, filters, qos=1):
    """One SUBSCRIBE; returns the codes."""
    peer.send(wire.subscribe(peer.version, 9, *[(name, qos) for name in filters]))
    return peer.pick(SUBACK, 9).reasons
