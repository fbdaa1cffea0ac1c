"""A TCP relay with a large buffer, as every reverse proxy is one: what a sender gives it, it takes at once.

::

    async with swallowing_relay(server.local_addr()) as relay:
        relay.rate = 1e6                     # bytes a second to the client; None: as fast as it takes them
        client = await WsClient[T].connect(relay.address)
        relay.delay = 0.2                    # seconds that each byte is on its way in any case
        relay.waiting                        # bytes in it that the client has yet to get
        relay.cut()                          # the client is gone, and nobody is told
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
from collections.abc import AsyncIterator

TICK_S = 0.01


class Way:
    """One direction of a connection: what it takes at once it gives at a rate."""

    def __init__(self, relay: SwallowingRelay, near: socket.socket, far: socket.socket) -> None:
        self.buffer = bytearray()
        self._relay = relay
        self._near = near
        self._far = far
        self._room = asyncio.Event()
        self._more = asyncio.Event()
        self._arrivals: collections.deque[tuple[float, int]] = collections.deque()  # time, bytes
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # `waiting` is nearly all

    async def take(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._near, 1 << 16):
            self.buffer += data
            self._arrivals.append((loop.time(), len(data)))
            self._relay.most_waiting = max(self._relay.most_waiting, self._relay.waiting)
            self._more.set()
            while len(self.buffer) >= self._relay.buffer_bytes:
                self._room.clear()
                await self._room.wait()
        while self.buffer:
            self._room.clear()
            await self._room.wait()
        self._far.shutdown(socket.SHUT_WR)
        await asyncio.Event().wait()  # the other end closes now

    async def give(self) -> None:
        loop = asyncio.get_running_loop()
        relay = self._relay
        while True:
            while not self.buffer:
                self._more.clear()
                await self._more.wait()
            most = 1 << 16
            if (early := self._arrivals[0][0] + relay.delay - loop.time()) > 0:
                await asyncio.sleep(early)
            if relay.rate is not None:
                await asyncio.sleep(TICK_S)
                most = max(1, int(relay.rate * TICK_S))
            size = 0
            while self._arrivals and size < most and self._arrivals[0][0] + relay.delay <= loop.time():
                arrived, more = self._arrivals.popleft()
                taken = min(more, most - size)
                size += taken
                if taken < more:
                    self._arrivals.appendleft((arrived, more - taken))
            part = bytes(self.buffer[:size])
            if not relay.is_cut:
                await loop.sock_sendall(self._far, part)
            del self.buffer[:size]
            self._room.set()


class SwallowingRelay:
    """One connection at a time, from `address` to `target`."""

    def __init__(self, sock: socket.socket, target: tuple[str, int], buffer: int, ways: str) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self.rate: float | None = None
        self.delay = 0.0
        self.most_waiting = 0
        self.buffer_bytes = buffer
        self.is_cut = False
        self._swallows = ways
        self._ways: list[Way] = []
        self._sock = sock
        self._target = target
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def waiting(self) -> int:
        return sum(len(way.buffer) for way in self._ways)

    def cut(self) -> None:
        self.is_cut = True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        client, _ = await loop.sock_accept(self._sock)
        server = socket.socket()
        with client, server:
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, tuple(self._target))
            parts = []
            for name, near, far in (("down", server, client), ("up", client, server)):
                if self._swallows in (name, "both"):
                    way = Way(self, near, far)
                    self._ways.append(way)
                    parts += [way.take(), way.give()]
                else:
                    parts.append(self._pass(near, far))
            tasks = [loop.create_task(part) for part in parts]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, near: socket.socket, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(near, 1 << 16):
            if not self.is_cut:
                await asyncio.sleep(self.delay)
                await loop.sock_sendall(far, data)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._sock.close()


@contextlib.asynccontextmanager
async def swallowing_relay(
    target: tuple[str, int], buffer: int = 4 << 20, *, ways: str = "down"
) -> AsyncIterator[SwallowingRelay]:
    """A running relay; everything of it is closed at the end of the block.

    `ways`: it swallows what goes "down" to the client, "up" to the server, or "both".
    """
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    relay = SwallowingRelay(sock, target, buffer, ways)
    try:
        yield relay
    finally:
        await relay.stop()
