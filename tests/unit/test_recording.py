"""Recorder and Recording: what is read is what was written, by class, key and time, also if incomplete."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from mcap_ros1.decoder import DecoderFactory

from deli_com import BacklogFull, Codec, codec, f32, u8, u32
from deli_com.recording import recorder as recorder_module
from deli_com.recording.chunk import Chunk
from deli_com.recording.file import McapFile
from deli_com.recording.moments import nanoseconds
from deli_com.recording.parts import ChannelInfo, Parts
from deli_com.recording.recorder import Recorder
from deli_com.recording.recording import Recording


class Point(Codec):
    x: f32
    y: f32


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot"):
    robot: str
    at: Point


class Tick(Message):
    price: f32
    where: Point


class Stop(Codec):
    reason: str | None


def record(path: Path, count: int = 200, **options: Any) -> list[Message]:
    """Poses and ticks in turn, and a stop from a client; gives what the server sent."""
    sent: list[Message] = []
    schemas = {"down": codec(Message).schema, "up": codec(Stop).schema}
    with Recorder(path, schemas=schemas, **options) as recorder:
        for number in range(count):
            value: Message = (
                Pose(number, f"r{number % 3}", Point(float(number), 1.0))
                if number % 2
                else Tick(number, number / 4, Point(2.0, float(number)))
            )
            recorder.intake.add(recorder.channel("down", type(value).__name__), value.to_bytes())
            sent.append(value)
        recorder.intake.add(recorder.channel("up"), Stop("enough").to_bytes())
    assert recorder.stats.messages == count + 1
    assert (recorder.stats.left_out, recorder.stats.waiting, recorder.stats.error) == (0, 0, None)
    return sent


def values(recording: Any) -> list[Any]:
    return [value for _, value in recording]


class TestReading:
    @pytest.fixture(params=[None, "zstd"])
    def recorded(self, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, list[Any]]:
        return tmp_path / "run.mcap", record(tmp_path / "run.mcap", compression=request.param)

    def test_all_values_of_a_class(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        with Recording[Message](path) as recording:
            assert values(recording) == sent
            times = [at for at, _ in recording]
            assert times == sorted(times)
            assert recording.start == times[0] and recording.end >= times[-1]
            assert len(recording) == len(sent)
            assert recording.is_whole
            assert (recording.gaps, recording.unknown) == ((), 0)

    def test_a_variant_alone(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        assert values(Recording[Pose](path)) == [value for value in sent if type(value) is Pose]

    def test_the_other_direction(self, recorded: tuple[Path, list[Any]]):
        assert values(Recording[Stop](recorded[0])) == [Stop("enough")]

    def test_without_a_class(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        recording = Recording(path)
        found = values(recording)
        assert [repr(value) for value in found] == [repr(value) for value in [*sent, Stop("enough")]]
        assert {channel.topic: channel.messages for channel in recording.channels} == {
            "/Pose": 100,
            "/Tick": 100,
            "/up/Stop": 1,
        }
        assert {name: schema.hash for name, schema in recording.schemas.items()} == {
            "down": codec(Message).schema.hash,
            "up": codec(Stop).schema.hash,
        }
        assert repr(recording).startswith(f"<Recording '{path}': 3 channels, 201 messages, ")

    def test_by_key(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        wanted = [value for value in sent if isinstance(value, Pose) and value.robot == "r1"]
        assert values(Recording[Message](path).select(key="r1")) == wanted
        assert len(Recording(path).select("Pose", key="r1")) == len(wanted) > 20

    def test_by_channel(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        assert values(Recording[Message](path).select("/Tick")) == [v for v in sent if type(v) is Tick]
        with pytest.raises(ValueError, match=r"has no channel '/Nope'; it has /Pose, /Tick, /up/Stop"):
            Recording(path).select("/Nope")

    def test_by_time(self, recorded: tuple[Path, list[Any]]):
        path, _ = recorded
        recording = Recording[Message](path)
        everything = [*recording]
        low, high = everything[50][0], everything[120][0]
        inside = [item for item in everything if low <= item[0] < high]
        assert [*recording.between(low, high)] == inside
        assert [*recording.between(low).between(None, high)] == inside
        assert [*recording.between(f"+{low - recording.start}ns", f"-{recording.end - high}ns")] == inside
        assert len(recording.between("+0s", "+0s")) == 0

    def test_as_an_array(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        ticks = [value for value in sent if isinstance(value, Tick)]
        found = Recording(path).numpy("Tick")
        assert found.dtype.names == ("at", "stamp", "price", "where")
        assert found["where"]["y"].tolist() == [tick.where.y for tick in ticks]
        assert found["price"].tolist() == [tick.price for tick in ticks]
        with pytest.raises(ValueError, match="an array holds one channel, name it: /Pose, /Tick, /up/Stop"):
            Recording(path).numpy()
        with pytest.raises(TypeError, match="robot"):
            Recording(path).numpy("Pose")

    def test_the_bytes_as_they_are(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        found = [(channel.topic, payload) for _, channel, payload in Recording(path).raw()]
        assert found[:-1] == [(f"/{type(value).__name__}", value.to_bytes()) for value in sent]
        assert found[-1] == ("/up/Stop", Stop("enough").to_bytes())

    def test_the_standard_reader_decodes_them(self, recorded: tuple[Path, list[Any]]):
        path, sent = recorded
        with path.open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
            found = []
            for _, channel, _, message in reader.iter_decoded_messages(topics=["/Pose", "/Tick"]):
                rest = (
                    (message.robot, message.at.y)
                    if channel.topic == "/Pose"
                    else (message.price, message.where.y)
                )
                found.append((channel.topic, message.variant, message.stamp, *rest))
        assert found == [
            ("/Pose", 0, v.stamp, v.robot, v.at.y)
            if type(v) is Pose
            else ("/Tick", 1, v.stamp, v.price, v.where.y)
            for v in sent
        ]
        encodings = {channel.topic: channel.encoding for channel in Recording(path).channels}
        assert encodings == {"/Pose": "ros1", "/Tick": "ros1", "/up/Stop": "deli"}


class TestMoments:
    @pytest.mark.parametrize(
        ("moment", "wanted"),
        [
            (5, 5),
            ("+10s", 1_000 + 10_000_000_000),
            ("+1.5ms", 1_000 + 1_500_000),
            ("+0.25us", 1_000 + 250),
            ("-2m", 9_000 - 120_000_000_000),
            (timedelta(seconds=2), 1_000 + 2_000_000_000),
            (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1_000_000_000),
        ],
    )
    def test_what_is_one(self, moment: Any, wanted: int):
        assert nanoseconds(moment, 1_000, 9_000) == wanted

    @pytest.mark.parametrize("moment", ["10s", "+10", "+s", "", "+1d", datetime(2026, 1, 1)])
    def test_what_is_none(self, moment: Any):
        with pytest.raises(ValueError, match=r'expected "\+10s" \(from the start\)'):
            nanoseconds(moment, 0, 0)

    @pytest.mark.parametrize("moment", [None, 1.5, True, b"+1s"])
    def test_what_is_of_another_type(self, moment: Any):
        with pytest.raises(TypeError, match="is no moment of a recording"):
            nanoseconds(moment, 0, 0)


class TestFiles:
    def test_one_after_the_other(self, tmp_path: Path):
        """Each part is a file of its own, with the schema; together they are the stream."""
        sent: list[bytes] = []
        options: Any = dict(schemas={"down": codec(bytes).schema}, split_bytes=1 << 20)
        with Recorder(tmp_path / "run.mcap", **options) as recorder:
            channel = recorder.channel("down")
            for number in range(5_000):
                sent.append(number.to_bytes(4, "little") * 250)
                recorder.intake.add(channel, codec(bytes).to_bytes(sent[-1]))
        names = [path.name for path in recorder.files]
        assert names == ["run.mcap", *(f"run_{number}.mcap" for number in range(1, len(names)))]
        assert len(names) > 3
        assert [value for path in recorder.files for value in values(Recording[bytes](path))] == sent

    def test_only_the_newest_stay(self, tmp_path: Path):
        """Five chunks, each in a file of its own, of which two stay."""
        parts = Parts(tmp_path / "run.mcap", None, None, 1e-9, 2, dict)
        parts.channels.append(ChannelInfo("/value", "deli", ("value", "deli", b"")))
        chunk = Chunk()
        for number in range(5):
            chunk.add(0, number + 1, bytes([number]))
            assert parts.write(chunk) == (number > 0)
            chunk.clear()
        parts.finish()
        names = ["run_3.mcap", "run_4.mcap"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        assert [path.name for path in parts.written] == names
        assert [payload for path in parts.written for _, _, payload in Recording(path).raw()] == [
            b"\3",
            b"\4",
        ]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (dict(compression="gzip"), 'compression is None, "zstd" or "lz4"'),
            (dict(on_full="drop"), 'on_full is "count" or "raise"'),
            (dict(split_bytes=0), "split_bytes is more than 0"),
            (dict(split_seconds=-1), "split_seconds is more than 0"),
            (dict(split_seconds=float("nan")), "split_seconds is more than 0"),
            (dict(keep=3), "it needs split_bytes or split_seconds"),
        ],
    )
    def test_options_are_checked_before_there_is_a_file(self, tmp_path: Path, options: Any, words: str):
        with pytest.raises(ValueError, match=words):
            Recorder(tmp_path / "run.mcap", schemas={}, **options)
        assert not [*tmp_path.iterdir()]

    def test_a_recording_overwrites_nothing(self, tmp_path: Path):
        record(tmp_path / "run.mcap")
        before = (tmp_path / "run.mcap").read_bytes()
        with pytest.raises(FileExistsError, match="a recording does not overwrite it"):
            record(tmp_path / "run.mcap")
        assert (tmp_path / "run.mcap").read_bytes() == before

    async def test_the_loop_runs_while_it_ends(self, tmp_path: Path):
        async with Recorder(tmp_path / "run.mcap", schemas={"down": codec(u8).schema}) as recorder:
            recorder.intake.add(recorder.channel("down"), b"\7")
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0)
                    turns += 1

            counting = asyncio.create_task(count())
        counting.cancel()
        assert turns > 0
        assert values(Recording[u8](tmp_path / "run.mcap")) == [7]


def test_a_channel_that_is_made_while_others_are_written_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The sender makes channels, and a thread writes them."""
    written = McapFile.add_channel
    more = ["/b", "/c"]

    def add_channel(self: McapFile, *args: Any) -> None:
        written(self, *args)
        if more:
            parts.channels.append(ChannelInfo(more.pop(0), "deli", ("x", "deli", b"")))

    monkeypatch.setattr(McapFile, "add_channel", add_channel)
    parts = Parts(tmp_path / "run.mcap", None, None, None, None, dict)
    parts.channels.append(ChannelInfo("/a", "deli", ("x", "deli", b"")))
    for channel in range(3):
        chunk = Chunk()
        chunk.add(channel, 1_000 + channel, b"x")
        parts.write(chunk)
    parts.finish()
    with (tmp_path / "run.mcap").open("rb") as stream:
        found = [(channel.topic, message.data) for _, channel, message in make_reader(stream).iter_messages()]
    assert found == [("/a", b"x"), ("/b", b"x"), ("/c", b"x")]


