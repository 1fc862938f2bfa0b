"""One device, one certificate: the registry of CAs and of devices' certificates."""

import secrets
import ssl
import subprocess

import pytest
from client import Client, Refused
from pki import Pki, openssl, shared
from test_tls import TIMEOUT_S, open_tls, tls_keys

BAD_USER, NOT_AUTHORIZED = 0x86, 0x87
CODES = {
    "code": "FailedOperation.RegistrationCodeVerifyFailed",
    "empty": "FailedOperation.InstanceRegistrationCodeEmpty",
    "key": "FailedOperation.PublicKeyVerifyFailed",
    "certificate": "FailedOperation.CertificateVerificationFailed",
    "in use": "FailedOperation.RelatedDeviceCertificateExists",
    "exists": "UnsupportedOperation.ResourceAlreadyExists",
    "value": "InvalidParameterValue",
    "missing": "MissingParameter",
    "no ca": "ResourceNotFound.Ca",
    "no certificate": "ResourceNotFound.Certificate",
    "denied": "OperationDenied",
}


def keys(**more):
    """Configuration of a server that only registered certificates reach."""
    return tls_keys(shared(), **{"auth.anonymous": False, "auth.x509.mode": "registered", **more})


def serial(pki, name="ca"):
    """The number of a certificate, as openssl says it."""
    return openssl(pki.folder, "x509", "-noout", "-serial", "-in", f"{name}.pem").strip()[7:]


def pem(pki, name="ca"):
    """The text of a certificate."""
    return pki.path(f"{name}.pem").read_text()


def make_ca(folder, name="Devices CA"):
    """A CA whose certificates have numbers of their own."""
    pki = Pki(folder, name=name)
    pki.path("serial").write_text(secrets.token_hex(9).replace("00", "01") + "\n")
    return pki


def register_ca(server, pki, **params):
    """All that it takes; returns the answer."""
    code = server.action("ApplyRegistrationCode")["RegistrationCode"]
    pki.issue("verification", subject=f"/CN={code}")
    return server.action("RegisterCaCertificate", CaCertificate=pem(pki),
                         VerificationCertificate=pem(pki, "verification"), **params)


def register(server, pki, name, client_id=None, ca_sn=None, **params):
    """Registers a certificate; returns the answer."""
    if client_id:
        params["ClientId"] = client_id
    return server.action("RegisterDeviceCertificate", DeviceCertificate=pem(pki, name),
                         CaSn=ca_sn or serial(pki), **params)


def error(answer):
    """The code of an error, or None."""
    return answer.get("Error", {}).get("Code")


def context(pki, name):
    """A client's side: it trusts the server's CA, and shows a certificate of another."""
    made = ssl.create_default_context(cafile=shared().path("ca.pem"))
    if name:
        made.load_cert_chain(pki.path(f"{name}.pem"), pki.path(f"{name}.key"))
    return made


def paho(server, pki, name, client_id=None, **options):
    """A connected client of paho."""
    return Client(server, name if client_id is None else client_id, tls=context(pki, name), **options).connect()


def refused(server, pki, name, client_id=None, **options):
    """The reason of a refusal in CONNACK."""
    with pytest.raises(Refused) as caught:
        paho(server, pki, name, client_id, **options)
    return caught.value.reason


def alert(server, pki, name):
    """What TLS says to a client that it does not let in."""
    with pytest.raises(ssl.SSLError) as caught:
        with open_tls(server, pki, made=context(pki, name)) as sock:
            sock.recv(1)
    return str(caught.value).lower()


def assert_closed(client):
    """By the server; 3.1.1 has no words for it."""
    reason = client.closed()
    assert client.version == 4 or reason == NOT_AUTHORIZED


@pytest.fixture(name="home", scope="module")
def fixture_home(make_server_module):
    """A server where certificates are registered by the API only."""
    return make_server_module(**keys())


@pytest.fixture(name="ca", scope="module")
def fixture_ca(home, tmp_path_factory):
    """A CA that it knows."""
    pki = make_ca(tmp_path_factory.mktemp("devices"))
    assert register_ca(home, pki)["CaSn"] == serial(pki)
    return pki


