"""The experiments' own arithmetic, and their pump against a real Broker."""

import pathlib
import sys

import pytest
from remoting import LMQ

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "cluster"))

# pylint: disable=wrong-import-position
import lab  # noqa: E402
import order  # noqa: E402


@pytest.mark.parametrize("numbers, late, far", [
    ([0, 1, 2, 3], 0, 0), ([1, 0, 2], 1, 1), ([3, 0, 1, 2], 3, 3), ([0, 2, 1, 4, 3], 2, 1), ([], 0, 0),
])
def test_disorder(numbers, late, far):
    """Who stands behind a higher number was overtaken."""
    assert order.disorder(numbers) == (late, far)


def test_percentiles():
    """Of the nearest rank."""
    values = list(range(100, 0, -1))
    assert (lab.percentile(values, 0.5), lab.percentile(values, 0.99)) == (51, 100)
    assert lab.p50_p99([0.001, 0.002, 0.003]) == "2.00 / 3.00"


def test_the_pump(plain, broker, topic):
    """Each request is sent once and answered once, over several connections."""
    queue = f"{LMQ}{topic}"
    template = lab.send_template(topic, 3, queue, 10)
    with plain.broker.client() as other:
        lanes = [lab.Lane(client, lab.numbered(template, numbers), 16)
                 for client, numbers in ((broker, range(0, 100, 2)), (other, range(1, 100, 2)))]
        lab.pump(lanes)
        for lane in lanes:
            assert (lane.codes, len(lane.latencies_s), lane.done) == ({0: 50}, 50, True)
        assert sorted(order.numbers_in(broker, topic, 100, 3)) == list(range(100))
        assert sorted(order.numbers_in(broker, queue, 100)) == list(range(100))
