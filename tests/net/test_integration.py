"""Servers and clients together, and with other libraries. Mirrors `ws_integration_tests` of Rust."""

from __future__ import annotations

import asyncio
import random
import struct

import aiohttp
import pytest
import websockets
from helpers import until
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve

from deli_com import Codec, ConnectionClosed, WsClient, WsServer, u32


class Sample(Codec):
    number: u32
    text: str
    body: bytes


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


def mixed_messages() -> list[bytes]:
    """1000 messages of every kind of size, 3 MB ones among them, the same in every run."""
    rng = random.Random(2)
    sizes = [rng.choice((0, 1, 64, 64, 120, 126, 1000, 1500, 32_764, 40_000, 65_532)) for _ in range(1000)]
    for index in (0, 1, 500, 998, 999):
        sizes[index] = 3_000_000
    base = rng.randbytes(3_000_000)
    return [
        struct.pack("<I", n) + base[: size - 4] if size >= 4 else base[:size] for n, size in enumerate(sizes)
    ]


class TestOurs:
    async def test_single_sender_single_receiver(self) -> None:
        async with (
            WsServer[Sample].bind("127.0.0.1:0") as server,
            WsClient[Sample].connect(server.local_addr()) as client,
        ):
            sent = Sample(1, "one", b"\0\xff")
            await server.send(sent)
            assert await client.recv() == sent

    async def test_single_sender_several_receivers(self) -> None:
        """Each gets each value, in order."""
        async with WsServer[Sample].bind("127.0.0.1:0") as server:
            clients = [await WsClient[Sample].connect(server.local_addr()) for _ in range(3)]
            sent = [Sample(n, "x" * n, bytes(n)) for n in range(50)]
            for value in sent:
                await server.send(value)
            for client in clients:
                assert [await client.recv() for _ in sent] == sent
                await client.close()

    async def test_a_receiver_leaves_and_the_sender_goes_on(self) -> None:
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as stays,
        ):
            async with WsClient[u32].connect(server.local_addr()) as leaves:
                await server.send(1)
                assert [await stays.recv(), await leaves.recv()] == [1, 1]
            await until(lambda: server.client_count() == 1)
            await server.send(2)
            assert await stays.recv() == 2
        await until(lambda: server.client_count() == 0)

    async def test_messages_arrive_in_order(self) -> None:
        """Both ways at once; awaited and not."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):

            async def produce(end: WsServer[u32] | WsClient[u32]) -> None:
                for number in range(5000):
                    if number % 3:
                        end.send_nowait(number)
                    else:
                        await end.send(number)

            async def consume(end: WsServer[u32] | WsClient[u32]) -> None:
                for number in range(5000):
                    assert await end.recv() == number

            async with asyncio.TaskGroup() as group:
                for end in (server, client):
                    group.create_task(produce(end))
                    group.create_task(consume(end))

    async def test_client_to_server(self) -> None:
        async with (
            WsServer[Sample].bind("127.0.0.1:0") as server,
            WsClient[Sample].connect(server.local_addr()) as client,
        ):
            sent = Sample(7, "up", bytes(100_000))
            await client.send(sent)
            assert await server.recv() == sent

    async def test_several_clients_to_the_server(self) -> None:
        """Values of one client stay in order; `recv_from` tells them apart."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            clients = [await WsClient[u32].connect(server.local_addr()) for _ in range(5)]
            for number in range(100):
                for client in clients:
                    client.send_nowait(number)
            found: dict[object, list[int]] = {}
            for _ in range(500):
                source, value = await server.recv_from()
                found.setdefault(source, []).append(value)
            assert list(found.values()) == [list(range(100))] * 5
            for client in clients:
                await client.close()

    async def test_twenty_receivers(self) -> None:
        """Each gets all of 200 values, large ones among them."""
        async with WsServer[Sample].bind("127.0.0.1:0") as server:
            clients = [await WsClient[Sample].connect(server.local_addr()) for _ in range(20)]
            await server.wait_clients(20)
            sent = [Sample(n, str(n), bytes(50_000 if n % 50 == 0 else n)) for n in range(200)]

            async def receive(client: WsClient[Sample]) -> list[Sample]:
                return [await client.recv() for _ in sent]

            receiving = [asyncio.create_task(receive(client)) for client in clients]
            for value in sent:
                await server.send(value)
            assert await asyncio.gather(*receiving) == [sent] * 20
            await asyncio.gather(*(client.close() for client in clients))
            await until(lambda: server.client_count() == 0)

    async def test_echo_of_mixed_messages(self) -> None:
        """A thousand messages there and back, byte for byte, 3 MB ones among them."""
        sent = mixed_messages()
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):

            async def echo() -> None:
                for _ in sent:
                    await server.send(await server.recv())

            async def produce() -> None:
                for payload in sent:
                    await client.send(payload)

            async with asyncio.TaskGroup() as group:
                group.create_task(echo())
                group.create_task(produce())
                for payload in sent:
                    assert await client.recv() == payload


