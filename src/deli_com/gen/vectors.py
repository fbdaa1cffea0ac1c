"""Test vectors of a schema: bytes with the values that they encode, to test programs in other languages."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from deli_com.coding.registry import codec
from deli_com.errors import DecodeError
from deli_com.schema.plain_data import plain_data
from deli_com.schema.schema import Schema
from deli_com.schema.tree import Enum, Fixed, List, Option, Product, Ref, Scalar, Sealed, Struct, Type

__all__ = ["vectors"]

_COUNT = 20  # values
_DEEP = 6  # from this depth on, lists are empty and options absent
_TEXTS = ("", "a", "héllo", "中文", "😀\0", "\ufeffx", "a" * 30)


def vectors(schema: Schema) -> str:
    """Make test vectors as lines of JSON. Equal schemas give equal lines.

    Returns
    -------
    str
        ``{"type": …, "hex": …, "value": …}``: the root, bytes, and the value as `plain_data` gives it, with
        `bytes` as hexadecimal text. ``{"type": …, "hex": …, "error": …, "offset": …}``: invalid bytes, the
        class of the error, and its offset.

    Raises
    ------
    ValueError
        No classes can be made from the schema.
    """
    made = _Maker(schema)
    reading = codec(schema.load())
    lines = []
    for _ in range(_COUNT):
        data = made.value(schema.tree.root, 0)
        lines.append(
            {"type": schema.name, "hex": data.hex(), "value": _shown(plain_data(reading.from_bytes(data)))}
        )
        wrong = made.damaged(data)
        try:
            reading.from_bytes(wrong)
        except DecodeError as error:
            lines.append(
                {
                    "type": schema.name,
                    "hex": wrong.hex(),
                    "error": type(error).__name__,
                    "offset": error.offset,
                }
            )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


class _Maker:
    def __init__(self, schema: Schema) -> None:
        self.rng = random.Random(schema.hash)
        self.by_name = schema.tree.by_name

    def value(self, tp: Type, depth: int) -> bytes:
        rng = self.rng
        match tp:
            case Scalar("bool"):
                return bytes([rng.randrange(2)])
            case Scalar("str"):
                return _counted(rng.choice(_TEXTS).encode())
            case Scalar("bytes"):
                return _counted(rng.randbytes(rng.choice([0, 1, 5])))
            case Scalar("f32" | "f64" as name):
                number = rng.choice([0.0, -0.0, 1.5, -0.25, 3e38, 1e-40, rng.uniform(-1000, 1000)])
                return struct.pack("<f" if name == "f32" else "<d", number)
            case Scalar(name):
                size = int(name[1:]) // 8
                return rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
            case Option(item):
                there = depth < _DEEP and rng.random() < 0.6
                return b"\1" + self.value(item, depth + 1) if there else b"\0"
            case List(item):
                count = rng.choice([0, 1, 2, 3]) if depth < _DEEP else 0
                return struct.pack("<I", count) + b"".join(self.value(item, depth + 1) for _ in range(count))
            case Fixed(item, count):
                return b"".join(self.value(item, depth + 1) for _ in range(count))
            case Product(items):
                return b"".join(self.value(item, depth + 1) for item in items)
            case Ref(name):
                return self.definition(self.by_name[name], depth + 1)

    def definition(self, each: Struct | Sealed | Enum, depth: int) -> bytes:
        if isinstance(each, Enum):
            return struct.pack("<I", self.rng.randrange(len(each.members)))
        if isinstance(each, Struct):
            return b"".join(self.value(field.type, depth) for field in each.fields)
        index = self.rng.randrange(len(each.variants))
        if depth > _DEEP:  # a variant that contains no other, so that values are finite
            flat = [sum(isinstance(field.type, Ref) for field in variant.fields) for variant in each.variants]
            index = flat.index(min(flat))
        fields = each.variants[index].fields
        return struct.pack("<I", index) + b"".join(self.value(field.type, depth) for field in fields)

    def damaged(self, data: bytes) -> bytes:
        rng = self.rng
        if not data or rng.random() < 0.5:
            return data[: rng.randint(0, max(len(data) - 1, 0))]
        at = rng.randrange(len(data))
        return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [*map(_shown, value)]
    return {name: _shown(each) for name, each in value.items()} if isinstance(value, dict) else value
