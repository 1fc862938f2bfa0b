"""Policies and block rules: the file, the command line, the API, and what a change means at once."""

import json
import signal
import time

import pytest
from client import Refused
from tidemq import StartFailed, run_serve, wait_until

NOT_AUTHORIZED, BANNED, ADMINISTRATIVE = 0x87, 0x8A, 0x98
SOON_S = 1.0  # a change reaches live sessions within

CONNECT = "  - {name: everybody, priority: 100, effect: allow, actions: connect}\n"
ALL = "  - {name: all, priority: 99, effect: allow, actions: 'connect,pub,sub', resources: '*'}\n"


class Guarded:
    """A server with a policy file that tests write anew."""

    def __init__(self, make_server, path, text):
        self.path = path
        self.path.write_text(text)
        self.server = make_server(
            **{"authorization.enabled": True, "authorization.policy_file": path}
        )
        self.reloads = 0

    def write(self, text):
        """Another file, in force when this returns."""
        self.path.write_text(text)
        self.reload()

    def reload(self, said="configuration reloaded"):
        """SIGHUP, and what the log says of it."""
        before = self.server.log.count(said)
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: self.server.log.count(said) > before, what=said)


@pytest.fixture(name="guard")
def fixture_guard(make_server, tmp_path):
    """Makes such a server."""
    return lambda text: Guarded(make_server, tmp_path / "policies.yaml", text)


# --- the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, said", [
    ("policies:\n  - {name: one, priority: 1, effect: permit}\n",
     ":2: effect: 'permit' is not allowed; allowed is allow or deny"),
    ("policies:\n  - name: one\n    priority: 1\n    effect: allow\n    actions: pub\n"
     "    resource: a\n", ":6: resource: is not known"),
    ("block_rules:\n  - {name: one, include: 10.0.0.0/33, type: ip_address}\n",
     ":2: include: '10.0.0.0/33' is not allowed; allowed is an address, a range such as"),
    ("policies: [", "this is not YAML"),
    ("policy: []", ":1: this key is not known; known are policies and block_rules"),
], ids=["value", "key", "address", "syntax", "root"])
def test_a_wrong_file_stops_the_start(make_server, tmp_path, text, said):
    """With file, line and key; --check finds it too."""
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    with pytest.raises(StartFailed) as failed:
        make_server(**{"authorization.policy_file": path})
    assert str(path) in str(failed.value) and said in str(failed.value)
    checked = run_serve("--check", "--set", f"authorization.policy_file={path}")
    assert checked.returncode == 2 and said in checked.stderr


def test_a_missing_file_stops_the_start(make_server, tmp_path):
    """Fail closed."""
    with pytest.raises(StartFailed, match="could not read authorization.policy_file .*nowhere"):
        make_server(**{"authorization.policy_file": tmp_path / "nowhere"})


def test_a_wrong_file_changes_nothing_at_a_reload(guard, new_client):
    """The old rules stay, and the log says so."""
    guarded = guard("policies:\n" + CONNECT)
    client = new_client(to=guarded.server)
    assert client.subscribe("a") == NOT_AUTHORIZED
    guarded.path.write_text("policies:\n" + ALL + "  - nonsense\n")
    guarded.reload("configuration not reloaded, nothing changed: authorization.policy_file is wrong")
    assert client.subscribe("a") == NOT_AUTHORIZED
    guarded.write("policies:\n" + ALL)
    assert client.subscribe("a") == 1


def test_the_switch(make_server, new_client, tmp_path):
    """Without authorization.enabled no policy is looked at, but block rules are."""
    path = tmp_path / "policies.yaml"
    path.write_text("policies: []\nblock_rules:\n  - {name: b, type: 1, include: 'x*'}\n")
    server = make_server(**{"authorization.policy_file": path})
    assert new_client(to=server).subscribe("a") == 1
    with pytest.raises(Refused) as refused:
        new_client("x1", to=server)
    assert refused.value.reason == BANNED
    answer = server.cli("policy", "test", "--client", "a", "--action", "pub", "--topic", "t")
    assert "authorization.enabled is false" in answer.stdout


# --- a change reaches those that are there ---------------------------------------------------------


