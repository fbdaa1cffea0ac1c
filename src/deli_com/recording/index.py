"""The index of a file: built while it is written, read from its summary, or rebuilt by `scan`.

The `mcap` package reads and formats the records.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import defaultdict
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcap.records import Channel, ChunkIndex, MetadataIndex, Schema, Statistics

__all__ = ["MAGIC", "FileIndex", "from_summary"]

MAGIC = b"\x89MCAP0\r\n"
FOOTER_BYTES = 9 + 20 + len(MAGIC)


class FileIndex:
    """The contents of a file, and where they are.

    Attributes
    ----------
    schemas, channels : dict
        By id: records of the `mcap` package.
    chunks : list of ChunkIndex
        In the order of the file.
    metadata : list of MetadataIndex
        In the order of the file.
    statistics : Statistics
        Counts, and the times of the first and last message.
    plain : list of (int, int)
        (offset, length) of runs of messages outside chunks, which some other writers make.
    end : int
        Offset after the last whole record of the data section.
    is_whole : bool
        True if the file has its summary and footer.
    """

    def __init__(self) -> None:
        from mcap.records import Statistics

        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.chunks: list[ChunkIndex] = []
        self.metadata: list[MetadataIndex] = []
        self.plain: list[tuple[int, int]] = []
        self.end = len(MAGIC)
        self.is_whole = False
        self.statistics: Statistics = Statistics(
            attachment_count=0,
            channel_count=0,
            channel_message_counts=defaultdict(int),
            chunk_count=0,
            message_count=0,
            metadata_count=0,
            message_start_time=0,
            message_end_time=0,
            schema_count=0,
        )

    def add_schema(self, schema: Schema) -> None:
        if schema.id not in self.schemas:
            self.statistics.schema_count += 1
        self.schemas[schema.id] = schema

    def add_channel(self, channel: Channel) -> None:
        if channel.id not in self.channels:
            self.statistics.channel_count += 1
        self.channels[channel.id] = channel

    def add_metadata(self, entry: MetadataIndex) -> None:
        self.metadata.append(entry)
        self.statistics.metadata_count += 1

    def add_chunk(self, chunk: ChunkIndex, counts: dict[int, int]) -> None:
        """Add a chunk, with its number of messages by channel."""
        statistics = self.statistics
        if counts:
            first = not statistics.message_count
            statistics.message_start_time = (
                chunk.message_start_time
                if first
                else min(statistics.message_start_time, chunk.message_start_time)
            )
            statistics.message_end_time = max(statistics.message_end_time, chunk.message_end_time)
        for channel, count in counts.items():
            statistics.channel_message_counts[channel] += count
            statistics.message_count += count
        statistics.chunk_count += 1
        self.chunks.append(chunk)

    def ending(self, begin: int) -> bytes:
        """The end of a file whose data section ends at `begin`: summary, footer and closing magic."""
        from mcap.data_stream import RecordBuilder
        from mcap.opcode import Opcode
        from mcap.records import DataEnd, Footer, SummaryOffset

        summary = RecordBuilder()
        DataEnd(data_section_crc=0).write(summary)
        start = summary.count
        groups: list[tuple[Opcode, list[Any]]] = [
            (Opcode.SCHEMA, [*self.schemas.values()]),
            (Opcode.CHANNEL, [*self.channels.values()]),
            (Opcode.STATISTICS, [self.statistics]),
            (Opcode.CHUNK_INDEX, self.chunks),
            (Opcode.METADATA_INDEX, self.metadata),
        ]
        offsets = []
        for opcode, records in groups:
            group = summary.count
            for record in records:
                record.write(summary)
            if records:
                offsets.append(SummaryOffset(opcode, begin + group, summary.count - group))
        offsets_start = summary.count
        for entry in offsets:
            entry.write(summary)
        data: bytes = summary.end()  # type: ignore[no-untyped-call]
        # The checksum covers the summary, and the footer up to the checksum field.
        places = struct.pack("<BQQQ", Opcode.FOOTER, 20, begin + start, begin + offsets_start)
        crc = zlib.crc32(places, zlib.crc32(memoryview(data)[start:]))
        footer = RecordBuilder()
        Footer(begin + start, begin + offsets_start, crc).write(footer)
        end: bytes = footer.end()  # type: ignore[no-untyped-call]
        return data + end + MAGIC


def from_summary(stream: IO[bytes]) -> FileIndex | None:
    """The index from a file's summary; None if it has no summary, or its chunks have no message indexes."""
    from mcap.exceptions import McapError
    from mcap.reader import SeekingReader

    size = stream.seek(0, io.SEEK_END)
    if size < len(MAGIC) + FOOTER_BYTES:
        return None
    stream.seek(size - len(MAGIC))
    if stream.read() != MAGIC:
        return None
    stream.seek(0)
    try:
        found = SeekingReader(stream).get_summary()
    except (McapError, ValueError, struct.error):
        return None
    if found is None or found.statistics is None:
        return None
    indexed = found.chunk_indexes and all(chunk.message_index_offsets for chunk in found.chunk_indexes)
    if found.statistics.message_count and not indexed:
        return None  # messages outside chunks, or chunks without indexes: they need a scan
    index = FileIndex()
    index.schemas, index.channels = found.schemas, found.channels
    index.chunks = sorted(found.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)
    index.metadata = found.metadata_indexes
    index.statistics = found.statistics
    index.is_whole = True
    return index
