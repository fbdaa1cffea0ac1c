"""Reads a file without a summary, record by record, up to the first incomplete one.

A file has no summary if its writer was killed, or is still writing.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any

from deli_com.recording.index import MAGIC, FileIndex, from_summary

if TYPE_CHECKING:
    from mcap.records import ChunkIndex

__all__ = ["load_chunk", "read_index", "scan"]

HEAD = struct.Struct("<BQ")  # opcode and length of every record
CHUNK_HEAD = struct.Struct("<QQQII")  # earliest, latest, size, checksum, length of the compression's name
MAX_SMALL = 1 << 26  # bytes of a record that is no chunk or message; a longer one counts as garbage


def read_index(stream: IO[bytes]) -> FileIndex:
    """The index of a file, from its summary; without one, from a scan.

    Raises
    ------
    ValueError
        The file does not begin as an MCAP file.
    """
    stream.seek(0)
    if stream.read(len(MAGIC)) != MAGIC:
        name = getattr(stream, "name", "the file")
        raise ValueError(f"{name} is no MCAP file: its first bytes are others than {MAGIC!r}")
    return from_summary(stream) or scan(stream)


def load_chunk(stream: IO[bytes], chunk: ChunkIndex, *, check: bool = False) -> bytes:
    """The uncompressed records of a chunk.

    Raises
    ------
    ValueError
        There is no chunk at the given offset; with `check`, also if the checksum differs.
    """
    stream.seek(chunk.chunk_start_offset)
    record = stream.read(chunk.chunk_length)
    where = f"the chunk at byte {chunk.chunk_start_offset}"
    prefix = HEAD.size + CHUNK_HEAD.size
    if len(record) != chunk.chunk_length or len(record) < prefix + 8 or record[0] != 0x06:
        raise ValueError(f"{where} is cut off, or is no chunk")
    _, _, size, crc, name_size = CHUNK_HEAD.unpack_from(record, HEAD.size)
    data = memoryview(record)[prefix + name_size + 8 :]
    if len(data) != int.from_bytes(record[prefix + name_size : prefix + name_size + 8], "little"):
        raise ValueError(f"{where} does not have the number of bytes that its header gives")
    name = record[prefix : prefix + name_size].decode(errors="replace")
    found = _decompress(name, data, where)
    if len(found) != size:
        raise ValueError(f"{where} has {len(found)} bytes, not the {size} that its header gives")
    if check and crc and zlib.crc32(found) != crc:
        raise ValueError(f"{where} is damaged: its checksum differs")
    return found


def _decompress(name: str, data: memoryview, where: str) -> bytes:
    found: bytes
    if name == "":
        return bytes(data)
    if name == "zstd":
        import zstandard

        try:
            # Decompressed as a stream: memory grows with the data, not with the size that the header claims.
            found = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except zstandard.ZstdError as error:
            raise ValueError(f"{where} is damaged: {error}") from error
        return found
    if name == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            found = lz4.frame.decompress(data)
        except (RuntimeError, EOFError) as error:
            raise ValueError(f"{where} is damaged: {error}") from error
        return found
    raise ValueError(f"{where} is compressed by {name!r}, which is not supported: zstd and lz4 are")


class _Scan:
    """One pass over a file. `index.end` is the offset after the last whole record."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.size = stream.seek(0, io.SEEK_END)
        self.index = FileIndex()
        self.pending: ChunkIndex | None = None  # the last chunk, while its indexes are read
        self.counts: dict[int, int] = {}

    def run(self) -> FileIndex:
        place = len(MAGIC)
        while (found := self._head(place)) is not None:
            opcode, length = found
            if opcode in (0x0F, 0x02):  # DataEnd, Footer: the rest repeats what the scan has found
                self.stream.seek(self.size - len(MAGIC))
                self.index.is_whole = self.stream.read() == MAGIC
                break
            if opcode != 0x07:
                self._close_chunk()
            if not self._record(opcode, place, length):
                break
            place += HEAD.size + length
            self.index.end = place
        self._close_chunk(is_last=not self.index.is_whole)
        return self.index

    def _head(self, place: int) -> tuple[int, int] | None:
        if self.size - place < HEAD.size:
            return None
        self.stream.seek(place)
        opcode, length = HEAD.unpack(self.stream.read(HEAD.size))
        return (opcode, length) if opcode > 0 and length <= self.size - place - HEAD.size else None

    def _record(self, opcode: int, place: int, length: int) -> bool:
        # Returns whether the record could be read.
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, MessageIndex, Metadata, MetadataIndex, Schema

        self.stream.seek(place + HEAD.size)
        if opcode == 0x06:
            return self._chunk(place, length)
        if opcode == 0x05:
            self._plain(place, length)
            return True
        if opcode not in (0x03, 0x04, 0x07, 0x0C):
            return True
        if length > MAX_SMALL:
            return False
        record = ReadDataStream(io.BytesIO(self.stream.read(length)))
        try:
            if opcode == 0x03:
                self.index.add_schema(Schema.read(record))
            elif opcode == 0x04:
                self.index.add_channel(Channel.read(record))
            elif opcode == 0x0C:
                found = Metadata.read(record)
                self.index.add_metadata(
                    MetadataIndex(offset=place, length=HEAD.size + length, name=found.name)
                )
            elif self.pending is not None:
                entries = MessageIndex.read(record)
                self.pending.message_index_offsets[entries.channel_id] = place
                self.pending.message_index_length += HEAD.size + length
                self.counts[entries.channel_id] = len(entries.records)
        except Exception:  # the package may raise anything for garbage; the scan ends here
            return False
        return True

    def _chunk(self, place: int, length: int) -> bool:
        from mcap.records import ChunkIndex

        fixed = self.stream.read(CHUNK_HEAD.size)
        if length < CHUNK_HEAD.size + 8:
            return False
        start, end, size, _, name_size = CHUNK_HEAD.unpack(fixed)
        if name_size > length - CHUNK_HEAD.size - 8:
            return False
        name = self.stream.read(name_size).decode(errors="replace")
        stored = int.from_bytes(self.stream.read(8), "little")
        if stored != length - CHUNK_HEAD.size - name_size - 8:
            return False
        self.pending = ChunkIndex(
            chunk_length=HEAD.size + length,
            chunk_start_offset=place,
            compression=name,
            compressed_size=stored,
            message_end_time=end,
            message_index_length=0,
            message_index_offsets={},
            message_start_time=start,
            uncompressed_size=size,
        )
        self.counts = {}
        return True

    def _plain(self, place: int, length: int) -> None:
        # A message outside a chunk. A run of such messages is read like a chunk.
        channel, _, at = struct.unpack("<HIQ", self.stream.read(14)) if length >= 22 else (0, 0, 0)
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

    def _close_chunk(self, is_last: bool = False) -> None:
        # Adds the last chunk to the index. If its message indexes may be missing, or name unknown channels,
        # its records are read.
        chunk, self.pending = self.pending, None
        if chunk is None:
            return
        counts = self.counts
        if is_last or not counts or any(channel not in self.index.channels for channel in counts):
            try:
                counts = self._look_into(load_chunk(self.stream, chunk))
            except ValueError:
                return  # damaged: its messages cannot be read
        self.index.add_chunk(chunk, counts)

    def _look_into(self, data: bytes) -> dict[int, int]:
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, Schema

        place, counts = 0, dict[int, int]()
        while len(data) - place >= HEAD.size:
            opcode, length = HEAD.unpack_from(data, place)
            if opcode in (0x03, 0x04):
                record: Any = ReadDataStream(io.BytesIO(data[place + HEAD.size : place + HEAD.size + length]))
                if opcode == 0x03:
                    self.index.add_schema(Schema.read(record))
                else:
                    self.index.add_channel(Channel.read(record))
            elif opcode == 0x05 and length >= 2:
                channel = int.from_bytes(data[place + HEAD.size : place + HEAD.size + 2], "little")
                counts[channel] = counts.get(channel, 0) + 1
            place += HEAD.size + length
        return counts


def scan(stream: IO[bytes]) -> FileIndex:
    """The contents of a file up to its first incomplete or invalid record.

    Parameters
    ----------
    stream : binary file
        Seekable file that begins with the magic.

    Returns
    -------
    FileIndex
        ``end`` is the offset after the last whole record.
    """
    return _Scan(stream).run()