@pytest.fixture(name="device")
def fixture_device(ca, request):
    """The name of a certificate of the test's own, which is not registered yet."""
    name = request.node.name.replace("[", "-").replace("]", "").replace(" ", "-")[:60]
    ca.issue(name, subject=f"/O=Acme/OU=Pumps/CN={name}")
    return name


# --- CAs --------------------------------------------------------------------------------------------


def test_a_ca_is_registered(home, ca):
    """And described as it is."""
    row = home.action("DescribeCaCertificate", CaSn=serial(ca))
    assert row["CaCn"] == row["CaIssuerCn"] == "Devices CA"
    assert row["Status"] == "ACTIVE" and row["Format"] == "PEM"
    assert row["LastActivationTime"] == row["CreatedTime"] > 0 and row["LastInactivationTime"] == 0
    assert row["NotBeforeTime"] < row["CreatedTime"] < row["NotAfterTime"]
    assert ssl.PEM_cert_to_DER_cert(row["CaCertificate"]) == ssl.PEM_cert_to_DER_cert(pem(ca))
    assert serial(ca) in [row["CaSn"] for row in home.action("DescribeCaCertificates")["Data"]]
    assert error(register_ca(home, ca)) == CODES["exists"]
    with_colons = ":".join(serial(ca)[i:i + 2] for i in range(0, len(serial(ca)), 2)).lower()
    assert home.action("DescribeCaCertificate", CaSn=with_colons)["CaSn"] == serial(ca)


def test_what_no_ca_is_registered_with(make_server, tmp_path):
    """Every wrong verification certificate, CA and PEM has its error."""
    server = make_server(**keys())
    pki, other = make_ca(tmp_path / "a"), make_ca(tmp_path / "b", "Other CA")

    def attempt(ca=None, verification=None, **params):
        return error(server.action("RegisterCaCertificate", CaCertificate=ca or pem(pki),
                                   VerificationCertificate=verification or pem(pki, "good"),
                                   **params))

    pki.issue("good", subject="/CN=0123")
    assert attempt() == CODES["empty"]
    first = server.action("ApplyRegistrationCode")["RegistrationCode"]
    code = server.action("ApplyRegistrationCode")["RegistrationCode"]
    assert first != code and len(code) == 32
    assert attempt() == CODES["code"]
    pki.issue("good", subject=f"/CN={first}")
    assert attempt() == CODES["code"], "a new code ends the one before"
    pki.issue("good", subject=f"/CN={code}")
    other.issue("foreign", subject=f"/CN={code}")
    assert attempt(verification=pem(other, "foreign")) == CODES["key"]
    pki.issue("old", subject=f"/CN={code}", start="20200101000000Z", end="20210101000000Z")
    assert attempt(verification=pem(pki, "old")) == CODES["key"]
    assert attempt(verification="x") == CODES["value"]
    for wrong in ("x", pem(pki)[:200], pem(pki) * 2, pem(pki, "good"), pem(pki) + " " * 70000,
                  pem(pki).replace("M", "N")):
        assert attempt(ca=wrong) == CODES["value"], wrong[:100]
    openssl(pki.folder, "req", "-new", "-key", "ca.key", "-subj", "/CN=Old CA", "-out", "past.csr")
    pki.path("ca.ext").write_text("basicConstraints=critical,CA:TRUE\n")
    openssl(pki.folder, "ca", "-batch", "-notext", "-config", "ca.cnf", "-selfsign", "-keyfile",
            "ca.key", "-in", "past.csr", "-out", "past.pem", "-extfile", "ca.ext", "-startdate",
            "20200101000000Z", "-enddate", "20210101000000Z")
    assert attempt(ca=pem(pki, "past")) == CODES["certificate"]
    assert attempt(Format="DER") == attempt(Status="REVOKED") == CODES["value"]
    assert error(server.action("RegisterCaCertificate", CaCertificate=pem(pki))) == CODES["missing"]
    assert server.action("DescribeCaCertificates")["Data"] == []
    assert attempt(Status="INACTIVE") is None
    assert server.action("DescribeCaCertificates")["Data"][0]["Status"] == "INACTIVE"
    for action in ("Describe", "Activate", "Deactivate", "Delete"):
        answer = server.action(f"{action}CaCertificate", CaSn="00FF")
        assert error(answer) == CODES["no ca"]
        assert error(server.action(f"{action}CaCertificate")) == CODES["missing"]


