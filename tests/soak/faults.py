"""Many random faults at the same time: nothing grows, and well-behaved clients get every value.

    python tests/soak/faults.py --connections 1000 --seconds 60 --kind ws --tls

A server process broadcasts numbers. Another process holds a number of connections. Each of them ends after a
moment by one of `FAULTS`, and is replaced. A third process holds `SURVIVORS` well-behaved clients, which
check that they get every number in order. The server's figures are taken when the survivors are connected and
a first, short round of faults is over, and after each half of the time, when all but the survivors have left:

    fds         open descriptors             may not grow
    tasks       tasks of the loop            may not
    peers       connections                  may not
    blocks      of Python's own allocator    may grow by GROWTH_BLOCKS
    heap_kib    in use, of glibc's malloc    may grow by GROWTH_HEAP_KIB
    rss_kib     resident memory              may grow by GROWTH_KIB in the second half

Resident memory grows in the first half: pages of the most connections at a time, which allocators keep where
a page is partly in use. A leak goes on in the second half, and shows in what is in use.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import random
import resource
import socket
import ssl as ssl_module
import struct
import sys
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from helpers import PLAIN_HEAD, certificates

from deli_com import Address, Client, Server, WsClient, WsServer

GROWTH_KIB = 24 * 1024  # slabs, read buffers and the allocator's slack for so many at a time
GROWTH_HEAP_KIB = 4 * 1024  # the same without the slack
GROWTH_BLOCKS = 10_000  # logs, caches and the like; each connection has hundreds
SURVIVORS = 5
ROUND_S = 2.0  # of faults before the first figures
SETTLE_S = 20.0
PADDING = 200
FAULTS = ("reset", "half-close", "stall", "garbage", "abort", "mid-frame", "silence")


def trusting_all() -> ssl_module.SSLContext:
    """For processes that do not know the server's certificate."""
    context = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl_module.CERT_NONE
    return context


async def misbehave(
    address: Address, kind: str, tls: ssl_module.SSLContext | None, rng: random.Random
) -> str:
    """One connection, from its beginning to its fault."""
    how = rng.choice(FAULTS)
    if how == "abort":  # within the handshake, of TLS or of WebSocket
        reader, writer = await asyncio.open_connection(*address)
        writer.write(bytes.fromhex("160301") + rng.randbytes(rng.randrange(60)) if tls else PLAIN_HEAD[:40])
    elif how == "silence":  # before a handshake
        reader, writer = await asyncio.open_connection(*address)
    else:
        name = {"server_hostname": "localhost"} if tls else {}
        reader, writer = await asyncio.open_connection(*address, ssl=tls, **name)
        if kind == "ws":
            writer.write(PLAIN_HEAD)
            await reader.readuntil(b"\r\n\r\n")
    try:
        reading = how not in ("stall", "silence")
        end = time.monotonic() + rng.uniform(0.0, 1.5)
        while reading and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    if not await reader.read(1 << 16):
                        break
        if not reading:
            writer.transport.pause_reading()
            await asyncio.sleep(max(0.0, end - time.monotonic()))
        elif how == "garbage":
            writer.write(rng.randbytes(rng.randrange(1, 4096)))
        elif how == "mid-frame":
            writer.write(b"\x82\xfe\xff\xff" if kind == "ws" else struct.pack("<I", 5000) + bytes(100))
        elif how == "half-close" and writer.can_write_eof():
            writer.write_eof()
            async with asyncio.timeout(1.0):
                await reader.read()
    finally:
        if how in ("reset", "abort", "stall"):
            sock = writer.get_extra_info("socket")  # None where TLS has ended already
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
        with contextlib.suppress(OSError, TimeoutError, ssl_module.SSLError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
    return how


def visitors(
    address: Address, kind: str, tls: bool, connections: int, seconds: float, seed: int, to: Connection
) -> None:
    """So many at a time, each again and again, for so many seconds."""
    trusting = trusting_all() if tls else None
    counts: Counter[str] = Counter()

    async def visit(number: int) -> None:
        rng = random.Random(seed + number)
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(10.0):
                    counts[await misbehave(address, kind, trusting, rng)] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                counts["ended by the server"] += 1
                await asyncio.sleep(0.1)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await asyncio.gather(*(visit(number) for number in range(connections)))

    end = time.monotonic() + seconds
    asyncio.run(main())
    to.send(dict(counts))


def survivors(address: Address, kind: str, tls: bool, to: Connection) -> None:
    """Clients that check every number, until the server closes."""
    trusting = trusting_all() if tls else None

    async def survive() -> int:
        connect = (WsClient if kind == "ws" else Client)[bytes].connect
        expected, first = None, 0
        async with connect(address, ssl=trusting) as client:
            async for value in client:
                (number,) = struct.unpack_from("<Q", value)
                if expected is None:
                    first = number
                elif number != expected:
                    raise AssertionError(f"number {number} came where {expected} should")
                expected = number + 1
        return (expected or 0) - first

    async def main() -> list[Any]:
        done = await asyncio.gather(*(survive() for _ in range(SURVIVORS)), return_exceptions=True)
        return [result if isinstance(result, int) else repr(result) for result in done]

    to.send(asyncio.run(main()))


MALLINFO = [
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
]  # fmt: skip


class Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in MALLINFO)


