"""`connect_blocking`: a client for programs without asyncio.

::

    with connect_blocking(WsClient[Status, Command], "ws://robot:8080") as robot:
        robot.send(Command(0.5))
        for status in robot:
            ...

The connection is served by an event loop in a thread that all blocking clients of the process share. Values
wait in the client's own inbox, and each receiving thread takes them out of it by itself (`receive/taker`).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, overload

from typing_extensions import Unpack

from deli_com.client_base import ClientBase
from deli_com.errors import ComError, ConnectionClosed
from deli_com.ground.kept_tasks import keep
from deli_com.link.hearing import OnGap
from deli_com.link.shown_as_table import ShownAsTable
from deli_com.link.stats import ServerStats
from deli_com.net.address import AddressLike
from deli_com.net.options import one_checked
from deli_com.receive.taker import Taker, exits
from deli_com.receive.wire_key import wire_key
from deli_com.recording.where import RecordOptions
from deli_com.schema.terms import PeerSchema
from deli_com.shared_loop import shared_loop
from deli_com.tcp.client import Client, TcpConnectOptions
from deli_com.typed import Down, Up
from deli_com.ws.client import ConnectOptions, WsClient
from deli_com.ws.head import HeadersLike

if TYPE_CHECKING:
    from deli_com.recording.live import LiveRecorder
else:  # as in `recordable`
    LiveRecorder = Any

__all__ = ["BlockingClient", "connect_blocking"]

EXIT_S = 1.0  # for one client to close while the interpreter exits

_open: weakref.WeakSet[BlockingClient[Any, Any]] = weakref.WeakSet()


@overload
def connect_blocking(
    client: type[WsClient[Down, Up]],
    /,
    addr: AddressLike = ...,
    *,
    headers: HeadersLike | None = None,
    sock: socket.socket | None = None,
    **options: Unpack[ConnectOptions],
) -> BlockingClient[Down, Up]: ...
@overload
def connect_blocking(
    client: type[Client[Down, Up]],
    /,
    addr: AddressLike = ...,
    *,
    sock: socket.socket | None = None,
    **options: Unpack[TcpConnectOptions],
) -> BlockingClient[Down, Up]: ...
def connect_blocking(client: Any, /, *addr: Any, **options: Any) -> Any:
    """Connect to a server, from a program without asyncio; the connection is there when this returns.

    It may be called in any thread, also in one whose event loop runs, as in a notebook. Such a loop stands
    still while a call of the result waits.

    Parameters
    ----------
    client : type
        ``WsClient[T]``, ``WsClient[Down, Up]``, ``Client[T]`` or ``Client[Down, Up]``.
    addr : str or tuple
        As for ``connect`` of that class.
    **options
        As for ``connect`` of that class.

    Returns
    -------
    BlockingClient
        Use it in ``with``, or call its `close`.

    Raises
    ------
    IoError, WebSocketError, ConnectionClosed, SchemaMismatch, TypeError, ValueError
        As ``connect`` does.
    RuntimeError
        Called on the thread of blocking clients itself, by a function that they have called.
    """
    if not (isinstance(client, type) and issubclass(client, ClientBase)) or client is ClientBase:
        raise TypeError(f"connect_blocking takes WsClient[T] or Client[T], and the address; got {client!r}")
    client.connect(*addr, **options).close()  # type: ignore[attr-defined] # for its errors; nothing has begun
    return BlockingClient(lambda: client.connect(*addr, **options))  # type: ignore[attr-defined]


class BlockingClient(ShownAsTable, Generic[Down, Up]):
    """A connected client whose calls wait; made by `connect_blocking`.

    1. Every method may be called from any thread, several at a time. Each value goes to one of those that
       receive; order is kept for each thread that sends.
    2. A call that times out, or is interrupted by Ctrl-C, loses no value.
    3. What was received and not taken waits in the client's inbox: ``max_inbox`` and ``conflate`` mean the
       same as for `WsClient.connect`.
    4. The end of ``with`` closes the connection. What has arrived can still be received.
    5. In a forked child every call raises `RuntimeError`. The parent's connection is not touched.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._client: ClientBase[Down, Up] | None = None
        self._taker: Taker[Down]
        self._released = False
        self._closing = threading.Lock()
        self._shared = shared_loop()
        try:
            if self._shared.is_here():
                raise RuntimeError("connect_blocking: this is the thread of blocking clients itself")
            self._shared.run(self._connect(connect))
        except BaseException:
            client: ClientBase[Down, Up] | None = getattr(self, "_client", None)
            if client is not None:  # Ctrl-C, and it was connected at that moment
                self._shared.call(_close_soon, client)
            self._release()
            raise
        _open.add(self)

    async def _connect(self, connect: Callable[[], Any]) -> None:
        client = await connect()
        self._client = client
        self._taker = Taker(client.inbox, True)

    # --- sending ---------------------------------------------------------------------------

    def send(self, value: Up, /) -> None:
        """Queue `value` for the server, then keep its pace: wait while more than 1 MiB is queued.

        Raises
        ------
        EncodeError, MessageTooLarge, BacklogFull
            As of `WsClient.send`.
        ConnectionClosed
            The connection has ended.
        """
        client = self._here("send")
        client.send_nowait(value)
        if client._must_pace() and not self._shared.is_here():
            self._shared.run(_paced(client))

    def send_nowait(self, value: Up, /) -> None:
        """Queue `value` for the server, and return."""
        self._here("send_nowait").send_nowait(value)

    # --- receiving -------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Down:
        """Wait for one value.

        Parameters
        ----------
        timeout : float, optional
            Seconds; 0 takes what has arrived.

        Raises
        ------
        TimeoutError
            Nothing came in time. No value is lost.
        ConnectionClosed
            The connection has ended and every value was taken.
        DecodeError
            A message did not decode; the next call returns the next value.
        TypeError
            The server sends nothing that this client could receive.
        """
        if timeout is not None:
            timeout = self._look("recv", timeout)
        elif self._shared.is_here():
            self._refuse("recv")
        return self._taker.recv(timeout)

    def recv_many(self, max: int, /, timeout: float | None = None) -> list[Down]:
        """Wait for one value as `recv` does; return a list of at most `max` values that are there."""
        max = one_checked("max", max)
        if timeout is not None:
            timeout = self._look("recv_many", timeout)
        elif self._shared.is_here():
            self._refuse("recv_many")
        return self._taker.recv_many(max, timeout)

    def latest(self, key: Any = None, /, timeout: float | None = None, *, type: Any = None) -> Down:
        """Return the newest value of a key, of a class with policy ``latest``; wait if there is none yet.

        The value is not taken: `recv` gives it as well, if nothing has replaced it by then. Asked again, it
        gives the same value until a newer one has come. Values of other classes go on waiting for `recv`,
        and if they fill the inbox, reading pauses: a program that only asks for the latest of such a type
        has to receive the others now and then.

        Parameters
        ----------
        key : object
            Value of the key field; a tuple where there are several; None where the class has no key.
        timeout : float, optional
            Seconds; 0 only looks.
        type : type, optional
            The class, where several classes of policy latest are received. None: the first that can have such
            a key.

        Raises
        ------
        TimeoutError
            No value of this key came in time.
        ConnectionClosed
            The connection has ended, and there was none.
        TypeError
            No class has policy ``latest`` and such a key; or ``conflate=False``.
        """
        client = self._here("latest")
        assert client.up is not None
        lane, wire = wire_key(client.inbox, client.up.type, key, type)
        if timeout is not None:
            timeout = one_checked("timeout", timeout)
        if self._shared.is_here():
            self._refuse("latest")
        return self._taker.latest(lane, wire, timeout)

    def __iter__(self) -> Iterator[Down]:
        """Iterate over received values until the connection is closed, as ``async for`` does."""
        if self._shared.is_here():
            self._refuse("iteration")
        return iter(self._taker)

    def __next__(self) -> Down:
        return next(self._taker)

    # --- everything else -------------------------------------------------------------------

    def on_gap(self, function: OnGap, /) -> OnGap:
        """Call `function(gap)` where the server has left messages out; see `WsClient.on_gap`.

        It is called on the thread of blocking clients, and must not wait there.
        """
        client = self._here("on_gap")
        self._run(_called(client.on_gap, function))
        return function

    def wait_live(self, timeout: float | None = None) -> None:
        """Wait until everything has come that the server had retained; see `WsClient.wait_live`.

        Raises
        ------
        TimeoutError, ConnectionClosed, RuntimeError
        """
        client = self._here("wait_live")
        timeout = one_checked("timeout", timeout)

        async def wait() -> None:
            async with asyncio.timeout(timeout):
                await client.wait_live()

        try:
            self._run(wait())
        except TimeoutError as error:
            if isinstance(error, ComError):
                raise
            raise TimeoutError(f"not all of what is retained has come within {timeout} s") from None

    def record(self, path: str | os.PathLike[str], **options: Unpack[RecordOptions]) -> LiveRecorder:
        """Record what is sent and received from now on into an MCAP file; see `WsServer.record`.

        Use it in ``with``, in this thread or another one. The file has what the thread that leaves the block
        has sent before.
        """
        recorder: LiveRecorder = self._run(_called(self._here("record").record, path, **options))
        return recorder

    @property
    def schema(self) -> PeerSchema:
        """What is known of the server's schemas, as ``WsClient.schema``."""
        return self._here("schema").schema

    @property
    def connected(self) -> bool:
        """Whether the connection is open."""
        return not self._here("connected")._is_ended()

    def stats(self) -> ServerStats:
        """Return counters, and what is held now. See `ServerStats`."""
        return self._here("stats").stats()

    def close(self) -> None:
        """Send what is queued, then end the connection. May be called again, and from any thread.

        What has arrived can still be received; then `ConnectionClosed`. Iteration ends.
        """
        self._close(None)

    def _close(self, at_most: float | None) -> None:
        client = self._here("close")
        if self._shared.is_here():
            self._refuse("close")
        with self._closing:
            if self._released:
                return
            _open.discard(self)

            async def end() -> None:
                async with asyncio.timeout(at_most):
                    await client.close()

            try:
                self._shared.run(end())
            except BaseException:
                self._shared.call(_close_soon, client)
                raise
            finally:
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        client = getattr(self, "_client", None)
        if client is None or self._released or client._is_foreign():
            return
        ended = client._is_ended()
        self._shared.call(_close_soon, client)
        self._shared.call(self._shared.release)
        self._released = True
        if not ended:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        if self._client is None:
            return "<BlockingClient, not connected>"
        return f"<BlockingClient {self._client!r}>"

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        title, rows = self._here("repr")._table()
        return f"Blocking {title}", rows

    # --- private ---

    def _here(self, what: str) -> ClientBase[Down, Up]:
        client = self._client
        assert client is not None  # the object is given out with a client
        if client._is_foreign():
            raise RuntimeError(
                f"client.{what} was called in process {os.getpid()}, but the client was connected in process "
                f"{self._shared.process}, from which this one was forked: connect here, after the fork"
            )
        return client

    def _run(self, work: Any) -> Any:
        if self._released:
            work.close()
            raise ConnectionClosed(1000, "closed by this side")
        if self._shared.is_here():
            work.close()
            self._refuse("this call")
        return self._shared.run(work)

    def _look(self, what: str, timeout: float) -> float:
        # With a timeout of 0 the loop may not have had the time to look.
        timeout = one_checked("timeout", timeout)
        if self._shared.is_here():
            self._refuse(what)
        client = self._here(what)
        if timeout == 0 and not self._taker.has_values() and not (self._released or client._is_ended()):
            self._shared.run(asyncio.sleep(0))
        return timeout

    def _refuse(self, what: str) -> None:
        raise RuntimeError(
            f"{what}: this is the thread of blocking clients itself, which would wait for itself"
        )

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._shared.release()


async def _paced(client: ClientBase[Any, Any]) -> None:
    try:
        await client._pace()
    except ConnectionClosed:
        pass  # closed meanwhile; the message was queued before that


async def _called(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args, **options)


def _close_soon(client: ClientBase[Any, Any]) -> None:
    # On the loop's thread.
    keep(client.loop, client.close())


def _close_forgotten() -> None:
    """Close what is still open when the interpreter exits."""
    exits()
    forgotten = list(_open)
    for client in forgotten:
        try:
            client._close(EXIT_S)
        except Exception:
            pass
    for client in forgotten:
        warnings.warn(f"unclosed {client!r}", ResourceWarning, stacklevel=2, source=client)


def _in_child() -> None:
    _open.clear()


atexit.register(_close_forgotten)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
