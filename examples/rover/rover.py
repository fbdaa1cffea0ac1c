"""What the rover and its operators say; each language's file beside this one is generated from it."""

from __future__ import annotations

import enum

from deli_com import Codec, f32, u32, u64


class Mode(enum.Enum):
    IDLE = 0
    DRIVE = 1


class Event(Codec, sealed=True):
    """What the rover sends."""


class Pose(Event, policy="latest", key="name", retain=True):
    name: str
    x: f32
    y: f32
    mode: Mode
    trail: list[f32]


class Alarm(Event):
    code: u32
    stamp: u64  # nanoseconds
    text: str | None


class Command(Codec):
    """What operators send."""

    speed: f32
    mode: Mode