def test_live_subscriptions(guard, new_client, version):
    """Subscriptions that are not allowed any more get nothing; allowed again, they go on."""
    guarded = guard("policies:\n" + ALL)
    publisher = new_client(to=guarded.server)
    reader = new_client(to=guarded.server, version=version)
    reader.subscribe_all([("t/0", 0), ("t/1", 1), ("t/2", 2), ("other/#", 1)])
    guarded.write("policies:\n  - {name: deny, priority: 1, effect: deny, actions: sub, "
                  "resources: 't/#'}\n" + ALL)
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        publisher.publish("t/1", b"probe", 1)
        if not [m for m in reader.settle() if m.topic == "t/1"]:
            break
    else:
        raise AssertionError(f"still delivered after {SOON_S} s")
    for qos in range(3):
        publisher.publish(f"t/{qos}", b"denied", qos)
    publisher.publish("other/x", b"fine", 1)
    assert reader.take().payload == b"fine"
    reader.quiet()
    assert guarded.server.metrics()["tidemq_denied_deliveries_total"] >= 3
    guarded.write("policies:\n" + ALL)
    wait_until(lambda: publisher.publish("t/1", b"again", 1) == 0 and
               [m for m in reader.settle() if m.payload == b"again"], what="delivery")


def test_live_connections(guard, new_client, version):
    """A client that may not connect any more is disconnected, as is one that becomes blocked."""
    guarded = guard("policies:\n" + ALL)
    first = new_client("first", to=guarded.server, version=version)
    second = new_client("second", to=guarded.server, version=version)
    third = new_client("third", to=guarded.server, version=version)
    began = time.monotonic()
    guarded.write("policies:\n  - {name: deny, priority: 1, effect: deny, actions: connect, "
                  "client_id: first}\n" + ALL +
                  "block_rules:\n  - {name: b, type: client_id, include: 'sec*'}\n")
    ends = first.closed(), second.closed()
    assert time.monotonic() - began < SOON_S + 1  # and the reload
    assert ends == ((NOT_AUTHORIZED, ADMINISTRATIVE) if version == 5 else (None, None)) or \
        version == 4
    assert third.subscribe("a") == 1


def test_what_waited_is_judged_when_its_session_comes_back(guard, new_client, version):
    """Messages of before the change are not delivered after it."""
    guarded = guard("policies:\n" + ALL)
    publisher = new_client(to=guarded.server)
    options = {"version": version, "clean": False, "expiry_s": 600, "to": guarded.server}
    reader = new_client("reader", **options)
    reader.subscribe_all([("t/x", 1), ("other", 1)])
    reader.disconnect()
    publisher.publish("t/x", b"secret by now", 1)
    publisher.publish("other", b"fine", 1)
    guarded.write("policies:\n  - {name: deny, priority: 1, effect: deny, actions: sub, "
                  "resources: 't/#'}\n" + ALL)
    reader = new_client("reader", **options)
    assert reader.session_present
    assert reader.take().payload == b"fine"
    reader.quiet()


def test_live_publishers(guard, new_client):
    """The next PUBLISH goes by the new rules, kept decisions or not."""
    guarded = guard("policies:\n" + ALL)
    publisher = new_client(to=guarded.server)
    for _ in range(3):
        assert publisher.publish("t", b"x", 1) in (0, 0x10)
    guarded.write("policies:\n" + CONNECT)
    assert publisher.publish("t", b"x", 1) == NOT_AUTHORIZED


def test_wills(guard, new_client, version):
    """A will whose right is gone by the time it is due is not published."""
    guarded = guard("policies:\n" + ALL)
    reader = new_client(to=guarded.server)
    reader.subscribe("w/#", 1)
    dying = new_client(to=guarded.server, version=version,
                       will={"topic": "w/x", "payload": b"gone", "qos": 1})
    guarded.write("policies:\n  - {name: deny, priority: 1, effect: deny, actions: pub, "
                  "resources: 'w/#'}\n" + ALL)
    dying.drop()
    wait_until(lambda: "may not publish to 'w/x'" in guarded.server.log, what="the denial")
    assert reader.subscribe("settle/#") == 1
    reader.quiet()


