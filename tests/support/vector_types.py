"""The types of tests/vectors, as the Rust crates that printed them declare them."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import Any

from deli_com import Codec, TypeCodec, codec, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

HERE = Path(__file__).parent.parent / "vectors"


class Point(Codec):
    x: f32
    y: f32


class Empty(Codec):
    pass


class Pair(Codec):
    first: u8
    second: i64


class Named(Codec):
    id: u32
    label: str
    active: bool


class Nested(Codec):
    origin: Point
    name: str


class Frame(Codec):
    width: u32
    height: u32
    data: bytes


class Path_(Codec):
    points: list[Point]
    tags: list[str]
    grid: list[list[u16]]


class Color(enum.Enum):
    Red = "r"
    Green = "g"
    Blue = "b"


class Shape(Codec, sealed=True):
    pass


class Circle(Shape):
    radius: f32


class Rectangle(Shape):
    width: f32
    height: f32


class Dot(Shape):
    pass


class Value(Codec, sealed=True):
    pass


class Int(Value):
    value: i64


class Float(Value):
    value: f64


class Text(Value):
    value: str


class Nothing(Value):
    pass


class Mixed(Codec, sealed=True):
    pass


class Two(Mixed):
    first: u8
    second: str


class Inner(Mixed):
    shape: Shape


class Many(Mixed):
    values: list[Value]


class Drawing(Codec):
    shape: Shape
    color: Color
    label: str


class Language(enum.Enum):
    A = 0
    B = 1
    C = 2
    DutchNetherlands = 3


class Settings(Codec):
    language: Language


class ToMonitor(Codec, sealed=True):
    pass


class VideoJpeg(ToMonitor):
    data: bytes


class SettingsMessage(ToMonitor):
    language: Language


TYPES: dict[str, Any] = {
    "bool": bool,
    "u8": u8,
    "u16": u16,
    "u32": u32,
    "u64": u64,
    "i8": i8,
    "i16": i16,
    "i32": i32,
    "i64": i64,
    "f32": f32,
    "f64": f64,
    "String": str,
    "Vec<u8>": bytes,
    "Vec<u32>": list[u32],
    "Vec<u64>": list[u64],
    "Vec<f32>": list[f32],
    "Vec<f64>": list[f64],
    "Vec<bool>": list[bool],
    "Vec<String>": list[str],
    "Vec<Vec<u16>>": list[list[u16]],
    "Vec<Empty>": list[Empty],
    "Path": Path_,
    **{
        cls.__name__: cls
        for cls in (Point, Empty, Pair, Named, Nested, Frame, Color, Shape, Value, Mixed, Drawing, ToMonitor)
    },
}
_VARIANTS: dict[str, Any] = {
    cls.__name__: cls for cls in (Circle, Rectangle, Int, Float, Text, Nothing, Two, Inner, Many, VideoJpeg)
} | {"Settings": SettingsMessage, "Point": Dot}
_SEALED = {"Shape", "Value", "Mixed", "ToMonitor"}
_FIELDS: dict[str, tuple[str, ...]] = {
    "Nested": ("Point", "String"),
    "Path": ("Vec<Point>", "Vec<String>", "Vec<Vec<u16>>"),
    "Drawing": ("Shape", "Color", "String"),
    "Frame": ("u32", "u32", "Vec<u8>"),
    "Inner": ("Shape",),
    "Many": ("Vec<Value>",),
    "VideoJpeg": ("Vec<u8>",),
    "Settings": ("Language",),
}


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


def codec_of(name: str) -> TypeCodec[Any]:
    return codec(TYPES[name])


def value_of(name: str, raw: Any) -> Any:
    """The Python value of a value as the vectors print it."""
    if name in ("Color", "Language"):
        return (Color if name == "Color" else Language)[raw]
    if name == "Vec<u8>":
        return bytes(raw)
    if name.startswith("Vec<"):
        return [value_of(name[4:-1], item) for item in raw]
    if name in _SEALED:
        variant, content = (raw, ()) if isinstance(raw, str) else next(iter(raw.items()))
        return _build(_VARIANTS[variant], _FIELDS.get(variant), content)
    if name in ("f32", "f64"):
        return float(raw)
    if name in TYPES and isinstance(TYPES[name], type) and issubclass(TYPES[name], Codec):
        return _build(TYPES[name], _FIELDS.get(name), raw)
    return raw


def _build(cls: Any, fields: tuple[str, ...] | None, content: Any) -> Any:
    items = list(content.values()) if isinstance(content, dict) else list(content)
    return cls(*(value_of(fields[i] if fields else "", item) for i, item in enumerate(items)))


def same(a: Any, b: Any) -> bool:
    """Equality under which a NaN equals a NaN and 0.0 is not -0.0."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)
