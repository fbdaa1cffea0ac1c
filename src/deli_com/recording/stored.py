"""Reads the bytes of a recording by offset, within the file, from any thread or process."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import IO

from deli_com.errors import RecordingError

__all__ = ["Stored"]

WINDOW = 1 << 16  # bytes to read ahead for small records


class Stored:
    """Reads an open file at offsets.

    It uses `os.pread`, so threads and child processes do not share a position.

    Parameters
    ----------
    stream : binary file
        Open for reading. The caller closes it.
    path : path
        For errors.

    Attributes
    ----------
    path : str
        The given path.
    size : int
        Bytes of the file at the time of the call.
    checked : set of int
        Offsets of chunks whose checksum was compared.
    """

    def __init__(self, stream: IO[bytes], path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.size = stream.seek(0, os.SEEK_END)
        self.checked: set[int] = set()
        self._stream = stream
        self._fd = stream.fileno()
        self._lock = threading.Lock()
        self._window = (0, b"")  # offset, bytes

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises
        ------
        RecordingError
            Not all of them are within the file.
        MemoryError
            There is no memory for them. The error names the place.
        """
        if not 0 <= offset <= self.size or not 0 <= size <= self.size - offset:
            raise self.error(offset, f"{size} bytes are named here, past the end of the file at {self.size}")
        if size > WINDOW:
            found = self._read(offset, size)
        else:
            begin, window = self._window
            if not begin <= offset <= offset + size <= begin + len(window):
                begin, window = self._window = offset, self._read(offset, min(WINDOW, self.size - offset))
            found = window[offset - begin : offset - begin + size]
        if len(found) < size:
            raise self._shorter(offset)
        return found

    def read_into(self, offset: int, size: int, spare: deque[bytearray]) -> memoryview:
        """Exactly `size` bytes, in memory taken from `spare` if one there is large enough.

        Raises
        ------
        RecordingError, MemoryError
            As by `read`.
        """
        if not hasattr(os, "preadv") or not 0 <= offset <= self.size or not 0 <= size <= self.size - offset:
            return memoryview(bytearray(self.read(offset, size)))
        memory = spare.pop() if spare else None
        try:
            if memory is None or len(memory) < size:
                memory = bytearray(-(-size // WINDOW) * WINDOW)  # chunks differ a little
        except MemoryError:
            raise self.memory_error(offset, size) from None
        view = memoryview(memory)[:size]
        done = 0
        while done < size and (part := os.preadv(self._open_fd(), [view[done:]], offset + done)):
            done += part
        if done < size:
            raise self._shorter(offset)
        return view

    def error(self, offset: int | None, reason: str) -> RecordingError:
        """Make the error for an offset."""
        return RecordingError(self.path, offset, reason)

    def memory_error(self, offset: int, size: int) -> MemoryError:
        """Make the error for content at an offset that is too large for the memory."""
        return MemoryError(f"{self.path}: there is no memory for the {size} bytes at byte {offset}")

    def _shorter(self, offset: int) -> RecordingError:
        return self.error(
            offset, f"the file was {self.size} bytes long when it was opened, and is shorter now"
        )

    def _open_fd(self) -> int:
        if self._stream.closed:
            raise ValueError(f"{self.path} was closed")
        return self._fd

    def _read(self, offset: int, size: int) -> bytes:
        self._open_fd()
        parts = []
        while size:
            try:
                part = self._pread(size, offset)
            except MemoryError:
                raise self.memory_error(offset, size) from None
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pread(self, size: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._fd, size, offset)
        with self._lock:  # Windows
            self._stream.seek(offset)
            return self._stream.read(size)
