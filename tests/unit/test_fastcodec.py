"""Edges of single types: limits, refusals, hostile values, hostile bytes."""

from __future__ import annotations

import array
import enum
import math
import struct
import sys
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from deli_com import (
    Array,
    Codec,
    FixedArray,
    TypeCodec,
    codec,
    errors,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)

INTS: dict[str, tuple[Any, int, int]] = {
    "u8": (u8, 0, 2**8 - 1),
    "u16": (u16, 0, 2**16 - 1),
    "u32": (u32, 0, 2**32 - 1),
    "u64": (u64, 0, 2**64 - 1),
    "i8": (i8, -(2**7), 2**7 - 1),
    "i16": (i16, -(2**15), 2**15 - 1),
    "i32": (i32, -(2**31), 2**31 - 1),
    "i64": (i64, -(2**63), 2**63 - 1),
}


class Empty(Codec):
    pass


class Point(Codec):
    x: f32
    y: f32


class Deep(Codec):
    points: list[Point]
    name: str


class Node(Codec):
    value: u8
    kids: list[Node]


class Link(Codec):
    next: Link | None


class Index:
    """Has `__index__`, and may do something when asked."""

    def __init__(self, value: int, action: Any = None) -> None:
        self.value = value
        self.action = action

    def __index__(self) -> int:
        if self.action is not None:
            self.action()
        return self.value


class Floaty:
    def __float__(self) -> float:
        return 2.5


def assert_refused(tp: Any, value: Any, detail: str = "", path: str = "") -> None:
    """Encoding is an EncodeError with this detail and path, by every way, and changes no buffer."""
    compiled = codec(tp)
    with pytest.raises(errors.EncodeError) as caught:
        compiled.to_bytes(value)
    assert detail in caught.value.detail
    assert caught.value.path.endswith(path)
    buf = bytearray(b"kept")
    with pytest.raises(errors.EncodeError):
        compiled.encode(value, buf)
    assert buf == b"kept"


def assert_malformed(
    tp: Any, raw: bytes, kind: type[errors.DecodeError], offset: int, path: str = ""
) -> None:
    with pytest.raises(errors.DecodeError) as caught:
        codec(tp).from_bytes(raw)
    assert (type(caught.value), caught.value.offset, caught.value.path) == (kind, offset, path)


@pytest.mark.parametrize("name", INTS)
class TestInts:
    def test_limits_fit(self, name: str) -> None:
        """Both ends of the range, alone and in a list."""
        tp, low, high = INTS[name]
        size = codec(tp).min_size
        for value in (low, high, 0, 1, low + 1, high - 1):
            raw = value.to_bytes(size, "little", signed=low < 0)
            assert codec(tp).to_bytes(value) == raw
            assert codec(tp).from_bytes(raw) == value
            assert codec(list[tp]).to_bytes([value]) == b"\1\0\0\0" + raw
            assert codec(list[tp]).from_bytes(b"\1\0\0\0" + raw) == [value]

    def test_beyond_is_refused(self, name: str) -> None:
        """One more, and far more than 64 bits; the text has the range."""
        tp, low, high = INTS[name]
        for value in (low - 1, high + 1, 2**64, -(2**64), 2**90, 2**200, -(2**200)):
            assert_refused(tp, value, f"does not fit {name} ({low}..{high})")
            assert_refused(list[tp], [0, value], f"does not fit {name}", "[1]")
        assert_refused(tp, 10**5000, "an int of 16610 bits")

    def test_kinds_of_ints(self, name: str) -> None:
        """`__index__` and subclasses of int pass; bool, float, str do not."""
        tp = INTS[name][0]
        colour = enum.IntEnum("colour", {"RED": 7})
        for value in (Index(7), colour.RED, np.int64(7), np.uint8(7)):
            assert codec(tp).to_bytes(value) == codec(tp).to_bytes(7)
            assert codec(list[tp]).to_bytes([value]) == codec(list[tp]).to_bytes([7])
        for value in (True, np.True_, 7.0, np.float64(7), "7", None, 7j):
            assert_refused(tp, value, f"expected {name}, got")
            assert_refused(list[tp], [value], f"expected {name}, got", "[0]")


