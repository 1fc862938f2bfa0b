"""The rows of the benchmark: what is run, which figures are taken from it, and their targets.

A row is run by a scenario (scenarios.py), which returns figures by name. Rows with a `series` are
the points of a curve: the same work at a growing size.
"""
import dataclasses
import pathlib

PAYLOAD = 256
SUBJECT = "tidemq"
PLAIN, WITH_TLS, WITH_FRAMES = "mqtt", ("mqtts", "wss"), ("ws", "wss")


@dataclasses.dataclass
class Figure:
    """One number of a row: how it is called, its unit and the target of the design. `beside`: what
    mosquitto took on the machine that the target was set on, so that it can be judged on another."""

    key: str
    label: str
    unit: str
    target: float = None
    target_text: str = ""
    higher_is_better: bool = False
    beside: float = None


@dataclasses.dataclass
class Row:
    """Work for a server. `load` is for the load generator; {count} is the number of messages,
    connections, sessions or filters: `count`, in quick runs `quick_count`, for slow servers less
    (their `share`), but at least `least`. {sessions} is how many share so many filters, with some
    2,500 each.
    """

    key: str
    title: str
    load: list
    count: int
    quick_count: int
    figures: list
    scenario: str = "load"
    persistent: bool = False  # servers with a choice: persistence on
    needs_disk: bool = False  # not for servers that keep nothing on disk
    logged: bool = False  # the floor: with its log
    has_floor: bool = False
    extra: bool = False  # only when asked for with --rows
    settings: tuple = ()  # TideMQ's own for this row
    transport: str = "mqtt"  # the scheme of the listener that the load goes to
    servers: tuple = ()  # only these; empty: all
    others_count: int = 0  # the most for servers that are not in `full`; 0: no such limit
    full: tuple = (SUBJECT, "mosquitto")
    least: int = 1000
    turns: int = 0  # at most so many
    series: str = ""
    x: float = 0  # 0 in a series: the count that a server ran it with
    fixed: bool = False  # every server gets the same count

    def durable_for(self, server_class):
        return self.logged if server_class.name == "floor" else self.persistent

    def count_for(self, server_class, quick):
        count = self.quick_count if quick else self.count
        if self.others_count and server_class.name not in self.full:
            count = min(count, self.others_count)
        if self.fixed or server_class.share == 1:
            return count
        return min(count, max(self.least, int(count * server_class.share)))

    def load_args(self, count, batch=None):
        sessions = max(4, count // 2500 // 4 * 4)
        args = [str(word).format(count=count, sessions=sessions) for word in self.load]
        return args + (["--batch", str(batch)] if batch else [])


@dataclasses.dataclass
class Series:
    """A curve: the figure `key` of its rows over their x. Cost per unit may grow from one point to
    a later one by `factor` at most; `why` says what that leaves room for."""

    key: str
    title: str
    x_label: str
    figures: list
    factor: float
    why: str


def cpu(target=None, text="", beside=None):
    return [Figure("cpu", "server CPU", "CPU s per million delivered", target, text,
                   beside=beside)]


FAN_IN = ["fan", "--publishers", 100, "--subscribers", 1, "--count", "{count}"]
FAN_OUT = ["fan", "--publishers", 1, "--subscribers", 500, "--lag-max", 100, "--count", "{count}"]
BACKLOG = ["backlog", "--publishers", 10, "--qos", 1, "--count", "{count}"]
LATENCY = [Figure("p50", "p50", "us", 400, "<= 400, durable"),
           Figure("p99", "p99", "us", 1000, "<= 1,000, durable"), Figure("p999", "p99.9", "us")]
FILTERS = [Figure("cpu", "server CPU", "CPU s per million published"),
           Figure("bytes", "memory", "bytes per filter"),
           Figure("subscribe_cpu", "server CPU to subscribe", "CPU s per million filters")]
SESSIONS = [
    Figure("bytes", "memory", "bytes per session", 1610, "<= 1.5 GiB for a million"),
    Figure("disk", "disk", "bytes per session"),
    Figure("kill_s", "ready again after kill -9", "s", 5, "<= 5"),
    Figure("term_s", "ready again after SIGTERM", "s", 5, "<= 5"),
    Figure("create_cpu", "server CPU to make", "CPU s per million sessions"),
    Figure("lost", "sessions lost by kill -9", "of 1,000 looked for", 0, "0"),
    Figure("kill_us", "ready again after kill -9", "us per session"),
    Figure("term_us", "ready again after SIGTERM", "us per session"),
]
PUBACK = [Figure("p50", "PUBACK p50", "us"),
          Figure("p99", "PUBACK p99", "us", 5000, "<= 5,000, durable"),
          Figure("p999", "PUBACK p99.9", "us"),
          Figure("rate", "acknowledged", "msg/s", None, "", True),
          Figure("checkpoints", "checkpoints meanwhile", "count"),
          Figure("seals", "seals meanwhile", "count")]
# 20 of them; the row beside is the same work without: 10 % more CPU is the most.
POLICIES = ("authorization.enabled=true",
            f"authorization.policy_file={pathlib.Path(__file__).resolve().parent}/policies.yaml")
FREQUENT = ("store.checkpoint_interval=1s", "store.seal_entries=50000")


def puback(rate, burst):
    return ["fan", "--publishers", 100, "--subscribers", 1, "--persistent", "--qos", 1, "--rate",
            rate, "--burst", burst, "--count", "{count}", "--lag-max", 0]


FILTER_LOAD = ["filters", "--filters", "{count}", "--subscribers", "{sessions}", "--publishers", 10,
               "--count", 40000, "--timeout", 20]


BOTH = (SUBJECT, "mosquitto")  # those whose other transports are measured
IDLE = ["idle", "--connections", "{count}", "--source-addresses", 4]
CONNECT = ["connect", "--connections", 50, "--source-addresses", 16, "--count", "{count}"]
EACH = [Figure("bytes", "user-space memory", "bytes each")]
CONNECTED = [Figure("rate", "connected", "per s", None, "", True)]
ECHO = [Figure("cpu", "server CPU", "us per message"),
        Figure("p50", "round trip p50, mostly the client's", "us"),
        Figure("p99", "round trip p99", "us")]
HANDSHAKES = [Figure("cpu_us", "server CPU", "us per connection"),
              Figure("rate", "connections", "per s", None, "", True)]


def fan_in_over(transport, name, qos):
    """The same work as the row by TCP, so that one run shows what the transport adds."""
    return Row(f"fan_in_{name}_qos{qos}", f"fan-in QoS {qos}, 100 to 1, all by {transport}://",
               FAN_IN + ["--qos", qos], 200000 if qos else 400000, 30000 if qos else 60000, cpu(),
               transport=transport, servers=BOTH, turns=2)


def idle_over(transport, name):
    target = (20480, "<= 20,480") if transport == "mqtts" else ()
    return Row(f"connections_{name}", f"10,000 idle connections by {transport}://", IDLE, 10000, 10000,
               [Figure("bytes", "user-space memory", "bytes each", *target), *CONNECTED], "connections", fixed=True, turns=1, servers=BOTH, transport=transport)


MAIN = [
    Row("fan_in_qos0", "fan-in QoS 0, 100 publishers to 1 subscriber", FAN_IN + ["--qos", 0],
        1000000, 100000, cpu(1.0, "<= 1.0", 6.4), has_floor=True),
    Row("fan_in_qos1", "fan-in QoS 1, 100 to 1, clean session", FAN_IN + ["--qos", 1],
        500000, 50000, cpu(4.0, "<= 4.0, durable", 20.6), has_floor=True, logged=True),
    Row("fan_in_qos1_persistent", "fan-in QoS 1 to a persistent session",
        FAN_IN + ["--qos", 1, "--persistent"], 500000, 50000,
        cpu(5.0, "<= 5.0, durable", 19.3)
        + [Figure("log", "log written per message of 256 B", "bytes", 384, "<= 384")],
        persistent=True, has_floor=True, logged=True),
    Row("fan_in_qos1_policies", "fan-in QoS 1, 100 to 1, under 20 policies",
        FAN_IN + ["--qos", 1], 500000, 50000, cpu(4.4, "<= 10 % above the row without policies"),
        settings=POLICIES, servers=(SUBJECT,)),
    Row("fan_in_qos2", "fan-in QoS 2, 100 to 1, clean session", FAN_IN + ["--qos", 2],
        200000, 30000, cpu()),
    *(fan_in_over(transport, name, qos)
      for transport, name in (("ws", "ws"), ("mqtts", "tls"), ("wss", "wss")) for qos in (0, 1)),
    Row("fan_out_qos0", "fan-out QoS 0, 1 to 500", FAN_OUT + ["--qos", 0], 4000, 300,
        cpu(0.5, "<= 0.5", 7.9), has_floor=True, least=100),
    Row("fan_out_qos1", "fan-out QoS 1, 1 to 500", FAN_OUT + ["--qos", 1], 2000, 200,
        cpu(0.9, "<= 0.9, durable in", 11.6), has_floor=True, logged=True, least=100),
    Row("pairs", "100 pairs QoS 1 at 1,000 msg/s: delivery",
        ["pairs", "--publishers", 100, "--qos", 1, "--rate", 1000, "--count", "{count}"],
        36000, 3000, LATENCY, "latency", fixed=True, others_count=10000, turns=2),
    Row("kill", "acknowledged offline QoS 1, then kill -9", BACKLOG, 100000, 10000,
        [Figure("lost", "lost", "messages of 100,000", 0, "none, ever")], "kill", persistent=True,
        needs_disk=True, fixed=True, others_count=10000, turns=2),
    Row("backlog", "offline backlog", BACKLOG, 200000, 50000,
        [Figure("drain", "drained", "msg/s", 200000, ">= 200,000", True),
         Figure("in_per_core", "taken in, durable", "msg per CPU s", 100000, ">= 100,000", True)],
        "backlog", persistent=True),
    Row("connections", "10,000 idle connections",
        IDLE, 10000, 10000, [Figure("bytes", "user-space memory", "bytes each", 4096, "<= 4,096"),
                             *CONNECTED], "connections", fixed=True, turns=2),
    *(idle_over(transport, name) for transport, name in (("ws", "ws"), ("mqtts", "tls"), ("wss", "wss"))),
    Row("connections_quic", "1,000 idle connections by quic://", ["idle", "--connections", "{count}"], 1000,
        300, EACH, "connections_quic", fixed=True, turns=1, servers=(SUBJECT,), transport="quic"),
    *(Row(f"echo_{name}", f"4 clients that publish to themselves by {name.upper()}, one message at a time",
          ["echo", "--count", "{count}", *more], 8000, 2000, ECHO, "echo", fixed=True, turns=2,
          servers=BOTH if name == "tcp" else (SUBJECT,), transport=transport)
      for name, transport, more in (("tcp", PLAIN, ["--tcp"]), ("quic", "quic", []))),
    Row("tls_full", "TLS 1.3, full handshake, CONNECT, CONNACK, DISCONNECT", CONNECT, 5000, 2000,
        HANDSHAKES, "handshakes", fixed=True, turns=2, servers=BOTH, transport="mqtts"),
    Row("tls_resumed", "the same with the ticket of the connection before",
        CONNECT + ["--tls-resume"], 10000, 4000, HANDSHAKES, "handshakes", fixed=True, turns=2,
        servers=BOTH, transport="mqtts"),
    Row("retained", "1,000,000 retained messages, then a # subscriber",
        ["retained", "--publishers", 100, "--count", "{count}", "--timeout", 20], 1000000, 50000,
        [Figure("cpu", "server CPU to stream", "CPU s per million delivered"),
         Figure("rate", "streamed", "msg/s", None, "", True),
         Figure("set_cpu", "server CPU to set", "CPU s per million"),
         Figure("bytes", "memory", "bytes per retained message"),
         Figure("peak", "memory on top while streaming", "MiB", 64, "flat: <= 64"),
         Figure("others", "p99 of others' deliveries meanwhile", "us", 10000, "<= 10,000"),
         Figure("others_alone", "the same before, without a stream", "us"),
         Figure("others_late", "p99 of how late they were to publish meanwhile", "us")],
        "retained", fixed=True, others_count=50000, turns=2),
    Row("filters_many", "1,000,000 filters with + and #, QoS 0", FILTER_LOAD, 1000000, 20000,
        FILTERS, "filters", series="filters", others_count=20000, fixed=True, turns=2),
    Row("sessions", "1,000,000 durable sessions with a filter each",
        ["sessions", "--count", "{count}", "--source-addresses", 64], 1000000, 20000, SESSIONS,
        "sessions", persistent=True, needs_disk=True, series="sessions", others_count=50000,
        full=(SUBJECT,), turns=1),
    Row("puback_1k_often", "PUBACK at 1,000 msg/s, a checkpoint a second, frequent seals",
        puback(1000, 1), 20000, 3000, PUBACK, "puback", persistent=True, settings=FREQUENT,
        servers=("tidemq",), turns=2),
    Row("puback_10k", "PUBACK at 10,000 msg/s, default configuration", puback(10000, 1), 450000,
        30000, PUBACK, "puback", persistent=True, servers=("tidemq", "mosquitto"), turns=1),
    Row("puback_10k_often", "PUBACK at 10,000 msg/s, a checkpoint a second, frequent seals",
        puback(10000, 1), 200000, 30000, PUBACK, "puback", persistent=True, settings=FREQUENT,
        servers=("tidemq",), turns=2),
    Row("puback_100k", "PUBACK at 100,000 msg/s in writes of 10, default configuration",
        puback(100000, 10), 4500000, 200000, PUBACK, "puback", persistent=True,
        servers=("tidemq",), turns=1),
    Row("puback_100k_often", "PUBACK at 100,000 msg/s, a checkpoint a second, frequent seals",
        puback(100000, 10), 1000000, 200000, PUBACK, "puback", persistent=True, settings=FREQUENT,
        servers=("tidemq",), turns=2),
    Row("idle_subscribed", "10,000 idle connections, a filter each",
        ["idle", "--connections", "{count}", "--subscribe", "--source-addresses", 4], 10000, 10000,
        [Figure("bytes", "user-space memory", "bytes each")], "connections", extra=True),
    Row("connect", "connect, CONNACK, DISCONNECT", CONNECT, 20000, 10000, HANDSHAKES, "handshakes",
        extra=True),
]

FAST = ("mosquitto", "tidemq", "rumqttd")

def fan_out_point(subscribers):
    deliveries = 1000000 if subscribers > 1 else 400000
    return Row(f"fan_out_{subscribers}", f"fan-out QoS 0, 1 to {subscribers:,}",
               ["fan", "--publishers", 1, "--subscribers", subscribers, "--lag-max", 100, "--count",
                "{count}", "--source-addresses", 4, "--timeout", 30],
               max(100, deliveries // subscribers), max(100, deliveries // 20 // subscribers),
               cpu(), series="fan_out", x=subscribers, servers=(*FAST, "floor"), has_floor=True,
               least=100, turns=2)


def filter_point(filters):
    return Row(f"filters_{filters}", f"{filters:,} filters with + and #, QoS 0",
               FILTER_LOAD, filters, filters, FILTERS, "filters", series="filters", servers=BOTH,
               fixed=True, turns=2)


def session_point(sessions):
    """In quick runs the larger ones are left out."""
    return Row(f"sessions_{sessions}", f"{sessions:,} durable sessions",
               ["sessions", "--count", "{count}", "--source-addresses", 64], sessions,
               sessions if sessions <= 10000 else 0, SESSIONS, "sessions", persistent=True,
               needs_disk=True, series="sessions", servers=BOTH, fixed=True, turns=1)


def payload_point(payload):
    return Row(f"payload_{payload}", f"fan-in QoS 1, payload {payload:,} B",
               FAN_IN + ["--qos", 1, "--payload", payload, "--lag-max", 2000],
               max(10000, min(200000, (1 << 29) // payload)),
               max(2000, min(20000, (1 << 26) // payload)),
               cpu() + [Figure("cpu_gib", "server CPU", "CPU s per GiB of payload")],
               series="payload", x=payload, servers=FAST, turns=2)


def loops_point(loops):
    return Row(f"loops_{loops}", f"fan-in QoS 1, {loops} loops", FAN_IN + ["--qos", 1], 1000000,
               100000, cpu() + [Figure("rate", "delivered", "msg/s", None, "", True)],
               settings=(f"threads.loops={loops}",), series="loops", x=loops,
               servers=(SUBJECT,), turns=3)


POINTS = [*map(fan_out_point, (1, 10, 100, 1000, 10000)),
          *map(filter_point, (1000, 10000, 100000)),
          *map(session_point, (1000, 10000, 100000)),
          *map(payload_point, (16, 64, 256, 1024, 4096, 16384, 65536)),
          *map(loops_point, (1, 2))]

SERIES = [
    Series("fan_out", "Fan-out: cost of a delivery", "subscribers", ["cpu"], 1.5,
           "a delivery costs the same whoever else gets the message"),
    Series("filters", "Filters: cost of a publish that matches four", "filters",
           ["cpu", "bytes", "subscribe_cpu"], 3.0,
           "a trie of a million filters does not fit into the processor's caches"),
    Series("sessions", "Durable sessions: cost of one", "sessions",
           ["bytes", "kill_us", "term_us", "create_cpu"], 1.5, "a session costs the same"),
    Series("payload", "Payload: cost of a byte", "payload (bytes)", ["cpu_gib"], 1.5,
           "a byte costs the same or less in a larger message"),
    Series("loops", "Loops", "loops", ["cpu"], 1.5,
           "a second loop may cost hand-over, not more"),
]

ROWS = MAIN + POINTS
