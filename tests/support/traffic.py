"""Values that one end sends again and again, and what the other end takes of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from deli_com import Codec, u32


class Pose(Codec, policy="latest"):
    """A value of which only the newest counts."""

    turn: u32
    data: bytes = b""


class Plain(Codec):
    """A reliable value."""

    turn: u32
    data: bytes = b""


@contextlib.asynccontextmanager
async def sending(end: Any, make: Callable[[int], Any], every: float) -> AsyncIterator[None]:
    """Send `make(1)`, `make(2)` and so on for as long as the block runs."""

    async def send() -> None:
        turn = 0
        while True:
            turn += 1
            end.send_nowait(make(turn))
            await asyncio.sleep(every)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reading(end: Any, turns: list[int] | None = None) -> None:
    """Take values until the end; their turns go into the list, if there is one."""
    with contextlib.suppress(Exception):
        while True:
            value = await end.recv()
            if turns is not None:
                turns.append(value.turn)
