"""Gives a file its end: what a killed writer left becomes a file that every reader takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from deli_com.recording.chunk import index_chunk
from deli_com.recording.file import index_records, lock
from deli_com.recording.scan import load_chunk, read_index

__all__ = ["Repaired", "repair"]


class Repaired(NamedTuple):
    """What `repair` found and did.

    Attributes
    ----------
    was_whole : bool
        The file had its end: nothing was changed.
    messages : int
        That the file holds now.
    cut : int
        Bytes removed from its torn tail.
    """

    was_whole: bool
    messages: int
    cut: int


def repair(path: str | os.PathLike[str]) -> Repaired:
    """Cut the torn tail of a recording and write its end, in place.

    Parameters
    ----------
    path : path
        A file that no one writes any more.

    Returns
    -------
    Repaired

    Raises
    ------
    ValueError
        It does not begin as an MCAP file. Nothing was changed.
    BlockingIOError
        A recording is writing it. Nothing was changed.
    OSError
        It cannot be read or written.
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
            if {*pairs} != {*last.message_index_offsets}:  # killed between the chunk and its indexes
                end = last.chunk_start_offset + last.chunk_length
                tail, last.message_index_offsets, _ = index_records(pairs, end)
                last.message_index_length = len(tail)
        # Cut first: the end may be shorter than the torn tail.
        stream.truncate(end)
        stream.seek(end)
        stream.write(tail + index.ending(end + len(tail)))
        stream.flush()
        os.fsync(stream.fileno())
        return Repaired(False, index.statistics.message_count, size - end)
