"""The common part of `WsServer` and the TCP `Server`: everything except accepting."""

from __future__ import annotations

import asyncio
import contextlib
import math
import warnings
from collections.abc import Hashable
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from deli_com.errors import ConnectionClosed
from deli_com.ground.waiter import Waiter
from deli_com.link.endpoint import Endpoint
from deli_com.link.events import Events, OnConnect, OnDisconnect
from deli_com.link.group import Group, group_of
from deli_com.link.peer import Peer
from deli_com.link.shown_as_table import ShownAsTable, figures
from deli_com.link.stats import BackplaneStats, ServerStats
from deli_com.log.log import Log
from deli_com.net.address import Address
from deli_com.net.options import one_checked
from deli_com.recordable import Recordable
from deli_com.schema.terms import Use, silent, terms_for
from deli_com.typed import Down, Framing, Typed, Up

__all__ = ["ServerBase", "abort_server"]

GOING_AWAY = 1001  # RFC 6455 section 7.4.1
DRAIN_S = 1.0  # default time for which close() waits until queued messages are sent
MIN_QUEUED = 64 << 20  # least limit on the bytes that the log may hold within one turn
MAX_INBOUND = 256 << 20  # default limit on received bytes in memory, unless messages can be very large
CLOSE_SLACK_S = 0.5  # for the last sweep, the transports' own turns, and the last on_disconnect
ABORT_S = 0.1  # for sending close frames, after the normal close has timed out


class Accepting(Protocol):
    """The methods that a server needs of the object that accepts its connections."""

    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class Joined(Protocol):
    """The methods that a server needs of its place among other servers."""

    def stats(self) -> BackplaneStats: ...
    async def close(self, drain: float) -> None: ...
    def abandon(self) -> None: ...


