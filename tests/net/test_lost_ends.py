"""Ends of a connection that the event loop does not report, or reports too early."""

from __future__ import annotations

import asyncio
import struct

from helpers import until
from peers import CLOSE, build, close_payload, raw_client, raw_server

from deli_com import WsClient, WsServer

MIB = 1 << 20


def value(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


async def test_all_that_had_arrived_comes_though_reading_was_paused():
    """The peer sends 20 MiB, CLOSE and the end of its stream to a client that stopped reading at 16 MiB."""
    async with raw_server() as server:
        client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
        receiving = asyncio.create_task(client.recv())
        await asyncio.sleep(0)

        async def send() -> None:
            for number in range(20):
                await peer.send(value(bytes([number]) * MIB))
            await peer.send(close_payload(1000), CLOSE)
            peer.close()

        sending = asyncio.create_task(send())
        await receiving
        await until(lambda: client.inbox.held_bytes >= 16 * MIB)
        await sending
        await asyncio.sleep(0.6)  # two sweeps, which must not take the end for the end
        assert [data[0] async for data in client] == list(range(1, 20))
        await client.close()


async def test_a_reset_right_behind_a_message_is_noticed():
    """uvloop reports bytes and reset as one event, the bytes are read, and the reset is never told."""
    async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
        await peer.round_trip()
        peer.sock.send(build(value(b"whole"), mask=bytes(4)))
        peer.reset()
        assert await server.recv() == b"whole"
        await until(lambda: server.client_count() == 0)
