"""Connections: storms, clients that send their CONNECT byte by byte, and too few descriptors."""

import collections
import os
import resource
import select
import socket
import subprocess
import time

import pytest
import wire
from conftest import MIB
from tidemq import BINARY, wait_until
from wire import CONNACK, V5, Peer

LONG = bool(os.environ.get("TIDEMQ_LONG"))
HELLO = wire.connect(4, "", True, 0)


def storm(server, count, at_once):
    """Connects, says CONNECT, takes CONNACK and closes, `at_once` at a time. Returns how many were
    accepted."""
    accepted = 0
    for start in range(0, count, at_once):
        socks = []
        for _ in range(min(at_once, count - start)):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((server.host, server.port))
            socks.append(sock)
        poll = select.poll()
        for sock in socks:
            poll.register(sock, select.POLLOUT)
        by_fd = {sock.fileno(): sock for sock in socks}
        end = time.monotonic() + 30
        while by_fd and time.monotonic() < end:
            for fd, event in poll.poll(1000):
                sock = by_fd[fd]
                try:
                    if event & select.POLLOUT:
                        sock.send(HELLO)
                        poll.modify(fd, select.POLLIN)
                        continue
                    accepted += sock.recv(64)[:4] == b"\x20\x02\x00\x00"
                except OSError:
                    pass
                poll.unregister(fd)
                del by_fd[fd]
        for sock in socks:
            sock.close()
    return accepted


def test_connection_storm(watched, citizen):
    """Thousands of connections, hundreds at a time, for as long as they like: all are answered, and
    the well-behaved does not notice much."""
    server, _ = watched()
    good = citizen(server)
    count = 50_000 if LONG else 3000
    assert storm(server, count, 300) == count
    good.served(within_s=5)
    wait_until(lambda: server.metrics()["tidemq_connections"] <= 1, what="all being gone")


@pytest.mark.parametrize("trickle", [True, False], ids=["byte by byte", "silent"])
def test_slow_connects(watched, citizen, trickle):
    """Far more half-open connections than may be open: the oldest of them gives way to a new one, a
    CONNECT that comes at once is served at once, and the rest is closed in time."""
    server, _ = watched(**{"limits.max_connections": 100, "limits.connect_timeout": "3s"})
    good = citizen(server)
    began = time.monotonic()
    slow = []
    for number in range(400):
        sock = socket.create_connection((server.host, server.port), timeout=10)
        slow.append(sock)
        if trickle:
            for other in slow[-100::7]:
                try:
                    other.send(HELLO[number % 10:number % 10 + 1] if number < 10 else b"\x10")
                except OSError:
                    pass
        if number % 50 == 49:
            peer = Peer(server, V5)
            peer.connect()
            peer.publish("citizen/other", b"x", 0)
            peer.close()
    assert server.metrics()["tidemq_connections"] <= 100
    wait_until(lambda: server.metrics()["tidemq_connections"] <= 1, timeout_s=20,
               what="the time-out of the half-open")
    assert time.monotonic() - began < 20
    good.served(within_s=5)
    for sock in slow:
        sock.close()


def test_too_few_descriptors(watched, citizen):
    """The process may open no more files: accepting pauses and uses no CPU meanwhile, the connected
    are served, and it goes on when there are descriptors again."""
    server, watch = watched()
    good = citizen(server)
    pid = server.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, before[1]))
    waiting = [socket.create_connection((server.host, server.port), timeout=30) for _ in range(60)]
    wait_until(lambda: "could not accept connections" in server.log, what="the log saying so")
    cpu, since = watch.cpu_s(), time.monotonic()
    turns = good.count
    wait_until(lambda: good.count >= turns + 20, what="the connected being served")
    assert watch.cpu_s() - cpu <= 0.5 * (time.monotonic() - since), "it spins"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    for sock in waiting:
        sock.sendall(HELLO)
    for sock in waiting:
        assert sock.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"
        sock.close()
    good.served(within_s=5)


def test_logins_in_a_storm(watched, citizen, tmp_path):
    """More passwords to check than there is time for: who would wait too long is told that the
    server is busy (0x89), the others get their answer, and the connected are served."""
    users = tmp_path / "users"
    made = subprocess.run([str(BINARY), "password", "set", str(users), "user"],
                          input="secret\n", capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    server, _ = watched(limit=128 * MIB, **{"auth.password_file": users})
    good = citizen(server)
    peers = [Peer(server, V5) for _ in range(5000 if LONG else 1200)]
    for peer in peers:
        peer.send(wire.connect(V5, peer.client_id, True, 0, user="user", password="secret"))
    refused, answered = peers[-1].receive(), peers[0].receive()
    assert refused.kind == CONNACK and refused.reason == 0x89, refused
    assert dict(refused.props)["reason_string"] == "too many connections are being checked"
    assert answered.kind == CONNACK and answered.reason == 0, answered
    if LONG:
        reasons = collections.Counter(peer.receive().reason for peer in peers[1:-1])
        assert set(reasons) == {0, 0x89} and reasons[0] >= 1000, reasons
    for peer in peers:
        peer.close()
    good.served(within_s=5)
