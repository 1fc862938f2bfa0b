"""The limits of clients as administrators see and change them: profile, page, command, reload."""

import json
import signal
import time

import pytest
from client import Refused
from tidemq import wait_until

QUOTA_EXCEEDED = 0x97
NAMES = [
    "limits.max_connections", "limits.clients", "limits.connect_rate", "limits.will_connect_rate",
    "limits.tps", "limits.client_tps", "limits.subscribe_rate", "limits.unsubscribe_rate",
    "limits.filters_per_client", "limits.subscriptions", "limits.topics", "limits.payload_max",
]


def limits(server):
    """The rows of /v1/limits by name."""
    status, _, text = server.http("/v1/limits")
    assert status == 200
    rows = json.loads(text)["limits"]
    assert [row["name"] for row in rows] == NAMES
    return {row["name"]: row for row in rows}


def test_default_is_only_the_machine(server):
    """Without a profile no rate is limited, and nothing is said to be in use of it."""
    rows = limits(server)
    off = ("clients", "connect_rate", "will_connect_rate", "tps", "client_tps", "subscribe_rate",
           "unsubscribe_rate")
    assert [rows[f"limits.{name}"]["limit"] for name in off] == [None] * len(off)
    assert rows["limits.max_connections"]["limit"] > 0
    assert rows["limits.client_tps"]["used"] is None
    assert rows["limits.tps"]["used"] == 0


def test_profile_tdmq(make_server):
    """The numbers of the product, and those that follow from the number of clients."""
    server = make_server(**{"limits.profile": "tdmq"})
    wanted = {
        "limits.clients": 2000, "limits.connect_rate": 400, "limits.will_connect_rate": 100,
        "limits.tps": 2000, "limits.client_tps": None, "limits.subscribe_rate": 100,
        "limits.unsubscribe_rate": 100, "limits.filters_per_client": 30,
        "limits.subscriptions": 60000, "limits.topics": 100, "limits.payload_max": 65536,
    }
    rows = limits(server)
    assert {name: rows[name]["limit"] for name in wanted} == wanted
    assert server.action("DescribeInstance")["ClientNumLimit"] == 2000
    server = make_server(**{"limits.profile": "tdmq", "limits.clients": 20000,
                            "limits.connect_rate": 7})
    rows = limits(server)
    wanted = {"limits.connect_rate": 7, "limits.subscribe_rate": 200,
              "limits.unsubscribe_rate": 200, "limits.subscriptions": 600000}
    assert {name: rows[name]["limit"] for name in wanted} == wanted


def test_profile_tdmq_topics(make_server, new_client, version):
    """The 101st first-level topic, the 31st filter, the byte beyond 64 KiB."""
    server = make_server(**{"limits.profile": "tdmq", "limits.tps": 0})
    client = new_client(to=server, version=version)
    refused = QUOTA_EXCEEDED if version == 5 else 0x80
    assert client.subscribe_all([(f"topic{n}/a", 1) for n in range(31)]) == [1] * 30 + [refused]
    helper = new_client(to=server, version=5)
    codes = [helper.publish(f"topic{n}/b", b"x", 1) for n in range(31, 101)]
    assert codes == [0x10] * 69 + [QUOTA_EXCEEDED]
    assert helper.publish("topic1/b", b"x" * 65537, 1) == QUOTA_EXCEEDED
    rows = limits(server)
    assert rows["limits.filters_per_client"]["refused"] == 1
    assert (rows["limits.topics"]["used"], rows["limits.topics"]["refused"]) == (100, 1)
    assert rows["limits.payload_max"]["refused"] == 1
    assert rows["limits.subscriptions"]["used"] == 30


def test_in_use_and_refused(make_server, new_client):
    """What is in use of a rate is what the last second took; the command shows the same."""
    server = make_server(**{"limits.tps": 1000, "limits.clients": 5, "limits.client_tps": 4})
    client = new_client(to=server)
    deadline = time.monotonic() + 30
    while limits(server)["limits.tps"]["used"] < 2:
        client.publish("a", b"x", 1)
        assert time.monotonic() < deadline
    rows = limits(server)
    assert rows["limits.clients"]["used"] == 1
    assert rows["limits.client_tps"]["refused"] == server.metrics()[
        "tidemq_limit_client_tps_refused_total"]
    assert server.cli_json("status")["limits"][1]["name"] == "limits.clients"
    shown = {line.split()[0]: line.split()[1:] for line in server.cli("status").stdout.splitlines()
             if line.startswith("limits.")}
    assert list(shown) == NAMES
    assert shown["limits.clients"] == ["5", "1", "0"]
    assert shown["limits.connect_rate"] == ["-", "0", "0"]
    assert shown["limits.client_tps"][:2] == ["4", "-"]


def test_reload(make_server, new_client, tmp_path):
    """SIGHUP sets a limit, changes it and takes it away, for clients that are connected already."""
    path = tmp_path / "tidemq.yaml"
    path.write_text("")
    server = make_server(config_file=path)
    client, old = new_client(to=server), new_client(to=server, version=4)

    def reload(text):
        path.write_text(text)
        done = server.log.count("configuration reloaded")
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log.count("configuration reloaded") > done, what="the reload")

    def refusals():
        return [client.publish("a", b"x", 1) for _ in range(30)].count(QUOTA_EXCEEDED)

    assert refusals() == 0
    reload("limits: {client_tps: 4, unsubscribe_rate: 1, clients: 2}\n")
    assert refusals() > 0
    held = server.metrics()["tidemq_limit_reads_held_total"]
    for _ in range(3):
        assert old.publish("a", b"x", 1) == 0
    assert server.metrics()["tidemq_limit_reads_held_total"] > held
    with pytest.raises(Refused) as refused:
        new_client(to=server)
    assert refused.value.reason == QUOTA_EXCEEDED
    reload("limits: {tps: 100000}\n")
    assert refusals() == 0
    new_client(to=server)
    assert limits(server)["limits.client_tps"]["limit"] is None
