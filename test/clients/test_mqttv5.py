"""The Rust command line mqttv5 (crates mqtt5 and quinn) over QUIC, in both versions of MQTT."""

import functools
import os
import queue
import shutil
import subprocess
import threading

import pki
import pytest
from test_clients import BUILD, run
from tidemq import Server

VERSION = "0.29.10"
TIMEOUT_S = 60
SUBSCRIBED = "✓ Subscribed to"


@functools.cache
def build_mqttv5():
    """From crates.io. Not --locked: its lock file names versions that the registry may have withdrawn."""
    folder, target = BUILD / "mqttv5", BUILD / "mqttv5-target"
    program = folder / "bin" / "mqttv5"
    stamp = folder / "version"
    if not program.exists() or not stamp.exists() or stamp.read_text() != VERSION:
        run("cargo", "install", "mqttv5-cli", "--version", VERSION, "--no-default-features", "--debug",
            "--quiet", "--force", "--root", folder,
            env={"CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_DEV_DEBUG": "0"})
        shutil.rmtree(target, ignore_errors=True)
        stamp.write_text(VERSION)
    return program


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory):
    """A server with QUIC alone."""
    shared = pki.shared()
    server = Server(tmp_path_factory.mktemp("mqttv5") / "server", {
        "listeners": ["quic://127.0.0.1:0"],
        "tls.certificate": shared.path("server.pem"),
        "tls.private_key": shared.path("server.key"),
    }).start()
    yield server
    server.stop()
    server.check()


class Cli:
    """The command line against a server; in one version of MQTT, with client IDs of its own."""

    def __init__(self, server, version):
        self.url = server.url_of("quic")
        self.version = version

    def command(self, verb, *words):
        """What is run. The certificate is checked against the CA of the tests."""
        ca = pki.shared().path("ca.pem")
        return [str(build_mqttv5()), verb, "--url", self.url, "--ca-cert", str(ca), "--non-interactive",
                "--protocol-version", self.version, *map(str, words)]

    def publish(self, topic, payload, qos, *words):
        """Publishes one message; it says so when it has its acknowledgement."""
        done = subprocess.run(self.command("pub", "-t", topic, "-m", payload, "-q", qos, *words),
                              capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"✓ Published message to '{topic}' (QoS {qos})" in done.stdout, done.stdout

    def subscribe(self, topic_filter, qos, count, *words):
        """Begins to subscribe; returns when the server has granted it."""
        return Subscriber(self.command("sub", "-t", topic_filter, "-q", qos, "-n", count, "-v", *words))


class Subscriber:
    """A running `mqttv5 sub`, and the lines that it has printed."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, stdin=subprocess.DEVNULL,
                                        env={**os.environ, "NO_COLOR": "1"})
        self.lines, self.seen = queue.Queue(), []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        self.wait_line(SUBSCRIBED)

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_line(self, start):
        """The next line that begins so."""
        while True:
            try:
                line = self.lines.get(timeout=TIMEOUT_S)
            except queue.Empty:
                self.end()
                raise AssertionError(f"no line '{start}': {self.seen}") from None
            assert line is not None, f"ended without a line '{start}': {self.seen}"
            self.seen.append(line)
            if line.startswith(start):
                return line

    def end(self):
        """Kills it."""
        self.process.kill()
        self.process.wait()
        self.thread.join()

    def messages(self, topic):
        """What it received, when it has ended because it has so many as it was told."""
        assert self.process.wait(TIMEOUT_S) == 0
        self.thread.join()
        while (line := self.lines.get()) is not None:
            self.seen.append(line)
        return [line.removeprefix(f"{topic}: ") for line in self.seen if line.startswith(f"{topic}: ")]


@pytest.fixture(name="cli", params=["3.1.1", "5"])
def fixture_cli(server, request):
    """The command line in both versions."""
    return Cli(server, request.param)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_cross(cli, qos):
    """From one client to another, and both certificates' names and ALPN are to their liking."""
    topic = f"rust{cli.version}/qos{qos}"
    reader = cli.subscribe(topic, qos, 3)
    for number in range(3):
        cli.publish(topic, f"message {number}", qos)
    assert sorted(reader.messages(topic)) == ["message 0", "message 1", "message 2"]


def test_large_messages_cross(cli):
    """Many packets of QUIC for one of MQTT, both ways."""
    topic, payload = f"rust{cli.version}/large", "abcdefgh" * 7000
    reader = cli.subscribe(topic, 1, 1)
    cli.publish(topic, payload, 1)
    assert reader.messages(topic) == [payload]


def test_a_session_is_kept(cli):
    """A client that comes back finds its session. (What waited there for it the command line drops, over
    TCP too, unless it comes after its own SUBSCRIBE: nothing is asked about that.)"""
    topic, who = f"rust{cli.version}/session", f"rust-away-{cli.version}"
    for times, payload in enumerate(("first", "second")):
        reader = cli.subscribe(topic, 1, 1, "-c", who, "--no-clean-start", "--session-expiry", "600s")
        cli.publish(topic, payload, 1)
        assert reader.messages(topic) == [payload]
        assert sum("Resumed existing session" in line for line in reader.seen) == times


def test_retained(cli):
    """A retained message comes to who subscribes later."""
    topic = f"rust{cli.version}/retained"
    cli.publish(topic, "kept", 1, "--retain")
    assert cli.subscribe(topic, 1, 1).messages(topic) == ["kept"]


def test_will(cli):
    """A client that dies without a word: keep alive tells, and its will is published."""
    topic = f"rust{cli.version}/will"
    witness = cli.subscribe(topic, 1, 1)
    mortal = cli.subscribe(f"{topic}/other", 1, 1, "-k", "1s", "--will-topic", topic, "--will-message",
                           "gone", "--will-qos", 1)
    mortal.end()
    assert witness.messages(topic) == ["gone"]


def test_shared(cli):
    """Each message goes to one member of the group."""
    topic = f"rust{cli.version}/shared"
    members = [cli.subscribe(f"$share/group/{topic}", 1, 2) for _ in range(2)]
    for number in range(4):
        cli.publish(topic, str(number), 1)
    assert sorted(sum((member.messages(topic) for member in members), [])) == ["0", "1", "2", "3"]
