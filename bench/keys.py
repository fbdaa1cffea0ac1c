"""What keys cost: `python bench/keys.py [--rounds 5] [--json FILE]`.

1. Append: one iteration is `send_nowait` of a 64-byte message to one client that reads, of policy latest
   with retain. Its key is drawn at random from 10, 1,000 or 100,000 keys that all have a message. The other
   column is the same message of a plain class. A thousand sends are timed at once, without making the values,
   flushing and reading; only the first message of a thousand is flushed at once. The figure is wall ns a
   message, the median of the rounds. The columns alternate within a round.
2. Memory: growth of the process (PSS) for a key with its message; bytes of slabs beside live bytes, after
   every key was sent ten times more in random order.
3. Sparse: 100,000 messages. One in a hundred has a retained key of its own, the others share one key. The
   retained messages must not keep the slabs that the others were written to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import uvloop

from deli_com import Codec, Server, u32
from drive import status_kib
from machine import write

COUNTS = [10, 1_000, 100_000]
SLAB_BYTES = 256 << 10
DATA = bytes(56)  # 64 bytes of payload
BATCH = 1000
SENDS = 100_000


class Keyed(Codec, policy="latest", key="id", retain=True):
    id: u32
    data: bytes


class Plain(Codec):
    id: u32
    data: bytes


class Column:
    """A server of one class, and its one client."""

    def __init__(self, kind: Any, count: int, rng: random.Random) -> None:
        self.name = f"latest, {count:,} keys" if kind is Keyed else "plain"
        self.kind = kind
        self.count = count
        self.order = [rng.randrange(count) for _ in range(SENDS)]
        self.rounds: list[float] = []

    async def open(self) -> None:
        self.server = await Server[self.kind, None].bind("127.0.0.1:0", max_keys=max(COUNTS))
        self.sock = socket.create_connection(self.server.local_addr())
        self.sock.setblocking(False)
        await self.server.wait_clients(1)
        await self.send(list(range(self.count)))

    async def send(self, keys: list[int]) -> int:
        """Nanoseconds of the calls."""
        send = self.server.send_nowait
        spent = 0
        for at in range(0, len(keys), BATCH):
            values = [self.kind(key, DATA) for key in keys[at : at + BATCH]]
            start = time.perf_counter_ns()
            for value in values:
                send(value)
            spent += time.perf_counter_ns() - start
            await self.read()
        return spent

    async def read(self) -> None:
        await asyncio.sleep(0)
        while True:
            with contextlib.suppress(BlockingIOError):
                while self.sock.recv(1 << 20):
                    pass
            if self.server._is_drained():
                return
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.sock.close()
        await self.server.close(drain=0.0)


async def appends(rounds: int) -> dict[str, list[float]]:
    rng = random.Random(5)
    columns = [Column(Plain, 1, rng), *(Column(Keyed, count, rng) for count in COUNTS)]
    for column in columns:
        await column.open()
    for _ in range(rounds):
        for column in columns:
            column.rounds.append(await column.send(column.order) / SENDS)
    for column in columns:
        await column.close()
    return {column.name: column.rounds for column in columns}


def held_bytes() -> int:
    gc.collect()
    return status_kib("Pss") * 1024


async def fill(server: Server[Any], keys: list[int]) -> int:
    """Send a message of each; the most slabs that there were."""
    most = 0
    for at in range(0, len(keys), BATCH):
        for key in keys[at : at + BATCH]:
            server.send_nowait(Keyed(key, DATA))
        await asyncio.sleep(0)
        most = max(most, server.stats().slabs)
    return most


async def memory(count: int) -> dict[str, float]:
    rng = random.Random(7)
    churn = [rng.randrange(count) for _ in range(10 * count)]
    async with Server[Keyed, None].bind("127.0.0.1:0", max_keys=count) as server:
        server.send_nowait(Keyed(0, DATA))
        before = held_bytes()
        await fill(server, list(range(count)))
        filled = held_bytes() - before
        most = await fill(server, churn)
        stats = server.stats()
        assert stats.retained_keys == count, stats
        return {
            "bytes_a_key": filled / count,
            "bytes_a_key_after_churn": (held_bytes() - before) / count,
            "slab_bytes": stats.slabs * SLAB_BYTES,
            "slab_bytes_at_most": most * SLAB_BYTES,
            "live_bytes": stats.retained_bytes,
        }


async def sparse() -> dict[str, float]:
    async with Server[Keyed, None].bind("127.0.0.1:0") as server:
        most = await fill(server, [n if n % 100 == 0 else 1 for n in range(SENDS)])
        stats = server.stats()
        return {
            "slab_bytes": stats.slabs * SLAB_BYTES,
            "slab_bytes_at_most": most * SLAB_BYTES,
            "live_bytes": stats.retained_bytes,
            "sent_bytes": float(SENDS * 68),
        }


async def measure(rounds: int) -> dict[str, Any]:
    return {
        "memory": {f"{count:,} keys": await memory(count) for count in COUNTS},
        "sparse": await sparse(),
        "append_ns": await appends(rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(options.rounds))
    plain = statistics.median(found["append_ns"]["plain"])
    for name, rounds in found["append_ns"].items():
        cost = statistics.median(rounds)
        print(f"append, {name}: {cost:.0f} ns, {cost - plain:+.0f} ns, {cost / plain:.2f} of plain")
    for name, sizes in found["memory"].items():
        print(
            f"memory, {name}: {sizes['bytes_a_key']:.0f} bytes a key, {sizes['bytes_a_key_after_churn']:.0f} "
            f"after churn; slabs {sizes['slab_bytes'] / 1e6:.2f} MB (at most "
            f"{sizes['slab_bytes_at_most'] / 1e6:.2f}), live {sizes['live_bytes'] / 1e6:.2f} MB"
        )
    sizes = found["sparse"]
    print(
        f"sparse: {sizes['sent_bytes'] / 1e6:.1f} MB sent, {sizes['live_bytes'] / 1e3:.0f} KB live, slabs "
        f"{sizes['slab_bytes'] / 1e6:.2f} MB, at most {sizes['slab_bytes_at_most'] / 1e6:.2f} MB"
    )
    write(options.json, found)


if __name__ == "__main__":
    main()
