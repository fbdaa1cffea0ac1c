"""Calls from unusual places and at unusual times: inside encoding, callbacks and flushes, cancelled, and with
clocks that jump. Nothing is lost, duplicated or damaged, and an exception affects only its own call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import RawPeer, certificates, until
from peers import CLOSE, WsPeer, close_payload, dial, raw_client, raw_server, upgrade

from deli_com import (
    Array,
    Client,
    Codec,
    ComError,
    ConnectionClosed,
    Server,
    WsClient,
    WsServer,
    u8,
    u32,
)

KINDS = pytest.mark.parametrize("kind", [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"])


class Item(Codec):
    number: u32
    data: Array[u8]


class Sly(bytearray):
    """Bytes that do something when their buffer is asked for."""

    act: Callable[[], None]

    def __buffer__(self, flags: int, /) -> memoryview:
        self.act()
        return super().__buffer__(flags)  # type: ignore[misc]


class Index:
    """A number that does something when it is asked for its value."""

    def __init__(self, value: int, act: Callable[[], Any]) -> None:
        self.value, self.act = value, act

    def __index__(self) -> int:
        self.act()
        return self.value


def same(found: Item, number: int, size: int) -> bool:
    return found.number == number and bytes(found.data) == bytes([number % 251]) * size


@KINDS
class TestInsideEncoding:
    @pytest.mark.parametrize("size", [10, 50_000, 400_000])
    @pytest.mark.parametrize("what", ["send", "flush", "send and flush", "close", "abort"])
    async def test_the_value_that_asks_and_those_it_sends_are_whole(
        self, kind: Any, what: str, size: int
    ) -> None:
        """Python code runs while a value is encoded, below and above the size that has memory of its own."""
        server = await kind[0][Item].bind("127.0.0.1:0", close_timeout=0.2)
        client = await kind[1][Item].connect(server.local_addr())
        await server.wait_clients(1)
        closing: list[asyncio.Task[None]] = []

        def act() -> None:
            if "send" in what:
                server.send_nowait(Item(2, bytes([2]) * size))
            if "flush" in what:
                server.flush()
            if what == "close":
                closing.append(asyncio.ensure_future(server.close()))
            if what == "abort":
                server._connections()[0]._abort()

        value: Any = Item(1, bytes([1]) * size)
        value.number = Index(1, act)
        server.send_nowait(value)
        found = []
        with contextlib.suppress(ConnectionClosed):
            if what != "abort":
                found.append(await client.recv())
            if "send" in what:
                found.append(await client.recv())
            if what == "abort":
                await client.recv()
        assert len(found) == (0 if what == "abort" else 2 if "send" in what else 1)
        assert sorted(item.number for item in found) == list(range(1, len(found) + 1))
        assert all(same(item, item.number, size) for item in found)
        for task in closing:
            await task
        await server.close()
        await client.close()

    async def test_a_buffer_that_sends_and_flushes(self, kind: Any) -> None:
        async with (
            kind[0][Item].bind("127.0.0.1:0") as server,
            kind[1][Item].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            for size in (10, 200_000):
                data = Sly(bytes([7]) * size)
                data.act = lambda size=size: (
                    server.send_nowait(Item(8, bytes([8]) * size)),  # type: ignore[assignment]
                    server.flush(),
                )
                server.send_nowait(Item(7, data))
                server.send_nowait(Item(9, bytes([9]) * size))
                found = [await client.recv()]
                while found[-1].number != 9:
                    found.append(await client.recv())
                assert {item.number for item in found} <= {7, 8, 9}
                assert found[0].number == 7 or found[1].number == 7
                assert all(same(item, item.number, size) for item in found)

    async def test_one_that_raises_leaves_nothing_of_itself(self, kind: Any) -> None:
        def fail() -> None:
            server.send_nowait(Item(2, b""))
            raise ZeroDivisionError("mine")

        async with (
            kind[0][Item].bind("127.0.0.1:0") as server,
            kind[1][Item].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            value: Any = Item(1, bytes(100))
            value.number = Index(1, fail)
            with pytest.raises((ZeroDivisionError, ComError)):
                server.send_nowait(value)
            server.send_nowait(Item(3, b""))
            assert [(await client.recv()).number for _ in range(2)] == [2, 3]


async def joined(kind: Any, server: Any) -> WsPeer:
    peer = await dial(server.local_addr(), small=True)
    if kind[0] is WsServer:
        await upgrade(peer)
    return peer


class Watch(logging.Handler):
    """Calls back with each record."""

    def __init__(self, act: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.WARNING)
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        self.act(record)


@contextlib.contextmanager
def watched(act: Callable[[logging.LogRecord], None]) -> Any:
    logger, handler = logging.getLogger("deli_com"), Watch(act)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@KINDS
class TestFromALoggingHandler:
    async def test_abort_everybody_while_one_is_cut_off(self, kind: Any) -> None:
        """Several laggards are cut off in one flush; the first record ends all of them, and the good one."""
        seen: list[str] = []

        def act(record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            for connection in server._connections():
                connection._abort()
            with contextlib.suppress(ComError):
                server.send_nowait(b"from the handler")
            server.flush()

        async with kind[0][bytes].bind("127.0.0.1:0", max_backlog=1 << 20, close_timeout=0.1) as server:
            peers = [await joined(kind, server) for _ in range(4)]
            await server.wait_clients(4)
            with watched(act):
                for _ in range(60):
                    with contextlib.suppress(ComError):
                        server.send_nowait(bytes(400_000))
                    await asyncio.sleep(0)
                await until(lambda: not server._connections())
            assert len(seen) >= 1
            for peer in peers:
                peer.close()

    @pytest.mark.parametrize("what", ["too slow", "no progress"])
    async def test_a_handler_that_raises_keeps_nobody_open(self, kind: Any, what: str) -> None:
        """The laggard is closed all the same, and a client beside it gets everything."""

        def fail(record: logging.LogRecord) -> None:
            if record.name == "deli_com.server":
                raise ZeroDivisionError("mine")

        limits: Any = {"max_backlog": 1 << 20} if what == "too slow" else {"progress_timeout": 0.3}
        async with (
            kind[0][bytes].bind("127.0.0.1:0", close_timeout=0.1, **limits) as server,
            kind[1][bytes].connect(server.local_addr()) as good,
        ):
            stalled = await joined(kind, server)
            await server.wait_clients(2)
            with watched(fail):
                for number in range(20):
                    server.send_nowait(struct.pack("<I", number) + bytes(400_000))
                    assert (await good.recv())[:4] == struct.pack("<I", number)
                await until(lambda: len(server._connections()) == 1)
            server.send_nowait(b"last")
            assert await good.recv() == b"last"
            with contextlib.suppress(ConnectionResetError):
                await stalled.read_all()  # up to the end of the stream: it is not only forgotten
            stalled.close()

    async def test_close_the_server_while_memory_is_shed(self, kind: Any) -> None:
        """`max_inbound` is over, the record of the first close closes all: nobody is walked over twice."""
        closing: list[asyncio.Task[None]] = []

        def act(record: logging.LogRecord) -> None:
            if not closing:
                for connection in server._connections():
                    connection._abort()
                closing.append(asyncio.ensure_future(server.close(drain=0)))

        await asyncio.sleep(1.01 - time.monotonic() % 1)  # such records are few a second
        server = await kind[0][bytes].bind("127.0.0.1:0", max_inbound=1_000_000, close_timeout=0.1)
        peers = [await joined(kind, server) for _ in range(6)]
        await server.wait_clients(6)
        with watched(act):
            for peer in peers:
                head = (
                    struct.pack("!BBQ", 0x82, 0xFF, 900_000) + bytes(4)
                    if kind[0] is WsServer
                    else struct.pack("<I", 900_000)
                )
                with contextlib.suppress(OSError):
                    await RawPeer.send(peer, head + bytes(300_000))
            await until(lambda: closing)
            await closing[0]
        assert server.quota.buffered == 0
        for peer in peers:
            peer.close()


class Faulty(Codec):
    number: u32

    def __post_init__(self) -> None:
        if self.number > 100:
            hook(self)


hook: Callable[[Any], None] = lambda value: None  # noqa: E731


@KINDS
class TestInsideDecoding:
    @pytest.mark.parametrize("what", ["send", "abort", "close", "raise", "recv"])
    async def test_calls_from_a_values_post_init(
        self, kind: Any, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs inside a read: the connection it comes over may be ended by it, amid its messages."""
        tasks: list[asyncio.Task[Any]] = []
        server = await kind[0][u32, Faulty].bind("127.0.0.1:0", close_timeout=0.2)

        def act(value: Any) -> None:
            if what == "send":
                server.send_nowait(value.number)
                server.flush()
            elif what == "abort":
                server._connections()[0]._abort()
            elif what == "close":
                tasks.append(asyncio.ensure_future(server.close()))
            elif what == "raise":
                raise MemoryError("mine")
            else:
                tasks.append(asyncio.ensure_future(server.recv()))

        sender = await kind[1][u32, u32].connect(server.local_addr(), schema=None)
        await server.wait_clients(1)
        first = asyncio.ensure_future(server.recv())
        await asyncio.sleep(0)
        monkeypatch.setitem(globals(), "hook", act)
        for number in (1, 101, 2, 3):
            sender.send_nowait(number)
        assert (await first).number == 1
        if what == "send":
            assert await sender.recv() == 101
        if what in ("send", "raise", "recv"):
            got = [(await server.recv()).number for _ in range(2 if what != "send" else 3)]
            got += [task.result().number for task in tasks if task.done()]
            assert sorted(got)[:1] != [1]
            await until(lambda: server.messages_in == 4)
            assert server.undecodable == (1 if what == "raise" else 0)
            assert server.client_count() == 1
        else:
            await until(lambda: server.client_count() == 0)
        for task in tasks:
            with contextlib.suppress(ComError):
                await asyncio.wait_for(task, 5)
        await sender.close()
        await server.close()


