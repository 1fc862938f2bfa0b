"""MQTT clients written by others, each with its own small program: one test a client and feature.

The programs are built into build/clients by the ordinary clients of their registries. Each connects
to the server of the test and prints "ok NAME" or "not ok NAME why" for every feature.
"""

import functools
import os
import re
import shutil
import subprocess
import pathlib

import pki
import pytest
from tidemq import ROOT, Server

HERE = pathlib.Path(__file__).parent
BUILD = ROOT / "build" / "clients"
FEATURES = ["connect", "qos0", "qos1", "qos2", "session", "retained", "will", "shared"]
RUN_TIMEOUT_S = 240
BUILD_TIMEOUT_S = 600


def run(*command, cwd=None, env=None):
    """Runs a build step; its output is the message when it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          timeout=BUILD_TIMEOUT_S, env={**os.environ, **(env or {})}, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


def newest(*patterns):
    """When the sources last changed."""
    return max(path.stat().st_mtime for pattern in patterns for path in HERE.glob(pattern))


def is_fresh(product, *patterns):
    """Whether the product was built from the sources as they are."""
    return product.exists() and product.stat().st_mtime >= newest(*patterns)


@functools.cache
def build_java():
    """One Maven project for the three Java libraries."""
    folder = BUILD / "java"
    jar = folder / "clients-1.jar"
    if not is_fresh(jar, "java/pom.xml", "java/src/**/*.java"):
        run("mvn", "-q", "-B", "-f", HERE / "java" / "pom.xml", f"-Dwhere={folder}", "package")
        jar.touch()
    return ["java", "-cp", f"{jar}{os.pathsep}{folder / 'lib'}/*", "clients.Main"]


@functools.cache
def build_js():
    """MQTT.js, installed beside a copy of the program."""
    folder = BUILD / "js"
    stamp = folder / "installed"
    if not is_fresh(stamp, "js/*"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (HERE / "js").iterdir():
            shutil.copy(path, folder)
        run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=folder)
        stamp.touch()
    return ["node", folder / "features.mjs"]


def go_version():
    """The Go that is there, as (1, 19)."""
    text = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True,
                          timeout=BUILD_TIMEOUT_S, env={**os.environ, "GOTOOLCHAIN": "local"}).stdout
    return tuple(map(int, re.match(r"go(\d+)\.(\d+)", text).groups()))


@functools.cache
def build_go():
    """paho.golang and quic-go, built with whatever Go is there. The newest quic-go wants the newest Go,
    which one from 1.21 on fetches; for Debian's, 1.19, there are versions of its time."""
    folder = BUILD / "go"
    program = folder / "clients"
    if not is_fresh(program, "go/*"):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (HERE / "go").iterdir():
            shutil.copy(path, folder)
        old = ["-modfile=go1.19.mod"] if go_version() < (1, 21) else []
        run("go", "build", *old, "-o", program, ".", cwd=folder)
    return [program]


@functools.cache
def build_c(name, library):
    """A C program, against the library of the Debian package."""
    program = BUILD / "c" / name
    if not is_fresh(program, "c/*"):
        program.parent.mkdir(parents=True, exist_ok=True)
        run("cc", "-std=gnu17", "-Wall", "-Wextra", "-O1", "-g", "-pthread", "-o", program,
            HERE / "c" / f"{name}.c", HERE / "c" / "features.c", f"-l{library}")
    return [program]


CLIENTS = {
    "paho-java-3.1.1": lambda: [*build_java(), "paho3"],
    "paho-java-5.0": lambda: [*build_java(), "paho5"],
    "hivemq-java-5.0": lambda: [*build_java(), "hivemq"],
    "paho-go-5.0": lambda: [*build_go(), "mqtt"],
    "paho-go-5.0-quic": lambda: [*build_go(), "quic"],
    "mqtt.js-3.1.1": lambda: [*build_js(), "4", "mqtt"],
    "mqtt.js-5.0": lambda: [*build_js(), "5", "mqtt"],
    "mqtt.js-3.1.1-ws": lambda: [*build_js(), "4", "ws"],
    "mqtt.js-5.0-wss": lambda: [*build_js(), "5", "wss"],
    "libmosquitto-3.1.1": lambda: [*build_c("mosquitto", "mosquitto"), "4"],
    "libmosquitto-5.0": lambda: [*build_c("mosquitto", "mosquitto"), "5"],
    "paho-c-3.1.1": lambda: [*build_c("paho", "paho-mqtt3c"), "4"],
    "paho-c-5.0": lambda: [*build_c("paho", "paho-mqtt3c"), "5"],
}


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory):
    """One server for all clients."""
    shared = pki.shared()
    server = Server(tmp_path_factory.mktemp("clients") / "server", {
        "listeners": [f"{scheme}://127.0.0.1:0" for scheme in ("mqtt", "ws", "wss", "quic")],
        "tls.certificate": shared.path("server.pem"),
        "tls.private_key": shared.path("server.key"),
    }).start()
    yield server
    server.stop()
    server.check()


@pytest.fixture(name="outcome", scope="module")
def fixture_outcome(server):
    """Runs a client's program once; gives what it said about each feature."""

    @functools.cache
    def outcome(name):
        command = [*map(str, CLIENTS[name]())]
        scheme = command[-1] if command[-1] in ("ws", "wss", "quic") else "mqtt"
        command.append(server.url_of(scheme).removesuffix("/mqtt").rpartition(":")[2])
        trust = dict.fromkeys(("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"), str(pki.shared().path("ca.pem")))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S,
                                  check=False, env={**os.environ, **trust})
        except subprocess.TimeoutExpired as err:
            return {}, f"stopped after {RUN_TIMEOUT_S} s: {err.stdout!r}"
        said = dict(re.findall(r"^((?:not )?ok \S+)(.*)$", done.stdout, re.M))
        return said, f"status {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}"

    return outcome


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("client", CLIENTS)
def test_client(outcome, client, feature):
    """The program of this client says that this feature works."""
    said, everything = outcome(client)
    assert f"not ok {feature}" not in said, said[f"not ok {feature}"]
    assert f"ok {feature}" in said, everything
