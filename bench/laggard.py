"""The age of messages that a slow client gets: `python bench/laggard.py [--policy latest] [--json FILE]`.

A server sends frames of 200 KB, 100 a second, of policy latest, and after every tenth frame a small message
that no client may miss. One client reads everything at once. Another one reads 1 MB/s, 5 % of the stream,
from its socket, in steps of 10 ms, and takes 0.2 s for a frame: its transfer time.

The age of a frame runs from just before `send` in the server's process to the moment at which its last byte
was read, on one monotonic clock. It is given in transfer times, so the speed of the machine does not
matter. One transfer time is the minimum. Two are to be expected if a newer frame comes just after the
transfer of one has begun. `--small-kernel` gives the client a receive buffer of 16 KiB. `--policy skip`
shows the effect of a window of 16 MiB instead: frames are 84 transfer times old once the window is full.

The figure for the server's memory is its peak (VmHWM) minus the peak at the start of the second half. It is
0 if memory does not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from deli_com import Codec, Server, u32, u64
from drive import status_kib
from machine import write

FRAME_BYTES = 200_000
RATE = 100  # frames a second
EVENT_EVERY = 10  # frames
SHARE = 0.05  # of the stream that the slow client reads
STEP_S = 0.01
TRANSFER_S = FRAME_BYTES / (SHARE * RATE * FRAME_BYTES)
SMALL_BYTES = 16 << 10


class Message(Codec, sealed=True):
    """The messages: frames, which newer ones replace, and events, which no client may miss."""


class Latest(Message, policy="latest"):
    number: u32
    stamp: u64  # ns
    pixels: bytes


class Skip(Message, policy="skip"):
    number: u32
    stamp: u64
    pixels: bytes


class Event(Message):
    number: u32


LATEST, SKIP, EVENT = 0, 1, 2  # variant indices on the wire


async def serve(pipe: Connection, seconds: float, policy: str) -> None:
    make = Latest if policy == "latest" else Skip
    pixels = bytes(FRAME_BYTES)
    async with Server[Message, None].bind("127.0.0.1:0") as server:
        pipe.send(server.local_addr())
        await server.wait_clients(2)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        frames = int(seconds * RATE)
        half = 0
        for number in range(frames):
            await asyncio.sleep(max(0.0, begin + number / RATE - loop.time()))
            server.send_nowait(make(number, time.monotonic_ns(), pixels))
            if number % EVENT_EVERY == 0:
                server.send_nowait(Event(number // EVENT_EVERY))
            if number == frames // 2:
                half = status_kib("VmHWM") * 1024
        stats = server.stats()
        pipe.send(
            {
                "clients": stats.clients,
                "growth_bytes": status_kib("VmHWM") * 1024 - half,
                "superseded": stats.superseded,
                "skipped": stats.skipped,
                "queued_bytes": stats.queued_bytes,
                "frames": frames,
            }
        )
        await loop.run_in_executor(None, pipe.recv)


def run_server(pipe: Connection, seconds: float, policy: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(pipe, seconds, policy))


class Reader:
    """Parses a TCP stream; records the ages of frames and the order of events."""

    def __init__(self) -> None:
        self.ages: list[float] = []  # s
        self.numbers: list[int] = []
        self.events: list[int] = []
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._data += data
        while len(self._data) >= 4:
            (size,) = struct.unpack_from("<I", self._data)
            if len(self._data) < 4 + size:
                return
            # docs/wire.md: the index of the variant, u32, then its fields.
            variant, number = struct.unpack_from("<II", self._data, 4)
            if variant == EVENT:
                self.events.append(number)
            else:
                (stamp,) = struct.unpack_from("<Q", self._data, 12)
                self.numbers.append(number)
                self.ages.append((now - stamp) / 1e9)
            del self._data[: 4 + size]

    def check(self) -> None:
        """Frames forward, events without a gap."""
        assert all(a < b for a, b in zip(self.numbers, self.numbers[1:], strict=False)), (
            "frames went backwards"
        )
        assert self.events == list(range(len(self.events))), "an event is missing, or out of order"


def connect(address: tuple[str, int], small: bool) -> socket.socket:
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
    sock.connect(tuple(address))
    return sock


def read_fast(address: tuple[str, int], pipe: Connection) -> None:
    reader = Reader()
    with connect(address, False) as sock:
        while data := sock.recv(1 << 20):
            reader.feed(data)
    reader.check()
    pipe.send({"frames": len(reader.numbers), "events": len(reader.events)})


def read_slowly(address: tuple[str, int], server: Connection, small: bool) -> Reader:
    """Until the server says that it has sent everything."""
    reader = Reader()
    rate = SHARE * RATE * FRAME_BYTES  # bytes a second
    with connect(address, small) as sock:
        sock.setblocking(False)
        begin = time.monotonic()
        taken = 0
        while not server.poll():
            now = time.monotonic()
            due = int((now - begin) * rate) - taken
            while due > 0:
                try:
                    data = sock.recv(due)
                except BlockingIOError:
                    taken = int((now - begin) * rate)  # after a pause it does not read faster
                    break
                taken += len(data)
                due -= len(data)
                reader.feed(data)
            time.sleep(STEP_S)
    return reader


def measure(seconds: float, policy: str, small: bool) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    server = context.Process(target=run_server, args=(other, seconds, policy))
    server.start()
    address = pipe.recv()
    fast_pipe, fast_other = context.Pipe()
    fast = context.Process(target=read_fast, args=(address, fast_other))
    fast.start()
    try:
        reader = read_slowly(address, pipe, small)
        found: dict[str, Any] = pipe.recv()
        pipe.send("end")
        found["fast"] = fast_pipe.recv()
    finally:
        server.join(20)
        server.kill()
        fast.kill()
    reader.check()
    # Leaves out frames that were sent before the client fell behind.
    ages = [age / TRANSFER_S for age in reader.ages[len(reader.ages) // 4 :]]
    found |= {
        "received": len(reader.numbers),
        "events": len(reader.events),
        "age_median": statistics.median(ages),
        "age_worst": max(ages),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--policy", choices=["latest", "skip"], default="latest")
    parser.add_argument("--small-kernel", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.seconds, options.policy, options.small_kernel)
    print(f"policy {options.policy}: {found['frames']} frames of {FRAME_BYTES // 1000} KB sent at {RATE} Hz")
    print(f"the fast client got {found['fast']['frames']} frames, {found['fast']['events']} events")
    print(
        f"the slow one got {found['received']} frames ({found['superseded']} superseded, {found['skipped']} "
        f"skipped) and {found['events']} events in order; {found['clients']} clients at the end"
    )
    print(
        f"age of a frame, in transfer times: median {found['age_median']:.2f}, worst {found['age_worst']:.2f}"
    )
    print(f"growth of the server in the last half: {found['growth_bytes'] / 1e6:.1f} MB")
    write(options.json, found)


if __name__ == "__main__":
    main()
