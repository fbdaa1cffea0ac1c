"""Damaged recordings: every reader gives what is intact, or one error that names the file and the place."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from mcap.reader import SeekingReader

from deli_com import Codec, Recording, RecordingError, Replay, codec, f32, u32
from deli_com.cli.main import main
from deli_com.recording.chunk import Chunk
from deli_com.recording.file import McapFile, compressor
from deli_com.recording.recorder import describe_channel, schema_values
from deli_com.recording.repair import repair

MUTATIONS = int(os.environ.get("DELI_COM_TEST_MUTATIONS", "150"))
HUGE = [2**16, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


class Said(Codec, sealed=True):
    at: u32


class Pose(Said, policy="latest", key="robot", retain=True):
    robot: str
    x: f32


class Note(Said):
    text: str


def write(path: Path, compression: str | None = None, *, chunks: int = 3, ends: bool = True) -> list[bytes]:
    """A recording of ten messages a chunk; gives their payloads."""
    schema = codec(Said).schema
    file = McapFile(path, compression, compressor(compression))
    for values in schema_values({"down": schema}).values():
        file.add_metadata("deli.schema", values)
    for number, name in enumerate(("Pose", "Note")):
        info = describe_channel(schema, "down", name)
        file.add_channel(number, info.topic, info.encoding, file.add_schema(*info.schema), info.metadata)
    chunk, sent = Chunk(), []
    for number in range(10 * chunks):
        value: Said = Note(number, "text") if number % 2 else Pose(number, f"robot {number}", 0.5)
        sent.append(value.to_bytes())
        chunk.add(number % 2, 1_000 + number, sent[-1])
        if number % 10 == 9:
            file.add_chunk(chunk)
            chunk.clear()
    file.finish() if ends else file.close()
    return sent


def replayed(path: Path) -> list[bytes]:
    """What a replay of the file sends, and what it retains halfway."""

    async def served() -> None:
        async with Replay(path, speed=1e9).serve(None) as replay:
            replay.seek(replay.time_range[0] + 12)
            async with asyncio.timeout(20):
                await replay.wait_end()

    asyncio.run(served())
    return []


def ways_to_read(path: Path) -> dict[str, Callable[[], list[bytes]]]:
    return {
        "values": lambda: [value.to_bytes() for _, value in Recording(path)],
        "own class": lambda: [value.to_bytes() for _, value in Recording[Said](path)],
        "raw": lambda: [payload for _, _, payload in Recording(path).raw()],
        "list": lambda: [payload for _, _, payload in [*Recording(path).between("+2ns", "-2ns").raw()]],
        "repr": lambda: [repr(Recording(path)).encode()][:0],
        "length": lambda: [*map(len, [range(min(len(Recording(path)), 10**9))])][:0],  # type: ignore[list-item]
        "replay": lambda: replayed(path),
    }


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to three bytes, a number of 4 or 8 bytes, or a piece that is not there any more."""
    torn = bytearray(data)
    match draw.randrange(6):
        case 0:
            at = draw.randrange(8, len(torn) - 8)
            struct.pack_into("<Q", torn, at, draw.choice(HUGE))
        case 1:
            at = draw.randrange(8, len(torn) - 4)
            struct.pack_into("<I", torn, at, draw.choice(HUGE) % 2**32)
        case 2:
            at = draw.randrange(8, len(torn) - 1)
            del torn[at : at + draw.randrange(1, 200)]
        case _:
            for _ in range(draw.randrange(1, 4)):
                torn[draw.randrange(8, len(torn))] = draw.randrange(256)
    return bytes(torn)


def check(path: Path, sent: list[bytes], ways: Any, why: object) -> int:
    """Read a file in some ways; give how many of them were errors."""
    known, refused = {*sent}, 0
    for name in ways:
        error: RecordingError | None = None
        try:
            found = ways_to_read(path)[name]()
        except RecordingError as caught:
            error, found = caught, []
        assert {*found} <= known, (name, why)
        assert error is None or (error.path == str(path) and str(path) in str(error)), why
        refused += error is not None
    return refused