class TestLimits:
    def test_what_finds_no_room_is_left_out_and_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(recorder_module, "MAX_WAITING", 100_000)
        with Recorder(tmp_path / "run.mcap", schemas={"down": codec(bytes).schema}) as recorder:
            channel = recorder.channel("down")
            for _ in range(3):
                recorder.intake.add(channel, bytes(99_000))  # the second and third find no room at first
            stats = recorder.stats
            assert (stats.messages, stats.left_out) == (1, 2)
        with (tmp_path / "run.mcap").open("rb") as stream:
            found = [*make_reader(stream).iter_metadata()]
        gaps = [entry.metadata for entry in found if entry.name == "deli.gap"]
        assert [(gap["topic"], gap["messages"]) for gap in gaps] == [("/value", "2")]
        (gap,) = Recording(tmp_path / "run.mcap").gaps
        assert (gap.topic, gap.messages) == ("/value", 2)
        assert 0 < gap.start <= gap.end and [gap.start, gap.end] == [int(gaps[0][x]) for x in ("from", "to")]

    def test_or_the_sender_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(recorder_module, "MAX_WAITING", 1_000)
        options: Any = dict(schemas={"down": codec(bytes).schema}, on_full="raise")
        with Recorder(tmp_path / "run.mcap", **options) as recorder:
            with pytest.raises(
                BacklogFull, match="backlog full: 2031 bytes would wait to be recorded, limit 1000"
            ):
                recorder.intake.add(recorder.channel("down"), bytes(2_000))
            assert recorder.stats.left_out == 0

    def test_a_full_disk_ends_the_recording_and_not_the_program(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        recorder = Recorder(tmp_path / "run.mcap", schemas={"down": codec(u8).schema})

        def full(fd: int, data: Any) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("deli_com.recording.file.os.write", full)
        with caplog.at_level(logging.ERROR, "deli_com.recording"):
            recorder.intake.add(recorder.channel("down"), b"\1")
            recorder.close()
        assert recorder.stats.error == "[Errno 28] No space left on device"
        assert recorder.stats.left_out == 1
        assert [record.getMessage() for record in caplog.records] == [
            f"the recording {tmp_path / 'run.mcap'} ends: [Errno 28] No space left on device"
        ]
        monkeypatch.undo()
        recorder.intake.add(recorder.channel("down"), b"\2")  # after the end: no error, nothing taken


PROGRAM = """
import sys
from deli_com import codec, u64
from deli_com.recording.recorder import Recorder

recorder = Recorder(sys.argv[1], schemas={"down": codec(u64).schema})
recorder.intake.add(recorder.channel("down"), bytes(8))
"""


def test_a_recorder_that_nobody_closes_ends_with_the_program(tmp_path: Path):
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "run.mcap")], check=True)
    recording = Recording(tmp_path / "run.mcap")
    assert recording.is_whole and values(recording) == [0]


