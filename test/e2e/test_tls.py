"""TLS: what is served, who is refused and how it is told, and certificates that change meanwhile."""

import datetime
import json
import re
import signal
import socket
import ssl
import subprocess
import time

import pytest
from client import Client
from ocsp import write_response
from pki import Pki, openssl
from tidemq import StartFailed, run_serve, sanitizers, wait_until

TIMEOUT_S = 20


@pytest.fixture(name="pki", scope="module")
def fixture_pki(tmp_path_factory):
    """A CA with a server's and two clients' certificates; nobody changes them."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    pki.issue("server")
    pki.issue("device1", subject="/O=Acme/CN=device1")
    pki.issue("device2", subject="/O=Acme/CN=device2")
    pki.write_list()
    return pki


@pytest.fixture(name="own_pki")
def fixture_own_pki(tmp_path):
    """The same for a test that changes it."""
    pki = Pki(tmp_path / "pki")
    pki.issue("server")
    pki.issue("device1", subject="/O=Acme/CN=device1")
    pki.issue("device2", subject="/O=Acme/CN=device2")
    pki.write_list()
    return pki


def tls_keys(pki, **more):
    """Configuration of a server with TLS alone."""
    return {"listeners": ["mqtts://127.0.0.1:0"], "tls.certificate": pki.path("server.pem"),
            "tls.private_key": pki.path("server.key"), **more}


def mutual_keys(pki, **more):
    """The same, with certificates of clients and a list of those that are revoked."""
    return tls_keys(pki, **{"tls.client_ca": pki.path("ca.pem"), "tls.crl": pki.path("crl.pem"), **more})


def mosquitto(command, server, pki, *words, certificate=None, ca="ca.pem"):
    """mosquitto_pub or mosquitto_sub; returns the finished process."""
    own = ["--cert", pki.path(f"{certificate}.pem"), "--key", pki.path(f"{certificate}.key")]
    arguments = [command, "-h", "localhost", "-p", server.port, "--cafile", pki.path(ca),
                 *(own if certificate else []), *words]
    return subprocess.run([str(word) for word in arguments], capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False)


def context(pki, certificate=None):
    """A client's side for Python's ssl."""
    made = ssl.create_default_context(cafile=pki.path("ca.pem"))
    if certificate:
        made.load_cert_chain(pki.path(f"{certificate}.pem"), pki.path(f"{certificate}.key"))
    return made


def open_tls(server, pki, certificate=None, *, name="localhost", made=None):
    """A connection after its handshake."""
    sock = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    return (made or context(pki, certificate)).wrap_socket(sock, server_hostname=name)


def paho(server, pki, certificate=None, **options):
    """A connected client of paho."""
    return Client(server, tls=context(pki, certificate), **options).connect()


def shown(server, pki, name="localhost"):
    """The certificate that the server shows, as Python's ssl has it."""
    with open_tls(server, pki, name=name) as sock:
        return sock.getpeercert()


def stapled(server, pki):
    """When the OCSP response that is sent with the certificate was made; None when none is sent."""
    said = openssl(pki.folder, "s_client", "-connect", f"localhost:{server.port}", "-status",
                   "-CAfile", "ca.pem", input="x\n")
    if "OCSP response: no response sent" in said:
        return None
    assert "Cert Status: good" in said, said
    return re.search("This Update: (.*)", said)[1]


def metric(server, name):
    """A counter or gauge about TLS."""
    return server.metrics()[f"tidemq_tls_{name}"]


# --- what is served ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
@pytest.mark.parametrize("loops", [1, 2])
def test_mosquitto_clients(make_server, pki, version, loops):
    """A message at QoS 2 from one foreign client to another, over both versions."""
    server = make_server(**tls_keys(pki, **{"threads.loops": loops}))
    words = ["--tls-version", version, "-q", "2", "-t", "a/b", "-i", "sub", "-c"]
    left = mosquitto("mosquitto_sub", server, pki, *words, "-E")
    assert left.returncode == 0, left.stderr
    sent = mosquitto("mosquitto_pub", server, pki, *words[:-3], "-m", "hello")
    assert sent.returncode == 0, sent.stderr
    got = mosquitto("mosquitto_sub", server, pki, *words, "-C", "1")
    assert got.stdout == "hello\n", got.stderr
    assert metric(server, "handshakes_total") == 3


