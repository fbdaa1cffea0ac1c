"""What the bound on bytes in flight costs: `python bench/transit.py [--seconds 6] [--json FILE]`.

Throughput: over a link (delayed_link.c) with a delay of 0, 20 and 200 ms there and back, and 0 or 1 %
of the packets lost there or back, a server sends as fast as it may to one client that reads everything.
With `max_transit=0.5` (default) and with `max_transit=None`, in turn, `--runs` times each, with the
same seed of the losses. Reliable values are awaited; of policy latest, a value of 64 KB is sent each
turn of the loop. The figure is the ratio of the medians of the bytes that the client received in the
second half of the run. Needs Linux, root and /dev/net/tun. `--congestion cubic` is for another
congestion control than the machine's.

Close (`--close`): 3 MB of reliable values over a link of 200 ms and 1 MB/s, then `close()`. The figures
are the values, of 75, that arrive with a bound and without. The bound is in force before all is sent
(`ping_timeout=1`).

Markers (`--markers`): 1,000 clients over loopback get 1 MB/s altogether, for as long. The figure is the
CPU time of the server's process with markers over that without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

from delayed_link import Link, delayed_link, enter_namespace
from deli_com import Codec, WsClient, WsServer, u32
from machine import describe, write

DELAYS_MS = (0, 20, 200)
LOSSES = (0, 1)  # per cent
CLIENTS = 1000
BYTES_A_SECOND = 1_000_000
BOUNDS = (0.5, None)
LEFT = 75  # values of 40 KB: 3 MB


class Plain(Codec):
    turn: u32
    data: bytes


class Latest(Codec, policy="latest"):
    turn: u32
    data: bytes


KINDS: dict[str, type[Plain] | type[Latest]] = {"plain": Plain, "latest": Latest}


async def throughput(link: Link, kind: str, max_transit: float | None, seconds: float) -> float:
    """Bytes a second that the client received in the second half."""
    data = bytes(65536)
    made = KINDS[kind]
    async with WsServer[made, None].bind(f"{link.near}:0", max_transit=max_transit) as server:  # type: ignore[valid-type]
        client = await far_end(link, "--receive", server.local_addr().port, kind, seconds)
        await server.wait_clients(1)
        turn = 0
        while server.client_count():
            turn += 1
            if made is Plain:
                await server.send(Plain(turn, data))
            else:
                server.send_nowait(Latest(turn, data))
                await asyncio.sleep(0)
        return await figure_of(client)


async def far_end(link: Link, *arguments: object) -> asyncio.subprocess.Process:
    """This script at the far end of the link."""
    command = [*link.there, sys.executable, __file__, *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def figure_of(client: asyncio.subprocess.Process) -> float:
    assert client.stdout is not None
    found = float(await client.stdout.read())
    await client.wait()
    return found


async def receive(port: int, kind: str, seconds: float) -> None:
    got = 0
    value_type = KINDS[kind]
    async with WsClient[value_type, None].connect(f"10.9.0.1:{port}", conflate=False) as client:  # type: ignore[valid-type]
        half = time.monotonic() + seconds / 2
        end = half + seconds / 2
        while (now := time.monotonic()) < end:
            value = await client.recv()
            if now >= half:
                got += len(value.data)
        print(got / (seconds / 2), flush=True)
        os._exit(0)  # the answer to a close would wait behind all that is on its way


def ratios(
    delays: list[int], losses: list[int], kinds: list[str], seconds: float, runs: int
) -> dict[str, float]:
    found = {}
    for delay, loss in [(delay, loss) for delay in delays for loss in losses]:
        for kind in kinds:
            taken: dict[float | None, list[float]] = {bound: [] for bound in BOUNDS}
            for run in range(runs):
                for max_transit, figures in taken.items():
                    with delayed_link(delay / 1e3, loss / 100, seed=run + 1) as link:
                        figures.append(asyncio.run(throughput(link, kind, max_transit, seconds)))
            name = f"{kind}, {delay} ms, {loss} % lost"
            with_bound, without = (statistics.median(figures) for figures in taken.values())
            found[name] = with_bound / without
            single = "; ".join(
                " ".join(f"{figure / 1e6:.2f}" for figure in figures) for figures in taken.values()
            )
            print(f"{name:28} {found[name]:.3f}   MB/s with; without: {single}", flush=True)
    return found


# --- what close leaves -----------------------------------------------------------------


async def left_by_close(link: Link, max_transit: float | None, every: float) -> float:
    """Values that arrive of those sent before `close`, one each `every` seconds."""
    async with WsServer[Plain, None].bind(
        f"{link.near}:0", max_transit=max_transit, ping_interval=1.0, ping_timeout=1.0
    ) as server:
        client = await far_end(link, "--count", server.local_addr().port)
        await server.wait_clients(1)
        for turn in range(LEFT):
            server.send_nowait(Plain(turn, bytes(40_000)))
            await asyncio.sleep(every)
        await server.close()
        return await figure_of(client)


async def count(port: int) -> None:
    got = 0
    async with WsClient[Plain, None].connect(f"10.9.0.1:{port}", ping_interval=None) as client:
        async for _ in client:
            got += 1
    print(got)


def close_leaves(runs: int) -> dict[str, list[float]]:
    found = {}
    for name, every in (("at once", 0.0), ("within 0.9 s", 0.012)):
        for max_transit in BOUNDS:
            arrived = []
            for run in range(runs):
                with delayed_link(0.2, rate=1e6, queue=1 << 18, seed=run + 1) as link:
                    arrived.append(asyncio.run(left_by_close(link, max_transit, every)))
            label = f"sent {name}, max_transit={max_transit}"
            found[label] = arrived
            print(f"{label:38} {' '.join(f'{each:.0f}' for each in arrived)} of {LEFT}", flush=True)
    return found


# --- the CPU of markers ----------------------------------------------------------------


async def cpu_of_markers(max_transit: float | None, seconds: float) -> float:
    """Seconds of CPU that the server's process took."""
    async with WsServer[Plain, None].bind("127.0.0.1:0", max_transit=max_transit) as server:
        port = server.local_addr().port
        script = [sys.executable, __file__, "--crowd", str(port)]
        crowd = await asyncio.create_subprocess_exec(*script)
        await server.wait_clients(CLIENTS)
        size = BYTES_A_SECOND // CLIENTS // 10
        before = resource.getrusage(resource.RUSAGE_SELF)
        for turn in range(round(seconds * 10)):
            server.send_nowait(Plain(turn, bytes(size)))
            await asyncio.sleep(0.1)
        after = resource.getrusage(resource.RUSAGE_SELF)
        crowd.kill()
        await crowd.wait()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def crowd(port: int) -> None:
    clients = [await WsClient[Plain, None].connect(f"127.0.0.1:{port}") for _ in range(CLIENTS)]

    async def read(client: WsClient[Plain, None]) -> None:
        async for _ in client:
            pass

    await asyncio.gather(*map(read, clients), return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delays", type=int, nargs="+", default=list(DELAYS_MS), help="ms there and back")
    parser.add_argument("--losses", type=int, nargs="+", default=list(LOSSES), help="per cent")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--congestion", help="cubic, reno, bbr: as far as the kernel has them")
    parser.add_argument("--close", action="store_true")
    parser.add_argument("--markers", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--receive", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        port, kind, seconds = options.receive
        asyncio.run(receive(int(port), kind, float(seconds)))
        return
    if options.count:
        asyncio.run(count(options.count))
        return
    if options.crowd:
        asyncio.run(crowd(options.crowd))
        return
    found: dict[str, float] | dict[str, list[float]]
    if options.markers:
        taken = [
            asyncio.run(cpu_of_markers(max_transit, options.seconds))
            for _ in range(options.runs)
            for max_transit in BOUNDS
        ]
        found = {"cpu of markers": statistics.median(taken[::2]) / statistics.median(taken[1::2])}
        print(json.dumps(found))
    else:
        enter_namespace(options.congestion)
        print(describe())
        if options.close:
            found = close_leaves(options.runs)
        else:
            found = ratios(options.delays, options.losses, options.kinds, options.seconds, options.runs)
    write(options.json, found)


if __name__ == "__main__":
    main()
