"""Pacing: which sends wait for which clients, limits within one turn, and clients that are behind."""

from __future__ import annotations

import asyncio
import logging
import re
import struct
import time

import pytest
from helpers import SLOW, until
from peers import CLOSE, Frame, WsPeer, close_payload, raw_client, raw_server

from deli_com import BacklogFull, WsClient, WsServer, u32

MB = 1_000_000
BLOCK = bytes(MB - 4)  # on the wire: 1 MB
HIGH_WATER = 1 << 20
SENDING_BYTES = 6 * MB  # more than the kernel holds for a peer with a small receive buffer (tcp_wmem)


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


async def answered_close(peer: WsPeer) -> tuple[list[Frame], int | None, str]:
    """Read to CLOSE, answer it, read to the end."""
    found = await peer.read_to_close()
    await peer.send(close_payload(found[1] or 1000), CLOSE)
    assert await peer.read_all() == b""
    return found


async def fill(server: WsServer[bytes]) -> None:
    """Send until a client that reads nothing is behind, whatever the kernel takes."""
    while server._is_drained():
        server.send_nowait(BLOCK)
        await asyncio.sleep(0)


def send_in_one_turn(end: WsServer[bytes] | WsClient[bytes], count: int) -> None:
    """Numbered messages of 1 MB, without letting the loop run."""
    for number in range(count):
        end.send_nowait(b"%04d" % number + BLOCK[4:])


