"""Marks over TCP: who has announced a schema is asked, and judged by its answers; nobody else sees one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from helpers import SLOW, certificates, until
from swallowing import swallowing_relay
from tcp_peers import ReferencePeer, listening, reference_client, value
from traffic import Plain, Pose, reading, sending

from deli_com import Client, Recording, Server, WsClient, codec
from deli_com.relay import Relay

HASH = codec(bytes).schema.hash
HELLO = f"deli 1 hello down={HASH} up={HASH}"
LIVE = "deli 1 live"
MARK = re.compile(rb"deli 1 mark ([0-9a-f]{16})")
NO_MARK = "0" * 16
QUICK = {"keepalive_interval": 0.3 * SLOW, "keepalive_timeout": 0.3 * SLOW}


def framed(*texts: str) -> bytes:
    return b"".join(b"\xff\xff\xff\xff" + struct.pack("<I", len(text)) + text.encode() for text in texts)


async def text_or_value(peer: ReferencePeer) -> tuple[bool, bytes]:
    """One frame: whether it is a control text, and its bytes."""
    (size,) = struct.unpack("<I", await peer.read_exactly(4))
    is_text = size == 0xFFFFFFFF
    if is_text:
        (size,) = struct.unpack("<I", await peer.read_exactly(4))
    return is_text, await peer.read_exactly(size)


async def mark(peer: ReferencePeer) -> str:
    """The token of the next mark; values before it are passed over."""
    while True:
        is_text, data = await text_or_value(peer)
        if is_text:
            found = MARK.fullmatch(data)
            assert found, data
            return found[1].decode()


@contextlib.asynccontextmanager
async def announced(server: Server[Any, Any]) -> AsyncIterator[tuple[ReferencePeer, Any]]:
    """A reference peer that has announced the schema of bytes, and what the server knows of it."""
    peer = await ReferencePeer.open(server.local_addr())
    try:
        await peer.send(framed(HELLO))
        opening = framed(HELLO, LIVE)
        assert await peer.read_exactly(len(opening)) == opening
        (known,) = server.clients
        yield peer, known
    finally:
        peer.close()


class TestOfAServer:
    async def test_one_is_due_after_64_kib_and_a_sweep(self) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, announced(server) as (peer, known):
            tokens = set()
            for _ in range(2):
                server.send_nowait(bytes(100_000))
                token = await mark(peer)
                tokens.add(token)
                await peer.send(framed(f"deli 1 seen {token}"))
                await until(lambda: known.stats().in_flight == 0)
            found = known.stats()
            assert len(tokens) == 2
            assert found.transit is not None
            assert found.transit < 1.0
            assert found.rate > 0
            assert found.round_trip_s > 0

    async def test_an_answer_to_no_mark_is_ignored(self) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, announced(server) as (peer, known):
            server.send_nowait(bytes(100_000))
            token = await mark(peer)
            wrong = f"{int(token, 16) ^ 1:016x}"
            await peer.send(framed(f"deli 1 seen {NO_MARK}", f"deli 1 seen {wrong}"))
            await peer.send_message(value(b"hi"))
            assert await server.recv() == b"hi"
            assert known.stats().transit is None
            assert server.stats().messages_in == 1
            assert server.stats().refused["unwanted"] == 0

    async def test_one_that_announced_nothing_gets_none(self) -> None:
        """Neither for what it is sent, nor for its silence."""
        async with (
            Server[bytes].bind("127.0.0.1:0", **QUICK) as server,
            reference_client(server) as peer,
        ):
            for number in range(12):
                server.send_nowait(bytes([number]) * 50_000)
                assert await peer.message() == value(bytes([number]) * 50_000)
                await asyncio.sleep(0.1 * SLOW)
            (known,) = server.clients
            assert known.stats().transit is None
            await peer.send_message(value(b"bye"))
            assert await server.recv() == b"bye"
            assert not peer.received

    async def test_none_for_what_is_sent_without_a_bound(self) -> None:
        async with (
            Server[bytes].bind("127.0.0.1:0", max_transit=None) as server,
            announced(server) as (peer, _),
        ):
            for _ in range(5):
                server.send_nowait(bytes(100_000))
                assert await text_or_value(peer) == (False, value(bytes(100_000)))
                await asyncio.sleep(0.1)
            assert not peer.received

    async def test_who_ignores_them_is_judged_by_its_system(self) -> None:
        """As one without a schema: it is alive for as long as its system acknowledges. Marks go on."""
        async with (
            Server[bytes].bind("127.0.0.1:0", **QUICK) as server,
            announced(server) as (peer, known),
        ):
            tokens = [await mark(peer) for _ in range(4)]
            assert len(set(tokens)) == 4
            assert server.client_count() == 1
            assert known.stats().transit is None

    async def test_who_has_answered_and_falls_silent_is_dead(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its system acknowledges all the same."""
        async with (
            Server[bytes].bind("127.0.0.1:0", **QUICK) as server,
            announced(server) as (peer, _),
        ):
            for _ in range(3):
                await peer.send(framed(f"deli 1 seen {await mark(peer)}"))
            assert server.client_count() == 1
            with caplog.at_level(logging.WARNING, "deli_com.server"):
                await until(lambda: server.client_count() == 0)
            assert re.search(r"closing 127\.0\.0\.1:\d+: keepalive: no sign of life for \d", caplog.text)

    async def test_anything_from_it_is_a_sign_of_life(self) -> None:
        async with (
            Server[bytes].bind("127.0.0.1:0", **QUICK) as server,
            announced(server) as (peer, known),
        ):
            await peer.send(framed(f"deli 1 seen {await mark(peer)}"))
            await until(lambda: known.stats().transit is not None)
            for _ in range(10):
                await asyncio.sleep(0.12 * SLOW)
                await peer.send(framed(f"deli 1 seen {NO_MARK}"))
            assert server.client_count() == 1

    async def test_a_flood_of_them_is_answered_by_few(self) -> None:
        """The last one is answered in any case, and with it all others."""
        async with Server[bytes].bind("127.0.0.1:0") as server, announced(server) as (peer, _):
            count = 4000
            await peer.send(framed(*(f"deli 1 mark {number:016x}" for number in range(count))))
            answers = []
            while not answers or answers[-1] != b"deli 1 seen %016x" % (count - 1):
                is_text, data = await text_or_value(peer)
                assert is_text
                answers.append(data)
            assert answers == sorted(answers)
            assert 64 < len(answers) < count

    async def test_an_end_that_does_not_read_says_that_it_lives(self) -> None:
        async with (
            Server[bytes].bind(
                "127.0.0.1:0", max_inbound=1 << 20, max_message_size=100_000, **QUICK
            ) as server,
            announced(server) as (peer, _),
        ):

            async def send_much() -> None:
                while True:
                    await peer.send_message(value(bytes(40_000)))

            task = asyncio.create_task(send_much())
            await server.recv()
            for _ in range(2):
                while (found := await text_or_value(peer)) != (True, f"deli 1 seen {NO_MARK}".encode()):
                    assert MARK.fullmatch(found[1])
            assert server.client_count() == 1
            task.cancel()
            await asyncio.wait([task])


