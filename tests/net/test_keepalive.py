"""Keepalive: silent peers are closed with reason and figures; busy and slow ones are not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator

import pytest
from helpers import SLOW, until
from peers import BINARY, CLOSE, PING, PONG, Frame, WsPeer, raw_client, raw_server
from proxy import fault_proxy

from deli_com import ConnectionClosed, WsClient, WsServer

QUICK = {"ping_interval": 0.15 * SLOW, "ping_timeout": 0.15 * SLOW}
CAUSE = re.compile(r"keepalive: no sign of life for \d+\.\d s, \d+ bytes queued")

# Clients in a process of their own, which a test can stop or leave alone while its own loop stands still.
CLIENTS = """
import asyncio, sys
from deli_com import WsClient

async def main(port, count):
    clients = [
        await WsClient[bytes].connect(("127.0.0.1", port), ping_interval=None) for _ in range(count)
    ]
    print("ready", flush=True)
    await asyncio.gather(*(client.recv() for client in clients), return_exceptions=True)

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


@contextlib.asynccontextmanager
async def other_process(server: WsServer[bytes], clients: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CLIENTS,
        str(server.local_addr().port),
        str(clients),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class TestSilence:
    async def test_a_peer_that_answers_nothing_is_closed_with_cause_and_figures(self) -> None:
        """It is asked once, has `ping_timeout`, and can read afterwards what the matter was."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", close_timeout=3600, **QUICK) as server,
            raw_client(server.local_addr()) as peer,
        ):
            await server.wait_clients(1)
            began = time.monotonic()
            await until(lambda: server.client_count() == 0)
            assert time.monotonic() - began >= 0.3 * SLOW
            frames, code, reason = await peer.read_to_close(pings=True)
            assert [frame.opcode for frame in frames] == [PING]
            assert code == 1011
            assert CAUSE.fullmatch(reason)

    async def test_a_client_notices_too(self) -> None:
        """The server stands still: `recv` raises 1011, and no close handshake is waited for in vain."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(
                WsClient[bytes].connect(server.address, close_timeout=3600, **QUICK), server.accept()
            )
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.code == 1011
            assert CAUSE.fullmatch(closed.value.reason)
            assert (await peer.frame()).opcode == PING
            await client.close()

    @pytest.mark.limit(20)
    async def test_a_stopped_process(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its kernel goes on acknowledging; what it no longer does is answer."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2, **QUICK) as server,
            other_process(server, 1) as process,
        ):
            await asyncio.sleep(0.7 * SLOW)
            assert server.client_count() == 1
            with caplog.at_level(logging.WARNING, "deli_com"):
                os.kill(process.pid, signal.SIGSTOP)
                await until(lambda: server.client_count() == 0)
                await until(lambda: not server._connections())
            os.kill(process.pid, signal.SIGKILL)
            (record,) = [r for r in caplog.records if r.name == "deli_com.server"]
            assert re.match(r"closing 127\.0\.0\.1:\d+ \(1011\): " + CAUSE.pattern, record.getMessage())

    async def test_a_link_that_swallows_all(self) -> None:
        """Neither FIN nor RST comes from a link that is dead."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2, **QUICK) as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            client = await WsClient[bytes].connect(proxy.address, ping_interval=None)
            await server.wait_clients(1)
            proxy.links[0].up.drop()
            proxy.links[0].down.drop()
            await until(lambda: not server._connections())
            await client.close()


class TestSignsOfLife:
    async def test_a_pong_is_one_and_gives_the_round_trip(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0", **QUICK) as server,
            raw_client(server.local_addr()) as peer,
        ):
            for _ in range(4):
                ping = await peer.frame()
                assert (ping.opcode, len(ping.payload)) == (PING, 8)
                await asyncio.sleep(0.05)
                await peer.send(ping.payload, PONG)
            await peer.send(struct.pack("<I", 2) + b"hi")
            found, _ = await server.recv_from()
            assert 0.045 <= found.round_trip < 0.15 * SLOW  # timers of uvloop are whole milliseconds

    async def test_so_is_any_frame(self) -> None:
        """A peer that answers no PING but sends messages lives."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", **QUICK) as server,
            raw_client(server.local_addr()) as peer,
        ):
            for _ in range(12):
                await peer.send(struct.pack("<I", 2) + b"hi")
                await asyncio.sleep(0.1 * SLOW)
            assert server.client_count() == 1

    async def test_a_pong_that_nobody_asked_for_is_no_round_trip(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send(b"12345678", PONG)
            await peer.send(struct.pack("<I", 2) + b"hi")
            found, _ = await server.recv_from()
            assert found.round_trip != found.round_trip, "nan"

    @pytest.mark.limit(30)
    async def test_ten_clients_survive_a_loop_that_stands_still(self) -> None:
        """Blocked for three times the deadline, the server judges nobody for its own absence.

        The clients stand still too, as when a machine sleeps: the loop that comes back finds a PING to each
        unanswered and every deadline passed. From then on a client has nearly the whole deadline for its
        PONG.
        """
        interval, timeout = 0.05 * SLOW, 0.5 * SLOW
        async with (
            WsServer[bytes].bind("127.0.0.1:0", ping_interval=interval, ping_timeout=timeout) as server,
            other_process(server, 10) as clients,
        ):
            await server.wait_clients(10)
            for _ in range(2):
                clients.send_signal(signal.SIGSTOP)
                await asyncio.sleep(2 * interval)
                time.sleep(3 * timeout)  # noqa: ASYNC251 - the point
                clients.send_signal(signal.SIGCONT)
                await asyncio.sleep(timeout)
                assert server.client_count() == 10

    @pytest.mark.limit(30)
    async def test_a_slow_client_in_the_middle_of_one_large_message_is_not_silent(self) -> None:
        """The PING waits behind the message, so no PONG can come; that its kernel takes bytes is enough."""
        size = 24 << 20
        async with (
            WsServer[bytes].bind("127.0.0.1:0", **QUICK) as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            await server.wait_clients(1)
            server.send_nowait(bytes(size))
            began = time.monotonic()
            while time.monotonic() - began < 6 * QUICK["ping_timeout"]:
                await peer.read_some(4096)
                await asyncio.sleep(0.005)
                assert server.client_count() == 1
            data = await peer.frame()
            assert len(data.payload) == size + 4
            await peer.round_trip()
            assert server.client_count() == 1

    async def test_never_means_never(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0", ping_interval=None, ping_timeout=0.1) as server,
            raw_client(server.local_addr()) as peer,
        ):
            await asyncio.sleep(0.8)
            assert server.client_count() == 1
            await server.send(b"first")
            assert await peer.frame() == Frame(BINARY, struct.pack("<I", 5) + b"first")


@pytest.mark.limit(20)
async def test_close_is_bounded_against_every_kind_of_peer() -> None:
    """A stalled, a chatty, a blackholed and a mute peer at once: within drain + 2.5 s, with the defaults."""
    drain = 0.5
    server = await WsServer[bytes].bind("127.0.0.1:0")
    async with (
        raw_client(server.local_addr(), small=True),
        raw_client(server.local_addr()) as chatty,
        raw_client(server.local_addr()) as mute,
        fault_proxy(server.local_addr()) as proxy,
    ):
        hidden = await WsClient[bytes].connect(proxy.address, ping_interval=None)
        await server.wait_clients(4)
        proxy.links[0].up.drop()
        proxy.links[0].down.drop()

        async def talk(peer: WsPeer) -> None:
            with contextlib.suppress(OSError):
                while True:
                    await peer.send(struct.pack("<I", 2) + b"hi")
                    await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk(chatty))
        listening = asyncio.create_task(mute.read_to_end())
        for _ in range(10):
            server.send_nowait(bytes(1 << 20))
        began = time.monotonic()
        await server.close(drain=drain)
        took = time.monotonic() - began
        assert took <= drain + 2.5
        talking.cancel()
        await asyncio.wait([talking])
        frames = await listening
        assert [frame.opcode for frame in frames] == [BINARY] * 10 + [CLOSE]
        assert frames[-1].close_code == 1001
        await hidden.close()