class TestAwaitedSends:
    @pytest.mark.limit(60)
    async def test_twenty_equal_clients_are_all_kept(self) -> None:
        """They are slower than the producer, alike: awaiting send keeps their pace."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            clients = [await WsClient[bytes].connect(server.local_addr()) for _ in range(20)]

            async def receive(client: WsClient[bytes]) -> int:
                count = 0
                while count < 40:
                    value = await client.recv()
                    assert struct.unpack_from("<I", value) == (count,)
                    count += 1
                return count

            receiving = [asyncio.create_task(receive(client)) for client in clients]
            for number in range(40):
                await server.send(struct.pack("<I", number) + BLOCK[4:])
            assert await asyncio.gather(*receiving) == [40] * 20
            assert server.client_count() == 20
            await asyncio.gather(*(client.close() for client in clients))

    async def test_without_awaiting_they_are_not(self) -> None:
        """The same producer, if it does not await, runs into the limits: the test above can fail."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            clients = [await WsClient[bytes].connect(server.local_addr()) for _ in range(20)]
            with pytest.raises(BacklogFull):
                send_in_one_turn(server, 1000)
            await until(lambda: server.client_count() < 20)
            await asyncio.gather(*(client.close() for client in clients))

    async def test_awaiting_bounds_what_is_queued(self) -> None:
        """A client that reads now and then: what is under way is the high-water mark and the kernel's."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            received = most = 0

            async def produce() -> None:
                nonlocal most
                for number in range(60):
                    await server.send(b"%04d" % number + BLOCK[4:])
                    most = max(most, server.log.end - received)

            producing = asyncio.create_task(produce())
            for number in range(60):
                assert await peer.message() == wire(b"%04d" % number + BLOCK[4:])
                received += MB
                await asyncio.sleep(0.001)
            await producing
            assert HIGH_WATER < most < HIGH_WATER + 2 * MB + SENDING_BYTES

    async def test_a_tight_loop_of_sends_lets_the_loop_run(self) -> None:
        """Without clients, with one that reads, with a stalled one: other tasks go on, messages go out."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:

            async def produce() -> None:
                number = 0
                while True:
                    await server.send(number & 0xFFFFFFFF)
                    number += 1

            producing = asyncio.create_task(produce())
            for _ in range(20):
                await asyncio.sleep(0)
            async with raw_client(server.local_addr()) as peer:  # connecting takes turns of the loop
                first = struct.unpack("<I", await peer.message())[0]
                for number in range(1000):
                    assert struct.unpack("<I", await peer.message())[0] == first + 1 + number
                assert not producing.done()
                async with raw_client(server.local_addr(), small=True):
                    for _ in range(1000):
                        await peer.message()
            producing.cancel()
            await asyncio.wait([producing])
            assert producing.cancelled()

    async def test_a_tight_loop_yields_often(self) -> None:
        """Between two turns of the loop no more than some milliseconds pass, whatever the producer does."""
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()):

            async def produce() -> None:
                while True:
                    await server.send(0)

            producing = asyncio.create_task(produce())
            longest = 0.0
            for _ in range(200):
                before = time.perf_counter()
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - before)
            assert longest < 0.1 * SLOW
            producing.cancel()
            await asyncio.wait([producing])

    async def test_a_stalled_client_holds_nobody_up_for_long(self) -> None:
        """Four that read, one that does not: a send waits a fraction of a second for it, once."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr(), small=True),
        ):
            clients = [await WsClient[bytes].connect(server.local_addr()) for _ in range(4)]

            async def receive(client: WsClient[bytes]) -> None:
                for _ in range(60):
                    assert len(await client.recv()) == len(BLOCK)

            receiving = [asyncio.create_task(receive(client)) for client in clients]
            waits = []
            for _ in range(60):
                before = time.perf_counter()
                await server.send(BLOCK)
                waits.append(time.perf_counter() - before)
            await asyncio.gather(*receiving)
            assert max(waits) < 0.6 * SLOW
            assert sum(wait > 0.09 for wait in waits) <= 3
            assert server.client_count() == 4  # 60 MB are over its backlog
            await asyncio.gather(*(client.close() for client in clients))

    async def test_only_a_stalled_client(self) -> None:
        """With nobody else the producer waits for it, until its limits end that."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", progress_timeout=0.4) as server,
            raw_client(server.local_addr(), small=True),
        ):
            while server.client_count():
                await server.send(BLOCK)
                assert server.log.end < HIGH_WATER + 2 * MB + SENDING_BYTES
            await until(lambda: server.client_count() == 0)
            await asyncio.wait_for(server.send(BLOCK), 1)

    async def test_a_cancelled_send_has_sent(self) -> None:
        """Cancelling stops the waiting; the message is queued and arrives, once."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            sent = 0
            while True:
                try:
                    await asyncio.wait_for(server.send(b"%04d" % sent + BLOCK[4:]), 0.02)
                except TimeoutError:
                    sent += 1
                    break
                sent += 1
            server.send_nowait(b"end")
            for number in range(sent):
                assert (await peer.message())[4:8] == b"%04d" % number
            assert await peer.message() == wire(b"end")

    async def test_everything_of_asyncio_takes_send(self) -> None:
        """create_task, TaskGroup, gather, wait_for, shield; in debug mode, where tasks are shown."""
        asyncio.get_running_loop().set_debug(True)
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            assert asyncio.iscoroutine(server.send(0))
            task = asyncio.create_task(server.send(1), name="named")
            assert "named" in repr(task)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.send(2))
                group.create_task(server.send(3))
            await asyncio.gather(server.send(4), server.send(5))
            await asyncio.wait_for(server.send(6), 1)
            await asyncio.shield(server.send(7))
            assert await task is None
            assert [await client.recv() for _ in range(8)] == list(range(8))
            sending = server.send(8)
            await sending
            with pytest.raises(RuntimeError, match="already awaited"):
                await sending
        asyncio.get_running_loop().set_debug(False)

    async def test_a_client_is_paced_by_its_server(self) -> None:
        """Awaited sends of a client wait for a server that reads nothing, and go on when it does."""
        async with raw_server(small=True) as foreign:
            client, peer = await asyncio.gather(WsClient[bytes].connect(foreign.address), foreign.accept())

            async def produce() -> None:
                for number in range(20):
                    await client.send(b"%04d" % number + BLOCK[4:])

            producing = asyncio.create_task(produce())
            await until(lambda: not client._is_drained())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not producing.done()
            assert client.log.end < HIGH_WATER + 2 * MB + SENDING_BYTES
            for number in range(20):
                assert (await peer.message())[4:8] == b"%04d" % number
            await producing
            await asyncio.gather(client.close(), answered_close(peer))
            peer.close()


class TestLimitsOfATurn:
    async def test_the_backlog_of_one_turn_is_bounded(self) -> None:
        """`BacklogFull` comes from the call, and nothing of that message is written."""
        async with raw_server(small=True) as foreign:
            client, peer = await asyncio.gather(WsClient[bytes].connect(foreign.address), foreign.accept())
            with pytest.raises(BacklogFull) as caught:
                send_in_one_turn(client, 1000)
            end, accepted = client.log.end, client.messages_out
            assert caught.value.limit == 16 << 20
            assert 15 * MB < caught.value.queued <= 16 << 20
            for send in (client.send, client.send_nowait):
                with pytest.raises(BacklogFull):
                    send(BLOCK)
            assert client.log.end == end
            client.send_nowait(b"a small one fits")
            for number in range(accepted):
                assert (await peer.message())[4:8] == b"%04d" % number
            assert await peer.message() == wire(b"a small one fits")
            client.send_nowait(BLOCK)
            assert await peer.message() == wire(BLOCK)
            await asyncio.gather(client.close(), answered_close(peer))
            peer.close()

    async def test_the_same_of_a_server(self) -> None:
        """64 MiB by default. Who lags is closed once the loop has run, and the server can send again."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr(), small=True):
            with pytest.raises(BacklogFull) as caught:
                send_in_one_turn(server, 1000)
            assert caught.value.limit == 64 << 20
            assert server.log.end < (64 << 20) + SENDING_BYTES
            assert server.client_count() == 1, "nobody is judged before the loop has run"
            await until(lambda: server.client_count() == 0)
            server.send_nowait(BLOCK)  # the log is free again

    async def test_one_message_alone_always_goes(self) -> None:
        """Larger than every limit but its own."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_backlog=1000) as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            big = bytes(20 * MB)
            server.send_nowait(big)
            for _ in range(20):
                await asyncio.sleep(0)
            assert server.client_count() == 1
            assert await peer.message() == wire(big)


class TestTooSlow:
    async def test_a_laggard_is_closed_and_told(self, caplog: pytest.LogCaptureFixture) -> None:
        """1013 with cause, bytes and seconds, in the CLOSE and in one warning; before it whole frames."""
        with caplog.at_level(logging.WARNING, "deli_com.server"):
            async with (
                WsServer[bytes].bind("127.0.0.1:0", max_backlog=2 * MB) as server,
                raw_client(server.local_addr(), small=True) as peer,
            ):
                await until(lambda: server.client_count() == 1)
                number = 0
                while server.client_count():
                    server.send_nowait(b"%04d" % number + BLOCK[4:])
                    number += 1
                    await asyncio.sleep(0)
                frames, code, reason = await answered_close(peer)
                assert code == 1013
                assert re.fullmatch(
                    r"too slow: \d+ bytes queued, limit 2000000, behind for \d+\.\d s", reason
                )
                for index, frame in enumerate(frames):
                    assert frame.payload[4:8] == b"%04d" % index
                    assert len(frame.payload) == MB
                assert len(frames) < number
        (record,) = [record for record in caplog.records if record.name == "deli_com.server"]
        assert record.levelno == logging.WARNING
        assert re.search(r"closing 127\.0\.0\.1:\d+ \(1013\): too slow: \d{7,} bytes", record.getMessage())

    async def test_no_progress(self, caplog: pytest.LogCaptureFixture) -> None:
        """A client that takes no byte for `progress_timeout` is closed, though its backlog is small."""
        with caplog.at_level(logging.WARNING, "deli_com.server"):
            async with (
                WsServer[bytes].bind("127.0.0.1:0", progress_timeout=0.3) as server,
                raw_client(server.local_addr(), small=True) as peer,
            ):
                began = time.monotonic()
                await fill(server)
                await until(lambda: server.client_count() == 0)
                assert time.monotonic() - began >= 0.3
                _, code, reason = await answered_close(peer)
                assert code == 1013
                assert re.fullmatch(r"no progress for 0\.\d s with \d+ bytes queued", reason)
        (record,) = [record for record in caplog.records if record.name == "deli_com.server"]
        assert "no progress for 0." in record.getMessage()

    async def test_slow_but_moving_is_kept(self) -> None:
        """A client that takes a little, now and then, has progress: it outlives the timeout four times."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", progress_timeout=0.25) as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            await fill(server)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                await peer.read_some(2000)
                await asyncio.sleep(0.02)
            assert server.client_count() == 1

    async def test_a_stalled_client_costs_nothing(self) -> None:
        """While nothing is sent it is not looked at: its transport will tell when it takes bytes again."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr(), small=True),
        ):
            for size in (MB, 10_000, 10):  # a cut inside a frame, and one exactly at a frame's end
                server.send_nowait(bytes(size))
                await fill(server)
                await asyncio.sleep(0.01)
                before = server.turns
                await asyncio.sleep(0.1)
                assert server.turns - before <= 1

    async def test_an_idle_client_is_kept(self) -> None:
        """Progress is asked only of who is behind."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", progress_timeout=0.1) as server,
            raw_client(server.local_addr()) as peer,
        ):
            await asyncio.sleep(0.4)  # four timeouts
            assert await peer.round_trip() == []
            assert server.client_count() == 1

    async def test_a_loop_that_stood_still_judges_nobody(self) -> None:
        """Blocked for longer than the timeout by user code: the client, who reads, is not to blame."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", progress_timeout=0.5) as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            await fill(server)
            time.sleep(1.0)  # noqa: ASYNC251 - that is the test
            await asyncio.sleep(0)
            assert server.client_count() == 1
            reading = asyncio.create_task(peer.read_to_close())
            await until(server._is_drained)
            assert server.client_count() == 1
            reading.cancel()
            await asyncio.wait([reading])

    async def test_one_stalled_client_changes_nothing_for_others(self) -> None:
        """They get everything in order while it is judged, closed and lingers."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_backlog=2 * MB, close_timeout=0.2) as server,
            raw_client(server.local_addr(), small=True),
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            for number in range(40):
                await server.send(b"%04d" % number + BLOCK[4:])
                assert (await client.recv())[:4] == b"%04d" % number
            assert server.client_count() == 1
            await until(lambda: len(server._connections()) == 1)

    async def test_several_stalled_clients_are_each_closed_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "deli_com.server"):
            async with WsServer[bytes].bind("127.0.0.1:0", max_backlog=2 * MB, close_timeout=0.2) as server:
                peers = [raw_client(server.local_addr(), small=True) for _ in range(5)]
                for peer in peers:
                    await peer.__aenter__()
                while server.client_count():
                    server.send_nowait(BLOCK)
                    await asyncio.sleep(0)
                for peer in peers:
                    await peer.__aexit__(None, None, None)
        records = [record.getMessage() for record in caplog.records if record.name == "deli_com.server"]
        assert len(records) == 5
        assert len({record.split(" ")[1] for record in records}) == 5
