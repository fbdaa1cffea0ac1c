"""Recordings of a running server or client: `LiveRecorder` writes a file, `Box` keeps the last seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from deli_com.ground.callback import called
from deli_com.recording.chunk import Chunk, Walk
from deli_com.recording.intake import Intake
from deli_com.recording.parts import ChannelInfo, Parts
from deli_com.recording.recorder import MAX_WAITING, Recorder, describe_channel, need_mcap, schema_values
from deli_com.recording.tap import ALONE, Sink
from deli_com.schema.tree import Sealed

if TYPE_CHECKING:
    from deli_com._fastcodec import TypeCodec
    from deli_com.recording.where import RecordTo
    from deli_com.schema.schema import Schema

__all__ = ["Box", "Early", "LiveRecorder", "Recorded", "record_to"]

KEYFRAME_S = 10.0  # interval at which the retained values are written again
DETACH_S = 2.0  # limit on the wait of `close` in another thread: the loop may itself wait for that thread
HANDOFF_TURNS = 18  # turns in which a loop takes 16 MiB of other threads' messages; see fanout/handoff


class Recorded(Protocol):
    """The methods that a recording needs of its endpoint."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def is_client(self) -> bool: ...
    @property
    def down(self) -> TypeCodec[Any] | None: ...
    @property
    def up(self) -> TypeCodec[Any] | None: ...
    @property
    def peer_schema(self) -> Any: ...
    def _check_home(self, what: str) -> None: ...
    def _show_to(self, sink: Sink) -> None: ...
    def _hide_from(self, sink: Sink) -> None: ...
    def _retained_payloads(self) -> list[bytes]: ...


class Streams:
    """The two directions of an endpoint, with their names in the file.

    Parameters
    ----------
    endpoint : Recorded
    """

    def __init__(self, endpoint: Recorded) -> None:
        ways = ("up", "down") if endpoint.is_client else ("down", "up")
        sent = None if endpoint.down is None else endpoint.down.schema
        received = None if endpoint.up is None else endpoint.up.schema
        if endpoint.is_client and endpoint.peer_schema is not None:
            # The file needs the server's schema: the bytes are recorded as received, before any conversion.
            received = endpoint.peer_schema.down.theirs or received
        self.ways = ways
        self.schemas: dict[str, Schema] = {
            way: schema for way, schema in zip(ways, (sent, received), strict=True) if schema is not None
        }

    def variants(self, way: int) -> int:
        """Number of variants of the type of a direction; 0 if the type is not sealed."""
        schema = self.schemas.get(self.ways[way])
        root = None if schema is None else schema.tree.by_name.get(str(schema.tree.root))
        return len(root.variants) if isinstance(root, Sealed) else 0

    def describe(self, way: int, variant: int, scope: object, keyframe: bool = False) -> ChannelInfo:
        """The channel for messages of one class."""
        direction = self.ways[way]
        schema = self.schemas[direction]
        root = schema.tree.by_name.get(str(schema.tree.root))
        name = root.variants[variant].name if isinstance(root, Sealed) else ""
        group = None if scope is None or scope is ALONE else str(scope)
        return describe_channel(schema, direction, name, group, keyframe, alone=scope is ALONE)


def refuse_child(process: int, what: str) -> None:
    """Raise RuntimeError in a child process, because the file belongs to its parent."""
    if os.getpid() != process:
        raise RuntimeError(
            f"{what} was called in process {os.getpid()}, but the recording belongs to process {process}, "
            "from which this one was forked: start a recording here, after the fork"
        )


