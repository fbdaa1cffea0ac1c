"""Nothing leaks: memory and reference counts are flat over a million operations, failures included."""

from __future__ import annotations

import enum
import functools
import gc
import os
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Array, Codec, FixedArray, codec, errors, f32, f64, field, u8, u32


class Side(enum.Enum):
    BUY = 1
    SELL = 2


class Point(Codec):
    x: f32
    y: f32


class Row(Codec):
    t: u32
    side: Side


class Shape(Codec, sealed=True):
    name: str


class Circle(Shape):
    radius: f32


class Blob(Shape):
    data: bytes


class Node(Codec):
    kids: list[Node]
    shape: Shape | None = None


class Whole(Codec):
    point: Point
    points: list[Point]
    names: tuple[str, ...]
    pair: tuple[u8, bytes]
    shape: Shape
    maybe: Point | None
    values: Array[f64]
    pose: FixedArray[f32, Literal[3]]
    words: FixedArray[str, Literal[2]]
    side: Side
    numbers: list[f64]
    ints: list[u32]
    extra: list[u8] = field(default_factory=list)


class Numpy(Codec):
    values: NDArray[np.float64]
    rows: Annotated[NDArray[np.void], Row]


class Checked(Codec):
    value: u8

    def __post_init__(self) -> None:
        if self.value > 100:
            raise ValueError


WHOLE = Whole(
    Point(1, 2),
    [Point(3, 4), Point(5, 6)],
    ("a", "zwölf", "中"),
    (7, b"x" * 40),
    Circle("c", 1),
    Point(8, 9),
    array("d", [1, 2, 3]),
    [1, 2, 3],
    ["p", "q"],
    Side.SELL,
    [1.5, 2.5],
    [1, 2**31],
)
NUMPY = Numpy(np.zeros(4), np.zeros(3, codec(Row).dtype))
TREE = Node([Node([]), Node([Node([], Blob("b", b"x" * 5000))])])


class Index:
    def __index__(self) -> int:
        return 3


def failing_encodes() -> list[Callable[[], Any]]:
    """One for each place where an encoder can stop half way."""
    tries: list[tuple[Any, Any]] = [
        (list[Point], [Point(1, 2), Point(1, "x")]),  # type: ignore[arg-type]
        (list[str], ["a", "\ud800"]),
        (tuple[u8, str], (1, 2)),
        (list[u8], [1, Index(), 300]),
        (Shape, Circle("a", 1e300)),
        (Array[f64], b"x"),
        (FixedArray[str, Literal[2]], ["a", 3]),
        (list[list[Point]], [[Point(1, 2)], [Point(1, None)]]),  # type: ignore[arg-type]
        (Node, Node([Node([3])])),  # type: ignore[list-item]
        (tuple[str, bytes], ("a" * 3000, "b")),
        (tuple[bytes, u8], (b"b" * 5000, "b")),
    ]

    def attempt(compiled: Any, value: Any) -> None:
        try:
            compiled.to_bytes(value)
        except errors.EncodeError:
            pass
        else:
            raise AssertionError(value)

    return [functools.partial(attempt, codec(tp), value) for tp, value in tries]


def failing_decodes() -> list[Callable[[], Any]]:
    raw = WHOLE.to_bytes()
    tries: list[tuple[Any, bytes]] = [(Whole, raw[:size]) for size in range(0, len(raw), 11)]
    tries += [
        (Node, TREE.to_bytes()[:30]),
        (Numpy, NUMPY.to_bytes()[:-1]),
        (Checked, b"\xff"),
        (list[str], b"\2\0\0\0\0\0\0\0\1\0\0\0\xff"),  # type: ignore[list-item]
        (list[bool], b"\2\0\0\0\1\2"),  # type: ignore[list-item]
    ]

    def attempt(compiled: Any, data: bytes) -> None:
        try:
            compiled.from_bytes(data)
        except ValueError:
            pass
        else:
            raise AssertionError(data)

    return [functools.partial(attempt, codec(tp), data) for tp, data in tries]


def operations() -> list[Callable[[], Any]]:
    raw, tree, numpy, blob = (
        WHOLE.to_bytes(),
        TREE.to_bytes(),
        NUMPY.to_bytes(),
        Blob("b", b"x" * 5000).to_bytes(),
    )
    buf = bytearray()

    def append() -> None:
        WHOLE.encode(buf)
        buf.clear()

    def wrong_call() -> None:
        try:
            Point(1, 2, z=3)  # type: ignore[call-arg]
        except TypeError:
            pass

    again = Whole.from_bytes(raw)
    return [
        WHOLE.to_bytes,
        TREE.to_bytes,
        NUMPY.to_bytes,
        append,
        lambda: Whole.from_bytes(raw),
        lambda: Node.from_bytes(tree),
        lambda: Numpy.from_bytes(numpy),
        lambda: Shape.from_bytes(blob, strict=True),
        lambda: Point(1.5, y=2.5),
        lambda: Node([Node([])]),
        lambda: Whole.decode(raw, 0),
        lambda: again == WHOLE,
        lambda: WHOLE.__copy__(),  # type: ignore[operator]
        lambda: WHOLE.__reduce__(),
        wrong_call,
    ]


KINDS: dict[str, Callable[[], list[Callable[[], Any]]]] = {
    "operations": operations,
    "failing encodes": failing_encodes,
    "failing decodes": failing_decodes,
}


def resident() -> int:
    """Bytes of this process in memory; 0 where /proc does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer keeps freed memory back for a while"
)
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_flat(kind: str) -> None:
    """A third of a million operations leave nothing behind, whether they succeed or fail."""
    calls = KINDS[kind]()
    rounds = 1_000_000 // len(KINDS) // len(calls)

    def run(count: int) -> None:
        for _ in range(count):
            for call in calls:
                call()
        gc.collect()

    run(rounds // 10)  # fills caches and free lists
    blocks, size = sys.getallocatedblocks(), resident()
    run(rounds)
    # One object lost in one of the calls would be `rounds` blocks; what malloc gave shows in the size.
    assert sys.getallocatedblocks() - blocks < rounds / 10
    assert resident() - size < 8_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_reference_counts_are_flat(kind: str) -> None:
    """Shared objects that come and go have the counts they had before."""
    watched = [
        None,
        True,
        Side.SELL,
        Point,
        Circle,
        Node,
        Whole,
        WHOLE,
        WHOLE.points,
        TREE.kids,
        WHOLE.pair[1],
        "",
    ]
    calls = KINDS[kind]()
    for call in calls:
        call()
    gc.collect()
    before = [sys.getrefcount(item) for item in watched]
    for _ in range(1000):
        for call in calls:
            call()
    gc.collect()
    after = [sys.getrefcount(item) for item in watched]
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([0] * len(watched), abs=200)
