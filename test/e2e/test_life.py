"""Start, banner, readiness, draining, service manager."""

import json
import re
import resource
import shlex
import signal
import socket
import subprocess

import pytest
import transport
from tidemq import BINARY, ROOT, Notifications, Server, clean_environment, wait_until


def test_banner(server):
    """The addresses, where data lies, and two lines to copy."""
    text = server.stdout
    assert f"{server.scheme}://127.0.0.1:{server.port}" in text
    assert server.admin_url in text and "admin.token" in text
    assert str(server.data_dir.resolve()) in text
    lines = re.findall(r"^\s+(mosquitto_(?:sub|pub) .*)$", text, re.M)
    known = [] if server.scheme == "quic" else ["mosquitto_sub", "mosquitto_pub"]  # they do not speak it
    assert [line.split()[0] for line in lines] == known


def test_the_two_lines_work(make_server):
    """Copied and executed: what the second publishes the first receives."""
    server = make_server(listeners=["mqtt://127.0.0.1:0"])
    subscribe, publish = re.findall(r"^\s+(mosquitto_(?:sub|pub) .*)$", server.stdout, re.M)
    with subprocess.Popen(["stdbuf", "-oL", *shlex.split(subscribe)], stdout=subprocess.PIPE,
                          text=True) as receiver:
        try:
            wait_until(lambda: server.metrics()["tidemq_subscriptions"] == 1, what="the subscription")
            subprocess.run(shlex.split(publish), check=True, timeout=20)
            assert receiver.stdout.readline() == "demo/hello hello\n"
        finally:
            receiver.kill()


def test_banner_without_auto_create(make_server):
    """Without auto-creation the banner begins with the command that makes the topic."""
    server = make_server(**{"topics.auto_create": False})
    create = re.search(r"^\s+tidemq (topic create demo .*)$", server.stdout, re.M)
    assert create, server.stdout
    server.cli("topic", "create", "demo")
    assert [row["name"] for row in server.cli_json("topic", "list")] == ["demo"]


def test_notifications(make_server):
    """READY=1 once clients can connect, RELOADING=1 and READY=1 around a reload, STOPPING=1."""
    server = make_server(start=False)
    manager = Notifications()
    env = clean_environment(NOTIFY_SOCKET=manager.name)
    with open(server.stdout_path, "ab") as out, open(server.stderr_path, "ab") as err:
        server.process = subprocess.Popen(server.command(), env=env, stdout=out, stderr=err,
                                          cwd=server.folder)
    assert manager.wait("READY=1", server.process)
    server.signal(signal.SIGHUP)
    assert manager.wait("RELOADING=1", server.process)
    assert manager.wait("READY=1", server.process)
    server.signal(signal.SIGTERM)
    assert manager.wait("STOPPING=1", server.process)
    assert server.process.wait(60) == 0
    server.process = None
    manager.close()


def test_no_service_manager(make_server):
    """A NOTIFY_SOCKET that nobody reads is no reason to fail."""
    server = make_server(start=False)
    env = clean_environment(NOTIFY_SOCKET="@nobody-listens-here")
    with open(server.stdout_path, "ab") as out, open(server.stderr_path, "ab") as err:
        server.process = subprocess.Popen(server.command(), env=env, stdout=out, stderr=err,
                                          cwd=server.folder)
    wait_until(lambda: "is ready" in server.stdout, what="the banner")
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orderly_stop(make_server, new_client, number):
    """Clients are told (0x8B), the exit code is 0, and nothing needs repair."""
    server = make_server()
    new, old = new_client(to=server), new_client(to=server, version=4)
    sent = [new.start_publish("a", str(n), 1) for n in range(100)]
    for mid in sent:
        new.finish(mid)
    server.signal(number)
    assert new.closed() == 0x8B
    old.closed()
    assert server.process.wait(60) == 0
    server.process = None
    server.start()
    assert server.cli_json("topic", "show", "a")["messages"] == 100


