"""``deli-com gen``: sources, files, --check."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import vector_types
from random_schemas import GOLDEN

from deli_com import Schema, WsServer, codec
from deli_com.__main__ import main
from deli_com.gen import typescript
from deli_com.recording.recorder import Recorder


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
        ("nowhere:Type", "nowhere:Type cannot be loaded"),
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


def test_a_server_is_a_source(tmp_path: Path) -> None:
    async def main_() -> None:
        async with await WsServer[vector_types.Drawing, vector_types.Shape].bind("127.0.0.1:0") as server:
            url = f"ws://127.0.0.1:{server.local_addr()[1]}/"
            assert await asyncio.to_thread(main, ["gen", "ts", url, "-o", str(tmp_path / "wire.ts")]) == 0

    asyncio.run(main_())
    down, up = codec(vector_types.Drawing).schema, codec(vector_types.Shape).schema
    # Docstrings do not travel.
    expected = typescript(Schema.parse(down.text), Schema.parse(up.text))
    assert (tmp_path / "wire.ts").read_text(encoding="utf-8") == expected


def test_a_recording_is_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mcap", reason="recordings need the package mcap")
    down, up = codec(vector_types.Drawing).schema, codec(vector_types.Shape).schema
    path, out = tmp_path / "run.mcap", tmp_path / "wire.rs"
    with Recorder(path, schemas={"down": down, "up": up}) as recorder:
        value = vector_types.Drawing
        recorder.channel("down", value.__name__)
    assert main(["gen", "rust", str(path), "-o", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert f'pub const SCHEMA_HASH: &str = "{down.hash}"' in text and f'"{up.hash}"' in text
    (tmp_path / "no.mcap").write_bytes(b"nothing")
    assert main(["gen", "rust", str(tmp_path / "no.mcap")]) == 2
    assert "no.mcap" in capsys.readouterr().err
