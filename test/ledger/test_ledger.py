"""The ledger: what was acknowledged is delivered, whatever is killed.

Publishers at QoS 1 and 2 send numbered messages with few packet IDs, reused on purpose. Durable
subscribers receive them. Meanwhile the server is killed with SIGKILL at random and started again on
the same data, and clients lose their connections. In the end:

  delivered    every acknowledged message has reached every subscriber, and one of the members of
               a shared group;
  exactly once no QoS 2 message has reached a QoS 2 subscriber twice;
  in order     per publisher, topic and QoS, first deliveries come in the order of publication;
  nothing else arrived than what was published.

The seed is printed; TIDEMQ_LEDGER_SEED=N runs that one again, TIDEMQ_LEDGER_KILLS=N says how often.
"""

import os
import random
import threading
import time
from collections import Counter

import pytest
from quick import Connection, Gone, Receiver, Sender
from tidemq import Server

LONG = bool(os.environ.get("TIDEMQ_LONG"))
KILLS = int(os.environ.get("TIDEMQ_LEDGER_KILLS", "400" if LONG else "40"))
SEED = int(os.environ.get("TIDEMQ_LEDGER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PUBLISHERS, WINDOW = 4, 12
DRAIN_S = 60


class Ledger:
    """What was published, acknowledged and delivered."""

    def __init__(self, server, seed):
        self.server = server
        self.seed = seed
        self.stopping = threading.Event()  # publishers send nothing new
        self.done = threading.Event()  # everybody goes home
        self.up = threading.Event()  # the server takes connections
        self.faults = []
        self.last_delivery = time.monotonic()

    def connect(self, client_id, known):
        """Connects as soon as the server is there; None when the test is over."""
        while not self.done.is_set():
            if not self.up.wait(0.5):
                continue
            try:
                connection = Connection((self.server.host, self.server.port), client_id)
            except Gone:
                continue
            if known and not connection.session_present:
                self.faults.append(f"{client_id}: its session is gone")
            return connection
        return None


class Member(threading.Thread):
    """A client that connects again and again."""

    def __init__(self, ledger, name):
        super().__init__(name=name, daemon=True)
        self.ledger = ledger
        self.random = random.Random(f"{ledger.seed} {name}")
        self.known = False

    def run(self):
        try:
            while not self.ledger.done.is_set():
                connection = self.ledger.connect(self.name, self.known)
                if connection is None:
                    return
                try:
                    self.serve(connection)
                except Gone:
                    pass
                finally:
                    connection.close()
        except Exception as err:  # a fault of the test must not pass for silence
            self.ledger.faults.append(f"{self.name}: {err!r}")
            raise

    def serve(self, connection):
        """Lives on one connection; may leave when it likes."""
        raise NotImplementedError


class Publisher(Member):
    """Sends messages of both QoS; the payload names publisher, QoS and number."""

    def __init__(self, ledger, number):
        super().__init__(ledger, f"publisher{number}")
        self.number = number
        self.sender = Sender(WINDOW)
        self.counts = {1: 0, 2: 0}
        self.finished = threading.Event()

    def serve(self, connection):
        self.known = True
        self.sender.resume(connection)
        leave_after = self.random.randrange(50, 2000)
        while not self.ledger.done.is_set():
            while self.sender.room and not self.ledger.stopping.is_set():
                qos = self.random.choice((1, 2))
                count = self.counts[qos]
                self.counts[qos] += 1
                payload = f"{self.number} {qos} {count} ".encode()
                payload += bytes(self.random.choice((0, 10, 300, 3000)))
                self.sender.publish(connection, f"ledger/{self.number}", payload, qos)
                leave_after -= 1
            if self.ledger.stopping.is_set() and not self.sender.open:
                self.finished.set()
            found = connection.receive(0.5)
            if found:
                self.sender.handle(connection, found[0], found[2])
            if leave_after <= 0 and not self.ledger.stopping.is_set():
                return


class Subscriber(Member):
    """Notes what arrives; members of a shared group note it in one list."""

    def __init__(self, ledger, name, topic_filter, qos, deliveries=None):
        super().__init__(ledger, name)
        self.filter, self.qos = topic_filter, qos
        self.deliveries = [] if deliveries is None else deliveries
        self.receiver = Receiver(self.note)
        self.subscribed = threading.Event()

    def note(self, _topic, payload, qos):
        """One delivery."""
        publisher, published_qos, count = payload.split(b" ", 3)[:3]
        self.deliveries.append((int(publisher), int(published_qos), int(count)))
        self.ledger.last_delivery = time.monotonic()
        if qos != min(int(published_qos), self.qos):
            self.ledger.faults.append(f"{self.name}: QoS {qos} for {payload[:20]!r}")

    def serve(self, connection):
        if not self.known:
            connection.subscribe(self.filter, self.qos)
            self.known = True
            self.subscribed.set()
        leave_after = self.random.randrange(100, 5000)
        while not self.ledger.done.is_set():
            found = connection.receive(0.5)
            if found:
                self.receiver.handle(connection, *found)
                leave_after -= 1
            if leave_after <= 0 and not self.ledger.stopping.is_set():
                return


def check(ledger, publishers, subscribers):
    """Compares; returns the numbers for the last line."""
    acknowledged, sent = set(), set()
    for publisher in publishers:
        for payload in publisher.sender.acknowledged:
            acknowledged.add(tuple(int(word) for word in payload.split(b" ", 3)[:3]))
        for qos, count in publisher.counts.items():
            sent |= {(publisher.number, qos, n) for n in range(count)}
    repeats = 0
    for subscriber in subscribers:
        counted = Counter(subscriber.deliveries)
        lost = sorted(acknowledged - set(counted))
        assert not lost, f"delivered: {subscriber.name} lacks {len(lost)}, first {lost[:5]}"
        strange = sorted(set(counted) - sent)
        assert not strange, f"nothing else: {subscriber.name} has {strange[:5]}"
        if subscriber.qos == 2:
            twice = sorted(row for row, n in counted.items() if n > 1 and row[1] == 2)
            assert not twice, f"exactly once: {subscriber.name} has {len(twice)} twice, {twice[:5]}"
        repeats += sum(counted.values()) - len(counted)
        last = {}
        for publisher, qos, count in dict.fromkeys(subscriber.deliveries):
            if subscriber.filter.startswith("$share"):
                break  # members of a group overtake each other
            before = last.get((publisher, qos), -1)
            assert count > before, (
                f"in order: {subscriber.name} got {publisher} {qos} {count} after {before}")
            last[publisher, qos] = count
    assert not ledger.faults, ledger.faults[:5]
    return len(sent), len(acknowledged), repeats


def wait_for(condition, ledger, what):
    """Waits as long as deliveries go on, and DRAIN_S more."""
    while not condition():
        assert time.monotonic() < ledger.last_delivery + DRAIN_S, (
            f"{what}: nothing has moved for {DRAIN_S} s; {ledger.faults[:5]}")
        time.sleep(0.05)


@pytest.fixture(name="server")
def fixture_server(tmp_path):
    """Small segments and frequent checkpoints, so that kills hit them too."""
    server = Server(tmp_path / "server", {
        "store.segment_size": "1MiB", "store.checkpoint_interval": "300ms",
        "store.seal_entries": 2000, "store.tail_bytes": "1MiB"})
    yield server
    server.kill()
    server.check()


def test_ledger(server):
    """See the top of this file."""
    print(f"\nTIDEMQ_LEDGER_SEED={SEED} TIDEMQ_LEDGER_KILLS={KILLS}")
    rng = random.Random(SEED)
    ledger = Ledger(server, SEED)
    server.start()
    ledger.up.set()
    group = []
    subscribers = [
        Subscriber(ledger, "twos", "ledger/#", 2),
        Subscriber(ledger, "ones", "ledger/+", 1),
        Subscriber(ledger, "member1", "$share/group/ledger/#", 1, group),
        Subscriber(ledger, "member2", "$share/group/ledger/#", 1, group),
    ]
    for subscriber in subscribers:
        subscriber.start()
        assert subscriber.subscribed.wait(20)
    publishers = [Publisher(ledger, number) for number in range(PUBLISHERS)]
    for publisher in publishers:
        publisher.start()
    for _ in range(KILLS):
        time.sleep(rng.choice((0.02, 0.2, 0.7, 1.5)) * rng.random())  # the moment of the kill
        ledger.up.clear()
        server.kill()
        server.start()
        ledger.up.set()
    ledger.stopping.set()
    ledger.last_delivery = time.monotonic()
    wait_for(lambda: all(p.finished.is_set() for p in publishers), ledger, "the publishers' end")
    acknowledged = {tuple(int(w) for w in payload.split(b" ", 3)[:3])
                    for p in publishers for payload in p.sender.acknowledged}
    try:
        wait_for(lambda: all(len(set(s.deliveries) & acknowledged) == len(acknowledged)
                             for s in subscribers), ledger, "the last deliveries")
    except AssertionError:
        pass  # check() says what is missing
    # A duplicate on its way would arrive before this: everything sent so far has been answered.
    for subscriber in subscribers:
        count = -1
        while count != len(subscriber.deliveries):
            count = len(subscriber.deliveries)
            time.sleep(0.3)
    ledger.done.set()
    for member in publishers + subscribers:
        member.join(20)
    sent, known, repeats = check(ledger, publishers, subscribers)
    assert known > KILLS * 10, "too little was published to mean anything"
    print(f"{sent} sent, {known} acknowledged, {repeats} repeated at QoS 1, {KILLS} kills")
