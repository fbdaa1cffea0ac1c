"""Behind a relay that swallows 4 MiB: the newest stays new, the dead are found, and the slow live."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time

import pytest
from helpers import SLOW, until
from peers import PING, PONG, WsPeer, raw_client
from swallowing import swallowing_relay
from traffic import Plain, Pose, reading, sending

from deli_com import WsClient, WsServer, connect_blocking

QUICK = {"ping_interval": 0.5 * SLOW, "ping_timeout": 0.5 * SLOW}


class TestNewest:
    @pytest.mark.limit(30)
    async def test_what_waits_waits_here(self) -> None:
        """In the log newer values replace them. The relay has a fraction of what it would take."""
        async with (
            WsServer[Pose, None].bind("127.0.0.1:0") as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            relay.rate = 2e6
            async with WsClient[Pose, None].connect(relay.address) as client:
                await server.wait_clients(1)
                (peer,) = server.clients
                task = asyncio.create_task(reading(client))
                async with sending(server, lambda turn: Pose(turn, bytes(40_000)), 0.004):
                    await until(lambda: peer.stats().rate and peer.stats().rate > 1e5)
                    await until(lambda: 0 < relay.waiting < 1 << 20 and peer.stats().superseded > 100)
                    relay.most_waiting = 0
                    superseded = peer.stats().superseded
                    await until(lambda: peer.stats().superseded > superseded + 200)
                    assert relay.most_waiting < 5 << 19  # of 4 MiB
                    found = peer.stats()
                    assert found.in_flight < 3 << 20
                    assert found.transit < 5.0
                    assert re.fullmatch(
                        r"<Peer 127\.0\.0\.1:\d+, \d+ bytes in flight to it at \d+ bytes/s, "
                        r"transit \d+\.\d s>",
                        repr(peer),
                    )
                task.cancel()

    @pytest.mark.limit(30)
    async def test_without_a_bound_the_relay_takes_all(self) -> None:
        """What the test above rests on; and `max_transit=None` sends no marker."""
        async with (
            WsServer[Pose, None].bind("127.0.0.1:0", max_transit=None) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            relay.rate = 1e6
            async with WsClient[Pose, None].connect(relay.address):
                await server.wait_clients(1)
                async with sending(server, lambda turn: Pose(turn, bytes(40_000)), 0.001):
                    await until(lambda: relay.waiting >= 4 << 20)
                (peer,) = server.clients
                assert peer.stats().transit is None


class TestLife:
    @pytest.mark.limit(30)
    async def test_a_peer_behind_a_cut_cable_is_found(self, caplog: pytest.LogCaptureFixture) -> None:
        """The relay's system acknowledges everything that is sent; the peer answers nothing."""
        async with (
            WsServer[Plain].bind("127.0.0.1:0", close_timeout=0.2, **QUICK) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            client = await WsClient[Plain].connect(relay.address, ping_interval=None)
            await server.wait_clients(1)
            (peer,) = server.clients
            async with sending(server, lambda turn: Plain(turn, bytes(64)), 0.05):
                await until(lambda: peer.stats().round_trip_s is not None)
                relay.cut()
                began = time.monotonic()
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    await until(lambda: server.client_count() == 0)
                assert time.monotonic() - began >= 0.5 * SLOW
            assert re.search(r"\(1011\): keepalive: no sign of life for \d+\.\d s", caplog.text)
            await client.close()

    @pytest.mark.limit(40)
    async def test_a_slow_one_that_lives_stays(self) -> None:
        """PINGs wait behind up to 3 MB, which take three times as long as an answer may take."""
        async with (
            WsServer[Plain].bind("127.0.0.1:0", **QUICK) as server,
            swallowing_relay(server.local_addr()) as relay,
        ):
            relay.rate = 1e6 / SLOW
            async with WsClient[Plain].connect(relay.address, ping_interval=None) as client:
                await server.wait_clients(1)
                for turn in range(100):
                    server.send_nowait(Plain(turn, bytes(40_000)))
                    await asyncio.sleep(0.01)
                for turn in range(100):
                    assert (await client.recv()).turn == turn
                assert server.client_count() == 1

    async def test_an_end_that_does_not_read_says_that_it_lives(self) -> None:
        """Its program does not receive, so that it reads no PING; for its peer that must not be its death."""
        async with (
            WsServer[bytes].bind(
                "127.0.0.1:0", max_inbound=1 << 20, max_message_size=100_000, **QUICK
            ) as server,
            raw_client(server.local_addr()) as raw,
        ):
            await server.wait_clients(1)
            sent = asyncio.create_task(self.send_much(raw))
            await server.recv()
            for _ in range(2):
                frame = await raw.frame()
                while frame.opcode != PONG:
                    frame = await raw.frame()
                assert frame.payload == b""
            assert server.client_count() == 1
            sent.cancel()
            await asyncio.wait([sent])

    @staticmethod
    async def send_much(raw: WsPeer) -> None:
        while True:
            await raw.send((40_000).to_bytes(4, "little") + bytes(40_000))


class TestMarkers:
    async def test_one_is_due_after_64_kib_and_a_sweep(self) -> None:
        """At the end of a frame; its answer tells how long it took, and what was before it has arrived."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as raw,
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            server.send_nowait(bytes(100_000))
            assert len((await raw.frame()).payload) == 100_004
            ping = await raw.frame()
            assert (ping.opcode, len(ping.payload)) == (PING, 8)
            assert peer.stats().transit is None
            await raw.send(ping.payload, PONG)
            await until(lambda: peer.stats().transit is not None)
            found = peer.stats()
            assert found.transit == 0.0
            assert found.in_flight == 0
            assert found.rate is not None
            assert found.rate > 0

    async def test_an_answer_to_no_marker_is_ignored(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as raw,
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            server.send_nowait(bytes(100_000))
            for payload in (b"12345678", b"", b"1"):
                await raw.send(payload, PONG)
            await raw.send((2).to_bytes(4, "little") + b"hi")
            await server.recv()
            assert peer.stats().transit is None

    async def test_none_where_little_is_sent(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as raw,
        ):
            await server.wait_clients(1)
            for _ in range(20):
                server.send_nowait(bytes(1000))
                await asyncio.sleep(0.03)
            assert [(await raw.frame()).opcode for _ in range(20)] == [2] * 20


@pytest.mark.limit(30)
async def test_close_lifts_the_bound() -> None:
    """Values that wait for an answer are given to the socket, as far as it takes them, and arrive."""
    async with (
        WsServer[Pose, None].bind("127.0.0.1:0", max_transit=0.05) as server,
        swallowing_relay(server.local_addr()) as relay,
    ):
        relay.rate = 1e6
        async with WsClient[Pose, None].connect(relay.address, conflate=False) as client:
            await server.wait_clients(1)
            (peer,) = server.clients
            got: list[int] = []

            task = asyncio.create_task(reading(client, got))
            async with sending(server, lambda turn: Pose(turn, bytes(40_000)), 0.004):
                await until(lambda: peer.stats().superseded > 50)
                await until(lambda: peer.stats().behind_s > 0)
            server.send_nowait(Pose(1_000_000))
            await server.close(drain=5.0)
            await task
            assert got[-1] == 1_000_000


class TestBothEnds:
    @pytest.mark.limit(30)
    @pytest.mark.loops("asyncio")
    async def test_two_ends_at_their_bounds_go_on(self) -> None:
        """The answer to a marker waits behind what its end has in flight itself; neither waits for ever."""
        async with (
            WsServer[Pose].bind("127.0.0.1:0", max_transit=0.2) as server,
            swallowing_relay(server.local_addr(), ways="both") as relay,
        ):
            relay.rate = 2e6
            async with WsClient[Pose].connect(relay.address, max_transit=0.2) as client:
                await server.wait_clients(1)
                (peer,) = server.clients
                (link,) = client._connections()
                tasks = [asyncio.create_task(reading(end)) for end in (server, client)]
                async with (
                    sending(server, lambda turn: Pose(turn, bytes(40_000)), 0.004),
                    sending(client, lambda turn: Pose(turn, bytes(40_000)), 0.004),
                ):
                    await until(lambda: "in flight" in repr(peer) and "in flight" in repr(link))
                    ends = (server, client)
                    for _ in range(3):
                        had = [end.stats().messages_in for end in ends]
                        await until(
                            lambda had=had: all(
                                end.stats().messages_in > before + 10
                                for end, before in zip(ends, had, strict=True)
                            )
                        )
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    @pytest.mark.limit(40)
    @pytest.mark.loops("asyncio")
    async def test_an_echo_with_a_full_inbox_does_not_wait_for_itself(self) -> None:
        """It reads nothing while what it sends does not go out, and the answers to its markers neither."""
        quick = {"ping_interval": 0.5 * SLOW, "ping_timeout": 0.5 * SLOW}
        async with (
            WsServer[bytes].bind(
                "127.0.0.1:0", max_inbound=1 << 20, max_message_size=100_000, max_transit=0.1, **quick
            ) as server,
            swallowing_relay(server.local_addr(), buffer=1 << 18) as relay,
        ):
            relay.rate = 4e6

            async def echo() -> None:
                async for peer, value in server.with_peer():
                    await peer.send(value)

            async with WsClient[bytes].connect(relay.address, ping_interval=None) as client:
                task = asyncio.create_task(echo())

                async def send() -> None:
                    for number in range(200):
                        await client.send(bytes([number]) * 40_000)

                sent = asyncio.create_task(send())
                await asyncio.sleep(0.5 * SLOW)
                for number in range(200):
                    assert await client.recv() == bytes([number]) * 40_000
                await sent
                assert server.client_count() == 1
                task.cancel()
                await asyncio.wait([task])


@pytest.mark.limit(40)
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("max_transit", [0.2, None])
async def test_of_a_blocking_client(max_transit: float | None) -> None:
    """What it sends waits in its own log, as with other clients; without a bound the relay takes all."""
    async with (
        WsServer[Pose].bind("127.0.0.1:0") as server,
        swallowing_relay(server.local_addr(), ways="up") as relay,
    ):
        relay.rate = 2e6
        is_over = threading.Event()

        def send() -> None:
            with connect_blocking(WsClient[Pose], relay.address, max_transit=max_transit) as client:
                turn = 0
                while not is_over.wait(0.004):
                    turn += 1
                    client.send_nowait(Pose(turn, bytes(40_000)))

        sent = asyncio.create_task(asyncio.to_thread(send))
        task = asyncio.create_task(reading(server))
        if max_transit is None:
            await until(lambda: relay.waiting >= 4 << 20)
        else:
            await until(lambda: server.stats().messages_in > 50 and 0 < relay.waiting < 1 << 20)
            relay.most_waiting = 0
            before = server.stats().messages_in
            await until(lambda: server.stats().messages_in > before + 100)
            assert relay.most_waiting < 5 << 19  # of 4 MiB
        relay.rate = None
        is_over.set()
        await sent
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.limit(40)
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("max_transit", [0.5, None])
async def test_what_close_leaves_arrives(max_transit: float | None) -> None:
    """3 MB of reliable values, 200 ms there and back, 1 MB/s: the same number with a bound and without."""
    async with (
        WsServer[Plain, None].bind(
            "127.0.0.1:0", max_transit=max_transit, ping_interval=1.0, ping_timeout=1.0
        ) as server,
        swallowing_relay(server.local_addr()) as relay,
    ):
        relay.rate = 1e6
        relay.delay = 0.1
        async with WsClient[Plain, None].connect(relay.address, ping_interval=None) as client:
            await server.wait_clients(1)
            got: list[int] = []

            task = asyncio.create_task(reading(client, got))
            for turn in range(75):
                server.send_nowait(Plain(turn, bytes(40_000)))
                await asyncio.sleep(0.012)  # so that the bound is in force before all is given
            await server.close()
            await task
            assert got == [*range(75)]


@pytest.mark.limit(120)
@pytest.mark.loops("asyncio")
@pytest.mark.skipif(
    os.environ.get("DELI_COM_TEST_LONG") != "1", reason="20 s at 30 KB/s: DELI_COM_TEST_LONG=1"
)
async def test_one_that_takes_30_kb_a_second_stays() -> None:
    """Of a stream of 100 KB/s, behind a relay that would hold 140 s of it; what it gets is not old."""
    async with (
        WsServer[Pose, None].bind("127.0.0.1:0", ping_interval=2.0, ping_timeout=2.0) as server,
        swallowing_relay(server.local_addr()) as relay,
    ):
        relay.rate = 30e3
        async with WsClient[Pose, None].connect(relay.address, ping_interval=None) as client:
            await server.wait_clients(1)
            sent: dict[int, float] = {}
            ages: list[float] = []

            def make(turn: int) -> Pose:
                sent[turn] = time.monotonic()
                return Pose(turn, bytes(1000))

            async with sending(server, make, 0.01):
                end = time.monotonic() + 20.0
                while time.monotonic() < end:
                    value = await client.recv()
                    ages.append(time.monotonic() - sent[value.turn])
                assert server.client_count() == 1
            assert max(ages) < 10.0 * SLOW
            assert max(ages[-20:]) < 2.0 * SLOW
