"""Clients that announced a schema are told of gaps: how many messages of a class are missing, and where."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import PLAIN_HEAD, certificates, until
from laggards import MESSAGE, WIRES, Keyed, Message, Newest, Plain, Sure, Window, server_of, stall
from peers import BINARY, TEXT, WsPeer, dial

from deli_com import codec
from deli_com.schema import control
from deli_com.schema.control import Gap, Live

HASH = codec(Message).schema.hash
WINDOW = 64 << 10
MARKER = b"\xff\xff\xff\xff"
PADDING = b"." * 3000


class Told:
    """One that reads when it is told to, messages and control texts."""

    def __init__(self, peer: WsPeer, wire: str) -> None:
        self.peer = peer
        self.wire = wire

    async def next(self) -> Any:
        if self.wire.startswith("ws"):
            frame = await self.peer.frame()
            assert frame.opcode in (TEXT, BINARY)
            return control.parse(frame.payload) if frame.opcode == TEXT else MESSAGE.from_bytes(frame.payload)
        (size,) = struct.unpack("<I", await self.peer.read_exactly(4))
        if size != 0xFFFFFFFF:
            return MESSAGE.from_bytes(await self.peer.read_exactly(size))
        (size,) = struct.unpack("<I", await self.peer.read_exactly(4))
        return control.parse(await self.peer.read_exactly(size))

    async def until(self, last: int) -> list[Any]:
        """All up to the message of this number."""
        found = [await self.next()]
        while getattr(found[-1], "number", None) != last:
            found.append(await self.next())
        return found


@contextlib.asynccontextmanager
async def announced(server: Any, wire: str) -> AsyncIterator[Told]:
    peer = await dial(server.local_addr(), small=True)
    try:
        if wire in ("wss", "tcps"):
            await peer.start_tls(certificates()[1])
        if wire.startswith("ws"):
            head = PLAIN_HEAD.replace(b"\r\n\r\n", f"\r\nDeli-Schema: 1 down={HASH} up=-\r\n\r\n".encode())
            await peer.send_raw(head)
            await peer.read_until(b"\r\n\r\n")
        else:
            hello = f"deli 1 hello down={HASH} up=-".encode()
            await peer.send_raw(MARKER + struct.pack("<I", len(hello)) + hello)
        told = Told(peer, wire)
        while not isinstance(await told.next(), Live):
            pass
        await server.wait_clients(1)
        yield told
    finally:
        peer.close()


def mixed(number: int) -> Any:
    """One of each policy in turn, two keys."""
    kind = (Newest, Window, Keyed, Plain, Keyed, Window, Window)[number % 7]
    if kind is Keyed:
        return Keyed(number, number % 7 // 3, PADDING)
    return kind(number, PADDING if kind is not Plain else b"")


def check(events: list[Any], sent: list[Any]) -> Counter[str]:
    """Each line counts what is missing; the first of a class stands right before what comes behind that."""
    got = {event.number for event in events if not isinstance(event, Gap)}
    lost = [message for message in sent if message.number not in got]
    told: Counter[str] = Counter()
    for i, event in enumerate(events):
        if not isinstance(event, Gap):
            continue
        behind = next((e.number for e in events[i:] if not isinstance(e, Gap)), len(sent))
        missing = sum(type(m).__name__ == event.name and m.number < behind for m in lost)
        first = event.name not in told
        told[event.name] += event.skipped + event.superseded
        assert (event.skipped == 0) == (event.name != "Window")
        assert told[event.name] == missing if first else told[event.name] <= missing
        before = next((e.number for e in reversed(events[:i]) if not isinstance(e, Gap)), -1)
        if first:  # nothing of it is missing before the message that came last
            assert not [m for m in lost if type(m).__name__ == event.name and m.number < before]
    return told


@pytest.mark.parametrize("wire", WIRES)
async def test_each_class_is_told_what_is_missing_of_it(wire: str) -> None:
    async with server_of(wire, max_backlog=WINDOW) as server, announced(server, wire) as slow:
        sent = await stall(server, mixed)
        for _ in range(700):
            sent.append(mixed(len(sent)))
            server.send_nowait(sent[-1])
        await asyncio.sleep(0)
        sent.append(Sure(len(sent)))
        server.send_nowait(sent[-1])
        (peer,) = server.clients
        begun = asyncio.get_running_loop().time()
        events = await slow.until(len(sent) - 1)
        got = {event.number for event in events if not isinstance(event, Gap)}
        lost = Counter(type(m).__name__ for m in sent if m.number not in got)
        assert set(lost) == {"Newest", "Window", "Keyed"}
        while check(events, sent) != lost:
            events.append(await slow.next())  # what came too soon after the first line is added up
        lines = Counter(event.name for event in events if isinstance(event, Gap))
        assert max(lines.values()) <= 1 + (asyncio.get_running_loop().time() - begun) / 0.1
        stats = peer.stats()
        assert stats.skipped == lost["Window"] and stats.superseded == lost["Newest"] + lost["Keyed"]


@pytest.mark.parametrize("wire", WIRES)
async def test_who_loses_nothing_is_told_nothing(wire: str) -> None:
    async with server_of(wire) as server, announced(server, wire) as quick:
        sent = [Newest(number) if number % 2 else Window(number) for number in range(70)]
        for message in sent:
            server.send_nowait(message)
        assert await quick.until(69) == sent


@pytest.mark.parametrize("wire", WIRES)
async def test_what_is_forgotten_with_nothing_behind_it_is_told_at_once(wire: str) -> None:
    async with server_of(wire, max_backlog=WINDOW) as server, announced(server, wire) as slow:
        sent = await stall(server, lambda number: Window(number, PADDING))
        server.send_nowait(Newest(len(sent), PADDING))
        sent.append(Newest(len(sent), PADDING))
        server.flush()
        assert server.forget(type=Newest)
        events = [await slow.next()]
        while not isinstance(events[-1], Gap):
            events.append(await slow.next())
        assert events[-1] == Gap("Newest", 0, 1)
        assert [event.number for event in events[:-1]] == list(range(len(sent) - 1))
        server.send_nowait(Sure(1_000_000))
        assert (await slow.next()).number == 1_000_000


async def test_a_connection_that_ends_leaves_no_line_to_be_told() -> None:
    async with server_of("ws", max_backlog=WINDOW) as server:
        async with announced(server, "ws"):
            sent = await stall(server, mixed)
            for _ in range(700):
                sent.append(mixed(len(sent)))
                server.send_nowait(sent[-1])
        await until(lambda: server.client_count() == 0)
        assert server.stats().skipped >= 0
