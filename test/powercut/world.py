"""What clients have done and been promised, as a list of events, and what follows from it.

Each event is noted before the client acts on it or after it was told: a prefix of the list is what
the clients knew at some moment. So a world made of the events before a power cut is what they come
back with, and what the server must stand by.

Messages are numbered in the order in which they are sent. Their payload can be told from the number.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

OFF, GOING, ON, COMING = range(4)  # of a subscription; GOING and COMING are not acknowledged yet


class Broken(Exception):
    """An assertion failed; `name` says which."""

    def __init__(self, name, detail):
        super().__init__(f"assertion failed: {name}: {detail}")
        self.name = name


def expect(holds, name, detail=""):
    """One assertion."""
    if not holds:
        raise Broken(name, detail)


def payload_of(number, size):
    """The payload of a message: its number, a hash, and something to fill a few sectors."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    head = f"{number} {digest} ".encode()
    return head + bytes([number % 251 + 1]) * max(0, size - len(head))


def number_of(payload):
    """The number in a payload; 0 when there is none."""
    word = payload.split(b" ", 1)[0]
    return int(word) if word.isdigit() and len(word) < 10 else 0


def matches(topic_filter, topic):
    """Whether a filter without '+' matches; the group of a shared one does not count."""
    if topic_filter.startswith("$share/"):
        topic_filter = topic_filter.split("/", 2)[2]
    if topic_filter.endswith("/#"):
        return topic.startswith(topic_filter[:-1])
    return topic == topic_filter


@dataclass
class Message:
    """One PUBLISH or will. `sent`, `acked`: indexes of events; `size` 0 clears a retained one."""

    number: int
    sender: str
    topic: str
    qos: int
    size: int
    retain: bool
    sent: int
    acked: int = None

    @property
    def payload(self):
        """Its bytes."""
        return payload_of(self.number, self.size) if self.size else b""


@dataclass
class Subscription:
    """One filter of one client over time."""

    qos: int
    changes: list = field(default_factory=list)  # (index of the event, state)

    def state(self, index):
        """The state before the event of this index."""
        at = bisect_right(self.changes, (index, OFF - 1))
        return self.changes[at - 1][1] if at else OFF

    def always_on(self, since):
        """Acknowledged before `since`, and nothing changed."""
        return self.state(since) == ON and self.changes[-1][0] < since

    def ever_on(self, since, until):
        """Whether it may have taken a message sent and answered at these events."""
        if self.state(since) != OFF:
            return True
        return any(since <= index <= until and state != OFF for index, state in self.changes)


@dataclass
class Client:
    """What a client keeps over its connections."""

    name: str
    clean: bool = False
    promised: bool = False  # the server has acknowledged something that lies in its session
    out: dict = field(default_factory=dict)  # packet ID: [number, received]
    held: dict = field(default_factory=dict)  # packet ID of QoS 2: number
    subscriptions: dict = field(default_factory=dict)  # filter: Subscription
    asked: dict = field(default_factory=dict)  # packet ID of SUBSCRIBE, UNSUBSCRIBE: filter
    delivered: list = field(default_factory=list)  # numbers


