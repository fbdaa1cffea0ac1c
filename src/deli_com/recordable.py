"""`Recordable`: what servers and clients do so that what they send and receive is recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

from deli_com.link.endpoint import Endpoint
from deli_com.link.shown import hide_from, retained_payloads, show_to

if TYPE_CHECKING:
    from deli_com.recording.live import Box, LiveRecorder, Recorded
    from deli_com.recording.tap import Sink
else:  # imported by the first recording; `typing.get_type_hints` finds the names all the same
    Box = LiveRecorder = Any

__all__ = ["RecordTo", "Recordable"]

# What `bind(record=...)` takes: a path, or the arguments of `record` by name.
RecordTo: TypeAlias = Union[str, os.PathLike[str], Mapping[str, Any]]


class Recordable:
    """Half of a class whose other half is an `Endpoint`."""

    _recorders: tuple[LiveRecorder, ...] = ()  # kept alive, and ended by `close`

    def record(
        self,
        path: str | os.PathLike[str],
        *,
        compression: str | None = None,
        on_full: str = "count",
        split_bytes: int | None = None,
        split_seconds: float | None = None,
        keep: int | None = None,
    ) -> LiveRecorder:
        """Record everything that is sent and received from now on, into an MCAP file.

        Use it in ``with`` or ``async with``, or keep what it returns and close it; its own
        ``close`` ends it too. It needs the extra ``deli-com[record]``. See the docs, Record, look, replay.

        Parameters
        ----------
        path : path
            A file that does not exist or is empty; with `split_bytes` or `split_seconds` the next ones are
            called ``run_1.mcap``, ``run_2.mcap``, …
        compression : None, "zstd" or "lz4"
            Of the file.
        on_full : "count" or "raise"
            What happens to a message when 64 MiB wait for the disk: it is left out, counted, and named in
            the file; or `BacklogFull` is raised where it is sent.
        split_bytes, split_seconds : int, float, optional
            The next file begins once one has this size, or holds messages of this time.
        keep : int, optional
            How many files stay; the oldest are removed.

        Returns
        -------
        Recorder
            Its ``stats`` has ``messages``, ``bytes``, ``left_out`` and ``error``.

        Raises
        ------
        FileExistsError
            There is a file with something in it.
        OSError
            It cannot be written.
        ValueError
            An option is none of these.
        ImportError
            The extra is not installed.
        RuntimeError
            Another thread than the event loop's.
        """
        from deli_com.recording.live import LiveRecorder

        recorder = LiveRecorder(
            cast("Recorded", self),
            path,
            compression=compression,
            on_full=on_full,
            split_bytes=split_bytes,
            split_seconds=split_seconds,
            keep=keep,
        )
        self._recorders = (*(held for held in self._recorders if not held.is_closed), recorder)
        return recorder

    def record_last(self, seconds: float = 60.0, max_bytes: int = 256 << 20) -> Box:
        """Keep the last seconds of all that is sent and received, in memory, to be written when it matters.

        Parameters
        ----------
        seconds : float
            How far back it reaches.
        max_bytes : int
            That it holds at most; the oldest messages go first.

        Returns
        -------
        Box
            ``await box.dump(path)`` writes a recording; ``box.close()`` ends it.

        Raises
        ------
        ValueError, ImportError, RuntimeError
            As for `record`.
        """
        from deli_com.recording.live import Box

        return Box(cast("Recorded", self), seconds, max_bytes)

    def _record_from_start(self, where: RecordTo | None) -> None:
        if where is not None:
            from deli_com.recording.live import record_to

            self._recorders = (record_to(cast("Recorded", self), where),)

    async def _end_recordings(self) -> None:
        for recorder in self._recorders:
            await recorder.aclose()

    # --- for recording/live.py --------------------------------------------------------------------------

    def _show_to(self, sink: Sink) -> None:
        show_to(cast("Endpoint[Any, Any]", self), sink)

    def _hide_from(self, sink: Sink) -> None:
        hide_from(cast("Endpoint[Any, Any]", self), sink)

    def _retained_payloads(self) -> list[bytes]:
        return retained_payloads(cast("Endpoint[Any, Any]", self))
