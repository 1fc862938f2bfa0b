"""The life of servers: killed, paused, restarted with the same folder."""

import http.client
import time

import pytest
from etcd import Etcd, EtcdError, members_of, put_of, version_is
from process import StartFailed
from remoting import RUNTIME_INFO
from rocketmq import Broker, NameSrv


def test_a_broker_is_killed_and_paused(servers):
    """Its messages outlive SIGKILL; SIGSTOP keeps its connections."""
    namesrv = NameSrv(servers.folder)
    broker = Broker(servers.folder, namesrvs=[namesrv.address], flushDiskType="SYNC_FLUSH")
    servers.start(namesrv, broker)
    with broker.client() as client:
        client.create_topic("t")
        client.send_message("t", b"kept")
    broker.restart(kill=True)
    with broker.client() as client:
        assert [message.body for message in client.pull_all("t")] == [b"kept"]
        broker.pause()
        asked = client.send(RUNTIME_INFO)
        with pytest.raises(TimeoutError):
            client.receive(asked, timeout_s=1)
        broker.resume()
        assert client.receive(asked).code == 0
    assert len(broker.start_times_s) == 2


def test_a_start_that_fails_says_why(servers):
    """With the end of the output."""
    broken = servers.add(Etcd(servers.folder, options=["--no-such-option"]))
    with pytest.raises(StartFailed, match="ended before.*(?s:.)*not defined: -no-such-option"):
        broken.start()
    assert not broken.running


def patiently(call, patience_s=30):
    """What the call returns once it succeeds: what was under way to a leader that died times out, and until
    there is another one nothing is done."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except (EtcdError, OSError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def test_etcd_keeps_its_majority(servers):
    """One of three may die; with two gone nothing is written; back with the same data, it is."""
    members = members_of("e1", "e2", "e3")
    first, second, third = (Etcd(servers.folder, name, members=members) for name in members)
    servers.start(first, second, third)
    with first.client() as client:
        assert client.transaction([put_of("k", "1")], [version_is("k", 0)])
        assert not client.transaction([put_of("k", "2")], [version_is("k", 0)])
    second.kill()
    with first.client() as client:
        patiently(lambda: client.put("k", "3"))
    third.kill()
    with first.client(timeout_s=20) as client, pytest.raises((EtcdError, OSError)):
        client.put("k", "4")
    second.start()
    third.start()
    with third.client() as client:
        assert patiently(lambda: client.get("k")) in (b"3", b"4")  # what timed out may have happened
        patiently(lambda: client.put("k", "5"))
    with second.client() as client:
        assert patiently(lambda: client.get("k")) == b"5"


def test_etcd_watches_and_leases(servers):
    """A change is told; a key goes with its lease."""
    etcd = servers.add(Etcd(servers.folder)).start()
    with etcd.client() as client, etcd.client() as watcher:
        events = watcher.watch("w/")
        assert next(events) == []
        lease = client.grant(2)
        client.put("w/k", "v", lease)
        (event,) = next(events)
        assert event["kv"]["version"] == "1"
        assert client.keep_alive(lease) == 2
        (event,) = next(events)
        assert event["type"] == "DELETE"
        assert client.get("w/k") is None and client.keep_alive(lease) == 0
        assert client.metrics()["etcd_server_has_leader"] == 1


def test_a_paused_member_answers_later(servers):
    """Its clients wait."""
    etcd = servers.add(Etcd(servers.folder)).start()
    with etcd.client(timeout_s=1) as client:
        etcd.pause()
        with pytest.raises((OSError, http.client.HTTPException)):
            client.put("k", "v")
        etcd.resume()
    with etcd.client() as client:
        client.put("k", "v")