def test_large_messages_cross(make_server, pki):
    """Many records, in both directions, to two subscribers."""
    server = make_server(**tls_keys(pki, **{"limits.max_packet_size": "8MiB"}))
    clients = [paho(server, pki) for _ in range(2)]
    for client in clients:
        client.subscribe("big/#", 1)
    payload = bytes(range(256)) * 10000
    clients[0].publish("big/1", payload, 1)
    for client in clients:
        assert client.take().payload == payload
        client.disconnect()


def test_resumption(make_server, pki):
    """A client that was there before is spared the long handshake, over both versions."""
    server = make_server(**tls_keys(pki))
    session = pki.folder / "session.pem"
    for number, version in enumerate(("-tls1_2", "-tls1_3"), 1):
        words = ["s_client", "-connect", f"localhost:{server.port}", "-CAfile", pki.path("ca.pem"),
                 "-servername", "localhost", version]
        # The bytes are no MQTT: the server closes, and by then the ticket has come.
        first = openssl(pki.folder, *words, "-ign_eof", "-sess_out", session, input="x\n")
        assert "New, TLSv1" in first
        again = openssl(pki.folder, *words, "-ign_eof", "-sess_in", session, input="x\n")
        assert "Reused, TLSv1" in again
        assert metric(server, "handshakes_resumed_total") == number


def test_a_name_chooses_among_certificates(make_server, own_pki):
    """Two certificates on one listener, and a third on another."""
    own_pki.issue("other", names="DNS:other.example")
    own_pki.issue("third", names="DNS:third.example,DNS:localhost")
    files = [own_pki.path(f"{name}.pem") for name in ("server", "other")]
    keys = [own_pki.path(f"{name}.key") for name in ("server", "other")]
    third = f"certificate={own_pki.path('third.pem')}&private_key={own_pki.path('third.key')}"
    server = make_server(**{"listeners": ["mqtts://127.0.0.1:0", f"mqtts://127.0.0.1:0?{third}"],
                            "tls.certificate": files, "tls.private_key": keys})
    for name in ("localhost", "other.example"):
        names = [value for _, value in shown(server, own_pki, name)["subjectAltName"]]
        assert name in names
    server.port = int(re.findall(r"MQTT +mqtts://127.0.0.1:(\d+)", server.stdout)[1])
    assert ("DNS", "third.example") in shown(server, own_pki)["subjectAltName"]


