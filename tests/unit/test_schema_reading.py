"""`codec(T).reading(writer)`: every row of the table of docs/wire.md section 9, and what must not happen."""

from __future__ import annotations

import array
import enum
import gc
import pickle
import struct
import sys
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import (
    Array,
    Codec,
    DecodeError,
    EncodeError,
    FixedArray,
    InvalidBool,
    InvalidUtf8,
    InvalidVariant,
    Schema,
    SchemaMismatch,
    UnexpectedEof,
    UnknownVariant,
    codec,
    f32,
    f64,
    field,
    i16,
    i32,
    u8,
    u16,
    u32,
    u64,
)

HEAD = "deli 1\nroot W\nstruct W\n"


def writer(*fields: str, more: str = "") -> Schema:
    return Schema.parse(HEAD + "".join(f" {line}\n" for line in fields) + more)


def differences(tp: Any, there: Schema) -> list[str]:
    with pytest.raises(SchemaMismatch) as caught:
        codec(tp).reading(there)
    return caught.value.differences


class Point(Codec):
    x: f32
    y: f32


class Side(enum.Enum):
    BUY = 0
    SELL = 1


class TestOwnProgram:
    def test_equal_schemas(self) -> None:
        assert codec(Point).reading(Schema.parse(codec(Point).schema.text)) is codec(Point)

    def test_names_of_structs_do_not_matter(self) -> None:
        class Line(Codec):
            a: Point
            b: list[Point]

        there = Schema.parse("deli 1\nroot L\nstruct L\n a P\n b [P]\nstruct P\n x f32\n y f32\n")
        assert there != codec(Line).schema
        assert codec(Line).reading(there) is codec(Line)

    def test_a_rename_that_the_reader_gives(self) -> None:
        class New(Codec):
            celsius: f32 = field(renamed_from="temp")
            power: u8 = field(renamed_from=("battery", "bat"))

        assert codec(New).reading(writer("temp f32", "bat u8")) is codec(New)
        assert codec(New).reading(writer("celsius f32", "battery u8")) is codec(New)
        resolved = codec(New).reading(writer("bat u8", "temp f32"))
        assert resolved.from_bytes(b"\x07\0\0\0\x3f") == New(0.5, 7)

    def test_the_name_itself_counts_before_a_former_one(self) -> None:
        class New(Codec):
            a: u8 = field(renamed_from="b")

        assert codec(New).reading(writer("b u8", "a u8")).from_bytes(b"\1\2") == New(2)

    def test_what_is_read_by_its_name_is_nobody_elses_former_name(self) -> None:
        class New(Codec):
            b: u8
            a: u8 = field(renamed_from="b", default=9)

        class First(Codec):
            a: u8 = field(renamed_from="b")
            c: u8 = field(renamed_from=("x", "b"), default=9)

        assert codec(New).reading(writer("b u8")).from_bytes(b"\1") == New(1, 9)
        assert codec(First).reading(writer("b u8")).from_bytes(b"\1") == First(1, 9)

    def test_recursive_types_of_another_name(self) -> None:
        class Node(Codec):
            kids: list[Node]
            value: u8

        there = Schema.parse("deli 1\nroot N\nstruct N\n kids [N]\n value u8\n")
        assert codec(Node).reading(there) is codec(Node)


