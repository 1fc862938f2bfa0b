"""A data directory with everything it can hold, and what a server on it says to its clients."""

import hashlib
import socket
import struct

from quick import (
    CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Connection, Gone, Receiver, Sender, answer,
    packet, parse_publish, publish_packet, text,
)
from tidemq import Server

CONFIG = {
    "store.segment_size": "1MiB",
    "store.checkpoint_interval": "300ms",
    "store.seal_entries": 1000,
    "store.pool_segments": 2,
    "retention.bytes": "5MiB",
    "sys.interval": 0,
}
# While a directory is looked at, nothing may go because of its age or size.
OBSERVE = {**CONFIG, "retention.bytes": "1GiB"}
AWAY = {"one": ("a/#", 1), "two": ("a/#", 2), "both": ("b/#", 1), "member": ("$share/g/b/#", 1)}
LONG = "r/" + "long" * 150
ENDS = ("a/end", "b/end")


def payload_of(topic, number):
    """The payload of a message: what it is, a hash, and something to fill it."""
    digest = hashlib.sha256(f"{topic} {number}".encode()).hexdigest()
    return f"{topic} {number} {digest} ".encode() + bytes([number % 251]) * (number * 37 % 900)


def is_published(topic, payload):
    """Whether the message is one of ours, byte for byte."""
    words = payload.split(b" ", 2)
    return (len(words) == 3 and words[1].isdigit() and words[0].decode() == topic
            and payload == payload_of(topic, int(words[1])))


def address(server):
    """Where the server listens."""
    return ("127.0.0.1", server.port)


def publish_all(server, messages):
    """Publishes (topic, payload, qos, retain), each acknowledged before it returns."""
    connection = Connection(address(server), "filler", clean=True)
    sender = Sender(50)
    for topic, payload, qos, retain in messages:
        while sender.room == 0:
            kind, _, body = connection.receive()
            sender.handle(connection, kind, body)
        packet_id = next(n for n in range(1, 51) if n not in sender.open)
        sender.open[packet_id] = [topic, payload, qos, False]
        connection.send(publish_packet(topic, payload, qos, packet_id, retain=retain))
    while sender.open:
        kind, _, body = connection.receive()
        sender.handle(connection, kind, body)
    connection.close()


def connect_with_will(server, client_id, topic, payload):
    """A durable session of version 3.1.1 with a will."""
    connection = Connection.__new__(Connection)  # which would connect without a will
    connection.timeout_s, connection.buffer = 20, bytearray()
    connection.sock = socket.create_connection(address(server), timeout=20)
    flags = 0x04 | 1 << 3 | 0x20
    connection.send(packet(1, 0, text("MQTT") + bytes([4, flags, 0, 0]) + text(client_id)
                           + text(topic) + struct.pack(">H", len(payload)) + payload))
    kind, _, body = connection.receive()
    assert kind == CONNACK and body[1] == 0, body
    return connection


def leave_in_flight(server):
    """QoS 2 messages in each state, in both directions, on sessions that stay. Returns what is left
    open: connections, to be held until the server is stopped."""
    outbound = Connection(address(server), "outbound")
    outbound.subscribe("f/#", 2)
    publish_all(server, [("f/x", payload_of("f/x", n), 2, False) for n in range(6)])
    ids = []
    while len(ids) < 6:
        kind, flags, body = outbound.receive()
        assert kind == PUBLISH, kind
        ids.append(parse_publish(flags, body)[3])
    for packet_id in ids[:4]:
        outbound.send(answer(PUBREC, packet_id))
    for _ in range(4):
        assert outbound.receive()[0] == PUBREL
    outbound.send(answer(PUBCOMP, ids[0]))
    inbound = Connection(address(server), "inbound")
    for packet_id in (1, 2, 3):
        inbound.send(publish_packet("a/in", payload_of("a/in", packet_id), 2, packet_id))
        assert inbound.receive()[0] == PUBREC
    inbound.send(answer(PUBREL, 1))
    assert inbound.receive()[0] == PUBCOMP
    unacked = Connection(address(server), "unacked")
    unacked.subscribe("u/#", 1)
    publish_all(server, [("u/x", payload_of("u/x", n), 1, False) for n in range(4)])
    for n in range(4):
        kind, flags, body = unacked.receive()
        if n < 2:
            unacked.send(answer(PUBACK, parse_publish(flags, body)[3]))
    will = connect_with_will(server, "will", "a/will", b"w" * 9000)
    return [outbound, inbound, unacked, will]


