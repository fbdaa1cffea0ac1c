"""How cost grows: `python bench/scale.py [NAME ...] [--rounds 3] [--json FILE] [--docs docs] [--quick]`.

Each series changes one number and measures the CPU of one step. The exponent of growth is the slope of
log(cost) over log(number). "Work" is the exponent of the work itself: a message to n clients is n deliveries,
so 1. A series is marked where two steps in a row, each from one number to the next, have an exponent of more
than work + 0.15.

    clients   CPU of the server for a message of 64 B to n clients, 16 messages a turn. Work: 1.
    floor     The same by the C floor (floor_server.c): what the kernel makes of so many sockets.
    sizes     CPU of the server for a message of n bytes to 10 clients, one a turn. Work: 1.
    keys      `send_nowait` of a value of policy latest with retain. Each of n keys has a value, and one is
              drawn at random. No client. Work: 0.
    dict      `held[key] = bytes(...)` in a plain dict, keys drawn alike: what is the machine's memory alone.
    late      What a client gets when it joins: n retained keys, to the last byte. Work: 1.
    groups    A message to one group of one member, while n groups of one member exist. Work: 0.
    rooms     One message to each of n groups of one member, of 100 clients. Work: 1.
    classes   `send_nowait` of each variant in turn of a sealed class of n variants. No client. Work: 0.
    received  Decoding one value of each variant in turn of such a class. Work: 0.
    schema    A client with the same schema connects to a server of such a class. Work: 1.

A round goes through all numbers of a series, so that a slow minute of the machine is in all of them. The
figure is the median of the rounds. `--docs docs` puts table and plots into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import random
import resource
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import uvloop

from deli_com import Client, Codec, Server, codec, u32
from drive import Job
from launch import run_server
from machine import describe, write

MARGIN = 0.15
BEGIN, END = "<!-- bench/scale.py -->", "<!-- end -->"
DATA = bytes(48)


class Keyed(Codec, policy="latest", key="id", retain=True):
    id: u32
    data: bytes


def cpu_ns() -> int:
    """CPU time of this process, the kernel's for it included."""
    return time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID)


def sealed(count: int) -> tuple[Any, list[Any]]:
    """A sealed class of `count` variants, and one value of each."""
    base: Any = type(f"Any{count}", (Codec,), {"__module__": __name__, "__annotations__": {}}, sealed=True)
    made = []
    for index in range(count):
        fields = {"__module__": __name__, "__annotations__": {"number": u32, "data": bytes}}
        made.append(type(f"Kind{count}_{index}", (base,), fields)(index, DATA))
    return base, made


async def drained(server: Any, socks: list[socket.socket]) -> None:
    """Read until nothing is left to send."""
    while True:
        for sock in socks:
            with contextlib.suppress(BlockingIOError):
                while sock.recv(1 << 20):
                    pass
        if server._is_drained():
            return
        await asyncio.sleep(0)


def joined(server: Any, count: int) -> list[socket.socket]:
    """Clients that are bare sockets."""
    socks = []
    for _ in range(count):
        sock = socket.create_connection(server.local_addr())
        sock.setblocking(False)
        socks.append(sock)
    return socks


async def sent(server: Any, make: Callable[[], list[Any]], scale: float) -> float:
    """CPU ns of `send_nowait` of one of the values that `make` gives, a list for each turn of the loop."""
    send = server.send_nowait
    spent = count = 0
    while count < 100_000 * scale:
        values = make()
        began = cpu_ns()
        for value in values:
            send(value)
        spent += cpu_ns() - began
        count += len(values)
        await asyncio.sleep(0)
    return spent / count


# --- the series: CPU ns of one step, for each number ---------------------------------------------------


async def _to_clients(program: str, count: int, scale: float) -> float:
    found = await asyncio.to_thread(
        run_server,
        program,
        Job(
            clients=count, size=64, burst=16, window=8 if count <= 100 else 1, seconds=0.5 * scale, warmup=0.1
        ),
    )
    return (found["user_s"] + found["sys_s"]) / found["messages"] * 1e9


async def clients(count: int, scale: float) -> float:
    return await _to_clients("servers/ours", count, scale)


async def floor(count: int, scale: float) -> float:
    return await _to_clients("floor_server", count, scale)


