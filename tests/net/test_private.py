"""`peer.send`, and messages to all clients but one: their order, their limits, and their pacing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers import until
from laggards import Keyed, Message, Newest, Sure, Window, laggard, server_of, stall
from peers import raw_client

from deli_com import (
    BacklogFull,
    Client,
    ConnectionClosed,
    EncodeError,
    MessageTooLarge,
    Server,
    WsClient,
    WsServer,
    u32,
)

MB = 1_000_000
PRIVATE_BYTES = 1 << 20
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)


class TestSend:
    @PAIRS
    async def test_only_this_client_gets_it_in_its_place(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0") as server:
            async with client_type[u32].connect(server.local_addr()) as one:
                await server.wait_clients(1)
                (peer,) = server.clients
                async with client_type[u32].connect(server.local_addr()) as two:
                    await server.wait_clients(2)
                    server.send_nowait(1)
                    peer.send_nowait(2)
                    server.send_nowait(3)
                    await peer.send(4)
                    await server.send(5)
                    assert [await one.recv() for _ in range(5)] == [1, 2, 3, 4, 5]
                    assert [await two.recv() for _ in range(3)] == [1, 3, 5]

    async def test_an_answer_to_who_asked(self) -> None:
        """From `recv_from`, as servers do it."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            clients = [await WsClient[u32].connect(server.local_addr()) for _ in range(5)]
            for number, client in enumerate(clients):
                await client.send(number)
            for _ in clients:
                peer, value = await server.recv_from()
                await peer.send(value + 100)
            assert [await client.recv() for client in clients] == [100, 101, 102, 103, 104]
            await asyncio.gather(*(client.close() for client in clients))

    async def test_errors_come_from_the_call(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0", max_message_size=100) as server:
            client = await WsClient[bytes].connect(server.local_addr())
            (peer,) = server.clients
            with pytest.raises(EncodeError):
                peer.send(7)
            with pytest.raises(MessageTooLarge):
                peer.send_nowait(bytes(100))
            await client.close()
            await until(lambda: not peer.is_open)
            for call in (peer.send, peer.send_nowait):
                with pytest.raises(ConnectionClosed) as error:
                    call(b"x")
                assert "this client has left" in str(error.value)
            with pytest.raises(ConnectionClosed):
                await asyncio.to_thread(peer.send_nowait, b"x")

    async def test_from_other_threads(self) -> None:
        """`send_nowait` in that thread's order; `send` is the loop's alone."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            (peer,) = server.clients

            def work() -> None:
                for number in range(100):
                    (peer if number % 2 else server).send_nowait(number)

            await asyncio.to_thread(work)
            assert [await client.recv() for _ in range(100)] == list(range(100))
            with pytest.raises(RuntimeError, match=r"peer\.send was called from thread"):
                await asyncio.to_thread(peer.send, 1)
            assert server.stats().messages_out == 100

    async def test_one_that_has_left_when_the_loop_takes_it(self) -> None:
        """From another thread that cannot be told: nobody gets it, nothing breaks."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            async with WsClient[u32].connect(server.local_addr()) as other:
                await server.wait_clients(1)
                before = server.clients
                async with raw_client(server.local_addr()) as raw:
                    await server.wait_clients(2)
                    (peer,) = server.clients - before
                    raw.reset()
                    for _ in range(50):
                        try:
                            await asyncio.to_thread(peer.send_nowait, 1)
                        except ConnectionClosed:
                            break
                    await until(lambda: not peer.is_open)
                server.send_nowait(2)
                assert await other.recv() == 2


class TestBound:
    async def test_one_mebibyte_a_client(self) -> None:
        """Past it BacklogFull with nothing queued; the client stays, others are not touched."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            async with WsClient[bytes].connect(server.local_addr()) as other:
                await server.wait_clients(1)
                (good,) = server.clients
                async with raw_client(server.local_addr(), small=True) as raw:
                    await server.wait_clients(2)
                    (peer,) = server.clients - {good}
                    sent = 0
                    refused = ""
                    while not refused:
                        try:
                            peer.send_nowait(b"%08d" % sent + bytes(100_000))
                            sent += 1
                        except BacklogFull as error:
                            refused = str(error)
                        await asyncio.sleep(0)
                    assert f"limit {PRIVATE_BYTES}" in refused
                    held = server.stats().queued_bytes
                    assert PRIVATE_BYTES - 100_030 < held <= PRIVATE_BYTES
                    for _ in range(10):
                        with pytest.raises(BacklogFull):
                            peer.send_nowait(bytes(100_000))
                    assert server.stats().queued_bytes == held
                    assert server.stats().refused["backlog full"] == 11
                    assert server.client_count() == 2
                    good.send_nowait(b"fine")
                    server.send_nowait(b"all")
                    assert [await other.recv() for _ in range(2)] == [b"fine", b"all"]
                    numbers = [int((await raw.message())[4:12]) for _ in range(sent)]
                    assert numbers == list(range(sent))
                    assert (await raw.message())[4:] == b"all"
                    peer.send_nowait(b"again")
                    assert (await raw.message())[4:] == b"again"

    async def test_one_message_alone_is_never_too_much(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            (peer,) = server.clients
            for _ in range(3):
                await peer.send(bytes(8 * MB))
                assert await client.recv() == bytes(8 * MB)

    async def test_two_large_ones_in_a_turn_are(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr(), small=True):
            await server.wait_clients(1)
            (peer,) = server.clients
            peer.send_nowait(bytes(8 * MB))
            peer.send_nowait(bytes(8 * MB))  # the first one lies in its transport by now
            with pytest.raises(BacklogFull):
                peer.send_nowait(bytes(8 * MB))
            assert server.client_count() == 1

    async def test_from_another_thread_it_is_counted(self) -> None:
        """Nobody is there to be told, so `stats` is; the loop lives on."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr(), small=True):
            await server.wait_clients(1)
            (peer,) = server.clients

            def work() -> None:
                for _ in range(100):
                    peer.send_nowait(bytes(100_000))

            await asyncio.to_thread(work)
            await until(lambda: server.stats().refused["backlog full"] > 50)
            assert server.stats().queued_bytes <= PRIVATE_BYTES
            assert server.client_count() == 1


class TestPace:
    async def test_it_is_this_clients_alone(self) -> None:
        """One private stream waits for its client before it is refused; another one's goes on meanwhile."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            async with WsClient[bytes].connect(server.local_addr()) as fast:
                await server.wait_clients(1)
                (good,) = server.clients
                async with raw_client(server.local_addr(), small=True) as raw:
                    await server.wait_clients(2)
                    (peer,) = server.clients - {good}
                    sent = 0

                    async def produce() -> None:
                        nonlocal sent
                        for number in range(100):
                            await peer.send(b"%08d" % number + bytes(100_000))
                            sent += 1

                    producing = asyncio.create_task(produce())
                    await until(lambda: peer.stats().queued_bytes > PRIVATE_BYTES // 2)
                    for number in range(50):
                        before = sent
                        await good.send(b"%d" % number)
                        assert await fast.recv() == b"%d" % number
                    assert sent == before < 100
                    for number in range(100):
                        assert (await raw.message())[4:12] == b"%08d" % number
                    await producing
                    assert server.stats().refused["backlog full"] == 0


class TestPolicies:
    async def test_they_hold_for_private_messages_with_keys_of_their_own(self) -> None:
        """A laggard gets the newest of what was for it alone, apart from what was for all."""
        async with server_of("ws") as server, laggard(server, "ws") as slow:
            (peer,) = server.clients
            sent = await stall(server, lambda n: Sure(n, bytes(100_000)))
            at = len(sent)
            for step in range(10):
                server.send_nowait(Keyed(at, 1))
                peer.send_nowait(Keyed(at + 1, 1))
                peer.send_nowait(Newest(at + 2))
                at += 3
                if step % 3 == 0:
                    await asyncio.sleep(0)
            server.send_nowait(Sure(at))
            await asyncio.sleep(0)
            got = [message.number for message in await slow.messages_until(at)]
            assert got == [*range(len(sent)), at - 3, at - 2, at - 1, at]

    async def test_skip_keeps_what_fits_the_private_bound(self) -> None:
        async with server_of("ws") as server, laggard(server, "ws") as slow:
            (peer,) = server.clients
            sent = await stall(server, lambda n: Window(n, bytes(50_000)))
            at = len(sent)
            for number in range(100):
                peer.send_nowait(Window(at + number, bytes(50_000)))
                await asyncio.sleep(0)
            got = await slow.messages_until(at + 99)
            private = [message for message in got if message.number >= at]
            assert [message.number for message in private] == list(range(at + 80, at + 100))
            assert server.client_count() == 1
            assert peer.stats().skipped >= 80


class TestExcept:
    @PAIRS
    async def test_all_but_one(self, server_type: Any, client_type: Any) -> None:
        """For messages to all, of every policy; the one gets the rest in order."""
        async with server_type[Message, None].bind("127.0.0.1:0") as server:
            clients, peers = [], []
            for count in range(3):
                before = server.clients
                # Their program takes values later. Otherwise it would get only the newest ones.
                clients.append(await client_type[Message, None].connect(server.local_addr(), conflate=False))
                await server.wait_clients(count + 1)
                peers += server.clients - before
            wanted: list[list[int]] = [[], [], []]
            for number in range(300):
                one = number % 4  # 3 is nobody
                message = (Sure, Newest, Window)[number % 3](number)
                server.send_nowait(message, except_=peers[one] if one < 3 else None)
                if number % 10 == 0:
                    await asyncio.sleep(0)
                for i in range(3):
                    if i != one:
                        wanted[i].append(number)
            await server.send(Sure(300))
            for client, numbers in zip(clients, wanted, strict=True):
                got = [(await client.recv()).number for _ in range(len(numbers) + 1)]
                assert got == [*numbers, 300]
            await asyncio.gather(*(client.close() for client in clients))

    async def test_one_that_is_behind(self) -> None:
        """A laggard is passed over by what is not for it, and by nothing else."""
        async with server_of("ws") as server, laggard(server, "ws") as slow:
            (peer,) = server.clients
            sent = await stall(server, lambda n: Sure(n, bytes(100_000)))
            at = len(sent)
            for number in range(at, at + 40):
                server.send_nowait(Sure(number), except_=peer if number % 3 == 0 else None)
            server.send_nowait(Sure(at + 40))
            got = [message.number for message in await slow.messages_until(at + 40)]
            assert got == [*range(at), *(n for n in range(at, at + 40) if n % 3), at + 40]

    async def test_a_peer_of_another_server_or_no_peer(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            with pytest.raises(TypeError):
                server.send_nowait(1, except_="somebody")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                server.send(1, except_=7)  # type: ignore[arg-type]
