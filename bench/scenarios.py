"""How a row is run against a started server, and its figures from what the load generator found."""
import json
import os
import subprocess
import sys
import threading
import time

import rows
import servers

LOAD_TIMEOUT_S = 400
OTHERS_TIMEOUT_S = 120  # a peer that is slower than that shall not hold up the rest
SAMPLE_S = 0.02
LOOKED_FOR = 1000  # sessions looked for after a restart
OPEN_AT_ONCE = 50  # in the rows that count handshakes
QUIC_LOAD = servers.ROOT / "bench/quic_load.py"
PROBE_RATE = 500
PROBE_COUNT = 1500


class Run:
    """One run of one row: a server, and load for it."""

    def __init__(self, loadgen, row, server, count, batch=None):
        self.loadgen = loadgen
        self.row = row
        self.server = server
        self.count = count
        self.args = row.load_args(count, batch)
        self.notes = {}
        self.timeout_s = (LOAD_TIMEOUT_S if server.name in (rows.SUBJECT, "mosquitto")
                          else OTHERS_TIMEOUT_S)

    def command(self, words):
        payload = [] if "--payload" in words else ["--payload", str(rows.PAYLOAD)]
        layers = (["--tls"] * (self.row.transport in rows.WITH_TLS)
                  + ["--websocket"] * (self.row.transport in rows.WITH_FRAMES))
        return [self.loadgen, *words, *layers, *payload, "--port", str(self.server.load_port),
                "--server-pid", str(self.server.process.pid), "--json"]

    def generate(self, *more, args=None):
        """Runs the load generator; returns what it found."""
        return self.call(self.command([*(args or self.args), *more]))

    def call(self, command):
        """Runs a generator; returns what it found."""
        try:
            text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False,
                                  timeout=self.timeout_s).stdout
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no end after {self.timeout_s} s") from error
        if not text.startswith("{"):
            raise RuntimeError(f"'{' '.join(command)}' printed no result")
        return json.loads(text)


class Sampler:
    """Samples the server's memory while it is used as a context; `peak` is the most seen."""

    def __init__(self, server):
        self.pid = server.process.pid
        self.first = self.peak = servers.anon_bytes(self.pid)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def sample(self):
        while not self.ended.wait(SAMPLE_S):
            try:
                self.peak = max(self.peak, servers.anon_bytes(self.pid))
            except OSError:
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def measure_of(found, name):
    return next((part for part in found["measures"] if part["name"] == name), None)


def per(value, count, scale=1.0):
    return value / count * scale if count else None


def load(run):
    """CPU per delivery, and what the messages were written to the log."""
    before = run.server.counters()
    found = run.generate()
    after = run.server.counters()
    figures = {}
    part = measure_of(found, "run")
    if part and part["delivered"]:
        size = int(run.args[run.args.index("--payload") + 1]) if "--payload" in run.args else 0
        figures["cpu"] = per(part["server_cpu_s"], part["delivered"], 1e6)
        figures["rate"] = per(part["delivered"], part["wall_s"])
        figures["cpu_gib"] = per(part["server_cpu_s"], part["delivered"] * size, 2**30)
    if found["published"] and "log_bytes" in after:
        figures["log"] = per(after["log_bytes"] - before["log_bytes"], found["published"])
    return found, figures


def latencies(hist):
    return {"p50": hist["p50_us"], "p99": hist["p99_us"], "p999": hist["p999_us"]}


def latency(run):
    found = run.generate()
    return found, latencies(found["delivery"]) if found["delivery"]["count"] else {}


def puback(run):
    """PUBACK times under a steady load, and what the engine did meanwhile."""
    before = run.server.counters()
    found = run.generate()
    after = run.server.counters()
    figures = latencies(found["ack"]) if found["ack"]["count"] else {}
    part = measure_of(found, "run")
    if part:
        figures["rate"] = per(part["acked"], part["wall_s"])
    for key in ("checkpoints", "seals"):
        if key in after:
            figures[key] = after[key] - before.get(key, 0)
    return found, figures


def kill(run):
    """Messages acknowledged for a session that is away, kill -9, a start, and the rest."""
    published = run.generate("--phase", "publish")
    if not published["ok"]:
        return published, {}
    run.server.kill()
    run.notes["restart_s"] = run.server.start()
    drained = run.generate("--phase", "drain", "--timeout", "5")
    drained["acked"] = published["acked"]
    drained["acks_expected"] = published["acks_expected"]
    return drained, {"lost": drained["deliveries_expected"] - drained["delivered"]}


def backlog(run):
    found = run.generate()
    figures = {}
    taken, drained = measure_of(found, "publish"), measure_of(found, "drain")
    if taken and taken["server_cpu_s"]:
        figures["in_per_core"] = per(taken["acked"], taken["server_cpu_s"])
    if drained and drained["delivered"]:
        figures["drain"] = per(drained["delivered"], drained["wall_s"])
    return found, figures


def grown(part):
    return part["server_anon_after"] - part["server_anon_before"]


def connections(run):
    found = run.generate()
    part = measure_of(found, "connect")
    if not part or not found["ok"]:
        return found, {}
    count = found["connack"]["count"]
    return found, {"bytes": per(grown(part), count), "rate": per(count, part["wall_s"])}


def quic_load(run):
    """What the generator with aioquic finds, by the Python of the tests, if it is there."""
    python = servers.first_existing(servers.ROOT / "build/venv/bin/python") or sys.executable
    return run.call([python, str(QUIC_LOAD), *run.args, "--port", str(run.server.load_port),
                     "--server-pid", str(run.server.process.pid)])


def connections_quic(run):
    found = quic_load(run)
    part = measure_of(found, "connect")
    return found, {"bytes": per(grown(part), part["connections"])}


