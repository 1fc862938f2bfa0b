"""Clients of a torture run: each keeps over its connections and the server's lives what a real one
would keep on its disk, and chooses by a generator of its own, seeded anew for each life."""

import random
import time

import mqtt

SENTINEL = "r/~"  # the last retained topic in order
KEPT_S = 3600  # session expiry of sessions that are to stay
GONE_CHECK_S = 0.5


class Client:
    """A client ID and its session. Subclasses say what to do with a connection."""

    expiry_s = KEPT_S
    will = None

    def __init__(self, world, name, version):
        self.world, self.ledger, self.loop = world, world.ledger, world.loop
        self.name, self.version = name, version
        self.random = None
        self.conn = self.old = None
        self.is_open = False  # CONNACK has come
        self.clean_start = False
        self.touched = time.monotonic()  # when it had a connection last, open or not
        self.known = False  # the server has acknowledged something of this session
        self.pongs_wanted = 0

    # --- connections ----------------------------------------------------------------------------

    def begin(self):
        """A life of the server begins."""
        self.random = random.Random(f"{self.world.seed} {self.world.run} {self.ledger.cycle} "
                                    f"{self.name}")
        self.loop.later(self.random.random() * 0.02, self.connect)

    def connect(self):
        """Connects; a connection there was is taken over."""
        if self.world.address is None:
            return  # the server has just died
        self.old, self.conn = self.conn, mqtt.Connection(
            self.loop, self.world.address, self, self.version)
        self.is_open = False
        self.pongs_wanted = 0
        self.clean_start = self.wants_clean_start()
        self.conn.send(mqtt.connect_packet(self.version, self.name, self.clean_start,
                                           self.expiry_s, self.will))

    def wants_clean_start(self):
        """Whether the next connection gives up the session."""
        return False

    def leave(self):
        """Ends the connection, in one of three ways, and comes back."""
        way = self.random.randrange(3)
        if way == 0:
            self.connect()
            return
        if way == 1:
            self.conn.send(mqtt.packet(mqtt.DISCONNECT << 4, b""))
        self.drop()
        self.loop.later(self.random.random() * 0.05, self.connect)

    def drop(self):
        """Closes what is open; the server sees it some time later."""
        for connection in (self.conn, self.old):
            if connection:
                connection.close()
        self.conn = self.old = None
        self.end()

    def end(self):
        """There is no connection any more."""
        self.touched = time.monotonic()
        was_open, self.is_open = self.is_open, False
        if was_open:
            self.offline()

    def on_gone(self, connection):
        """The server has closed a connection, or is dead."""
        if connection is self.old:
            self.old = None
        if connection is not self.conn:
            return
        self.conn = None
        self.end()
        self.loop.later(GONE_CHECK_S, lambda: self.ledger.fault(
            f"{self.name}: the server has closed the connection and lives on"))

    def on_packet(self, connection, kind, flags, body):
        """Sorts out what belongs to every client."""
        if connection is not self.conn:
            return
        if kind == mqtt.CONNACK:
            if self.old:
                self.old.close()
                self.old = None
            self.on_connack(bool(body[0] & 1), body[1])
        elif kind == mqtt.PINGRESP:
            self.pongs_wanted -= 1
        elif kind == mqtt.DISCONNECT:
            self.ledger.fault(f"{self.name}: the server says DISCONNECT {body.hex()}")
        else:
            self.handle(kind, flags, body)

    def on_connack(self, present, code):
        """The session is open."""
        if code:
            self.ledger.fault(f"{self.name}: CONNACK with {code:#x}")
            return
        if present and self.clean_start:
            self.ledger.fault(f"{self.name}: a session is present after a clean start")
        if self.known and not present and not self.clean_start and not self.may_be_gone():
            self.ledger.fault(f"{self.name}: its session is gone")
        if not present:
            self.known = False
            self.new_session()
        self.is_open = True
        self.opened()

    def may_be_gone(self):
        """Whether the session may have ended by itself."""
        return False

    def ping(self):
        """Asks for an answer behind everything that is on its way."""
        self.pongs_wanted += 1
        self.conn.send(mqtt.packet(mqtt.PINGREQ << 4, b""))

    # --- for subclasses -------------------------------------------------------------------------

    def new_session(self):
        """The server knows nothing of what was before."""

    def opened(self):
        """The session is open."""

    def offline(self):
        """An open connection has ended."""

    def handle(self, kind, flags, body):
        """Any other packet."""

    def is_done(self):
        """At the end of a run: whether it has all it needs."""
        return True


