"""Keeps a connection open: reconnects after each end, with longer delays after each failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from deli_com.errors import ComError
from deli_com.net.backoff import Backoff

__all__ = ["keep_connected"]

_log = logging.getLogger("deli_com.relay")


async def keep_connected(
    what: str,
    connect: Callable[[], Awaitable[Any]],
    begin: Callable[[Any], object],
    lost: Callable[[], object],
    delays: tuple[float, float],
) -> None:
    """Connect, and reconnect after each end, until cancelled.

    Parameters
    ----------
    what : str
        Names the connection in the log.
    connect : callable
        Returns a connected client.
    begin : callable
        Called with each client, as soon as it is connected.
    lost : callable
        Called after each connection and each failed attempt, possibly twice.
    delays : (float, float)
        First and longest delay between attempts, in seconds.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(*delays)
    warned = False
    while True:
        client: Any = None
        began, delay = loop.time(), 0.0
        try:
            client = await connect()
            began, warned = loop.time(), False
            begin(client)
            await client.watchers.until(client._is_ended)
            client._raise_if_ended()
        except (ComError, OSError, ValueError) as error:
            if client is not None:
                backoff.lasted(loop.time() - began)
            lost()
            delay = backoff.next()
            level = logging.INFO if warned else logging.WARNING
            warned = True
            _log.log(level, "%s: %s; next attempt in %.1f s", what, error, delay)
        finally:
            lost()
            if client is not None:
                await client.close()
        await asyncio.sleep(delay)
