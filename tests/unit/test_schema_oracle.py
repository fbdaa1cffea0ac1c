"""Generated types and their mutations: the compiled readers agree with an oracle in plain Python.

`DELI_COM_PAIRS` sets the number of pairs of types, `DELI_COM_TYPES` the number of types that are parsed and
loaded (``make test-schema``: 100,000 and 10,000).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from schema_oracle import Fault, Generator, Resolver, encode, equal, plain

from deli_com import DecodeError, Schema, SchemaMismatch, codec
from deli_com.schema.text import render

PAIRS = int(os.environ.get("DELI_COM_PAIRS", "1500"))
TYPES = int(os.environ.get("DELI_COM_TYPES", "300"))
PARTS = 10


def check_pair(seed: int) -> str:
    """One pair of types, some values of the writer, and damaged ones."""
    made = Generator(seed)
    reader = made.reader()
    writer = made.mutated(reader)
    own = codec(made.classes(reader))
    assert own.schema.text == render(reader.tree)
    there = Schema.parse(render(writer))
    oracle = Resolver(reader, writer)
    refused = None
    try:
        reading = own.reading(there)
    except SchemaMismatch as mismatch:
        refused = mismatch
    if refused is not None:
        assert refused.differences
        assert not oracle.possible(), f"{own.schema}\n{there}\n{refused}"
        return "mismatch"
    assert oracle.possible(), f"{own.schema}\n{there}\n was read"
    for _ in range(3):
        data = encode(writer.root, made.value(writer.root, writer), writer)
        check_bytes(reading, oracle, data, reader)
        for _ in range(4):
            check_bytes(reading, oracle, damaged(made, data), reader)
    return "same" if there == own.schema else "own program" if reading is own else "resolved"


def damaged(made: Generator, data: bytes) -> bytes:
    rnd = made.random
    if not data or rnd.random() < 0.4:
        return data[: rnd.randint(0, len(data))]
    at = rnd.randrange(len(data))
    changed = data[:at] + bytes([rnd.choice([0, 1, 2, 255, rnd.randrange(256)])]) + data[at + 1 :]
    return changed if rnd.random() < 0.7 else changed[: rnd.randint(0, len(data))]


def check_bytes(reading: Any, oracle: Resolver, data: bytes, reader: Any) -> None:
    try:
        expected: Any = oracle.read(data)
    except Fault as fault:
        expected = fault
    try:
        found: Any = reading.from_bytes(data)
    except DecodeError as error:
        found = Fault(type(error).__name__, error.offset)
    if isinstance(found, Fault):
        agree = isinstance(expected, Fault) and found.args == expected.args
        assert agree, f"{reading.schema}\n{reading}: {found!r} for {data.hex()}, not {expected!r}"
        return
    assert not isinstance(expected, Fault), (
        f"{reading.schema}\n{reading}: {found} for {data.hex()}, not {expected}"
    )
    value = plain(reader.tree.root, found, reader.tree)
    assert equal(value, expected), f"{reading.schema}\n{data.hex()}: {value}, not {expected}"


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
def test_pairs_of_types(part: int) -> None:
    kinds = Counter(check_pair(seed) for seed in range(part, PAIRS, PARTS))
    print(kinds)
    if PAIRS >= 1000:
        assert all(kinds[kind] for kind in ("same", "own program", "resolved", "mismatch"))


@pytest.mark.timeout(3600)
def test_types_that_are_parsed_and_loaded() -> None:
    """An equal schema, and every value encoded to the same bytes."""
    for seed in range(TYPES):
        made = Generator(seed)
        reader = made.reader()
        own = codec(made.classes(reader))
        loaded = codec(Schema.parse(own.schema.text).load())
        assert loaded.schema == own.schema and loaded.schema.text == own.schema.text
        for _ in range(3):
            data = encode(reader.tree.root, made.value(reader.tree.root, reader.tree), reader.tree)
            assert own.to_bytes(own.from_bytes(data)) == data
            assert loaded.to_bytes(loaded.from_bytes(data)) == data
            assert own.reading(loaded.schema) is own
