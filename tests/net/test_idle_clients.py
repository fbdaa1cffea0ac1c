"""What a WebSocket client costs a server that has thousands of them, most of which are silent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import tracemalloc
from typing import Any

from helpers import PLAIN_HEAD, SLOW, RawPeer, until
from peers import CLOSE, PING, PONG, build

from deli_com import WsServer

CLIENTS = 100


async def joined(server: WsServer[Any, Any], stack: contextlib.ExitStack) -> socket.socket:
    """A client that is nothing but a socket; the server has answered it, and counts it."""
    sock = stack.enter_context(socket.create_connection(server.local_addr()))
    sock.setblocking(False)
    count = server.client_count()
    sock.sendall(PLAIN_HEAD)
    await until(lambda: server.client_count() == count + 1)
    return sock


async def test_memory() -> None:
    """Most of it is of one object of aiofastnet (4.3 KiB) and of picows' read buffer (2 KiB).

    With picows' buffer for writing, its future and its proxy for each client, it was 1.4 KiB more.
    """
    with contextlib.ExitStack() as stack:
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for _ in range(CLIENTS):
                await joined(server, stack)
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(CLIENTS):
                await joined(server, stack)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / CLIENTS
            assert each < 12_200  # asyncio needs less than uvloop


async def readers(server: WsServer[Any, Any], count: int, stack: contextlib.ExitStack) -> list[RawPeer]:
    """Clients that have read the answer."""
    peers = [RawPeer(await joined(server, stack)) for _ in range(count)]
    for peer in peers:
        await peer.read_until(b"\r\n\r\n")
    return peers


async def test_frames_of_one_buffer() -> None:
    """All clients of a server share the buffer for control frames, and each gets its own ones."""
    with contextlib.ExitStack() as stack:
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            peers = await readers(server, 20, stack)
            for turn in range(5):
                for number, peer in enumerate(peers):
                    await peer.send(build(b"%d of %d" % (turn, number) * 3, PING, mask=b"abcd"))
                for number, peer in enumerate(peers):
                    pong = build(b"%d of %d" % (turn, number) * 3, PONG)
                    assert await peer.read_exactly(len(pong)) == pong


async def test_frames_that_wait() -> None:
    """What the socket does not take at once is copied before the buffer is used for another client."""
    with contextlib.ExitStack() as stack:
        async with WsServer[bytes].bind("127.0.0.1:0", close_timeout=60) as server:
            peers = await readers(server, 5, stack)
            server.send_nowait(bytes(12 << 20))  # more than a socket takes
            server.flush()
            of_port = {client.remote_addr.port: client for client in server.clients}
            for number, peer in enumerate(peers):
                client = of_port[peer.sock.getsockname()[1]]
                assert client.stats().queued_bytes
                client.close(4000 + number, f"reason {number}")
            for number, peer in enumerate(peers):
                close = build(struct.pack("!H", 4000 + number) + b"reason %d" % number, CLOSE)
                async with asyncio.timeout(10 * SLOW):
                    while not peer.received.endswith(close):
                        assert await peer.read_some(), bytes(peer.received[-100:])
                peer.close()
