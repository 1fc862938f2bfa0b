"""Certificates that clients show, wrong in every way: nobody comes in, and each is counted and told."""

import random
import re
import time

import forge
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from forge import Holder, extension, tlv
from forge_link import CONNACK, CONNECT, TLS_1_2, TLS_1_3, show
from pki import shared
from quic_link import Link
from test_tls import metric, open_tls, tls_keys
from tidemq import wait_until

OWN_LISTENERS = True
DAY_S = 86400
NO_SIGNER = "is from no CA that the listener trusts"
NOT_CA = "signed by one that is not a CA"
INVALID = "cannot be verified"
MALFORMED = "Error in the certificate|ASN1 parser"  # as TLS 1.2 has it, as TLS 1.3 does
KEY_USAGE = "Key usage violation"
NO_PROOF = "signature verification has failed"


class World:
    """Two CAs that the server trusts, one of them for RSA, and what they have signed."""

    def __init__(self, folder):
        self.ca = Holder("Devices CA", extensions=forge.CA_EXTENSIONS)
        self.rsa_ca = Holder("RSA CA", key=rsa.generate_private_key(65537, 2048),
                             extensions=forge.CA_EXTENSIONS, algorithm=forge.RSA_SHA256)
        self.file = folder / "devices.pem"
        self.file.write_text(forge.pem(self.ca.der) + forge.pem(self.rsa_ca.der))
        self.good = Holder("d", self.ca)
        self.stranger = Holder("Devices CA", extensions=forge.CA_EXTENSIONS)

    def leaf(self, **fields):
        """A certificate of the CA."""
        holder = Holder("d", self.ca, **fields)
        return [holder.der], holder

    def below(self, *middle, **fields):
        """A certificate below intermediate ones, which differ from sound ones as told."""
        issuer, chain = self.ca, []
        for number, own in enumerate(middle):
            own = {"extensions": forge.CA_EXTENSIONS, **own}
            issuer = Holder(f"Middle {number}", issuer, **own)
            chain.insert(0, issuer.der)
        holder = Holder("d", issuer, **fields)
        return [holder.der, *chain], holder

    def bytes(self, made):
        """What is shown instead of the good certificate."""
        return [made], self.good

    def signed(self, body):
        """A body of any bytes, which the CA has signed."""
        return self.bytes(self.ca.seal(body))

    def edited(self, old, new):
        """The good certificate with other bytes in it."""
        assert self.good.der.count(old) >= 1 and len(old) == len(new)
        return self.bytes(self.good.der.replace(old, new))

    def signature(self, made):
        """The good certificate with another signature."""
        return self.bytes(forge.sealed(self.good.body, made))


