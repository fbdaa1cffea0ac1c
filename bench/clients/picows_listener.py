"""picows: a listener written in Python that takes each payload as bytes."""

from __future__ import annotations

import asyncio
import sys

from drive import Job, Tally, parse_job
from receive import run

job = parse_job(sys.argv[1:])

from picows import WSFrame, WSListener, WSTransport, ws_connect  # noqa: E402


async def receive(url: str, job: Job, tally: Tally) -> None:
    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            frame.get_payload_as_bytes()
            tally.count += 1
            if tally.count == tally.mark:
                tally.reached()

    await ws_connect(Listener, url, max_frame_size=1 << 26)
    if job.mode == "footprint":
        await asyncio.Event().wait()


run(receive, job)
