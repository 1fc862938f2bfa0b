"""MQTT over WebSocket, and over TLS: the request, the frames, and how it ends (RFC 6455; MQTT, section
6)."""

import os
import signal
import socket
import ssl
import struct
import urllib.error
import urllib.request

import pki
import pytest
import transport
import wire
from tidemq import wait_until
from websock import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Channel, WebSocket, frame,
                     request)
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect as independent_connect
from wire import V5

PAGES = ["https://a.example", "http://localhost:8080"]
CONNECT = wire.connect(V5, "")


@pytest.fixture(name="web", scope="module", params=[("ws", 1), ("ws", 2), ("wss", 1)],
                ids=["one loop", "two loops", "over TLS"])
def fixture_web(request, make_server_module):
    """A server for WebSocket; also with sockets on a thread of their own, and over TLS."""
    scheme, loops = request.param
    shared = pki.shared()
    return make_server_module(**{
        "listeners": [f"{scheme}://127.0.0.1:0", f"{scheme}://127.0.0.1:0/elsewhere"],
        "threads.loops": loops,
        "websocket.max_frame_size": "2MiB",
        "tls.certificate": shared.path("server.pem"),
        "tls.private_key": shared.path("server.key"),
    })


def dial(web, port=None):
    """A connection to the server, or to another port of its."""
    return WebSocket.connect(web.host, port or web.port,
                             transport.tls_context() if web.scheme == "wss" else None)


@pytest.fixture(name="open_web")
def fixture_open_web(web):
    """Opens connections, with the request answered unless told otherwise."""
    opened = []

    def open_web(upgrade=True):
        opened.append(dial(web))
        if upgrade:
            opened[-1].open()
        return opened[-1]

    yield open_web
    for each in opened:
        each.sock.close()


def connack(web, payload):
    """The payload is one CONNACK that says yes."""
    assert payload[0] == wire.CONNACK << 4 and payload[3] == 0, payload
    assert payload[1] == len(payload) - 2
    return web


def mqtt_open(web):
    """CONNECT and CONNACK."""
    web.send(frame(BINARY, CONNECT))
    return connack(web, web.expect(BINARY).payload)


# ---- the request


def test_answer(open_web):
    """The subprotocol is selected: [MQTT3-6.0.0-4] [MQTT5-6.0.0-4]; no extension ever is."""
    headers = open_web(False).open(Sec_WebSocket_Extensions="permessage-deflate")
    assert headers["sec-websocket-protocol"] == "mqtt"
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert "sec-websocket-extensions" not in headers
    older = open_web(False).open(Sec_WebSocket_Protocol="chat, mqttv3.1")
    assert older["sec-websocket-protocol"] == "mqttv3.1"


REFUSALS = {
    "path": (404, request("/")),
    "method": (405, request(method="POST")),
    "old HTTP": (505, request(version="HTTP/1.0")),
    "host": (400, request(Host=None)),
    "upgrade": (426, request(Upgrade=None)),
    "connection": (400, request(Connection="keep-alive")),
    "version": (426, request(Sec_WebSocket_Version="8")),
    "key": (400, request(Sec_WebSocket_Key="c2hvcnQ=")),
    # [MQTT3-6.0.0-3] [MQTT5-6.0.0-3]
    "no subprotocol": (400, request(Sec_WebSocket_Protocol=None)),
    "other subprotocol": (400, request(Sec_WebSocket_Protocol="chat")),
    "body": (400, request(Content_Length="3") + b"abc"),
    "key twice": (400, request().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: x\r\n\r\n")),
    "bare line feeds": (400, request().replace(b"\r\nHost", b"\nHost")),
    "folded header": (400, request(X_Filler="a\r\n b")),
    "not HTTP": (400, CONNECT),
    "TLS": (400, bytes.fromhex("160301020001000201")),
    "too large": (431, request(X_Filler="x" * 8192)),
    "too many": (431, request(**{f"X_{number}": "y" for number in range(100)})),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(open_web, web, name):
    """Each has its status, says what was wrong, and is logged with that."""
    status, sent = REFUSALS[name]
    connection = open_web(False)
    connection.send(sent)
    found, headers = connection.answer()
    assert found == status, headers
    assert headers["connection"].endswith("close")
    assert headers["content-type"].startswith("text/plain")
    assert len(headers[""]) > 10
    if status == 426:
        assert headers["sec-websocket-version"] == "13"
    if status == 405:
        assert headers["allow"] == "GET"
    assert connection.receive() is None
    address = "127.0.0.1:%d" % connection.sock.getsockname()[1]
    connection.sock.close()
    wait_until(lambda: f"closed the connection from {address}: " in web.log, what="the log line")


def test_curious_browser(web):
    """Who opens the address in a browser reads what it is for."""
    secure = web.scheme == "wss"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=transport.tls_context()))
    with pytest.raises(urllib.error.HTTPError) as found:
        opener.open(f"http{'s' * secure}://127.0.0.1:{web.port}/mqtt", timeout=10)
    assert found.value.code == 426
    assert "WebSocket" in found.value.read().decode()


