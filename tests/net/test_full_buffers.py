"""Full send buffers in the middle of a frame while PONG and CLOSE are due. Every byte is checked."""

from __future__ import annotations

import asyncio
import functools
import random
import socket
import struct
from typing import Any

import pytest
from helpers import certificates, until
from peers import BINARY, CLOSE, PING, PONG, WsPeer, close_payload, dial, upgrade

from deli_com import Server, WsServer

SNDBUF = 2048  # Linux doubles it, and will not go below 4608
# Nothing here is limited by time, so that a slow machine or a sanitizer cannot fail it.
NEVER: dict[str, Any] = {"progress_timeout": None, "ping_interval": None, "close_timeout": 3600}
SIZES = [0, 1, 100, 121, 122, 5_000, 32_759, 32_760, 40_000, 65_531, 65_532, 300_000]


def value(number: int, size: int) -> bytes:
    """A message that tells its number and shows any byte that is missing, doubled or misplaced."""
    return struct.pack("<II", number, size) + (bytes(range(256)) * (size // 256 + 2))[number % 256 :][:size]


async def connected(server: WsServer[bytes], trusting: Any) -> WsPeer:
    # A connection inherits the send buffer of the listening socket.
    server._port._acceptor._accept_loops[0]._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)  # type: ignore[union-attr]
    if trusting is None:
        peer = await dial(server.local_addr(), small=True)
    else:
        peer = await WsPeer.open(server.local_addr(), ssl=trusting)  # type: ignore[assignment]
    await upgrade(peer)
    return peer


@pytest.mark.parametrize("transports", ["aiofastnet", "loop"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["peer", "server"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.limit(40)
async def test_frames_stay_whole(
    transports: str, secure: bool, end: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random sizes to a peer that reads random amounts, asks for PONGs, and is closed with frames queued."""
    import deli_com.ws.port as module

    monkeypatch.setattr(module, "WsAcceptor", functools.partial(module.WsAcceptor, transports=transports))
    tls, trusting = certificates() if secure else (None, None)
    rng = random.Random(seed)
    server = await WsServer[bytes].bind("127.0.0.1:0", ssl=tls, **NEVER)
    peer = await connected(server, trusting)
    await server.wait_clients(1)
    sent: list[bytes] = []
    data, pongs = 0, []

    async def read_one(peer: WsPeer = peer, sent: list[bytes] = sent, pongs: list[int] = pongs) -> int | None:
        """Check the next frame; its close code once it is CLOSE."""
        nonlocal data
        frame = await peer.frame()
        assert frame.fin and not frame.rsv and not frame.masked
        if frame.opcode == CLOSE:
            return frame.close_code
        if frame.opcode == PONG:
            pongs.append(int(frame.payload))
        elif frame.opcode != PING:  # a marker, at a frame's end too
            assert frame.opcode == BINARY
            assert frame.payload == struct.pack("<I", len(sent[data])) + sent[data]
            data += 1
        return None

    for step in range(120):
        for _ in range(rng.choice([0, 1, 1, 4])):
            sent.append(value(len(sent), rng.choice(SIZES)))
            server.send_nowait(sent[-1])
        if rng.random() < 0.4:
            await peer.send(b"%d" % step, PING)
        if rng.random() < 0.6:
            for _ in range(rng.randrange(4)):
                if data < len(sent):
                    await read_one()
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    if end == "peer":
        await peer.send(close_payload(1000), CLOSE)
    else:
        closing = asyncio.create_task(server.close(drain=0))
    while (code := await read_one()) is None:
        pass
    assert code == (1000 if end == "peer" else 1001)
    assert pongs == sorted(set(pongs)), "PONGs are in order, none twice"
    if end == "server":
        await peer.send(close_payload(1001), CLOSE)
    assert await peer.read_all() == b"", "nothing follows CLOSE"
    peer.close()
    if end == "server":
        await closing
    await server.close()
    assert pongs and data, "the test reached what it is about"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", ["peer", "server"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.limit(40)
async def test_frames_over_tcp_stay_whole(secure: bool, end: str, seed: int) -> None:
    """The same without control frames: one end closes with messages queued, and what has come is whole."""
    tls, trusting = certificates() if secure else (None, None)
    rng = random.Random(seed)
    server = await Server[bytes].bind(
        "127.0.0.1:0",
        ssl=tls,
        progress_timeout=None,
        keepalive_interval=None,
        close_timeout=3600 if end == "server" else 0.5,
    )
    server._acceptor._accept_loops[0]._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)  # type: ignore[union-attr]
    peer = await (WsPeer.open(server.local_addr(), ssl=trusting) if secure else dial(server.local_addr()))
    await server.wait_clients(1)
    sent: list[bytes] = []
    data = bytearray()
    for _ in range(150):
        for _ in range(rng.choice([0, 1, 1, 4])):
            sent.append(value(len(sent), rng.choice(SIZES)))
            server.send_nowait(sent[-1])
        if rng.random() < 0.6 and len(data) < sum(map(len, sent)):
            data += await peer.read_some(rng.choice([1, 100, 40_000, 300_000]))
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    if end == "server":
        closing = asyncio.create_task(server.close(drain=3600))
        while piece := await peer.read_some():
            data += piece
        peer.close()  # which the server's close waits for
        await closing
    peer.close()
    await server.close()
    at = 0
    for number, one in enumerate(sent):
        whole = struct.pack("<II", len(one) + 4, len(one)) + one
        if end == "server" or at + len(whole) <= len(data):
            assert data[at : at + len(whole)] == whole, f"message {number}"
        at += len(whole)
    assert end == "peer" or at == len(data), "all of it, then the end, and nothing behind it"
    assert len(data) > 100_000, "the test reached what it is about"


@pytest.mark.limit(30)
async def test_a_descriptor_that_is_used_again_at_once_gets_nothing_of_its_former_owner() -> None:
    """Connections end in every way with frames queued, and others take their numbers in the same turns."""
    rng = random.Random(9)
    async with WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2) as server:
        number = 0
        for turn in range(60):
            leaving = await dial(server.local_addr(), small=True)
            await upgrade(leaving)
            await until(lambda: server.client_count() == 1)
            for _ in range(rng.choice([1, 20])):
                server.send_nowait(value(number, rng.choice([100, 40_000, 400_000])))
                number += 1
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            if turn % 3 == 0:
                leaving.reset()
            elif turn % 3 == 1:
                leaving.close()
            else:
                server._connections()[0]._abort()
            coming = await dial(server.local_addr())
            server.send_nowait(value(number, 200_000))  # while both ends are under way
            number += 1
            await upgrade(coming)
            await coming.round_trip()
            server.send_nowait(value(number, 1000))
            assert await coming.message() == struct.pack("<I", 1008) + value(number, 1000)
            number += 1
            await coming.leave()
            leaving.close()
            await until(lambda: not server._connections())


async def test_peers_that_end_inside_a_flush() -> None:
    """A reset that the loop has not seen is met by the flush itself; the others get everything."""
    async with WsServer[bytes].bind("127.0.0.1:0") as server:
        peers = [await dial(server.local_addr()) for _ in range(12)]
        for peer in peers:
            await upgrade(peer)
        await server.wait_clients(12)
        for number in range(5):
            if number < 3:
                peers[number * 2].reset()
                peers[number * 3 + 1].close()
            for size in (100, 50_000):
                server.send_nowait(value(number, size))
            server.flush()
        stayed = [peer for peer in peers if peer.sock.fileno() >= 0]
        assert len(stayed) == 7
        for peer in stayed:
            for number in range(5):
                for size in (100, 50_000):
                    assert await peer.message() == struct.pack("<I", size + 8) + value(number, size)
        await until(lambda: server.client_count() == 7)
        for peer in stayed:
            await peer.leave()
