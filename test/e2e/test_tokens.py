"""Signed tokens (JWT), made by PyJWT: who gets in, who does not, and when a link ends."""

import base64
import json
import time

import jwt
import pytest
from client import Refused
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from site_server import Answer, serving
from test_access import set_password
from test_users import reload
from tidemq import StartFailed, run_serve, wait_until

BAD_USER, NOT_AUTHORIZED, BUSY, EXPIRED = 0x86, 0x87, 0x89, 0xA0
SECRET = "a secret that is long enough for HMAC-SHA256"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key):
    """The public key as a file has it."""
    return key.public_key().public_bytes(serialization.Encoding.PEM,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key, kid):
    """The public key as a member of a set."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


def token(key=SECRET, algorithm="HS256", headers=None, **claims):
    """A token that is good for an hour unless told otherwise."""
    claims = {"exp": int(time.time()) + 3600, **claims}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm, headers)


@pytest.fixture(name="secret_file", scope="module")
def fixture_secret_file(tmp_path_factory):
    """A file with the secret, and an editor's newline."""
    path = tmp_path_factory.mktemp("keys") / "secret"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(make_server_module, secret_file):
    """A server that wants tokens of one issuer for itself."""
    return make_server_module(**{
        "auth.anonymous": False, "auth.jwt.secret_file": secret_file, "auth.jwt.issuer": "us",
        "auth.jwt.audience": "broker", "auth.jwt.leeway": "0", "auth.jwt.claims":
        ["client_id=${ClientId}"]})


def good(client, **claims):
    """What `guarded` wants."""
    return token(**{"iss": "us", "aud": ["broker", "other"], "client_id": client,
                    "sub": "the-subject", **claims})


def test_a_good_token(guarded, new_client, version):
    """It lets in, and its subject is the user name from now on."""
    client = new_client("c1", to=guarded, version=version, user="ignored", password=good("c1"))
    client.subscribe("a", 1)
    client.publish("a", b"x", 1)
    assert client.take().payload == b"x"
    assert guarded.cli_json("client", "show", "c1")["username"] == "the-subject"


