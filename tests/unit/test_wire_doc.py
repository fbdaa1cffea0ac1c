"""The examples of docs/wire.md are what the codec does."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Any, Literal

import pytest

import deli_com
from deli_com import Codec, FixedArray, codec, u8, u16

DOC = Path(__file__).resolve().parents[2] / "docs" / "wire.md"
TEXT = DOC.read_text(encoding="utf-8")


def names() -> dict[str, Any]:
    """The classes of the document's code blocks."""
    found: dict[str, Any] = {"__name__": "wire_doc", **vars(deli_com)}
    exec("import enum\nclass Side(enum.Enum):\n    BUY = 1\n", found)
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, found)
    return found


NAMES = names()


def unhex(cell: str) -> bytes:
    return bytes.fromhex("".join(re.findall(r"`([0-9a-f]+)`", cell)))


def rows(
    cells: int, start: str = "# The wire format", end: str = "The encoded value may be shorter"
) -> list[list[str]]:
    found = []
    for line in TEXT[TEXT.index(start) : TEXT.find(end)].splitlines():
        parts = [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(parts) == cells:
            found.append(parts)
    return found


def structs() -> list[tuple[str, bytes]]:
    return [(left.strip("`"), unhex(right)) for left, right in rows(2) if re.match(r"`[A-Z]\w+[(.]", left)]


@pytest.mark.parametrize(("text", "raw"), structs())
def test_structs(text: str, raw: bytes) -> None:
    """Each value of section 3 has its bytes; those of section 8 have the length before."""
    value = eval(text, NAMES)
    encoded = codec(type(value)).to_bytes(value) if isinstance(value, enum.Enum) else value.to_bytes()
    assert raw in (encoded, len(encoded).to_bytes(4, "little") + encoded)


SPELLED = {
    "true": True,
    "None": None,
    "1, 2, 255": b"\1\2\xff",
    "1, 2, 3": [1, 2, 3],
    '"a", "", "bc"': ["a", "", "bc"],
    "[1], [], [2, 3]": [[1], [], [2, 3]],
    "inf": float("inf"),
    "1, 2": [1, 2],
}


def golden() -> list[tuple[str, str, bytes]]:
    return [
        (left.strip("`").replace("\\", ""), value.strip("`"), unhex(raw))
        for left, value, raw, _ in rows(4, "Golden bytes", "**Floats.**")
        if left.startswith("`")
    ]


@pytest.mark.parametrize(("type_text", "value_text", "raw"), golden())
def test_golden_bytes(type_text: str, value_text: str, raw: bytes) -> None:
    """Each row of the table of section 2, both ways."""
    compiled = codec(
        eval(type_text, {**NAMES, "FixedArray": FixedArray, "Literal": Literal, "u8": u8, "u16": u16})
    )
    value = SPELLED[value_text] if value_text in SPELLED else eval(value_text)
    assert compiled.to_bytes(value) == raw
    assert compiled.to_bytes(compiled.from_bytes(raw, strict=True)) == raw


def faults() -> list[tuple[str, bytes, str]]:
    return [
        (left.strip("`"), unhex(middle.split("(")[0]), right.strip("`"))
        for left, middle, right in rows(3, "## 5. Errors", "## 6. Limits")
        if re.match(r"`(Unexp|Inv)\w+", right)
    ]


@pytest.mark.parametrize(("type_text", "raw", "error"), faults())
def test_faults(type_text: str, raw: bytes, error: str) -> None:
    """Each row of the table of errors."""
    with pytest.raises(deli_com.DecodeError) as caught:
        codec(eval(type_text, NAMES)).from_bytes(raw)
    name, _, number = error.rstrip(")").partition("(")
    assert type(caught.value).__name__ == name
    assert not number or number in caught.value.detail


def test_tables_were_found() -> None:
    """The patterns above find the tables: an edit must not silently empty this file."""
    assert len(structs()) >= 8
    assert len(golden()) >= 20
    assert len(faults()) >= 8


def test_row_of_the_structured_array() -> None:
    """The comments of the code block tell the truth."""
    dtype = codec(NAMES["Tick"]).dtype
    assert [dtype.fields[name][1] for name in ("stamp", "price", "side", "firm")] == [0, 8, 16, 20]
    assert dtype.itemsize == 21
    assert issubclass(NAMES["Tick"], Codec)
