"""Out of memory at any allocation of the codec: a MemoryError, never a crash, and the codec works afterwards.

Each sweep runs in its own process, because a failing one crashes it.
"""

# ruff: noqa: E501 - the programs' lines are tables
from __future__ import annotations

import importlib.util

import pytest
from alone import run_alone

if importlib.util.find_spec("_testcapi") is None:
    pytest.skip("this CPython comes without _testcapi, which makes allocations fail", allow_module_level=True)

HEAD = """
import array, copy, enum, gc, math, pickle
from typing import Annotated, Any, Literal
import numpy as np
from numpy.typing import NDArray
from no_memory import Sweep
from deli_com import *
from deli_com.errors import *

class Side(enum.Enum):
    BUY = "b"
    SELL = "s"

class Point(Codec):
    x: f32
    y: f32

class Tick(Codec):
    stamp: u64
    price: f64
    side: Side
    point: Point

class Shape(Codec, sealed=True):
    pass

class Circle(Shape):
    radius: f32

class Named(Shape):
    label: str
    blob: bytes

class Tree(Codec):
    value: u32
    children: list["Tree"]

class All(Codec):
    n: u8
    text: str
    blob: bytes
    numbers: list[u32]
    array: Array[f32]
    nd: NDArray[np.float32]
    rows: Annotated[NDArray[np.void], Point]
    points: list[Point]
    pair: tuple[u8, str]
    many: tuple[u16, ...]
    fixed: FixedArray[f32, Literal[3]]
    words: FixedArray[str, Literal[2]]
    shape: Shape
    maybe: u32 | None
    tree: Tree

class Checked(Codec):
    n: u8
    def __post_init__(self):
        if self.n > 9:
            raise ValueError("over 9")

ROWS = np.zeros(2, codec(Point).dtype)

def everything(**other):
    fields = dict(
        n=7, text="h\\u00e9llo", blob=b"abc", numbers=[1, 2, 70000], array=array.array("f", [1.0, 2.0]),
        nd=np.arange(3, dtype=np.float32), rows=ROWS, points=[Point(1.0, 2.0)], pair=(1, "x"), many=(1, 2),
        fixed=[1.0, 2.0, 3.0], words=["a", "b"], shape=Named("n", b"z"), maybe=70000,
        tree=Tree(1, [Tree(2, []), Tree(3, [])]))
    return All(**{**fields, **other})

sweep = Sweep()
whole = everything()
data = whole.to_bytes()
class Foreign:
    def __float__(self): return 1.5
    def __index__(self): return 3
"""

