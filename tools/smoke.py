"""One typed round trip between a server and a client: is the installed package whole?"""

from __future__ import annotations

import asyncio

from deli_com import Codec, WsClient, WsServer, f32, u64


class Reading(Codec):
    stamp: u64
    celsius: f32
    raw: bytes


async def main() -> None:
    sent = Reading(1, 36.5, b"\x00\xff")
    async with WsServer[Reading].bind("127.0.0.1:0") as server:
        async with WsClient[Reading].connect(server.local_addr()) as client:
            await server.send(sent)
            assert await client.recv() == sent
            await client.send(sent)
            assert await server.recv() == sent
    print("round trip: ok")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), 30))
