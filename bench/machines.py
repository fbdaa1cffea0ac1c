"""What many machines carry: `python bench/machines.py [--json FILE]`. Arithmetic with costs that it measures.

Measured, in one run: CPU of a server's process for each message and client; CPU of a node for each message
that it sends and that it receives by the backplane. Then, for 10, 100 and 1,000 machines with 1,000,000
clients in all, and one core a machine: how many messages a second every client can get, what each link
carries then, and what the NATS servers pass on. TCP and IP headers are left out.
"""

# ruff: noqa: ASYNC110, ASYNC222

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from attacks import REQUEST
from backplane import Value, nats_server, once
from deli_com import WsServer
from machine import write

CLIENTS = 1_000_000
MACHINES = (10, 100, 1000)
SIZE = 64
FOLLOWERS = 200
MESSAGES = 2000


def drain(sockets: list[socket.socket], stop: threading.Event) -> None:
    import selectors

    selector = selectors.DefaultSelector()
    for each in sockets:
        selector.register(each, selectors.EVENT_READ)
    while not stop.is_set():
        for key, _ in selector.select(0.1):
            key.fileobj.recv(1 << 16)  # type: ignore[union-attr]


async def fan_out() -> float:
    """CPU of the process that fans out, in microseconds a message and client."""
    async with WsServer[Value, None].bind("127.0.0.1:0") as server:
        address = server.local_addr()
        readers, writers = os.pipe()
        child = os.fork()
        if child == 0:  # the clients: sockets that are read and thrown away
            try:
                sockets = []
                for _ in range(FOLLOWERS):
                    peer = socket.create_connection((address.host, address.port))
                    peer.sendall(REQUEST)
                    sockets.append(peer)
                os.close(writers)
                stop = threading.Event()
                threading.Thread(target=drain, args=(sockets, stop), daemon=True).start()
                os.read(readers, 1)
            finally:
                os._exit(0)
        os.close(readers)
        await server.wait_clients(FOLLOWERS)
        value = Value(0, bytes(SIZE - 12))
        before = os.times()
        for _ in range(MESSAGES):
            server.send_nowait(value)
            await asyncio.sleep(0)  # one system call a client and message: the dearest way
        while not server._is_drained():
            await asyncio.sleep(0.001)
        after = os.times()
        os.close(writers)
        os.waitpid(child, 0)
        return (after.user + after.system - before.user - before.system) * 1e6 / MESSAGES / FOLLOWERS


def rows(fan_us: float, send_us: float, receive_us: float) -> list[dict[str, Any]]:
    found = []
    for machines in MACHINES:
        clients = CLIENTS / machines
        # One core: every client of the machine, each message; and the message comes from the backplane.
        rate = 1e6 / (clients * fan_us + receive_us)
        found.append(
            {
                "machines": machines,
                "clients": clients,
                "rate": rate,
                "out_mbit": rate * clients * (SIZE + 2) * 8 / 1e6,
                "in_mbit": rate * (SIZE + 8) * 8 / 1e6,
                "nats_out_mbit": rate * machines * (SIZE + 8) * 8 / 1e6,
                "backplane_share": receive_us / (clients * fan_us + receive_us),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    fan_us = min(asyncio.run(fan_out()) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        process, url = nats_server(folder)
        try:
            taken = [once(url, "node", SIZE, 200_000) for _ in range(3)]
        finally:
            process.kill()
            process.wait()
    send_us = min(each["sender_us"] for each in taken)
    receive_us = min(each["receiver_us"] for each in taken)
    print(f"{SIZE} B: fan-out {fan_us:.2f} us a message and client")
    print(f"a node sends a message in {send_us:.2f} us, and receives one in {receive_us:.2f} us")
    print(
        "machines  clients each  messages/s  out of each  into each  out of NATS  backplane's share of a core"
    )
    made = rows(fan_us, send_us, receive_us)
    for row in made:
        out, into, through = row["out_mbit"], row["in_mbit"], row["nats_out_mbit"]
        print(
            f"{row['machines']:8} {row['clients']:13.0f} {row['rate']:11.1f} {out:7.1f} Mb/s "
            f"{into:5.2f} Mb/s {through:7.1f} Mb/s {100 * row['backplane_share']:10.4f} %"
        )
    print(f"without clients a node passes {1e6 / receive_us:.0f} messages/s of others")
    write(given.json, {"fan_us": fan_us, "send_us": send_us, "receive_us": receive_us, "rows": made})


if __name__ == "__main__":
    main()
