"""Reads the records of one chunk of a file: decompresses them, and verifies the chunk's checksum."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections import deque

    from mcap.records import ChunkIndex

    from deli_com.errors import RecordingError
    from deli_com.recording.stored import Stored

__all__ = ["CHUNK_HEAD", "COMPRESSIONS", "MAX_NAME", "load_chunk"]

CHUNK_HEAD = struct.Struct("<QQQII")  # earliest, latest, size, checksum, length of the compression's name
PREFIX = 9 + CHUNK_HEAD.size
COMPRESSIONS = ("", "zstd", "lz4")
MAX_NAME = 64  # bytes of the compression's name
# A header may claim any size. Past the first limit, the ratio of compression may not exceed the second.
MAX_SIZE = 1 << 30
MAX_RATIO = 256
PIECE = 1 << 20  # bytes that are decompressed at a time


class _Unsupported(Exception):
    """The compression of a chunk is not supported."""


@overload
def load_chunk(source: Stored, chunk: ChunkIndex, spare: None = None) -> bytes: ...
@overload
def load_chunk(source: Stored, chunk: ChunkIndex, spare: deque[bytearray]) -> bytes | memoryview: ...
def load_chunk(
    source: Stored, chunk: ChunkIndex, spare: deque[bytearray] | None = None
) -> bytes | memoryview:
    """The uncompressed records of a chunk.

    Parameters
    ----------
    source : Stored
    chunk : ChunkIndex
    spare : deque of bytearray, optional
        Memory that may be used. The result may be a view of it, or of memory that is larger.

    Raises
    ------
    RecordingError
        There is no chunk at the given offset, it is damaged, or its compression is not supported.
    MemoryError
        There is no memory for it. The error names the place.
    """
    offset = chunk.chunk_start_offset

    def damaged(reason: str) -> RecordingError:
        return source.error(offset, f"{reason}; `deli-com repair` leaves it out")

    record: bytes | memoryview
    if spare is None:
        record = source.read(offset, chunk.chunk_length)
    else:
        record = source.read_into(offset, chunk.chunk_length, spare)
    if len(record) < PREFIX + 8 or record[0] != 0x06:
        raise damaged("there is no chunk here")
    _, _, size, crc, name_size = CHUNK_HEAD.unpack_from(record, 9)
    data = memoryview(record)[PREFIX + name_size + 8 :]
    if len(data) != int.from_bytes(record[PREFIX + name_size : PREFIX + name_size + 8], "little"):
        raise damaged("the chunk does not have the number of bytes that its header gives")
    name = bytes(record[PREFIX : PREFIX + name_size]).decode(errors="replace")
    if name and size > MAX_SIZE and size > len(data) * MAX_RATIO:
        raise damaged(f"the chunk claims {size} bytes, compressed to {len(data)}")
    try:
        found = data if isinstance(record, memoryview) and not name else _decompress(name, data, size)
    except _Unsupported as error:
        raise source.error(offset, f"the chunk {error}") from None
    except ValueError as error:
        raise damaged(f"the chunk {error}") from error
    except MemoryError:
        raise source.memory_error(offset, size) from None
    if len(found) != size:
        raise damaged(f"the chunk has {len(found)} bytes, not the {size} that its header gives")
    if spare is not None and isinstance(record, memoryview) and found is not data:
        spare.append(record.obj)  # type: ignore[arg-type] # a bytearray
    if crc and offset not in source.checked:  # once for each open file: a fifth of the time of a pass
        if zlib.crc32(found) != crc:
            raise damaged("the chunk is damaged: its checksum differs")
        source.checked.add(offset)
    return found


def _decompress(name: str, data: memoryview, size: int) -> bytes:
    # In pieces: memory grows with the data, not with a size that the chunk or its frame claims. The result is
    # at most one piece longer than `size`.
    if name == "":
        return bytes(data)
    if name == "zstd":
        return _zstd(data, size)
    if name == "lz4":
        return _lz4(data, size)
    raise _Unsupported(f"is compressed by {name!r}, which is not supported: zstd and lz4 are")


def _zstd(data: memoryview, size: int) -> bytes:
    import zstandard

    pieces, total = [], 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while total <= size and (piece := reader.read(min(PIECE, size - total + 1))):
                pieces.append(piece)
                total += len(piece)
    except zstandard.ZstdError as error:
        raise ValueError(f"is damaged: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _lz4(data: memoryview, size: int) -> bytes:
    import lz4.frame  # type: ignore[import-untyped]

    frame: Any = lz4.frame.LZ4FrameDecompressor()
    pieces, total, rest = [], 0, bytes(data)
    try:
        while total <= size and not frame.eof:
            piece = frame.decompress(rest, min(PIECE, size - total + 1))
            rest = b""
            if not piece and (frame.needs_input or frame.eof):
                break
            pieces.append(piece)
            total += len(piece)
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"is damaged: {error}") from error
    if total <= size and not frame.eof:
        raise ValueError("is damaged: it is cut off")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
