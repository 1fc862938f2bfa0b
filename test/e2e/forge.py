"""X.509 certificates of any shape, sound or not, written byte by byte.

Other tools refuse to make what is wrong. Times are seconds since 1970, or the bytes of a time field.
"""

import base64
import dataclasses
import textwrap
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

SEQUENCE, SET, INTEGER, BITS, OCTETS, UTF8 = 0x30, 0x31, 0x02, 0x03, 0x04, 0x0C
TRUE = b"\x01\x01\xff"
COMMON_NAME, ORGANIZATION = "2.5.4.3", "2.5.4.10"
KEY_USAGE, BASIC_CONSTRAINTS, ALT_NAME, NAME_CONSTRAINTS, EXTENDED_USAGE = (
    f"2.5.29.{number}" for number in (15, 19, 17, 30, 37))
SERVER_AUTH, CLIENT_AUTH, CODE_SIGNING = (f"1.3.6.1.5.5.7.3.{number}" for number in (1, 2, 3))
DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT, CERT_SIGN = (
    b"\x03\x02\x07\x80", b"\x03\x02\x05\x20", b"\x03\x02\x03\x08", b"\x03\x02\x02\x04")


def tlv(tag, *parts):
    """One element of DER."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes(4, "big").lstrip(b"\0")
    return bytes([tag, 128 | len(size)]) + size + body


def oid(text):
    """An object identifier."""
    first, second, *others = map(int, text.split("."))
    body = bytearray([first * 40 + second])
    for number in others:
        digits = [number & 127]
        while number := number >> 7:
            digits.insert(0, number & 127 | 128)
        body += bytes(digits)
    return tlv(6, bytes(body))


def name(*parts):
    """A name of (type, text) pairs."""
    return tlv(SEQUENCE, *(tlv(SET, tlv(SEQUENCE, oid(kind), tlv(UTF8, text.encode())))
                           for kind, text in parts))


def extension(kind, value, critical=False):
    """An extension; value: what it holds, in DER."""
    return tlv(SEQUENCE, oid(kind), TRUE if critical else b"", tlv(OCTETS, value))


def usages(*kinds):
    """An extended key usage."""
    return extension(EXTENDED_USAGE, tlv(SEQUENCE, *map(oid, kinds)))


def constraints(is_ca, path_size=None):
    """Basic constraints."""
    size = b"" if path_size is None else tlv(INTEGER, bytes([path_size]))
    return extension(BASIC_CONSTRAINTS, tlv(SEQUENCE, TRUE if is_ca else b"", size), critical=True)


CA_EXTENSIONS = (constraints(True), extension(KEY_USAGE, CERT_SIGN, critical=True))


def _time(when):
    text = when if isinstance(when, bytes) else time.strftime("%Y%m%d%H%M%SZ", time.gmtime(when)).encode()
    return tlv(0x18, text)


class Algorithm:
    """How something is signed."""

    def __init__(self, text, digest, null=b""):
        self.identifier = tlv(SEQUENCE, oid(text), null)
        self.digest = digest

    def sign(self, key, bytes_):
        """The signature."""
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(bytes_, ec.ECDSA(self.digest))
        return key.sign(bytes_, padding.PKCS1v15(), self.digest)


NULL = b"\x05\x00"
ECDSA_SHA256 = Algorithm("1.2.840.10045.4.3.2", hashes.SHA256())
ECDSA_SHA384 = Algorithm("1.2.840.10045.4.3.3", hashes.SHA384())
ECDSA_SHA1 = Algorithm("1.2.840.10045.4.1", hashes.SHA1())
RSA_SHA256 = Algorithm("1.2.840.113549.1.1.11", hashes.SHA256(), NULL)
RSA_MD5 = Algorithm("1.2.840.113549.1.1.4", hashes.MD5(), NULL)


def new_key():
    """A private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def public(key):
    """A key's public half, as certificates have it."""
    return key.public_key().public_bytes(serialization.Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclasses.dataclass
class Body:
    """What is signed, field by field."""

    issuer: bytes
    subject: bytes
    key: bytes
    version: bytes = tlv(0xA0, tlv(INTEGER, b"\2"))  # 3; empty: 1
    serial: bytes = None  # chosen when None
    begin: object = None
    end: object = None
    extensions: tuple = (constraints(False),)
    algorithm: Algorithm = ECDSA_SHA256
    more: bytes = b""  # behind the extensions

    def encode(self):
        """Its bytes."""
        now = time.time()
        serial = self.serial
        if serial is None:
            serial = b"\1" + hashes_of(self.subject + self.key)[:8]
        dates = (now - 3600 if self.begin is None else self.begin,
                 now + 86400 if self.end is None else self.end)
        listed = tlv(0xA3, tlv(SEQUENCE, *self.extensions)) if self.extensions else b""
        return tlv(SEQUENCE, self.version, tlv(INTEGER, serial), self.algorithm.identifier, self.issuer,
                   tlv(SEQUENCE, *map(_time, dates)), self.subject, self.key, listed, self.more)


def hashes_of(bytes_):
    """SHA-256."""
    made = hashes.Hash(hashes.SHA256())
    made.update(bytes_)
    return made.finalize()


def sealed(body, signature, algorithm=ECDSA_SHA256):
    """A whole certificate."""
    return tlv(SEQUENCE, body, algorithm.identifier, tlv(BITS, b"\0", signature))


class Holder:
    """Who has a key and a certificate for it, and may issue others."""

    def __init__(self, text, issuer=None, *, key=None, subject=None, algorithm=ECDSA_SHA256, **fields):
        self.key = key or new_key()
        self.name = name((COMMON_NAME, text)) if subject is None else subject
        self.body = Body((issuer or self).name, self.name, public(self.key), algorithm=algorithm,
                         **fields).encode()
        self.issuer = issuer or self
        self.algorithm = algorithm
        self.der = self.issuer.seal(self.body, algorithm)

    def seal(self, body, algorithm=ECDSA_SHA256):
        """Signs whatever it is."""
        return sealed(body, algorithm.sign(self.key, body), algorithm)

    def pem_key(self):
        """The private key."""
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()


def pem(der, what="CERTIFICATE"):
    """As people hand it on."""
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join([f"-----BEGIN {what}-----", *lines, f"-----END {what}-----", ""])
