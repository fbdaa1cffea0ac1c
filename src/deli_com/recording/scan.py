"""Reads a file without a summary, record by record.

A file has no summary if its writer was killed, or is still writing. Its last record may then be incomplete.
After a damaged record, the scan continues at the next intact one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deli_com.recording.chunk_data import CHUNK_HEAD, COMPRESSIONS, MAX_NAME, load_chunk
from deli_com.recording.fields import Fields, parsed
from deli_com.recording.index import HEAD, MAGIC, FileIndex, from_summary

if TYPE_CHECKING:
    from mcap.records import ChunkIndex

    from deli_com.recording.stored import Stored

__all__ = ["read_index", "scan"]

MESSAGE = struct.Struct("<HIQ")  # channel, sequence, time
INDEX = struct.Struct("<HI")  # channel, bytes of its pairs
MAX_SMALL = 1 << 26  # bytes of a record other than chunk, message, attachment; a longer one is damaged
MAX_NAMES = 1 << 16  # bytes of an attachment before its data
# Opcodes of the data section and of its end. Opcodes from 0x80 on are private, and skipped.
KNOWN = frozenset([0x03, 0x04, 0x05, 0x06, 0x07, 0x09, 0x0C, 0x0F, 0x02, *range(0x80, 0x100)])
HEADER = frozenset([0x01])  # the first record
SUMMARY = frozenset([0x0F, 0x02, 0x03, 0x04, 0x08, 0x0A, 0x0B, 0x0D, 0x0E, *range(0x80, 0x100)])
# The least bytes of a record, by opcode.
LEAST = {
    0x05: 22,
    0x06: CHUNK_HEAD.size + 8,
    0x07: 6,
    0x03: 14,
    0x04: 16,
    0x09: 36,
    0x0C: 8,
    0x0F: 4,
    0x02: 20,
}
# Where intact records may begin again: a known opcode, and a length of less than 2^40.
CANDIDATE = re.compile(rb"[\x03-\x07\x0c\x0f](?=[\x00-\xff]{5}\0\0\0)")
STEP = 1 << 20  # bytes that are searched at a time
CHAIN = 8  # so many valid messages in a row count as intact records
MAX_CHAIN = 1024  # records that are read to find them
# Limit on the bytes that are read in the search for intact records, as a multiple of the file's size.
MAX_SEARCH = 8


def read_index(source: Stored) -> FileIndex:
    """The index of a file, from its summary; without one, from a scan.

    Raises
    ------
    RecordingError
        The file does not begin as an MCAP file.
    """
    need_magic(source)
    found, is_intact = from_summary(source)
    return found if found is not None else scan(source, is_intact=is_intact)


def need_magic(source: Stored) -> None:
    """Refuse a file that does not begin as an MCAP file."""
    if source.size < len(MAGIC) or source.read(0, len(MAGIC)) != MAGIC:
        raise source.error(0, f"this is no MCAP file: it does not begin with {MAGIC!r}")


class _Damaged(Exception):
    """There is no valid record at the current place."""


class _Scan:
    """One pass over a file."""

    def __init__(self, source: Stored, verify: bool) -> None:
        self.source = source
        self.verify = verify
        self.index = FileIndex()
        self.pending: ChunkIndex | None = None  # the last chunk, while its indexes are read
        self.counts: dict[int, int] = {}

    def run(self, is_intact: bool) -> FileIndex:
        index, place = self.index, len(MAGIC)
        while True:
            try:
                found = self._head(place, KNOWN if place > len(MAGIC) else KNOWN | HEADER)
                if found is None:
                    break
                opcode, length = found
                if opcode in (0x0F, 0x02):  # DataEnd, Footer: the rest repeats what the scan has found
                    if self._is_end(place):
                        index.is_whole = is_intact
                        break
                    raise _Damaged
                if opcode != 0x07:
                    self._close_chunk()
                self._record(opcode, place, length)
                place += HEAD.size + length
            except _Damaged:
                self._close_chunk(has_indexes=False)
                behind = self._next(place)
                if behind is None:
                    break
                self._leave_out(place, behind)
                place = behind
            index.end = place
        self._close_chunk(has_indexes=index.is_whole, is_torn=not index.is_whole)
        return index

    def _head(self, place: int, known: frozenset[int] = KNOWN) -> tuple[int, int] | None:
        # None: the file ends here.
        left = self.source.size - place - HEAD.size
        if left < 0:
            return None
        opcode, length = HEAD.unpack(self.source.read(place, HEAD.size))
        if opcode not in known or length > left or length < LEAST.get(opcode, 0):
            raise _Damaged
        if length > MAX_SMALL and opcode not in (0x05, 0x06, 0x09) and opcode < 0x80:
            raise _Damaged
        return opcode, length

    def _is_end(self, place: int) -> bool:
        # Whether the data section ends here: only records of a summary and the closing magic follow.
        limit, at = self.source.size - len(MAGIC), place
        if limit < place or self.source.read(limit, len(MAGIC)) != MAGIC:
            return False
        try:
            while at < limit and (found := self._head(at, SUMMARY)) is not None:
                at += HEAD.size + found[1]
        except _Damaged:
            pass  # a damaged summary is written again; what matters is that no more messages follow
        return at == limit or self._next(place) is None

    def _record(self, opcode: int, place: int, length: int) -> None:
        from mcap.records import Channel, Metadata, MetadataIndex, Schema

        if opcode == 0x06:
            self._chunk(place, length)
        elif opcode == 0x05:
            self._plain(place, length)
        elif opcode == 0x07:
            self._index(place, length)
        elif opcode == 0x09:
            self._attachment(place, length)
        elif opcode in (0x03, 0x04, 0x0C):
            content = self.source.read(place + HEAD.size, length)
            try:
                if opcode == 0x03:
                    self.index.add_schema(parsed(Schema, content))
                elif opcode == 0x04:
                    self.index.add_channel(parsed(Channel, content))
                else:
                    name = parsed(Metadata, content).name
                    self.index.add_metadata(MetadataIndex(offset=place, length=HEAD.size + length, name=name))
            except ValueError:
                raise _Damaged from None

    def _index(self, place: int, length: int) -> None:
        channel, size = INDEX.unpack(self.source.read(place + HEAD.size, INDEX.size))
        if size > length - INDEX.size or size % 16 or self.pending is None:
            raise _Damaged
        self.pending.message_index_offsets[channel] = place
        self.pending.message_index_length += HEAD.size + length
        self.counts[channel] = size // 16

    def _attachment(self, place: int, length: int) -> None:
        from mcap.records import AttachmentIndex

        fields = Fields(self.source.read(place + HEAD.size, min(length, MAX_NAMES)))
        try:
            logged, created = fields.read8(), fields.read8()
            name, kind, size = fields.read_prefixed_string(), fields.read_prefixed_string(), fields.read8()
        except ValueError:
            raise _Damaged from None
        if size > length - fields.count:
            raise _Damaged
        self.index.add_attachment(
            AttachmentIndex(
                offset=place,
                length=HEAD.size + length,
                log_time=logged,
                create_time=created,
                data_size=size,
                name=name,
                media_type=kind,
            )
        )

    def _chunk(self, place: int, length: int) -> None:
        from mcap.records import ChunkIndex

        start, end, size, _, name_size = CHUNK_HEAD.unpack(
            self.source.read(place + HEAD.size, CHUNK_HEAD.size)
        )
        stored = length - CHUNK_HEAD.size - name_size - 8
        if name_size > MAX_NAME or stored < 0:
            raise _Damaged
        tail = self.source.read(place + HEAD.size + CHUNK_HEAD.size, name_size + 8)
        if stored != int.from_bytes(tail[name_size:], "little"):
            raise _Damaged
        self.pending = ChunkIndex(
            chunk_length=HEAD.size + length,
            chunk_start_offset=place,
            compression=tail[:name_size].decode(errors="replace"),
            compressed_size=stored,
            message_end_time=end,
            message_index_length=0,
            message_index_offsets={},
            message_start_time=start,
            uncompressed_size=size,
        )
        self.counts = {}

    def _plain(self, place: int, length: int) -> None:
        # A message outside a chunk. A run of such messages is read like a chunk.
        channel, _, at = MESSAGE.unpack(self.source.read(place + HEAD.size, MESSAGE.size))
        runs, statistics = self.index.plain, self.index.statistics
        if runs and sum(runs[-1]) == place:
            runs[-1] = (runs[-1][0], runs[-1][1] + HEAD.size + length)
        else:
            runs.append((place, HEAD.size + length))
        first = not statistics.message_count
        statistics.message_start_time = at if first else min(at, statistics.message_start_time)
        statistics.message_end_time = max(at, statistics.message_end_time)
        statistics.message_count += 1
        statistics.channel_message_counts[channel] += 1

    def _close_chunk(self, *, has_indexes: bool = True, is_torn: bool = False) -> None:
        # Adds the last chunk to the index. If its message indexes may be missing, or name unknown channels,
        # its records are read.
        chunk, self.pending = self.pending, None
        if chunk is None:
            return
        counts = self.counts
        knows = bool(counts) and has_indexes and counts.keys() <= self.index.channels.keys()
        if self.verify or not knows:
            try:
                found = self._look_into(load_chunk(self.source, chunk), chunk)
            except ValueError:
                if self.verify and not self.index.chunks and chunk.compression not in COMPRESSIONS:
                    raise  # not damage: all chunks may have this compression
                begin = chunk.chunk_start_offset
                if is_torn:
                    self.index.end = begin
                else:
                    self._leave_out(begin, begin + chunk.chunk_length + chunk.message_index_length)
                return
            if found != counts and not is_torn:  # wrong indexes: readers have to read the chunk
                chunk.message_index_offsets, chunk.message_index_length = {}, 0
            counts = found
        self.index.add_chunk(chunk, counts)

    def _look_into(self, data: bytes, chunk: ChunkIndex) -> dict[int, int]:
        # Counts the messages by channel, and corrects the times that the chunk's header gives.
        from mcap.records import Channel, Schema

        place, counts, times = 0, dict[int, int](), []
        while place < len(data):
            if len(data) - place < HEAD.size:
                raise ValueError("a record is cut off")
            opcode, length = HEAD.unpack_from(data, place)
            if length > len(data) - place - HEAD.size:
                raise ValueError("a record is longer than its chunk")
            if opcode in (0x03, 0x04):
                content = data[place + HEAD.size : place + HEAD.size + length]
                if opcode == 0x03:
                    self.index.add_schema(parsed(Schema, content))
                else:
                    self.index.add_channel(parsed(Channel, content))
            elif opcode == 0x05:
                if length < 22:
                    raise ValueError("a message is shorter than its head")
                channel, _, at = MESSAGE.unpack_from(data, place + HEAD.size)
                counts[channel] = counts.get(channel, 0) + 1
                times.append(at)
            place += HEAD.size + length
        if times:
            chunk.message_start_time, chunk.message_end_time = min(times), max(times)
        return counts

    # --- damage -------------------------------------------------------------------------------------------

    def _leave_out(self, begin: int, end: int) -> None:
        damaged = self.index.damaged
        if damaged and sum(damaged[-1]) == begin:
            damaged[-1] = (damaged[-1][0], damaged[-1][1] + end - begin)
        else:
            damaged.append((begin, end - begin))

    def _next(self, place: int) -> int | None:
        # The place of the next intact record after a damaged one; None if there is none.
        budget = MAX_SEARCH * self.source.size + STEP
        for found in self._candidates(place):
            is_intact, read = self._is_intact(found)
            if is_intact:
                return found
            budget -= read
            if budget < 0:
                raise self.source.error(
                    place, "the file is damaged, and too many bytes after this place only look like records"
                )
        return None

    def _candidates(self, place: int) -> Iterator[int]:
        if place + HEAD.size <= self.source.size:  # the length of the damaged record may be right
            _, length = HEAD.unpack(self.source.read(place, HEAD.size))
            if place + HEAD.size + length < self.source.size:
                yield place + HEAD.size + length
        # The head of a private record must fit before the next record.
        at = place + HEAD.size
        while self.source.size - at >= HEAD.size:
            data = self.source.read(at, min(STEP + HEAD.size, self.source.size - at))
            for match in CANDIDATE.finditer(data, 0, len(data)):
                if match.start() < STEP:
                    yield at + match.start()
            at += STEP

    def _is_intact(self, place: int) -> tuple[bool, int]:
        # Whether a chunk that can be read, or the end of the file, is here; in a file without chunks, several
        # messages. (In a file with chunks such messages are those of a damaged or incomplete one.) Also
        # gives the bytes that were read for the answer.
        other = _Scan(self.source, verify=True)
        begin, messages = place, 0
        for _ in range(MAX_CHAIN):
            try:
                found = other._head(place)
                if found is None:
                    break
                opcode, length = found
                if opcode == 0x0F and length == 4:
                    limit = self.source.size - len(MAGIC)
                    return self.source.read(limit, len(MAGIC)) == MAGIC, place - begin
                if opcode >= 0x80 or opcode in (0x02, 0x0F):
                    break
                if opcode != 0x07:  # its chunk was before
                    other._record(opcode, place, length)
            except _Damaged:
                break
            place += HEAD.size + length
            messages += opcode == 0x05
            if opcode == 0x06:
                other._close_chunk()
                return bool(other.index.chunks), place - begin
            if self.index.plain and (messages >= CHAIN or (messages and place == self.source.size)):
                return True, place - begin
        return False, place - begin + HEAD.size


def scan(source: Stored, *, is_intact: bool = True, verify: bool = False) -> FileIndex:
    """The contents of a file up to its first incomplete record. Damaged places are skipped.

    Parameters
    ----------
    source : Stored
        It begins with the magic.
    is_intact : bool
        False if the end of the file is known to be damaged.
    verify : bool
        Read every chunk and compare its checksum.

    Returns
    -------
    FileIndex
        ``end`` is the offset after the last whole record, ``damaged`` what was skipped.
    """
    return _Scan(source, verify).run(is_intact)
