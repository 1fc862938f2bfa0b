"""Configuration: sources and their order, mistakes and their one sentence, reloading."""

import re
import signal
import subprocess

import pytest
from test_access import set_password
from tidemq import BINARY, clean_environment, run_serve, wait_until


def check(tmp_path, text, *args, env=None):
    """`serve --check` with this file."""
    path = tmp_path / "tidemq.yaml"
    path.write_text(text)
    return run_serve("--config", path, "--check", *args, env=env)


MISTAKES = [
    ("unknown key", "topics:\n  auto_creat: true\n", 2, ["topics.auto_creat", "topics.auto_create"]),
    ("wrong type", "topics:\n  auto_create: perhaps\n", 2, ["topics.auto_create", "true or false"]),
    ("not a number", "limits:\n  receive_maximum: many\n", 2, ["limits.receive_maximum", "65535"]),
    ("out of range", "# one\nlimits:\n\n  receive_maximum: 0\n", 4, ["limits.receive_maximum", "1"]),
    ("bad size", "limits.max_packet_size: 1XB\n", 1, ["limits.max_packet_size", "KiB"]),
    ("bad duration", "retention: {time: soon}\n", 1, ["retention.time", "3d"]),
    ("bad choice", "sessions:\n  duplicate_client_id: both\n", 2,
     ["sessions.duplicate_client_id", "takeover", "reject"]),
    ("bad listener", "listeners:\n  - http://127.0.0.1:1883\n", 1, ["listeners", "mqtt://HOST:PORT"]),
    ("list wanted", "listeners: {a: b}\n", 1, ["listeners"]),
    ("scalar wanted", "data_dir: [a, b]\n", 1, ["data_dir"]),
    ("twice", "data_dir: a\ndata_dir: b\n", 2, ["data_dir"]),
    ("bad filter", "topics:\n  deny_subscribe: ['a/#/b']\n", 2, ["topics.deny_subscribe", "a/#/b"]),
    ("impossible together", "retention: {bytes: 8MiB}\n", 1, ["retention.bytes", "segment_size"]),
    ("engine of the future", "store: 'rocketmq:127.0.0.1:9876'\n", 1, ["store", "local or mem"]),
    ("not YAML", "a: [b\n", None, []),
]


@pytest.mark.parametrize("row", MISTAKES, ids=lambda row: row[0])
def test_mistakes(tmp_path, row):
    """One sentence that names file, line, key and what is allowed; exit code 2."""
    _, text, line, words = row
    run = check(tmp_path, text)
    assert run.returncode == 2, run
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert str(tmp_path / "tidemq.yaml") in run.stderr
    if line is not None:
        assert re.search(rf"(tidemq\.yaml:|line ){line}\b", run.stderr), run.stderr
    for word in words:
        assert word in run.stderr


def test_mistakes_in_arguments_and_environment(tmp_path):
    """The same for --set and TIDEMQ_ variables, which are named as they were given."""
    run = run_serve("--check", "--set", "limits.receive_maximum=x")
    assert run.returncode == 2 and "limits.receive_maximum" in run.stderr and "--set" in run.stderr
    run = run_serve("--check", "--set", "no.such.key=1")
    assert run.returncode == 2 and "no.such.key" in run.stderr
    run = run_serve("--check", env={"TIDEMQ_RETENTION_TIME": "soon"})
    assert run.returncode == 2 and "TIDEMQ_RETENTION_TIME" in run.stderr
    run = run_serve("--check", env={"TIDEMQ_NO_SUCH_KEY": "1"})
    assert "TIDEMQ_NO_SUCH_KEY" in run.stderr
    run = run_serve("--check", env={"TIDEMQ_ADMIN": "http://127.0.0.1:18080", "TIDEMQ_ADMI": "x"})
    assert "TIDEMQ_ADMI is" in run.stderr, "only the other commands' own variable is known"
    assert "TIDEMQ_ADMIN is" not in run.stderr
    run = run_serve("--config", tmp_path / "missing.yaml", "--check")
    assert run.returncode == 2 and "missing.yaml" in run.stderr and "No such file" in run.stderr


def test_sound(tmp_path):
    """A sound file says so; an empty one is sound."""
    text = "topics: {auto_create: true}\nlimits.receive_maximum: 10\nlisteners: [mqtt://127.0.0.1:0]\n"
    assert check(tmp_path, text).returncode == 0
    assert check(tmp_path, "").returncode == 0
    assert check(tmp_path, "store: {engine: local, segment_size: 1MiB}\n").returncode == 0


