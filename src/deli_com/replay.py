"""`Replay`: serves a recording again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from deli_com.errors import ComError, RecordingError
from deli_com.link.payload import forget_all, put_payload
from deli_com.net.address import Address, AddressLike
from deli_com.net.options import one_checked
from deli_com.recording.moments import Moment, nanoseconds
from deli_com.recording.recording import Recording
from deli_com.ws.server import WsServer

if TYPE_CHECKING:
    from deli_com.foxglove.playback import Playback

__all__ = ["Replay", "Serving"]

BATCH = 512  # due messages that are sent in one turn of the loop


class Done:
    """The result of a method that has already done its work. Awaiting it is optional."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield  # makes it a generator


class Replay:
    """Serves a recording: the same bytes as the recorded server, at the same intervals.

    ::

        async with Replay("run.mcap", speed=2.0).serve("127.0.0.1:8765") as replay:
            await replay.seek("+1m")

    Each message has its own time on the clock, so delays do not accumulate: a late message is sent at once.
    Clients that connect later get the retained values of that time. Messages from clients, and those to a
    group or to one client, are not replayed.

    Parameters
    ----------
    path : path
        A file recorded by this library.
    speed : float
        Seconds of the recording that pass in one second.
    loop : bool
        Start over at the end.
    wait_clients : int
        Start when this many clients are connected.

    Raises
    ------
    RecordingError
        The file is no such recording, or it is damaged.
    ValueError
        A number is out of range.
    ImportError
        The extra ``deli-com[record]`` is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        speed: float = 1.0,
        loop: bool = False,
        wait_clients: int = 0,
    ) -> None:
        speed = one_checked("speed", speed)
        loop = one_checked("loop", loop)
        one_checked("n", wait_clients)
        self._recording: Recording[Any] = Recording(path)
        schema = self._recording.schemas.get("down")
        if schema is None:
            raise RecordingError(
                os.fspath(path),
                None,
                "it has no schema of what a server has sent: it was not recorded by deli_com",
            )
        self._schema = schema
        self._speed = speed
        self._loop = loop
        self._wait_clients = wait_clients
        self._server: WsServer[Any, Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._at = self._recording.start  # time in the file at `_since`
        self._since: float | None = None  # time on the loop's clock; None: paused
        self._plays = True
        self._ended = False
        self._end_event = asyncio.Event()
        self._seeks = 0
        self._error: Exception | None = None  # why it has ended before the end
        self._playback: Playback | None = None  # lets viewers control the replay

    # --- control ----------------------------------------------------------------------------------------

    @property
    def duration(self) -> float:
        """Seconds from the first message to the last."""
        return self._recording.duration

    @property
    def position(self) -> float:
        """Seconds from the first message to the current position."""
        return (self._now() - self._recording.start) / 1e9

    @property
    def is_playing(self) -> bool:
        """Whether the clock runs."""
        return self._since is not None

    @property
    def is_ended(self) -> bool:
        """The last message was sent, and it was not told to go on."""
        return self._ended

    @property
    def time(self) -> int:
        """Where it is now, in nanoseconds since the epoch."""
        return self._now()

    @property
    def time_range(self) -> tuple[int, int]:
        """Times of the first and the last message, in nanoseconds since the epoch."""
        return self._recording.start, self._recording.end

    @property
    def speed(self) -> float:
        """Seconds of the recording that pass in one second. It may be set at any time."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        speed = one_checked("speed", value)
        self._check_home("replay.speed")
        self._at, self._since = self._now(), None if self._since is None else self._clock()
        self._speed = speed
        self._has_changed()

    def play(self) -> Done:
        """Continue; at the end, start over. Awaiting the result is optional."""
        self._check_home("replay.play()")
        begins_again = self._ended
        if begins_again:
            self._move(self._recording.start)
        self._plays = True
        if self._since is None and self._server is not None:
            self._since = self._clock()
        self._has_changed(sought=begins_again)
        return Done()

    def pause(self) -> Done:
        """Pause. Awaiting the result is optional."""
        self._check_home("replay.pause()")
        self._at, self._since = self._now(), None
        self._plays = False
        self._has_changed()
        return Done()

    def seek(self, moment: Moment) -> Done:
        """Move to another time. Clients get the retained values of that time, then the messages after it.

        Parameters
        ----------
        moment : int, str, datetime or timedelta
            As for `Recording.between`: ``"+1m"`` from the start, ``"-10s"`` from the end.

        Raises
        ------
        RecordingError
            The file is damaged there: the retained values cannot be read.
        """
        self._check_home("replay.seek()")
        at = nanoseconds(moment, self._recording.start, self._recording.end)
        self._move(min(max(at, self._recording.start), self._recording.end))
        self._has_changed(sought=True)
        if self._server is not None:
            self._put_state(self._at)
        return Done()

    async def wait_end(self) -> None:
        """Wait until the last message is sent. With ``loop=True`` this never returns.

        Raises
        ------
        RecordingError
            The file is damaged: nothing behind that place is sent. `seek` may go on elsewhere.
        """
        self._check_running("replay.wait_end()")
        await self._end_event.wait()
        if self._error is not None:
            raise self._error

    def serve(self, addr: AddressLike, **options: Any) -> Serving:
        """Serve it at `addr`, with any option of ``WsServer.bind``. Await it, or use ``async with``."""
        return Serving(self, addr, options)

    @property
    def server(self) -> WsServer[Any, Any]:
        """The server of the replay.

        Raises
        ------
        RuntimeError
            The replay is not served yet.
        """
        if self._server is None:
            raise RuntimeError("write: async with replay.serve(addr)")
        return self._server

    def local_addr(self) -> Address:
        """Return the address at which it is served."""
        return self.server.local_addr()

    async def close(self) -> None:
        """Stop, and close the server and the file. May be called again."""
        self._check_running("replay.close()")
        task, self._task = self._task, None
        if self._playback is not None:
            self._playback.close()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        self._recording.close()

    def __repr__(self) -> str:
        state = "playing" if self.is_playing else "ended" if self._ended else "paused"
        where = f"{self.position:.3f} of {self.duration:.3f} s"
        return f"<Replay {os.fspath(self._recording.path)!r}, {where}, {state}>"

    # --- private ----------------------------------------------------------------------------------------

    async def _serve(self, addr: AddressLike, options: dict[str, Any]) -> None:
        if self._server is not None:
            raise RuntimeError("this replay is served already, or was: make another Replay of the file")
        up = self._recording.schemas.get("up")
        cls: Any = WsServer[self._schema.load(), None if up is None else up.load()]  # type: ignore[misc]
        self._server = await cls.bind(addr, **options)
        try:
            self._begin()
        except BaseException:
            await self.close()
            raise

    def _begin(self) -> None:
        if self.server._desk is not None:
            from deli_com.foxglove.playback import Playback

            self._playback = Playback(cast("Any", self), self.server, self.server._desk)
        self._put_state(self._at)
        self._task = asyncio.create_task(self._run(), name=f"replay {self._recording.path}")

    def _check_home(self, what: str) -> None:
        if self._server is not None:
            self._server._check_home(what)

    def _check_running(self, what: str) -> None:
        if self._server is not None:
            self._server._check_running(what)

    def _has_changed(self, *, sought: bool = False) -> None:
        self._changed.set()
        if self._playback is not None:
            self.server.flush()  # what was sent before comes before
            self._playback.changed(sought=sought)

    def _clock(self) -> float:
        return float(self.server.loop.time())  # asked in any thread, by `position`

    def _now(self) -> int:
        if self._since is None:
            return self._at
        passed = int((self._clock() - self._since) * self._speed * 1e9)
        return min(self._at + passed, self._recording.end)

    def _move(self, at: int) -> None:
        self._at = at
        self._since = None if self._since is None and not (self._ended and self._plays) else self._clock()
        self._ended = False
        self._error = None
        self._end_event.clear()
        self._seeks += 1

    async def _run(self) -> None:
        if self._wait_clients:
            await self.server.wait_clients(self._wait_clients)
        if self._plays:
            self._since = self._clock()
            self._has_changed()
        while True:
            try:
                if await self._play_once():
                    continue  # `seek` has changed the position
                if self._loop and self._recording.duration:
                    self._move(self._recording.start)
                    self._has_changed(sought=True)
                    self._put_state(self._at)
                    await asyncio.sleep(0)
                    continue
                self._at = self._recording.end
            except (ComError, OSError, ValueError, MemoryError) as error:
                self.server.logger.error("replay: it ends here: %s", error)
                self._at, self._error = self._now(), error
            self._since = None
            self._ended = True
            self._end_event.set()
            self._has_changed()
            seeks = self._seeks
            while self._seeks == seeks:
                self._changed.clear()
                await self._changed.wait()

    async def _play_once(self) -> bool:
        # Sends the messages from here on. Returns True if `seek` has changed the position before the end.
        seeks, sent = self._seeks, 0
        for at, payload in self._messages(self._at):
            while True:
                if self._seeks != seeks:
                    return True
                late = None if self._since is None else (at - self._at) / 1e9 / self._speed
                left = None if late is None or self._since is None else self._since + late - self._clock()
                if left is not None and left <= 0:
                    break
                self._changed.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            self._put(payload, at)
            sent += 1
            if sent % BATCH == 0:
                await asyncio.sleep(0)
        return self._seeks != seeks

    def _put(self, payload: bytes, at: int) -> None:
        if self._playback is not None:
            self._playback.sends(self.server, at)
        try:
            put_payload(self.server, payload)
        except ComError as error:  # the backlog of slow clients is full, as in the recording perhaps
            self.server.logger.warning("replay: a message of %d bytes is left out: %s", len(payload), error)

    def _messages(self, since: int) -> Iterator[tuple[int, bytes]]:
        wanted = {
            channel.topic: True
            for channel in self._recording.channels
            if channel.direction == "down" and channel.topic == f"/{channel.type}"
        }
        for at, channel, payload in self._recording.between(since).raw():
            if channel.topic in wanted:
                yield at, payload

    def _put_state(self, at: int) -> None:
        """Set the retained values to those of a moment, from a keyframe before it and later messages."""
        server = self.server
        forget_all(server)
        assert server.down is not None
        lanes = retained_of(server.down.type)
        if not lanes:
            return
        begin, first = self._keyframe_before(at)
        state: dict[Any, bytes] = {}
        for when, channel, payload in self._recording.between(begin, at + 1).raw():
            if channel.direction != "down" or channel.type not in lanes:
                continue
            is_keyframe = channel.topic.startswith("/keyframe/")
            if (channel.topic == f"/{channel.type}" and when < at) or (is_keyframe and when == first):
                try:
                    value = server.down.from_bytes(payload)
                except ComError as error:
                    raise RecordingError(
                        str(self._recording.path),
                        None,
                        f"the {channel.topic} at {when} ns is no value: {error}",
                    ) from error
                names = lanes[channel.type]
                state[channel.type, tuple(repr(getattr(value, name)) for name in names)] = payload
        for payload in state.values():
            self._put(payload, at)

    def _keyframe_before(self, at: int) -> tuple[int, int]:
        # Where reading must begin for the state at a moment, and the time of the keyframe there.
        topics = [found.topic for found in self._recording.channels if found.topic.startswith("/keyframe/")]
        if not topics:
            return self._recording.start, -1
        for reach in (20 * 10**9, None):  # one is written every 10 s
            begin = self._recording.start if reach is None else max(self._recording.start, at - reach)
            times = [
                when
                for when, channel, _ in self._recording.between(begin, at + 1).raw()
                if channel.topic in topics
            ]
            if times:
                return times[-1], times[-1]
        return self._recording.start, -1


class Serving:
    """The result of `Replay.serve`. Awaiting or entering it gives the replay; leaving closes the replay."""

    def __init__(self, replay: Replay, addr: AddressLike, options: dict[str, Any]) -> None:
        self._replay = replay
        self._addr = addr
        self._options = options

    async def _open(self) -> Replay:
        await self._replay._serve(self._addr, self._options)
        return self._replay

    def __await__(self) -> Generator[Any, None, Replay]:
        return self._open().__await__()

    async def __aenter__(self) -> Replay:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._replay.close()


def retained_of(type_: Any) -> dict[str, tuple[str, ...]]:
    """The retained classes of a message type, with the names of their keys."""
    from deli_com.types.instance import RecordType, record_spec

    if not isinstance(type_, RecordType):
        return {}
    spec = record_spec(type_)
    classes = spec.variants.values() if spec.sealed else [type_]
    found = {}
    for cls in classes:
        delivery = record_spec(cls).delivery
        if delivery.retain:
            found[cls.__name__] = delivery.key or ()
    return found
