"""QUIC: one stream with MQTT in it, early data, moving clients, proofs of address, and what is refused."""

import concurrent.futures
import contextlib
import os
import random
import select
import signal
import socket
import stat
import threading
import time

import pytest
from pki import Pki
from quic_link import Link
from tidemq import StartFailed, wait_until
from wire import (CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBLISH, SUBACK, V5, Peer, connect, disconnect,
                  pingreq, publish, subscribe)

TIMEOUT_S = 20
SECRETS = "quic.secrets"
CRYPTO_ERROR = 0x100
UNKNOWN_CA, NO_PROTOCOL, CERTIFICATE_REQUIRED = 48, 120, 116
INVALID_TOKEN = 0x0B


@pytest.fixture(name="pki", scope="module")
def fixture_pki(tmp_path_factory):
    """A CA with a server's and two clients' certificates."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("server", "device1", "device2"):
        pki.issue(name)
    pki.revoke("device2")
    pki.write_list()
    return pki


def keys(pki, options="", **more):
    """Configuration of a server with QUIC alone."""
    return {"listeners": [f"quic://127.0.0.1:0{options}"], "tls.certificate": pki.path("server.pem"),
            "tls.private_key": pki.path("server.key"), **more}


@pytest.fixture(name="server", scope="module")
def fixture_server(make_server_module, pki):
    """A server with QUIC that nobody changes."""
    return make_server_module(**keys(pki))


@pytest.fixture(name="dial")
def fixture_dial(pki):
    """Makes links to a server, which end with the test."""
    made = []

    def dial(server, **options):
        made.append(Link((server.host, server.port), **{"ca": pki.path("ca.pem"), **options}))
        return made[-1]
    yield dial
    for link in made:
        link.close()


def speak(link, client_id=None, **options):
    """MQTT on a link; connects when a client ID is given."""
    peer = Peer(None, V5, sock=link.sock)
    if client_id is not None:
        peer.connect(client_id, **options)
    return peer


def metric(server, name):
    """A counter or gauge."""
    return server.metrics()[f"tidemq_{name}"]


# --- what is carried --------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [1, 2])
def test_messages_cross(make_server, pki, dial, loops):
    """At QoS 2 and large, from one client to another, whatever the number of loops."""
    server = make_server(**keys(pki, **{"threads.loops": loops, "limits.max_packet_size": "8MiB"}))
    reader, writer = speak(dial(server), "reader"), speak(dial(server), "writer")
    reader.subscribe(("a/#", 2))
    payload = bytes(range(256)) * 8000
    writer.publish("a/b", payload, 2)
    reader.take("a/b", payload, 2)
    assert metric(server, "tls_handshakes_total") == 2


def test_the_end_from_either_side(server, dial):
    """DISCONNECT ends the connection without an error; MQTT's errors are QUIC's, too."""
    link = dial(server)
    speak(link, "orderly").send(disconnect(V5))
    assert link.wait_end()[:2] == (0, None)
    link = dial(server)
    peer = speak(link, "rude")
    peer.send(b"\xf0\x00")
    assert peer.expect(DISCONNECT).reason == 0x82
    assert link.wait_end()[:2] == (0x82, None)
    link = dial(server)
    peer = speak(link, "reset")
    link.call(lambda: link.connection.reset_stream(link.stream, 1))
    wait_until(lambda: metric(server, "connections") == 0, what="the end of the connection")


def test_half_closed(server, dial):
    """A client that ends its side gets what it asked for before, and then the end."""
    link = dial(server)
    peer = speak(link, "half")
    peer.send(publish(V5, "half/1", b"x", 1, 9))
    peer.half_close()
    assert link.wait_end()[1] is None


def test_a_vanished_client_is_noticed(server, dial):
    """Keep alive holds on QUIC as on TCP."""
    link = dial(server)
    before = metric(server, "keep_alive_timeouts_total")
    speak(link, "gone", keep_alive=1)
    link.vanish()
    wait_until(lambda: metric(server, "keep_alive_timeouts_total") == before + 1, what="the time-out")


def test_further_streams_are_refused(server, dial):
    """Of either kind, more than may be open at once, while MQTT goes on on the first."""
    link = dial(server)
    peer = speak(link, "many")
    for index in range(12):
        number = link.open_stream(one_way=index < 4)
        link.wait(lambda n=number: n in link.stops, "refusal")
        assert link.stops[number] == 0x82
        if index >= 4:
            link.wait(lambda n=number: n in link.resets, "reset")
            assert link.resets[number] == 0x82
        peer.quiet()


def test_what_a_client_does_not_read_waits(server, dial):
    """A client that stops reading holds up its own messages and nobody else's."""
    slow = dial(server, window=20000)
    reader = speak(slow, "slow")
    writer = speak(dial(server), "busy")
    reader.subscribe(("flow/#", 1))
    for number in range(1, 41):
        writer.publish("flow/1", bytes([number]) * 30000, 1, number)
    for number in range(1, 41):
        reader.take("flow/1", bytes([number]) * 30000, 1)


