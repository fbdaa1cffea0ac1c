"""Compares the output of a program in another language with Python's results for the same inputs."""

from __future__ import annotations

from collections.abc import Callable

import vector_types
from random_schemas import Case

from deli_com import Schema, codec


def compare(cases: list[Case], lines: list[str]) -> None:
    """Line by line: the bytes, the error class and the offset."""
    assert len(lines) == len(cases)
    wrong = [
        f"{case.schema} {case.data.hex()}: {line}, not {case.expected}"
        for case, line in zip(cases, lines, strict=True)
        if line != case.expected
    ]
    assert wrong[:3] == []


def vectors() -> tuple[list[Schema], list[str], Callable[[list[str]], None]]:
    """The vectors of the Rust crates: schemas, lines for a program, and a check of what it prints."""
    entries = [*vector_types.load("wire_good.jsonl"), *vector_types.load("wire_bad.jsonl")]
    names = sorted({entry["type"] for entry in entries})
    found = [codec(vector_types.TYPES[name]).schema for name in names]
    lines = [f"{names.index(entry['type'])} {entry['hex']}" for entry in entries]

    def check(output: list[str]) -> None:
        assert len(output) == len(entries) == 85
        for line, entry in zip(output, entries, strict=True):
            first, second, *rest = line.split(" ")
            wanted = entry.get("error", entry["hex"])
            if wanted is None or "error" not in entry:
                assert first == "ok" and (wanted is None or second in (wanted, "-"))
            else:
                assert first + (f"({rest[0]})" if "(" in wanted else "") == wanted

    return found, lines, check