@pytest.mark.parametrize("loops", [1, 2])
def test_listeners_learn_of_cas(make_server, tmp_path, version, loops):
    """Without a restart; a CA that is deactivated loses its live links, and comes back."""
    server = make_server(**keys(**{"threads.loops": loops}))
    pki, other = make_ca(tmp_path / "a"), make_ca(tmp_path / "b", "Other CA")
    pki.issue("one")
    other.issue("two")
    assert "unknown ca" in alert(server, pki, "one") and "required" in alert(server, pki, None)
    for ca, name in ((pki, "one"), (other, "two")):
        register_ca(server, ca)
        register(server, ca, name, name)
    client = paho(server, pki, "one", version=version)
    stays = paho(server, other, "two", version=version)
    assert {row["file"] for row in server.cli_json("cert", "list")
            if row["use"] == "client_ca"} == {"(registered)"}
    assert server.action("DeactivateCaCertificate", CaSn=serial(pki)).keys() == {"RequestId"}
    assert_closed(client)
    assert "unknown ca" in alert(server, pki, "one")
    assert error(server.action("DeleteCaCertificate", CaSn=serial(pki))) == CODES["in use"]
    assert "Error" not in server.action("ActivateCaCertificate", CaSn=serial(pki))
    again = paho(server, pki, "one", version=version)
    assert "Error" not in server.action("DeleteDeviceCertificate",
                                        DeviceCertificateSn=serial(pki, "one"))
    assert_closed(again)
    assert "Error" not in server.action("DeleteCaCertificate", CaSn=serial(pki))
    assert "unknown ca" in alert(server, pki, "one")
    stays.subscribe("a", 1)
    stays.publish("a", b"x", 1)
    assert stays.take().payload == b"x"
    stays.disconnect()


# --- certificates of devices --------------------------------------------------------------------------


def test_a_device_connects(home, ca, device, version):
    """Its user name is its common name; without a client ID it is bound to the first one."""
    answer = register(home, ca, device)
    assert answer["CaSn"] == serial(ca) and answer["DeviceCertificateSn"] == serial(ca, device)
    sn = {"DeviceCertificateSn": answer["DeviceCertificateSn"]}
    assert home.action("DescribeDeviceCertificate", **sn)["ClientId"] == ""
    client = paho(home, ca, device, "first", version=version)
    assert home.cli_json("client", "show", "first")["username"] == device
    client.subscribe("a", 1)
    client.publish("a", b"x", 1)
    assert client.take().payload == b"x"
    client.disconnect()
    assert refused(home, ca, device, "second", version=version) == BAD_USER
    assert "it is bound to another client ID" in home.log
    paho(home, ca, device, "first", version=version).disconnect()
    row = home.action("DescribeDeviceCertificate", **sn)
    assert row["ClientId"] == "first" and row["Status"] == "ACTIVE"
    assert row["DeviceCertificateCn"] == device and row["OrganizationalUnit"] == "Pumps"
    assert row["CertificateSource"] == "API" and row["CaSn"] == serial(ca)
    der = ssl.PEM_cert_to_DER_cert(row["DeviceCertificate"])
    assert der == ssl.PEM_cert_to_DER_cert(pem(ca, device))


