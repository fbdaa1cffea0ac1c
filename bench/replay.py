"""How far the messages of a replay are from their times.

    python bench/replay.py --seconds 60

A file is made with messages at times that are known, and replayed to a client in the same event loop. For
each message: when it was received after the first one, less when it was recorded after the first one. The row
gives the median and the worst of these, in milliseconds, and the drift: the mean of the last tenth less the
mean of the first tenth. Beside it, the same of a loop that only sleeps until the same times: what asyncio and
the machine cost without a replay. A timer of asyncio is up to 1 ms late: `epoll_wait` takes milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from deli_com import Codec, Replay, WsClient, codec, u32
from deli_com.recording.recorder import Recorder
from machine import describe

START = 1_700_000_000_000_000_000


class Sample(Codec):
    number: u32


def made(path: Path, seconds: float, rate: float) -> list[int]:
    """Write a recording; the times of its messages in nanoseconds after the first."""
    times = [int(number * 1e9 / rate) for number in range(int(seconds * rate) + 1)]
    with Recorder(path, schemas={"down": codec(Sample).schema}) as recorder:
        channel = recorder.channel("down")
        for number, at in enumerate(times):
            recorder.intake.add(channel, Sample(number).to_bytes(), START + at)
    return times


def row(late: list[float]) -> dict[str, float]:
    """Figures of seconds by which each message was late."""
    part = max(1, len(late) // 10)
    return {
        "messages": len(late),
        "median ms": statistics.median(late) * 1e3,
        "worst ms": max(map(abs, late)) * 1e3,
        "drift ms": (statistics.fmean(late[-part:]) - statistics.fmean(late[:part])) * 1e3,
    }


async def replayed(path: Path, times: list[int], speed: float) -> dict[str, float]:
    clock = asyncio.get_running_loop().time
    received: list[float] = []
    async with Replay(path, speed=speed, wait_clients=1).serve("127.0.0.1:0") as replay:
        async with WsClient[Sample, None].connect(replay.local_addr()) as client:
            for number in range(len(times)):
                value = await client.recv()
                received.append(clock())
                assert value.number == number
    first = received[0]
    return row([at - first - due / 1e9 / speed for at, due in zip(received, times, strict=True)])


async def slept(times: list[int], speed: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    first = loop.time()
    for due in times:
        at = first + due / 1e9 / speed
        await asyncio.sleep(at - loop.time())
        late.append(loop.time() - at)
    return row(late)


def measure(seconds: float, rate: float, speed: float) -> dict[str, dict[str, float]]:
    """Replay so many seconds of a recording."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.mcap"
        times = made(path, seconds, rate)
        return {
            "replay": asyncio.run(replayed(path, times, speed)),
            "sleeping only": asyncio.run(slept(times, speed)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the recording")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    figures: dict[str, Any] = measure(given.seconds, given.rate, given.speed)
    for name, columns in figures.items():
        print(f"{name:14}", "  ".join(f"{key} {value:,.3f}" for key, value in columns.items()))
    if given.json:
        given.json.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
