"""`serve_background`: a server on an event loop of its own, in a thread, for programs without asyncio.

::

    with serve_background(WsServer[Tick, None].bind("127.0.0.1:8765")) as server:
        while True:
            server.send(read_sensor())

A thread that sends encodes the value itself and hands the bytes to the loop (`fanout/handoff`). Received
values are moved in batches, one batch at a time, into a queue that all receiving threads share.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, Self, TypeVar, overload

from deli_com.errors import ConnectionClosed
from deli_com.ground.futures import GLANCE_S, fail, result, succeed
from deli_com.net.address import Address
from deli_com.net.options import one_checked
from deli_com.opening import Opening
from deli_com.receive.policy_inbox import PolicyInbox
from deli_com.server_base import CLOSE_SLACK_S, DRAIN_S, GOING_AWAY, ServerBase, abort_server
from deli_com.typed import Down, Up

__all__ = ["Background", "serve_background"]

BATCH = 1024  # values brought over at once, where no newer one can replace them in the inbox
JOIN_S = 5.0  # for the loop to end once the server is closed, before that is an error

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger("deli_com.server")
_running: set[Background[Any, Any]] = set()  # those that have a thread
_exiting = False  # the interpreter is


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
        What ``WsServer[T].bind(addr, ...)`` or ``Server[T].bind(addr, ...)`` returned.
    loop_factory : callable, optional
        Makes the event loop, for example ``uvloop.new_event_loop``. Default: asyncio's.

    Returns
    -------
    Background
        ``with`` (or `Background.start`) binds it, and raises what binding raises.

    Raises
    ------
    TypeError
        `opening` is not the result of a ``bind`` call.
    """
    if not isinstance(opening, Opening):
        raise TypeError(f"serve_background takes what WsServer[T].bind(addr) returns, got {opening!r}")
    if opening._makes is not None and not issubclass(opening._makes, ServerBase):
        opening.close()
        raise TypeError(
            f"serve_background serves what WsServer[T].bind(addr) or Server[T].bind(addr) returns, got "
            f"{opening!r}: a client runs in an event loop of yours, for example in asyncio.run"
        )
    try:
        one_checked("loop_factory", loop_factory)
    except TypeError:
        opening.close()
        raise
    return Background(opening, loop_factory)