def fill(server, small=False):
    """Everything a store can hold."""
    for client_id, (topic_filter, qos) in AWAY.items():
        connection = Connection(address(server), client_id)
        connection.subscribe(topic_filter, qos)
        connection.close()
    for n in range(40 if small else 150):
        connection = Connection(address(server), f"session-{n:04d}-" + "x" * (n % 30))
        connection.subscribe(f"s/{n}/#", 1)
        connection.close()
    publish_all(server, [(f"r/{n}", payload_of(f"r/{n}", n), 1, True) for n in range(30)]
                + [(LONG + str(n), payload_of(LONG + str(n), n), 1, True) for n in range(8)])
    count = 900 if small else 8000
    for begin in range(0, count, 500):
        publish_all(server, [(f"{'ab'[n % 2]}/{n % 7}", payload_of(f"{'ab'[n % 2]}/{n % 7}", n),
                              1 + n % 3 // 2, False) for n in range(begin, begin + 500)])
    publish_all(server, [("r/7", b"", 1, True)])
    gone = Connection(address(server), "gone", clean=False)
    gone.close()
    Connection(address(server), "gone", clean=True).close()
    return leave_in_flight(server)


def make(folder, kill, small=False):
    """A filled data directory; returns its server, which has ended."""
    server = Server(folder, CONFIG).start()
    held = fill(server, small)
    if kill:
        server.kill()
    else:
        server.stop()
    for connection in held:
        connection.close()
    server.check()
    return server


class Wrong(Exception):
    """Something was delivered that was never published, or not in that form."""


def _drain(server, client_id, patience_s):
    """What the session gets until it has the messages that were published last."""
    found, ends = [], 0
    try:
        connection = Connection(address(server), client_id)
    except Gone:
        return None
    wanted = {"one": 2, "two": 2, "both": 2, "member": 2}.get(client_id, 0)

    def note(topic, payload, _qos):
        nonlocal ends
        if topic in ENDS:
            ends += payload == b"end"
            if payload != b"end":
                raise Wrong((client_id, topic, payload[:80]))
        elif topic == "a/will":
            if payload != b"w" * 9000:
                raise Wrong((client_id, topic, payload[:80]))
        elif not is_published(topic, payload):
            raise Wrong((client_id, topic, payload[:80]))
        if topic not in ENDS:
            found.append((topic, hashlib.md5(payload).hexdigest()))

    receiver = Receiver(note)
    present = connection.session_present
    try:
        while not wanted or ends < wanted:
            got = connection.receive(patience_s if wanted else 0.15)
            if got is None:
                break
            receiver.handle(connection, *got)
    except Gone:
        found.append("gone")
    connection.close()
    return {"present": present, "messages": found, "ended": ends >= wanted}


def _retained(server):
    connection = Connection(address(server), "looker", clean=True)
    found = {}
    try:
        got = connection.subscribe("r/#", 1)
        while True:
            item = connection.receive(0.25) if not got else got.pop(0)
            if item is None:
                break
            topic, payload, _, packet_id = parse_publish(item[1], item[2])
            if not is_published(topic, payload):
                raise Wrong(("retained", topic, payload[:80]))
            found[topic] = hashlib.md5(payload).hexdigest()
            connection.send(answer(PUBACK, packet_id))
    except Gone:
        pass
    connection.close()
    return found


def observe(server, patience_s=10):
    """Everything that a running server delivers. Raises Wrong for a byte that was never published."""
    publish_all(server, [(topic, b"end", qos, False) for topic in ENDS for qos in (1, 2)])
    seen = {name: _drain(server, name, patience_s)
            for name in (*AWAY, "outbound", "inbound", "unacked")}
    seen["retained"] = _retained(server)
    status = server.cli_json("client", "list")
    rows = status if isinstance(status, list) else status.get("clients", status)
    seen["clients"] = sorted(row["client_id"] for row in rows if row["client_id"] != "looker")
    return seen
