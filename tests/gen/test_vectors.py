"""``--vectors``: lines that describe bytes, the same in every language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from random_schemas import GOLDEN

from deli_com import DecodeError, Schema, codec
from deli_com.__main__ import main
from deli_com.gen.vectors import vectors
from deli_com.schema.plain_data import plain_data


def test_the_lines_are_true_of_every_schema(schemas: list[Schema]) -> None:
    errors = 0
    for schema in schemas:
        text = vectors(schema)
        assert text == vectors(Schema.parse(schema.text))
        reading = codec(schema.load())
        for line in map(json.loads, text.splitlines()):
            data = bytes.fromhex(line["hex"])
            assert line["type"] == schema.name
            if "error" not in line:
                assert reading.to_bytes(reading.from_bytes(data)) == data
                continue
            errors += 1
            with pytest.raises(DecodeError) as caught:
                reading.from_bytes(data)
            assert (type(caught.value).__name__, caught.value.offset) == (line["error"], line["offset"])
    assert errors > len(schemas)


def test_the_command_writes_and_checks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, lines = tmp_path / "a.schema", tmp_path / "wire.ts", tmp_path / "vectors.jsonl"
    source.write_text(GOLDEN)
    command = ["gen", "ts", str(source), "-o", str(out), "--vectors", str(lines)]
    assert main(command) == 0
    first = json.loads(lines.read_text(encoding="utf-8").splitlines()[0])
    schema = Schema.parse(GOLDEN)
    value = codec(schema.load()).from_bytes(bytes.fromhex(first["hex"]))
    assert first["value"] == json.loads(json.dumps(plain_data(value)))
    assert main([*command, "--check"]) == 0
    lines.write_text("")
    assert main([*command, "--check"]) == 1
    assert f"{lines} is stale" in capsys.readouterr().err
