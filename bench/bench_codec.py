"""The codec against msgspec: nanoseconds to construct, encode and decode one value.

How one figure is measured:

1. Both get the same value: a `Codec` of ours, and a `msgspec.Struct` with ``array_like=True, gc=False``
   (msgpack; the encoder and decoder objects are made once).
2. A round runs ours N times, then theirs N times, by `timeit` with the calls written out in the loop;
   N makes a round last about 10 ms. Time is CPU time of the process.
3. Rounds alternate. The table has the medians of both, and the median of the ratios within a round.

An array row compares one copy with msgspec's list of the same numbers. A structured row compares it
with msgspec's list of structs. These are what a user of either library would write.

    python bench/bench_codec.py [--rounds N] [--json FILE] [--only WORD]
"""

from __future__ import annotations

import argparse
import array
import enum
import json
import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import machine
from deli_com import Array, Codec, codec, f32, f64, u8, u32, u64

ROUND_S = 0.01


class Point(Codec):
    x: f32
    y: f32


class Mixed(Codec):
    stamp: u64
    temp: f64
    name: str
    count: u32
    active: bool


class Numbers(Codec):
    values: list[f64]


class Packed(Codec):
    values: Array[f64]


class PackedNumpy(Codec):
    values: NDArray[np.float64]


class Blob(Codec):
    stamp: u64
    data: bytes


class Colour(enum.Enum):
    RED = 0
    GREEN = 1
    BLUE = 2


class Deep(Codec):
    colour: Colour
    p0: Point
    p1: Point
    p2: Point
    p3: Point
    p4: Point
    p5: Point
    p6: Point
    p7: Point
    p8: Point
    p9: Point
    p10: Point
    p11: Point
    p12: Point
    p13: Point
    p14: Point
    p15: Point
    p16: Point
    p17: Point
    p18: Point
    p19: Point


class Small(Codec):
    t: u64
    price: f64
    size: u32
    side: u8


class Batch(Codec):
    ticks: list[Small]


class BatchArray(Codec):
    ticks: Annotated[NDArray[np.void], Small]


class Text(Codec):
    text: str


class MPoint(msgspec.Struct, array_like=True, gc=False):
    x: float
    y: float


class MMixed(msgspec.Struct, array_like=True, gc=False):
    stamp: int
    temp: float
    name: str
    count: int
    active: bool


class MNumbers(msgspec.Struct, array_like=True, gc=False):
    values: list[float]


class MBlob(msgspec.Struct, array_like=True, gc=False):
    stamp: int
    data: bytes


MDeep = msgspec.defstruct(
    "MDeep", [("colour", Colour), *((f"p{i}", MPoint) for i in range(20))], array_like=True, gc=False
)


class MSmall(msgspec.Struct, array_like=True, gc=False):
    t: int
    price: float
    size: int
    side: int


class MBatch(msgspec.Struct, array_like=True, gc=False):
    ticks: list[MSmall]


class MText(msgspec.Struct, array_like=True, gc=False):
    text: str


class Row:
    """One line of the table: a type and arguments for each side."""

    def __init__(
        self,
        name: str,
        ours: Callable[..., Any],
        mine: tuple[Any, ...],
        theirs: Callable[..., Any],
        its: tuple[Any, ...],
    ) -> None:
        self.name = name
        self.sides = (ours, mine), (theirs, its)

    def statements(self) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
        (ours, mine), (theirs, its) = self.sides
        value, other = ours(*mine), theirs(*its)
        encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(theirs)
        data, packed = value.to_bytes(), encoder.encode(other)
        assert ours.from_bytes(data) == value  # type: ignore[attr-defined]
        assert decoder.decode(packed) == other
        args = ", ".join(f"a{i}" for i in range(len(mine)))
        names = {f"a{i}": item for i, item in enumerate(mine)}
        other_names = {f"a{i}": item for i, item in enumerate(its)}
        yield "encode", [("v.to_bytes()", {"v": value}), ("e.encode(v)", {"e": encoder, "v": other})]
        yield (
            "decode",
            [("T.from_bytes(d)", {"T": ours, "d": data}), ("e.decode(d)", {"e": decoder, "d": packed})],
        )
        yield (
            "construct",
            [(f"T({args})", {"T": ours, **names}), (f"T({args})", {"T": theirs, **other_names})],
        )


