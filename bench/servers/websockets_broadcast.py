"""websockets: `broadcast`, as its guide to broadcasting advises, without compression and keepalive."""

from __future__ import annotations

import sys

from drive import Job, Server, Tally, parse_job, run, tls_context

job = parse_job(sys.argv[1:])

from websockets.asyncio.server import ServerConnection, broadcast, serve  # noqa: E402


async def start(job: Job, tally: Tally) -> Server:
    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            async for _ in connection:
                tally.count += 1
                if tally.count == tally.mark:
                    tally.reached()
        finally:
            connections.discard(connection)

    server = await serve(
        handler, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None, ssl=tls_context(job)
    )
    port = next(iter(server.sockets)).getsockname()[1]
    return Server(port, lambda payload: broadcast(connections, payload), keep=[server])


run(start, job)
