"""The admin endpoint and the command line that speaks to it."""

import json
import re
import subprocess

import pytest
from test_memory import leave_a_session
from tidemq import BINARY, clean_environment

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def parse_openmetrics(text):
    """A strict reader of what OpenMetrics 1.0 asks for; returns {family: (type, samples)}."""
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1
    families, current = {}, None
    suffixes = {"counter": ("_total", "_created"), "gauge": ("",), "info": ("_info",)}
    for line in text[: -len("# EOF\n")].splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name), line
            if word == "TYPE":
                assert rest in suffixes and name not in families, line
                families[name] = (rest, [])
                current = name
            else:
                assert word in ("HELP", "UNIT") and name == current, line
                if word == "UNIT":
                    assert name.endswith("_" + rest), line
            continue
        found = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)", line)
        assert found, line
        assert found[1] in [current + s for s in suffixes[families[current][0]]], line
        float(found[3])
        families[current][1].append(found[1])
    assert all(samples for _, samples in families.values())
    return families


def test_metrics(server, new_client, topic):
    """/metrics is OpenMetrics, needs no token, and counts."""
    status, headers, text = server.http("/metrics", token=False)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS)
    families = parse_openmetrics(text)
    assert families["tidemq_connections"][0] == "gauge"
    assert families["tidemq_publish_received"][0] == "counter"
    before = server.metrics()
    client = new_client()
    client.subscribe(topic, 1)
    for _ in range(5):
        client.publish(topic, b"x", 1)
    client.take_many(5)
    after = server.metrics()
    for name, grown in (("tidemq_publish_received_total", 5), ("tidemq_publish_sent_total", 5),
                        ("tidemq_connects_accepted_total", 1), ("tidemq_subscriptions", 1)):
        assert after[name] - before[name] == grown, name
    if "store" not in server.config:  # the default engine is the one with a disk
        assert after["tidemq_store_syncs_total"] > before["tidemq_store_syncs_total"]


GUARDED = [("GET", "/v1/status"), ("GET", "/v1/limits"), ("GET", "/v1/store"),
           ("GET", "/v1/topics"), ("GET", "/v1/clients"),
           ("GET", "/v1/topics/a"), ("GET", "/v1/clients/a"), ("POST", "/"), ("GET", "/anything")]


@pytest.mark.parametrize("row", GUARDED, ids=" ".join)
@pytest.mark.parametrize("token", [False, "wrong", "0" * 64], ids=["none", "wrong", "zeros"])
def test_no_token_no_answer(server, row, token):
    """Everything but health and metrics is 401 without the token."""
    method, path = row
    status, headers, text = server.http(path, method=method, token=token,
                                        body={} if method == "POST" else None,
                                        headers={"X-TC-Action": "DescribeTopicList"})
    assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer")
    assert "admin.token" in text


def test_the_token_is_private(server):
    """Readable by its owner only, and the same after a restart."""
    path = server.data_dir / "admin.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(server.token) >= 32
    assert server.token not in server.log and server.token not in server.stdout


def test_the_token_stays(make_server):
    """A restart keeps it."""
    server = make_server()
    token = server.token
    server.restart(kill=True)
    assert server.token == token


def test_pages(server):
    """Unknown paths, wrong methods, wrong arguments."""
    assert server.http("/nothing")[0] == 404
    assert server.http("/v1/topics", method="POST", body={})[0] == 405
    assert server.http("/", method="GET")[0] == 405
    assert server.http("/v1/topics?limit=0")[0] == 400
    assert server.http("/v1/clients?state=asleep")[0] == 400
    assert server.http("/v1/topics/never-made")[0] == 404
    assert server.http("/v1/clients/never-made")[0] == 404


