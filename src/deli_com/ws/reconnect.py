"""`WsClient.stream`: a client that reconnects."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, Union

from typing_extensions import TypeVar

from deli_com.client_base import ClientBase
from deli_com.errors import ComError, ConnectionClosed, IoError, SchemaMismatch, WebSocketError
from deli_com.ground.home import Home
from deli_com.net.options import checked, one_checked
from deli_com.opening import running_loop
from deli_com.schema.terms import SchemaUse

__all__ = ["OnReconnect", "Stream"]

T = TypeVar("T")
OnReconnect: TypeAlias = Callable[[float], Union[Awaitable[None], None]]

_log = logging.getLogger("deli_com.client")

# Statuses that the same request will get again, so that reconnecting would be useless.
HOPELESS_STATUS = frozenset({400, 401, 403, 404, 405, 410, 426, 428})
# Close codes with the same meaning: policy violation, and 400, 401 and 403 of HTTP in the private range.
TERMINAL_CODES = frozenset({1008, 4400, 4401, 4403})
UNAUTHORIZED = frozenset({401, 4401})  # another token may be accepted
HELD_S = 1.0  # a connection that lasts less counts as a failure, even if it delivered values


class Stream(Generic[T]):
    """Values of one server; it reconnects when the connection is lost.

    ::

        async with WsClient[T].stream("ws://robot:8080") as values:
            async for value in values:
                ...

    When a connection ends, normally or not, the stream reconnects: at once if the connection lasted for at
    least the last delay, and at least 1 s; else after a delay that doubles from `first_delay` to `max_delay`.
    Each delay is drawn at random from its upper half (jitter), so that a thousand clients of a restarted
    server do not reconnect at the same moment. Received values do not reset the delay.

    Cancelling a step loses no value. Several tasks may iterate: they share one connection, and each value
    goes to one of them. The stream belongs to the event loop of the first step.

    The first failure of an outage is logged as a WARNING by ``deli_com.client``, with the cause and the next
    attempt; further failures and the reconnect are logged as INFO.

    Parameters
    ----------
    connect : callable
        Opens a client; called anew for each connection.
    on_reconnect : callable, optional
        ``(seconds_away)``, may be async; called after a reconnect, before the first value. Values sent in the
        meantime are lost.
    first_delay, max_delay : float
        Seconds.
    terminal : collection of int, optional
        Close codes that end the stream. None: 1008, 4400, 4403, and 4401 unless `renews`.
    renews : bool
        Each attempt uses new headers, so 401 does not end the stream.

    Raises
    ------
    ConnectionClosed
        From a step: the server has closed with a terminal code.
    WebSocketError
        From a step: the server refused for good (400, 401, 403, 404, 405, 410, 426, 428).
    SchemaMismatch
        From a step, which is the last: what the server sends now cannot be read, or it cannot read what
        this end sends.
    IoError
        From a step: the certificate does not verify.
    DecodeError
        From a step: a message did not decode; the next step returns the next value.
    RuntimeError
        From a step or `aclose`: in another thread, or another event loop than that of the first step.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ClientBase[T, Any]]],
        *,
        on_reconnect: OnReconnect | None = None,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
        terminal: Collection[int] | None = None,
        renews: bool = False,
    ) -> None:
        checked(on_reconnect=on_reconnect, first_delay=first_delay, max_delay=max_delay)
        if first_delay > max_delay:
            raise ValueError(
                f"first_delay is {first_delay}, expected at most max_delay, which is {max_delay}"
            )
        may_change = UNAUTHORIZED if renews else frozenset()
        codes = one_checked("terminal", terminal)
        self._terminal: frozenset[int] = TERMINAL_CODES - may_change if codes is None else codes
        self._hopeless = HOPELESS_STATUS - may_change
        self._connect = connect
        self._on_reconnect = on_reconnect
        self._first_delay = first_delay
        self._max_delay = max_delay
        self._home: Home | None = None  # set by the first step
        self._delay = 0.0  # most seconds before the next attempt; 0: at once
        self._next_at = 0.0  # loop time of the next attempt
        self._client: ClientBase[T, Any] | None = None
        self._made_at = 0.0  # loop time at which it was connected
        self._lost_at: float | None = None  # loop time; None before the first loss
        self._warned = False  # a WARNING was logged for this outage
        self._connecting: asyncio.Task[None] | None = None  # connects, for all steps
        self._steps = 0  # number of steps that wait for it
        self._closed = False
        self._schema: tuple[str | None] | None = None  # hash of the server's schema on the last connection

    @property
    def client(self) -> ClientBase[T, Any] | None:
        """The current client, for sending; None while there is no connection."""
        return self._client

    def __repr__(self) -> str:
        if self._closed:
            return "<Stream, closed>"
        if self._client is not None:
            return f"<Stream, {self._client!r}>"
        if self._home is None:
            return "<Stream, not connected: iterate over it with `async for`>"
        return "<Stream, not connected now>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._check_home("a step of a stream")
        while not self._closed:
            client = self._client
            is_told = self._connecting is None or self._connecting is asyncio.current_task()
            if client is None or not is_told:
                await self._be_connected()
                continue  # it may have been closed meanwhile
            try:
                return await client.recv()
            except ConnectionClosed as error:
                await self._lose(client, error)
            except SchemaMismatch:
                await self.aclose()
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream and its connection, in any state. May be called again."""
        if self._home is not None:
            self._check_home("stream.aclose()")
        self._closed = True
        client, self._client = self._client, None
        task = self._connecting
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        else:
            task = None
        try:
            if client is not None:
                await client.close()
        finally:
            if task is not None and not task.done():
                await asyncio.wait({task})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- private ---

    def _check_home(self, what: str) -> None:
        if self._home is None:
            self._home = Home(running_loop("WsClient.stream()"))
        self._home.refuse_others(what)

    async def _be_connected(self) -> None:
        """Wait until there is a connection, or an attempt has failed. One task serves all steps."""
        task = self._connecting
        if task is None:
            task = self._connecting = asyncio.create_task(self._reconnect())
            task.add_done_callback(self._connecting_ended)
        self._steps += 1
        try:
            await asyncio.wait({task})
        finally:
            self._steps -= 1
            if not self._steps and not task.done():  # no step waits for it any more
                task.cancel()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def _connecting_ended(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved

    async def _reconnect(self) -> None:
        wait = self._next_at - self._now()
        if wait > 0:
            await asyncio.sleep(wait)
        try:
            client = await self._connect()
        except SchemaMismatch:
            self._closed = True
            raise
        except (IoError, ConnectionClosed, WebSocketError) as error:
            if self._is_hopeless(error):
                self._closed = True
                raise
            self._back_off(error)
            return
        if self._closed:  # closed meanwhile
            await client.close()
            return
        self._client = client
        self._made_at = self._now()
        self._compare(client.schema.down)
        if self._lost_at is not None:
            away, self._lost_at = self._made_at - self._lost_at, None
            _log.info("reconnected after %.1f s", away)
            await self._tell(away)
        elif self._warned:
            _log.info("connected")

    def _compare(self, down: SchemaUse) -> None:
        """Log if the server sends another schema than on the previous connection."""
        theirs = None if down.theirs is None else down.theirs.hash
        if self._schema is not None and self._schema != (theirs,):
            _log.info("the server sends another schema than before: %s, %s", theirs, down.how)
        self._schema = (theirs,)

    async def _tell(self, away: float) -> None:
        if self._on_reconnect is not None:
            told = self._on_reconnect(away)
            if inspect.isawaitable(told):
                await told

    async def _lose(self, client: ClientBase[T, Any], error: ConnectionClosed) -> None:
        if self._client is not client:
            return  # another step or `aclose` has handled it
        self._client = None
        now = self._now()
        if self._lost_at is None:
            self._lost_at = now
        is_terminal = error.code in self._terminal
        if is_terminal:
            self._closed = True
        elif now - self._made_at >= max(HELD_S, self._delay):
            self._warned = False  # the next loss is another outage
            self._delay = 0.0
            self._next_at = now
            self._report(error, "reconnecting at once")
        else:
            self._back_off(error)
        await client.close()
        if is_terminal:
            raise error

    def _back_off(self, error: ComError) -> None:
        self._delay = min(max(self._first_delay, 2 * self._delay), self._max_delay)
        wait = self._delay * random.uniform(0.5, 1.0)
        self._next_at = self._now() + wait
        self._report(error, f"next attempt in {wait:.1f} s")

    def _report(self, error: ComError, then: str) -> None:
        _log.log(logging.INFO if self._warned else logging.WARNING, "%s; %s", error, then)
        self._warned = True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _is_hopeless(self, error: ComError) -> bool:
        if isinstance(error, WebSocketError):
            return error.status in self._hopeless
        if isinstance(error, ConnectionClosed):
            return error.code in self._terminal
        return isinstance(error.__cause__, ssl_module.SSLCertVerificationError)
