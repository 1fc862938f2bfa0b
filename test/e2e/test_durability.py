"""What is left after an orderly restart and after kill -9."""

import time

import pytest
from tidemq import StartFailed, wait_until


def keep(version):
    """Options of a session that outlives its connection."""
    return {"version": version, "clean": False, "expiry_s": 600}


@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledged_means_kept(make_server, new_client, version, qos):
    """What was acknowledged to the publisher is delivered after kill -9, in order, once."""
    server = make_server()
    away = new_client("away", to=server, **keep(version))
    away.subscribe("a/#", qos)
    away.disconnect()
    publisher = new_client(to=server, version=version)
    sent = [publisher.start_publish("a/b", str(n), qos) for n in range(500)]
    for mid in sent:
        publisher.finish(mid)
    server.restart(kill=True)
    away.connect()
    assert away.session_present
    assert away.take_many(500) == [str(n) for n in range(500)]
    away.quiet()


def test_orderly_restart_same_packet_ids(make_server, new_client, version):
    """After SIGTERM only what had not been acknowledged comes again, with DUP and its packet ID."""
    server = make_server()
    client = new_client("c", to=server, manual_ack=True, **keep(version))
    client.subscribe("a", 1)
    publisher = new_client(to=server)
    for number in range(20):
        publisher.publish("a", str(number), 1)
    held = [client.take() for _ in range(20)]
    for message in held[:5] + held[10:12]:
        client.ack(message)
    client.subscribe("barrier", 1)
    server.restart()
    client.connect()
    rest = held[5:10] + held[12:]
    again = [client.take() for _ in rest]
    assert [(m.payload, m.mid, m.dup) for m in again] == [(m.payload, m.mid, True) for m in rest]
    client.quiet()


def test_kill_9_repeats_only_the_last_moments(make_server, new_client, version):
    """Acknowledgements are written within moments without being forced to disk: after kill -9 only
    messages that were acknowledged within the last second may come again."""
    server = make_server()
    client = new_client("c", to=server, **keep(version))
    client.subscribe("a", 1)
    publisher = new_client(to=server)
    taken, start = [], time.monotonic()
    while time.monotonic() < start + 1.5:
        publisher.publish("a", str(len(taken)), 1)
        assert client.take().payload == str(len(taken)).encode()
        taken.append(time.monotonic())
    client.disconnect()
    publisher.publish("a", "last", 1)
    killed = time.monotonic()
    server.restart(kill=True)
    client.connect()
    found = [client.take()]
    while found[-1].payload != b"last":
        found.append(client.take())
    again = [int(message.payload) for message in found[:-1]]
    assert again == list(range(len(taken) - len(again), len(taken)))
    assert all(taken[number] > killed - 1 for number in again), (len(again), len(taken))
    client.quiet()


def test_qos_2_exactly_once_for_the_subscriber(make_server, new_client, version):
    """A QoS 2 message acknowledged before kill -9 does not come again; one that was not does, once."""
    server = make_server()
    client = new_client("c", to=server, **keep(version))
    client.subscribe("a", 2)
    publisher = new_client("p", to=server, **keep(version))
    for number in range(50):
        publisher.publish("a", str(number), 2)
    assert client.take_many(50) == [str(n) for n in range(50)]
    seen = [str(n) for n in range(50)]
    for round_ in range(3):
        client.disconnect()
        name = f"round{round_}"
        publisher.publish("a", name, 2)
        server.restart(kill=True)
        publisher.connect()
        client.connect()
        seen.append(client.take().payload.decode())
        assert seen[-1] == name
        client.quiet()
    assert len(seen) == len(set(seen))


def test_subscription_before_suback(make_server, new_client, version):
    """Killed right after SUBACK: the subscription is there."""
    server = make_server()
    client = new_client("c", to=server, **keep(version))
    for number in range(10):
        client.subscribe(f"a{number}/#", 1)
        server.kill()
        server.start()
        new_client(to=server).publish(f"a{number}/x", str(number), 1)
        client.connect()
        assert client.session_present
        message = client.take()
        while message.payload != str(number).encode():
            # Acknowledged in the last moments before a kill: allowed to come again.
            assert int(message.payload) < number
            message = client.take()


def test_unsubscribe_before_unsuback(make_server, new_client, version):
    """Killed right after UNSUBACK: the subscription is gone."""
    server = make_server()
    client = new_client("c", to=server, **keep(version))
    client.subscribe("a", 1)
    client.unsubscribe("a")
    server.restart(kill=True)
    new_client(to=server).publish("a", b"x", 1)
    client.connect()
    assert client.session_present
    client.quiet()


