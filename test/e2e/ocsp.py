"""OCSP responses for tests, with dates that the openssl command line cannot be given."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp


def write_response(pki, certificate, name, *, begin_h=-1, end_h=24):
    """Puts a response of the CA in place, in DER: the certificate is good. Hours from now; end_h None: it
    does not say when the next one is due. Returns its path."""
    def read(file):
        return x509.load_pem_x509_certificate(pki.path(file).read_bytes())

    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)
    begin, end = (None if hours is None else now + datetime.timedelta(hours=hours)
                  for hours in (begin_h, end_h))
    key = serialization.load_pem_private_key(pki.path("ca.key").read_bytes(), None)
    builder = ocsp.OCSPResponseBuilder().responder_id(ocsp.OCSPResponderEncoding.HASH, read("ca.pem"))
    builder = builder.add_response(
        cert=read(f"{certificate}.pem"), issuer=read("ca.pem"), algorithm=hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.GOOD, this_update=begin, next_update=end,
        revocation_time=None, revocation_reason=None)
    new = pki.path("ocsp.new")
    new.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    new.rename(pki.path(name))
    return pki.path(name)
