"""The table of docs/wire.md section 9: each row, both ways, inside everything that can contain a struct.

A row is a struct of the writer, its bytes, and a struct of the reader, with the resulting value or the text
of the difference. It is tested directly, and in a struct, list, tuple, option, fixed array, sealed variant
and structured array. A field after it is read correctly only if every byte before it was.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import (
    Codec,
    FixedArray,
    InvalidVariant,
    Schema,
    SchemaMismatch,
    UnexpectedEof,
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


class Side(enum.Enum):
    BUY = 0
    SELL = 1


SIDE = "enum Side\n 0 BUY\n 1 SELL\n"


@dataclass(frozen=True)
class Row:
    """What a writer has, and what a reader makes of it.

    Attributes
    ----------
    there : str
        Fields of the writer's struct, with commas.
    here : dict
        The reader's: annotations, or pairs of an annotation and a default.
    data : bytes
    value : dict or str
        The reader's fields; the words of a difference, or the name of an error that the bytes are.
    more : str
        Further definitions of the writer.
    columns : bool
        The reader's fields all have a fixed width.
    """

    there: str
    here: Mapping[str, Any]
    data: bytes
    value: Mapping[str, Any] | str
    more: str = ""
    columns: bool = True


def renamed(kind: Any, old: Any) -> tuple[Any, Any]:
    return kind, field(renamed_from=old)


ROWS = {
    "same": Row("a u32,b f32", {"a": u32, "b": f32}, struct.pack("<If", 7, 0.5), {"a": 7, "b": 0.5}),
    "a rename": Row("temp f32", {"celsius": renamed(f32, "temp")}, struct.pack("<f", 0.5), {"celsius": 0.5}),
    "a rename, back": Row(
        "celsius f32",
        {"temp": f32},
        b"",
        "temp  f32, only here and without a default "
        '(in its place there is celsius; if renamed: field(renamed_from="celsius"))',
    ),
    "another order": Row("a u32,b f32", {"b": f32, "a": u32}, struct.pack("<If", 7, 0.5), {"a": 7, "b": 0.5}),
    "another order, back": Row(
        "b f32,a u32", {"a": u32, "b": f32}, struct.pack("<fI", 0.5, 7), {"a": 7, "b": 0.5}
    ),
    "a field more there": Row(
        "a u8,x u64,b u8", {"a": u8, "b": u8}, bytes([1, *range(8), 2]), {"a": 1, "b": 2}
    ),
    "text more there": Row("x str,a u8", {"a": u8}, b"\2\0\0\0hi\7", {"a": 7}),
    "a list more there": Row("x [[u16]?],a u8", {"a": u8}, b"\2\0\0\0\0\1\1\0\0\0\5\0\7", {"a": 7}),
    "a default": Row("a u8", {"a": u8, "b": (u16, 9)}, b"\1", {"a": 1, "b": 9}),
    "an option that is not sent": Row(
        "a u8", {"a": u8, "b": u16 | None}, b"\1", {"a": 1, "b": None}, columns=False
    ),
    "a list that is not sent": Row(
        "a u8", {"a": u8, "b": list[f32]}, b"\1", {"a": 1, "b": []}, columns=False
    ),
    "bytes that are not sent": Row("a u8", {"a": u8, "b": bytes}, b"\1", {"a": 1, "b": b""}, columns=False),
    "text that is not sent": Row(
        "a u8", {"a": u8, "b": str}, b"", "b  str, only here and without a default", columns=False
    ),
    "a fixed array that is not sent": Row(
        "a u8", {"a": u8, "b": FixedArray[u8, 2]}, b"", "b  [u8;2], only here and without a default"
    ),
    "no default": Row("a u8", {"a": u8, "b": u16}, b"", "b  u16, only here and without a default"),
    "wider": Row(
        "a u8,b i8,c u16,d f32,e i32,f u32",
        {"a": u16, "b": i32, "c": i32, "d": f64, "e": f64, "f": u64},
        struct.pack("<BbHfiI", 255, -128, 65535, 0.5, -(2**31), 2**32 - 1),
        {"a": 255, "b": -128, "c": 65535, "d": 0.5, "e": -(2.0**31), "f": 2**32 - 1},
    ),
    "wider, back": Row("a u16", {"a": u8}, b"", "a  u8 here, u16 there (wider there)"),
    "signed, back": Row("a i16", {"a": u16}, b"", "a  u16 here, i16 there (signed there)"),
    "unsigned of the same width": Row("a u16", {"a": i16}, b"", "a  i16 here, u16 there (unsigned there)"),
    "a float, back": Row("a f64", {"a": f32}, b"", "a  f32 here, f64 there"),
    "an integer that no float holds": Row("a u64", {"a": f64}, b"", "a  f64 here, u64 there"),
    "present": Row("a u8", {"a": u16 | None}, b"\7", {"a": 7}, columns=False),
    "present, back": Row("a u8?", {"a": u8}, b"", "a  u8 here, u8? there"),
    "members": Row(
        "a Side", {"a": Side}, b"\2\0\0\0", {"a": Side.BUY}, more="enum Side\n 0 SELL\n 1 HOLD\n 2 BUY\n"
    ),
    "members, one more": Row(
        "a Side", {"a": Side}, b"\1\0\0\0", "InvalidVariant", more="enum Side\n 0 SELL\n 1 HOLD\n 2 BUY\n"
    ),
    "members, back": Row(
        "a Side", {"a": Side}, b"\1\0\0\0", {"a": Side.SELL}, more="enum Side\n 0 BUY\n 1 SELL\n"
    ),
    "anything else": Row("a bool", {"a": u8}, b"", "a  u8 here, bool there"),
    "two things at once": Row(
        "b u8,x u16,a u8", {"a": u16, "b": u8, "c": (u8, 3)}, b"\1\0\0\2", {"a": 2, "b": 1, "c": 3}
    ),
}


def made(name: str, fields: Mapping[str, Any], base: Any = Codec, **keywords: Any) -> Any:
    annotations = {key: kind[0] if isinstance(kind, tuple) else kind for key, kind in fields.items()}
    defaults = {key: kind[1] for key, kind in fields.items() if isinstance(kind, tuple)}
    body = {"__module__": __name__, "__qualname__": name, "__annotations__": annotations, **defaults}
    return type(Codec)(name, (base,), body, **keywords)


def sealed(inner: Any) -> Any:
    base = made("S", {}, sealed=True)
    made("Other", {"n": u8}, base)
    made("V", {"n": u8, "inner": inner}, base)
    return base


def values_of(found: Any) -> list[Mapping[str, Any]]:
    if isinstance(found, np.ndarray):
        return [{name: row[name] for name in row.dtype.names} for row in found]
    items = found if isinstance(found, (list, tuple)) else [found]
    items = [item.inner if type(item).__name__ in ("V", "Outer") else item for item in items]
    return [
        {name: getattr(item, name) for name in type(item).__match_args__}
        for item in items
        if not isinstance(item, int)
    ]


@dataclass(frozen=True)
class Place:
    """Something a struct stands in.

    Attributes
    ----------
    type : str
        Of the field, of the struct ``Row``.
    make : callable
        The reader's annotation, of its struct.
    data : callable
        Bytes of the field, of those of the struct.
    path : str
        Of a difference.
    count : int
        How many of the struct `data` has.
    more : str
        The definition that the field refers to, if it is another.
    """

    type: str
    make: Callable[[Any], Any]
    data: Callable[[bytes], bytes]
    path: str
    count: int = 1
    more: str = ""


PLACES = {
    "itself": Place("Row", lambda inner: inner, lambda data: data, "f."),
    "struct": Place(
        "Outer",
        lambda inner: made("Outer", {"n": u8, "inner": inner}),
        lambda data: b"\5" + data,
        "f.inner.",
        more="struct Outer\n n u8\n inner Row\n",
    ),
    "list": Place("[Row]", lambda inner: list[inner], lambda data: b"\3\0\0\0" + data * 3, "f[].", 3),
    "tuple": Place("[Row]", lambda inner: tuple[inner, ...], lambda data: b"\3\0\0\0" + data * 3, "f[].", 3),
    "pair": Place("(u8,Row)", lambda inner: tuple[u8, inner], lambda data: b"\5" + data, "f[1]."),
    "option": Place("Row?", lambda inner: inner | None, lambda data: b"\1" + data, "f."),
    "list of options": Place(
        "[Row?]", lambda inner: list[inner | None], lambda data: b"\2\0\0\0" + (b"\1" + data) * 2, "f[].", 2
    ),
    "fixed array": Place("[Row;2]", lambda inner: FixedArray[inner, 2], lambda data: data * 2, "f[].", 2),
    "sealed variant": Place(
        "S",
        sealed,
        lambda data: b"\2\0\0\0\5" + data,
        "f.V.inner.",
        more="sealed S\n 0 New\n  x str\n 1 Other\n  n u8\n 2 V\n  n u8\n  inner Row\n",
    ),
    "structured array": Place(
        "[Row]",
        lambda inner: Annotated[NDArray[np.void], inner],
        lambda data: b"\3\0\0\0" + data * 3,
        "f[].",
        3,
    ),
}


CASES = [
    (name, place)
    for name, row in ROWS.items()
    for place in PLACES
    if row.columns or place != "structured array"  # whose rows have a fixed width
]


@pytest.mark.parametrize(("name", "place"), CASES)
def test_a_row_of_the_table(name: str, place: str) -> None:
    row, where = ROWS[name], PLACES[place]
    fields = "".join(f" {item}\n" for item in row.there.split(","))
    # The struct has another name at the writer. Names of structs do not matter.
    text = f"deli 1\nroot W\nstruct W\n f {where.type}\n last u16\n{where.more}struct Row\n{fields}{row.more}"
    writer = Schema.parse(text)
    reader = made("Message", {"f": where.make(made("OtherName", row.here)), "last": u16})
    if isinstance(row.value, str) and row.value != "InvalidVariant":
        with pytest.raises(SchemaMismatch) as caught:
            codec(reader).reading(writer)
        (line,) = caught.value.differences
        mark = "- " if "only here" in row.value else ""
        assert line == f"{mark}{where.path}{row.value}"
        return
    reading = codec(reader).reading(writer)
    data = where.data(row.data) + b"\x34\x12"
    if row.value == "InvalidVariant":
        with pytest.raises(InvalidVariant) as error:
            reading.from_bytes(data)
        assert type(error.value) is InvalidVariant and error.value.path.endswith(".a")
        return
    found = reading.from_bytes(data, strict=True)
    assert found.last == 0x1234
    expected = dict(row.value)  # type: ignore[arg-type]
    if place == "structured array" and isinstance(expected.get("a"), Side):
        expected["a"] = [*Side].index(expected["a"])
    assert values_of(found.f) == [expected] * where.count
    for size in range(len(data)):
        with pytest.raises(UnexpectedEof):
            reading.from_bytes(data[:size])
    own = name == "same" or name == "a rename" or name == "members, back"
    assert (reading is codec(reader)) == (own and place != "sealed variant")


def test_a_variant_that_the_reader_lacks_in_everything_it_can_stand_in() -> None:
    """As a message it is left out and counted; in a field it is an error, wherever that is."""
    for where in PLACES.values():
        if "Row" not in where.type or where.make is PLACES["structured array"].make:
            continue
        base = sealed(made("Inner", {"a": u8}))
        writer = Schema.parse(
            f"deli 1\nroot W\nstruct W\n f {where.type.replace('Row', 'S')}\n"
            "sealed S\n 0 New\n  x str\n 1 V\n  n u8\n  inner Inner\nstruct Inner\n a u8\n"
        )
        reading = codec(made("M", {"f": where.make(base)})).reading(writer)
        with pytest.raises(InvalidVariant) as caught:
            reading.from_bytes(where.data(b"\0\0\0\0\1\0\0\0x"))
        assert type(caught.value) is InvalidVariant and caught.value.index == 0
        reading.from_bytes(where.data(b"\1\0\0\0\5\7"), strict=True)