class LiveRecorder(Recorder):
    """Records what an endpoint sends and receives; see `Recorder`.

    Parameters
    ----------
    endpoint : Recorded
        The recorder must be made in the thread of its loop.
    path : path
    **options
        Options of `Recorder`.
    """

    def __init__(self, endpoint: Recorded, path: str | os.PathLike[str], **options: Any) -> None:
        endpoint._check_home("record")
        streams = Streams(endpoint)
        super().__init__(path, schemas=streams.schemas, **options)
        self._streams = streams
        self._endpoint = weakref.ref(endpoint)
        self._loop = endpoint.loop
        self._is_told = True
        self._process = os.getpid()
        self._thread_id = threading.get_ident()  # of the loop
        self._keyframes: dict[int, int] = {}
        self._made: dict[tuple[int, int, object], int] = {}  # channels by way, variant and scope
        self._sink = Sink(self.intake, self._channel_of, streams.variants(0), streams.variants(1))
        endpoint._show_to(self._sink)
        self._has_keyframes = not endpoint.is_client
        if self._has_keyframes:
            self._write_keyframes()
            self._loop.call_later(KEYFRAME_S, self._on_time)

    def close(self) -> None:
        refuse_child(self._process, "close")
        if self._is_told and threading.get_ident() != self._thread_id:
            self._detach_there()
        self._detach()
        super().close()

    async def aclose(self) -> None:
        refuse_child(self._process, "aclose")
        if self._is_told and threading.get_ident() != self._thread_id:
            await asyncio.to_thread(self._detach_there)
        self._detach()
        await super().aclose()

    def __exit__(self, *_: object) -> None:
        if not self.is_closed and sys.stderr is not None and self.stats.waiting > self.LARGE:
            print(f"deli_com: waiting until {self.path} is written", file=sys.stderr)
        self.close()

    def add_early(self, way: int, payload: bytes, at: int) -> None:
        """Add a message that was sent (`way` 0) or received (1) before the recorder was made."""
        variants = self._streams.variants(way)
        variant = int.from_bytes(payload[:4], "little") if variants else 0
        if variant < max(variants, 1):
            self.intake.add(self._channel_of(way, variant, None), payload, at)

    LARGE = 8 << 20  # waiting bytes from which `__exit__` prints that it waits

    # --- private ----------------------------------------------------------------------------------------

    def _detach(self) -> None:
        self._is_told = False
        endpoint = self._endpoint()
        if endpoint is not None:
            endpoint._hide_from(self._sink)

    def _detach_there(self) -> None:
        # Messages that this thread has sent before are recorded: it waits for the turns that take them.
        done = threading.Event()

        def turn(left: int) -> None:
            if left:
                self._loop.call_soon(turn, left - 1)
                return
            self._detach()
            done.set()

        try:
            self._loop.call_soon_threadsafe(turn, HANDOFF_TURNS)
        except RuntimeError:  # the loop is closed
            return
        if self._loop.is_running():
            done.wait(DETACH_S)

    def _channel_of(self, way: int, variant: int, scope: object) -> int:
        channel = self._made.get((way, variant, scope))
        if channel is None:
            info = self._streams.describe(way, variant, scope)
            channel = self._made[way, variant, scope] = self.add_channel(info)
        return channel

    def _on_time(self) -> None:
        if self._is_told and self._endpoint() is not None:
            self._write_keyframes()
            self._loop.call_later(KEYFRAME_S, self._on_time)

    def _on_split(self) -> None:
        # Runs in the writer's thread. The first call may come before __init__ has finished.
        if self.__dict__.get("_has_keyframes"):
            with contextlib.suppress(RuntimeError):  # the loop may be closed
                self._loop.call_soon_threadsafe(self._write_keyframes)

    def _write_keyframes(self) -> None:
        endpoint = self._endpoint()
        if endpoint is None or not self._is_told:
            return
        at = self.intake.now()  # the keyframes describe one state, so all get the same time
        variants = self._streams.variants(0)
        for payload in endpoint._retained_payloads():
            variant = int.from_bytes(payload[:4], "little") if variants else 0
            channel = self._keyframes.get(variant)
            if channel is None:
                info = self._streams.describe(0, variant, None, keyframe=True)
                channel = self._keyframes[variant] = self.add_channel(info)
            self.intake.add(channel, payload, at)