async def sizes(size: int, scale: float) -> float:
    window = max(1, min(8, (256 << 10) // size))
    job = Job(clients=10, size=size, burst=1, window=window, seconds=0.5 * scale, warmup=0.1)
    found = await asyncio.to_thread(run_server, "servers/ours", job)
    return (found["user_s"] + found["sys_s"]) / found["messages"] * 1e9


async def keys(count: int, scale: float) -> float:
    rng = random.Random(3)
    async with Server[Keyed, None].bind("127.0.0.1:0", max_keys=count) as server:
        send = server.send_nowait
        for key in range(count):
            send(Keyed(key, DATA))
            if key % 1000 == 0:
                await asyncio.sleep(0)
        return await sent(server, lambda: [Keyed(rng.randrange(count), DATA) for _ in range(1000)], scale)


async def plain_dict(count: int, scale: float) -> float:
    rng = random.Random(3)
    held = {key: bytes(key % 2 + 56) for key in range(count)}
    spent = stored = 0
    while stored < 100_000 * scale:
        chosen = [rng.randrange(count) for _ in range(1000)]
        began = cpu_ns()
        for key in chosen:
            held[key] = bytes(56)
        spent += cpu_ns() - began
        stored += len(chosen)
    return spent / stored


async def late(count: int, scale: float) -> float:
    async with Server[Keyed, None].bind("127.0.0.1:0", max_keys=count) as server:
        for key in range(count):
            server.send_nowait(Keyed(key, DATA))
            if key % 1000 == 0:
                await asyncio.sleep(0)
        spent = []
        for _ in range(max(1, int(3 * scale))):
            began = cpu_ns()
            socks = joined(server, 1)
            await server.wait_clients(1)
            await drained(server, socks)
            spent.append(cpu_ns() - began)
            socks[0].close()
            while server.stats().clients:  # noqa: ASYNC110 (a bench)
                await asyncio.sleep(0)
        return statistics.median(spent)


async def _in_groups(count: int, scale: float, all_of_them: bool) -> float:
    members = 100
    async with Server[bytes, None].bind("127.0.0.1:0") as server:
        socks = joined(server, members)
        await server.wait_clients(members)
        peers = list(server.clients)
        rooms = [server.group(index) for index in range(count)]
        for index, room in enumerate(rooms):
            room.add(peers[index % members])
        spent = steps = 0
        turns = max(3, int((20_000 * scale) // (count if all_of_them else 100)))
        for turn in range(min(turns, 300)):
            chosen = rooms if all_of_them else [rooms[turn % count]] * 100
            began = cpu_ns()
            for room in chosen:
                room.send_nowait(DATA)
            await drained(server, [])
            spent += cpu_ns() - began
            steps += 1 if all_of_them else len(chosen)
            await drained(server, socks)
        for sock in socks:
            sock.close()
        return spent / steps


async def groups(count: int, scale: float) -> float:
    return await _in_groups(count, scale, False)


async def rooms(count: int, scale: float) -> float:
    return await _in_groups(count, scale, True)


async def classes(count: int, scale: float) -> float:
    base, values = sealed(count)
    async with Server[base, None].bind("127.0.0.1:0") as server:
        several = (values * (1 + 1000 // count))[:1000]
        return await sent(server, lambda: several, scale)


async def received(count: int, scale: float) -> float:
    base, values = sealed(count)
    coder = codec(base)
    several = [coder.to_bytes(value) for value in (values * (1 + 1000 // count))[:1000]]
    decode = coder.from_bytes
    turns = max(1, int(100 * scale))
    began = cpu_ns()
    for _ in range(turns):
        for data in several:
            decode(data)
    return (cpu_ns() - began) / turns / len(several)


async def schema(count: int, scale: float) -> float:
    base, _ = sealed(count)
    async with Server[base, None].bind("127.0.0.1:0") as server:
        spent = []
        for _ in range(max(3, int(20 * scale))):
            began = cpu_ns()
            async with Client[base, None].connect(server.local_addr()):
                await server.wait_clients(1)
            spent.append(cpu_ns() - began)
            while server.stats().clients:  # noqa: ASYNC110 (a bench)
                await asyncio.sleep(0)
        return statistics.median(spent)


@dataclass(frozen=True)
class Series:
    """One number that grows, and what is measured for each of its values."""

    measure: Callable[[int, float], Awaitable[float]]
    numbers: tuple[int, ...]
    work: float
    step: str

    def fitting(self, most_files: int, quick: bool) -> Series:
        """Without the numbers that this machine's limit of descriptors leaves no room for."""
        kept = self.numbers[:3] if quick else self.numbers
        if self.measure in (clients, floor):
            kept = tuple(number for number in kept if number <= most_files - 200)
        return replace(self, numbers=kept)


MANY = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
SERIES = {
    "clients": Series(clients, (1, 10, 100, 1000, 5000), 1, "a message of 64 B to all clients"),
    "floor": Series(floor, (1, 10, 100, 1000, 5000), 1, "a message of 64 B to all clients, by a C program"),
    "sizes": Series(
        sizes, (16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1 << 20, 1 << 22, 1 << 24), 1,
        "a message to 10 clients",
    ),
    "keys": Series(keys, MANY, 0, "a value of one of the keys"),
    "dict": Series(plain_dict, MANY, 0, "a value of one of the keys, in a dict"),
    "late": Series(late, (1, 10, 100, 1000, 10_000, 100_000), 1, "what a late client gets"),
    "groups": Series(groups, (1, 10, 100, 1000, 10_000), 0, "a message to one group"),
    "rooms": Series(rooms, (1, 10, 100, 1000, 10_000), 1, "a message to each group"),
    "classes": Series(classes, (1, 10, 30, 100, 300), 0, "a value of each variant in turn, sent"),
    "received": Series(received, (1, 10, 30, 100, 300), 0, "a value of each variant in turn, decoded"),
    "schema": Series(schema, (1, 10, 30, 100, 300), 1, "a client with the same schema connects"),
}  # fmt: skip


def exponent(numbers: list[int], costs: list[float]) -> float:
    """The slope of the line through log(cost) over log(number), by least squares."""
    x = [math.log(number) for number in numbers]
    y = [math.log(cost) for cost in costs]
    middle_x, middle_y = statistics.mean(x), statistics.mean(y)
    spread = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def too_fast(numbers: list[int], costs: list[float], work: float) -> bool:
    """Whether two steps in a row grow faster than the work."""
    over = [
        exponent(numbers[at : at + 2], costs[at : at + 2]) > work + MARGIN for at in range(len(numbers) - 1)
    ]
    return any(first and second for first, second in itertools.pairwise(over))


def readable(ns: float) -> str:
    """A time of three digits, with its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def table(found: dict[str, Any]) -> str:
    """All series as one Markdown table."""
    lines = ["| what grows, and the step | CPU of a step | exponent | of the work |", "|---|---|---|---|"]
    for name, series in found.items():
        numbers, costs = series["numbers"], series["ns"]
        cells = ", ".join(
            f"{number:,}: {readable(cost)}" for number, cost in zip(numbers, costs, strict=True)
        )
        mark = " **faster than its work**" if too_fast(numbers, costs, series["work"]) else ""
        slope = exponent(numbers, costs)
        lines.append(f"| {name}: {series['step']} | {cells} | {slope:.2f}{mark} | {series['work']:g} |")
    return "\n".join(lines)


def circumstances() -> str:
    """Date and machine in a line."""
    meta = describe()
    day, system = str(meta["date"])[:10], f"{meta['cpu']}, {meta['cores']} cores, {meta['kernel']}"
    return f"{day}, {system}, CPython {meta['python']}. Load of the machine: {meta['load_before']:.0f}."


def draw(found: dict[str, Any], path: Path) -> None:
    """One small plot for each series: cost over number, both logarithmic, beside the growth of the work."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    matplotlib.rcParams["svg.hashsalt"] = "deli-com"  # the same figures make the same file
    columns = 3
    rows = -(-len(found) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(10.5, 2.9 * rows), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (name, series) in zip(axes.flat, found.items(), strict=False):
        numbers, costs = series["numbers"], [cost / 1e3 for cost in series["ns"]]
        axis.loglog(numbers, costs, "o-", color="#1668b8", linewidth=1.6, markersize=4)
        growth = [costs[-1] * (number / numbers[-1]) ** series["work"] for number in numbers]
        axis.loglog(numbers, growth, "--", color="#999999", linewidth=1)
        low, high = min(costs), max(costs)
        axis.set_ylim(low / 10, high * 10)
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"{name}: {series['step']}", fontsize=7)
        axis.set_ylabel("CPU, µs", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(True, which="major", linewidth=0.4, color="#dddddd")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


async def measure(names: list[str], rounds: int, quick: bool) -> dict[str, Any]:
    """The figures of the named series."""
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    scale = 0.1 if quick else 1.0
    found: dict[str, Any] = {}
    for name in names:
        series = SERIES[name].fitting(most_files, quick)
        all_rounds: list[list[float]] = []
        for _ in range(rounds):
            all_rounds.append([])
            for number in series.numbers:
                all_rounds[-1].append(await series.measure(number, scale))
                print(f"{name} {number:,}: {readable(all_rounds[-1][-1])}", file=sys.stderr, flush=True)
        found[name] = {
            "step": series.step,
            "work": series.work,
            "numbers": list(series.numbers),
            "ns": [statistics.median(column) for column in zip(*all_rounds, strict=True)],
            "rounds": all_rounds,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("series", nargs="*", choices=[*SERIES, []], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, help="folder of performance.md, which gets the table and plots")
    parser.add_argument("--quick", action="store_true", help="seconds, for crashes: the figures mean nothing")
    options = parser.parse_args()
    names = [name for name in SERIES if name in options.series or not options.series]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(names, 1 if options.quick else options.rounds, options.quick))
    text = f"{table(found)}\n\n{circumstances()}"
    print(text)
    write(options.json, found)
    if options.docs is not None:
        page = options.docs / "performance.md"
        head, _, rest = page.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
        draw(found, options.docs / "pictures" / "scale.svg")


if __name__ == "__main__":
    main()