def test_a_chain_is_sent_whole(make_server, own_pki):
    """A certificate of an intermediate CA is believed by who knows the root alone, whatever the
    order in the file."""
    inner = Pki(own_pki.folder / "inner", name="Inner CA")
    own_pki.path("inner.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
    openssl(inner.folder, "req", "-new", "-key", "ca.key", "-subj", "/CN=Inner CA", "-out", "ca.csr")
    openssl(own_pki.folder, "ca", "-batch", "-notext", "-config", "ca.cnf", "-days", 50, "-in",
            inner.path("ca.csr"), "-out", inner.path("ca.pem"), "-extfile", "inner.ext")
    inner.issue("server")
    bundle = own_pki.path("bundle.pem")
    parts = [inner.path("server.pem").read_text(), own_pki.path("ca.pem").read_text(),
             inner.path("ca.pem").read_text()]
    bundle.write_text("".join(parts))
    server = make_server(**{**tls_keys(own_pki), "tls.certificate": bundle,
                            "tls.private_key": inner.path("server.key")})
    assert shown(server, own_pki)["issuer"] == ((("commonName", "Inner CA"),),)


def test_ocsp_response_is_stapled(make_server, own_pki):
    """A client that asks for the certificate's status gets it in the handshake."""
    own_pki.issue("responder", more="extendedKeyUsage=OCSPSigning\n")
    openssl(own_pki.folder, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem",
            "-rkey", "ca.key", "-issuer", "ca.pem", "-cert", "server.pem", "-respout", "server.ocsp",
            "-ndays", 5)
    server = make_server(**tls_keys(own_pki, **{"tls.ocsp_response": own_pki.path("server.ocsp")}))
    said = openssl(own_pki.folder, "s_client", "-connect", f"localhost:{server.port}", "-status",
                   "-CAfile", "ca.pem", input="x\n")
    assert "OCSP Response Status: successful" in said and "Cert Status: good" in said


def test_check_reads_the_files(own_pki):
    """`serve --check` says what the start would say of them."""
    def check(certificate):
        return run_serve("--set", "listeners=[mqtts://127.0.0.1:0]", "--set",
                         f"tls.certificate={certificate}", "--set",
                         f"tls.private_key={own_pki.path('server.key')}", "--check")

    assert check(own_pki.path("server.pem")).returncode == 0
    for name in ("device1.pem", "nowhere.pem"):
        wrong = check(own_pki.path(name))
        assert wrong.returncode == 2 and name in wrong.stderr, wrong.stderr


def test_idle_links_are_small(make_server, pki):
    """300 connections that are silent after CONNECT take at most 20 KiB each, be it in memory or by
    the server's own count, which memory.limit bounds."""
    server = make_server(**tls_keys(pki))
    made = context(pki)

    def open_one(number):
        sock = open_tls(server, pki, made=made)
        sock.sendall(b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04" + b"%04d" % number)
        assert sock.recv(4) == b"\x20\x02\0\0"
        return sock

    links = [open_one(number) for number in range(50)]
    before, counted = server.rss(), server.metrics()["tidemq_memory_used"]
    links += [open_one(number) for number in range(50, 350)]
    grown = (server.rss() - before) / 300
    assert grown <= 20 * 1024 or sanitizers(), grown
    assert 8 * 1024 <= (server.metrics()["tidemq_memory_used"] - counted) / 300 <= 20 * 1024
    for sock in links:
        sock.close()


# --- who is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loops", [1, 2])
def test_certificates_of_clients(make_server, pki, loops):
    """With a client_ca a certificate is required: without one the client hears why, and so does the
    log."""
    server = make_server(**mutual_keys(pki, **{"threads.loops": loops}))
    words = ["-t", "a/b", "-m", "x", "-q", "1"]
    assert mosquitto("mosquitto_pub", server, pki, *words, certificate="device1").returncode == 0
    refused = mosquitto("mosquitto_pub", server, pki, *words)
    assert refused.returncode != 0
    with pytest.raises(ssl.SSLError, match="(?i)certificate.required"):
        with open_tls(server, pki) as sock:
            sock.recv(1)
    wait_until(lambda: server.log.count("it showed no certificate") == 2, what="the log lines")
    assert metric(server, "handshakes_failed_total") == 2
    assert not re.search("PRIVATE KEY", server.log)


def test_certificates_of_others(make_server, pki, tmp_path):
    """Another CA's certificate, an expired one, one that is only for servers, one of the future."""
    other = Pki(tmp_path / "other")
    other.issue("device1")
    pki.issue("late", end="20250101000000Z", start="20240101000000Z")
    pki.issue("early", start="20990101000000Z", end="20990201000000Z")
    pki.issue("wrong", more="extendedKeyUsage=serverAuth\n")
    server = make_server(**mutual_keys(pki))
    told = {"late": "has expired", "early": "is not valid yet", "wrong": "is not for clients"}
    for name, why in told.items():
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            with open_tls(server, pki, name) as sock:
                sock.recv(1)
        wait_until(lambda why=why: f"its certificate {why}" in server.log, what=why)
    made = context(pki)
    made.load_cert_chain(other.path("device1.pem"), other.path("device1.key"))
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        with open_tls(server, pki, made=made) as sock:
            sock.recv(1)
    wait_until(lambda: server.log.count("closed the connection") == 4, what="the fourth line")


def test_optional_certificates(make_server, pki):
    """optional lets in who has none; a listener's own URL wins over the keys."""
    server = make_server(**mutual_keys(pki, **{"tls.client_certificate": "optional"}))
    assert mosquitto("mosquitto_pub", server, pki, "-t", "a", "-m", "x").returncode == 0
    server.stop()
    server.config["tls.client_certificate"] = "auto"
    server.config["listeners"] = [f"mqtts://127.0.0.1:{server.port}?client_certificate=none"]
    server.start()
    assert mosquitto("mosquitto_pub", server, pki, "-t", "a", "-m", "x").returncode == 0


def test_old_versions(make_server, pki):
    """TLS 1.1 is refused always, TLS 1.2 with tls.min_version 1.3."""
    server = make_server(**tls_keys(pki, **{"tls.min_version": "1.3"}))
    made = context(pki)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version|handshake.failure"):
        open_tls(server, pki, made=made)
    assert shown(server, pki)
    plain = make_server(**tls_keys(pki))
    assert open_tls(plain, pki, made=made).version() == "TLSv1.2"
    said = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{plain.port}", "-tls1_1", "-cipher",
         "ALL:@SECLEVEL=0"], input="", capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert said.returncode != 0 and "protocol version" in said.stderr


def test_plain_clients_and_silent_ones(make_server, pki):
    """Plain MQTT at the TLS port is told apart in the log; who says nothing is closed in time."""
    server = make_server(**tls_keys(pki, **{"limits.connect_timeout": "1s"}))
    with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as sock:
        sock.sendall(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01s")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100)[:1] == b"\x15"  # an alert
        assert sock.recv(100) == b""
    wait_until(lambda: "it does not speak TLS" in server.log, what="the log line")
    silent = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    half = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    half.sendall(b"\x16\x03\x01\x00\xf8\x01")  # the beginning of a hello
    with open_tls(server, pki) as mute:
        assert silent.recv(10) == b"" and half.recv(10) == b"" and mute.recv(10) == b""
    silent.close()
    half.close()


def test_malformed_records(make_server, pki):
    """Garbage in every phase ends that connection, and no other."""
    server = make_server(**tls_keys(pki))
    witness = paho(server, pki)
    witness.subscribe("w", 1)
    rubbish = [b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x17\x03\x03\x00\x05hello", b"\x80\x2e\x01\x03\x01",
               b"\x14\x03\x03\x00\x01\x01" * 50, b"\x15\x03\x03\x00\x02\x02\x28", b"\0" * 1000]
    for bytes_ in rubbish:
        with socket.create_connection((server.host, server.port), timeout=TIMEOUT_S) as sock:
            sock.sendall(bytes_)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1000):
                continue
        with open_tls(server, pki) as sock:
            with socket.socket(fileno=sock.detach()) as bare:  # after the handshake
                bare.settimeout(TIMEOUT_S)
                bare.sendall(bytes_)
                bare.shutdown(socket.SHUT_WR)
                try:
                    while bare.recv(1000):
                        continue
                except ConnectionResetError:
                    pass
    witness.publish("w", b"still here", 1)
    assert witness.take().payload == b"still here"
    witness.disconnect()


def test_renegotiation(make_server, pki):
    """A client that asks for a second handshake is closed: it costs the server more than itself."""
    server = make_server(**tls_keys(pki))
    said = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{server.port}", "-tls1_2", "-CAfile",
         str(pki.path("ca.pem"))], input="R\n", capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False)
    assert "RENEGOTIATING" in said.stdout + said.stderr
    wait_until(lambda: "it asked for a renegotiation" in server.log, what="the log line")


