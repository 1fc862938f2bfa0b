"""One run: a data directory, a configuration, clients, and a plan of lives that all end by SIGKILL;
then one life that ends in order, in which everything owed must arrive."""

import http.client
import random
import time
from collections import Counter

import mqtt
import points
from clients import (KEPT_S, SENTINEL, Forgetful, Publisher, RetainedWriter, Sentinel,
                     WillClient)
from ledger import Fault, GroupView, Ledger, Register, View
from server import Server
from subscribers import Changing, Fixed, GroupVisitor, Visitor, WillWatcher

DRAIN_QUIET_S = 20  # nothing has moved for so long: what is still owed is lost
RETAINED_S = 20
GONE = (OSError, http.client.HTTPException)


def choose_config(rng, has_retention):
    """Small files and frequent checkpoints; in every other run little room."""
    return {
        "topics.auto_create": "true",
        "threads.loops": rng.choice((1, 1, 2, 3)),
        "store.segment_size": "1MiB" if has_retention else rng.choice(("1MiB", "2MiB")),
        "store.pool_segments": rng.choice((0, 1, 1, 2)),
        "store.checkpoint_interval": rng.choice(("100ms", "200ms", "500ms")),
        "store.seal_entries": rng.choice((1000, 1000, 2500)) if has_retention else 1000,
        "store.tail_bytes": "1MiB",
        "retention.bytes": rng.choice(("4MiB", "6MiB", "8MiB")) if has_retention else "1GiB",
        "topics.qos0_log": rng.choice(("true", "false")),
        "limits.max_inflight": rng.choice((16, 100, 1024)),
        "sessions.restart_grace": "100ms",
        "sys.interval": "0",
        "log.level": "info",
    }


class Checker:
    """Looks at all retained messages at once, with a connection of its own."""

    def __init__(self, world):
        self.world, self.found, self.faults = world, {}, []
        self.is_gone = self.is_over = False
        self.conn = mqtt.Connection(world.loop, world.address, self, 4)
        self.conn.send(mqtt.connect_packet(4, "checker", True))
        self.conn.send(mqtt.subscribe_packet(4, 1, "r/#", 1))

    def on_gone(self, _connection):
        """The server has died."""
        self.is_gone = True

    def on_packet(self, connection, kind, flags, body):
        """A retained message, or the last answer."""
        if kind == mqtt.PUBLISH:
            topic, payload, qos, packet_id = mqtt.parse_publish(4, flags, body)
            if qos:
                connection.send(mqtt.answer(mqtt.PUBACK, packet_id))
            if topic in self.found or not flags & 1:
                self.faults.append(f"{topic} came twice, or without RETAIN")
            self.found[topic] = payload
            if topic == SENTINEL:
                connection.send(mqtt.packet(mqtt.PINGREQ << 4, b""))
        elif kind == mqtt.PINGRESP:
            self.is_over = True