def test_files_of_others(tmp_path: Path):
    """ROS 1 messages that another program wrote, out of order, in chunks that overlap."""
    path = tmp_path / "other.mcap"
    text = (
        "Header header\nfloat32[] ranges\nuint8 KIND=3\ngeometry_msgs/Point at # where\n" + "=" * 80 + "\n"
        "MSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n" + "=" * 80 + "\n"
        "MSG: geometry_msgs/Point\nfloat64 x\nfloat64 y\n"
    )
    payload = (
        b"\7\0\0\0"
        + b"\1\0\0\0\2\0\0\0"
        + b"\3\0\0\0map"
        + b"\1\0\0\0\0\0\x80\x3f"
        + np.array([3.0, 4.0]).tobytes()
    )
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=300, compression=CompressionType.NONE)
        writer.start()
        channel = writer.register_channel(
            "/scan", "ros1", writer.register_schema("s/Scan", "ros1msg", text.encode())
        )
        times = [5, 3, 9, 1, 7, 2, 8, 4, 6, 0]
        for at in times:
            writer.add_message(channel, at, payload, at)
        writer.finish()
    recording = Recording(path)
    found = [*recording]
    assert [at for at, _ in found] == sorted(times)
    assert repr(found[0][1]) == (
        "Scan(header=Header(seq=7, stamp=time(secs=1, nsecs=2), frame_id='map'), ranges=[1.0], "
        "at=Point(x=3.0, y=4.0))"
    )
    assert [at for at, _ in recording.between(3, 6)] == [3, 4, 5]


def test_what_is_no_recording(tmp_path: Path):
    (tmp_path / "a.txt").write_text("no recording")
    with pytest.raises(ValueError, match=r"a\.txt, byte 0: this is no MCAP file"):
        Recording(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "missing.mcap")