def test_deny_subscribe_stays(guard, make_server, new_client, tmp_path):
    """The older list counts next to policies."""
    path = tmp_path / "other.yaml"
    path.write_text("policies:\n" + ALL)
    server = make_server(**{"authorization.enabled": True, "authorization.policy_file": path,
                            "topics.deny_subscribe": ["secret/#"]})
    client = new_client(to=server)
    assert client.subscribe("secret/x") == NOT_AUTHORIZED
    assert client.subscribe("open/x") == 1


# --- conditions ------------------------------------------------------------------------------------


def test_conditions(guard, new_client, version):
    """User name, address, and methods of variables."""
    guarded = guard("policies:\n" + CONNECT +
                    "  - {name: near, priority: 1, effect: allow, actions: pub, "
                    "ip: [127.0.0.0/8, '::1'], resources: near}\n"
                    "  - {name: far, priority: 2, effect: allow, actions: pub, ip: 10.0.0.0/8, "
                    "resources: far}\n"
                    "  - {name: user, priority: 3, effect: allow, actions: sub, "
                    "username: 'op*', resources: '${Username}/#'}\n"
                    "  - {name: car, priority: 4, effect: allow, actions: sub, "
                    "resources: '/${clientId.substring(4)}/status'}\n")
    client = new_client("CAR-123", to=guarded.server, version=version, user="operator")
    server = guarded.server
    no = NOT_AUTHORIZED if version == 5 else 0x80
    assert client.subscribe("operator/x") == 1 and client.subscribe("other/x") == no
    assert client.subscribe("/123/status") == 1 and client.subscribe("/124/status") == no
    before = server.metrics()["tidemq_denied_publish_total"]
    client.publish("near", b"x", 0)
    client.publish("far", b"x", 0)
    assert client.subscribe("operator/y") == 1
    assert server.metrics()["tidemq_denied_publish_total"] == before + 1


# --- command line and API --------------------------------------------------------------------------


def test_command_line(make_server, new_client):
    """Policies that are added count at once and outlive a crash."""
    server = make_server(**{"authorization.enabled": True})
    short = server.cli("policy", "add", "in", "--priority", "1", "--effect", "allow", "--action",
                       "connect", check=False)
    assert short.returncode == 1 and "name" in short.stderr
    server.cli("policy", "add", "connect", "--priority", "1", "--effect", "allow", "--action",
               "connect")
    client = new_client(to=server)
    assert client.subscribe("a/x") == NOT_AUTHORIZED
    server.cli("policy", "add", "readers", "--priority", "2", "--effect", "allow", "--action", "sub",
               "--topic", "a/#", "--topic", "b,c", "--remark", "who reads")
    assert client.subscribe("a/x") == 1 and client.subscribe("b,c") == 1
    twice = server.cli("policy", "add", "readers", "--priority", "3", "--effect", "allow",
                       "--action", "sub", check=False)
    assert twice.returncode == 1 and "already" in twice.stderr
    rows = server.cli_json("policy", "list")
    assert [row["PolicyName"] for row in rows] == ["connect", "readers"]
    assert rows[1]["Resources"] == ["a/#", "b,c"] and rows[1]["Source"] == "stored"
    server.restart(kill=True)
    assert server.cli_json("policy", "list") == rows
    shown = server.cli("policy", "list").stdout
    assert "readers" in shown and "a/#,b,c" in shown
    server.cli("policy", "remove", "readers")
    assert "readers" not in server.cli("policy", "list").stdout
    gone = server.cli("policy", "remove", "readers", check=False)
    assert gone.returncode == 1 and "there is no policy 'readers'" in gone.stderr


