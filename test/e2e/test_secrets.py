"""No secret of a client, and none of the server's own, shows up where it does not belong."""

import json

import pytest
from client import Refused
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