def echo(run):
    found = quic_load(run)
    part = measure_of(found, "run")
    return found, {"cpu": per(part["server_cpu_s"], part["delivered"], 1e6),
                   "p50": found["delivery"]["p50_us"], "p99": found["delivery"]["p99_us"]}


def handshakes(run):
    """Connections made and ended; with --tls-resume only if all but the first were resumed."""
    found = run.generate()
    part = measure_of(found, "connect")
    if not part or not found["ok"]:
        return found, {}
    run.notes["resumed"] = part["resumed"]
    if "--tls-resume" in run.args and part["resumed"] < part["connections"] - OPEN_AT_ONCE:
        return {**found, "error": f"it resumed {part['resumed']} of {part['connections']}"}, {}
    return found, {"rate": per(part["connections"], part["wall_s"]),
                   "cpu_us": per(part["server_cpu_s"], part["connections"], 1e6)}


def retained(run):
    """Sets them; streams them to one subscriber; then again and again while a pair of clients
    measures how long its own messages take."""
    stored = run.generate("--phase", "publish")
    part = measure_of(stored, "set")
    if not part or not stored["ok"]:
        return stored, {}
    figures = {"set_cpu": per(part["server_cpu_s"], part["acked"], 1e6),
               "bytes": per(grown(part), part["acked"])}
    with Sampler(run.server) as memory:
        found = run.generate("--phase", "drain")
    part = measure_of(found, "stream")
    figures["peak"] = (memory.peak - memory.first) / 2**20
    if part and part["delivered"]:
        figures["cpu"] = per(part["server_cpu_s"], part["delivered"], 1e6)
        figures["rate"] = per(part["delivered"], part["wall_s"])
    if found["ok"]:
        figures.update(delay_of_others(run))
    found["measures"] = stored["measures"] + found["measures"]
    return found, figures


def delay_of_others(run):
    """The p99 of a pair's deliveries at a low rate, alone and while retained messages are streamed;
    and how late the pair itself was to publish meanwhile. Each message is timed from when it was
    published, but the pair is as late to see it come: a large `others_late` says that processors
    were short, and that `others` is not the server's delay alone."""
    words = ["pairs", "--publishers", "1", "--rate", str(PROBE_RATE), "--count", str(PROBE_COUNT),
             "--id", "probe", "--topic", "probe", "--timeout", "60"]
    alone = run.generate(args=words)
    streams = 0
    with subprocess.Popen(run.command(words), stdout=subprocess.PIPE, text=True) as probe:
        while probe.poll() is None:
            streams += run.generate("--phase", "drain", "--settle", "0")["ok"]
        text = probe.stdout.read()
    run.notes["streams_beside_probe"] = streams
    found = json.loads(text)
    if not (alone["ok"] and found["ok"] and streams):
        return {}
    return {"others_alone": alone["delivery"]["p99_us"], "others": found["delivery"]["p99_us"],
            "others_late": found["slip"]["p99_us"]}


def filters(run):
    found = run.generate()
    figures = {}
    made, part = measure_of(found, "subscribe"), measure_of(found, "run")
    if made and made["subscribed"]:
        figures["bytes"] = per(grown(made), made["subscribed"])
        figures["subscribe_cpu"] = per(made["server_cpu_s"], made["subscribed"], 1e6)
    if part and found["ok"]:
        figures["cpu"] = per(part["server_cpu_s"], part["published"], 1e6)
    return found, figures


def look_for_sessions(run):
    """Looks for some of the sessions; returns how many are not there."""
    looked = min(LOOKED_FOR, run.count)
    found = run.generate(args=["sessions", "--resume", "--count", str(looked), "--stride",
                               str(run.count // looked), "--source-addresses", "64"])
    part = measure_of(found, "connect")
    return looked - (part["connections"] if part else 0) + found["sessions_forgotten"]


def sessions(run):
    """Makes sessions; then a start after kill -9 and one after SIGTERM."""
    server = run.server
    disk = servers.disk_bytes(server.folder)
    found = run.generate()
    part = measure_of(found, "connect")
    if not part or not found["ok"]:
        return found, {}
    made = part["connections"]
    server.wait_quiet()
    figures = {"bytes": per(server.anon_bytes() - part["server_anon_before"], made),
               "create_cpu": per(part["server_cpu_s"], made, 1e6)}
    figures["disk"] = per(max(0, servers.disk_bytes(server.folder) - disk), made)
    server.kill()
    took = server.start_serving()
    figures["lost"] = look_for_sessions(run)
    if figures["lost"]:
        run.generate()  # makes them again, so that the next start has as many
    else:
        figures["kill_s"] = took
    began = time.monotonic()
    server.stop()
    run.notes["stop_s"] = time.monotonic() - began
    figures["term_s"] = server.start_serving()
    run.notes["lost_by_term"] = look_for_sessions(run)
    for name in ("kill", "term"):
        if f"{name}_s" in figures:
            figures[f"{name}_us"] = per(figures[f"{name}_s"], made, 1e6)
    return found, figures


SCENARIOS = {scenario.__name__: scenario for scenario in (
    load, latency, puback, kill, backlog, connections, connections_quic, echo, handshakes, retained,
    filters, sessions)}

TIMED = ("latency", "puback")  # what a sync takes is measured before


def run_row(loadgen, row, server, count, batch=None):
    """Runs a row against a started server. Returns what the generator found, the row's figures
    (those that could not be taken are missing), and notes."""
    run = Run(loadgen, row, server, count, batch)
    found, figures = SCENARIOS[row.scenario](run)
    wanted = {figure.key for figure in row.figures}
    run.notes["load_average"] = os.getloadavg()[0]
    return found, {key: value for key, value in figures.items()
                   if key in wanted and value is not None}, run.notes