def test_explanation(guard):
    """Which rule decides, and why the others do not."""
    guarded = guard("policies:\n"
                    "  - {name: other-client, priority: 1, effect: deny, actions: pub, "
                    "client_id: x}\n"
                    "  - {name: low, priority: 2, effect: allow, actions: pub, qos: 0}\n"
                    "  - {name: own, priority: 3, effect: allow, actions: pub, "
                    "resources: '${Certificate.Subject.CommonName}/#'}\n" + CONNECT)
    server = guarded.server
    common = ["policy", "test", "--client", "c", "--action", "pub", "--qos", "1", "--retain",
              "--topic", "pump/x"]
    allowed = server.cli(*common, "--subject", "CommonName=pump")
    assert allowed.returncode == 0
    assert allowed.stdout.startswith("allowed by policy 'own'")
    assert "the client ID does not match" in allowed.stdout
    assert "it is about another QoS" in allowed.stdout
    denied = server.cli(*common, check=False)
    assert denied.returncode == 1
    assert denied.stdout.startswith("denied: no policy matches")
    for text in ("CommonName", ""):
        half = server.cli(*common, "--subject", text, check=False)
        assert half.returncode == 2 and f"--subject '{text}'" in half.stderr
    wrong = server.cli("policy", "test", "--action", "fly", check=False)
    assert wrong.returncode == 2 and "connect, pub or sub" in wrong.stderr
    in_file = server.cli("policy", "remove", "own", check=False)
    assert in_file.returncode == 1 and "is in the policy file" in in_file.stderr


def test_blocks(make_server, new_client, version):
    """Added, they close what is there; removed or expired, they let in again; they are kept."""
    server = make_server()
    client = new_client("dev-1", to=server, version=version)
    server.cli("block", "add", "devices", "--client", "dev-?", "--except", "dev-0")
    client.closed()
    with pytest.raises(Refused):
        new_client("dev-1", to=server, version=version)
    new_client("dev-0", to=server, version=version)
    server.restart(kill=True)
    with pytest.raises(Refused):
        new_client("dev-1", to=server, version=version)
    assert server.cli_json("block", "list")[0]["Excludes"] == ["dev-0"]
    server.cli("block", "remove", "devices")
    new_client("dev-1", to=server, version=version)
    expires_ms = int(time.time() * 1000) + 1500
    server.cli("block", "add", "brief", "--ip", "127.0.0.0/8", "--expires", str(expires_ms))
    with pytest.raises(Refused):
        new_client("dev-1", to=server, version=version)
    wait_until(lambda: server.cli_json("block", "list") == [], what="expiry")
    new_client("dev-1", to=server, version=version)
    wait_until(lambda: "block rule 'brief' has expired" in server.log, what="the log line")
    usage = server.cli("block", "add", "none", check=False)
    assert usage.returncode == 2 and "give one of" in usage.stderr
    unknown = server.cli("block", "remove", "brief", check=False)
    assert unknown.returncode == 1 and "there is no block rule" in unknown.stderr


def test_api_policies(make_server):
    """The actions of the control plane, with the fields and errors that they have there."""
    server = make_server(**{"authorization.enabled": True})
    made = server.action(
        "CreateAuthorizationPolicy", PolicyName="one", PolicyVersion=1, Priority=5, Effect="allow",
        Actions="connect,pub", Retain=3, Qos="0,1", Resources="a/*,b", ClientId="c*",
    )
    assert made["InstanceId"] == server.instance_id() and made["Id"] > 0
    item = server.action("DescribeAuthorizationPolicies")["Data"][0]
    assert item["Id"] == made["Id"] and item["Resources"] == "a/*,b" and item["Qos"] == "0,1"
    assert item["Actions"] == "connect,pub" and item["Retain"] == 3 and item["Version"] == 1
    assert item["CreatedTime"] > 0 and item["InstanceId"] == made["InstanceId"]
    again = server.action("CreateAuthorizationPolicy", PolicyName="two", Priority=5, Effect="deny",
                          Actions="sub")
    assert again["Error"]["Code"] == "FailedOperation.DuplicateAuthorizationIdOrPriority"
    wrong = server.action("CreateAuthorizationPolicy", PolicyName="two", Priority=6, Effect="deny",
                          Actions="fly")
    assert wrong["Error"]["Code"] == "InvalidParameterValue"
    assert wrong["Error"]["Message"].startswith("Actions: 'fly' is not allowed")
    server.action("ModifyAuthorizationPolicy", Id=made["Id"], Priority=7, Remark="later")
    item = server.action("DescribeAuthorizationPolicies")["Data"][0]
    assert item["Priority"] == 7 and item["Remark"] == "later" and item["PolicyName"] == "one"
    assert item["UpdateTime"] >= item["CreatedTime"]
    missing = server.action("DeleteAuthorizationPolicy", Id=made["Id"] + 1)
    assert missing["Error"]["Code"] == "ResourceNotFound.AuthorizationPolicy"
    assert "Error" not in server.action("DeleteAuthorizationPolicy", Id=made["Id"])
    assert server.action("DescribeAuthorizationPolicies")["Data"] == []


