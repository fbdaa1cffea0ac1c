"""Servers and clients behave the same on any transport: each test runs over WebSocket and over TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import certificates, until

from deli_com import (
    BacklogFull,
    Client,
    Codec,
    ConnectionClosed,
    EncodeError,
    MessageTooLarge,
    Server,
    WsClient,
    WsServer,
    u32,
)

MIB = 1 << 20


class Order(Codec):
    number: u32
    note: str = ""


class Report(Codec):
    text: str


class Ends:
    """A kind of server, and the clients that go with it."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server = server
        self.client = client

    def __repr__(self) -> str:
        return "tcp" if self.server is Server else "websocket"

    @contextlib.asynccontextmanager
    async def connected(
        self, types: Any, number: int = 1, **options: Any
    ) -> AsyncIterator[tuple[Any, list[Any]]]:
        """A server and clients that it counts."""
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(self.server[types].bind("127.0.0.1:0", **options))
            clients = [
                await stack.enter_async_context(self.client[types].connect(server.local_addr()))
                for _ in range(number)
            ]
            await server.wait_clients(number)
            yield server, clients


@pytest.fixture(params=[(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"])
def ends(request: pytest.FixtureRequest) -> Ends:
    return Ends(*request.param)


async def received(client: Any, number: int) -> list[Any]:
    return [await client.recv() for _ in range(number)]


class TestBroadcast:
    async def test_one_receiver(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            await server.send(42)
            assert await client.recv() == 42

    async def test_several_receivers(self, ends: Ends) -> None:
        async with ends.connected(u32, 3) as (server, clients):
            for n in range(10):
                await server.send(n)
            for client in clients:
                assert await received(client, 10) == list(range(10))

    async def test_a_receiver_leaves(self, ends: Ends) -> None:
        """The others get everything, before and after."""
        async with ends.connected(u32, 3) as (server, [one, two, three]):
            await server.send(1)
            assert [await client.recv() for client in (one, two, three)] == [1, 1, 1]
            await two.close()
            await until(lambda: server.client_count() == 2)
            await server.send(2)
            assert [await client.recv() for client in (one, three)] == [2, 2]
            with pytest.raises(ConnectionClosed):
                await two.recv()

    async def test_a_receiver_leaves_while_messages_are_under_way(self, ends: Ends) -> None:
        async with ends.connected(bytes, 2) as (server, [stays, leaves]):
            receiving = asyncio.create_task(received(stays, 50))
            for n in range(50):
                await server.send(bytes([n]) * 100_000)
                if n == 10:
                    leaving = asyncio.create_task(leaves.close())
            assert [data[0] for data in await receiving] == list(range(50))
            await leaving
            await until(lambda: server.client_count() == 1)

    async def test_order(self, ends: Ends) -> None:
        """Values of every size, in bursts and one at a time."""
        sizes = [0, 1, 125, 126, 5000, 32_763, 32_768, 65_535, 65_536, 300_000, 3]
        async with ends.connected(bytes, 2) as (server, clients):
            expected = []
            for n in range(120):
                data = bytes([n]) * sizes[n % len(sizes)]
                expected.append(data)
                if n % 3:
                    server.send_nowait(data)
                else:
                    await server.send(data)
            for client in clients:
                assert await received(client, len(expected)) == expected

    async def test_twenty_receivers(self, ends: Ends) -> None:
        async with ends.connected(Order, 20) as (server, clients):
            sent = [Order(n, "x" * n) for n in range(100)]
            tasks = [asyncio.create_task(received(client, 100)) for client in clients]
            for order in sent:
                await server.send(order)
            assert await asyncio.gather(*tasks) == [sent] * 20
            assert server.client_count() == 20

    async def test_a_late_receiver_gets_what_is_sent_after_it_came(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [early]):
            await server.send(1)
            async with ends.client[u32].connect(server.local_addr()) as late:
                await server.wait_clients(2)
                await server.send(2)
                assert await received(early, 2) == [1, 2]
                assert await late.recv() == 2

    @pytest.mark.limit(30)
    async def test_equal_receivers_are_not_cut_off(self, ends: Ends) -> None:
        """A producer that awaits `send` is paced by those that keep up."""
        async with ends.connected(bytes, 5) as (server, clients):
            tasks = [asyncio.create_task(received(client, 40)) for client in clients]
            for _ in range(40):
                await server.send(bytes(MIB))
            for values in await asyncio.gather(*tasks):
                assert len(values) == 40


class TestUpwards:
    async def test_a_client_sends_to_the_server(self, ends: Ends) -> None:
        async with ends.connected((Report, Order)) as (server, [client]):
            await client.send(Order(7, "up"))
            assert await server.recv() == Order(7, "up")
            await server.send(Report("down"))
            assert await client.recv() == Report("down")

    async def test_each_value_comes_with_its_peer(self, ends: Ends) -> None:
        """And the peers of one server are told apart."""
        async with ends.connected(u32, 3) as (server, clients):
            for n, client in enumerate(clients):
                await client.send(n)
            pairs = [await server.recv_from() for _ in range(3)]
            assert sorted(value for _, value in pairs) == [0, 1, 2]
            assert len({peer for peer, _ in pairs}) == 3
            assert {peer.remote_addr.host for peer, _ in pairs} == {"127.0.0.1"}
            await clients[0].send(9)
            async for peer, value in server.with_peer():
                assert value == 9
                assert peer is next(peer for peer, value in pairs if value == 0)
                break

    async def test_many_at_once_in_the_order_of_each(self, ends: Ends) -> None:
        async with ends.connected(Order, 5) as (server, clients):
            for n in range(200):
                for number, client in enumerate(clients):
                    client.send_nowait(Order(n, str(number)))
            got: list[Order] = []
            while len(got) < 1000:
                got += await server.recv_many(1000)
            for number in range(5):
                assert [order.number for order in got if order.note == str(number)] == list(range(200))

    @pytest.mark.limit(30)
    async def test_a_server_that_does_not_receive_holds_its_clients_back(self, ends: Ends) -> None:
        """Nothing is lost, and the inbox stays bounded."""
        async with ends.connected(bytes) as (server, [client]):
            first = asyncio.create_task(server.recv())
            await asyncio.sleep(0)
            sending = asyncio.create_task(self.send_all(client, 60))
            await until(lambda: held(server) >= 16 * MIB)
            for _ in range(100):
                await asyncio.sleep(0)
            assert held(server) < 20 * MIB
            got = [await first] + await received(server, 59)
            assert [data[0] for data in got] == list(range(60))
            await sending

    @staticmethod
    async def send_all(client: Any, number: int) -> None:
        for n in range(number):
            while True:
                try:
                    await client.send(bytes([n]) * MIB)
                    break
                except BacklogFull:
                    await asyncio.sleep(0.01)


def held(server: Any) -> int:
    return server.inbox.held_bytes


class TestReceiving:
    async def test_async_for_ends_with_the_server(self, ends: Ends) -> None:
        """After all that was queued; again at once when it is asked again; and `recv` raises."""
        async with ends.connected(u32) as (server, [client]):
            for n in range(500):
                server.send_nowait(n)
            closing = asyncio.create_task(server.close())
            assert [value async for value in client] == list(range(500))
            assert [value async for value in client] == []
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await closing

    async def test_async_for_ends_with_the_client(self, ends: Ends) -> None:
        async with ends.connected(u32) as (_, [client]):
            waiting = asyncio.create_task(all_of(client))
            await asyncio.sleep(0)
            await client.close()
            assert await waiting == []

    async def test_async_for_over_a_server_ends_with_it(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            await client.send(1)
            waiting = asyncio.create_task(all_of(server))
            await until(lambda: server.messages_in == 1)
            await server.close()
            assert await waiting == [1]

    async def test_a_cancelled_recv_loses_nothing(self, ends: Ends) -> None:
        """Neither the value that was on its way to it, nor its place for the next."""
        async with ends.connected(u32) as (server, [client]):
            in_time = 0
            for n in range(300):
                first, second = (asyncio.create_task(client.recv()) for _ in range(2))
                await asyncio.sleep(0)
                server.send_nowait(n)
                for _ in range(n % 6):
                    await asyncio.sleep(0)
                if first.cancel():
                    assert await second == n
                    in_time += 1
                else:
                    assert first.result() == n
                    second.cancel()
                await asyncio.wait([first, second])
            assert 0 < in_time < 300

    async def test_a_timeout_around_recv(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.02)
            await server.send(5)
            assert await client.recv() == 5

    async def test_recv_many_takes_what_is_there(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            for n in range(10):
                server.send_nowait(n)
            server.flush()
            await until(lambda: client.messages_in == 10)
            assert await client.recv_many(4) == [0, 1, 2, 3]
            assert await client.recv_many(100) == [4, 5, 6, 7, 8, 9]


async def all_of(source: Any) -> list[Any]:
    return [value async for value in source]


class TestErrors:
    async def test_a_wrong_value_is_an_error_of_the_call(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            for end in (server, client):
                with pytest.raises(EncodeError):
                    end.send(-1)
                with pytest.raises(EncodeError):
                    end.send_nowait("x")
            await server.send(1)
            assert await client.recv() == 1

    async def test_too_large_a_message_is_refused_before_queueing(self, ends: Ends) -> None:
        async with ends.connected(bytes, max_message_size=1000) as (server, [client]):
            with pytest.raises(MessageTooLarge) as caught:
                server.send(bytes(997))
            assert (caught.value.size, caught.value.limit) == (1001, 1000)
            await server.send(bytes(996))
            assert await client.recv() == bytes(996)

    async def test_a_client_that_sends_too_much_is_closed(self, ends: Ends) -> None:
        async with ends.connected(bytes, 2, max_message_size=1000) as (server, [good, bad]):
            with contextlib.suppress(ConnectionClosed):
                await bad.send(bytes(997))
                with pytest.raises(ConnectionClosed):
                    await bad.recv()
            await until(lambda: server.client_count() == 1)
            await server.send(b"on")
            assert await good.recv() == b"on"


class TestClose:
    async def test_nothing_can_be_sent_afterwards(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            await client.close()
            await server.close()
            for end in (server, client):
                with pytest.raises(ConnectionClosed):
                    end.send(1)
                with pytest.raises(ConnectionClosed):
                    end.send_nowait(1)
                with pytest.raises(ConnectionClosed):
                    await end.recv()
                await end.close()

    async def test_what_was_queued_still_arrives(self, ends: Ends) -> None:
        """From either end, though nobody awaited it."""
        async with ends.connected(bytes) as (server, [client]):
            for n in range(20):
                client.send_nowait(bytes([n]) * 100_000)
            await client.close()
            assert [data[0] for data in await received(server, 20)] == list(range(20))
        async with ends.connected(bytes) as (server, [client]):
            for n in range(20):
                server.send_nowait(bytes([n]) * 100_000)
            await server.close()
            assert [data[0] async for data in client] == list(range(20))

    async def test_both_at_once(self, ends: Ends) -> None:
        async with ends.connected(u32, 5) as (server, clients):
            server.send_nowait(1)
            await asyncio.gather(server.close(), *(client.close() for client in clients))
            assert server.client_count() == 0

    async def test_a_waiting_recv_is_told(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, [client]):
            waiting = [asyncio.create_task(end.recv()) for end in (client, client, server)]
            await asyncio.sleep(0)
            await server.close()
            for task in waiting:
                with pytest.raises(ConnectionClosed):
                    await task

    async def test_a_bind_can_follow_at_once(self, ends: Ends) -> None:
        async with ends.connected(u32) as (server, _):
            address = server.local_addr()
            await server.close()
            async with ends.server[u32].bind(address) as again:
                assert again.local_addr() == address


class TestTls:
    async def test_many_messages_of_many_sizes(self, ends: Ends) -> None:
        server_tls, client_tls = certificates()
        async with ends.server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            address = ("localhost", server.local_addr().port)
            async with ends.client[bytes].connect(address, ssl=client_tls) as client:
                await server.wait_clients(1)
                expected = [bytes([n]) * (n * n * 20) for n in range(120)]
                receiving = asyncio.create_task(received(client, len(expected)))
                for data in expected:
                    await server.send(data)
                assert await receiving == expected
