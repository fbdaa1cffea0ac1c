"""aiohttp: `async for message in ws`, as its documentation has it, without compression."""

from __future__ import annotations

import sys

from drive import Job, Tally, parse_job
from receive import run

job = parse_job(sys.argv[1:])

from aiohttp import ClientSession  # noqa: E402


async def receive(url: str, job: Job, tally: Tally) -> None:
    async with ClientSession() as session, session.ws_connect(url, compress=0, max_msg_size=0) as ws:
        async for _ in ws:
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()


run(receive, job)
