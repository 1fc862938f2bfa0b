"""What was sent, acknowledged and delivered, and the judgement of it.

A stream is what one publisher sends to one topic at one QoS; its messages are numbered from 0. The
payload begins with the stream's name and the number: b"0/1/2 57 " is message 57 of publisher 0 to
t/0/1 at QoS 2. Within a stream order is promised, so whatever is missing shows as soon as a later
message arrives.

Under retention the server may give up the oldest part of the log. Then a missing message is
excused only if the server itself says so: its `first_position` lies beyond the `head_position` it
had reported before the message was first sent.
"""


class Fault(Exception):
    """A promise was broken."""


def stream_topic(stream):
    """The topic of a stream."""
    publisher, topic, _ = stream.split(b"/")
    return f"t/{publisher.decode()}/{topic.decode()}"


class Ledger:
    """All streams of a run, and where the log was in each cycle."""

    def __init__(self, has_retention):
        self.has_retention = has_retention
        self.sent = {}  # stream: the cycle in which each message was first sent
        self.acked = {}  # stream: numbers acknowledged
        self.top = {}  # stream: the highest of them
        self.first_position = 0  # as last reported
        self.cycle = 0
        self.heads = []  # by cycle: the log's end before anything was sent in it
        self.suspects = []  # (what, stream, number), to be judged by the next report
        self.counts = dict.fromkeys(("sent", "acknowledged", "delivered", "repeated", "trimmed"), 0)
        self.faults = []

    def fault(self, what):
        """Notes a broken promise; the run ends at the next look."""
        self.faults.append(f"cycle {self.cycle}: {what}")

    def new_message(self, stream):
        """The number of a message about to be sent."""
        cycles = self.sent.setdefault(stream, [])
        cycles.append(self.cycle)
        self.counts["sent"] += 1
        return len(cycles) - 1

    def acknowledge(self, stream, number):
        """The server has taken responsibility."""
        self.acked.setdefault(stream, set()).add(number)
        self.top[stream] = max(number, self.top.get(stream, 0))
        self.counts["acknowledged"] += 1

    def floor(self):
        """Where all streams stand: what is sent from now on."""
        return {stream: len(cycles) for stream, cycles in self.sent.items()}

    def unless_trimmed(self, what, stream, number):
        """A fault, unless the server says that it has given up that part of the log."""
        if self.has_retention:
            self.suspects.append((what, stream, number))
        else:
            self.fault(what)

    def missing(self, view, stream, number):
        """An acknowledged message was passed over."""
        self.unless_trimmed(f"{view} lacks {stream.decode()} {number}, which was acknowledged",
                            stream, number)

    def begin_cycle(self, number, report):
        """A life begins. report: the server's (first_position, head_position), None: not asked."""
        self.cycle = number
        head = report[1] if report else (self.heads[-1] if self.heads else 0)
        self.heads.append(head)
        if report:
            self.judge(report[0])

    def excused(self, cycle):
        """Whether the server says that it has given up some of the log written since then."""
        return self.has_retention and self.first_position > self.heads[cycle]

    def judge(self, first_position):
        """Excuses what lay before the position up to which the server has given up its log."""
        self.first_position = first_position
        for what, stream, number in self.suspects:
            if self.excused(self.sent[stream][number]):
                self.counts["trimmed"] += 1
            else:
                self.fault(f"{what}, and the log still begins at {first_position}")
        self.suspects.clear()