def test_control_plane_topics(server, topic):
    """CreateTopic, DescribeTopic, ModifyTopic, DescribeTopicList, DeleteTopic."""
    assert server.action("CreateTopic", Topic=topic, Remark="first")["Topic"] == topic
    again = server.action("CreateTopic", Topic=topic)
    assert again["Error"]["Code"] == "UnsupportedOperation.ResourceAlreadyExists"
    assert server.action("DescribeTopic", Topic=topic)["Remark"] == "first"
    server.action("ModifyTopic", Topic=topic, Remark="second")
    found = server.action("DescribeTopicList", Filters=[{"Name": "TopicName", "Values": [topic]}])
    assert found["TotalCount"] == 1 and found["Data"][0]["Remark"] == "second"
    assert "Error" not in server.action("DeleteTopic", Topic=topic)
    gone = server.action("DescribeTopic", Topic=topic)
    assert gone["Error"]["Code"] == "ResourceNotFound.Topic" and gone["RequestId"]


def test_control_plane_clients(server, new_client, topic):
    """DescribeClientList and KickOutClient."""
    client = new_client(clean=False, expiry_s=600, keep_alive_s=77)
    client.subscribe(f"{topic}/#", 1)
    row = server.action("DescribeClientList", ClientId=client.client_id)["Clients"][0]
    assert (row["ClientId"], row["ProtocolVersion"], row["Keepalive"], row["ConnectionStatus"]) == (
        client.client_id, 5, 77, "CONNECTED")
    assert row["MQTTClientSubscriptions"][0]["TopicFilter"] == f"{topic}/#"
    assert client.client_id in [
        row["ClientId"] for row in server.action("DescribeClientList", OnlineStatus=1)["Clients"]]
    assert "Error" not in server.action("KickOutClient", ClientId=client.client_id)
    assert client.closed() == 0x98
    row = server.action("DescribeClientList", ClientId=client.client_id)["Clients"][0]
    assert row["ConnectionStatus"] == "DISCONNECTED"
    server.action("KickOutClient", ClientId=client.client_id, DeleteSession=True)
    assert not server.action("DescribeClientList", ClientId=client.client_id)["Clients"]
    missing = server.action("KickOutClient", ClientId="nobody-at-all")
    assert missing["Error"]["Code"].startswith("ResourceNotFound")


def test_control_plane_instance(server):
    """DescribeInstance and DescribeInstanceList."""
    rows = server.action("DescribeInstanceList")
    assert rows["TotalCount"] == 1
    instance = server.action("DescribeInstance")
    assert instance["InstanceId"] == rows["Data"][0]["InstanceId"] == server.instance_id()
    wrong = server.action("DescribeInstance", InstanceId="mqtt-not-this-one")
    assert wrong["Error"]["Code"] == "ResourceNotFound.Instance"


def test_control_plane_mistakes(server):
    """Each answer is HTTP 200 with Error and RequestId, and exactly application/json, as the
    product's SDK wants it."""
    def ask(headers, body=b"{}"):
        status, found, text = server.http("/", method="POST", body=body, headers=headers)
        assert (status, found["Content-Type"]) == (200, "application/json")
        answer = json.loads(text)["Response"]
        assert answer["RequestId"]
        return answer["Error"]["Code"]

    assert ask({}) == "MissingParameter"
    assert ask({"X-TC-Action": "NoSuchAction"}) == "InvalidAction"
    assert ask({"X-TC-Action": "DescribeInstanceList", "X-TC-Version": "2019-01-01"}) == "NoSuchVersion"
    assert ask({"X-TC-Action": "DescribeInstanceList"}, b"not json") == "InvalidParameter"
    assert ask({"X-TC-Action": "CreateTopic"}) == "MissingParameter"


# --- the command line -----------------------------------------------------------------------------


