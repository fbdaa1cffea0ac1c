"""Instructions a call, by callgrind: a regression shows on a machine that is too noisy for a clock.

`python bench/instructions.py [NAME ...]`: each workload runs under valgrind in a process of its own, as many
at a time as there are cores. It repeats itself a few times, and callgrind counts from there on. The loop
around it is counted too, and is the same in all. Runs of one build differ by up to 0.3 %, those that use
sockets by up to 2.5 %. The figure does not include caches and the kernel. "rep movsb", which copies large
messages, counts as one instruction a byte: one more copy of 64 KiB shows.

`--json FILE` keeps the figures. `--against FILE` compares with kept ones: more than `--allowed` percent
above them is an error.

`--held` compares with the figures in bench/instructions.json, and `--refresh` writes that file: see
`held.py`.

An allocation that needs the next of CPython's memory pools takes some 15 instructions more, and earlier
allocations decide when that happens. If two builds differ by so little, compare them once more with
PYTHONMALLOC=malloc, which has other outliers. The held figures are of an allocator that has none
(`callgrind.STEADY`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import held
from callgrind import counted, counting_begins, counting_ends, prepare, why_impossible
from deli_com import Client, Codec, WsClient, WsServer, codec, f64, u32, u64
from machine import describe
from values import CASES, Reading, Sample

TURN = 64  # values of a turn
CALLS, TURNS = 2000, 96  # that are counted
WARM_CALLS, WARM_TURNS = 200, 16  # before them
LARGE = 65_532  # and the four bytes of its length: 64 KiB
LARGES = 4  # large messages of a turn
CONNECTIONS = 50
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Workload = Callable[[], None]


class Newest(Codec, policy="latest", key="stamp"):
    """`Reading`, of which a newer one of a key replaces the one that waits."""

    stamp: u64
    x: f64
    y: f64
    count: u32
    good: bool


READING = Reading(1_700_000_000, 1.5, -2.5, 7, True)
SAMPLE = Sample(1_700_000_000, 7, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def call(function: Callable[..., object], *arguments: object) -> Workload:
    """A workload that consists of calls only."""

    def run() -> None:
        for _ in repeat(None, WARM_CALLS):
            function(*arguments)
        counting_begins()
        for _ in repeat(None, CALLS):
            function(*arguments)
        counting_ends()

    return run


def turns(count: int = TURNS, warm: int = WARM_TURNS) -> Iterator[None]:
    """The turns of a workload: a few, then those that are counted."""
    yield from repeat(None, warm)
    counting_begins()
    yield from repeat(None, count)
    counting_ends()


def send_nowait(clients: int, **options: Any) -> Workload:
    """Five fields to so many clients of this process, including the flush of each turn and the reading."""

    def run() -> None:
        async def sends() -> None:
            server = await WsServer[Reading, None].bind("127.0.0.1:0", **options)
            address = server.local_addr()
            held = [await WsClient[Reading].connect(address) for _ in range(clients)]
            for _ in turns():
                for _ in repeat(None, TURN):
                    server.send_nowait(READING)
                server.flush()
                await asyncio.sleep(0)  # the clients read
            os._exit(0)  # nothing of this is closed
            del held

        asyncio.run(sends())

    return run


def receive(take: str) -> Workload:
    """Values of eight fields, sent in turns of 64 and taken in one go: the way through the loop, the parser,
    the decoder and the inbox."""

    def run() -> None:
        async def work() -> None:
            server = await WsServer[Sample].bind("127.0.0.1:0")
            client = await WsClient[Sample].connect(server.local_addr())
            for _ in turns():
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


def arrive(kind: type[Codec]) -> Workload:
    """Values that arrive over TCP at a client whose program takes none; one key each in a turn."""

    def run() -> None:
        async def work() -> None:
            payloads = [kind(index, 1.5, -2.5, 7, True).to_bytes() for index in range(TURN)]
            turn = b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = await Client[kind].connect(listener.getsockname())  # type: ignore[valid-type]
                peer, _ = listener.accept()
            for _ in turns():
                peer.sendall(turn)
                for _ in repeat(None, 3):
                    await asyncio.sleep(0)
            assert client.stats().messages_in == (WARM_TURNS + TURNS) * TURN, client.stats()
            os._exit(0)

        asyncio.run(work())

    return run


def codec_of_many() -> None:
    """The codec of a sealed class of 300 variants, as each connection asks for it."""
    base: Any = type("Any", (Codec,), {"__module__": __name__}, sealed=True)
    for index in range(300):
        type(f"Kind{index}", (base,), {"__module__": __name__, "__annotations__": {"number": u32}})
    call(codec, base)()


def large_message() -> bytes:
    """What `bytes` of that length are on the wire."""
    return LARGE.to_bytes(4, "little") + bytes(LARGE)


def receive_large() -> None:
    """`bytes` of 64 KiB over TCP, each taken and dropped before the next arrives."""

    async def work() -> None:
        message = large_message()
        frame = len(message).to_bytes(4, "little") + message
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = await Client[bytes].connect(listener.getsockname())
            peer, _ = listener.accept()
        for _ in turns():
            for _ in repeat(None, LARGES):
                peer.sendall(frame)
                await client.recv()
        os._exit(0)

    asyncio.run(work())


def shake_hands(peer: socket.socket) -> None:
    """Read the answer to `REQUEST`; the server has sent it."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += peer.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 "), answer