class World:
    """Clients and messages after some events."""

    def __init__(self, events=()):
        self.events = []
        self.messages = {}
        self.clients = {}
        for event in events:
            self.note(*event)

    def note(self, what, name, *rest):
        """One more event."""
        self.events.append((what, name, *rest))
        client = self.clients.get(name)
        if client is None:
            client = self.clients[name] = Client(name)
        getattr(self, "_" + what)(client, *rest)

    @property
    def now(self):
        """The index of the event noted last."""
        return len(self.events) - 1

    def next_number(self):
        """Of the message to be sent next."""
        return len(self.messages) + 1

    # --- connections ------------------------------------------------------------------------------

    def _connect(self, client, clean):
        client.clean = clean
        if clean:
            client.out.clear()
            client.held.clear()
            client.subscriptions.clear()
            client.asked.clear()

    def _fresh(self, client):
        """The server did not know the session."""
        self._connect(client, True)
        client.clean = False

    def _cut(self, _client):
        """The power went; nothing more comes of what a clean session had under way."""
        for client in self.clients.values():
            if client.clean:
                client.out.clear()

    def _idle(self, _client):
        """The server has had nothing to sync for a while."""

    # --- publishing -------------------------------------------------------------------------------

    def _send(self, client, packet_id, number, *fields):
        """PUBLISH; the fields of a Message from topic to retain."""
        message = self.messages[number] = Message(number, client.name, *fields, self.now)
        if message.qos:
            client.out[packet_id] = [number, False]

    def _acked(self, client, packet_id):
        number = client.out[packet_id][0]
        message = self.messages[number]
        message.acked = self.now
        if message.qos == 1:
            del client.out[packet_id]
        else:
            client.out[packet_id][1] = client.promised = True

    def _completed(self, client, packet_id):
        del client.out[packet_id]

    def _will(self, client, number, topic, qos, size):
        """CONNECT with a will."""
        self.messages[number] = Message(number, client.name, topic, qos, size, False, self.now)

    def _willed(self, _client, number):
        """CONNACK: it is promised."""
        self.messages[number].acked = self.now

    def _leave(self, _client, number):
        """DISCONNECT: the will is not to be published, but nobody says so."""
        self.messages[number].acked = None

    # --- subscribing ------------------------------------------------------------------------------

    def _subscribe(self, client, packet_id, topic_filter, qos):
        subscription = client.subscriptions.setdefault(topic_filter, Subscription(qos))
        subscription.changes.append((self.now, COMING))
        client.asked[packet_id] = topic_filter

    def _subscribed(self, client, packet_id):
        subscription = client.subscriptions[client.asked.pop(packet_id)]
        subscription.changes.append((self.now, ON))
        client.promised = True

    def _unsubscribe(self, client, packet_id, topic_filter):
        client.subscriptions[topic_filter].changes.append((self.now, GOING))
        client.asked[packet_id] = topic_filter

    def _unsubscribed(self, client, packet_id):
        client.subscriptions[client.asked.pop(packet_id)].changes.append((self.now, OFF))

    # --- receiving --------------------------------------------------------------------------------

    def _deliver(self, client, number, packet_id):
        """A delivery as MQTT counts it; packet_id 0: not at QoS 2."""
        client.delivered.append(number)
        if packet_id:
            client.held[packet_id] = number

    def _free(self, client, packet_id):
        client.held.pop(packet_id, None)

    # --- what follows -----------------------------------------------------------------------------

    def audiences(self):
        """name: (subscriptions, clients) for each session, and for each shared group."""
        found = {}
        for client in self.clients.values():
            for topic_filter, subscription in client.subscriptions.items():
                group = topic_filter if topic_filter.startswith("$share/") else client.name
                subscriptions, members = found.setdefault(group, ([], {}))
                subscriptions.append((topic_filter, subscription))
                members[client.name] = client
        return found

    def due(self, subscriptions, kept_after=0):
        """(what must have been delivered, what may have been): numbers. Messages up to `kept_after`
        need not be there any more."""
        must, may = set(), set()
        for number, message in self.messages.items():
            until = self.now if message.acked is None else message.acked
            for topic_filter, subscription in subscriptions:
                if not message.qos or not matches(topic_filter, message.topic):
                    continue
                if subscription.ever_on(message.sent, until):
                    may.add(number)
                    if (message.acked is not None and number > kept_after
                            and subscription.always_on(message.sent)):
                        must.add(number)
        return must, may

    def kept_after(self, size):
        """The last message that has so many bytes sent behind it; 0: none."""
        for number in range(len(self.messages), 0, -1):
            size -= self.messages[number].size
            if size <= 0:
                return number - 1
        return 0

    def judge(self, name, subscriptions, clients, kept_after=0):
        """Compares what an audience has received with what it was to receive."""
        must, may = self.due(subscriptions, kept_after)
        delivered = [number for client in clients.values() for number in client.delivered]
        missing = sorted(must - set(delivered))
        expect(not missing, "every acknowledged message is delivered",
               f"{name} lacks {len(missing)} of {len(must)}, first {missing[:5]}")
        strange = sorted(set(delivered) - may)
        expect(not strange, "only what was subscribed to is delivered", f"{name} got {strange[:5]}")
        twice = [number for number, count in Counter(delivered).items()
                 if count > 1 and self._qos(self.messages[number], subscriptions) == 2]
        expect(not twice, "QoS 2 comes once", f"{name} got {twice[:5]} more than once")
        if not name.startswith("$share/"):  # the members of a group overtake each other
            self._judge_order(name, subscriptions, delivered)

    @staticmethod
    def _qos(message, subscriptions):
        """At which a message is delivered."""
        return max(min(message.qos, subscription.qos) for topic_filter, subscription in subscriptions
                   if matches(topic_filter, message.topic))

    def _judge_order(self, name, subscriptions, delivered):
        """A message that was sent before the subscription was there may come when it is sent again,
        behind newer ones."""
        last = {}
        for number in dict.fromkeys(delivered):
            message = self.messages[number]
            if not any(matches(topic_filter, message.topic) and subscription.state(message.sent) == ON
                       for topic_filter, subscription in subscriptions):
                continue
            key = (message.sender, message.topic, message.qos)
            expect(number > last.get(key, 0), "messages come in order",
                   f"{name} got {number} after {last.get(key)} of {key}")
            last[key] = number

    def retained_values(self):
        """topic: the payloads that its retained message may have now; b'' is none at all."""
        values = {}
        for message in self.messages.values():
            if not message.retain:
                continue
            allowed = values.setdefault(message.topic, [b""])
            if message.acked is not None:
                allowed.clear()
            allowed.append(message.payload)
        return values
