"""`max_inbound`: one limit on received bytes that wait, for all clients. The largest client is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import RawPeer, certificates, until
from peers import BINARY, CLOSE, CONTINUATION, PING, PONG, Frame, WsPeer, build, raw_client, upgrade

from deli_com import Server, WsClient, WsServer

MB = 1_000_000
KEY = b"\0\0\0\0"
LIMIT = 4 * MB
CAUSE = re.compile(r"too much unreceived: (\d+) bytes of this client, (\d+) of all, limit 4000000")


def begun(size: int, there: int) -> bytes:
    """The beginning of a binary frame of `size` bytes, of which so many are there."""
    return struct.pack("!BBQ", 0x82, 0xFF, size) + KEY + bytes(there)


def value(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


@contextlib.asynccontextmanager
async def peers_of(server: WsServer[Any], count: int, ssl: Any = None) -> AsyncIterator[list[WsPeer]]:
    peers: list[WsPeer] = []
    try:
        for _ in range(count):
            peer = await WsPeer.open(server.local_addr(), ssl=ssl)
            assert isinstance(peer, WsPeer)
            peers.append(peer)
            await upgrade(peer)
        await server.wait_clients(count)
        yield peers
    finally:
        for peer in peers:
            peer.close()


async def settled(server: WsServer[Any], peers: list[WsPeer]) -> None:
    """Wait until the server has read what was sent so far."""
    seen = -1
    while seen != server.quota.buffered + server.inbox.held_bytes:
        seen = server.quota.buffered + server.inbox.held_bytes
        for _ in range(20):
            await asyncio.sleep(0)


async def next_second() -> None:
    """Such records are few a second, of all servers of a process together: wait for a second without any."""
    await asyncio.sleep(1.01 - time.monotonic() % 1)


def judge(server: WsServer[Any]) -> None:
    """The sum that is kept is the sum of what connections keep."""
    assert server.quota.buffered >= 0
    if not server._connections():
        assert server.quota.buffered == 0


async def told(peer: WsPeer) -> tuple[int, int]:
    """Read up to CLOSE: what this client kept, and what all did."""
    frames, code, reason = await peer.read_to_close()
    assert frames == []
    found = CAUSE.fullmatch(reason)
    assert (code, bool(found)) == (1009, True), reason
    assert found
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
class TestReadBuffers:
    async def test_the_largest_goes_with_figures_and_the_others_stay(
        self, secure: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Forty half frames: 39 of 90 kB, one of 900 kB that came first. It is the one, and the only one."""
        tls, trusting = certificates()
        async with WsServer[bytes].bind(
            "127.0.0.1:0", max_inbound=LIMIT, ssl=tls if secure else None
        ) as server:
            async with peers_of(server, 40, trusting if secure else None) as peers:
                large, *small = peers
                await next_second()
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    await large.send_raw(begun(2 * MB, 900_000))
                    await until(lambda: server.quota.buffered >= 900_000)
                    for peer in small:
                        await peer.send_raw(begun(90_000, 89_000))
                    mine, of_all = await told(large)
                assert 900_000 <= mine < 910_000
                assert LIMIT < of_all < LIMIT + 400_000
                assert server.client_count() == 39
                (record,) = [r for r in caplog.records if r.name == "deli_com.server"]
                assert re.match(r"closing 127\.0\.0\.1:\d+ \(1009\): too much", record.getMessage())
                waiting = asyncio.ensure_future(server.recv())
                for peer in small:  # 1,000 bytes more complete the frame, which is no `bytes` of that length
                    await peer.send_raw(bytes(1000))
                    await peer.round_trip()
                assert [await waiting] + [await server.recv() for _ in range(38)] == [b""] * 39
                assert server.client_count() == 39
            await until(lambda: not server._connections())
            judge(server)

    async def test_below_the_bound_nobody_does(self, secure: bool) -> None:
        tls, trusting = certificates()
        async with WsServer[bytes].bind(
            "127.0.0.1:0", max_inbound=LIMIT, ssl=tls if secure else None
        ) as server:
            async with peers_of(server, 40, trusting if secure else None) as peers:
                for peer in peers:
                    await peer.send_raw(begun(90_000, 89_000))
                await until(lambda: server.quota.buffered >= 40 * 89_000)
                assert server.quota.buffered < LIMIT
                assert server.client_count() == 40


