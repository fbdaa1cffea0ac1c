"""Repairs a file in place: writes the missing summary of a killed writer, and leaves damage out.

A damaged place gets the head of a private record (opcode 0x80 or more), which readers skip. Its bytes stay in
the file, and records after it can be read.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from deli_com.recording.chunk import index_chunk
from deli_com.recording.chunk_data import load_chunk
from deli_com.recording.file import index_records, lock
from deli_com.recording.index import HEAD, MAGIC, FileIndex, from_summary
from deli_com.recording.scan import need_magic, scan
from deli_com.recording.stored import Stored

__all__ = ["Repaired", "repair"]

DAMAGED = 0xDA  # opcode of what is left out


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
    damaged : tuple of (int, int)
        (offset, bytes) of each damaged place that is left out now. Its bytes are still in the file.
    """

    was_whole: bool
    messages: int
    cut: int
    damaged: tuple[tuple[int, int], ...] = ()


def repair(path: str | os.PathLike[str]) -> Repaired:
    """Repair a recording in place.

    The incomplete record at its end is removed, and the summary is written. Every chunk is read, and its
    checksum is verified. A damaged record or chunk in the middle is left out, and everything intact after it
    is kept.

    Parameters
    ----------
    path : path
        A file that no program is writing.

    Returns
    -------
    Repaired

    Raises
    ------
    RecordingError
        The file does not begin as an MCAP file, or too many damaged bytes look like records. The file is
        unchanged.
    BlockingIOError
        A recording is writing to the file. The file is unchanged.
    OSError
        The file cannot be read or written.
    """
    with Path(path).open("r+b", buffering=0) as stream:
        lock(stream.fileno(), path)
        source = Stored(stream, path)
        need_magic(source)
        found, is_intact = from_summary(source)
        index = scan(source, is_intact=is_intact, verify=True)
        if index.is_whole and not index.damaged:
            return Repaired(True, index.statistics.message_count, 0)
        complete(index, found)
        end, tail = index.end, b""
        if index.chunks and not index.is_whole:
            last = index.chunks[-1]
            after = last.chunk_start_offset + last.chunk_length
            if after + last.message_index_length == end:
                pairs = index_chunk(load_chunk(source, last))
                if {*pairs} != {*last.message_index_offsets}:  # killed before all indexes were written
                    end = after
                    tail, last.message_index_offsets, _ = index_records(pairs, end)
                    last.message_index_length = len(tail)
        if end == len(MAGIC):
            tail = header()
        for begin, size in index.damaged:
            stream.seek(begin)
            write(stream.fileno(), HEAD.pack(DAMAGED, size - HEAD.size))
        # Truncate first, because the summary may be shorter than the removed bytes.
        stream.truncate(end)
        stream.seek(end)
        write(stream.fileno(), tail + index.ending(end + len(tail)))
        os.fsync(stream.fileno())
        cut = 0 if index.is_whole else source.size - end
        return Repaired(False, index.statistics.message_count, cut, tuple(index.damaged))


def complete(index: FileIndex, summary: FileIndex | None) -> None:
    """Add the missing records of channels that have messages, and of their schemas: readers need both.

    Parameters
    ----------
    index : FileIndex
        From a scan. Records of channels and schemas may have been damaged.
    summary : FileIndex or None
        The summary of the file, if it is intact. It repeats them.
    """
    from mcap.records import Channel

    if summary is not None:
        for schema in summary.schemas.values():
            if schema.id not in index.schemas:
                index.add_schema(schema)
        for channel in summary.channels.values():
            if channel.id not in index.channels:
                index.add_channel(channel)
    for number in sorted({*index.statistics.channel_message_counts} - {*index.channels}):
        index.add_channel(
            Channel(id=number, topic=f"/damaged/{number}", message_encoding="", metadata={}, schema_id=0)
        )
    for channel in [*index.channels.values()]:
        if channel.schema_id and channel.schema_id not in index.schemas:
            index.add_channel(replace(channel, schema_id=0))


def header() -> bytes:
    """The first record of a file."""
    from mcap.data_stream import RecordBuilder
    from mcap.records import Header

    builder = RecordBuilder()
    Header(profile="", library="deli-com").write(builder)
    made: bytes = builder.end()  # type: ignore[no-untyped-call]
    return made


def write(fd: int, data: bytes) -> None:
    """Write all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
