"""Will messages: when they are published, when not, their delay, and a server that dies."""

import time

import pytest


@pytest.fixture(name="witness")
def fixture_witness(new_client, topic):
    """Sees what is published below the topic."""
    client = new_client()
    client.subscribe(f"{topic}/#", 2)
    return client


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will_of_a_broken_connection(new_client, topic, version, witness, qos):
    """A connection that breaks publishes its will. [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]"""
    client = new_client(version=version, will={"topic": f"{topic}/w", "payload": b"gone", "qos": qos})
    client.drop()
    message = witness.take()
    assert (message.payload, message.qos, message.retain) == (b"gone", qos, False)
    witness.quiet()


def test_no_will_after_disconnect(new_client, topic, version, witness):
    """DISCONNECT takes the will back. [MQTT3-3.14.4-3] [MQTT5-3.14.4-3]"""
    new_client(version=version, will={"topic": f"{topic}/w", "payload": b"gone"}).disconnect()
    witness.quiet()


def test_disconnect_with_will(new_client, topic, witness):
    """DISCONNECT with reason 4 publishes it all the same."""
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.reasoncodes import ReasonCode

    client = new_client(will={"topic": f"{topic}/w", "payload": b"gone"})
    client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    assert witness.take().payload == b"gone"


def test_will_with_keep_alive(new_client, topic, witness):
    """A silent client's will is published when its keep alive has run out."""
    client = new_client(keep_alive_s=1, will={"topic": f"{topic}/w", "payload": b"gone"})
    client.paho._keepalive = 0
    assert witness.take(timeout_s=10).payload == b"gone"


def test_retained_will(new_client, topic, version):
    """A will may be retained. [MQTT3-3.1.2-17] [MQTT5-3.1.2-15]"""
    will = {"topic": f"{topic}/w", "payload": b"gone", "qos": 1, "retain": True}
    new_client(version=version, will=will).drop()
    witness = new_client()
    witness.subscribe(f"{topic}/#", 1)
    message = witness.take()
    assert message.payload == b"gone"
    new_client().publish(f"{topic}/w", b"", 1, retain=True)


def test_will_properties(new_client, topic, witness):
    """What a will's properties say arrives with it."""
    will = {
        "topic": f"{topic}/w", "payload": b"gone", "qos": 1, "ContentType": "text/plain",
        "ResponseTopic": "answers/here", "CorrelationData": b"\0\1",
        "UserProperty": [("a", "1"), ("a", "2")], "PayloadFormatIndicator": 1,
        "MessageExpiryInterval": 100,
    }
    new_client(will=will).drop()
    found = witness.take().properties
    assert (found.ContentType, found.ResponseTopic) == ("text/plain", "answers/here")
    assert found.CorrelationData == b"\0\1" and found.PayloadFormatIndicator == 1
    assert found.UserProperty == [("a", "1"), ("a", "2")]
    assert 95 <= found.MessageExpiryInterval <= 100


def test_will_delay(new_client, topic, witness):
    """The will waits for its delay. [MQTT5-3.1.3-9]"""
    client = new_client(clean=False, expiry_s=60, will={
        "topic": f"{topic}/w", "payload": b"gone", "qos": 1, "WillDelayInterval": 1})
    before = time.monotonic()
    client.drop()
    assert witness.take().payload == b"gone"
    assert 0.9 <= time.monotonic() - before < 5


def test_will_delay_cancelled_by_return(new_client, topic, witness):
    """A client that comes back in time has not died; the next one's end proves that its delay
    would have passed."""
    client = new_client(clean=False, expiry_s=60, will={
        "topic": f"{topic}/w", "payload": b"first", "WillDelayInterval": 1})
    client.drop()
    client.connect()
    other = new_client(clean=False, expiry_s=60, will={
        "topic": f"{topic}/w", "payload": b"second", "qos": 1, "WillDelayInterval": 2})
    other.drop()
    assert witness.take().payload == b"second"
    witness.quiet()


def test_will_with_the_end_of_the_session(new_client, topic, witness):
    """A session that ends before the delay does publishes at its end. [MQTT5-3.1.3-9]"""
    client = new_client(clean=False, expiry_s=1, will={
        "topic": f"{topic}/w", "payload": b"gone", "qos": 1, "WillDelayInterval": 600})
    client.drop()
    assert witness.take(timeout_s=10).payload == b"gone"


def test_take_over_publishes_the_will(new_client, topic, version, witness):
    """The connection that is taken over ends without DISCONNECT. [MQTT5-3.1.4-3]"""
    older = new_client(version=version, will={"topic": f"{topic}/w", "payload": b"gone", "qos": 1})
    new_client(older.client_id, version=version)
    assert witness.take().payload == b"gone"


@pytest.mark.parametrize("case", [(4, 0), (5, 0), (5, 2)], ids=["3.1.1", "5.0", "5.0-delay"])
def test_will_survives_kill_9(make_server, new_client, case):
    """The server dies: the will comes after its delay or the restart grace, whichever is longer,
    once."""
    version, delay_s = case
    server = make_server(**{"sessions.restart_grace": "1s"})
    witness = new_client(to=server, clean=False, expiry_s=600)
    witness.subscribe("wills/#", 2)
    extra = {"WillDelayInterval": delay_s} if version == 5 and delay_s else {}
    keep = {"clean": False, "expiry_s": 600}
    new_client("dead", to=server, version=version, **keep,
               will={"topic": "wills/dead", "payload": b"gone", "qos": 2, **extra})
    new_client("back", to=server, version=version, **keep,
               will={"topic": "wills/back", "payload": b"gone", "qos": 1,
                     **({"WillDelayInterval": 3} if version == 5 else {})})
    server.kill()
    server.start()
    started = time.monotonic()
    back = new_client("back", to=server, version=version, **keep)
    assert back.session_present
    witness.connect()
    assert witness.take().topic == "wills/dead"
    assert time.monotonic() - started > max(1, delay_s) - 1
    back.disconnect()
    server.restart(kill=True)
    witness.connect()
    witness.quiet()
