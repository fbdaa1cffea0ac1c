"""Rows of a structured array of another writer: many layouts and many rows, against numpy field by field."""

from __future__ import annotations

import random
import struct
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deli_com import Codec, FixedArray, InvalidBool, codec, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

KINDS: dict[str, Any] = {
    "u1": u8,
    "u2": u16,
    "u4": u32,
    "u8": u64,
    "i1": i8,
    "i2": i16,
    "i4": i32,
    "i8": i64,
    "f4": f32,
    "f8": f64,
    "b1": bool,
}
WIDER = {
    "u1": ["u2", "u4", "u8", "i2", "i4", "i8", "f8"],
    "u2": ["u4", "u8", "i4", "i8", "f8"],
    "u4": ["u8", "i8", "f8"],
    "i1": ["i2", "i4", "i8", "f8"],
    "i2": ["i4", "i8", "f8"],
    "i4": ["i8", "f8"],
    "f4": ["f8"],
}
SIGNALLING = 0x7F800001  # a NaN that an instruction makes a quiet one


def make(name: str, body: dict[str, Any], **values: Any) -> Any:
    return type(Codec)(name, (Codec,), {"__annotations__": body, "__module__": __name__, **values})


def array_of(kind: str, count: int) -> Any:
    return FixedArray[KINDS[kind], count] if count else KINDS[kind]


def of_rows(row: Any) -> Any:
    return make("Message", {"rows": Annotated[NDArray[np.void], row]})


def wide(data: np.ndarray[Any, Any], kind: str, wider: str) -> np.ndarray[Any, Any]:
    """What a column is as one of a wider kind; a NaN keeps its bits."""
    if (kind, wider) != ("f4", "f8"):
        return data.astype("<" + wider)
    bits = np.ascontiguousarray(data).view("<u4").astype("u8")
    nan = (
        (bits & 0x80000000) << np.uint64(32)
        | np.uint64(0x7FF0000000000000)
        | (bits & 0x7FFFFF) << np.uint64(29)
    )
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(data), nan.view("<f8"), data.astype("<f8"))


def random_rows(rnd: random.Random, row: Any, count: int, kinds: dict[str, str]) -> np.ndarray[Any, Any]:
    dtype = codec(row).dtype
    data = np.frombuffer(bytearray(rnd.randbytes(count * dtype.itemsize)), dtype)
    for name, kind in kinds.items():
        if kind == "b1":
            data[name] = np.frombuffer(rnd.randbytes(data[name].size), "u1").reshape(data[name].shape) & 1
    return data


@pytest.mark.parametrize("seed", range(150))
def test_layouts(seed: int) -> None:
    rnd = random.Random(seed)
    names = [f"f{i}" for i in range(rnd.randint(1, 12))]
    kinds = {name: rnd.choice(list(KINDS) if seed % 3 else ["f4", "f8", "u4"]) for name in names}
    counts = {name: rnd.choice([0, 0, 0, 1, 2, 3, 20]) if seed % 2 else 0 for name in names}
    there = make("Row", {name: array_of(kinds[name], counts[name]) for name in names})
    kept = rnd.sample(names, rnd.randint(1, len(names)))
    targets = {name: rnd.choice([kinds[name], *WIDER.get(kinds[name], [])]) for name in kept}
    body = {name: array_of(targets[name], counts[name]) for name in kept}
    defaults: dict[str, Any] = {}
    if rnd.random() < 0.5:
        body["more"] = u32
        defaults["more"] = 0x01020304
    here = make("Row", body, **defaults)
    reading = codec(of_rows(here)).reading(codec(of_rows(there)).schema)
    for count in (0, 1, 2, 3, 7, 50):
        data = random_rows(rnd, there, count, kinds)
        sent = struct.pack("<I", count) + data.tobytes()
        for more in (b"", bytes(64)):  # bytes behind the rows are others' and change nothing
            value = reading.from_bytes(sent + more) if more else reading.from_bytes(sent)
            found = value.rows
            assert found.dtype == codec(here).dtype and found.shape == (count,) and found.flags.writeable
            for name in kept:
                expected = wide(data[name], kinds[name], targets[name])
                assert found[name].tobytes() == expected.tobytes(), (name, kinds[name], targets[name], count)
            if defaults:
                assert (found["more"] == defaults["more"]).all()


@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_signalling_nan_keeps_its_bits(at: int) -> None:
    there, here = make("Row", {"x": f32, "y": u32}), make("Row", {"y": u32, "x": f64})
    data = np.zeros(10, codec(there).dtype)
    data["x"].view("<u4")[:] = 0x3F800000
    data.view("<u4").reshape(10, 2)[at, 0] = SIGNALLING
    sent = struct.pack("<I", 10) + data.tobytes()
    found = codec(of_rows(here)).reading(codec(of_rows(there)).schema).from_bytes(sent).rows
    assert found["x"][at].tobytes() == struct.pack("<Q", 0x7FF0000020000000)
    assert [x for i, x in enumerate(found["x"]) if i != at] == [1.0] * 9


@pytest.mark.parametrize("at", [0, 3, 9])
def test_the_row_and_field_at_fault_are_named(at: int) -> None:
    there = make("Row", {"x": f32, "good": bool, "y": u32})
    here = make("Row", {"y": u32, "good": bool, "x": f64})
    data = np.zeros(10, codec(there).dtype)
    data.view("u1").reshape(10, 9)[at, 4] = 2
    with pytest.raises(InvalidBool) as caught:
        codec(of_rows(here)).reading(codec(of_rows(there)).schema).from_bytes(
            struct.pack("<I", 10) + data.tobytes()
        )
    assert caught.value.path == f"Message.rows[{at}].good" and caught.value.offset == 4 + 9 * at + 4


def test_memory_of_rows_is_their_own() -> None:
    there, here = make("Row", {"x": f32, "y": u32}), make("Row", {"y": u32, "x": f64})
    reading = codec(of_rows(here)).reading(codec(of_rows(there)).schema)
    sent = struct.pack("<I", 3) + bytes(24)
    first, second = reading.from_bytes(sent).rows, reading.from_bytes(sent).rows
    first["y"] = 7
    assert second["y"].tolist() == [0, 0, 0] and first["y"].tolist() == [7, 7, 7]
