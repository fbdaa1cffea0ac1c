"""`Stream`: a client that reconnects by itself, and through which a program can send as well."""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, Union

from deli_com.client_base import OF_CLIENTS, ClientBase
from deli_com.errors import ComError, ConnectionClosed, IoError, NotConnected, SchemaMismatch, WebSocketError
from deli_com.ground.callback import answer_of, called
from deli_com.ground.home import Home
from deli_com.ground.kept_tasks import keep
from deli_com.link.hearing import Listeners, OnGap
from deli_com.link.shown_as_table import ShownAsTable, figures
from deli_com.link.stream_stats import StreamStats, Totals
from deli_com.net.backoff import Backoff
from deli_com.net.options import checked, one_checked
from deli_com.opening import running_loop
from deli_com.schema.control import Gap
from deli_com.schema.terms import PeerSchema, SchemaUse, silent
from deli_com.typed import Down, Up

__all__ = ["OnDisconnected", "OnLinked", "OnReconnect", "Stream", "StreamStats"]

OnReconnect: TypeAlias = Callable[[float], Union[Awaitable[None], None]]
OnLinked: TypeAlias = Callable[[], object]
OnDisconnected: TypeAlias = Callable[[ComError], object]

_log = logging.getLogger("deli_com.client")

# Answers that the same request will get again: reconnecting would only hammer the server.
HOPELESS_STATUS = frozenset({400, 401, 403, 404, 405, 410, 426, 428})
# Close codes that say the same: policy violation, and 400, 401 and 403 of HTTP in the private range.
TERMINAL_CODES = frozenset({1008, 4400, 4401, 4403})
UNAUTHORIZED = frozenset({401, 4401})  # another token may be let in
NORMAL = 1000  # RFC 6455 section 7.4.1


def _close(client: ClientBase[Any, Any]) -> None:
    if not client._is_ended():
        keep(client.loop, client.close())


