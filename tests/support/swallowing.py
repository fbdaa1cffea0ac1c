"""A TCP relay with a large buffer, as every reverse proxy is one: what a sender gives it, it takes at once.

::

    async with swallowing_relay(server.local_addr()) as relay:
        relay.rate = 1e6                     # bytes a second to the client; None: as fast as it takes them
        client = await WsClient[T].connect(relay.address)
        relay.waiting                        # bytes in it that the client has yet to get
        relay.cut()                          # the client is gone, and nobody is told
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

TICK_S = 0.01


class SwallowingRelay:
    """One connection at a time, from `address` to `target`."""

    def __init__(self, sock: socket.socket, target: tuple[str, int], buffer: int, up: bool) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self.rate: float | None = None
        self.most_waiting = 0
        self._buffer = bytearray()
        self._room = asyncio.Event()
        self._more = asyncio.Event()
        self._is_cut = asyncio.Event()
        self._sock = sock
        self._target = target
        self._buffer_bytes = buffer
        self._up = up
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    def cut(self) -> None:
        self._is_cut.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        client, _ = await loop.sock_accept(self._sock)
        server = socket.socket()
        with client, server:
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, tuple(self._target))
            near, far = (client, server) if self._up else (server, client)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # `waiting` is nearly all
            parts = [self._take(near, far), self._give(far), self._pass_back(far, near)]
            tasks = [loop.create_task(part) for part in parts]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, near: socket.socket, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(near, 1 << 16):
            self._buffer += data
            self.most_waiting = max(self.most_waiting, self.waiting)
            self._more.set()
            while self.waiting >= self._buffer_bytes:
                self._room.clear()
                await self._room.wait()
        while self._buffer:
            self._room.clear()
            await self._room.wait()
        far.shutdown(socket.SHUT_WR)
        await asyncio.Event().wait()  # the other end closes now

    async def _give(self, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._buffer:
                self._more.clear()
                await self._more.wait()
            if self.rate is not None:
                await asyncio.sleep(TICK_S)
            size = 1 << 16 if self.rate is None else max(1, int(self.rate * TICK_S))
            part = bytes(self._buffer[:size])
            if not self._is_cut.is_set():
                await loop.sock_sendall(far, part)
            del self._buffer[: len(part)]
            self._room.set()

    async def _pass_back(self, far: socket.socket, near: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(far, 1 << 16):
            if not self._is_cut.is_set():
                await loop.sock_sendall(near, data)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._sock.close()


@contextlib.asynccontextmanager
async def swallowing_relay(
    target: tuple[str, int], buffer: int = 4 << 20, *, up: bool = False
) -> AsyncIterator[SwallowingRelay]:
    """A running relay; everything of it is closed at the end of the block.

    `up`: it swallows what the client sends.
    """
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    relay = SwallowingRelay(sock, target, buffer, up)
    try:
        yield relay
    finally:
        await relay.stop()