class TestFloats:
    @pytest.mark.parametrize("tp", [f32, f64])
    def test_kinds_of_floats(self, tp: Any) -> None:
        """Ints, `__float__`, `__index__` and numpy scalars pass; bool and str do not."""
        for value in (2, Index(2), np.float32(2), np.float64(2), np.float16(2), np.int8(2)):
            assert codec(tp).to_bytes(value) == codec(tp).to_bytes(2.0)
        assert codec(tp).to_bytes(Floaty()) == codec(tp).to_bytes(2.5)
        for value in (True, np.False_, "2", None, 2j, b"2"):
            assert_refused(tp, value, "expected f")

    def test_f32_range(self) -> None:
        """A finite value that would become infinite is refused; what rounds to the largest passes."""
        largest = 3.4028234663852886e38
        assert codec(f32).to_bytes(largest) == bytes.fromhex("ffff7f7f")
        assert codec(f32).to_bytes(math.nextafter(largest, math.inf)) == bytes.fromhex("ffff7f7f")
        for value in (3.5e38, -3.5e38, 1e308, 2**130):
            assert_refused(f32, value, "does not fit f32")
        assert_refused(f64, 10**400, "does not fit f64")

    def test_special_values_keep_their_bits(self) -> None:
        """Zeros have signs, infinities pass, tiny values become zero as IEEE rounds them."""
        for tp, form in ((f32, "<f"), (f64, "<d")):
            for value in (-0.0, math.inf, -math.inf, 5e-324):
                assert codec(tp).to_bytes(value) == struct.pack(form, value)

    @pytest.mark.parametrize("tp", [f32, f64])
    def test_nan_payloads_survive(self, tp: Any) -> None:
        """Any NaN's bits come back as they were sent, signalling ones too."""
        single = tp is f32
        for sign in (0, 1):
            for payload in (1, 2, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFF):
                if single:
                    raw = struct.pack("<I", sign << 31 | 0x7F800000 | payload)
                else:
                    raw = struct.pack("<Q", sign << 63 | 0x7FF << 52 | payload << 29)
                assert codec(tp).to_bytes(codec(tp).from_bytes(raw)) == raw
                listed = b"\1\0\0\0" + raw
                assert codec(list[tp]).to_bytes(codec(list[tp]).from_bytes(listed)) == listed

    def test_f64_nan_whose_payload_f32_cannot_hold(self) -> None:
        """It stays a NaN instead of becoming infinite."""
        (value,) = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))
        assert math.isnan(codec(f32).from_bytes(codec(f32).to_bytes(value)))


