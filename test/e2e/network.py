"""A network of the test's own that loses packets: a network namespace, with rules of nftables.

What runs there sees no other interface than the loopback, whose packets are cut to the size of
Ethernet's, and nobody else sees what is lost. The kernel removes all of it with the last thread or
process in it, however that ends.
"""

import ctypes
import os
import re
import subprocess
import threading

CLONE_NEWNET = 0x40000000
MTU = 1500


def _run(*command, text_in=None):
    done = subprocess.run(command, input=text_in, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def own_network():
    """Gives this thread, and the threads and processes that it starts from now on, a network of
    their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"a network of its own needs root: {os.strerror(error)}")
    # One segment a packet: otherwise one loss takes 64 KiB of TCP, and there are few packets.
    _run("ip", "link", "set", "lo", "mtu", str(MTU), "gso_max_segs", "1", "up")


def run_apart(function):
    """Runs it in a thread with a network of its own; returns what it returns, or raises it."""
    outcome = []

    def run():
        try:
            own_network()
            outcome.append((function(), None))
        except BaseException as error:  # pylint: disable=broad-exception-caught
            outcome.append((None, error))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def lose(percent, ports):
    """From now on loses so many of a hundred packets to and from each port. ports: number -> tcp or
    udp."""
    counters = "".join(f"counter port_{port} {{ }}\n" for port in ports)
    rules = "".join(f"{kind} {side} {port} numgen random mod 100 < {percent} counter name port_{port} drop\n"
                    for port, kind in ports.items() for side in ("dport", "sport"))
    _run("nft", "-f", "-", text_in=f"table inet loss {{\n{counters}chain input {{\n"
                                   f"type filter hook input priority 0;\n{rules}}}\n}}\n")


def lost(port):
    """How many packets to and from the port were lost."""
    return int(re.search(r"packets (\d+)", _run("nft", "list", "counter", "inet", "loss", f"port_{port}"))[1])
