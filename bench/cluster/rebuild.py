"""A Broker with consume queues in RocksDB is killed. What becomes of messages that are sent while it
rebuilds its index, and of those that wait until a probe to a fresh LMQ has become visible?"""

import time

import lab
from remoting import LMQ, Refused

FILLER = 64  # LMQs each filler message goes to


def wait_until(condition, timeout_s=lab.PATIENCE_S):
    """Asks until it is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it was not so within {timeout_s} s")
        time.sleep(0.01)


def send_numbered(client, queues, mark):
    """A message to each LMQ."""
    for index, queue in enumerate(queues):
        client.send_message(lab.TOPIC, f"{mark} {queue}".encode(), {"INNER_MULTI_DISPATCH": queue},
                            index % 64)


def bodies(client, queue):
    """What can be read in an LMQ."""
    return [message.body for message in client.pull_all(queue) if message.body[:1] != b"x"]


def gate(client, life):
    """Waits until a probe to a fresh LMQ can be read. Returns how long that took."""
    queue = f"{LMQ}gate-{life}"
    began = time.monotonic()
    client.send_message(lab.TOPIC, b"probe", {"INNER_MULTI_DISPATCH": queue})
    lab.until_pullable(client, queue)
    return time.monotonic() - began


def one_life(server, label, count, fill, gated, kill=True):
    """Fills, kills, sends again. Returns a row."""
    queues = [f"{LMQ}{label}-{number}" for number in range(count)]
    with server.client(60) as client:
        send_numbered(client, queues, "before")
        names = ",".join(f"{LMQ}fill-{number}" for number in range(FILLER))
        lab.pump([lab.Lane(client, [lab.send_template(lab.TOPIC, 1, names, 64)] * fill, 64)])
        gate(client, f"{label}-before")
    server.restart(kill=kill)
    began = time.monotonic()
    with server.client(60) as client:
        empty = sum(client.max_offset(queue) == 0 for queue in queues)
        waited = gate(client, f"{label}-after") if gated else 0
        still = sum(client.max_offset(queue) == 0 for queue in queues)
        try:
            send_numbered(client, queues, "after")
        except Refused as refused:
            lab.say("a send was refused:", refused)
        if not gated:
            gate(client, f"{label}-after")
        took = time.monotonic() - began
        wanted = [[f"before {queue}".encode(), f"after {queue}".encode()] for queue in queues]
        lost = sum(bodies(client, queue) != both for queue, both in zip(queues, wanted))
    return (server.version, "kill -9" if kill else "SIGTERM",
            "yes" if gated else "no", f"{server.start_times_s[-1]:.1f}", f"{fill * FILLER:,}",
            f"{empty} of {count}", f"{waited:.1f}", f"{still} of {count}", f"{lost} of {count}",
            f"{took:.1f}")


def run(quick):
    """Prints the table."""
    count, fill = (50, 500) if quick else (300, 5_000)
    rows = []
    for version in lab.jars.VERSIONS[: 1 if quick else 2]:
        with lab.broker(version=version) as server:
            for label, gated, kill in (("open", False, True), ("gated", True, True), ("term", False, False)):
                rows.append(one_life(server, label, count, fill, gated, kill))
                lab.say(*rows[-1])
    lab.table("A restart with consume queues in RocksDB",
              ("version", "ended by", "gate", "ready after s", "LMQ entries before",
               "LMQs that looked empty at first", "waited at the gate s", "looked empty then",
               "LMQs that miss a message in the end", "all sent after s"), rows)
