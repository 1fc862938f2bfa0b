"""Subscribers of a torture run: fixed ones, whose subscriptions stay for the whole run, and those
whose sessions and subscriptions come and go."""

import time

import mqtt
from clients import KEPT_S, Client
from ledger import Register, View

HELD_SIZE = 16
EARLY_S, LATE_S = 0.5, 5  # how far from its expiry a session may be gone, and must be


def split(payload):
    """(stream, number) of a message."""
    stream, number, _ = payload.split(b" ", 2)
    return stream, int(number)


class Subscriber(Client):
    """Receives and acknowledges; a message at QoS 2 counts when its packet ID is not held yet."""

    def __init__(self, world, name, version):
        super().__init__(world, name, version)
        self.held = {}  # packet ID: the start of the message whose release is awaited
        self.leave_at = 0

    def begin(self):
        super().begin()
        self.leave_at = self.random.randrange(50, 4000)

    def new_session(self):
        self.held.clear()

    def handle(self, kind, flags, body):
        if kind == mqtt.PUBLISH:
            self.on_publish(flags, body)
        elif kind == mqtt.PUBREL:
            packet_id = body[0] << 8 | body[1]
            self.held.pop(packet_id, None)
            self.conn.send(mqtt.answer(mqtt.PUBCOMP, packet_id))
        else:
            self.on_answer(kind, body)

    def on_publish(self, flags, body):
        """A message."""
        topic, payload, qos, packet_id = mqtt.parse_publish(self.version, flags, body)
        start = payload[:HELD_SIZE]
        if qos < 2 or packet_id not in self.held:
            self.note(topic, payload, qos)
        elif self.held[packet_id] != start:
            self.ledger.fault(f"{self.name}: packet ID {packet_id} brings {start!r}, but it has not "
                              f"been released for {self.held[packet_id]!r}")
        if qos == 1:
            self.conn.send(mqtt.answer(mqtt.PUBACK, packet_id))
        elif qos == 2:
            self.held[packet_id] = start
            self.conn.send(mqtt.answer(mqtt.PUBREC, packet_id))
        self.leave_at -= 1
        if self.leave_at == 0 and not self.world.draining:
            self.leave_at = self.random.randrange(50, 4000)
            self.leave()
        elif self.leave_at % 64 == 0 and self.random.random() < 0.2:
            self.conn.held_until = time.monotonic() + 0.05  # acknowledges late for once

    def note(self, topic, payload, qos):
        """A message that counts."""
        raise NotImplementedError

    def expected(self):
        """What the server must say of the session after a recovery: {filter: {QoS, ...}}, with
        "absent" when it may be gone. None: anything."""
        raise NotImplementedError

    def must_be_gone(self):
        """Whether there may be no session of it any more."""
        return False

    def on_answer(self, kind, body):
        """SUBACK or UNSUBACK."""

    def body_of(self, packet_id, kind, body):
        """The reason code of an answer with one of them."""
        if body[0] << 8 | body[1] != packet_id:
            self.ledger.fault(f"{self.name}: packet {kind} for ID {body[0] << 8 | body[1]}")
        return body[-1]


class Fixed(Subscriber):
    """Subscribes once, at the beginning of the run, and must then miss nothing."""

    def __init__(self, world, name, version, filters, view):
        super().__init__(world, name, version)
        self.filters, self.view = filters, view  # [(filter, QoS)]
        self.answered = 0

    def begin(self):
        super().begin()
        if self.ready and not self.world.draining and self.random.random() < 0.3:
            self.loop.clear(self.connect)  # away for this life

    @property
    def ready(self):
        """All subscriptions are acknowledged."""
        return self.answered == len(self.filters)

    def opened(self):
        self.subscribe_next()

    def subscribe_next(self):
        """Asks for the next subscription that is not acknowledged."""
        if not self.ready:
            topic_filter, qos = self.filters[self.answered]
            self.conn.send(mqtt.subscribe_packet(self.version, self.answered + 1, topic_filter, qos))

    def on_answer(self, kind, body):
        code = self.body_of(self.answered + 1, kind, body)
        if code != self.filters[self.answered][1]:
            self.ledger.fault(f"{self.name}: SUBACK {code:#x}")
        self.known = True
        self.answered += 1
        self.subscribe_next()
        if self.ready:
            self.world.on_fixed_ready()

    def note(self, topic, payload, qos):
        self.view.deliver(*split(payload), qos)

    def expected(self):
        return {topic_filter: {qos} for topic_filter, qos in self.filters} if self.ready else None

    def is_done(self):
        return self.is_open and self.ready and not self.view.owed()