def test_stopping_tells_clients(make_server, pki, dial):
    """An orderly end of the server: DISCONNECT and a closed connection."""
    server = make_server(**keys(pki))
    link = dial(server)
    peer = speak(link, "here")
    server.signal(signal.SIGTERM)
    assert peer.expect(DISCONNECT).reason == 0x8B
    assert link.wait_end()[1] is None
    server.stop()


# --- who is let in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpn", [("h3",), ("mqtt/5", "h3")])
def test_other_protocols(server, dial, alpn):
    """ALPN must be mqtt."""
    link = dial(server, alpn=alpn, confirm=False)
    assert link.wait_end()[0] == CRYPTO_ERROR + NO_PROTOCOL


def test_certificates_of_clients(make_server, pki, dial, tmp_path):
    """Mutual TLS: with a certificate, without one, with a revoked one, with one of somebody else."""
    server = make_server(**keys(pki, **{"tls.client_ca": pki.path("ca.pem"), "tls.crl": pki.path("crl.pem")}))
    link = dial(server, certificate=(pki.path("device1.pem"), pki.path("device1.key")))
    speak(link, "device1")
    other = Pki(tmp_path / "other")
    other.issue("device1")
    for certificate in (None, (pki, "device2"), (other, "device1")):
        files = certificate and [certificate[0].path(f"{certificate[1]}.{end}") for end in ("pem", "key")]
        with pytest.raises((ConnectionRefusedError, AssertionError)):
            refused = dial(server, certificate=files)
            speak(refused, "nobody")
    assert metric(server, "tls_handshakes_failed_total") == 3
    again = dial(server, certificate=(pki.path("device1.pem"), pki.path("device1.key")), before=link)
    assert again.resumed
    speak(again, "device1")


@pytest.mark.parametrize("how", ["by itself", "at SIGHUP"])
def test_revoked_links_are_closed(make_server, dial, tmp_path, how):
    """A certificate that is revoked loses its live link with 0x87, and cannot come back, not even with
    its ticket; others stay."""
    own = Pki(tmp_path / "own")
    for name in ("server", "device1", "device2"):
        own.issue(name)
    own.write_list()
    server = make_server(**keys(own, **{"tls.client_ca": own.path("ca.pem"), "tls.crl": own.path("crl.pem")}))

    def dial_as(name, **options):
        return dial(server, ca=own.path("ca.pem"), certificate=(own.path(f"{name}.pem"), own.path(f"{name}.key")),
                    **options)

    good, bad = (speak(dial_as(name), name) for name in ("device2", "device1"))
    before = dial_as("device1")
    before.wait(lambda: before.tickets, "ticket")
    own.revoke("device1")
    own.write_list()
    if how == "at SIGHUP":
        server.signal(signal.SIGHUP)
    assert bad.expect(DISCONNECT).reason == 0x87
    for again in (None, before):
        with pytest.raises((ConnectionRefusedError, AssertionError)):
            speak(dial_as("device1", before=again), "device1")
    good.quiet()


def test_a_renewed_certificate_is_used(make_server, dial, tmp_path):
    """Links stay, new ones see the new certificate, here that of another CA."""
    own, other = Pki(tmp_path / "own"), Pki(tmp_path / "other")
    for each in (own, other):
        each.issue("server")
    server = make_server(**keys(own))
    stays = speak(dial(server, ca=own.path("ca.pem")), "stays")
    with pytest.raises(ConnectionRefusedError):
        dial(server, ca=other.path("ca.pem"))
    for file in ("server.pem", "server.key"):
        own.path(file).write_bytes(other.path(file).read_bytes())
    wait_until(lambda: "certificates read again" in server.log, what="the new certificate")
    speak(dial(server, ca=other.path("ca.pem")), "new").quiet()
    stays.quiet()


# --- early data ---------------------------------------------------------------------------------------