@KINDS
@pytest.mark.limit(40)
@pytest.mark.parametrize("seed", range(3))
async def test_cancel_and_close_in_the_middle_of_everything(kind: Any, seed: int) -> None:
    """Senders, receivers, waiters, connects are cancelled at random turns, then both ends close at once."""
    rng = random.Random(seed)
    for _ in range(12):
        await one_mess(kind, rng)


async def one_mess(kind: Any, rng: random.Random) -> None:
    server = await kind[0][bytes].bind("127.0.0.1:0", close_timeout=0.2)

    async def client() -> None:
        async with kind[1][bytes].connect(server.local_addr()) as one:
            async for value in one:
                await one.send(value[: rng.randrange(1 + len(value))])

    async def produce() -> None:
        while True:
            await server.send(bytes(rng.choice([1, 1000, 300_000])))
            await asyncio.sleep(0)

    async def consume() -> None:
        while True:
            await rng.choice([server.recv, lambda: server.recv_many(5), server.recv_from])()

    work = [client, client, client, produce, consume, consume, lambda: server.wait_clients(9)]
    tasks = [asyncio.create_task(make()) for make in work for _ in range(2)]
    for _ in range(rng.randrange(200)):
        await asyncio.sleep(0)
        if rng.random() < 0.03:
            rng.choice(tasks).cancel()
    rng.shuffle(tasks)
    for task in tasks[: rng.randrange(len(tasks))]:
        task.cancel()
    closing = [asyncio.create_task(server.close(drain=0.1)) for _ in range(3)]
    await asyncio.sleep(0)
    closing[0].cancel()
    await asyncio.wait(closing)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, (ComError, asyncio.CancelledError)) or result is None, repr(result)
    assert server._connections() == []


