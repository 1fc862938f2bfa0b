"""A server of the operator's that is asked about each client: what it is asked, what its answers do,
and what its faults do."""

import ssl
import subprocess
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from client import Client, Refused
from site_server import Answer, serving
from test_access import set_password
from tidemq import run_serve, wait_until

BAD_USER, NOT_AUTHORIZED, BUSY, EXPIRED = 0x86, 0x87, 0x89, 0xA0
ALLOW = Answer(body={"result": "allow"})
ASKED = {"auth.anonymous": False, "auth.http.connect_timeout": "2s", "auth.http.read_timeout": "2s"}


@pytest.fixture(name="site", scope="module")
def fixture_site():
    """The server that is asked."""
    with serving(ALLOW) as site:
        yield site


@pytest.fixture(name="asked", scope="module")
def fixture_asked(make_server_module, site):
    """A server that asks it."""
    return make_server_module(**ASKED, **{"auth.http.url": site.url + "/auth"})


def refused(new_client, *args, **options):
    """The reason of a refusal."""
    with pytest.raises(Refused) as caught:
        new_client(*args, **options)
    return caught.value.reason


def test_what_is_asked_by_default(asked, new_client, version, site):
    """JSON of client ID, user name and password."""
    site.answer = ALLOW
    count = len(site.requests)
    client = new_client("c \u00e9", to=asked, version=version, user="u\"1", password="p/%\u00e9")
    client.subscribe("a", 1)
    request = site.wait_for(count + 1)
    assert (request.method, request.path) == ("POST", "/auth")
    assert request.headers["Content-Type"] == "application/json"
    assert request.json == {"client-id": "c \u00e9", "username": "u\"1", "password": "p/%\u00e9"}
    assert asked.cli_json("client", "show", client.client_id)["username"] == "u\"1"


