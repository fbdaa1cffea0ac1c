"""link/tcp_link.pyx: frames from every kind of read, and the memory for it. No byte crosses a socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deli_com import Server
from deli_com.link.tcp_link import TcpLink
from deli_com.link.tcp_read_buffer import ReadBuffer
from deli_com.net.log_budget import LogBudget

READ_BYTES = 262144  # as in link/tcp_link.pyx
PART_BYTES = 65536


def wire(value: bytes) -> bytes:
    """A frame that holds a value of type `bytes`: its own length, and that of the payload before it."""
    return struct.pack("<II", 4 + len(value), len(value)) + value


class Transport:
    """Does nothing but remember what it was told."""

    def __init__(self, sock: socket.socket) -> None:
        self.told: list[str] = []
        self.unsent = 0
        self._extra = {"socket": sock, "peername": ("192.0.2.1", 7)}

    def get_extra_info(self, name: str) -> Any:
        return self._extra.get(name)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert (high, low) == (0, 0)

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return bool({"abort", "close"} & set(self.told))

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in ("abort", "close", "write_eof", "pause_reading", "resume_reading"):
            raise AttributeError(name)
        return lambda: self.told.append(name)


class Rig:
    """A server, and one stream of it on a transport that does nothing."""

    def __init__(self, server: Server[bytes, bytes], sock: socket.socket) -> None:
        self.server = server
        self.buffer = ReadBuffer(server.loop)
        self.transport = Transport(sock)
        self.stream = TcpLink(server, self.buffer, log=LogBudget(server.logger))
        self.stream.connection_made(self.transport)  # type: ignore[arg-type]

    def read(self, data: bytes) -> list[int]:
        """Do what transports do with bytes that have arrived; give the sizes of the buffers they got."""
        sizes = []
        while data:
            buffer = self.stream.get_buffer(-1)
            size = min(len(buffer), len(data))
            sizes.append(len(buffer))
            buffer[:size] = data[:size]
            self.stream.buffer_updated(size)
            data = data[size:]
        return sizes

    async def received(self) -> list[bytes]:
        """All values that have been delivered."""
        values: list[bytes] = []
        while self.server.inbox.held_bytes:
            values += await self.server.recv_many(1000)
        return values


@contextlib.asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[Rig]:
    one, two = socket.socketpair()
    with one, two:
        async with Server[bytes].bind("127.0.0.1:0", **options) as server:
            made = Rig(server, one)
            yield made
            made.stream.connection_lost(None)


class TestFraming:
    async def test_every_split(self) -> None:
        """Three messages, cut at every two places: all arrive, whole and in order."""
        values = [b"", b"a", b"four"]
        data = b"".join(wire(value) for value in values)
        async with rig() as made:
            for one, two in itertools.combinations(range(len(data) + 1), 2):
                for part in (data[:one], data[one:two], data[two:]):
                    made.read(part)
                assert await made.received() == values, (one, two)

    async def test_byte_by_byte(self) -> None:
        values = [bytes([n]) * n for n in range(40)]
        async with rig() as made:
            for value in values:
                for byte in wire(value):
                    made.read(bytes([byte]))
            assert await made.received() == values

    @pytest.mark.parametrize("seed", range(10))
    async def test_sizes_around_every_limit_in_random_pieces(self, seed: int) -> None:
        """Frames that end at, before and behind the end of a read and of the first memory of a part."""
        rng = random.Random(seed)
        around = [edge + d for edge in (0, 126, PART_BYTES, READ_BYTES, 2 * READ_BYTES) for d in range(-9, 3)]
        sizes = [size for size in around if size >= 0]
        rng.shuffle(sizes)
        values = [rng.randbytes(size) for size in sizes]
        data = b"".join(wire(value) for value in values)
        async with rig() as made:
            got = []
            while data:
                size = rng.choice((1, 3, 4, 5, 1000, PART_BYTES, READ_BYTES, 300_000, 900_000))
                made.read(data[:size])
                data = data[size:]
                got += await made.received()
            assert got == values

    async def test_a_frame_without_payload_is_a_message(self) -> None:
        """Though no value of type bytes: it is counted as undecodable, and the stream goes on."""
        async with rig() as made:
            made.read(bytes(4))
            for byte in bytes(4):
                made.read(bytes([byte]))
            assert made.stream.messages_in == made.server.undecodable == 2
            made.read(wire(b"next"))
            assert await made.received() == [b"next"]


class TestMemory:
    async def test_between_frames_all_streams_read_into_one_buffer(self) -> None:
        async with rig() as made:
            other = TcpLink(made.server, made.buffer)
            other.connection_made(made.transport)  # type: ignore[arg-type]
            assert made.stream.get_buffer(-1) is other.get_buffer(-1)
            made.read(wire(b"x" * 3_000_000))
            assert made.stream.get_buffer(-1) is other.get_buffer(-1)
            other.connection_lost(None)

    async def test_reads_are_never_larger_than_the_limit(self) -> None:
        """And what is under way is read up to the end of its frame, not beyond."""
        async with rig() as made:
            data = wire(bytes(1_000_000))
            sizes = made.read(data)
            assert max(sizes) == READ_BYTES
            assert sizes[0] == READ_BYTES
            made.read(data[:5])
            sizes = made.read(data[5:])
            assert sum(sizes) == len(data) - 5

    async def test_a_length_alone_allocates_little(self) -> None:
        """64 MiB announced and little sent: memory follows what has arrived."""
        async with rig() as made:
            made.read(struct.pack("<I", 64 << 20))
            assert len(made.stream.get_buffer(-1)) == PART_BYTES - 4
            made.read(bytes(PART_BYTES - 4))
            assert len(made.stream.get_buffer(-1)) == PART_BYTES
            made.read(bytes(PART_BYTES))
            assert len(made.stream.get_buffer(-1)) == 2 * PART_BYTES

    async def test_frames_delivered_from_memory_used_again_are_whole(self) -> None:
        """The spare piece of one stream goes to another, larger or smaller than what is needed."""
        async with rig() as made:
            other = TcpLink(made.server, made.buffer)
            other.connection_made(made.transport)  # type: ignore[arg-type]
            mine, first = made.stream, b"1" * 700_000
            made.read(wire(first))
            two, three = wire(b"2" * 2_000_000), wire(b"3" * 300_000)
            made.read(two[:1_000_000])
            made.stream = other
            made.read(three[:100_000])
            made.stream = mine
            made.read(two[1_000_000:])
            made.stream = other
            made.read(three[100_000:])
            values = await made.received()
            assert values == [first, b"2" * 2_000_000, b"3" * 300_000]
            made.stream = mine
            other.connection_lost(None)

    async def test_a_full_inbox_pauses_reading(self) -> None:
        """And room in it resumes."""
        async with rig() as made:
            waiting = asyncio.create_task(made.server.recv())
            await asyncio.sleep(0)
            message = wire(bytes(1 << 20))
            while "pause_reading" not in made.transport.told:
                made.read(message)
            assert made.server.inbox.held_bytes < 18 << 20
            await waiting
            await made.received()
            assert made.transport.told == ["pause_reading", "resume_reading"]


class TestLimits:
    @pytest.mark.parametrize("pieces", [1, 5, 2031])
    async def test_a_length_over_the_limit_ends_the_stream(self, pieces: int) -> None:
        """Nothing behind it is delivered; half of the connection is closed, the peer's end awaited."""
        async with rig(max_message_size=1000) as made:
            made.read(wire(bytes(996)))
            data = struct.pack("<I", 1001) + bytes(1001) + wire(b"behind")
            step = -(-len(data) // pieces)
            for at in range(0, len(data), step):
                made.read(data[at : at + step])
            assert await made.received() == [bytes(996)]
            assert made.transport.told == ["write_eof"]
            assert made.server.client_count() == 0

    async def test_the_largest_length_is_one(self) -> None:
        """2**32 - 2 is no negative number; one more announces a control text."""
        async with rig() as made:
            made.read(b"\xfe\xff\xff\xff")
            assert made.transport.told == ["write_eof"]

    async def test_after_the_end_everything_is_discarded(self) -> None:
        """A frame under way too: its memory goes with the next read."""
        async with rig() as made:
            made.read(wire(bytes(100_000))[:50_000])
            made.stream._finish(1001, "")
            assert len(made.stream.get_buffer(-1)) == READ_BYTES
            made.read(bytes(1_000_000))
            assert await made.received() == []


class TestTheEnd:
    async def test_a_stream_that_lacks_nothing_is_ended_by_eof(self) -> None:
        async with rig() as made:
            made.stream._finish(1001, "")
            assert made.transport.told == ["write_eof"]
            assert made.stream.eof_received() is False
            assert made.transport.told == ["write_eof"]

    async def test_bytes_that_the_transport_still_holds_at_the_deadline_make_a_reset(self) -> None:
        """An EOF between two frames would say that all was sent."""
        async with rig(close_timeout=0.1) as made:
            made.stream._finish(1001, "")
            made.transport.unsent = 10
            sock = made.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 0, 0)
            made.stream._abort()
            assert made.transport.told == ["write_eof", "abort"]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)

    async def test_a_transport_made_for_a_stream_that_was_given_up_is_aborted(self) -> None:
        """Not in the same turn: a plain one adds its reader one callback later, closed or not."""
        async with rig() as made:
            transport = Transport(made.transport.get_extra_info("socket"))
            stream = TcpLink(made.server, made.buffer, lambda _: pytest.fail("it did not open"))
            stream.discard()
            stream.connection_made(transport)  # type: ignore[arg-type]
            assert transport.told == []
            await asyncio.sleep(0)
            assert transport.told == ["abort"]
            assert made.server.client_count() == 1
