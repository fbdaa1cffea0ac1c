"""Age of the newest value at a slow program behind a slow link, in a network namespace of its own.

`python bench/slow_link.py [--seconds 10] [--kinds ws tcp]` (Linux, root: `unshare`, `tc`). A server sends
1,000 values a second over 4 keys of policy latest. A client in a process of its own takes one value each 50
ms. The loopback interface of the namespace has the rate of the link, an MTU of 1,500 bytes and a queue
(`--queue`). Where the link has a rate, the values are so large that the stream is three times the rate.

Age is from the send call to the return of `recv`, on one clock. "beyond" is the worst age less the program's
own 50 ms. "held" is what the kernel may hold unsent for the connection (TCP_NOTSENT_LOWAT), divided by the
rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from deli_com import Client, Codec, Server, WsClient, WsServer, u8, u64
from machine import describe

PORT = 8765
KEYS = 4
EVERY_S = 0.05
QUEUE = 45_000  # bytes, of the link: 30 packets
WARM_S = 3.0  # the first second has the losses of slow start
LINKS = {"no limit": None, "10 Mbit/s": 10_000_000, "1 Mbit/s": 1_000_000}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ws": (WsServer, WsClient, {}),
    "tcp": (Server, Client, {}),
    "tcp+schema": (Server, Client, {"schema": "check"}),  # ends that exchange schemas send marks
}


class Sample(Codec, policy="latest", key="robot"):
    """A value that says when it was sent."""

    robot: u8
    at: u64
    load: bytes


async def serve(kind: str, size: int, seconds: float) -> None:
    """Send on the second's thousandths, whatever the client does."""
    server_class, _, _ = KINDS[kind]
    async with await server_class[Sample, None].bind(f"127.0.0.1:{PORT}") as server:
        print("ready", flush=True)
        await server.wait_clients(1)
        load = bytes(size)
        loop = asyncio.get_running_loop()
        start = loop.time()
        number = 0
        while (now := loop.time() - start) < seconds and server.client_count():
            while number < now * 1_000:
                server.send_nowait(Sample(number % KEYS, time.monotonic_ns(), load))
                number += 1
            await asyncio.sleep(0.001)


async def receive(kind: str, seconds: float) -> list[float]:
    """Ages in seconds of what a program sees that takes one value each 50 ms."""
    _, client_class, options = KINDS[kind]
    ages: list[float] = []
    async with await client_class[Sample].connect(f"127.0.0.1:{PORT}", **options) as client:
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            value = await client.recv()
            if time.monotonic() - begin > WARM_S:
                ages.append((time.monotonic_ns() - value.at) / 1e9)
            await asyncio.sleep(EVERY_S)
    return ages


def inside(kind: str, size: int, seconds: float, cores: bool) -> None:
    """In the namespace: the server as a child, the client here."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve", kind, "--size", str(size), "--seconds", str(seconds + 30)],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    if cores and len(os.sched_getaffinity(0)) > 1:
        first, second, *_ = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(child.pid, {first})
        os.sched_setaffinity(0, {second})
    try:
        ages = asyncio.run(receive(kind, seconds))
    finally:
        child.kill()
    print(json.dumps(ages))


def measure(kind: str, rate: int | None, seconds: float, queue: int = QUEUE) -> tuple[int, list[float]]:
    """Run one case in a new network namespace; return the size of a value in bytes, and the ages."""
    size = 16 if rate is None else 3 * rate // 8 // 1_000
    shape = "true" if rate is None else f"tc qdisc add dev lo root tbf rate {rate} burst 3200 limit {queue}"
    script = f'set -e; ip link set lo mtu 1500 up; {shape}; exec "$@"'
    arguments = ["--inside", kind, "--size", str(size), "--seconds", str(seconds)]
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    return size, json.loads(ran.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="age of the newest value behind a slow link")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--links", nargs="+", default=list(LINKS), choices=list(LINKS))
    parser.add_argument("--unsent", type=int, default=32_768, help="the library's TCP_NOTSENT_LOWAT, bytes")
    parser.add_argument("--queue", type=int, default=QUEUE, help="bytes that the link holds")
    parser.add_argument("--serve", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--inside", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=16, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.size, options.seconds))
        return
    if options.inside:
        inside(options.inside, options.size, options.seconds, cores=True)
        return
    print(describe())
    heads = ("link", "kind", "bytes", "values", "median, s", "99 %", "worst", "beyond 50 ms", "held, s")
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for name in options.links:
        rate = LINKS[name]
        for kind in options.kinds:
            size, ages = measure(kind, rate, options.seconds, options.queue)
            held = "" if rate is None else f"{options.unsent * 8 / rate:.2f}"
            ages.sort()
            late, worst = ages[len(ages) * 99 // 100], ages[-1]
            print(
                f"| {name} | {kind} | {size} | {len(ages)} | {median(ages):.3f} | {late:.3f} | {worst:.3f} "
                f"| {worst - EVERY_S:.3f} | {held} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
