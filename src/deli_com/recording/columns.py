"""The values of a recording as one structured numpy array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deli_com.recording.chunk import index_chunk

if TYPE_CHECKING:
    from deli_com.recording.recording import Recording

__all__ = ["columns"]

MESSAGE_HEAD = 31  # bytes of a record before its payload


def columns(recording: Recording[Any]) -> Any:
    """See `Recording.numpy`."""
    import numpy

    numbers = recording.wanted_channels()
    if len(numbers) != 1:
        topics = ", ".join(sorted(recording.channel_of(number).topic for number in numbers)) or "none"
        raise ValueError(f"an array holds one channel, name it: {topics}")
    [number] = numbers
    skipped, dtype = recording.layout_of(number)
    names, formats = [*dtype.names], [dtype.fields[name][0] for name in dtype.names]
    wanted = numpy.dtype(
        {
            "names": ["at", *names],
            "formats": ["<u8", *formats],
            # Offsets in a record: the log time is at byte 15.
            "offsets": [15, *(MESSAGE_HEAD + skipped + dtype.fields[name][1] for name in names)],
            "itemsize": MESSAGE_HEAD + skipped + dtype.itemsize,
        }
    )
    packed = numpy.dtype([("at", "<u8"), *zip(names, formats, strict=True)])
    parts = [rows.astype(packed) for rows in _rows(recording, number, wanted)]
    return numpy.concatenate(parts) if parts else numpy.empty(0, packed)


def _rows(recording: Recording[Any], number: int, wanted: Any) -> Any:
    # Arrays of records, one for each chunk. They are views of the chunk if the records are equally spaced.
    import numpy

    low, high = recording.time_range
    for place, walk in recording._walks_of(number):
        data = walk.data
        pairs = numpy.frombuffer(index_chunk(data).get(number, b""), "<u8").reshape(-1, 2)
        pairs = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
        if not len(pairs):
            continue
        offsets = pairs[:, 1].astype("<i8")
        raw = numpy.frombuffer(data, numpy.uint8)
        lengths = raw[offsets[:, None] + numpy.arange(1, 9)].copy().view("<u8").ravel()
        if (lengths != wanted.itemsize - 9).any():
            topic, at = recording.channel_of(number).topic, offsets[lengths != wanted.itemsize - 9][0]
            raise recording.source.error(
                None if place is None else place.chunk_start_offset,
                f"a value of {topic} has another length than its type, at byte {at} of the chunk",
            )
        steps = numpy.diff(offsets)
        if len(steps) == 0 or (steps == steps[0]).all():
            step = int(steps[0]) if len(steps) else wanted.itemsize
            yield numpy.ndarray(len(offsets), wanted, data, int(offsets[0]), (step,))
        else:
            rows = raw[offsets[:, None] + numpy.arange(wanted.itemsize)]
            yield rows.view(wanted).reshape(-1)
