"""The program gets the newest value: values that wait in the inbox of either end follow the policies.

A slow program takes one value in several turns. The age of a value is counted in turns of the sender, without
a clock.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from deli_com import Client, Codec, Server, WsClient, WsServer, serve_background, u8, u32

TURNS = 2000
EACH = 50  # turns for which the program is away
KEYS = 4


class Message(Codec, sealed=True):
    pass


class Order(Message):
    number: u32


class Pose(Message, policy="latest", key="robot"):
    robot: u8
    turn: u32


class Picture(Message, policy="latest"):
    data: bytes
    turn: u32


WIRES = pytest.mark.parametrize(("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)])


class Slow:
    """A program that takes a value now and then, and knows how far the sender is."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.taken: list[Message] = []
        self.late: list[int] = []  # turns between a value and the sender's, when it was taken

    async def take(self, turn: int) -> None:
        value = await self.end.recv()
        self.taken.append(value)
        if isinstance(value, Pose):
            self.late.append(turn - value.turn)

    async def take_rest(self, orders: int) -> None:
        while len(self.orders) < orders:
            self.taken.append(await self.end.recv())

    @property
    def orders(self) -> list[int]:
        return [value.number for value in self.taken if isinstance(value, Order)]

    @property
    def robots(self) -> list[int]:
        return [value.robot for value in self.taken if isinstance(value, Pose)]


async def run(send: Any, slow: Slow) -> int:
    """Send to a slow program; give the number of reliable values sent."""
    orders = 0
    for turn in range(TURNS):
        for robot in range(KEYS):
            send(Pose(robot, turn))
        if turn % 400 == 399:
            send(Order(orders))
            orders += 1
        for _ in range(4):  # it goes out, and comes in
            await asyncio.sleep(0)
        if turn % EACH == EACH - 1:
            await slow.take(turn)
    return orders