class TestCounting:
    async def test_what_is_counted_is_what_came(self) -> None:
        """To the byte, in reads of any size: picows does not tell its buffer's size, its rule is ours."""
        rng = random.Random(5)
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            waiting = asyncio.ensure_future(server.recv())
            for _ in range(12):
                size = rng.choice([100, 1_000, 1_843, 1_900, 70_000, 500_000])
                message = build(value(bytes(size)), mask=KEY)
                sent = 0
                while sent < len(message) - 1:
                    piece = message[
                        sent : min(len(message) - 1, sent + rng.randrange(1, 1 + len(message) // 3))
                    ]
                    await peer.send_raw(piece)
                    sent += len(piece)
                    await until(lambda: server.quota.buffered >= sent)  # noqa: B023
                    assert server.quota.buffered == sent
                await peer.send_raw(message[-1:])
                assert len(await waiting) == size
                waiting = asyncio.ensure_future(server.recv())
                server._connections()[0]._release_memory()
                assert server.quota.buffered == 0
            waiting.cancel()

    async def test_after_a_large_message_a_silent_client_keeps_little(self) -> None:
        async with (
            WsServer[bytes, None].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send_raw(build(bytes(8 * MB), mask=KEY))
            await peer.round_trip()
            assert server.quota.buffered > 8 * MB
            await until(lambda: server.quota.buffered <= 256 * 1024)


class TestFragments:
    async def test_they_count_and_go_with_their_message(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            async with peers_of(server, 8) as peers:
                for round_ in range(3):
                    for peer in peers:
                        await peer.send_raw(build(value(bytes(300_000))[:200_000], fin=False, mask=KEY))
                        await peer.round_trip()
                    kept = sum(connection.held for connection in server._connections())
                    assert kept == server.quota.buffered >= 8 * 200_000
                    waiting = asyncio.ensure_future(server.recv_many(100))
                    for peer in peers:
                        await peer.send_raw(build(value(bytes(300_000))[200_000:], CONTINUATION, mask=KEY))
                        await peer.round_trip()
                    got = len(await waiting)
                    while got < 8:
                        got += len(await server.recv_many(100))
                    assert server.messages_in == 8 * (round_ + 1)
                assert server.client_count() == 8

    async def test_who_joins_most_goes_and_what_it_joined_is_free(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            async with peers_of(server, 18) as peers:
                for number, peer in enumerate(peers):
                    for part in range(8 if number == 7 else 1):
                        opcode = CONTINUATION if part else BINARY
                        await peer.send_raw(build(bytes(100_000), opcode, fin=False, mask=KEY))
                    await peer.round_trip()
                for number, peer in enumerate(peers):
                    if number != 7:
                        await peer.send_raw(build(bytes(100_000), CONTINUATION, fin=False, mask=KEY))
                mine, of_all = await told(peers[7])
                assert 800_000 <= mine <= 920_000
                assert of_all > LIMIT
                await settled(server, peers)
                assert server.client_count() == 17
                assert server.quota.buffered <= LIMIT


class TestRing:
    async def test_values_nobody_receives_hold_their_clients_back_first(self) -> None:
        """The inbox of so small a bound is full at half of it: reading stops, and nobody is closed.

        Who has not been held back yet reads in small steps then, else forty would still bring a read each.
        """
        async with WsServer[bytes].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            waiting = asyncio.ensure_future(server.recv())
            async with peers_of(server, 40) as peers:
                message = build(value(bytes(10_000)), mask=KEY)
                sending = [asyncio.create_task(peer.send_raw(message * 100)) for peer in peers]
                await waiting
                await settled(server, peers)
                assert server.inbox.held_bytes >= LIMIT // 2
                assert server.client_count() == 40
                for _ in range(3999):
                    assert len(await server.recv()) == 10_000
                await asyncio.gather(*sending)
                assert server.client_count() == 40
            await until(lambda: not server._connections())
            judge(server)

    async def test_waiting_values_of_the_one_that_goes_are_dropped_and_those_of_others_kept(self) -> None:
        """A bound that its values stayed beyond would be none; the others' stay, in their order."""
        async with WsServer[bytes].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            first = asyncio.ensure_future(server.recv())
            async with peers_of(server, 4) as peers:
                greedy, other, *late = peers
                await other.send_raw(build(value(b"zero"), mask=KEY))
                assert await first == b"zero"
                for number in range(3):
                    await other.send_raw(build(value(b"%d" % number), mask=KEY))
                    await other.round_trip()
                    await greedy.send_raw(build(value(bytes(650_000)), mask=KEY))
                    await until(lambda: server.messages_in == 3 + 2 * number)  # noqa: B023
                assert server.inbox.held_bytes > 3 * 650_000
                for peer in late:
                    await peer.send_raw(begun(3 * MB, 1_100_000))
                mine, _ = await told(greedy)
                assert mine >= 3 * 650_000
                assert server.inbox.dropped == 3
                assert [await server.recv() for _ in range(3)] == [b"0", b"1", b"2"]
                assert server.inbox.held_bytes == 0
                await other.round_trip()
                assert server.client_count() == 3


class TestIdle:
    async def test_memory_that_only_waits_for_more_is_given_back_before_anybody_goes(self) -> None:
        """Sixty clients send a message of 150 kB each and fall silent: 9 MB of buffers, and nobody goes."""
        async with WsServer[bytes, None].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            async with peers_of(server, 1) as _, peers_of(server, 60) as peers:
                for peer in peers:
                    await peer.send_raw(build(bytes(150_000), mask=KEY))
                    await peer.send(b"x", PING)
                    assert await peer.frame() == Frame(PONG, b"x")
                assert server.messages_in == 60
                assert server.client_count() == 61
                assert server.quota.buffered <= LIMIT

    async def test_a_connection_that_lingers_keeps_no_input(self) -> None:
        """Its read buffer goes when its end is announced, not when its peer is done."""
        async with WsServer[bytes].bind("127.0.0.1:0", close_timeout=30) as server:
            peer = await WsPeer.open(server.local_addr())
            assert isinstance(peer, WsPeer)
            await upgrade(peer)
            await peer.send_raw(build(bytes(3 * MB), fin=False, mask=KEY))
            await peer.send_raw(begun(8 * MB, 5 * MB))
            await until(lambda: server.quota.buffered >= 8 * MB)
            server._connections()[0]._finish(1008, "enough")
            await peer.send_raw(bytes(3 * MB) + build(b"y", CONTINUATION, rsv=1, mask=KEY))
            assert (await peer.read_to_close())[1] == 1008
            await peer.send(struct.pack("!H", 1008), CLOSE)
            await until(lambda: server.quota.buffered == 0)
            peer.close()


class TestTcp:
    async def test_the_largest_goes(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Server[bytes].bind("127.0.0.1:0", max_inbound=LIMIT) as server:
            large, *small = [await RawPeer.open(server.local_addr()) for _ in range(20)]
            await server.wait_clients(20)
            await next_second()
            with caplog.at_level(logging.WARNING, "deli_com.server"):
                await large.send(struct.pack("<I", 3 * MB) + bytes(1_500_000))
                await until(lambda: server.quota.buffered >= 1_500_000)
                for peer in small:
                    await peer.send(struct.pack("<I", 300_000) + bytes(200_000))
                await until(lambda: server.client_count() == 19)
            assert re.search(CAUSE, caplog.text)
            assert await large.read_all() == b""
            first = asyncio.ensure_future(server.recv())
            for peer in small:
                await peer.send(bytes(100_000))
                await first if peer is small[0] else await server.recv()
            assert server.quota.buffered == 0
            for peer in (large, *small):
                peer.close()
            await until(lambda: not server._connections())
            assert server.messages_in == 19


class TestOptions:
    async def test_the_default_is_256_mib_and_four_messages_at_least(self) -> None:
        for kind in (WsServer, Server):
            async with kind[bytes].bind("127.0.0.1:0") as server:
                assert server.quota.limit == 256 << 20
                assert server.inbox.max_bytes == 16 << 20
            async with kind[bytes].bind("127.0.0.1:0", max_message_size=100 << 20) as server:
                assert server.quota.limit == 400 << 20

    async def test_a_bound_that_is_none_is_refused(self) -> None:
        for kind in (WsServer, Server):
            with pytest.raises(ValueError, match="max_inbound is 0, expected bytes as an int, 1 or more"):
                await kind[bytes].bind("127.0.0.1:0", max_inbound=0)

    async def test_one_client_alone_is_never_too_much_with_the_defaults(self) -> None:
        """A fragmented message of 64 MiB, behind an inbox that is full."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            waiting = asyncio.ensure_future(server.recv())
            data = value(bytes((64 << 20) - 4))
            half = len(data) // 2

            async def send() -> None:
                await peer.send_raw(build(value(b""), mask=KEY) + build(value(bytes(15 << 20)), mask=KEY))
                await peer.send_raw(build(data[:half], fin=False, mask=KEY))
                await peer.send_raw(build(data[half:], CONTINUATION, mask=KEY))

            sending = asyncio.create_task(send())
            await waiting
            await until(lambda: server.messages_in == 3)
            await sending
            assert server.client_count() == 1
            assert len(await server.recv()) == 15 << 20
            assert len(await server.recv()) == (64 << 20) - 4


async def test_clients_have_no_such_bound() -> None:
    async with WsServer[bytes].bind("127.0.0.1:0") as server:
        async with WsClient[bytes].connect(server.local_addr()) as client:
            assert client.quota.limit > 1 << 40
