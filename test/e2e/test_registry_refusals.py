"""Everything that the registry of certificates refuses: the answer, and what the log says of it."""

import re

import forge
import pytest
from forge import Holder
from forge_link import CONNACK, show
from pki import shared
from test_tls import tls_keys
from tidemq import wait_until

OWN_LISTENERS = True
EXISTS, NO_CA = "UnsupportedOperation.ResourceAlreadyExists", "ResourceNotFound.Ca"
NO_CERTIFICATE, BAD_VALUE = "ResourceNotFound.Certificate", "InvalidParameterValue"
UNVERIFIED = "FailedOperation.CertificateVerificationFailed"
WRONG_SIGNATURE = "FailedOperation.PublicKeyVerifyFailed"
WRONG_CODE = "FailedOperation.RegistrationCodeVerifyFailed"
NO_CODE = "FailedOperation.InstanceRegistrationCodeEmpty"
IN_USE, REVOKED = "FailedOperation.RelatedDeviceCertificateExists", "OperationDenied"
MISSING, FULL = "MissingParameter", "LimitExceeded"
UNBINDABLE = "it came with a client ID that no certificate can be bound to"


def connect(client_id, version):
    """CONNECT of a clean session."""
    name = client_id.encode()
    rest = b"\0\4MQTT" + bytes([version, 2, 0, 60]) + b"\0" * (version == 5) + len(name).to_bytes(2, "big") + name
    size = bytes([len(rest)]) if len(rest) < 128 else bytes([len(rest) & 127 | 128, len(rest) >> 7])
    return b"\x10" + size + rest


def arrive(server, holder, client_id, version):
    """Connects with a certificate. Returns the code in CONNACK, or what else came; and the address."""
    answer, address = show(server, [holder.der], holder, connect=connect(client_id, version))
    return answer[3] if isinstance(answer, bytes) else answer, address


def assert_comes_in(server, holder, client_id, version=5):
    """It may."""
    assert arrive(server, holder, client_id, version)[0] == 0


def assert_refused(server, holder, client_id, said):
    """Both versions hear that it is their credentials; the log has one line for each, in these words."""
    for version, code in ((4, 4), (5, 0x86)):
        server.wait_for_room("auth")
        came, address = arrive(server, holder, client_id, version)
        assert came == code
        line = f" info  ?auth: refused the certificate of the client at {re.escape(address)}: (.*)"
        assert re.findall(line, server.log) == [said]


def make_ca(text="Devices CA"):
    """A CA."""
    return Holder(text, extensions=forge.CA_EXTENSIONS)


def register_ca(server, ca, **params):
    """With everything that it takes."""
    code = server.action("ApplyRegistrationCode")["RegistrationCode"]
    answer = server.action("RegisterCaCertificate", CaCertificate=forge.pem(ca.der),
                           VerificationCertificate=forge.pem(Holder(code, ca).der), **params)
    assert "Error" not in answer, answer
    return answer["CaSn"]


def register(server, ca_sn, holder, **params):
    """A device's certificate; returns its number."""
    answer = server.action("RegisterDeviceCertificate", DeviceCertificate=forge.pem(holder.der), CaSn=ca_sn,
                           **params)
    assert "Error" not in answer, answer
    return answer["DeviceCertificateSn"]


class Home:
    """A server with one registered CA, which the listener trusts by a file as well; so the registry
    itself must refuse what is not right with a CA."""

    def __init__(self, make_server, folder, others=(), **config):
        self.ca = make_ca()
        file = folder / "ca.pem"
        file.write_text("".join(forge.pem(ca.der) for ca in (self.ca, *others)))
        self.server = make_server(**tls_keys(shared(), **{
            "tls.client_ca": file, "auth.anonymous": False, "auth.x509.mode": "registered", **config}))
        self.sn = register_ca(self.server, self.ca)

    def device(self, text="d", ca=None, **params):
        """A registered one; returns it and what the API knows it by."""
        holder = Holder(text, ca or self.ca)
        return holder, {"DeviceCertificateSn": register(self.server, self.sn, holder, **params)}

    def do(self, action, **params):
        """Something that works."""
        answer = self.server.action(action, **params)
        assert "Error" not in answer, answer