class Jumpy:
    """The clock of a loop, off by what a test says."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.real, self.off = loop, loop.time, 0.0

    def __call__(self) -> float:
        return self.real() + self.off


@pytest.mark.loops("asyncio")
@pytest.mark.limit(5000)  # on the clock that jumps
@pytest.mark.parametrize("jump", [3600.0, -3600.0, 30.0])
async def test_a_clock_that_jumps_ends_nobody(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forth or back, as after a sleep of the machine: no deadline is over by it, and none stops.

    Peers that are there stay, one that is silent afterwards is found. With the clock set back, timers of the
    loop itself stand still for as long, which nobody can mend: so it is put right before that is asked.
    """
    loop = asyncio.get_running_loop()
    clock = Jumpy(loop)
    monkeypatch.setattr(loop, "time", clock)
    async with (
        WsServer[bytes].bind("127.0.0.1:0", ping_interval=1.0, ping_timeout=1.0, close_timeout=0.2) as server,
        WsClient[bytes].connect(server.local_addr(), ping_interval=None) as good,
        raw_client(server.local_addr()),
        raw_client(server.local_addr(), small=True),
    ):
        await server.wait_clients(3)
        for _ in range(4):
            server.send_nowait(bytes(1_000_000))
        await until(lambda: not server._is_drained())
        clock.off = jump
        for number in range(30):
            server.send_nowait(b"%d" % number)
            await good.recv()
        if jump > 0:
            await asyncio.sleep(0.3)  # a sweep or two
        assert server.client_count() == 3
        clock.off = max(jump, 0.0)
        await until(lambda: server.client_count() == 1)
        await until(lambda: server.stats().closed == {1011: 2})  # both silent ones, and nobody else


