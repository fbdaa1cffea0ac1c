"""Random types and values: the compiled codec agrees with the reference in every byte and error."""

from __future__ import annotations

from typing import Any

import pytest
import reference_codec as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from type_strategies import types, values

from deli_com import codec, errors

SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


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
