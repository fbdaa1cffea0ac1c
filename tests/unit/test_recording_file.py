"""Recordings as files: the standard reader reads complete, incomplete and repaired ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from mcap.reader import NonSeekingReader, SeekingReader
from mcap.writer import CompressionType, IndexType, Writer

from deli_com.recording.chunk import Chunk, Walk, index_chunk, is_ordered
from deli_com.recording.chunk_data import load_chunk
from deli_com.recording.file import McapFile, compressor
from deli_com.recording.repair import repair
from deli_com.recording.scan import read_index, scan
from deli_com.recording.stored import Stored

COMPRESSIONS = (None, "zstd", "lz4")
Sent = list[tuple[int, int, bytes]]


def fill(chunk: Chunk, begin: int, count: int, seed: int = 0, large: int = 0) -> Sent:
    """Adds messages of two channels to `chunk`; gives them as (channel, time, payload)."""
    random_bytes = random.Random(seed).randbytes
    sent: Sent = []
    for number in range(begin, begin + count):
        size = large if large and number % 5 == 0 else number % 70
        message = (3 if number % 3 else 0, 1_000 + number, random_bytes(size))
        chunk.add(*message)
        sent.append(message)
    return sent


def write(
    path: Path, compression: str | None = None, chunks: int = 3, count: int = 50, large: int = 0
) -> Sent:
    """A whole file of some chunks; gives what is in it."""
    file = McapFile(path, compression, compressor(compression))
    schema = file.add_schema("Pose", "deli", b"struct Pose")
    for channel in (0, 3):
        file.add_channel(channel, f"/{channel}", "deli", schema, {"deli.type": "Pose"})
    file.add_metadata("deli.schema", {"text": "deli 1\n"})
    chunk, sent = Chunk(), Sent()
    for number in range(chunks):
        sent += fill(chunk, number * count, count, large=large)
        file.add_chunk(chunk)
        chunk.clear()
    file.finish()
    return sent


def standard(path: Path, **options: Any) -> Sent:
    """What the standard indexed reader finds in a file."""
    with path.open("rb") as stream:
        found = SeekingReader(stream, validate_crcs=True).iter_messages(**options)
        return [(channel.id, message.log_time, message.data) for _, channel, message in found]


def ours(path: Path) -> Sent:
    """What is found by our own index, whole file or not."""
    with path.open("rb") as stream:
        source = Stored(stream, path)
        index = read_index(source)
        found: Sent = []
        for place in index.chunks:
            walk = Walk(load_chunk(source, place), [True] * 4)
            found += [(walk.channel, at, payload) for at, payload in walk]
        return found


class TestChunk:
    def test_a_record_is_what_the_format_says(self):
        chunk = Chunk()
        chunk.add(3, 0x0102030405060708, b"ab")
        assert b"".join(chunk.pieces()) == (
            b"\x05"  # message
            b"\x18\0\0\0\0\0\0\0"  # 24 bytes follow
            b"\x03\0"  # channel
            b"\0\0\0\0"  # sequence
            b"\x08\x07\x06\x05\x04\x03\x02\x01"  # log time
            b"\x08\x07\x06\x05\x04\x03\x02\x01"  # publish time
            b"ab"
        )
        assert (chunk.size, chunk.count, chunk.start, chunk.end) == (
            33,
            1,
            0x0102030405060708,
            0x0102030405060708,
        )
        assert chunk.indexes_of() == {3: b"\x08\x07\x06\x05\x04\x03\x02\x01" + bytes(8)}

    def test_large_payloads_are_kept_and_not_copied(self):
        chunk, payload = Chunk(), bytes(32768)
        chunk.add(0, 1, payload)
        chunk.add(0, 2, bytearray(32768))  # may change: copied
        pieces = chunk.pieces()
        assert pieces[1] is payload
        assert len(pieces) == 3

    def test_sequence_numbers_go_on_and_indexes_begin_anew(self):
        chunk = Chunk()
        chunk.add(0, 1, b"")
        chunk.clear()
        chunk.add(0, 2, b"")
        assert b"".join(chunk.pieces())[11:15] == b"\1\0\0\0"
        assert len(chunk.indexes_of()[0]) == 16

    def test_while_it_is_written_nothing_moves(self):
        chunk = Chunk()
        chunk.add(0, 1, b"x")
        pieces = chunk.pieces()
        with pytest.raises(BufferError, match="is being written"):
            chunk.add(0, 2, b"y")
        with pytest.raises(BufferError, match="is being written"):
            chunk.clear()
        del pieces
        chunk.clear()

    @pytest.mark.parametrize(
        "wrong", [(-1, 1, b""), (1 << 16, 1, b""), (0, -1, b""), (0, 1, "text"), (0, 1, None)]
    )
    def test_what_is_no_message(self, wrong: Any):
        with pytest.raises((OverflowError, TypeError)):
            Chunk().add(*wrong)

    def test_walk_takes_what_it_is_asked_for(self):
        chunk = Chunk()
        sent = fill(chunk, 0, 90)
        data = b"".join(chunk.pieces())
        assert is_ordered(data)
        assert [(at, payload) for channel, at, payload in sent if channel == 3] == [
            *Walk(data, [None, None, None, True])
        ]
        assert [at for at, _ in Walk(data, [True] * 4, 1_010, 1_020)] == [*range(1_010, 1_020)]
        assert [*Walk(data, [])] == []
        assert index_chunk(data) == chunk.indexes_of()

    def test_walk_of_every_prefix_ends_or_says_where(self):
        chunk = Chunk()
        sizes = [31 + len(payload) for _, _, payload in fill(chunk, 0, 12)]
        ends = [0, *itertools.accumulate(sizes)]
        data = b"".join(chunk.pieces())
        for size in range(len(data)):
            with contextlib.ExitStack() as stack:
                if size not in ends:
                    stack.enter_context(pytest.raises(ValueError, match="of the chunk"))
                for number, (at, _) in enumerate(Walk(data[:size], [True] * 4)):
                    assert at == 1_000 + number and ends[number + 1] <= size
            index_chunk(data[:size])
            is_ordered(data[:size])

    def test_disorder_is_seen(self):
        chunk = Chunk()
        for at in (5, 7, 6):
            chunk.add(0, at, b"")
        assert not is_ordered(b"".join(chunk.pieces()))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("large", [0, 40_000])
class TestWhole:
    def test_the_standard_readers_find_everything(self, tmp_path: Path, compression: str | None, large: int):
        sent = write(tmp_path / "a.mcap", compression, large=large)
        assert standard(tmp_path / "a.mcap") == sent
        assert standard(tmp_path / "a.mcap", topics=["/3"], starting_at=1_020, ending_before=1_090) == [
            message for message in sent if message[0] == 3 and 1_020 <= message[1] < 1_090
        ]
        with (tmp_path / "a.mcap").open("rb") as stream:
            streamed = NonSeekingReader(stream, validate_crcs=True).iter_messages()
            assert [(channel.id, message.log_time, message.data) for _, channel, message in streamed] == sent

    def test_the_end_and_a_scan_say_the_same(self, tmp_path: Path, compression: str | None, large: int):
        write(tmp_path / "a.mcap", compression, large=large)
        with (tmp_path / "a.mcap").open("rb") as stream:
            source = Stored(stream, "a.mcap")
            by_end, by_scan = read_index(source), scan(source)
        for index in (by_end, by_scan):
            index.statistics.channel_message_counts = dict(index.statistics.channel_message_counts)
        assert by_scan.chunks == by_end.chunks
        assert by_scan.statistics == by_end.statistics
        assert by_scan.channels == by_end.channels
        assert by_scan.schemas == by_end.schemas
        assert by_scan.metadata == by_end.metadata
        assert by_scan.is_whole and by_end.is_whole

    def test_nothing_to_repair(self, tmp_path: Path, compression: str | None, large: int):
        path = tmp_path / "a.mcap"
        sent = write(path, compression, large=large)
        before = path.read_bytes()
        assert repair(path) == (True, len(sent), 0, ())
        assert path.read_bytes() == before


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_cut_at_every_byte(tmp_path: Path, compression: str | None):
    """Whole chunks are read from every torn file as it is, and by the standard reader once it is mended."""
    whole, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    sent = write(whole, compression, chunks=2, count=6)
    data = whole.read_bytes()
    with whole.open("rb") as stream:
        ends = [
            place.chunk_start_offset + place.chunk_length
            for place in read_index(Stored(stream, whole)).chunks
        ]
    repaired = 0
    for size in range(8, len(data)):
        torn.write_bytes(data[:size])
        wanted = sent[: 6 * sum(size >= end for end in ends)]
        assert ours(torn) == wanted, size
        was_whole, messages, cut, damaged = repair(torn)
        assert damaged == ()
        assert (was_whole, messages) == (False, len(wanted)) and 0 <= cut <= size
        assert standard(torn) == wanted, size
        assert repair(torn).was_whole
        repaired += 1
    assert repaired == len(data) - 8 > 900


@pytest.mark.parametrize("size", range(8))
def test_less_than_a_magic_is_no_recording(tmp_path: Path, size: int):
    path = tmp_path / "a.mcap"
    path.write_bytes(b"\x89MCAP0\r\n"[:size])
    with pytest.raises(ValueError, match="is no MCAP file"):
        repair(path)
    assert path.stat().st_size == size


def test_a_file_with_something_in_it_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "a.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="is not empty; a recording does not overwrite it"):
        McapFile(path)
    assert path.read_bytes() == b"precious"
    empty = tmp_path / "empty.mcap"
    empty.touch()
    McapFile(empty).finish()
    assert standard(empty) == [] and repair(empty).was_whole


def test_a_file_being_written_is_not_repaired(tmp_path: Path):
    file = McapFile(tmp_path / "a.mcap")
    with pytest.raises(BlockingIOError, match="is being written by another recording"):
        repair(tmp_path / "a.mcap")
    file.close()
    assert repair(tmp_path / "a.mcap") == (False, 0, 0, ())


@pytest.mark.parametrize("options", [dict(use_chunking=False), dict(index_types=IndexType.NONE), {}])
def test_files_of_the_package_s_own_writer(tmp_path: Path, options: dict[str, Any]):
    """Schemas and channels within chunks, no chunks, no indexes: a scan or the end says all the same."""
    path = tmp_path / "a.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=256, compression=CompressionType.NONE, **options)
        writer.start()
        schema = writer.register_schema("T", "ros1msg", b"uint8 x")
        channel = writer.register_channel("/t", "ros1", schema)
        for number in range(100):
            writer.add_message(channel, number, bytes([number]), number)
        writer.finish()
    with path.open("rb") as stream:
        source = Stored(stream, path)
        index = read_index(source)
        assert index.statistics.message_count == 100
        assert [found.topic for found in index.channels.values()] == ["/t"]
        payloads = []
        for place in index.chunks:
            payloads += [payload for _, payload in Walk(load_chunk(source, place), [None, True])]
        for begin, size in index.plain:
            payloads += [payload for _, payload in Walk(source.read(begin, size), [None, True])]
    assert payloads == [bytes([number]) for number in range(100)]


def test_what_compresses():
    with pytest.raises(ValueError, match='compression is None, "zstd" or "lz4", not \'gzip\''):
        compressor("gzip")


def test_a_full_disk_is_an_error_and_what_was_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.mcap"
    file = McapFile(path)
    file.add_channel(0, "/0", "deli", 0, {})
    chunk = Chunk()
    chunk.add(0, 1, b"first")
    file.add_chunk(chunk)
    real = os.write
    left = 20

    def write_some(fd: int, data: Any) -> int:
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        written = real(fd, memoryview(data)[:left])
        left -= written
        return written

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space left"):
        file.add_chunk(chunk)
    monkeypatch.undo()
    file.close()
    shutil.copy(path, tmp_path / "copy.mcap")
    assert repair(tmp_path / "copy.mcap") == (False, 1, 20, ())
