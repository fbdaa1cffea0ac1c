"""A recording is read by a type that has changed since it was written: by the rules of a client's schema."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from deli_com import Codec, Recording, SchemaMismatch, codec, f32, f64, field, u8, u16, u32
from deli_com.recording.recorder import Recorder


class Old:
    """The types of the program that records."""

    class Side(enum.Enum):
        BUY = 0
        SELL = 1

    class Point(Codec):
        x: f32
        y: f32

    class Message(Codec, sealed=True):
        stamp: u32

    class Alarm(Message):
        code: u8

    class Pose(Message, policy="latest", key="robot", retain=True):
        robot: str
        at: Old.Point
        battery: u8
        side: Old.Side

    class Tick(Codec):
        price: f32
        size: u16
        old_name: str


class New:
    """The same, a year later."""

    class Side(enum.Enum):  # members have changed places, and there is another
        SELL = 0
        HOLD = 1
        BUY = 2

    class Place(Codec):  # another name, other order, a field more
        y: f64
        x: f64
        z: f64 = 1.5

    class Message(Codec, sealed=True):
        stamp: u32

    class Ping(Message):  # new, before the others; `Alarm` is gone
        pass

    class Pose(Message, policy="latest", key="robot", retain=True):
        at: New.Place
        robot: str | None
        side: New.Side
        tags: list[str]
        speed: f32 = 2.5  # `battery` is gone

    class Tick(Codec):
        size: u32
        price: f64
        new_name: str = field(renamed_from="old_name")


def written(path: Path, type_: Any, *values: Any) -> Path:
    with Recorder(path, schemas={"down": codec(type_).schema}) as recorder:
        for number, value in enumerate(values):
            channel = recorder.channel("down", type(value).__name__)
            recorder.intake.add(channel, value.to_bytes(), 1_000 + number)
    return path


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    return written(
        tmp_path / "run.mcap",
        Old.Message,
        Old.Pose(1, "a", Old.Point(0.5, 0.25), 90, Old.Side.SELL),
        Old.Alarm(2, 7),
        Old.Pose(3, "b", Old.Point(1.5, 1.25), 80, Old.Side.BUY),
    )


def test_what_can_be_resolved_is(messages: Path):
    """Order, names, skipped fields, defaults, options, lists, members; a variant that is gone is skipped."""
    expected = [
        (1_000, New.Pose(1, New.Place(0.25, 0.5), "a", New.Side.SELL, [], 2.5)),
        (1_002, New.Pose(3, New.Place(1.25, 1.5), "b", New.Side.BUY, [], 2.5)),
    ]
    assert [*Recording[New.Message](messages)] == expected
    assert [*Recording[New.Message](messages).between(1_001)] == expected[1:]
    assert [*Recording[New.Message](messages).select("Pose", key="b")] == expected[1:]
    assert len(Recording[New.Message](messages)) == 2 and len(Recording(messages)) == 3
    assert Recording[New.Message](messages).unknown == 1, "the alarm"
    assert Recording(messages).unknown == Recording[Old.Message](messages).unknown == 0
    assert all(value.at.z == 1.5 for _, value in Recording[New.Message](messages))


def test_a_variant_alone(messages: Path):
    poses = Recording[New.Pose](messages)
    assert [value.robot for _, value in poses] == ["a", "b"]
    assert poses.unknown == 0, "nothing else was asked for"


def test_wider_numbers_and_a_new_name(tmp_path: Path):
    path = written(tmp_path / "run.mcap", Old.Tick, Old.Tick(0.5, 65535, "x"), Old.Tick(1.5, 0, ""))
    assert [value for _, value in Recording[New.Tick](path)] == [
        New.Tick(65535, 0.5, "x"),
        New.Tick(0, 1.5, ""),
    ]
    table = Recording(path).select("Tick")
    assert [value.old_name for _, value in table] == ["x", ""], "without a class, as it was written"


def test_a_torn_file_is_resolved_as_well(messages: Path):
    data = messages.read_bytes()
    messages.write_bytes(data[: data.rindex(b"\x0f\x04") - 20])
    recording = Recording[New.Message](messages)
    assert not recording.is_whole
    assert [value.stamp for _, value in recording] == [1, 3]


class Bad:
    class Point(Codec):
        x: f32
        y: str

    class Message(Codec, sealed=True):
        stamp: u8

    class Alarm(Message):
        code: u8

    class Pose(Message, policy="latest", key="robot", retain=True):
        robot: str
        at: Bad.Point
        battery: f32
        colour: str


def test_all_that_cannot_be_is_listed_before_a_value_is_read(messages: Path):
    with pytest.raises(SchemaMismatch) as caught:
        Recording[Bad.Message](messages)
    assert str(caught.value).splitlines() == [
        "another Message is sent here:",
        "  Alarm.stamp   u8 here, u32 there (wider there)",
        "  Pose.stamp    u8 here, u32 there (wider there)",
        "  Pose.battery  f32 here, u8 there",
        "- Pose.colour   str, only here and without a default",
        "  Pose.at.y     str here, f32 there",
    ]
    assert [*Recording(messages)], "without a class it is read as ever"
