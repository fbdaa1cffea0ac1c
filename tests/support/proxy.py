"""A TCP proxy that simulates network faults.

::

    async with fault_proxy(server.local_addr()) as proxy:
        client = await WsClient[T].connect(proxy.address)
        link = proxy.links[0]
        link.down.stall()          # nothing more reaches the client ...
        link.down.go_on()          # ... until now
        link.up.delay_s = 0.01     # each piece that the client sends waits so long
        link.up.piece = 1          # one byte at a time, each read by itself
        proxy.limit = 100          # of new links: stand still after so many bytes down
        link.down.drop()           # from now on swallow what the server sends
        link.up.half_close()       # end of stream to the server; the other way stays open
        link.reset()               # RST both ways

    blackhole(sock)            # of a raw peer: its system answers nothing any more, not even with a reset

`down` is what flows from the server to the client, `up` the other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator

READ_BYTES = 1 << 16
SO_ATTACH_FILTER = 26  # Linux; the socket module does not name it
TURNS_A_PIECE = 3  # loop turns in which a peer on the same loop reads a piece before the next one comes


def blackhole(sock: socket.socket) -> None:
    """From now on every packet to `sock` vanishes, acknowledgements too, as behind a cut cable (Linux).

    A proxy cannot do that, because its own system answers. This is a socket filter that drops everything. The
    other end gets no data, no end of stream and no reset.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0 bytes
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(drop_all))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


class Pipe:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.passed = 0  # bytes
        self.piece = READ_BYTES  # bytes passed on at once
        self.delay_s = 0.0
        self.limit = 1 << 62  # bytes passed, then it stalls
        self._source = source
        self._sink = sink
        self._open = asyncio.Event()
        self._open.set()
        self._drops = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stall(self) -> None:
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    def drop(self) -> None:
        self._drops = True

    def half_close(self) -> None:
        self._drops = True
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)

    async def _run(self) -> None:
        with contextlib.suppress(OSError):  # the other side is gone
            await self._relay()
        self.half_close()

    async def _relay(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._open.wait()
            data = await loop.sock_recv(self._source, READ_BYTES)
            if not data:
                return
            at = 0
            while at < len(data):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self._drops:
                    break
                size = min(self.piece, self.limit - self.passed)
                if size == 0:
                    self.stall()
                    continue
                await loop.sock_sendall(self._sink, data[at : at + size])
                self.passed += len(data[at : at + size])
                at += size
                if size < READ_BYTES:
                    for _ in range(TURNS_A_PIECE):
                        await asyncio.sleep(0)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Link:
    """One proxied connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        self.down = Pipe(server, client)
        self.up = Pipe(client, server)

    async def stop(self) -> None:
        await self.down.stop()
        await self.up.stop()
        for sock in self._sockets:
            sock.close()

    async def reset(self) -> None:
        """End both connections with RST."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stop()


class FaultProxy:
    """Relays each connection to `target`; `piece`, `delay_s` and `limit` apply to new links."""

    def __init__(self, sock: socket.socket, target: tuple[str, int]) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self.links: list[Link] = []
        self.piece = READ_BYTES
        self.delay_s = 0.0
        self.limit = 1 << 62
        self._sock = sock
        self._target = target
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._sock)
            server = socket.socket(socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET)
            try:
                for sock in (client, server):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(server, tuple(self._target))
            except BaseException as error:
                client.close()
                server.close()
                if not isinstance(error, OSError):
                    raise
                continue
            link = Link(client, server)
            for pipe in (link.up, link.down):
                pipe.piece, pipe.delay_s = self.piece, self.delay_s
            link.down.limit = self.limit
            self.links.append(link)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for link in self.links:
            await link.stop()
        self._sock.close()


@contextlib.asynccontextmanager
async def fault_proxy(target: tuple[str, int]) -> AsyncIterator[FaultProxy]:
    """A running proxy; everything of it is closed at the end of the block."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    proxy = FaultProxy(sock, target)
    try:
        yield proxy
    finally:
        await proxy.stop()
