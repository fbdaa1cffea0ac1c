"""Bad networks and difficult moments: every value arrives once and in order, or the end is reported."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time

import pytest
from helpers import FIREFOX_HEAD, PLAIN_HEAD, SLOW, certificates, until
from peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    Frame,
    WsPeer,
    build,
    close_payload,
    dial,
    raw_client,
    raw_server,
    upgrade,
)
from proxy import fault_proxy

from deli_com import ComError, ConnectionClosed, WsClient, WsServer

MB = 1_000_000
KEY = b"\x12\x34\x56\x78"


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


def block(number: int, size: int) -> bytes:
    return struct.pack("<I", number) + bytes(size)


class TestSplits:
    STREAM = (
        build(wire(b"one"), mask=KEY)
        + build(wire(bytes(122)), mask=KEY)  # 126 bytes: a header of two more bytes
        + build(b"now", PING, mask=KEY)
        + build(wire(b"three")[:2], fin=False, mask=KEY)
        + build(wire(b"three")[2:], CONTINUATION, mask=KEY)
        + build(b"", PONG, mask=KEY)
        + build(wire(b""), mask=KEY)
        + build(close_payload(1000), CLOSE, mask=KEY)
    )
    VALUES = (b"one", bytes(122), b"three", b"")

    @pytest.mark.limit(30)
    async def test_input_split_at_every_byte(self) -> None:
        """Two reads, for each place in a stream of every kind of frame: the same values, the same answers."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for at in range(1, len(self.STREAM)):
                async with raw_client(server.local_addr()) as peer:
                    seen = server.bytes_in
                    await peer.send_raw(self.STREAM[:at])
                    for _ in range(3):  # in which the server reads it: the loop is one and the same
                        await asyncio.sleep(0)
                    await peer.send_raw(self.STREAM[at:])
                    assert [await server.recv() for _ in self.VALUES] == list(self.VALUES)
                    frames, code, _ = await peer.read_to_close()
                    assert [(frame.opcode, frame.payload) for frame in frames] == [(PONG, b"now")]
                    assert code == 1000
                    assert server.bytes_in > seen

    async def test_a_connection_a_byte_at_a_time(self) -> None:
        """Both handshakes, values both ways and both closes, through a link that passes one byte a turn."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            proxy.piece = 1
            async with WsClient[bytes].connect(proxy.address) as client:
                for number in range(20):
                    await server.send(block(number, number * 9))
                    await client.send(block(number, number * 9))
                for number in range(20):
                    assert await client.recv() == block(number, number * 9)
                    assert await server.recv() == block(number, number * 9)
            await until(lambda: server.client_count() == 0)

    @pytest.mark.parametrize("piece", [7, 1021, 4096])
    async def test_large_values_in_pieces(self, piece: int) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            proxy.piece = piece
            size = piece * 300
            async with WsClient[bytes].connect(proxy.address) as client:
                for number in range(4):
                    server.send_nowait(block(number, size))
                    client.send_nowait(block(number, size))
                for number in range(4):
                    assert await client.recv() == block(number, size)
                    assert await server.recv() == block(number, size)


class TestBadLinks:
    async def test_delayed(self) -> None:
        """Slow both ways: order and contents are as ever."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            proxy.delay_s = 0.005
            async with WsClient[bytes].connect(proxy.address) as client:
                for number in range(50):
                    server.send_nowait(block(number, 1000))
                    await asyncio.sleep(0)
                for number in range(50):
                    assert await client.recv() == block(number, 1000)

    async def test_stalled_and_resumed(self) -> None:
        """The client lags while its link stands still, then catches up and is current again."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_backlog=256 * MB) as server,
            fault_proxy(server.local_addr()) as proxy,
            WsClient[bytes].connect(proxy.address) as client,
        ):
            sent = 0
            for _ in range(3):
                proxy.links[0].down.stall()
                while server._is_drained():
                    for _ in range(10):
                        server.send_nowait(block(sent, 200_000))
                        sent += 1
                    await asyncio.sleep(0)
                proxy.links[0].down.go_on()
                await until(server._is_drained)
            for number in range(sent):
                assert await client.recv() == block(number, 200_000)

    async def test_a_link_that_swallows_everything(self) -> None:
        """Nothing comes back, no answer to our PING either: the server closes it, and only it."""
        async with (
            WsServer[bytes].bind(
                "127.0.0.1:0", ping_interval=0.2, ping_timeout=0.2, close_timeout=0.1
            ) as server,
            fault_proxy(server.local_addr()) as proxy,
            WsClient[bytes].connect(server.local_addr()) as other,
        ):
            client = await WsClient[bytes].connect(proxy.address)
            for pipe in (proxy.links[0].up, proxy.links[0].down):
                pipe.drop()
            await until(lambda: server.client_count() == 1)
            server.send_nowait(b"hello")
            assert await other.recv() == b"hello"
            await until(client._is_ended)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()

    async def test_the_stream_to_the_server_ends(self) -> None:
        """Half-closed: the server lets the client go, and the client is told."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            client = await WsClient[bytes].connect(proxy.address)
            server.send_nowait(b"before")
            assert await client.recv() == b"before"
            proxy.links[0].up.half_close()
            await until(lambda: server.client_count() == 0)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()

    async def test_reset_in_the_middle_of_a_message(self) -> None:
        """Both ends are told; values before it are received; a client beside it notices nothing."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
            WsClient[bytes].connect(server.local_addr()) as other,
        ):
            client = await WsClient[bytes].connect(proxy.address)
            server.send_nowait(b"whole")
            await until(lambda: client.messages_in == 1)
            link = proxy.links[0]
            link.down.piece = 10_000
            passed = link.down.passed
            server.send_nowait(bytes(3 * MB))
            await until(lambda: link.down.passed > passed + 30_000)
            await link.reset()
            assert await client.recv() == b"whole"
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await until(lambda: server.client_count() == 1)
            assert await other.recv() == b"whole"
            assert await other.recv() == bytes(3 * MB)
            await client.close()

    async def test_reset_during_the_handshake(self) -> None:
        """After each number of bytes of the server's answer."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            fault_proxy(server.local_addr()) as proxy,
        ):
            for limit in range(0, 120, 17):
                proxy.limit = limit
                connecting = asyncio.create_task(WsClient[bytes].connect(proxy.address))
                await until(lambda: proxy.links)
                link = proxy.links.pop()
                await until(lambda link=link, limit=limit: link.down.passed == limit)
                await until(lambda: server.client_count() == 1)
                await link.reset()
                with pytest.raises(ComError):
                    await connecting
                await until(lambda: server.client_count() == 0)


