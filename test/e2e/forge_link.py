"""A TLS client that shows whatever bytes it is given as its certificate (with tlslite-ng)."""

import contextlib
import socket

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.errors import BaseTLSException, TLSAbruptCloseError, TLSRemoteAlert
from tlslite.x509 import X509

TIMEOUT_S = 20
TLS_1_2, TLS_1_3 = (3, 3), (3, 4)
CONNECT = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01d"
CONNACK = b"\x20\x02\0\0"


class Shown(X509):
    """Bytes that go out for a certificate. like: a sound one of the same kind of key."""

    def __init__(self, bytes_, like):
        super().__init__()
        self.parseBinary(bytearray(like))
        self.bytes = bytearray(bytes_)


def show(server, chain, holder, version=TLS_1_3, connect=CONNECT):
    """Shows the chain, proves to have the holder's key, and sends CONNECT. Returns what came of it: the
    answer's bytes, or the words of an alert, or "closed"; and the client's address, as in the log."""
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = version
    settings.minKeySize = 512
    # tlslite-ng compresses what it shows although the server did not ask for it.
    settings.certificate_compression_send = settings.certificate_compression_receive = []
    settings.keyShares = settings.eccCurves = ["secp256r1"]
    like = holder.issuer.seal(holder.body, holder.algorithm)
    made = X509CertChain([Shown(bytes_, like) for bytes_ in chain])
    with contextlib.closing(socket.create_connection((server.host, server.port), TIMEOUT_S)) as sock:
        address = "{}:{}".format(*sock.getsockname())
        link = TLSConnection(sock)
        link.ignoreAbruptClose = True
        try:
            link.handshakeClientCert(made, parsePEMKey(holder.pem_key(), private=True), settings=settings,
                                     serverName="localhost")
            link.write(connect)
            return bytes(link.read(min=1)) or "closed", address
        except TLSRemoteAlert as alert:
            return str(alert), address
        except (TLSAbruptCloseError, ConnectionError):
            return "closed", address
        except BaseTLSException as err:
            return f"{type(err).__name__}: {err}", address
