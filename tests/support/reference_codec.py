"""A second implementation of the wire format, in plain Python: the oracle for `_fastcodec`.

A type is a tuple, such as ``("list", ("u8",))``. It can make the Python annotation, so that the oracle shares
no code with the library. Encoding and decoding follow docs/wire.md.
"""

from __future__ import annotations

import enum
import itertools
import struct
from typing import Any, Literal

from deli_com import Array, Codec, FixedArray, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

Type = tuple[Any, ...]

NUMBERS = {
    "u8": (u8, "<B"),
    "u16": (u16, "<H"),
    "u32": (u32, "<I"),
    "u64": (u64, "<Q"),
    "i8": (i8, "<b"),
    "i16": (i16, "<h"),
    "i32": (i32, "<i"),
    "i64": (i64, "<q"),
    "f32": (f32, "<f"),
    "f64": (f64, "<d"),
}
MAX_EMPTY = 65536

_count = itertools.count()
_made: dict[Type, Any] = {}


class Malformed(Exception):
    """The bytes are no value; `kind` is the name of the error class expected."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def annotation(tp: Type) -> Any:
    """The Python annotation of a type; classes are made once for each type."""
    match tp:
        case (("bool" | "str" | "bytes") as name,):
            return {"bool": bool, "str": str, "bytes": bytes}[name]
        case (name,) if name in NUMBERS:
            return NUMBERS[name][0]
        case ("list", item):
            return list[annotation(item)]  # type: ignore[misc]
        case ("tuple", item):
            return tuple[annotation(item), ...]  # type: ignore[misc]
        case ("product", *items):
            return tuple[tuple(annotation(item) for item in items)] if items else tuple[()]
        case ("option", item):
            return annotation(item) | None
        case ("fixed", item, count):
            return FixedArray[annotation(item), Literal[count]]
        case ("array", (name,)):
            return Array[NUMBERS[name][0]]
    if tp not in _made:
        _made[tp] = _make(tp)
    return _made[tp]


def _make(tp: Type) -> Any:
    name = f"T{next(_count)}"
    match tp:
        case ("enum", count):
            return enum.Enum(name, [f"M{i}" for i in range(count)])
        case ("struct", *fields):
            return type(Codec)(name, (Codec,), _body(fields))
        case ("sealed", *variants):
            base = type(Codec)(name, (Codec,), {"__module__": __name__}, sealed=True)
            for i, fields in enumerate(variants):
                type(Codec)(f"V{i}", (base,), _body(fields))
            return base
    raise AssertionError(tp)


def _body(fields: Any) -> dict[str, Any]:
    return {
        "__module__": __name__,
        "__annotations__": {f"f{i}": annotation(item) for i, item in enumerate(fields)},
    }


def variants(cls: Any) -> list[Any]:
    return cls.__subclasses__()  # type: ignore[no-any-return]


def min_size(tp: Type) -> int:
    match tp:
        case ("struct" | "product", *items):
            return sum(min_size(item) for item in items)
        case ("sealed", *choices):
            return 4 + min(sum(min_size(item) for item in fields) for fields in choices)
        case ("fixed", item, count):
            return min_size(item) * count
        case (("option" | "bool"), *_):
            return 1
        case (name,) if name in NUMBERS:
            return struct.calcsize(NUMBERS[name][1])
        case _:
            return 4


def encode(tp: Type, value: Any) -> bytes:
    """The bytes of a value that is known to fit."""
    match tp:
        case ("bool",):
            return b"\1" if value else b"\0"
        case ("str",):
            raw = value.encode()
            return struct.pack("<I", len(raw)) + raw
        case ("bytes",):
            return struct.pack("<I", len(value)) + bytes(value)
        case (name,) if name in NUMBERS:
            return struct.pack(NUMBERS[name][1], value)
        case ("list" | "tuple" | "array", item):
            return struct.pack("<I", len(value)) + b"".join(encode(item, each) for each in value)
        case ("product", *items):
            return b"".join(encode(item, each) for item, each in zip(items, value, strict=True))
        case ("fixed", item, _):
            return b"".join(encode(item, each) for each in value)
        case ("option", item):
            return b"\0" if value is None else b"\1" + encode(item, value)
        case ("enum", _):
            return struct.pack("<I", list(type(value)).index(value))
        case ("struct", *fields):
            return b"".join(encode(item, getattr(value, f"f{i}")) for i, item in enumerate(fields))
        case ("sealed", *choices):
            index = variants(annotation(tp)).index(type(value))
            return struct.pack("<I", index) + encode(("struct", *choices[index]), value)
    raise AssertionError(tp)


def decode(tp: Type, data: bytes, pos: int = 0) -> tuple[Any, int]:
    """The value at `pos` and the position behind it; `Malformed` if there is none."""
    match tp:
        case ("bool",):
            raw, pos = _take(data, pos, 1)
            if raw[0] > 1:
                raise Malformed("InvalidBool")
            return raw == b"\1", pos
        case ("str",):
            raw, pos = _take_sized(data, pos)
            try:
                return raw.decode(), pos
            except UnicodeDecodeError:
                raise Malformed("InvalidUtf8") from None
        case ("bytes",):
            return _take_sized(data, pos)
        case (name,) if name in NUMBERS:
            form = NUMBERS[name][1]
            raw, pos = _take(data, pos, struct.calcsize(form))
            return struct.unpack(form, raw)[0], pos
        case ("list" | "tuple" | "array", item):
            raw, pos = _take(data, pos, 4)
            count = int.from_bytes(raw, "little")
            least = min_size(item)
            if least == 0 and count > MAX_EMPTY:
                raise Malformed("DecodeError")
            if least and count > (len(data) - pos) // least:
                raise Malformed("UnexpectedEof")
            values, pos = _several([item] * count, data, pos)
            return (tuple(values) if tp[0] == "tuple" else values), pos
        case ("product", *items):
            values, pos = _several(items, data, pos)
            return tuple(values), pos
        case ("fixed", item, count):
            if (len(data) - pos) < min_size(tp):
                raise Malformed("UnexpectedEof")
            values, pos = _several([item] * count, data, pos)
            return tuple(values), pos
        case ("option", item):
            raw, pos = _take(data, pos, 1)
            if raw[0] > 1:
                raise Malformed("InvalidBool")
            return decode(item, data, pos) if raw[0] else (None, pos)
        case ("enum", count):
            raw, pos = _take(data, pos, 4)
            index = int.from_bytes(raw, "little")
            if index >= count:
                raise Malformed("InvalidVariant")
            return list(annotation(tp))[index], pos
        case ("struct", *fields):
            values, pos = _several(fields, data, pos)
            return annotation(tp)(*values), pos
        case ("sealed", *choices):
            raw, pos = _take(data, pos, 4)
            index = int.from_bytes(raw, "little")
            if index >= len(choices):
                raise Malformed("InvalidVariant")
            values, pos = _several(choices[index], data, pos)
            return variants(annotation(tp))[index](*values), pos
    raise AssertionError(tp)


def _take(data: bytes, pos: int, size: int) -> tuple[bytes, int]:
    if len(data) - pos < size:
        raise Malformed("UnexpectedEof")
    return data[pos : pos + size], pos + size


def _take_sized(data: bytes, pos: int) -> tuple[bytes, int]:
    raw, pos = _take(data, pos, 4)
    return _take(data, pos, int.from_bytes(raw, "little"))


def _several(items: Any, data: bytes, pos: int) -> tuple[list[Any], int]:
    values = []
    for item in items:
        value, pos = decode(item, data, pos)
        values.append(value)
    return values, pos