def first_flight(server, **options):
    """What a client sends first; it has not been sent."""
    link = Link((server.host, server.port), confirm=False, records=True, silent=True, **options)
    link.wait(lambda: link.sent, "datagram")
    flight = list(link.sent)
    link.vanish()
    assert len(flight[0]) >= 1200
    return flight


def ticket_of(server, dial):
    """A link that has been used, with its ticket and its token."""
    link = dial(server)
    speak(link, "before")
    link.wait(lambda: link.tickets and link.tokens, "ticket")
    link.close()
    return link


def test_connect_comes_early(server, dial):
    """CONNECT goes ahead of the handshake, and its answer comes right behind it."""
    before = ticket_of(server, dial)
    link = dial(server, before=before, early=connect(V5, "early"))
    assert link.early_accepted
    peer = speak(link)
    peer.expect(CONNACK, reason=0)
    peer.quiet()


def test_only_connect_comes_early(server, dial):
    """Anything else ahead of the handshake ends the connection, and nothing of it was done."""
    before = ticket_of(server, dial)
    watcher = speak(dial(server), "watcher")
    watcher.subscribe(("early/#", 1))
    for early in (connect(V5, "hasty") + publish(V5, "early/1", b"x", 0),
                  publish(V5, "early/1", b"x", 0), connect(V5, "hasty") + b"\xc0"):
        link = dial(server, before=before, early=early, confirm=False)
        assert link.wait_end()[:2] == (0x82, None)
    watcher.quiet()


def test_a_replay_disturbs_nobody(make_server, pki, dial):
    """Early packets that an onlooker sends do not take over the session that they name: without the
    client's answer the handshake comes to nothing, and what came early with it."""
    server = make_server(**keys(pki, **{"limits.connect_timeout": "2s"}))
    before = ticket_of(server, dial)
    flight = first_flight(server, before=before, early=connect(V5, "live"))
    assert len(flight) > 0
    live = speak(dial(server), "live")
    opened = metric(server, "connections_opened_total")
    for count in (1, 2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(TIMEOUT_S)
            for data in flight:
                sock.sendto(data, (server.host, server.port))
            assert sock.recv(2000)
        live.quiet()
        wait_until(lambda c=count: metric(server, "tls_handshakes_failed_total") == c, what="its end")
    live.quiet()
    assert metric(server, "connections_opened_total") == opened


# --- moving clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("move", ["rebind", "migrate"])
def test_moving_keeps_the_session(server, dial, move):
    """The port changes in the middle, with messages under way in both directions."""
    link, writer = dial(server), speak(dial(server), f"still-{move}")
    peer = speak(link, f"moving-{move}")
    peer.subscribe((f"{move}/#", 1))
    for number in range(1, 31):
        if number % 10 == 0:
            getattr(link, move)()
        writer.publish(f"{move}/1", str(number), 1, number)
        peer.take(f"{move}/1", str(number), 1)
        peer.publish(f"other{move}/1", str(number), 1, number)
    wait_until(lambda: metric(server, "quic_migrations_total") >= 1, what="a validated path")


@pytest.mark.parametrize("count", [4, 10])
@pytest.mark.parametrize("losses", [(1, 3), (1, 4, 5), (1, 6, 7, 8)], ids=str)
def test_a_forgetful_nat_and_a_bad_network(server, dial, losses, count):
    """All that was under way went to the old port, and of the first that the client says at the new one
    some is lost, the proof of its address among it. It only receives, so nothing else comes from it."""
    name = f"{count}-{'-'.join(map(str, losses))}"
    link, writer = dial(server), speak(dial(server), f"clear-{name}")
    peer = speak(link, f"forgotten-{name}")
    peer.subscribe((f"forgotten/{name}", 0))
    messages = [str(number).ljust(2000, ".") for number in range(count)]
    link.deaf = True
    for number, message in enumerate(messages, 1):
        writer.publish(f"forgotten/{name}", message, 1, number)
    link.rebind(losses)
    for message in messages:
        peer.take(f"forgotten/{name}", message)


# --- addresses -----------------------------------------------------------------------------------------


def test_retry_and_token(make_server, pki, dial):
    """A client proves its address by a Retry, and later with the token that it got, which outlives a
    restart of the server. Somebody else's token is as good as none."""
    server = make_server(**keys(pki, "?retry=always"))
    first = ticket_of(server, dial)
    assert metric(server, "quic_retries_total") == 1
    speak(dial(server, before=first), "again")
    assert metric(server, "quic_retries_total") == 1
    server.restart(kill=True)
    speak(dial(server, before=first), "third")
    assert metric(server, "quic_retries_total") == 0
    first.tokens[-1] = first.tokens[-1][:-1] + bytes([first.tokens[-1][-1] ^ 1])
    speak(dial(server, before=first), "forger")
    assert metric(server, "quic_retries_total") == 1


def test_a_forged_retry_token(make_server, pki, dial):
    """A token that looks like one of a Retry and is not ends the attempt at once."""
    server = make_server(**keys(pki, "?retry=always"))
    first = ticket_of(server, dial)
    first.tokens[-1] = b"\xb6" + first.tokens[-1][1:]
    link = dial(server, before=first, confirm=False)
    assert link.wait_end()[0] == INVALID_TOKEN


def test_many_handshakes_bring_retries(make_server, pki, dial):
    """More than 64 that are not completed: who comes then has to prove its address, and is served."""
    server = make_server(**keys(pki))
    with concurrent.futures.ThreadPoolExecutor(33) as pool:  # they are slow to make, and soon given up
        flights = list(pool.map(lambda _: first_flight(server), range(66)))
    with contextlib.ExitStack() as stack:
        for flight in flights:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.settimeout(TIMEOUT_S)
            sock.sendto(flight[0], (server.host, server.port))
            assert sock.recv(2000)
        speak(dial(server), "later").quiet()
    assert metric(server, "quic_retries_total") >= 1


def receive_for(sock, seconds):
    """The datagrams that come within so many seconds."""
    found, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            found.append(sock.recv(2000))
    return found


def test_no_amplification(server):
    """Who has not proved its address gets three times what it sent at most."""
    data = first_flight(server)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, (server.host, server.port))
        got = receive_for(sock, 3)
    assert 0 < sum(map(len, got)) <= 3 * len(data)


