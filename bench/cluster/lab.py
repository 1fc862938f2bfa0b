"""What the experiments share: servers in a folder that goes, pipelined senders, percentiles, tables."""

import contextlib
import json
import os
import pathlib
import selectors
import struct
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "cluster")]

# pylint: disable=wrong-import-position
import jars  # noqa: E402
import remoting  # noqa: E402
from process import Group  # noqa: E402
from rocketmq import Broker, NameSrv  # noqa: E402

MIB = 1 << 20
TOPIC = "first"
PATIENCE_S = 120


@contextlib.contextmanager
def servers():
    """A group of servers in a folder under build/, which ends and goes with the block."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="experiment-", dir=ROOT / "build") as folder:
        group = Group(folder)
        try:
            yield group
        except BaseException:
            say(group.logs(800))
            raise
        finally:
            group.end()


@contextlib.contextmanager
def broker(topics=(TOPIC,), queues=64, version=jars.NEWEST, heap_mib=512, warm=2000, **config):
    """A NameSrv and a warmed-up Broker with topics."""
    with servers() as group:
        namesrv = NameSrv(group.folder, version=version)
        server = Broker(group.folder, namesrvs=[namesrv.address], version=version, heap_mib=heap_mib,
                        **config)
        group.start(namesrv, server)
        with server.client(60) as client:
            for topic in (*topics, "warm"):
                client.create_topic(topic, queues)
            pump([Lane(client, [send_template("warm", 0, f"{remoting.LMQ}warm", 256)] * warm, 64)])
        yield server


def say(*words):
    """Tells what goes on, apart from the table."""
    print(*words, file=sys.stderr, flush=True)


# --- pipelined requests ---------------------------------------------------------------------------


class Template:
    """A request whose number alone is put in when it is sent."""

    def __init__(self, code, fields, body=b""):
        head = json.dumps({"code": code, "language": "OTHER", "version": remoting.VERSION, "flag": 0,
                           "extFields": {key: str(value) for key, value in fields.items()}})
        self.head, self.body = head[:-1].encode() + b',"opaque":', body

    def bytes_of(self, opaque, body=None):
        """The frame; with another body where one is given."""
        header, body = self.head + b"%d}" % opaque, self.body if body is None else body
        return struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body


def send_template(topic, queue_id, lmqs, size):
    """SEND_V2 of `size` bytes to a queue and, by name and separated by commas, to LMQs."""
    properties = {"INNER_MULTI_DISPATCH": lmqs} if lmqs else {}
    fields = remoting.BrokerClient.send_fields(topic, properties, queue_id)
    fields.update({"k": "false", "m": "false"})
    return Template(remoting.SEND_V2, fields, b"x" * size)


def numbered(template, numbers):
    """The same request with each number as its body."""
    return [(template, struct.pack(">q", number)) for number in numbers]


class Lane:
    """A connection and the requests for it, at most `window` under way. Afterwards: the latency of
    each answer in seconds, the codes, and how many were sent again because the Broker was busy."""

    def __init__(self, client, requests, window):
        self.client, self.window = client, window
        self.todo = list(reversed(requests))
        self.sent, self.latencies_s, self.codes, self.busy = {}, [], {}, 0

    @property
    def done(self):
        """Whether all were answered."""
        return not self.todo and not self.sent

    def fill(self):
        """Sends until the window is full."""
        frames = []
        while self.todo and len(self.sent) < self.window:
            request, opaque = self.todo.pop(), self.client.next_opaque()
            template, body = request if isinstance(request, tuple) else (request, None)
            frames.append(template.bytes_of(opaque, body))
            self.sent[opaque] = request, time.monotonic()
        if frames:
            self.client.send_bytes(b"".join(frames))

    def take(self):
        """Takes the answers that have come."""
        for answer in self.client.receive_some():
            request, at = self.sent.pop(answer.opaque)
            if answer.code == remoting.SYSTEM_BUSY:
                self.busy += 1
                self.todo.append(request)
                continue
            self.latencies_s.append(time.monotonic() - at)
            self.codes[answer.code] = self.codes.get(answer.code, 0) + 1


def pump(lanes):
    """Runs lanes side by side until all are done; returns the seconds it took."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for lane in lanes:
            selector.register(lane.client, selectors.EVENT_READ, lane)
            lane.fill()
        while not all(lane.done for lane in lanes):
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise TimeoutError(f"no answer within {PATIENCE_S} s")
            for key, _ in ready:
                key.data.take()
                key.data.fill()
    return time.monotonic() - began


# --- reading ----------------------------------------------------------------------------------------


def drain(client, queue, count, queue_id=0):
    """The first `count` messages of a queue, waiting until they are there."""
    messages, offset, deadline = [], 0, time.monotonic() + PATIENCE_S
    while len(messages) < count:
        got = client.pull(queue, queue_id, offset, suspend_ms=1000)
        messages, offset = messages + got.messages, got.next_offset
        if time.monotonic() > deadline:
            raise TimeoutError(f"{queue} has {len(messages)} of {count} messages")
    return messages


def until_pullable(client, queue, timeout_s=PATIENCE_S):
    """Seconds until a queue that was empty has a message, asked every millisecond or so."""
    began = time.monotonic()
    while not client.pull(queue).messages:
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"nothing in {queue} within {timeout_s} s")
        time.sleep(0.001)
    return time.monotonic() - began


# --- tables -----------------------------------------------------------------------------------------


def percentile(values, part):
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def p50_p99(latencies_s):
    """Both in milliseconds, for a table."""
    return " / ".join(f"{percentile(latencies_s, part) * 1000:.2f}" for part in (0.5, 0.99))


def table(title, columns, rows):
    """Prints a table in Markdown, with the load of the machine, which decides what times are worth."""
    print(f"\n{title}; load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join("---" for _ in columns) + " |")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    sys.stdout.flush()