class View:
    """What one subscription, or the fixed subscriptions of one session, must see.

    granted(topic): the highest QoS granted for it, None when it does not match.
    floor: numbers from which on messages are owed; None: from the first.
    rereads: lowered to QoS 0 it may read on in its queue, and again after a kill."""

    def __init__(self, ledger, name, granted, floor=None, rereads=False):
        self.ledger, self.name, self.granted = ledger, name, granted
        self.floor, self.rereads = floor or {}, rereads
        self.last, self.passed, self.effective = {}, {}, {}

    def qos_of(self, stream):
        """The QoS at which messages of a stream come here, None: not at all."""
        if stream not in self.effective:
            granted = self.granted(stream_topic(stream))
            self.effective[stream] = None if granted is None else min(stream[-1] - 48, granted)
        return self.effective[stream]

    def deliver(self, stream, number, qos):
        """A message has arrived."""
        floor = self.floor.get(stream, 0)
        if number < floor:
            return
        expected = self.last.get(stream, floor - 1) + 1
        if qos != self.qos_of(stream):
            self.ledger.fault(f"{self.name} got {stream.decode()} {number} at QoS {qos} instead of "
                              f"{self.qos_of(stream)}")
        self.ledger.counts["delivered"] += 1
        if number >= expected:
            self.last[stream] = number
            if number > expected:
                self.pass_over(stream, expected, number)
            return
        self.ledger.counts["repeated"] += 1
        if number in self.passed.get(stream, ()):
            self.out_of_order(stream, number, qos, expected - 1)
        elif qos != 1 and stream[-1] - 48 != 1 and not self.rereads:
            self.ledger.fault(f"{self.name} got {stream.decode()} {number} twice at QoS {qos}")

    def out_of_order(self, stream, number, qos, last):
        """A message that was passed over comes after all. At QoS 1 its publisher may have sent it
        again: at QoS 0 the first one may be lost, in a queue it may have been trimmed."""
        what = f"{self.name} got {stream.decode()} {number} at QoS {qos} out of order, after {last}"
        if qos == 0 and self.rereads:
            return
        if stream[-1] - 48 != 1:
            self.ledger.fault(what)
        elif qos:
            self.ledger.unless_trimmed(what, stream, number)

    def pass_over(self, stream, start, end):
        """Messages that did not come before a later one."""
        self.passed.setdefault(stream, set()).update(range(start, end))
        if self.qos_of(stream):
            acked = self.ledger.acked.get(stream, ())
            for number in range(start, end):
                if number in acked:
                    self.ledger.missing(self.name, stream, number)

    def owed(self):
        """[(stream, first, behind the last)] of what is acknowledged and has not come."""
        rows, ledger = [], self.ledger
        for stream, top in ledger.top.items():
            if self.qos_of(stream):
                start = self.last.get(stream, self.floor.get(stream, 0) - 1) + 1
                if top >= start and not ledger.excused(ledger.sent[stream][top]):
                    rows.append((stream, start, top + 1))
        return rows

    def settle(self):
        """At the end: what is still owed is missing."""
        for row in self.owed():
            self.pass_over(*row)


class GroupView:
    """What all members of a shared subscription have seen together."""

    def __init__(self, ledger, name, granted):
        self.ledger, self.name, self.granted = ledger, name, granted
        self.seen = {}

    def deliver(self, stream, number, qos):
        """A member got a message."""
        seen = self.seen.setdefault(stream, set())
        if qos != min(stream[-1] - 48, self.granted):
            self.ledger.fault(f"{self.name} got {stream.decode()} {number} at QoS {qos}")
        self.ledger.counts["delivered"] += 1
        if number in seen:
            self.ledger.counts["repeated"] += 1
            if qos != 1 and stream[-1] - 48 != 1:
                self.ledger.fault(f"{self.name} got {stream.decode()} {number} twice at QoS {qos}")
        seen.add(number)

    def owed(self):
        """[(stream, number)] of what is acknowledged and has not come."""
        return [(stream, number) for stream, acked in self.ledger.acked.items()
                for number in acked - self.seen.get(stream, set())
                if not self.ledger.excused(self.ledger.sent[stream][number])]

    def settle(self):
        """At the end: what is still owed is missing."""
        for stream, number in sorted(self.owed()):
            self.ledger.missing(self.name, stream, number)


class Register:
    """A value that is set again and again, such as what is retained for a topic: the last
    acknowledged value, and those sent since, which may or may not have come through."""

    def __init__(self, value=None):
        self.values = [value]  # the first is settled

    def write(self, value):
        """Sent, not acknowledged."""
        self.values.append(value)

    def settle(self, value):
        """Acknowledged: this one and nothing older."""
        self.values = self.values[len(self.values) - 1 - self.values[::-1].index(value):]

    def observe(self, value, resent=()):
        """Seen after a recovery: whether that may be. From then on it is so, but for what its
        writer will send again."""
        if value not in self.values:
            return False
        self.values = [value, *resent]
        return True
