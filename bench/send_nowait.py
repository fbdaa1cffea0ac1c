"""What `send_nowait` of five fields costs, 64 sends a turn, against msgspec's encode of the same values.

`python bench/send_nowait.py`: one process, pinned, one loop around each call; the contenders take turns
within every round. The figures are medians of the rounds, with the ratio to msgspec's within each round.
The first send of a turn has a row of its own: with few clients it is flushed at once (encoding and a system
call). Flushing at the end of a turn is measured by the fan-out bench, and is not included here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import msgspec

from control import READY, Control
from deli_com import WsServer
from launch import Child, compiled, cores, options
from machine import describe
from values import Reading

TURN = 64
QUIET_S = 0.0005  # after this long without a send, few clients get the next one at once


class Rival(msgspec.Struct, array_like=True):
    """`values.Reading` for msgspec."""

    stamp: int
    x: float
    y: float
    count: int
    good: bool


FIELDS = (1_700_000_000, 1.5, -2.5, 7, True)


def a_turn(call: Callable[[Any], object], value: object) -> float:
    """Nanoseconds a call, over the calls of one turn."""
    started = time.perf_counter_ns()
    for _ in repeat(None, TURN):
        call(value)
    return (time.perf_counter_ns() - started) / TURN


async def measure(clients: tuple[int, ...], rounds: int, turns: int) -> dict[str, list[float]]:
    """Medians of `turns` turns, a list of `rounds` for each contender."""
    figures: dict[str, list[float]] = {}
    core, load_core = cores()
    os.sched_setaffinity(0, {core})
    encode = msgspec.msgpack.Encoder().encode
    value, rival = Reading(*FIELDS), Rival(*FIELDS)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
        servers = {}
        for count in clients:
            place = Path(folder) / str(count)
            place.mkdir()
            page, fifo = Control.create(place)
            server = await WsServer[Reading].bind("127.0.0.1:0")
            given = {"control": page, "fifo": fifo, "port": server.local_addr().port, "clients": count}
            load = [str(compiled("load_client")), *options(given | {"core": load_core})]
            cleanup.callback(Child(load, place / "load").end)
            control = Control(page, fifo)
            cleanup.callback(control.close)
            await server.wait_clients(count)
            while control.cells[READY] < count:  # noqa: ASYNC110 (another process sets it)
                await asyncio.sleep(0.001)
            servers[count] = server
        for _ in range(rounds):
            taken: dict[str, list[float]] = {}
            for _ in range(turns):
                taken.setdefault("msgspec encode", []).append(a_turn(encode, rival))
                for count, server in servers.items():
                    await asyncio.sleep(QUIET_S)
                    started = time.perf_counter_ns()
                    server.send_nowait(value)
                    first = time.perf_counter_ns() - started
                    taken.setdefault(f"first of a turn, {count} clients", []).append(first)
                    taken.setdefault(f"send_nowait, {count} clients", []).append(
                        a_turn(server.send_nowait, value)
                    )
                    await asyncio.sleep(0)
            for name, turn_figures in taken.items():
                figures.setdefault(name, []).append(statistics.median(turn_figures))
        for server in servers.values():
            await server.close(drain=0)
    return figures


def ratio(figures: dict[str, list[float]], name: str, base: str) -> float:
    """The median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(figures[name], figures[base], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turns", type=int, default=200, help="of each contender in a round")
    parser.add_argument("--clients", type=int, nargs=2, default=[1, 100])
    parser.add_argument("--json", type=Path, help="also write all rounds here")
    given = parser.parse_args()
    few, many = given.clients
    figures = asyncio.run(measure((few, many), given.rounds, given.turns))
    for name, rounds in figures.items():
        times = ratio(figures, name, "msgspec encode")
        print(f"{name:28} {statistics.median(rounds):8.0f} ns a call {times:8.2f} x msgspec")
    few_name, many_name = f"send_nowait, {few} clients", f"send_nowait, {many} clients"
    print(f"{many} clients cost {ratio(figures, many_name, few_name):.2f} of what {few} cost")
    if given.json:
        given.json.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