def test_cli_topics(server, topic):
    """topic create, list, show, delete: for people and as JSON."""
    assert topic in server.cli("topic", "create", topic).stdout
    assert topic in server.cli("topic", "list").stdout
    row = server.cli_json("topic", "show", topic)
    assert row["name"] == topic and row["messages"] == 0
    assert topic in server.cli("topic", "show", topic).stdout
    again = server.cli("topic", "create", topic, check=False)
    assert again.returncode == 1 and "exists" in again.stderr
    server.cli("topic", "delete", topic)
    missing = server.cli("topic", "show", topic, check=False)
    assert missing.returncode == 1 and missing.stderr.startswith("tidemq: ")


def test_cli_clients(server, new_client, topic):
    """client list, show, kick."""
    client = new_client(clean=False, expiry_s=600)
    client.subscribe(f"{topic}/#", 1)
    assert client.client_id in server.cli("client", "list").stdout
    row = server.cli_json("client", "show", client.client_id)
    assert row["online"] and row["version"] == 5 and row["expiry_s"] == 600
    assert row["subscriptions"][0]["filter"] == f"{topic}/#"
    assert f"{topic}/#" in server.cli("client", "show", client.client_id).stdout
    server.cli("client", "kick", client.client_id)
    assert client.closed() == 0x98
    assert not server.cli_json("client", "show", client.client_id)["online"]
    assert server.cli("client", "kick", "nobody-at-all", check=False).returncode == 1


def test_cli_lag(server, new_client, topic):
    """A session's page tells how much waits for it."""
    client = new_client(clean=False, expiry_s=600)
    client.subscribe(topic, 1)
    client.disconnect()
    publisher = new_client()
    for _ in range(7):
        publisher.publish(topic, b"x", 1)
    assert server.cli_json("client", "show", client.client_id)["subscriptions"][0]["lag"] == 7


def test_cli_many_clients(make_server):
    """Lists are read page by page: 1,200 sessions are all there, in order."""
    server = make_server()
    for number in range(1200):
        leave_a_session(server, f"s{number:04}", "a")
    names = [row["client_id"] for row in server.cli_json("client", "list")]
    assert names == [f"s{n:04}" for n in range(1200)]


def test_cli_status_and_store(server):
    """status and store stats."""
    row = server.cli_json("status")
    assert row["state"] == "running" and row["store"]["writable"] is True
    assert row["listeners"] == server.config["listeners"]
    assert str(row["version"]) in server.cli("status").stdout
    stats = server.cli_json("store", "stats")
    assert stats["engine"] == server.config.get("store", "local")
    assert stats["segments"] >= 1 or stats["engine"] == "mem"
    assert server.cli("store", "stats").stdout


def test_cli_store_check(make_server, new_client):
    """store check reads a stopped server's data; damage is found and named."""
    server = make_server()
    client = new_client(to=server)
    for number in range(50):
        client.publish("a", f"payload {number}", 1)
    client.disconnect()
    server.stop()

    def check(*args):
        return subprocess.run(
            [str(BINARY), "store", "check", str(server.data_dir), *args],
            capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)

    sound = check("--json")
    assert sound.returncode == 0, sound
    json.loads(sound.stdout)
    people = check()
    assert people.returncode == 0 and len(re.findall("sound", people.stdout)) == 1, people
    segment = next(path for path in sorted(server.data_dir.rglob("*")) if path.is_file()
                   and b"payload 10" in path.read_bytes())
    data = bytearray(segment.read_bytes())
    data[data.index(b"payload 10")] ^= 0xFF
    segment.write_bytes(data)
    damaged = check("--json")
    assert damaged.returncode == 1, damaged
    assert segment.name in damaged.stdout + damaged.stderr


def test_cli_without_a_server(tmp_path):
    """No server, no token: one sentence that says what to do."""
    run = subprocess.run([str(BINARY), "status", "--admin", "http://127.0.0.1:9", "--data-dir",
                          str(tmp_path)], capture_output=True, text=True, timeout=20,
                         env=clean_environment(), check=False)
    assert run.returncode == 1 and run.stderr.startswith("tidemq: ")
    assert len(run.stderr.strip().splitlines()) == 1
