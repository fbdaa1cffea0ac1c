"""The TCP protocol as docs/wire.md describes it, without the library: a reference peer for either end.

::

    async with reference_client(server) as peer:            # the server counts it
        await peer.send_message(value(b"payload"))
        assert await peer.message() == value(b"payload")

    async with served(max_message_size=1000) as (client, peer):     # a Client, and the peer that serves it
        ...

It reads only on command, so an unattended peer is a stalled one. `small` gives it a small receive buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

from helpers import RawPeer

from deli_com import Client, Server


class ReferencePeer(RawPeer):
    """One end of a connection.

    A message is a u32 length and a payload. The payload is the fields in order; numbers are little-endian,
    strings are a u32 count of UTF-8 bytes and the bytes, lists are a u32 count and the elements.
    """

    async def send_message(self, payload: bytes) -> None:
        await self.send(struct.pack("<I", len(payload)) + payload)

    async def message(self) -> bytes:
        (size,) = struct.unpack("<I", await self.read_exactly(4))
        return await self.read_exactly(size)

    async def send_sample(self, stamp: int, temperature: float, name: str, codes: list[int]) -> None:
        text = name.encode()
        await self.send_message(
            struct.pack("<QfI", stamp, temperature, len(text))
            + text
            + struct.pack(f"<I{len(codes)}H", len(codes), *codes)
        )

    async def sample(self) -> tuple[int, float, str, list[int]]:
        data = await self.message()
        stamp, temperature, size = struct.unpack_from("<QfI", data)
        (count,) = struct.unpack_from("<I", data, 16 + size)
        codes = struct.unpack_from(f"<{count}H", data, 20 + size)
        assert len(data) == 20 + size + 2 * count
        return stamp, temperature, data[16 : 16 + size].decode(), list(codes)


class Listener:
    """The server's side of a reference peer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.address = sock.getsockname()

    async def accept(self) -> ReferencePeer:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ReferencePeer(sock)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield Listener(sock)


@contextlib.asynccontextmanager
async def reference_client(server: Server[Any, Any], *, small: bool = False) -> AsyncIterator[ReferencePeer]:
    """A reference peer that the server counts."""
    count = server.client_count()
    if small:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.local_addr())
        peer = ReferencePeer(sock)
    else:
        peer = await ReferencePeer.open(server.local_addr())
    try:
        await server.wait_clients(count + 1)
        yield peer
    finally:
        peer.close()


@contextlib.asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Client[bytes, bytes], ReferencePeer]]:
    """A client of ours, and the reference peer that serves it."""
    async with listening() as listener:
        client = await Client[bytes].connect(listener.address, **options)
        peer = await listener.accept()
        try:
            yield client, peer
        finally:
            peer.close()
            await client.close()


def value(data: bytes) -> bytes:
    """A value of type `bytes`, encoded."""
    return struct.pack("<I", len(data)) + data
