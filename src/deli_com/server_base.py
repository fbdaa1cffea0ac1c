"""What `WsServer` and the TCP `Server` have in common: everything but accepting."""

from __future__ import annotations

import asyncio
import socket
import warnings
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from deli_com._endpoint import Endpoint
from deli_com._log import Log
from deli_com.address import Address
from deli_com.errors import ConnectionClosed
from deli_com.typed import Down, Framing, Typed, Up

__all__ = ["ServerBase"]

GOING_AWAY = 1001  # RFC 6455 section 7.4.1
DRAIN_S = 1.0  # how long close() waits for what is queued, unless told otherwise
MIN_RETAINED = 64 << 20  # bytes that the log may hold within one turn, at the least
MAX_INBOUND = 256 << 20  # bytes of input that may wait in memory, unless one message is a large part of it
CLOSE_SLACK_S = 0.5  # for the last sweep and the transports' own turns


class Accepting(Protocol):
    """What a server needs of the object that accepts connections for it."""

    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class ServerBase(Typed, Endpoint[Down, Up], Generic[Down, Up]):
    """A typed server; subclasses bind it to a wire protocol."""

    _acceptor: Accepting | None = None
    _address: Address
    _closing: asyncio.Future[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"write: await {type(self).__name__}.bind(addr)")

    def _start(
        self,
        sock: socket.socket,
        framing: Framing,
        down: Any,
        up: Any,
        *,
        max_backlog: int,
        max_inbound: int | None,
        max_message_size: int,
        **limits: Any,
    ) -> None:
        """Initialise in place of ``__init__``, on the loop's thread."""
        if max_inbound is None:
            max_inbound = max(MAX_INBOUND, 4 * max_message_size)
        elif max_inbound < 1:
            raise ValueError(f"max_inbound is {max_inbound}, expected 1 byte or more, or None")
        Endpoint.__init__(
            self,
            asyncio.get_running_loop(),
            Log(framing),
            down,
            up,
            max_backlog=max_backlog,
            max_retained=max(MIN_RETAINED, 2 * max_backlog),
            max_inbound=max_inbound,
            max_message_size=max_message_size,
            **limits,
        )
        self._address = Address(*sock.getsockname()[:2])

    def local_addr(self) -> Address:
        """Return the address that the server is bound to; ``str`` of it is ``host:port``."""
        return self._address

    async def wait_clients(self, n: int) -> None:
        """Wait until at least `n` clients are connected.

        Raises
        ------
        ConnectionClosed
            The server was closed before that.
        """
        await self._until(lambda: self.client_count() >= n or self._is_ended())
        if self._is_ended():
            raise ConnectionClosed(GOING_AWAY, "the server is closed")

    async def close(self, *, drain: float = DRAIN_S) -> None:
        """Stop accepting, send what is queued, close every connection. May be called again.

        Clients get what was queued, then close code 1001. Waiting receivers get
        `ConnectionClosed` once the inbox is empty; ``async for`` ends.

        Parameters
        ----------
        drain : float
            Seconds to wait for what is queued. The peers' answers are awaited for
            ``close_timeout`` more; then what remains is aborted.
        """
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._closing = self.loop.create_future()
        try:
            await self._close(drain)
        finally:
            for connection in self._connections():
                connection._abort()
            self._closing.set_result(None)

    async def _close(self, drain: float) -> None:
        acceptor = self._acceptor
        if acceptor is not None:
            acceptor.close()
        self._end(ConnectionClosed(GOING_AWAY, "the server is closed"), True)
        self.flush()
        await self._until_at_most(self._is_drained, drain)
        for connection in self._connections():
            connection._finish(GOING_AWAY, "the server is closing")
        await self._until_at_most(lambda: not self._connections(), self.close_timeout + CLOSE_SLACK_S)
        for connection in self._connections():
            connection._abort()
        if acceptor is not None:
            await acceptor.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._acceptor is not None and self._closing is None:
            _warn(f"unclosed server {self!r}", ResourceWarning, source=self)
            if not self.loop.is_closed():
                self._acceptor.close()

    def __repr__(self) -> str:
        if self._acceptor is None:
            return f"<{type(self).__name__}, not bound>"
        state = "closed" if self._closing is not None else f"{self.client_count()} clients"
        return f"<{type(self).__name__} at {self._address}, {state}>"
