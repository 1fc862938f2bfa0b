"""Devices with keys of their own: tokens, rotation, disabling, and what survives."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

import pytest
from client import Refused
from tidemq import run_serve

BAD_USER, NOT_AUTHORIZED, EXPIRED = 0x86, 0x87, 0xA0


def sas(device, key, lifetime_s=3600, resource=None, **change):
    """The token that a device makes."""
    sr = quote(resource or f"devices/{device}", safe="")
    se = str(int(time.time() + lifetime_s))
    digest = hmac.new(base64.b64decode(key), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    parts = {"sr": sr, "sig": quote(base64.b64encode(digest).decode(), safe=""), "se": se, **change}
    return "SharedAccessSignature " + "&".join(f"{k}={v}" for k, v in parts.items()
                                               if v is not None)


@pytest.fixture(name="home", scope="module")
def fixture_home(make_server_module):
    """A server for devices only."""
    return make_server_module(**{"auth.anonymous": False, "auth.chain": ["device"]})


@pytest.fixture(name="device")
def fixture_device(home, request):
    """A device of the test's own: its ID and primary key."""
    device = request.node.name
    shown = home.cli_json("device", "add", device)
    assert shown["Status"] == 1
    return device, shown["PrimaryKey"]


def test_a_device_connects(home, new_client, version, device):
    """Its client ID is its ID, and its user name too."""
    name, key = device
    client = new_client(name, to=home, version=version, user="whoever", password=sas(name, key))
    client.subscribe("a", 1)
    client.publish("a", b"x", 1)
    assert client.take().payload == b"x"
    assert home.cli_json("client", "show", name)["username"] == name
    assert new_client(name, to=home, version=version, user="u", password=sas(
        name, key, resource=f"host.example/devices/{name}")).connected