def receive_large_masked(take: str) -> Workload:
    """`bytes` of 64 KiB from a WebSocket client to a server: each taken before the next is sent, or those of
    a turn at once."""

    def run() -> None:
        async def work() -> None:
            message = large_message()
            key = b"\x9c\x31\x5e\xa7"
            masked = bytes(byte ^ key[index & 3] for index, byte in enumerate(message))
            frame = b"\x82\xff" + len(message).to_bytes(8, "big") + key + masked
            server = await WsServer[bytes, bytes].bind("127.0.0.1:0")
            peer = socket.create_connection(server.local_addr())
            peer.sendall(REQUEST)
            await server.wait_clients(1)
            shake_hands(peer)
            for _ in turns():
                if take == "recv":
                    for _ in repeat(None, LARGES):
                        peer.sendall(frame)
                        await server.recv()
                else:
                    left = LARGES
                    for _ in repeat(None, left):
                        peer.sendall(frame)
                    while left:
                        left -= len(await server.recv_many(left))
            os._exit(0)

        asyncio.run(work())

    return run


def client_receives_large() -> None:
    """The same from a server to a client, where frames are not masked."""

    async def work() -> None:
        message = bytes(LARGE)
        server = await WsServer[bytes].bind("127.0.0.1:0")
        client = await WsClient[bytes].connect(server.local_addr())
        for _ in turns():
            for _ in repeat(None, LARGES):
                server.send_nowait(message)
                await client.recv()
        os._exit(0)

    asyncio.run(work())


def accept() -> None:
    """A WebSocket connection: accepting it, its opening handshake, and what the server keeps of it."""

    async def work() -> None:
        server = await WsServer[Reading].bind("127.0.0.1:0")
        address = server.local_addr()
        peers: list[socket.socket] = []
        for _ in turns(CONNECTIONS):
            peers.append(socket.create_connection(address))
            peers[-1].sendall(REQUEST)
            await server.wait_clients(len(peers))
            shake_hands(peers[-1])
        os._exit(0)

    asyncio.run(work())


# Name -> workload, and how many calls or values it counts.
WORKLOADS: dict[str, tuple[Workload, int]] = {
    "encode five fields": (call(READING.to_bytes), CALLS),
    "decode five fields": (call(Reading.from_bytes, READING.to_bytes()), CALLS),
    "encode eight fields": (call(SAMPLE.to_bytes), CALLS),
    "decode eight fields": (call(Sample.from_bytes, SAMPLE.to_bytes()), CALLS),
    "send_nowait, no client": (send_nowait(0), TURNS * TURN),
    "send_nowait and flush, 1 client": (send_nowait(1), TURNS * TURN),
    "send_nowait and flush, 20 clients": (send_nowait(20), TURNS * TURN),
    "the same, foxglove=True, no viewer": (send_nowait(20, foxglove=True), TURNS * TURN),
    "send and recv": (receive("recv"), TURNS * TURN),
    "send and async for": (receive("async for"), TURNS * TURN),
    "send and recv_many": (receive("recv_many"), TURNS * TURN),
    "arrive and wait": (arrive(Reading), TURNS * TURN),
    "arrive and replace": (arrive(Newest), TURNS * TURN),
    "receive 64 KiB": (receive_large, TURNS * LARGES),
    "masked 64 KiB, recv": (receive_large_masked("recv"), TURNS * LARGES),
    "masked 64 KiB, recv_many": (receive_large_masked("recv_many"), TURNS * LARGES),
    "send 64 KiB and recv": (client_receives_large, TURNS * LARGES),
    "accept a WebSocket connection": (accept, CONNECTIONS),
    "codec of 300 variants": (codec_of_many, CALLS),
}


