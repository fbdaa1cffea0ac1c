"""What type checkers infer for the codec: mypy and pyright check it, and test_codec_api.py runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import array
import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, assert_never, assert_type

import numpy as np
from numpy.typing import NDArray

from deli_com import (
    Array,
    Codec,
    FixedArray,
    Nanoseconds,
    TypeCodec,
    codec,
    f32,
    f64,
    field,
    i64,
    u8,
    u32,
    u64,
)
from deli_com import Shape as Dimensions


class Side(enum.Enum):
    BUY = "b"
    SELL = "s"


class Point(Codec):
    x: f32
    y: f32 = 0.0


class Tick(Codec, frozen=True):
    stamp: u64
    price: f64
    side: Side
    unit: ClassVar[str] = "EUR"
    tags: tuple[str, ...] = ()
    depth: u32 = field(default=0, kw_only=True)


class Fixed(Codec):
    t: u64
    pose: FixedArray[f64, Literal[3]]


class Everything(Codec, kw_only=True):
    flag: bool
    data: bytes
    points: list[Point] = field(default_factory=list[Point])
    maybe: Point | None = None
    pair: tuple[u8, str] = (0, "")
    values: Array[f32]
    raw: Array[u8]
    numpy: NDArray[np.float64]
    rows: Annotated[NDArray[np.void], Fixed]
    pose: FixedArray[f64, Literal[3]]


class Photo(Codec):
    height: u32 = field(default=None, kw_only=True)
    width: u32 = field(default=None, kw_only=True)
    taken: Nanoseconds
    pixels: Annotated[NDArray[np.uint8], Dimensions("height", "width", 3)]
    before: Annotated[Nanoseconds, i64] | None = None


class Shape(Codec, sealed=True):
    name: str


class Circle(Shape):
    radius: f32


class Dot(Shape):
    pass


class Drawing(Codec):
    shape: Circle | Dot
    any_shape: Shape


class Pose(Codec, frozen=True, policy="latest", key="id", retain=True):
    id: u32
    x: f32 = 0.0


class Feed(Codec, sealed=True, policy="wait"):
    camera: str


class Image(Feed, policy="latest", key=("camera", "layer")):
    layer: u8


class Moved(Feed):
    pass


if TYPE_CHECKING:  # refused by pyright as when it runs; mypy leaves keywords of metaclasses alone

    class NoPolicy(Codec, policy="newest"):  # pyright: ignore[reportArgumentType]
        pass

    class NoKey(Codec, policy="latest", key=3):  # pyright: ignore[reportArgumentType]
        pass

    class NoRetention(Codec, policy="latest", retain="yes"):  # pyright: ignore[reportArgumentType]
        pass


def area(shape: Circle | Dot) -> float:
    match shape:
        case Circle(_, radius):
            return 3.0 * radius * radius
        case Dot():
            return 0.0
        case _:
            assert_never(shape)


def run() -> None:
    point = Point(1.5, y=-3.0)
    assert_type(point.x, float)
    assert_type(point.to_bytes(), bytes)
    assert_type(Point.from_bytes(b"\0" * 8), Point)
    assert_type(Point.from_bytes(b"\0" * 8, strict=True), Point)
    assert_type(Point.decode(b"\0" * 9, 1), tuple[Point, int])
    buf = bytearray()
    point.encode(buf)

    photo = Photo(Nanoseconds.now(), np.zeros((2, 3, 3), np.uint8))
    assert_type(Photo.from_bytes(photo.to_bytes()).height, int)
    assert_type(photo.taken, Nanoseconds)
    assert_type(photo.before, Nanoseconds | None)

    tick = Tick(1, 2.0, Side.BUY, depth=3)
    assert_type(tick.side, Side)
    assert_type(tick.tags, tuple[str, ...])
    assert hash(tick) == hash(dataclasses.replace(tick))
    assert [item.name for item in dataclasses.fields(tick)] == ["stamp", "price", "side", "tags", "depth"]
    assert dataclasses.asdict(point) == {"x": 1.5, "y": -3.0}

    pose = [1.0, 2.0, 3.0]
    rows = np.zeros(2, codec(Fixed).dtype)
    everything = Everything(
        flag=True,
        data=b"x",
        values=np.zeros(3, np.float32),
        raw=b"abc",
        numpy=np.zeros(3),
        rows=rows,
        pose=pose,
    )
    everything.values = array.array("f", [1.0])
    everything.values = memoryview(array.array("f", [1.0]))
    everything.pose = (1.0, 2.0, 3.0)
    everything.pose = np.zeros(3)
    for value in everything.values:
        assert_type(value, float)
    assert_type(everything.values[0], float)
    decoded = Everything.from_bytes(everything.to_bytes())
    assert decoded == Everything.from_bytes(decoded.to_bytes())

    assert_type(Pose(1, x=2.0).id, int)
    assert Pose(1) == Pose(1, 0.0)
    feed: Feed = Image("front", layer=2)
    assert_type(Image("front", 2).to_bytes(), bytes)
    assert codec(Feed).from_bytes(feed.to_bytes()) == feed != Moved("front")

    drawing = Drawing(Circle("c", 1.0), Dot("d"))
    assert area(drawing.shape) == 3.0
    assert Drawing.from_bytes(drawing.to_bytes()) == drawing

    assert_type(codec(Point), TypeCodec[Point])
    assert_type(codec(Point).from_bytes(point.to_bytes()), Point)
    assert_type(codec(list[Point]).from_bytes(codec(list[Point]).to_bytes([point])), list[Point])
    assert_type(codec(str).from_bytes(b"\0\0\0\0"), str)
    assert_type(codec(bool), TypeCodec[bool])
    number: TypeCodec[int] = codec(u8)
    assert number.to_bytes(3) == b"\x03"
    shapes: TypeCodec[Shape] = codec(Shape)
    assert shapes.from_bytes(Dot("d").to_bytes()) == Dot("d")
    unknown: TypeCodec[Any] = codec(tuple[u8, str])
    assert unknown.min_size == 5
