"""Freed instances keep their numbers for the decoder to overwrite. No program may notice that.

A number that the program holds is never overwritten. A number that the program stored in a field is released
with the instance. An instance that is made in any other way begins empty.
"""

from __future__ import annotations

import copy
import gc
import math
import pickle
import random
import struct
import tracemalloc
import weakref
from typing import Any

import pytest

from deli_com import Codec, DecodeError, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64


class Numbers(Codec):
    a: u64
    b: i64
    c: u32
    d: i32
    e: u16
    f: i16
    g: u8
    h: i8
    x: f64
    y: f32


LAYOUT = struct.Struct("<QqIiHhBbdf")
RANGES = {
    "a": (0, 2**64 - 1),
    "b": (-(2**63), 2**63 - 1),
    "c": (0, 2**32 - 1),
    "d": (-(2**31), 2**31 - 1),
    "e": (0, 2**16 - 1),
    "f": (-(2**15), 2**15 - 1),
    "g": (0, 255),
    "h": (-128, 127),
}
# Where the number of digits of a Python int changes, and where the ints end that exist already.
EDGES = [0, 1, 5, 255, 256, 257, 2**15, 2**30 - 1, 2**30, 2**31, 2**60 - 1, 2**60, 2**62, 2**63, 2**64 - 1]


def some_int(rng: random.Random, low: int, high: int) -> int:
    if rng.random() < 0.7:
        return max(low, min(high, rng.choice((1, -1)) * rng.choice(EDGES) + rng.choice((-1, 0, 1))))
    return rng.randint(low, high)


def some_bytes(rng: random.Random) -> bytes:
    ints = [some_int(rng, *limits) for limits in RANGES.values()]
    return LAYOUT.pack(
        *ints, rng.choice((0.0, -0.0, math.inf, rng.random())), rng.choice((1.5, -0.25, 2.0**100))
    )


def fields(value: Numbers) -> tuple[Any, ...]:
    return tuple(getattr(value, name) for name in (*RANGES, "x", "y"))


