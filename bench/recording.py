"""What a recording costs the sender, how much it writes a second, and how fast it is read.

`python bench/recording.py [--folder FOLDER]`: one process, on memory-backed storage unless told otherwise.

- **send**: `send_nowait` of 64 B and of 1 MB, to a server that is recorded and to one that is not, in turns.
  The figure is CPU time of the loop's thread. For 1 MB the difference is compared with a `memcpy` of 1 MB.
- **write**: messages a second written to a complete, closed file without drops, compared with the `mcap`
  package's own `Writer` with the same payloads and chunks. CRC and `memcpy` of the same bytes are the floor.
- **read**: the first value, a seek to the middle, and iteration beside decoding the same payloads from a
  list: the first pass, which compares checksums, and later ones.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from itertools import islice, repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mcap.writer import CompressionType, Writer

from deli_com import Codec, Recording, WsServer, codec, f64, u64
from launch import compiled
from machine import describe

MB = 1_000_000
BATCH = {64: 4000, MB: 8}
WAITING = 32 << 20  # of the 64 MiB that a recording may queue; from here on the sender waits for the disk


class Sample(Codec):
    """64 bytes."""

    stamp: u64
    a: f64
    b: f64
    c: f64
    d: f64
    e: f64
    f: f64
    g: f64


class Blob(Codec):
    """Bytes, as of a picture."""

    data: bytes


SAMPLE = Sample(1_700_000_000, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5)
BLOB = Blob(b"\xa5" * (MB - 4))
VALUES: dict[int, Any] = {64: SAMPLE, MB: BLOB}


def thread_ns(call: Callable[[Any], object], value: object, count: int) -> float:
    """Nanoseconds a call, of this thread's CPU."""
    started = time.thread_time_ns()
    for _ in repeat(None, count):
        call(value)
    return (time.thread_time_ns() - started) / count


def copying_ns(size: int) -> float:
    """Nanoseconds of one memcpy between buffers that are not in the cache."""
    source, target = bytearray(size * 32), bytearray(size * 32)
    begin = [ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (source, target)]
    found = []
    for _ in range(3):
        started = time.perf_counter_ns()
        for place in range(0, size * 32, size):
            ctypes.memmove(begin[1] + place, begin[0] + place, size)
        found.append((time.perf_counter_ns() - started) / 32)
    return statistics.median(found)


def clock_ns() -> float:
    """Nanoseconds of one reading of the monotonic clock, in C."""
    return float(subprocess.run([compiled("clock")], capture_output=True, check=True).stdout)


async def send(folder: Path, size: int, rounds: int) -> dict[str, float]:
    """A recorded server compared with an unrecorded one, in turns."""
    value, count = VALUES[size], BATCH[size]
    plain = await WsServer[type(value), None].bind("127.0.0.1:0")
    recorded = await WsServer[type(value), None].bind("127.0.0.1:0")
    recorder = recorded.record(folder / "send.mcap")
    times: dict[str, list[float]] = {"unrecorded": [], "recorded": []}
    for _ in range(rounds):
        for name, server in (("unrecorded", plain), ("recorded", recorded)):
            times[name].append(thread_ns(server.send_nowait, value, count))
            server.flush()
            while recorder.stats.waiting:  # noqa: ASYNC110 (the recording's thread writes)
                await asyncio.sleep(0.001)
    assert not recorder.stats.left_out
    for server in (plain, recorded):
        await server.close(drain=0)
    (folder / "send.mcap").unlink()
    more = [b - a for a, b in zip(times["unrecorded"], times["recorded"], strict=True)]
    return {
        "unrecorded ns": statistics.median(times["unrecorded"]),
        "recorded ns": statistics.median(times["recorded"]),
        "ratio": statistics.median(
            b / a for a, b in zip(times["unrecorded"], times["recorded"], strict=True)
        ),
        "more ns": statistics.median(more),
        "memcpy ns": copying_ns(size),
        "clock ns": clock_ns(),
    }


