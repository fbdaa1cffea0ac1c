"""Memory of large `bytes` that were received and dropped is filled again, limited, and given back."""

from __future__ import annotations

import asyncio
import random
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from helpers import until

from deli_com import Codec, WsClient, WsServer, codec

SIZE = 64 << 10
MOST = 32 << 20
encode, decode = codec(bytes).to_bytes, codec(bytes).from_bytes


class Picture(Codec):
    width: bytes
    pixels: bytes


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Fill the ring with objects too large to be kept beside others, so that each test begins with none."""
    for _ in range(3):
        decode(encode(bytes(MOST // 2)))
    tracemalloc.start()
    yield
    tracemalloc.stop()


def value_of(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def test_what_the_program_holds_is_never_written_over() -> None:
    """Values kept, dropped and viewed at random, of sizes at random, keep their content."""
    rng = random.Random(5)
    held: list[tuple[int, int, bytes | memoryview]] = []
    for number in range(3_000):
        size = rng.choice((16 << 10, 24 << 10, SIZE, SIZE + 4, 300_000))
        made = decode(encode(value_of(number, size)))
        assert made == value_of(number, size)
        assert len(made) == size
        if rng.random() < 0.3:
            held.append((number, size, memoryview(made) if rng.random() < 0.3 else made))
        if len(held) > 40:
            rng.shuffle(held)
            for kept, kept_size, value in held:
                assert value == value_of(kept, kept_size)
            del held[20:]


def objects_of(turns: int, sizes: tuple[int, ...] = (SIZE,)) -> int:
    """Decode values of these sizes in turn, each dropped once the next is there; return how many objects."""
    sent = [value_of(number, sizes[number % len(sizes)]) for number in range(30)]
    data = [encode(value) for value in sent]
    seen = set()
    for turn in range(turns):
        value = decode(data[turn % 30])
        seen.add(id(value))
        assert value == sent[turn % 30]
    return len(seen)


def test_a_dropped_value_is_filled_again() -> None:
    """Only the two objects of the ring are allocated for 1,000 values that are dropped one by one."""
    assert objects_of(10) <= 2
    before = tracemalloc.get_traced_memory()[0]
    assert objects_of(1_000) <= 2
    assert tracemalloc.get_traced_memory()[0] - before < 4 * SIZE


def test_the_memory_that_was_dropped_last_is_filled_first() -> None:
    """After a hundred values at once, single ones use two or three objects, not all in turn."""
    data = encode(value_of(0))
    held = [decode(data) for _ in range(100)]
    del held
    assert objects_of(200) <= 3


def test_a_value_that_is_kept_does_not_stand_before_the_others() -> None:
    """While the program holds old values, those that it drops at once are filled again."""
    data = encode(value_of(0))
    held = [decode(data) for _ in range(3)]
    assert objects_of(200) <= 3
    assert held == [value_of(0)] * 3


def test_sizes_that_alternate_are_both_recycled() -> None:
    assert objects_of(300, (1_000, SIZE, 4_000)) <= 6


def test_each_value_has_its_own_hash() -> None:
    """An object that is filled again forgets the hash that it had."""
    hashes = set()
    for number in range(20):
        value = decode(encode(value_of(number)))
        assert hash(value) == hash(value_of(number))
        hashes.add(hash(value))
        del value
    assert len(hashes) == 20


def test_a_value_may_be_shorter_than_the_one_before() -> None:
    """Its length, its end and a C string made of it are right."""
    for size in (SIZE, SIZE - 4, SIZE - 4_096, SIZE // 2, 16 << 10, SIZE):
        value = decode(encode(b"x" * size))
        assert len(value) == size
        assert value + b"y" == b"x" * size + b"y"
        assert int(b"1" + value[:0]) == 1
        del value


def test_small_values_are_left_alone() -> None:
    """Below 768 bytes the program holds the only reference."""
    small, large = decode(encode(bytes(767))), decode(encode(bytes(768)))
    assert (sys.getrefcount(small), sys.getrefcount(large)) == (2, 3)


def test_fields_are_recycled_too() -> None:
    """Two large fields of one struct never share memory."""
    for number in range(100):
        made = Picture.from_bytes(Picture(value_of(number), value_of(number + 1)).to_bytes())
        assert (made.width, made.pixels) == (value_of(number), value_of(number + 1))


def test_what_is_kept_is_limited() -> None:
    """10,000 values of 64 KiB, and 40 of 1 MB, leave at most 32 MiB that the program has dropped."""
    data = encode(bytes(SIZE))
    before = tracemalloc.get_traced_memory()[0]
    held = [decode(data) for _ in range(600)]
    for _ in range(10_000):
        decode(data)
    del held
    assert tracemalloc.get_traced_memory()[0] - before <= MOST + SIZE
    data = encode(bytes(10**6))
    held = [decode(data) for _ in range(40)]
    del held
    assert tracemalloc.get_traced_memory()[0] - before <= MOST + 2 * 10**6


@pytest.mark.loops("asyncio")
async def test_memory_is_given_back() -> None:
    """An idle endpoint gives it back after a second; the last one that closes, at once."""
    async with await WsServer[bytes, None].bind("127.0.0.1:0") as server:
        async with await WsClient[bytes].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            for _ in range(20):
                await server.send(bytes(10**6))
                await client.recv()
            kept = tracemalloc.get_traced_memory()[0]
            await until(lambda: tracemalloc.get_traced_memory()[0] < kept - 900_000)
            await server.send(bytes(10**6))
            await client.recv()
            kept = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < kept - 900_000


@pytest.mark.loops("asyncio")
async def test_a_burst_s_memory_is_given_back_while_values_come() -> None:
    """What no value needed for a second goes, though others are filled all the time."""
    async with await WsServer[bytes, None].bind("127.0.0.1:0") as server:
        async with await WsClient[bytes].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            held = []
            for _ in range(100):
                await server.send(bytes(SIZE))
                held.append(await client.recv())
            del held
            full = tracemalloc.get_traced_memory()[0]
            for _ in range(300):
                await server.send(bytes(SIZE))
                await client.recv()
                if tracemalloc.get_traced_memory()[0] < full - 90 * SIZE:
                    break
                await asyncio.sleep(0.02)
            assert tracemalloc.get_traced_memory()[0] < full - 90 * SIZE
