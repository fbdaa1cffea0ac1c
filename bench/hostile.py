"""How much hostile peers delay good ones: `python bench/hostile.py [--connections 20000] [--json FILE]`.

One server sends 1,000 messages a second to 20 good clients.

1. Quiet: latencies of all messages at all clients for `--seconds`.
2. Attack: the same while hostile connections of ten kinds (attacks.py) come, `--together` at a time,
   until `--connections` of them have been made.
3. Afterwards: 4 s of rest, then the server's resident memory is compared with that before the attack.

A latency runs from just before `send` in the server's process to the return of `recv` in the clients', in
ms, on the one monotonic clock. The server has a core to itself; the good clients and the attackers share the
other core. The attackers have lower priority, because in practice they would run on other machines. Run as
root, the measured processes are real-time ones (SCHED_RR); otherwise the attackers have the lowest priority.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import sys
import time
from array import array
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

import attacks
from deli_com import Address, Codec, WsClient, WsServer, u64
from machine import describe

CLIENTS = 20
RATE = 1000  # messages a second
REST_S = 4.0  # longer than close_timeout and the refused connections' linger


class Tick(Codec):
    index: u64
    stamp: u64  # ns


def resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


async def received(pipe: Connection) -> str:
    """The next word from the parent, without blocking the loop."""
    while not pipe.poll():  # noqa: ASYNC110 - a pipe of multiprocessing has no awaitable side
        await asyncio.sleep(0.05)
    word: str = pipe.recv()
    return word


async def serve(pipe: Connection) -> None:
    server = await WsServer[Tick].bind("127.0.0.1:0")

    late = array("d")  # of each send, in seconds: what the server's own loop adds

    async def produce() -> None:
        started = time.monotonic()
        for index in range(1 << 62):
            late.append(time.monotonic() - started - index / RATE)
            await server.send(Tick(index, time.monotonic_ns()))
            await asyncio.sleep(started + (index + 1) / RATE - time.monotonic())

    pipe.send(tuple(server.local_addr()))
    await server.wait_clients(CLIENTS)
    producing = asyncio.create_task(produce())
    while await received(pipe) != "stop":
        pipe.send((resident_bytes(), server.client_count(), time.process_time(), sorted(late)))
        del late[:]
    producing.cancel()
    await server.close()


async def listen(pipe: Connection, address: tuple[str, int]) -> None:
    latencies, lost = array("Q"), 0

    async def follow(client: WsClient[Tick]) -> None:
        nonlocal lost
        expected = -1
        while True:
            for tick in await client.recv_many(1000):
                latencies.append(time.monotonic_ns() - tick.stamp)
                lost += expected >= 0 and tick.index != expected
                expected = tick.index + 1

    clients = [await WsClient[Tick].connect(Address(*address)) for _ in range(CLIENTS)]
    following = [asyncio.create_task(follow(client)) for client in clients]
    while await received(pipe) != "stop":
        pipe.send((sorted(latencies), lost, sum(task.done() for task in following)))
        latencies, lost = array("Q"), 0
    for task in following:
        task.cancel()
    for client in clients:
        await client.close()


def run_server(pipe: Connection) -> None:
    pin(0)
    uvloop.run(serve(pipe))


def run_clients(pipe: Connection, address: tuple[str, int]) -> None:
    pin(1)
    uvloop.run(listen(pipe, address))


def run_attack(pipe: Connection, address: tuple[str, int], connections: int, together: int) -> None:
    os.nice(19)
    pipe.send(uvloop.run(attacks.crowd(address, connections, together, seed=20)))


class Child:
    """A process and the pipe to it."""

    def __init__(self, work: object, *arguments: object) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=work, args=(theirs, *arguments))  # type: ignore[arg-type]
        self._process.start()

    def ask(self, word: str) -> tuple:  # type: ignore[type-arg]
        self._pipe.send(word)
        return self.result()

    def result(self) -> tuple:  # type: ignore[type-arg]
        if not self._pipe.poll(600):
            raise RuntimeError("no answer in ten minutes")
        answer: tuple = self._pipe.recv()  # type: ignore[type-arg]
        return answer

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join(10)
        assert self._process.exitcode == 0, self._process.exitcode


def summary(latencies: list[int], lost: int, ended: int) -> dict[str, float]:
    return {
        "messages": len(latencies),
        **{f"p{p:g}_ms": round(latencies[int(len(latencies) * p / 100)] / 1e6, 3) for p in (50, 99, 99.9)},
        "max_ms": round(latencies[-1] / 1e6, 3),
        "lost": lost,
        "clients_gone": ended,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--together", type=int, default=100, help="hostile connections at a time (100)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the quiet run (10)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()

    server = Child(run_server)
    address = server.result()
    clients = Child(run_clients, address)
    time.sleep(2.0)
    clients.ask("mark")
    time.sleep(options.seconds)
    quiet = summary(*clients.ask("mark"))
    before, _, spent, late = server.ask("memory")
    quiet["server_late_p99_ms"] = round(late[int(len(late) * 0.99)] * 1e3, 3)
    clients.ask("mark")  # looking at memory collects garbage, which is not the attack's doing
    began = time.monotonic()
    attack = Child(run_attack, address, options.connections, options.together)
    kinds = attack.result()
    took = time.monotonic() - began
    attacked = summary(*clients.ask("mark"))
    at_end, _, spent_then, late = server.ask("memory")
    attacked["server_late_p99_ms"] = round(late[int(len(late) * 0.99)] * 1e3, 3)
    time.sleep(REST_S)
    after, left, _, _ = server.ask("memory")
    clients.stop()
    server.stop()
    figures = {
        "machine": describe(),
        "quiet": quiet,
        "attack": attacked
        | {
            "connections": sum(kinds.values()),  # type: ignore[attr-defined]
            "seconds": round(took, 1),
            "server_cpu_percent": round(100 * (spent_then - spent) / took),
            "kinds": kinds,
        },
        "p99_ratio": round(attacked["p99_ms"] / quiet["p99_ms"], 2),
        "server_mb": {
            "before": round(before / 1e6, 1),
            "at_its_end": round(at_end / 1e6, 1),
            "after": round(after / 1e6, 1),
        },
        "clients_left": left,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    failed = [
        what
        for what, wrong in {
            "messages were lost": attacked["lost"] or attacked["clients_gone"] or left != CLIENTS,
            "p99 is over 3 times that of the quiet run": figures["p99_ratio"] > 3,  # type: ignore[operator]
            "memory did not come back to within 16 MB": after - before > 16e6,
        }.items()
        if wrong
    ]
    sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