# --- a start that fails ------------------------------------------------------------------------------


def test_errors_at_the_start(make_server, own_pki):
    """Each names the file and what is wrong with it, and shows nothing of what is in it."""
    own_pki.issue("late", start="20240101000000Z", end="20250101000000Z")
    own_pki.issue("early", start="20990101000000Z", end="20990201000000Z")
    own_pki.path("junk.pem").write_text("no PEM\n")
    own_pki.path("cut.ocsp").write_bytes(write_response(own_pki, "server", "server.ocsp").read_bytes()[:-9])
    write_response(own_pki, "device1", "device1.ocsp")
    openssl(own_pki.folder, "ec", "-in", "server.key", "-aes128", "-passout", "pass:abcd", "-out",
            "locked.key")
    rows = [
        ({"tls.private_key": "device1.key"}, "device1.key' is not that of the certificate in"),
        ({"tls.certificate": "late.pem", "tls.private_key": "late.key"}, "late.pem' has expired on 2025-01-01"),
        ({"tls.certificate": "early.pem", "tls.private_key": "early.key"}, "early.pem' is not valid before 2099"),
        ({"tls.certificate": "none.pem"}, "could not read '.*none.pem': No such file"),
        ({"tls.certificate": "junk.pem"}, "junk.pem' holds no certificate chain"),
        ({"tls.private_key": "junk.pem"}, "junk.pem' holds no private key"),
        ({"tls.private_key": "locked.key"}, "locked.key' holds an encrypted private key"),
        ({"tls.client_ca": "junk.pem"}, "junk.pem' holds no CA certificate"),
        ({"tls.client_ca": "ca.pem", "tls.crl": "junk.pem"}, "junk.pem' holds no revocation list"),
        ({"tls.client_ca": "device1.pem", "tls.crl": "crl.pem"}, "crl.pem' is not signed by one of"),
        ({"tls.ocsp_response": "junk.pem"}, "junk.pem' holds no OCSP response for its certificate"),
        ({"tls.ocsp_response": "device1.ocsp"}, "device1.ocsp' holds no OCSP response for its"),
        ({"tls.ocsp_response": "cut.ocsp"}, "cut.ocsp' holds no OCSP response for its certificate"),
    ]
    for keys, told in rows:
        keys = {key: own_pki.path(name) for key, name in keys.items()}
        with pytest.raises(StartFailed, match=told) as failure:
            make_server(**{**tls_keys(own_pki), **keys})
        assert "PRIVATE KEY" not in str(failure.value)


