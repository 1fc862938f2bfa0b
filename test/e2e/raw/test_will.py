"""Wills. Sections 3.1.2.5 to 3.1.2.7, 3.1.3.2 and 3.14."""

import pytest
import wire
from wire import MALFORMED, PUBREL, V5, V311, Will


def watcher_of(joined, version, topic, qos=2):
    """A subscriber to a will topic."""
    watcher = joined(version)
    watcher.subscribe((topic, qos))
    return watcher


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_published_when_the_connection_breaks(joined, version, topic, qos):
    """A connection that just ends leaves its will, at the will's QoS, once.

    [MQTT3-3.1.2-8] [MQTT3-3.1.2-9] [MQTT3-3.1.2-10] [MQTT3-3.1.2-14] [MQTT3-3.1.2-16]
    [MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT5-3.1.2-10] [MQTT5-3.1.2-12] [MQTT5-3.1.2-14]
    """
    watcher = watcher_of(joined, version, topic)
    peer = joined(version, will=Will(topic, b"gone", qos))
    peer.close()
    assert not watcher.take(topic, b"gone", qos).retain
    watcher.quiet()
    fresh = watcher_of(joined, version, topic)
    fresh.quiet()


def test_retained(joined, version, topic):
    """Will Retain 1 makes it a retained message.

    [MQTT3-3.1.2-17] [MQTT5-3.1.2-15]
    """
    watcher = watcher_of(joined, version, topic)
    joined(version, will=Will(topic, b"kept", 1, True)).close()
    watcher.take(topic, b"kept", 1)
    assert watcher_of(joined, version, topic).take(topic, b"kept", 1).retain


def test_not_after_disconnect(joined, version, topic):
    """DISCONNECT removes the will: nothing is published.

    [MQTT3-3.1.2-10] [MQTT3-3.14.4-3] [MQTT5-3.1.2-10] [MQTT5-3.14.4-3]
    """
    watcher = watcher_of(joined, version, topic)
    joined(version, will=Will(topic, b"no")).end()
    if version == V5:
        peer = joined(version, will=Will(topic, b"no"))
        peer.send(wire.disconnect(V5, 0, [("reason_string", "bye")]))
        peer.closed()
    joined(version, will=Will(topic, b"yes")).close()
    watcher.take(topic, b"yes")
    watcher.quiet()


def test_no_will_no_message(joined, version, topic):
    """Without a will nothing is published.

    [MQTT3-3.1.2-12]
    """
    watcher = watcher_of(joined, version, "#", 0)
    watcher.ignores_retained = True
    joined(version).close()
    joined(version, will=Will(topic, b"mark")).close()
    watcher.take(topic, b"mark")


def test_after_disconnect_with_will(joined, topic):
    """DISCONNECT 0x04, or with any other reason than 0, leaves the will in place.

    [MQTT5-3.1.2-8] [MQTT5-3.14.4-3]
    """
    watcher = watcher_of(joined, V5, topic)
    for reason in (0x04, 0x80, 0x81, 0x82, 0x93, 0x98):
        peer = joined(will=Will(topic, b"said so"))
        peer.send(wire.disconnect(V5, reason))
        peer.closed()
        watcher.take(topic, b"said so")


def test_after_an_error(joined, version, topic):
    """A client thrown out for a protocol error leaves its will.

    [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]
    """
    watcher = watcher_of(joined, version, topic)
    peer = joined(version, will=Will(topic, b"error"))
    peer.send(b"\0\0")
    peer.refused(MALFORMED)
    watcher.take(topic, b"error")


def test_after_take_over(open_peer, joined, version, topic):
    """A connection that was taken over leaves its will; the new connection's own stays unsaid.

    [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]
    """
    watcher = watcher_of(joined, version, topic)
    first = joined(version, will=Will(topic, b"first"))
    second = open_peer(version)
    second.connect(first.client_id, will=Will(topic, b"second"))
    watcher.take(topic, b"first")
    second.quiet()
    watcher.quiet()


def test_will_of_a_refused_connect(open_peer, joined, version, topic):
    """A CONNECT that was refused leaves nothing.

    [MQTT3-3.1.2-8] [MQTT5-3.1.4-6]
    """
    watcher = watcher_of(joined, version, topic)
    peer = open_peer(version)
    peer.send(wire.connect(version, "x", flags=0x07, will=Will(topic, b"no")))
    if version == V5:
        peer.expect(wire.CONNACK, reason=MALFORMED)
    peer.closed()
    joined(version, will=Will(topic, b"yes")).close()
    watcher.take(topic, b"yes")