def rows():
    """name: (what makes the chain and its holder, what the log says)."""
    now = int(time.time())
    long_ago, far_off = now - 30 * DAY_S, now + 30 * DAY_S
    flip = lambda der, at: der[:at] + bytes([der[at] ^ 1]) + der[at + 1:]
    return {
        # signed by the CA, and yet not right
        "expired": (lambda w: w.leaf(begin=long_ago, end=now - 60), "has expired"),
        "not yet valid": (lambda w: w.leaf(begin=far_off, end=far_off + DAY_S), "is not valid yet"),
        "valid never": (lambda w: w.leaf(begin=now + DAY_S, end=now - DAY_S), "expired|not valid yet"),
        "for servers": (lambda w: w.leaf(extensions=(forge.usages(forge.SERVER_AUTH),)), "is not for clients"),
        "for code": (lambda w: w.leaf(extensions=(forge.usages(forge.CODE_SIGNING),)), "is not for clients"),
        "for signing certificates": (
            lambda w: w.leaf(extensions=(extension(forge.KEY_USAGE, forge.CERT_SIGN, True),)), KEY_USAGE),
        "for encryption": (
            lambda w: w.leaf(extensions=(extension(forge.KEY_USAGE, forge.KEY_ENCIPHERMENT, True),)), KEY_USAGE),
        "critical extension": (
            lambda w: w.leaf(extensions=(extension("1.3.6.1.4.1.99999.1", b"\5\0", True),)), INVALID),
        "SHA-1": (lambda w: w.leaf(algorithm=forge.ECDSA_SHA1), "insecure algorithm"),
        "MD5": (lambda w: ([(h := Holder("d", w.rsa_ca, algorithm=forge.RSA_MD5)).der], h), "insecure algorithm"),
        "no date": (lambda w: w.leaf(end=b"99999999999999"), f"{MALFORMED}|DER time"),
        "name with a NUL": (lambda w: w.leaf(subject=forge.name((forge.COMMON_NAME, "d\0.example"))), MALFORMED),
        "name of 2 KiB": (lambda w: w.leaf(subject=forge.name((forge.COMMON_NAME, "d" * 2048))), MALFORMED),
        "name not UTF-8": (
            lambda w: w.leaf(subject=forge.name((forge.COMMON_NAME, "dddd")).replace(b"dddd", b"d\xff\xfed")),
            MALFORMED),
        # chains
        "CA:FALSE above": (lambda w: w.below({"extensions": (forge.constraints(False),)}), NOT_CA),
        "no constraints above": (lambda w: w.below({"extensions": ()}), NOT_CA),
        "version 1 above": (lambda w: w.below({"version": b"", "extensions": ()}), NOT_CA),
        "path too long": (
            lambda w: w.below({"extensions": (forge.constraints(True, 0), forge.CA_EXTENSIONS[1])}, {}), INVALID),
        "above may not sign": (
            lambda w: w.below({"extensions": (forge.constraints(True),
                                              extension(forge.KEY_USAGE, forge.DIGITAL_SIGNATURE, True))}), INVALID),
        "expired above": (lambda w: w.below({"begin": long_ago, "end": now - 60}), "has expired"),
        "link missing": (lambda w: ((m := w.below({}))[0][:1], m[1]), NO_SIGNER),
        "nine above": (lambda w: w.below(*[{}] * 9), MALFORMED),
        "twenty of itself": (lambda w: ([w.good.der] * 20, w.good), f"limits|{MALFORMED}"),
        "names constrained": (
            lambda w: w.below({"extensions": (*forge.CA_EXTENSIONS, extension(
                forge.NAME_CONSTRAINTS, tlv(0x30, tlv(0xA0, tlv(0x30, tlv(0x82, b"inside.example")))), True))},
                extensions=(extension(forge.ALT_NAME, tlv(0x30, tlv(0x82, b"outside.example"))),)), INVALID),
        # of somebody else
        "signed by itself": (lambda w: ([(h := Holder("d")).der], h), NO_SIGNER),
        "CA of the same name": (lambda w: ([(h := Holder("d", w.stranger)).der], h), f"{NO_SIGNER}|{INVALID}"),
        "CA of the same name, sent along": (
            lambda w: ([(h := Holder("d", w.stranger)).der, w.stranger.der], h), f"{NO_SIGNER}|{INVALID}"),
        "another's key": (lambda w: ([w.good.der], Holder("d", w.ca)), NO_PROOF),
        "the CA's own": (lambda w: ([w.ca.der], w.good), KEY_USAGE),
        # edited
        "other name": (lambda w: w.edited(w.good.name, forge.name((forge.COMMON_NAME, "e"))), INVALID),
        "other key": (
            lambda w: ([w.good.der.replace(forge.public(w.good.key), forge.public((o := Holder("d")).key))], o),
            INVALID),
        "other issuer": (lambda w: w.edited(w.ca.name, forge.name((forge.COMMON_NAME, "Devices CB"))), NO_SIGNER),
        "CA:TRUE": (lambda w: w.edited(forge.constraints(False), forge.constraints(False)[:-1] + b"\1"), INVALID),
        "serial number": (lambda w: w.bytes(flip(w.good.der, w.good.der.index(b"\x02\x09\x01") + 5)), INVALID),
        "other outer algorithm": (
            lambda w: w.bytes(forge.sealed(w.good.body, forge.ECDSA_SHA256.sign(w.ca.key, w.good.body),
                                           forge.ECDSA_SHA384)), MALFORMED),
        "unknown algorithm": (
            lambda w: w.edited(forge.ECDSA_SHA256.identifier, tlv(0x30, forge.oid("1.2.840.10045.4.3.9"))), INVALID),
        # signatures
        "no signature": (lambda w: w.signature(b""), f"{INVALID}|{NOT_CA}"),
        "zeros for a signature": (lambda w: w.signature(bytes(70)), INVALID),
        "r = s = 0": (lambda w: w.signature(tlv(0x30, b"\2\1\0\2\1\0")), INVALID),
        "r = s = 1": (lambda w: w.signature(tlv(0x30, b"\2\1\1\2\1\1")), INVALID),
        "signature of another": (lambda w: w.signature(forge.ECDSA_SHA256.sign(w.ca.key, b"x")), INVALID),
        "signature of 64 KiB": (lambda w: w.signature(bytes(65536)), INVALID),
        # no certificates at all
        "nothing in it": (lambda w: w.bytes(b""), "No certificate was found|does not speak TLS"),
        "one byte": (lambda w: w.bytes(b"0"), MALFORMED),
        "text": (lambda w: w.bytes(forge.pem(w.good.der).encode()), MALFORMED),
        "zeros": (lambda w: w.bytes(bytes(1000)), MALFORMED),
        "noise": (lambda w: w.bytes(random.Random(1).randbytes(700)), MALFORMED),
        "length without end": (lambda w: w.bytes(b"\x30\x80" + w.good.der[4:]), MALFORMED),
        "length of 4 GiB": (lambda w: w.bytes(b"\x30\x84\xff\xff\xff\xff" + w.good.der[4:]), MALFORMED),
        "cut off": (lambda w: w.bytes(w.good.der[:-1]), MALFORMED),
        "more behind it": (lambda w: w.bytes(w.good.der + b"\0"), MALFORMED),
        "the body alone": (lambda w: w.bytes(w.good.body), MALFORMED),
        "a public key": (lambda w: w.bytes(forge.public(w.good.key)), MALFORMED),
        "a deep nest": (lambda w: w.bytes(b"\x30\x80" * 4000), MALFORMED),
        "empty body": (lambda w: w.signed(tlv(0x30)), MALFORMED),
        "too large": (lambda w: w.leaf(extensions=(extension("1.2.3.4", bytes(140_000)),)), "too large"),
        "garbage behind a good one": (lambda w: ([w.good.der, b"garbage"], w.good), MALFORMED),
    }