class Run:
    """See the top of this file. What the clients share is here: `world` to them."""

    publisher_count = 4

    def __init__(self, seed, number, folder, cycles, moments, wanted=()):
        self.seed, self.run = seed, number
        self.random = random.Random(f"{seed} {number} run")
        self.has_retention = number % 2 == 1
        self.config = choose_config(self.random, self.has_retention)
        self.sizes = (0, 300, 3000, 9000) if self.has_retention else (0, 10, 300, 3000)
        self.filler = bytes(self.random.randrange(97, 123) for _ in range(16)) * 1024
        self.plan = points.Planner(seed, number, self.has_retention, moments, wanted).plan(cycles)
        self.server = Server(folder, self.config)
        self.loop, self.ledger = mqtt.Loop(), Ledger(self.has_retention)
        self.address, self.life_began, self.draining = None, 0.0, False
        self.retained = {}
        self.wills, self.others_began = {}, False
        self.hits, self.misses, self.kills, self.lives = Counter(), Counter(), 0, 0
        self.make_clients()

    # --- clients --------------------------------------------------------------------------------

    def make_clients(self):
        """All that live as long as the run."""
        def version():
            return self.random.choice((4, 5))

        ledger = self.ledger
        one, two = GroupView(ledger, "group one", 1), GroupView(ledger, "group two", 2)

        def wide(name, qos):
            return Fixed(self, name, version(), [("t/#", qos)],
                         View(ledger, name, lambda topic: qos))

        def overlap(topic):
            return 2 if topic.startswith("t/0/") or topic.endswith("/1") else 1

        self.fixed = [
            wide("zeros", 0), wide("ones", 1), wide("twos", 2),
            Fixed(self, "overlap", version(), [("t/#", 1), ("t/0/+", 2), ("t/+/1", 2)],
                  View(ledger, "overlap", overlap)),
            *(Fixed(self, f"one{n}", version(), [("$share/one/t/#", 1)], one) for n in range(2)),
            *(Fixed(self, f"two{n}", version(), [("$share/two/t/#", 2)], two) for n in range(2)),
            WillWatcher(self, "wills", version(), [("w/#", 2)], None),
        ]
        self.changing = [Changing(self, f"changing{n}", version(), expiry_s)
                         for n, expiry_s in enumerate((KEPT_S, KEPT_S, 1))]
        self.visitors = [Visitor(self, f"visitor{n}", version()) for n in range(2)]
        self.visitors.append(GroupVisitor(self, "visitor2", version(), "$share/one/t/#", one))
        kinds = [Publisher] * (self.publisher_count - 1) + [Forgetful]
        self.publishers = [kind(self, n, version()) for n, kind in enumerate(kinds)]
        self.writers = [RetainedWriter(self, n, version()) for n in range(2)]
        self.sentinel = Sentinel(self, "sentinel", version())
        self.retained = {f"r/{n}/{index}": Register(b"") for n in range(2)
                         for index in range(RetainedWriter.topics)}
        self.groups = [one, two]

    def everybody(self):
        """All clients that come back in each life."""
        return [*self.fixed, *self.changing, *self.visitors, *self.publishers, *self.writers,
                self.sentinel]

    def begin_clients(self):
        """A life begins for all of them; publishers wait until all fixed subscriptions are made."""
        for client in (*self.fixed, self.sentinel):
            client.begin()
        self.others_began = False
        self.on_fixed_ready()

    def on_fixed_ready(self):
        """A fixed subscriber is complete: the rest begins after the last of them."""
        if self.others_began or not all(client.ready for client in self.fixed):
            return
        self.others_began = True
        for client in (*self.changing, *self.visitors, *self.publishers, *self.writers):
            client.begin()
        if not self.draining:
            rng = random.Random(f"{self.seed} {self.run} {self.ledger.cycle} wills")
            for _ in range(rng.randrange(3)):
                client = WillClient(self, len(self.wills), rng.choice((4, 5)), rng.choice((1, 2)),
                                    rng.choice(("stay", "drop", "disconnect")))
                client.begin()

    def wills_owed(self):
        """Wills whose clients are gone without a word, and which have not come."""
        return [serial for serial, fate in self.wills.items()
                if fate["state"] == "sure" and not fate["seen"]
                and not self.ledger.excused(fate["cycle"])]

    # --- judging what is recovered --------------------------------------------------------------

    def check_sessions(self):
        """Sessions and subscriptions are as last acknowledged."""
        for client in (*self.fixed, *self.changing, *self.visitors):
            must_be_gone = client.must_be_gone()  # before it is asked, and what may be, after
            document = self.server.ask(f"/v1/clients/{client.name}")
            expected = client.expected()
            if expected is None:
                continue
            found = document and {row["filter"]: row["qos"] for row in document["subscriptions"]}
            may_be_gone = expected.pop("absent", False)
            if document is None:
                if not may_be_gone:
                    self.ledger.fault(f"{client.name}: its session is gone after a recovery")
            elif must_be_gone:
                self.ledger.fault(f"{client.name}: its session is there and should be gone: {found}")
            else:
                for topic_filter in {*expected, *found}:
                    allowed = expected.get(topic_filter, {None})
                    if found.get(topic_filter) not in allowed:
                        self.ledger.fault(f"{client.name}: subscription {topic_filter} is "
                                          f"{found.get(topic_filter)}, not one of {allowed}")
            if isinstance(client, Changing):
                client.observe(found)

    def check_retained(self):
        """What is retained is as last acknowledged."""
        checker = Checker(self)
        deadline = time.monotonic() + RETAINED_S
        while not (checker.is_over or checker.is_gone) and time.monotonic() < deadline:
            self.loop.turn(min(deadline, time.monotonic() + 1))
        checker.conn.close()
        if checker.is_gone:
            return
        for what in checker.faults:
            self.ledger.fault(f"retained: {what}")
        if SENTINEL not in checker.found:
            self.ledger.fault(f"retained: {SENTINEL} is missing; {len(checker.found)} came")
        for topic, register in self.retained.items():
            value = checker.found.get(topic, b"")
            writer = self.writers[int(topic.split("/")[1])]
            before = register.values
            if not register.observe(value, writer.resent(topic)):
                self.ledger.fault(f"retained: {topic} is {value[:30]!r}, not one of "
                                  f"{[one[:30] for one in before]}")

    def report(self):
        """(first_position, head_position) as the server has them."""
        row = self.server.ask("/v1/store")
        return row["first_position"], row["head_position"]

    def look(self, cycle, check):
        """After a recovery, before anybody connects. Returns whether the server lives."""
        report = None
        try:
            report = self.report()
            self.ledger.begin_cycle(cycle, report)
            if check:
                self.check_sessions()
        except GONE:
            if report is None:
                self.ledger.begin_cycle(cycle, None)
            return False
        if check and self.sentinel.is_set:
            self.check_retained()
        return self.server.is_alive()

    # --- lives ----------------------------------------------------------------------------------

    def start(self, point=None):
        """Starts the server. Returns whether it got ready."""
        if not self.server.start(point):
            return False
        self.address, self.life_began = self.server.address, time.monotonic()
        return True

    def count(self, point, hit):
        """A kill."""
        self.kills += 1
        if point:
            (self.hits if hit else self.misses)[f"{point.name} {point.moment}"] += 1

    def fail_on_fault(self):
        """Ends the run at the first broken promise."""
        if self.ledger.faults:
            raise Fault("; ".join(self.ledger.faults[:5]))

    def end_life(self):
        """The process is dead: everybody reads what had still come."""
        self.address = None
        for connection in self.loop.connections():
            connection.end()
        self.loop.clear()
        self.loop.dirty.clear()
        for client in self.everybody():
            client.old = None
        self.fail_on_fault()

    def serve(self, cycle):
        """Lets the clients live until the plan's end of this life."""
        deadline = self.life_began + cycle.after_s
        self.begin_clients()
        while self.server.is_alive() and not self.ledger.faults:
            now = time.monotonic()
            if now >= deadline:
                return
            self.loop.turn(min(deadline, now + 0.05))

    def cycle(self, cycle):
        """The starts that are killed, then one life."""
        for point in cycle.starts:
            if isinstance(point, float):
                self.server.start(kill_after_s=point)
                self.count(None, False)
            elif self.server.start(point):
                self.count(point, self.server.kill(point))
            else:
                self.count(point, True)
        self.lives += 1
        if not self.start(cycle.point):
            self.count(cycle.point, True)
            self.ledger.begin_cycle(cycle.number, None)
            return
        if self.look(cycle.number, cycle.check):
            self.serve(cycle)
        self.count(cycle.point, self.server.kill(cycle.point))
        self.end_life()

    # --- the end --------------------------------------------------------------------------------

    def drain(self):
        """One life without a kill: everything owed arrives, nothing twice; an orderly stop."""
        self.draining = True
        if not self.start() or not self.look(len(self.plan), check=True):
            raise Fault(f"the server has died by itself: {self.server.tail()}")
        self.begin_clients()
        self.wait_for(self.all_done, "what is owed")
        for _ in range(2):
            clients = [client for client in self.everybody() if client.is_open]
            for client in clients:
                client.ping()
            self.wait_for(lambda: not any(c.pongs_wanted > 0 for c in clients), "the last answers")
        self.expire()
        for client in self.everybody():
            client.drop()
        self.loop.clear()
        self.server.stop()
        self.server.check_store()
        if not self.start() or not self.look(len(self.plan) + 1, check=True):
            raise Fault(f"the server has died by itself: {self.server.tail()}")
        self.server.stop()
        self.server.check_log()
        self.fail_on_fault()

    def wait_for(self, condition, what):
        """Serves the clients until it holds; gives up when nothing has moved for long."""
        counts, moved = None, time.monotonic()
        while not condition():
            if counts != self.ledger.counts:
                counts, moved = dict(self.ledger.counts), time.monotonic()
            if time.monotonic() > moved + DRAIN_QUIET_S:
                self.settle()
                self.fail_on_fault()
                raise Fault(f"{what} does not come within {DRAIN_QUIET_S} s: {self.not_done()}")
            if not self.server.is_alive():
                raise Fault(f"the server has died by itself: {self.server.tail()}")
            self.loop.turn(time.monotonic() + 0.05)
            if self.has_retention:
                self.ledger.judge(self.report()[0])
            self.fail_on_fault()

    def not_done(self):
        """Names of clients and groups that lack something."""
        return ([client.name for client in self.everybody() if not client.is_done()]
                + [view.name for view in self.groups if view.owed()])

    def all_done(self):
        """Everybody has what is owed."""
        return self.others_began and not self.not_done()

    def settle(self):
        """What is still owed is missing."""
        views = [*self.groups, *(client.view for client in (*self.fixed, *self.visitors)
                                 if isinstance(client.view, View))]
        views += [view for client in self.changing for view in client.views.values()]
        for view in views:
            view.settle()
        for serial in self.wills_owed():
            self.ledger.fault(f"will {serial} has not come: {self.wills[serial]}")
        self.ledger.judge(self.report()[0])

    def expire(self):
        """A session that is away for longer than it may be is gone."""
        client = self.changing[-1]
        if client.expiry_s == KEPT_S:
            return
        client.drop()
        while self.server.ask(f"/v1/clients/{client.name}") is not None:
            if client.must_be_gone():
                raise Fault(f"{client.name}: has not expired")
            self.loop.turn(time.monotonic() + 0.05)
        if not client.may_be_gone():
            raise Fault(f"{client.name}: has expired too early")

    def execute(self):
        """The whole run. Raises Fault."""
        try:
            for cycle in self.plan:
                self.cycle(cycle)
            self.drain()
        finally:
            self.server.done()
