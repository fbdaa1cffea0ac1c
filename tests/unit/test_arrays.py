"""Arrays: which are accepted, how they decode, which are refused, and structured arrays."""

from __future__ import annotations

import array
import enum
import struct
import subprocess
import sys
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Array, Codec, FixedArray, codec, errors, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

KINDS: dict[str, Any] = {
    "u8": (u8, "B", np.uint8),
    "u16": (u16, "H", np.uint16),
    "u32": (u32, "I", np.uint32),
    "u64": (u64, "Q", np.uint64),
    "i8": (i8, "b", np.int8),
    "i16": (i16, "h", np.int16),
    "i32": (i32, "i", np.int32),
    "i64": (i64, "q", np.int64),
    "f32": (f32, "f", np.float32),
    "f64": (f64, "d", np.float64),
}


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"


class Inner(Codec):
    a: u8
    flag: bool


class Tick(Codec):
    stamp: u64
    price: f64
    side: Side
    inner: Inner
    pose: FixedArray[f32, Literal[3]]
    flags: FixedArray[bool, Literal[2]]


class Holder(Codec):
    ticks: Annotated[NDArray[np.void], Tick]


class Rows(Codec):
    ticks: list[Tick]


def refused(tp: Any, value: Any) -> str:
    with pytest.raises(errors.EncodeError) as caught:
        codec(tp).to_bytes(value)
    return caught.value.detail


@pytest.mark.parametrize("name", KINDS)
class TestKinds:
    def test_every_buffer_of_the_kind(self, name: str) -> None:
        """array, ndarray of any shape, memoryview, casted bytes: the bytes of list[T]."""
        tp, typecode, scalar = KINDS[name]
        items = array.array(typecode, [0, 1, 2, 3, 4, 5])
        raw = struct.pack("<I", 6) + items.tobytes()
        matrix = np.array(items, scalar).reshape(2, 3)
        for value in (
            items,
            memoryview(items),
            np.array(items, scalar),
            matrix,
            memoryview(items.tobytes()).cast(typecode),
        ):
            assert codec(Array[tp]).to_bytes(value) == raw
            if value is not matrix:  # which would arrive as a flat array
                assert codec(NDArray[scalar]).to_bytes(value) == raw
        assert codec(list[tp]).to_bytes(list(items)) == raw
        decoded = codec(Array[tp]).from_bytes(raw)
        assert type(decoded) is array.array
        assert decoded == items
        ndarray = codec(NDArray[scalar]).from_bytes(raw)
        assert ndarray.dtype == scalar
        assert ndarray.tolist() == items.tolist()
        assert ndarray.flags.writeable

    def test_other_items_are_refused(self, name: str) -> None:
        """Another kind or size, big-endian, bools, lists, text."""
        tp, _, scalar = KINDS[name]
        for other in KINDS:
            if other != name:
                assert "expected items of" in refused(Array[tp], np.zeros(2, KINDS[other][2]))
        assert "format" in refused(Array[tp], np.zeros(2, np.bool_))
        if np.dtype(scalar).itemsize > 1:
            assert "expected items of" in refused(Array[tp], np.zeros(2, np.dtype(scalar).newbyteorder(">")))
        for value in ([1, 2], (1,), "ab", None, 3):
            assert "expected" in refused(Array[tp], value)

    def test_empty(self, name: str) -> None:
        """No items are four bytes."""
        tp, typecode, _ = KINDS[name]
        assert codec(Array[tp]).to_bytes(array.array(typecode)) == bytes(4)
        assert len(codec(Array[tp]).from_bytes(bytes(4))) == 0

    def test_fixed(self, name: str) -> None:
        """FixedArray takes lists, tuples and buffers of its length, and decodes to array.array."""
        tp, typecode, scalar = KINDS[name]
        fixed = FixedArray[tp, Literal[3]]
        raw = array.array(typecode, [1, 2, 3]).tobytes()
        for value in ([1, 2, 3], (1, 2, 3), array.array(typecode, [1, 2, 3]), np.array([1, 2, 3], scalar)):
            assert codec(fixed).to_bytes(value) == raw
        assert codec(fixed).from_bytes(raw) == array.array(typecode, [1, 2, 3])
        assert (codec(fixed).min_size, codec(fixed).max_size) == (len(raw), len(raw))
        for value in (
            [1, 2],
            [1, 2, 3, 4],
            array.array(typecode, [1]),
            [1, 2, "x"],
            None,
            np.zeros(3, "c16"),
        ):
            refused(fixed, value)


class TestBuffers:
    def test_bytes_are_an_array_of_u8(self) -> None:
        for value in (b"abc", bytearray(b"abc")):
            assert codec(Array[u8]).to_bytes(value) == b"\3\0\0\0abc"

    def test_strides_are_refused(self) -> None:
        """Every second item, a transposed matrix, a reversed view."""
        matrix = np.zeros((4, 6), np.float32)
        for value in (matrix[:, ::2], matrix.T, matrix[::-1], memoryview(array.array("f", [1, 2, 3]))[::2]):
            assert "contiguous" in refused(Array[f32], value)

    def test_a_scalar_array_is_refused(self) -> None:
        """A buffer without a dimension has no length."""
        assert "expected" in refused(Array[f64], np.array(1.0))

    def test_array_within_a_struct_is_by_slot(self) -> None:
        class Cloud(Codec):
            xs: Array[f32]
            tail: u8

        cloud = Cloud(np.arange(5, dtype=np.float32), 9)
        assert Cloud.from_bytes(cloud.to_bytes()) == cloud

    def test_large_array_is_one_copy(self) -> None:
        """A megabyte and more, at the end and in the middle."""

        class Both(Codec):
            first: Array[f64]
            last: NDArray[np.float64]

        value = Both(np.arange(200_000.0), np.arange(300_000.0))
        decoded = Both.from_bytes(value.to_bytes(), strict=True)
        assert np.array_equal(np.asarray(decoded.first), value.first)
        assert np.array_equal(decoded.last, value.last)