class Thing:
    """What a program may put into a field that holds numbers otherwise."""


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_never_changes(seed: int) -> None:
    """Values, single fields of dead values, and fields that were assigned, over thousands of decodings."""
    rng = random.Random(seed)
    values: list[tuple[Numbers, tuple[Any, ...]]] = []
    single: list[tuple[Any, Any, bytes]] = []
    for _ in range(3000):
        data = some_bytes(rng)
        expected = LAYOUT.unpack(data)
        value = Numbers.from_bytes(data)
        got = fields(value)
        assert got == expected
        assert str(got) == str(expected)  # -0.0
        del got
        choice = rng.random()
        if choice < 0.3:
            values.append((value, expected))
        elif choice < 0.6:
            place = rng.randrange(10)
            single.append((fields(value)[place], expected[place], data))
        elif choice < 0.7:
            name = rng.choice((*RANGES, "x", "y"))
            # Each in any field: an object that is freed with the value must not be mistaken for a number of
            # that field.
            odd = rng.choice(
                (lambda: -(10**40), lambda: 0.1 * 3, bool, lambda: "tick " * 2, Thing, lambda: 2**40)
            )()
            setattr(value, name, odd)
            del odd  # only the field holds some of these now
        if rng.random() < 0.02:
            del values[len(values) // 2 :]
        del value
    assert [fields(value) for value, _ in values] == [expected for _, expected in values]
    for held, expected_field, data in single:
        assert held == expected_field, data.hex()


def test_what_was_assigned_is_released() -> None:
    for name in ("a", "x", "y"):
        value = Numbers.from_bytes(bytes(LAYOUT.size))
        gone = weakref.ref(thing := Thing())
        setattr(value, name, thing)
        del thing  # the field holds the only reference now
        del value
        assert gone() is None


def test_a_large_int_is_not_kept() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            value = Numbers.from_bytes(bytes(LAYOUT.size))
            value.a = 1 << 8_000_000
            del value
        assert tracemalloc.get_traced_memory()[0] - before < 500_000
    finally:
        tracemalloc.stop()


def test_the_ints_that_exist_already_are_those() -> None:
    """What CPython has one object for stays that object, for whoever compares with ``is``."""
    for number in (300, 5, 2**40, 256, 257, 0):
        value = Numbers.from_bytes(LAYOUT.pack(number, -5 if number < 6 else number, *[0] * 6, 0.0, 0.0))
        if number <= 256:
            assert value.a is int(str(number))
        assert (value.a, value.b) == (number, -5 if number < 6 else number)
        del value


def test_nans_keep_sign_and_payload() -> None:
    patterns = [0x7FF8000000000001, 0xFFF4000000000002, 0x7FF0000000000001, 0x7FF0000000000000]
    for bits in patterns * 3:
        value = Numbers.from_bytes(bytes(30) + struct.pack("<Q", bits) + bytes(4))
        assert struct.unpack("<Q", struct.pack("<d", value.x)) == (bits,)
        assert value.to_bytes()[30:38] == struct.pack("<Q", bits)
        del value


class Mixed(Codec):
    number: f64
    text: str
    flag: bool
    maybe: f64 | None
    more: u64 = 7


def test_other_ways_to_make_one_begin_empty() -> None:
    data = Mixed(1.25, "abc", True, 2.5, 2**40).to_bytes()
    for _ in range(5):
        for _ in range(10):
            Mixed.from_bytes(data)
        with pytest.raises(TypeError, match="missing 4 required arguments"):
            Mixed()  # type: ignore[call-arg]
        assert Mixed(1.0, "", False, None) == Mixed(1.0, "", False, None, 7)
        value = Mixed.from_bytes(data)
        copies = copy.copy(value), pickle.loads(pickle.dumps(value)), copy.deepcopy(value)
        assert all(one == value for one in copies)
        blank = Mixed.__new__(Mixed)
        assert not any(hasattr(blank, name) for name in ("number", "text", "flag", "maybe", "more"))


def test_a_failure_in_the_middle() -> None:
    """Numbers before it were written over, those behind it are what they were: nothing is lost."""
    good = Mixed(1.25, "abc", True, None, 2**40).to_bytes()
    bad_text, bad_flag = bytearray(good), bytearray(good)
    bad_text[good.index(b"abc")] = 0xFF
    bad_flag[good.index(b"abc") + 3] = 2
    for _ in range(300):
        held = Mixed.from_bytes(good)
        for wrong in (bytes(bad_text), bytes(bad_flag), good[:5], good[:-1]):
            with pytest.raises(DecodeError):
                Mixed.from_bytes(wrong)
        assert (held.number, held.more) == (1.25, 2**40)


def test_optional_numbers() -> None:
    for number in (None, 1.5, None, 2.5, None):
        value = Mixed.from_bytes(Mixed(0.5, "", True, number).to_bytes())
        assert value.maybe == number
        del value


class Outer(Codec):
    first: Numbers
    second: Numbers
    x: f64


def test_within_other_values() -> None:
    rng = random.Random(1)
    held = []
    for number in range(500):
        parts = some_bytes(rng), some_bytes(rng)
        value = Outer.from_bytes(b"".join(parts) + struct.pack("<d", number / 3))
        assert (value.first.to_bytes(), value.second.to_bytes(), value.x) == (*parts, number / 3)
        if number % 7 == 0:
            held.append((value.second, parts[1]))
    assert all(value.to_bytes() == data for value, data in held)


def test_more_than_are_kept() -> None:
    data = [LAYOUT.pack(2**40 + n, -n, n, 0, 0, 0, 0, 0, n / 3, 0.0) for n in range(2000)]
    for _ in range(3):
        values = [Numbers.from_bytes(one) for one in data]
        assert [value.to_bytes() for value in values] == data
        del values


def test_a_class_that_goes_takes_them_along() -> None:
    def made() -> weakref.ref[Any]:
        class Passing(Codec):
            x: f64
            n: u64

        data = Passing(1.5, 2**40).to_bytes()
        for _ in range(10):
            [Passing.from_bytes(data) for _ in range(400)]
        return weakref.ref(Passing)

    made()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        gone = [made() for _ in range(20)]
        gc.collect()
        assert all(ref() is None for ref in gone)
        # 256 instances of 96 bytes and as many pairs of numbers: 37 KB each, were they left behind.
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()
