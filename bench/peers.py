"""Servers beside mosquitto, as registries carry them, and the list of all servers.

bench/peers/build.py builds them into build/peers; one that is not there is left out, with the
reason that its build left.
"""
import os
import re
import shutil
import signal
import subprocess

import servers

BUILT = servers.ROOT / "build" / "peers"
SOURCE = servers.ROOT / "bench" / "peers"
JAVA_OPTIONS = ["-Xms1g", "-Xmx4g", "-XX:+UseG1GC"]
WARM_UP = [["fan", "--qos", qos, "--publishers", "100", "--count", "20000", "--id", "warm",
            "--topic", "warm"] for qos in ("0", "1")]


def why_not_built(name):
    """What the build of a peer left to say."""
    note = BUILT / f"{name}.failed"
    return note.read_text().strip() if note.is_file() else "not built: run bench/peers/build.py"


def version_in(path, pattern):
    """A version that a file of bench/peers pins."""
    found = re.search(pattern, (SOURCE / path).read_text())
    return found[1] if found else "?"


class Rumqttd(servers.Server):
    name = "rumqttd"
    settings = ("max_connections 20,010, max_outgoing_packet_count 200, max_inflight_count 1,000, "
                "no delay between accepted connections, the rest as in its sample configuration; "
                "it keeps everything in memory")
    turns = 2

    @classmethod
    def find(cls):
        return servers.first_existing(BUILT / "rumqttd" / "bin" / "rumqttd")

    @classmethod
    def version(cls, program):
        return "rumqttd " + version_in("build.py", r'"rumqttd", "--version", "([^"]+)"')

    @classmethod
    def why_not(cls, program, row):
        return "it keeps nothing on disk" if row.needs_disk else ""

    def command(self):
        config = self.folder / "rumqttd.toml"
        config.write_text(f"""id = 0
[router]
id = 0
max_connections = 20010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{self.port}"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 1000
dynamic_filters = true
""")
        return [self.program, "-c", str(config), "-q"]


class Mochi(servers.Server):
    name = "mochi"
    settings = ("MaximumInflight and ReceiveMaximum 65,535, MaximumClientWritesPending 16,384; "
                "in the durable rows its badger store with its defaults (writes not synced)")
    turns = 2
    share = 0.4

    @classmethod
    def find(cls):
        return servers.first_existing(BUILT / "mochi" / "peer")

    @classmethod
    def version(cls, program):
        return "mochi-mqtt " + version_in("mochi/go.mod", r"server/v2 v(\S+)")

    def command(self):
        return [self.program, str(self.port)] + (
            [str(self.folder / "badger")] if self.durable else [])


class JavaServer(servers.Server):
    """A server in a Java virtual machine: it is warm before it is measured."""

    turns = 1
    share = 0.1
    quiet_timeout_s = 3  # its compiler and collector never quite rest
    warm_up = WARM_UP

    @classmethod
    def find(cls):
        return servers.first_existing(BUILT / cls.name / f"{cls.name}-1.jar")

    @classmethod
    def version(cls, program):
        pinned = version_in(f"{cls.name}/pom.xml", r"(?s)<dependency>.*?<version>([^<]+)<")
        text = subprocess.run(["java", "-version"], stderr=subprocess.PIPE, text=True,
                              check=False).stderr
        found = re.search(r'version "([^"]+)"', text)
        return f"{cls.name} {pinned} on Java {found[1] if found else '?'}"

    def java(self, *words):
        folder = BUILT / self.name
        return ["java", *JAVA_OPTIONS, "-cp", f"{self.program}{os.pathsep}{folder / 'lib'}/*",
                "peer.Main", *words]


class HiveMQ(JavaServer):
    name = "hivemq"
    settings = ("embedded, everyone may connect, max-queue-size 10,000,000, receive-maximum "
                "65,535, persistence in-memory, in the durable rows file; "
                + " ".join(JAVA_OPTIONS) + "; 40,000 messages to warm up, not counted")

    def command(self):
        folder = self.folder / "conf"
        folder.mkdir(exist_ok=True)
        (folder / "config.xml").write_text(f"""<?xml version="1.0"?>
<hivemq>
  <listeners>
    <tcp-listener><port>{self.port}</port><bind-address>127.0.0.1</bind-address></tcp-listener>
  </listeners>
  <mqtt>
    <queued-messages><max-queue-size>10000000</max-queue-size></queued-messages>
    <receive-maximum><server-receive-maximum>65535</server-receive-maximum></receive-maximum>
  </mqtt>
  <restrictions><max-connections>-1</max-connections></restrictions>
  <persistence><mode>{"file" if self.durable else "in-memory"}</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
""")
        return self.java(str(self.folder))


class Moquette(JavaServer):
    name = "moquette"
    settings = ("session_queue_size 1,000,000, persistence off, in the durable rows on (H2 and "
                "segmented queues); " + " ".join(JAVA_OPTIONS)
                + "; 40,000 messages to warm up, not counted")

    def command(self):
        data = self.folder / "moquette-data"
        data.mkdir(exist_ok=True)
        return self.java(str(self.port), str(data), "durable" if self.durable else "memory")


class Aedes(servers.Server):
    name = "aedes"
    settings = ("queueLimit 1,000,000, in memory, in the durable rows with aedes-persistence-level "
                "(writes not synced)")
    turns = 1
    share = 0.1

    @classmethod
    def find(cls):
        folder = BUILT / "aedes"
        return servers.first_existing(folder / "main.js") if (
            (folder / "node_modules" / "aedes").is_dir() and shutil.which("node")) else None

    @classmethod
    def version(cls, program):
        node = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True,
                              check=False).stdout.strip()
        pinned = version_in("aedes/package.json", r'"aedes": "([^"]+)"')
        return f"aedes {pinned} on Node {node}"

    def command(self):
        return ["node", self.program, str(self.port)] + (
            [str(self.folder / "level")] if self.durable else [])


SERVERS = {cls.name: cls for cls in (servers.Mosquitto, servers.TideMQ, servers.Floor, Rumqttd,
                                     Mochi, HiveMQ, Moquette, Aedes)}
