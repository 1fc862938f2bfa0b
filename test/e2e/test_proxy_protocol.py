"""The PROXY protocol: whose address is shown, and what is refused."""

import contextlib
import json
import re
import socket
import ssl
import struct
import subprocess

import pki
import pytest
import transport
import websock
from tidemq import wait_until

TIMEOUT_S = 20
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
BINARY = (SIGNATURE + b"\x21\x21\0\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(15)
          + b"\x01\x12\x34\x56\x78")
CONNECT = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01p"
CONNACK = b"\x20\x02\0\0"
LOGGED = 20  # lines of one kind in a second; the others are counted


def binary(command, family, addresses=b"", tlvs=b"", size=None):
    """A header of version 2. size: what it says of itself, right or wrong."""
    size = len(addresses + tlvs) if size is None else size
    return SIGNATURE + bytes([command, family]) + struct.pack(">H", size) + addresses + tlvs


FOUR = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + b"\xdc\x04\x01\xbb"
MALFORMED = [
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", b"PROXY \r\n",
    b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", LINE[:-2] + b"\n",
    b"PROXY UNKNOWN" + b"x" * 100, LINE[:-2] + b"x" * 70 + b"\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
    binary(0x21, 0x11, b"x"), binary(0x21, 0x11, size=0xffff), binary(0x11, 0x11, FOUR), binary(0x22, 0x11, FOUR),
    binary(0x21, 0x41, FOUR), binary(0x21, 0x12, FOUR), binary(0x21, 0x21, FOUR), binary(0x21, 0x31, FOUR),
    binary(0x21, 0x11, FOUR, b"\x04"), binary(0x21, 0x11, FOUR, b"\x04\0\x09x"),
    binary(0x21, 0x11, FOUR, b"\x03\0\x04" + bytes(4)), binary(0x21, 0x11, FOUR, b"\x03\0\x02" + bytes(2)),
]


def dress(sock, scheme):
    """What stands on top of a connected socket, for the scheme."""
    if scheme in transport.WITH_TLS:
        made = ssl.create_default_context(cafile=pki.shared().path("ca.pem"))
        sock = made.wrap_socket(sock, server_hostname="localhost")
    return websock.Channel(sock) if scheme in transport.WITH_FRAMES else sock


def connect(server, head, scheme="mqtt"):
    """A socket on which the header has been sent, and the client connected."""
    sock = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    sock.sendall(head)
    sock = dress(sock, scheme)
    sock.sendall(CONNECT)
    return sock


def listener(scheme, mode="required"):
    """Configuration of a server with that listener."""
    keys = {"listeners": [f"{scheme}://127.0.0.1:0?proxy_protocol={mode}"]}
    if scheme in transport.WITH_TLS:
        keys |= {"tls.certificate": pki.shared().path("server.pem"),
                 "tls.private_key": pki.shared().path("server.key")}
    return keys


@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_the_real_address_is_shown(make_server, scheme, loops):
    """In the list of clients and in the log, for both versions, below whatever stands on top."""
    server = make_server(**listener(scheme), **{"threads.loops": loops})
    for head, address in ((LINE, "192.0.2.7:56324"), (BINARY, "[2001:db8::7]:4660")):
        with connect(server, head, scheme) as sock:
            assert sock.recv(4) == CONNACK
            assert server.cli_json("client", "show", "p")["address"] == address
            sock.sendall(b"\xff\xff")
            assert sock.recv(10) == b""
        wait_until(lambda address=address: f"closed the connection from {address}: " in server.log,
                   what="the log line")


def test_a_health_check_is_served(make_server):
    """LOCAL and UNKNOWN are the proxy itself; one that only connects leaves no trace in the log."""
    server = make_server(listeners=["mqtt://127.0.0.1:0?proxy_protocol=required"])
    for head in (SIGNATURE + b"\x20\0\0\0", b"PROXY UNKNOWN\r\n"):
        with connect(server, head) as sock:
            assert sock.recv(4) == CONNACK
            assert server.cli_json("client", "show", "p")["address"].startswith("127.0.0.1:")
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S):
        pass
    wait_until(lambda: server.metrics()["tidemq_connections"] == 0, what="the end of all")
    assert "proxy_protocol" not in server.log