ROWS = rows()


@pytest.fixture(name="world", scope="module")
def fixture_world(tmp_path_factory):
    """What is signed and by whom."""
    return World(tmp_path_factory.mktemp("forged"))


@pytest.fixture(name="mutual", scope="module")
def fixture_mutual(make_server_module, world):
    """A server that asks everybody for a certificate of the CAs, and for nothing else."""
    return make_server_module(**tls_keys(shared(), **{
        "tls.client_ca": world.file, "auth.anonymous": True, "threads.loops": 2, "log.level": "debug"}))


@pytest.fixture(name="over_quic", scope="module")
def fixture_over_quic(make_server_module, world):
    """The same over QUIC."""
    return make_server_module(**tls_keys(shared(), **{
        "listeners": ["quic://127.0.0.1:0"], "tls.client_ca": world.file, "auth.anonymous": True}))


def refusals(server, address, begin=0):
    """What the log says of the connection from an address, from some byte of it on."""
    return re.findall(rf" tls: closed the connection from {re.escape(address)}: (.*)", server.log[begin:])


def assert_refused(server, made, version, said):
    """It does not come in, is counted once, and told once, in these words."""
    server.wait_for_room("tls")
    begin = len(server.log)
    failed, opened = metric(server, "handshakes_failed_total"), metric(server, "handshakes_total")
    came, address = show(server, *made, version)
    assert isinstance(came, str), came
    wait_until(lambda: refusals(server, address, begin), what=f"the log line of {address}, which saw {came}")
    assert metric(server, "handshakes_failed_total") == failed + 1
    assert metric(server, "handshakes_total") == opened
    lines = refusals(server, address, begin)
    assert len(lines) == 1 and re.search(said, lines[0]), (came, lines)


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
def test_a_sound_one_comes_in(mutual, world, version):
    """So that what is refused below is refused for what is wrong with it."""
    for made in (([world.good.der], world.good), world.below({}, {}), world.below(*[{}] * 8),
                 world.leaf(extensions=(forge.usages(forge.CLIENT_AUTH),)),
                 world.leaf(version=b"", extensions=())):
        assert show(mutual, *made, version)[0] == CONNACK


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_one_does_not(mutual, world, name, version):
    """Each for its own reason."""
    make, said = ROWS[name]
    assert_refused(mutual, make(world), version, said)


