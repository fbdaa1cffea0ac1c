"""`Recording`: the contents of a recorded file, as values."""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter, itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, ClassVar, Generic, Self

from typing_extensions import TypeVar

from deli_com.coding.registry import codec
from deli_com.errors import RecordingError, SchemaMismatch
from deli_com.recording.chunk import Walk, is_ordered
from deli_com.recording.chunk_data import load_chunk
from deli_com.recording.fields import parsed
from deli_com.recording.index import HEAD
from deli_com.recording.moments import Moment, nanoseconds
from deli_com.recording.scan import read_index
from deli_com.recording.stored import Stored
from deli_com.schema.schema import Schema
from deli_com.schema.text import render, wire_name
from deli_com.schema.tree import Definition, Ref, Sealed, Struct, Tree, Variant, refs, types_in
from deli_com.types.instance import RecordType, record_spec

if TYPE_CHECKING:
    from mcap.records import ChunkIndex

__all__ = ["RecordedChannel", "RecordedGap", "Recording"]

T = TypeVar("T", default=Any)
FOREVER = (1 << 64) - 1


@dataclass(frozen=True)
class RecordedChannel:
    """One channel of a file.

    Attributes
    ----------
    topic : str
        For example ``/Pose``; ``/up/Stop`` for what clients sent; ``/group/left/Pose``; ``/keyframe/Pose``.
    type : str
        Name of the class in the schema.
    direction : str
        ``down`` or ``up``; empty in files of other programs.
    encoding : str
        Encoding of the messages: ``ros1`` or ``deli``.
    messages : int
        Number of messages.
    """

    topic: str
    type: str
    direction: str
    encoding: str
    messages: int


@dataclass(frozen=True)
class RecordedGap:
    """Messages of one channel that were left out while recording, because too much waited for the disk.

    Attributes
    ----------
    topic : str
        Topic of the channel.
    messages : int
        Number of messages.
    start, end : int
        Times of the first and the last of them, ns since the epoch.
    """

    topic: str
    messages: int
    start: int
    end: int


