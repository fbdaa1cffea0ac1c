"""The common part of `WsClient` and the TCP `Client`: everything except connecting."""

from __future__ import annotations

import asyncio
import errno
import math
import warnings
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from deli_com.errors import ConnectionClosed, IoError
from deli_com.ground.waiter import Waiter
from deli_com.link.endpoint import Endpoint
from deli_com.link.hearing import Hearing, OnGap
from deli_com.link.shown_as_table import ShownAsTable, figures
from deli_com.link.stats import ServerStats
from deli_com.log.log import Log
from deli_com.recordable import Recordable, RecordEach, RecordTo
from deli_com.schema.terms import PeerSchema, Use, silent, terms_for
from deli_com.typed import Down, Framing, Typed, Up

if TYPE_CHECKING:
    from deli_com.recording.live import Early

__all__ = ["ClientBase"]

NORMAL = 1000  # RFC 6455 section 7.4.1
DRAIN_S = 1.0
CLOSE_SLACK_S = 0.5
OF_CLIENTS = (
    "messages_in",
    "messages_out",
    "inbox_bytes",
    "queued_bytes",
    "skipped",
    "superseded",
    "unknown",
)
MAX_QUEUED = 16 << 20  # bytes that a client's own sends may have queued


class ClientBase(Typed, Recordable, ShownAsTable, Endpoint[Up, Down], Generic[Down, Up]):
    """A typed client; subclasses connect it. What it sends is `Up`, what it receives `Down`."""

    _opened = False
    _closing: Waiter | None = None

    _made_by = "connect"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"write: await {type(self).__name__}.connect(addr)")

    def _start(self, framing: Framing, down: Any, up: Any, *, schema: Use | None, **limits: Any) -> None:
        """Initialise in place of ``__init__``, in the loop's thread.

        A server that does not read slows down sends (`BacklogFull`, pacing), but is not disconnected.
        """
        Endpoint.__init__(
            self,
            asyncio.get_running_loop(),
            Log(framing),
            up,
            down,
            is_client=True,
            max_backlog=MAX_QUEUED,
            max_queued=MAX_QUEUED,
            progress_timeout=math.inf,
            **limits,
        )
        self._hearing = Hearing(self.logger)
        self.peer_schema = silent(up is not None)
        self.terms = terms_for(up, down, is_client=True, use=schema, logger=self.logger)

    @property
    def schema(self) -> PeerSchema:
        """The schemas of the connection: ``client.schema.down.how`` and ``.theirs``, and ``up``."""
        return self.peer_schema

    # --- what the server tells beside values ---

    def on_gap(self, function: OnGap, /) -> OnGap:
        """Call `function(gap)` where the server has left messages out because this client was behind.

        It is called on the event loop, before the next message of the class can be received; gaps are told in
        the order in which they come. A coroutine function becomes a task. What it raises is logged.
        Servers tell only clients that exchange schemas: over TCP ``connect(schema="check")``.

        Parameters
        ----------
        function : callable
            Its argument is a `Gap`: ``name`` of the class, how many were ``skipped`` and ``superseded``,
            ``reason`` and ``seconds``.

        Returns
        -------
        callable
            `function`.

        Raises
        ------
        RuntimeError
            In another thread, or another event loop than the client's.
        """
        self._check_home("client.on_gap()")
        assert self._hearing is not None
        return self._hearing.listen(function)

    async def wait_live(self) -> None:
        """Wait until everything has come that the server had retained when this client connected.

        Those values can be received then, without waiting. If they may be more than ``max_inbox`` bytes,
        another task has to receive meanwhile.

        Raises
        ------
        ConnectionClosed
            The connection ended before that.
        RuntimeError
            The server does not exchange schemas, or was not asked to (``schema=None``, the default over TCP):
            it does not tell. Or in another thread, or another event loop than the client's.
        """
        self._check_running("client.wait_live()")
        hearing = self._hearing
        assert hearing is not None
        if not hearing.is_told:
            why = "the server does not exchange schemas"
            if self.terms is None:
                why = 'schemas are not exchanged; connect(schema="check") asks for that'
            raise RuntimeError(f"wait_live(): the end of the retained values is not reported: {why}")
        await self.watchers.until(lambda: hearing.is_live or self._is_ended())
        if not hearing.is_live:
            self._raise_if_ended()

    def stats(self) -> ServerStats:
        """Return counters, and what is held now, as `ServerStats`. Legal from any thread."""
        counted = super().stats()
        hearing = self._hearing
        if hearing is None or not hearing.gaps:
            return counted
        return replace(
            counted,
            skipped=counted.skipped + hearing.skipped,
            superseded=counted.superseded + hearing.superseded,
            gaps=hearing.gaps,
            gap_skipped=hearing.skipped,
            gap_superseded=hearing.superseded,
        )

    async def _agree(self, target: object, deadline: float | None) -> None:
        """Wait until it is known how the server's values are read.

        Parameters
        ----------
        target : object
            The server, for the text of an error.
        deadline : float or None
            On the clock of the loop.

        Raises
        ------
        SchemaMismatch, ConnectionClosed
            The error that has ended the connection meanwhile.
        IoError
            The deadline has passed (also a `TimeoutError`).
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self.watchers.until(lambda: self.is_settled or self._is_ended())
            self._raise_if_ended()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                late = TimeoutError(errno.ETIMEDOUT, "out of time, waiting for the server's schema")
                raise IoError.of(late, f"connect to {target}") from None
            raise

    async def _record_connection(self, where: RecordTo | RecordEach | None, early: Early | None) -> None:
        """Start the recording that ``connect(record=...)`` asks for; without it, no connection."""
        try:
            self._record_from_start(where, early)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send queued messages, then close the connection. May be called again.

        Values that have arrived can still be received. After that, `recv` raises `ConnectionClosed`, and
        ``async for`` ends.

        Raises
        ------
        RuntimeError
            Called in another thread, or another event loop than the client's. Nothing has changed then.
        """
        self._check_running("client.close()")
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        self._closing = Waiter(self.loop)
        try:
            self._lift_bounds()
            self.flush()
            await self.watchers.until_at_most(lambda: self._is_drained() or self._is_ended(), DRAIN_S)
            for connection in self._connections():
                connection._finish(NORMAL, "")
            self._end(ConnectionClosed(NORMAL, "closed by this side"), True)
            await self.watchers.until_at_most(
                lambda: not self._connections(), self.close_timeout + CLOSE_SLACK_S
            )
        finally:
            try:
                self._end(ConnectionClosed(NORMAL, "closed by this side"), True)
                for connection in self._connections():
                    connection._abort()
                await self._end_recordings()
            finally:
                self._closing.succeed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._opened and self._closing is None and not self._is_ended() and not self._is_foreign():
            _warn(f"unclosed client {self!r}", ResourceWarning, source=self)
            if not self.loop.is_closed():
                for connection in self._connections():
                    connection._abort()

    def __repr__(self) -> str:
        if not self._opened:
            return f"<{type(self).__name__}, not connected>"
        return f"<{type(self).__name__}, {'closed' if self._is_ended() else 'open'}>"

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        if not self._opened:
            return f"{type(self).__name__}, not connected", []
        rows: list[tuple[str, object]] = [
            ("state", "closed" if self._is_ended() else "open"),
            ("schema", self.schema.down.how),
        ]
        return type(self).__name__, rows + figures(self.stats(), *OF_CLIENTS)
