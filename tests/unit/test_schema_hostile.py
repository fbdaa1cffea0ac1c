"""Texts made to be expensive: work and memory are proportional to the text, or the text is refused."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any

import pytest

from deli_com import Codec, FixedArray, Schema, codec
from deli_com.schema.parse import MAX_BYTES
from deli_com.types.references import Way, components, least_sizes, recursive


def calls_of(work: Callable[[], Any]) -> int:
    """How often Python functions are called: no clock, the same on every machine."""
    calls = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def wide(n: int) -> str:
    """A struct of many structs."""
    fields = "".join(f" f{i} A{i}\n" for i in range(n))
    return f"deli 1\nroot R\nstruct R\n{fields}" + "".join(f"struct A{i}\n x u8\n" for i in range(n))


def ring(n: int) -> str:
    """Recursive structs, all of them one component."""
    return "deli 1\nroot A0\n" + "".join(f"struct A{i}\n x [A{(i + 1) % n}]\n" for i in range(n))


def layers(n: int) -> str:
    """Structs that each reach all the later ones, on many ways."""

    def names(i: int) -> Iterator[str]:
        yield from (f"A{k}" for k in (2 * i + 1, 2 * i + 2, 2 * i + 3) if k < n)

    order, met, todo = [], set(), [0]
    while todo:
        i = todo.pop()
        if i not in met:
            met.add(i)
            order.append(i)
            todo += [int(name[1:]) for name in names(i)][::-1]
    return "deli 1\nroot A0\n" + "".join(
        f"struct A{i}\n" + "".join(f" f{k} [{name}]\n" for k, name in enumerate(names(i))) for i in order
    )


def variants(n: int) -> str:
    return "deli 1\nroot S\nsealed S\n" + "".join(f" {i} V{i}\n  x u8\n" for i in range(n))


@pytest.mark.parametrize("make", [wide, ring, layers, variants], ids=lambda make: make.__name__)
def test_the_work_of_loading_grows_with_the_text(make: Callable[[int], str]) -> None:
    Schema.parse(make(50)).load()  # what is imported and made once
    calls = [calls_of(Schema.parse(make(n)).load) for n in (200, 800)]
    assert calls[1] < 4.6 * calls[0], calls


@pytest.mark.parametrize("make", [wide, ring, layers, variants], ids=lambda make: make.__name__)
def test_as_many_definitions_as_may_be_are_loaded(make: Callable[[int], str]) -> None:
    schema = Schema.parse(make(4095))
    assert codec(schema.load()).schema == schema


def test_the_count_would_see_work_that_grows_faster() -> None:
    def quadratic(n: int) -> Callable[[], Any]:
        return lambda: [[(lambda: None)() for _ in range(n)] for _ in range(n)]

    few, many = calls_of(quadratic(20)), calls_of(quadratic(80))
    assert many > 4.6 * few


def doubled(n: int, leaf: str) -> str:
    """Structs that hold two of the next: 2**n ways from the first to the last."""
    links = "".join(f"struct A{i}\n x A{i + 1}\n y A{i + 1}\n" for i in range(n))
    return f"deli 1\nroot A0\n{links}struct A{n}\n{leaf}"


@pytest.mark.parametrize(
    ("depth", "leaf"), [(39, " x u8\n"), (39, " x bool\n"), (30, " x f64\n"), (150, ""), (37, " x str\n")]
)
def test_structs_of_two_structs_each_are_not_gone_through_twice(depth: int, leaf: str) -> None:
    Schema.parse(doubled(3, leaf)).load()
    assert calls_of(Schema.parse(doubled(depth, leaf)).load) < 400_000


@pytest.mark.parametrize(
    "text",
    [
        "deli 1\nroot R\nstruct R\n"
        + "".join(f" f{i} [A{i}]\n" for i in range(400))
        + "".join(f"struct A{i}\n x [bool;65000]\n" for i in range(400)),
        "deli 1\nroot R\nstruct R\n"
        + "".join(f" f{i} [A{i}]\n" for i in range(2000))
        + "struct A0\n x B\n y B\nstruct B\n"
        + "".join(f" g{i} u8\n" for i in range(250))
        + "".join(f"struct A{i}\n x B\n y B\n" for i in range(1, 2000)),
    ],
    ids=["columns", "repeated"],
)
def test_a_short_text_that_asks_for_long_programs_is_refused(text: str) -> None:
    schema = Schema.parse(text)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="over the limit of 262144"):
            schema.load()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_more_flags_than_a_table_has_columns() -> None:
    """They are fields like any others; only a structured array is not taken for a list of such structs."""

    class Flags(Codec):
        flags: FixedArray[bool, 70_000]

    value = Flags((True,) * 70_000)
    assert Flags.from_bytes(value.to_bytes()) == value


def test_a_text_is_measured_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="at most 262144 bytes"):
        Schema.parse("deli 1\n" + "x" * MAX_BYTES)


@pytest.mark.parametrize("around", ["[", "("])
def test_deep_nesting_is_refused_before_it_is_walked(around: str) -> None:
    close = {"[": "]", "(": ")"}[around]
    for depth in (201, 100_000):
        with pytest.raises(ValueError, match="no schema: "):
            Schema.parse(f"deli 1\nroot {around * depth}u8{close * depth}\n")


# --- references ---


def test_components_come_behind_what_they_refer_to() -> None:
    inside = {"a": ["b", "c"], "b": ["a"], "c": ["d", "c"], "d": []}
    assert [sorted(group) for group in components(inside)] == [["d"], ["c"], ["a", "b"]]
    assert [recursive(group, inside) for group in components(inside)] == [False, True, True]


def test_the_least_way_is_taken() -> None:
    ways = [
        Way("tree", {"leaf"}, lambda sizes: 4 + sizes["leaf"]),
        Way("tree", {"tree"}, lambda sizes: 4 + 2 * sizes["tree"]),
        Way("leaf", set(), lambda sizes: 1),
        Way("never", {"never", "leaf"}, lambda sizes: sizes["never"]),
    ]
    assert least_sizes(ways) == {"leaf": 1, "tree": 5}


def test_equal_sizes_need_no_order_of_names() -> None:
    things = [object() for _ in range(20)]
    assert least_sizes(Way(thing, set(), lambda _: 3) for thing in things) == dict.fromkeys(things, 3)
    assert len(set(zip(count(), things))) == 20