@pytest.fixture(name="home")
def fixture_home(make_server, tmp_path):
    """Certificates are registered by the API only."""
    return Home(make_server, tmp_path)


# --- who connects -----------------------------------------------------------------------------------


def test_states(home):
    """Each state but ACTIVE refuses, and says which it is."""
    holder, sn = home.device(ClientId="d")
    assert_comes_in(home.server, holder, "d")
    home.do("DeactivateDeviceCertificate", **sn)
    assert_refused(home.server, holder, "d", "it is not active")
    home.do("ActivateDeviceCertificate", **sn)
    assert_comes_in(home.server, holder, "d")
    home.do("DeactivateCaCertificate", CaSn=home.sn)
    assert_refused(home.server, holder, "d", "its CA is not active")
    home.do("ActivateCaCertificate", CaSn=home.sn)
    assert_comes_in(home.server, holder, "d")
    home.do("RevokedDeviceCertificate", **sn)
    assert_refused(home.server, holder, "d", "it is revoked")
    home.do("DeleteDeviceCertificate", **sn)
    assert_refused(home.server, holder, "d", "it is not registered")
    assert_refused(home.server, home.device(Status="INACTIVE")[0], "x", "it is not active")


def test_client_ids(home):
    """Its own, or that of the first connection, which must have one."""
    bound, _ = home.device("bound", ClientId="d1")
    for other in ("d2", "D1", "d1 ", "d", ""):
        assert_refused(home.server, bound, other, "it is bound to another client ID")
    assert_comes_in(home.server, bound, "d1", 4)
    free, sn = home.device("free")
    for wrong in ("", "x" * 257):
        assert_refused(home.server, free, wrong, UNBINDABLE)
    assert home.server.action("DescribeDeviceCertificate", **sn)["ClientId"] == ""
    assert_comes_in(home.server, free, "first")
    assert_refused(home.server, free, "second", "it is bound to another client ID")
    nameless = Holder("", home.ca, subject=forge.name((forge.ORGANIZATION, "x")))
    register(home.server, home.sn, nameless)
    assert_refused(home.server, nameless, "d", "its subject has no common name")


def test_numbers(home):
    """Whoever has signed it: another certificate of a registered number is not the registered one."""
    first = Holder("d", home.ca, serial=b"\x11\x22")
    register(home.server, home.sn, first, ClientId="d")
    again = Holder("d", home.ca, serial=b"\x11\x22")
    assert_refused(home.server, again, "d", "another certificate of its serial number is registered")
    assert_comes_in(home.server, first, "d")


def test_common_name_as_client_id(make_server, tmp_path):
    """Both must fit."""
    home = Home(make_server, tmp_path, **{"auth.x509.client_id": "common_name"})
    holder, _ = home.device("d", ClientId="other")
    assert_refused(home.server, holder, "other", "its common name is not the client ID")
    assert_refused(home.server, holder, "d", "it is bound to another client ID")
    assert_comes_in(home.server, home.device("e")[0], "e")


def test_first_connects(make_server, tmp_path):
    """A certificate registers itself only under a registered CA that is active, and with a client ID."""
    others = make_ca("Unregistered CA"), make_ca("Inactive CA")
    home = Home(make_server, tmp_path, others, **{"auth.x509.provision": "jitp"})
    register_ca(home.server, others[1], Status="INACTIVE")
    for ca in others:
        assert_refused(home.server, Holder("d", ca), "d", "no registered CA that is active has signed it")
    new = Holder("d", home.ca)
    for wrong in ("", "x" * 257):
        assert_refused(home.server, new, wrong, UNBINDABLE)
    assert home.server.action("DescribeDeviceCertificates")["TotalCount"] == 0
    assert_comes_in(home.server, new, "d")
    assert_refused(home.server, new, "e", "it is bound to another client ID")
    number = home.server.action("DescribeDeviceCertificates")["Data"][0]["DeviceCertificateSn"]
    same = Holder("d", home.ca, serial=bytes.fromhex(number))
    assert_refused(home.server, same, "d", "another certificate of its serial number is registered")
    home.do("RevokedDeviceCertificate", DeviceCertificateSn=number)
    assert_refused(home.server, new, "d", "it is revoked")
    home.do("DeactivateCaCertificate", CaSn=home.sn)
    assert_refused(home.server, Holder("late", home.ca), "d", "no registered CA that is active has signed it")