class TestTable:
    def test_another_order(self) -> None:
        class R(Codec):
            b: f32
            a: u32

        value = codec(R).reading(writer("a u32", "b f32")).from_bytes(struct.pack("<If", 7, 0.5))
        assert value == R(0.5, 7)

    @pytest.mark.parametrize(
        ("tp", "data"),
        [
            ("u64", bytes(8)),
            ("bool", b"\1"),
            ("str", b"\2\0\0\0\xc3\xa9"),
            ("bytes", b"\3\0\0\0abc"),
            ("[f64]", b"\1\0\0\0" + bytes(8)),
            ("[str]", b"\2\0\0\0" + b"\1\0\0\0a" * 2),
            ("[[bool];2]", b"\1\0\0\0\1" * 2),
            ("[u16;3]", bytes(6)),
            ("u8?", b"\0"),
            ("(u8,str)?", b"\1\5\1\0\0\0a"),
            ("E", b"\1\0\0\0"),
            ("S", b"\1\0\0\0\1\0\0\0a"),
            ("[N]", b"\1\0\0\0" + b"\7" + b"\1\0\0\0\7\0\0\0\0" + b"\0"),
        ],
    )
    def test_a_field_that_the_reader_lacks_is_skipped(self, tp: str, data: bytes) -> None:
        """As a decoder would go over it: every prefix is `UnexpectedEof`."""

        class R(Codec):
            a: u8
            z: u16

        more = {
            "E": "enum E\n 0 A\n 1 B\n",
            "S": "sealed S\n 0 V\n  x u8\n 1 W\n  y str\n",
            "[N]": "struct N\n v u8\n kids [N]\n",
        }.get(tp, "")
        if tp == "[N]":
            data = b"\1\0\0\0" + b"\7" + b"\1\0\0\0" + b"\7" + b"\0\0\0\0"
        reading = codec(R).reading(writer("a u8", f"gone {tp}", "z u16", more=more))
        whole = b"\5" + data + b"\6\0"
        assert reading.from_bytes(whole, strict=True) == R(5, 6)
        for i in range(len(whole)):
            with pytest.raises(UnexpectedEof):
                reading.from_bytes(whole[:i])

    def test_what_is_skipped_is_checked(self) -> None:
        class R(Codec):
            a: u8

        def read(tp: str, data: bytes, more: str = "") -> Any:
            return codec(R).reading(writer(f"gone {tp}", "a u8", more=more)).from_bytes(data)

        with pytest.raises(InvalidBool):
            read("bool", b"\2\0")
        with pytest.raises(InvalidBool):
            read("u8?", b"\2\0\0")
        with pytest.raises(InvalidUtf8):
            read("str", b"\2\0\0\0\xff\xfe\0")
        with pytest.raises(InvalidVariant):
            read("E", b"\2\0\0\0\0", "enum E\n 0 A\n 1 B\n")
        with pytest.raises(InvalidVariant):
            read("S", b"\2\0\0\0\0", "sealed S\n 0 V\n")
        with pytest.raises(UnexpectedEof):
            read("[u64]", b"\xff\xff\xff\xff\0")
        with pytest.raises(UnexpectedEof):
            read("str", b"\xff\xff\xff\xff\0")
        with pytest.raises(DecodeError, match="65536"):
            read("[N]", b"\1\0\1\0\0", "struct N\n")
        assert read("[N]", b"\0\0\1\0\7", "struct N\n") == R(7)
        deep = b"\1\0\0\0" * 201 + b"\0\0\0\0"
        with pytest.raises(DecodeError, match="200 deep"):
            read("N", deep + b"\0", "struct N\n kids [N]\n")
        assert read("N", b"\1\0\0\0" * 199 + b"\0\0\0\0" + b"\7", "struct N\n kids [N]\n") == R(7)

    def test_a_field_that_nobody_sends(self) -> None:
        made = []

        def make() -> list[int]:
            made.append(1)
            return [1]

        class Row(Codec):
            x: u8

        class R(Codec):
            a: u8
            with_default: f32 = 1.5
            factory: list[u8] = field(default_factory=make)
            text: str = "none"
            option: str | None = field(kw_only=True)
            values: list[f32] = field(kw_only=True)
            pair: tuple[u16, ...] = field(kw_only=True)
            array: Array[u32] = field(kw_only=True)
            numpy: NDArray[np.float64] = field(kw_only=True)
            rows: Annotated[NDArray[np.void], Row] = field(kw_only=True)
            data: bytes = field(kw_only=True)
            side: Side = Side.SELL

        reading = codec(R).reading(writer("a u8"))
        value = reading.from_bytes(b"\7")
        assert (value.a, value.with_default, value.factory, value.text) == (7, 1.5, [1], "none")
        assert (value.option, value.values, value.pair, value.data) == (None, [], (), b"")
        assert value.array == array.array("I") and value.numpy.shape == value.rows.shape == (0,)
        assert value.numpy.dtype == "f8" and value.rows.dtype == codec(Row).dtype
        assert value.side is Side.SELL
        assert reading.from_bytes(b"\7").values is not value.values
        assert len(made) == 2

    @pytest.mark.parametrize(
        "tp", [str, u8, FixedArray[u8, 0], FixedArray[u8, 3], bool, Point, Side, tuple[u8]]
    )
    def test_a_field_without_default_that_nobody_sends(self, tp: Any) -> None:
        cls = type(Codec)("R", (Codec,), {"__module__": __name__, "__annotations__": {"a": u8, "b": tp}})
        (line,) = differences(cls, writer("a u8"))
        assert line.startswith("- b  ") and line.endswith(", only here and without a default")

    def test_numbers_widen(self) -> None:
        def ok(source: str, target: str) -> bool:
            cls = type(Codec)("R", (Codec,), {"__module__": "deli_com", "__annotations__": {"a": target}})
            try:
                codec(cls).reading(writer(f"a {source}"))
            except SchemaMismatch:
                return False
            return True

        kinds = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64"]
        allowed = {
            "u8": "u8 u16 u32 u64 i16 i32 i64 f64", "u16": "u16 u32 u64 i32 i64 f64",
            "u32": "u32 u64 i64 f64", "u64": "u64", "i8": "i8 i16 i32 i64 f64", "i16": "i16 i32 i64 f64",
            "i32": "i32 i64 f64", "i64": "i64", "f32": "f32 f64", "f64": "f64",
        }  # fmt: skip
        for source in kinds:
            assert [target for target in kinds if ok(source, target)] == allowed[source].split()

    def test_widened_numbers_keep_their_values(self) -> None:
        class R(Codec):
            a: i32
            b: f64
            c: f64
            d: u64
            e: u16 | None
            f: list[f64]
            g: tuple[i32, ...]
            h: Array[u32]
            i: NDArray[np.float64]
            j: FixedArray[i16, 2]
            k: list[u16]

        there = writer(
            "a i8", "b f32", "c i32", "d u8", "e u8", "f [i16]", "g [i16]", "h [u16]", "i [f32]", "j [u8;2]",
            "k bytes",
        )  # fmt: skip
        data = struct.pack("<bfiBB", -128, 0.5, -(2**31), 255, 255)
        data += struct.pack("<I2h", 2, -32768, 7) + struct.pack("<I2h", 2, -32768, 7)
        data += (
            struct.pack("<I2H", 2, 65535, 7)
            + struct.pack("<I2f", 2, 0.5, -1.5)
            + b"\xff\1"
            + b"\2\0\0\0\xff\0"
        )
        reading = codec(R).reading(there)
        for _ in range(3):  # a dead value leaves its numbers to the next
            v = reading.from_bytes(data, strict=True)
            assert (v.a, v.b, v.c, v.d, v.e) == (-128, 0.5, -(2.0**31), 255, 255)
            assert v.f == [-32768.0, 7.0] and v.g == (-32768, 7) and v.h == array.array("I", [65535, 7])
            assert type(v.f[0]) is float and v.i.dtype == "f8" and list(v.i) == [0.5, -1.5]
            assert v.j == array.array("h", [255, 1]) and v.k == [255, 0]

    def test_a_value_becomes_an_option_that_is_present(self) -> None:
        class R(Codec):
            a: f64 | None
            b: Point | None

        reading = codec(R).reading(
            Schema.parse("deli 1\nroot R\nstruct R\n a u8\n b Point\nstruct Point\n x f32\n y f32\n")
        )
        assert reading.from_bytes(b"\7" + struct.pack("<2f", 1, 2)) == R(7.0, Point(1, 2))
        assert differences(Point, writer("x f32?", "y f32")) == ["x  f32 here, f32? there"]

    def test_members_by_name(self) -> None:
        class Place(enum.Enum):
            A = 0
            B = 1

        class R(Codec):
            at: Place

        reading = codec(R).reading(writer("at Place", more="enum Place\n 0 B\n 1 C\n 2 A\n"))
        assert reading.from_bytes(b"\0\0\0\0") == R(Place.B)
        assert reading.from_bytes(b"\2\0\0\0") == R(Place.A)
        for index in (1, 3):
            with pytest.raises(InvalidVariant) as caught:
                reading.from_bytes(bytes([index, 0, 0, 0]))
            assert type(caught.value) is InvalidVariant and caught.value.index == index
            assert caught.value.path.endswith("R.at")

    def test_variants_by_name(self) -> None:
        class Shape(Codec, sealed=True):
            pass

        class Circle(Shape):
            r: f64

        class Dot(Shape):
            pass

        there = Schema.parse(
            "deli 1\nroot S\nsealed S\n 0 Dot\n 1 New\n  s str\n 2 Circle\n  c u8\n  r f32\n"
        )
        reading = codec(Shape).reading(there)
        assert reading.from_bytes(b"\0\0\0\0") == Dot()
        assert reading.from_bytes(b"\2\0\0\0\7\0\0\0\x3f") == Circle(0.5)
        with pytest.raises(UnknownVariant) as caught:
            reading.from_bytes(b"\1\0\0\0\2\0\0\0ab")
        assert caught.value.index == 1 and caught.value.offset == 0
        with pytest.raises(UnexpectedEof):  # what is left out is a value all the same
            reading.from_bytes(b"\1\0\0\0\2\0\0\0a")
        with pytest.raises(InvalidVariant) as other:
            reading.from_bytes(b"\3\0\0\0")
        assert type(other.value) is InvalidVariant

        class Holder(Codec):
            shapes: list[Shape]

        inside = Schema.parse(
            "deli 1\nroot Holder\nstruct Holder\n shapes [Shape]\n"
            "sealed Shape\n 0 Dot\n 1 New\n 2 Circle\n  r f32\n"
        )
        reading = codec(Holder).reading(inside)
        assert reading.from_bytes(b"\2\0\0\0" + b"\0\0\0\0" + b"\2\0\0\0\0\0\0\x3f") == Holder(
            [Dot(), Circle(0.5)]
        )
        with pytest.raises(InvalidVariant) as nested:
            reading.from_bytes(b"\1\0\0\0\1\0\0\0")
        assert type(nested.value) is InvalidVariant and nested.value.path.endswith("Holder.shapes[0]")

    def test_a_message_that_is_an_enum(self) -> None:
        reading = codec(Side).reading(Schema.parse("deli 1\nroot Side\nenum Side\n 0 HOLD\n 1 SELL\n"))
        assert reading.from_bytes(b"\1\0\0\0") is Side.SELL
        with pytest.raises(UnknownVariant):
            reading.from_bytes(b"\0\0\0\0")

    def test_rows_of_a_structured_array(self) -> None:
        class Inner(Codec):
            b: bool
            s: Side

        class Row(Codec):
            inner: Inner
            x: u32
            k: FixedArray[f64, Literal[2]]
            z: f32 = 9.5

        class R(Codec):
            rows: Annotated[NDArray[np.void], Row]

        there = Schema.parse(
            "deli 1\nroot R\nstruct R\n rows [Row]\nstruct Row\n x u16\n name str\n k [f32;2]\n inner Inner\n"
            "struct Inner\n s Side\n b bool\nenum Side\n 0 HOLD\n 1 SELL\n 2 BUY\n"
        )
        row = struct.pack("<HI", 7, 2) + b"ab" + struct.pack("<2fI?", 0.5, 1.5, 1, True)
        reading = codec(R).reading(there)
        value = reading.from_bytes(struct.pack("<I", 2) + row * 2)
        assert value.rows.dtype == codec(Row).dtype
        assert list(value.rows["z"]) == [9.5, 9.5]
        assert list(value.rows["x"]) == [7, 7] and value.rows["inner"]["s"].tolist() == [1, 1]
        assert value.rows["k"].tolist() == [[0.5, 1.5]] * 2
        codec(R).to_bytes(value)
        for bad, error in ((row[:-1] + b"\2", InvalidBool), (row[:-5] + bytes(4) + b"\1", InvalidVariant)):
            with pytest.raises(error) as caught:
                reading.from_bytes(struct.pack("<I", 2) + row + bad)
            assert "R.rows[1].inner." in caught.value.path
        data = struct.pack("<I", 2) + row * 2
        for i in range(len(data)):
            with pytest.raises(UnexpectedEof):
                reading.from_bytes(data[:i])

    def test_rows_with_an_array_of_no_items(self) -> None:
        class Row(Codec):
            none: FixedArray[i32, 0]
            a: u8
            b: f64
            wide: FixedArray[u32, 0]
            empty: FixedArray[u8, 0] = ()

        class R(Codec):
            rows: Annotated[NDArray[np.void], Row]

        there = Schema.parse(
            "deli 1\nroot R\nstruct R\n rows [Row]\n"
            "struct Row\n a u8\n old [i32;0]\n none [i32;0]\n wide [u16;0]\n b f64\n"
        )
        reading = codec(R).reading(there)
        for count in (0, 1, 5, 100):
            value = reading.from_bytes(
                struct.pack("<I", count) + struct.pack("<Bd", 7, 0.5) * count, strict=True
            )
            assert value.rows["a"].tolist() == [7] * count and value.rows["b"].tolist() == [0.5] * count
        with pytest.raises(UnexpectedEof):
            reading.from_bytes(struct.pack("<I", 5) + struct.pack("<Bd", 7, 0.5) * 4)

    def test_equal_rows_are_copied(self) -> None:
        class R(Codec):
            rows: Annotated[NDArray[np.void], Point]

        there = Schema.parse("deli 1\nroot R\nstruct R\n rows [P]\nstruct P\n x f32\n y f32\n")
        assert codec(R).reading(there) is codec(R)

    @pytest.mark.parametrize(
        ("here", "there"),
        [
            ("u32", "str"), ("str", "bytes"), ("bytes", "str"), ("bool", "u8"), ("u8", "bool"), ("u8", "u8?"),
            ("[u8;2]", "[u8;3]"), ("[u8;2]", "bytes"), ("bytes", "[u8;2]"), ("[str]", "str"),
            ("bytes", "[u16]"), ("(u8,u8)", "(u8,u8,u8)"), ("(u8,u8)", "[u16]"), ("[f32?]", "[f64?]"),
            ("f32", "u8"), ("[f32]", "[u8?]"),
            ("[str]", "bytes"), ("Point", "u64"), ("u64", "Point"), ("(f32,f32)", "Point"),
        ],
    )  # fmt: skip
    def test_anything_else(self, here: str, there: str) -> None:
        point = "struct Point\n x f32\n y f32\n"
        reader = writer(f"a {here}", more=point if here == "Point" else "").load()
        assert differences(reader, writer(f"a {there}", more=point if there == "Point" else "")) == [
            f"a  {here} here, {there} there"
        ]

    def test_a_struct_an_enum_and_a_sealed_type_are_three_things(self) -> None:
        texts = {
            "struct": "deli 1\nroot A\nstruct A\n",
            "enum": "deli 1\nroot A\nenum A\n 0 B\n",
            "sealed": "deli 1\nroot A\nsealed A\n 0 B\n",
        }
        for here in texts:
            for there in texts:
                if here != there:
                    found = differences(Schema.parse(texts[here]).load(), Schema.parse(texts[there]))
                    assert found == ["the message  A here, A there"]