class TestOfAClient:
    async def test_it_asks_and_answers(self) -> None:
        async with listening() as listener:
            opening = asyncio.ensure_future(opened(listener.address))
            peer = await listener.accept()
            assert await peer.read_exactly(len(framed(HELLO))) == framed(HELLO)
            await peer.send(framed(HELLO, LIVE))
            client = await opening
            (link,) = client._connections()
            client.send_nowait(bytes(100_000))
            token = await mark(peer)
            assert link.stats().transit is None
            await peer.send(framed(f"deli 1 seen {token}", f"deli 1 mark {token}"))
            assert await text_or_value(peer) == (True, f"deli 1 seen {token}".encode())
            assert link.stats().in_flight == 0
            await peer.send_message(value(b"hi"))
            assert await client.recv() == b"hi"
            peer.close()
            await client.close()

    async def test_a_silent_server_is_noticed(self) -> None:
        async with listening() as listener:
            opening = asyncio.ensure_future(opened(listener.address, **QUICK))
            peer = await listener.accept()
            await peer.send(framed(HELLO, LIVE))
            client = await opening
            assert await peer.read_exactly(len(framed(HELLO))) == framed(HELLO)
            await peer.send(framed(f"deli 1 seen {await mark(peer)}"))
            with pytest.raises(Exception, match="keepalive: no sign of life"):
                await client.recv()
            peer.close()
            await client.close()

    async def test_without_a_schema_it_sends_none(self) -> None:
        async with listening() as listener:
            client = await Client[bytes].connect(listener.address, **QUICK)
            peer = await listener.accept()
            for _ in range(4):
                client.send_nowait(bytes(100_000))
                assert await peer.message() == value(bytes(100_000))
                await asyncio.sleep(0.25 * SLOW)
            assert not peer.received
            peer.close()
            await client.close()


async def opened(address: tuple[str, int], **options: Any) -> Client[bytes, bytes]:
    return await Client[bytes].connect(address, schema="check", **options)


