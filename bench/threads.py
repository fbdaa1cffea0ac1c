"""Many threads that send: `python bench/threads.py [--threads 8] [--each 100000] [--rounds 3] [--json FILE]`.

One iteration is `send_nowait` of one 64-byte message in one of `--threads` threads. Each thread sends
`--each` messages. A client in a process of its own reads everything. It checks that nothing is missing and
that each thread's messages are in order. Columns of a round: the threads; the same number of messages from
the loop's own thread, awaited.

Time runs from the start of the threads until the client reports that it has everything. CPU is that of the
server's process. Both are given for one message. Growth is the peak of the server's resident memory minus the
memory before the first message. The queue between threads and loop holds up to 16 MiB or 65,536 messages, and
a message there is an object of some 200 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import struct
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from deli_com import Codec, Server, u16, u32
from drive import status_kib
from machine import write

DATA = bytes(54)
WIRE_BYTES = 4 + 2 + 4 + 4 + len(DATA)  # u32 length, then the fields


class Sample(Codec):
    thread: u16
    number: u32
    data: bytes


def read_all(address: tuple[str, int], threads: int, each: int, pipe: Connection) -> None:
    """The client: a message that is missing or not in its thread's order is an AssertionError."""
    seen = [0] * threads
    left = bytearray()
    with socket.create_connection(tuple(address)) as sock:
        for _ in range(threads * each):
            while len(left) < WIRE_BYTES:
                data = sock.recv(1 << 20)
                assert data, f"the stream ended after {seen}"
                left += data
            count = len(left) // WIRE_BYTES
            for at in range(0, count * WIRE_BYTES, WIRE_BYTES):
                size, thread, number = struct.unpack_from("<IHI", left, at)
                assert size == WIRE_BYTES - 4
                assert number == seen[thread], f"thread {thread}: {number} after {seen[thread] - 1}"
                seen[thread] += 1
            del left[: count * WIRE_BYTES]
            if sum(seen) == threads * each:
                break
    assert seen == [each] * threads, seen
    pipe.send("all")


async def broadcast(pipe: Connection, threads: int, each: int, own_thread: bool) -> None:
    loop = asyncio.get_running_loop()
    async with Server[Sample, None].bind("127.0.0.1:0") as server:
        pipe.send(server.local_addr())
        await server.wait_clients(1)

        def work(thread: int) -> None:
            for number in range(each):
                server.send_nowait(Sample(thread, number, DATA))

        before, began, cpu = status_kib("VmHWM") * 1024, time.perf_counter_ns(), time.process_time_ns()
        if own_thread:
            for number in range(each):
                for thread in range(threads):
                    await server.send(Sample(thread, number, DATA))
        else:
            workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                await loop.run_in_executor(None, worker.join)
        await loop.run_in_executor(None, pipe.recv)
        count = threads * each
        pipe.send(
            {
                "ns": (time.perf_counter_ns() - began) / count,
                "cpu_ns": (time.process_time_ns() - cpu) / count,
                "growth_bytes": status_kib("VmHWM") * 1024 - before,
                "refused": server.stats().refused["backlog full"],
            }
        )


def run_server(pipe: Connection, threads: int, each: int, own_thread: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(broadcast(pipe, threads, each, own_thread))


def measure(threads: int, each: int, own_thread: bool) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    server = context.Process(target=run_server, args=(other, threads, each, own_thread))
    server.start()
    client_pipe, client_other = context.Pipe()
    client = context.Process(target=read_all, args=(pipe.recv(), threads, each, client_other))
    client.start()
    client_other.close()  # a client that died is an EOFError here
    try:
        assert client_pipe.recv() == "all"
        pipe.send("all")
        found: dict[str, float] = pipe.recv()
    finally:
        server.join(20)
        for process in (server, client):
            process.kill()
            process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--each", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = {f"{options.threads} threads": False, "the loop's own thread": True}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, own_thread in names.items():
            rounds[name].append(measure(options.threads, options.each, own_thread))
    print(f"{options.threads * options.each:,} messages of {WIRE_BYTES} bytes, all received, in order")
    for name, found in rounds.items():
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(
            f"{name}: {middle['ns']:.0f} ns a message ({middle['cpu_ns']:.0f} ns CPU), growth "
            f"{middle['growth_bytes'] / 1e6:.1f} MB, {middle['refused']:.0f} refused"
        )
    write(options.json, rounds)


if __name__ == "__main__":
    main()
