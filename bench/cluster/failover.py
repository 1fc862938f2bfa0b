"""The master of a Broker group in controller mode is killed: what its promoted replica knows of
messages, consumer offsets and POP, with each way of keeping indexes and offsets."""

import time

import lab
from cluster import Cluster
from remoting import LMQ, BrokerClient, Refused

COUNT = 100
PATIENCE_S = 120
SYNC_S = 40  # a replica fetches offsets every ten seconds
NORMAL, LMQ_GROUP = "readers-1", f"{LMQ}CG"
QUEUE, POP_QUEUE, POP_GROUP = f"{LMQ}inbox", f"{LMQ}shared", "sharers"
KINDS = {"group on a topic": (NORMAL, lab.TOPIC, 0),
         "the same, queue 1,000,000, which there is not": (NORMAL, lab.TOPIC, 1_000_000),
         "group on an LMQ": (NORMAL, QUEUE, 0), "%LMQ% group on an LMQ": (LMQ_GROUP, QUEUE, 0)}
BOTH = (NORMAL, f"{LMQ}both", 0)  # stored at the replica, too
WAYS = (("default", "v1"), ("defaultRocksDB", "v1"), ("defaultRocksDB", "v2"))


def offset_of(client, group, queue, queue_id):
    """An offset as a number, or what stands in its place."""
    try:
        found = client.query_offset(group, queue, queue_id)
    except Refused as refused:
        return f"refused, {refused.code}"
    return "none" if found is None else found


def fill(client, name):
    """Messages, offsets, and a queue of which the first half was popped and acknowledged."""
    client.create_topic(lab.TOPIC, 1)
    for group in (NORMAL, POP_GROUP):
        client.create_group(group)
    for number in range(COUNT):
        client.send_message(lab.TOPIC, str(number).encode(),
                            {"INNER_MULTI_DISPATCH": f"{QUEUE},{POP_QUEUE}"})
    lab.drain(client, POP_QUEUE, COUNT)
    for group, queue, queue_id in KINDS.values():
        client.commit_offset(group, queue, COUNT - 10, queue_id)
    popped = client.pop(POP_QUEUE, POP_GROUP, name, count=COUNT // 4, invisible_ms=1_000)
    popped += client.pop(POP_QUEUE, POP_GROUP, name, count=COUNT // 4, invisible_ms=1_000)
    for one in popped[: COUNT // 4]:
        client.ack(one)
    return ({one.message.properties["UNIQ_KEY"] for one in popped[: COUNT // 4]},
            {one.message.properties["UNIQ_KEY"] for one in popped[COUNT // 4 :]})


def wait_for_sync(replica, wanted):
    """Waits until a replica knows the offset of a group on a topic, and stores one there.
    Returns what it knew of each kind before."""
    deadline = time.monotonic() + SYNC_S
    with replica.client(30) as client:
        while offset_of(client, *KINDS["group on a topic"]) != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(SYNC_S / 4)  # what comes in a later round of the same fetch
        known = [offset_of(client, *kind) for kind in KINDS.values()]
        try:
            client.commit_offset(*BOTH[:2], wanted, BOTH[2])
        except Refused as refused:
            lab.say("the replica refused to store an offset:", refused)
        time.sleep(SYNC_S / 2)  # would the next fetch take it away?
    return ", ".join(map(str, known))


def promoted_after(cluster, first, killed_at):
    """Sends until the new master acknowledges; returns it and the seconds that took."""
    while True:
        try:
            address = cluster.master_address("broker-a")
            if address and address != first.address:
                with BrokerClient(address, 5) as client:
                    client.send_message(lab.TOPIC, b"after", patience_s=1)
                return address, time.monotonic() - killed_at
        except (OSError, Refused):
            pass
        if time.monotonic() - killed_at > PATIENCE_S:
            raise TimeoutError("no new master")
        time.sleep(0.01)


def popped_again(client, acknowledged, waiting):
    """Of the acknowledged and the waiting messages, and of the rest, how many POP hands out."""
    seen, began = {}, time.monotonic()
    while time.monotonic() - began < 20:
        for one in client.pop(POP_QUEUE, POP_GROUP, "broker-a", invisible_ms=600_000, poll_ms=500):
            seen.setdefault(one.message.properties["UNIQ_KEY"], 0)
    rest = set(seen) - acknowledged - waiting
    return (f"{len(acknowledged & set(seen))} of {len(acknowledged)}",
            f"{len(waiting & set(seen))} of {len(waiting)}", f"{len(rest)} of {COUNT // 2}")


def one_way(store, config_version, version):
    """One failover. Returns its row."""
    with lab.servers() as group:
        cluster = Cluster(group, namesrvs=1, broker_groups=1, etcds=0, version=version,
                          broker_config={"storeType": store, "configManagerVersion": config_version})
        cluster.start()
        first = cluster.master("broker-a")
        with first.client(60) as client:
            acknowledged, waiting = fill(client, "broker-a")
        replica = next(broker for broker in cluster.brokers["broker-a"] if broker is not first)
        known = wait_for_sync(replica, COUNT - 10)
        killed_at = time.monotonic()
        first.kill()
        address, seconds = promoted_after(cluster, first, killed_at)
        with BrokerClient(address, 60) as client:
            complete = len(lab.drain(client, QUEUE, COUNT))
            offsets = [offset_of(client, *kind) for kind in (*KINDS.values(), BOTH)]
            pops = popped_again(client, acknowledged, waiting)
    return (version, store, config_version, known, f"{seconds:.1f}", f"{complete} of {COUNT}", *offsets, *pops)


def run(quick):
    """Prints the table."""
    rows = []
    for version in lab.jars.VERSIONS[: 1 if quick else 2]:
        for store, config_version in WAYS:
            rows.append(one_way(store, config_version, version))
            lab.say(*rows[-1])
    lab.table(f"kill -9 of a master, offsets of {COUNT - 10} stored before the replica's last fetch",
              ("version", "storeType", "configManagerVersion",
               "the four offsets at the replica before", "next acknowledgement after s",
               "messages in the LMQ",
               *(f"offset of {kind}" for kind in KINDS),
               "group on an LMQ, stored at the replica, too", "POP: acknowledged ones again",
               "waiting ones again", "untouched ones"), rows)