class TestBoolTextBytes:
    def test_bool_takes_bools_only(self) -> None:
        """numpy's is one; numbers are none."""
        assert codec(bool).to_bytes(np.True_) == b"\1"
        assert codec(bool).to_bytes(np.False_) == b"\0"
        for value in (0, 1, 1.0, "x", None, np.int8(1)):
            assert_refused(bool, value, "expected bool, got")

    @pytest.mark.parametrize(
        "text", ["", "a", "é", "ÿ", "Ā", "中文", "😀", "a\0b", "x" * 5000, "é" * 5000, "a😀" * 300]
    )
    def test_text_round_trips(self, text: str) -> None:
        """Every width of CPython's strings, short and long."""
        raw = text.encode()
        encoded = codec(str).to_bytes(text)
        assert encoded == struct.pack("<I", len(raw)) + raw
        decoded = codec(str).from_bytes(encoded)
        assert decoded == text
        assert sys.getsizeof(decoded) <= sys.getsizeof(raw.decode())

    @pytest.mark.parametrize("text", ["\ud800", "a\udfff", "😀\ud83d" * 200])
    def test_lone_surrogates_are_refused(self, text: str) -> None:
        """UTF-8 is strict when encoding."""
        assert_refused(str, text, "lone surrogate")

    @pytest.mark.parametrize(
        ("raw", "at"),
        [
            (b"\xff", 0),
            (b"ab\x80", 2),
            (b"\xc0\x80", 0),
            (b"\xed\xa0\x80", 0),
            (b"\xe0\x80\x80", 0),
            (b"\xf4\x90\x80\x80", 0),
            (b"\xf5\x80\x80\x80", 0),
            (b"x\xe4\xb8", 1),
            (b"\xc3\xa9\xc3", 2),
            (b"a" * 300 + b"\xff", 300),
            (b"\xc3\xa9" * 200 + b"\xed\xa0\x80", 400),
        ],
    )
    def test_malformed_utf8(self, raw: bytes, at: int) -> None:
        """Overlong forms, surrogates, cut characters: the offset is that of the first bad byte."""
        assert_malformed(str, struct.pack("<I", len(raw)) + raw, errors.InvalidUtf8, 4 + at)

    def test_text_and_bytes_are_not_mixed(self) -> None:
        """Neither is taken for the other, nor None for either."""
        for tp, value in ((str, b"x"), (str, None), (bytes, "x"), (bytes, None), (bytes, 3), (bytes, [1])):
            assert_refused(tp, value, "expected")

    def test_subclasses_of_str_and_bytes(self) -> None:
        """They are what they extend."""
        kind = enum.StrEnum("kind", {"A": "letter"})
        assert codec(str).to_bytes(kind.A) == codec(str).to_bytes("letter")
        assert codec(bytes).to_bytes(type("Sub", (bytes,), {})(b"x")) == codec(bytes).to_bytes(b"x")

    def test_bytes_like_values(self) -> None:
        """Any contiguous buffer is copied; decoding gives exactly bytes."""
        for value in (
            b"abc",
            bytearray(b"abc"),
            memoryview(b"abc"),
            array.array("b", b"abc"),
            np.frombuffer(b"abc", "u1"),
        ):
            assert codec(bytes).to_bytes(value) == b"\3\0\0\0abc"
        assert type(codec(bytes).from_bytes(b"\3\0\0\0abc")) is bytes
        assert_refused(bytes, memoryview(b"abcdef")[::2], "contiguous")
        for size in (0, 1, 1019, 1020, 1021, 2047, 2048, 100_000):
            assert codec(bytes).to_bytes(b"x" * size) == struct.pack("<I", size) + b"x" * size


class TestLengths:
    """No length is believed before it is compared with what is there."""

    @pytest.mark.parametrize(
        "tp", [str, bytes, list[u8], list[u64], list[str], list[Point], tuple[bool, ...], Array[f64]]
    )
    def test_largest_length_is_short(self, tp: Any) -> None:
        """2^32-1 fails at once, without memory for it."""
        for rest in (b"", b"\1", b"\0" * 50):
            assert_malformed(tp, b"\xff" * 4 + rest, errors.UnexpectedEof, 0)

    def test_count_is_checked_by_least_size(self) -> None:
        """Nine bytes cannot hold three strings, whose least size is four."""
        assert_malformed(list[str], struct.pack("<I", 3) + bytes(9), errors.UnexpectedEof, 0)
        assert codec(list[str]).from_bytes(struct.pack("<I", 2) + bytes(9)) == ["", ""]

    def test_elements_without_size_are_capped(self) -> None:
        """65,536 of them pass both ways; one more is an error both ways, and 2^32-1 too."""
        most = codec(list[Empty]).from_bytes(struct.pack("<I", 65536))
        assert len(most) == 65536
        assert codec(list[Empty]).to_bytes(most) == struct.pack("<I", 65536)
        assert_refused(list[Empty], [*most, Empty()], "65537 elements without a size")
        assert_malformed(list[Empty], struct.pack("<I", 65537), errors.DecodeError, 0)
        assert_malformed(list[Empty], b"\xff" * 4, errors.DecodeError, 0)
        assert_malformed(list[tuple[()]], b"\xff" * 4, errors.DecodeError, 0)
        assert_malformed(list[FixedArray[u64, Literal[0]]], b"\xff" * 4, errors.DecodeError, 0)

    def test_offset_and_path_of_a_short_run(self) -> None:
        """Within one bounds check, the error still names the field that does not fit."""
        raw = codec(Deep).to_bytes(Deep([Point(1, 2), Point(3, 4)], "x"))
        assert_malformed(Deep, raw[:18], errors.UnexpectedEof, 0, "Deep.points")
        assert_malformed(Deep, raw[:20], errors.UnexpectedEof, 20, "Deep.name")
        assert_malformed(Point, raw[:3], errors.UnexpectedEof, 0, "Point.x")
        assert_malformed(Point, raw[:7], errors.UnexpectedEof, 4, "Point.y")


