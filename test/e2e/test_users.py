"""Users of the password file while the server runs: reloads end links of users that are gone, and a
storm of passwords holds nobody up."""

import concurrent.futures
import signal

import pytest
from client import Client, Refused
from tidemq import run_serve, wait_until
from test_access import set_password

BAD_USER, NOT_AUTHORIZED, BUSY = 0x86, 0x87, 0x89


def reload(server):
    """SIGHUP, and until it is done."""
    count = server.log.count("configuration")
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.log.count("configuration") > count, what="the reload")


@pytest.fixture(name="path")
def fixture_path(tmp_path):
    """A password file of three users."""
    path = tmp_path / "passwords"
    for user in ("stays", "changes", "goes"):
        set_password(path, user, f"{user}-secret")
    return path


def test_check_reads_the_files(path, tmp_path):
    """`serve --check` says what the start would say of passwords and keys."""
    def check(key, file):
        return run_serve("--check", "--set", f"data_dir={tmp_path / 'none'}", "--set", f"{key}={file}")

    assert check("auth.password_file", path).returncode == 0
    path.write_text("no hash\n")
    for key, file in (("auth.password_file", path), ("auth.jwt.secret_file", tmp_path / "nowhere")):
        wrong = check(key, file)
        assert wrong.returncode == 2 and str(file) in wrong.stderr, wrong.stderr
    assert not (tmp_path / "none").exists()


def test_removed_users_leave(make_server, new_client, version, path):
    """Who is removed from the file is disconnected by the reload; a new password does not do that."""
    server = make_server(**{"auth.anonymous": True, "auth.password_file": path})
    clients = {user: new_client(to=server, version=version, user=user, password=f"{user}-secret")
               for user in ("stays", "changes", "goes")}
    nameless = new_client(to=server, version=version)
    path.write_text("".join(line for line in path.read_text().splitlines(True)
                            if not line.startswith("goes:")))
    set_password(path, "changes", "another")
    reload(server)
    reason = clients["goes"].closed()
    assert version != 5 or reason == NOT_AUTHORIZED  # 3.1.1 has no words for it
    for client in (clients["stays"], clients["changes"], nameless):
        client.subscribe("a", 1)
        assert client.connected
    assert server.metrics()["tidemq_auth_revoked_total"] == 1
    with pytest.raises(Refused):
        new_client(to=server, version=version, user="goes", password="goes-secret")
    with pytest.raises(Refused):
        new_client(to=server, version=version, user="changes", password="changes-secret")


def test_a_bad_file_changes_nothing(make_server, new_client, path):
    """All or nothing: nobody leaves when the new file cannot be read."""
    server = make_server(**{"auth.anonymous": False, "auth.password_file": path})
    client = new_client(to=server, user="goes", password="goes-secret")
    path.write_text("nonsense\n")
    reload(server)
    assert "nothing changed" in server.log
    client.subscribe("a", 1)
    assert new_client(to=server, user="goes", password="goes-secret").connected


def test_a_file_taken_away(make_server, new_client, path, tmp_path):
    """Without the authenticator its users are nobody any more."""
    config = tmp_path / "tidemq.yaml"
    config.write_text(f"auth:\n  password_file: {path}\n")
    server = make_server(config_file=config, **{"auth.anonymous": True, "auth.password_file": None})
    client = new_client(to=server, user="stays", password="stays-secret")
    nameless = new_client(to=server)
    config.write_text("auth: {}\n")
    reload(server)
    assert client.closed() == NOT_AUTHORIZED
    nameless.subscribe("a", 1)


def processor_s(pid, first_thread=False):
    """Seconds of processor time that a process has had, or its first thread, which is the event loop."""
    path = f"/proc/{pid}/task/{pid}/stat" if first_thread else f"/proc/{pid}/stat"
    with open(path, encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_storm_of_passwords_holds_nobody_up(make_server, new_client, path):
    """Hashes cost seconds of processor time in all, but not the event loop's."""
    server = make_server(**{"auth.anonymous": True, "auth.password_file": path})
    other = new_client(to=server)
    other.subscribe("beat", 1)
    pid = server.process.pid
    before, loop_before = processor_s(pid), processor_s(pid, first_thread=True)

    def attack(number):
        user = "stays" if number % 2 else "nobody"
        with pytest.raises(Refused) as refused:
            Client(server, user=user, password=f"wrong{number}").connect()
        return refused.value.reason

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = [pool.submit(attack, number) for number in range(300)]
        while not all(answer.done() for answer in answers):
            other.publish("beat", b"x", 1)
            other.take()
        assert {answer.result() for answer in answers} == {BAD_USER}
    spent, loop_spent = processor_s(pid) - before, processor_s(pid, first_thread=True) - loop_before
    assert spent > 1, "the hashes cost too little to tell anything"
    assert loop_spent < spent / 3, "the event loop has a part in the hashes"
    assert server.metrics()["tidemq_auth_waiting"] == 0
