"""The index of a file: built while it is written, read from its summary, or rebuilt by `scan`.

The `mcap` package reads and formats the records.
"""

from __future__ import annotations

import struct
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from deli_com.recording.fields import parsed

if TYPE_CHECKING:
    from mcap.records import AttachmentIndex, Channel, ChunkIndex, MetadataIndex, Schema, Statistics

    from deli_com.recording.stored import Stored

__all__ = ["HEAD", "MAGIC", "FileIndex", "from_summary"]

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")  # opcode and length of every record
FOOTER = struct.Struct("<BQQQI")  # its head, the offsets of the summary and of its groups, its checksum
FOOTER_BYTES = FOOTER.size + len(MAGIC)
INDEX_HEAD = HEAD.size + 2 + 4  # bytes of a MessageIndex record before its pairs of 16 bytes


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
    attachments : list of AttachmentIndex
        In the order of the file.
    plain : list of (int, int)
        (offset, length) of runs of messages outside chunks, which some other writers make.
    damaged : list of (int, int)
        (offset, length) of what cannot be read, with intact records after it.
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
        self.attachments: list[AttachmentIndex] = []
        self.plain: list[tuple[int, int]] = []
        self.damaged: list[tuple[int, int]] = []
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

    def add_attachment(self, entry: AttachmentIndex) -> None:
        self.attachments.append(entry)
        self.statistics.attachment_count += 1

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

    def check(self, limit: int) -> None:
        """Compare the offsets and counts of a summary with the size of the file.

        Parameters
        ----------
        limit : int
            Where the data section ends.

        Raises
        ------
        ValueError
            An offset is past the end.
        """
        for chunk in self.chunks:
            end = chunk.chunk_start_offset + chunk.chunk_length
            if end + chunk.message_index_length > limit:
                raise ValueError("a chunk is past the end")
            if any(not end <= offset < limit for offset in chunk.message_index_offsets.values()):
                raise ValueError("a message index is past the end")
        if any(entry.offset + entry.length > limit for entry in self.metadata):
            raise ValueError("metadata are past the end")

    def is_sufficient(self) -> bool:
        """Whether all messages are in chunks with message indexes, and all their channels are known.

        A summary without a checksum may count too many messages, so the count is compared with the size of
        the indexes.
        """
        channels = {channel for chunk in self.chunks for channel in chunk.message_index_offsets}
        room = sum(
            max(0, chunk.message_index_length - INDEX_HEAD * len(chunk.message_index_offsets)) // 16
            for chunk in self.chunks
        )
        counted = sum(self.statistics.channel_message_counts.values())
        return counted <= self.statistics.message_count <= room and channels <= {*self.channels}

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
            # With an index of chunks, readers would not look for messages outside chunks.
            (Opcode.CHUNK_INDEX, [] if self.plain else self.chunks),
            (Opcode.ATTACHMENT_INDEX, self.attachments),
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


def from_summary(source: Stored) -> tuple[FileIndex | None, bool]:
    """The index from a file's summary.

    Returns
    -------
    FileIndex or None
        None if it cannot be used: it is missing, damaged or incomplete.
    bool
        Whether the end of the file is intact.
    """
    footer = source.size - FOOTER_BYTES
    if footer < len(MAGIC):
        return None, False
    end = source.read(footer, FOOTER_BYTES)
    opcode, length, start, offsets, crc = FOOTER.unpack_from(end)
    if end[-len(MAGIC) :] != MAGIC or opcode != 0x02 or length != FOOTER.size - HEAD.size:
        return None, False
    if not start:
        return None, True
    if not len(MAGIC) <= start <= footer or (offsets and not start <= offsets <= footer):
        return None, False
    summary = source.read(start, footer - start)
    # The checksum covers the summary, and the footer up to the checksum field.
    if crc and zlib.crc32(end[: FOOTER.size - 4], zlib.crc32(summary)) != crc:
        return None, False
    index = FileIndex()
    try:
        has_statistics = _read_summary(index, summary)
        index.check(start)
    except ValueError:
        return None, False
    index.chunks.sort(key=lambda chunk: chunk.chunk_start_offset)
    index.is_whole = True
    index.end = start
    return (index if has_statistics and index.is_sufficient() else None), True


def _read_summary(index: FileIndex, summary: bytes) -> bool:
    # Returns whether there are statistics.
    from mcap.records import Channel, ChunkIndex, MetadataIndex, Schema, Statistics

    has_statistics, place = False, 0
    while place < len(summary):
        if len(summary) - place < HEAD.size:
            raise ValueError("a record is cut off")
        opcode, length = HEAD.unpack_from(summary, place)
        place += HEAD.size
        if length > len(summary) - place:
            raise ValueError("a record is longer than the summary")
        content = summary[place : place + length]
        place += length
        if opcode == 0x03:
            schema = parsed(Schema, content)
            index.schemas[schema.id] = schema
        elif opcode == 0x04:
            channel = parsed(Channel, content)
            index.channels[channel.id] = channel
        elif opcode == 0x08:
            index.chunks.append(parsed(ChunkIndex, content))
        elif opcode == 0x0B:
            index.statistics, has_statistics = parsed(Statistics, content), True
        elif opcode == 0x0D:
            index.metadata.append(parsed(MetadataIndex, content))
    return has_statistics
