"""What peers that send invented schemas cost: `python bench/schema_flood.py [--count 100000] [--json FILE]`.

Each attack is against a server in a process of its own, which serves one good client at the same time.
N is `--count`:

- ``questions``: N connections, each asks for both schemas and leaves; by header, query, first message.
- ``repeated``: one connection that sends hello N times.
- ``lines``: one connection with N control lines that this version does not know.
- ``schemas``: N connections, each with a different schema that the server can read.
- ``mismatches``: the same with schemas that it refuses.
- ``refusals``: N / 100 connections that refuse the server's schema with 200 KiB of invented words.
- ``long schemas``: N / 100 connections with a schema of 250 KiB each.
- ``tcp``: N TCP connections that ask.

The figures: resident memory of the server before, at most and after, in MB, and its CPU for each connection
or line, in microseconds. It is an error if the memory grows by more than `--allowed` MB, or if the good
client misses a value.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from attacks import REQUEST
from deli_com import Client, Codec, Schema, Server, WsClient, WsServer, codec, f32, u8, u32
from machine import write

TOGETHER = 50  # connections of an attack at a time
TEXT = 0x1
WORDS = "y" * 100


class Reading(Codec):
    a: u32
    b: f32


class Order(Codec):
    code: u8


DOWN = codec(Reading).schema.hash
HELLO = b"deli 1 hello down=? up=?"


def schema(number: int, fields: int, kind: str = "u8") -> Schema:
    """A schema that no other connection has."""
    lines = "".join(f" n{number}_{i} u8\n" for i in range(fields))
    return Schema.parse(f"deli 1\nroot O{number}\nstruct O{number}\n code {kind}\n{lines}")


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame as a client sends it; its mask is 0."""
    size, first = len(payload), 0x80 | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    else:
        head = (
            struct.pack("!BBH", first, 0xFE, size)
            if size < 1 << 16
            else struct.pack("!BBQ", first, 0xFF, size)
        )
    return head + bytes(4) + payload