@pytest.mark.parametrize("kind", ["raises", "raises later", "closes"])
async def test_on_reconnect_that_raises_or_closes(kind: str) -> None:
    """The step raises what the user's callback raised, once; the stream goes on with the next step."""
    server = await WsServer[u32].bind("127.0.0.1:0")
    addr = server.local_addr()

    def raises(seconds: float) -> None:
        raise ZeroDivisionError("mine")

    async def later(seconds: float) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("mine")

    async def closes(seconds: float) -> None:
        await values.aclose()

    told: Any = {"raises": raises, "raises later": later, "closes": closes}[kind]
    async with WsClient[u32].stream(addr, on_reconnect=told, first_delay=0.01) as values:
        step = asyncio.ensure_future(anext(values))
        await server.wait_clients(1)
        await server.send(1)
        assert await step == 1
        await server.close()
        step = asyncio.ensure_future(anext(values))
        await until(lambda: values.client is None)
        async with WsServer[u32].bind(addr) as again:
            await again.wait_clients(1)
            if kind == "closes":
                with pytest.raises(StopAsyncIteration):
                    await step
            else:
                with pytest.raises(ZeroDivisionError):
                    await step
                await again.send(2)
                assert await anext(values) == 2


@KINDS
async def test_unread_input_at_close_takes_nothing_away(kind: Any) -> None:
    """The inbox is full, megabytes wait in the kernel, and this end closes: the tail and the end arrive."""
    server = await kind[0][bytes].bind("127.0.0.1:0", max_inbound=2_000_000)
    client = await kind[1][bytes].connect(server.local_addr())
    await server.wait_clients(1)
    waiting = asyncio.ensure_future(server.recv())
    sending = asyncio.create_task(_send_much(client))
    await waiting
    await until(lambda: server.inbox.held_bytes >= 1_000_000)
    server.send_nowait(b"the tail" + bytes(500_000))
    closing = asyncio.create_task(server.close())
    assert await client.recv() == b"the tail" + bytes(500_000)
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    if kind[0] is WsServer:
        assert closed.value.code == 1001
    await asyncio.wait([sending, closing])
    await client.close()


async def _send_much(client: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in range(400):
            await client.send(bytes(20_000))


async def test_a_peer_that_answers_a_close_with_a_flood() -> None:
    """What comes behind CLOSE is thrown away, for as long as the close may take and no longer."""
    async with raw_server() as foreign:
        client, peer = await asyncio.gather(
            WsClient[bytes].connect(foreign.address, close_timeout=0.5), foreign.accept()
        )
        closing = asyncio.create_task(client.close())
        await peer.read_to_close()
        began = time.monotonic()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                while not closing.done():
                    await peer.send_raw(b"\x82\x7e\xff\xff" + bytes(65535))
                    await asyncio.sleep(0)
        await closing
        assert time.monotonic() - began < 0.5 + 2.5
        assert client.messages_in == 0
        peer.close()


async def test_close_frames_of_both_ends_while_a_flush_is_cut() -> None:
    """The peer's CLOSE comes while megabytes are queued for it: nothing lands inside a frame."""
    async with WsServer[bytes].bind("127.0.0.1:0", max_backlog=64 << 20) as server:
        async with raw_client(server.local_addr(), small=True) as peer:
            await server.wait_clients(1)
            for number in range(6):
                server.send_nowait(struct.pack("<I", number) + bytes(700_000))
            await peer.send(close_payload(1000), CLOSE)
            await asyncio.sleep(0)
            closing = asyncio.create_task(server.close())
            frames, code, _ = await peer.read_to_close()
            assert code in (1000, 1001)
            for number, frame in enumerate(frames):
                assert frame.payload == struct.pack("<II", 700_004, number) + bytes(700_000)
            peer.close()
            await closing


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_handshake_outlives_a_loop_that_stands_still(secure: bool) -> None:
    """At every turn: the server's deadline passes while nobody can go on, and nobody is refused for it."""
    tls, trusting = certificates()
    async with WsServer[bytes].bind("127.0.0.1:0", open_timeout=0.2, ssl=tls if secure else None) as server:
        for turns in (0, 1, 2, 3, 5, 8):
            opening = WsClient[bytes].connect(
                ("localhost", server.local_addr().port), ssl=trusting if secure else None, open_timeout=None
            )
            connecting = asyncio.create_task(opening)
            acceptor: Any = server._acceptor._acceptor  # type: ignore[union-attr]
            await until(lambda: acceptor.handshakes or server.client_count())  # noqa: B023
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - the point
            await (await connecting).close()