def rows() -> list[Row]:
    floats = [i * 1.1 for i in range(1000)]
    small = [(1_700_000_000_000_000_000 + i, 100 + i * 0.25, i * 7, i % 3) for i in range(1000)]
    structured = np.array(small, codec(Small).dtype)
    long_text = "The quick brown fox jumps over the lazy dog. " * 100
    return [
        Row("2 x f32", Point, (1.5, -3.0), MPoint, (1.5, -3.0)),
        Row(
            "5 mixed fields",
            Mixed,
            (2**60, 36.6, "sensor-1", 70_000, True),
            MMixed,
            (2**60, 36.6, "sensor-1", 70_000, True),
        ),
        Row("list of 1000 f64", Numbers, (floats,), MNumbers, (floats,)),
        Row("1000 f64 as Array", Packed, (array.array("d", floats),), MNumbers, (floats,)),
        Row("1000 f64 as NDArray", PackedNumpy, (np.array(floats),), MNumbers, (floats,)),
        Row("64 KB bytes", Blob, (1, bytes(65536)), MBlob, (1, bytes(65536))),
        Row("1 MB bytes", Blob, (1, bytes(1_000_000)), MBlob, (1, bytes(1_000_000))),
        Row(
            "enum, 20 nested structs",
            Deep,
            (Colour.GREEN, *(Point(i * 0.5, -3.0) for i in range(20))),
            MDeep,
            (Colour.GREEN, *(MPoint(i * 0.5, -3.0) for i in range(20))),
        ),
        Row(
            "list of 1000 structs",
            Batch,
            ([Small(*t) for t in small],),
            MBatch,
            ([MSmall(*t) for t in small],),
        ),
        Row("1000 structs, structured", BatchArray, (structured,), MBatch, ([MSmall(*t) for t in small],)),
        Row("short ASCII string", Text, ("sensor-1",), MText, ("sensor-1",)),
        Row("long ASCII string", Text, (long_text,), MText, (long_text,)),
        Row("short other string", Text, ("Zürich, 中",), MText, ("Zürich, 中",)),
        Row("long other string", Text, ("Zürich, 中 " * 400,), MText, ("Zürich, 中 " * 400,)),
    ]


def measure(statements: list[tuple[str, dict[str, Any]]], rounds: int) -> tuple[float, float, float]:
    """Medians of both in nanoseconds, and the median of the ratios."""
    timers = [timeit.Timer(text, globals=names, timer=time.process_time) for text, names in statements]
    counts = []
    for timer in timers:
        count = 1
        while (spent := timer.timeit(count)) < ROUND_S / 4:
            count *= 2
        counts.append(max(1, int(count * ROUND_S / spent)))
    found = []
    for _ in range(rounds):
        found.append([timer.timeit(count) / count * 1e9 for timer, count in zip(timers, counts, strict=True)])
    ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
    return ours, theirs, statistics.median(mine / its for mine, its in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    arguments = parser.parse_args()
    about = machine.describe()
    print(f"{about['cpu']}, CPython {about['python']}, commit {about['commit']}, {about['date']}")
    print(f"{'nanoseconds: ours / msgspec / ratio':<28}{'encode':>28}{'decode':>28}{'construct':>24}")
    results = []
    for row in rows():
        if arguments.only not in row.name:
            continue
        line = f"{row.name:<28}"
        for step, statements in row.statements():
            ours, theirs, ratio = measure(statements, arguments.rounds)
            results.append(
                {"row": row.name, "step": step, "ours_ns": ours, "msgspec_ns": theirs, "ratio": ratio}
            )
            line += f"{ours:>10,.0f}{theirs:>11,.0f} {ratio:5.3f} "
        print(line, flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": about, "rounds": arguments.rounds, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
