"""Memory: what absent and slow subscribers cost."""

import select
import socket
import struct

import transport
from tidemq import sanitizers

MIB = 1 << 20
SESSIONS = 1000
MESSAGES = 10_000


def packet(kind, body):
    """One MQTT packet."""
    length, head = len(body), bytes([kind])
    while True:
        byte, length = length & 127, length >> 7
        head += bytes([byte | (128 if length else 0)])
        if not length:
            return head + body


def text(value):
    """A string with its length."""
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def leave_a_session(server, client_id, topic_filter):
    """Connects as 3.1.1, subscribes at QoS 1 and leaves."""
    with transport.open_socket(server.scheme, (server.host, server.port), 30) as sock:
        stream = sock.makefile("rb")
        sock.sendall(packet(0x10, text("MQTT") + b"\x04\0\0\x3c" + text(client_id))
                     + packet(0x82, b"\0\x01" + text(topic_filter) + b"\x01"))
        assert stream.read(9) == b"\x20\x02\0\0\x90\x03\0\x01\x01"
        sock.sendall(b"\xe0\0")
        assert stream.read(1) == b""


def publish_many(server, topic, count, size):
    """Publishes at QoS 1 with a window of 500; returns when all are acknowledged."""
    with transport.open_socket(server.scheme, (server.host, server.port), 60) as sock:
        stream = sock.makefile("rb")
        sock.sendall(packet(0x10, text("MQTT") + b"\x04\x02\0\0" + text("filler")))
        assert stream.read(4) == b"\x20\x02\0\0"
        for start in range(0, count, 500):
            part = range(start, min(start + 500, count))
            sock.sendall(b"".join(
                packet(0x32, text(topic) + struct.pack(">H", n % 500 + 1)
                       + struct.pack(">Q", n) + bytes(size - 8)) for n in part))
            for n in part:
                assert stream.read(4) == b"\x40\x02" + struct.pack(">H", n % 500 + 1)


def test_offline_sessions_cost_a_cursor(make_server):
    """10,000 messages of 1 KiB for each of the absent sessions on one filter: memory grows by at
    most 64 MiB, and the log holds each message once."""
    server = make_server(**{"store.segment_size": "16MiB", "store.tail_bytes": "16MiB",
                            "topics.qos0_log": True})
    for number in range(SESSIONS):
        leave_a_session(server, f"away{number}", "m/#")
    before, bytes_before = server.rss(), server.metrics()["tidemq_store_bytes_total"]
    publish_many(server, "m/a", MESSAGES, 1024)
    grown = server.rss() - before
    written = server.metrics()["tidemq_store_bytes_total"] - bytes_before
    assert grown <= 64 * MIB, f"{grown / MIB:.1f} MiB"
    assert written <= MESSAGES * 1024 * 1.5, f"{written / MESSAGES:.0f} bytes a message"
    row = server.cli_json("client", "show", "away7")
    assert row["subscriptions"][0]["lag"] == MESSAGES


def test_slow_subscribers_cost_a_cursor(make_server):
    """Twenty connected clients that read nothing: memory stays within the same bound."""
    server = make_server(**{"store.segment_size": "16MiB", "store.tail_bytes": "16MiB"})
    stuck = []
    for number in range(20):
        sock = transport.open_socket(server.scheme, (server.host, server.port), 30)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(packet(0x10, text("MQTT") + b"\x04\0\0\0" + text(f"stuck{number}"))
                     + packet(0x82, b"\0\x01" + text("m/#") + b"\x01"))
        assert transport.receive_all(sock, 4) == b"\x20\x02\0\0"
        assert transport.receive_all(sock, 5) == b"\x90\x03\0\x01\x01"
        stuck.append(sock)
    before = server.rss()
    publish_many(server, "m/a", MESSAGES, 1024)
    grown = server.rss() - before
    has_shadows = any("libtsan" in runtime for runtime in sanitizers())  # two bytes and more for one
    assert grown <= (256 if has_shadows else 64) * MIB, f"{grown / MIB:.1f} MiB"
    for sock in stuck:
        sock.close()


def test_half_packets_stay_within_the_limit(make_server, new_client):
    """Sixty clients that each hold back the end of a packet of 1 MiB: memory.limit bounds them
    together, and a client that behaves is served. QUIC has more in the server's memory, which with TCP is
    the kernel's: the state of the connection and what came ahead."""
    limit = (32 if transport.SCHEME == "quic" else 16) * MIB
    server = make_server(**{"memory.limit": limit, "store.tail_bytes": "1MiB"})
    before = server.rss()
    stuck = []
    for number in range(60):
        sock = transport.open_socket(server.scheme, (server.host, server.port), 30)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sock.sendall(packet(0x10, text("MQTT") + b"\x04\x02\0\0" + text(f"half{number}")))
        assert transport.receive_all(sock, 4) == b"\x20\x02\0\0"
        sock.setblocking(False)
        half = memoryview(packet(0x30, text("m/a") + bytes(1_000_000)))[:-1]
        try:
            while half and select.select([], [sock], [], 0.2)[1]:
                half = half[sock.send(half):]
        except transport.GONE:
            pass  # the server has had enough; before that it only reads no further
        stuck.append(sock)
    good = new_client(to=server)
    good.subscribe("good", 1)
    good.publish("good", b"x", 1)
    assert good.take().payload == b"x"
    assert server.metrics()["tidemq_memory_used"] <= limit
    grown = server.rss() - before
    assert grown <= 3 * limit or sanitizers(), f"{grown / MIB:.1f} MiB"
    for sock in stuck:
        sock.close()