def test_a_reset_tells_that_the_server_forgot(make_server, pki, dial):
    """After a crash a client learns at its next packet that its connection is gone: by the token that
    it was given before. Shorter packets get no answer."""
    server = make_server(**keys(pki))
    link = dial(server)
    peer = speak(link, "survivor")
    token = link.call(lambda: link.connection._peer_cid.stateless_reset_token)
    link.records = True
    server.restart(kill=True)
    peer.send(publish(V5, "after/1", bytes(500), 0))
    def resets():
        return [data for data in link.received if data[-16:] == token]

    link.wait(resets, "reset")
    assert all(len(data) <= 42 for data in resets())
    assert metric(server, "quic_resets_total") >= 1


def test_secrets_are_kept(make_server, pki):
    """The file is its owner's alone; a damaged one stops the start."""
    server = make_server(**keys(pki))
    path = server.data_dir / SECRETS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    server.restart()
    assert path.read_bytes() == before
    server.stop()
    for damaged in (b"", before[:-1], before + b"x", b"x" + before[1:]):
        path.write_bytes(damaged)
        with pytest.raises(StartFailed, match="quic.secrets.*remove it"):
            server.start()
    path.unlink()
    server.start()
    assert path.read_bytes() != before


# --- what is not a packet ---------------------------------------------------------------------------------