class Recording(Generic[T]):
    """A recorded stream, read from a file. Iterating gives ``(at, value)``.

    ``Recording[Pose](path)`` gives values of the program's own class, even if the file was written with
    another version of it (docs: When both ends change). ``Recording(path)`` gives all values in the file;
    their classes are made from the schema in the file. A file whose writer was killed is read up to its last
    complete record. If a file is damaged in the middle, reading ends with an error; `deli-com repair` leaves
    the damaged place out. Threads, and children of a fork, may read the same recording at the same time.

    Parameters
    ----------
    path : path
        An MCAP file.

    Attributes
    ----------
    channels : tuple of RecordedChannel
        The channels of the file.
    schemas : mapping of str to Schema
        By direction, ``down`` and ``up``; in files of other programs, by topic.
    start, end : int
        Times of the first and the last message, ns since the epoch; 0 if there is none.
    duration : float
        Seconds between them.
    is_whole : bool
        True if the file has its summary; if not, `deli-com repair` writes it.
    gaps : tuple of RecordedGap
        Messages that were left out while recording.
    unknown : int
        Number of messages in the file of classes that the type lacks. Reading leaves them out.

    Raises
    ------
    RecordingError
        The file is not an MCAP file, or the description of its messages is damaged. On reading: a message or
        a chunk is damaged, or a message is not a value of its type.
    SchemaMismatch
        No stream of the file can be read as the class.
    ImportError
        The extra ``deli-com[record]`` is not installed.
    """

    _type: ClassVar[Any] = None
    _typed: ClassVar[dict[Any, Any]] = {}

    def __class_getitem__(cls, type: Any) -> Any:
        if isinstance(type, TypeVar):
            return super().__class_getitem__(type)  # type: ignore[misc]
        found = cls._typed.get(type)
        if found is None:
            name = getattr(type, "__name__", repr(type))
            found = cls._typed[type] = _subclass(cls, f"Recording[{name}]", type)
        return found

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import mcap  # noqa: F401
        except ImportError as error:
            raise ImportError('recordings need the extra: pip install "deli-com[record]"') from error
        self.path = Path(path)
        self._owner = _OpenFile(self.path)
        try:
            self._source = Stored(self._owner.stream, self.path)
            self._index = read_index(self._source)
            self._open()
        except BaseException:
            self._owner.stream.close()
            raise

    def _open(self) -> None:
        index = self._index
        self.is_whole = index.is_whole
        self.start = index.statistics.message_start_time
        self.end = index.statistics.message_end_time
        self.duration = (self.end - self.start) / 1e9
        counts = index.statistics.channel_message_counts
        self._ids = {}
        channels = []
        for number, record in index.channels.items():
            schema = index.schemas.get(record.schema_id)
            channel = RecordedChannel(
                topic=record.topic,
                type=record.metadata.get("deli.type") or (schema.name if schema else ""),
                direction=record.metadata.get("deli.direction", ""),
                encoding=record.message_encoding,
                messages=counts.get(number, 0),
            )
            self._ids[number] = channel
            channels.append(channel)
        self.channels = tuple(channels)
        self.schemas: Mapping[str, Schema] = MappingProxyType(self._find_schemas())
        self._range = (0, FOREVER)
        self._key: Any = None
        self._codecs = self._find_codecs()
        self._readers = self._make_readers()

    # --- what to read -----------------------------------------------------------------------------------

    def between(self, start: Moment | None = None, end: Moment | None = None) -> Self:
        """The same recording, limited to messages with ``start <= at < end``.

        Parameters
        ----------
        start, end : int, str, datetime or timedelta, optional
            Nanoseconds since the epoch; ``"+10s"`` from the start of the recording, ``"-10s"`` from its end;
            a datetime with a time zone; a timedelta from the start.
        """
        made = self._copy()
        low, high = self._range
        if start is not None:
            low = min(max(low, nanoseconds(start, self.start, self.end)), FOREVER)
        if end is not None:
            high = min(high, max(0, nanoseconds(end, self.start, self.end)))
        made._range = (low, high)
        return made

    def select(self, *topics: str, key: Any = None) -> Self:
        """The same recording, limited to some channels or one key.

        Parameters
        ----------
        *topics : str
            Topics (``/Pose``) or class names (``Pose``); all channels if none is named.
        key : object, optional
            Value of the key field; a tuple if there are several. Messages of types without a key are left
            out.

        Raises
        ------
        ValueError
            The file has no such channel.
        """
        made = self._copy()
        if topics:
            known = {name for channel in self.channels for name in (channel.topic, channel.type)}
            for topic in topics:
                if topic not in known:
                    has = ", ".join(sorted(channel.topic for channel in self.channels)) or "none"
                    raise ValueError(f"{self.path} has no channel {topic!r}; it has {has}")
            made._readers = [
                reader if reader is not None and not {*topics}.isdisjoint(self._names(number)) else None
                for number, reader in enumerate(self._readers)
            ]
            for number, channel in self._ids.items():
                if channel.topic in topics and made._readers[number] is None:
                    made._readers[number] = self._reader_of(number)  # keyframes are read only if named
        if key is not None:
            made._key = key
        return made

    def _names(self, number: int) -> tuple[str, ...]:
        channel = self._ids.get(number)
        return () if channel is None else (channel.topic, channel.type)

    def __iter__(self) -> Iterator[tuple[int, T]]:
        found = self._messages(self._readers)
        if self._key is None:
            return found
        return self._of_key(found)

    def __len__(self) -> int:
        """Number of messages that iterating gives. With a time range or a key, it reads them to count."""
        if self._range != (0, FOREVER) or self._key is not None:
            return sum(1 for _ in self)
        return sum(
            channel.messages for number, channel in self._ids.items() if self._readers[number] is not None
        )

    def raw(self) -> Iterator[tuple[int, RecordedChannel, bytes]]:
        """The messages as stored in the file: (at, channel, payload), including keyframes."""
        wanted: list[Any] = [True if number in self._ids else None for number in range(len(self._readers))]
        for place, walk in self._walks(wanted):
            del place
            for at, payload in walk:
                yield at, self._ids[walk.channel], payload

    def numpy(self, topic: str | None = None) -> Any:
        """The values of one type as a structured array.

        Parameters
        ----------
        topic : str, optional
            Topic or class name; needed if the recording has several.

        Returns
        -------
        numpy.ndarray, shape (messages,)
            Field ``at`` (uint64, ns since the epoch), then the fields of the type.

        Raises
        ------
        TypeError
            The type has a field without a fixed width. The error names it.
        ValueError
            There are several types and none was named, or there is no such channel.
        """
        from deli_com.recording.columns import columns

        return columns(self.select(topic) if topic is not None else self)

    def close(self) -> None:
        """Close the file. Recordings made by `between` and `select` share it."""
        self._owner.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        torn = "" if self.is_whole else ", without its end"
        return (
            f"<{type(self).__name__} {os.fspath(self.path)!r}: {len(self.channels)} channels, "
            f"{self._index.statistics.message_count} messages, {self.duration:.3f} s{torn}>"
        )

    # --- for columns.py ---------------------------------------------------------------------------------

    @property
    def source(self) -> Stored:
        """The open file."""
        return self._source

    @property
    def time_range(self) -> tuple[int, int]:
        """The selected time range, ns: start, and end (exclusive)."""
        return self._range

    def wanted_channels(self) -> list[int]:
        """Ids of the channels whose values iterating gives."""
        return [
            number
            for number, channel in self._ids.items()
            if self._readers[number] is not None and channel.messages
        ]

    def channel_of(self, number: int) -> RecordedChannel:
        """The channel with this id."""
        return self._ids[number]

    def _walks_of(self, number: int) -> Iterator[tuple[ChunkIndex | None, Walk]]:
        """The chunks that have messages of one channel."""
        return self._walks([None] * number + [True])

    def layout_of(self, number: int) -> tuple[int, Any]:
        """The memory layout of a channel's values: bytes to skip (the index of a variant), and the dtype.

        Raises
        ------
        TypeError
            A field has no fixed width.
        """
        channel = self._ids[number]
        schema = self.schemas[channel.direction or channel.topic]  # exists, because the channel has a reader
        tree = schema.tree
        root = tree.by_name.get(str(tree.root))
        if not isinstance(root, Sealed):
            return 0, codec(schema.load()).dtype
        variant = next((found for found in root.variants if found.name == channel.type), None)
        if variant is None:
            raise self._source.error(None, f"the schema of {channel.topic} has no class {channel.type!r}")
        return 4, codec(struct_of(tree, variant).load()).dtype

    # --- private ----------------------------------------------------------------------------------------

    def _copy(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def _find_schemas(self) -> dict[str, Schema]:
        found: dict[str, Schema] = {}
        for entry in self._index.metadata:
            if entry.name == "deli.schema":
                direction, schema = self._schema_at(entry.offset)
                found[direction] = schema
        for number, channel in self._ids.items():
            if not channel.direction and channel.encoding == "ros1":
                from deli_com.recording.ros1_schema import schema_of_ros1

                record = self._index.schemas.get(self._index.channels[number].schema_id)
                if record is not None and record.encoding == "ros1msg":
                    try:
                        found[channel.topic] = schema_of_ros1(record.name, record.data.decode())
                    except ValueError:
                        continue  # the type cannot be expressed; its channel is not read
        return found

    @cached_property
    def gaps(self) -> tuple[RecordedGap, ...]:
        """Messages that were left out while recording, in the order of the file."""
        found = []
        for entry in self._index.metadata:
            if entry.name == "deli.gap":
                values = self._metadata_at(entry.offset, "what was left out")
                try:
                    numbers = [int(values[name]) for name in ("messages", "from", "to")]
                    found.append(RecordedGap(values["topic"], *numbers))
                except (KeyError, ValueError) as error:
                    raise self._source.error(
                        entry.offset, f"the record of what was left out is damaged: {error}"
                    ) from error
        return tuple(found)

    @property
    def unknown(self) -> int:
        """Number of messages in the file of classes that the type lacks. Reading leaves them out."""
        spec = record_spec(self._type) if isinstance(self._type, RecordType) else None
        if spec is None or not spec.sealed:
            return 0
        known = {wire_name(variant) for variant in spec.variants.values()}
        return sum(
            channel.messages
            for channel in self.channels
            if (channel.direction or channel.topic) in self._codecs
            and channel.type not in known
            and not channel.topic.startswith("/keyframe/")
        )

    def _metadata_at(self, offset: int, what: str) -> dict[str, str]:
        from mcap.records import Metadata

        opcode, length = HEAD.unpack(self._source.read(offset, HEAD.size))
        if opcode != 0x0C:
            raise self._source.error(offset, f"{what} is missing here")
        try:
            return parsed(Metadata, self._source.read(offset + HEAD.size, length)).metadata
        except RecordingError:
            raise
        except ValueError as error:
            raise self._source.error(offset, f"{what} is damaged: {error}") from error

    def _schema_at(self, offset: int) -> tuple[str, Schema]:
        # The schema of a direction, from a metadata record.
        values = self._metadata_at(offset, "the description of the stream")
        try:
            schema = Schema.parse(values["text"])
            if values.get("hash", schema.hash) != schema.hash:
                raise ValueError(f"its text has the hash {schema.hash}, not {values['hash']}")
            return values["direction"], schema
        except KeyError as error:
            raise self._source.error(offset, f"the description of the stream has no {error}") from error
        except ValueError as error:
            raise self._source.error(offset, f"the description of the stream is damaged: {error}") from error

    def _make_readers(self) -> list[Any]:
        readers: list[Any] = [None] * (max(self._ids, default=-1) + 1)
        for number, channel in self._ids.items():
            if not channel.topic.startswith("/keyframe/"):
                readers[number] = self._reader_of(number)
        return readers

    def _reader_of(self, number: int) -> Any:
        channel = self._ids[number]
        stream = channel.direction or channel.topic
        spec = record_spec(self._type) if isinstance(self._type, RecordType) else None
        if spec is not None and spec.variant_of is not None and channel.type != wire_name(self._type):
            return None  # a variant is in one channel of its sealed type
        if spec is not None and spec.sealed and channel.type not in map(wire_name, spec.variants.values()):
            return None  # a variant that the type lacks
        return self._codecs.get(stream)

    def _find_codecs(self) -> dict[str, Any]:
        """The codec of each stream of the file that can be read."""
        if self._type is None:
            return {stream: codec(self._loaded(stream)) for stream in self.schemas}
        spec = record_spec(self._type) if isinstance(self._type, RecordType) else None
        own = codec(self._type if spec is None or spec.variant_of is None else spec.variant_of)
        same = {stream: own for stream, schema in self.schemas.items() if schema == own.schema}
        used = {channel.direction or channel.topic for channel in self.channels if channel.messages}
        if not used.isdisjoint(same) or len(same) == len(self.schemas):
            return same
        # Another version of the type: use the stream of its name; without one, all streams that can be read.
        named = {name: schema for name, schema in self.schemas.items() if schema.name == own.schema.name}
        found, mismatch = {}, None
        for stream, schema in (named or self.schemas).items():
            try:
                found[stream] = own if stream in same else own.reading(schema)
            except SchemaMismatch as error:
                mismatch = error
        if mismatch is not None and not found:
            raise mismatch
        return found

    def _loaded(self, stream: str) -> Any:
        try:
            return self.schemas[stream].load()
        except ValueError as error:
            raise self._source.error(None, f"the schema of {stream!r} cannot be loaded: {error}") from error

    def _walks(self, readers: list[Any]) -> Iterator[tuple[ChunkIndex | None, Walk]]:
        low, high = self._range
        source, damaged = self._source, self._index.damaged
        spare: deque[bytearray] = deque(maxlen=2)
        for place in sorted(self._index.chunks, key=attrgetter("message_start_time")):
            if damaged and place.chunk_start_offset > damaged[0][0]:
                break
            if place.message_end_time < low or place.message_start_time >= high:
                continue
            offsets = place.message_index_offsets
            if offsets and not any(
                number < len(readers) and readers[number] is not None for number in offsets
            ):
                continue
            data = load_chunk(source, place, spare)
            yield place, Walk(data, readers, low, high, source.path, place.chunk_start_offset, spare)
        for begin, size in self._index.plain:
            if not damaged or begin < damaged[0][0]:
                yield None, Walk(source.read(begin, size), readers, low, high, source.path, begin)
        if damaged:
            begin, size = damaged[0]
            raise source.error(
                begin,
                f"{size} bytes are damaged; `deli-com repair` leaves them out and keeps what is after them",
            )

    def _messages(self, readers: list[Any]) -> Iterator[tuple[int, T]]:
        return chain.from_iterable(self._runs(readers))  # no Python frame for each message

    def _runs(self, readers: list[Any]) -> Iterator[Iterator[tuple[int, T]]]:
        run: list[Iterator[tuple[int, T]]] = []  # readers of chunks that overlap in time
        until = -1
        for place, walk in self._walks(readers):
            start, end = (0, FOREVER) if place is None else (place.message_start_time, place.message_end_time)
            if run and start > until:
                yield _merged(run)
                run, until = [], -1
            run.append(walk)
            until = max(until, end)
            if not is_ordered(walk.data):
                run[-1] = iter(sorted(walk, key=itemgetter(0)))
        yield _merged(run)

    def _of_key(self, messages: Iterator[tuple[int, T]]) -> Iterator[tuple[int, T]]:
        key = self._key if isinstance(self._key, tuple) else (self._key,)
        for at, value in messages:
            names = record_spec(type(value)).delivery.key if isinstance(type(value), RecordType) else None
            if names and tuple(getattr(value, name) for name in names) == key:
                yield at, value


class _OpenFile:
    # Closes the file when the last recording that uses it is freed, so that a loop needs no `with`.

    def __init__(self, path: Path) -> None:
        self.stream: IO[bytes] = path.open("rb")

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self.stream.close()


def struct_of(tree: Tree, variant: Variant) -> Schema:
    """The fields of a variant as a struct, without the index before them."""
    definitions: dict[str, Definition] = {}

    def reach(definition: Definition) -> None:
        definitions[definition.name] = definition
        for tp in types_in(definition):
            for name in refs(tp):
                if name not in definitions:
                    reach(tree.by_name[name])

    name = f"{variant.name}_fields"
    while name in tree.by_name:
        name += "_"
    reach(Struct(name, variant.fields))
    return Schema.parse(render(Tree(Ref(name), tuple(definitions.values()))))


def _merged(run: list[Iterator[tuple[int, T]]]) -> Iterator[tuple[int, T]]:
    if len(run) == 1:
        return run[0]
    return heapq.merge(*run, key=itemgetter(0))


def _subclass(cls: type[Recording[Any]], name: str, type_: Any) -> type[Recording[Any]]:
    return type(name, (cls,), {"_type": type_, "__module__": cls.__module__, "__doc__": cls.__doc__})
