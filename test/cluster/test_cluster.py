"""Controller mode: a master dies, a controller dies, nothing acknowledged is lost. And `make cluster`."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from cluster import Cluster
from process import is_free
from remoting import BrokerClient, ControllerClient, NameSrvClient, Refused

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_S = 240


def send_until_acknowledged(cluster, name, topic, body):
    """Sends to a group's master of the moment, again and again; returns the master's address."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        address = cluster.master_address(name)
        try:
            with BrokerClient(address, timeout_s=5) as client:
                client.send_message(topic, body, {"INNER_MULTI_DISPATCH": "%LMQ%all"})
            return address
        except (OSError, Refused, AttributeError):  # no master, dead, or one that is replaced
            assert time.monotonic() < deadline, f"{name} takes no messages"
            time.sleep(0.05)


@pytest.mark.timeout(600)
def test_a_master_and_a_controller_die(servers):
    """The replica is promoted while two of three controllers live, and has all that was acknowledged;
    the old master comes back as a replica."""
    cluster = Cluster(servers, broker_groups=1, etcds=0)
    cluster.start()
    first = cluster.master("broker-a")
    with first.client() as client:
        client.create_topic("t", 1)
        for number in range(50):
            client.send_message("t", str(number).encode(), {"INNER_MULTI_DISPATCH": "%LMQ%all"})
    with ControllerClient(cluster.namesrvs[0].controller_address) as client:
        leader = client.metadata()["controllerLeaderAddress"]
    next(one for one in cluster.namesrvs if one.controller_address == leader).kill()
    cluster.wait_for_replicas("broker-a", 2)  # another controller leads
    first.kill()
    second = send_until_acknowledged(cluster, "broker-a", "t", b"50")
    assert second != first.address
    first.start()
    cluster.wait_for_replicas("broker-a", 2)
    assert cluster.master_address("broker-a") == second
    send_until_acknowledged(cluster, "broker-a", "t", b"51")
    with BrokerClient(second) as client:
        for queue in ("t", "%LMQ%all"):
            deadline = time.monotonic() + PATIENCE_S
            while len(found := client.pull_all(queue)) < 52 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert {message.body for message in found} == {str(number).encode() for number in range(52)}


def running_in(folder):
    """Processes whose command line names a folder."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if folder.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has just ended
    return found


def read_until(process, pattern):
    """The output of a process up to a line that matches."""
    text = ""
    while not re.search(pattern, text):
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}: {text}"
        text += line
    return text


@pytest.mark.timeout(600)
def test_the_command(name):
    """It prints addresses that serve, tells of a killed server, and leaves nothing behind."""
    with subprocess.Popen([sys.executable, str(ROOT / "tools" / "cluster.py")], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        try:
            text = read_until(process, "Ctrl-C ends")
            folder = re.search(r"Starting in (\S+)", text)[1]
            assert len(running_in(folder)) == 10
            namesrvs = re.findall(r"NameSrv +(\S+)", text)
            masters = dict(re.findall(r"Broker (\S+) master +(\S+)", text))
            assert (len(namesrvs), set(masters)) == (3, {"broker-a", "broker-b"})
            assert len(re.findall(r"Broker \S+ replica", text)) == 2
            assert len(re.findall(r"etcd +http", text)) == 3
            for address in masters.values():
                with BrokerClient(address) as client:
                    client.create_topic(name)
                    client.send_message(name, b"to each")
                    assert [message.body for message in client.pull_all(name)] == [b"to each"]
            for address in namesrvs:
                with NameSrvClient(address) as client:
                    brokers = {data["brokerName"] for data in client.route(name)["brokerDatas"]}
                    assert brokers == set(masters)
            ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", text)]
            assert len(ports) == 3 * 2 + 4 + 3 and not any(map(is_free, ports))
            os.killpg(process.pid, signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(PATIENCE_S) == 0 and "All servers have ended." in rest
        finally:
            process.kill()
    assert running_in(folder) == [] and not pathlib.Path(folder).exists()
    assert all(map(is_free, ports))


def test_the_command_dies_with_its_servers():
    """SIGKILL while it starts: its servers end with it."""
    with subprocess.Popen([sys.executable, str(ROOT / "tools" / "cluster.py")], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        folder = re.search(r"Starting in (\S+)", read_until(process, "Starting in"))[1]
        deadline = time.monotonic() + PATIENCE_S
        while not running_in(folder):
            assert time.monotonic() < deadline, "it started nothing"
            time.sleep(0.02)
        process.kill()
        process.wait()
    while running_in(folder):
        assert time.monotonic() < deadline, "its servers outlive it"
        time.sleep(0.02)
    for path in sorted(pathlib.Path(folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    pathlib.Path(folder).rmdir()