class TestDifferences:
    def test_the_text_of_the_plan(self) -> None:
        class Telemetry(Codec):
            celsius: f32
            battery: u8

        with pytest.raises(SchemaMismatch) as caught:
            codec(Telemetry).reading(Schema.parse("deli 1\nroot Telemetry\nstruct Telemetry\n celsius f64\n"))
        assert str(caught.value) == (
            "another Telemetry is sent here:\n"
            "  celsius  f32 here, f64 there\n"
            "- battery  u8, only here and without a default"
        )

    def test_swapped_types(self) -> None:
        class Command(Codec):
            a: f32
            b: u32

        assert differences(Command, writer("a u32", "b f32")) == [
            "a  f32 here, u32 there (the types of a and b are swapped)",
            "b  u32 here, f32 there (the types of b and a are swapped)",
        ]

    def test_a_rename_is_asked_for(self) -> None:
        class New(Codec):
            a: u8
            celsius: f32

        (line,) = differences(New, writer("a u8", "temp f32"))
        assert line == (
            "- celsius  f32, only here and without a default "
            '(in its place there is temp; if renamed: field(renamed_from="temp"))'
        )

    def test_width_and_sign(self) -> None:
        class R(Codec):
            a: u16
            b: i32
            c: u32

        assert differences(R, writer("a u32", "b u32", "c i64")) == [
            "a  u16 here, u32 there (wider there)",
            "b  i32 here, u32 there (unsigned there)",
            "c  u32 here, i64 there (wider there)",
        ]

    def test_width_and_sign_within_other_types(self) -> None:
        class R(Codec):
            a: list[u16]
            b: list[i32 | None]
            c: FixedArray[u8, 3]
            d: tuple[u8, i16]
            e: tuple[u8, i16]
            f: f32
            g: list[u8]

        assert differences(
            R, writer("a [u32]", "b [u32?]", "c [i8;3]", "d (u8,i32)", "e (i16,i32)", "f f64", "g [u16]")
        ) == [
            "a  [u16] here, [u32] there (wider there)",
            "b  [i32?] here, [u32?] there (unsigned there)",
            "c  [u8;3] here, [i8;3] there (signed there)",
            "d  (u8,i16) here, (u8,i32) there (wider there)",
            "e  (u8,i16) here, (i16,i32) there",
            "f  f32 here, f64 there",  # as the plan has it
            "g  bytes here, [u16] there",
        ]

    def test_a_variant_that_was_inserted_before_one_that_differs(self) -> None:
        class Base(Codec, sealed=True):
            pass

        class A(Base):
            x: u8

        class B(Base):
            x: u8

        def sent(*variants: str) -> Schema:
            lines = "".join(
                f" {i} {name}\n  x {tp}\n" for i, (name, tp) in enumerate(v.split() for v in variants)
            )
            return Schema.parse(f"deli 1\nroot Base\nsealed Base\n{lines}")

        assert differences(Base, sent("A str", "New u8", "B str")) == [
            "A.x  u8 here, str there",
            "B.x  u8 here, str there (variant 2 there, behind New, and 1 here)",
        ]
        assert differences(Base, sent("B str", "A u8", "New u8")) == ["B.x  u8 here, str there"]
        # This is no difference by itself: variants have names.
        value = codec(Base).reading(sent("A u8", "New u8", "B u8")).from_bytes(b"\2\0\0\0\7")
        assert value == B(7)

    def test_all_of_them_with_their_places(self) -> None:
        class Inner(Codec):
            x: u8
            y: str

        class Base(Codec, sealed=True):
            pass

        class A(Base):
            inner: list[Inner]
            n: u8

        there = Schema.parse(
            "deli 1\nroot Base\nsealed Base\n 0 A\n  inner [Inner]\n  n str\nstruct Inner\n x bool\n"
        )
        assert differences(Base, there) == [
            "A.n          u8 here, str there",
            "A.inner[].x  u8 here, bool there",
            "- A.inner[].y  str, only here and without a default",
        ]

    def test_however_many_they_are_all_are_listed(self) -> None:
        fields = {f"field_number_{i}": u16 for i in range(2000)}
        reader: Any = type(Codec)("R", (Codec,), {"__module__": __name__, "__annotations__": fields})
        found = differences(reader, writer(*(f"{name} u8?" for name in fields)))
        assert len(found) == 2000
        assert found[-1] == "field_number_1999  u16 here, u8? there"
        assert found[7] == "field_number_7     u16 here, u8? there"

    def test_what_a_short_text_makes_of_a_recursive_type_is_bounded(self) -> None:
        """Each struct of a chain is one more difference, at the end of a longer way."""

        class Chain(Codec):
            next: Chain | None
            value: u8

        def chain(n: int) -> Schema:
            links = "".join(f"struct C{i}\n next C{(i + 1) % n}?\n value str\n" for i in range(n))
            return Schema.parse(f"deli 1\nroot C0\n{links}")

        found = differences(Chain, chain(60))
        way = "next." * 59
        assert len(found) == 60
        assert found[2] == f"{'next.next.value':240}  u8 here, str there"
        assert found[-1] == f"{way[:100]}...{(way + 'value')[-137:]}  u8 here, str there"
        found = differences(Chain, chain(4000))
        assert found[-1] == f"and {4000 - len(found) + 1} more"
        assert 1000 < len(found) < 1200 and sum(map(len, found)) < 300_000

    def test_elements_without_bytes(self) -> None:
        """Sixteen bytes would make 65,536 values of any size."""

        class Full(Codec):
            x: u8 = 1

        class R(Codec):
            a: list[Full]

        assert differences(R, writer("a [E]", more="struct E\n")) == [
            "a  elements without bytes there, and other ones here"
        ]

    def test_what_is_nested_too_deep(self) -> None:
        brackets = 10
        more = f"struct N\n x {'[' * brackets}N{']' * brackets}\n"
        (line,) = differences(Point, writer("x f32", "y f32", "n N", more=more))
        assert "too deep" in line

    def test_a_default_that_a_row_cannot_hold(self) -> None:
        class Row(Codec):
            x: u8
            y: u8 = 300

        class R(Codec):
            rows: Annotated[NDArray[np.void], Row]

        (line,) = differences(R, writer("rows [Row]", more="struct Row\n x u8\n"))
        assert line.startswith("y  its default does not fit")


