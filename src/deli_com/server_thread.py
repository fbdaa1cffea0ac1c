"""A thread whose event loop runs one server: starting and ending it, and calls from other threads."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Generic, NoReturn, Protocol

from deli_com.errors import ConnectionClosed
from deli_com.ground.futures import GLANCE_S, fail, result, succeed
from deli_com.receive.taker import exits
from deli_com.server_base import CLOSE_SLACK_S, DRAIN_S, GOING_AWAY, ServerBase, abort_server
from deli_com.typed import Down, Up

__all__ = ["ServerThread"]

JOIN_S = 5.0  # limit on waiting for the loop to end after the server is closed

_logger = logging.getLogger("deli_com.server")
_running: set[ThreadOwner] = set()  # objects that have a thread
_exiting = False  # the interpreter is exiting


class ThreadOwner(Protocol):
    """The owner of a `ServerThread`. The thread calls these methods."""

    def close(self) -> None:
        """Called when the interpreter exits, in the main thread."""

    def _loop_ended(self) -> None:
        """Called in the thread when the loop runs no more calls."""

    def _forked(self) -> None:
        """Called in a forked child, which has no such thread. Any lock may be held forever."""


class ServerThread(Generic[Down, Up]):
    """A daemon thread whose event loop opens a server, runs it, and closes it.

    Parameters
    ----------
    opening : coroutine
        Opens and returns the server.
    loop_factory : callable or None
        Makes the event loop.

    Attributes
    ----------
    server : ServerBase or None
        None until it is bound.
    is_ending : bool
        Whether the loop cancels its tasks, so that no new ones may be made.
    """

    def __init__(
        self,
        opening: Coroutine[Any, Any, ServerBase[Down, Up]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self.server: ServerBase[Down, Up] | None = None
        self.is_ending = False
        self._opening = opening
        self._loop_factory = loop_factory
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None
        self._drain = DRAIN_S
        self._failure: BaseException | None = None  # why the loop has ended, if not by `close`
        self._told = False  # the failure was raised in a caller
        self._waiting: set[Future[Any]] = set()  # of threads that wait for a call in the loop
        self._lock = threading.Lock()  # guards _waiting and _over
        self._over = False  # the loop runs no more calls
        self._left = threading.Event()  # the thread is about to end

    # --- for the owner, in any thread ----------------------------------------------------------

    def start(self, owner: ThreadOwner) -> None:
        """Bind the server. Returns when it is bound, or raises the error of binding."""
        if self._thread is not None:
            raise RuntimeError("a background server can be started once: bind another one")
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run_loop, args=(opened, owner), name="deli_com.serve_background", daemon=True
        )
        try:
            self._thread.start()
            result(opened)
        except BaseException:  # binding failed, or Ctrl-C
            opened.cancel()
            self._cancel()
            if self._thread.ident is not None:
                self._join(self._thread, JOIN_S)
            raise

    def close(self, drain: float) -> None:
        """Close the server, end the loop, join the thread. Raises a failure that no call has raised yet."""
        thread = self._thread
        if thread is None:
            return
        self.refuse_own_thread("close")
        if not self._left.is_set():
            self._end(thread, drain)
        if self._failure is not None and not self._told:
            self._raise_failure()

    def _end(self, thread: threading.Thread, drain: float) -> None:
        server = self.server
        lingering = server.close_timeout + CLOSE_SLACK_S if server is not None else 0.0
        if server is None:
            self._cancel()
        self.call(self._ask_to_stop, drain)
        try:
            ended = self._join(thread, drain + lingering + JOIN_S)
        except BaseException:  # a second Ctrl-C: do not wait for clients
            self._cancel()
            raise
        if not ended:
            self._cancel()
            raise RuntimeError(
                f"the event loop of {self!r} did not end within {drain + lingering + JOIN_S:.1f} s: "
                "a function that runs on it blocks it"
            )

    def _join(self, thread: threading.Thread, timeout: float) -> bool:
        # `Thread.join` after an interrupt takes a running thread for one that has ended (3.11, 3.12).
        deadline = time.monotonic() + timeout
        while not self._left.wait(min(GLANCE_S, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
        thread.join()
        return True

    def is_here(self) -> bool:
        """Whether the caller runs in the loop's thread."""
        return threading.current_thread() is self._thread

    def refuse_own_thread(self, what: str) -> None:
        """Raise `RuntimeError` in the loop's thread."""
        if self.is_here():
            raise RuntimeError(f"{what}: this is the loop's own thread, which would wait for itself")

    def opened(self) -> ServerBase[Down, Up]:
        """Return the server. Raises if it is not bound yet, or if its loop has failed."""
        server = self.server
        if server is None:
            raise RuntimeError(f"{self!r}: use it in `with`")
        if self._failure is not None:
            self._raise_failure()
        return server

    def check(self) -> None:
        """Raise the failure of the loop, if it has failed."""
        if self._failure is not None:
            self._raise_failure()

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Schedule `function` in the loop's thread. Returns whether it will be called."""
        if self._loop is None or self._over:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop has been closed meanwhile
            return False
        return True

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call `function` in the loop's thread and return its result. A coroutine is awaited there."""
        self.opened()
        self.refuse_own_thread("run")
        done: Future[Any] = Future()
        tasks: list[asyncio.Task[None]] = []

        async def finish(work: Coroutine[Any, Any, Any]) -> None:
            try:  # SystemExit and the like go to the caller; they must not end the loop
                result = await work
            except asyncio.CancelledError as error:
                fail(done, self._closed() if self._is_stopping() else error)
                raise
            except BaseException as error:
                if self._failure is None:
                    fail(done, error)
                else:  # the loop has failed, and with it the server
                    self._tell(done)
            else:
                succeed(done, result)

        def call() -> None:
            if done.done() or self.is_ending:
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                fail(done, error)
                return
            if isinstance(result, Coroutine):
                tasks.append(asyncio.get_running_loop().create_task(finish(result)))
            else:
                succeed(done, result)

        def cancel() -> None:
            done.cancel()
            for task in tasks:
                task.cancel()

        with self._lock:
            if not self._over:
                self._waiting.add(done)
        if not self.call(call):
            self.check()
            raise self._closed()
        try:
            return result(done)
        except BaseException:
            if not done.done():  # Ctrl-C while waiting
                self.call(cancel)
            raise
        finally:
            self._waiting.discard(done)

    def __repr__(self) -> str:
        # The same text as the owner's, because error texts show it.
        if self._thread is None:
            return "<Background server, not started>"
        if self._failure is not None:
            return "<Background server, failed>"
        return "<Background server, starting>" if self.server is None else f"<Background {self.server!r}>"

    def forked(self) -> None:
        """Make every call raise, in a forked child, which has this object but not its thread."""
        self._failure = RuntimeError("it runs in the parent process, and a fork has no threads")
        self._told = True
        self._over = True
        self._left = threading.Event()
        self._left.set()
        self._lock = threading.Lock()  # a thread that the child lacks may hold the old one
        if self.server is not None:
            # Closing it would remove the socket from the parent's epoll set, which both processes share.
            self.server._acceptor = None

    # --- the thread ----------------------------------------------------------------------------

    def _run_loop(self, opened: Future[None], owner: ThreadOwner) -> None:
        unopened: BaseException = asyncio.CancelledError()
        _running.add(owner)
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.get_loop()  # a failing factory raises here, before there is a coroutine
                try:
                    runner.run(self._serve(opened))
                except asyncio.CancelledError:  # by `_cancel`
                    if self.server is not None:
                        runner.run(abort_server(self.server))
                except BaseException as error:
                    if self.server is None:
                        raise
                    self._fail(error)
                    # The loop itself still works, so clients are told at least.
                    runner.run(self.server.close(drain=0))
                finally:
                    self.is_ending = True
        except BaseException as error:
            if self.server is None:
                unopened = error  # raised by `start`
                self._opening.close()
            # While the interpreter exits, asyncio cannot start the thread that shuts down its executor
            # (3.12).
            elif not (_exiting and isinstance(error, RuntimeError)):
                self._fail(error)
        fail(opened, unopened)  # no effect if it was opened
        self._leave(owner)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        _logger.critical("the event loop of %r failed", self.server, exc_info=error)

    def _leave(self, owner: ThreadOwner) -> None:
        # The loop has ended, so no thread may wait for it.
        with self._lock:
            self._over = True
            waiting, self._waiting = self._waiting, set()
        for done in waiting:
            if self._failure is None:
                fail(done, self._closed())
            else:
                self._tell(done)
        owner._loop_ended()
        _running.discard(owner)
        self._left.set()

    async def _serve(self, opened: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._stop = asyncio.Event()
        server: Any = await self._opening
        if not isinstance(server, ServerBase):
            await server.close()
            raise TypeError(f"serve_background serves the result of bind(), got {server!r}")
        self.server = server
        if succeed(opened, None):  # false if `start` was interrupted
            await self._stop.wait()
        await server.close(drain=self._drain)

    def _ask_to_stop(self, drain: float) -> None:
        self._drain = drain
        if self._stop is not None:
            self._stop.set()

    def _is_stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _cancel(self) -> None:
        if self._main is not None:
            self.call(self._main.cancel)

    # --- errors --------------------------------------------------------------------------------

    def _raise_failure(self) -> NoReturn:
        self._told = True
        raise self._gone()

    def _tell(self, done: Future[Any]) -> None:
        if fail(done, self._gone()):
            self._told = True

    def _gone(self) -> RuntimeError:
        error = RuntimeError(f"the event loop of the background server has failed: {self._failure!r}")
        error.__cause__ = self._failure
        return error

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(GOING_AWAY, "the server is closed")


def _close_forgotten() -> None:
    """At exit, close all servers that are still open: clients get queued messages, and a close code."""
    global _exiting
    _exiting = True
    exits()
    forgotten = list(_running)
    for background in forgotten:
        try:
            background.close()
        except Exception:
            _logger.exception("an unclosed background server could not be closed at exit")
    for background in forgotten:
        warnings.warn(f"unclosed {background!r}", ResourceWarning, stacklevel=2, source=background)


def _after_fork() -> None:
    for background in _running:
        background._forked()
    _running.clear()


atexit.register(_close_forgotten)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