def test_discarded_before_connack(make_server, new_client, version):
    """Killed right after a clean start: the old session is gone for good."""
    server = make_server()
    client = new_client("c", to=server, **keep(version))
    client.subscribe("a", 1)
    client.disconnect()
    new_client("c", to=server, version=version, clean=True)
    server.restart(kill=True)
    client.connect()
    assert not client.session_present


def test_many_restarts(make_server, new_client):
    """Twenty times kill -9 in a row, with a checkpoint now and then, loses nothing."""
    server = make_server(**{"store.checkpoint_interval": "100ms", "store.segment_size": "1MiB"})
    away = new_client("away", to=server, **keep(5))
    away.subscribe("a/#", 2)
    away.disconnect()
    publisher = new_client("p", to=server, **keep(5))
    for number in range(20):
        for part in range(20):
            publisher.publish(f"a/{part}", f"{number}.{part}" + "x" * 2000, 1 + part % 2)
        server.restart(kill=True)
        publisher.connect()
    away.connect()
    found = [text.rstrip("x") for text in away.take_many(400)]
    for part in range(20):
        assert [t for t in found if t.endswith(f".{part}")] == [f"{n}.{part}" for n in range(20)]
    away.quiet()


def test_backlog_over_many_segments(make_server, new_client):
    """A backlog of many segments and sealed index files is read back whole after a restart."""
    server = make_server(**{"store.segment_size": "1MiB", "store.seal_entries": 1000,
                            "store.tail_bytes": "1MiB", "store.checkpoint_interval": "100ms"})
    away = new_client("away", to=server, **keep(5))
    away.subscribe("a/#", 1)
    away.disconnect()
    publisher = new_client(to=server)
    sent = []
    for number in range(6000):
        sent.append(publisher.start_publish("a/b", f"{number:06}" + "y" * 1000, 1))
    for mid in sent:
        publisher.finish(mid)
    stats = server.cli_json("store", "stats")
    assert stats["segments"] >= 5 and stats["index_files"] >= 1, stats
    server.restart(kill=True)
    away.connect()
    assert [t[:6] for t in away.take_many(6000)] == [f"{n:06}" for n in range(6000)]
    away.quiet()


def test_log_holds_a_message_once(make_server, new_client):
    """Fifty absent sessions on one filter: the log grows by the messages, not by their copies."""
    server = make_server(**{"store.segment_size": "4MiB"})
    for number in range(50):
        away = new_client(f"away{number}", to=server, **keep(5))
        away.subscribe("a/#", 1)
        away.disconnect()
    before = server.metrics()["tidemq_store_bytes_total"]
    publisher = new_client(to=server)
    for _ in range(200):
        publisher.publish("a/b", b"z" * 1024, 1)
    grown = server.metrics()["tidemq_store_bytes_total"] - before
    assert grown <= 200 * 1024 * 1.5


def test_retention_by_bytes(make_server, new_client):
    """The log stays within retention.bytes; a session that falls behind is clamped, and counted."""
    server = make_server(**{"store.segment_size": "1MiB", "retention.bytes": "4MiB",
                            "store.checkpoint_interval": "100ms"})
    away = new_client("away", to=server, **keep(5))
    away.subscribe("a", 1)
    away.disconnect()
    publisher = new_client(to=server)
    sent = [publisher.start_publish("a", f"{n:05}" + "r" * 20_000, 1) for n in range(600)]
    assert all(publisher.finish(mid)[0] == 0 for mid in sent)
    wait_until(lambda: server.cli_json("store", "stats")["log_bytes"] <= 5 << 20,
               what="the removal of old segments")
    away.connect()
    found = [int(away.take().payload[:5])]
    while found[-1] != 599:
        found.append(int(away.take().payload[:5]))
    # The log may go on shrinking while the session reads: what it missed is counted, whatever it is.
    assert found == sorted(set(found)) and found[0] > 300
    missed = 600 - len(found)
    assert server.cli_json("client", "show", "away")["trimmed"] == missed
    assert server.metrics()["tidemq_messages_trimmed_total"] == missed


def test_second_server_on_the_same_data(make_server):
    """Two servers cannot share a data directory."""
    server = make_server()
    with pytest.raises(StartFailed, match="(?i)in use|lock|another|running"):
        make_server(data_dir=server.data_dir)
    assert server.running


def test_memory_engine(make_server, new_client):
    """store: mem loses all at the end, says so, and works."""
    server = make_server(store="mem")
    assert "memory" in server.stdout
    client = new_client(to=server)
    client.subscribe("a", 2)
    client.publish("a", b"x", 2)
    assert client.take().payload == b"x"
    server.restart()
    assert server.cli_json("topic", "list") == []