def test_api_priorities(make_server, new_client, version):
    """Policies exchange their places all at once, which live clients see within a second, and which
    outlives a crash; a list with anything wrong in it changes nothing."""
    server = make_server(**{"authorization.enabled": True})

    def make(name, priority, effect, actions):
        return server.action("CreateAuthorizationPolicy", PolicyName=name, PolicyVersion=1, Retain=3,
                             Priority=priority, Effect=effect, Actions=actions, Qos="0,1,2")["Id"]

    def order():
        return [(item["PolicyName"], item["Priority"])
                for item in server.action("DescribeAuthorizationPolicies")["Data"]]

    make("connect", 1, "allow", "connect")
    allow, deny = make("allow", 2, "allow", "pub,sub"), make("deny", 3, "deny", "pub,sub")
    before = [("connect", 1), ("allow", 2), ("deny", 3)]
    item = {"Id": allow, "Priority": 9}
    for priorities, code, said in [
            (None, "MissingParameter", "Priorities is missing"),
            ([], "InvalidParameterValue", "list of 1 to 1000"),
            ("3", "InvalidParameterValue", "list of 1 to 1000"),
            ([item] * 1001, "InvalidParameterValue", "list of 1 to 1000"),
            ([item, 7], "InvalidParameterValue", "list of {Id, Priority}"),
            ([item, {"Id": deny}], "MissingParameter", "has no Priority"),
            ([item, {"Priority": 8}], "MissingParameter", "has no Id"),
            ([item, {"Id": -1, "Priority": 8}], "InvalidParameterValue", "Id must be a number"),
            ([item, {"Id": deny, "Priority": 0}], "InvalidParameterValue", "from 1 to 1000000"),
            ([item, {"Id": deny, "Priority": 1000001}], "InvalidParameterValue", "to 1000000"),
            ([item, {"Id": deny + 1, "Priority": 8}], "ResourceNotFound.AuthorizationPolicy",
             f"id {deny + 1}"),
            ([item, item], "FailedOperation.DuplicateAuthorizationIdOrPriority", "twice"),
            ([item, {"Id": deny, "Priority": 9}],
             "FailedOperation.DuplicateAuthorizationIdOrPriority", "'allow' has the priority 9"),
            ([item, {"Id": deny, "Priority": 1}],
             "FailedOperation.DuplicateAuthorizationIdOrPriority", "'connect' has the priority 1"),
    ]:
        error = server.action("UpdateAuthorizationPolicyPriority", Priorities=priorities)["Error"]
        assert error["Code"] == code and said in error["Message"], priorities
        assert order() == before
    publisher = new_client(to=server)
    reader = new_client(to=server, version=version)
    assert reader.subscribe("t/#", 1) == 1
    publisher.publish("t/x", b"first", 1)
    assert reader.take().payload == b"first"
    turned = [{"Id": allow, "Priority": 3}, {"Id": deny, "Priority": 2}]
    answer = server.action("UpdateAuthorizationPolicyPriority", Priorities=turned)
    assert set(answer) == {"RequestId"}
    assert order() == [("connect", 1), ("deny", 2), ("allow", 3)]
    assert publisher.publish("t/x", b"denied", 1) == NOT_AUTHORIZED
    wait_until(lambda: reader.subscribe("t/#", 1) in (0x80, NOT_AUTHORIZED), what="the denial",
               timeout_s=SOON_S)
    server.restart(kill=True)
    assert order() == [("connect", 1), ("deny", 2), ("allow", 3)]
    publisher = new_client(to=server)
    assert publisher.publish("t/x", b"denied", 1) == NOT_AUTHORIZED
    server.cli("policy", "order", "allow=2", "deny=3")
    assert order() == before
    assert publisher.publish("t/x", b"allowed", 1) in (0, 0x10)
    for words, code, said in [((), 2, "policy order NAME=PRIORITY"),
                              (("allow",), 2, "'allow': a name, '=' and a number are needed"),
                              (("allow=x",), 1, "Priority must be a number"),
                              (("nobody=2",), 1, "there is no policy 'nobody'"),
                              (("allow=9", "allow=8"), 1, "twice")]:
        wrong = server.cli("policy", "order", *words, check=False)
        assert wrong.returncode == code and said in wrong.stderr, wrong.stderr
    assert order() == before


