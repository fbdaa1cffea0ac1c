"""The callbacks of a server for clients that connect and disconnect."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from deli_com.ground.callback import called, failure_of
from deli_com.link.departure import Departure
from deli_com.link.peer import Peer
from deli_com.net.log_budget import LogBudget

__all__ = ["Events", "OnConnect", "OnDisconnect"]

OnConnect: TypeAlias = Callable[[Peer[Any, Any]], object]
OnDisconnect: TypeAlias = Callable[[Peer[Any, Any], Departure], object]

CANCEL_S = 0.5  # for handlers that are cancelled to end


class Events:
    """Calls ``on_connect`` and ``on_disconnect`` of one server.

    1. `connected` calls at once, so nothing was received from that peer before, and messages that the
    callback
       sends are sent before all others.
    2. `departed` is called inside flushes and sends, so it calls in a later turn. Callbacks are therefore
       never nested, and may call anything.
    3. If a callback returns an awaitable, it becomes a task, which is kept here.
    4. Exceptions of callbacks are logged, with a limit on records, because clients can cause them at will.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        That of the server; everything here runs on its thread.
    on_connect, on_disconnect : callable, optional
        ``(peer)`` and ``(peer, departure)``; plain or coroutine functions.
    logger : logging.Logger
    """

    __slots__ = (
        "_connecting",
        "_departing",
        "_excused",
        "_gone",
        "_log",
        "_loop",
        "_on_connect",
        "_on_disconnect",
        "_scheduled",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_connect: OnConnect | None,
        on_disconnect: OnDisconnect | None,
        logger: logging.Logger,
    ) -> None:
        self._loop = loop
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._log = LogBudget(logger)
        self._gone: deque[tuple[Peer, Departure]] = deque()
        self._scheduled = False
        self._connecting: set[asyncio.Future[Any]] = set()  # tasks of on_connect
        self._departing: set[asyncio.Future[Any]] = set()  # and of on_disconnect
        self._excused: set[asyncio.Future[Any]] = set()  # those of both that wait for the server's close

    def connected(self, peer: Peer) -> None:
        """Report a client that is counted from now on."""
        if self._on_connect is not None:
            self._call("on_connect", self._connecting, self._on_connect, peer)

    def departed(self, peer: Peer, why: Departure) -> None:
        """Report, in the next turn, the end of a client that `connected` was called for."""
        if self._on_disconnect is not None:
            self._gone.append((peer, why))
            self._schedule()

    def excuse(self, task: asyncio.Task[Any] | None) -> None:
        """Do not wait for this task, and do not cancel it: it waits for the close itself."""
        if task is not None and (task in self._departing or task in self._connecting):
            self._excused.add(task)

    async def finish(self, seconds: float) -> None:
        """Wait for departures to be reported and their tasks to end, `seconds` at most; cancel all others."""
        end = self._loop.time() + seconds
        while self._scheduled:  # noqa: ASYNC110 - it is for the next turn, with or without an event
            await asyncio.sleep(0)
        if waited := self._departing - self._excused:
            await asyncio.wait(waited, timeout=max(0.0, end - self._loop.time()))
        if left := self.cancel():
            await asyncio.wait(left, timeout=CANCEL_S)

    def cancel(self) -> set[asyncio.Future[Any]]:
        """Cancel the handlers that still run, and return them."""
        left = (self._departing | self._connecting) - self._excused
        for task in left:
            task.cancel()
        return left

    # --- private ---

    def _schedule(self) -> None:
        if not self._scheduled:
            self._loop.call_soon(self._tell)
            self._scheduled = True  # last: where that raises, the next departure tries again

    def _tell(self) -> None:
        self._scheduled = False
        try:
            for _ in range(len(self._gone)):  # those that a callback makes leave come in the next turn
                peer, why = self._gone.popleft()
                self._call("on_disconnect", self._departing, self._on_disconnect, peer, why)
        finally:
            if self._gone:
                self._schedule()

    def _call(self, name: str, tasks: set[asyncio.Future[Any]], function: Any, *args: Any) -> None:
        try:
            result = called(function, *args)
            if not inspect.isawaitable(result):
                return
            task = asyncio.ensure_future(result, loop=self._loop)
        except Exception as error:
            self._failed(name, args[0], error)
            return
        tasks.add(task)

        def done(task: asyncio.Future[Any]) -> None:
            tasks.discard(task)
            self._excused.discard(task)
            if (error := failure_of(task)) is not None:
                self._failed(name, args[0], error)

        task.add_done_callback(done)

    def _failed(self, name: str, peer: Peer, error: BaseException) -> None:
        self._log.log(logging.ERROR, "%s raised for %s", name, peer.remote_addr, exc_info=error)
