"""Viewers that control a replay: ``playbackControl`` of Foxglove's protocol, as in the Rust crate `foxglove`.

::

    request   3 | u8 command (0 play, 1 pause) | f32 speed | u8 seeks | u64 time | u32 length | id
    state     5 | u8 status | u64 time | f32 speed | u8 sought | u32 length | id of the request
    time      2 | u64 time

Times are ns since the epoch, numbers little-endian. Each change is reported to every viewer that speaks
``foxglove.sdk.v1``, and the time to every viewer.
"""

from __future__ import annotations

import asyncio
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from deli_com.foxglove.heads import Times
from deli_com.foxglove.protocol import PLAYBACK_STATE

if TYPE_CHECKING:
    from deli_com.foxglove.desk import Desk
    from deli_com.link.endpoint import Endpoint

__all__ = ["ControlRequest", "Playback", "Played", "parse_control", "state"]

PLAYING, PAUSED, ENDED = 0, 1, 3  # 2 means buffering, which does not occur here
PLAY, PAUSE = 0, 1
MAX_ID = 1024  # bytes of a request's id, which is sent to every viewer
TICK_S = 1 / 30  # interval at which viewers get the time
_REQUEST = struct.Struct("<BBfBQI")


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A viewer's request to the player."""

    plays: bool
    speed: float
    seek: int | None  # ns since the epoch
    id: bytes


class Played(Protocol):
    """The part of a replay that viewers control."""

    speed: float

    @property
    def is_playing(self) -> bool: ...
    @property
    def is_ended(self) -> bool: ...
    @property
    def time(self) -> int: ...
    @property
    def time_range(self) -> tuple[int, int]: ...
    def play(self) -> object: ...
    def pause(self) -> object: ...
    def seek(self, moment: int) -> object: ...


def parse_control(data: bytes) -> ControlRequest:
    """Parse a request.

    Raises
    ------
    ValueError
        The request is invalid. The text of the error is for the viewer.
    """
    if len(data) < _REQUEST.size:
        raise ValueError("Buffer too short")
    _, command, speed, seeks, at, size = _REQUEST.unpack_from(data)
    if command not in (PLAY, PAUSE):
        raise ValueError(f"Invalid playback command {command}")
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"the speed of playback is more than 0, not {speed}")
    if size > MAX_ID:
        raise ValueError(f"the id of a request has more than {MAX_ID} bytes")
    found = data[_REQUEST.size : _REQUEST.size + size]
    if len(found) < size:
        raise ValueError("Buffer too short")
    try:
        found.decode()
    except UnicodeDecodeError:
        raise ValueError("the id of a request is not UTF-8") from None
    return ControlRequest(command == PLAY, speed, at if seeks else None, found)


def state(status: int, at: int, speed: float, sought: bool, request: bytes = b"") -> bytes:
    """Return a message with the state of the player."""
    return struct.pack("<BBQfBI", PLAYBACK_STATE, status, at, speed, sought, len(request)) + request


class Playback:
    """The player of one server.

    Parameters
    ----------
    replay : Played
        Not kept alive.
    server : Endpoint
        The server of the replay.
    desk : Desk
        The desk of that server.
    """

    def __init__(self, replay: Played, server: Endpoint[Any, Any], desk: Desk) -> None:
        self._replay = ref(replay)
        self._desk = desk
        self._loop = server.loop
        self._timer: asyncio.TimerHandle | None = None
        self._times = desk.times = Times()
        self._is_silent = False
        self._answers = b""  # id of the request that a seek is for
        self.time_range = replay.time_range
        desk.player = self
        self.changed()

    def control(self, request: ControlRequest) -> None:
        """Execute a viewer's request, and report the new state to all viewers."""
        replay = self._replay()
        if replay is None:
            return
        was_ended = replay.is_ended
        self._is_silent = True  # one report for the whole request
        try:
            if request.speed != replay.speed:
                replay.speed = request.speed
            if request.plays != replay.is_playing:
                replay.play() if request.plays else replay.pause()
        finally:
            self._is_silent = False
        if request.seek is None:
            self.changed(sought=was_ended and request.plays, request=request.id)
            return
        self._answers = request.id
        start, end = self.time_range
        replay.seek(min(max(request.seek, start), end))  # reports the state, then sends the values

    def changed(self, *, sought: bool = False, request: bytes = b"") -> None:
        """Report the state of the player to all viewers."""
        replay = self._replay()
        if replay is None or self._is_silent:
            return
        request, self._answers = request or self._answers, b""
        status = PLAYING if replay.is_playing else ENDED if replay.is_ended else PAUSED
        self._desk.tell(f"state {sought}", state(status, replay.time, replay.speed, sought, request))
        if status == PLAYING and self._timer is None:
            self._tick()

    def sends(self, server: Endpoint[Any, Any], at: int) -> None:
        """Set the time of the values that are sent from now on."""
        self._times.note(server, at)

    def close(self) -> None:
        """Stop reporting to viewers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_silent = True

    def _tick(self) -> None:
        self._timer = None
        replay = self._replay()
        if replay is not None and replay.is_playing and not self._is_silent:
            if self._desk.viewers:
                self._desk.tell("time", struct.pack("<BQ", 2, replay.time))
            self._timer = self._loop.call_later(TICK_S, self._tick)