def test_first_connects_wait(make_server, tmp_path):
    """Without automatic activation, also at the second try."""
    home = Home(make_server, tmp_path, **{"auth.x509.provision": "jitp",
                                          "auth.x509.automatic_activation": False})
    new = Holder("d", home.ca)
    assert_refused(home.server, new, "d", "it waits to be activated")
    row = home.server.action("DescribeDeviceCertificates")["Data"][0]
    assert (row["Status"], row["ClientId"]) == ("PENDING_ACTIVATION", "d")
    home.do("DeactivateDeviceCertificate", DeviceCertificateSn=row["DeviceCertificateSn"])
    assert_refused(home.server, new, "d", "it is not active")
    home.do("ActivateDeviceCertificate", DeviceCertificateSn=row["DeviceCertificateSn"])
    assert_comes_in(home.server, new, "d")


def test_the_listener_refuses_before(make_server):
    """A CA that is in the registry only and is not active is unknown to TLS."""
    server = make_server(**tls_keys(shared(), **{"auth.anonymous": False, "auth.x509.mode": "registered"}))
    ca = make_ca()
    sn = register_ca(server, ca)
    holder = Holder("d", ca)
    register(server, sn, holder, ClientId="d")
    assert_comes_in(server, holder, "d")
    server.action("DeactivateCaCertificate", CaSn=sn)
    answer, address = show(server, [holder.der], holder, connect=CONNACK)
    assert "unknown_ca" in answer
    wait_until(lambda: f"closed the connection from {address}: its certificate is from no CA that the "
               "listener trusts" in server.log, what="the line")


# --- who registers ------------------------------------------------------------------------------------


def attempt(server, action, code, words, **params):
    """An error with this code and words; the log has the code, and nothing of what was sent."""
    server.wait_for_room("admin")
    answer = server.action(action, **params)
    assert (answer["Error"]["Code"], words in answer["Error"]["Message"]) == (code, True), answer
    line = next(line for line in server.log.splitlines() if answer["RequestId"] in line)
    assert line.endswith(f"admin: refused the action {action}: {code} ({answer['RequestId']})")


def test_cas(home):
    """Every reason against a CA."""
    server = home.server
    ca, other = make_ca("New CA"), make_ca("Other CA")
    old = Holder("Old CA", extensions=forge.CA_EXTENSIONS, begin=1_500_000_000, end=1_600_000_000)
    code = server.action("ApplyRegistrationCode")["RegistrationCode"]
    proof = Holder(code, ca).der
    no_pem = "is not one certificate in PEM"

    def refuse(error, words, made=ca.der, shown=proof, **params):
        attempt(server, "RegisterCaCertificate", error, words, CaCertificate=forge.pem(made),
                VerificationCertificate=forge.pem(shown), **params)

    refuse(BAD_VALUE, f"the CA's certificate {no_pem}", made=b"\x30\x00")
    refuse(BAD_VALUE, f"the CA's certificate {no_pem}", made=ca.der[:-1])
    refuse(BAD_VALUE, f"the verification certificate {no_pem}", shown=b"")
    refuse(BAD_VALUE, "it is not the certificate of a CA", made=Holder("d", ca).der)
    refuse(UNVERIFIED, "has expired, or is not valid yet", made=old.der, shown=Holder(code, old).der)
    refuse(WRONG_CODE, "is not the registration code", shown=Holder(code[:-1], ca).der)
    refuse(WRONG_CODE, "is not the registration code", shown=Holder("", ca, subject=forge.name()).der)
    refuse(WRONG_SIGNATURE, "it is not signed by the CA", shown=Holder(code, other).der)
    refuse(WRONG_SIGNATURE, "it has expired", shown=Holder(code, ca, begin=1, end=1_600_000_000).der)
    refuse(WRONG_SIGNATURE, "it is not valid yet", shown=Holder(code, ca, begin=3_000_000_000, end=3_100_000_000).der)
    forged = forge.sealed(Holder(code, ca).body, forge.ECDSA_SHA256.sign(ca.key, b"x"))
    refuse(WRONG_SIGNATURE, "does not hold", shown=forged)
    refuse(BAD_VALUE, "Format must be PEM", Format="DER")
    refuse(BAD_VALUE, "Status must be ACTIVE or INACTIVE", Status="REVOKED")
    attempt(server, "RegisterCaCertificate", MISSING, "VerificationCertificate", CaCertificate=forge.pem(ca.der))
    assert len(server.action("DescribeCaCertificates")["Data"]) == 1
    refuse(EXISTS, "registered already", made=home.ca.der, shown=Holder(code, home.ca).der)
    home.device()
    attempt(server, "DeleteCaCertificate", IN_USE, "delete those first", CaSn=home.sn)
    for action in ("Activate", "Deactivate", "Delete", "Describe"):
        attempt(server, f"{action}CaCertificate", NO_CA, "no CA of this serial number", CaSn="77")
        attempt(server, f"{action}CaCertificate", MISSING, "CaSn")
    for number in range(31):
        register_ca(server, make_ca(f"CA {number}"))
    code = server.action("ApplyRegistrationCode")["RegistrationCode"]
    refuse(FULL, "32 CAs already", shown=Holder(code, ca).der)