class TestSlowProgram:
    @WIRES
    async def test_a_client(self, server_type: Any, client_type: Any) -> None:
        async with server_type[Message, None].bind("127.0.0.1:0") as server:
            async with client_type[Message, None].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                slow = Slow(client)
                orders = await run(server.send_nowait, slow)
                await slow.take_rest(orders)
                stats = client.stats()
        assert slow.orders == list(range(orders))
        assert max(slow.late) <= 4
        assert len(slow.late) > 30
        assert slow.robots[:KEYS] == list(range(KEYS))  # every key in turn
        assert all(slow.robots.count(robot) > 5 for robot in range(KEYS))
        assert stats.superseded == stats.inbox_superseded > TURNS * KEYS * 0.9
        assert stats.superseded + len(slow.taken) + 4 >= TURNS * KEYS

    @WIRES
    async def test_a_server_keeps_them_apart_for_each_client(
        self, server_type: Any, client_type: Any
    ) -> None:
        async with server_type[Message].bind("127.0.0.1:0") as server:
            address = server.local_addr()
            async with (
                client_type[Message].connect(address) as one,
                client_type[Message].connect(address) as other,
            ):
                await server.wait_clients(2)
                for turn in range(300):
                    for client in (one, other):
                        client.send_nowait(Pose(turn % 2, turn))
                    await asyncio.sleep(0)
                one.send_nowait(Order(1))
                other.send_nowait(Order(1))
                got: dict[Any, list[Any]] = {peer: [] for peer in server.clients}
                while [values[-1:] for values in got.values()] != [[Order(1)], [Order(1)]]:
                    peer, value = await server.recv_from()
                    got[peer].append(value)
                stats = server.stats()
        for values in got.values():
            newest = {value.robot: value.turn for value in values if isinstance(value, Pose)}
            assert newest == {0: 298, 1: 299}
        assert stats.inbox_superseded > 400
        assert stats.superseded == 0  # that is what clients did not get

    @WIRES
    async def test_conflate_false_is_the_old_way(self, server_type: Any, client_type: Any) -> None:
        async with server_type[Message, None].bind("127.0.0.1:0") as server:
            async with client_type[Message, None].connect(server.local_addr(), conflate=False) as client:
                await server.wait_clients(1)
                for turn in range(200):
                    server.send_nowait(Pose(1, turn))
                    await asyncio.sleep(0)
                assert [(await client.recv()).turn for _ in range(200)] == list(range(200))
                assert client.stats().superseded == 0

    async def test_a_stream(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0") as server:
            async with WsClient[Message, None].stream(server.local_addr(), max_inbox=1 << 20) as values:
                server.send_nowait(Order(0))
                first = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                server.send_nowait(Order(1))
                assert await first == Order(1)
                for turn in range(500):
                    server.send_nowait(Pose(1, turn))
                    for _ in range(4):
                        await asyncio.sleep(0)
                server.send_nowait(Order(2))
                got = []
                while not got or got[-1] != Order(2):
                    got.append(await anext(values))
        assert got[-2] == Pose(1, 499)
        assert len(got) < 10

    @WIRES
    async def test_a_client_that_is_busy_reads_on(self, server_type: Any, client_type: Any) -> None:
        """Pictures of 100 KB, 50 MB in all, and an inbox of 1 MiB: nothing piles up anywhere."""
        picture = bytes(100_000)
        async with server_type[Message, None].bind("127.0.0.1:0") as server:
            async with client_type[Message, None].connect(server.local_addr(), max_inbox=1 << 20) as client:
                await server.wait_clients(1)
                server.send_nowait(Order(0))
                await client.recv()
                for turn in range(500):
                    await server.send(Picture(picture, turn))
                    await asyncio.sleep(0)
                server.send_nowait(Order(1))
                got = [await client.recv()]
                while got[-1] != Order(1):
                    got.append(await client.recv())
                assert isinstance(got[-2], Picture)
                assert got[-2].turn == 499
                assert len(got) < 30
                assert server.stats().messages_out == client.stats().messages_in + server.stats().superseded


@pytest.mark.parametrize(("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)])
async def test_a_program_that_computes_finds_what_came_meanwhile(server_type: Any, client_type: Any) -> None:
    """It never lets the loop turn by itself; the sender is another thread, whose count is compared."""
    with serve_background(server_type[Message, None].bind("127.0.0.1:0")) as server:
        async with client_type[Message, None].connect(server.local_addr()) as client:
            server.wait_clients(1)
            late = []
            turn = 0
            for _ in range(30):
                for _ in range(200):
                    turn += 1
                    server.send_nowait(Pose(turn % KEYS, turn))
                server.run(server.server.flush)
                time.sleep(0.02)  # noqa: ASYNC251 - it computes
                late.append(turn - (await client.recv()).turn)
        # One burst is read in one go, and may be given out from its beginning.
        assert max(late[1:]) <= 2 * 200


def test_a_background_server_gives_the_newest() -> None:
    """What a thread has not asked for stays in the inbox, where it can be replaced."""

    async def send(address: Any) -> None:
        async with WsClient[Message].connect(address) as client:
            for turn in range(300):
                client.send_nowait(Pose(turn % KEYS, turn))
                client.flush()
                await asyncio.sleep(0.001)
            client.send_nowait(Order(1))

    with serve_background(WsServer[Message].bind("127.0.0.1:0")) as server:
        asyncio.run(send(server.local_addr()))
        got = [server.recv(timeout=60)]
        while got[-1] != Order(1):
            got.append(server.recv(timeout=60))
        superseded = server.run(server.server.stats).inbox_superseded
    newest = {value.robot: value.turn for value in got if isinstance(value, Pose)}
    assert newest == {turn % KEYS: turn for turn in range(296, 300)}
    assert len(got) + superseded == 301
    assert superseded > 100


def test_a_background_server_brings_over_no_more_than_is_asked_for() -> None:
    """A slow thread: each value is the newest of its key when it is taken, not when it was fetched."""
    sent: list[int] = []

    async def send(turn: int, client: Any) -> None:
        for robot in range(KEYS):
            client.send_nowait(Pose(robot, turn))
        client.flush()
        sent.append(turn)

    with serve_background(WsServer[Message].bind("127.0.0.1:0")) as server:
        client = server.run(WsClient[Message].connect, server.local_addr())
        late = []
        for turn in range(40):
            server.run(send, turn, client)
            while server.server.stats().messages_in < (turn + 1) * KEYS:
                server.run(asyncio.sleep, 0)
            late.append(turn - server.recv(timeout=60).turn)
        server.run(client.close)
    assert late == [0] * 40