def broken(text, part, change):
    """The token with one of its parts changed."""
    parts = text.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def encoded(value):
    """JSON as a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


NOW = int(time.time())
BAD = {
    "expired": lambda: good("c", exp=NOW - 10),
    "not yet valid": lambda: good("c", nbf=NOW + 3600),
    "issued in the future": lambda: good("c", iat=NOW + 3600),
    "wrong issuer": lambda: good("c", iss="them"),
    "no issuer": lambda: good("c", iss=None),
    "wrong audience": lambda: good("c", aud=["other"]),
    "no audience": lambda: good("c", aud=None),
    "another client's": lambda: good("d"),
    "no client's": lambda: good("c", client_id=None),
    "wrong secret": lambda: token("another secret of the same length as the one ", iss="us",
                                  aud="broker", client_id="c"),
    "alg none": lambda: jwt.encode({"iss": "us", "aud": "broker", "client_id": "c"}, None, "none"),
    "alg none, signed": lambda: broken(good("c"), 0, lambda _: encoded({"alg": "none"})),
    "alg unknown": lambda: broken(good("c"), 0, lambda _: encoded({"alg": "HS257"})),
    "public key": lambda: token(RSA_KEY, "RS256", iss="us", aud="broker", client_id="c"),
    "exp a text": lambda: broken(good("c"), 1, lambda _: encoded({"exp": "never"})),
    "payload cut": lambda: broken(good("c"), 1, lambda part: part[:-3]),
    "payload empty": lambda: broken(good("c"), 1, lambda _: ""),
    "payload not base64": lambda: broken(good("c"), 1, lambda _: "!!!!"),
    "payload a list": lambda: broken(good("c"), 1, lambda _: encoded([1])),
    "signature cut": lambda: broken(good("c"), 2, lambda part: part[:-4]),
    "signature empty": lambda: broken(good("c"), 2, lambda _: ""),
    "signature not base64": lambda: broken(good("c"), 2, lambda _: "****"),
    "header not JSON": lambda: broken(good("c"), 0, lambda _: "AAAA"),
    "four parts": lambda: good("c") + ".AAAA",
    "two parts": lambda: good("c").rsplit(".", 1)[0],
    "critical header": lambda: token(headers={"crit": ["exp"]}, iss="us", aud="broker",
                                     client_id="c"),
    "acl no list": lambda: good("c", acl={"effect": "allow"}),
    "no token": lambda: "password",
    "empty": lambda: "",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token(guarded, new_client, version, name):
    """Every fault is a refusal."""
    text = BAD[name]()
    with pytest.raises(Refused) as refused:
        new_client("c", to=guarded, version=version, user="u", password=text)
    assert refused.value.reason == BAD_USER
    assert not text or text not in guarded.log


def test_nothing_presented(guarded, new_client, version):
    """Without a token and without a name: not authorised."""
    with pytest.raises(Refused) as refused:
        new_client(to=guarded, version=version)
    assert refused.value.reason == NOT_AUTHORIZED


def test_links_end_with_their_token(guarded, new_client, version):
    """v5 clients are told; without exp a link stays."""
    client = new_client("short", to=guarded, version=version, user="u",
                        password=good("short", exp=time.time() + 2))
    other = new_client("long", to=guarded, version=version, user="u",
                       password=good("long", exp=None))
    reason = client.closed()
    assert version != 5 or reason == EXPIRED
    other.subscribe("a", 1)
    assert guarded.metrics()["tidemq_auth_expired_total"] >= 1


def test_token_in_the_user_name(make_server, new_client, secret_file):
    """Then it is not the user name that is shown and logged."""
    server = make_server(**{"auth.anonymous": False, "auth.jwt.secret_file": secret_file,
                            "auth.jwt.from": "username"})
    text = token(sub="device")
    client = new_client(to=server, user=text)
    shown = server.cli("client", "show", client.client_id).stdout
    assert "device" in shown and text not in shown
    nameless = token(sub=None)
    client = new_client(to=server, user=nameless, password="x")
    assert server.cli_json("client", "show", client.client_id)["username"] == ""
    with pytest.raises(Refused):
        new_client(to=server, user="u", password=text)
    assert text not in server.log and nameless not in server.log


def test_public_keys(make_server, new_client, tmp_path):
    """A PEM file, with the algorithms that fit it; a reload takes the next one."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(RSA_KEY))
    server = make_server(**{"auth.anonymous": False, "auth.jwt.public_key_file": path})
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        assert new_client(to=server, user="u", password=token(RSA_KEY, algorithm)).connected
    forged = jwt.api_jws.PyJWS(algorithms=["HS256"])
    forged._algorithms["HS256"].prepare_key = lambda key: key  # it would refuse to do this
    confused = forged.encode(json.dumps({"sub": "x"}).encode(), pem(RSA_KEY), "HS256")
    for text in (confused, token(EC_KEY, "ES256"), token()):
        with pytest.raises(Refused):
            new_client(to=server, user="u", password=text)
    path.write_bytes(pem(EC_KEY))
    reload(server)
    assert new_client(to=server, user="u", password=token(EC_KEY, "ES256")).connected
    with pytest.raises(Refused):
        new_client(to=server, user="u", password=token(RSA_KEY, "RS256"))
    path.write_text("nothing")
    reload(server)
    assert "nothing changed" in server.log and "BEGIN PUBLIC KEY" in server.log
    assert new_client(to=server, user="u", password=token(EC_KEY, "ES256")).connected


def test_keys_of_a_file_and_inline(make_server, new_client, tmp_path):
    """A set of keys without a server for it; the token says which."""
    keys = {"keys": [jwk(RSA_KEY, "one"), jwk(EC_KEY, "two")]}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(keys))
    for jwks in (path, json.dumps(keys)):
        config = tmp_path / "tidemq.yaml"
        config.write_text(f"auth: {{jwt: {{jwks: '{jwks}'}}}}\n")
        server = make_server(config_file=config, **{"auth.anonymous": False})
        assert new_client(to=server, user="u", password=token(
            RSA_KEY, "RS256", headers={"kid": "one"})).connected
        assert new_client(to=server, user="u", password=token(EC_KEY, "ES256")).connected
        for kid in ("one", "three"):
            with pytest.raises(Refused) as refused:
                new_client(to=server, user="u", password=token(EC_KEY, "ES256",
                                                               headers={"kid": kid}))
            assert refused.value.reason == BAD_USER