def test_mosquitto_with_a_certificate(home, ca, device):
    """A foreign client in C."""
    register(home, ca, device, device)

    def publish(client_id):
        return subprocess.run(
            ["mosquitto_pub", "-h", "localhost", "-p", str(home.port), "--cafile",
             str(shared().path("ca.pem")), "--cert", str(ca.path(f"{device}.pem")), "--key",
             str(ca.path(f"{device}.key")), "-q", "1", "-t", "a", "-m", "x", "-i", client_id],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert publish(device).returncode == 0
    assert publish("another").returncode != 0


def test_strangers(home, ca, device, version, tmp_path):
    """Not registered; of the wrong client; of a CA that nobody knows; without an ID; expired."""
    assert refused(home, ca, device, version=version) == BAD_USER
    assert "it is not registered" in home.log
    register(home, ca, device)
    if version == 5:
        assert refused(home, ca, device, "") == BAD_USER
    foreign = make_ca(tmp_path)
    foreign.issue("x")
    assert "unknown ca" in alert(home, foreign, "x")
    ca.issue("expired", start="20200101000000Z", end="20210101000000Z")
    assert "expired" in alert(home, ca, "expired")
    claims = {"user": "admin", "password": "x", "version": version}
    paho(home, ca, device, device, **claims).disconnect()
    assert refused(home, ca, device, f"not-{device}", **claims) == BAD_USER


ENDS = {"Deactivate": "DeactivateDeviceCertificate", "Revoke": "RevokedDeviceCertificate",
        "Delete": "DeleteDeviceCertificate"}


@pytest.mark.parametrize("how", ENDS)
def test_live_links_end(home, ca, device, version, how):
    """At once, and the device is refused from then on; its neighbour stays."""
    register(home, ca, device, device)
    ca.issue("neighbour")
    register(home, ca, "neighbour", f"neighbour-of-{device}")
    neighbour = paho(home, ca, "neighbour", f"neighbour-of-{device}", version=version)
    client = paho(home, ca, device, version=version)
    sn = {"DeviceCertificateSn": serial(ca, device)}
    assert home.action(ENDS[how], **sn).keys() == {"RequestId"}
    assert_closed(client)
    assert refused(home, ca, device, version=version) == BAD_USER
    answer = home.action("ActivateDeviceCertificate", **sn)
    if how == "Deactivate":
        assert "Error" not in answer
        paho(home, ca, device, version=version).disconnect()
        row = home.action("DescribeDeviceCertificate", **sn)
        assert row["LastActivationTime"] >= row["LastInactivationTime"] > 0
    else:
        assert error(answer) == CODES["denied" if how == "Revoke" else "no certificate"]
    if how == "Revoke":
        assert home.action("DescribeDeviceCertificate", **sn)["Status"] == "REVOKED"
        assert error(home.action(ENDS["Deactivate"], **sn)) == CODES["denied"]
        assert "Error" not in home.action(ENDS["Revoke"], **sn)
    neighbour.subscribe("a", 0)
    neighbour.disconnect()


def test_what_is_not_registered(home, ca, device, tmp_path):
    """Every wrong parameter has its error."""
    other = make_ca(tmp_path, "Other CA")
    other.issue("x")
    sn = serial(ca, device)

    def attempt(text=None, **params):
        return error(home.action("RegisterDeviceCertificate", DeviceCertificate=text or pem(ca, device),
                                 **{"CaSn": serial(ca), **params}))

    assert attempt(pem(other, "x")) == CODES["certificate"]
    ca.issue("expired", start="20200101000000Z", end="20210101000000Z")
    assert attempt(pem(ca, "expired")) == CODES["certificate"]
    for text in ("x", pem(ca, device)[:100], pem(ca, device) * 2, "\n"):
        assert attempt(text) == CODES["value"]
    assert attempt(CaSn="FF") == CODES["no ca"]
    assert attempt(ClientId="x" * 257) == attempt(ClientId="a\nb") == CODES["value"]
    assert attempt(Format="DER") == attempt(Status="PENDING_ACTIVATION") == CODES["value"]
    assert error(home.action("RegisterDeviceCertificate", CaSn=serial(ca))) == CODES["missing"]
    for action in ("Describe", "Activate", "Deactivate", "Revoked", "Delete"):
        answer = home.action(f"{action}DeviceCertificate", DeviceCertificateSn=sn)
        assert error(answer) == CODES["no certificate"]
    assert attempt(Status="INACTIVE") is None
    assert attempt() == CODES["exists"]
    assert refused(home, ca, device) == BAD_USER
    assert "it is not active" in home.log
    assert home.http("/v1/cas", token=False)[0] == 401


def test_the_list(make_server, tmp_path):
    """Filters, order and pages."""
    server = make_server(**keys())
    pki = make_ca(tmp_path)
    register_ca(server, pki)
    for number in range(5):
        pki.issue(f"d{number}", subject=f"/O=x/OU=unit{number % 2}/CN=name{number}")
        register(server, pki, f"d{number}", f"client{number}",
                 Status="INACTIVE" if number == 3 else "ACTIVE")
    names = [f"name{number}" for number in range(5)]

    def listed(filters=None, **params):
        if filters:
            params["Filters"] = [{"Name": name, "Values": values if isinstance(values, list)
                                  else [values]} for name, values in filters.items()]
        answer = server.action("DescribeDeviceCertificates", **params)
        return [row["DeviceCertificateCn"] for row in answer["Data"]], answer["TotalCount"]

    assert listed() == (names, 5), "their numbers ascend"
    assert listed(Limit=2, Offset=3) == (names[3:], 5)
    assert listed(OrderBy="CREATE_TIME_ASC") == (names, 5)
    assert listed(OrderBy="CREATE_TIME_DESC", Limit=2) == (names[:2:-1], 5)
    assert listed({"ClientId": ["client1", "client4"]}) == (["name1", "name4"], 2)
    assert listed({"CaSn": serial(pki).lower()})[1] == 5 and listed({"CaSn": "AB"}) == ([], 0)
    assert listed({"DeviceCertificateSn": serial(pki, "d2")}) == (["name2"], 1)
    assert listed({"DeviceCertificateCn": "name0"}) == (["name0"], 1)
    assert listed({"OrganizationalUnit": "unit1", "Status": "ACTIVE"}) == (["name1"], 1)
    assert listed({"Status": "INACTIVE"}) == (["name3"], 1)
    assert listed({"NotAfterStart": "4000000000000"}) == ([], 0)
    assert listed({"NotAfterEnd": "4000000000000"})[1] == 5
    server.action("ActivateDeviceCertificate", DeviceCertificateSn=serial(pki, "d3"))
    assert listed(OrderBy="UPDATE_TIME_DESC", Limit=1)[0] == ["name3"]
    for wrong in ({"OrderBy": "NAME"}, {"Limit": 101}, {"Filters": [{"Name": "x", "Values": ["y"]}]}):
        assert error(server.action("DescribeDeviceCertificates", **wrong)) == CODES["value"]


def test_another_certificate_of_the_same_number(make_server, tmp_path):
    """It is not the registered one, whoever of the registered CAs has signed it."""
    server = make_server(**keys())
    pki, other = make_ca(tmp_path / "a"), make_ca(tmp_path / "b", "Other CA")
    for ca in (pki, other):
        register_ca(server, ca)
        ca.path("serial").write_text("AA00\n")
        ca.issue("x")
    register(server, pki, "x", "x")
    assert error(register(server, other, "x")) == CODES["exists"]
    assert refused(server, other, "x") == BAD_USER
    assert "another certificate of its serial number is registered" in server.log
    paho(server, pki, "x").disconnect()


# --- certificates that come by themselves --------------------------------------------------------------


def test_first_connects(make_server, tmp_path, version):
    """Registered when it comes first, under its CA, with its client ID."""
    server = make_server(**keys(**{"auth.x509.provision": "jitp"}))
    pki = make_ca(tmp_path)
    register_ca(server, pki)
    pki.issue("new")
    client = paho(server, pki, "new", version=version)
    sn = {"DeviceCertificateSn": serial(pki, "new")}
    row = server.action("DescribeDeviceCertificate", **sn)
    assert (row["Status"], row["CertificateSource"], row["ClientId"], row["CaSn"]) == (
        "ACTIVE", "JITP", "new", serial(pki))
    assert refused(server, pki, "new", "other", version=version) == BAD_USER
    assert client.connected
    assert "Error" not in server.action("RevokedDeviceCertificate", **sn)
    assert_closed(client)
    assert refused(server, pki, "new", version=version) == BAD_USER
    if version == 5:
        pki.issue("nameless")
        assert refused(server, pki, "nameless", "") == BAD_USER
        assert server.action("DescribeDeviceCertificates")["TotalCount"] == 1


def test_first_connects_wait(make_server, tmp_path, version):
    """Without automatic activation it is recorded, and refused until it is activated."""
    server = make_server(**keys(**{"auth.x509.provision": "jitp",
                                   "auth.x509.automatic_activation": False}))
    pki = make_ca(tmp_path)
    register_ca(server, pki)
    pki.issue("new")
    for _ in range(2):
        assert refused(server, pki, "new", version=version) == BAD_USER
    assert "it waits to be activated" in server.log
    sn = {"DeviceCertificateSn": serial(pki, "new")}
    row = server.action("DescribeDeviceCertificate", **sn)
    assert (row["Status"], row["CertificateSource"], row["LastActivationTime"]) == (
        "PENDING_ACTIVATION", "JITP", 0)
    assert "Error" not in server.action("ActivateDeviceCertificate", **sn)
    assert refused(server, pki, "new", "other", version=version) == BAD_USER
    paho(server, pki, "new", version=version).disconnect()


def test_a_chain(make_server, tmp_path):
    """A certificate below an intermediate CA counts for the registered one above."""
    server = make_server(**keys(**{"auth.x509.provision": "jitp"}))
    pki = make_ca(tmp_path)
    register_ca(server, pki)
    pki.issue("middle", more="", subject="/CN=Middle CA")
    openssl(pki.folder, "req", "-new", "-key", "middle.key", "-subj", "/CN=Middle CA", "-out", "m.csr")
    pki.path("ca.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
    openssl(pki.folder, "x509", "-req", "-in", "m.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "30", "-extfile", "ca.ext", "-out", "middle.pem")
    openssl(pki.folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "leaf.key", "-subj", "/CN=leaf", "-out", "leaf.csr")
    openssl(pki.folder, "x509", "-req", "-in", "leaf.csr", "-CA", "middle.pem", "-CAkey",
            "middle.key", "-CAcreateserial", "-days", "30", "-out", "leaf.pem")
    with open(pki.path("leaf.pem"), "a", encoding="ascii") as leaf:
        leaf.write(pem(pki, "middle"))
    client = paho(server, pki, "leaf")
    row = server.action("DescribeDeviceCertificates")["Data"][0]
    assert (row["CaSn"], row["DeviceCertificateCn"]) == (serial(pki), "leaf")
    assert "Error" not in server.action("DeactivateCaCertificate", CaSn=serial(pki))
    assert_closed(client)


# --- the command line ----------------------------------------------------------------------------------


def test_commands(make_server, tmp_path):
    """The whole life of a CA and a certificate, and what is wrong with arguments."""
    server = make_server(**keys())
    pki = make_ca(tmp_path)
    code = server.cli("ca", "code").stdout.strip()
    instance = server.action("DescribeInstance")
    assert (instance["X509Mode"], instance["RegistrationCode"], instance["MaxCaNum"]) == (
        "BYOC", code, 32)
    assert (instance["DeviceCertificateProvisionType"], instance["AutomaticActivation"]) == (
        "API", True)
    pki.issue("verification", subject=f"/CN={code}")
    added = server.cli("ca", "register", pki.path("ca.pem"), "--verification",
                       pki.path("verification.pem"), "--inactive")
    sn = added.stdout.strip()
    assert sn == serial(pki)
    assert server.cli_json("ca", "list") == [{
        "sn": sn, "subject": "CN=Devices CA", "state": "INACTIVE", "devices": 0,
        "not_after_s": server.action("DescribeCaCertificate", CaSn=sn)["NotAfterTime"] // 1000}]
    assert "activated" in server.cli("ca", "activate", sn).stdout
    pki.issue("one")
    own = server.cli("device-cert", "register", pki.path("one.pem"), "--ca", sn, "--client-id",
                     "one").stdout.strip()
    assert own == serial(pki, "one")
    row = server.cli_json("device-cert", "list")[0]
    assert (row["sn"], row["client_id"], row["state"], row["ca_sn"]) == (own, "one", "ACTIVE", sn)
    client = paho(server, pki, "one")
    server.cli("device-cert", "deactivate", own)
    assert_closed(client)
    assert "INACTIVE" in server.cli("device-cert", "show", own.lower()).stdout
    server.cli("device-cert", "activate", own)
    paho(server, pki, "one").disconnect()
    server.cli("device-cert", "revoke", own)
    assert "PRIVATE" not in server.cli("device-cert", "show", own, "--json").stdout
    assert server.cli_json("device-cert", "show", own)["Status"] == "REVOKED"
    assert "Devices CA" in server.cli("ca", "show", sn).stdout
    for words, code, told in (
            (("ca", "register", pki.path("ca.pem")), 2, "--verification is needed"),
            (("device-cert", "register", pki.path("one.pem")), 2, "--ca is needed"),
            (("device-cert", "register", "/nowhere", "--ca", sn), 1, "could not read"),
            (("ca", "register", pki.path("ca.key"), "--verification", pki.path("one.pem")), 1,
             "not one certificate in PEM"),
            (("device-cert", "register", pki.path("one.pem"), "--ca", "FF"), 1, "no CA of this"),
            (("device-cert", "activate", own), 1, "revoked for good"),
            (("ca", "remove", sn), 1, "delete those first"),
            (("ca", "show", "FF"), 1, "no CA of this serial number")):
        run = server.cli(*map(str, words), check=False)
        assert run.returncode == code and told in run.stderr, (words, run)
    server.cli("device-cert", "remove", own)
    server.cli("ca", "deactivate", sn)
    server.cli("ca", "remove", sn)
    assert server.cli_json("ca", "list") == server.cli_json("device-cert", "list") == []


def test_other_modes_do_not_ask_the_registry(make_server, tmp_path):
    """It can be filled beforehand."""
    pki = make_ca(tmp_path)
    config = tls_keys(shared(), **{"auth.x509.mode": "name", "auth.anonymous": False,
                                   "tls.client_ca": pki.path("ca.pem")})
    server = make_server(**config)
    assert server.action("DescribeInstance")["X509Mode"] == "mTLS"
    for name in ("one", "two"):
        pki.issue(name)
    register_ca(server, pki)
    register(server, pki, "one", "one")
    client = paho(server, pki, "two")
    server.action("RevokedDeviceCertificate", DeviceCertificateSn=serial(pki, "one"))
    other = paho(server, pki, "one")
    assert client.connected
    client.disconnect()
    other.disconnect()


# --- what stays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_a_restart_keeps_all(make_server, tmp_path, kill):
    """The code, CAs, certificates and their states."""
    server = make_server(**keys(**{"auth.x509.provision": "jitp"}))
    pki = make_ca(tmp_path)
    register_ca(server, pki)
    for name in ("active", "inactive", "revoked", "found"):
        pki.issue(name)
    for name in ("active", "inactive", "revoked"):
        register(server, pki, name, name)
    paho(server, pki, "found").disconnect()
    server.action("DeactivateDeviceCertificate", DeviceCertificateSn=serial(pki, "inactive"))
    server.action("RevokedDeviceCertificate", DeviceCertificateSn=serial(pki, "revoked"))
    before = (server.action("DescribeCaCertificates")["Data"],
              server.action("DescribeDeviceCertificates")["Data"])
    server.restart(kill=kill)
    assert before == (server.action("DescribeCaCertificates")["Data"],
                      server.action("DescribeDeviceCertificates")["Data"])
    for name in ("active", "found"):
        paho(server, pki, name).disconnect()
    for name in ("inactive", "revoked"):
        assert refused(server, pki, name) == BAD_USER
    other = make_ca(tmp_path / "other", "Other CA")
    code = openssl(pki.folder, "x509", "-noout", "-subject", "-in", "verification.pem").split("=")[-1]
    other.issue("verification", subject=f"/CN={code.strip()}")
    assert "Error" not in server.action("RegisterCaCertificate", CaCertificate=pem(other),
                                        VerificationCertificate=pem(other, "verification"))
