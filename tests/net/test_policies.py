"""The policies for a client that is behind: by type, by variant, and by `slow_client=`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import until
from laggards import (
    WIRES,
    Keyed,
    Message,
    Newest,
    Patient,
    Plain,
    Sure,
    Window,
    assert_transcript,
    laggard,
    server_of,
    size_of,
    stall,
)

from deli_com import Codec, Server, WsServer, u32

MB = 1_000_000
SIZES = {"small": 1000, "large": 200_000}
NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # linux/tcp.h
ALL_WIRES = pytest.mark.parametrize("wire", WIRES)
BOTH_SIZES = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def the_peer(server: Any) -> Any:
    (peer,) = server.clients
    return peer


async def send_more(server: Any, sent: list[Any], *messages: Any) -> None:
    for message in messages:
        server.send_nowait(message)
        sent.append(message)
        await asyncio.sleep(0)


class TestLatest:
    @ALL_WIRES
    @BOTH_SIZES
    async def test_the_newest_of_each_key_in_the_order_of_the_stream(self, wire: str, size: int) -> None:
        """And every reliable message between them, on the same connection."""
        data = bytes(size)
        async with server_of(wire) as server, laggard(server, wire) as slow:
            sent = await stall(server, lambda n: Keyed(n, 0, data))
            for _ in range(20):
                at = len(sent)
                await send_more(
                    server,
                    sent,
                    Keyed(at, 1, data),
                    Sure(at + 1),
                    Newest(at + 2, data),
                    Keyed(at + 3, 2, data),
                    Plain(at + 4),
                    Keyed(at + 5, 1, data),
                )
            await send_more(server, sent, Sure(len(sent)))
            got = await slow.messages_until(len(sent) - 1)
            missed = assert_transcript(got, sent, wire)
            assert missed > 70
            assert the_peer(server).stats().superseded == server.stats().superseded == missed
            assert server.stats().skipped == 0

    @ALL_WIRES
    async def test_who_keeps_up_gets_every_one(self, wire: str) -> None:
        """Superseded within one turn or not: conflation is for those who are behind."""
        async with server_of(wire) as server, laggard(server, wire, small=False) as fast:
            sent = [Keyed(n, n % 2, bytes(100)) for n in range(300)]
            for n, message in enumerate(sent):
                server.send_nowait(message)
                if n % 7 == 0:
                    await asyncio.sleep(0)
            assert await fast.messages_until(299) == sent
            assert server.stats().superseded == 0

    async def test_it_is_never_closed_for_lag(self) -> None:
        """Neither for bytes, nor for time, while only newest messages wait; then it gets them."""
        data = bytes(100_000)
        async with (
            server_of("ws", max_backlog=MB, progress_timeout=0.1) as server,
            laggard(server, "ws") as slow,
        ):
            sent = await stall(server, lambda n: Keyed(n, n % 3, data))
            end = asyncio.get_running_loop().time() + 0.5
            while asyncio.get_running_loop().time() < end:
                at = len(sent)
                await send_more(server, sent, *[Keyed(at + n, n % 3, data) for n in range(10)])
                await asyncio.sleep(0.005)
            assert sum(size_of(message, "ws") for message in sent) > 10 * MB
            assert server.client_count() == 1
            assert server.stats().queued_bytes < MB
            assert_transcript(await slow.messages_until(len(sent) - 1), sent, "ws")

    async def test_a_reliable_message_that_waits_brings_the_timeout_back(self) -> None:
        """The limits are those of the reliable class: the test above can fail."""
        async with server_of("ws", progress_timeout=0.1) as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Keyed(n, 0, bytes(100_000)))
            server.send_nowait(Sure(len(sent)))
            await until(lambda: server.client_count() == 0)
            _, code, reason = await slow.end()
            assert code == 1013
            assert re.fullmatch(r"no progress for \d\.\d s with \d+ bytes queued", reason)


class TestSkip:
    @ALL_WIRES
    @BOTH_SIZES
    async def test_the_last_bytes_that_fit_and_all_reliable_ones(self, wire: str, size: int) -> None:
        """What is passed over is counted, for the client and for the server."""
        data, window = bytes(size), 12 * size
        async with server_of(wire, max_backlog=window) as server, laggard(server, wire) as slow:
            sent = await stall(server, lambda n: Window(n, data))
            for _ in range(10):
                at = len(sent)
                await send_more(server, sent, *[Window(at + n, data) for n in range(4)], Sure(at + 4))
            got = await slow.messages_until(len(sent) - 1)
            missed = assert_transcript(got, sent, wire, window)
            assert missed > 20
            assert the_peer(server).stats().skipped == server.stats().skipped == missed
            assert server.stats().superseded == 0
            assert sum(isinstance(message, Window) for message in got[-14:]) >= 10

    async def test_one_message_larger_than_the_window_still_comes(self) -> None:
        """The newest one is never skipped."""
        async with server_of("ws", max_backlog=1000) as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Window(n, bytes(MB)))
            await send_more(server, sent, *[Window(len(sent) + n, bytes(MB)) for n in range(5)])
            got = await slow.messages_until(len(sent) - 1)
            assert assert_transcript(got, sent, "ws", 1000) > 3

    async def test_it_is_never_closed_for_lag(self) -> None:
        async with (
            server_of("tcp", max_backlog=MB, progress_timeout=0.1) as server,
            laggard(server, "tcp") as slow,
        ):
            sent = await stall(server, lambda n: Window(n, bytes(100_000)))
            begin, loop = asyncio.get_running_loop().time(), asyncio.get_running_loop()
            while loop.time() < begin + 0.5:
                await send_more(server, sent, Window(len(sent), bytes(100_000)))
                await asyncio.sleep(0.005)
            assert server.client_count() == 1
            assert_transcript(await slow.messages_until(len(sent) - 1), sent, "tcp", MB)


class TestDisconnect:
    @ALL_WIRES
    @BOTH_SIZES
    async def test_too_far_behind(self, wire: str, size: int) -> None:
        """Closed, 1013 with bytes and seconds over WebSocket; up to there without a gap."""
        departures: list[Any] = []
        async with (
            server_of(
                wire, max_backlog=12 * size, on_disconnect=lambda _, why: departures.append(why)
            ) as server,
            laggard(server, wire) as slow,
        ):
            sent = await stall(server, lambda n: Sure(n, bytes(size)))
            while server.client_count():
                await send_more(server, sent, Sure(len(sent), bytes(size)))
            payloads, code, reason = await slow.end()
            assert len(payloads) < len(sent)
            got = [message.number for message in map(_decoded, payloads)]
            assert got == list(range(len(got)))
            (departure,) = departures
            assert departure.cause == "too slow"
            assert departure.queued_bytes > 12 * size
            if wire.startswith("ws"):
                found = re.fullmatch(
                    r"too slow: (\d+) bytes queued, limit (\d+), behind for \d+\.\d s", reason
                )
                assert code == 1013
                assert found
                queued, limit = map(int, found.groups())
                assert limit == 12 * size < queued <= limit + 3 * size_of(sent[0], wire)

    async def test_one_message_alone_is_never_too_much(self) -> None:
        """Ten times the limit in one message: it is sent, whatever the limit."""
        async with server_of("ws", max_backlog=1000) as server, laggard(server, "ws") as slow:
            sent: list[Any] = []
            while server._is_drained():
                await send_more(server, sent, Sure(len(sent), bytes(MB)))
            server.flush()
            await asyncio.sleep(0.05)
            assert server.client_count() == 1
            assert await slow.messages_until(len(sent) - 1) == sent


class TestWait:
    async def test_the_producer_waits_for_the_slowest_too(self) -> None:
        """One that reads a message a turn, beside one that reads at once, is waited for all the time."""
        async with (
            server_of("ws", max_backlog=4 * MB) as server,
            laggard(server, "ws") as slow,
            laggard(server, "ws", small=False) as fast,
        ):
            sent: list[Any] = []
            done = False

            async def produce() -> None:
                nonlocal done
                for number in range(60):
                    sent.append(Patient(number, bytes(200_000)))
                    await server.send(sent[-1])
                done = True

            async def read_fast() -> list[Any]:
                return await fast.messages_until(59)

            tasks = [asyncio.create_task(produce()), asyncio.create_task(read_fast())]
            await until(lambda: not server._is_drained())
            for _ in range(40):  # longer than the two windows after which a far slower one is left behind
                before = len(sent)
                await asyncio.sleep(0.01)
            assert len(sent) == before < 60
            assert not done
            got = [await slow.message() for _ in range(60)]
            await asyncio.gather(*tasks)
            assert got == sent
            assert server.client_count() == 2

    async def test_of_the_default_policy_it_does_not(self) -> None:
        """The same with `disconnect`: the slow one is left behind, and closed; the test above can fail."""
        async with (
            server_of("ws", max_backlog=4 * MB) as server,
            laggard(server, "ws") as slow,
            laggard(server, "ws", small=False) as fast,
        ):
            reading = asyncio.create_task(fast.messages_until(99))
            for number in range(100):
                await server.send(Sure(number, bytes(200_000)))
            assert [message.number for message in await reading] == list(range(100))
            assert server.client_count() == 1
            _, code, _ = await slow.end()
            assert code == 1013

    async def test_it_is_bounded_by_the_progress_timeout(self) -> None:
        """One that reads nothing is closed for that, and the producer goes on."""
        async with server_of("ws", progress_timeout=0.3) as server, laggard(server, "ws") as slow:
            number = 0
            while server.client_count():
                await server.send(Patient(number, bytes(200_000)))
                number += 1
            _, code, reason = await slow.end()
            assert code == 1013
            assert re.fullmatch(r"no progress for 0\.[3-9] s with \d+ bytes queued", reason)

    async def test_without_awaiting_the_limit_counts(self) -> None:
        """`send_nowait` waits for nobody: too far behind is closed, as with `disconnect`."""
        async with server_of("ws", max_backlog=2 * MB) as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Patient(n, bytes(200_000)))
            while server.client_count():
                await send_more(server, sent, Patient(len(sent), bytes(200_000)))
            _, code, reason = await slow.end()
            assert (code, reason[:10]) == (1013, "too slow: ")


class TestWhoSaysWhich:
    """The policy stands at the class, else at its sealed parent, else at the server."""

    @pytest.mark.parametrize("slow_client", ["skip", "latest"])
    async def test_the_server_speaks_for_classes_that_say_nothing(self, slow_client: Any) -> None:
        async with (
            server_of("ws", slow_client=slow_client, max_backlog=2 * MB) as server,
            laggard(server, "ws") as slow,
        ):
            sent = await stall(server, lambda n: Plain(n, bytes(200_000)))
            await send_more(server, sent, Sure(len(sent)))
            await send_more(server, sent, *[Plain(len(sent) + n, bytes(200_000)) for n in range(30)])
            got = await slow.messages_until(len(sent) - 1)
            as_if = {"skip": Window, "latest": Newest}[slow_client]

            def translated(messages: list[Any]) -> list[Any]:
                return [as_if(m.number, m.data) if isinstance(m, Plain) else m for m in messages]

            assert assert_transcript(translated(got), translated(sent), "ws", 2 * MB) > 10
            stats = server.stats()
            assert (stats.skipped > 0, stats.superseded > 0) == (
                slow_client == "skip",
                slow_client == "latest",
            )

    async def test_a_type_that_is_no_class(self) -> None:
        """`WsServer[bytes]` has no class to speak for it."""
        async with WsServer[bytes, None].bind("127.0.0.1:0", slow_client="latest") as server:
            async with laggard(server, "ws") as slow:
                count = 0
                while server._is_drained():
                    server.send_nowait(b"%06d" % count + bytes(100_000))
                    count += 1
                    await asyncio.sleep(0)
                for number in range(count, count + 50):
                    server.send_nowait(b"%06d" % number + bytes(100_000))
                    await asyncio.sleep(0)
                numbers = [int((await slow.payload())[4:10])]
                while numbers[-1] != count + 49:
                    numbers.append(int((await slow.payload())[4:10]))
                assert numbers[:-1] == list(range(len(numbers) - 1))
                assert len(numbers) <= count + 2

    async def test_a_class_wins_over_the_server(self) -> None:
        """A reliable class on a server whose default is latest loses nothing."""
        async with server_of("ws", slow_client="latest") as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Sure(n, bytes(200_000)))
            await send_more(server, sent, *[Sure(len(sent) + n) for n in range(50)])
            assert await slow.messages_until(len(sent) - 1) == sent

    async def test_a_plain_class_alone(self) -> None:
        """A message type that is not sealed, with a policy of its own."""

        class Pose(Codec, policy="latest"):
            number: u32
            data: bytes

        async with Server[Pose, None].bind("127.0.0.1:0") as server, laggard(server, "tcp") as slow:
            sent = await stall(server, lambda n: Pose(n, bytes(200_000)))
            for _ in range(30):
                sent.append(Pose(len(sent), bytes(200_000)))
                server.send_nowait(sent[-1])
                await asyncio.sleep(0)
            numbers = [int.from_bytes((await slow.payload())[:4], "little")]
            while numbers[-1] != len(sent) - 1:
                numbers.append(int.from_bytes((await slow.payload())[:4], "little"))
            assert numbers == [*range(len(numbers) - 1), len(sent) - 1]
            assert len(numbers) < len(sent) - 25

    async def test_a_policy_that_there_is_not(self) -> None:
        with pytest.raises(
            ValueError, match="slow_client is 'drop', expected one of 'disconnect', 'wait', 'skip', 'latest'"
        ):
            await WsServer[u32].bind("127.0.0.1:0", slow_client="drop")  # type: ignore[arg-type]


class TestMixedUnderTraffic:
    @ALL_WIRES
    @pytest.mark.limit(20)
    async def test_one_that_reads_now_and_then(self, wire: str) -> None:
        """It falls behind and catches up: reliable ones all, the others forward, the last of each key."""
        async with server_of(wire, max_backlog=8 * MB) as server, laggard(server, wire) as slow:
            sent: list[Any] = []
            ended = False

            async def produce() -> None:
                nonlocal ended
                for round_ in range(150):
                    at = len(sent)
                    await send_more(
                        server,
                        sent,
                        Keyed(at, round_ % 5, bytes(40_000)),
                        Sure(at + 1, bytes(round_ % 700)),
                        Window(at + 2, bytes(3000)),
                    )
                await send_more(server, sent, Sure(len(sent)))
                ended = True

            producing = asyncio.create_task(produce())
            got: list[Any] = []
            while not ended or got[-1].number != sent[-1].number:
                for _ in range(3):
                    got.append(await slow.message())
                    if ended and got[-1].number == sent[-1].number:
                        break
                if not ended:
                    await asyncio.sleep(0.002)
            await producing
            numbers = [message.number for message in got]
            assert numbers == sorted(set(numbers))
            assert got == [sent[number] for number in numbers]
            assert [m for m in got if isinstance(m, Sure)] == [m for m in sent if isinstance(m, Sure)]
            for key in range(5):
                assert [m for m in sent if isinstance(m, Keyed) and m.key == key][-1] in got
            stats = server.stats()
            assert len(sent) - len(got) == stats.skipped + stats.superseded


@contextlib.contextmanager
def socket_of(address: Any) -> Iterator[socket.socket]:
    """The server's end of the connection from `address`, by a descriptor of its own."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with found:
            with contextlib.suppress(OSError):
                if found.getpeername()[:2] == tuple(address):
                    yield found
                    return
    raise AssertionError(f"no socket of this process is connected to {address}")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="descriptors are listed by /proc")
class TestUnsentBytesInTheKernel:
    """What the kernel holds unsent cannot be superseded any more."""

    @pytest.mark.parametrize(
        ("down", "options", "is_low"),
        [
            (Message, {}, True),
            (u32, {}, False),
            (u32, {"slow_client": "latest"}, True),
            (u32, {"slow_client": "skip"}, False),
        ],
        ids=["by variant", "plain", "by the server", "skip"],
    )
    @ALL_WIRES
    async def test_they_are_kept_few_where_messages_supersede_others(
        self, wire: str, down: Any, options: Any, is_low: bool
    ) -> None:
        async with server_of(wire, down, **options) as server, laggard(server, wire, small=False):
            with socket_of(the_peer(server).remote_addr) as sock:
                low = sock.getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT)
        assert (low == 32768) is is_low


def _decoded(payload: bytes) -> Any:
    from laggards import MESSAGE

    return MESSAGE.from_bytes(payload)
