"""A buffer is accepted only if its memory is the value: no pointers, no gaps, no mask."""

from __future__ import annotations

import array
import ctypes
import mmap
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Array, Codec, FixedArray, codec, errors, f32, f64, u8


class Pair(Codec):
    a: u8
    b: f32


class Pointers(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_char_p))


class Gaps(ctypes.Structure):
    _fields_ = (("a", ctypes.c_char), ("b", ctypes.c_int))


class Either(ctypes.Union):
    _fields_ = (("a", ctypes.c_long), ("b", ctypes.c_void_p))


GAPS_IN_NUMPY = np.dtype({"names": ["a", "b"], "formats": ["u1", "f4"], "offsets": [0, 4], "itemsize": 8})

NOT_ITS_VALUE: dict[str, Any] = {
    "objects": np.array(["secret", 1], object),
    "a struct with objects": np.zeros(2, [("a", "i4"), ("b", object)]),
    "a struct in a struct with objects": np.zeros(2, [("a", [("b", object)])]),
    "a memoryview of objects": memoryview(np.array(["secret"], object)),
    "text of variable width": np.array(["secret"], np.dtypes.StringDType()),
    "masked": np.ma.masked_array([1, 2], mask=[0, 1], dtype="u1"),
    "masked, nothing hidden": np.ma.masked_array([1, 2], dtype="u1"),
    "gaps in numpy": np.zeros(2, GAPS_IN_NUMPY),
    "pointers in ctypes": Pointers(1, b"secret"),
    "an array of pointers": (ctypes.c_char_p * 1)(b"secret"),
    "an array of wide pointers": (ctypes.c_wchar_p * 1)("secret"),
    "an address": ctypes.c_void_p(1),
    "a pointer": ctypes.pointer(ctypes.c_int(1)),
    "a function": ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1),
    "python objects": (ctypes.py_object * 1)("secret"),
    "a union": Either(1),
}

if "x" in memoryview(Gaps()).format:  # ctypes tells of them since 3.12
    NOT_ITS_VALUE["gaps in ctypes"] = Gaps(b"a", 1)

PLAIN: dict[str, Any] = {
    "bytearray": bytearray(b"abc"),
    "memoryview": memoryview(b"abc"),
    "array.array": array.array("d", [1.0, 2.0]),
    "numbers": np.arange(3, dtype="<f4"),
    "big-endian numbers": np.arange(3, dtype=">u2"),
    "two dimensions": np.zeros((2, 3), "u1"),
    "complex": np.ones(2, "c8"),
    "bool": np.array([True, False]),
    "text of fixed width": np.array(["ab", "c"]),
    "bytes of fixed width": np.array([b"ab", b"c"]),
    "raw items": np.frombuffer(b"abcdefgh", "V4"),
    "a struct": np.ones(
        2, [("a", "u1"), ("b", "f4"), ("c", "u2", (2, 2)), ("d", "V3"), ("e", [("f", "i8")])]
    ),
    "ctypes numbers": (ctypes.c_int * 3)(1, 2, 3),
    "a struct of ctypes": (type("S", (ctypes.Structure,), {"_fields_": [("a", ctypes.c_int)]}) * 2)(),
    "nothing": np.array([], "u1"),
}


@pytest.mark.parametrize("name", NOT_ITS_VALUE)
def test_memory_that_is_not_the_value_is_refused_as_bytes(name: str) -> None:
    value = NOT_ITS_VALUE[name]
    with pytest.raises(errors.EncodeError):
        codec(bytes).to_bytes(value)
    kept = bytearray(b"kept")
    with pytest.raises(errors.EncodeError):
        codec(bytes).encode(value, kept)
    assert kept == b"kept"
    for elsewhere in (Array[u8], Array[f32], NDArray[np.uint8], FixedArray[u8, 2], list[u8]):
        with pytest.raises(errors.EncodeError):
            codec(elsewhere).to_bytes(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NOT_ITS_VALUE)
def test_nothing_is_decoded_from_memory_that_is_not_the_value(name: str) -> None:
    for decode in (codec(u8).from_bytes, Pair.from_bytes, lambda data: Pair.decode(data, 0)):
        with pytest.raises((TypeError, errors.DecodeError)) as caught:
            decode(NOT_ITS_VALUE[name])
        assert caught.type is TypeError


@pytest.mark.parametrize("name", PLAIN)
def test_plain_memory_is_taken_as_it_is(name: str) -> None:
    value = PLAIN[name]
    raw = memoryview(value).tobytes()
    assert codec(bytes).from_bytes(codec(bytes).to_bytes(value)) == raw
    if raw:
        assert codec(u8).from_bytes(value) == raw[0]


def test_a_map_of_a_file_is_plain() -> None:
    with mmap.mmap(-1, 16) as mapped:
        assert codec(bytes).to_bytes(mapped) == b"\x10\0\0\0" + bytes(16)


@pytest.mark.parametrize("field", [Annotated[NDArray[np.void], Pair], list[Pair]])
def test_masked_rows_are_refused(field: Any) -> None:
    rows = np.ma.masked_array(np.zeros(2, codec(Pair).dtype))
    with pytest.raises(errors.EncodeError):
        codec(field).to_bytes(rows)


@pytest.mark.parametrize("number", [f32, f64, u8])
def test_the_masked_constant_is_no_number(number: Any) -> None:
    """`float(np.ma.masked)` is nan, after a warning."""
    with pytest.raises(errors.EncodeError, match="mask"):
        codec(number).to_bytes(np.ma.masked)
    with pytest.raises(errors.EncodeError, match="mask"):
        codec(list[number]).to_bytes([1, np.ma.masked])
    with pytest.raises(errors.EncodeError):
        codec(number).to_bytes(np.ma.masked_array(3, mask=False))


def test_the_words_name_the_format() -> None:
    with pytest.raises(errors.EncodeError, match="format 'O', whose memory is not the value"):
        codec(bytes).to_bytes(np.array(["secret"], object))
    with pytest.raises(errors.EncodeError, match="bytes without a mask, got MaskedArray"):
        codec(bytes).to_bytes(np.ma.masked_array([1]))