class WillWatcher(Fixed):
    """Counts wills."""

    def note(self, topic, payload, qos):
        serial, will_qos = (int(word) for word in payload.split())
        fate = self.world.wills.get(serial)
        if fate is None or topic != "w/x":
            self.ledger.fault(f"{self.name}: a will that nobody made: {topic} {payload[:40]!r}")
            return
        fate["seen"] += 1
        if qos != will_qos:
            self.ledger.fault(f"{self.name}: will {serial} at QoS {qos}")
        if fate["seen"] > 1 and qos == 2:
            self.ledger.fault(f"{self.name}: will {serial} twice at QoS 2")

    def is_done(self):
        return self.is_open and self.ready and not self.world.wills_owed()


class Visitor(Subscriber):
    """Without a session: subscribes, and is owed what is sent while it is connected."""

    expiry_s = 0

    def __init__(self, world, name, version):
        super().__init__(world, name, version)
        self.view, self.qos = None, 0

    def begin(self):
        super().begin()
        self.leave_at = self.random.randrange(20, 600)

    def wants_clean_start(self):
        return True

    def opened(self):
        self.qos = self.random.randrange(3)
        self.conn.send(mqtt.subscribe_packet(self.version, 1, "t/#", self.qos))

    def on_answer(self, kind, body):
        if self.body_of(1, kind, body) != self.qos:
            self.ledger.fault(f"{self.name}: SUBACK {body.hex()}")
        qos = self.qos
        self.view = View(self.ledger, self.name, lambda topic: qos, self.ledger.floor())

    def offline(self):
        self.view = None

    def note(self, topic, payload, qos):
        if self.view:
            self.view.deliver(*split(payload), qos)

    def expected(self):
        """After a recovery there is no session of it."""
        return {"absent": True}

    def must_be_gone(self):
        """Its session ends with its connection."""
        return self.conn is None

    def is_done(self):
        return self.is_open and self.view and not self.view.owed()


class GroupVisitor(Visitor):
    """A member of a shared group that comes and goes without a session."""

    def __init__(self, world, name, version, topic_filter, view):
        super().__init__(world, name, version)
        self.filter, self.group = topic_filter, view

    def opened(self):
        self.conn.send(mqtt.subscribe_packet(self.version, 1, self.filter, self.group.granted))

    def on_answer(self, kind, body):
        if self.body_of(1, kind, body) != self.group.granted:
            self.ledger.fault(f"{self.name}: SUBACK {body.hex()}")

    def note(self, topic, payload, qos):
        self.group.deliver(*split(payload), qos)

    def connect(self):
        if not self.world.draining:
            super().connect()

    def is_done(self):
        return True


