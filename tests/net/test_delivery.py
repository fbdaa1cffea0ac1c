"""Regressions from the model test: an up-to-date client misses nothing, nothing is queued for nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import certificates, until
from history import History
from readers import Client, Event, Mode, Pose, State, Tick, Word, body

from deli_com import Peer, WsServer


@contextlib.asynccontextmanager
async def connected(
    server: WsServer[Any, Any], *, keen: bool = True, trusting: Any = None
) -> AsyncIterator[Client]:
    """A client that reads when it is told to, with wide buffers if it is `keen`."""
    before = server.clients
    client = Client("client", History(0, 0), keen)
    await client.dial(server, trusting)
    try:
        (client.peer,) = server.clients - before
        yield client
    finally:
        client.hang_up()


def make(kind: Any, number: int, size: int = 0, **key: int) -> Event:
    return kind(number=number, body=body(number, size), **key)  # type: ignore[no-any-return]


async def numbers(client: Client, server: WsServer[Any, Any]) -> list[int]:
    """All that the client gets, once nothing is left for anybody."""
    quiet = 0
    while quiet < 5:
        moved = client.pull()
        await asyncio.sleep(0)
        quiet = 0 if moved or not server._is_drained() else quiet + 1
    return [number for number, _ in client.got]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_who_is_up_to_date_gets_what_is_superseded_in_the_same_turn(secure: bool) -> None:
    tls, trusting = certificates() if secure else (None, None)
    async with (
        WsServer[Event, None].bind("127.0.0.1:0", ssl=tls) as server,
        connected(server, trusting=trusting) as client,
    ):
        for number in range(5):
            server.send_nowait(make(State, number))
        assert await numbers(client, server) == list(range(5))


@pytest.mark.parametrize("kind", [State, Tick])
async def test_the_same_with_more_than_one_system_call_holds(kind: Any) -> None:
    """For members of a group, who are served alone."""
    async with (
        WsServer[Event, None].bind("127.0.0.1:0", max_backlog=90_000) as server,
        connected(server) as client,
    ):
        group = server.group("a")
        group.add(client.peer)  # type: ignore[arg-type]
        for number in range(100):
            group.send_nowait(make(kind, number, 1_200))
        assert await numbers(client, server) == list(range(100))


async def test_a_large_skip_frame_in_flight_takes_no_room_of_those_after_it() -> None:
    """A client that waits for its transport right behind it gets the newest that fit."""
    async with (
        WsServer[Event, None].bind("127.0.0.1:0", max_backlog=40_000) as server,
        connected(server, keen=False) as client,
    ):
        server.send_nowait(make(Tick, 0, 60_000))
        for number in range(1, 6):
            server.send_nowait(make(Tick, number, 1_000))
            await asyncio.sleep(0)
        assert await numbers(client, server) == list(range(6))


async def test_nothing_is_held_for_those_who_have_it() -> None:
    """The client is served separately: a message is not for all, or for a group that it leaves at once."""
    async with WsServer[Event, None].bind("127.0.0.1:0") as server, connected(server) as client:
        async with connected(server) as other:
            server.send_nowait(make(Word, 0), except_=client.peer)
            await until(server._is_drained)
            assert server.stats().queued_bytes == 0
            group = server.group("a")
            group.add(client.peer)  # type: ignore[arg-type]
            group.send_nowait(make(Word, 1))
            group.send_nowait(make(Word, 2))
            group.discard(client.peer)  # type: ignore[arg-type]
            server.send_nowait(make(Word, 3))
            await until(server._is_drained)
            assert server.stats().queued_bytes == 0
            assert await numbers(client, server) == [1, 2, 3]
            assert await numbers(other, server) == [0, 3]


async def test_nothing_is_retained_for_a_client_that_has_left() -> None:
    async with WsServer[Event, None].bind("127.0.0.1:0") as server:
        async with connected(server) as client:
            assert isinstance(client.peer, Peer)
            client.peer.send_nowait(make(Mode, 0, 100, id=1))
            assert await numbers(client, server) == [0]
            assert server.stats().retained_bytes == 0
        await until(lambda: server.client_count() == 0)
        assert server.stats().retained_keys == 0


async def test_what_another_thread_sends_and_a_full_table_of_keys_refuses_is_not_counted_as_sent() -> None:
    async with WsServer[Event, None].bind("127.0.0.1:0", max_keys=1) as server, connected(server):
        server.send_nowait(make(Mode, 0, id=0))
        await asyncio.to_thread(server.send_nowait, make(Mode, 1, id=1))
        await until(lambda: server.stats().refused["backlog full"])
        assert server.messages_out == 1


async def test_keys_that_hold_nothing_make_room() -> None:
    """Those of a client that has left, and those of another log whose messages everybody has."""
    async with WsServer[Event, None].bind("127.0.0.1:0", max_keys=2) as server:
        for number in range(5):
            async with connected(server) as client:
                assert client.peer is not None
                client.peer.send_nowait(make(Pose, number, id=number))
                assert await numbers(client, server) == [number]
            await until(lambda: server.client_count() == 0)
        async with connected(server) as client:
            group = server.group("a")
            group.add(client.peer)  # type: ignore[arg-type]
            for to in (server, group, server):
                for number in range(2):  # fill the table with keys that are empty a moment later
                    to.send_nowait(make(Pose, number, id=number))
                await until(server._is_drained)
            assert server.arena.keys <= 2
