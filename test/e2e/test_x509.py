"""Certificates of clients that say who they are."""

import pytest
from client import Client, Refused
from pki import Pki
from test_access import set_password
from test_tls import context, mutual_keys, paho

BAD_USER, NOT_AUTHORIZED = 0x86, 0x87


@pytest.fixture(name="pki", scope="module")
def fixture_pki(tmp_path_factory):
    """A CA with a server's and clients' certificates."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    pki.issue("server")
    pki.issue("device1", subject="/O=Acme/CN=device1")
    pki.write_list()
    return pki


def refused(server, pki, certificate=None, **options):
    """The reason of a refusal."""
    with pytest.raises(Refused) as caught:
        Client(server, tls=context(pki, certificate), **options).connect()
    return caught.value.reason


@pytest.mark.parametrize("loops", [1, 2])
def test_the_common_name_is_the_user(make_server, pki, version, loops):
    """Whatever the client says, and without a password."""
    server = make_server(**mutual_keys(pki, **{"auth.anonymous": False, "auth.x509.mode": "name",
                                               "threads.loops": loops}))
    client = paho(server, pki, "device1", version=version)
    assert server.cli_json("client", "show", client.client_id)["username"] == "device1"
    client.subscribe("a", 1)
    client.publish("a", b"x", 1)
    assert client.take().payload == b"x"
    claims = paho(server, pki, "device1", version=version, user="admin", password="x")
    assert server.cli_json("client", "show", claims.client_id)["username"] == "device1"
    for made in (client, claims):
        made.abandon()


def test_bound_to_a_client_id(make_server, pki, version):
    """Its own only."""
    server = make_server(**mutual_keys(pki, **{"auth.anonymous": False, "auth.x509.mode": "name",
                                               "auth.x509.client_id": "common_name"}))
    client = paho(server, pki, "device1", version=version, client_id="device1")
    assert client.connected
    client.abandon()
    assert refused(server, pki, "device1", version=version, client_id="device2") == BAD_USER


def test_beside_passwords(make_server, pki, tmp_path):
    """Where a certificate is optional, others are asked about those without."""
    path = tmp_path / "passwords"
    set_password(path, "alice", "wonderland")
    server = make_server(**mutual_keys(pki, **{
        "auth.anonymous": False, "auth.x509.mode": "name", "auth.password_file": path,
        "tls.client_certificate": "optional"}))
    clients = [paho(server, pki, "device1"), paho(server, pki, user="alice", password="wonderland")]
    assert all(client.connected for client in clients)
    assert refused(server, pki, user="alice", password="x") == BAD_USER
    assert refused(server, pki) == NOT_AUTHORIZED
    for client in clients:
        client.abandon()


def test_off_by_default(make_server, pki):
    """Then a certificate is TLS's matter only."""
    server = make_server(**mutual_keys(pki, **{"auth.anonymous": True}))
    client = paho(server, pki, "device1", user="whoever", password="x")
    assert server.cli_json("client", "show", client.client_id)["username"] == "whoever"
    client.abandon()
