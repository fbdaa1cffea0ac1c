"""Large binary frames, which are read into the memory of their values, among frames of every other kind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import struct
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import certificates, until
from numpy.typing import NDArray
from peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WsPeer,
    build,
    close_payload,
    masked,
    raw_server,
    upgrade,
)

from deli_com import Codec, Recording, WsClient, WsServer, codec, u64

KEY = b"\x17\x2a\x99\xe4"
LARGE = 70_000
MB = 1_000_000
SIZES = (0, 40, 16_383, 16_384, 16_430, LARGE, 65_535, 65_536, 300_000)


class Stamped(Codec):
    """Ends with `bytes`, behind 8 bytes."""

    stamp: u64
    data: bytes


class Sealed(Codec):
    """`bytes` are not its last field."""

    data: bytes
    stamp: u64


class Far(Codec):
    """Ends with `bytes`, further from its beginning than an object's header is long."""

    a: tuple[u64, u64, u64, u64, u64]
    data: bytes


class Picture(Codec):
    """Ends with an array."""

    pixels: NDArray[np.uint8]


def data_of(rng: random.Random, size: int) -> bytes:
    return rng.randbytes(size)


def value_of(kind: Any, rng: random.Random, size: int) -> Any:
    data = data_of(rng, size)
    if kind is Stamped:
        # Half of the stamps look like the length of everything behind them.
        return Stamped(rng.choice([7, len(data) + 8, (len(data) + 4) << 32]), data)
    if kind is Sealed:
        return Sealed(data, 5)
    if kind is Far:
        return Far((1, 2, 3, 4, len(data)), data)
    if kind is str:
        return "ü" * (size // 2)
    if kind is Picture:
        return Picture(np.frombuffer(data, np.uint8))
    return data


def same(got: Any, sent: Any) -> bool:
    if isinstance(sent, Picture):
        return bool(np.array_equal(got.pixels, sent.pixels))
    return bool(got == sent)


async def send_in_pieces(peer: WsPeer, data: bytes, rng: random.Random) -> None:
    """Some pieces end inside a header, some are a byte long, most are long."""
    at = 0
    while at < len(data):
        size = rng.choice([1, 2, 9, 30, 46, 1_000, 40_000, 65_600, 200_000])
        await peer.send_raw(data[at : at + size])
        at += size
        if rng.random() < 0.5:
            await asyncio.sleep(0)


def wire(rng: random.Random, kind: Any, key: bytes | None, count: int) -> tuple[list[Any], list[bytes]]:
    """Values, and frames that carry them: whole, in fragments, with texts and control frames between."""
    to_bytes = codec(kind).to_bytes
    values: list[Any] = []
    frames: list[bytes] = []
    size = 0
    for _ in range(count):
        size = size if rng.random() < 0.5 else rng.choice(SIZES)
        value = value_of(kind, rng, size)
        values.append(value)
        data = to_bytes(value)
        if rng.random() < 0.2:
            cut = rng.randrange(len(data) + 1)
            frames.append(build(data[:cut], BINARY, fin=False, mask=key))
            if rng.random() < 0.5:
                frames.append(build(b"within", PING, mask=key))
            frames.append(build(data[cut:], CONTINUATION, mask=key))
        else:
            frames.append(build(data, BINARY, mask=key))
        if rng.random() < 0.2:
            frames.append(build(b"between", rng.choice([PING, PONG, TEXT]), mask=key))
    return values, frames


@contextlib.asynccontextmanager
async def server_and_peer(
    kind: Any, secure: bool = False, **options: Any
) -> AsyncIterator[tuple[Any, WsPeer]]:
    tls, trusting = certificates()
    async with WsServer[bytes, kind].bind("127.0.0.1:0", ssl=tls if secure else None, **options) as server:
        peer = await WsPeer.open(server.local_addr(), ssl=trusting if secure else None)
        assert isinstance(peer, WsPeer)
        try:
            await upgrade(peer)
            await server.wait_clients(1)
            yield server, peer
        finally:
            peer.close()


@pytest.mark.parametrize("kind", [bytes, Stamped, Sealed, Far, str, Picture])
@pytest.mark.parametrize("seed", range(3))
class TestEveryFrame:
    """What arrives is what was sent, in its order, whatever the sizes, kinds and pieces are."""

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    async def test_of_a_client(self, kind: Any, seed: int, secure: bool) -> None:
        rng = random.Random(f"{kind} {seed}")
        values, frames = wire(rng, kind, KEY, 60)
        async with server_and_peer(kind, secure) as (server, peer):
            sending = asyncio.ensure_future(send_in_pieces(peer, b"".join(frames), rng))
            held = []
            for value in values:
                got = await server.recv()
                assert same(got, value)
                held.append((got, value))
                if len(held) > 9:
                    del held[rng.randrange(10)]
            await sending
            for got, value in held:
                assert same(got, value)
            assert server.undecodable == 0

    async def test_of_a_server(self, kind: Any, seed: int) -> None:
        rng = random.Random(f"{kind} {seed} down")
        values, frames = wire(rng, kind, None, 60)
        async with raw_server() as server:
            connecting = WsClient[kind, None].connect(
                f"ws://127.0.0.1:{server.address[1]}", close_timeout=0.1
            )
            client, peer = await asyncio.gather(connecting, server.accept())
            async with client:
                sending = asyncio.ensure_future(send_in_pieces(peer, b"".join(frames), rng))
                for value in values:
                    assert same(await client.recv(), value)
                await sending


def large(size: int = LARGE, key: bytes | None = KEY) -> bytes:
    return build(codec(bytes).to_bytes(bytes(size)), BINARY, mask=key)


def begun(size: int, there: int) -> bytes:
    """The beginning of a masked frame of `size` bytes, with so many of them."""
    return struct.pack("!BBQ", 0x82, 0xFF, size) + KEY + bytes(there)


async def read_large(server: Any, peer: WsPeer, count: int = 2) -> None:
    """From here on the server reads ahead: nothing waits in picows' buffer."""
    for _ in range(count):
        await peer.send_raw(large())
        assert await server.recv() == bytes(LARGE)
    server._connections()[0]._release_memory()


class TestMalformed:
    """What is wrong with a frame is told in the same words behind a large frame and behind a small one."""

    @pytest.mark.parametrize(
        "wrong",
        [
            build(bytes(LARGE), rsv=4, mask=KEY),
            build(bytes(LARGE), 0x3, mask=KEY),
            build(bytes(LARGE), mask=None),
            struct.pack("!BBH", 0x82, 0xFE, 100) + KEY + bytes(100),
            struct.pack("!BBQ", 0x82, 0xFF, 40_000) + KEY + bytes(40_000),
            struct.pack("!BBQ", 0x82, 0xFF, (1 << 63) + LARGE) + KEY + bytes(100),
            struct.pack("!BBQ", 0x82, 0xFF, 3 * MB) + KEY + bytes(100),
            build(bytes(LARGE), CONTINUATION, mask=KEY),
            build(bytes(126), PING, mask=KEY),
            build(close_payload(1006), CLOSE, mask=KEY),
            build(close_payload(4321, b"done"), CLOSE, mask=KEY),
            build(b"x" * LARGE, TEXT, fin=False, mask=KEY) + build(bytes(LARGE), mask=KEY),
        ],
        ids=[
            "reserved bits", "opcode", "not masked", "long form of 16 bits", "long form of 64 bits",
            "sign bit", "too large", "continuation", "long ping", "close code", "close",
            "message in a message",
        ],
    )  # fmt: skip
    async def test_the_same_code_and_reason(self, wrong: bytes) -> None:
        told = []
        for before in (build(codec(bytes).to_bytes(b"small"), mask=KEY), large()):
            for pieces in (len(wrong), 1, 40):
                async with server_and_peer(bytes, max_message_size=2 * MB) as (server, peer):
                    for _ in range(2):
                        await peer.send_raw(before)
                        await server.recv()
                    for at in range(0, min(len(wrong), 2_000), pieces):
                        await peer.send_raw(wrong[at : at + pieces])
                        await asyncio.sleep(0)
                    await peer.send_raw(wrong[min(len(wrong), 2_000) :] if pieces < len(wrong) else b"")
                    told.append(await peer.read_to_close())
        assert [frames for frames, _, _ in told] == [[]] * 6
        assert len({(code, reason) for _, code, reason in told}) == 1
        assert told[0][1] is not None

    async def test_a_value_that_is_none_is_dropped_and_the_next_is_read(self) -> None:
        """Its last field ends before the frame does, or behind it; and a `__post_init__` refuses it."""

        class Picky(Codec):
            stamp: u64
            data: bytes

            def __post_init__(self) -> None:
                if self.stamp == 13:
                    raise ValueError("thirteen")

        good = codec(Picky).to_bytes(Picky(1, bytes(LARGE)))
        async with server_and_peer(Picky) as (server, peer):
            sent = [
                good,
                good[:8] + struct.pack("<I", LARGE + 1) + good[12:],
                good[:8] + struct.pack("<I", 0) + good[12:],
                struct.pack("<Q", 13) + good[8:],
                good[:40_000],
                good,
            ]
            for number, data in enumerate(sent):
                await peer.send_raw(build(data, mask=KEY))
                if number in (0, 5):
                    assert (await server.recv()).data == bytes(LARGE)
                elif number == 2:
                    assert (await server.recv()).data == b""
            await peer.round_trip()
            assert server.undecodable == 3

    async def test_an_exception_of_ours_closes_with_1011(self) -> None:
        """As one in a small frame does."""
        for before in (b"small", bytes(LARGE)):
            async with server_and_peer(bytes) as (server, peer):
                for _ in range(2):
                    await peer.send_raw(build(codec(bytes).to_bytes(before), mask=KEY))
                    await server.recv()

                def fail(record: logging.LogRecord) -> bool:
                    if record.levelno == logging.WARNING:
                        raise RuntimeError("the log is broken")
                    return True

                server.logger.addFilter(fail)
                try:
                    await peer.send_raw(build(b"\xff" * max(len(before), 5), mask=KEY))
                    _, code, _ = await peer.read_to_close()
                finally:
                    server.logger.removeFilter(fail)
                assert code == 1011


class TestMemory:
    async def test_what_is_counted_is_what_came(self) -> None:
        """To the byte, in pieces of any size."""
        rng = random.Random(6)
        async with server_and_peer(bytes) as (server, peer):
            await read_large(server, peer)
            for _ in range(12):
                size = rng.choice([17_000, 65_531, 65_532, LARGE, 500_000])
                message = large(size)
                at = 0
                while at < len(message) - 1:
                    piece = message[at : min(len(message) - 1, at + rng.choice([1, 13, 31, 46, 47, 40_000]))]
                    await peer.send_raw(piece)
                    at += len(piece)
                    await until(lambda: server.quota.buffered >= at)  # noqa: B023
                    assert server.quota.buffered == at
                    if rng.random() < 0.8 and at > 100:
                        at += await self.sent_at_once(peer, message, at)
                await peer.send_raw(message[-1:])
                assert await server.recv() == bytes(size)
                assert server.quota.buffered == 0

    async def sent_at_once(self, peer: WsPeer, message: bytes, at: int) -> int:
        """Most of what is left."""
        size = max(0, len(message) - 1 - at - 100)
        await peer.send_raw(message[at : at + size])
        return size

    async def test_the_largest_of_half_frames_goes(self) -> None:
        """Frames under way count for `max_inbound`; the client with most of them is closed."""
        async with WsServer[bytes, bytes].bind("127.0.0.1:0", max_inbound=4 * MB) as server:
            async with contextlib.AsyncExitStack() as stack:
                peers = []
                for _ in range(8):
                    peer = await WsPeer.open(server.local_addr())
                    assert isinstance(peer, WsPeer)
                    stack.callback(peer.close)
                    await upgrade(peer)
                    peers.append(peer)
                for peer in peers:
                    for _ in range(2):
                        await peer.send_raw(large())
                        await server.recv()
                for connection in server._connections():
                    connection._release_memory()
                await peers[0].send_raw(begun(2 * MB, 900_000))
                await until(lambda: server.quota.buffered >= 900_000)
                for peer in peers[1:]:
                    await peer.send_raw(begun(600_000, 500_000))
                frames, code, reason = await peers[0].read_to_close()
                assert (frames, code) == ([], 1009)
                assert re.match(r"too much unreceived: 90\d{4} bytes of this client", reason)
                for peer in peers[1:]:
                    await peer.send_raw(bytes(100_000))
                    await peer.round_trip()
                assert server.client_count() == 7

    async def test_a_silent_client_keeps_little(self) -> None:
        """picows' buffer, which the first large frame went through, is given back while others are read."""
        async with server_and_peer(bytes) as (server, peer):
            for _ in range(2):
                await peer.send_raw(large(3 * MB))
                assert len(await server.recv()) == 3 * MB
            assert server.quota.buffered > 2 * MB
            await until(lambda: server.quota.buffered <= 256 * 1024)
            await peer.send_raw(large(3 * MB))
            assert len(await server.recv()) == 3 * MB

    async def test_a_stream_of_large_frames_needs_no_other_buffer(self) -> None:
        """It does not wait for silence to be given back."""
        async with server_and_peer(bytes) as (server, peer):
            for _ in range(2):
                await peer.send_raw(large(3 * MB))
                assert len(await server.recv()) == 3 * MB
            assert server.quota.buffered > 2 * MB
            for _ in range(200):
                await peer.send_raw(large())
                assert await server.recv() == bytes(LARGE)
                if server.quota.buffered <= 256 * 1024:
                    break
                await asyncio.sleep(0.02)
            assert server.quota.buffered <= 256 * 1024

    async def test_a_message_counts_once(self) -> None:
        """Either as a frame under way, or as a value that waits."""
        async with server_and_peer(bytes, max_inbound=4 * MB) as (server, peer):
            await read_large(server, peer)
            for _ in range(3):
                await peer.send_raw(large(3 * MB))
                assert len(await server.recv()) == 3 * MB

    async def test_a_client_that_goes_in_the_middle_of_a_frame(self) -> None:
        async with server_and_peer(bytes) as (server, peer):
            await read_large(server, peer)
            await peer.send_raw(begun(2 * MB, 900_000))
            await until(lambda: server.quota.buffered >= 900_000)
            peer.close()
            await until(lambda: not server._connections())
            assert server.quota.buffered == 0

    async def test_a_server_that_closes_in_the_middle_of_a_frame(self) -> None:
        """CLOSE arrives, though the peer sends the rest of its frame, and more."""
        async with server_and_peer(bytes) as (server, peer):
            await read_large(server, peer)
            await peer.send_raw(begun(MB, 500_000))
            await until(lambda: server.quota.buffered >= 500_000)
            closing = asyncio.ensure_future(server.close())
            await peer.send_raw(bytes(500_000) + large())
            await peer.send(close_payload(1000), CLOSE)
            frames, code, _ = await peer.read_to_close()
            assert (frames, code) == ([], 1001)
            await closing


class TestOwners:
    """Nobody else sees the memory of a value change, or reads it while its header is not there."""

    async def test_values_that_are_kept_stay_as_they_are(self) -> None:
        rng = random.Random(4)
        async with server_and_peer(Stamped) as (server, peer):
            kept: list[tuple[Stamped, bytes]] = []
            for number in range(300):
                data = number.to_bytes(4, "little") * rng.choice([4_096, 5_000, 16_384])
                await peer.send_raw(build(codec(Stamped).to_bytes(Stamped(number, data)), mask=KEY))
                got = await server.recv()
                assert hash(got.data) == hash(data)
                assert got.data + b"" == data
                if rng.random() < 0.3:
                    kept.append((got, data))
            for got, data in kept:
                assert got.data == data

    async def test_recordings_have_the_whole_message(self, tmp_path: Path) -> None:
        """They are written after the value was decoded."""
        sent = [Stamped(number, random.Random(number).randbytes(LARGE)) for number in range(20)]
        async with server_and_peer(Stamped) as (server, peer):
            async with server.record(tmp_path / "run.mcap"):
                for value in sent:
                    await peer.send_raw(build(codec(Stamped).to_bytes(value), mask=KEY))
                    assert await server.recv() == value
        got = [message[-1] for message in Recording(tmp_path / "run.mcap")]
        assert [(value.stamp, value.data) for value in got] == [(value.stamp, value.data) for value in sent]

    async def test_code_of_the_user_s_runs_while_a_value_is_made(self) -> None:
        """It collects garbage, decodes other values, and makes objects of the same size."""
        import gc

        class Busy(Codec):
            stamp: u64
            data: bytes

            def __post_init__(self) -> None:
                gc.collect(0)  # a whole collection takes a second in the process of all tests
                assert codec(bytes).from_bytes(codec(bytes).to_bytes(bytes(LARGE))) == bytes(LARGE)
                assert self.data[:4] == self.data[-4:]

        async with server_and_peer(Busy) as (server, peer):
            for number in range(1, 12):
                value = number.to_bytes(4, "little") * 20_000
                await peer.send_raw(build(struct.pack("<QI", number, len(value)) + value, mask=KEY))
                got = await server.recv()
                assert (got.stamp, got.data) == (number, value)
            assert server.undecodable == 0

    def test_two_loops_in_two_threads(self) -> None:
        """While one decodes, and lets the other run, the other reads and decodes into memory of its own."""

        class Slow(Codec):
            stamp: u64
            data: bytes

            def __post_init__(self) -> None:
                time.sleep(0)

        wrong: list[object] = []

        async def receive(first: int) -> None:
            async with server_and_peer(Slow) as (server, peer):
                for number in range(first, first + 150):
                    value = number.to_bytes(4, "little") * 20_000
                    await peer.send_raw(build(struct.pack("<QI", number, len(value)) + value, mask=KEY))
                    got = await server.recv()
                    if (got.stamp, got.data) != (number, value):
                        wrong.append(number)

        def run(first: int) -> None:
            try:
                asyncio.run(asyncio.wait_for(receive(first), 60))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=run, args=(first,)) for first in (1_000, 50_000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    async def test_the_newest_of_each_key_waits(self) -> None:
        """Values that wait undecoded, for a program that is behind, are copies."""

        class Newest(Codec, policy="latest", key="name"):
            name: u64
            data: bytes

        async with server_and_peer(Newest) as (server, peer):
            for number in range(40):
                value = bytes([number]) * LARGE
                await peer.send_raw(build(struct.pack("<QI", number % 4, LARGE) + value, mask=KEY))
            await peer.round_trip()
            got = {}
            while len(got) < 4 or any(value[0] < 36 for value in got.values()):
                received = await asyncio.wait_for(server.recv(), 10)
                assert len(set(received.data)) == 1
                got[received.name] = received.data
            assert sorted(value[0] for value in got.values()) == [36, 37, 38, 39]


def test_the_mask_of_the_tests() -> None:
    """RFC 6455 section 5.3."""
    assert masked(b"abcdefg", KEY) == bytes(b ^ KEY[i % 4] for i, b in enumerate(b"abcdefg"))