# --- changes while it runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_a_renewed_certificate_is_used(make_server, own_pki, scheme):
    """Files that change are read by themselves, and at SIGHUP; links stay, new ones see the new
    certificate. What does not fit together changes nothing."""
    server = make_server(**tls_keys(own_pki, listeners=[f"{scheme}://127.0.0.1:0"]))
    stays = paho(server, own_pki)
    stays.subscribe("a", 1)
    before = shown(server, own_pki)["serialNumber"]
    own_pki.issue("server")
    wait_until(lambda: shown(server, own_pki)["serialNumber"] != before, what="the new certificate")
    before = shown(server, own_pki)["serialNumber"]
    # Another key, which is not that of the certificate: noticed, told and not taken.
    own_pki.path("server.key").write_text(own_pki.path("device1.key").read_text())
    wait_until(lambda: "the old ones stay in use" in server.log, what="the warning")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "configuration not reloaded" in server.log, what="the refusal")
    assert shown(server, own_pki)["serialNumber"] == before
    own_pki.issue("server")
    wait_until(lambda: shown(server, own_pki)["serialNumber"] != before, what="the third certificate")
    stays.publish("a", b"x", 1)
    assert stays.take().payload == b"x"
    stays.disconnect()


def test_sighup_reads_certificates(make_server, own_pki):
    """A link to another file is followed as well."""
    own_pki.issue("other")
    link, key = own_pki.path("link.pem"), own_pki.path("link.key")
    link.symlink_to("server.pem")
    key.symlink_to("server.key")
    server = make_server(**{**tls_keys(own_pki), "tls.certificate": link, "tls.private_key": key})
    before = shown(server, own_pki)["serialNumber"]
    for path, target in ((link, "other.pem"), (key, "other.key")):
        own_pki.path("new").symlink_to(target)
        own_pki.path("new").rename(path)
    server.signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log, what="the reload")
    assert shown(server, own_pki)["serialNumber"] != before


