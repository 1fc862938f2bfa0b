"""No secret of a client, and none of the server's own, shows up where it does not belong."""

import base64
import json
import os
import pathlib

import pytest
from client import Refused
from pki import Pki
from site_server import Answer, serving
from test_access import set_password
from test_devices import sas
from test_tokens import SECRET, token
from test_users import reload

HEADER_SECRET = "header-secret-word"


def attempt(new_client, **options):
    """Connects, or is refused; either will do."""
    try:
        return new_client(**options)
    except Refused:
        return None


def everything(server, client):
    """All that the server says about itself, to anybody: name -> text."""
    client.subscribe("$SYS/#", 1)
    said = {"log": server.log, "banner": server.stdout}
    for path in ("/metrics", "/v1/status", "/v1/store", "/v1/topics", "/v1/clients", "/v1/devices",
                 "/v1/devices/dev"):
        said[path] = server.http(path)[2]
    for args in (("status",), ("client", "list"), ("device", "list"), ("device", "show", "dev"),
                 ("topic", "list"), ("store", "stats")):
        said[" ".join(args)] = server.cli(*args).stdout
    for row in json.loads(said["/v1/clients"])["clients"]:
        said["client " + row["client_id"]] = server.cli("client", "show", row["client_id"]).stdout
    said["DescribeClientList"] = json.dumps(server.action("DescribeClientList"))
    said["$SYS"] = "".join(m.topic + m.payload.decode() for m in client.settle())
    return said


def test_no_secret_is_told(make_server, new_client, tmp_path):
    """Good and bad passwords, tokens and keys of every kind, at the most talkative log level."""
    passwords, secret_file = tmp_path / "passwords", tmp_path / "secret"
    set_password(passwords, "alice", "alices-password")
    secret_file.write_text(SECRET)
    with serving(Answer(500, b"body-of-the-answer")) as site:
        server = make_server(**{
            "auth.anonymous": False, "auth.password_file": passwords, "log.level": "debug",
            "auth.jwt.secret_file": secret_file,
            "auth.http.url": site.url + "/?key=url-secret-word&p=${Password}",
            "auth.http.headers": [f"X-Key: {HEADER_SECRET}"]})
        keys = server.cli_json("device", "add", "dev")
        shown = {
            "alices": "alices-password", "wrong": "wrong-password", "unknown": "password-of-nobody",
            "good token": token(sub="bob"), "expired token": token(exp=1),
            "forged token": token("another secret of more than 32 bytes"),
            "good sas": sas("dev", keys["PrimaryKey"]), "old sas": sas("dev", keys["PrimaryKey"], -1),
            "broken sas": "SharedAccessSignature sr=broken-sas-word"}
        for number, (name, password) in enumerate(shown.items()):
            attempt(new_client, client_id="dev" if "good sas" in name else f"c{number}", to=server,
                    user="nobody" if name == "unknown" else "alice", password=password,
                    expiry_s=3600)
        site.wait_for(1)
        passwords.write_text("alice:clear-text-in-file\n")
        reload(server)  # tells of the wrong file
        assert "nothing changed" in server.log
        client = new_client(to=server, user="u", password=token(sub="watcher"))
        secrets = [*shown.values(), *[text.split(".")[2] for text in shown.values() if text.count(".") == 2],
                   SECRET, keys["PrimaryKey"], keys["SecondaryKey"], HEADER_SECRET,
                   "url-secret-word", "body-of-the-answer", "clear-text-in-file", "$argon2id$",
                   server.token]
        said = everything(server, client)
        assert "bob" in said["client list"] + said["/v1/clients"] + "".join(said.values())
        found = [(name, secret) for name, text in said.items() for secret in secrets
                 if secret in text]
        assert not found
    with pytest.raises(Refused):
        new_client(to=server, user="alice", password="wrong-password")


def test_no_secret_of_the_api_is_told(make_server, new_client, tmp_path):
    """Keys that come by the admin API, sound or not, and tokens that are not the server's; what is
    kept on disk is readable by its owner only."""
    certs = Pki(tmp_path)
    certs.issue("server")
    private_key = pathlib.Path(certs.path("server.key")).read_text()
    server = make_server(**{
        "auth.anonymous": True, "auth.chain": ["device"], "log.level": "debug",
        "listeners": ["mqtt://127.0.0.1:0", "quic://127.0.0.1:0"],
        "tls.certificate": certs.path("server.pem"), "tls.private_key": certs.path("server.key")})
    client = new_client(to=server)
    first, second, third = (base64.b64encode(os.urandom(32)).decode() for _ in range(3))
    sound = server.action("CreateDeviceIdentity", DeviceId="dev", PrimaryKey=first,
                          SecondaryKey=second)
    assert "Error" not in sound
    assert "Error" not in server.action("ModifyDeviceIdentity", DeviceId="dev", PrimaryKey=third)
    errors = [
        server.action("CreateDeviceIdentity", DeviceId="d2", PrimaryKey="no-base64-secret-word"),
        server.action("CreateDeviceIdentity", DeviceId="dev", PrimaryKey=third),
        server.action("RegisterCaCertificate", CaCertificate=private_key),
        server.action("RegisterDeviceCertificate", DeviceCertificate=private_key, CaSn="AA"),
    ]
    assert all("Error" in answer for answer in errors), errors
    for headers in ({"X-TC-Action": "CreateDeviceIdentity"}, {}):
        status, _, text = server.http("/", method="POST", token="token-of-a-stranger",
                                      body=b'{"PrimaryKey": "stranger-secret-word"}', headers=headers)
        assert status == 401 and "stranger" not in text
    server.http("/", method="POST", body=b'{"PrimaryKey": "torn-secret-word',
                headers={"X-TC-Action": "CreateDeviceIdentity"})
    assert server.http("/v1/status?token=" + server.token, token=False)[0] == 401
    said = everything(server, client)
    said["errors"] = json.dumps(errors)
    secrets = [first, second, third, "no-base64-secret-word", "stranger", "torn-secret-word",
               server.token, private_key.split("\n")[1]]
    found = [(name, secret) for name, text in said.items() for secret in secrets if secret in text]
    assert not found
    kept = server.data_dir / "quic.secrets"
    for path in (kept, server.data_dir / "admin.token"):
        assert path.stat().st_mode & 0o077 == 0, path
    raw = kept.read_bytes()[-128:]
    for text in said.values():
        assert raw.hex()[:32] not in text.lower()
        assert base64.b64encode(raw).decode()[:32] not in text
