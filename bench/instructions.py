"""Instructions a call, by callgrind: a regression shows on a machine that is too noisy for a clock.

`python bench/instructions.py [NAME ...]`: each workload runs under valgrind in a process of its own,
twice, with few and with many repetitions. The difference, divided by the difference in repetitions, is the
cost of one, without the interpreter's start. The loop around it is counted too, and is the same in all. The
same build of the same sources gives the same figure to within a few instructions. The figure does not
include caches and the kernel.

`--json FILE` keeps the figures. `--against FILE` compares with kept ones: more than `--allowed` percent
above them is an error.

An allocation that needs the next of CPython's memory pools takes some 15 instructions more, and earlier
allocations decide when that happens. If two builds differ by so little, compare them once more with
PYTHONMALLOC=malloc, which has other outliers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from deli_com import Client, Codec, WsClient, WsServer, codec, f64, u32, u64
from machine import describe
from values import CASES, Reading, Sample

FEW, MANY = 500, 2500
TURN = 64  # sends before a flush


class Newest(Codec, policy="latest", key="stamp"):
    """`Reading`, of which a newer one of a key replaces the one that waits."""

    stamp: u64
    x: f64
    y: f64
    count: u32
    good: bool


READING = Reading(1_700_000_000, 1.5, -2.5, 7, True)
SAMPLE = Sample(1_700_000_000, 7, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def call(function: Callable[..., object], *arguments: object) -> Callable[[int], None]:
    """A workload that consists of calls only."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            function(*arguments)

    return run


def send_nowait(clients: int, **options: Any) -> Callable[[int], None]:
    """Five fields to so many clients of this process, including the flush of each turn and the reading."""

    def run(count: int) -> None:
        async def sends() -> None:
            server = await WsServer[Reading, None].bind("127.0.0.1:0", **options)
            address = server.local_addr()
            held = [await WsClient[Reading].connect(address) for _ in range(clients)]
            for _ in range(count):
                for _ in repeat(None, TURN):
                    server.send_nowait(READING)
                server.flush()
                await asyncio.sleep(0)  # the clients read
            os._exit(0)  # nor is closing measured
            del held

        asyncio.run(sends())

    return run


def receive(take: str) -> Callable[[int], None]:
    """Values of eight fields, sent in turns of 64 and taken in one go: the way through the loop, the parser,
    the decoder and the inbox."""

    def run(count: int) -> None:
        async def work() -> None:
            server = await WsServer[Sample].bind("127.0.0.1:0")
            client = await WsClient[Sample].connect(server.local_addr())
            for _ in range(count):
                for _ in repeat(None, TURN):
                    server.send_nowait(SAMPLE)
                left = TURN
                if take == "recv":
                    for _ in repeat(None, left):
                        await client.recv()
                elif take == "async for":
                    async for _ in client:
                        left -= 1
                        if not left:
                            break
                else:
                    while left:
                        left -= len(await client.recv_many(left))
            os._exit(0)

        asyncio.run(work())

    return run


def arrive(kind: type[Codec]) -> Callable[[int], None]:
    """Values that arrive over TCP at a client whose program takes none; one key each in a turn."""

    def run(count: int) -> None:
        async def work() -> None:
            payloads = [kind(index, 1.5, -2.5, 7, True).to_bytes() for index in range(TURN)]
            turn = b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = await Client[kind].connect(listener.getsockname())  # type: ignore[valid-type]
                peer, _ = listener.accept()
            for _ in range(count):
                peer.sendall(turn)
                for _ in repeat(None, 3):
                    await asyncio.sleep(0)
            assert client.stats().messages_in == count * TURN, client.stats()
            os._exit(0)

        asyncio.run(work())

    return run


def codec_of_many(count: int) -> None:
    """The codec of a sealed class of 300 variants, as each connection asks for it."""
    base: Any = type("Any", (Codec,), {"__module__": __name__}, sealed=True)
    for index in range(300):
        type(f"Kind{index}", (base,), {"__module__": __name__, "__annotations__": {"number": u32}})
    call(codec, base)(count)