class TestHandshakesThatDawdle:
    async def test_half_a_head_delays_nobody(self) -> None:
        """A hundred that send half a head and wait: a client connects and talks as if they were not there."""
        async with WsServer[bytes].bind("127.0.0.1:0", open_timeout=0.5) as server:
            halves: list[WsPeer] = []
            for number in range(100):
                half = await dial(server.local_addr())
                await half.send_raw(FIREFOX_HEAD[: 1 + number * 5])
                halves.append(half)
            began = time.monotonic()
            async with WsClient[bytes].connect(server.local_addr()) as client:
                await client.send(b"up")
                assert await server.recv() == b"up"
                server.send_nowait(b"down")
                assert await client.recv() == b"down"
                assert time.monotonic() - began < 0.4 * SLOW, "somebody waited for the deadline"
                for half in halves:
                    answer = await half.read_all()
                    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
                    half.close()
                assert server.client_count() == 1

    async def test_a_head_that_is_finished_late_is_let_in(self) -> None:
        """And is sent what is broadcast from then on."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            late = await dial(server.local_addr())
            await late.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\nX-Other: ")
            server.send_nowait(b"too early")
            await late.send_raw(b"y\r\n" + PLAIN_HEAD.split(b"\r\n", 2)[2])
            assert (await late.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            server.send_nowait(b"in time")
            assert await late.message() == wire(b"in time")
            late.close()


class TestFrameEnds:
    @pytest.mark.parametrize("what", [PING, CLOSE])
    async def test_control_frames_wait_for_a_frames_end(self, what: int) -> None:
        """While a large frame of ours is half sent, PONG and CLOSE must not land inside it."""
        async with WsServer[bytes].bind("127.0.0.1:0", max_backlog=64 * MB) as server:
            for size in (2 * MB, 9 * MB):
                async with raw_client(server.local_addr(), small=True) as peer:
                    for number in range(3):
                        server.send_nowait(block(number, size))
                    for number in range(40):
                        await peer.send(b"%d" % number, PING)
                    if what == CLOSE:
                        await peer.send(close_payload(1000), CLOSE)
                    else:
                        await until(lambda server=server: not server._is_drained())
                        server.send_nowait(b"last")
                    frames = []
                    while True:
                        frame = await peer.frame()
                        frames.append(frame)
                        if frame.opcode == CLOSE or frame.payload == wire(b"last"):
                            break
                    data = [frame for frame in frames if frame.opcode == BINARY]
                    for number, frame in enumerate(data[:3]):
                        assert frame.payload == wire(block(number, size))
                    pongs = [frame.payload for frame in frames if frame.opcode == PONG]
                    if what == PING:
                        assert len(data) == 4
                        if not pongs or pongs[-1] != b"39":
                            assert await peer.frame() == Frame(PONG, b"39")
                    assert pongs == sorted(pongs, key=int), "PONGs are in order"
                await until(lambda: server.client_count() == 0)

    async def test_a_cut_at_every_kind_of_frame(self) -> None:
        """A reader that takes odd amounts: the transport's rests and our own writes meet at frame ends."""
        rng = random.Random(4)
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_backlog=256 * MB) as server,
            raw_client(server.local_addr(), small=True) as peer,
        ):
            sizes = [rng.choice((10, 500, 5_000, 32_764, 40_000, 300_000)) for _ in range(600)]
            for number, size in enumerate(sizes):
                server.send_nowait(block(number, size))
                if number % 7 == 0:
                    await peer.read_some(rng.randrange(1, 60_000))
            for number, size in enumerate(sizes):
                assert await peer.message() == wire(block(number, size))