PROGRAMS = {
    "encode": """
sweep("to_bytes", whole.to_bytes)
buf = bytearray()
def append():
    del buf[:]
    whole.encode(buf)
    return bytes(buf)
sweep("encode", append)
for tp, value in [(u8, 3), (f32, 1.5), (f32, Foreign()), (u32, Foreign()), (str, "h\\u00e9" * 100), (bytes,
bytearray(9)),
                  (bytes, memoryview(b"abc")), (list[f64], [1.0] * 100), (Array[f32], array.array("f", [1.0,
                  2.0])), (Tree, whole.tree), (list[Tick], [Tick(2**63, 1.0, Side.SELL, Point(0.0, 1.0))] *
                  20), (Any and bool, True)]:
    to_bytes = codec(tp).to_bytes
    sweep(f"to_bytes of {tp}", lambda: to_bytes(value))
""",
    "refuse": """
bad = [
    dict(n=300), dict(n=-1), dict(n=2**200), dict(n="x"), dict(n=1.5), dict(text=3), dict(text="\\ud800"),
    dict(blob="x"), dict(numbers=[1, 2**40]), dict(numbers=[1, None]), dict(array=array.array("d", [1.0])),
    dict(array=3), dict(nd=np.zeros(3)), dict(nd=[None]), dict(rows=np.zeros(2)), dict(rows=None),
    dict(points=[Point(1e300, 0.0)]), dict(points=[3]), dict(pair=(1,)), dict(pair=[1, "x"]), dict(many=(1,
    2**20)), dict(fixed=[1.0]), dict(fixed=np.zeros(4, "f4")), dict(words=["a"]), dict(words="ab"),
    dict(shape=Point(1.0, 2.0)), dict(shape=None), dict(maybe="x"), dict(tree=Tree(1, [Tree(2, [Tree(-3,
    [])])])), dict(blob=np.array(["a"], object)), dict(blob=np.arange(9)[::2]),
    dict(blob=np.ma.masked_array([1])), dict(array=np.ma.masked_array([1.0], dtype="f4")), dict(tree=Tree(1,
    [3])), dict(n=np.float32(1)), dict(maybe=True),
]
import sys
for change in bad:
    value = everything(**change)
    if sys.version_info >= (3, 14) and any(isinstance(one, np.ndarray) for one in change.values()):
        continue  # the text names a dtype, and str(np.dtype("f8")) alone crashes CPython 3.14.3 without memory
    sweep(f"to_bytes of {change}", value.to_bytes, EncodeError)
loop = Tree(1, [])
loop.children.append(loop)
sweep("to_bytes of a ring", loop.to_bytes, EncodeError)
loop.children.clear()
""",
    "decode": """
sweep("from_bytes", lambda: All.from_bytes(data))
sweep("from_bytes of a view", lambda: All.from_bytes(memoryview(data), strict=True))
sweep("decode", lambda: All.decode(b"xx" + data, 2))
for tp, value in [(u64, 2**63), (i64, -2**62), (f32, 1.5), (str, "a" * 300), (str, "h\\u00e9" * 300), (bytes,
b"abc"),
                  (list[f64], [1.0] * 40), (list[u64], [2**63] * 40), (Array[f32], array.array("f", [1.0])),
                  (NDArray[np.float64], np.ones(4)), (tuple[u16, ...], (1, 2, 3)), (tuple[u8, str], (1, "x")),
                  (Shape, Circle(2.0)), (Tree, whole.tree), (Side, Side.SELL), (u32 | None, 70000), (u32 |
                  None, None), (FixedArray[f32, Literal[3]], [1.0, 2.0, 3.0]), (Annotated[NDArray[np.void],
                  Point], ROWS)]:
    raw = codec(tp).to_bytes(value)
    from_bytes = codec(tp).from_bytes
    sweep(f"from_bytes of {tp}", lambda: from_bytes(raw))
sweep("__post_init__", lambda: Checked.from_bytes(b"\\x05"))
sweep("__post_init__ that raises", lambda: Checked.from_bytes(b"\\x0a"), ValueError, DecodeError)
""",
    "truncated": """
for size in range(len(data)):
    sweep(f"{size} bytes", lambda: All.from_bytes(data[:size]), DecodeError)
""",
    "mutated": """
import random
random.seed(1)
for i in range(120):
    raw = bytearray(data)
    for _ in range(1 + i % 3):
        raw[random.randrange(len(raw))] = random.choice([0, 1, 2, 255, 128, random.randrange(256)])
    raw = bytes(raw)
    sweep(f"{raw!r}", lambda: All.from_bytes(raw), DecodeError)
sweep("strict", lambda: Point.from_bytes(bytes(9), strict=True), DecodeError)
sweep("no buffer", lambda: Point.from_bytes(3), TypeError)
sweep("objects", lambda: Point.from_bytes(np.array([1, 2], object)), TypeError)
""",
    "make": """
sweep("Point()", lambda: Point(1.0, 2.0))
sweep("Point(x=, y=)", lambda: Point(y=1.0, x=2.0))
sweep("too many", lambda: Point(1.0, 2.0, 3.0), TypeError)
sweep("too few", lambda: Point(1.0), TypeError)
sweep("no such name", lambda: Point(1.0, z=2.0), TypeError)
sweep("twice", lambda: Point(1.0, x=2.0), TypeError)
sweep("sealed", lambda: Shape(), TypeError)
sweep("Codec", lambda: Codec(), TypeError)
sweep("__post_init__", lambda: Checked(5))
sweep("__post_init__ that raises", lambda: Checked(10), ValueError)
sweep("repr", lambda: repr(Tick(1, 2.0, Side.BUY, Point(1.0, 2.0))))  # numpy's own repr crashes
sweep("==", lambda: Tick(1, 2.0, Side.BUY, Point(1.0, 2.0)) == Tick(1, 2.0, Side.BUY, Point(1.0, 3.0)))
sweep("copy", lambda: copy.copy(whole.points[0]))
sweep("pickle", lambda: pickle.loads(pickle.dumps(Tick(1, 2.0, Side.BUY, Point(1.0, 2.0)))))
sweep("hash", lambda: hash(Point(1.0, 2.0)), TypeError)
""",
    "compile": """
count = 0
def fresh():
    global count
    count += 1
    class Fresh(Codec):
        a: u8
        b: list[Point]
        c: str | None
        d: Annotated[NDArray[np.void], Tick]
    return Fresh(1, [Point(1.0, 2.0)], None, np.zeros(1, codec(Tick).dtype)).to_bytes()
sweep.bursts("a class", fresh, step=23)
assert All.from_bytes(data) == whole
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_allocation_may_fail(name: str) -> None:
    done = run_alone(HEAD + PROGRAMS[name] + "\nprint(sweep.calls, sweep.failures)\n", limit_s=120)
    assert (done.stderr[-3000:], done.returncode) == ("", 0)
    calls, failures = map(int, done.stdout.split())
    print(f"{calls} calls, {failures} of them without memory")
    assert failures > 20
