"""No room for what is written beside the log: the checkpoint of rows and the sealed index.

The log has room in files that it has already, so publishers are served until the server sees that
it may not grow without its views; then they are refused, and accepted again when there is room."""

import re

import wire
from tidemq import wait_until
from test_full import CONFIG, MIB, QUOTA, Publisher, all_there, not_ready
from wire import V5, Peer, Will

MORE = {**CONFIG, "store.segment_size": "16MiB", "store.pool_segments": 2}


def ready_pool(server, count):
    """Waits until so many log files are prepared; the last one is only as the present one fills up."""
    wait_until(lambda: server.metrics()["tidemq_store_segments_pool"] >= count,
               what="the log files being prepared")


def test_no_room_for_a_checkpoint(make_disk, make_server, new_client):
    """LMDB cannot grow: /readyz says that no checkpoint could be written; with room one is, and all
    sessions are there after a kill."""
    disk = make_disk(96)
    server = make_server(data_dir=disk.path / "data", **MORE, **{"store.checkpoint_interval": "1s"})
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe("a", 1)
    away.disconnect()
    publisher = Publisher(server, V5, "a", 1)
    assert publisher.publish()
    ready_pool(server, 1)
    disk.fill()
    made = []
    for number in range(400):  # rows of 30 KiB, more than LMDB has free pages for
        peer = Peer(server, V5)
        peer.send(connect_with_will(peer, f"w{number}"))
        answer = peer.receive()
        peer.close()
        if answer.reason:
            break
        made.append(f"w{number}")
    said = wait_until(lambda: not_ready(server), what="/readyz")
    assert re.search("could not write a checkpoint: .*No space left on device", said), said
    assert not publisher.publish()
    assert publisher.refusal.reason == QUOTA
    before = server.metrics()["tidemq_store_checkpoints_total"]
    disk.empty()
    wait_until(lambda: not not_ready(server), what="the server being ready")
    wait_until(lambda: server.metrics()["tidemq_store_checkpoints_total"] > before,
               what="a checkpoint")
    assert publisher.publish()
    server.restart(kill=True)
    for name in made[:: max(1, len(made) // 20)]:
        peer = Peer(server, V5)
        assert peer.connect(name, clean=False, properties=(("session_expiry", 600),)).session_present
        peer.close()
    publisher.close()
    all_there(new_client, server, [publisher])


def connect_with_will(peer, client_id):
    """A CONNECT of a session that is kept, with a large will that does not come yet."""
    peer.client_id = client_id
    will = Will("a", bytes(30_000), properties=(("will_delay", 600),))
    return wire.connect(V5, client_id, True, 60, will=will, properties=(("session_expiry", 600),))


def test_no_room_for_the_index(make_disk, make_server, new_client):
    """Index files cannot be written: publishers are served for a while, then refused with the
    reason; with room the index is sealed and they are served again."""
    disk = make_disk(96)
    server = make_server(data_dir=disk.path / "data", **MORE, **{"store.seal_entries": 1000})
    away = new_client("away", to=server, clean=False, expiry_s=600)
    away.subscribe_all([(name, 1) for name in ("a", "+", "#", "a/#", "+/#")])  # an entry in each
    away.disconnect()
    publisher = Publisher(server, V5, "a", 1, size=100)
    assert publisher.publish()
    ready_pool(server, 1)
    disk.fill()
    for _ in range(20_000):
        if not publisher.publish():
            break
    said = wait_until(lambda: not_ready(server), what="/readyz")
    assert "could not seal the index: No space left on device" in said, said
    assert publisher.refusal.reason == QUOTA
    assert len(publisher.acknowledged) > 300, "refused at once"
    disk.empty()
    wait_until(lambda: not not_ready(server), what="the server being ready")
    assert publisher.publish()
    wait_until(lambda: server.metrics()["tidemq_store_seals_total"] > 0, what="the index being sealed")
    server.restart(kill=True)
    publisher.close()
    all_there(new_client, server, [publisher])


def test_no_room_for_the_pool(make_disk, make_server):
    """Log files cannot be prepared: the log says so, publishers notice nothing as long as there is
    one; with room they are prepared again."""
    disk = make_disk(64)
    server = make_server(data_dir=disk.path / "data", **CONFIG)
    publisher = Publisher(server, V5, "a", 1)
    ready_pool(server, 1)
    disk.fill(leave=1 * MIB)
    while list((server.data_dir / "log").glob("free-*.seg")):  # until it is in use
        assert publisher.publish()
    wait_until(lambda: "could not prepare a log segment" in server.log, what="the log saying so")
    assert server.http("/readyz", token=False)[0] == 200
    assert publisher.publish()
    disk.empty()
    ready_pool(server, 1)
    for _ in range(600):
        assert publisher.publish()
    publisher.close()
