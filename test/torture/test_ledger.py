"""The ledger itself: each broken promise is a fault, and what is allowed is none."""

import random
from types import SimpleNamespace

import pytest
from ledger import GroupView, Ledger, Register, View
from subscribers import Changing

ONE, TWO, ZERO = b"0/1/1", b"0/1/2", b"0/1/0"


def ledger_with(stream, acked, has_retention=False):
    """A ledger in which ten messages of a stream were sent and some acknowledged."""
    ledger = Ledger(has_retention)
    ledger.begin_cycle(0, (0, 4096))
    for _ in range(10):
        ledger.new_message(stream)
    for number in acked:
        ledger.acknowledge(stream, number)
    return ledger


def view(ledger, qos=2, **more):
    """A view with one subscription for everything."""
    return View(ledger, "s", lambda topic: qos, **more)


def says(ledger, *words):
    """Exactly one fault, and it has these words."""
    assert len(ledger.faults) == 1, ledger.faults
    return all(word in ledger.faults[0] for word in words)


def test_nothing_wrong():
    """Delivered in order, once; QoS 1 may repeat; what was not acknowledged may be missing."""
    ledger = ledger_with(ONE, (0, 1, 3))
    mine = view(ledger)
    for number in (0, 1, 0, 1, 3):
        mine.deliver(ONE, number, 1)
    assert not ledger.faults and not mine.owed() and ledger.counts["repeated"] == 2


def test_lost_between():
    """A message acknowledged and passed over is lost."""
    ledger = ledger_with(TWO, (0, 1, 2))
    mine = view(ledger)
    mine.deliver(TWO, 0, 2)
    mine.deliver(TWO, 2, 2)
    assert says(ledger, "s lacks 0/1/2 1", "acknowledged")


def test_lost_at_the_end():
    """Nothing came later: it shows when the run ends."""
    ledger = ledger_with(ONE, (0, 1))
    mine = view(ledger)
    mine.deliver(ONE, 0, 1)
    assert mine.owed() == [(ONE, 1, 2)]
    mine.settle()
    assert says(ledger, "s lacks 0/1/1 1")


def test_before_the_subscription():
    """What was sent before SUBACK is not owed."""
    ledger = ledger_with(ONE, range(4))
    mine = view(ledger, floor={ONE: 4})
    mine.deliver(ONE, 3, 1)
    assert not ledger.faults and not mine.owed()


@pytest.mark.parametrize(("stream", "granted", "qos", "wrong"), [
    (TWO, 2, 2, True), (TWO, 1, 1, False), (TWO, 0, 0, True),
    (ONE, 2, 1, False), (ONE, 0, 0, False), (ZERO, 2, 0, True),
])
def test_twice(stream, granted, qos, wrong):
    """Where a repetition is a fault."""
    ledger = ledger_with(stream, range(3))
    mine = view(ledger, granted)
    mine.deliver(stream, 0, qos)
    mine.deliver(stream, 0, qos)
    assert bool(ledger.faults) is wrong
    assert not wrong or says(ledger, "twice")


def test_twice_in_a_group():
    """Two members got the same."""
    ledger = ledger_with(TWO, (0,))
    group = GroupView(ledger, "g", 2)
    assert group.owed() == [(TWO, 0)]
    group.deliver(TWO, 0, 2)
    assert not ledger.faults and not group.owed()
    group.deliver(TWO, 0, 2)
    assert says(ledger, "g got 0/1/2 0 twice")


def test_lost_in_a_group():
    """Nobody got it."""
    ledger = ledger_with(ONE, (0, 5))
    group = GroupView(ledger, "g", 1)
    group.deliver(ONE, 0, 1)
    group.settle()
    assert says(ledger, "g lacks 0/1/1 5")


@pytest.mark.parametrize("stream", [ONE, TWO])
def test_out_of_order(stream):
    """A first delivery after a later one."""
    ledger = ledger_with(stream, ())
    mine = view(ledger)
    mine.deliver(stream, 1, stream[-1] - 48)
    mine.deliver(stream, 0, stream[-1] - 48)
    assert says(ledger, "out of order")


def test_wrong_qos():
    """The lower of both is right."""
    ledger = ledger_with(TWO, ())
    view(ledger, 1).deliver(TWO, 0, 2)
    assert says(ledger, "at QoS 2 instead of 1")


@pytest.mark.parametrize(("first_position", "wrong"), [(4096, True), (4097, False)])
def test_trimmed(first_position, wrong):
    """Retention excuses only what lay before the log's beginning."""
    ledger = ledger_with(TWO, (0, 1), has_retention=True)
    mine = view(ledger)
    mine.deliver(TWO, 1, 2)
    assert not ledger.faults
    ledger.judge(first_position)
    assert bool(ledger.faults) is wrong


def test_register():
    """A recovery shows the last acknowledged value or one sent since."""
    kept = Register(b"")
    kept.write(b"1")
    kept.settle(b"1")
    assert not Register(b"").observe(b"1")
    kept.write(b"2")
    assert not kept.observe(b"")
    assert kept.observe(b"2", [b"2"]) and kept.values == [b"2", b"2"]
    kept.settle(b"2")
    assert not kept.observe(b"1") and kept.observe(b"2")


def test_clean_start_gives_up_what_is_held():
    """Packet IDs of the old session mean nothing in the new one, even if CONNACK never comes."""
    client = Changing(SimpleNamespace(ledger=Ledger(False), loop=None, publisher_count=1,
                                      draining=False), "c", 5, 3600)
    client.random = random.Random(1)
    client.held[27] = b"0/0/2 7 "
    while not client.wants_clean_start():
        assert client.held
    assert not client.held
