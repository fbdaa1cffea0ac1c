"""deli-com: `recv`, `async for` or `recv_many` (`--style`).

At 64 bytes a message is the typed struct of values.py, else (and with `recv_bytes`) `bytes`.
"""

from __future__ import annotations

import sys
from typing import Any

from drive import Job, Tally, parse_job
from receive import run

job = parse_job(sys.argv[1:])

from deli_com import WsClient  # noqa: E402
from values import Sample  # noqa: E402


async def receive(url: str, job: Job, tally: Tally) -> None:
    typed = job.size == 64 and job.style != "recv_bytes"
    kind: Any = Sample if typed else bytes
    client = await WsClient[kind].connect(url)
    if job.style == "async_for":
        async for _ in client:
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()
    elif job.style == "recv_many":
        while tally.count < tally.total:
            values = await client.recv_many(min(256, tally.mark - tally.count))
            tally.count += len(values)
            if tally.count == tally.mark:
                tally.reached()
    else:
        recv = client.recv
        while True:  # `reached` ends the process
            await recv()
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()


run(receive, job)