class TestRecursion:
    """Values of recursive types nest at most 200 deep, both ways."""

    def chain(self, count: int) -> Link:
        value = Link(None)
        for _ in range(count - 1):
            value = Link(value)
        return value

    def test_two_hundred_pass(self) -> None:
        raw = codec(Link).to_bytes(self.chain(200))
        assert codec(Link).to_bytes(codec(Link).from_bytes(raw)) == raw

    def test_one_more_is_refused(self) -> None:
        assert_refused(Link, self.chain(201), "nested more than 200 deep")
        with pytest.raises(errors.DecodeError, match="nested more than 200 deep"):
            codec(Link).from_bytes(b"\1" * 201)

    def test_hostile_depth(self) -> None:
        """A megabyte of nesting is an error, not a crash."""
        for tp, raw in ((Link, b"\1" * 1_000_000), (Node, b"\0\1\0\0\0" * 200_000)):
            with pytest.raises(errors.DecodeError, match="nested more than 200 deep"):
                codec(tp).from_bytes(raw)

    def test_a_value_within_itself(self) -> None:
        """Encoding a cycle ends with an error; freeing it is the collector's work."""
        node = Node(1, [])
        node.kids.append(node)
        assert_refused(Node, node, "nested more than 200 deep")

    def test_freeing_a_long_chain(self) -> None:
        """A million values deep are freed without recursion."""
        value = Link(None)
        for _ in range(1_000_000):
            value = Link(value)
        del value


class TestPythonCodeDuringEncoding:
    """`__index__` and friends may do anything; the encoder re-reads what they may have changed."""

    @pytest.mark.parametrize("tp", [u8, u64, f32, i16])
    def test_list_shrunk_by_its_item(self, tp: Any) -> None:
        values: list[Any] = [1, 2, 3]
        values[1] = Index(2, values.clear)
        assert_changed(tp, values)

    def test_list_of_structs_shrunk_by_a_field(self) -> None:
        points = [Point(1, 2) for _ in range(100)]
        points[50].x = Index(1, points.clear)  # type: ignore[assignment]
        assert_changed(Point, points)

    def test_list_grown_by_its_item(self) -> None:
        values: list[Any] = [1, 2]
        values[0] = Index(1, lambda: values.extend([0] * 100_000))
        assert_changed(u16, values)

    def test_struct_replaced_while_it_is_walked(self) -> None:
        """The nested struct being encoded stays alive though its parent has dropped it."""

        class Outer(Codec):
            inner: Point
            after: str

        outer = Outer(Point(0, 5), "tail")

        def replace() -> None:
            outer.inner = Point(9, 9)
            outer.after = "other"

        outer.inner.x = Index(3, replace)  # type: ignore[assignment]
        assert Outer.from_bytes(outer.to_bytes()) == Outer(Point(3, 5), "other")

    def test_fixed_array_list_changed(self) -> None:
        values: list[Any] = [1.0, 2.0, 3.0]
        values[0] = Index(1, values.clear)
        with pytest.raises(errors.EncodeError, match="changed its length"):
            codec(FixedArray[f64, Literal[3]]).to_bytes(values)

    def test_an_exception_of_the_value_is_the_cause_of_an_EncodeError(self) -> None:
        """It says where, and nothing was written."""

        def fail() -> None:
            raise KeyError("mine")

        buf = bytearray(b"kept")
        with pytest.raises(
            errors.EncodeError, match=r"^encode error: \[1\]: KeyError while .*mine"
        ) as caught:
            codec(list[u8]).encode([1, Index(1, fail)], buf)
        assert isinstance(caught.value.__cause__, KeyError)
        assert buf == b"kept"

    def test_bytearray_used_by_the_value(self) -> None:
        """What a `__index__` appends to the target comes before the value."""
        buf = bytearray(b"a")
        codec(u8).encode(Index(1, lambda: buf.extend(b"b")), buf)  # type: ignore[arg-type]
        assert buf == b"ab\1"

    def test_nested_encoding(self) -> None:
        """Encoding from within encoding has a place of its own."""
        seen: list[bytes] = []
        values: list[Any] = [1, Index(2, lambda: seen.append(codec(list[u8]).to_bytes([7] * 5000))), 3]
        assert codec(list[u8]).to_bytes(values) == b"\3\0\0\0\1\2\3"
        assert seen == [struct.pack("<I", 5000) + b"\7" * 5000]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python begins with 3.12")
    def test_exporter_written_in_python(self) -> None:
        """A `__buffer__` that shrinks its own store on release, and one that lies about the format."""

        class Exporter:
            def __init__(self, data: bytearray) -> None:
                self.data = data

            def __buffer__(self, flags: int) -> memoryview:
                return memoryview(self.data)

            def __release_buffer__(self, view: memoryview) -> None:
                view.release()
                self.data.clear()

        for tp in (bytes, Array[u8]):
            assert codec(tp).to_bytes(Exporter(bytearray(b"xyz"))) == b"\3\0\0\0xyz"
        assert_refused(Array[u16], Exporter(bytearray(b"xyz")), "expected items of u16")

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ in Python begins with 3.12")
    def test_store_cannot_shrink_while_it_is_read(self) -> None:
        """The view holds the bytearray in place until the copy is made."""
        store = bytearray(b"x" * 1000)

        class Exporter:
            def __buffer__(self, flags: int) -> memoryview:
                view = memoryview(store)
                with pytest.raises(BufferError):
                    store.clear()
                return view

        assert codec(bytes).to_bytes(Exporter()) == struct.pack("<I", 1000) + b"x" * 1000