BAD = {
    "expired": lambda name, key: sas(name, key, -1),
    "wrong key": lambda name, key: sas(name, base64.b64encode(b"x" * 32)),
    "another device's": lambda name, key: sas("other", key),
    "longer name": lambda name, key: sas(name, key, resource=f"devices/x{name}"),
    "no folder": lambda name, key: sas(name, key, resource=name),
    "expiry changed": lambda name, key: sas(name, key, se="4000000000"),
    "no expiry": lambda name, key: sas(name, key, se=None),
    "no signature": lambda name, key: sas(name, key, sig=None),
    "empty signature": lambda name, key: sas(name, key, sig=""),
    "no resource": lambda name, key: sas(name, key, sr=None),
    "unknown field": lambda name, key: sas(name, key, x="1"),
    "prefix only": lambda name, key: "SharedAccessSignature ",
    "no token": lambda name, key: "password",
    "the key itself": lambda name, key: key,
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tokens(home, new_client, device, kind):
    """Each is refused, and no key is in the log."""
    name, key = device
    with pytest.raises(Refused) as refused:
        new_client(name, to=home, user="u", password=BAD[kind](name, key))
    assert refused.value.reason == BAD_USER
    assert key not in home.log


def test_strangers(home, new_client, device):
    """Another client ID, none, no password."""
    name, key = device
    for client_id in ("stranger", ""):
        with pytest.raises(Refused) as refused:
            new_client(client_id, to=home, user="u", password=sas(name, key))
        assert refused.value.reason == BAD_USER
    with pytest.raises(Refused) as refused:
        new_client(name, to=home)
    assert refused.value.reason == NOT_AUTHORIZED


def test_the_end_of_a_token(home, new_client, version, device):
    """The link ends with it."""
    name, key = device
    client = new_client(name, to=home, version=version, user="u", password=sas(name, key, 2))
    reason = client.closed()
    assert version != 5 or reason == EXPIRED


@pytest.mark.parametrize("how", ["disable", "remove"])
def test_disabling_ends_links(home, new_client, version, device, how):
    """At once, and it cannot come back until it is enabled or added again."""
    name, key = device
    client = new_client(name, to=home, version=version, user="u", password=sas(name, key))
    home.cli("device", how, name)
    reason = client.closed()
    assert version != 5 or reason == NOT_AUTHORIZED
    with pytest.raises(Refused) as refused:
        new_client(name, to=home, version=version, user="u", password=sas(name, key))
    assert refused.value.reason == BAD_USER
    if how == "disable":
        assert "disabled" in home.cli("device", "show", name).stdout
        home.cli("device", "enable", name)
        assert new_client(name, to=home, version=version, user="u",
                          password=sas(name, key)).connected


def test_rotation(home, new_client, device):
    """The old key goes on working until the next rotation; links stay."""
    name, first = device
    client = new_client(name, to=home, user="u", password=sas(name, first))
    second = home.cli_json("device", "rotate", name)["PrimaryKey"]
    assert second != first
    client.subscribe("a", 1)
    for key in (first, second):
        assert new_client(name, to=home, user="u", password=sas(name, key)).connected
    shown = home.cli_json("device", "rotate", name)
    assert shown["SecondaryKey"] == second
    with pytest.raises(Refused):
        new_client(name, to=home, user="u", password=sas(name, first))
    assert new_client(name, to=home, user="u", password=sas(name, second)).connected


def test_devices_survive(make_server, new_client, tmp_path):
    """kill -9, with keys of one's own; only the commands that say so show keys."""
    server = make_server(**{"auth.anonymous": False, "auth.chain": ["device"]})
    key = base64.b64encode(b"k" * 16).decode()
    (tmp_path / "key").write_text(key + "\n")
    server.cli("device", "add", "mine", "--primary-key-file", tmp_path / "key")
    server.cli("device", "add", "off", "--disabled")
    server.cli("device", "add", "gone")
    server.cli("device", "remove", "gone")
    server.restart(kill=True)
    rows = server.cli_json("device", "list")
    assert [(row["id"], row["enabled"]) for row in rows] == [("mine", True), ("off", False)]
    assert key not in server.cli("device", "list").stdout + server.cli("device", "show", "mine").stdout
    assert key in server.cli("device", "show", "mine", "--keys").stdout
    assert new_client("mine", to=server, user="u", password=sas("mine", key)).connected
    for args in (("show", "gone"), ("enable", "gone"), ("remove", "gone"), ("add", "mine"),
                 ("add", "bad\nname")):
        assert server.cli("device", *args, check=False).returncode == 1


def test_the_api(home):
    """As Tencent Cloud's: created, described, listed, changed, deleted."""
    keys = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3)]
    assert "Error" not in home.action("CreateDeviceIdentity", DeviceId="api", Status="INACTIVE",
                                      PrimaryKey=keys[0], SecondaryKey=keys[1])
    row = home.action("DescribeDeviceIdentity", DeviceId="api")
    assert (row["Status"], row["PrimaryKey"], row["SecondaryKey"]) == (2, keys[0], keys[1])
    assert "Error" not in home.action("ModifyDeviceIdentity", DeviceId="api", Status="ACTIVE",
                                      SecondaryKey=keys[2])
    listed = home.action("DescribeDeviceIdentities", Limit=100)
    row = next(row for row in listed["Data"] if row["DeviceId"] == "api")
    assert (row["Status"], row["PrimaryKey"], row["SecondaryKey"]) == (1, keys[0], keys[2])
    assert listed["TotalCount"] == len(listed["Data"])
    one = home.action("DescribeDeviceIdentities", Limit=1, Offset=listed["TotalCount"] - 1)["Data"]
    assert one == listed["Data"][-1:]
    assert "Error" not in home.action("DeleteDeviceIdentity", DeviceId="api")
    for action, params, code in (
            ("DescribeDeviceIdentity", {"DeviceId": "api"}, "ResourceNotFound"),
            ("ModifyDeviceIdentity", {"DeviceId": "api"}, "ResourceNotFound"),
            ("DeleteDeviceIdentity", {"DeviceId": "api"}, "ResourceNotFound"),
            ("CreateDeviceIdentity", {}, "MissingParameter"),
            ("CreateDeviceIdentity", {"DeviceId": ""}, "InvalidParameterValue"),
            ("CreateDeviceIdentity", {"DeviceId": "x" * 257}, "InvalidParameterValue"),
            ("CreateDeviceIdentity", {"DeviceId": "x", "Status": "ON"}, "InvalidParameterValue"),
            ("CreateDeviceIdentity", {"DeviceId": "x", "PrimaryKey": "x"}, "InvalidParameterValue"),
            *(("CreateDeviceIdentity", {"DeviceId": "x", "PropagatingProperties": wrong},
               "InvalidParameterValue") for wrong in (
                   "a", [{"Key": "a"}], [{"Key": "", "Value": "b"}], [{"Key": "a", "Value": 1}], ["a"],
                   [{"Key": "a", "Value": "b"}] * 11, [{"Key": "a", "Value": "b" * 4096}]))):
        assert home.action(action, **params)["Error"]["Code"] == code
    assert home.http("/v1/devices", token=False)[0] == 401
    assert home.http("/v1/devices/api")[0] == 404
    assert all(key not in home.log for key in keys)


