"""How long after its acknowledgement a message can be read in its LMQ, measured by a probe message
every 100 ms, while others are sent to many LMQs each as fast as the Broker takes them."""

import threading
import time

import lab
from remoting import LMQ

PROBE_PAUSE_S = 0.1


class Probe(threading.Thread):
    """Sends a message to an LMQ of its own and pulls it, again and again."""

    def __init__(self, server):
        super().__init__()
        self.server, self.ended, self.samples = server, False, []  # (when sent, ack s, visible s)

    def run(self):
        queue = f"{LMQ}probe-{time.monotonic_ns()}"
        with self.server.client(120) as client:
            offset = 0
            while not self.ended:
                began = time.monotonic()
                client.send_message(lab.TOPIC, b"probe", {"INNER_MULTI_DISPATCH": queue}, 63)
                acked = time.monotonic()
                while not client.pull(queue, 0, offset, suspend_ms=5000).messages:
                    if time.monotonic() - acked > lab.PATIENCE_S:
                        raise TimeoutError("the probe was not to be read")
                self.samples.append((began, acked - began, time.monotonic() - acked))
                offset += 1
                time.sleep(max(0, began + PROBE_PAUSE_S - time.monotonic()))


def one_load(server, fan, seconds, rate=None):
    """A load of messages to `fan` LMQs each; at most `rate` a second. Returns a row."""
    probe = Probe(server)
    probe.start()
    names = ",".join(f"{LMQ}l{number:04}" for number in range(fan))
    sent, behind, latencies, cpu = 0, 0, [], server.cpu_s()
    with server.client(120) as client, server.client(120) as other:
        template = lab.send_template(lab.TOPIC, 0, names, 256)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            chunk = 200 if rate is None else max(1, rate // 10)
            lane = lab.Lane(client, [template] * chunk, 64)
            lab.pump([lane])
            sent, latencies = sent + chunk, latencies + lane.latencies_s
            behind = max(behind, int(other.runtime_info().get("dispatchBehindBytes", 0)))
            if rate:
                time.sleep(max(0, began + sent / rate - time.monotonic()))
        took = time.monotonic() - began
        last = f"{LMQ}end-{time.monotonic_ns()}"
        client.send_message(lab.TOPIC, b"end", {"INNER_MULTI_DISPATCH": last})
        drained = lab.until_pullable(client, last)
        cpu = server.cpu_s() - cpu
    probe.ended = True
    probe.join()
    lags = [lag for _, _, lag in probe.samples]
    return (fan, "as fast as it goes" if rate is None else f"{rate:,}/s", f"{sent / took:,.0f}",
            f"{sent * fan / took:,.0f}", lab.p50_p99(latencies), len(lags),
            lab.p50_p99(lags), f"{max(lags):.2f}", f"{drained:.2f}", f"{behind:,}",
            f"{cpu / sent * 1e6:.0f}")


def run(quick):
    """Prints the table."""
    seconds, rows = (2 if quick else 8), []
    with lab.broker() as server:
        for fan, rate in ((1, 100), (1, 1000), (1, None), (16, 500), (16, None), (64, None), (200, None),
                          (1, 100)):
            rows.append(one_load(server, fan, seconds, rate))
            lab.say(*rows[-1])
    lab.table(f"Lag of dispatch under loads of {seconds} s",
              ("LMQs per message", "offered", "accepted msg/s", "LMQ entries/s", "ack p50 / p99 ms",
               "probes", "ack to readable p50 / p99 ms", "at most s", "until all was dispatched s",
               "dispatchBehindBytes at most", "CPU us of the Broker per message"), rows)