class TestWebsockets:
    """The `websockets` library at the other end."""

    @pytest.mark.limit(30)
    async def test_its_client_receives_a_thousand_messages(self) -> None:
        """In order and byte for byte, 3 MB messages among them."""
        sent = mixed_messages()
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            ws_connect(f"ws://{server.local_addr()}", max_size=None, compression=None) as client,
        ):

            async def produce() -> None:
                for payload in sent:
                    await server.send(payload)

            producing = asyncio.create_task(produce())
            for payload in sent:
                assert await client.recv() == wire(payload)
            await producing

    async def test_its_client_sends(self) -> None:
        """Whole, fragmented and text; its pings are answered; it closes in good order."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            async with ws_connect(f"ws://{server.local_addr()}/path?query=1") as client:
                await client.send(wire(b"whole"))
                await client.send([wire(b"in pieces")[:5], wire(b"in pieces")[5:7], wire(b"in pieces")[7:]])
                await (await client.ping())
                source, value = await server.recv_from()
                assert value == b"whole"
                assert (source.request.path, source.request.query) == ("/path", "query=1")
                assert await server.recv() == b"in pieces"
            assert client.close_code == 1000
            await until(lambda: server.client_count() == 0)

    async def test_its_client_sees_our_close(self) -> None:
        """1001 with a reason, after all that was sent."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            ws_connect(f"ws://{server.local_addr()}") as client,
        ):
            for number in range(10):
                server.send_nowait(b"%d" % number)
            await server.close()
            assert [await client.recv() for _ in range(10)] == [wire(b"%d" % n) for n in range(10)]
            with pytest.raises(websockets.ConnectionClosedOK) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001

    async def test_its_server(self) -> None:
        """It talks to our client both ways, answers its close and closes in its turn."""
        received = []

        async def handler(connection: ServerConnection) -> None:
            received.append(await connection.recv())
            await connection.send(wire(b"whole"))
            await connection.send([wire(b"in pieces")[:3], wire(b"in pieces")[3:]])
            await connection.send("text is no value")
            await connection.send(wire(bytes(3_000_000)))
            if await connection.recv() == wire(b"go"):
                await connection.close(3999, "gone")
            await connection.wait_closed()

        async with ws_serve(handler, "127.0.0.1", 0, max_size=None) as foreign:
            address = foreign.sockets[0].getsockname()
            async with WsClient[bytes].connect(address) as client:
                await client.send(bytes(2_000_000))
                assert await client.recv() == b"whole"
                assert await client.recv() == b"in pieces"
                assert await client.recv() == bytes(3_000_000)
                assert client.unwanted == 1
                await client.send(b"go")
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert (caught.value.code, caught.value.reason) == (3999, "gone")
            assert received == [wire(bytes(2_000_000))]
            async with WsClient[bytes].connect(address) as client:
                await client.send(b"stay")
                assert await client.recv() == b"whole"


class TestAiohttp:
    """The `aiohttp` client at the other end."""

    async def test_its_client(self) -> None:
        """Both ways, pings, and a close in good order; an unsafe write of ours would break its parser."""
        sent = mixed_messages()[400:600]
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{server.local_addr()}/", max_msg_size=0) as client,
        ):

            async def produce() -> None:
                for payload in sent:
                    await server.send(payload)

            producing = asyncio.create_task(produce())
            for payload in sent:
                await client.ping()
                assert await client.receive_bytes() == wire(payload)
            await producing
            await client.send_bytes(wire(b"up"))
            assert await server.recv() == b"up"
            assert await client.close(code=4000)
            assert client.close_code == 4000
            await until(lambda: server.client_count() == 0)

    async def test_its_client_sees_our_close(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0") as server, aiohttp.ClientSession() as session:
            client = await session.ws_connect(f"ws://{server.local_addr()}/")
            server.send_nowait(b"last")
            closing = asyncio.create_task(server.close())
            assert await client.receive_bytes() == wire(b"last")
            message = await client.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == 1001
            await closing
