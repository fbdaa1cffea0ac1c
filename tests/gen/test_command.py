"""``deli-com gen``: sources, files, --check."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_schemas import GOLDEN

from deli_com import Schema
from deli_com.__main__ import main
from deli_com.gen import typescript


def test_a_file_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "message.schema", tmp_path / "wire.ts"
    source.write_text(GOLDEN)
    assert main(["gen", "ts", str(source), "-o", str(out), "--check"]) == 1
    assert main(["gen", "ts", str(source), "-o", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == typescript(Schema.parse(GOLDEN))
    assert main(["gen", "ts", str(source), "-o", str(out), "--check"]) == 0
    out.write_text(out.read_text() + "\n")
    assert main(["gen", "ts", str(source), "-o", str(out), "--check"]) == 1
    assert "is stale" in capsys.readouterr().err


def test_a_module_is_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "ts", "vector_types:Drawing,Shape"]) == 0
    text = capsys.readouterr().out
    assert "export interface Drawing {" in text and "UP_SCHEMA_HASH" in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere:Type", "nowhere:Type is not to be had"),
        ("vector_types:Nobody", "has no attribute 'Nobody'"),
        ("vector_types:HERE", "has no schema"),
        ("vector_types:Point,Point,Point", "one for each direction"),
        ("vector_types", "is no file"),
    ],
)
def test_a_source_that_is_none_is_refused(
    source: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gen", "ts", source]) == 2
    assert words in capsys.readouterr().err


def test_check_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "ts", "vector_types:Point", "--check"]) == 2
    assert "give -o FILE" in capsys.readouterr().err
