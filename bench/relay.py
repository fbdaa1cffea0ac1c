"""What a relay costs: `python bench/relay.py [--clients 200] [--messages 3000] [--rounds 5] [--json FILE]`.

Three programs, each in a process of its own, all in one run and in turn: a server with so many clients; the
same server with one client, a relay; that relay with so many clients. Clients are sockets of a fourth,
which reads and throws away, and looks at the time in each message of one of them.

The figures: CPU of the process that fans out, in microseconds for each message and client, by the scheduler's
count; and how old messages are when they arrive. The goal is a relay at no more than 1.1 times the server.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import selectors
import socket
import statistics
import struct
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import uvloop

from attacks import REQUEST
from deli_com import Codec, WsServer, u64
from deli_com.relay import Relay
from machine import write

PAD = 48  # of payload, beside the time and a length: 60 bytes in all


class Message(Codec):
    at: u64
    pad: bytes


def cpu_us() -> float:
    """CPU that this process has had, in microseconds."""
    return int(Path("/proc/self/schedstat").read_text().split()[0]) / 1e3


def server(pipe: Connection, _: str) -> None:
    """Bind; then for each (clients, messages, rate): send, and tell the CPU."""

    async def main() -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0") as serving:
            pipe.send(str(serving.local_addr()))
            while (order := await asyncio.to_thread(pipe.recv)) is not None:
                clients, messages, rate = order
                await serving.wait_clients(clients)
                before, due = cpu_us(), time.monotonic()
                for _ in range(messages):
                    serving.send_nowait(Message(time.monotonic_ns(), b"." * PAD))
                    due += 1 / rate
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                await asyncio.sleep(0.1)
                pipe.send(cpu_us() - before)

    uvloop.run(main())


def relay(pipe: Connection, addr: str) -> None:
    """Serve what the server sends; for each word, tell the CPU so far."""

    async def main() -> None:
        async with Relay(f"ws://{addr}", bind="127.0.0.1:0") as relaying:
            pipe.send(str(relaying.local_addr()))
            while await asyncio.to_thread(pipe.recv) is not None:
                pipe.send(cpu_us())

    uvloop.run(main())


def readers(pipe: Connection, _: str) -> None:
    """For each (address, clients, messages): connect, read all, tell how old the messages of one were."""
    while (order := pipe.recv()) is not None:
        addr, clients, messages = order
        host, _, port = addr.rpartition(":")
        found = selectors.DefaultSelector()
        for number in range(clients):
            sock = socket.create_connection((host, int(port)))
            sock.sendall(REQUEST)
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(1)
            sock.setblocking(False)
            found.register(sock, selectors.EVENT_READ, number)
        pipe.send("ready")
        size = 2 + 8 + 4 + PAD
        left = clients * messages * size
        first = bytearray()
        ages: list[float] = []
        while left:
            for key, _ in found.select(10.0) or [(None, 0)]:
                if key is None:
                    raise TimeoutError(f"{left} bytes have not come")
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                left -= len(data)
                if key.data == 0:
                    first += data
                    now = time.monotonic_ns()
                    while len(first) >= size:
                        ages.append((now - struct.unpack_from("<Q", first, 2)[0]) / 1e3)
                        del first[:size]
        for key in list(found.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        pipe.send(ages)


def started(function: Any, addr: str = "") -> tuple[Any, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=function, args=(theirs, addr), daemon=True)
    process.start()
    return process, ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    asked = (options.messages, options.rate)

    serving, served = started(server)
    addr = served.recv()
    reading, read = started(readers)
    figures: dict[str, list[float]] = {"server": [], "relay": []}
    ages: dict[str, list[float]] = {"server": [], "relay": []}
    for _ in range(options.rounds):
        read.send((addr, options.clients, options.messages))
        read.recv()
        served.send((options.clients, *asked))
        ages["server"] += read.recv()
        figures["server"].append(served.recv() / options.messages / options.clients)

        relaying, relayed = started(relay, addr)
        place = relayed.recv()
        read.send((place, options.clients, options.messages))
        read.recv()
        relayed.send("now")
        before = relayed.recv()
        served.send((1, *asked))
        ages["relay"] += read.recv()
        served.recv()
        relayed.send("now")
        figures["relay"].append((relayed.recv() - before) / options.messages / options.clients)
        relayed.send(None)
        relaying.join()
    served.send(None)
    read.send(None)
    serving.join()
    reading.join()

    rows = {
        name: {
            "cpu_us": statistics.median(figures[name]),
            "age_us": statistics.median(ages[name]),
            "age_us_99": statistics.quantiles(ages[name], n=100)[98],
        }
        for name in figures
    }
    for name, row in rows.items():
        print(
            f"{name:8} {row['cpu_us']:6.3f} us a message and client, "
            f"age {row['age_us']:7.0f} us, 99 %: {row['age_us_99']:7.0f} us"
        )
    ratios = [r / s for r, s in zip(figures["relay"], figures["server"], strict=True)]
    middle = statistics.median(ratios)
    print(f"relay / server: {middle:.3f} (of {len(ratios)} pairs: {min(ratios):.3f} to {max(ratios):.3f})")
    asked_for = {name: str(value) for name, value in vars(options).items()}
    write(options.json, {"rows": rows, "ratios": ratios, "options": asked_for})


if __name__ == "__main__":
    main()
