"""The thread of a recording. It compresses, writes and waits for the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from deli_com.recording.chunk import Chunk
from deli_com.recording.intake import Intake
from deli_com.recording.parts import Parts

__all__ = ["WriterThread"]

log = logging.getLogger("deli_com.recording")

CHUNK_S = 0.25  # a chunk that is not full is written after this time at the latest
SYNC_S = 1.0  # interval between calls of fsync


class WriterThread(threading.Thread):
    """Writes the chunks of an intake until `end`.

    An error ends the writing, not the program. It is logged once, and its text is in `error`. Later messages
    are counted as left out.

    Parameters
    ----------
    parts : Parts
        Where chunks are written. Only this thread uses it while it runs.
    limit : int
        Limit on the bytes that wait.
    on_split : callable
        Called in this thread when another file has begun.
    """

    def __init__(self, parts: Parts, limit: int, on_split: Callable[[], object]) -> None:
        super().__init__(name="deli_com recording", daemon=True)
        self.error: str | None = None
        self._parts = parts
        self._on_split = on_split
        self._wake = threading.Event()
        self._end = False
        self.intake = Intake(limit, self._wake.set)

    def end(self) -> None:
        """Tell the thread to write what waits and the end of the file, and to stop. `join` waits for it."""
        self.intake.close()
        self._end = True
        self._wake.set()

    def run(self) -> None:
        synced = time.monotonic()
        while True:
            ending = self._end
            self._wake.wait(0 if ending else CHUNK_S)
            self._wake.clear()
            self._write_all(part_filled=True)
            if ending:
                break
            now = time.monotonic()
            if self.error is None and now - synced >= SYNC_S:
                self._try(self._parts.sync)
                synced = now
        self._try(self._parts.sync)
        self._try(self._parts.finish)
        self._parts.close()

    def _write_all(self, part_filled: bool) -> None:
        while (chunk := self.intake.next_chunk(part_filled)) is not None:
            if self.error is None:
                self._try(self._write, chunk)
            if self.error is None:
                self.intake.give_back(chunk)
            else:
                self.intake.lose(chunk)
        if self.error is None and (gaps := self.intake.take_gaps()):
            self._try(self._write_gaps, gaps)

    def _write(self, chunk: Chunk) -> None:
        if self._parts.write(chunk):
            self._on_split()

    def _write_gaps(self, gaps: dict[int, list[int]]) -> None:
        for channel, (count, first, last) in gaps.items():
            self._parts.add_metadata(
                "deli.gap",
                {
                    "topic": self._parts.channels[channel].topic,
                    "messages": str(count),
                    "from": str(first),
                    "to": str(last),
                },
            )

    def _try(self, action: Callable[..., object], *arguments: object) -> None:
        if self.error is not None:
            return
        try:
            action(*arguments)
        except OSError as error:
            self.error = str(error)
            log.error("the recording %s ends: %s", self._parts.path, error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            log.exception("the recording %s ends", self._parts.path)
