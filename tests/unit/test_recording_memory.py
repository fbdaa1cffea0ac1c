"""Chunks of a recording are read into the same memory again. What was read from it before stays as it was."""

from __future__ import annotations

import types
import zlib
from array import array
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from deli_com import Array, Codec, Recording, RecordingError, codec, u8, u64
from deli_com.recording.chunk import Chunk, Walk
from deli_com.recording.chunk_data import load_chunk
from deli_com.recording.file import McapFile, compressor
from deli_com.recording.recorder import describe_channel, schema_values

pytest.importorskip("numpy")
CHUNKS, EACH = 6, 50


class Picture(Codec):
    number: u64
    name: str
    data: bytes
    pixels: Array[u8]


class Row(Codec):
    number: u64


def picture(number: int) -> Picture:
    return Picture(number, f"picture {number}", bytes([number % 256]) * 300, array("B", [number % 256] * 100))


def write(path: Path, values: list[Any], compression: str | None = None) -> None:
    """Values of one type in the given order, EACH a chunk; their times are their numbers."""
    kind = type(values[0])
    schema = codec(kind).schema
    file = McapFile(path, compression, compressor(compression))
    for metadata in schema_values({"down": schema}).values():
        file.add_metadata("deli.schema", metadata)
    info = describe_channel(schema, "down", kind.__name__)
    file.add_channel(0, info.topic, info.encoding, file.add_schema(*info.schema), info.metadata)
    chunk = Chunk()
    for count, value in enumerate(values, 1):
        chunk.add(0, 1_000 + value.number, value.to_bytes())
        if count % EACH == 0:
            file.add_chunk(chunk)
            chunk.clear()
    file.finish()


@pytest.fixture
def sent() -> list[Picture]:
    return [picture(number) for number in range(CHUNKS * EACH)]


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("overlap", [False, True])
def test_values_outlive_the_memory_that_they_were_read_from(
    tmp_path: Path, sent: list[Picture], compression: str | None, overlap: bool
) -> None:
    # Overlapping: each chunk has times from the whole recording.
    order = sorted(sent, key=lambda value: value.number % CHUNKS) if overlap else sent
    write(tmp_path / "run.mcap", order, compression)
    with Recording[Picture](tmp_path / "run.mcap") as recording:
        kept = [*recording]
        raw = [bytes(payload) for _, _, payload in [*recording.raw()]]
    assert [value for _, value in kept] == sent
    assert sorted(raw) == sorted(value.to_bytes() for value in sent)


def test_two_iterations_at_a_time_do_not_share_memory(tmp_path: Path, sent: list[Picture]) -> None:
    write(tmp_path / "run.mcap", sent)
    with Recording[Picture](tmp_path / "run.mcap") as recording:
        first, second = iter(recording), iter(recording)
        found: list[Any] = [*islice(first, 2 * EACH + 7)]
        other = [*second]
        found += first
    assert [value for _, value in found] == [value for _, value in other] == sent


def test_an_iteration_that_was_left_does_not_disturb_the_next(tmp_path: Path, sent: list[Picture]) -> None:
    write(tmp_path / "run.mcap", sent)
    with Recording[Picture](tmp_path / "run.mcap") as recording:
        for count in range(1, 2 * EACH, 9):
            left = iter(recording)
            begun = [*islice(left, count)]
            del left
            assert [value for _, value in begun] == sent[:count]
        assert [value for _, value in recording] == sent


def test_the_memory_is_used_again_and_bounded(
    tmp_path: Path, sent: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "run.mcap", sent)
    made: list[int] = []

    class Counted(bytearray):
        def __init__(self, size: int) -> None:
            made.append(size)
            super().__init__(size)

    monkeypatch.setattr("deli_com.recording.stored.bytearray", Counted, raising=False)
    with Recording[Picture](tmp_path / "run.mcap") as recording:
        assert len([*recording]) == CHUNKS * EACH
    assert 1 <= len(made) <= 3  # a chunk is read while another one is walked; one of them was too small


def test_a_walk_gives_its_memory_back_only_once_it_has_ended(tmp_path: Path, sent: list[Picture]) -> None:
    write(tmp_path / "run.mcap", sent)
    with Recording[Picture](tmp_path / "run.mcap") as recording:
        source, chunk = recording.source, recording._index.chunks[0]
        spare: deque[bytearray] = deque(maxlen=2)
        walk = Walk(load_chunk(source, chunk, spare), [codec(Picture)], spare=spare)
        assert [value for _, value in islice(walk, EACH)] == sent[:EACH]
        assert not spare
        assert [*walk] == [*walk] == []
        assert len(spare) == 1
        again = load_chunk(source, recording._index.chunks[1], spare)
        assert not spare
        assert [value for _, value in Walk(again, [codec(Picture)])] == sent[EACH : 2 * EACH]


def test_columns_are_copies(tmp_path: Path) -> None:
    write(tmp_path / "rows.mcap", [Row(number) for number in range(CHUNKS * EACH)])
    with Recording[Row](tmp_path / "rows.mcap") as recording:
        columns = recording.numpy()
        assert [value.number for _, value in recording] == [*range(CHUNKS * EACH)]
    assert columns["number"].tolist() == [*range(CHUNKS * EACH)]
    assert columns["at"].tolist() == [*range(1_000, 1_000 + CHUNKS * EACH)]


def test_a_checksum_is_compared_once_for_each_open_file(
    tmp_path: Path, sent: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "run.mcap", sent)
    compared: list[int] = []
    looked: Any = types.SimpleNamespace(crc32=lambda data: compared.append(len(data)) or zlib.crc32(data))
    monkeypatch.setattr("deli_com.recording.chunk_data.zlib", looked)
    for _ in range(2):
        compared.clear()
        with Recording[Picture](tmp_path / "run.mcap") as recording:
            for _ in range(2):
                assert [value for _, value in recording] == sent
            assert len([*recording.between(recording.start + 7)]) == len(sent) - 7
        assert len(compared) == CHUNKS


def test_a_value_that_asks_for_the_next_one_while_it_is_decoded(tmp_path: Path) -> None:
    """The chunk would end, and the next be read into its memory, while the value is read from it."""
    steps: list[Any] = []

    class Asking(Codec):
        number: u64
        text: str

        def __post_init__(self) -> None:
            if steps:
                next(steps[0])

    write(tmp_path / "asking.mcap", [Asking(number, "x" * 100) for number in range(CHUNKS * EACH)])
    with Recording[Asking](tmp_path / "asking.mcap") as recording:
        steps.append(iter(recording))
        with pytest.raises(RecordingError, match="is decoding a value: it cannot give another"):
            next(steps[0])
        found = steps.pop()
        assert [value.number for _, value in found] == [*range(1, CHUNKS * EACH)]