def evolved(name: str, resolved: bool) -> Workload:
    """Decoding what another version of a type sends, or the same bytes by the version that wrote them."""

    def run() -> None:
        from evolved import EVOLVED

        writer, reader, value = EVOLVED[name]
        decode = codec(reader).reading(codec(writer).schema) if resolved else codec(writer)
        call(decode.from_bytes, value.to_bytes())()

    return run


for _name in CASES:
    WORKLOADS[f"writer's type, {_name}"] = (evolved(_name, False), CALLS)
    WORKLOADS[f"resolved, {_name}"] = (evolved(_name, True), CALLS)


def measure(name: str, steady: bool = False) -> float:
    """Instructions that one call of the workload costs."""
    return counted(Path(__file__), "--run", name, steady=steady) / WORKLOADS[name][1]


def measured(names: list[str], before: dict[str, float], jobs: int, steady: bool = False) -> dict[str, float]:
    """The figures of these workloads, each printed with its change against `before`."""
    prepare("instructions", "evolved")
    figures: dict[str, float] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for name, figure in zip(names, pool.map(lambda name: measure(name, steady), names), strict=True):
            figures[name] = figure
            line = f"{name:36} {figure:9.0f} instructions"
            if name in before:
                line += f" {100 * (figure / before[name] - 1):+7.2f} %"
            print(line, flush=True)
    return figures


def compare_with_held(names: list[str], jobs: int) -> int:
    """1 if one of these workloads costs more than is held. Where counts cannot be compared, says so: 0."""
    file = held.load()
    missing = why_impossible()
    reasons = [missing] if missing else held.differences(file["environment"], held.environment())
    if reasons:
        print(held.not_compared(reasons))
        return 0
    counts = file["figures"]
    if names != list(WORKLOADS):
        counts = {name: counts[name] for name in names if name in counts}
    figures = measured(names, counts, jobs, True)
    for _ in range(held.TRIES - 1):
        if not (dear := held.over(counts, figures)):
            break
        print("once more:")
        again = measured(dear, counts, jobs, True)
        figures |= {name: min(figures[name], figure) for name, figure in again.items()}
    found = held.complaints(counts, figures)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"{len(names)} workloads cost at most {held.ALLOWED} % more than is held")
    return bool(found)


def refresh(names: list[str], jobs: int) -> int:
    """Hold what these workloads cost now. The others keep their counts, which must be of this environment."""
    here = held.environment()
    file = held.load() if held.FILE.exists() else {"environment": here, "figures": {}}
    counts = file["figures"]
    if names != list(WORKLOADS) and (reasons := held.differences(file["environment"], here)):
        print(f"refresh all: the file is of another environment: {'; '.join(reasons)}", file=sys.stderr)
        return 1
    fresh = measured(names, counts, jobs, True)
    again = measured(names, fresh, jobs, True)
    fresh = {name: max(figure, again[name]) for name, figure in fresh.items()}
    held.write({name: (counts | fresh)[name] for name in WORKLOADS if name in counts | fresh}, here)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="*", help="workloads; all if none is named")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--against", type=Path, help="figures of an earlier run")
    parser.add_argument("--allowed", type=float, default=3.0, help="percent more than there (3)")
    parser.add_argument("--held", action="store_true", help=f"compare with {held.FILE.name}")
    parser.add_argument("--refresh", action="store_true", help=f"write {held.FILE.name}")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        WORKLOADS[given.run][0]()
        return 0
    unknown = set(given.name) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    names = given.name or list(WORKLOADS)
    if given.held:
        return compare_with_held(names, given.jobs)
    if missing := why_impossible():
        parser.error(missing)
    if given.refresh:
        return refresh(names, given.jobs)
    before: dict[str, float] = json.loads(given.against.read_text())["figures"] if given.against else {}
    figures = measured(names, before, given.jobs)
    if given.json:
        given.json.write_text(json.dumps({"machine": describe(), "figures": figures}, indent=1) + "\n")
    worse = [
        name for name in names if name in before and 100 * (figures[name] / before[name] - 1) > given.allowed
    ]
    if worse:
        print(f"over {given.allowed} % more than before: {', '.join(worse)}", file=sys.stderr)
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