class TestCache:
    def test_a_reading_is_made_once_for_each_schema(self) -> None:
        first = codec(Point).reading(writer("y f32", "x f32"))
        assert codec(Point).reading(writer("y f32", "x f32")) is first
        assert first.reading(writer("y f32", "x f32")) is first
        assert first.reading(codec(Point).schema) is codec(Point)

    def test_the_last_64_are_kept(self) -> None:
        class P(Codec):
            x: f32

        first = codec(P).reading(writer("a0 u8", "x f32"))
        for i in range(1, 64):
            codec(P).reading(writer(f"a{i} u8", "x f32"))
        assert codec(P).reading(writer("a0 u8", "x f32")) is first
        for i in range(64, 127):
            codec(P).reading(writer(f"a{i} u8", "x f32"))
        assert codec(P).reading(writer("a0 u8", "x f32")) is first
        for i in range(127, 191):
            codec(P).reading(writer(f"a{i} u8", "x f32"))
        assert codec(P).reading(writer("a0 u8", "x f32")) is not first

    def test_a_mebibyte_of_them_is_kept(self) -> None:
        """Their texts, and what is remembered of those that cannot be read."""

        class P(Codec):
            x: f32

        def text(n: int, tp: str) -> Schema:
            return writer(f"x {tp}", *(f"n{n}_{'y' * 100}{i} u8" for i in range(2000)))

        first = codec(P).reading(text(0, "f32"))
        assert codec(P).reading(text(0, "f32")) is first
        for n in range(1, 4):
            codec(P).reading(text(n, "f32"))
        assert codec(P).reading(text(0, "f32")) is first  # four of them are 900,000 characters
        for n in range(4, 7):
            assert differences(P, text(n, "str")) == ["x  f32 here, str there"]
        assert codec(P).reading(text(6, "f32")) is not first
        assert codec(P).reading(text(0, "f32")) is not first

    def test_a_mismatch_is_kept_too(self) -> None:
        there = writer("x str", "y f32")
        assert differences(Point, there) == differences(Point, there)

    def test_it_reads_and_its_codec_writes(self) -> None:
        reading = codec(Point).reading(writer("y f32", "x f32"))
        assert reading.to_bytes(Point(1, 2)) == Point(1, 2).to_bytes()
        assert reading.schema is codec(Point).schema and reading.type is Point
        assert repr(reading).startswith("codec(Point).reading(<Schema W ")
        assert pickle.loads(pickle.dumps(reading)) is reading
        with pytest.raises(EncodeError):
            reading.to_bytes(1)
        with pytest.raises(TypeError):
            codec(Point).reading("deli 1\n")  # type: ignore[arg-type]


