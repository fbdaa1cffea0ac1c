"""What is older than its class allows is left out, and counted: in the log and in the inbox."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from helpers import PLAIN_HEAD, until
from laggards import WIRES, laggard, server_of, stall
from peers import BINARY, dial

from deli_com import Client, Codec, WsClient, codec, u8, u32
from deli_com.schema import control
from deli_com.schema.control import Gap, Live

AGE = 0.05  # seconds
PADDING = b"." * 3000


class Message(Codec, sealed=True):
    number: u32


class Sure(Message):
    data: bytes = b""


class Forever(Message, max_age=1e6):
    pass


class Aged(Message, max_age=AGE):
    data: bytes = b""


class Patient(Message, policy="wait", max_age=AGE):
    pass


class Window(Message, policy="skip", max_age=AGE):
    pass


class Newest(Message, policy="latest", key="key", max_age=AGE, retain=True):
    key: u8 = 0


class Kept(Message, policy="latest", max_age=1e6, retain=True):
    pass


MESSAGE = codec(Message)
SHORT: tuple[type[Message], ...] = (Aged, Patient, Window, Newest)


def grow_old() -> None:
    """Let time pass, and no turn of the loop."""
    time.sleep(2 * AGE)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_loop_that_stands_still_sends_nothing_that_is_too_old(wire: str) -> None:
    """Nine clients: so many are never served within the send itself."""
    async with server_of(wire, Message) as server, contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(laggard(server, wire, small=False)) for _ in range(9)]
        await asyncio.sleep(0)
        for number, cls in enumerate(SHORT):
            server.send_nowait(cls(number))
        server.send_nowait(Forever(10))
        grow_old()
        server.send_nowait(Aged(11))
        server.send_nowait(Sure(12))
        for one in slow:
            got = [MESSAGE.from_bytes(await one.payload()) for _ in range(3)]
            assert got == [Forever(10), Aged(11), Sure(12)]
        assert server.stats().skipped == 9 * len(SHORT)
        assert server.stats().superseded == 0


@pytest.mark.parametrize("wire", WIRES)
async def test_who_is_behind_gets_nothing_that_is_too_old(wire: str) -> None:
    async with server_of(wire, Message) as server, laggard(server, wire) as slow:
        sent = await stall(server, lambda number: Sure(number, PADDING))
        for cls in SHORT:
            server.send_nowait(cls(1_000))
        server.send_nowait(Forever(1_001))
        await asyncio.sleep(2 * AGE)
        server.send_nowait(Sure(1_002))
        got = [MESSAGE.from_bytes(await slow.payload())]
        while got[-1].number != 1_002:
            got.append(MESSAGE.from_bytes(await slow.payload()))
        assert got == [*sent, Forever(1_001), Sure(1_002)]
        (peer,) = server.clients
        assert (peer.stats().skipped, peer.stats().superseded) == (len(SHORT), 0)


@pytest.mark.parametrize("wire", WIRES)
async def test_messages_of_groups_and_for_one_client(wire: str) -> None:
    async with server_of(wire, Message) as server, laggard(server, wire) as slow:
        sent = await stall(server, lambda number: Sure(number, PADDING))
        (peer,) = server.clients
        group = server.group("left")
        group.add(peer)
        for cls in SHORT:
            group.send_nowait(cls(1_000))
            peer.send_nowait(cls(1_000))
        await asyncio.to_thread(server.send_nowait, Aged(1_000))
        await asyncio.sleep(2 * AGE)
        peer.send_nowait(Sure(1_002))
        got = [MESSAGE.from_bytes(await slow.payload())]
        while got[-1].number != 1_002:
            got.append(MESSAGE.from_bytes(await slow.payload()))
        assert got == [*sent, Sure(1_002)]
        assert peer.stats().skipped == 2 * len(SHORT) + 1


async def test_memory_of_what_is_too_old_goes_while_nobody_reads() -> None:
    async with server_of("ws", Message) as server, laggard(server, "ws"):
        await stall(server, lambda number: Sure(number, PADDING))
        before = server.stats().queued_bytes
        for _ in range(100):
            server.send_nowait(Aged(0, PADDING))
        await asyncio.sleep(2 * AGE)
        assert server.stats().queued_bytes > before + 100 * len(PADDING)
        server.send_nowait(Aged(1))
        assert server.stats().queued_bytes < before + len(PADDING)


async def test_whoever_connects_gets_nothing_retained_that_is_too_old() -> None:
    async with server_of("ws", Message) as server:
        server.send_nowait(Newest(1))
        server.send_nowait(Kept(2))
        grow_old()
        server.send_nowait(Newest(3, 1))
        async with laggard(server, "ws", small=False) as late:
            server.send_nowait(Sure(4))
            got = [MESSAGE.from_bytes(await late.payload()) for _ in range(2)]
            if got[-1].number == 3:  # it was quick enough
                got[-1] = MESSAGE.from_bytes(await late.payload())
            assert got == [Kept(2), Sure(4)]


async def test_a_newer_message_of_a_key_after_one_that_grew_too_old() -> None:
    async with server_of("ws", Message) as server, laggard(server, "ws") as slow:
        sent = await stall(server, lambda number: Sure(number, PADDING))
        for number in range(5):
            server.send_nowait(Kept(1_000 + number))
            server.send_nowait(Newest(1_000))
        await asyncio.sleep(2 * AGE)
        server.send_nowait(Newest(1_001))
        await asyncio.sleep(2 * AGE)
        server.send_nowait(Kept(1_010))
        server.send_nowait(Sure(1_011))
        got = [MESSAGE.from_bytes(await slow.payload())]
        while got[-1].number != 1_011:
            got.append(MESSAGE.from_bytes(await slow.payload()))
        assert got == [*sent, Kept(1_010), Sure(1_011)]
        stats = server.stats()
        assert stats.skipped == 1  # nobody came to the others before a newer one did
        assert stats.superseded == 10


async def test_it_is_told_as_skipped() -> None:
    async with server_of("ws", Message) as server:
        peer = await dial(server.local_addr(), small=True)
        try:
            hash_ = MESSAGE.schema.hash
            head = PLAIN_HEAD.replace(b"\r\n\r\n", f"\r\nDeli-Schema: 1 down={hash_} up=-\r\n\r\n".encode())
            await peer.send_raw(head)
            await peer.read_until(b"\r\n\r\n")
            await server.wait_clients(1)
            await stall(server, lambda number: Sure(number, PADDING))
            for number in range(3):
                server.send_nowait(Newest(number))
                server.send_nowait(Aged(number))
            await asyncio.sleep(2 * AGE)
            server.send_nowait(Sure(1_000_000))
            gaps: dict[str, list[int]] = {}
            last: Any = None
            while last != Sure(1_000_000) or len(gaps) < 2:
                frame = await peer.frame()
                last = (
                    MESSAGE.from_bytes(frame.payload)
                    if frame.opcode == BINARY
                    else control.parse(frame.payload)
                )
                if isinstance(last, Gap):
                    counts = gaps.setdefault(last.name, [0, 0])
                    counts[0] += last.skipped
                    counts[1] += last.superseded
                else:
                    assert isinstance(last, (Sure, Live))
            assert gaps == {"Aged": [3, 0], "Newest": [1, 2]}
        finally:
            peer.close()


@pytest.mark.parametrize("wire", ["ws", "tcp"])
async def test_a_program_that_comes_late_gets_nothing_that_is_too_old(wire: str) -> None:
    cls: Any = WsClient if wire == "ws" else Client
    async with server_of(wire, Message) as server:
        async with await cls[Message, None].connect(server.local_addr()) as client:
            for number, short in enumerate(SHORT):
                server.send_nowait(short(number))
            server.send_nowait(Sure(9))
            await until(lambda: client.stats().inbox_bytes > 0 and client.stats().messages_in == 5)
            await asyncio.sleep(2 * AGE)
            assert await client.recv() == Sure(9)
            assert client.stats().inbox_skipped == len(SHORT)


async def test_what_has_no_max_age_waits_however_long() -> None:
    async with server_of("ws", Message) as server:
        async with await WsClient[Message, None].connect(server.local_addr()) as client:
            server.send_nowait(Sure(1))
            server.send_nowait(Forever(2))
            server.send_nowait(Aged(3))
            await until(lambda: client.stats().messages_in == 3)
            await asyncio.sleep(2 * AGE)
            server.send_nowait(Sure(4))
            assert [await client.recv() for _ in range(3)] == [Sure(1), Forever(2), Sure(4)]


async def test_conflate_false_keeps_all() -> None:
    async with server_of("ws", Message) as server:
        async with await WsClient[Message, None].connect(server.local_addr(), conflate=False) as client:
            server.send_nowait(Aged(1))
            await until(lambda: client.stats().messages_in == 1)
            await asyncio.sleep(2 * AGE)
            assert await client.recv() == Aged(1)
