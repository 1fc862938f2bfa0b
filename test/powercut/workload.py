"""What runs under the recorder: clients of all kinds against one server, chosen by a seed.

mixed   all kinds of clients; small index files, frequent checkpoints, an orderly restart
many    the same for longer with small messages, so that index files are merged
trim    the same with larger messages and so little room that retention trims and copies forward
pages   one publisher whose records are whole pages, so that what an earlier start of the server left
        in a recycled segment lies just where the next record would
"""

import random
from dataclasses import dataclass

from driver import PROMPT, SLOW, Driver
from segments import log_end, record_size
from tidemq import Server, wait_until
from world import ON, expect

WINDOW = 6
RETAINED_TOPICS = 240
PAGE = 4096
SUBSCRIBERS = (("away", "m/#", 2), ("live1", "m/#", 1), ("live2", "m/#", 2),
               ("member1", "$share/group/m/#", 2), ("member2", "$share/group/m/#", 2),
               ("changing", "s/0", 1), ("exact", "m/a", 2), ("exact", "m/b", 2), ("exact", "m/c", 1))
SESSIONS = tuple(dict.fromkeys(name for name, _, _ in SUBSCRIBERS))
AWAY = ("away", "exact", "member2")
PUBLISHERS = ("ones", "twos", "keeper")


@dataclass
class Plan:
    """A kind of recording."""

    name: str
    steps: int
    sizes: tuple
    config: dict
    kept_size: int = 0  # retention keeps at least so many of the last bytes; 0: all

    def server_config(self, **more):
        """The configuration of a server that runs it."""
        return {"store.segment_size": "1MiB", "store.checkpoint_interval": "100ms",
                "store.seal_entries": 1000, "store.tail_bytes": "1MiB", "sys.interval": 0,
                "sessions.restart_grace": 0, "limits.max_inflight": 65535, **self.config, **more}


PLANS = {
    "mixed": Plan("mixed", 1000, (0, 50, 500, 3000), {}),
    "trim": Plan("trim", 2400, (50, 2000, 6000, 12000), {"retention.bytes": "6MiB"}, 600_000),
    "many": Plan("many", 7000, (0, 50), {}),
    "pages": Plan("pages", 120, (), {}),
}


