#!/usr/bin/env python3
"""MQTT connections over QUIC by aioquic, which `tidemq-loadgen` does not speak, and what they cost the
server; with the same JSON. `idle` holds connections that do nothing. `echo` has clients that publish
to themselves, each its next message when the one before has come; by TCP as well, from the same
program. aioquic is slow, so the times are mostly its own: the server's CPU is what counts. Run with
the Python of build/venv.

usage: quic_load.py idle --port PORT --server-pid PID [--connections N]
       quic_load.py echo --port PORT --server-pid PID [--tcp] [--count N]
"""
import argparse
import asyncio
import contextlib
import json
import ssl
import time

import rows
import servers
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

AT_A_TIME = 16
TIMEOUT_S = 60
ECHO_CLIENTS = 4
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x00"


def login(number):
    """CONNECT of 3.1.1 with a keep alive that is longer than the run."""
    body = b"\x00\x04MQTT\x04\x02\xff\xff" + b"\x00\x0a" + b"load%06d" % number
    return b"\x10" + bytes([len(body)]) + body


@contextlib.asynccontextmanager
async def open_quic(port):
    """The reader and writer of a stream."""
    config = QuicConfiguration(alpn_protocols=["mqtt"], verify_mode=ssl.CERT_NONE, idle_timeout=3600)
    async with connect("127.0.0.1", port, configuration=config) as client:
        yield await client.create_stream()


@contextlib.asynccontextmanager
async def open_tcp(port):
    """The same by TCP."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(stream, request, answer):
    """Sends a request and waits for its answer."""
    stream[1].write(request)
    if await stream[0].readexactly(len(answer)) != answer:
        raise ConnectionError("the server refused")


class Measure:
    """What server and generator used from the beginning until `part`."""

    def __init__(self, pid):
        self.pid, self.began, self.own = pid, time.monotonic(), time.process_time()
        self.memory, self.cpu = servers.anon_bytes(pid), servers.cpu_seconds(pid)

    def part(self, name, **counts):
        return {"name": name, "wall_s": time.monotonic() - self.began,
                "generator_cpu_s": time.process_time() - self.own,
                "server_cpu_s": servers.cpu_seconds(self.pid) - self.cpu,
                "published": 0, "acked": 0, "delivered": 0, "subscribed": 0, "connections": 0,
                "server_anon_before": self.memory, "server_anon_after": servers.anon_bytes(self.pid),
                **counts}


def result(part, **more):
    return {"ok": True, "error": "", "published": part["published"], "delivered": part["delivered"],
            "deliveries_expected": part["published"], "measures": [part], **more}


async def hold_one(number, args, turns, together):
    """Connects and waits for CONNACK; closes when all have been open together."""
    async with contextlib.AsyncExitStack() as stack:
        async with turns, asyncio.timeout(TIMEOUT_S):
            stream = await stack.enter_async_context(open_quic(args.port))
            await ask(stream, login(number), CONNACK)
        await together.wait()
        await together.wait()


async def idle(args):
    """Opens all, and measures before and after."""
    measure = Measure(args.server_pid)
    turns, together = asyncio.Semaphore(AT_A_TIME), asyncio.Barrier(args.connections + 1)
    async with asyncio.TaskGroup() as group:
        for number in range(args.connections):
            group.create_task(hold_one(number, args, turns, together))
        await together.wait()
        part = measure.part("connect", connections=args.connections)
        await together.wait()
    return result(part, connack={"count": args.connections})


async def echo_one(number, args, together, took):
    """One client that publishes to itself. took: seconds of each message, added to."""
    topic = b"bench/%06d" % number
    body = len(topic).to_bytes(2, "big") + topic
    message = b"\x30" + bytes([0x80 | (len(body) + rows.PAYLOAD) % 128, (len(body) + rows.PAYLOAD) // 128])
    message += body + bytes(rows.PAYLOAD)
    async with (open_tcp if args.tcp else open_quic)(args.port) as stream:
        await ask(stream, login(number), CONNACK)
        await ask(stream, b"\x82" + bytes([len(body) + 3]) + b"\x00\x01" + body + b"\x00", SUBACK)
        await together.wait()
        for _ in range(args.count // ECHO_CLIENTS):
            began = time.perf_counter()
            await ask(stream, message, message)
            took.append(time.perf_counter() - began)
        await together.wait()


async def echo(args):
    """Measures from when all have subscribed until all messages have come."""
    took, together = [], asyncio.Barrier(ECHO_CLIENTS + 1)
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        for number in range(ECHO_CLIENTS):
            group.create_task(echo_one(number, args, together, took))
        await together.wait()
        measure = Measure(args.server_pid)
        await together.wait()
        part = measure.part("run", published=len(took), delivered=len(took))
    took.sort()
    return result(part, delivery={"count": len(took), "p50_us": took[len(took) // 2] * 1e6,
                                  "p99_us": took[len(took) * 99 // 100] * 1e6})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pattern", choices=["idle", "echo"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--tcp", action="store_true")
    args = parser.parse_args()
    print(json.dumps(asyncio.run((idle if args.pattern == "idle" else echo)(args))))


if __name__ == "__main__":
    main()
