"""`WsClient.stream`: a client that comes back by itself."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, Union

from typing_extensions import TypeVar

from deli_com.client_base import ClientBase
from deli_com.errors import ComError, ConnectionClosed, IoError, WebSocketError
from deli_com.net.options import checked

__all__ = ["OnReconnect", "Stream"]

T = TypeVar("T")
OnReconnect: TypeAlias = Callable[[float], Union[Awaitable[None], None]]

_log = logging.getLogger("deli_com.client")

# Answers that the same request will get again: reconnecting would only hammer the server.
HOPELESS_STATUS = frozenset({400, 401, 403, 404, 405, 410, 426})


class Stream(Generic[T]):
    """Values of one server, over as many connections as it takes.

    ::

        async with WsClient[T].stream("ws://robot:8080") as values:
            async for value in values:
                ...

    A connection that ends, in good order or not, is made anew: at once if it had delivered
    anything, then after a delay that doubles from `first_delay` to `max_delay`, drawn anew from
    its upper half each time so that a thousand clients of a restarted server do not return in
    one moment. Cancelling a step loses nothing; the next step goes on from there.

    Parameters
    ----------
    connect : callable
        Opens a client; called anew for each connection.
    on_reconnect : callable, optional
        ``(seconds_away)``, may be async; called when a connection is there again, before its
        first value. Values sent meanwhile are gone.
    first_delay, max_delay : float
        Seconds.

    Raises
    ------
    WebSocketError
        From a step: the server refused for good (400, 401, 403, 404, 405, 410, 426).
    IoError
        From a step: the certificate does not verify.
    DecodeError
        From a step: a message was no value; the next step goes on.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ClientBase[T, Any]]],
        *,
        on_reconnect: OnReconnect | None = None,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
    ) -> None:
        checked(on_reconnect=on_reconnect, first_delay=first_delay, max_delay=max_delay)
        if first_delay > max_delay:
            raise ValueError(
                f"first_delay is {first_delay}, expected at most max_delay, which is {max_delay}"
            )
        self._connect = connect
        self._on_reconnect = on_reconnect
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._delay = 0.0  # before the next attempt; 0 for at once
        self._client: ClientBase[T, Any] | None = None
        self._lost_at: float | None = None  # loop time; None while nothing was lost yet
        self._announce = False  # on_reconnect is owed
        self._closed = False

    @property
    def client(self) -> ClientBase[T, Any] | None:
        """The open client, for sending on the connection of the moment; None between two."""
        return self._client

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._closed:
            if self._client is None:
                await self._reconnect()
                continue
            if self._announce:
                await self._tell()
                continue  # it may have been closed meanwhile
            try:
                value = await self._client.recv()
            except ConnectionClosed as error:
                await self._lose(error)
                continue
            self._delay = 0.0
            return value
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream and its connection. May be called again."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- private ---

    async def _reconnect(self) -> None:
        if self._delay:
            await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
        self._delay = min(max(self._first_delay, 2 * self._delay), self._max_delay)
        try:
            client = await self._connect()
        except (IoError, ConnectionClosed, WebSocketError) as error:
            if _is_hopeless(error):
                self._closed = True
                raise
            _log.info("%s; trying again in at most %.1f s", error, self._delay)
            return
        if self._closed:  # meanwhile, by another task
            await client.close()
            return
        self._client = client
        self._announce = self._lost_at is not None

    async def _tell(self) -> None:
        away = asyncio.get_running_loop().time() - (self._lost_at or 0.0)
        self._announce = False
        self._lost_at = None
        _log.info("connected again after %.1f s", away)
        if self._on_reconnect is not None:
            told = self._on_reconnect(away)
            if inspect.isawaitable(told):
                await told

    async def _lose(self, error: ConnectionClosed) -> None:
        _log.info("%s; connecting again", error)
        client, self._client = self._client, None
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
        if client is not None:
            await client.close()


def _is_hopeless(error: ComError) -> bool:
    if isinstance(error, WebSocketError):
        return error.status in HOPELESS_STATUS
    return isinstance(error.__cause__, ssl_module.SSLCertVerificationError)
