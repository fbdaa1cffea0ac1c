"""What schemas cost a connection: `python bench/connect.py [--rounds 9] [--json FILE]`.

A connection with equal schemas at both ends (``schema="check"``) against one without schemas
(``schema=None``), over WebSocket and TCP. Over TCP schemas are exchanged only if the client asks for it.

1. Time: CPU of one process that has both ends, from `connect` to the end of `close`, a hundred connections
   of each kind a round. They take turns in blocks of ten; the ratio is the median of the blocks' ratios. TCP
   rows also have a floor: bare asyncio connections, with and without a hello of that size and its answer.
2. Instructions: the same under callgrind, as the difference between few and many connections. This figure
   does not depend on the machine's other load.
3. Memory: growth of a server with `--connections` idle connections, for each of them. Its clients
   are bare sockets of another process, which write the handshake by hand.
4. The first use: importing `deli_com`, defining a class and encoding with it, and the extra cost of asking
   for its schema. Each is measured in processes of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from deli_com import Client, Server, WsClient, WsServer, codec
from machine import write
from values import Reading, Sample

WIRES: dict[str, tuple[Any, Any]] = {"WebSocket": (WsServer, WsClient), "TCP": (Server, Client)}
USES = (None, "check")
BLOCKS, BLOCK = 10, 10  # connections of each kind in a round
FEW, MANY = 20, 120  # under callgrind
REQUEST = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# A TCP client's hello, and the server's answer.
TEXT = f"deli 1 hello down={'0' * 32} up={'0' * 32}".encode()
HELLO = b"\xff\xff\xff\xff" + struct.pack("<I", len(TEXT)) + TEXT
FIRST_USES = {
    "import": "import deli_com",
    "import, define, encode": "import deli_com\nclass A(deli_com.Codec):\n x: deli_com.u32\n y: str\n"
    "A(1, 'x').to_bytes()",
    "... and ask for the hash": "import deli_com\nclass A(deli_com.Codec):\n x: deli_com.u32\n y: str\n"
    "A(1, 'x').to_bytes()\ndeli_com.codec(A).schema.hash",
}


async def connections(wire: str, uses: tuple[Any, ...], blocks: int, block: int) -> dict[Any, list[float]]:
    """CPU seconds of one connection, both ends, by block of so many; the uses take turns, block by block."""
    servers, clients = WIRES[wire]
    spent: dict[Any, list[float]] = {use: [] for use in uses}

    async def run(server: Any, use: Any, count: int) -> float:
        address = server.local_addr()
        started = time.process_time()
        for _ in range(count):
            async with clients[Sample, Reading].connect(address, schema=use):
                await server.wait_clients(1)
        return (time.process_time() - started) / count

    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for use in uses:
            made = servers[Sample, Reading].bind("127.0.0.1:0", schema=use)
            opened.append((await stack.enter_async_context(made), use))
            await run(*opened[-1], 5)
        gc.collect()
        gc.disable()
        for number in range(blocks):
            for server, use in opened[:: 1 if number % 2 else -1]:
                spent[use].append(await run(server, use, block))
        gc.enable()
    return spent


class Bare(asyncio.Protocol):
    """One end of a bare connection: a client that sends a hello or nothing, or the server that answers."""

    def __init__(self, hello: bytes, ready: asyncio.Future[None] | None = None) -> None:
        self.hello = hello
        self.ready = ready  # of a client

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.ready is not None:
            if self.hello:
                transport.write(self.hello)
            else:
                self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.ready is None:
            self.transport.write(self.hello)
        else:
            self.ready.set_result(None)


async def bare_connections(blocks: int, block: int) -> dict[Any, list[float]]:
    """Like `connections`, for bare connections that do not use this library."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Bare(HELLO), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    spent: dict[Any, list[float]] = {use: [] for use in USES}
    for _ in range(blocks):
        for use in USES:
            began = time.process_time()
            for _ in range(block):
                ready = loop.create_future()
                hello = b"" if use is None else HELLO
                transport, _protocol = await loop.create_connection(
                    lambda hello=hello, ready=ready: Bare(hello, ready), *address
                )
                await ready
                transport.close()
                await asyncio.sleep(0)
            spent[use].append((time.process_time() - began) / block)
    server.close()
    return spent


