"""One server of the cluster: ``python node.py NAME ADDRESS NATS-URL``."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys

from quotes import Message, Quote, Trade

from deli_com import WsServer
from deli_com.backplane import Nats


async def main(name: str, address: str, url: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with WsServer[Message, None].bind(address, backplane=Nats(url, room="market")) as server:
        print(server.local_addr(), flush=True)
        price = 100.0
        count = 0
        while not stop.is_set():
            price *= 1 + random.uniform(-0.001, 0.001)
            # A key has one node that sends it: each quotes symbols of its own.
            server.send_nowait(Quote(f"{name}-{count % 10}", price))
            await server.send(Trade(name, count))
            count += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.01)
        plane = server.stats().backplane
        assert plane is not None
        print(
            f"{name}: sent {plane.sent}, received {plane.received}, gaps {plane.gaps}, nodes {plane.nodes}",
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
