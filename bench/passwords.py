#!/usr/bin/env python3
"""Whether hashing passwords holds anybody up: deliveries of a pair of clients alone, and while others
knock with wrong passwords without end, each of which costs the server an argon2id hash.

Needs the release build; prints a table. See docs/performance.md.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

import servers

USER, WRONG = b"user", b"wrong"
PAIR = ["pairs", "--publishers", "1", "--qos", "0", "--rate", "500", "--json", "--timeout", "60"]


def knock():
    """A CONNECT of MQTT 3.1.1 with a wrong password."""
    body = b"\0\4MQTT\4\xc2\0\x3c\0\5knock" + b"".join(
        len(word).to_bytes(2, "big") + word for word in (USER, WRONG))
    return b"\x10" + bytes([len(body)]) + body


class Storm:
    """Clients that knock again and again, while it is used as a context. `count`: answers so far."""

    def __init__(self, server, clients):
        self.server, self.count, self.ended = server, 0, threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        while not self.ended.is_set():
            self.server.exchange(knock(), 4)
            self.count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def deliver(loadgen, server, count):
    """What the pair found: times in microseconds."""
    words = [loadgen, *PAIR, "--count", str(count), "--port", str(server.port),
             "--server-pid", str(server.process.pid)]
    found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout)
    if not found["ok"]:
        raise RuntimeError(found["error"])
    return found


def measure(loadgen, program, count=5000, clients=16):
    """Returns (alone, beside): each what the pair found, with `hashes`, `hash_cpu_s` of the server, and
    `stalls`, turns of the loop that computed for 10 ms or more."""
    with tempfile.TemporaryDirectory(dir=servers.ROOT / "build") as folder:
        file = pathlib.Path(folder) / "passwords"
        subprocess.run([program, "password", "set", file, USER.decode()], input="right\n", text=True,
                       check=True, stdout=subprocess.DEVNULL)
        server = servers.TideMQ(program, folder, False, ["auth.anonymous=true", f"auth.password_file={file}"])
        server.start()
        try:
            stalls, cpu = server.counters()["stalls"], servers.cpu_seconds(server.process.pid)
            alone = {**deliver(loadgen, server, count), "hashes": 0}
            alone["cpu_s"] = servers.cpu_seconds(server.process.pid) - cpu
            alone["stalls"] = server.counters()["stalls"] - stalls
            stalls, cpu = server.counters()["stalls"], servers.cpu_seconds(server.process.pid)
            with Storm(server, clients) as storm:
                beside = deliver(loadgen, server, count)
                beside["hashes"] = storm.count
            beside["cpu_s"] = servers.cpu_seconds(server.process.pid) - cpu
            beside["stalls"] = server.counters()["stalls"] - stalls
        finally:
            server.stop()
    return alone, beside


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=5000, help="messages, 500 a second (%(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="that knock at a time (%(default)s)")
    args = parser.parse_args()
    build = servers.ROOT / "build/release"
    alone, beside = measure(str(build / "tidemq-loadgen"), str(build / "tidemq"), args.count, args.clients)
    print("| | p50 us | p99 us | p99.9 us | generator late, p99 us | hashes | server CPU s | turns of 10 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, found in (("alone", alone), ("beside wrong passwords", beside)):
        times = found["delivery"]
        print(f"| {name} | {times['p50_us']:,.0f} | {times['p99_us']:,.0f} | {times['p999_us']:,.0f} | "
              f"{found['slip']['p99_us']:,.0f} | {found['hashes']:,} | {found['cpu_s']:.1f} | {found['stalls']:.0f} |")
    sys.exit(0 if beside["stalls"] == 0 and beside["hashes"] else 1)


if __name__ == "__main__":
    main()