def times(rounds: int) -> dict[str, Any]:
    """Microseconds a connection, and the ratio."""
    found: dict[str, Any] = {}
    for wire in (*WIRES, "TCP, floor"):
        if wire in WIRES:
            spent = asyncio.run(connections(wire, USES, rounds * BLOCKS, BLOCK))
        else:
            spent = asyncio.run(bare_connections(rounds * BLOCKS, BLOCK))
        ratios = [check / none for none, check in zip(spent[None], spent["check"], strict=True)]
        found[wire] = {
            "none_us": round(statistics.median(spent[None]) * 1e6, 1),
            "check_us": round(statistics.median(spent["check"]) * 1e6, 1),
            "ratio": round(statistics.median(ratios), 3),
        }
    return found


def instructions() -> dict[str, Any]:
    """Instructions a connection, and the ratio."""
    if shutil.which("valgrind") is None:
        return {}
    found: dict[str, Any] = {}
    for wire in WIRES:
        counts = {}
        for use in USES:
            less, more = (_counted(wire, use, count) for count in (FEW, MANY))
            counts[use] = (more - less) / (MANY - FEW)
        found[wire] = {
            "none": round(counts[None]),
            "check": round(counts["check"]),
            "ratio": round(counts["check"] / counts[None], 3),
        }
    return found


def _counted(wire: str, use: Any, count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, __file__]
        command += ["--run", f"{wire},{use},{count}"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "0"}
        )
        found = re.search(r"^(?:totals|summary): (\d+)", out.read_text() if out.exists() else "", re.M)
    if done.returncode or not found:
        raise SystemExit(done.stderr)
    return int(found[1])


def memory(count: int) -> dict[str, Any]:
    """Bytes that a server grows by for each idle connection."""
    found: dict[str, Any] = {}
    for wire in WIRES:
        grown = {use: _grown(wire, use, count) for use in USES}
        found[wire] = {
            "none_bytes": round(grown[None]),
            "check_bytes": round(grown["check"]),
            "more_bytes": round(grown["check"] - grown[None]),
        }
    return found


def _grown(wire: str, use: Any, count: int) -> float:
    pipe, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_hold, args=(theirs, wire, use, count))
    child.start()
    address = pipe.recv()
    schema = codec(Sample).schema.hash, codec(Reading).schema.hash
    hello = f"deli 1 hello down={schema[0]} up={schema[1]}".encode()
    says: bytes
    if wire == "TCP":
        says = b"" if use is None else b"\xff\xff\xff\xff" + struct.pack("<I", len(hello)) + hello
    else:
        line = "" if use is None else f"Deli-Schema: 1 down={schema[0]} up={schema[1]}\r\n"
        says = f"{REQUEST}{line}\r\n".encode()
    held = []
    for _ in range(100 + count):
        sock = socket.create_connection(address)
        sock.sendall(says)
        if says:
            sock.recv(4096)
        held.append(sock)
    grown: float = pipe.recv()
    child.join()
    for sock in held:
        sock.close()
    return grown


def _hold(pipe: Connection, wire: str, use: Any, count: int) -> None:
    async def hold() -> None:
        async with await WIRES[wire][0][Sample, Reading].bind("127.0.0.1:0", schema=use) as server:
            pipe.send(tuple(server.local_addr()))
            await server.wait_clients(100)  # everything that is made once has been made
            before = _resident()
            await server.wait_clients(100 + count)
            await asyncio.sleep(0.3)
            pipe.send((_resident() - before) / (server.client_count() - 100))

    asyncio.run(hold())


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def first_uses(rounds: int) -> dict[str, float]:
    """Milliseconds of CPU of a process that runs only `code`, without the interpreter's start."""
    spent: dict[str, list[float]] = {name: [] for name in FIRST_USES}
    for _ in range(rounds):
        for name, program in FIRST_USES.items():
            timed = f"import time\nstart = time.process_time()\n{program}\nprint(time.process_time() - start)"
            done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
            spent[name].append(float(done.stdout) * 1e3)
    return {name: round(statistics.median(found), 2) for name, found in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--connections", type=int, default=4000, help="that are held for their memory (4000)")
    parser.add_argument(
        "--part", choices=["time", "instructions", "memory", "first_use_ms"], help="only this"
    )
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        wire, use, count = options.run.split(",")
        asyncio.run(connections(wire, (None if use == "None" else use,), 1, int(count)))
        return
    found: dict[str, Any] = {}
    for part, measure in (
        ("time", lambda: times(options.rounds)),
        ("instructions", instructions),
        ("memory", lambda: memory(options.connections)),
        ("first_use_ms", lambda: first_uses(options.rounds)),
    ):
        if options.part in (None, part):
            found[part] = measure()
            print(part)
            for name, figures in found[part].items():
                print(f"  {name:24} {figures}", flush=True)
    write(options.json, found)


if __name__ == "__main__":
    main()