def heap_kib() -> int:
    """What is in use of glibc's malloc; 0 where there is another one."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = Mallinfo
    found = mallinfo2()
    return (int(found.uordblks) + int(found.hblkhd)) // 1024


def figures(server: Any) -> dict[str, int]:
    """What must not grow, of this process."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc's: what is free goes back to the system
        ctypes.CDLL(None).malloc_trim(0)
    return {
        "blocks": sys.getallocatedblocks(),
        "heap_kib": heap_kib(),
        "rss_kib": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024,
        "fds": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "peers": len(server._connections()),
    }


async def _broadcast(server: Any, sent: list[int]) -> None:
    while True:
        for _ in range(4):
            await server.send(struct.pack("<Q", sent[0]) + bytes(PADDING))
            sent[0] += 1
        await asyncio.sleep(0.02)


async def _settled(server: Any, before: dict[str, int]) -> dict[str, int]:
    """The figures once they are as before, or are what they are after a while."""
    end = time.monotonic() + SETTLE_S
    while True:
        now = figures(server)
        if time.monotonic() > end or all(now[name] <= before[name] for name in ("fds", "tasks", "peers")):
            return now
        await asyncio.sleep(0.25)


async def _soak(connections: int, seconds: float, kind: str, tls: bool, seed: int) -> dict[str, Any]:
    context = get_context("spawn")
    options: dict[str, Any] = {"ssl": certificates()[0] if tls else None, "close_timeout": 0.5}
    made = (WsServer if kind == "ws" else Server)[bytes].bind("127.0.0.1:0", progress_timeout=2.0, **options)
    async with made as server:
        receiving = asyncio.create_task(_receive(server))
        sent = [0]

        async def child(target: Any, *args: Any) -> tuple[Any, Any]:
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(*args, theirs), daemon=True)
            process.start()
            theirs.close()
            return process, ours

        living = await child(survivors, server.local_addr(), kind, tls)
        async with asyncio.timeout(60):
            await server.wait_clients(SURVIVORS)
        sending = asyncio.create_task(_broadcast(server, sent))

        async def faults(seconds: float, seed: int) -> dict[str, int]:
            process, pipe = await child(visitors, server.local_addr(), kind, tls, connections, seconds, seed)
            found: dict[str, int] = await asyncio.to_thread(pipe.recv)
            await asyncio.to_thread(process.join)
            return found

        base = {"fds": 0, "tasks": len(asyncio.all_tasks()), "peers": SURVIVORS}
        await faults(ROUND_S, seed + 1_000_000)
        before = await _settled(server, base | {"fds": len(os.listdir("/proc/self/fd"))})
        counts = Counter(await faults(seconds / 2, seed))
        middle = await _settled(server, before)
        counts.update(await faults(seconds / 2, seed + 2_000_000))
        after = await _settled(server, before)
        sending.cancel()
        last = sent[0]
        await server.close()
        got = await asyncio.to_thread(living[1].recv)
        living[0].join()
        receiving.cancel()
    grown = {name: after[name] - before[name] for name in before}
    grown["rss_kib"] = after["rss_kib"] - middle["rss_kib"]
    may = {"rss_kib": GROWTH_KIB, "heap_kib": GROWTH_HEAP_KIB, "blocks": GROWTH_BLOCKS}
    return {
        "grown": {name: more for name, more in grown.items() if more > may.get(name, 0)},
        "before": before,
        "middle": middle,
        "after": after,
        "faults": dict(counts),
        "sent": last,
        "survivors": got,
    }


async def _receive(server: Any) -> None:
    async for _ in server:  # what the well-formed garbage of visitors decodes to
        pass


def soak(connections: int, seconds: float, kind: str, tls: bool, seed: int = 1) -> dict[str, Any]:
    """Run it; ``grown`` is what should not have, and ``survivors`` how many numbers each has checked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * connections + 256)), hard))
    return asyncio.run(_soak(connections, seconds, kind, tls, seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kind", choices=["ws", "tcp"], default="ws")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = soak(given.connections, given.seconds, given.kind, given.tls, given.seed)
    print(json.dumps(found, indent=1))
    return bool(found["grown"] or not all(isinstance(count, int) and count for count in found["survivors"]))


if __name__ == "__main__":
    sys.exit(main())