def assert_changed(item: Any, values: list[Any]) -> None:
    with pytest.raises(errors.EncodeError, match="changed its length"):
        codec(list[item]).to_bytes(values)


class TestContainers:
    def test_lists_and_tuples_are_not_mixed(self) -> None:
        """A list is a list, a tuple a tuple; subclasses pass."""
        assert_refused(list[u8], (1, 2), "expected list, got tuple")
        assert_refused(tuple[u8, ...], [1, 2], "expected tuple, got list")
        assert_refused(list[u8], None, "expected list, got NoneType")
        assert codec(list[u8]).to_bytes(type("Sub", (list,), {})([1])) == b"\1\0\0\0\1"

    def test_products_have_their_length(self) -> None:
        """`tuple[A, B]` takes two items and writes no count."""
        assert codec(tuple[u8, str]).to_bytes((1, "a")) == b"\1\1\0\0\0a"
        assert_refused(tuple[u8, str], (1,), "expected 2 items, got 1")
        assert_refused(tuple[u8, str], (1, 2), "expected str, got int", "[1]")
        assert codec(tuple[()]).to_bytes(()) == b""

    def test_option(self) -> None:
        """0 is None, 1 a value, another byte an InvalidBool."""
        assert codec(u8 | None).to_bytes(None) == b"\0"  # type: ignore[arg-type]
        assert codec(u8 | None).from_bytes(b"\1\7") == 7  # type: ignore[arg-type]
        assert_malformed(u8 | None, b"\2\7", errors.InvalidBool, 0)

    def test_enum_members_only(self) -> None:
        """The member itself, not its value; aliases are their member; the order is the index."""

        class Colour(enum.Enum):
            RED = 5
            GREEN = 3
            ROT = 5  # noqa: PIE796

        assert codec(Colour).to_bytes(Colour.ROT) == bytes(4)
        assert codec(Colour).to_bytes(Colour.GREEN) == b"\1\0\0\0"
        assert codec(Colour).from_bytes(b"\1\0\0\0") is Colour.GREEN
        assert_refused(Colour, 5, "expected")
        assert_malformed(Colour, b"\2\0\0\0", errors.InvalidVariant, 0)

    def test_many_members(self) -> None:
        """A large enum is found by identity as well."""
        large = enum.Enum("large", [f"M{i}" for i in range(1000)])
        for i, member in enumerate(large):
            assert codec(large).to_bytes(member) == struct.pack("<I", i)

    def test_fixed_array_of_other_things(self) -> None:
        """For strings, bools and structs it is a tuple."""
        assert codec(FixedArray[bool, Literal[2]]).from_bytes(b"\1\0") == (True, False)
        assert codec(FixedArray[Point, Literal[1]]).from_bytes(bytes(8)) == (Point(0, 0),)
        assert_refused(FixedArray[str, Literal[2]], ["a"], "expected 2 items, got 1")
        assert_malformed(FixedArray[u8, Literal[4]], b"\1\2", errors.UnexpectedEof, 0)