@pytest.mark.parametrize("how", ["by itself", "at SIGHUP"])
def test_an_ocsp_response_is_read_again(make_server, own_pki, how):
    """A new one is sent from then on, to new connections."""
    name = "server.ocsp"
    write_response(own_pki, "server", name, begin_h=-3)
    server = make_server(**tls_keys(own_pki, **{"tls.ocsp_response": own_pki.path(name)}))
    before = stapled(server, own_pki)
    assert before
    write_response(own_pki, "server", name, begin_h=-2)
    if how == "at SIGHUP":
        server.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in server.log, what="the reload")
        assert stapled(server, own_pki) != before
    wait_until(lambda: stapled(server, own_pki) != before, what="the new response")
    listed = [row for row in server.cli_json("cert", "list") if row["use"] == "ocsp"]
    assert [row["subject"] for row in listed] == ["CN=server"]
    assert listed[0]["file"] == str(own_pki.path(name))
    assert 23 * 3600 < listed[0]["not_after_s"] - time.time() < 24 * 3600


def test_an_ocsp_response_out_of_date_holds_nothing_up(make_server, own_pki):
    """It is told of and not sent, but the server starts, and revocations are heeded."""
    write_response(own_pki, "server", "server.ocsp", begin_h=-48, end_h=-1)
    server = make_server(**mutual_keys(own_pki, **{"tls.ocsp_response": own_pki.path("server.ocsp")}))
    told = re.search(r"alarm: the OCSP response '.*server.ocsp' of mqtts://\S+ \(CN=server\): (.*)", server.log)
    assert told and told[1].startswith("the next one was due on"), server.log
    assert [row["use"] for row in server.cli_json("cert", "list")] == ["server", "ocsp", "client_ca", "crl"]
    bad = paho(server, own_pki, "device1")
    own_pki.revoke("device1")
    own_pki.write_list()
    assert bad.closed() == 0x87
    server.signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log, what="the reload")


def test_an_ocsp_response_without_an_end(make_server, own_pki):
    """Counts for 15 days, and is reminded of when they are nearly over."""
    write_response(own_pki, "server", "server.ocsp", begin_h=-14 * 24 - 12, end_h=None)
    server = make_server(**tls_keys(own_pki, **{"tls.ocsp_response": own_pki.path("server.ocsp")}))
    assert stapled(server, own_pki)
    assert "alarm: the OCSP response" in server.log and "is due on" in server.log


@pytest.mark.parametrize("scheme", ["wss", "mqtts"])
@pytest.mark.parametrize("how", ["by itself", "at SIGHUP"])
@pytest.mark.parametrize("loops", [1, 2])
def test_revoked_links_are_closed(make_server, own_pki, loops, how, scheme):
    """A certificate that is revoked loses its live link with 0x87, and cannot come back; others
    stay."""
    server = make_server(**mutual_keys(own_pki, **{"threads.loops": loops,
                                                   "listeners": [f"{scheme}://127.0.0.1:0"]}))
    bad = paho(server, own_pki, "device1")
    old = paho(server, own_pki, "device1", version=4)
    good = paho(server, own_pki, "device2")
    good.subscribe("a", 1)
    own_pki.revoke("device1")
    own_pki.write_list()
    if how == "at SIGHUP":
        server.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in server.log, what="the reload")
        with pytest.raises(ssl.SSLError, match="(?i)certificate.revoked"):
            with open_tls(server, own_pki, "device1") as sock:
                sock.recv(1)
    assert bad.closed() == 0x87
    old.closed()
    assert "its certificate has been revoked" in server.log
    with pytest.raises(ssl.SSLError, match="(?i)certificate.revoked"):
        with open_tls(server, own_pki, "device1") as sock:
            sock.recv(1)
    good.publish("a", b"x", 1)
    assert good.take().payload == b"x"
    good.disconnect()


