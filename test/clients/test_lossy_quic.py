"""Foreign clients over QUIC while one packet of ten is lost, in either direction: nothing that works
otherwise stops working. Needs root, for a network of its own."""

import os
import re
import subprocess

import network
import pki
import pytest
from test_clients import FEATURES, RUN_TIMEOUT_S, build_go
from test_mqttv5 import Cli, build_mqttv5
from tidemq import Server

LOSS_PERCENT = 10


def serve(folder):
    """A server whose packets get lost."""
    shared = pki.shared()
    server = Server(folder, {"listeners": ["quic://127.0.0.1:0"], "tls.certificate": shared.path("server.pem"),
                             "tls.private_key": shared.path("server.key")}).start()
    network.lose(LOSS_PERCENT, {server.port: "udp"})
    return server


def test_quic_go(tmp_path):
    """paho.golang over quic-go: all that its program tries."""
    command = [*map(str, build_go()), "quic"]

    def play():
        server = serve(tmp_path)
        try:
            done = subprocess.run([*command, str(server.port)], capture_output=True, text=True, check=False,
                                  timeout=RUN_TIMEOUT_S,
                                  env={**os.environ, "SSL_CERT_FILE": str(pki.shared().path("ca.pem"))})
            assert network.lost(server.port) > 0
        finally:
            server.stop()
            server.check()
        return done

    done = network.run_apart(play)
    said = re.findall(r"^ok (\S+)", done.stdout, re.M)
    assert [feature for feature in FEATURES if feature not in said] == [], done.stdout + done.stderr


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_mqttv5(tmp_path, version):
    """The Rust command line over quinn: small messages and large ones, to one that subscribes."""
    build_mqttv5()  # which needs the network that there is
    payloads = [f"{number} ".ljust(20000 if number % 5 == 4 else 20, "x") for number in range(10)]

    def play():
        server = serve(tmp_path)
        try:
            cli = Cli(server, version)
            reader = cli.subscribe("rust/lossy", 1, len(payloads))
            for payload in payloads:
                cli.publish("rust/lossy", payload, 1)
            found = reader.messages("rust/lossy")
            assert network.lost(server.port) > 0
        finally:
            server.stop()
            server.check()
        return found

    assert network.run_apart(play) == payloads
