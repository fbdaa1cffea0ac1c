"""What a client is told beside values: gaps, in the order of the wire, and the end of what is retained."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import until
from laggards import Kept, Keyed, Message, Sure
from peers import TEXT, RawServer, WsPeer, accept_token, raw_server

from deli_com import Client, ConnectionClosed, Gap, Server, WsClient, WsServer, codec, u32

HASH = codec(Message).schema.hash
WIRES = ["ws", "tcp"]
BOUND: dict[str, Any] = {"ws": WsServer, "tcp": Server}
CONNECTED: dict[str, Any] = {"ws": WsClient, "tcp": Client}


class Told:
    """A server by hand that speaks of its schema."""

    def __init__(self, peer: WsPeer, wire: str) -> None:
        self.peer = peer
        self.wire = wire

    async def say(self, text: str) -> None:
        if self.wire == "ws":
            await self.peer.send(text.encode(), TEXT)
        else:
            await self.peer.send_raw(b"\xff\xff\xff\xff" + struct.pack("<I", len(text)) + text.encode())

    async def send(self, value: Message) -> None:
        data = value.to_bytes()
        if self.wire == "ws":
            await self.peer.send(data)
        else:
            await self.peer.send_raw(struct.pack("<I", len(data)) + data)


async def accepted(server: RawServer, wire: str) -> Told:
    peer = await server.accept(answer=None)
    if wire == "ws":
        head = await peer.read_until(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.IGNORECASE)
        assert key
        await peer.send_raw(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\nDeli-Schema: 1 down=%s up=-\r\n\r\n"
            % (accept_token(key[1]), HASH.encode())
        )
        return Told(peer, wire)
    await peer.read_exactly(4)
    (size,) = struct.unpack("<I", await peer.read_exactly(4))
    await peer.read_exactly(size)
    told = Told(peer, wire)
    await told.say(f"deli 1 hello down={HASH} up=-")
    return told


@contextlib.asynccontextmanager
async def by_hand(wire: str) -> AsyncIterator[tuple[Told, Any]]:
    async with raw_server() as server:
        opening = CONNECTED[wire][Message, None].connect(server.address, schema="check")
        accepting = asyncio.ensure_future(accepted(server, wire))
        client = await opening
        told = await accepting
        try:
            yield told, client
        finally:
            told.peer.close()
            await client.close()


@pytest.mark.parametrize("wire", WIRES)
class TestGaps:
    async def test_one_is_told_before_the_next_value_and_all_in_their_order(self, wire: str) -> None:
        async with by_hand(wire) as (server, client):
            seen: list[object] = []
            client.on_gap(seen.append)
            await server.send(Sure(1))
            await server.say("deli 1 gap Keyed skipped=0 superseded=3")
            await server.say("deli 1 gap Window skipped=2 superseded=0")
            await server.send(Sure(2))
            for _ in range(2):
                value = await client.recv()
                seen.append(value.number)
            assert [gap for gap in seen if isinstance(gap, Gap)] == [
                Gap("Keyed", 0, 3),
                Gap("Window", 2, 0),
            ]
            assert seen.index(2) > max(seen.index(Gap("Keyed", 0, 3)), seen.index(Gap("Window", 2, 0)))

    async def test_what_came_before_anybody_listened_is_told_then(self, wire: str) -> None:
        async with by_hand(wire) as (server, client):
            await server.say("deli 1 gap * reason=upstream")
            await server.say("deli 1 gap * reason=upstream seconds=1.5")
            await server.send(Sure(1))
            await client.recv()
            seen: list[Gap] = []
            assert client.on_gap(seen.append) == seen.append, "it is a decorator, too"
            assert seen == [Gap("*", reason="upstream"), Gap("*", reason="upstream", seconds=1.5)]

    async def test_what_a_function_raises_is_logged_and_the_others_are_called(
        self, wire: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with by_hand(wire) as (server, client):
            seen: list[Gap] = []

            async def later(gap: Gap) -> None:
                await asyncio.sleep(0)
                seen.append(gap)
                raise KeyError("later")

            @client.on_gap
            def fails(gap: Gap) -> None:
                raise ZeroDivisionError

            client.on_gap(later)
            client.on_gap(seen.append)
            await server.say("deli 1 gap Keyed skipped=0 superseded=1")
            await server.send(Sure(1))
            assert (await client.recv()).number == 1
            await until(lambda: len(seen) == 2)
            await until(lambda: len(caplog.records) == 2)
            assert [record.message for record in caplog.records] == ["on_gap raised"] * 2
            assert {record.name for record in caplog.records} == {"deli_com.client"}

    async def test_they_are_counted(self, wire: str) -> None:
        async with by_hand(wire) as (server, client):
            assert (client.stats().gaps, client.stats().skipped, client.stats().superseded) == (0, 0, 0)
            await server.say("deli 1 gap Keyed skipped=0 superseded=3")
            await server.say("deli 1 gap Window skipped=2 superseded=0")
            await server.send(Sure(1))
            await client.recv()
            stats = client.stats()
            assert (stats.gaps, stats.gap_skipped, stats.gap_superseded) == (2, 2, 3)
            assert (stats.skipped, stats.superseded) == (2, 3)
            assert stats.messages_in == 1

    async def test_only_a_function_can_be_called(self, wire: str) -> None:
        async with by_hand(wire) as (_, client):
            with pytest.raises(TypeError, match="on_gap takes a function"):
                client.on_gap(None)

    async def test_a_client_that_stalled_is_told_what_it_missed(self, wire: str) -> None:
        """Between two real ends: what is told and what came make what was sent."""
        async with BOUND[wire][Message, None].bind("127.0.0.1:0", max_backlog=64 << 10) as server:
            client = await CONNECTED[wire][Message, None].connect(
                server.local_addr(), schema="check", max_inbox=64 << 10, conflate=False
            )
            async with client:
                await client.wait_live()
                told: list[Gap] = []
                client.on_gap(told.append)
                server.send_nowait(Sure(0))
                assert (await client.recv()).number == 0
                sent = 1
                behind = 0  # nobody receives, so the client stops to read
                while behind < 1000:
                    server.send_nowait(Keyed(sent, 0, b"." * 3000))
                    sent += 1
                    behind = behind + 1 if server.stats().laggards else 0
                    if sent % 50 == 0:
                        await asyncio.sleep(0)
                server.send_nowait(Sure(sent))
                got = [await client.recv()]
                while not isinstance(got[-1], Sure):
                    got.append(await client.recv())
                missing = sent - len(got)
                await until(lambda: sum(gap.superseded for gap in told) == missing)
                assert missing > 0 and {gap.name for gap in told} == {"Keyed"}
                assert client.stats().gap_superseded == client.stats().superseded == missing


@pytest.mark.parametrize("wire", WIRES)
class TestLive:
    async def test_all_that_is_retained_can_be_received_at_once(self, wire: str) -> None:
        async with BOUND[wire][Message, None].bind("127.0.0.1:0") as server:
            for number in range(100):
                server.send_nowait(Kept(number, number, b"." * 1000))
            async with CONNECTED[wire][Message, None].connect(server.local_addr(), schema="check") as client:
                await client.wait_live()
                values = await client.recv_many(1000)
                assert [value.number for value in values] == list(range(100))
                await client.wait_live()  # again: at once

    async def test_also_when_nothing_is(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with CONNECTED[wire][u32].connect(server.local_addr(), schema="check") as client:
                await client.wait_live()

    async def test_the_end_of_the_connection_comes_first(self, wire: str) -> None:
        async with by_hand(wire) as (server, client):
            waiting = asyncio.ensure_future(client.wait_live())
            await server.send(Sure(1))
            await client.recv()
            assert not waiting.done()
            server.peer.close()
            with pytest.raises(ConnectionClosed):
                await waiting
            with pytest.raises(ConnectionClosed):
                await client.wait_live()

    async def test_having_come_it_stays_true_after_the_end(self, wire: str) -> None:
        async with by_hand(wire) as (server, client):
            await server.say("deli 1 live")
            await client.wait_live()
            await client.close()
            assert client._is_ended()

    async def test_of_a_server_that_says_nothing_the_error_says_so(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0", schema=None) as server:
            async with CONNECTED[wire][u32].connect(server.local_addr()) as client:
                with pytest.raises(RuntimeError, match="the end of the retained values is not reported"):
                    await client.wait_live()

    async def test_without_schemas_the_error_names_the_option(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with CONNECTED[wire][u32].connect(server.local_addr(), schema=None) as client:
                with pytest.raises(RuntimeError, match=r'connect\(schema="check"\) asks for that'):
                    await client.wait_live()
