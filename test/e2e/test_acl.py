"""Rights that come with the authentication: rules of an HTTP answer and of a token, superusers, and
the names of a certificate in policies."""

import pytest
from client import Refused
from pki import Pki
from site_server import Answer, serving
from test_tls import mosquitto, mutual_keys
from test_tokens import SECRET, token
from tidemq import wait_until

NOT_AUTHORIZED = 0x87
RULES = [
    {"effect": "deny", "action": "publish", "topic": "site/7/locked"},
    {"effect": "allow", "action": ["connect", "publish"], "topic": "site/7/#"},
    {"effect": "allow", "action": "subscribe", "topic": ["own/${ClientId}", "star/*"],
     "qos": [0, 1]},
]


@pytest.fixture(name="site", scope="module")
def fixture_site():
    """The server that is asked."""
    with serving(Answer(body={"result": "allow"})) as site:
        yield site


@pytest.fixture(name="asked", scope="module")
def fixture_asked(make_server_module, site):
    """A server that asks it, with policies that say nothing but one no."""
    server = make_server_module(**{
        "auth.anonymous": False, "auth.http.url": site.url, "authorization.enabled": True})
    server.cli("policy", "add", "never", "--priority", "1", "--effect", "deny", "--action", "pub",
               "--topic", "site/7/never")
    return server


@pytest.fixture(name="by_token", scope="module")
def fixture_by_token(make_server_module, tmp_path_factory):
    """A server that takes tokens."""
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_text(SECRET)
    return make_server_module(**{
        "auth.anonymous": False, "auth.jwt.secret_file": path, "authorization.enabled": True})


def check_rules(client, version):
    """What RULES mean."""
    no = NOT_AUTHORIZED if version == 5 else 0x80
    codes = client.subscribe_all([(f"own/{client.client_id}", 1), ("own/other", 1), ("site/7/#", 1),
                                  ("star/*", 1), ("star/x", 1), (f"own/{client.client_id}", 2)])
    assert codes == [1, no, no, 1, no, no]  # a star is an ordinary character here
    if version == 5:
        assert client.publish("site/7/x", b"x", 1) in (0, 0x10)
        for topic in ("site/7/locked", "other"):
            assert client.publish(topic, b"x", 1) == NOT_AUTHORIZED


def test_rules_of_an_answer(asked, site, new_client, version):
    """They decide after the policies, in their order."""
    site.answer = Answer(body={"result": "allow", "acl": RULES})
    client = new_client("c7", to=asked, version=version, user="u", password="p")
    check_rules(client, version)
    if version == 5:
        assert client.publish("site/7/never", b"x", 1) == NOT_AUTHORIZED
        assert "may not publish to 'site/7/locked' at QoS 1: rule 1 that its authentication gave" \
            in asked.log


def test_rules_of_a_token(by_token, new_client, version):
    """Likewise from the claim `acl`."""
    client = new_client("t7", to=by_token, version=version, user="u", password=token(acl=RULES))
    check_rules(client, version)


def test_no_rules_allow_nothing(asked, site, new_client, version):
    """Without a rule and a policy that allow it a client may not even connect."""
    for body in ({"result": "allow"}, {"result": "allow", "acl": []}):
        site.answer = Answer(body=body)
        with pytest.raises(Refused) as refused:
            new_client(to=asked, version=version, user="u", password="p")
        assert refused.value.reason == NOT_AUTHORIZED


def test_rules_that_cannot_be_used(asked, site, new_client):
    """A rule with a member that nobody knows would mean something else: refused, and named."""
    site.answer = Answer(body={"result": "allow", "acl": [
        {"effect": "allow", "action": "all", "where": "here"}]})
    with pytest.raises(Refused) as refused:
        new_client(to=asked, user="u", password="p")
    assert refused.value.reason == NOT_AUTHORIZED
    assert "rule 1 of the ACL: where: is not known" in asked.log


def test_superusers(asked, site, new_client, version):
    """They may do everything; block rules keep them out all the same."""
    site.answer = Answer(body={"result": "allow", "is_superuser": True})
    client = new_client("root", to=asked, version=version, user="u", password="p")
    assert client.subscribe("#", 1) == 1
    client.publish("site/7/never", b"x", 1)
    assert client.take().payload == b"x"
    asked.cli("block", "add", "no-root", "--client", "root")
    client.closed()
    with pytest.raises(Refused):
        new_client("root", to=asked, version=version, user="u", password="p")
    asked.cli("block", "remove", "no-root")


def test_rules_without_the_switch(make_server, site, new_client):
    """With authorization off nothing is checked, and the log warns that rules are passed over."""
    server = make_server(**{"auth.anonymous": False, "auth.http.url": site.url})
    site.answer = Answer(body={"result": "allow", "acl": RULES})
    client = new_client(to=server, user="u", password="p")
    assert client.subscribe("anything", 1) == 1
    assert "authorization.enabled is false" in server.log


def test_rules_stay_when_policies_change(asked, site, new_client):
    """A change of policies is judged with the rules that the link has."""
    site.answer = Answer(body={"result": "allow", "acl": RULES})
    client = new_client("c8", to=asked, user="u", password="p")
    assert client.subscribe("own/c8", 1) == 1
    asked.cli("policy", "add", "free", "--priority", "2", "--effect", "allow", "--action", "sub",
              "--topic", "free/#")
    assert client.subscribe_all([("free/x", 1), ("own/c8", 1), ("own/c9", 1)]) == [
        1, 1, NOT_AUTHORIZED]
    asked.cli("policy", "remove", "free")
    wait_until(lambda: client.subscribe("free/y", 1) == NOT_AUTHORIZED, what="the change")


def test_names_of_certificates(make_server, tmp_path):
    """Variables stand for the parts of the subject."""
    pki = Pki(tmp_path / "pki")
    pki.issue("server")
    for name in ("device1", "device2"):
        pki.issue(name, subject=f"/O=Acme/CN={name}")
    pki.write_list()
    server = make_server(**mutual_keys(pki, **{"authorization.enabled": True}))
    server.cli("policy", "add", "connect", "--priority", "1", "--effect", "allow", "--action",
               "connect")
    server.cli("policy", "add", "own", "--priority", "2", "--effect", "allow", "--action", "pub",
               "--topic", "${Certificate.Subject.Organization}/${Certificate.Subject.CommonName}/#")
    for topic, allowed in (("Acme/device1/x", True), ("Acme/device2/x", False)):
        sent = mosquitto("mosquitto_pub", server, pki, "-V", "5", "-q", "1", "-t", topic, "-m", "x",
                         certificate="device1")
        assert ("Not authorized" in sent.stderr) != allowed, sent.stderr