async def talk(address: Any, *parts: bytes) -> None:
    """Send the parts, each after the answer to the previous one, and read to the end."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, tuple(address))
        with contextlib.suppress(ConnectionError):
            for part in parts[:-1]:
                await loop.sock_sendall(sock, part)
                if not await loop.sock_recv(sock, 1 << 16):
                    return
            await loop.sock_sendall(sock, parts[-1])
            while await loop.sock_recv(sock, 1 << 16):
                pass


def request(header: str = "", path: str = "/") -> bytes:
    head = REQUEST.replace(b"GET / ", f"GET {path} ".encode())
    return head.replace(b"\r\n\r\n", f"\r\nDeli-Schema: 1 {header}\r\n\r\n".encode()) if header else head


BYE = frame(struct.pack("!H", 1000), 0x8)


async def questions(address: Any, number: int) -> None:
    if number % 3 == 0:
        await talk(address, request("down=? up=?"), BYE)
    elif number % 3 == 1:
        await talk(address, request(path="/?deli=1.?.?"), BYE)
    else:
        await talk(address, request(), frame(HELLO), BYE)


async def announces(address: Any, own: Schema) -> None:
    text = f"deli 1 schema up {own.hash}\n{own.text}".encode()
    await talk(address, request(f"down={DOWN} up={own.hash}"), frame(text) + BYE)


async def refusals(address: Any, number: int) -> None:
    lines = "\n".join(f"{number} {WORDS} {i}" for i in range(1800))
    told = f"deli 1 refused\n{lines}".encode()
    await talk(address, request("down=? up=-"), frame(told) + BYE)


async def tcp(address: Any, number: int) -> None:
    hello = b"\xff\xff\xff\xff" + struct.pack("<I", len(HELLO)) + HELLO
    await talk(address, hello, b"\xff\xff\xff\xff\xff\xff\xff\xff")  # a text of 4 GiB ends it


async def repeated(address: Any, count: int, said: bytes) -> None:
    """One connection."""
    reader, writer = await asyncio.open_connection(*address)
    with contextlib.suppress(ConnectionError):
        writer.write(request("down=? up=-"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(count // 1000):
            writer.write(said * 1000)
            await writer.drain()
        writer.write(BYE)
        while await reader.read(1 << 16):
            pass
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def crowd(address: Any, count: int, attack: Callable[[Any, int], Awaitable[None]]) -> None:
    left = iter(range(count))

    async def one() -> None:
        for number in left:
            await attack(address, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER):
            group.create_task(one())


def many(attack: Callable[[Any, int], Awaitable[None]], divided: int = 1) -> Any:
    async def run(address: Any, count: int) -> int:
        await crowd(address, max(count // divided, 1), attack)
        return max(count // divided, 1)

    return run


def one(said: bytes) -> Any:
    async def run(address: Any, count: int) -> int:
        await repeated(address, count, said)
        return count

    return run


ATTACKS: dict[str, Any] = {
    "questions": many(questions),
    "repeated": one(frame(HELLO)),
    "lines": one(frame(b"deli 1 later and=more")),
    "schemas": many(lambda address, n: announces(address, schema(n, 5))),
    "mismatches": many(lambda address, n: announces(address, schema(n, 5, "str"))),
    "refusals": many(refusals, 100),
    "long schemas": many(lambda address, n: announces(address, schema(n, 15_000)), 100),
    "tcp": many(tcp),
}


def serve(pipe: Connection, is_tcp: bool) -> None:
    """Run the attacked server; its log is discarded."""

    def forget_peak() -> None:
        Path("/proc/self/clear_refs").write_text("5")

    def resident(what: str) -> float:
        found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return round(int(found[1]) / 1024, 1)

    async def main() -> None:
        kind: Any = Server if is_tcp else WsServer
        async with await kind[Reading, Order].bind("127.0.0.1:0") as server:
            pipe.send(tuple(server.local_addr()))
            await server.wait_clients(1)
            number = 0
            while not pipe.poll():
                server.send_nowait(Reading(number, 0.5))
                number += 1
                await asyncio.sleep(0.01)
            word = pipe.recv()
            assert word == "begin"
            before, spent = resident("VmRSS"), time.process_time()
            forget_peak()
            while not pipe.poll():
                server.send_nowait(Reading(number, 0.5))
                number += 1
                await asyncio.sleep(0.01)
            pipe.recv()
            spent, peak = time.process_time() - spent, resident("VmHWM")
            await asyncio.sleep(3.0)  # until closing connections have ended
            gc.collect()
            terms = server.terms
            known = len(terms._known or ()), terms._known_bytes, len(terms._warned or ())
            pipe.send((before, peak, resident("VmRSS"), spent, known, number, server.client_count()))
            await server.send(Reading(0xFFFFFFFF, 0.0))
            server.flush()
            pipe.recv()

    import logging

    logging.disable(logging.CRITICAL)
    asyncio.run(main())


async def measure(name: str, count: int) -> dict[str, Any]:
    """One attack, and what it has cost."""
    pipe, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, name == "tcp"))
    child.start()
    address = pipe.recv()
    kind: Any = Client if name == "tcp" else WsClient
    got: list[int] = []

    async def listen(client: Any) -> None:
        async for value in client:
            got.append(value.a)
            if value.a == 0xFFFFFFFF:
                return

    async with kind[Reading, Order].connect(address) as client:
        listening = asyncio.create_task(listen(client))
        await ATTACKS[name](address, min(count, 2000))  # makes everything that is made once
        pipe.send("begin")
        done = await ATTACKS[name](address, count)
        pipe.send("end")
        while not pipe.poll():  # noqa: ASYNC110 - a pipe of multiprocessing has no awaitable side
            await asyncio.sleep(0.05)
        before, peak, after, spent, known, sent, left = pipe.recv()
        await listening
        pipe.send("bye")
    child.join()
    return {
        "count": done,
        "before_mb": before,
        "peak_mb": peak,
        "after_mb": after,
        "cpu_us_each": round(spent / done * 1e6, 1),
        "known_schemas": known[0],
        "known_bytes": known[1],
        "kinds_told": known[2],
        "missed": sent - (len(got) - 1) - (got[0] if got else 0),
        "clients_left": left,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", nargs="*", help=f"attacks; all if none is named: {', '.join(ATTACKS)}")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--allowed", type=float, default=64.0, help="MB more at most (64)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if unknown := set(options.name) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    found = {}
    failed = []
    for name in options.name or ATTACKS:
        found[name] = figures = asyncio.run(measure(name, options.count))
        print(f"{name:14} {figures}", flush=True)
        if figures["peak_mb"] - figures["before_mb"] > options.allowed or figures["missed"]:
            failed.append(name)
        if figures["clients_left"] != 1:
            failed.append(f"{name} (connections are left)")
    write(options.json, found)
    if failed:
        print(f"over what is allowed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())
