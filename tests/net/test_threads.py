"""`send_nowait` from other threads. All other calls belong to the loop's thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from helpers import until

from deli_com import BacklogFull, ConnectionClosed, EncodeError, MessageTooLarge, WsClient, WsServer, u32

THREADS = 8
EACH = 5000


def in_threads(*works) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


class TestSendNowait:
    async def test_all_arrives_in_order_for_each_thread(self):
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):

            def work(number: int) -> None:
                for i in range(EACH):
                    server.send_nowait(number << 16 | i)

            threads = in_threads(*[lambda n=n: work(n) for n in range(THREADS)])
            seen: Counter[int] = Counter()
            while seen.total() < THREADS * EACH:
                for value in await client.recv_many(10_000):
                    assert value & 0xFFFF == seen[value >> 16]
                    seen[value >> 16] += 1
            for thread in threads:
                thread.join()
            assert seen == dict.fromkeys(range(THREADS), EACH)

    async def test_messages_of_the_loops_own_thread_mix_in_whole(self):
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            big, small = b"b" * 100_000, b"s"
            thread = threading.Thread(target=lambda: [server.send_nowait(big) for _ in range(50)])
            thread.start()
            for _ in range(50):
                await server.send(small)
            got = [await client.recv() for _ in range(100)]
            thread.join()
            assert got.count(big) == got.count(small) == 50

    async def test_errors_come_from_the_call(self):
        async with WsServer[u32].bind("127.0.0.1:0", max_message_size=3) as server:
            errors: list[BaseException] = []

            def work() -> None:
                for value in ("no number", 1):
                    try:
                        server.send_nowait(value)  # type: ignore[arg-type]
                    except Exception as error:
                        errors.append(error)

            await asyncio.to_thread(work)
            assert [type(error) for error in errors] == [EncodeError, MessageTooLarge]

    async def test_a_closed_server_says_so(self):
        server = await WsServer[u32].bind("127.0.0.1:0")
        await asyncio.to_thread(server.send_nowait, 1)
        await server.close()
        with pytest.raises(ConnectionClosed):
            await asyncio.to_thread(server.send_nowait, 1)

    async def test_a_thread_waits_where_the_handover_is_full_and_goes_on_when_the_loop_does(self):
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            payload, sent = b"x" * (1 << 20), []

            def work() -> None:
                for _ in range(40):
                    server.send_nowait(payload)
                    sent.append(1)

            thread = threading.Thread(target=work)
            thread.start()
            while len(sent) < 15:  # the loop stands still meanwhile
                pass
            thread.join(0.2)
            assert thread.is_alive() and len(sent) <= 17, "16 MiB wait at most"
            for _ in range(40):
                assert len(await client.recv()) == 1 << 20
            await until(lambda: not thread.is_alive())

    async def test_a_waiting_thread_is_released_by_close(self):
        server = await WsServer[bytes].bind("127.0.0.1:0")
        ended: list[BaseException] = []

        def work() -> None:
            try:
                while True:
                    server.send_nowait(b"x" * (1 << 20))
            except (ConnectionClosed, BacklogFull) as error:
                ended.append(error)

        async with WsClient[bytes].connect(server.local_addr()):
            thread = threading.Thread(target=work)
            thread.start()
            await until(lambda: server.messages_in >= 0)
            await server.close(drain=0)
            await until(lambda: not thread.is_alive())
        assert [type(error) for error in ended] == [ConnectionClosed]

    async def test_client_count_is_legal_from_any_thread(self):
        async with WsServer[u32].bind("127.0.0.1:0") as server, WsClient[u32].connect(server.local_addr()):
            assert await asyncio.to_thread(server.client_count) == 1


class TestWrongThread:
    async def test_flush_send_and_recv_name_the_threads_and_change_nothing(self):
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):

            def work() -> None:
                with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                    server.flush()
                with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                    server.send(1)
                with pytest.raises(RuntimeError, match="thread"):
                    server.recv().send(None)

            await asyncio.to_thread(work)
            await server.send(7)
            assert await client.recv() == 7
