"""One MCAP file while it is written: header, channels, chunks with their indexes, and the summary.

The `mcap` package formats the records; `chunk.Chunk` formats the messages of a chunk. Schemas and channels
are written before the first chunk that needs them, so that a file without a summary can be read.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deli_com.recording.chunk import Chunk
from deli_com.recording.index import MAGIC, FileIndex

if TYPE_CHECKING:
    from mcap.records import McapRecord

__all__ = ["COMPRESSIONS", "McapFile", "compressor", "index_records"]

COMPRESSIONS = (None, "zstd", "lz4")
ZSTD_LEVEL = 1  # the fastest common level, because a recorder has to keep up


def compressor(compression: str | None) -> Any:
    """A function that compresses a list of pieces; None for no compression.

    Raises
    ------
    ValueError
        `compression` is not one of `COMPRESSIONS`.
    ImportError
        The package that compresses is not installed. The error names it.
    """
    if compression is None:
        return None
    if compression == "zstd":
        import zstandard

        context = zstandard.ZstdCompressor(level=ZSTD_LEVEL)

        def zstd(pieces: Iterable[Any], size: int) -> list[bytes]:
            frame = context.compressobj(size=size)
            return [*filter(None, map(frame.compress, pieces)), frame.flush()]

        return zstd
    if compression == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        def lz4_frames(pieces: Iterable[Any], size: int) -> list[bytes]:
            frame = lz4.frame.LZ4FrameCompressor()
            return [frame.begin(size), *map(frame.compress, pieces), frame.flush()]

        return lz4_frames
    raise ValueError(f'compression is None, "zstd" or "lz4", not {compression!r}')


def lock(fd: int, path: object) -> None:
    """Lock the file for this process while it is open, if the system supports locks.

    Raises
    ------
    BlockingIOError
        Another recording writes to the file.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, f"{path} is being written by another recording") from None
    except OSError:  # a file system without locks
        return


def index_records(pairs: Mapping[int, bytes], begin: int) -> tuple[bytes, dict[int, int], dict[int, int]]:
    """The MessageIndex records of a chunk.

    Parameters
    ----------
    pairs : mapping
        For each channel: pairs of (time, offset), 16 bytes each.
    begin : int
        Offset in the file where the records will be written.

    Returns
    -------
    bytes
        The records.
    dict of int to int
        The offset of each channel's record in the file.
    dict of int to int
        The number of messages of each channel.
    """
    records = bytearray()
    offsets, counts = {}, {}
    for channel, entries in pairs.items():
        offsets[channel] = begin + len(records)
        counts[channel] = len(entries) // 16
        records += struct.pack("<BQHI", 0x07, 2 + 4 + len(entries), channel, len(entries)) + entries
    return bytes(records), offsets, counts


class McapFile:
    """Writes one file from front to back.

    Parameters
    ----------
    path : Path
        A file that does not exist or is empty.
    compress : callable or None
        The result of `compressor`.
    compression : str or None
        Name of the compression.

    Attributes
    ----------
    size : int
        Bytes written so far.
    index : FileIndex
        Index of what has been written so far.

    Raises
    ------
    FileExistsError
        The file exists and is not empty.
    OSError
        From every method: a system call failed. The file is then incomplete, and can be repaired.
    """

    def __init__(self, path: Path, compression: str | None = None, compress: Any = None) -> None:
        from mcap.records import Header

        self.path = path
        self.size = 0
        self.index = FileIndex()
        self._compression = compression or ""
        self._compress = compress
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            lock(self._fd, path)
            state = os.fstat(self._fd)
            self._has_links = state.st_nlink > 0  # some file systems count none
            if state.st_size:
                raise FileExistsError(f"{path} exists and is not empty; a recording does not overwrite it")
            self._write(MAGIC)
            self._record(Header(profile="", library="deli-com"))
        except BaseException:
            self.close()
            raise

    # --- records -----------------------------------------------------------------------------------------

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Write a schema. Returns its id, from 1."""
        from mcap.records import Schema

        number = len(self.index.schemas) + 1
        schema = Schema(id=number, name=name, encoding=encoding, data=data)
        self._record(schema)
        self.index.add_schema(schema)
        return number

    def add_channel(
        self, channel: int, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]
    ) -> None:
        """Write a channel with an id that the caller chooses."""
        from mcap.records import Channel

        record = Channel(
            id=channel, topic=topic, message_encoding=encoding, metadata=dict(metadata), schema_id=schema
        )
        self._record(record)
        self.index.add_channel(record)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Write a metadata record."""
        from mcap.records import Metadata, MetadataIndex

        offset = self.size
        self._record(Metadata(name=name, metadata=dict(values)))
        self.index.add_metadata(MetadataIndex(offset=offset, length=self.size - offset, name=name))

    def add_chunk(self, chunk: Chunk) -> None:
        """Write the messages of a chunk and their indexes."""
        from mcap.records import ChunkIndex

        pieces = chunk.pieces()
        crc = 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
        stored = pieces if self._compress is None else self._compress(pieces, chunk.size)
        stored_size = sum(len(piece) for piece in stored)
        name = self._compression.encode()
        offset = self.size
        # Formatted here, because the package's Chunk needs the records in one piece and copies them twice.
        head = struct.pack(
            f"<BQQQQII{len(name)}sQ",
            0x06,
            8 + 8 + 8 + 4 + 4 + len(name) + 8 + stored_size,
            chunk.start,
            chunk.end,
            chunk.size,
            crc,
            len(name),
            name,
            stored_size,
        )
        self._write(head, *stored)
        indexes, offsets, counts = index_records(chunk.indexes_of(), self.size)
        length = self.size - offset
        self._write(indexes)
        self.index.add_chunk(
            ChunkIndex(
                chunk_length=length,
                chunk_start_offset=offset,
                compression=self._compression,
                compressed_size=stored_size,
                message_end_time=chunk.end,
                message_index_length=len(indexes),
                message_index_offsets=offsets,
                message_start_time=chunk.start,
                uncompressed_size=chunk.size,
            ),
            counts,
        )

    def sync(self) -> None:
        """Wait until the bytes are on the disk.

        Raises
        ------
        FileNotFoundError
            The file was removed: the bytes go to a file without a name, which ends with the process.
        """
        getattr(os, "fdatasync", os.fsync)(self._fd)
        if self._has_links and os.fstat(self._fd).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, f"{self.path} was removed")

    def finish(self) -> None:
        """Write the summary and the footer, and close the file."""
        self._write(self.index.ending(self.size))
        self.close()

    def close(self) -> None:
        """Close the file without writing the summary. After `finish` this has no effect."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # --- private ----------------------------------------------------------------------------------------

    def _record(self, record: McapRecord) -> None:
        from mcap.data_stream import RecordBuilder

        builder = RecordBuilder()
        record.write(builder)
        self._write(builder.end())  # type: ignore[no-untyped-call]

    def _write(self, *pieces: Any) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                written = os.write(self._fd, view)
                self.size += written
                view = view[written:]
