"""`server.stats()` and `peer.stats()`: each figure is compared with what was done."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from helpers import until
from laggards import Kept, Keyed, Sure, Window, laggard, server_of, size_of, stall
from peers import TEXT, raw_client

from deli_com import BacklogFull, Client, PeerStats, Server, ServerStats, WsClient, WsServer, u32

MB = 1_000_000
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)


class TestNothing:
    @PAIRS
    async def test_all_figures_begin_at_nothing(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0") as server:
            stats = server.stats()
            assert isinstance(stats, ServerStats)
            refused = dict.fromkeys(("backlog full", "undecodable", "unwanted", "inbox full"), 0)
            wanted: dict[str, Any] = {field.name: 0 for field in fields(ServerStats)}
            wanted |= {"refused": refused, "closed": {}, "turned_away": {}, "backplane": None}
            assert {field.name: getattr(stats, field.name) for field in fields(stats)} == wanted
            async with client_type[u32].connect(server.local_addr()):
                await server.wait_clients(1)
                (peer,) = server.clients
                found = peer.stats()
                assert isinstance(found, PeerStats)
                assert found == PeerStats(
                    messages_in=0,
                    bytes_out=0,
                    queued_bytes=0,
                    behind_s=0.0,
                    skipped=0,
                    superseded=0,
                    undecodable=0,
                    round_trip_s=None,
                )
                with pytest.raises(FrozenInstanceError):
                    found.skipped = 1  # type: ignore[misc]


class TestTraffic:
    @PAIRS
    async def test_messages_and_bytes(self, server_type: Any, client_type: Any) -> None:
        """Out: each message once, its bytes for each client, header and all. In: payloads."""
        head = 2 if server_type is WsServer else 4
        async with server_type[u32].bind("127.0.0.1:0") as server:
            clients = [await client_type[u32].connect(server.local_addr()) for _ in range(3)]
            await server.wait_clients(3)
            peers = list(server.clients)
            group = server.group("g")
            group.add(peers[0])
            group.add(peers[1])
            server.send_nowait(1)  # 3 clients
            group.send_nowait(2)  # 2
            peers[0].send_nowait(3)  # 1
            server.send_nowait(4, except_=peers[0])  # 2
            server.flush()
            assert server.stats().messages_out == 4
            assert server.stats().bytes_out == 8 * (head + 4)
            assert sorted(peer.stats().bytes_out // (head + 4) for peer in peers) == [2, 3, 3]
            assert sum(peer.stats().bytes_out for peer in peers) == server.stats().bytes_out
            for client in clients:
                await client.send(7)
            await clients[0].send(8)
            for _ in range(4):
                await server.recv()
            stats = server.stats()
            assert (stats.messages_in, stats.bytes_in, stats.clients) == (4, 16, 3)
            assert sorted(peer.stats().messages_in for peer in peers) == [1, 1, 2]
            await asyncio.gather(*(client.close() for client in clients))
            await until(lambda: server.stats().clients == 0)
            assert server.stats().messages_in == 4

    async def test_what_is_sent_to_nobody_counts_as_sent(self) -> None:
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            server.send_nowait(1)
            server.group("g").send_nowait(2)
            stats = server.stats()
            assert (stats.messages_out, stats.bytes_out, stats.queued_bytes) == (2, 0, 0)


class TestQueues:
    async def test_what_waits_and_since_when(self) -> None:
        """Each message once, however many wait for it; the peer says how much of it is its own."""
        async with server_of("ws") as server, laggard(server, "ws") as one, laggard(server, "ws") as two:
            sent = await stall(server, lambda n: Sure(n, bytes(100_000)))
            for peer in server.clients:
                await until(lambda peer=peer: peer.stats().behind_s > 0)
            before = server.stats()
            assert before.laggards == 2
            size = size_of(sent[0], "ws")
            for number in range(10):
                server.send_nowait(Sure(len(sent) + number, bytes(100_000)))
            after = server.stats()
            assert after.queued_bytes - before.queued_bytes == 10 * size
            for peer in server.clients:
                assert 10 * size <= peer.stats().queued_bytes <= after.queued_bytes + size
            await asyncio.sleep(0.1)
            assert server.stats().oldest_queued_s - before.oldest_queued_s > 0.08
            for slow in (one, two):
                await slow.messages_until(len(sent) + 9)
            await until(server._is_drained)
            stats = server.stats()
            assert (stats.laggards, stats.queued_bytes, stats.oldest_queued_s) == (0, 0, 0.0)
            assert [(p.stats().queued_bytes, p.stats().behind_s) for p in server.clients] == [(0, 0.0)] * 2

    async def test_of_one_that_has_left(self) -> None:
        """It says what was last so, and how much it left behind."""
        async with server_of("ws") as server, laggard(server, "ws"):
            (peer,) = server.clients
            await stall(server, lambda n: Sure(n, bytes(100_000)))
            before = peer.stats()
            peer.close()
            assert peer.stats().queued_bytes == before.queued_bytes > 0
            assert peer.stats().bytes_out == before.bytes_out
            assert peer.stats().behind_s == 0.0
            await until(lambda: server.stats().queued_bytes == 0)

    async def test_what_was_passed_over(self) -> None:
        """Skipped and superseded, by peer, sum up to the server's once each has read again."""
        async with (
            server_of("ws", max_backlog=500_000) as server,
            laggard(server, "ws") as one,
            laggard(server, "ws") as two,
        ):
            sent = await stall(server, lambda n: Keyed(n, 0, bytes(50_000)))
            for number in range(len(sent), len(sent) + 40, 2):
                server.send_nowait(Keyed(number, 0, bytes(50_000)))
                server.send_nowait(Window(number + 1, bytes(50_000)))
                await asyncio.sleep(0)
            last = len(sent) + 40
            server.send_nowait(Sure(last))
            got = [await slow.messages_until(last) for slow in (one, two)]
            stats = server.stats()
            assert stats.skipped + stats.superseded == 2 * (last + 1) - len(got[0]) - len(got[1])
            assert sum(peer.stats().skipped for peer in server.clients) == stats.skipped > 0
            assert sum(peer.stats().superseded for peer in server.clients) == stats.superseded > 0
            assert stats.skipped == 2 * 20 - sum(isinstance(m, Window) for found in got for m in found)

    async def test_what_is_retained(self) -> None:
        async with server_of("ws") as server:
            for number in range(6):
                server.send_nowait(Kept(number, number % 3, bytes(number)))
            await asyncio.sleep(0)  # what a newer one of the same turn replaced is gone at its end
            stats = server.stats()
            assert stats.retained_keys == 3
            assert stats.retained_bytes == sum(
                size_of(Kept(number, number % 3, bytes(number)), "ws") for number in (3, 4, 5)
            )
            assert stats.queued_bytes == 0
            assert stats.slabs >= 1
            server.group("g").send_nowait(Kept(9, 0))
            assert server.stats().retained_keys == 4
            server.forget(0)
            assert server.stats().retained_keys == 3

    async def test_what_is_not_kept_for_later_clients_is_not_retained(self) -> None:
        """Messages of policy latest without `retain` are superseded, but are not counted as retained."""
        async with server_of("ws", max_backlog=500_000) as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Keyed(n, 0, bytes(50_000)))
            server.send_nowait(Kept(len(sent), 0, bytes(10)))
            await asyncio.sleep(0)
            stats = server.stats()
            assert stats.retained_keys == 1
            assert stats.retained_bytes == size_of(Kept(len(sent), 0, bytes(10)), "ws")
            server.send_nowait(Sure(len(sent) + 1))
            await slow.messages_until(len(sent) + 1)