def test_bits_that_flip(mutual, world):
    """One bit of a sound certificate, in every part of it."""
    chance = random.Random(7)
    for at in range(0, len(world.good.der), 8):
        made = bytearray(world.good.der)
        made[at] ^= 1 << chance.randrange(8)
        assert_refused(mutual, ([bytes(made)], world.good), chance.choice([TLS_1_2, TLS_1_3]), ".")


def test_whatever_the_ca_has_signed(mutual, world):
    """A CA that signs nonsense: a certificate may be right by chance, but each is counted, and nothing
    that a parser does with it harms the server."""
    chance = random.Random(11)
    start, outcomes = mutual.metrics(), {"in": 0, "out": 0}
    for _ in range(40):
        body = bytearray(world.good.body)
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(len(body))
            body[at:at + chance.choice([0, 1, 1, 1, 3])] = chance.randbytes(chance.choice([0, 1, 1, 2]))
        came, _ = show(mutual, *world.signed(bytes(body)), chance.choice([TLS_1_2, TLS_1_3]))
        outcomes["in" if came == CONNACK else "out"] += 1
    wait_until(lambda: mutual.metrics()["tidemq_tls_handshakes_failed_total"] - start[
        "tidemq_tls_handshakes_failed_total"] == outcomes["out"], what=f"the count of {outcomes}")
    assert metric(mutual, "handshakes_total") - start["tidemq_tls_handshakes_total"] == outcomes["in"]
    assert outcomes["out"] > 10
    assert show(mutual, [world.good.der], world.good)[0] == CONNACK


def test_optional_is_not_whatever_comes(make_server, world):
    """Where a certificate need not be shown, a wrong one is refused all the same."""
    server = make_server(**tls_keys(shared(), **{
        "tls.client_ca": world.file, "tls.client_certificate": "optional", "auth.anonymous": True}))
    for name in ("expired", "signed by itself", "noise", "zeros for a signature", "for servers"):
        make, said = ROWS[name]
        assert_refused(server, make(world), TLS_1_3, said)
    assert open_tls(server, shared()).version() == "TLSv1.3"


def test_names_that_tell_nobody(make_server, world):
    """TLS lets them in, but who they are cannot be told: CONNACK 4."""
    server = make_server(**tls_keys(shared(), **{
        "tls.client_ca": world.file, "auth.x509.mode": "name", "auth.anonymous": False}))
    for subject in (forge.name(), forge.name((forge.ORGANIZATION, "d"))):
        answer, address = show(server, *world.leaf(subject=subject))
        assert answer == b"\x20\x02\0\4"
        assert f"the client at {address}: its subject has no common name" in server.log
    assert show(server, [world.good.der], world.good)[0] == CONNACK


@pytest.mark.parametrize("name", [
    "expired", "not yet valid", "for servers", "for signing certificates", "critical extension", "SHA-1",
    "name with a NUL", "CA:FALSE above", "version 1 above", "nine above", "signed by itself", "another's key",
    "other name", "r = s = 0", "nothing in it", "zeros", "length of 4 GiB", "a deep nest"])
def test_over_quic(over_quic, world, name):
    """The same over QUIC: the connection is closed with an alert, and counted."""
    chain, holder = ROWS[name][0](world)
    failed, opened = metric(over_quic, "handshakes_failed_total"), metric(over_quic, "handshakes_total")
    link = Link((over_quic.host, over_quic.port), ca=shared().path("ca.pem"), shown=(chain, holder.key), confirm=False)
    code, _, _ = link.wait_end()
    link.vanish()
    assert 0x100 <= code < 0x200, code
    assert metric(over_quic, "handshakes_failed_total") == failed + 1
    assert metric(over_quic, "handshakes_total") == opened


def test_a_sound_one_over_quic(over_quic, world):
    """So that the others are refused for what is wrong with them."""
    link = Link((over_quic.host, over_quic.port), ca=shared().path("ca.pem"),
                shown=([world.good.der], world.good.key))
    link.sock.sendall(CONNECT)
    assert link.sock.recv(4) == CONNACK
    link.close()
