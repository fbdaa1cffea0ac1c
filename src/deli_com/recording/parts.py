"""The files of one recording: when to begin the next one, their names, and which are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deli_com.recording.chunk import Chunk
from deli_com.recording.file import McapFile, compressor

__all__ = ["ChannelInfo", "Parts", "part_path"]

log = logging.getLogger("deli_com.recording")


@dataclass(frozen=True)
class ChannelInfo:
    """A channel, as it is declared in each file.

    Attributes
    ----------
    topic : str
        For example ``/Pose``.
    encoding : str
        Encoding of its messages: ``ros1`` or ``deli``.
    schema : tuple
        (name, encoding, data) of the schema record.
    metadata : mapping
        Metadata of the channel record.
    """

    topic: str
    encoding: str
    schema: tuple[str, str, bytes]
    metadata: Mapping[str, str] = field(default_factory=dict)


def part_path(path: Path, number: int) -> Path:
    """The path of one file: ``run.mcap``, then ``run_1.mcap``, ``run_2.mcap``."""
    return path.with_name(f"{path.stem}_{number}{path.suffix}") if number else path


class Parts:
    """Writes chunks into one file after another.

    Parameters
    ----------
    path : Path
        Path of the first file.
    compression : str or None
        None, ``"zstd"`` or ``"lz4"``.
    split_bytes : int or None
        A file that has reached this size is finished, and the next one begins.
    split_seconds : float or None
        The same for the time between the first and the last message of a file.
    keep : int or None
        How many files are kept. The oldest are removed.
    metadata : callable
        Gives the description of the stream for each file: by direction, the values of a ``deli.schema``
        record.
    """

    def __init__(
        self,
        path: Path,
        compression: str | None,
        split_bytes: int | None,
        split_seconds: float | None,
        keep: int | None,
        metadata: Callable[[], Mapping[str, Mapping[str, str]]],
    ) -> None:
        self.path = path
        self.channels: list[ChannelInfo] = []
        self.written: list[Path] = []
        self._compression = compression
        self._compress = compressor(compression)
        self._split_bytes = split_bytes
        self._split_ns = None if split_seconds is None else int(split_seconds * 1e9)
        self._keep = keep
        self._metadata = metadata
        self._count = 0
        self._named = 0  # number of channels that the current file has declared
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        self._file: McapFile | None = None
        self._begin()

    def write(self, chunk: Chunk) -> bool:
        """Write a chunk. Returns True if it is the first of a new file."""
        file = self._file
        assert file is not None
        split = self._is_full(file, chunk)
        if split:
            file.finish()
            self._begin()
            file = self._file
            assert file is not None
        self._name_channels(file)
        file.add_chunk(chunk)
        return split

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Write a metadata record into the current file."""
        assert self._file is not None
        self._file.add_metadata(name, values)

    def sync(self) -> None:
        """Wait until the disk has all that was written."""
        assert self._file is not None
        self._file.sync()

    def finish(self) -> None:
        """Write the end of the current file."""
        if self._file is not None:
            self._name_channels(self._file)
            self._file.finish()

    def close(self) -> None:
        """Close the current file without writing its end. `repair` can write it later."""
        if self._file is not None:
            self._file.close()

    def _is_full(self, file: McapFile, chunk: Chunk) -> bool:
        held = file.index.statistics
        if not held.message_count:
            return False
        if self._split_bytes is not None and file.size >= self._split_bytes:
            return True
        return self._split_ns is not None and chunk.end - held.message_start_time >= self._split_ns

    def _begin(self) -> None:
        path = part_path(self.path, self._count)
        self._file = McapFile(path, self._compression, self._compress)
        self._count += 1
        self._named = 0
        self._schemas.clear()
        self.written.append(path)
        for values in self._metadata().values():
            self._file.add_metadata("deli.schema", values)
        while self._keep is not None and len(self.written) > self._keep:
            oldest = self.written.pop(0)
            try:
                oldest.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed: %s", oldest, error)

    def _name_channels(self, file: McapFile) -> None:
        while self._named < len(self.channels):  # another thread may add some meanwhile
            info = self.channels[self._named]
            schema = self._schemas.get(info.schema)
            if schema is None:
                schema = self._schemas[info.schema] = file.add_schema(*info.schema)
            file.add_channel(self._named, info.topic, info.encoding, schema, info.metadata)
            self._named += 1