def test_no_code_yet(make_server):
    """Before anybody has applied for one."""
    server = make_server(**tls_keys(shared(), **{"auth.anonymous": False, "auth.x509.mode": "registered"}))
    ca = make_ca()
    attempt(server, "RegisterCaCertificate", NO_CODE, "apply for one first", CaCertificate=forge.pem(ca.der),
            VerificationCertificate=forge.pem(Holder("x", ca).der))


def test_devices(home):
    """Every reason against a device's certificate."""
    server = home.server
    sound, stranger = Holder("d", home.ca), make_ca("Stranger CA")

    def refuse(error, words, made=sound.der, **params):
        attempt(server, "RegisterDeviceCertificate", error, words,
                **{"DeviceCertificate": forge.pem(made), "CaSn": home.sn, **params})

    refuse(NO_CA, "no CA of this serial number", CaSn="77")
    refuse(BAD_VALUE, "is not one certificate in PEM", made=sound.body)
    refuse(BAD_VALUE, "is not one certificate in PEM", made=sound.der + b"\0")
    refuse(UNVERIFIED, "it is not signed by the CA", made=Holder("d", stranger).der)
    refuse(UNVERIFIED, "it has expired", made=Holder("d", home.ca, begin=1, end=1_600_000_000).der)
    refuse(UNVERIFIED, "it is not valid yet", made=Holder("d", home.ca, begin=3_000_000_000, end=3_100_000_000).der)
    refuse(UNVERIFIED, "does not hold", made=forge.sealed(sound.body, forge.ECDSA_SHA256.sign(home.ca.key, b"x")))
    refuse(BAD_VALUE, "at most 256", ClientId="x" * 257)
    refuse(BAD_VALUE, "without control characters", ClientId="a\nb")
    refuse(BAD_VALUE, "Format must be PEM", Format="DER")
    refuse(BAD_VALUE, "Status must be ACTIVE or INACTIVE", Status="PENDING_ACTIVATION")
    attempt(server, "RegisterDeviceCertificate", MISSING, "DeviceCertificate", CaSn=home.sn)
    assert server.action("DescribeDeviceCertificates")["TotalCount"] == 0
    sn = register(server, home.sn, sound)
    refuse(EXISTS, "registered already")
    refuse(EXISTS, "registered already", made=Holder("e", home.ca, serial=bytes.fromhex(sn)).der)
    home.do("RevokedDeviceCertificate", DeviceCertificateSn=sn)
    for action in ("Activate", "Deactivate"):
        attempt(server, f"{action}DeviceCertificate", REVOKED, "revoked for good", DeviceCertificateSn=sn)
    for action in ("Activate", "Deactivate", "Revoked", "Delete", "Describe"):
        attempt(server, f"{action}DeviceCertificate", NO_CERTIFICATE, "no certificate of this serial number",
                DeviceCertificateSn="77")
        attempt(server, f"{action}DeviceCertificate", MISSING, "DeviceCertificateSn")
