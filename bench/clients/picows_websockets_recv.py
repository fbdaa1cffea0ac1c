"""picows.websockets (the websockets interface): `await connection.recv()`, no compression, no keepalive."""

from __future__ import annotations

import sys

from drive import Job, Tally, parse_job
from receive import run

job = parse_job(sys.argv[1:])

from picows.websockets.asyncio.client import connect  # noqa: E402


async def receive(url: str, job: Job, tally: Tally) -> None:
    async with connect(url, compression=None, ping_interval=None, max_size=None, proxy=None) as connection:
        recv = connection.recv
        while True:  # `reached` ends the process
            await recv()
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()


run(receive, job)
