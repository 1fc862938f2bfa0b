"""No secret of a client, and none of the server's own, shows up where it does not belong."""

import base64
import json
import os
import pathlib
import re
import resource
import signal
import ssl
import subprocess

import pytest
from client import Refused
from pki import Pki
from site_server import Answer, serving
from test_access import set_password
from test_devices import sas
from test_tokens import SECRET, token
from test_users import reload
from tidemq import run_serve, sanitizers, wait_until

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


# Writes what the server makes for session tickets into a file of its own; the key is nowhere else.
SPY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
int gnutls_session_ticket_key_generate(gnutls_datum_t *key)
{
    int (*make)(gnutls_datum_t *) = dlsym(RTLD_NEXT, "gnutls_session_ticket_key_generate");
    int code = make(key);
    FILE *file = fopen(getenv("SPY_FILE"), "ab");
    if (code < 0 || !file || fwrite(key->data, 1, key->size, file) != key->size || fclose(file))
        abort();
    return code;
}
"""


def spy_on_tickets(folder):
    """The environment of a server whose keys of session tickets are told to the test; and where."""
    (folder / "spy.c").write_text(SPY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "spy.so", "spy.c"], cwd=folder, check=True)
    kept = folder / "ticket.keys"
    ahead = " ".join([*sanitizers(), str(folder / "spy.so")])
    return {"LD_PRELOAD": ahead, "SPY_FILE": str(kept)}, kept


def forms(secret):
    """How bytes may show up in a text."""
    text = base64.b64encode(secret).decode()
    return [secret.hex(), secret.hex().upper(), text[:40], secret.hex(" "), secret.hex(":"),
            secret.decode("latin-1")]


def test_no_secret_of_a_connection_is_told(make_server, new_client, tmp_path):
    """The credentials for the server that is asked, and the keys of session tickets: while TLS sessions
    begin, are resumed and fail, and while the configuration is reloaded, rightly and wrongly."""
    pki = Pki(tmp_path / "pki")
    pki.issue("server")
    env, kept = spy_on_tickets(tmp_path)
    bearer, basic = "bearer-secret-word", base64.b64encode(b"user:basic-secret-word").decode()
    file = tmp_path / "tidemq.yaml"

    def write(headers, url):
        file.write_text(json.dumps({"auth.http.headers": headers, "auth.http.url": url}))

    with serving(Answer(200, {"result": "allow"})) as site:
        url = site.url.replace("://", "://url-user:url-secret-word@")
        write([f"Authorization: Bearer {bearer}", f"Proxy-Authorization: Basic {basic}"], url)
        server = make_server(config_file=file, env=env, **{
            "listeners": ["mqtts://127.0.0.1:0", "mqtts://127.0.0.1:0"], "log.level": "debug",
            "auth.anonymous": False, "tls.certificate": pki.path("server.pem"),
            "tls.private_key": pki.path("server.key")})
        context = ssl.create_default_context(cafile=pki.path("ca.pem"))
        server.cli("device", "add", "dev")
        client = new_client(to=server, user="u", password="client-secret-word", tls=context)
        assert bearer in site.wait_for(1).headers["Authorization"]
        for _ in range(2):
            new_client(to=server, user="u", password="client-secret-word", tls=context).disconnect()
        with pytest.raises(ssl.SSLError):  # trusts nobody
            new_client(to=server, tls=ssl.create_default_context())
        site.answer = Answer(401)
        attempt(new_client, to=server, user="u", password="client-secret-word", tls=context)
        wrong = [([f"Authorization {bearer}"], url), ([f"Authorization: {bearer} ${{x}}"], url),
                 (["A: b"], f"gopher://url-secret-word@h/{bearer}")]
        for number, (headers, other) in enumerate(wrong, 1):
            write(headers, other)
            server.signal(signal.SIGHUP)
            wait_until(lambda: server.log.count("nothing changed") == number, what="the refusal")
        write(["A: b"], url)
        reload(server)
        said = everything(server, client)
        checked = run_serve("--config", file, "--set", f"auth.http.headers=[{bearer}]", "--check")
        assert checked.returncode == 2
        said["check"] = checked.stdout + checked.stderr
        keys = kept.read_bytes()
        assert len(keys) >= 2 * 64 and len(keys) % 64 == 0
        secrets = [bearer, basic, "url-secret-word", "client-secret-word",
                   *(form for at in range(0, len(keys), 16) for form in forms(keys[at:at + 16]))]
        found = [(name, secret) for name, text in said.items() for secret in secrets if secret in text]
        assert not found


def soft_core_limit(server):
    """How much of the process the system would write."""
    limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
    return re.search(r"Max core file size +(\S+)", limits)[1]


@pytest.fixture(name="cores")
def fixture_cores():
    """Programs started by the test may leave core dumps."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    assert before[1] != 0, "this system lets nobody write core dumps"
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


def test_a_crash_leaves_no_core(make_server, cores):
    """What is in memory gets into no file, unless the operator says so."""
    server = make_server()
    assert soft_core_limit(server) == "0"
    pid = server.process.pid
    resource.prlimit(pid, resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))
    os.kill(pid, signal.SIGABRT)  # with the limit out of the way, as for programs at a pipe
    _, status = os.waitpid(pid, 0)
    server.process.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)
    if not sanitizers():  # their runtimes forbid it as well
        assert soft_core_limit(make_server(core_dumps=True)) != "0"