class ServerBase(Typed, Recordable, ShownAsTable, Endpoint[Down, Up], Generic[Down, Up]):
    """A typed server; subclasses bind it to a wire protocol."""

    _acceptor: Accepting | None = None
    _addresses: tuple[Address, ...]
    _closing: Waiter | None = None
    _events: Events | None
    _node: Joined | None = None  # its place on a backplane
    _path = ""  # shown after the address in repr

    _made_by = "bind"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"write: await {type(self).__name__}.bind(addr)")

    def _start(
        self,
        addresses: tuple[Address, ...],
        framing: Framing,
        down: Any,
        up: Any,
        *,
        max_backlog: int,
        on_connect: OnConnect | None,
        on_disconnect: OnDisconnect | None,
        max_inbound: int | None,
        max_message_size: int,
        progress_timeout: float | None,
        schema: Use | None,
        **limits: Any,
    ) -> None:
        """Initialise in place of ``__init__``, in the loop's thread; the limits are `options.checked`."""
        if max_inbound is None:
            max_inbound = max(MAX_INBOUND, 4 * max_message_size)
        Endpoint.__init__(
            self,
            asyncio.get_running_loop(),
            Log(framing),
            down,
            up,
            max_backlog=max_backlog,
            max_queued=max(MIN_QUEUED, 2 * max_backlog),
            max_inbound=max_inbound,
            max_message_size=max_message_size,
            progress_timeout=math.inf if progress_timeout is None else progress_timeout,
            **limits,
        )
        self._addresses = addresses
        self.peer_schema = silent(up is not None)
        self.terms = terms_for(down, up, is_client=False, use=schema, logger=self.logger)
        if on_connect is not None or on_disconnect is not None:
            self._events = Events(self.loop, on_connect, on_disconnect, self.logger)

    def local_addr(self) -> Address:
        """Return the address that the server is bound to. Its ``str`` is what a client can connect to.

        If it is bound to several addresses (`local_addrs`), this is the first one.

        Raises
        ------
        RuntimeError
            The server has no port of its own: it was opened by ``bind(None)``.
        """
        if not self._addresses:
            raise RuntimeError(f"{self!r} has no address: bind(None) opens a server without a port")
        return self._addresses[0]

    def local_addrs(self) -> tuple[Address, ...]:
        """Return all addresses that the server is bound to."""
        return self._addresses

    @property
    def clients(self) -> frozenset[Peer[Any, Any]]:
        """The set of connected clients. Making it takes time proportional to their number.

        Raises
        ------
        RuntimeError
            Called in another thread than the event loop's; ``client_count`` may be called from any thread.
        """
        self._check_home("server.clients")
        return frozenset(peer for peer in self._connections() if peer.is_open)

    def stats(self) -> ServerStats:
        """Return counters, and what is held now. Legal from any thread."""
        found = super().stats()
        return found if self._node is None else replace(found, backplane=self._node.stats())

    def group(self, name: Hashable, /) -> Group[Down]:
        """Return the group with this name. It is created if there is none.

        Parameters
        ----------
        name : hashable
            Any hashable object; names are compared with ``==``.
        """
        return group_of(self, name)

    async def wait_clients(self, n: int) -> None:
        """Wait until at least `n` clients are connected.

        Raises
        ------
        ConnectionClosed
            The server was closed first.
        RuntimeError
            Called in another thread, or another event loop than the server's.
        """
        one_checked("n", n)
        self._check_running("server.wait_clients()")
        await self.watchers.until(lambda: self.client_count() >= n or self._is_ended())
        if self._is_ended():
            raise ConnectionClosed(GOING_AWAY, "the server is closed")

    async def close(self, *, drain: float = DRAIN_S) -> None:
        """Stop accepting, send queued messages, and close every connection. May be called again.

        Clients get queued messages, then close code 1001. Waiting receivers get `ConnectionClosed` once the
        inbox is empty; ``async for`` ends. When it returns, every ``on_disconnect`` has been called;
        coroutine functions have ended, or were cancelled after the time below. Running coroutine functions of
        ``on_connect`` are cancelled.

        Parameters
        ----------
        drain : float
            Seconds to wait until queued messages are sent. After that, the clients' answers are awaited for
            ``close_timeout`` seconds; then the remaining connections are aborted.

        Raises
        ------
        RuntimeError
            Called in another thread, or another event loop than the server's. Nothing has changed then.
        """
        one_checked("drain", drain)
        self._check_running("server.close()")
        if self._events is not None:
            self._events.excuse(asyncio.current_task())
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._closing = Waiter(self.loop)
        try:
            await self._close(drain)
        finally:
            try:
                self._end(ConnectionClosed(GOING_AWAY, "the server is closed"), True)
                for connection in self._connections():
                    connection._abort()
                if self._events is not None:
                    self._events.cancel()
            finally:
                self._closing.succeed()

    async def _close(self, drain: float) -> None:
        end = self.loop.time() + drain + self.close_timeout
        acceptor = self._acceptor
        if acceptor is not None:
            acceptor.close()
        self._end(ConnectionClosed(GOING_AWAY, "the server is closed"), True)
        self._lift_bounds()
        self.flush()
        await self.watchers.until_at_most(self._is_drained, drain)
        if self._node is not None:
            await self._node.close(drain)
        for connection in self._connections():
            connection._finish(GOING_AWAY, "the server is closing")
        await self.watchers.until_at_most(lambda: not self._connections(), self.close_timeout + CLOSE_SLACK_S)
        for connection in self._connections():
            connection._abort()
        if acceptor is not None:
            await acceptor.wait_closed()
        if self._events is not None:
            await self._events.finish(max(0.0, end - self.loop.time()) + CLOSE_SLACK_S)
        await self._end_recordings()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._node is not None and self._closing is None and not self._is_foreign():
            self._node.abandon()
        if self._acceptor is not None and self._closing is None and not self._is_foreign():
            _warn(f"unclosed server {self!r}", ResourceWarning, source=self)
            if not self.loop.is_closed():
                self._acceptor.close()

    def __repr__(self) -> str:
        if self._acceptor is None:
            return f"<{type(self).__name__}, not bound>"
        state = "closed" if self._closing is not None else f"{self.client_count()} clients"
        place = f"at {self._addresses[0]}{self._path}" if self._addresses else "without a port"
        return f"<{type(self).__name__} {place}, {state}>"

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        if self._acceptor is None:
            return f"{type(self).__name__}, not bound", []
        rows: list[tuple[str, object]] = [
            ("address", f"{self._addresses[0]}{self._path}"),
            ("state", "closed" if self._closing is not None else "open"),
        ]
        names = (
            "clients",
            "laggards",
            "messages_out",
            "messages_in",
            "queued_bytes",
            "skipped",
            "superseded",
        )
        return type(self).__name__, rows + figures(self.stats(), *names)


async def abort_server(server: ServerBase[Any, Any]) -> None:
    """Close a server that nothing waits for. Returns at once if its close was interrupted."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ABORT_S):
            await server.close(drain=0)