ANSWERS = {
    "deny": Answer(body={"result": "deny"}),
    "ignore": Answer(body={"result": "ignore"}),
    "500": Answer(500, b"oops"),
    "401": Answer(401, {"result": "allow"}),
    "redirect": Answer(302, {"result": "allow"}, headers={"Location": "/other"}),
    "not JSON": Answer(body=b"allow"),
    "no object": Answer(body=["allow"]),
    "no result": Answer(body={}),
    "other result": Answer(body={"result": "yes"}),
    "superuser a text": Answer(body={"result": "allow", "is_superuser": "true"}),
    "acl no list": Answer(body={"result": "allow", "acl": "all"}),
    "expired": Answer(body={"result": "allow", "expire_at": 1}),
    "expiry a text": Answer(body={"result": "allow", "expire_at": "x"}),
    "huge": Answer(body=b'{"result": "allow", "x": "' + b"x" * 1000000 + b'"}'),
    "empty": Answer(),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_not_allowed_is_refused(asked, new_client, site, name):
    """Denied, ignored by the last of the chain, or no answer that counts."""
    site.answer = ANSWERS[name]
    failures = asked.metrics()["tidemq_auth_http_failures_total"]
    assert refused(new_client, to=asked, user="u", password="p-" + name) == BAD_USER
    assert refused(new_client, to=asked) == (BAD_USER if name in ("deny", "expired")
                                             else NOT_AUTHORIZED)
    counted = asked.metrics()["tidemq_auth_http_failures_total"] - failures
    assert counted == (0 if name in ("deny", "ignore", "expired") else 2)


def test_no_content_allows(asked, new_client, site):
    """204 has no body; it says yes."""
    site.answer = Answer(204)
    assert new_client(to=asked, user="u", password="p").connected


def test_links_end_when_the_answer_says(asked, new_client, version, site):
    """expire_at."""
    site.answer = Answer(body={"result": "allow", "expire_at": time.time() + 1.5})
    client = new_client(to=asked, version=version, user="u", password="p")
    reason = client.closed()
    assert version != 5 or reason == EXPIRED


def test_a_slow_server(asked, new_client, site):
    """Given up after its time; meanwhile others are served."""
    hold = threading.Event()
    site.answer = lambda request: (Answer(body={"result": "allow"}, hold=hold)
                                   if b"slow" in request.body else ALLOW)
    other = new_client(to=asked, user="u", password="p")
    try:
        with pytest.raises(Refused) as caught:
            Client(asked, user="slow", password="p").connect()
        assert caught.value.reason == BAD_USER
        other.subscribe("a", 1)
        assert "does not count: Timeout was reached" in asked.log
    finally:
        hold.set()


def test_a_client_that_leaves_meanwhile(asked, new_client, site):
    """Its question is cancelled."""
    hold = threading.Event()
    site.answer = Answer(body={"result": "allow"}, hold=hold)
    count = len(site.requests)
    client = Client(asked, user="u", password="p")
    thread = threading.Thread(target=lambda: pytest.raises(Refused, client.connect))
    try:
        thread.start()
        site.wait_for(count + 1)
        client.cut()
        wait_until(lambda: asked.metrics()["tidemq_auth_waiting"] == 0, what="the cancellation")
    finally:
        hold.set()
    thread.join()
    site.answer = ALLOW
    assert new_client(to=asked, user="u", password="p").connected


def test_what_can_be_asked(make_server, new_client, site):
    """GET, templates everywhere, user properties as headers."""
    site.answer = ALLOW
    server = make_server(**ASKED, **{
        "auth.http.url": site.url + "/${ClientId}/x?fixed=1", "auth.http.method": "GET",
        "auth.http.body": ["u=${Username}", "a=${Address}"], "auth.http.user_properties": True,
        "auth.http.headers": ["X-Client: <${ClientId}>", "X-Fixed: y"]})
    count = len(site.requests)
    new_client("c/1?", to=server, user="a&b=c", password="p", UserProperty=[
        ("X-Site", "42"), ("Authorization", "Bearer me"), ("Host", "other"), ("x-fixed", "z"),
        ("bad name", "v"), ("X-Bad-Value", "v\r\nX-Injected: 1"), ("content-length", "7")])
    request = site.wait_for(count + 1)
    parts = urlsplit(request.path)
    assert request.method == "GET" and parts.path == "/c%2F1%3F/x"
    query = dict(parse_qsl(parts.query))
    assert query["fixed"] == "1" and query["u"] == "a&b=c" and query["a"].startswith("127.0.0.1:")
    headers = request.headers
    assert headers["X-Client"] == "<c/1?>" and headers["X-Site"] == "42"
    assert headers["X-Fixed"] == "y" and headers["Host"] == f"127.0.0.1:{site.port}"
    assert not {"Authorization", "X-Injected", "X-Bad-Value", "bad name"} & set(headers)
    # What would break a header cannot be asked about: nobody vouches for it.
    assert refused(new_client, "new\r\nX-Injected: 1", to=server, user="u") == BAD_USER
    assert len(site.requests) == count + 1


def test_concurrency(make_server, site):
    """So many at once, the others in turn."""
    hold = threading.Event()
    site.answer = Answer(body={"result": "allow"}, hold=hold)
    server = make_server(**ASKED, **{"auth.http.url": site.url, "auth.http.concurrency": 2})
    count, site.active_max = len(site.requests), 0
    clients = [Client(server, user="u", password="p") for _ in range(6)]
    threads = [threading.Thread(target=client.connect) for client in clients]
    for thread in threads:
        thread.start()
    site.wait_for(count + 2)
    wait_until(lambda: server.metrics()["tidemq_auth_waiting"] == 6, what="six questions")
    assert len(site.requests) == count + 2
    hold.set()
    for thread in threads:
        thread.join()
    assert site.active_max == 2 and all(client.connected for client in clients)
    for client in clients:
        client.abandon()


def test_waiting_has_an_end(make_server, site):
    """Behind servers that hang, clients are told to come back."""
    hold = threading.Event()
    site.answer = Answer(body={"result": "allow"}, hold=hold)
    server = make_server(**{**ASKED, "auth.http.connect_timeout": "1s",
                            "auth.http.read_timeout": "1s", "auth.http.url": site.url,
                            "auth.http.concurrency": 1})
    reasons = []

    def connect():
        try:
            Client(server, user="u", password="p").connect()
        except Refused as caught:
            reasons.append(caught.reason)

    threads = [threading.Thread(target=connect) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold.set()
    assert len(reasons) == 6 and set(reasons) == {BAD_USER, BUSY}


def test_no_server(make_server, new_client, tmp_path):
    """Nobody listens: refused, unless the chain knows more."""
    path = tmp_path / "passwords"
    set_password(path, "alice", "in-file")
    with serving() as gone:
        url = gone.url
    server = make_server(**ASKED, **{"auth.http.url": url, "auth.password_file": path,
                                     "auth.chain": ["http", "users"]})
    assert new_client(to=server, user="alice", password="in-file").connected
    assert refused(new_client, to=server, user="bob", password="x") == BAD_USER


def test_a_trusted_server_only(make_server, new_client, tmp_path):
    """Its certificate is verified: by the system's, or by a file."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=site", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with serving(ALLOW, tls) as site:
        keys = {**ASKED, "auth.http.url": site.url}
        trusting = make_server(**keys, **{"auth.http.ca_file": cert})
        assert new_client(to=trusting, user="u", password="p").connected
        strict = make_server(**keys)
        count = len(site.requests)
        assert refused(new_client, to=strict, user="u", password="p") == BAD_USER
        assert len(site.requests) == count and "does not count" in strict.log


@pytest.mark.parametrize("keys, told", [
    ({"auth.http.url": "ftp://host/"}, "a URL http"),
    ({"auth.http.url": "http://${ClientId}/"}, "behind its host"),
    ({"auth.http.url": "http://h/${X}"}, "${X}"),
    ({"auth.http.url": "http://h/", "auth.http.headers": "[nothing]"}, "X-Client"),
    ({"auth.http.url": "http://h/", "auth.http.headers": "['X: ${Y}']"}, "${Y}"),
    ({"auth.http.url": "http://h/", "auth.http.body": "[nothing]"}, "username="),
    ({"auth.http.url": "http://h/", "auth.http.concurrency": "0"}, "256"),
    ({"auth.chain": "[http]"}, "auth.http.url"),
], ids=str)
def test_wrong_keys_of_the_configuration(tmp_path, keys, told):
    """Each is named with what is allowed."""
    sets = [arg for key, value in keys.items() for arg in ("--set", f"{key}={value}")]
    run = run_serve("--check", "--set", f"data_dir={tmp_path}", *sets)
    assert run.returncode == 2 and told in run.stderr, run.stderr
