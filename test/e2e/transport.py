"""How the clients of the tests reach their server.

The servers of the tests that say nothing else listen on the transport that TIDEMQ_TEST_TRANSPORT
names: mqtt (the usual one), mqtts, ws, wss or quic. A client takes the transport of its server's first
listener.
"""

import os
import socket
import ssl

import pki
import websock

SCHEME = os.environ.get("TIDEMQ_TEST_TRANSPORT", "mqtt")
WITH_TLS, WITH_FRAMES = ("mqtts", "wss"), ("ws", "wss")
# What sending says when the other end is gone.
GONE = (BrokenPipeError, ConnectionResetError, ssl.SSLError)


def defaults():
    """The keys of the configuration that make a server listen on the transport."""
    keys = {"listeners": [f"{SCHEME}://127.0.0.1:0"]}
    if SCHEME in WITH_TLS or SCHEME == "quic":
        keys["tls.certificate"] = pki.shared().path("server.pem")
        keys["tls.private_key"] = pki.shared().path("server.key")
    return keys


def tls_context():
    """What clients need to trust the servers of the tests."""
    return ssl.create_default_context(cafile=pki.shared().path("ca.pem"))


def paho_arguments(scheme):
    """What paho.Client must be told for the transport."""
    return {"transport": "websockets"} if scheme in WITH_FRAMES else {}


def open_quic(address):
    """A socket that a QUIC stream ends in."""
    from quic_link import Link, QuicSocket  # takes its time to load, and few tests need it
    return QuicSocket(Link(address, ca=pki.shared().path("ca.pem")))


def dress(client, scheme, context=None):
    """Has a paho client speak the transport."""
    if scheme in WITH_TLS:
        client.tls_set_context(context or tls_context())
    elif scheme == "quic":
        client._create_socket_connection = lambda: open_quic((client.host, client.port))


def open_socket(scheme, address, timeout_s=20, options=()):
    """A connected socket that carries MQTT. options: (level, name, value), set before it connects."""
    if scheme == "quic":
        return open_quic(address)
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    for option in options:
        sock.setsockopt(*option)
    sock.settimeout(timeout_s)
    try:
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme in WITH_TLS:
            sock = tls_context().wrap_socket(sock, server_hostname=address[0])
        if scheme in WITH_FRAMES:
            sock = websock.Channel(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def socket_below(sock):
    """The socket inside of what paho has made of it."""
    return getattr(sock, "_socket", sock)


def receive_all(sock, size):
    """So many bytes, or fewer at the end of the stream."""
    got = b""
    while len(got) < size and (more := sock.recv(size - len(got))):
        got += more
    return got


def half_close(sock):
    """Ends what is sent; what the server sends still arrives. With TLS only the socket ends, because
    Python's ends both directions."""
    with socket.socket(fileno=os.dup(sock.fileno())) as bare:
        bare.shutdown(socket.SHUT_WR)