def properties_of(message):
    """The user properties that came with it."""
    return getattr(message.properties, "UserProperty", [])


def test_propagating_properties(make_server, new_client, version):
    """What a device publishes, wills too, goes on with its properties behind those of its own; a change
    reaches who is connected, and nobody else's messages have them."""
    server = make_server()
    tags = [("grey", "2"), ("grey", "3"), ("site", "north")]
    listed = [{"Key": key, "Value": value} for key, value in tags]
    server.action("CreateDeviceIdentity", DeviceId="old", PropagatingProperties=listed)
    server.action("CreateDeviceIdentity", DeviceId="plain")
    assert server.action("DescribeDeviceIdentity", DeviceId="old")["PropagatingProperties"] == listed
    assert server.action("DescribeDeviceIdentities")["Data"][0]["PropagatingProperties"] == listed
    reader = new_client(to=server)
    reader.subscribe("t/#", 2)
    device = new_client("old", to=server, version=version, will={"topic": "t/will", "payload": b"w", "qos": 1})
    for qos in (0, 1, 2):
        device.publish("t/a", b"x", qos, retain=qos == 1)
        assert properties_of(reader.take()) == tags
    if version == 5:
        device.publish("t/a", b"x", 1, UserProperty=[("own", "1")], ContentType="text/plain")
        message = reader.take()
        assert properties_of(message) == [("own", "1"), *tags]
        assert message.properties.ContentType == "text/plain"
    for other in ("plain", "nobody"):
        new_client(other, to=server, version=version).publish("t/a", b"x", 1)
        assert properties_of(reader.take()) == []
    late = new_client(to=server)
    late.subscribe("t/#", 1)
    assert properties_of(late.take()) == tags, "the retained message"
    old = new_client(to=server, version=4)
    old.subscribe("t/#", 1)
    assert old.take().payload == b"x"
    server.action("ModifyDeviceIdentity", DeviceId="old", Status="INACTIVE")
    device.publish("t/a", b"x", 1)
    assert properties_of(reader.take()) == []
    device.drop()
    will = reader.take()
    assert will.topic == "t/will" and properties_of(will) == []
    server.action("ModifyDeviceIdentity", DeviceId="old", Status="ACTIVE",
                  PropagatingProperties=[{"Key": "grey", "Value": "4"}])
    server.restart(kill=True)
    reader = new_client(to=server)
    reader.subscribe("t/b", 1)
    device = new_client("old", to=server, version=version, will={"topic": "t/b", "payload": b"w", "qos": 1})
    device.publish("t/b", b"x", 1)
    assert properties_of(reader.take()) == [("grey", "4")]
    device.drop()
    assert properties_of(reader.take()) == [("grey", "4")], "the will"
    device = new_client("old", to=server, version=version)
    server.action("ModifyDeviceIdentity", DeviceId="old", PropagatingProperties=[])
    device.publish("t/b", b"x", 1)
    assert properties_of(reader.take()) == []


def test_devices_beside_others(make_server, new_client, tmp_path):
    """Without a chain, the first device changes nothing for anybody else."""
    server = make_server()
    assert new_client(to=server, user="any", password="SharedAccessSignature x").connected
    key = server.cli_json("device", "add", "d")["PrimaryKey"]
    assert new_client("d", to=server, user="u", password=sas("d", key)).connected
    assert new_client(to=server).connected and new_client(to=server, user="any", password="x").connected
    with pytest.raises(Refused):
        new_client("d", to=server, user="u", password=sas("d", key, -1))
    only = ("--check", "--set", "auth.anonymous=false", "--set", f"data_dir={tmp_path}")
    assert run_serve(*only).returncode == 2
    assert run_serve(*only, "--set", "auth.chain=[device]").returncode == 0
