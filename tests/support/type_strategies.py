"""Hypothesis strategies: types in the reference's form (reference_codec.py), and the values of each."""

from __future__ import annotations

import array
from typing import Any

import reference_codec as reference
from hypothesis import strategies as st

INTS = {f"{sign}{bits}": bits for sign in "ui" for bits in (8, 16, 32, 64)}

leaves = st.sampled_from([*((name,) for name in reference.NUMBERS), ("bool",), ("str",), ("bytes",)])
numbers = st.sampled_from([(name,) for name in reference.NUMBERS])


def _grow(inner: Any) -> Any:
    few = st.lists(inner, max_size=4).map(tuple)
    return st.one_of(
        inner.map(lambda item: ("list", item)),
        inner.map(lambda item: ("tuple", item)),
        inner.filter(lambda item: item[0] != "option").map(lambda item: ("option", item)),
        few.map(lambda items: ("product", *items)),
        few.map(lambda items: ("struct", *items)),
        st.lists(few, min_size=1, max_size=4).map(lambda items: ("sealed", *items)),
        st.tuples(inner, st.integers(0, 4)).map(lambda pair: ("fixed", *pair)),
        numbers.map(lambda item: ("array", item)),
        st.integers(1, 20).map(lambda count: ("enum", count)),
    )


types = st.recursive(leaves, _grow, max_leaves=12)


def values(tp: Any) -> Any:
    """A strategy for the values of a type."""
    match tp:
        case ("bool",):
            return st.booleans()
        case ("str",):
            return st.text(max_size=20)
        case ("bytes",):
            return st.binary(max_size=20)
        case ("f32",):
            return st.floats(width=32)
        case ("f64",):
            return st.floats()
        case (name,) if name in reference.NUMBERS:
            bits = INTS[name]
            low = 0 if name[0] == "u" else -(2 ** (bits - 1))
            return st.integers(low, low + 2**bits - 1)
        case ("list", item):
            return st.lists(values(item), max_size=4)
        case ("tuple", item):
            return st.lists(values(item), max_size=4).map(tuple)
        case ("product", *items):
            return st.tuples(*map(values, items))
        case ("fixed", item, count):
            return st.lists(values(item), min_size=count, max_size=count).map(tuple)
        case ("option", item):
            return st.none() | values(item)
        case ("array", (name,)):
            typecode = reference.NUMBERS[name][1][1]
            return st.lists(values((name,)), max_size=6).map(lambda items: array.array(typecode, items))
        case ("enum", _):
            return st.sampled_from(list(reference.annotation(tp)))
        case ("struct", *fields):
            return st.tuples(*map(values, fields)).map(lambda items: reference.annotation(tp)(*items))
        case ("sealed", *choices):
            classes = reference.variants(reference.annotation(tp))
            return st.one_of(
                *(
                    st.tuples(*map(values, fields)).map(lambda items, cls=cls: cls(*items))
                    for cls, fields in zip(classes, choices, strict=True)
                )
            )
    raise AssertionError(tp)