class TestRefusals:
    async def test_by_reason(self) -> None:
        """What was not sent, and what was not taken."""
        async with server_of("ws", max_keys=1) as server:
            server.send_nowait(Kept(0, 0))
            with pytest.raises(BacklogFull):
                server.send_nowait(Kept(1, 1))
            assert server.stats().refused["backlog full"] == 1
            assert server.stats().messages_out == 1
        async with WsServer[u32].bind("127.0.0.1:0") as both, raw_client(both.local_addr()) as raw:
            await both.wait_clients(1)
            (peer,) = both.clients
            await raw.send(b"abc")
            await raw.send(b"ab")
            await raw.send(b"text", TEXT)
            await raw.round_trip()
            assert both.stats().refused["undecodable"] == peer.stats().undecodable == 2
            assert both.stats().refused["unwanted"] == 1
        async with WsServer[u32, None].bind("127.0.0.1:0") as push, raw_client(push.local_addr()) as raw:
            await raw.send(bytes(4))
            await raw.round_trip()
            assert push.stats().refused["unwanted"] == 1

    async def test_endings_by_code_and_handshakes_by_status(self) -> None:
        async with WsServer[u32, None].bind("127.0.0.1:0", max_clients=1) as server:
            client = await WsClient[u32, None].connect(server.local_addr())
            for _ in range(2):
                with pytest.raises(Exception, match="503"):
                    await WsClient[u32, None].connect(server.local_addr())
            assert server.stats().turned_away == {503: 2}
            (peer,) = server.clients
            peer.close(4001)
            await until(lambda: server.stats().closed == {4001: 1})
            await client.close()
            async with raw_client(server.local_addr()) as raw:
                await server.wait_clients(1)
                raw.reset()
            await until(lambda: sum(server.stats().closed.values()) == 2)
            assert None in server.stats().closed or 1006 in server.stats().closed

    async def test_a_mapping_that_was_given_does_not_change(self) -> None:
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            before = server.stats()
            async with WsClient[u32, None].connect(server.local_addr()):
                pass
            await until(lambda: server.stats().closed)
            assert before.closed == {}