def receive_large(count: int) -> None:
    """`bytes` of 64 KiB over TCP, each taken and dropped before the next arrives.

    A copy of so many bytes is `rep movsb`, of which valgrind counts each byte: one more copy shows.
    """

    async def work() -> None:
        message = (65_532).to_bytes(4, "little") + bytes(65_532)
        frame = len(message).to_bytes(4, "little") + message
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = await Client[bytes].connect(listener.getsockname())
            peer, _ = listener.accept()
        for _ in repeat(None, count * TURN):
            peer.sendall(frame)
            await client.recv()
        os._exit(0)

    asyncio.run(work())


# Name -> workload, and how many calls or values one repetition has.
WORKLOADS: dict[str, tuple[Callable[[int], None], int]] = {
    "encode five fields": (call(READING.to_bytes), 1),
    "decode five fields": (call(Reading.from_bytes, READING.to_bytes()), 1),
    "encode eight fields": (call(SAMPLE.to_bytes), 1),
    "decode eight fields": (call(Sample.from_bytes, SAMPLE.to_bytes()), 1),
    "send_nowait, no client": (send_nowait(0), TURN),
    "send_nowait and flush, 1 client": (send_nowait(1), TURN),
    "send_nowait and flush, 20 clients": (send_nowait(20), TURN),
    "the same, foxglove=True, no viewer": (send_nowait(20, foxglove=True), TURN),
    "send and recv": (receive("recv"), TURN),
    "send and async for": (receive("async for"), TURN),
    "send and recv_many": (receive("recv_many"), TURN),
    "arrive and wait": (arrive(Reading), TURN),
    "arrive and replace": (arrive(Newest), TURN),
    "receive 64 KiB": (receive_large, TURN),
    "codec of 300 variants": (codec_of_many, 1),
}


def evolved(name: str, resolved: bool) -> Callable[[int], None]:
    """Decoding what another version of a type sends, or the same bytes by the version that wrote them."""

    def run(count: int) -> None:
        from evolved import EVOLVED

        writer, reader, value = EVOLVED[name]
        decode = codec(reader).reading(codec(writer).schema) if resolved else codec(writer)
        call(decode.from_bytes, value.to_bytes())(count)

    return run


for _name in CASES:
    WORKLOADS[f"writer's type, {_name}"] = (evolved(_name, False), 1)
    WORKLOADS[f"resolved, {_name}"] = (evolved(_name, True), 1)


def counted(name: str, repetitions: int, folder: Path) -> int:
    """Instructions of a process that repeats a workload so often."""
    out = folder / "callgrind.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, __file__]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*command, "--run", name, "--repetitions", str(repetitions)], capture_output=True, text=True, env=env
    )
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text() if out.exists() else "", re.MULTILINE)
    if done.returncode or not found:
        raise SystemExit(f"{name}: {done.stderr}")
    return int(found[1])


def measure(name: str) -> float:
    """Instructions that one call of the workload costs."""
    each = WORKLOADS[name][1]
    few, many = (FEW, MANY) if each == 1 else (FEW // TURN + 1, MANY // TURN + 1)
    with tempfile.TemporaryDirectory() as folder:
        less, more = (counted(name, repetitions, Path(folder)) for repetitions in (few, many))
    return (more - less) / (many - few) / each


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="*", help="workloads; all if none is named")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--against", type=Path, help="figures of an earlier run")
    parser.add_argument("--allowed", type=float, default=3.0, help="percent more than there (3)")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--repetitions", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        WORKLOADS[given.run][0](given.repetitions)
        return 0
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed")
    unknown = set(given.name) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    before: dict[str, Any] = json.loads(given.against.read_text())["figures"] if given.against else {}
    figures: dict[str, float] = {}
    worse = []
    for name in given.name or WORKLOADS:
        figures[name] = measure(name)
        line = f"{name:36} {figures[name]:9.0f} instructions"
        if name in before:
            change = 100 * (figures[name] / before[name] - 1)
            line += f" {change:+7.1f} %"
            if change > given.allowed:
                worse.append(name)
        print(line, flush=True)
    if given.json:
        given.json.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1) + "\n")
    if worse:
        print(f"over {given.allowed} % more than before: {', '.join(worse)}", file=sys.stderr)
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
