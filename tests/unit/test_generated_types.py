"""Random types and values: the compiled codec agrees with the reference in every byte and error."""

from __future__ import annotations

import array
from typing import Any

import pytest
import reference_codec as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deli_com import codec, errors

INTS = {f"{sign}{bits}": bits for sign in "ui" for bits in (8, 16, 32, 64)}
SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))

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


def check_decode(tp: Any, data: bytes) -> None:
    """Both decoders find the same value and end, or the same error."""
    compiled = codec(reference.annotation(tp))
    try:
        expected, end = reference.decode(tp, data)
    except reference.Malformed as malformed:
        kind = malformed.kind
    else:
        kind = None
    if kind is not None:
        with pytest.raises(errors.DecodeError) as caught:
            compiled.decode(data)
        assert type(caught.value).__name__ == kind
        assert 0 <= caught.value.offset <= len(data)
        return
    found, found_end = compiled.decode(data)
    assert found_end == end
    # By bytes, not by ==: that would hold for -0.0 and 0.0, and fail for NaN.
    assert reference.encode(tp, found) == reference.encode(tp, expected) == data[:end]


@SETTINGS
@given(st.data())
def test_values_round_trip(data: Any) -> None:
    """A value of any type has the reference's bytes, and they decode to it."""
    tp = data.draw(types)
    value = data.draw(values(tp))
    compiled = codec(reference.annotation(tp))
    encoded = compiled.to_bytes(value)
    assert encoded == reference.encode(tp, value)
    assert compiled.min_size == reference.min_size(tp) <= len(encoded)
    assert compiled.max_size < 0 or len(encoded) <= compiled.max_size
    buf = bytearray(b"before")
    compiled.encode(value, buf)
    assert buf == b"before" + encoded
    check_decode(tp, encoded)


@SETTINGS
@given(st.data())
def test_damaged_bytes_fail_alike(data: Any) -> None:
    """Cut, changed and foreign bytes give the same value or the same error as in the reference."""
    tp = data.draw(types)
    raw = bytearray(codec(reference.annotation(tp)).to_bytes(data.draw(values(tp))))
    if raw and data.draw(st.booleans()):
        for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
            raw[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    check_decode(tp, bytes(raw))


@SETTINGS
@given(types, st.binary(max_size=40))
def test_foreign_bytes_fail_alike(tp: Any, raw: bytes) -> None:
    """Arbitrary bytes too."""
    check_decode(tp, raw)