class Background(Generic[Down, Up]):
    """A server whose event loop runs in a thread of its own; made by `serve_background`.

    1. Every method may be called from any thread but the loop's; `send_nowait`, `client_count` and
       `local_addr` from that one too. Order is kept for each thread that sends.
    2. `recv`, `recv_many` and iteration share one queue. Each value goes to one of them. A call that times
       out or is interrupted loses no value.
    3. The end of ``with`` closes the server and joins the thread, whatever happened in the block.
    4. The thread is a daemon: a server that was not closed does not keep the program alive, and is closed
       when the interpreter exits.
    5. A forked child has no such thread: every call there raises `RuntimeError`. The parent's server keeps
       running.
    """

    def __init__(
        self,
        opening: Coroutine[Any, Any, ServerBase[Down, Up]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._opening = opening
        self._loop_factory = loop_factory
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._server: ServerBase[Down, Up] | None = None
        self._stop: asyncio.Event | None = None
        self._drain = DRAIN_S
        self._failure: BaseException | None = None  # why the loop is gone, other than by `close`
        self._told = False  # somebody was given the failure
        self._waiting: set[Future[Any]] = set()  # of threads, for something that the loop does
        self._lock = threading.Lock()  # of _waiting and _over
        self._over = False  # nothing is run on the loop any more
        self._ending = False  # the loop ends its tasks, so no new ones are made
        self._left = threading.Event()  # the thread has nothing more to do
        # What was received and brought over, all under _ready.
        self._ready = threading.Condition()
        self._values: deque[Up] = deque()
        self._fetching = False
        self._no_more = False
        self._fetcher: asyncio.Task[None] | None = None

    # --- starting and ending ---------------------------------------------------------------

    def start(self) -> Self:
        """Bind the server, as entering ``with`` does; for those who call `close` themselves.

        Raises
        ------
        IoError
            The address is in use, may not be bound, or does not resolve.
        RuntimeError
            It was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a background server is started once: bind another one")
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run_loop, args=(opened,), name="deli_com.serve_background", daemon=True
        )
        try:
            self._thread.start()
            result(opened)
        except BaseException:  # it could not be bound, or Ctrl-C
            opened.cancel()
            self._cancel()
            if self._thread.ident is not None:
                self._join(self._thread, JOIN_S)
            raise
        return self

    def close(self, *, drain: float = DRAIN_S) -> None:
        """Send what is queued, close every connection, end the thread. May be called again.

        Received values can still be taken. After that `recv` raises `ConnectionClosed`, and iteration ends.

        Parameters
        ----------
        drain : float
            Seconds to wait until queued messages are sent. After that, the clients' answers are awaited for
            ``close_timeout`` seconds.

        Raises
        ------
        RuntimeError
            The event loop failed and no call has raised that yet, or the loop does not end.
        """
        one_checked("drain", drain)
        thread = self._thread
        if thread is None:
            return
        self._refuse_own_thread("close")
        if not self._left.is_set():
            self._end(thread, drain)
        if self._failure is not None and not self._told:
            self._raise_failure()

    def _end(self, thread: threading.Thread, drain: float) -> None:
        server = self._server
        lingering = server.close_timeout + CLOSE_SLACK_S if server is not None else 0.0
        if server is None:
            self._cancel()
        self._call(self._ask_to_stop, drain)
        try:
            ended = self._join(thread, drain + lingering + JOIN_S)
        except BaseException:  # a second Ctrl-C: no more waiting for anybody
            self._cancel()
            raise
        if not ended:
            self._cancel()
            raise RuntimeError(
                f"the event loop of {self!r} did not end within {drain + lingering + JOIN_S:.1f} s: "
                "something that was run on it blocks it"
            )

    def _join(self, thread: threading.Thread, timeout: float) -> bool:
        # `Thread.join` alone: interrupted, it takes a running thread for one that has ended (3.11, 3.12).
        deadline = time.monotonic() + timeout
        while not self._left.wait(min(GLANCE_S, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        thread.join()
        return True

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
        if self._thread is None:
            return "<Background server, not started>"
        if self._failure is not None:
            return "<Background server, failed>"
        return "<Background server, starting>" if self._server is None else f"<Background {self._server!r}>"

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
        self._opened().send_nowait(value)

    def send(self, value: Down, /) -> None:
        """Queue `value` as `send_nowait` does, then keep the clients' pace as ``await server.send`` does.

        A producer in a tight loop is slowed down to the pace of the clients that keep up. If at most 1 MiB is
        queued, it returns at once.
        """
        server = self._opened()
        server.send_nowait(value)
        if server._must_pace() and threading.current_thread() is not self._thread:
            try:
                self.run(server._pace)
            except ConnectionClosed:
                pass  # closed meanwhile; the message was queued before that

    # --- receiving -------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Up:
        """Wait for one value from any client.

        Parameters
        ----------
        timeout : float, optional
            Seconds; 0 takes what has arrived.

        Raises
        ------
        TimeoutError
            Nothing came in time. No value is lost.
        ConnectionClosed
            The server is closed and every value was taken.
        TypeError
            The server is push only (its Up is None).
        """
        with self._ready:
            self._await_values("recv", 1, timeout)
            return self._values.popleft()

    def recv_many(self, max: int, /, timeout: float | None = None) -> list[Up]:
        """Wait for one value as `recv` does; return a list of at most `max` values that are there."""
        max = one_checked("max", max)
        with self._ready:
            self._await_values("recv_many", max, timeout)
            values = self._values
            return [values.popleft() for _ in range(min(max, len(values)))]

    def __iter__(self) -> Iterator[Up]:
        """Iterate over received values until the server is closed."""
        return self

    def __next__(self) -> Up:
        try:
            return self.recv()
        except ConnectionClosed:
            raise StopIteration from None

    def _await_values(self, what: str, most: int, timeout: float | None) -> None:
        # With _ready held; returns with a value in _values. Of what has a policy, no more than `most` are
        # brought over: in the inbox a newer one can still replace them.
        if timeout is not None:
            timeout = one_checked("timeout", timeout)
        if self._opened().up is None:
            raise TypeError(f"{self!r} is push only (its Up is None): nothing can be received")
        self._refuse_own_thread(what)
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = False
        while not self._values:
            self._check()
            if self._no_more:
                raise ConnectionClosed(GOING_AWAY, "the server is closed")
            if not self._fetching:
                most = most if isinstance(self._opened().inbox, PolicyInbox) else BATCH
                self._fetching = self._call(self._fetch, most)
            left = None if deadline is None else deadline - time.monotonic()
            if left is None or left > 0:
                self._ready.wait(GLANCE_S if left is None else min(left, GLANCE_S))
            elif asked:
                raise TimeoutError(f"no value within {timeout} s")
            else:  # the loop may not have had the time to look
                self._ready.release()
                try:
                    self._let_loop_turn()
                finally:
                    self._ready.acquire()
            asked = True

    def _let_loop_turn(self) -> None:
        try:
            self.run(asyncio.sleep, 0)
        except ConnectionClosed:
            pass

    # On the loop's thread.

    def _fetch(self, most: int) -> None:
        if not self._ending:  # else `_leave` tells those who wait
            self._fetcher = asyncio.get_running_loop().create_task(self._fetch_batch(most))

    async def _fetch_batch(self, most: int) -> None:
        values: list[Up] = []
        try:
            values = await self._opened().recv_many(most)
        except ConnectionClosed:
            pass  # `_no_more` follows
        finally:
            with self._ready:
                self._values.extend(values)
                self._fetching = False
                self._ready.notify_all()

    async def _fetch_rest(self, server: ServerBase[Down, Up]) -> None:
        # The server is closed: what its inbox still holds, which is bounded.
        if server.up is None:
            return
        if self._fetcher is not None:
            await self._fetcher
        try:
            while True:
                values = await server.recv_many(BATCH)
                with self._ready:
                    self._values.extend(values)
                    self._ready.notify_all()
        except ConnectionClosed:
            pass

    # --- everything else -------------------------------------------------------------------

    @property
    def server(self) -> ServerBase[Down, Up]:
        """The server itself. Call only methods that are legal in any thread; use `run` for all others."""
        return self._opened()

    def local_addr(self) -> Address:
        """Return the address that the server is bound to; the first one, where there are several."""
        return self._opened().local_addr()

    def local_addrs(self) -> tuple[Address, ...]:
        """Return all addresses that the server is bound to."""
        return self._opened().local_addrs()

    def client_count(self) -> int:
        """Return the number of connected clients."""
        return self._opened().client_count()

    def wait_clients(self, n: int, timeout: float | None = None) -> None:
        """Wait until at least `n` clients are connected.

        Raises
        ------
        TimeoutError
            There were fewer within `timeout` seconds.
        ConnectionClosed
            The server was closed before that.
        """
        n, timeout = one_checked("n", n), one_checked("timeout", timeout)
        server = self._opened()

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
        """Call `function` on the loop's thread and return its result; a coroutine is awaited there.

        For calls that are legal only in that thread::

            server.run(server.server.flush)

        Raises
        ------
        ConnectionClosed
            The server is closed, or was before the function had ended.
        Exception
            What `function` raised.
        """
        self._opened()
        self._refuse_own_thread("run")
        done: Future[Any] = Future()
        tasks: list[asyncio.Task[None]] = []

        async def settle(work: Coroutine[Any, Any, Any]) -> None:
            try:  # SystemExit and its like are for the caller: they must not end the loop
                result = await work
            except asyncio.CancelledError as error:
                fail(done, self._closed() if self._is_stopping() else error)
                raise
            except BaseException as error:
                if self._failure is None:
                    fail(done, error)
                else:  # which ended the server, and so this
                    self._tell(done)
            else:
                succeed(done, result)

        def call() -> None:
            if done.done() or self._ending:
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                fail(done, error)
                return
            if isinstance(result, Coroutine):
                tasks.append(asyncio.get_running_loop().create_task(settle(result)))
            else:
                succeed(done, result)

        def cancel() -> None:
            done.cancel()
            for task in tasks:
                task.cancel()

        with self._lock:
            if not self._over:
                self._waiting.add(done)
        if not self._call(call):
            self._check()
            raise self._closed()
        try:
            return result(done)
        except BaseException:
            if not done.done():  # Ctrl-C while waiting
                self._call(cancel)
            raise
        finally:
            self._waiting.discard(done)

    # --- the thread ------------------------------------------------------------------------

    def _run_loop(self, opened: Future[None]) -> None:
        unopened: BaseException = asyncio.CancelledError()
        _running.add(self)
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.get_loop()  # a factory that fails does so before there is a coroutine
                try:
                    runner.run(self._serve(opened))
                except asyncio.CancelledError:  # by `_cancel`
                    if self._server is not None:
                        runner.run(abort_server(self._server))
                except BaseException as error:
                    if self._server is None:
                        raise
                    self._fail(error)
                    # Clients are told at least; the loop itself still works.
                    runner.run(self._server.close(drain=0))
                finally:
                    self._ending = True
        except BaseException as error:
            if self._server is None:
                unopened = error  # told by `start`
                self._opening.close()
            # While the interpreter exits, asyncio cannot start the thread that ends its executor (3.12).
            elif not (_exiting and isinstance(error, RuntimeError)):
                self._fail(error)
        fail(opened, unopened)  # unless it was opened
        self._leave()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        _logger.critical("the event loop of %r failed", self._server, exc_info=error)

    def _leave(self) -> None:
        # The loop is gone: nobody may wait for it.
        with self._lock:
            self._over = True
            waiting, self._waiting = self._waiting, set()
        for done in waiting:
            if self._failure is None:
                fail(done, self._closed())
            else:
                self._tell(done)
        with self._ready:
            self._fetching = False
            self._no_more = True
            self._ready.notify_all()
        _running.discard(self)
        self._left.set()

    async def _serve(self, opened: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._stop = asyncio.Event()
        server: Any = await self._opening
        if not isinstance(server, ServerBase):
            await server.close()
            raise TypeError(f"serve_background serves what bind() returns, got {server!r}")
        self._server = server
        if succeed(opened, None):  # else `start` was interrupted
            await self._stop.wait()
        await server.close(drain=self._drain)
        await self._fetch_rest(server)

    def _ask_to_stop(self, drain: float) -> None:
        self._drain = drain
        if self._stop is not None:
            self._stop.set()

    def _is_stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _cancel(self) -> None:
        if self._main is not None:
            self._call(self._main.cancel)

    def _call(self, function: Callable[..., object], *args: Any) -> bool:
        """Have `function` called on the loop's thread; whether it will be."""
        if self._loop is None or self._over:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed meanwhile
            return False
        return True

    # --- what is refused -------------------------------------------------------------------

    def _opened(self) -> ServerBase[Down, Up]:
        server = self._server
        if server is None:
            raise RuntimeError(f"{self!r}: use it in `with`")
        if self._failure is not None:
            self._raise_failure()
        return server

    def _check(self) -> None:
        if self._failure is not None:
            self._raise_failure()

    def _raise_failure(self) -> NoReturn:
        self._told = True
        raise self._gone()

    def _tell(self, done: Future[Any]) -> None:
        if fail(done, self._gone()):
            self._told = True

    def _gone(self) -> RuntimeError:
        error = RuntimeError(f"the event loop of the background server is gone: {self._failure!r}")
        error.__cause__ = self._failure
        return error

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(GOING_AWAY, "the server is closed")

    def _refuse_own_thread(self, what: str) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError(f"{what}: this is the loop's own thread, which would wait for itself")

    def _forked(self) -> None:
        # In a child process, which has this object and not its thread. The locks may be held by threads
        # that are not there either.
        self._failure = RuntimeError("it runs in the parent process, and a fork has no threads")
        self._told = True
        self._over = True
        self._left = threading.Event()
        self._left.set()
        self._lock = threading.Lock()
        self._ready = threading.Condition()
        if self._server is not None:
            # Its end would take the socket out of the parent's epoll set, which both processes share.
            self._server._acceptor = None


def _close_forgotten() -> None:
    """Close what is still open when the interpreter exits: clients get what was queued, and a close code."""
    global _exiting
    _exiting = True
    forgotten = list(_running)
    for background in forgotten:
        try:
            background.close()
        except Exception:
            _logger.exception("a forgotten background server could not be closed")
    for background in forgotten:
        warnings.warn(f"unclosed {background!r}", ResourceWarning, stacklevel=2, source=background)


def _after_fork() -> None:
    for background in _running:
        background._forked()
    _running.clear()


atexit.register(_close_forgotten)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
