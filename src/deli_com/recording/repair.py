"""Writes the missing summary of a file whose writer was killed, so that every reader can open it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from deli_com.recording.chunk import index_chunk
from deli_com.recording.file import index_records, lock
from deli_com.recording.scan import load_chunk, read_index

__all__ = ["Repaired", "repair"]


class Repaired(NamedTuple):
    """The result of `repair`.

    Attributes
    ----------
    was_whole : bool
        The file was complete, and is unchanged.
    messages : int
        Messages in the file now.
    cut : int
        Bytes of the incomplete record that were removed from its end.
    """

    was_whole: bool
    messages: int
    cut: int


def repair(path: str | os.PathLike[str]) -> Repaired:
    """Remove the incomplete record at the end of a recording and write its summary, in place.

    Parameters
    ----------
    path : path
        A file that no program is writing.

    Returns
    -------
    Repaired

    Raises
    ------
    ValueError
        The file does not begin like an MCAP file. It is unchanged.
    BlockingIOError
        A recording is writing to the file. It is unchanged.
    OSError
        The file cannot be read or written.
    """
    with Path(path).open("r+b") as stream:
        lock(stream.fileno(), path)
        index = read_index(stream)
        if index.is_whole:
            return Repaired(True, index.statistics.message_count, 0)
        size = stream.seek(0, os.SEEK_END)
        end = index.end
        tail = b""
        if index.chunks:
            last = index.chunks[-1]
            pairs = index_chunk(load_chunk(stream, last))
            if {*pairs} != {*last.message_index_offsets}:  # killed before all indexes were written
                end = last.chunk_start_offset + last.chunk_length
                tail, last.message_index_offsets, _ = index_records(pairs, end)
                last.message_index_length = len(tail)
        # Truncate first, because the summary may be shorter than the removed bytes.
        stream.truncate(end)
        stream.seek(end)
        stream.write(tail + index.ending(end + len(tail)))
        stream.flush()
        os.fsync(stream.fileno())
        return Repaired(False, index.statistics.message_count, size - end)