class Stream(ShownAsTable, Generic[Down, Up]):
    """A link to one server; it reconnects when the connection is lost.

    ::

        async with WsClient[Status, Command].stream("ws://robot:8080") as link:
            async for status in link:
                link.send_nowait(Command(0.5))

    When a connection ends, normally or not, the stream reconnects: at once if the connection lasted for at
    least the last delay, and at least 1 s; else after a delay that doubles from `first_delay` to `max_delay`.
    Each delay is drawn at random from its upper half (jitter), so that a thousand clients of a restarted
    server do not reconnect at the same moment. Received values do not reset the delay.

    A stream that is only iterated over connects while a step waits. One that the program sends through, or
    that has `on_connect` or `on_disconnect`, keeps its link by itself, from the first step, send or
    ``async with`` on.

    A stream that nothing refers to any more, as after a ``break``, closes its connection. ``async with``
    closes it at the end of the block.

    Cancelling a step loses no value. Several tasks may iterate: they share one connection, and each value
    goes to one of them. The stream belongs to the event loop of the first step.

    The first failure of an outage is logged as a WARNING by ``deli_com.client``, with the cause and the next
    attempt; further failures and the reconnect are logged as INFO.

    Parameters
    ----------
    connect : callable
        Opens a client; called for each connection.
    on_connect, on_disconnect, on_gap : callable, optional
        See the methods of the same names.
    on_reconnect : callable, optional
        ``(seconds_away)``, may be async; called after a reconnect, before the first value. Values sent in the
        meantime are lost.
    first_delay, max_delay : float
        Seconds.
    terminal : collection of int, optional
        Close codes that end the stream. None: 1008, 4400, 4403, and 4401 unless `renews`.
    renews : bool
        Each attempt uses new headers, so 401 does not end the stream.
    has_up : bool
        Something can be sent: for `schema` before the first connection.
    call : str
        What made the stream, for error texts.

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
        From any call that acts: in another thread, event loop or process than that of the first step.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ClientBase[Down, Up]]],
        *,
        on_connect: OnLinked | None = None,
        on_disconnect: OnDisconnected | None = None,
        on_gap: OnGap | None = None,
        on_reconnect: OnReconnect | None = None,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
        terminal: Collection[int] | None = None,
        renews: bool = False,
        has_up: bool = True,
        call: str = "stream()",
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
        self._call = call
        self._on_reconnect = on_reconnect
        self._on_connect = Listeners("on_connect", _log)
        self._on_disconnect = Listeners("on_disconnect", _log)
        self._on_gap = Listeners("on_gap", _log)
        self._home: Home | None = None  # from the first step on
        self._backoff = Backoff(first_delay, max_delay)
        self._next_at = 0.0  # loop time of the next attempt, as drawn
        self._client: ClientBase[Down, Up] | None = None
        self._linked: ClientBase[Down, Up] | None = None  # for which on_disconnect is owed
        self._former: ClientBase[Down, Up] | None = None  # lost, with values that were not received yet
        self._made_at = 0.0  # loop time at which it was connected
        self._lost_at: float | None = None  # loop time; None while nothing was lost yet
        self._warned = False  # of this outage
        self._connecting: asyncio.Task[None] | None = None  # waits and connects, for all steps
        self._steps = 0  # that wait for it
        self._keeps = False  # the link is kept though no step waits
        self._keeper: asyncio.Task[None] | None = None  # that does so
        self._failure: BaseException | None = None  # that no step has raised yet
        self._closed = False
        self._hash: tuple[str | None] | None = None  # of the schema of the server's last
        self._schema = silent(has_up)
        self._connections = 0
        self._away_s = 0.0
        self._link_gaps = 0
        self._past = Totals()
        if on_connect is not None:
            self.on_connect(on_connect)
        if on_disconnect is not None:
            self.on_disconnect(on_disconnect)
        if on_gap is not None:
            self.on_gap(on_gap)

    # --- what the program is told ----------------------------------------------------------

    def on_connect(self, function: OnLinked, /) -> OnLinked:
        """Call `function()`, may be async, for each connection: before its first value is given out.

        What it sends goes out before anything else. What it raises is logged.
        """
        self._check_elsewhere("stream.on_connect()")
        self._keeps = True
        return self._on_connect.add(function)

    def on_disconnect(self, function: OnDisconnected, /) -> OnDisconnected:
        """Call `function(cause)`, may be async, as soon as a connection has ended, once for each.

        It is called by the event loop, whatever the program awaits at that moment. Values that came before
        may still be given out afterwards; `connected` is False by then.

        Parameters
        ----------
        function : callable
            Its argument is the error that ended the connection: `ConnectionClosed`, with ``code`` and
            ``reason``, or `SchemaMismatch`. What it raises is logged.
        """
        self._check_elsewhere("stream.on_disconnect()")
        self._keeps = True
        return self._on_disconnect.add(function)

    def on_gap(self, function: OnGap, /) -> OnGap:
        """Call `function(gap)`, may be async, where values are missing, before the next ones are given out.

        Beside the gaps of `ClientBase.on_gap` there is one after each reconnect: its ``name`` is ``"*"``, its
        ``reason`` ``"link"``, and ``seconds`` is how long there was no connection.
        """
        self._check_elsewhere("stream.on_gap()")
        return self._on_gap.add(function)

    # --- state -----------------------------------------------------------------------------

    @property
    def client(self) -> ClientBase[Down, Up] | None:
        """The current client; None while there is no connection."""
        return self._client

    @property
    def connected(self) -> bool:
        """Whether there is a connection now; False from the moment on at which its end is known."""
        return self._client is not None and not self._client._is_ended()

    @property
    def schema(self) -> PeerSchema:
        """What is known of the server's schemas, as ``client.schema``: of the last connection."""
        return self._schema if self._client is None else self._client.schema

    def stats(self) -> StreamStats:
        """Return counters over all connections, and what is held now. See `StreamStats`."""
        if self._home is not None:
            self._home.refuse_child("stream.stats()")
        current = None if self._client is None else self._client.stats()
        return self._past.with_current(
            current, self._link_gaps, self._connections, self._away_s + self._away()
        )

    def _away(self) -> float:
        if self._lost_at is None or self._closed or self._home is None:
            return 0.0
        return float(self._home.loop.time() - self._lost_at)

    def __repr__(self) -> str:
        if self._closed:
            return "<Stream, closed>"
        if self._client is not None:
            return f"<Stream, {self._client!r}>"
        if self._home is None:
            return "<Stream, not connected: iterate over it with `async for`>"
        return "<Stream, not connected now>"

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        state = "closed" if self._closed else "connected" if self.connected else "not connected"
        rows: list[tuple[str, object]] = [("state", state), ("schema", self.schema.down.how)]
        return "Stream", rows + figures(self.stats(), "connections", "away_s", "gaps", *OF_CLIENTS)

    # --- sending ---------------------------------------------------------------------------

    def send_nowait(self, value: Up, /) -> None:
        """Queue `value` for the server, and return.

        Raises
        ------
        NotConnected
            There is no connection now. `value` is not kept; a connection is being made.
        EncodeError, MessageTooLarge, BacklogFull
            As of a client's `send_nowait`.
        """
        self._check_home("stream.send_nowait()")
        self._keep_link()
        client = self._client_now()
        try:
            client.send_nowait(value)
        except ConnectionClosed as error:
            raise NotConnected(f"the connection has just ended: {error}") from error

    async def send(self, value: Up, /, *, wait: bool = False) -> None:
        """Queue `value` as `send_nowait` does, then keep the server's pace as a client's ``send`` does.

        Parameters
        ----------
        value : Up
        wait : bool
            While there is no connection, wait for the next one. `value` goes over that.

        Raises
        ------
        NotConnected
            There is no connection now, and `wait` is False. Or the connection was lost while this call kept
            its pace: then it is not known whether the server has got `value`, and it is not sent again.
        """
        self._check_home("stream.send()")
        self._keep_link()
        while wait and not self.connected and not self._closed:
            if (lost := self._client) is None:
                await self._be_connected()
            else:
                await self._lose(lost, _end_of(lost))
        client = self._client_now()
        try:
            await client.send(value)
        except ConnectionClosed as error:
            raise NotConnected(f"the connection has just ended: {error}") from error
        if client._is_ended() and not client._is_drained():
            raise NotConnected("the connection was lost while the message was on its way")

    def _client_now(self) -> ClientBase[Down, Up]:
        if self._client is not None and not self._client._is_ended():
            return self._client
        if self._closed:
            self._raise_failure()
            raise NotConnected("the stream has ended")
        if self._lost_at is None:
            raise NotConnected("no connection has been made yet")
        raise NotConnected(f"the connection was lost {max(0.0, self._now() - self._lost_at):.1f} s ago")

    # --- receiving -------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Down:
        self._check_home("a step of a stream")
        if self._keeps:
            self._keep_link()
        while not self._closed or self._former is not None:
            former = self._former
            if former is not None:
                try:
                    return await former.recv()
                except (ConnectionClosed, SchemaMismatch):
                    if self._former is former:
                        self._former = None
                    continue
            client = self._client
            if client is None or not self._is_told():
                await self._be_connected()
                continue  # it may have been closed meanwhile
            try:
                return await client.recv()
            except (ConnectionClosed, SchemaMismatch) as error:
                await self._lose(client, error)
        self._raise_failure()
        raise StopAsyncIteration

    async def wait_live(self) -> None:
        """Wait until all that the server had retained has come, over the current or the next connection.

        Raises
        ------
        ConnectionClosed
            The connection ended before that.
        RuntimeError
            The server does not exchange schemas, so it does not tell; see `ClientBase.wait_live`.
        """
        self._check_home("stream.wait_live()")
        while not self._closed:
            client = self._client
            if client is not None and self._is_told():
                await client.wait_live()
                return
            await self._be_connected()
        self._raise_failure()
        raise ConnectionClosed(NORMAL, "the stream is closed")

    # --- the end ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the stream and its connection, in any state. May be called again."""
        if self._home is not None:
            self._check_home("stream.aclose()")
        self._closed = True
        self._former = None
        client, self._client = self._client, None
        tasks = {self._connecting, self._keeper} - {None, asyncio.current_task()}
        for task in tasks:
            task.cancel()  # type: ignore[union-attr]
        try:
            if client is not None:
                self._tell_lost(client, ConnectionClosed(NORMAL, "closed by this side"))
                await client.close()
                self._count(client)
        finally:
            if left := {task for task in tasks if task is not None and not task.done()}:
                await asyncio.wait(left)

    async def __aenter__(self) -> Self:
        if self._keeps:
            self._check_home("async with a stream")
            self._keep_link()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # It was dropped without `aclose`, as after a `break`, so its connection is ended here.
        client, home = getattr(self, "_client", None), getattr(self, "_home", None)
        if client is not None and home is not None and not home.is_foreign and not home.loop.is_closed():
            home.loop.call_soon_threadsafe(_close, client)

    # --- private ---

    def _check_home(self, what: str) -> None:
        if self._home is None:
            self._home = Home(running_loop(self._call))
        self._home.refuse_others(what)

    def _check_elsewhere(self, what: str) -> None:
        # For what may be called before there is a loop, and between two runs of it.
        if self._home is not None:
            self._home.refuse_elsewhere(what)

    def _is_told(self) -> bool:
        """Whether the program knows of the current connection; `on_connect` and its like do."""
        return self._connecting is None or self._connecting is asyncio.current_task()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _keep_link(self) -> None:
        """From here on a connection is made, and made again, whether a step waits or not."""
        self._keeps = True
        if self._keeper is None and not self._closed:
            self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._closed:
            client = self._client
            if client is None or self._connecting is not None:
                task = self._attempt()
                await asyncio.wait({task})
                error = None if task.cancelled() else task.exception()
                if error is not None and not self._closed:  # what `headers` raised
                    self._back_off(error)
                continue
            await client.watchers.until(client._is_ended)
            await self._lose(client, _end_of(client))

    async def _be_connected(self) -> None:
        """Wait until there is a connection, or an attempt has failed. One task does it for all steps."""
        task = self._attempt()
        self._steps += 1
        try:
            await asyncio.wait({task})
        finally:
            self._steps -= 1
            if not self._steps and self._keeper is None and not task.done():  # no step waits for it any more
                task.cancel()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def _attempt(self) -> asyncio.Task[None]:
        task = self._connecting
        if task is None:
            task = self._connecting = asyncio.create_task(self._reconnect())
            task.add_done_callback(self._connecting_ended)
        return task

    def _connecting_ended(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not self._steps and not self._closed:
            self._failure = error  # for the next step

    async def _reconnect(self) -> None:
        wait = self._next_at - self._now()
        if wait > 0:
            await asyncio.sleep(wait)
        try:
            client = await self._connect()
        except (SchemaMismatch, IoError, ConnectionClosed, WebSocketError) as error:
            if self._is_hopeless(error):
                self._closed = True
                if not self._steps:
                    self._failure = error  # for the next step
                raise
            self._back_off(error)
            return
        if self._closed:  # meanwhile
            await client.close()
            return
        self._client = self._linked = client
        self._made_at = self._now()
        self._connections += 1
        self._schema = client.schema
        self._compare(client.schema.down)
        away = None
        if self._lost_at is not None:
            away, self._lost_at = self._made_at - self._lost_at, None
            self._away_s += away
            self._link_gaps += 1
            _log.info("connected again after %.1f s", away)
            self._on_gap.call(Gap("*", 0, 0, "link", away))
        elif self._warned:
            _log.info("connected")
        if self._on_gap:
            client.on_gap(self._on_gap.call)
        await self._on_connect.run()
        if away is not None:
            await self._tell(away)

    def _compare(self, down: SchemaUse) -> None:
        """Say so if the server sends another schema than on the connection before."""
        theirs = None if down.theirs is None else down.theirs.hash
        if self._hash is not None and self._hash != (theirs,):
            _log.info("the server sends another schema than before: %s, %s", theirs, down.how)
        self._hash = (theirs,)

    async def _tell(self, away: float) -> None:
        if self._on_reconnect is not None:
            told = called(self._on_reconnect, away)
            if inspect.isawaitable(told):
                await answer_of(told)

    def _tell_lost(self, client: ClientBase[Down, Up], error: ComError) -> None:
        if self._linked is client:
            self._linked = None
            self._on_disconnect.call(error)

    async def _lose(self, client: ClientBase[Down, Up], error: ComError) -> None:
        if self._client is not client:
            return  # another step has seen it, or the keeper, or `aclose`
        self._client = None
        self._former = client  # what it has received is given out first
        self._tell_lost(client, error)
        if self._closed:  # by `on_disconnect`
            await client.close()
            return
        now = self._now()
        if self._lost_at is None:
            self._lost_at = now
        is_terminal = isinstance(error, SchemaMismatch) or self._is_terminal(error)
        if is_terminal:
            self._closed = True
            self._failure = error  # for this step, or the next one
        elif self._backoff.lasted(now - self._made_at):
            self._warned = False  # what comes is another outage
            self._next_at = now
            self._report(error, "connecting again at once")
        else:
            self._back_off(error)
        await client.close()
        self._count(client)

    def _count(self, client: ClientBase[Down, Up]) -> None:
        self._past.add(client.stats())

    def _back_off(self, error: BaseException) -> None:
        wait = self._backoff.next()
        self._next_at = self._now() + wait
        self._report(error, f"next attempt in {wait:.1f} s")

    def _report(self, error: BaseException, then: str) -> None:
        _log.log(logging.INFO if self._warned else logging.WARNING, "%s; %s", error, then)
        self._warned = True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _is_hopeless(self, error: ComError) -> bool:
        if isinstance(error, SchemaMismatch):
            return True
        if isinstance(error, WebSocketError):
            return error.status in self._hopeless
        return self._is_terminal(error) or isinstance(error.__cause__, ssl_module.SSLCertVerificationError)

    def _is_terminal(self, error: ComError) -> bool:
        return isinstance(error, ConnectionClosed) and error.code in self._terminal


def _end_of(client: ClientBase[Any, Any]) -> ComError:
    """What has ended it."""
    try:
        client._raise_if_ended()
    except (ConnectionClosed, SchemaMismatch) as error:
        return error
    raise AssertionError("it has not ended")