def mended(path: Path, sent: list[bytes], why: object) -> int | None:
    """Repair a file and read it; give the number of messages, None if it was refused."""
    before = path.read_bytes()
    try:
        done = repair(path)
    except RecordingError:
        done = None
    if done is None:
        assert path.read_bytes() == before, why
        return None
    assert done.was_whole == (path.read_bytes() == before), why
    assert sum(size for _, size in done.damaged) <= len(before)
    again = repair(path)
    assert again[:2] == (True, done.messages), why
    lost = any(place < 1_000 for place, _ in done.damaged)
    with path.open("rb") as stream:
        standard = SeekingReader(stream, validate_crcs=True).iter_messages()
        # Without the record of a channel, no reader but ours finds its messages where chunks are not indexed.
        found = [] if lost else [message.data for _, _, message in standard]
    assert lost or (len(found) == done.messages and {*found} <= {*sent}), why
    return done.messages


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_of_mutated_files_every_reader_gives_what_was_written_or_the_one_error(
    tmp_path: Path, compression: str | None
) -> None:
    whole, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    sent = write(whole, compression)
    data, draw, refused = whole.read_bytes(), random.Random(f"damage {compression}"), 0
    for number in range(MUTATIONS // 3):
        torn.write_bytes(mutated(data, draw))
        ways = [name for name in ways_to_read(torn) if name != "replay" or number % 10 == 0]
        refused += check(torn, sent, ways, number)
        mended(torn, sent, number)
    assert refused > MUTATIONS // 6


def test_a_file_cut_at_every_byte(tmp_path: Path) -> None:
    """`test_recording_file` repairs such files, too."""
    whole, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    sent = write(whole, chunks=1)
    data = whole.read_bytes()
    for size in range(0, len(data), 1 if MUTATIONS > 150 else 7):
        torn.write_bytes(data[:size])
        check(torn, sent, ["values" if size % 2 else "own class"], size)


@pytest.mark.parametrize(
    "command", [["inspect"], ["export", "--json"], ["repair"], ["replay", "--bind", "0"]]
)
def test_the_command_line_names_file_and_place(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, draw = tmp_path / "torn.mcap", random.Random("command line")
    write(path)
    data, failed = path.read_bytes(), 0
    if command[0] == "replay":
        command = ["replay", "--bind", "127.0.0.1:0", "--speed", "1e9"]
    for number in range(12 if command[0] == "replay" else 40):
        path.write_bytes(mutated(data, draw))
        code = main([command[0], str(path), *command[1:]])
        said = capsys.readouterr()
        assert code in (0, 2), number
        assert "Traceback" not in said.err
        if code:
            failed += 1
            assert str(path) in said.err, number
    assert failed or command[0] in ("repair", "replay")


def test_a_damaged_record_in_the_middle_costs_itself_only(tmp_path: Path) -> None:
    """No summary, and bytes of the second chunk in turn: the others are kept, and it is said."""
    whole, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    sent = write(whole, "zstd", ends=False)
    data = whole.read_bytes()
    place = Recording(whole)._index.chunks[1]
    begin, end = place.chunk_start_offset, place.chunk_start_offset + place.chunk_length
    times = range(begin + 9, begin + 25)  # of the chunk's header: not covered by the checksum, and not needed
    for at in range(begin, end + place.message_index_length, 1 if MUTATIONS > 150 else 9):
        torn.write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        found: list[bytes] = []
        error: RecordingError | None = None
        try:
            for _, _, payload in Recording(torn).raw():
                found.append(payload)
        except RecordingError as caught:
            error = caught
        if error is None:
            assert found == sent or at in times, at  # a bit that a compressed chunk has no use for
        else:
            assert error.offset is not None and begin <= error.offset <= at, at
            assert "deli-com repair" in str(error) or "is not supported" in str(error), at
        assert {*found} <= {*sent} if at in times else found == sent[: len(found)]
        done = repair(torn)
        assert not done.was_whole and done.cut == 0, at
        assert done.damaged or error is None
        for left, size in done.damaged:
            assert begin <= left and left + size <= end + place.message_index_length, at
        kept = [payload for _, _, payload in Recording(torn).raw()]
        assert kept == (sent if error is None or at >= end else sent[:10] + sent[20:]), at
        assert torn.stat().st_size > len(data)  # nothing was cut


def test_messages_of_a_damaged_channel_are_kept_under_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No summary repeats the record. The name is that of the next repair, too, and every command reads it."""
    whole, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    sent = write(whole, ends=False)
    data = bytearray(whole.read_bytes())
    data[data.index(b"\x05\0\0\0/Note")] = 0xFF  # the length of the topic
    for _ in range(2):
        torn.write_bytes(data)
        assert [size for _, size in repair(torn).damaged] != []
        found = [*Recording(torn).raw()]
        assert [payload for _, _, payload in found] == sent
        assert {channel.topic for _, channel, _ in found} == {"/Pose", "/damaged/1"}
    assert repair(torn).was_whole
    assert [value.at for _, value in Recording[Said](torn)] == [*range(0, 30, 2)]
    assert main(["inspect", str(torn)]) == 0
    assert "/damaged/1" in capsys.readouterr().out
    assert main(["export", "--json", str(torn)]) == 0


def test_a_whole_file_with_a_damaged_chunk_is_mended_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.mcap"
    sent = write(path)
    data = bytearray(path.read_bytes())
    at = data.index(sent[15])
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="the chunk is damaged: its checksum differs"):
        _ = [*Recording(path)]
    assert main(["repair", str(path)]) == 0
    assert "are damaged, and left out" in capsys.readouterr().out
    assert [payload for _, _, payload in Recording(path).raw()] == sent[:10] + sent[20:]


def test_the_checksum_of_the_summary_is_compared(tmp_path: Path) -> None:
    """A count of the summary is changed: the file is scanned, and says that its end is not intact."""
    path = tmp_path / "run.mcap"
    sent = write(path)
    data = bytearray(path.read_bytes())
    start, _, crc = struct.unpack_from("<QQI", data, len(data) - 28)
    assert zlib.crc32(data[start:-12]) == crc
    at = data.index(b"\x0b", start) + 9
    assert struct.unpack_from("<Q", data, at)[0] == len(sent)
    struct.pack_into("<Q", data, at, 2**62)
    path.write_bytes(data)
    recording = Recording(path)
    assert not recording.is_whole
    assert len([*recording]) == len(recording) == len(sent)
    struct.pack_into(
        "<I", data, len(data) - 12, 0
    )  # no checksum, as some writers do: the count is still not believed
    path.write_bytes(data)
    assert len([*Recording(path)]) == len(Recording(path)) == len(sent)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_claim_of_size_is_no_reason_to_allocate(tmp_path: Path, compression: str) -> None:
    """More data than the chunk's header claims, and a header that claims more than there are."""
    path = tmp_path / "run.mcap"
    compress = compressor(compression)
    for said in (1 << 20, 1 << 40):
        file = McapFile(path, compression, lambda pieces, size: compress([bytes(200 << 20)], 200 << 20))
        chunk = Chunk()
        chunk.add(0, 1, b"x")
        file.add_channel(0, "/x", "", 0, {})
        file.add_chunk(chunk)
        file.finish()
        data = bytearray(path.read_bytes())
        at = data.index(b"\x06", 40)
        struct.pack_into("<Q", data, at + 9 + 16, said)
        path.write_bytes(data)
        del data
        tracemalloc.start()
        with pytest.raises(RecordingError, match=r"the chunk (has|claims)"):
            _ = [*Recording(path).raw()]
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()
        path.unlink()


def test_a_compression_that_is_not_known_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    write(path, "zstd")
    data = path.read_bytes().replace(b"zstd", b"gzip")
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="the chunk is compressed by 'gzip', which is not supported"):
        _ = [*Recording(path)]
    with pytest.raises(RecordingError, match="which is not supported"):
        repair(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("compression", "where"),
    [("zstd", "deli_com.recording.chunk_data._decompress"), (None, "deli_com.recording.stored.bytearray")],
)
def test_what_the_memory_cannot_hold_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None, where: str
) -> None:
    path = tmp_path / "run.mcap"
    write(path, compression)
    recording = Recording(path)

    def none_left(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(where, none_left, raising=False)
    with pytest.raises(MemoryError, match=r"run\.mcap: there is no memory for the \d+ bytes at byte \d+"):
        _ = [*recording]


def test_the_end_of_a_replay_tells_of_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    sent = write(path)
    data = bytearray(path.read_bytes())
    data[data.index(sent[25])] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="its checksum differs"):
        replayed(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_of_a_fork_and_its_parent_read_at_the_same_time(tmp_path: Path) -> None:
    """Both have the descriptor, and a position in the file would be shared."""
    path = tmp_path / "run.mcap"
    sent = write(path, chunks=60)
    recording = Recording(path)
    messages = recording.raw()
    next(messages)
    child = os.fork()
    if child == 0:
        good = all([payload for _, _, payload in recording.raw()] == sent for _ in range(5))
        os._exit(0 if good else 1)
    mine = [payload for _, _, payload in messages]
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert [payload for _, _, payload in recording.raw()] == sent
    assert mine == sent[1:]


def test_a_time_beyond_all_times(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    sent = write(path)
    assert [*Recording(path).between(2**64)] == []
    assert [*Recording(path).between(10**30, 10**31)] == []
    assert len([*Recording(path).between(-(10**30), 10**30)]) == len(sent)