class Changing(Subscriber):
    """A session whose subscriptions change all the time, which is given up by clean starts, and
    which expires when it may.

    Its filters do not overlap. registers: the QoS of each filter, None: not subscribed."""

    def __init__(self, world, name, version, expiry_s):
        super().__init__(world, name, version)
        self.expiry_s = expiry_s if version == 5 else KEPT_S
        self.filters = [f"t/{number}/#" for number in range(world.publisher_count)]
        self.registers = {topic_filter: Register() for topic_filter in self.filters}
        self.views = {}
        self.queued = set()  # filters that had QoS 1 or 2: lowered to 0, they may read on in a queue
        self.pending = None  # (packet ID, filter, QoS or None)
        self.packet_id = 0
        self.away_since = time.monotonic()

    def begin(self):
        super().begin()
        self.pending = None
        if not self.world.draining and self.random.random() < 0.25:
            self.loop.clear(self.connect)

    def wants_clean_start(self):
        wants = (self.version == 5 and not self.world.draining and self.random.random() < 0.15)
        if wants:
            # At once, not with CONNACK: that may be lost, and the next connection then finds the
            # new session present. [MQTT5-3.1.2-4]
            self.known = False
            self.held.clear()
            self.views.clear()
            for register in self.registers.values():
                register.write(None)
        return wants

    def may_be_gone(self):
        return time.monotonic() - self.away_since > self.expiry_s - EARLY_S

    def must_be_gone(self):
        """Expired in this very life of the server."""
        away = time.monotonic() - max(self.touched, self.world.life_began)
        return self.conn is None and away > self.expiry_s + LATE_S

    def offline(self):
        self.away_since = time.monotonic()
        self.pending = None

    def new_session(self):
        super().new_session()
        self.views.clear()
        self.queued.clear()
        self.registers = {topic_filter: Register() for topic_filter in self.filters}

    def opened(self):
        self.pending = None
        self.loop.later(self.random.random() * 0.04, self.change)

    def change(self):
        """Makes one change, when none is under way; then another a little later."""
        if not self.is_open:
            return
        if self.pending is None and not self.world.draining:
            if self.random.random() < 0.08:
                self.leave()
                return
            topic_filter = self.random.choice(self.filters)
            removes = self.random.random() < 0.35
            self.ask(topic_filter, None if removes else self.random.randrange(3))
        self.loop.later(0.005 + self.random.random() * 0.05, self.change)

    def ask(self, topic_filter, qos):
        """SUBSCRIBE, or UNSUBSCRIBE without a QoS."""
        self.packet_id = self.packet_id % 1000 + 1
        self.pending = (self.packet_id, topic_filter, qos)
        self.registers[topic_filter].write(qos)
        self.views.pop(topic_filter, None)
        if qos is None:
            self.conn.send(mqtt.unsubscribe_packet(self.version, self.packet_id, topic_filter))
        else:
            self.conn.send(mqtt.subscribe_packet(self.version, self.packet_id, topic_filter, qos))

    def on_answer(self, kind, body):
        packet_id, topic_filter, qos = self.pending
        self.pending = None
        code = self.body_of(packet_id, kind, body)
        if qos is not None and code != qos or qos is None and len(body) > 2 and code >= 0x80:
            self.ledger.fault(f"{self.name}: answer {body.hex()}")
        self.known |= qos is not None  # an UNSUBACK may have had nothing to write
        self.registers[topic_filter].settle(qos)
        if qos:
            self.queued.add(topic_filter)
        if qos is not None:
            self.views[topic_filter] = View(
                self.ledger, f"{self.name} {topic_filter}",
                lambda topic: qos if topic.startswith(topic_filter[:-1]) else None,
                self.ledger.floor(), qos == 0 and topic_filter in self.queued)

    def note(self, topic, payload, qos):
        view = self.views.get(f"{topic[:topic.index('/', 2)]}/#")
        if view:
            view.deliver(*split(payload), qos)

    def expected(self):
        """What the server may say: {filter: {QoS or None, ...}}, and whether it may be absent."""
        rows = {topic_filter: set(register.values)
                for topic_filter, register in self.registers.items()}
        if self.known and not self.may_be_gone() and not self.clean_start:
            return rows
        return {**rows, "absent": True}

    def observe(self, found):
        """What the server said of it after a recovery: {filter: QoS}, None: no session."""
        for topic_filter, register in self.registers.items():
            value = found.get(topic_filter) if found is not None else None
            register.values = [value]

    def is_done(self):
        return self.is_open and not any(view.owed() for view in self.views.values())
