"""A disk that fails or is full: no false acknowledgement, reads go on, and it is said.

Faults come from the recorder of test/powerfail, which lets the n-th call on the data directory, and
all later ones, fail.
"""

import sys

import pytest
from tidemq import ROOT, sanitizers, wait_until

sys.path.insert(0, str(ROOT / "test" / "powerfail"))
import powerfail  # noqa: E402

FAULTS = ["fdatasync:60+:EIO", "any-write:150+:ENOSPC", "any-write:150+:EIO"]


@pytest.fixture(name="failing_server")
def fixture_failing_server(make_server, tmp_path):
    """Makes a server on whose data directory calls will fail."""
    powerfail.build()
    recording = powerfail.Recording(tmp_path / "recording")

    def failing_server(fault):
        env = {name: value for name, value in recording.env(ahead=sanitizers(), PF_FAIL=fault).items()
               if name[:2] in ("LD", "PF")}
        return make_server(env=env, data_dir=recording.dir,
                           **{"store.segment_size": "1MiB", "store.pool_segments": 1})

    return failing_server


@pytest.mark.parametrize("fault", FAULTS)
def test_no_false_acknowledgement(failing_server, new_client, fault):
    """When writes fail, publishers get a reason or no answer; /readyz says why; QoS 0 still flows;
    after a restart on a sound disk everything that was acknowledged is there, once."""
    server = failing_server(fault)
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe("a", 1)
    away.disconnect()
    live = new_client(to=server)
    live.subscribe("b", 0)
    acknowledged, refused = [], 0
    publisher = new_client(to=server)
    for number in range(1000):
        try:
            if not publisher.connected:
                publisher = new_client(to=server)
            code = publisher.publish("a", str(number), 1)
        except AssertionError:  # the connection ended without an answer
            refused += 1
        else:
            if code < 0x80:
                acknowledged.append(str(number))
            else:
                refused += 1
        if refused >= 10:
            break
    assert acknowledged and refused >= 10
    wait_until(lambda: server.http("/readyz", token=False)[0] == 503, what="/readyz saying no")
    status, _, text = server.http("/readyz", token=False)
    assert status == 503 and "takes no writes" in text
    assert server.metrics()["tidemq_store_writable"] == 0
    assert server.http("/healthz", token=False)[0] == 200
    new_client(to=server).publish("b", b"still here", 0)
    assert live.take().payload == b"still here"
    server.kill()
    server.env = {}
    server.start()
    away.connect()
    found = [away.take().payload.decode() for _ in acknowledged]
    while found[-1] != acknowledged[-1]:  # what was refused may have reached the disk all the same
        found.append(away.take().payload.decode())
    assert [text for text in found if text in set(acknowledged)] == acknowledged
    assert found == sorted(set(found), key=int)


@pytest.mark.parametrize("fault", ["fdatasync:60:EIO", "any-write:150:ENOSPC"])
def test_recovery_without_restart(failing_server, new_client, fault):
    """One failure: the server goes on by itself on another segment, and nothing acknowledged is
    lost, neither at once nor by a kill afterwards."""
    server = failing_server(fault)
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe("a", 1)
    away.disconnect()
    publishers = [new_client(to=server)]
    acknowledged, refused = [], []

    def publish():
        number = len(acknowledged) + len(refused)
        if not publishers[-1].connected:
            publishers.append(new_client(to=server))
        try:
            accepted = publishers[-1].publish("a", str(number), 1) < 0x80
        except AssertionError:  # the connection ended without an answer
            accepted = False
        (acknowledged if accepted else refused).append(str(number))
        return accepted

    while publish():
        assert len(acknowledged) < 1000, "the fault did not happen"
    wait_until(publish, what="the log taking writes again")
    assert all(publish() for _ in range(100))
    assert server.http("/readyz", token=False)[0] == 200
    server.kill()
    server.env = {}
    server.start()
    away.connect()
    found = [away.take().payload.decode()]
    while found[-1] != acknowledged[-1]:
        found.append(away.take().payload.decode())
    assert [text for text in found if text in set(acknowledged)] == acknowledged
    assert found == sorted(set(found), key=int)
