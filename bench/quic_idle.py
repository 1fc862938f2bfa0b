#!/usr/bin/env python3
"""Holds MQTT connections over QUIC that do nothing, by aioquic, and says what they cost the server:
what `tidemq-loadgen idle` does for TCP, with the same JSON. It is slow (some ten milliseconds for each
connection), so the time they take says nothing about the server. Run with the Python of build/venv.

usage: quic_idle.py --port PORT --server-pid PID [--connections N]
"""
import argparse
import asyncio
import contextlib
import json
import ssl
import time

import servers
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

AT_A_TIME = 16
TIMEOUT_S = 60


def login(number):
    """CONNECT of 3.1.1 with a keep alive that is longer than the run."""
    body = b"\x00\x04MQTT\x04\x02\xff\xff" + b"\x00\x0a" + b"idle%06d" % number
    return b"\x10" + bytes([len(body)]) + body


async def hold_one(number, args, turns, together):
    """Connects and waits for CONNACK; closes when all have been open together."""
    config = QuicConfiguration(alpn_protocols=["mqtt"], verify_mode=ssl.CERT_NONE, idle_timeout=3600)
    async with contextlib.AsyncExitStack() as stack:
        async with turns, asyncio.timeout(TIMEOUT_S):
            client = await stack.enter_async_context(
                connect("127.0.0.1", args.port, configuration=config))
            reader, writer = await client.create_stream()
            writer.write(login(number))
            if await reader.readexactly(4) != b"\x20\x02\x00\x00":
                raise ConnectionError("the server refused")
        await together.wait()
        await together.wait()


async def hold(args):
    """Opens all, and measures before and after."""
    before, cpu = servers.anon_bytes(args.server_pid), servers.cpu_seconds(args.server_pid)
    own, began = time.process_time(), time.monotonic()
    turns, together = asyncio.Semaphore(AT_A_TIME), asyncio.Barrier(args.connections + 1)
    async with asyncio.TaskGroup() as group:
        for number in range(args.connections):
            group.create_task(hold_one(number, args, turns, together))
        await together.wait()
        part = {"name": "connect", "wall_s": time.monotonic() - began,
                "generator_cpu_s": time.process_time() - own,
                "server_cpu_s": servers.cpu_seconds(args.server_pid) - cpu,
                "published": 0, "acked": 0, "delivered": 0, "subscribed": 0,
                "connections": args.connections, "server_anon_before": before,
                "server_anon_after": servers.anon_bytes(args.server_pid)}
        await together.wait()
    return {"ok": True, "error": "", "published": 0, "delivered": 0, "deliveries_expected": 0,
            "connack": {"count": args.connections}, "measures": [part]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1000)
    print(json.dumps(asyncio.run(hold(parser.parse_args()))))


if __name__ == "__main__":
    main()