class TestRoundTrip:
    async def test_it_is_that_of_the_last_ping(self) -> None:
        async with (
            WsServer[u32, None].bind("127.0.0.1:0", ping_interval=0.05) as server,
            WsClient[u32, None].connect(server.local_addr()),
        ):
            (peer,) = server.clients
            await until(lambda: peer.stats().round_trip_s is not None)
            assert 0.0 < peer.stats().round_trip_s < 5.0


class TestCost:
    @pytest.mark.loops("asyncio")
    async def test_it_looks_at_no_client(self) -> None:
        """The same calls are made with 1 client and with 30, all of them behind.

        What one of those has queued is asked of its transport, which is Python on this loop: a walk
        over clients would show as calls. One over `server.clients` does, so this can fail.
        """
        calls, walks = [], []
        for number in (1, 30):
            async with contextlib.AsyncExitStack() as stack:
                server = await stack.enter_async_context(server_of("tcp"))
                for _ in range(number):
                    await stack.enter_async_context(laggard(server, "tcp"))
                await stall(server, lambda n: Sure(n, bytes(100_000)))
                assert server.stats().laggards == number
                calls.append(calls_of(server.stats))
                walks.append(calls_of(lambda of=server: [peer.stats() for peer in of.clients]))
        assert calls[0] == calls[1]
        assert walks[1] > walks[0] + 29

    async def test_from_any_thread(self) -> None:
        """While the loop's thread sends, joins and lets go: figures never run backwards, nothing breaks."""
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            async with WsClient[u32, None].connect(server.local_addr()) as client:
                (peer,) = server.clients
                ended = False
                looks = 0

                def look() -> int:
                    nonlocal looks
                    last = server.stats()
                    while not ended:
                        stats = server.stats()
                        assert stats.messages_out >= last.messages_out
                        assert stats.bytes_out >= last.bytes_out
                        assert peer.stats().bytes_out >= 0
                        last = stats
                        looks += 1
                        time.sleep(0.0002)
                    return last.messages_out

                looking = [asyncio.create_task(asyncio.to_thread(look)) for _ in range(2)]
                try:
                    for number in range(500):
                        server.send_nowait(number)
                        group = server.group(number % 7)
                        group.add(peer)
                        group.send_nowait(number)
                        group.discard(peer)
                        if number % 100 == 0:
                            other = await WsClient[u32, None].connect(server.local_addr())
                            await other.close()
                    await until(lambda: looks > 100)
                finally:  # else the threads go on, and the run of all tests hangs
                    ended = True
                await asyncio.gather(*looking)
                assert [await client.recv() for _ in range(1000)][-1] == 499
                assert server.stats().messages_out == 1000
                await until(lambda: server.stats().queued_bytes == 0)


def calls_of(call: Any) -> int:
    """How many Python and C functions it calls."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    call()
    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count