class Sender(Client):
    """Sends messages in a window with few packet IDs, which are used again at once."""

    window = 12

    def __init__(self, world, name, version):
        super().__init__(world, name, version)
        self.open = {}  # packet ID: [message, released], in the order sent
        self.quota = 0  # messages yet to be sent in this life

    def encode(self, message):
        """(topic, payload, qos, retain) of a message."""
        raise NotImplementedError

    def next_message(self):
        """A new message, None: not now."""
        raise NotImplementedError

    def acknowledged(self, message):
        """The server has taken responsibility for it."""
        raise NotImplementedError

    def free_id(self):
        """The lowest packet ID that is free."""
        return next(n for n in range(1, self.window + 1) if n not in self.open)

    def send_message(self, message, packet_id, dup=0):
        """One PUBLISH."""
        topic, payload, qos, retain = self.encode(message)
        self.conn.send(mqtt.publish_packet(self.version, topic, payload, qos, packet_id,
                                           dup | retain))

    def new_session(self):
        """What was released is unknown to the server; the rest it takes for new."""
        self.open = {n: row for n, row in self.open.items() if not row[1]}

    def opened(self):
        for packet_id, (message, released) in list(self.open.items()):
            if released:
                self.conn.send(mqtt.answer(mqtt.PUBREL, packet_id))
            else:
                self.send_message(message, packet_id, dup=8)
        self.fill()

    def fill(self):
        """Sends as much as the window takes."""
        if self.world.draining:
            return
        while self.is_open and self.quota > 0 and len(self.open) < self.window:
            message = self.next_message()
            if message is None:
                return
            self.quota -= 1
            packet_id = 0
            if self.encode(message)[2]:
                packet_id = self.free_id()
                self.open[packet_id] = [message, False]
            self.send_message(message, packet_id)

    def handle(self, kind, flags, body):
        packet_id = body[0] << 8 | body[1]
        row = self.open.get(packet_id)
        if len(body) > 2 and body[2] >= 0x80 and not (kind == mqtt.PUBCOMP and body[2] == 0x92):
            self.ledger.fault(f"{self.name}: reason {body[2]:#x} in packet {kind}")
        if row is None:
            self.ledger.fault(f"{self.name}: packet {kind} for ID {packet_id}, which is not in use")
            return
        self.known = True
        if kind == mqtt.PUBREC:
            if not row[1]:
                row[1] = True
                self.acknowledged(row[0])
            self.conn.send(mqtt.answer(mqtt.PUBREL, packet_id))
            return
        if kind == mqtt.PUBACK:
            self.acknowledged(row[0])
        del self.open[packet_id]
        self.fill()

    def is_done(self):
        return self.is_open and not self.open


class Publisher(Sender):
    """Feeds streams; see ledger.py."""

    topics = 3

    def __init__(self, world, number, version):
        super().__init__(world, f"publisher{number}", version)
        self.number = number
        self.filler = world.filler
        self.leave_at = 0

    def begin(self):
        super().begin()
        self.quota = self.random.choice((30, 200, 600, 1000))
        self.leave_at = self.random.randrange(10, 1500)

    def next_message(self):
        qos = self.random.choice((0, 1, 1, 2, 2))
        stream = f"{self.number}/{self.random.randrange(self.topics)}/{qos}".encode()
        number = self.ledger.new_message(stream)
        size = self.random.choice(self.world.sizes)
        return stream, number, b"%s %d %s" % (stream, number, self.filler[:size])

    def encode(self, message):
        stream, _, payload = message
        return f"t/{stream[:-2].decode()}", payload, stream[-1] - 48, 0

    def acknowledged(self, message):
        self.ledger.acknowledge(*message[:2])

    def fill(self):
        before = self.quota
        super().fill()
        self.leave_at -= before - self.quota
        if self.leave_at <= 0 and not self.world.draining:
            self.leave_at = self.random.randrange(10, 1500)
            if self.is_open:
                self.leave()


class Forgetful(Publisher):
    """A publisher without a session: what was not acknowledged when it left is not sent again."""

    expiry_s = 0

    def wants_clean_start(self):
        return True

    def new_session(self):
        self.open.clear()


class RetainedWriter(Sender):
    """Sets, replaces and clears retained messages of its own topics."""

    window = 6
    topics = 24

    def __init__(self, world, number, version):
        super().__init__(world, f"writer{number}", version)
        self.number, self.counter = number, 0
        self.busy = set()  # topics with a write that is not acknowledged

    def begin(self):
        super().begin()
        self.quota = self.random.choice((10, 60, 200))

    def next_message(self):
        index = min(self.random.randrange(self.topics), self.random.randrange(self.topics))
        topic = f"r/{self.number}/{index}"  # high numbers are written seldom and get old
        if topic in self.busy:
            return None
        qos = self.random.choice((0, 1, 1, 2))
        self.counter += 1
        value = b""
        if self.random.random() < 0.8:
            size = self.random.choice(self.world.sizes)
            value = b"%s %d %s" % (topic.encode(), self.counter, self.world.filler[:size])
        self.world.retained[topic].write(value)
        if qos:
            self.busy.add(topic)
        return topic, value, qos

    def encode(self, message):
        return (*message, 1)

    def acknowledged(self, message):
        topic, value, _ = message
        self.world.retained[topic].settle(value)
        self.busy.discard(topic)

    def resent(self, topic):
        """Writes to that topic which will be sent again."""
        return [message[1] for message, released in self.open.values()
                if message[0] == topic and not released]


class Sentinel(Sender):
    """Sets one retained message, once: whoever asks for all gets it last."""

    is_set = False

    def begin(self):
        super().begin()
        self.quota = 0 if self.is_set or self.open else 1

    def next_message(self):
        return SENTINEL, b"end", 1, 1

    def encode(self, message):
        return message

    def acknowledged(self, message):
        self.is_set = True


class WillClient(Client):
    """Connects once, with a will, and leaves it to the server."""

    def __init__(self, world, serial, version, qos, way):
        super().__init__(world, f"will{serial}", version)
        self.way = way
        self.will = ("w/x", f"{serial} {qos}".encode(), qos)
        self.expiry_s = 1 if serial % 2 else 0
        world.wills[serial] = {"cycle": self.ledger.cycle, "state": "maybe", "qos": qos, "seen": 0}
        self.fate = world.wills[serial]

    def wants_clean_start(self):
        return True

    def connect(self):
        if self.fate["state"] == "maybe" and not self.conn:
            super().connect()

    def opened(self):
        self.fate["state"] = "sure"
        if self.way == "disconnect":
            self.fate["state"] = "left"
            self.leave_for_good(True)
        elif self.way == "drop":
            self.loop.later(self.random.random() * 0.1, lambda: self.leave_for_good(False))

    def leave_for_good(self, with_word):
        """Ends the connection."""
        if self.conn and with_word:
            self.conn.send(mqtt.packet(mqtt.DISCONNECT << 4, b""))
        self.drop()