def test_a_list_out_of_date_lets_nobody_in(make_server, own_pki):
    """A list whose successor is overdue says nothing about who was revoked since."""
    server = make_server(**mutual_keys(own_pki))
    assert "alarm" not in server.log
    own_pki.write_list("crl.pem", "-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240201000000Z")
    wait_until(lambda: "alarm: the revocation list" in server.log, what="the alarm")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        with open_tls(server, own_pki, "device1") as sock:
            sock.recv(1)
    wait_until(lambda: "is out of date" in server.log, what="the refusal")
    own_pki.write_list()
    wait_until(lambda: server.log.count("certificates read again") == 2, what="the new list")
    paho(server, own_pki, "device1").disconnect()


# --- reminders ----------------------------------------------------------------------------------------


def test_expiry_is_shown_and_reminded_of(make_server, own_pki):
    """The list, the metric, and an alarm within 30 days of the end."""
    end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=12.5)).replace(microsecond=0)
    own_pki.issue("soon", end=end.strftime("%Y%m%d%H%M%SZ"))
    soon = f"certificate={own_pki.path('soon.pem')}&private_key={own_pki.path('soon.key')}"
    server = make_server(**{**mutual_keys(own_pki), "sys.interval": "0",
                            "listeners": ["mqtts://127.0.0.1:0", f"mqtts://127.0.0.1:0?{soon}"]})
    rows = server.cli_json("cert", "list")
    uses = [row["use"] for row in rows]
    assert uses == ["server", "client_ca", "crl"] * 2
    assert rows[0]["names"] == "localhost 127.0.0.1" and rows[0]["subject"] == "CN=server"
    assert rows[3]["not_after_s"] == end.timestamp()
    assert metric(server, "certificate_expiry_seconds") == end.timestamp()
    alarms = [line for line in server.log.splitlines() if " alarm: " in line]
    assert len(alarms) == 1
    assert "soon.pem' of mqtts://127.0.0.1:" in alarms[0] and "12 days from now" in alarms[0]
    text = server.cli("cert", "list").stdout
    assert re.search(r"^mqtts://\S+ +server +CN=server +localhost 127.0.0.1 +\S+ \S+Z +\d+ +/", text, re.M), text
    assert re.search(r"CN=soon .* 12 +/", text)
    watcher = paho(server, own_pki, "device1")
    watcher.subscribe("$SYS/broker/alarms")
    event, = json.loads(watcher.take().payload)
    assert (event["alarm"], event["use"], event["days_left"]) == ("expiry", "server", 12)
    assert event["file"].endswith("soon.pem") and event["not_after_s"] == end.timestamp()
    own_pki.issue("soon")  # a year, and the watcher hears that all is well
    assert json.loads(watcher.take().payload) == []


def test_alarms_as_json(make_server, own_pki):
    """For machines: the component says that it is an alarm."""
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 3 * 86400 + 60))
    own_pki.issue("server", end=end)
    server = make_server(**tls_keys(own_pki, **{"log.format": "json"}), start=False)
    server.process = subprocess.Popen(  # without the banner, which names the ports
        server.command(), cwd=server.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        line = next(line for line in server.process.stderr if '"alarm"' in line)
        found = json.loads(line)
        assert found["component"] == "alarm" and "3 days from now" in json.dumps(found)
    finally:
        server.kill()