def test_keys_at_a_url(make_server, new_client):
    """Fetched again and again; what is no set of keys leaves the old ones in force."""
    with serving(Answer(body={"keys": [jwk(RSA_KEY, "one")]})) as site:
        server = make_server(**{"auth.anonymous": False, "auth.jwt.jwks": site.url + "/keys",
                                "auth.jwt.jwks_refresh": "1s"})
        wait_until(lambda: "read 1 keys" in server.log, what="the keys")

        def let_in(key, algorithm, kid):
            try:
                return new_client(to=server, user="u", password=token(
                    key, algorithm, headers={"kid": kid})).connected
            except Refused as refused:
                assert refused.reason in (BAD_USER, BUSY)
                return False

        assert let_in(RSA_KEY, "RS256", "one")
        assert not let_in(EC_KEY, "ES256", "two")
        for answer in (Answer(500), Answer(body=b"nothing"), Answer(body={"keys": []}),
                       Answer(body=b"[" * 300000)):
            site.answer = answer
            site.wait_for(len(site.requests) + 2)
            assert let_in(RSA_KEY, "RS256", "one")
        assert "those of before stay" in server.log
        site.answer = Answer(body={"keys": [jwk(EC_KEY, "two")]})
        wait_until(lambda: let_in(EC_KEY, "ES256", "two"), what="the new key")
        assert not let_in(RSA_KEY, "RS256", "one")


def test_keys_that_are_not_there_yet(make_server, new_client):
    """Until the first keys have come, clients are told to come back."""
    with serving(Answer(503)) as site:
        server = make_server(**{"auth.anonymous": False, "auth.jwt.jwks": site.url})
        site.wait_for(1)
        with pytest.raises(Refused) as refused:
            new_client(to=server, user="u", password=token(RSA_KEY, "RS256"))
        assert refused.value.reason == BUSY
        site.answer = Answer(body={"keys": [jwk(RSA_KEY, "one")]})
        wait_until(lambda: "read 1 keys" in server.log, what="the keys")
        assert new_client(to=server, user="u", password=token(RSA_KEY, "RS256")).connected


def test_users_and_tokens(make_server, new_client, secret_file, tmp_path):
    """Both in one chain: who shows no token is asked for a password."""
    path = tmp_path / "passwords"
    set_password(path, "alice", "wonder.land.ok")
    server = make_server(**{"auth.anonymous": False, "auth.jwt.secret_file": secret_file,
                            "auth.password_file": path})
    assert new_client(to=server, user="alice", password="wonder.land.ok").connected
    assert new_client(to=server, user="alice", password=token()).connected
    for password in ("x", token(exp=1), "x.y.z"):
        with pytest.raises(Refused):
            new_client(to=server, user="alice", password=password)
    only_users = make_server(**{"auth.anonymous": False, "auth.jwt.secret_file": secret_file,
                                "auth.password_file": path, "auth.chain": ["users"]})
    assert new_client(to=only_users, user="alice", password="wonder.land.ok").connected
    with pytest.raises(Refused):
        new_client(to=only_users, user="bob", password=token())


@pytest.mark.parametrize("keys, told", [
    ({"auth.chain": "[jwt]"}, "auth.jwt.secret_file"),
    ({"auth.chain": "[users, users]", "auth.password_file": "x"}, "once"),
    ({"auth.chain": "[ldap]"}, "x509, device, jwt, users and http"),
    ({"auth.jwt.secret_file": "a", "auth.jwt.public_key_file": "b"}, "not two"),
    ({"auth.jwt.secret_file": "a", "auth.jwt.algorithms": "[none]"}, "HS256"),
    ({"auth.jwt.secret_file": "a", "auth.jwt.claims": "['x=${Nobody}']"}, "${Nobody}"),
    ({"auth.jwt.jwks": "https://"}, "a URL"),
    ({"auth.jwt.leeway": "1h"}, "10m"),
], ids=str)
def test_wrong_keys_of_the_configuration(tmp_path, keys, told):
    """Each is named with what is allowed."""
    sets = [arg for key, value in keys.items() for arg in ("--set", f"{key}={value}")]
    run = run_serve("--check", "--set", f"data_dir={tmp_path}", *sets)
    assert run.returncode == 2 and told in run.stderr, run.stderr


def test_bad_secrets_stop_the_start(make_server, tmp_path):
    """A secret that is too short, or a public key, is told without showing it."""
    path = tmp_path / "secret"
    for text, told in (("tooshort", "at least 32"), (pem(RSA_KEY).decode(), "no secret")):
        path.write_text(text)
        with pytest.raises(StartFailed, match=told) as failed:
            make_server(**{"auth.jwt.secret_file": path})
        assert text.strip() not in str(failed.value)