class TestTypeCodec:
    def test_decode_gives_the_position(self) -> None:
        """Values stand one behind the other."""
        raw = codec(str).to_bytes("ab") + codec(str).to_bytes("c")
        value, pos = codec(str).decode(raw)
        assert (value, pos) == ("ab", 6)
        assert codec(str).decode(raw, pos) == ("c", 11)
        with pytest.raises(errors.UnexpectedEof) as caught:
            codec(str).decode(raw, 8)
        assert caught.value.offset == 8
        assert Point.decode(b"x" + bytes(8), pos=1) == (Point(0, 0), 9)

    def test_decode_at_the_end_and_beyond(self) -> None:
        """At the end there is nothing; a position outside is no wire fault but a mistake."""
        with pytest.raises(errors.UnexpectedEof):
            codec(u8).decode(b"a", 1)
        for pos in (-1, 2):
            with pytest.raises(ValueError, match="pos"):
                codec(u8).decode(b"a", pos)

    def test_strict(self) -> None:
        """Bytes after the value are ignored, or refused if asked."""
        assert codec(u8).from_bytes(b"\1\2") == 1
        for decode in (codec(u8).from_bytes, type("B", (Codec,), {"__annotations__": {"x": u8}}).from_bytes):
            with pytest.raises(errors.DecodeError) as caught:
                decode(b"\1\2", strict=True)
            assert caught.value.offset == 1

    def test_inputs(self) -> None:
        """Any contiguous bytes-like object; nothing else."""
        for data in (bytearray(b"\7"), memoryview(b"\7"), array.array("B", [7])):
            assert codec(u8).from_bytes(data) == 7
        for bad in ("7", 7, None, memoryview(b"abcd")[::2]):
            with pytest.raises(TypeError):
                codec(u8).from_bytes(bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            codec(u8).encode(1, b"")  # type: ignore[arg-type]

    def test_locked_bytearray(self) -> None:
        """Somebody holds a view: BufferError, and the bytes stay."""
        buf = bytearray(b"kept")
        with memoryview(buf), pytest.raises(BufferError):
            codec(u8).encode(1, buf)
        assert buf == b"kept"

    def test_cached(self) -> None:
        """The same type has the same codec."""
        assert codec(list[u8]) is codec(list[u8])
        assert codec(Point) is codec(Point)
        assert codec(Annotated[Point, "note"]) is codec(Point)
        assert isinstance(codec(u8), TypeCodec)

    def test_sizes(self) -> None:
        """Least and most bytes; -1 is unbounded."""
        assert (codec(Point).min_size, codec(Point).max_size) == (8, 8)
        assert (codec(Deep).min_size, codec(Deep).max_size) == (8, -1)
        assert (codec(u8 | None).min_size, codec(u8 | None).max_size) == (1, 2)
        assert (codec(Link).min_size, codec(Link).max_size) == (1, -1)

    def test_errors_of_bytes_are_picklable_and_texts_begin_as_upstream(self) -> None:
        with pytest.raises(errors.InvalidBool) as caught:
            codec(list[bool]).from_bytes(b"\1\0\0\0\7")
        assert str(caught.value).startswith("decode error: invalid bool value: 7")
        assert (caught.value.value, caught.value.path) == (7, "[0]")
