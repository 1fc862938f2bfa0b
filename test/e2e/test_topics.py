"""Managed first-level topics, the tdmq profile, point-to-point, deletion."""

import json

import pytest
from client import Refused

TOPIC_NAME_INVALID, FILTER_INVALID = 0x90, 0x8F


@pytest.fixture(name="strict", scope="module")
def fixture_strict(make_server_module):
    """A server on which topics must be created."""
    server = make_server_module(**{"topics.auto_create": False})
    server.cli("topic", "create", "known")
    return server


def test_publish_to_a_missing_topic_5(strict, new_client):
    """0x90 with a reason string, and the connection goes on."""
    client = new_client(to=strict)
    # With QoS 2 paho goes on to PUBREL after a refusal: that case is among the raw packets.
    for _ in range(2):
        code, props = client.finish(client.start_publish("missing/a", b"x", 1))
        assert code == TOPIC_NAME_INVALID
        assert props.ReasonString == (
            "the first-level topic 'missing' does not exist; "
            "create it with: tidemq topic create missing"
        )
    assert client.publish("known/a", b"x", 1) in (0, 0x10)


@pytest.mark.parametrize("qos", [1, 2])
def test_publish_to_a_missing_topic_3(strict, new_client, qos):
    """3.1.1 has no way to say no: the connection ends, a will is published."""
    client = new_client(to=strict, version=4)
    client.start_publish("missing/a", b"x", qos)
    client.closed()


def test_qos_0_to_a_missing_topic(strict, new_client, version):
    """Dropped and counted; the connection goes on."""
    client = new_client(to=strict, version=version)
    before = strict.metrics()["tidemq_publish_no_topic_total"]
    client.publish("missing/a", b"x", 0)
    client.subscribe("known/#", 1)
    assert strict.metrics()["tidemq_publish_no_topic_total"] == before + 1


def test_subscribe_to_a_missing_topic(strict, new_client, version):
    """0x8F or 0x80; filters across topics and the system's need none."""
    client = new_client(to=strict, version=version)
    refused = FILTER_INVALID if version == 5 else 0x80
    filters = ["missing/#", "known/#", "#", "+/x", "$SYS/#", "$events/#", "$share/g/missing/a"]
    assert client.subscribe_all([(f, 1) for f in filters]) == [refused, 1, 1, 1, 1, 1, refused]


def test_a_refused_subscription_says_why(strict, new_client):
    """SUBACK names the first topic that is missing, when its name is short enough."""
    client = new_client(to=strict)
    for name, shown in (("miss\u00efng", True), ("\u00e9" * 40, True), ("\u00e9" * 41, False)):
        filters = ["known/x", f"{name}/x", "other/x"]
        codes, props = client.subscribe_answer([(f, 1) for f in filters])
        assert codes == [1, FILTER_INVALID, FILTER_INVALID]
        assert "does not exist" in props.ReasonString
        assert (f"tidemq topic create {name}" in props.ReasonString) == shown
        assert "other" not in props.ReasonString
    _, props = client.subscribe_answer([("known/x", 1)])
    assert not hasattr(props, "ReasonString")


def test_wills_obey_too(strict, new_client):
    """A will for a missing topic is not published; the connection may be refused at CONNECT."""
    witness = new_client(to=strict)
    witness.subscribe("#", 1)
    try:
        new_client(to=strict, will={"topic": "missing/w", "payload": b"x", "qos": 1}).drop()
    except Refused as refused:
        assert refused.reason == TOPIC_NAME_INVALID
    found = [m for m in witness.messages.queue if m.topic == "missing/w"]
    assert not found
    assert "missing" not in [row["name"] for row in strict.cli_json("topic", "list")]


def test_created_topics_work_at_once(strict, new_client, topic):
    """topic create, then publish and subscribe; list and show tell of it."""
    strict.cli("topic", "create", topic)
    client = new_client(to=strict)
    assert client.subscribe(f"{topic}/#", 1) == 1
    client.publish(f"{topic}/a", b"x", 1)
    assert client.take().payload == b"x"
    assert topic in [row["name"] for row in strict.cli_json("topic", "list")]
    row = strict.cli_json("topic", "show", topic)
    assert (row["messages"], row["subscriptions"]) == (1, 1)


def test_auto_create(server, new_client, topic):
    """Use creates, `$names` too; the system's names and `$share` are never created."""
    client = new_client()
    client.subscribe(f"{topic}-sub/#", 1)
    client.publish(f"{topic}-pub", b"x", 1)
    client.publish(f"${topic}", b"x", 1)
    names = [row["name"] for row in server.cli_json("topic", "list")]
    assert {f"{topic}-sub", f"{topic}-pub", f"${topic}"} <= set(names)
    for name in ("$SYS/mine", "$share/g/x", "$events/mine"):
        code = client.publish(name, b"x", 1)
        assert code >= 0x80, name
    assert not {"$SYS", "$share", "$events"} & {
        row["name"] for row in server.cli_json("topic", "list")}


def test_the_empty_name_is_a_name(server, new_client):
    """`/a` has the empty first level."""
    client = new_client()
    client.subscribe("/a", 1)
    client.publish("/a", b"x", 1)
    assert client.take().topic == "/a"
    assert "" in [row["name"] for row in server.cli_json("topic", "list")]


def test_topics_survive_kill_9(make_server):
    """A topic that was acknowledged is there."""
    server = make_server(**{"topics.auto_create": False})
    server.cli("topic", "create", "made")
    server.restart(kill=True)
    assert [row["name"] for row in server.cli_json("topic", "list")] == ["made"]


