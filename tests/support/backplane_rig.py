"""What tests of backplanes share: values, a client that keeps a ledger, programs that are nodes."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

from deli_com import Codec, WsClient, WsServer, u32
from deli_com.backplane import BackplaneStats, node

WITHIN_S = 30.0


class Message(Codec, sealed=True):
    pass


class Tick(Message):
    node: u32
    n: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    n: u32


class Blob(Message):
    n: u32
    data: bytes


def hurry(factor: float) -> None:
    """Make heartbeats, deaths and requests so many times as quick as they are."""
    node.HEARTBEAT_S, node.DEAD_S, node.ASK_S, node.TICK_S = (each / factor for each in (1.0, 5.0, 1.0, 0.25))


class Ledger:
    """A local client of a node: what it gets of whom. A wrong order, or a tick twice, is an error."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.ticks: dict[int, int] = defaultdict(int)  # by node: how many
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.holes: dict[int, int] = defaultdict(int)
        self.poses: dict[str, int] = {}
        self.blobs: list[tuple[int, int]] = []
        self.errors: list[str] = []
        self._task = asyncio.get_running_loop().create_task(self._follow())

    @classmethod
    async def of(cls, server: WsServer[Any, Any], type: Any = Message) -> Self:
        before = server.client_count()
        client = await WsClient[type, None].connect(f"ws://{server.local_addr()}")
        await server.wait_clients(before + 1)
        return cls(client)

    async def _follow(self) -> None:
        async for value in self.client:
            kind = type(value).__name__
            if kind == "Tick":
                last = self.last.get(value.node)
                if last is None:
                    self.first[value.node] = value.n
                elif value.n <= last:
                    self.errors.append(f"tick {value.n} of node {value.node} came behind {last}")
                else:
                    self.holes[value.node] += value.n - last - 1
                self.last[value.node] = value.n
                self.ticks[value.node] += 1
            elif kind == "Pose":
                self.poses[value.robot] = value.n
            elif kind == "Blob":
                good = value.data == blob(value.n, len(value.data))
                self.blobs.append((value.n, len(value.data) if good else -1))

    def seen(self) -> dict[str, Any]:
        return {
            "ticks": {str(key): count for key, count in self.ticks.items()},
            "holes": {str(key): count for key, count in self.holes.items()},
            "first": {str(key): n for key, n in self.first.items()},
            "poses": self.poses,
            "errors": self.errors,
        }

    async def close(self) -> None:
        await self.client.close()
        await self._task


def blob(n: int, size: int) -> bytes:
    """Bytes that tell when one of them is another."""
    return random.Random(n).randbytes(size)


def plane(server: WsServer[Any, Any]) -> BackplaneStats:
    found = server.stats().backplane
    assert found is not None
    return found


async def within(condition: Any, what: str, seconds: float = WITHIN_S) -> None:
    """Wait until a condition holds; AssertionError after that time."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, what
        await asyncio.sleep(0.005)


async def settled(servers: list[WsServer[Any, Any]], sent: int, seconds: float = WITHIN_S) -> None:
    """Wait until each has received, or has counted as gaps, what the others have sent; no more and no less.

    `sent` is what programs beside them have sent.
    """

    def missing() -> list[int]:
        total = sent + sum(plane(server).sent for server in servers)
        stats = [plane(server) for server in servers]
        return [total - each.sent - each.received - each.gaps for each in stats]

    end = asyncio.get_running_loop().time() + seconds
    # What waits has no number yet.
    while any(missing()) or any(plane(server).waiting_bytes for server in servers):
        assert asyncio.get_running_loop().time() < end, (missing(), [plane(server) for server in servers])
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert not any(missing()), missing()


class NodeProgram:
    """backplane_node.py in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(
        cls, url: str, room: str, number: int, orphans: str = "keep", haste: float = 5.0
    ) -> NodeProgram:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("backplane_node.py")),
            *(url, room, str(number), orphans, str(haste)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        made = cls(process)
        assert (await made.answer())["ready"]
        return made

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), WITHIN_S)
        assert line, "the program has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    async def say(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        return await self.answer()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
