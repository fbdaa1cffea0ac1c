"""Peers whose system no longer responds, as with a cut cable: who notices, when, and what is reported."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import struct
import sys
import time
from typing import Any

import pytest
from helpers import SLOW, RawPeer, until
from peers import WsPeer, build, dial, raw_client, raw_server, upgrade
from proxy import blackhole

from deli_com import Client, ConnectionClosed, Server, WsClient, WsServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a socket filter is how packets vanish")

QUICK = {"ping_interval": 0.2 * SLOW, "ping_timeout": 0.2 * SLOW}
WHOLE = {"keepalive_interval": 1.0, "keepalive_timeout": 1.0}  # TCP counts in whole seconds
CAUSE = r"keepalive: no sign of life for (\d+\.\d) s, (\d+) bytes queued"


class TestTheFilter:
    async def test_nothing_comes_through_and_nothing_is_told(self) -> None:
        """What the tests below rest on: bytes stay unacknowledged, and closing the socket says nothing."""
        async with WsServer[bytes].bind("127.0.0.1:0", ping_interval=None) as server:
            peer = await dial(server.local_addr())
            await upgrade(peer)
            await server.wait_clients(1)
            blackhole(peer.sock)
            server.send_nowait(b"lost")
            server.flush()
            await asyncio.sleep(0.3)
            with pytest.raises(BlockingIOError):
                peer.sock.recv(1)
            assert server.client_count() == 1
            peer.close()


class TestWebSocket:
    async def test_a_server_closes_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """No answer to the PING, and no acknowledgement of it: 1011, and the connection is gone in time."""
        async with WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2, **QUICK) as server:
            async with raw_client(server.local_addr()) as peer:
                await server.wait_clients(1)
                blackhole(peer.sock)
                began = time.monotonic()
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    await until(lambda: not server._connections())
                assert time.monotonic() - began < 4 * SLOW
                assert re.search(r"\(1011\): " + CAUSE, caplog.text)

    async def test_a_client_notices(self) -> None:
        async with raw_server() as server:
            client, peer = await asyncio.gather(
                WsClient[bytes].connect(server.address, close_timeout=0.2, **QUICK), server.accept()
            )
            blackhole(peer.sock)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.code == 1011
            assert re.fullmatch(CAUSE, closed.value.reason)
            await client.close()

    async def test_with_frames_queued_it_makes_no_progress(self, caplog: pytest.LogCaptureFixture) -> None:
        """`progress_timeout` comes first where there is something to take."""
        async with WsServer[bytes].bind(
            "127.0.0.1:0", close_timeout=0.2, progress_timeout=0.4 * SLOW, max_backlog=256 << 20
        ) as server:
            async with raw_client(server.local_addr(), small=True) as peer:
                await server.wait_clients(1)
                blackhole(peer.sock)
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    while server._is_drained():
                        server.send_nowait(bytes(500_000))
                        await asyncio.sleep(0)
                    await until(lambda: not server._connections())
                assert re.search(r"\(1013\): no progress for \d\.\d s with \d+ bytes queued", caplog.text)


@pytest.mark.limit(20)
class TestTcp:
    @pytest.mark.parametrize("queued", [False, True], ids=["idle", "unacknowledged"])
    async def test_a_server_closes_it(self, queued: bool, caplog: pytest.LogCaptureFixture) -> None:
        """An idle connection is probed by the system; with bytes on their way it needs no probe."""
        async with (
            Server[bytes].bind("127.0.0.1:0", close_timeout=0.2, **WHOLE) as server,
            Client[bytes].connect(server.local_addr()) as other,
        ):
            peer = await RawPeer.open(server.local_addr())
            await server.wait_clients(2)
            blackhole(peer.sock)
            began = time.monotonic()
            if queued:
                server.send_nowait(b"hello")
                assert await other.recv() == b"hello"
            with caplog.at_level(logging.WARNING, "deli_com.server"):
                await until(lambda: server.client_count() == 1)
            assert 1.5 < time.monotonic() - began < 4 * SLOW
            found = re.search(r"closing 127\.0\.0\.1:\d+: " + CAUSE, caplog.text)
            assert found
            assert 2.0 <= float(found[1]) < 4 * SLOW
            peer.close()

    async def test_a_client_notices(self) -> None:
        """And says so: `recv` would wait for ever otherwise."""
        async with raw_server() as server:
            client = await Client[bytes].connect(server.address, **WHOLE)
            peer = await server.accept(answer=None)
            blackhole(peer.sock)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert re.fullmatch(CAUSE, closed.value.reason)
            await client.close()

    async def test_the_silent_and_the_stalled_live(self) -> None:
        """Peers that send nothing, and one that reads nothing: their systems answer, so nobody is closed."""
        async with Server[bytes].bind(
            "127.0.0.1:0", progress_timeout=60.0, max_backlog=256 << 20, **WHOLE
        ) as server:
            silent = [await RawPeer.open(server.local_addr()) for _ in range(5)]
            await server.wait_clients(5)
            stalled = await dial(server.local_addr(), small=True)
            await server.wait_clients(6)
            for _ in range(10):
                server.send_nowait(bytes(1_000_000))
            reading = [asyncio.create_task(peer.read_exactly(10_000_080)) for peer in silent]
            await asyncio.gather(*reading)
            await asyncio.sleep(3.2)
            assert server.client_count() == 6
            for peer in (*silent, stalled):
                peer.close()

    async def test_both_ends_have_their_systems_ask_unless_told_not_to(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[float, float]] = []
        monkeypatch.setattr("deli_com.link.tcp_link.probe", lambda sock, *seconds: asked.append(seconds))
        for options in ({}, {"keepalive_interval": None}, {"keepalive_timeout": None}, WHOLE):
            async with (
                Server[bytes].bind("127.0.0.1:0", **options) as server,
                Client[bytes].connect(server.local_addr(), **options),
            ):
                await server.wait_clients(1)
        never = (math.inf, math.inf)
        assert asked == [(20.0, 20.0)] * 2 + [never] * 4 + [(1.0, 1.0)] * 2

    @pytest.mark.parametrize("name", ["keepalive_interval", "keepalive_timeout"])
    async def test_seconds_that_are_none_are_refused(self, name: str) -> None:
        options: dict[str, Any] = {name: 0}
        with pytest.raises(ValueError, match=f"{name} is 0, expected seconds, 0.001 or more, or None: never"):
            Server[bytes].bind("127.0.0.1:0", **options)
        with pytest.raises(ValueError, match=f"{name} is 0, expected seconds, 0.001 or more, or None: never"):
            Client[bytes].connect("127.0.0.1:1", **options)


@pytest.mark.parametrize("kind", [WsServer, Server])
@pytest.mark.limit(20)
async def test_close_is_not_held_up(kind: Any) -> None:
    """By two that are dead, one that never reads and one that never stops talking, all with frames queued.

    `close(drain=)` is back within drain + 2.5 s, and the one that reads has got everything.
    """
    server = await kind[bytes].bind("127.0.0.1:0", max_backlog=64 << 20)
    peers: list[WsPeer] = []
    for number in range(5):
        peer = await dial(server.local_addr(), small=number < 3)
        if kind is WsServer:
            await upgrade(peer)
        peers.append(peer)
    await server.wait_clients(5)
    good, chatty, _stalled = peers[3], peers[4], peers[2]
    for peer in peers[:2]:
        blackhole(peer.sock)

    async def talk() -> None:
        value = struct.pack("<I", 2) + b"hi"
        message = build(value, mask=b"\1\2\3\4") if kind is WsServer else struct.pack("<I", 6) + value
        with contextlib.suppress(OSError):
            while True:
                await chatty.send_raw(message * 10)
                await asyncio.sleep(0.001)

    talking = asyncio.create_task(talk())
    for number in range(10):
        server.send_nowait(struct.pack("<I", number) + bytes(1_000_000))
    began = time.monotonic()
    closing = asyncio.create_task(server.close(drain=0.5))
    data = await good.read_all()
    await closing
    assert time.monotonic() - began < 0.5 + 2.5
    assert len(data) > 10_000_000, "the one that reads gets all of it"
    assert server._connections() == []
    talking.cancel()
    await asyncio.wait([talking])
    for peer in peers:
        peer.close()