def test_delete(server, new_client, topic):
    """Refused while clients subscribe; --force overrides; then messages, retained ones and queues
    are gone."""
    client = new_client(clean=False, expiry_s=600)
    client.subscribe(f"{topic}/#", 1)
    client.disconnect()
    publisher = new_client()
    publisher.publish(f"{topic}/kept", b"kept", 1, retain=True)
    publisher.publish(f"{topic}/a", b"waiting", 1)
    refused = server.cli("topic", "delete", topic, check=False)
    assert refused.returncode == 1 and "--force" in refused.stderr
    server.cli("topic", "delete", topic, "--force")
    assert topic not in [row["name"] for row in server.cli_json("topic", "list")]
    publisher.publish(f"{topic}/b", b"again", 1)
    late = new_client()
    late.subscribe(f"{topic}/kept", 1)
    late.quiet()
    client.connect()
    assert [m.payload for m in client.settle()] in ([], [b"again"])


def test_delete_survives_kill_9(make_server, new_client):
    """A deleted topic does not come back, nor do its messages."""
    server = make_server()
    publisher = new_client(to=server)
    publisher.publish("gone/kept", b"kept", 1, retain=True)
    publisher.publish("stays/kept", b"kept", 1, retain=True)
    server.cli("topic", "delete", "gone")
    server.restart(kill=True)
    assert [row["name"] for row in server.cli_json("topic", "list")] == ["stays"]
    client = new_client(to=server)
    client.subscribe("#", 1)
    assert client.take().topic == "stays/kept"
    client.quiet()


def test_limit_of_topics(make_server, new_client):
    """limits.topics: the one too many gets 0x97."""
    server = make_server(**{"limits.topics": 2})
    client = new_client(to=server)
    for name in ("a", "b"):
        assert client.publish(name, b"x", 1) in (0, 0x10)
    assert client.publish("c", b"x", 1) == 0x97
    assert server.cli("topic", "create", "d", check=False).returncode == 1


@pytest.fixture(name="tdmq", scope="module")
def fixture_tdmq(make_server_module):
    """A server with the limits of Tencent Cloud's product."""
    return make_server_module(**{"limits.profile": "tdmq"})


def test_tdmq_names(tdmq, new_client):
    """3 to 100 letters, digits, - and _."""
    client = new_client(to=tdmq)
    for good in ("abc", "A-b_9", "x" * 100):
        assert client.publish(f"{good}/a", b"x", 1) in (0, 0x10), good
    for bad in ("ab", "x" * 101, "a.c", "$abc", "\u4e2d\u6587\u5b57", ""):
        assert client.publish(f"{bad}/a", b"x", 1) == TOPIC_NAME_INVALID, bad
    refused = tdmq.cli("topic", "create", "a.c", check=False)
    assert refused.returncode == 1 and "letters" in refused.stderr


def test_tdmq_limits(tdmq, new_client):
    """64 KiB of payload, 30 filters per client."""
    client = new_client(to=tdmq)
    assert client.publish("abc/a", b"x" * 65536, 1) in (0, 0x10)
    codes = client.subscribe_all([(f"abc/{n}", 1) for n in range(31)])
    assert codes == [1] * 30 + [0x97]
    assert client.publish("abc/a", b"x" * 65537, 1) >= 0x80
    instance = tdmq.action("DescribeInstance")
    assert (instance["TopicNumLimit"], instance["MaxSubscriptionPerClient"]) == (100, 30)
    assert json.dumps(instance)


# --- point to point -------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_p2p_online(new_client, topic, version, qos):
    """{first}/p2p/{clientId} reaches that client without a subscription, and nobody else."""
    target, other = new_client(version=version), new_client(version=version)
    new_client().publish(f"{topic}/p2p/{target.client_id}", b"for you", qos)
    message = target.take()
    assert (message.topic, message.payload, message.qos) == (
        f"{topic}/p2p/{target.client_id}", b"for you", qos)
    target.quiet()
    other.quiet()


def test_p2p_offline(new_client, topic, version):
    """An absent durable session receives it on its return, in order."""
    target = new_client(version=version, clean=False, expiry_s=600)
    target.disconnect()
    publisher = new_client()
    for number in range(20):
        publisher.publish(f"{topic}/p2p/{target.client_id}", str(number), 1)
    target.connect()
    assert target.take_many(20) == [str(n) for n in range(20)]
    target.quiet()


def test_p2p_survives_kill_9(make_server, new_client):
    """Point-to-point messages are messages: acknowledged means kept."""
    server = make_server()
    target = new_client("target", to=server, clean=False, expiry_s=600)
    target.disconnect()
    publisher = new_client(to=server)
    for number in range(20):
        publisher.publish("a/p2p/target", str(number), 1 + number % 2)
    server.restart(kill=True)
    target.connect()
    found = target.take_many(20)
    for qos in (1, 2):  # order holds for each QoS
        assert [t for t in found if int(t) % 2 == qos - 1] == [str(n) for n in range(qos - 1, 20, 2)]
    target.quiet()


def test_p2p_needs_the_topic(strict, new_client):
    """The first-level topic must exist here as well."""
    target = new_client(to=strict)
    assert new_client(to=strict).publish(f"missing/p2p/{target.client_id}", b"x", 1) == 0x90
    new_client(to=strict).publish(f"known/p2p/{target.client_id}", b"x", 1)
    assert target.take().payload == b"x"


def test_p2p_to_nobody(new_client, topic):
    """A client that is not there and has no session: the message is stored, success."""
    assert new_client().publish(f"{topic}/p2p/nobody-{topic}", b"x", 1) in (0, 0x10)


def test_p2p_and_a_subscription(new_client, topic):
    """Who subscribes to the same name gets it once."""
    target = new_client()
    target.subscribe(f"{topic}/p2p/#", 1)
    new_client().publish(f"{topic}/p2p/{target.client_id}", b"x", 1)
    assert target.take().payload == b"x"
    target.quiet()