def test_path(web):
    """Each listener serves the path of its URL, whatever the query."""
    port = int(web.config["listeners"][1].split(":")[2].split("/")[0])
    with dial(web, port) as other:
        other.open(path="/elsewhere?token=1")
        mqtt_open(other)
    with dial(web, port) as other:
        other.send(request("/mqtt"))
        status, headers = other.answer()
        assert (status, "/elsewhere" in headers[""]) == (404, True)


def test_origins(make_server):
    """Pages of other origins are refused; programs, which send none, are not."""
    server = make_server(**{"listeners": ["ws://127.0.0.1:0"], "websocket.origins": PAGES})
    for origin, status in [(None, 101), (PAGES[0], 101), (PAGES[1], 101), ("null", 403),
                           ("https://b.example", 403), ("https://a.example.evil", 403)]:
        with WebSocket.connect(server.host, server.port) as web:
            web.send(request(Origin=origin))
            assert web.answer()[0] == status, origin


def test_origins_and_frames_follow_a_reload(make_server, tmp_path):
    """Who may come, and how large a frame may be, is asked anew of whoever connects; a file that is
    wrong changes nothing, and who is there stays."""
    config = tmp_path / "tidemq.yaml"

    def page(origin):
        with WebSocket.connect(server.host, server.port) as web:
            web.send(request(Origin=origin))
            return web.answer()[0]

    def load(text, said="configuration reloaded"):
        config.write_text(text)
        before = server.log.count(said)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log.count(said) > before, what=said)

    def large_frame():
        """One frame of 3,000 bytes: a connection on which it is under way."""
        web = WebSocket.connect(server.host, server.port)
        web.open()
        mqtt_open(web)
        web.send(frame(BINARY, b"\xc0\x00" * 1500))
        return web

    small = "limits: {max_packet_size: 1KiB}\n"
    config.write_text(small + f"websocket: {{origins: ['{PAGES[0]}'], max_frame_size: 4KiB}}\n")
    server = make_server(config_file=config, listeners=["ws://127.0.0.1:0"])
    assert page(PAGES[0]) == 101 and page(PAGES[1]) == 403
    with WebSocket.connect(server.host, server.port) as stays:
        stays.open(Origin=PAGES[0])
        mqtt_open(stays)
        load(f"websocket: {{origins: ['{PAGES[1]}']}}\n")
        assert page(PAGES[0]) == 403 and page(PAGES[1]) == 101
        load("websocket: {origins: [nonsense]}\n", "configuration not reloaded, nothing changed")
        assert page(PAGES[0]) == 403 and page(PAGES[1]) == 101
        load(small + "websocket: {max_frame_size: 4KiB}\n")
        with large_frame() as web:
            assert web.expect(BINARY).payload.startswith(b"\xd0\x00")
        load(small + "websocket: {max_frame_size: 1KiB}\n")
        with large_frame() as web:
            web.closed(1009)
        assert page("https://anybody.example") == 101
        stays.send(frame(BINARY, b"\xc0\x00"))
        assert stays.expect(BINARY).payload == b"\xd0\x00"


def test_request_in_pieces(open_web):
    """Byte by byte, and with the first packet behind it."""
    web = open_web(False)
    for byte in request():
        web.send(bytes([byte]))
    assert web.answer()[0] == 101
    mqtt_open(web)
    web = open_web(False)
    web.send(request(), frame(BINARY, CONNECT))
    assert web.answer()[0] == 101
    connack(web, web.expect(BINARY).payload)


