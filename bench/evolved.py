"""Two versions of some types: what resolving costs compared with plain decoding.

This is a separate module because making so many classes takes a different number of instructions each time.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from deli_com import Codec, codec, f32, f64, u16, u32, u64
from values import CASES


class Version1:
    """The old version, which writers send."""

    class Ordered(Codec):
        stamp: u64
        x: f64
        y: f64
        count: u32
        good: bool

    class Skipped(Codec):
        stamp: u64
        note: str
        x: f64
        old: u32
        older: f32
        y: f64
        trace: list[f32]

    class Defaulted(Codec):
        stamp: u64
        x: f64
        y: f64
        count: u32

    class Widened(Codec):
        stamp: u32
        x: f32
        y: f32
        count: u16
        trace: list[f32]

    class Item(Codec):
        x: f32
        y: f32
        label: str

    class Nested(Codec):
        stamp: u64
        items: list[Version1.Item]

    class Shape(Codec, sealed=True): ...

    class Circle(Shape):
        x: f32
        r: f32

    class Square(Shape):
        x: f32
        side: f32

    class Sealed(Codec):
        shapes: list[Version1.Shape]

    class Point(Codec):
        x: f32
        y: f32
        z: f32

    class Rows(Codec):
        points: Annotated[NDArray[np.void], Version1.Point]


class Version2:
    """The new version, into which readers decode it."""

    class Ordered(Codec):
        good: bool
        count: u32
        y: f64
        x: f64
        stamp: u64

    class Skipped(Codec):
        stamp: u64
        x: f64
        y: f64

    class Defaulted(Codec):
        stamp: u64
        x: f64
        y: f64
        count: u32
        good: bool = True
        note: str | None = None

    class Widened(Codec):
        stamp: u64
        x: f64
        y: f64
        count: u32
        trace: list[f64]

    class Item(Codec):
        label: str
        y: f32
        x: f32

    class Nested(Codec):
        stamp: u64
        items: list[Version2.Item]

    class Shape(Codec, sealed=True): ...

    class Square(Shape):
        x: f32
        side: f32

    class Triangle(Shape):
        x: f32

    class Circle(Shape):
        x: f32
        r: f32

    class Sealed(Codec):
        shapes: list[Version2.Shape]

    class Point(Codec):
        z: f32
        x: f32
        y: f64

    class Rows(Codec):
        points: Annotated[NDArray[np.void], Version2.Point]


def _evolved() -> dict[str, tuple[type[Codec], type[Codec], Codec]]:
    old = Version1
    items = [old.Item(1.0, 2.0, "left") for _ in range(32)]
    shapes = [old.Circle(1.0, 2.0) if i % 2 else old.Square(1.0, 2.0) for i in range(32)]
    values = {
        "order": old.Ordered(1_700_000_000, 1.5, -2.5, 7, True),
        "skipped": old.Skipped(1_700_000_000, "a note", 1.5, 7, 0.5, -2.5, [0.5] * 32),
        "defaults": old.Defaulted(1_700_000_000, 1.5, -2.5, 7),
        "wider": old.Widened(1_700_000_000, 1.5, -2.5, 7, [0.5] * 32),
        "list of structs": old.Nested(1_700_000_000, items),
        "sealed": old.Sealed(shapes),
        "rows": old.Rows(np.zeros(1000, codec(old.Point).dtype)),
    }
    return {
        name: (type(value), getattr(Version2, type(value).__name__), value) for name, value in values.items()
    }


# Name -> the writer's class, the reader's class, a value of the writer's class.
EVOLVED = _evolved()
assert tuple(EVOLVED) == CASES
