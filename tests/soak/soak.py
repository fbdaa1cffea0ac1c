"""Connections come and go, and messages flow: memory, descriptors, tasks and objects must not grow.

    python tests/soak/soak.py --connects 100000 --messages 3600000      # or: make soak

One server process runs, WebSocket or TCP, plain or with TLS, as `--kind` and `--tls` select. Other processes
connect and leave in one of the ways of `LEAVING`. Steady clients receive the broadcast all the time; 3.6
million messages are one hour at 1,000 per second. The server's figures are taken after a tenth of the
connects, when caches are warm, and at the end, after all but the steady clients have left and garbage was
collected:

    rss_kib     resident memory          may differ by GROWTH_KIB
    fds         open descriptors         may not
    tasks       tasks of the loop        may not
    objects     Python objects tracked   may differ by OBJECTS
    peers       connections              may not
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import socket
import ssl as ssl_module
import struct
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import uvloop
from helpers import PLAIN_HEAD, certificates
from peers import CLOSE, PING, build, close_payload

from deli_com import Address, Client, Server, WsClient, WsServer

GROWTH_KIB = 8 * 1024  # of the allocator's own slack; a leak of 100 bytes a connection is more in 10^5
OBJECTS = (
    500  # caches of ssl and the loops fill up; a leak of one a connection is more in the short soak, too
)
STEADY = 5
SETTLE_S = 15.0
WARM = 0.1  # part of the connects
BURST = 200  # messages a turn of the loop
KEY = b"\x01\x02\x03\x04"
VALUE = struct.pack("<I", 100) + bytes(100)
LEAVING = ("in order", "close", "reset", "mid-frame", "half handshake", "flood")


def visit(sock: socket.socket, how: str, kind: str, rng: random.Random) -> None:
    """Be a client for a moment."""
    if kind == "ws":
        if how == "half handshake":
            sock.sendall(PLAIN_HEAD[: rng.randrange(1, len(PLAIN_HEAD))])
            return
        sock.sendall(PLAIN_HEAD)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        sock.sendall(build(VALUE, mask=KEY) + build(b"there?", PING, mask=KEY))
        message = build(bytes(3000), mask=KEY)
    else:
        sock.sendall(struct.pack("<I", len(VALUE)) + VALUE)
        message = struct.pack("<I", 3000) + bytes(3000)
    if how == "mid-frame":
        sock.sendall(message[: rng.randrange(1, len(message))])
    elif how == "flood":
        sock.sendall(message * 20)
    elif how == "in order" and kind == "ws":
        sock.sendall(build(close_payload(1000), CLOSE, mask=KEY))
    elif how == "in order":
        with contextlib.suppress(OSError):
            if not isinstance(sock, ssl_module.SSLSocket):
                sock.shutdown(socket.SHUT_WR)
    if how == "in order":
        while sock.recv(1 << 16):
            pass


def come_and_go(address: tuple[str, int], connects: int, kind: str, tls: bool, seed: int) -> None:
    """Connect so many times, one at a time."""
    rng = random.Random(seed)
    context = ssl_module._create_unverified_context() if tls else None
    for _ in range(connects):
        how = rng.choice(LEAVING)
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=30) as plain:
            sock: Any = plain if context is None else context.wrap_socket(plain)
            visit(sock, how, kind, rng)
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def figures(server: Any) -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    status = Path("/proc/self/status").read_text()
    return {
        "rss_kib": next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")),
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "peers": len(server._connections()),
    }


async def serve(pipe: Connection, kind: str, tls: bool) -> None:
    """Broadcast as fast as the steady clients take it; answer "figures" and "stop"."""
    loop = asyncio.get_running_loop()
    server: Any = await (WsServer if kind == "ws" else Server)[bytes].bind(
        "127.0.0.1:0", ssl=certificates()[0] if tls else None, close_timeout=0.5
    )
    pipe.send(tuple(server.local_addr()))
    words: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: words.put_nowait(pipe.recv()))

    async def take() -> None:
        async for _ in server:
            pass

    async def produce() -> None:
        value = bytes(100)
        while True:
            for _ in range(BURST):
                await server.send(value)
            await asyncio.sleep(0.002)

    await server.wait_clients(STEADY)
    quiet = len(os.listdir("/proc/self/fd"))
    pipe.send("ready")
    working = [asyncio.create_task(take()), asyncio.create_task(produce())]
    while (word := await words.get()) != "stop":
        if word == "figures":
            producing = working.pop()
            producing.cancel()
            await asyncio.wait([producing])
            # The sweep notices peers that left silently. TLS transports wait up to 2 s for close_notify, and
            # abandoned handshakes up to `open_timeout`.
            until = loop.time() + SETTLE_S
            while len(os.listdir("/proc/self/fd")) > quiet and loop.time() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            pipe.send(figures(server) | {"messages": server.messages_out, "received": server.messages_in})
            working.append(asyncio.create_task(produce()))
    loop.remove_reader(pipe.fileno())
    for task in working:
        task.cancel()
    await asyncio.wait(working)
    await server.close()


async def stay(address: tuple[str, int], kind: str, tls: bool) -> None:
    """Steady clients, until the server goes."""
    context = None
    if tls:
        context = ssl_module._create_unverified_context()

    async def one() -> None:
        opening: Any = (WsClient if kind == "ws" else Client)[bytes].connect(Address(*address), ssl=context)
        async with opening as client:
            with contextlib.suppress(Exception):
                while True:
                    await client.recv_many(1000)

    await asyncio.gather(*(one() for _ in range(STEADY)))


def run_server(pipe: Connection, kind: str, tls: bool) -> None:
    uvloop.run(serve(pipe, kind, tls))


def run_steady(address: tuple[str, int], kind: str, tls: bool) -> None:
    uvloop.run(stay(address, kind, tls))


def soak(
    connects: int, messages: int, kind: str = "ws", tls: bool = False, visitors: int = 4, say: Any = print
) -> dict[str, Any]:
    """Run it; returns the figures and, under "grown", what is wrong with them."""
    spawn = get_context("spawn")
    pipe, theirs = spawn.Pipe()
    server = spawn.Process(target=run_server, args=(theirs, kind, tls))
    server.start()
    theirs.close()
    address = pipe.recv()
    steady = spawn.Process(target=run_steady, args=(address, kind, tls))
    steady.start()
    pipe.recv()

    def ask() -> dict[str, int]:
        pipe.send("figures")
        found: dict[str, int] = pipe.recv()
        say(json.dumps(found))
        return found

    def come(count: int, seed: int) -> None:
        crowd = [
            spawn.Process(target=come_and_go, args=(address, count // visitors, kind, tls, seed + number))
            for number in range(visitors)
        ]
        for process in crowd:
            process.start()
        for process in crowd:
            process.join()

    began = time.monotonic()
    try:
        come(int(connects * WARM), 1)
        warm = ask()
        come(int(connects * (1 - WARM)), 1000)
        while (end := ask())["messages"] < messages:
            time.sleep(1)
    finally:
        with contextlib.suppress(OSError):
            pipe.send("stop")
        server.join(20)
        steady.join(20)
        for process in (server, steady):
            process.kill()
    allowed = {"rss_kib": GROWTH_KIB, "objects": OBJECTS, "fds": 0, "tasks": 0, "peers": 0}
    return {
        "kind": kind + (" over TLS" if tls else ""),
        "connects": connects,
        "seconds": round(time.monotonic() - began, 1),
        "warm": warm,
        "end": end,
        "grown": {
            name: end[name] - warm[name] for name, most in allowed.items() if end[name] - warm[name] > most
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connects", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=3_600_000)
    parser.add_argument("--kind", choices=["ws", "tcp"], default="ws")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    found = soak(options.connects, options.messages, options.kind, options.tls)
    print(json.dumps(found, indent=1))
    sys.exit(f"grown: {found['grown']}" if found["grown"] else 0)


if __name__ == "__main__":
    main()
