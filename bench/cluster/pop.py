"""POP on LMQs: is each message handed out once, does what was not acknowledged come back and when,
how long do POP and ACK take, and what of them outlives a killed Broker."""

import struct
import threading
import time

import lab
from remoting import ACK, LMQ, Refused

BROKER = "broker-a"
MARKED = struct.Struct(">qd")  # a number, and when it was sent


class Consumer(threading.Thread):
    """Pops from a queue until told to end, and acknowledges at once."""

    def __init__(self, server, queue, group, invisible_ms=30_000):
        super().__init__()
        self.server, self.queue, self.group, self.invisible_ms = server, queue, group, invisible_ms
        self.got, self.latencies_s, self.ack_s, self.ended = [], [], [], False

    def take(self, number, sent):
        """Notes a message that has just come."""
        self.got.append(number)
        self.latencies_s.append(time.monotonic() - sent)

    def run(self):
        with self.server.client(60) as client:
            while not self.ended:
                popped = client.pop(self.queue, self.group, BROKER, poll_ms=2000,
                                    invisible_ms=self.invisible_ms)
                for one in popped:
                    self.take(*MARKED.unpack(one.message.body))
                for one in popped:
                    began = time.monotonic()
                    client.ack(one)
                    self.ack_s.append(time.monotonic() - began)


class Reader(Consumer):
    """The same by PULL, which needs no acknowledgement, for comparison."""

    def run(self):
        with self.server.client(60) as client:
            offset = 0
            while not self.ended:
                got = client.pull(self.queue, 0, offset, suspend_ms=2000)
                for message in got.messages:
                    self.take(*MARKED.unpack(message.body))
                offset = got.next_offset


def send_marked(client, queue, number):
    """A message with a number and the time."""
    client.send_message(lab.TOPIC, MARKED.pack(number, time.monotonic()), {"INNER_MULTI_DISPATCH": queue},
                        number % 64)


def latency(server, kind, consumers, count, pause_s):
    """Sends at a steady rate to waiting consumers. Returns a row."""
    name = f"lat-{kind.__name__}-{consumers}"
    queue, group = f"{LMQ}{name}", f"g-{name}"
    with server.client(60) as client:
        client.create_group(group)
        members = [kind(server, queue, group) for _ in range(consumers)]
        for member in members:
            member.start()
        for number in range(count):
            send_marked(client, queue, number)
            time.sleep(pause_s)
        deadline = time.monotonic() + 20
        while sum(len(member.got) for member in members) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        for member in members:
            member.ended = True
        for member in members:
            member.join()
    got = sorted(number for member in members for number in member.got)
    shares = "-".join(str(share) for share in sorted(len(member.got) for member in members))
    latencies = [value for member in members for value in member.latencies_s]
    acks = [value for member in members for value in member.ack_s]
    return ("PULL" if kind is Reader else "POP", consumers, count, len(set(got)),
            len(got) - len(set(got)), shares, lab.p50_p99(latencies), lab.p50_p99(acks) if acks else "-")


def fill(server, queue, count):
    """A backlog."""
    with server.client(60) as client:
        template = lab.send_template(lab.TOPIC, 0, queue, 256)
        lab.pump([lab.Lane(client, [template] * count, 64)])
        while client.max_offset(queue) < count:
            time.sleep(0.01)


def pop_all(client, queue, group, count):
    """Pops a backlog. Returns the messages with their receipts."""
    popped, deadline = [], time.monotonic() + 30
    while len(popped) < count and time.monotonic() < deadline:
        popped += client.pop(queue, group, BROKER, invisible_ms=600_000)
    return popped


def rates(server, count):
    """A backlog popped, then acknowledged, by one connection."""
    queue, group = f"{LMQ}rate", "g-rate"
    fill(server, queue, count)
    with server.client(60) as client:
        client.create_group(group)
        began, cpu = time.monotonic(), [server.cpu_s()]
        popped = pop_all(client, queue, group, count)
        pop_rate = len(popped) / (time.monotonic() - began)
        lane = lab.Lane(client, [lab.Template(ACK, one.fields()) for one in popped], 64)
        cpu.append(server.cpu_s())
        ack_rate = len(popped) / lab.pump([lane])
        cpu.append(server.cpu_s())
    each = [f"{(end - begin) / len(popped) * 1e6:.0f}" for begin, end in zip(cpu, cpu[1:])]
    return (len(popped), f"{pop_rate:,.0f}", f"{ack_rate:,.0f}", lab.p50_p99(lane.latencies_s),
            lane.codes, *each)


