"""Real Apache RocketMQ servers: NameSrv, with or without a controller, and Broker.

A Broker is plain (a master of its own), or one of a group in controller mode, where the controller
says who is master. Small heaps; LMQs on; consume queues and offsets in RocksDB, because a file per
LMQ does not scale.
"""

import pathlib

import jars
from process import Process, free_ports
from remoting import BrokerClient, NameSrvClient, Refused

CONF = pathlib.Path(__file__).resolve().parent / "conf"
MIB = 1 << 20
# The JVM: quick to start, little memory, the doors that RocketMQ needs in JDK 17.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1",
        "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
        "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
        "--add-opens=java.base/java.lang=ALL-UNNAMED"]
BROKER_DEFAULTS = {
    "brokerClusterName": "DefaultCluster", "brokerIP1": "127.0.0.1", "brokerIP2": "127.0.0.1",
    "flushDiskType": "ASYNC_FLUSH", "autoCreateTopicEnable": False,
    "autoCreateSubscriptionGroup": True, "enableLmq": True, "enableMultiDispatch": True,
    "storeType": "defaultRocksDB", "configManagerVersion": "v2",
    "mappedFileSizeCommitLog": 64 * MIB, "mappedFileSizeConsumeQueue": 60000,
    "timerWheelEnable": True,  # POP is refused without it
    "mappedFileSizeTimerLog": 1 * MIB, "timerWheelSlots": 3600, "diskMaxUsedSpaceRatio": 95,
    "waitTimeMillsInSendQueue": 2000,  # else a busy machine answers SYSTEM_BUSY
}


class RocketmqProcess(Process):
    """What both kinds of server share. `config` goes into the file that the server reads."""

    MAIN_CLASS = None

    def __init__(self, folder, name, config, heap_mib, version, java_options=()):
        super().__init__(folder, name)
        self.config, self.heap_mib, self.version = dict(config), heap_mib, version
        self.java_options = list(java_options)
        self.address = None

    def command(self):
        memory = [f"-Xms{self.heap_mib // 2}m", f"-Xmx{self.heap_mib}m",
                  f"-XX:MaxDirectMemorySize={self.heap_mib}m"]
        return [*JAVA, *memory, f"-Duser.home={self.folder}", *self.java_options,
                "-cp", f"{CONF}:{jars.library(self.version)}/*", self.MAIN_CLASS,
                "-c", self.folder / "server.conf"]

    def environment(self):
        return {"ROCKETMQ_HOME": str(self.folder)}

    def prepare(self):
        lines = [f"{key}={str(value).lower() if isinstance(value, bool) else value}\n"
                 for key, value in self.config.items()]
        (self.folder / "server.conf").write_text("".join(lines), encoding="utf-8")


class NameSrv(RocketmqProcess):
    """A NameSrv. `controllers`, a list of "id-host:port" (see controllers_of), makes it one of those,
    the one with number `index`."""

    MAIN_CLASS = "org.apache.rocketmq.namesrv.NamesrvStartup"
    READY_LINE = "The Name Server boot success"

    def __init__(self, folder, name="namesrv", *, controllers=(), index=0, version=jars.NEWEST,
                 heap_mib=96, **config):
        port = free_ports()
        own = {"listenPort": port, "bindAddress": "127.0.0.1"}
        super().__init__(folder, name, {**own, **config}, heap_mib, version)
        self.address = f"127.0.0.1:{port}"
        self.controller_address = None
        if controllers:
            self.controller_address = controllers[index].partition("-")[2]
            self.config.update({
                "enableControllerInNamesrv": True, "controllerDLegerGroup": "controllers",
                "controllerDLegerPeers": ";".join(controllers),
                "controllerDLegerSelfId": controllers[index].partition("-")[0],
                "controllerStorePath": self.folder / "controller", "mappedFileSize": 16 * MIB,
                "enableElectUncleanMaster": False})

    def ready(self):
        try:
            with NameSrvClient(self.address, 2) as client:
                client.brokers()
        except (OSError, Refused):
            return False
        return True

    def client(self):
        """A new connection."""
        return NameSrvClient(self.address)


def controllers_of(count):
    """Addresses for controllers, as NameSrv takes them."""
    return [f"n{index}-127.0.0.1:{free_ports()}" for index in range(count)]


class Broker(RocketmqProcess):
    """A Broker. `controllers` as in NameSrv puts it into controller mode."""

    MAIN_CLASS = "org.apache.rocketmq.broker.BrokerStartup"
    READY_LINE = r"The broker\[.*boot success"

    def __init__(self, folder, name="broker-a", *, namesrvs, controllers=(), group=None,
                 version=jars.NEWEST, heap_mib=256, java_options=(), **config):
        port = free_ports(4) + 2  # two below is a second listener, one above serves replicas
        store = pathlib.Path(folder) / name / "store"
        own = {"brokerName": group or name, "listenPort": port, "haListenPort": port + 1,
               "namesrvAddr": ";".join(namesrvs), "storePathRootDir": store,
               "storePathCommitLog": store / "commitlog", "brokerId": 0,
               "brokerRole": "ASYNC_MASTER"}
        if controllers:
            addresses = [controller.partition("-")[2] for controller in controllers]
            own.update({"brokerId": -1, "brokerRole": "SLAVE", "enableControllerMode": True,
                        "controllerAddr": ";".join(addresses), "allAckInSyncStateSet": True})
        super().__init__(folder, name, {**BROKER_DEFAULTS, **own, **config}, heap_mib, version,
                         java_options)
        self.group, self.namesrvs = group or name, list(namesrvs)
        self.address = f"127.0.0.1:{port}"

    def ready(self):
        """The first NameSrv that answers knows it."""
        for namesrv in self.namesrvs:
            try:
                with NameSrvClient(namesrv, 2) as client:
                    return self.address in client.brokers().get(self.group, {}).values()
            except (OSError, Refused):
                continue
        return False

    def client(self, timeout_s=15):
        """A new connection."""
        return BrokerClient(self.address, timeout_s)