class Box:
    """The last seconds of an endpoint's messages, in memory; `dump` writes them to a file.

    Parameters
    ----------
    endpoint : Recorded
    seconds : float
        How far back the messages reach.
    max_bytes : int
        Limit on the bytes of full chunks. Past it, the oldest chunks are dropped.

    Raises
    ------
    ValueError
        A number is 0 or less.
    ImportError
        The extra ``deli-com[record]`` is not installed.
    """

    def __init__(self, endpoint: Recorded, seconds: float, max_bytes: int) -> None:
        for name, value in (("seconds", seconds), ("max_bytes", max_bytes)):
            if not value > 0:
                raise ValueError(f"{name} is more than 0, not {value!r}")
        need_mcap()
        endpoint._check_home("record_last")
        self.seconds = seconds
        self.max_bytes = max_bytes
        self._process = os.getpid()
        self._thread_id = threading.get_ident()  # of the loop
        self._streams = Streams(endpoint)
        self._endpoint = weakref.ref(endpoint)
        self._loop = endpoint.loop
        self._chunks: deque[Chunk] = deque()
        self._channels: list[ChannelInfo] = []
        self._intake = Intake(sys.maxsize, self._on_full)
        self._intake.set_chunk_bytes(max(1024, min(1 << 20, max_bytes // 16)))
        self._sink = Sink(
            self._intake, self._channel_of, self._streams.variants(0), self._streams.variants(1)
        )
        endpoint._show_to(self._sink)

    @property
    def held_bytes(self) -> int:
        """Bytes of the chunks that it holds, without the chunk that is being filled."""
        return self._intake.waiting

    async def dump(self, path: str | os.PathLike[str], *, compression: str | None = None) -> Path:
        """Write the held messages to a file. The recording continues.

        Parameters
        ----------
        path : path
            A file that does not exist or is empty.
        compression : None, "zstd" or "lz4"

        Returns
        -------
        Path
            The file.

        Raises
        ------
        OSError
            The file cannot be written.
        RuntimeError
            Called in another thread or event loop than that of the server or client, while that loop lives,
            or in a child of its process.
        """
        refuse_child(self._process, "dump")
        endpoint = self._endpoint()
        if endpoint is not None and not self._loop.is_closed():
            endpoint._check_home("dump")
        self._collect(part_filled=True)
        since = self._intake.now() - int(self.seconds * 1e9)
        # The bytes are copied here, because the chunks are reused while a thread writes the file.
        held = [b"".join(bytes(piece) for piece in chunk.pieces()) for chunk in self._chunks]
        channels = [*self._channels]
        target = Path(path)
        await asyncio.get_running_loop().run_in_executor(
            None, self._write, target, compression, held, channels, since
        )
        return target

    def close(self) -> None:
        """Drop all messages, and stop recording. Legal from any thread."""
        refuse_child(self._process, "close")
        endpoint = self._endpoint()
        if endpoint is not None:
            endpoint._hide_from(self._sink)
        self._intake.close()
        if threading.get_ident() != self._thread_id:  # where a message may just fill a chunk
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._drop)
                return
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- private ----------------------------------------------------------------------------------------

    def _channel_of(self, way: int, variant: int, scope: object) -> int:
        self._channels.append(self._streams.describe(way, variant, scope))
        return len(self._channels) - 1

    def _drop(self) -> None:
        while self._chunks:
            self._intake.give_back(self._chunks.popleft())

    def _on_full(self) -> None:
        self._collect(part_filled=False)

    def _collect(self, part_filled: bool) -> None:
        while (chunk := self._intake.next_chunk(part_filled)) is not None:
            self._chunks.append(chunk)
        since = self._intake.now() - int(self.seconds * 1e9)
        while self._chunks and (
            self._intake.waiting > self.max_bytes or (len(self._chunks) > 1 and self._chunks[0].end < since)
        ):
            self._intake.give_back(self._chunks.popleft())

    def _write(
        self,
        path: Path,
        compression: str | None,
        held: list[bytes],
        channels: list[ChannelInfo],
        since: int,
    ) -> None:
        parts = Parts(path, compression, None, None, None, lambda: schema_values(self._streams.schemas))
        parts.channels = channels
        try:
            wanted = [True] * len(channels)
            chunk = Chunk()
            for data in held:
                walk = Walk(data, wanted, since)
                for at, payload in walk:
                    chunk.add(walk.channel, at, payload)
                if chunk.count:
                    parts.write(chunk)
                    chunk.clear()
            parts.sync()
            parts.finish()
        finally:
            parts.close()


class Early:
    """Holds what a client receives while it connects: its file needs the server's schema first.

    Parameters
    ----------
    endpoint : Recorded
    """

    def __init__(self, endpoint: Recorded) -> None:
        need_mcap()
        self._endpoint = endpoint
        self._intake = Intake(MAX_WAITING, bool)
        self._sink = Sink(self._intake, lambda way, variant, scope: way, 0, 0)
        endpoint._show_to(self._sink)

    def move_to(self, recorder: LiveRecorder) -> None:
        """Move all messages to a recorder, with their times."""
        self._endpoint._hide_from(self._sink)
        while (chunk := self._intake.next_chunk(True)) is not None:
            walk = Walk(b"".join(bytes(piece) for piece in chunk.pieces()), [True, True])
            for at, payload in walk:
                recorder.add_early(walk.channel, payload, at)


def record_to(
    endpoint: Recorded, where: RecordTo | Callable[[], RecordTo], early: Early | None = None
) -> LiveRecorder:
    """Start the recording that ``record=`` of ``bind`` or ``connect`` asks for."""
    place = called(where) if callable(where) else where
    recorder = (
        LiveRecorder(endpoint, **place) if isinstance(place, Mapping) else LiveRecorder(endpoint, place)
    )
    if early is not None:
        early.move_to(recorder)
    return recorder
