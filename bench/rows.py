"""The rows of the benchmark: what the load generator does, which figure counts, and the target."""
import dataclasses
import time

PAYLOAD = 256


@dataclasses.dataclass
class Row:
    key: str
    title: str
    unit: str
    load: list  # the load generator's arguments; {count} is replaced
    count: int
    quick_count: int
    target: float = None
    target_text: str = ""
    kind: str = "cpu"
    higher_is_better: bool = False
    persistent: bool = False  # mosquitto: persistence on
    logged: bool = False  # the floor: with its log
    has_floor: bool = False
    extra: bool = False  # only when asked for with --rows

    def durable_for(self, server_class):
        return self.logged if server_class.name == "floor" else self.persistent

    def load_args(self, quick, batch):
        count = self.quick_count if quick else self.count
        args = [str(word).replace("{count}", str(count)) for word in self.load]
        return args + (["--batch", str(batch)] if batch else [])


CPU = "CPU s per million delivered"
FAN_IN = ["fan", "--publishers", 100, "--subscribers", 1, "--count", "{count}"]
FAN_OUT = ["fan", "--publishers", 1, "--subscribers", 500, "--lag-max", 100, "--count", "{count}"]

ROWS = [
    Row("fan_in_qos0", "fan-in QoS 0, 100 publishers to 1 subscriber", CPU,
        FAN_IN + ["--qos", 0], 1000000, 100000, 1.0, "<= 1.0", has_floor=True),
    Row("fan_in_qos1", "fan-in QoS 1, 100 to 1, clean session", CPU,
        FAN_IN + ["--qos", 1], 500000, 50000, 4.0, "<= 4.0, durable", has_floor=True,
        logged=True),
    Row("fan_in_qos1_persistent", "fan-in QoS 1 to a persistent session", CPU,
        FAN_IN + ["--qos", 1, "--persistent"], 500000, 50000, 5.0, "<= 5.0, durable",
        persistent=True, has_floor=True, logged=True),
    Row("fan_out_qos0", "fan-out QoS 0, 1 to 500", CPU,
        FAN_OUT + ["--qos", 0], 4000, 300, 0.5, "<= 0.5", has_floor=True),
    Row("fan_out_qos1", "fan-out QoS 1, 1 to 500", CPU,
        FAN_OUT + ["--qos", 1], 2000, 200, 0.9, "<= 0.9, durable in", has_floor=True, logged=True),
    Row("pairs", "100 pairs QoS 1 at 1,000 msg/s: delivery p50 / p99", "us",
        ["pairs", "--publishers", 100, "--qos", 1, "--rate", 1000, "--count", "{count}"],
        60000, 3000, (400, 1000), "<= 400 / 1,000, durable", kind="latency"),
    Row("kill", "acknowledged offline QoS 1 lost by kill -9", "messages",
        ["backlog", "--publishers", 10, "--qos", 1, "--count", "{count}"], 100000, 10000, 0, "0",
        kind="lost", persistent=True),
    Row("backlog", "offline backlog drained", "msg/s",
        ["backlog", "--publishers", 10, "--qos", 1, "--count", "{count}"], 200000, 50000, 200000,
        ">= 200,000", kind="drain", higher_is_better=True, persistent=True),
    Row("idle", "10,000 idle connections: user-space memory", "bytes each",
        ["idle", "--connections", "{count}", "--source-addresses", 4], 10000, 10000, 4096,
        "<= 4,096", kind="idle"),
    Row("fan_in_qos2", "fan-in QoS 2, 100 to 1, clean session", CPU,
        FAN_IN + ["--qos", 2], 200000, 30000, extra=True),
    Row("idle_subscribed", "10,000 idle connections, a filter each: user-space memory",
        "bytes each",
        ["idle", "--connections", "{count}", "--subscribe", "--source-addresses", 4], 10000, 10000,
        kind="idle", extra=True),
    Row("connect", "connect, CONNACK, DISCONNECT", "per s",
        ["connect", "--connections", 50, "--source-addresses", 16, "--count", "{count}"], 20000,
        10000, kind="connect", higher_is_better=True, extra=True),
]


def measure_of(found, name):
    return next((part for part in found["measures"] if part["name"] == name), None)


def value_of(row, found):
    """The row's figure from one run of the load generator, or None when it could not be taken."""
    if row.kind == "cpu":
        part = measure_of(found, "run")
        if part and part["delivered"]:
            return part["server_cpu_s"] / part["delivered"] * 1e6
    elif row.kind == "latency":
        if found["delivery"]["count"]:
            return found["delivery"]["p50_us"], found["delivery"]["p99_us"]
    elif row.kind == "lost":
        return found["deliveries_expected"] - found["delivered"]
    elif row.kind == "drain":
        part = measure_of(found, "drain")
        if part and part["delivered"]:
            return part["delivered"] / part["wall_s"]
    elif row.kind == "idle":
        part = measure_of(found, "connect")
        if part and found["ok"]:
            return ((part["server_anon_after"] - part["server_anon_before"])
                    / found["connack"]["count"])
    elif row.kind == "connect":
        part = measure_of(found, "connect")
        if part and part["wall_s"]:
            return found["connack"]["count"] / part["wall_s"]
    return None


def run_once(row, server, generate, args):
    """Runs a row against a started server. generate(args) runs the load generator and returns what
    it found."""
    if row.kind != "lost":
        return generate(args)
    published = generate(args + ["--phase", "publish"])
    if not published["ok"]:
        return published
    server.kill()
    began = time.monotonic()
    server.start()
    drained = generate(args + ["--phase", "drain", "--timeout", "5"])
    drained["acked"] = published["acked"]
    drained["acks_expected"] = published["acks_expected"]
    drained["restart_s"] = time.monotonic() - began
    return drained