def test_no_request_in_time(make_server):
    """The time for CONNECT counts from the connection on."""
    server = make_server(**{"listeners": ["ws://127.0.0.1:0"], "limits.connect_timeout": "1s"})
    with WebSocket.connect(server.host, server.port) as web:
        web.send(b"GET /mqtt HTTP/1.1\r\n")
        assert not web.more()


# ---- frames: each MQTT packet must come through, however it is framed


def pings(count):
    """So many PINGREQ."""
    return wire.pingreq() * count


def expect_pings(web, count):
    """As many PINGRESP, in binary frames: [MQTT3-6.0.0-1] [MQTT5-6.0.0-1]"""
    got = b""
    while len(got) < 2 * count:
        got += web.expect(BINARY).payload
    assert got == bytes([wire.PINGRESP << 4, 0]) * count


def fragments(data, size):
    """The data as a message of many frames."""
    parts = [data[at:at + size] for at in range(0, len(data), size)]
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if index else BINARY, part, fin=index == last)
        for index, part in enumerate(parts)
    )


FRAMINGS = {
    "many packets in one frame": frame(BINARY, pings(30)),
    "a frame for each byte": b"".join(frame(BINARY, bytes([byte])) for byte in pings(30)),
    "a fragment for each byte": fragments(pings(30), 1),
    "fragments of odd size": fragments(pings(30), 7),
    "empty frames between": (frame(BINARY) + frame(BINARY, pings(15)) + frame(BINARY)) * 2,
    "empty fragments": frame(BINARY, fin=False) + frame(CONTINUATION, pings(30), fin=False)
    + frame(CONTINUATION),
    "pongs between fragments": frame(BINARY, pings(15), fin=False) + frame(PONG, b"unasked")
    + frame(CONTINUATION, pings(15)) + frame(PONG),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_framing(open_web, name):
    """Packets and frames need not be aligned: [MQTT3-6.0.0-2] [MQTT5-6.0.0-2]"""
    web = mqtt_open(open_web())
    web.send(FRAMINGS[name])
    expect_pings(web, 30)
    web = mqtt_open(open_web())
    for byte in FRAMINGS[name]:
        web.send(bytes([byte]))
    expect_pings(web, 30)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1000000])
