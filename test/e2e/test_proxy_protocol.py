"""The PROXY protocol: whose address is shown, and what is refused."""

import re
import socket
import ssl

import pki
import pytest
from tidemq import wait_until

TIMEOUT_S = 20
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
BINARY = (SIGNATURE + b"\x21\x21\0\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(15)
          + b"\x01\x12\x34\x56\x78")
CONNECT = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01p"
CONNACK = b"\x20\x02\0\0"


def connect(server, head, scheme="mqtt"):
    """A socket on which the header has been sent, and the client connected."""
    sock = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    sock.sendall(head)
    if scheme == "mqtts":
        made = ssl.create_default_context(cafile=pki.shared().path("ca.pem"))
        sock = made.wrap_socket(sock, server_hostname="localhost")
    sock.sendall(CONNECT)
    return sock


@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_the_real_address_is_shown(make_server, scheme, loops):
    """In the list of clients and in the log, for both versions, below TLS and without it."""
    keys = {"listeners": [f"{scheme}://127.0.0.1:0?proxy_protocol=required"], "threads.loops": loops}
    if scheme == "mqtts":
        keys |= {"tls.certificate": pki.shared().path("server.pem"),
                 "tls.private_key": pki.shared().path("server.key")}
    server = make_server(**keys)
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
    rows = [(b"", 1, 0), (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", 1, 1), (SIGNATURE + b"\x21\x11\0\x01x", 1, 1),
            (SIGNATURE + b"\x21\x11\xff\xff", 1, 1), (LINE, 0, 0)]
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
        assert len(re.findall("header of the PROXY protocol", server.log)) == refused


def test_a_header_that_does_not_come(make_server):
    """The time for CONNECT includes it."""
    server = make_server(**{"listeners": ["mqtt://127.0.0.1:0?proxy_protocol=required"],
                            "limits.connect_timeout": "1s"})
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as sock:
        sock.sendall(LINE[:20])
        assert sock.recv(1) == b""
