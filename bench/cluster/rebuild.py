"""A Broker with consume queues in RocksDB is killed. What becomes of messages that are sent while it
rebuilds its index, and of those that wait until a probe to a fresh LMQ has become visible?"""

import time

import lab
from remoting import LMQ, Refused

FILLER = 64  # LMQs each filler message goes to, other ones for each message


def send_numbered(client, queues, mark):
    """A message to each LMQ. Returns how many looked empty just before."""
    empty = 0
    for index, queue in enumerate(queues):
        empty += client.max_offset(queue) == 0
        client.send_message(lab.TOPIC, f"{mark} {queue}".encode(), {"INNER_MULTI_DISPATCH": queue},
                            index % 64)
    return empty


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


def filler(label, number):
    """A message to many LMQs of its own."""
    names = ",".join(f"{LMQ}f{label}-{number}-{index}" for index in range(FILLER))
    return lab.send_template(lab.TOPIC, 1, names, 64)


def first_connection(server, kill):
    """Ends the server, starts it, and connects as soon as its port is open, as a proxy would, which may
    be before the server calls itself ready."""
    if kill:
        server.kill()
    else:
        server.stop()
    server.launch()
    while True:
        try:
            client = server.client(60)
            client.runtime_info()
            return client
        except (OSError, Refused):
            time.sleep(0.005)


def one_life(server, label, count, fill, gated, kill=True):
    """Fills, kills, sends again. Returns a row."""
    queues = [f"{LMQ}{label}-{number}" for number in range(count)]
    with server.client(60) as client:
        send_numbered(client, queues, "before")
        lab.pump([lab.Lane(client, [filler(label, number) for number in range(fill)], 64)])
        gate(client, f"{label}-before")
    with first_connection(server, kill) as client:
        began = time.monotonic()
        waited = gate(client, f"{label}-after") if gated else 0
        empty = send_numbered(client, queues, "after")
        if not gated:
            gate(client, f"{label}-after")
        took = time.monotonic() - began
        wanted = [[f"before {queue}".encode(), f"after {queue}".encode()] for queue in queues]
        server.wait_ready()
        lost = sum(bodies(client, queue) != both for queue, both in zip(queues, wanted))
    return (server.version, "kill -9" if kill else "SIGTERM",
            "yes" if gated else "no", f"{server.start_times_s[-1]:.1f}", f"{fill * FILLER:,}",
            f"{waited:.1f}", f"{empty} of {count}", f"{lost} of {count}", f"{took:.1f}")


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
              ("version", "ended by", "gate", "ready after s", "entries in other LMQs",
               "waited at the gate s", "LMQs that looked empty before their second message",
               "LMQs that miss a message in the end", "all sent after s"), rows)
