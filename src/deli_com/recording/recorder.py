"""`Recorder`: writes messages to MCAP files in a thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deli_com.recording.file import COMPRESSIONS
from deli_com.recording.parts import ChannelInfo, Parts
from deli_com.recording.ros1 import ros1_definition
from deli_com.recording.writer import WriterThread
from deli_com.schema.schema import Schema
from deli_com.schema.tree import Sealed

__all__ = ["MAX_WAITING", "Recorder", "RecorderStats", "describe_channel", "need_mcap", "schema_values"]

MAX_WAITING = 64 << 20  # limit on bytes that wait to be written; past it, messages are left out
MIN_CHUNK = 64 << 10  # least bytes of a chunk if files are split by size
MAX_CHUNK = 1 << 20  # most bytes of a chunk
ON_FULL = ("count", "raise")

# Recorders that are not closed. They are closed when the interpreter exits.
_open: weakref.WeakSet[Recorder] = weakref.WeakSet()


def need_mcap() -> None:
    """Raise `ImportError` with the install command if the extra is not installed."""
    try:
        import mcap  # noqa: F401
    except ImportError as error:
        raise ImportError('recordings need the extra: pip install "deli-com[record]"') from error


def schema_values(schemas: Mapping[str, Schema]) -> dict[str, dict[str, str]]:
    """The values of the ``deli.schema`` records, by direction."""
    return {
        direction: {"direction": direction, "hash": schema.hash, "text": schema.text}
        for direction, schema in schemas.items()
    }


def describe_channel(
    schema: Schema,
    direction: str,
    type_name: str = "",
    group: str | None = None,
    keyframe: bool = False,
    *,
    alone: bool = False,
) -> ChannelInfo:
    """The channel for messages of one class.

    Parameters
    ----------
    schema : Schema
        Schema of the direction.
    direction : str
        ``down`` or ``up``.
    type_name : str
        Name of the variant, if the root is sealed.
    group : str, optional
        The group that receives the messages.
    keyframe : bool
        The channel is for keyframes: a state at one moment, not messages that were sent then.
    alone : bool
        Each message is for one client only.
    """
    root = schema.tree.by_name.get(str(schema.tree.root))
    variant = None
    if isinstance(root, Sealed):
        variant = next(found for found in root.variants if found.name == type_name)
    name = variant.name if variant is not None else getattr(root, "name", "value")
    definition = ros1_definition(schema.tree, variant)
    if definition is None:
        encoding, record = "deli", (name, "deli", schema.text.encode())
    else:
        encoding, record = "ros1", (definition[0], "ros1msg", definition[1].encode())
    topic = "".join(
        (
            "/keyframe" if keyframe else "",
            "/up" if direction == "up" else "",
            "/peer" if alone else f"/group/{group}" if group is not None else "",
            f"/{name}",
        )
    )
    return ChannelInfo(topic, encoding, record, {"deli.type": name, "deli.direction": direction})


@dataclass(frozen=True)
class RecorderStats:
    """The counts of a recording.

    Attributes
    ----------
    messages : int
        Messages recorded.
    bytes : int
        Bytes of their payloads.
    left_out : int
        Messages past the limit, and messages that could not be written.
    waiting : int
        Bytes of full chunks that wait to be written.
    error : str or None
        Why writing has ended; None while it has not failed.
    """

    messages: int
    bytes: int
    left_out: int
    waiting: int
    error: str | None


class Recorder:
    """Writes a stream of messages to a file until it is closed.

    Leaving a ``with`` block waits until the file is complete, and blocks the thread. ``async with`` lets the
    event loop run meanwhile. A thread does the writing, so no sender waits for the disk.

    Parameters
    ----------
    path : path
        As for `WsServer.record`.
    schemas : mapping of str to Schema
        Schemas by direction, ``down`` and ``up``.
    compression, on_full, split_bytes, split_seconds, keep
        As for `WsServer.record`, as are the errors.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        schemas: Mapping[str, Schema],
        compression: str | None = None,
        on_full: str = "count",
        split_bytes: int | None = None,
        split_seconds: float | None = None,
        keep: int | None = None,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ValueError(f'compression is None, "zstd" or "lz4", not {compression!r}')
        if on_full not in ON_FULL:
            raise ValueError(f'on_full is "count" or "raise", not {on_full!r}')
        for name, value in (("split_bytes", split_bytes), ("split_seconds", split_seconds), ("keep", keep)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is more than 0, or None, not {value!r}")
        if keep is not None and split_bytes is None and split_seconds is None:
            raise ValueError("keep says how many files stay: it needs split_bytes or split_seconds")
        need_mcap()
        self.path = Path(path)
        self._schemas = dict(schemas)
        self._channels: dict[tuple[str, str, str | None, bool], int] = {}
        self._parts = Parts(self.path, compression, split_bytes, split_seconds, keep, self._metadata)
        self._thread = WriterThread(self._parts, MAX_WAITING, self._on_split)
        self._thread.intake.raises = on_full == "raise"
        if split_bytes is not None:
            self._thread.intake.set_chunk_bytes(max(MIN_CHUNK, min(MAX_CHUNK, int(split_bytes) // 4)))
        self._thread.start()
        _open.add(self)

    @property
    def stats(self) -> RecorderStats:
        """The counts so far."""
        intake = self._thread.intake
        return RecorderStats(
            intake.messages, intake.bytes, intake.left_out, intake.waiting, self._thread.error
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this recording that are kept, oldest first."""
        return tuple(self._parts.written)

    @property
    def intake(self) -> Any:
        """The queue of messages; see intake.pxd."""
        return self._thread.intake

    def channel(
        self, direction: str, type_name: str | None = None, group: str | None = None, keyframe: bool = False
    ) -> int:
        """The id of the channel for messages of one class. The channel is made on first use.

        Parameters
        ----------
        direction : str
            ``down`` or ``up``.
        type_name : str, optional
            Name of the variant, if the type of that direction is sealed.
        group : str, optional
            The group that receives the messages.
        keyframe : bool
            The channel is for keyframes: a state at one moment, not messages that were sent then.
        """
        key = (direction, type_name or "", group, keyframe)
        found = self._channels.get(key)
        if found is None:
            info = describe_channel(self._schemas[direction], direction, type_name or "", group, keyframe)
            found = self._channels[key] = self.add_channel(info)
        return found

    def add_channel(self, info: ChannelInfo) -> int:
        """Add a channel. Returns its id."""
        self._parts.channels.append(info)
        return len(self._parts.channels) - 1

    @property
    def is_closed(self) -> bool:
        """Whether writing has ended. The file is then complete, unless ``stats.error`` is set."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Write all waiting messages and the end of the file, and block until that is done. Idempotent."""
        self._thread.end()
        self._thread.join()
        _open.discard(self)

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        self._thread.end()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        stats = self.stats
        state = f"ended: {stats.error}" if stats.error else "writing" if self._thread.is_alive() else "closed"
        return f"<Recorder {os.fspath(self.path)!r}: {stats.messages} messages, {state}>"

    # --- private ----------------------------------------------------------------------------------------

    def _metadata(self) -> Mapping[str, Mapping[str, str]]:
        return schema_values(self._schemas)

    def _on_split(self) -> None:
        """Called when another file has begun. `LiveRecorder` writes keyframes then."""


@atexit.register
def _close_all() -> None:
    for recorder in [*_open]:
        recorder.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # those files are the parent's