def test_api_blocks(make_server):
    """Likewise for block rules."""
    server = make_server()
    made = server.action("CreateBlockRule", Name="one", Type=2, Include="u*", Excludes=["u1"],
                         ExpireTime=0, Remark="why")
    assert made["Name"] == "one"
    listed = server.action("DescribeBlockRuleList")
    assert listed["TotalCount"] == 1
    assert listed["Data"][0]["Type"] == 2 and listed["Data"][0]["Remark"] == "why"
    taken = server.action("CreateBlockRule", Name="one", Type=1, Include="a")
    assert taken["Error"]["Code"] == "UnsupportedOperation.ResourceAlreadyExists"
    wrong = server.action("CreateBlockRule", Name="two", Type=9, Include="a")
    assert wrong["Error"]["Code"] == "InvalidParameterValue"
    server.action("ModifyBlockRule", Name="one", Include="v*")
    row = server.action("DescribeBlockRuleList")["Data"][0]
    assert row["Include"] == "v*" and row["Excludes"] == ["u1"]
    for name in ("ModifyBlockRule", "DeleteBlockRule"):
        missing = server.action(name, Name="nope", BlockRuleName="nope", Include="x")
        assert missing["Error"]["Code"] == "ResourceNotFound"
    assert "Error" not in server.action("DeleteBlockRule", BlockRuleName="one")
    assert server.action("DescribeBlockRuleList")["TotalCount"] == 0


def test_blocks_that_would_keep_nobody_out(make_server):
    """An address that is none and a time that is over are refused, not taken for a rule."""
    server = make_server()
    for wrong in ("10.0.0.0/33", "300.1.1.1", "localhost", "10.0.0", "::1/129", "FE80:*", " 10.0.0.1"):
        made = server.action("CreateBlockRule", Name="one", Type=3, Include=wrong)
        assert made["Error"]["Code"] == "InvalidParameterValue"
        assert made["Error"]["Message"].startswith(f"Include: '{wrong}' is not allowed; allowed is an address")
        made = server.action("CreateBlockRule", Name="one", Type=3, Include="10.0.0.0/8", Excludes=[wrong])
        assert made["Error"]["Message"].startswith(f"Excludes: '{wrong}' is not allowed")
    run = server.cli("block", "add", "one", "--client", "x", "--expires", "2020-01-01T00:00:00Z", check=False)
    assert run.returncode == 1 and "that time is over; allowed is one to come" in run.stderr
    assert server.action("DescribeBlockRuleList")["TotalCount"] == 0
    for number, right in enumerate(("10.0.0.1", "10.0.0.0/32", "::/0", "10.0.*", "fe80:*", "10.0.0.?")):
        made = server.action("CreateBlockRule", Name=f"right-{number}", Type=3, Include=right, Excludes=["1.*"])
        assert "Error" not in made, made
    assert server.action("CreateBlockRule", Name="name", Type=1, Include="300.1.1.1")["Name"] == "name"
    server.action("ModifyBlockRule", Name="name", ExpireTime=1)  # ends it
    assert server.action("DescribeBlockRuleList")["TotalCount"] == 6


@pytest.mark.parametrize("query, said", [
    ("", "action is connect, pub or sub"),
    ("action=pub&topic=a/%23", "not a topic name"),
    ("action=sub&topic=a%23", "not a topic filter"),
    ("action=pub&topic=a&qos=3", "qos is 0, 1 or 2"),
])
def test_wrong_questions(server, query, said):
    """The page that tells decisions refuses what is no question."""
    status, _, text = server.http(f"/v1/policy-test?{query}")
    assert status == 400 and said in json.loads(text)["error"]