def test_stop_with_a_stuck_client(make_server, new_client):
    """A client that reads nothing does not hold up the stop beyond shutdown.timeout."""
    server = make_server(**{"shutdown.timeout": "2s"})
    stuck = transport.open_socket(server.scheme, (server.host, server.port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.sendall(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01s" + b"\x82\x06\0\x01\0\x01b\0")
    publisher = new_client(to=server)
    for _ in range(20):
        publisher.publish("b", bytes(500_000), 0)
    server.signal(signal.SIGTERM)
    assert server.process.wait(30) in (0, 1)
    server.process = None
    stuck.close()


def test_ready_while_it_runs(server):
    """/healthz and /readyz without a token."""
    assert server.http("/healthz", token=False)[0] == 200
    status, _, text = server.http("/readyz", token=False)
    assert (status, text) == (200, "ready\n")


def test_json_log(make_server):
    """log.format: json gives one object a line, with time, level and message, and no banner."""
    server = make_server(start=False, **{"log.format": "json", "log.level": "debug"})
    manager = Notifications()
    env = clean_environment(NOTIFY_SOCKET=manager.name)
    with open(server.stdout_path, "ab") as out, open(server.stderr_path, "ab") as err:
        server.process = subprocess.Popen(server.command(), env=env, stdout=out, stderr=err,
                                          cwd=server.folder)
    assert manager.wait("READY=1", server.process)
    server.stop()
    manager.close()
    assert server.stdout == ""
    rows = [json.loads(line) for line in server.log.splitlines()]
    assert rows
    assert all({"time", "level", "message"} <= set(row) for row in rows), rows[0]


def test_payloads_stay_out_of_the_log(make_server, new_client):
    """Not even at level debug."""
    server = make_server(**{"log.level": "debug"})
    client = new_client(to=server)
    client.subscribe("a/#", 1)
    client.publish("a/b", b"the-payload-word", 1)
    client.take()
    client.drop()
    server.stop()
    assert "the-payload-word" not in server.log


def test_systemd_unit():
    """packaging/tidemq.service is sound in systemd's own eyes."""
    unit = ROOT / "packaging" / "tidemq.service"
    text = unit.read_text()
    assert re.search(r"^Type=notify", text, re.M)
    run = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True,
                         timeout=60, check=False)
    # The binary is not installed where the unit will find it; nothing else may be wrong.
    complaints = [line for line in (run.stdout + run.stderr).splitlines()
                  if line and "is not executable" not in line and "tidemq" in line]
    assert not complaints, complaints
    rating = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=30",
                             str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert rating.returncode == 0, rating.stdout[-2000:] + rating.stderr


def test_make_run_configuration(make_server, new_client):
    """What `make run` starts: its configuration creates topics on first use."""
    server = make_server(config_file=ROOT / "packaging" / "run.yaml",
                         **{"topics.auto_create": None, "auth.anonymous": None})
    client = new_client(to=server)
    client.subscribe("anything", 1)
    client.publish("anything", b"x", 1)
    assert client.take().payload == b"x"


def test_a_failed_log_is_told_once(tmp_path, new_client):
    """One line says that the log takes no writes and why, one that it takes them again."""
    patient = tmp_path / "patient"  # a write beyond the limit below is an error, not a signal
    patient.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {shlex.quote(str(BINARY))} \"$@\"\n")
    patient.chmod(0o755)
    server = Server(tmp_path, {"store": "local"}, binary=patient).start()
    try:
        client = new_client(to=server)
        for _ in range(4):
            client.publish("a", b"x" * 500_000, 1)
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        client.publish("a", b"x", 1)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        wait_until(lambda: client.publish("a", b"x", 1) < 0x80)
        failures = server.log.count("could not write the log")
        assert failures >= 1
        assert server.log.count("the log takes no writes") == failures
        assert server.log.count("takes writes again") == failures
    finally:
        server.kill()


def test_a_flood_does_not_fill_the_log(make_server):
    """500 connections that send nonsense leave few lines, and a sum of those left out."""
    server = make_server(**{"listeners": ["mqtt://127.0.0.1:0"], "log.level": "debug"})
    for _ in range(500):
        with socket.create_connection((server.host, server.port), timeout=20) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert sock.recv(100) == b""
    assert server.metrics()["tidemq_protocol_errors_total"] >= 500
    lines = server.log.splitlines()
    assert 1 < len(lines) < 300, len(lines)
    assert server.http("/readyz", token=False)[0] == 200