def test_unknown_versions(server):
    """Version negotiation names version 1, and only for datagrams that are long enough."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        ids = b"\x08DESTNAME\x06SOURCE"
        packet = b"\xc0\x0a\x0b\x0c\x0d" + ids
        sock.sendto(packet + bytes(100), (server.host, server.port))
        sock.sendto(packet + bytes(1200), (server.host, server.port))
        got = sock.recv(2000)
    assert got[0] & 0x80 and got[1:5] == bytes(4)
    assert got[5:21] == b"\x06SOURCE\x08DESTNAME"
    versions = [got[at:at + 4] for at in range(21, len(got), 4)]
    assert b"\x00\x00\x00\x01" in versions


def test_malformed_packets(server, dial):
    """Noise, cut and changed packets of every kind are dropped, and clients are served meanwhile."""
    link = dial(server, records=True)
    peer = speak(link, "witness")
    chance = random.Random(5)
    seeds = [first_flight(server)[0], *link.sent]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in seeds:
            for size in (0, 1, 5, 6, 7, 20, 21, 22, 30, 50, len(data) - 1):
                sock.sendto(data[:size], (server.host, server.port))
            for _ in range(60):
                changed = bytearray(data)
                for _ in range(chance.randint(1, 5)):
                    changed[chance.randrange(min(len(changed), 60))] = chance.randrange(256)
                sock.sendto(changed, (server.host, server.port))
        for size in (1, 40, 1200, 1500, 9000):
            sock.sendto(os.urandom(size), (server.host, server.port))
        peer.quiet()
    speak(dial(server), "later").quiet()


# Frames that follow a PING in an encrypted packet, and the transport error that ends the connection.
STREAM_0 = b"\x0e\x00"  # with an offset and a length
FRAMES = {
    "unknown type": (b"\x40\x52", 0x07),
    "HANDSHAKE_DONE": (b"\x1e", 0x0A),
    "NEW_TOKEN": (b"\x07\x01x", 0x0A),
    "a stream of the server": (b"\x0a\x01\x01x", 0x05),
    "more streams than allowed": (b"\x0a\x70\x00\x01x", 0x04),
    "beyond the window": (STREAM_0 + b"\x90\x00\x00\x00\x01x", 0x03),
    "another end": (b"\x0f\x00\x00\x00", 0x06),
    "RESET_STREAM cut off": (b"\x04\x00", 0x07),
    "STREAM longer than the packet": (b"\x0a\x00\x50\x00x", 0x07),
    "ACK of what was not sent": (b"\x02\x80\x10\x00\x00\x00\x00\x00", 0x0A),
    "ACK below zero": (b"\x02\x01\x00\x00\x05", 0x07),
    "a connection ID too long": (b"\x18\x09\x00\x15" + bytes(37), 0x07),
    "a connection ID that retires itself": (b"\x18\x09\x0a\x08" + bytes(24), 0x07),
    "MAX_STREAMS too large": (b"\x12\xd0" + bytes(6) + b"\x01", 0x07),
    "a ClientHello after the handshake": (b"\x06\x00\x04\x01\x00\x00\x00", CRYPTO_ERROR + 10),
}


@pytest.mark.parametrize("name", FRAMES)
def test_malformed_frames(server, dial, name):
    """Each ends its connection with the error of RFC 9000, and nobody else's."""
    data, error = FRAMES[name]
    witness = speak(dial(server), "witness")
    link = dial(server)
    speak(link, "rogue")

    def write(builder, uids=(), comment=""):
        builder.start_frame(1, capacity=1 + len(data)).push_bytes(data)

    def send():
        link.connection._write_ping_frame = write
        link.connection.send_ping(1)

    link.call(send)
    assert link.wait_end()[0] == error
    witness.quiet()


# --- a bad network ------------------------------------------------------------------------------------------


class Relay(threading.Thread):
    """Carries datagrams to a server and back, and loses and swaps some."""

    def __init__(self, server, loss, seed):
        super().__init__(daemon=True)
        self.target = (server.host, server.port)
        self.host, self.port = "127.0.0.1", 0
        self.loss, self.chance = loss, random.Random(seed)
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.near.bind((self.host, 0))
        self.port = self.near.getsockname()[1]
        self.far.connect(self.target)
        self.ended = socket.socketpair()
        self.client = None
        self.lost = self.carried = 0
        self.start()

    def _pass(self, data, send):
        if self.chance.random() < self.loss:
            self.lost += 1
        else:
            self.carried += 1
            send(data)

    def run(self):
        while True:
            ready = select.select([self.near, self.far, self.ended[1]], [], [])[0]
            if self.ended[1] in ready:
                return
            if self.near in ready:
                data, self.client = self.near.recvfrom(2000)
                self._pass(data, self.far.send)
            if self.far in ready:
                self._pass(self.far.recv(2000), lambda data: self.near.sendto(data, self.client))

    def end(self):
        """Ends the thread."""
        self.ended[0].send(b"x")
        self.join()


def test_ten_percent_loss(server, dial):
    """Every message arrives once and in order when one datagram of ten is lost, either way."""
    relay = Relay(server, 0.1, seed=1)
    try:
        peer = speak(dial(relay), "lossy")
        peer.subscribe(("loss/#", 1))
        for number in range(1, 101):
            peer.send(publish(V5, "loss/1", str(number) + "x" * 2000, 1, number))
        seen, acked = [], 0
        while len(seen) < 100 or acked < 100:
            packet = peer.receive()
            if packet.kind == PUBLISH:
                seen.append(packet.payload)
                peer.ack(PUBACK, packet.packet_id)
            else:
                acked += packet.kind == PUBACK
        assert seen == [(str(number) + "x" * 2000).encode() for number in range(1, 101)]
        assert relay.lost > 10
    finally:
        relay.end()
