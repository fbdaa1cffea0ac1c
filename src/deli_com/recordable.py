"""`Recordable`: the recording methods of servers and clients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from deli_com.link.endpoint import Endpoint
from deli_com.link.shown import hide_from, retained_payloads, show_to
from deli_com.net.options import checked
from deli_com.recording.where import RecordEach, RecordTo

if TYPE_CHECKING:
    from deli_com.recording.live import Box, Early, LiveRecorder, Recorded
    from deli_com.recording.tap import Sink
else:  # imported by the first recording; `typing.get_type_hints` still finds the names
    Box = Early = LiveRecorder = Any

__all__ = ["RecordEach", "RecordTo", "Recordable"]


class Recordable:
    """A mix-in for classes that are also an `Endpoint`."""

    _recorders: tuple[LiveRecorder, ...] = ()  # kept alive until `close`, which closes them

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
        """Record all messages that are sent and received from now on into an MCAP file.

        Use it in ``with`` or ``async with``, or keep the result and close it. Closing the server or client
        closes it, too. It needs the extra ``deli-com[record]``. See the docs: Record, look, replay.

        Parameters
        ----------
        path : path
            A file that does not exist or is empty. With `split_bytes` or `split_seconds` the next files are
            called ``run_1.mcap``, ``run_2.mcap``, …
        compression : None, "zstd" or "lz4"
            Compression of the file.
        on_full : "count" or "raise"
            What happens to a message while 64 MiB wait for the disk. ``count``: the message is left out,
            counted, and reported in the file. ``raise``: sending it raises `BacklogFull`.
        split_bytes, split_seconds : int, float, optional
            The next file begins once the current one has this size, or holds messages of this duration.
        keep : int, optional
            How many files are kept. The oldest are removed.

        Returns
        -------
        Recorder
            Its ``stats`` has ``messages``, ``bytes``, ``left_out`` and ``error``.

        Raises
        ------
        FileExistsError
            The file exists and is not empty.
        OSError
            The file cannot be written.
        TypeError, ValueError
            An option has another value.
        ImportError
            The extra is not installed.
        RuntimeError
            Called in another thread than the event loop's.
        """
        from deli_com.recording.live import LiveRecorder

        sizes = checked(split_bytes=split_bytes, split_seconds=split_seconds, keep=keep)
        recorder = LiveRecorder(
            cast("Recorded", self), path, compression=compression, on_full=on_full, **sizes
        )
        self._recorders = (*(held for held in self._recorders if not held.is_closed), recorder)
        return recorder

    def record_last(self, seconds: float = 60.0, max_bytes: int = 256 << 20) -> Box:
        """Keep the messages of the last seconds in memory, to write them to a file when needed.

        Parameters
        ----------
        seconds : float
            How far back the messages reach.
        max_bytes : int
            Limit on the bytes of full chunks. Past it, the oldest chunks are dropped.

        Returns
        -------
        Box
            ``await box.dump(path)`` writes a recording; ``box.close()`` stops it.

        Raises
        ------
        TypeError, ValueError, ImportError, RuntimeError
            As for `record`.
        """
        from deli_com.recording.live import Box

        return Box(cast("Recorded", self), **checked(last_seconds=seconds, last_bytes=max_bytes))

    @property
    def recorders(self) -> tuple[LiveRecorder, ...]:
        """The recordings that were begun, without those that were closed before the newest was."""
        return self._recorders

    def _record_early(self, where: RecordTo | RecordEach | None) -> Early | None:
        # Of a client: takes what comes until it is known what the server sends.
        if where is None:
            return None
        from deli_com.recording.live import Early

        return Early(cast("Recorded", self))

    def _record_from_start(self, where: RecordTo | RecordEach | None, early: Early | None = None) -> None:
        if where is not None:
            from deli_com.recording.live import record_to

            self._recorders = (record_to(cast("Recorded", self), where, early),)

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