class TestThroughARelayThatSwallows:
    @pytest.mark.limit(30)
    @pytest.mark.loops("asyncio")
    @pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
    async def test_what_waits_waits_here(self, up: bool) -> None:
        """In the log newer values replace them. The relay has a fraction of what it would take."""
        async with (
            Server[Pose].bind("127.0.0.1:0") as server,
            swallowing_relay(server.local_addr(), ways="up" if up else "down") as relay,
        ):
            relay.rate = 2e6
            async with Client[Pose].connect(relay.address, schema="check") as client:
                await server.wait_clients(1)
                (link,) = client._connections() if up else server.clients
                sender, receiver = (client, server) if up else (server, client)
                task = asyncio.create_task(reading(receiver))
                async with sending(sender, lambda turn: Pose(turn, bytes(40_000)), 0.004):
                    await until(lambda: link.stats().superseded > 50 and relay.waiting < 1 << 20)
                    relay.most_waiting = 0
                    superseded = link.stats().superseded
                    await until(lambda: link.stats().superseded > superseded + 100)
                    assert relay.most_waiting < 5 << 19  # of 4 MiB
                task.cancel()
                await asyncio.wait([task])

    @pytest.mark.limit(30)
    async def test_a_cut_cable_is_found(self) -> None:
        """The relay's system acknowledges everything that is sent."""
        async with (
            Server[Plain].bind("127.0.0.1:0", close_timeout=0.2, **QUICK) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            client = await Client[Plain].connect(relay.address, schema="check", keepalive_interval=None)
            await server.wait_clients(1)
            (peer,) = server.clients
            async with sending(server, lambda turn: Plain(turn, bytes(64)), 0.05):
                await until(lambda: peer.stats().round_trip_s is not None)
                relay.cut()
                await until(lambda: server.client_count() == 0)
            await client.close()

    @pytest.mark.limit(40)
    async def test_a_slow_one_that_lives_stays(self) -> None:
        """Marks wait behind 3 MB, which take five times as long as an answer may take."""
        async with (
            Server[Plain].bind("127.0.0.1:0", **QUICK) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            relay.rate = 2e6 / SLOW
            async with Client[Plain].connect(
                relay.address, schema="check", keepalive_interval=None
            ) as client:
                await server.wait_clients(1)
                for turn in range(75):
                    server.send_nowait(Plain(turn, bytes(40_000)))
                    await asyncio.sleep(0.01)
                for turn in range(75):
                    assert (await client.recv()).turn == turn
                assert server.client_count() == 1

    @pytest.mark.limit(30)
    @pytest.mark.loops("uvloop")
    @pytest.mark.parametrize("end", ["server", "peer"])
    async def test_close_lifts_the_bound(self, end: str) -> None:
        async with (
            Server[Pose, None].bind("127.0.0.1:0", max_transit=0.05) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            relay.rate = 4e6
            async with Client[Pose, None].connect(relay.address, schema="check", conflate=False) as client:
                await server.wait_clients(1)
                (peer,) = server.clients
                got: list[int] = []

                task = asyncio.create_task(reading(client, got))
                async with sending(server, lambda turn: Pose(turn, bytes(40_000)), 0.004):
                    await until(lambda: peer.stats().superseded > 50 and peer.stats().behind_s > 0)
                server.send_nowait(Pose(1_000_000))
                if end == "peer":
                    peer.close()
                else:
                    await server.close(drain=5.0)
                await task
                assert got[-1] == 1_000_000


async def test_over_tls() -> None:
    server_tls, client_tls = certificates()
    async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
        address = ("localhost", server.local_addr().port)
        async with Client[bytes].connect(address, ssl=client_tls, schema="check") as client:
            await server.wait_clients(1)
            (peer,) = server.clients
            server.send_nowait(bytes(100_000))
            assert await client.recv() == bytes(100_000)
            await until(lambda: peer.stats().in_flight == 0)


async def test_no_program_recording_or_relay_gets_them(tmp_path: Path) -> None:
    """They go between two ends, and are no values."""
    file = tmp_path / "run.mcap"
    async with Server[Plain, None].bind("127.0.0.1:0", record=file, **QUICK) as server:
        upstream = f"tcp://127.0.0.1:{server.local_addr().port}"
        async with (
            Relay(upstream, bind="127.0.0.1:0") as relay,
            WsClient[Plain, None].connect(f"ws://{relay.local_addr()}") as client,
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            for turn in range(10):
                server.send_nowait(Plain(turn, bytes(40_000)))
                assert (await client.recv()).turn == turn
                await asyncio.sleep(0.1 * SLOW)
            await until(lambda: peer.stats().transit is not None)
            assert server.client_count() == 1
            assert client.stats().messages_in == 10
    with Recording[Plain](file) as recording:
        assert len([*recording]) == 10