class Run:
    """A workload on a server; events become marks of the recording."""

    def __init__(self, plan, server, world, seed, on_event=None):
        self.plan, self.server = plan, server
        self.rng = random.Random(seed)
        self.driver = Driver((server.host, server.port), world, on_event)
        self.world = world
        self.wills = {}  # clients with a will: its number
        self.will_count = 0

    # --- mixed and trim ---------------------------------------------------------------------------

    def run(self):
        """All of it."""
        if self.plan.name == "pages":
            self.run_pages()
            return
        self.begin()
        for step in range(self.plan.steps):
            self.step()
            if step == self.plan.steps // 2:
                self.restart()
            elif step % (self.plan.steps // 5) == 0:
                self.quiet()
        self.driver.close_all()

    def begin(self):
        """Everybody subscribes; some leave again."""
        for name in SESSIONS:
            self.driver.connect(name, manner=SLOW if name.startswith("live") else PROMPT)
        for name, topic_filter, qos in SUBSCRIBERS:
            self.driver.subscribe(name, topic_filter, qos)
        self.driver.settle(SESSIONS)
        for name in AWAY:
            self.driver.close(name)
        self.connect_publishers()

    def connect_publishers(self):
        """Those with a session, and one without."""
        for name in PUBLISHERS:
            self.driver.connect(name)
        self.driver.connect("zeros", clean=True)

    def size(self):
        """Of a message."""
        return self.rng.choice(self.plan.sizes) + self.rng.randrange(1, 40)

    def step(self):
        """One choice."""
        choices = ((20, self.publish_one), (20, self.publish_two), (12, self.keep), (6, self.change),
                   (3, self.come_with_will), (3, self.go_with_will), (2, self.reconnect),
                   (2, self.publish_zero), (10, self.driver.pump))
        action = self.rng.choices([row[1] for row in choices], [row[0] for row in choices])[0]
        action()
        self.driver.pump()
        if len(self.driver.owed) > 40:
            self.driver.pay(self.rng.randrange(1, 40))

    def wait_for_room(self, name):
        """As the protocol's window demands."""
        self.driver.pump_until(lambda: self.driver.room(name, WINDOW) > 0, "acknowledgement")

    def publish_one(self):
        """QoS 1."""
        self.wait_for_room("ones")
        topic = self.rng.choice(("m/a", "m/b", "s/0", "s/1", "s/2"))
        self.driver.publish("ones", topic, 1, self.size())

    def publish_two(self):
        """QoS 2, the lowest packet ID that is free."""
        self.wait_for_room("twos")
        self.driver.publish("twos", self.rng.choice(("m/a", "m/c")), 2, self.size())

    def publish_zero(self):
        """QoS 0: written behind, without a sync."""
        self.driver.publish("zeros", "z/a", 0, self.size())

    def keep(self):
        """Sets, replaces or clears retained messages: several at once, so that some are always on their
        way when retention copies older ones forward."""
        self.wait_for_room("keeper")
        for topic in self.rng.sample(range(RETAINED_TOPICS), self.driver.room("keeper", WINDOW)):
            size = 0 if self.rng.random() < 0.15 else self.size() % 1000 + 40
            self.driver.publish("keeper", f"r/{topic}", 1, size, retain=True)

    def change(self):
        """Subscribes to a filter or unsubscribes from it."""
        client = self.world.clients["changing"]
        topic_filter = self.rng.choice(("s/1", "s/2"))
        if topic_filter in client.asked.values():
            return
        subscription = client.subscriptions.get(topic_filter)
        if subscription and subscription.state(self.world.now + 1) == ON:
            self.driver.unsubscribe("changing", topic_filter)
        else:
            self.driver.subscribe("changing", topic_filter, 1)

    def come_with_will(self):
        """A client with a will connects."""
        self.will_count += 1
        name = f"will{self.world.now}"
        self.wills[name] = self.driver.connect_with_will(name, "m/will", 1, self.size() + 40)

    def go_with_will(self, died=False):
        """One of them dies, or says good-bye."""
        if not self.wills:
            return
        name = self.rng.choice(sorted(self.wills))
        number = self.wills.pop(name)
        if died or self.rng.random() < 0.7:
            self.driver.close(name)
        else:
            self.driver.leave(name, number)

    def reconnect(self):
        """Somebody's connection breaks, and is made again."""
        name = self.rng.choice(("live1", "live2", "member1", "member2", "ones", "twos", "keeper"))
        if name in self.driver.connections:
            self.driver.close(name)
        self.driver.connect(name, manner=SLOW if name.startswith("live") else PROMPT)
        if name == "member2":
            self.driver.pump(0.005)
            self.driver.close(name)

    def quiet(self):
        """Everything has been answered; then only rows and QoS 0 that nobody waits for. Each round
        ends with a checkpoint, so from the second on there is nothing else in it."""
        self.driver.pay(len(self.driver.owed) // 2)
        self.driver.settle([*PUBLISHERS, "changing"])
        for _ in range(3):
            before = self.checkpoints()
            self.driver.close("live1")
            self.driver.connect("live1", manner=SLOW)  # a row
            self.publish_zero()
            wait_until(lambda: self.checkpoints() > before, what="a checkpoint")
        self.driver.note("idle", "server")

    def checkpoints(self):
        """How many the server has made."""
        return self.server.metrics()["tidemq_store_checkpoints_total"]

    def restart(self):
        """An orderly stop and a start: the next epoch, in the same recording."""
        while self.wills:
            self.go_with_will(died=True)
        self.driver.settle([*PUBLISHERS, "changing"])
        self.driver.close_all()
        self.server.stop()
        self.server.start()
        for name in SESSIONS:
            if name not in AWAY:
                self.driver.connect(name, manner=SLOW if name.startswith("live") else PROMPT)
        self.connect_publishers()

    # --- pages ------------------------------------------------------------------------------------

    def run_pages(self):
        """Bursts of messages whose records are pages, over several segments."""
        self.driver.connect("away")
        self.driver.subscribe("away", "m/#", 2)
        self.driver.settle(["away"])
        self.driver.close("away")
        self.driver.connect("pages", clean=True)
        self.driver.publish("pages", "m/page", 1, 100)  # with the row of its first-level topic
        self.driver.settle(["pages"])
        self.publish_page()
        for _ in range(self.plan.steps):
            for _ in range(self.rng.randrange(4, 17)):
                self.driver.publish("pages", "m/page", 1, self.page_size(PAGE))
            self.driver.settle(["pages"])
        self.driver.close_all()

    def page_size(self, room):
        """The payload that makes a record of so many bytes: without row operations, in the queue of
        "away"."""
        return room - record_size("m/page", "pages", queues=1)

    def publish_page(self):
        """A message whose record ends where a page of the log ends."""
        room = PAGE - log_end(self.server.data_dir / "log") % PAGE
        self.driver.publish("pages", "m/page", 1, self.page_size(room if room > 600 else room + PAGE))
        self.driver.settle(["pages"])

    def continue_pages(self):
        """The same publisher after a cut: single messages, each to the end of a page."""
        self.driver.connect("pages", clean=True)
        self.driver.publish("pages", "m/page", 1, 100)  # with the first rows of this start
        self.driver.settle(["pages"])
        for _ in range(self.rng.randrange(1, 7)):
            self.publish_page()
        self.driver.close("pages")

    # --- after a cut ------------------------------------------------------------------------------

    def go_on(self):
        """What is recorded after a cut, to be cut again."""
        if self.plan.name == "pages":
            self.driver.note("cut", "power")
            self.continue_pages()
        else:
            self.finish()

    def finish(self):
        """Everybody comes back after a cut; fails when something is not as promised."""
        self.driver.note("cut", "power")
        self.check_retained()
        for name in PUBLISHERS:
            if name in self.world.clients:
                self.driver.connect(name)
        self.driver.settle(self.driver.connections)
        self.publish_more()
        self.driver.settle(self.driver.connections)
        for name in filter(self.world.clients.get, SESSIONS):
            self.driver.connect(name, manner=PROMPT)
        self.driver.settle(self.driver.connections)
        self.receive()
        self.driver.close_all()

    def check_retained(self):
        """A new subscriber is sent each retained message; the last one is the checker's own."""
        last = self.world.next_number()
        allowed = self.world.retained_values()
        topic = f"r/~{last:08}"  # behind all others, which the server sends in order
        self.driver.connect("checker", clean=True)
        self.driver.publish("checker", topic, 1, 40, retain=True)
        self.driver.settle(["checker"])
        self.driver.subscribe("checker", "r/#", 1)
        self.driver.pump_until(lambda: topic in self.driver.retained, "retained message")
        found = self.driver.retained
        del found[topic]
        strange = sorted(set(found) - set(allowed))
        expect(not strange, "retained messages are as acknowledged", f"{strange[:5]} are new")
        for topic, values in allowed.items():
            expect(found.get(topic, b"") in values, "retained messages are as acknowledged",
                   f"{topic} has {found.get(topic, b'')[:40]!r}, "
                   f"not one of {[value[:10] for value in values]}")
        self.driver.close("checker")

    def publish_more(self):
        """New messages: with every packet ID that is free, and to every filter that changes."""
        self.driver.connect("prober", clean=True)
        for topic in ("m/last", "s/0", "s/1", "s/2"):
            for qos in (1, 2):
                self.driver.publish("prober", topic, qos, 60)
        for name, qos in (("ones", 1), ("twos", 2)):
            for _ in range(WINDOW if name in self.driver.connections else 0):
                self.driver.publish(name, "m/a", qos, 60)

    def receive(self):
        """Takes what is due, until nothing comes any more, and compares."""
        kept_after = self.world.kept_after(self.plan.kept_size) if self.plan.kept_size else 0
        audiences = self.world.audiences()
        missing = {name: self.world.due(rows, kept_after)[0] for name, (rows, _) in audiences.items()}

        def complete():
            for name, (_, clients) in audiences.items():
                for client in clients.values():
                    missing[name].difference_update(client.delivered)
            return not any(missing.values())

        while not complete() and (self.driver.pump(1.0) or self.answered()):
            pass
        self.driver.ping()
        for name, (subscriptions, clients) in audiences.items():
            self.world.judge(name, subscriptions, clients, kept_after)

    def answered(self):
        """Asks whether there is more, when nothing has come for a while: a machine may be slow. Returns
        how many messages came."""
        before = sum(len(client.delivered) for client in self.world.clients.values())
        self.driver.ping()
        self.driver.pump(0.5)
        return sum(len(client.delivered) for client in self.world.clients.values()) - before


def start_server(folder, plan, data_dir, binary, **options):
    """A server for a run."""
    return Server(folder, plan.server_config(data_dir=data_dir, **options.pop("config", {})),
                  binary=binary, **options)