def test_payload_sizes(open_web, web, size):
    """Lengths around each form, both ways, whole and in pieces."""
    topic = f"sizes{os.getpid()}-{web.port}"
    payload = os.urandom(size)
    connection = mqtt_open(open_web())
    connection.send(frame(BINARY, wire.subscribe(V5, 1, topic)))
    connection.expect(BINARY)
    packet = wire.publish(V5, topic, payload)
    for sent in (frame(BINARY, packet), fragments(packet, max(1, len(packet) // 3))):
        connection.send(sent)
        got = b""
        while len(got) < len(packet):
            got += connection.expect(BINARY).payload
        assert got == packet


def test_ping(open_web):
    """A pong repeats the ping's payload, also between the fragments of a message."""
    web = mqtt_open(open_web())
    for payload in (b"", b"hello", os.urandom(125)):
        web.send(frame(PING, payload))
        web.expect(PONG, payload)
    web.send(frame(BINARY, pings(1)[:1], fin=False), frame(PING, b"x"))
    web.expect(PONG, b"x")
    web.send(frame(CONTINUATION, pings(1)[1:]))
    expect_pings(web, 1)


def test_ping_before_connect(open_web):
    """WebSocket works before MQTT does."""
    web = open_web()
    web.send(frame(PING, b"early"))
    web.expect(PONG, b"early")


def test_ping_flood(web):
    """Who pings without reading gets at least the last pong, in order, and costs no memory: the
    server keeps few of those that do not go out."""
    with dial(web) as flood:
        flood.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        flood.open()
        flood.send(frame(BINARY, wire.connect(V5, "", keep_alive=0)))
        flood.expect(BINARY)
        total, pad = 100000, bytes(100)
        for start in range(0, total, 1000):
            numbers = range(start, start + 1000)
            flood.send(*(frame(PING, struct.pack(">I", number) + pad) for number in numbers))
        last, count = -1, 0
        while last < total - 1:
            number = struct.unpack(">I", flood.expect(PONG).payload[:4])[0]
            assert number > last
            last, count = number, count + 1
        assert 10 < count < total


VIOLATIONS = {
    "not masked": (1002, frame(BINARY, CONNECT, masked=False)),
    "ping not masked": (1002, frame(PING, b"x", masked=False)),
    "rsv1": (1002, frame(BINARY, CONNECT, rsv=4)),
    "rsv2": (1002, frame(BINARY, CONNECT, rsv=2)),
    "rsv3": (1002, frame(PING, rsv=1)),
    **{f"opcode {code}": (1002, frame(code, b"x")) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "long ping": (1002, frame(PING, b"x" * 126)),
    "long close": (1002, frame(CLOSE, struct.pack(">H", 1000) + b"x" * 124)),
    "fragmented ping": (1002, frame(PING, b"x", fin=False)),
    "fragmented close": (1002, frame(CLOSE, fin=False)),
    "continuation first": (1002, frame(CONTINUATION, CONNECT)),
    "continuation after the end": (1002, frame(BINARY) + frame(CONTINUATION)),
    "message in a message": (1002, frame(BINARY, CONNECT[:3], fin=False) + frame(BINARY, b"x")),
    "length in 2 bytes": (1002, frame(BINARY, b"x" * 125, form=2)),
    "length in 8 bytes": (1002, frame(BINARY, b"x" * 65535, form=8)),
    "negative length": (1002, b"\x82\xff\x80" + bytes(7) + b"mask"),
    "huge length": (1009, b"\x82\xff\x7f" + b"\xff" * 7 + b"mask"),
    "a little too large": (1009, b"\x82\xff" + struct.pack(">Q", 2 * 1024 * 1024 + 1) + b"mask"),
    "text": (1003, frame(TEXT, CONNECT)),  # [MQTT3-6.0.0-1] [MQTT5-6.0.0-1]
    "fragmented text": (1003, frame(TEXT, b"te", fin=False)),
    "close with half a code": (1002, frame(CLOSE, b"\x03")),
    "close with bad text": (1007, frame(CLOSE, b"\x03\xe8\xff\xfe")),
    **{f"close {code}": (1002, frame(CLOSE, struct.pack(">H", code)))
       for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violation(open_web, web, name):
    """Each is answered with its code and a reason, though more was sent behind it, and counted."""
    before = web.metrics()["tidemq_protocol_errors_total"]
    connection = open_web()
    code, sent = VIOLATIONS[name]
    connection.send(sent)
    connection.send(frame(PING, b"behind"), frame(BINARY, bytes(100000)))
    assert len(connection.closed(code)) > 5
    connection.sock.close()
    wait_until(lambda: web.metrics()["tidemq_protocol_errors_total"] > before, what="the count")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
                                  1014, 3000, 3999, 4000, 4999])
def test_close_is_echoed(open_web, code):
    """The answer to a close frame repeats its code."""
    web = mqtt_open(open_web())
    web.send(frame(CLOSE, struct.pack(">H", code) + "auf Wiedersehen, tschüß".encode()))
    assert web.closed(code) == ""


def test_close_without_code(open_web):
    """An empty close frame is answered with one, and what follows it is not read."""
    web = mqtt_open(open_web())
    web.send(frame(CLOSE), frame(PING, b"late"), frame(BINARY, pings(5)))
    web.expect(CLOSE, b"")
    assert web.receive() is None


def test_close_sends_the_will(open_web, web):
    """A close frame without a DISCONNECT is a lost connection to MQTT."""
    topic = f"will{os.getpid()}-{web.port}"
    watcher = mqtt_open(open_web())
    watcher.send(frame(BINARY, wire.subscribe(V5, 1, topic)))
    watcher.expect(BINARY)
    dying = open_web()
    will = wire.Will(topic, b"gone")
    dying.send(frame(BINARY, wire.connect(V5, f"w{web.port}", will=will)))
    connack(dying, dying.expect(BINARY).payload)
    dying.send(frame(CLOSE, struct.pack(">H", 1001)))
    dying.closed(1001)
    dying.sock.close()
    assert b"gone" in watcher.expect(BINARY).payload


def test_disconnect_closes_in_order(open_web):
    """Behind DISCONNECT a close frame comes, which the client may answer or not."""
    web = mqtt_open(open_web())
    web.send(frame(BINARY, wire.disconnect(V5)))
    web.expect(CLOSE)
    web.send(frame(CLOSE, struct.pack(">H", 1000)))
    assert web.receive() is None


def test_mqtt_error_closes_in_order(open_web):
    """What the MQTT side refuses is told in MQTT, then in WebSocket."""
    web = mqtt_open(open_web())
    web.send(frame(BINARY, b"\xf1\x00"))
    assert web.expect(BINARY).payload[0] == wire.DISCONNECT << 4
    web.closed(1000)


def test_server_stop_closes_in_order(make_server):
    """Clients of a server that stops are told in MQTT, then in WebSocket."""
    server = make_server(listeners=["ws://127.0.0.1:0"])
    with WebSocket.connect(server.host, server.port) as web:
        web.open()
        mqtt_open(web)
        server.signal(15)
        assert web.expect(BINARY).payload[:3] == bytes([wire.DISCONNECT << 4, 1, 0x8B])
        web.closed(1000)
    assert server.process.wait(20) == 0


def test_slow_reader_gets_whole_frames(open_web, web):
    """Backpressure cuts writes anywhere, with pongs between; frames and packets stay whole."""
    topic = f"slow{os.getpid()}-{web.port}"
    with dial(web) as reader:
        reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader.open()
        mqtt_open(reader)
        reader.send(frame(BINARY, wire.subscribe(V5, 1, (topic, 1))))
        reader.expect(BINARY)
        writer = mqtt_open(open_web())
        body = os.urandom(20000)
        for number in range(1, 301):
            writer.send(frame(BINARY, wire.publish(V5, topic, body, 1, number)))
        for number in range(20):
            reader.send(frame(PING, bytes([number])))
        stream, pongs, messages = b"", [], 0
        while messages < 300 or len(pongs) < 20:
            found = reader.receive()
            assert found is not None
            if found.opcode == PONG:
                pongs.append(found.payload[0])
                continue
            stream += found.payload
            while len(stream) > 5:
                length = wire.Reader(stream[1:5]).varint()
                size = len(wire.varint(length)) + 1 + length
                if len(stream) < size:
                    break
                assert stream[0] >> 4 == wire.PUBLISH
                assert stream[:size].endswith(body)
                packet_id = wire.Reader(stream[size - len(body) - 3:]).u16()
                reader.send(frame(BINARY, wire.ack(V5, wire.PUBACK, packet_id)))
                stream, messages = stream[size:], messages + 1
        assert pongs == list(range(20))
        assert not stream


def test_peer_over_websocket(web):
    """The ordinary raw client, on a channel: QoS 2 from end to end, and an orderly end."""
    channel = Channel(dial(web).sock)
    channel.sendall(CONNECT)
    connack(web, channel.recv(1000))
    channel.sendall(wire.disconnect(V5))
    assert channel.recv(1000) == b""
    channel.close()


# ---- somebody else's WebSocket


def test_independent_library(web):
    """The library `websockets`, which checks what a server sends, agrees with all of it. It reads in a
    thread of its own while another one writes, which OpenSSL does not allow: when the tickets of TLS 1.3
    come at that moment, a request in some thousand is lost, by any server. TLS 1.2 sends nothing then."""
    url = f"{web.scheme}://127.0.0.1:{web.port}"
    tls = {"ssl": transport.tls_context()} if web.scheme == "wss" else {}
    for context in tls.values():
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with independent_connect(f"{url}/mqtt", subprotocols=["mqtt"], **tls) as other:
        assert other.subprotocol == "mqtt"
        other.send(CONNECT)
        assert other.recv(timeout=10)[0] == wire.CONNACK << 4
        other.send([pings(1), pings(2), pings(3)])
        got = b""
        while len(got) < 12:
            got += other.recv(timeout=10)
        assert got == bytes([wire.PINGRESP << 4, 0]) * 6
        assert other.ping(b"there?").wait(10)
        other.send(wire.disconnect(V5))
        with pytest.raises(ConnectionClosedOK) as ended:
            other.recv(timeout=10)
        assert ended.value.rcvd.code == 1000
    with pytest.raises(InvalidStatus) as refused:
        independent_connect(f"{url}/other", subprotocols=["mqtt"], **tls)
    assert refused.value.response.status_code == 404
