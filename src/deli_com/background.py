"""`serve_background`: a server with its own event loop in a thread, for programs without asyncio.

::

    with serve_background(WsServer[Tick, None].bind("127.0.0.1:8765")) as server:
        while True:
            server.send(read_sensor())

A thread that sends encodes the value itself and hands the bytes to the loop (`fanout/handoff`). One that
receives takes the value out of the server's inbox itself (`receive/taker`). The thread of the loop is
`server_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Hashable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from typing_extensions import Unpack

from deli_com.errors import ConnectionClosed
from deli_com.link.group import Group
from deli_com.link.peer import Peer
from deli_com.link.shown_as_table import ShownAsTable
from deli_com.link.stats import ServerStats
from deli_com.net.address import Address
from deli_com.net.options import one_checked
from deli_com.opening import Opening
from deli_com.receive.taker import Taker
from deli_com.recording.where import RecordOptions
from deli_com.server_base import DRAIN_S, GOING_AWAY, ServerBase
from deli_com.server_thread import ServerThread
from deli_com.typed import Down, Up

if TYPE_CHECKING:
    from deli_com.recording.live import Box, LiveRecorder
else:  # as in `recordable`
    Box = LiveRecorder = Any

__all__ = ["Background", "serve_background"]

P = ParamSpec("P")
R = TypeVar("R")


def serve_background(
    opening: Coroutine[Any, Any, ServerBase[Down, Up]],
    /,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Background[Down, Up]:
    """Run a server in a thread of its own; use the result in ``with``.

    Parameters
    ----------
    opening : Opening
        The result of ``WsServer[T].bind(addr, ...)`` or ``Server[T].bind(addr, ...)``.
    loop_factory : callable, optional
        Makes the event loop, for example ``uvloop.new_event_loop``. Default: asyncio's.

    Returns
    -------
    Background
        ``with`` (or `Background.start`) binds it, and raises the errors of ``bind``.

    Raises
    ------
    TypeError
        `opening` is not the result of a ``bind`` call.
    """
    if not isinstance(opening, Opening):
        raise TypeError(f"serve_background takes the result of WsServer[T].bind(addr), got {opening!r}")
    if opening._makes is not None and not issubclass(opening._makes, ServerBase):
        opening.close()
        raise TypeError(
            f"serve_background takes the result of WsServer[T].bind(addr) or Server[T].bind(addr), got "
            f"{opening!r}: a client runs in an event loop of yours, for example in asyncio.run"
        )
    try:
        one_checked("loop_factory", loop_factory)
    except TypeError:
        opening.close()
        raise
    return Background(opening, loop_factory)


class Background(ShownAsTable, Generic[Down, Up]):
    """A server whose event loop runs in a thread of its own; made by `serve_background`.

    1. Every method may be called from any thread but the loop's; `send_nowait`, `client_count` and
       `local_addr` from that one too. Order is kept for each thread that sends.
    2. `recv`, `recv_from`, `recv_many` and iteration share the server's inbox. Each value goes to one of
       them. A call that times out or is interrupted loses no value.
    3. The end of ``with`` closes the server and joins the thread, whatever happened in the block.
    4. The thread is a daemon: a server that was not closed does not keep the program alive, and is closed
       when the interpreter exits.
    5. A forked child has no such thread: every call there raises `RuntimeError`, except `close`, which does
       nothing. The parent's server keeps running.
    """

    def __init__(
        self,
        opening: Coroutine[Any, Any, ServerBase[Down, Up]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._thread = ServerThread(opening, loop_factory)
        self._taker: Taker[Up] | None = None  # once it is bound

    # --- starting and ending ---------------------------------------------------------------

    def start(self) -> Self:
        """Bind the server, as entering ``with`` does, for programs that call `close` themselves.

        Raises
        ------
        IoError
            The address is in use, may not be bound, or does not resolve.
        RuntimeError
            It was started before.
        """
        self._thread.start(self)
        assert self._thread.server is not None  # it is bound
        self._taker = Taker(self._thread.server.inbox)
        return self

    def close(self, *, drain: float = DRAIN_S) -> None:
        """Send queued messages, close every connection, and end the thread. May be called again.

        Received values can still be taken. After that `recv` raises `ConnectionClosed`, and iteration ends.

        Parameters
        ----------
        drain : float
            Seconds to wait until queued messages are sent. After that, the clients' answers are awaited for
            ``close_timeout`` seconds.

        Raises
        ------
        RuntimeError
            The event loop has failed and no call has raised that yet, or the loop does not end.
        """
        one_checked("drain", drain)
        self._thread.close(drain)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RuntimeError as problem:
            if error is None:
                raise
            error.add_note(f"closing the background server failed too: {problem}")

    def __repr__(self) -> str:
        return repr(self._thread)

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        server = self._thread.server
        if server is None:
            return repr(self)[1:-1], []
        title, rows = server._table()
        return f"Background {title}", rows

    # --- sending ---------------------------------------------------------------------------

    def send_nowait(self, value: Down, /) -> None:
        """Queue `value` for every client connected now.

        Waits, for 10 s at most, only while the hand-over to the loop is full (16 MiB or 65,536 messages).

        Raises
        ------
        EncodeError, MessageTooLarge
            `value` is not of the type, or too large.
        BacklogFull
            The hand-over stayed full.
        ConnectionClosed
            The server is closed.
        """
        self._thread.opened().send_nowait(value)

    def send(self, value: Down, /) -> None:
        """Queue `value` as `send_nowait` does, then wait for slow clients as ``await server.send`` does.

        A producer in a tight loop is slowed down to the pace of the clients that keep up. It returns at once
        if at most 1 MiB is queued.
        """
        server = self._thread.opened()
        server.send_nowait(value)
        if server._must_pace() and not self._thread.is_here():
            try:
                self.run(server._pace)
            except ConnectionClosed:
                pass  # closed meanwhile; the message was already queued

    # --- receiving -------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Up:
        """Wait for one value from any client.

        Parameters
        ----------
        timeout : float, optional
            Seconds; 0 takes only a value that has already arrived.

        Raises
        ------
        TimeoutError
            No value arrived in time. No value is lost.
        ConnectionClosed
            The server is closed, and every value has been taken.
        TypeError
            The server receives nothing (its Up is None).
        """
        return self._received("recv", timeout, lambda taker, timeout: taker.recv(timeout))

    def recv_from(self, timeout: float | None = None) -> tuple[Peer[Down, Any], Up]:
        """Wait for one value as `recv` does; return ``(peer, value)``.

        Of a peer, `Peer.send_nowait` may be called from any thread; use `run` for the rest.
        """
        return self._received("recv_from", timeout, lambda taker, timeout: taker.recv_from(timeout))

    def recv_many(self, max: int, /, timeout: float | None = None) -> list[Up]:
        """Wait for one value as `recv` does; return a list of the available values, at most `max`."""
        max = one_checked("max", max)
        return self._received("recv_many", timeout, lambda taker, timeout: taker.recv_many(max, timeout))

    def __iter__(self) -> Iterator[Up]:
        """Iterate over received values until the server is closed."""
        return self

    def __next__(self) -> Up:
        try:
            return self.recv()
        except ConnectionClosed:
            raise StopIteration from None

    def _received(
        self, what: str, timeout: float | None, receive: Callable[[Taker[Up], float | None], R]
    ) -> R:
        if timeout is not None:
            timeout = one_checked("timeout", timeout)
        server, taker = self._thread.opened(), self._taker
        assert taker is not None  # else `opened` has raised
        if server.up is None:
            raise TypeError(f"{self!r} is push only (its Up is None): nothing can be received")
        self._thread.refuse_own_thread(what)
        if timeout is not None and timeout <= 0 and not taker.has_values() and not server._is_ended():
            with contextlib.suppress(ConnectionClosed):
                self.run(asyncio.sleep, 0)  # it may not have had the time to look
        try:
            return receive(taker, timeout)
        except ConnectionClosed:
            self._thread.check()
            raise

    # Called by the thread.

    def _loop_ended(self) -> None:
        server = self._thread.server
        if server is not None:  # wakes waiting threads, if closing the server has failed
            with contextlib.suppress(Exception):
                server._end(ConnectionClosed(GOING_AWAY, "the server is closed"), True)

    def _forked(self) -> None:
        self._thread.forked()

    # --- everything else -------------------------------------------------------------------

    @property
    def server(self) -> ServerBase[Down, Up]:
        """The server itself. Call only methods that are allowed in any thread; use `run` for others."""
        return self._thread.opened()

    def local_addr(self) -> Address:
        """Return the address that the server is bound to; the first one if there are several."""
        return self._thread.opened().local_addr()

    def local_addrs(self) -> tuple[Address, ...]:
        """Return all addresses that the server is bound to."""
        return self._thread.opened().local_addrs()

    def client_count(self) -> int:
        """Return the number of connected clients."""
        return self._thread.opened().client_count()

    @property
    def clients(self) -> frozenset[Peer[Down, Any]]:
        """The set of clients that are connected now. For most of their methods use `run`."""
        return self.run(_clients_of, self._thread.opened())

    def stats(self) -> ServerStats:
        """Return counters, and what is held now. See `ServerStats`."""
        return self._thread.opened().stats()

    def group(self, name: Hashable, /) -> Group[Down]:
        """Return the group of this name; it is created if there is none.

        Its `Group.send_nowait` may be called from any thread; for all else use `run`:
        ``server.run(group.add, peer)``.
        """
        return self.run(self._thread.opened().group, name)

    def forget(self, key: Any = None, /, type: type[Any] | None = None) -> bool:
        """Drop the newest message of a key; see `WsServer.forget`. Return whether there was one."""
        return self.run(self._thread.opened().forget, key, type)

    def flush(self) -> None:
        """Send queued messages now, as far as the sockets accept them."""
        self.run(self._thread.opened().flush)

    def record(self, path: str | os.PathLike[str], **options: Unpack[RecordOptions]) -> LiveRecorder:
        """Record what is sent and received from now on into an MCAP file; see `WsServer.record`.

        Use it in ``with``, in this thread or another one. The file has what the thread that leaves the block
        has sent before.
        """
        return self.run(self._thread.opened().record, path, **options)

    def record_last(self, seconds: float = 60.0, max_bytes: int = 256 << 20) -> Box:
        """Keep the messages of the last seconds in memory; see `WsServer.record_last`.

        ``server.run(box.dump, path)`` writes them.
        """
        return self.run(self._thread.opened().record_last, seconds, max_bytes)

    def wait_clients(self, n: int, timeout: float | None = None) -> None:
        """Wait until at least `n` clients are connected.

        Raises
        ------
        TimeoutError
            There were fewer within `timeout` seconds.
        ConnectionClosed
            The server was closed first.
        """
        n, timeout = one_checked("n", n), one_checked("timeout", timeout)
        server = self._thread.opened()

        async def wait() -> None:
            async with asyncio.timeout(timeout):
                await server.wait_clients(n)

        try:
            self.run(wait)
        except TimeoutError:
            raise TimeoutError(f"{self.client_count()} of {n} clients within {timeout} s") from None

    @overload
    def run(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function` in the loop's thread and return its result. A coroutine is awaited there.

        For calls that are allowed only in that thread::

            server.run(server.server.flush)

        Raises
        ------
        ConnectionClosed
            The server is closed, or was closed before the function had ended.
        Exception
            The exception of `function`.
        """
        return self._thread.run(function, args, kwargs)


def _clients_of(server: ServerBase[Down, Up]) -> frozenset[Peer[Down, Any]]:
    return server.clients
