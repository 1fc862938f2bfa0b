"""A whole cluster on one machine: NameSrvs with a controller each, Broker groups in controller mode,
etcd members."""

import time

from etcd import Etcd, members_of
from remoting import ControllerClient, Refused
from rocketmq import Broker, NameSrv, controllers_of

PATIENCE_S = 180


class Cluster:
    """Servers of a group (process.Group); nothing runs before start()."""

    def __init__(self, group, *, namesrvs=3, broker_groups=2, replicas=2, etcds=3, version=None,
                 heap_mib=192, broker_config=None):
        options = {"version": version} if version else {}
        self.group = group
        self.controllers = controllers_of(namesrvs)
        self.namesrvs = [NameSrv(group.folder, f"namesrv-{index + 1}", controllers=self.controllers,
                                 index=index, **options) for index in range(namesrvs)]
        self.addresses = [namesrv.address for namesrv in self.namesrvs]
        names = [chr(ord("a") + index) for index in range(broker_groups)]
        self.brokers = {
            f"broker-{name}": [
                Broker(group.folder, f"broker-{name}-{number + 1}", group=f"broker-{name}",
                       namesrvs=self.addresses, controllers=self.controllers, heap_mib=heap_mib,
                       **options, **(broker_config or {})) for number in range(replicas)]
            for name in names}
        members = members_of(*(f"etcd-{index + 1}" for index in range(etcds))) if etcds else {}
        self.etcds = [Etcd(group.folder, name, members=members) for name in members]

    def start(self, replicas_in_sync=2):
        """Starts all, and waits until each group has a master and enough replicas in sync."""
        self.group.start(*self.namesrvs, *self.etcds)
        self.group.start(*(broker for group in self.brokers.values() for broker in group))
        for name in self.brokers:
            self.wait_for_replicas(name, min(replicas_in_sync, len(self.brokers[name])))

    def sync_state(self, name):
        """How the leading controller sees a group; None while none leads."""
        for namesrv in self.namesrvs:
            if namesrv.running:
                try:
                    with ControllerClient(namesrv.controller_address, 5) as client:
                        return client.sync_state([name]).get(name)
                except (OSError, Refused):
                    continue
        return None

    def wait_for_replicas(self, name, count, timeout_s=PATIENCE_S):
        """Waits until a group has a master and so many in sync, itself included."""
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.sync_state(name)
            if state and state.get("masterAddress") and len(state["inSyncReplicas"]) >= count:
                return state
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} has not {count} replicas in sync: {state}")
            time.sleep(0.1)

    def master_address(self, name):
        """Where a group's master is, as a NameSrv says; None while there is none."""
        for namesrv in self.namesrvs:
            if namesrv.running:
                try:
                    with namesrv.client() as client:
                        return client.brokers().get(name, {}).get(0)
                except (OSError, Refused):
                    continue
        return None

    def master(self, name):
        """The Broker that is its group's master now, and lives; None while there is none."""
        address = self.master_address(name)
        return next((broker for broker in self.brokers[name]
                     if broker.address == address and broker.running), None)