class Listener:
    """One client of the chaos below, and what it got."""

    def __init__(self, peer: WsPeer, joined_at: int) -> None:
        self.peer = peer
        self.joined_at = joined_at
        self.numbers: list[int] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.code: int | None = None
        self.task = asyncio.ensure_future(self.listen())

    async def listen(self) -> None:
        try:
            while True:
                await self.reads.wait()
                frame = await self.peer.frame()
                if frame.opcode == BINARY:
                    assert frame.fin
                    length, number, size = struct.unpack_from("<III", frame.payload)
                    assert length == size + 8
                    assert len(frame.payload) == size + 12
                    self.numbers.append(number)
                elif frame.opcode == CLOSE:
                    self.code = frame.close_code
                    await self.peer.send(frame.payload[:2], CLOSE)
                elif frame.opcode == PING:
                    await self.peer.send(frame.payload, PONG)
                else:
                    assert frame.opcode == PONG
        except (EOFError, ConnectionError):
            self.peer.close()


@pytest.mark.limit(60)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("seed", range(3))
async def test_chaos(seed: int, secure: bool) -> None:
    """Clients join, stall, go on, ping and leave in every way while messages of all sizes are sent.

    Each got a run of consecutive messages from the moment it joined; those that stayed and were not cut off
    got all of them.
    """
    rng = random.Random(seed)
    tls, trusting = certificates()
    bodies = [bytes(size) for size in (0, 1, 60, 110, 111, 2_000, 32_751, 32_752, 70_000, 200_000)]
    server = await WsServer[bytes].bind(
        "127.0.0.1:0", ssl=tls if secure else None, max_backlog=4 * MB, close_timeout=1.0
    )
    everybody: list[Listener] = []
    here: list[Listener] = []
    sent = 0

    def send() -> None:
        nonlocal sent
        body = rng.choice(bodies)
        server.send_nowait(struct.pack("<II", sent, len(body)) + body)
        sent += 1

    async def join() -> None:
        if secure:
            peer = await WsPeer.open(server.local_addr(), ssl=trusting)
            assert isinstance(peer, WsPeer)
        else:
            peer = await dial(server.local_addr(), small=rng.random() < 0.5)
        await upgrade(peer)
        listener = Listener(peer, sent)
        everybody.append(listener)
        here.append(listener)

    left: list[Listener] = []
    for _ in range(600):
        await asyncio.sleep(0)
        choice = rng.random()
        if choice < 0.05 and len(here) < 12:
            await join()
        elif choice < 0.07 and here:
            leaving = here.pop(rng.randrange(len(here)))
            left.append(leaving)
            how = rng.random()
            if how < 0.4 and leaving.reads.is_set():
                with contextlib.suppress(OSError):  # cut off already
                    await leaving.peer.send(close_payload(1000), CLOSE)
            else:
                leaving.task.cancel()
                await asyncio.wait([leaving.task])
                if how < 0.7:
                    leaving.peer.reset()
                else:
                    leaving.peer.close()
        elif choice < 0.09 and here:
            rng.choice(here).reads.clear()
        elif choice < 0.2 and here:
            rng.choice(here).reads.set()
        elif choice < 0.25 and here and not secure:
            with contextlib.suppress(OSError):
                rng.choice(here).peer.send_some(build(b"p", PING, mask=KEY))
        elif choice < 0.7:
            for _ in range(rng.choice((1, 1, 5, 10))):
                send()
        else:
            await asyncio.sleep(rng.choice((0, 0, 0.002)))
    for listener in here:
        listener.reads.set()
    for listener in left:
        listener.reads.set()
    await server.close(drain=20)
    await asyncio.wait([listener.task for listener in everybody])
    assert sent > 500
    stayed = 0
    for listener in everybody:
        expected = range(listener.joined_at, listener.joined_at + len(listener.numbers))
        assert listener.numbers == list(expected), "a message is missing, doubled or out of order"
        if listener in here and listener.code == 1001:
            stayed += 1
            assert expected.stop == sent, "the tail is missing"
        if not listener.task.cancelled():
            listener.task.result()
        listener.peer.close()
    assert stayed > 0


async def test_many_ends_at_once() -> None:
    """Fifty clients open, exchange and close at the same time, ten times over: all are counted out again."""
    async with WsServer[bytes].bind("127.0.0.1:0") as server:

        async def visit(number: int) -> None:
            async with WsClient[bytes].connect(server.local_addr()) as client:
                await client.send(b"%d" % number)
                server.send_nowait(b"news")
                assert await client.recv() == b"news"

        for _ in range(10):
            await asyncio.gather(*(visit(number) for number in range(50)))
            await until(lambda: server.client_count() == 0)
        assert sorted(await server.recv_many(1000)) == sorted([b"%d" % number for number in range(50)] * 10)


async def test_a_peer_that_ends_in_the_middle_of_a_frame() -> None:
    """Half a header, half a payload, half a message: the client is told, values before it are kept."""
    message = build(wire(bytes(1000)))
    for at in (1, 2, 3, 4, 500, len(message) - 1):
        async with raw_server() as foreign:
            client, peer = await asyncio.gather(WsClient[bytes].connect(foreign.address), foreign.accept())
            await peer.send(wire(b"whole"))
            await peer.send_raw(message[:at])
            peer.close()
            assert await client.recv() == b"whole"
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.code is None
            await client.close()