def redelivery(server, invisible_ms, count, renew=False):
    """When messages that nobody acknowledged come back, and in which order."""
    queue, group = f"{LMQ}again-{invisible_ms}-{renew}", f"g-again-{invisible_ms}-{renew}"
    with server.client(60) as client:
        client.create_group(group)
        for number in range(count):
            send_marked(client, queue, number)
        while client.max_offset(queue) < count:
            time.sleep(0.01)
        popped = client.pop(queue, group, BROKER, invisible_ms=60_000 if renew else invisible_ms)
        began = time.monotonic()
        if renew:
            popped = [client.change_invisible(one, invisible_ms) for one in popped]
        numbers, late = [], []
        while len(numbers) < count and time.monotonic() - began < invisible_ms / 1000 + 60:
            for one in client.pop(queue, group, BROKER, invisible_ms=600_000, poll_ms=500):
                numbers.append(MARKED.unpack(one.message.body)[0])
                late.append(time.monotonic() - began - invisible_ms / 1000)
                client.ack(one)
    order = "kept" if numbers == sorted(numbers) else "changed"
    return (f"{invisible_ms} ms{' (changed from 60 s)' if renew else ''}", count,
            len(set(numbers)), f"{min(late):.1f} .. {max(late):.1f} s", order)


def killed(server, count):
    """Of a backlog a half is acknowledged; the Broker is killed; what comes back afterwards."""
    queue, group = f"{LMQ}killed", "g-killed"
    fill(server, queue, count)
    with server.client(60) as client:
        client.create_group(group)
        popped = []
        while len(popped) < count:
            popped += client.pop(queue, group, BROKER, invisible_ms=10_000)
        done = popped[: count // 2]
        for one in done:
            client.ack(one)
    server.restart(kill=True)
    acknowledged = {one.message.position for one in done}
    seen, began = set(), time.monotonic()
    with server.client(60) as client:
        positions = {message.position: message.properties["UNIQ_KEY"]
                     for message in lab.drain(client, queue, count)}
        keys = {positions[position] for position in acknowledged}
        while len(seen) < count and time.monotonic() - began < 40:
            try:
                for one in client.pop(queue, group, BROKER, poll_ms=1000, invisible_ms=600_000):
                    seen.add(one.message.properties["UNIQ_KEY"])
            except Refused:
                time.sleep(0.1)
    wanted = set(positions.values()) - keys
    return (count, len(keys), len(seen & keys), len(wanted), len(seen & wanted), len(wanted - seen))


def run(quick):
    """Prints the tables."""
    small = 10 if quick else 1
    for version in lab.jars.VERSIONS[: 1 if quick else 2]:
        with lab.broker(version=version) as server:
            rows = [latency(server, kind, consumers, 1000 // small, 0.01)
                    for kind, consumers in ((Reader, 1), (Consumer, 1), (Consumer, 4))]
            lab.table(f"RocketMQ {version}: a message every 10 ms to waiting consumers",
                      ("by", "consumers", "sent", "received", "twice", "share of each",
                       "send to receipt p50 / p99 ms", "ACK p50 / p99 ms"), rows)
            rows = [rates(server, 10_000 // small)]
            lab.table(f"RocketMQ {version}: a backlog, one connection, 32 per POP, 64 ACK under way",
                      ("messages", "popped/s", "acknowledged/s", "ACK p50 / p99 ms", "codes",
                       "CPU us of the Broker per POP of a message", "per ACK"), rows)
            rows = [redelivery(server, 2000, 20), redelivery(server, 10_000, 20),
                    redelivery(server, 2000, 20, renew=True)]
            lab.table(f"RocketMQ {version}: nobody acknowledged",
                      ("invisible for", "popped", "came back", "after that time", "order"), rows)
            rows = [killed(server, 2000 // small)]
            lab.table(f"RocketMQ {version}: the Broker is killed after half was acknowledged",
                      ("popped", "acknowledged", "of them again", "not acknowledged",
                       "of them again", "never again"), rows)
