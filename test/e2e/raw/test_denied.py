"""What clients are answered where a policy or block rule says no, byte by byte in both versions."""

import pytest
import wire
from wire import CONNACK, PUBACK, PUBREC, SUBACK, V5, V311, Peer

NOT_AUTHORIZED, BANNED = 0x87, 0x8A

POLICIES = """
policies:
  - {name: guests, priority: 1, effect: deny, actions: connect, client_id: "guest*"}
  - {name: everybody, priority: 10, effect: allow, actions: connect}
  - {name: no-secrets, priority: 20, effect: deny, actions: [pub, sub], resources: ["secret/#"]}
  - {name: no-qos2, priority: 25, effect: deny, actions: sub, qos: 2, resources: "open/low"}
  - {name: never-kept, priority: 26, effect: deny, actions: pub, retain: true, resources: "open/brief"}
  - {name: open, priority: 30, effect: allow, actions: [pub, sub], resources: ["open/#"]}
  - {name: own, priority: 31, effect: allow, actions: [pub, sub], resources: ["own/${ClientId}"]}
block_rules:
  - {name: evil, type: client_id, include: "evil-?", excludes: [evil-0]}
"""


def guard(make, folder):
    """A server with these policies."""
    path = folder / "policies.yaml"
    path.write_text(POLICIES)
    return make(**{"authorization.enabled": True, "authorization.policy_file": path})


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(make_server_module, tmp_path_factory):
    """The one that most tests share."""
    return guard(make_server_module, tmp_path_factory.mktemp("policies"))


@pytest.fixture(name="peer")
def fixture_peer(open_peer, guarded, version):
    """A client that may connect."""
    peer = open_peer(version, guarded)
    peer.connect()
    return peer


def denied(server, what):
    """The counter of one kind of denial."""
    return server.metrics()[f"tidemq_denied_{what}_total"]


def refusal(version, reason):
    """The code of CONNACK."""
    return reason if version == V5 else 5


def test_connect(open_peer, guarded, version):
    """No policy lets it in: 0x87, in 3.1.1 return code 5, and the end."""
    before = denied(guarded, "connect")
    peer = open_peer(version, guarded)
    peer.connect("guest-1", reason=refusal(version, NOT_AUTHORIZED))
    peer.closed()
    assert denied(guarded, "connect") == before + 1


def test_blocked(open_peer, guarded, version):
    """A block rule keeps it out: 0x8A, in 3.1.1 return code 5; one that is excluded comes in."""
    before = denied(guarded, "blocked")
    peer = open_peer(version, guarded)
    peer.connect("evil-1", reason=refusal(version, BANNED))
    peer.closed()
    assert denied(guarded, "blocked") == before + 1
    open_peer(version, guarded).connect("evil-0")


@pytest.mark.parametrize("will, allowed", [
    (wire.Will("open/w"), True),
    (wire.Will("secret/w"), False),
    (wire.Will("open/brief", retain=True), False),
    (wire.Will("nowhere"), False),
], ids=["open", "secret", "retained", "nowhere"])
def test_will(open_peer, guarded, version, will, allowed):
    """A will that its client may not publish is refused with the connection."""
    before = denied(guarded, "publish")
    peer = open_peer(version, guarded)
    peer.connect(will=will, reason=0 if allowed else refusal(version, NOT_AUTHORIZED))
    assert denied(guarded, "publish") == before + (not allowed)


@pytest.mark.parametrize("qos, kind", [(1, PUBACK), (2, PUBREC)])
@pytest.mark.parametrize("topic, retain", [("secret/x", False), ("nowhere/x", False),
                                           ("open/brief", True), ("own/other", False)])
def test_publish(peer, guarded, version, qos, kind, topic, retain):
    """PUBACK and PUBREC say 0x87; 3.1.1 has no word for it, so the connection ends."""
    before = denied(guarded, "publish")
    peer.send(wire.publish(version, topic, b"x", qos, 7, retain=retain))
    if version == V5:
        peer.expect(kind, packet_id=7, reason=NOT_AUTHORIZED)
        peer.publish("open/x", b"y", qos, packet_id=7)  # the identifier is free
    else:
        peer.closed()
    assert denied(guarded, "publish") == before + 1


def test_publish_qos0(peer, guarded):
    """QoS 0 has no answer: dropped, counted, and the connection goes on."""
    before = denied(guarded, "publish")
    peer.publish("secret/x", b"x")
    peer.publish(f"own/{peer.client_id}", b"x")
    assert denied(guarded, "publish") == before + 1


@pytest.mark.parametrize("topic_filter, qos", [
    ("secret/#", 0), ("secret/x", 1), ("#", 1), ("+/x", 0), ("nowhere", 0), ("own/+", 1),
    ("open/low", 2), ("$share/g/secret/x", 1), ("$SYS/#", 0),
])
def test_subscribe(peer, guarded, version, topic_filter, qos):
    """A filter that is not allowed as a whole: 0x87, in 3.1.1 0x80; others of the packet count."""
    before = denied(guarded, "subscribe")
    peer.send(wire.subscribe(version, 3, (topic_filter, qos), ("open/x", 1)))
    peer.expect(SUBACK, reasons=[NOT_AUTHORIZED if version == V5 else 0x80, 1])
    assert denied(guarded, "subscribe") == before + 1


def test_allowed(peer):
    """What is allowed works."""
    peer.subscribe(("open/#", 1), ("$share/g/open/y", 1), (f"own/{peer.client_id}", 0))
    peer.send(wire.publish(peer.version, f"own/{peer.client_id}", b"mine"))
    peer.take(f"own/{peer.client_id}", "mine")


def test_a_name_is_no_wildcard(open_peer, guarded, version):
    """A client that calls itself + does not get what belongs to all."""
    peer = open_peer(version, guarded)
    peer.connect("+")
    peer.send(wire.subscribe(version, 3, ("own/+", 1)))
    peer.expect(SUBACK, reasons=[NOT_AUTHORIZED if version == V5 else 0x80])


def test_assigned_name(open_peer, guarded):
    """Rules go by the client ID that the server chose."""
    peer = open_peer(V5, guarded)
    name = peer.connect("").get("assigned_client_id")
    peer.publish(f"own/{name}", b"x", 1)


def test_the_log_names_who_what_and_why(open_peer, make_server, tmp_path):
    """One line for each: client, action, topic, rule. Of very many a second some are left out, so this
    server has no other clients."""
    guarded = guard(make_server, tmp_path)
    with Peer(guarded, V311) as peer:
        peer.connect("logged-1")
        peer.publish("secret/logged", b"payload-of-it")
        peer.send(wire.subscribe(V311, 3, ("secret/+", 1)))
        peer.expect(SUBACK)
    open_peer(V311, guarded).connect("guest-9", reason=5)
    for line in (
        "client 'logged-1' may not publish to 'secret/logged' at QoS 0: policy 'no-secrets' of the "
        "policy file",
        "client 'logged-1' may not subscribe to 'secret/+' at QoS 1: policy 'no-secrets' of the "
        "policy file",
        "client 'guest-9' may not connect: policy 'guests' of the policy file",
    ):
        assert line in guarded.log
    assert "payload-of-it" not in guarded.log


def test_connack_is_the_last_word(open_peer, guarded, version):
    """Nothing behind a refused CONNECT is looked at."""
    before = denied(guarded, "publish")
    peer = open_peer(version, guarded)
    peer.send(wire.connect(version, "guest-2"), wire.publish(version, "secret/x", b"x"))
    peer.expect(CONNACK)
    peer.closed()
    assert denied(guarded, "publish") == before
