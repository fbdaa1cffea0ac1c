"""What every receiving program shares.

One iteration is one message taken by the library's client from the C source, which sends 64 KiB at a time as
fast as the socket takes it. Measured are the last nine tenths of `messages`: CPU (getrusage) and wall time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from control import Control
from drive import Job, Meter, Tally, new_loop, say, status_kib


async def measure(job: Job, receive: Callable[[str, Job, Tally], Awaitable[None]]) -> None:
    """Let `receive` connect to the source and take messages until the tally has its total."""
    control = Control(job.control, job.fifo)
    tally = Tally(job.messages)
    url = f"ws://127.0.0.1:{job.port}"

    def leave(result: dict[str, Any]) -> None:
        say(result)
        control.stop()
        os._exit(0)  # at once: some clients, closing, would read the endless source to its end

    if job.mode == "footprint":
        leave(await footprint(job, url, receive))
    tally.on_done = leave
    await receive(url, job, tally)
    await tally.wait()


async def footprint(
    job: Job, url: str, receive: Callable[[str, Job, Tally], Awaitable[None]]
) -> dict[str, float]:
    """The memory of a client that received one large message and dropped it, after `seconds` of silence."""
    before = status_kib("Pss")
    meter = Meter()
    meter.start()
    tally = Tally(2)  # the source sends only one message, so `receive` keeps waiting
    task = asyncio.ensure_future(receive(url, job, tally))
    while tally.count < 1:  # noqa: ASYNC110 (the programs only count)
        await asyncio.sleep(0.01)
    await asyncio.sleep(job.seconds)
    result = {"held_kib": status_kib("Pss") - before, "peak_kib": meter.stop()["hwm_kib"] - meter.rss_kib}
    task.cancel()
    return result


def run(receive: Callable[[str, Job, Tally], Awaitable[None]], job: Job) -> None:
    """Entry point of a receiving program."""
    with asyncio.Runner(loop_factory=lambda: new_loop(job)) as runner:
        runner.run(measure(job, receive))