def test_properties(joined, topic):
    """The will's properties go with it, user properties in their order.

    [MQTT5-3.1.3-10] [MQTT5-3.1.2-9]
    """
    user = tuple(("user", pair) for pair in (("z", "1"), ("a", "2"), ("z", "1")))
    properties = (
        ("content_type", "text/plain"),
        ("response_topic", "r"),
        ("correlation_data", b"\0\1"),
        ("payload_format", 1),
        ("message_expiry", 600),
        *user,
    )
    watcher = watcher_of(joined, V5, topic)
    joined(will=Will(topic, b"w", properties=properties)).close()
    found = watcher.take(topic, b"w")
    assert tuple(pair for pair in found.props if pair[0] == "user") == user
    assert 590 <= found.get("message_expiry") <= 600
    for name, value in properties[:4]:
        assert found.get(name) == value


def test_delay(joined, topic):
    """The delay passes before the will goes out, if the session lasts that long.

    [MQTT5-3.1.2-8]
    """
    watcher = watcher_of(joined, V5, topic)
    delayed = Will(topic, b"later", properties=(("will_delay", 1),))
    joined(will=delayed, properties=[("session_expiry", 60)]).close()
    joined(will=Will(topic, b"at once")).close()
    watcher.take(topic, b"at once")
    watcher.take(topic, b"later")


def test_delay_ends_with_the_session(joined, topic):
    """A delay longer than the session: the will goes out when the session ends.

    [MQTT5-3.1.2-8]
    """
    watcher = watcher_of(joined, V5, topic)
    delayed = Will(topic, b"session", properties=(("will_delay", 600),))
    joined(will=delayed).close()
    watcher.take(topic, b"session")
    joined(will=delayed, properties=[("session_expiry", 1)]).close()
    watcher.take(topic, b"session")


def test_delay_ends_with_a_clean_start(open_peer, joined, topic):
    """A clean start ends the session, so the delayed will goes out at once.

    [MQTT5-3.1.2-8] [MQTT5-3.1.2-4]
    """
    watcher = watcher_of(joined, V5, topic)
    delayed = Will(topic, b"cleaned", properties=(("will_delay", 600),))
    peer = joined(will=delayed, properties=[("session_expiry", 600)])
    peer.close()
    open_peer().connect(peer.client_id, clean=True)
    watcher.take(topic, b"cleaned")


def test_return_within_the_delay(open_peer, joined, topic, second_passes):
    """A client that resumes its session in time keeps its will from being sent.

    [MQTT5-3.1.3-9] [MQTT5-3.1.2-8]
    """
    watcher = watcher_of(joined, V5, topic)
    delayed = Will(topic, b"never", properties=(("will_delay", 2),))
    peer = joined(will=delayed, properties=[("session_expiry", 60)])
    peer.close()
    again = open_peer()
    answer = again.connect(peer.client_id, clean=False, properties=[("session_expiry", 60)])
    assert answer.session_present
    second_passes()
    second_passes()
    watcher.quiet()
    again.end()


def test_empty_payload(joined, version, topic):
    """A retained will without payload removes the retained message.

    [MQTT3-3.1.2-17] [MQTT3-3.3.1-10] [MQTT5-3.1.2-15] [MQTT5-3.3.1-6]
    """
    joined(version).publish(topic, b"old", 1, 1, retain=True)
    watcher = watcher_of(joined, version, topic)
    watcher.take(topic, b"old", 1)
    joined(version, will=Will(topic, b"", 1, True)).close()
    watcher.take(topic, b"", 1)
    watcher_of(joined, version, topic).quiet()


def test_wills_reach_both_versions(joined, topic):
    """A will of 3.1.1 reaches 5.0 and the other way round.

    [MQTT3-3.1.2-8] [MQTT5-3.1.2-8]
    """
    watchers = {V311: watcher_of(joined, V311, topic), V5: watcher_of(joined, V5, topic)}
    for version in watchers:
        joined(version, will=Will(topic, b"w", 2)).close()
        for watcher in watchers.values():
            watcher.take(topic, b"w", 2)
    assert PUBREL not in [packet.kind for packet in watchers[V5].drain()]