class TestStructured:
    def make(self, count: int) -> Any:
        rows = np.zeros(count, codec(Tick).dtype)
        rows["stamp"] = np.arange(count)
        rows["side"] = np.arange(count) % 2
        rows["inner"]["flag"] = np.arange(count) % 2
        rows["pose"] = np.arange(count * 3).reshape(count, 3)
        return rows

    def test_dtype_is_the_wire(self) -> None:
        """Packed, little-endian, as long as the struct."""
        assert codec(Tick).dtype.itemsize == codec(Tick).min_size == 36
        assert codec(Tick).dtype is codec(Tick).dtype

    def test_round_trip_and_same_bytes_as_a_list(self) -> None:
        rows = self.make(1000)
        listed = [
            Tick(
                i,
                0.0,
                list(Side)[i % 2],
                Inner(0, bool(i % 2)),
                [i * 3, i * 3 + 1, i * 3 + 2],
                [False, False],
            )
            for i in range(1000)
        ]
        raw = Holder(rows).to_bytes()
        assert raw == Rows(listed).to_bytes() == Rows(rows).to_bytes()
        decoded = Holder.from_bytes(raw, strict=True)
        assert decoded.ticks.dtype == codec(Tick).dtype
        assert np.array_equal(decoded.ticks, rows)
        assert decoded == Holder(rows)
        assert Rows.from_bytes(raw).ticks[7].stamp == 7

    def test_columns_are_checked_on_decoding(self) -> None:
        """A bool that is 2, an enum beyond its members: as for a list, with offset and path."""
        raw = bytearray(Holder(self.make(10)).to_bytes())
        for offset, kind, path in (
            (16, errors.InvalidVariant, "side"),
            (21, errors.InvalidBool, "inner.flag"),
            (35, errors.InvalidBool, "flags[1]"),
        ):
            bad = bytearray(raw)
            at = 4 + 7 * 36 + offset
            bad[at] = 2
            for tp in (Holder, Rows):
                with pytest.raises(kind) as caught:
                    tp.from_bytes(bad)
                assert (caught.value.offset, caught.value.path) == (at, f"{tp.__name__}.ticks[7].{path}")

    def test_columns_are_checked_on_encoding(self) -> None:
        """What the receiver would refuse is not sent."""
        rows = self.make(5)
        rows["side"][3] = 2
        for tp in (Holder, Rows):
            with pytest.raises(errors.EncodeError) as caught:
                tp(rows).to_bytes()
            assert caught.value.path == f"{tp.__name__}.ticks[3].side"

    def test_short_and_hostile_counts(self) -> None:
        raw = Holder(self.make(3)).to_bytes()
        for size in range(len(raw)):
            with pytest.raises(errors.UnexpectedEof):
                Holder.from_bytes(raw[:size])
        with pytest.raises(errors.UnexpectedEof):
            Holder.from_bytes(b"\xff" * 40)

    def test_other_arrays_are_refused(self) -> None:
        """Another dtype, big-endian columns, padding, strides, plain lists."""
        dtype = codec(Tick).dtype
        for value in (
            np.zeros(3, np.float64),
            np.zeros(3, dtype.newbyteorder(">")),
            np.zeros(3, np.dtype(dtype.descr, align=True)),
            self.make(6)[::2],
            b"x" * 36,
        ):
            refused(Holder, Holder(value))
            refused(Rows, Rows(value))
        refused(Holder, Holder([]))

    def test_types_without_dtype(self) -> None:
        """The text names the field that has no fixed width."""

        class Bad(Codec):
            a: u8
            text: str

        class Worse(Codec):
            inner: Bad

        class Pair(Codec):
            pair: tuple[u8, u8]

        for tp, path in ((Bad, "Bad.text"), (Worse, "Worse.inner.text"), (Pair, "Pair.pair")):
            with pytest.raises(TypeError, match=path):
                codec(tp).dtype  # noqa: B018
        with pytest.raises(TypeError, match="dtype"):
            codec(list[u8]).dtype  # noqa: B018
        with pytest.raises(TypeError, match="Worse"):
            codec(Annotated[NDArray[np.void], Worse])

    def test_numpy_is_imported_only_if_used(self) -> None:
        """Importing the library and using plain types leaves numpy alone."""
        code = (
            "import sys; from deli_com import *\n"
            "from deli_com import Codec, codec, Array, u8, f32\n"
            "class P(Codec):\n a: Array[f32]\n b: list[u8]\n"
            "import array\n"
            "p = P(array.array('f', [1]), [1]); assert P.from_bytes(p.to_bytes()) == p; repr(p)\n"
            "assert 'numpy' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class Hollow(Codec):
    none: FixedArray[u8, Literal[0]]


def test_rows_of_no_size_are_refused():
    """They could not be counted: a length of the wire was divided by their size once."""
    with pytest.raises(TypeError, match="a structured array needs fields of fixed width"):
        codec(Annotated[NDArray[np.void], Hollow])
    assert codec(list[Hollow]).from_bytes(b"\x02\0\0\0") == [Hollow(array.array("B"))] * 2