def test_missing_and_malformed_headers(make_server):
    """required refuses who has none; true takes both; a malformed one is refused always."""
    strict = make_server(listeners=["mqtt://127.0.0.1:0?proxy_protocol=required"])
    lenient = make_server(listeners=["mqtt://127.0.0.1:0?proxy_protocol=true"])
    rows = [(b"", 1, 0), *((head, 1, 1) for head in MALFORMED), (LINE, 0, 0)]
    for server, column in ((strict, 1), (lenient, 2)):
        for row in rows:
            with connect(server, row[0]) as sock:
                try:
                    answer = sock.recv(4)
                except ConnectionResetError:
                    answer = b""
                assert answer == (b"" if row[column] else CONNACK), row
        refused = sum(row[column] for row in rows)
        assert server.metrics()["tidemq_proxy_headers_refused_total"] == refused
        assert refused >= len(re.findall("header of the PROXY protocol", server.log)) >= min(refused, LOGGED)


def test_a_header_that_does_not_come(make_server):
    """The time for CONNECT includes it."""
    server = make_server(**{"listeners": ["mqtt://127.0.0.1:0?proxy_protocol=required"],
                            "limits.connect_timeout": "1s"})
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as sock:
        sock.sendall(LINE[:20])
        assert sock.recv(1) == b""


# ---- somebody else's


@contextlib.contextmanager
def haproxy(server, folder, options):
    """Debian's haproxy in front of the server; the address to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as front:
        config = folder / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n"
            f"frontend all\n  bind fd@{front.fileno()}\n  default_backend tidemq\n"
            f"backend tidemq\n  server one {server.host}:{server.port} {options} check inter 100ms\n")
        with open(folder / "haproxy.log", "wb") as out, subprocess.Popen(
            ["haproxy", "-db", "-f", config], stdout=out, stderr=out, pass_fds=[front.fileno()]
        ) as process:
            try:
                yield front.getsockname()
            finally:
                process.kill()


OPTIONS = ["send-proxy", "send-proxy-v2",
           "send-proxy-v2 proxy-v2-options crc32c,authority,unique-id,ssl,cert-cn"]


@pytest.mark.parametrize("scheme", ["mqtt", "wss"])
@pytest.mark.parametrize("options", OPTIONS, ids=["v1", "v2", "v2 with everything"])
def test_haproxy(make_server, tmp_path, options, scheme):
    """The backend of docs/tls.md: the client's address is shown, and the health checks are silent."""
    server = make_server(**listener(scheme))
    with haproxy(server, tmp_path, options) as address:
        with socket.create_connection(address, timeout=TIMEOUT_S) as sock:
            port = sock.getsockname()[1]
            with dress(sock, scheme) as client:
                client.sendall(CONNECT)
                assert client.recv(4) == CONNACK, (tmp_path / "haproxy.log").read_text()
                assert server.cli_json("client", "show", "p")["address"] == f"127.0.0.1:{port}"
        checks = server.metrics()["tidemq_connections_opened_total"]
        wait_until(lambda: server.metrics()["tidemq_connections_opened_total"] > checks + 3, what="health checks")
    assert server.metrics()["tidemq_proxy_headers_refused_total"] == 0
    assert "proxy_protocol" not in server.log and "closed the connection" not in server.log


@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_curl(make_server, scheme):
    """curl's header, of version 1, in front of its own MQTT and of HTTP."""
    server = make_server(**listener(scheme))
    url = f"{'http' if scheme == 'ws' else 'mqtt'}://{server.host}:{server.port}/mqtt"
    body = ["-d", "hello"] if scheme == "mqtt" else []
    done = subprocess.run(["curl", "--silent", "--show-error", "--noproxy", "*", "--haproxy-protocol", *body, url],
                          capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    if scheme == "ws":
        assert "MQTT over WebSocket" in done.stdout
    else:
        assert json.loads(server.cli("topic", "show", "mqtt", "--json").stdout)
    assert server.metrics()["tidemq_proxy_headers_refused_total"] == 0
