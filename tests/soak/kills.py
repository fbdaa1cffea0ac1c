"""kill -9 of a recorded server at random moments: how much of the recording is lost, and what is left.

    python tests/soak/kills.py --kills 200 --seed 1

A process broadcasts numbers and records them. Before it sends one, it notes the time in shared memory. At a
random moment of its first `LIFE_S` seconds it gets SIGKILL. Then, of its files:

- `Recording` reads each as it is: the numbers from 0 on, in order, with the bytes that were sent;
- `deli-com repair` mends those that are not whole;
- the indexed reader of the `mcap` package, with its checks of CRCs on, finds the same messages in each;
- lost is the age, at the kill, of the oldest message that is in no file. It is a failure if the process has
  sent for more than `MOST_S` since then: a machine that stands still sends nothing.

Every fourth process splits its recording; a third each compress with zstd and lz4; sizes differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import signal
import statistics
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from helpers import SLOW
from mcap.reader import make_reader

from deli_com import Codec, Recording, WsServer, u32
from deli_com.cli.main import main as command

MOST_S = 0.5
LIFE_S = 1.5
NOTED = 2_000_000  # numbers that shared memory has room for
SIZES = (0, 8, 64, 1000, 40_000)
PAUSE_S = 0.002  # between turns, so that the writer's thread gets its own


class Message(Codec, sealed=True):
    number: u32


class Small(Message):
    pass


class Large(Message):
    data: bytes


def padding(number: int, size: int) -> bytes:
    """The bytes of message `number`."""
    return (zlib.crc32(number.to_bytes(4, "little")).to_bytes(4, "little") * (size // 4 + 1))[:size]


def value_of(number: int, size: int) -> Any:
    return Large(number, padding(number, size)) if size and number % 3 else Small(number)


async def record(path: Path, options: dict[str, Any], size: int, noted: mmap.mmap) -> None:
    """Record numbers until the kill."""
    batch = 500 if size < 1000 else 20
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        server.record(path, **options)
        number = 0
        while True:
            for _ in range(batch):
                struct.pack_into("<Q", noted, 8 + 8 * number, time.time_ns())
                server.send_nowait(value_of(number, size))
                number += 1
                struct.pack_into("<Q", noted, 0, number)  # sent
            await asyncio.sleep(PAUSE_S)


def live(path: Path, options: dict[str, Any], size: int, noted: mmap.mmap) -> NoReturn:
    try:
        asyncio.run(record(path, options, size, noted))
    finally:
        os._exit(1)  # it ends by SIGKILL only


def left(path: Path, sent: int, size: int) -> tuple[int, bool]:
    """Check the files of one process; how many messages they have, and whether one was torn."""
    paths = [path, *sorted(path.parent.glob("run_*.mcap"), key=lambda part: int(part.stem[4:]))]
    found, torn = 0, False
    for part in paths:
        if not part.exists():
            continue
        if part.stat().st_size < 8:  # killed before the file had a beginning
            assert part == paths[-1]
            continue
        recording = Recording[Message](part)
        here = [value for _, value in recording]
        for number, value in enumerate(here, found):
            assert value == value_of(number, size), f"message {number} of {part.name}"
        was_whole = recording.is_whole
        recording.close()
        if not was_whole:
            assert part == paths[-1], f"{part.name} is not whole, but {paths[-1].name} is after it"
            torn = True
            with redirect_stdout(StringIO()):
                assert command(["repair", str(part)]) == 0
        with part.open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True)
            summary = reader.get_summary()
            assert summary is not None and summary.statistics is not None
            assert summary.statistics.message_count == len(here)
            payloads = [message.data for _, _, message in reader.iter_messages()]
        assert payloads == [value.to_bytes() for value in here]
        with Recording(part) as mended:
            assert mended.is_whole and len(mended) == len(here)
        found += len(here)
    assert found <= sent + 1  # one may be sent and not counted yet
    return found, torn


def kill_one(folder: Path, chance: random.Random, number: int) -> dict[str, Any]:
    """One life: what it was, and how many seconds of it are lost."""
    options: dict[str, Any] = {"compression": (None, "zstd", "lz4")[number % 3]}
    size = chance.choice(SIZES)
    if number % 4 == 3:
        options["split_bytes"] = 200_000 if size <= 1000 else 10_000_000  # some files, not hundreds a second
    life = chance.uniform(0.0, LIFE_S)
    path = folder / "run.mcap"
    noted = mmap.mmap(-1, 8 + 8 * NOTED)
    process = os.fork()
    if not process:
        live(path, options, size, noted)
    deadline = time.monotonic() + 30 * SLOW
    while not path.exists():  # the first moment is when there is a file
        assert time.monotonic() < deadline, "no recording begins"
        time.sleep(0.0005)
    time.sleep(life)
    os.kill(process, signal.SIGKILL)
    killed = time.time_ns()
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), "it ended by itself"
    [sent] = struct.unpack_from("<Q", noted, 0)
    found, torn = left(path, sent, size)
    lost_s = sent_s = 0.0
    if found < sent:
        first, last = (struct.unpack_from("<Q", noted, 8 + 8 * which)[0] for which in (found, sent - 1))
        lost_s, sent_s = (killed - first) / 1e9, (last - first) / 1e9
    noted.close()
    for part in folder.iterdir():
        part.unlink()
    return {
        "life_s": life,
        "size": size,
        **options,
        "sent": sent,
        "lost_s": lost_s,
        "sent_s": sent_s,
        "torn": torn,
    }


def soak(kills: int, seed: int, say: Callable[[Any], object] = print) -> dict[str, Any]:
    """Kill so many processes; the figures, with those that lost too much in ``failed``."""
    chance = random.Random(seed)
    lives = []
    for number in range(kills):
        with tempfile.TemporaryDirectory() as name:
            lives.append(kill_one(Path(name), chance, number))
        if (number + 1) % 20 == 0:
            say(f"{number + 1} kills, most lost {max(life['lost_s'] for life in lives):.3f} s")
    losses = [life["lost_s"] for life in lives]
    return {
        "kills": kills,
        "messages": sum(life["sent"] for life in lives),
        "torn": sum(life["torn"] for life in lives),
        "by compression": dict(Counter(str(life["compression"]) for life in lives)),
        "lost_s": {"median": statistics.median(losses), "most": max(losses)},
        "failed": [life for life in lives if life["sent_s"] > MOST_S * SLOW],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = soak(given.kills, given.seed)
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["failed"]))


if __name__ == "__main__":
    main()