async def write(folder: Path, size: int, total: int) -> dict[str, float]:
    """Whole files, ours and the package's; `total` bytes of payload each."""
    value = VALUES[size]
    count = total // size
    payload = value.to_bytes()
    server = await WsServer[type(value), None].bind("127.0.0.1:0")
    started = time.perf_counter()
    recorder = server.record(folder / "ours.mcap")
    for number in range(count):
        server.send_nowait(value)
        if number % BATCH[size] == 0:
            server.flush()
            while recorder.stats.waiting > WAITING:  # noqa: ASYNC110 (the recording's thread writes)
                await asyncio.sleep(0.001)
    await recorder.aclose()
    ours = count / (time.perf_counter() - started)
    assert (recorder.stats.messages, recorder.stats.left_out) == (count, 0)
    await server.close(drain=0)
    (folder / "ours.mcap").unlink()

    few = max(1, count // 10)  # the package is about ten times slower
    started = time.perf_counter()
    with (folder / "package.mcap").open("wb") as stream:
        writer = Writer(stream, chunk_size=1 << 20, compression=CompressionType.NONE)
        writer.start()
        schema = writer.register_schema("Sample", "ros1msg", b"")
        channel = writer.register_channel("/Sample", "ros1", schema)
        for number in range(few):
            at = time.time_ns()
            writer.add_message(channel, at, payload, at, number)
        writer.finish()
    package = few / (time.perf_counter() - started)
    (folder / "package.mcap").unlink()

    data = bytes(16 << 20)
    started = time.perf_counter()
    zlib.crc32(data)
    crc = len(data) / (time.perf_counter() - started)
    return {
        "messages/s": ours,
        "MB/s": ours * size / MB,
        "package messages/s": package,
        "ratio": ours / package,
        "crc MB/s": crc / MB,
        "memcpy MB/s": size * 1e9 / copying_ns(size) / MB if size == MB else float("nan"),
    }


async def read(folder: Path, count: int) -> dict[str, float]:
    """A file of many messages of 64 B: its first value, its middle, and all of it."""
    path = folder / "read.mcap"
    server = await WsServer[Sample, None].bind("127.0.0.1:0")
    recorder = server.record(path)
    for number in range(count):
        server.send_nowait(SAMPLE)
        if number % 4000 == 0:
            server.flush()
            while recorder.stats.waiting > WAITING:  # noqa: ASYNC110 (the recording's thread writes)
                await asyncio.sleep(0.001)
    await recorder.aclose()
    await server.close(drain=0)
    size = path.stat().st_size
    started = time.perf_counter()
    with Recording[Sample](path) as recording:
        next(iter(recording))
        first = time.perf_counter() - started
        middle = recording.start + (recording.end - recording.start) // 2
        started = time.perf_counter()
        next(iter(recording.between(middle)))
        seek = time.perf_counter() - started
        taken = min(count, MB)
        payloads = [SAMPLE.to_bytes() for _ in range(taken)]
        decode = codec(Sample).from_bytes
        ratios, rates = [], []
        for _ in range(3):
            started = time.perf_counter()
            for payload in payloads:
                decode(payload)
            decoding = time.perf_counter() - started
            started = time.perf_counter()
            for _ in islice(recording, taken):
                pass
            iterating = time.perf_counter() - started
            ratios.append(decoding / iterating)
            rates.append(taken / iterating)
    path.unlink()
    return {
        "messages": count,
        "file MB": size / MB,
        "first value s": first,
        "seek s": seek,
        "messages/s": rates[0],
        "of decoding": ratios[0],
        "again": statistics.median(ratios[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    shm = Path("/dev/shm")
    parser.add_argument("--folder", type=Path, default=shm if shm.is_dir() else None)
    parser.add_argument("--rounds", type=int, default=60, help="of each contender")
    parser.add_argument("--megabytes", type=int, default=400, help="of payloads that are written")
    parser.add_argument("--messages", type=int, default=1_000_000, help="in the file that is read")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        for size, label in ((64, "64 B"), (MB, "1 MB")):
            figures[f"send, {label}"] = asyncio.run(send(folder, size, given.rounds))
        for size, label in ((64, "64 B"), (MB, "1 MB")):
            figures[f"write, {label}"] = asyncio.run(write(folder, size, given.megabytes * MB))
        figures["read, 64 B"] = asyncio.run(read(folder, given.messages))
    for row, columns in figures.items():
        print(f"{row:12}", "  ".join(f"{name} {value:,.4g}" for name, value in columns.items()), flush=True)
    if given.json:
        given.json.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