class TestMemory:
    def test_nothing_leaks(self) -> None:
        """Numbers that are written over, defaults, what is skipped, faults in the midst."""

        class R(Codec):
            big: u64
            ratio: f64
            small: u32
            missing: f32 = 2.5
            many: list[f64] = field(default_factory=list)
            text: str = field(default="a default")

        there = writer("skipped [str]", "small u8", "ratio i32", "big u64")
        reading = codec(R).reading(there)
        data = b"\1\0\0\0\2\0\0\0\xc3\xa9" + struct.pack("<BiQ", 200, -70000, 2**63)
        counted = "a default"

        def once() -> None:
            kept = [reading.from_bytes(data) for _ in range(5)]
            assert kept[0] == R(2**63, -70000.0, 200)
            for i in range(len(data)):
                with pytest.raises(UnexpectedEof):
                    reading.from_bytes(data[:i])

        for _ in range(20):
            once()
        gc.collect()
        before = sys.getallocatedblocks(), sys.getrefcount(counted)
        for _ in range(50):
            once()
        gc.collect()
        assert sys.getallocatedblocks() - before[0] < 100
        assert sys.getrefcount(counted) - before[1] < 5

    def test_post_init_and_factories_may_fail(self) -> None:
        class Refused(Exception):
            pass

        def refuse() -> Any:
            raise Refused

        class R(Codec):
            a: u8
            b: list[u8] = field(default_factory=refuse)

        class Post(Codec):
            a: u16

            def __post_init__(self) -> None:
                raise Refused

        with pytest.raises(Refused):
            codec(R).reading(writer("a u8")).from_bytes(b"\1")
        with pytest.raises(DecodeError) as caught:
            codec(Post).reading(writer("a u8")).from_bytes(b"\1")
        assert isinstance(caught.value.__cause__, Refused)


class TestFieldOption:
    def test_renamed_from_is_a_name_or_names(self) -> None:
        for wrong in (1, ["a"], ("a", 1), ("",)):
            with pytest.raises(TypeError, match="renamed_from"):
                field(renamed_from=wrong)  # type: ignore[call-overload]
