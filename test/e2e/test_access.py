"""Who may connect: anonymous clients, passwords, listeners."""

import shlex
import socket
import subprocess

import pytest
from client import Client, Refused
from tidemq import BINARY, Server, StartFailed, clean_environment, run_serve, wait_until

BAD_USER, NOT_AUTHORIZED = 0x86, 0x87
# "swordfish", as `htpasswd -B` and `openssl passwd -6` write it.
OTHERS = {
    "bcrypt": "$2y$06$vlwgs4Theh9jNi/3SYq2T.kLLU32NxZOy23alZP3KPoS.aNIOaymy",
    "sha512": "$6$Zq8mKfYw$XAxsLirTgCBCiPwu2P9Sdjc50S.zk24CPJzw667TeuSLu9/dxNFa0bbLw/iCAX0f.avIpnd/PuOfeSIaYpIhO.",
}


def set_password(path, user, password):
    """tidemq password set."""
    return subprocess.run([str(BINARY), "password", "set", str(path), user], input=password + "\n",
                          text=True, check=True, capture_output=True, env=clean_environment())


@pytest.fixture(name="passwords", scope="module")
def fixture_passwords(tmp_path_factory):
    """A file with one user of our own, one of mosquitto_passwd, and those of other programs."""
    path = tmp_path_factory.mktemp("users") / "passwords"
    set_password(path, "ours", "Open Sesame \u00e9")
    subprocess.run(["mosquitto_passwd", "-b", str(path), "theirs", "swordfish"], check=True,
                   capture_output=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(f"{name}:{line}\n" for name, line in OTHERS.items())
    return path


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(make_server_module, passwords):
    """A server that wants a password."""
    return make_server_module(**{"auth.anonymous": False, "auth.password_file": passwords})


def test_hashes(passwords):
    """New hashes are argon2id, imported ones stay; the file is its owner's only."""
    text = passwords.read_text()
    assert "ours:$argon2id$" in text and "theirs:$7$" in text
    assert "Sesame" not in text
    assert passwords.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "who", [("ours", "Open Sesame \u00e9"), *((name, "swordfish") for name in ("theirs", *OTHERS))],
    ids=lambda who: who[0],
)
def test_password(guarded, new_client, version, who):
    """All kinds of hash let in."""
    client = new_client(to=guarded, version=version, user=who[0], password=who[1])
    client.subscribe("a", 1)
    client.publish("a", b"x", 1)
    assert client.take().payload == b"x"
    assert guarded.cli_json("client", "show", client.client_id)["username"] == who[0]


@pytest.mark.parametrize("who", [("ours", "wrong"), ("theirs", "wrong"), ("bcrypt", "Swordfish"), ("sha512", "x"), ("nobody", "x"), ("ours", ""),
                                 (None, None)], ids=str)
def test_refused(guarded, new_client, version, who):
    """Wrong, unknown, missing: all refused."""
    with pytest.raises(Refused) as refused:
        new_client(to=guarded, version=version, user=who[0], password=who[1])
    # paho gives the return codes of 3.1.1 as the reason codes of 5.0 that mean the same.
    assert refused.value.reason in (BAD_USER, NOT_AUTHORIZED)


def test_no_secrets_in_the_log(guarded):
    """Passwords and payloads never reach the log."""
    with pytest.raises(Refused):
        Client(guarded, user="ours", password="very-secret-word").connect()
    assert "very-secret-word" not in guarded.log and "swordfish" not in guarded.log


def test_anonymous_beyond_loopback(tmp_path):
    """Beyond loopback anonymous access must be switched on explicitly."""
    args = ("--check", "--set", "listeners=[mqtt://0.0.0.0:0]", "--set", f"data_dir={tmp_path}")
    refused = run_serve(*args)
    assert refused.returncode == 2
    assert "listeners" in refused.stderr and "auth.anonymous" in refused.stderr
    assert run_serve(*args, "--set", "auth.anonymous=true").returncode == 0


def test_auto_is_anonymous_on_loopback_only_without_passwords(make_server, new_client, passwords):
    """The default lets local clients in; a password file ends that."""
    assert new_client(to=make_server(**{"auth.anonymous": "auto"})).connected
    server = make_server(**{"auth.anonymous": "auto", "auth.password_file": passwords})
    with pytest.raises(Refused):
        new_client(to=server)
    assert new_client(to=server, user="ours", password="Open Sesame \u00e9").connected


def test_broken_password_file(make_server, tmp_path):
    """A file that cannot be read stops the start with its name and line."""
    path = tmp_path / "passwords"
    path.write_text("fine:$7$101$" + "A" * 16 + "$" + "B" * 88 + "\nnonsense\n")
    path.chmod(0o600)
    with pytest.raises(StartFailed, match=r"passwords.*(:|line )2"):
        make_server(**{"auth.password_file": path})


def test_listeners(make_server, new_client, tmp_path):
    """IPv4, IPv6 and a Unix socket at once; a message goes from one to the others."""
    path = tmp_path / "mqtt.sock"
    server = make_server(listeners=["mqtt://127.0.0.1:0", "mqtt://[::1]:0", f"mqtt+unix:{path}"])
    urls = server.config["listeners"]
    assert len(urls) == 3 and urls[2] == f"mqtt+unix:{path}"
    port6 = int(urls[1].rsplit(":", 1)[1])
    v4 = new_client(to=server)
    v6 = new_client(to=server, host="::1", port=port6)
    v4.subscribe("a", 1)
    v6.subscribe("a", 1)
    run = subprocess.run(["mosquitto_pub", "--unix", str(path), "-q", "1", "-t", "a", "-m", "unix"],
                         capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 0, run.stderr
    assert v4.take().payload == b"unix" and v6.take().payload == b"unix"
    server.stop()
    assert not path.exists()


def test_stale_unix_socket(make_server, tmp_path):
    """A socket left by kill -9 does not stop the next start."""
    path = tmp_path / "mqtt.sock"
    server = make_server(listeners=[f"mqtt+unix:{path}"])
    server.restart(kill=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))


def test_port_in_use(make_server):
    """A port that is taken stops the start with one sentence that names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=f"{port}.*in use"):
            make_server(listeners=[f"mqtt://127.0.0.1:{port}"])


@pytest.mark.parametrize("files, connections", [(2000, 2000 - 512), (600, 300)])
def test_limit_of_connections_follows_the_files(tmp_path, files, connections):
    """By default the process's limit decides, without a warning; one set too large is warned of."""
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -n {files}\nexec {shlex.quote(str(BINARY))} "$@"\n')
    limited.chmod(0o755)
    for wanted in (None, 5000):
        server = Server(tmp_path, {"limits.max_connections": wanted}, binary=limited).start()
        try:
            row = server.action("DescribeInstance")
            assert row["ClientNumLimit"] == (wanted or connections)
            assert ("may open only" in server.log) == (wanted is not None)
        finally:
            server.kill()


def test_limit_of_connections(make_server, new_client):
    """limits.max_connections: the one too many is refused and counted; room is used again."""
    server = make_server(**{"limits.max_connections": 2})
    first, second = new_client(to=server), new_client(to=server)
    with pytest.raises((Refused, OSError)):
        new_client(to=server)
    first.disconnect()

    def third():
        try:
            return new_client(to=server)
        except (Refused, OSError):
            return None

    assert wait_until(third, what="room for a connection").connected and second.connected
    assert server.metrics()["tidemq_connections_refused_total"] >= 1