def test_order_of_sources(make_server, new_client, tmp_path):
    """--set wins over the environment, and that over the file."""
    path = tmp_path / "tidemq.yaml"
    path.write_text("limits: {receive_maximum: 10, max_packet_size: 10KiB, topic_alias_max: 10}\n")
    server = make_server(
        config_file=path,
        env={"TIDEMQ_LIMITS_MAX_PACKET_SIZE": "20KiB", "TIDEMQ_LIMITS_TOPIC_ALIAS_MAX": "20"},
        **{"limits.topic_alias_max": 30},
    )
    granted = new_client(to=server).granted
    assert (granted.ReceiveMaximum, granted.MaximumPacketSize, granted.TopicAliasMaximum) == (
        10, 20 * 1024, 30)


def test_help_lists_every_key():
    """--help shows each key of the reference with its default."""
    text = run_serve("--help").stdout
    page = subprocess.run([str(BINARY), "config", "reference"], capture_output=True, text=True,
                          check=True, env=clean_environment()).stdout
    keys = re.findall(r"^### `([a-z0-9_.]+)`$", page, re.M)
    assert len(keys) > 40
    for key in keys:
        assert f"  {key} = " in text, key
    for key in ("data_dir", "listeners", "admin.listen", "topics.auto_create", "auth.anonymous",
                "sessions.duplicate_client_id", "memory.limit", "retention.time", "retention.bytes",
                "store", "meta", "limits.keep_alive_max", "limits.receive_maximum",
                "limits.max_inflight", "limits.max_packet_size", "limits.max_connections",
                "sessions.expiry_max", "topics.deny_subscribe", "store.segment_size"):
        assert key in keys


@pytest.fixture(name="reloading")
def fixture_reloading(make_server, tmp_path):
    """A server with a file that the test rewrites, and a way to send SIGHUP and wait for it."""
    path = tmp_path / "tidemq.yaml"
    path.write_text("limits: {receive_maximum: 10}\n")
    server = make_server(config_file=path)

    def reload(text):
        path.write_text(text)
        done = server.log.count("reloaded")
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.log.count("reloaded") > done, what="the reload")
        return server.log.splitlines()[-1]

    return server, reload


def test_reload(reloading, new_client):
    """SIGHUP changes what can be changed, for new connections, without dropping old ones."""
    server, reload = reloading
    old = new_client(to=server)
    reload("limits: {receive_maximum: 20}\ntopics: {deny_subscribe: ['secret/#']}\n")
    new = new_client(to=server)
    assert (old.granted.ReceiveMaximum, new.granted.ReceiveMaximum) == (10, 20)
    assert old.connected and old.subscribe("secret/a", 1) == 0x87


def test_reload_is_all_or_nothing(reloading, new_client):
    """A mistake, or a key that needs a restart, changes nothing; the log says why."""
    server, reload = reloading
    reload("limits: {receive_maximum: 20}\nno_such_key: 1\n")
    assert new_client(to=server).granted.ReceiveMaximum == 10
    assert "no_such_key" in server.log
    reload("limits: {receive_maximum: 20}\nretention: {time: 1d}\n")
    assert new_client(to=server).granted.ReceiveMaximum == 10
    assert "retention.time cannot change" in server.log
    reload("limits: {receive_maximum: 30}\n")
    assert new_client(to=server).granted.ReceiveMaximum == 30


def test_reload_of_passwords(make_server, new_client, tmp_path):
    """A new user can connect after SIGHUP; a file that has become unreadable changes nothing."""
    path = tmp_path / "passwords"
    set_password(path, "one", "1")
    server = make_server(**{"auth.anonymous": False, "auth.password_file": path})
    set_password(path, "two", "2")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log, what="the reload")
    assert new_client(to=server, user="two", password="2").connected
    path.write_text("broken\n")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in server.log, what="the refused reload")
    assert new_client(to=server, user="one", password="1").connected


def test_usage(tmp_path):
    """Wrong arguments: one sentence and exit code 2; help for each command."""
    for args in (["serve", "--nonsense"], ["nonsense"], ["topic", "nonsense"], ["topic", "create"]):
        run = subprocess.run([str(BINARY), *args], capture_output=True, text=True, cwd=tmp_path,
                             env=clean_environment(), timeout=20, check=False)
        assert run.returncode == 2 and run.stderr.startswith("tidemq: "), (args, run)
    for args in (["--help"], ["serve", "--help"], ["topic", "--help"], ["client", "--help"],
                 ["status", "--help"], ["store", "--help"], ["password", "--help"]):
        run = subprocess.run([str(BINARY), *args], capture_output=True, text=True, cwd=tmp_path,
                             env=clean_environment(), timeout=20, check=False)
        assert run.returncode == 0 and "Usage" in run.stdout, (args, run)
    version = subprocess.run([str(BINARY), "--version"], capture_output=True, text=True, check=True)
    assert re.match(r"(?i)tidemq \d+\.\d+", version.stdout)
