"""deli-com: `recv`, `async for` or `recv_many` (`--style`), or a blocking client in a thread of its own.

At 64 bytes a message is the struct of eight numbers in values.py, or with `recv_packet` the struct of two
numbers and bytes. It is `bytes` with `recv_bytes` and `recv_many_bytes`, and at all other sizes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from drive import Job, Tally, parse_job
from receive import run

job = parse_job(sys.argv[1:])

from deli_com import WsClient, connect_blocking  # noqa: E402
from values import Packet, Sample  # noqa: E402


async def receive(url: str, job: Job, tally: Tally) -> None:
    kind: Any = bytes
    if job.size == 64 and not job.style.endswith("_bytes"):
        kind = Packet if job.lead else Sample
    if job.style.startswith("blocking"):
        await asyncio.to_thread(receive_blocking, kind, url, job, tally)
        return
    client = await WsClient[kind].connect(url)
    if job.style == "async_for":
        async for _ in client:
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()
    elif job.style in ("recv_many", "recv_many_bytes"):
        while tally.count < tally.total:
            tally.count += len(await client.recv_many(min(256, tally.mark - tally.count)))
            if tally.count == tally.mark:
                tally.reached()
    else:
        recv = client.recv
        while True:  # `reached` ends the process
            await recv()
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()


def receive_blocking(kind: Any, url: str, job: Job, tally: Tally) -> None:
    client = connect_blocking(WsClient[kind], url)
    if job.style == "blocking_many":
        while tally.count < tally.total:
            tally.count += len(client.recv_many(min(256, tally.mark - tally.count)))
            if tally.count == tally.mark:
                tally.reached()
    else:
        for _ in client:
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()


run(receive, job)
