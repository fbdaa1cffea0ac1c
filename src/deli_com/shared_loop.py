"""One event loop in a thread, for all blocking clients of a process.

It starts with the first client and ends with the last one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from deli_com.ground.futures import GLANCE_S, result

__all__ = ["SharedLoop", "shared_loop"]

JOIN_S = 5.0  # limit on waiting for the thread to end after the last client was released

R = TypeVar("R")


class SharedLoop:
    """A loop that runs in a daemon thread; returned by `shared_loop`.

    Attributes
    ----------
    process : int
        Id of the process that it runs in. A forked child has this object, but no such thread.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.users = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="deli_com.connect_blocking", daemon=True)
        self._thread.start()

    def is_here(self) -> bool:
        """Whether the caller runs in the loop's thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the loop and return its result. Ctrl-C cancels it."""
        done: Future[R] = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return result(done)
        except BaseException:
            done.cancel()
            raise

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Schedule `function` in the loop's thread. Returns whether it will be called."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed
            return False
        return True

    def release(self) -> None:
        """Give up one use of the loop. The last one stops it."""
        global _shared
        with _lock:
            self.users -= 1
            if self.users or self.process != os.getpid():
                return
            if _shared is self:
                _shared = None
        self.call(self.loop.stop)
        if not self.is_here():
            self._join()

    def _join(self) -> None:
        left = JOIN_S
        while self._thread.is_alive() and left > 0:
            self._thread.join(min(GLANCE_S, left))
            left -= GLANCE_S

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            try:
                tasks = asyncio.all_tasks(self.loop)
                for task in tasks:
                    task.cancel()
                if tasks:
                    self.loop.run_until_complete(asyncio.wait(tasks))
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            finally:
                asyncio.set_event_loop(None)
                self.loop.close()


_shared: SharedLoop | None = None
_of_parents: list[SharedLoop] = []  # not freed: closing them would change the parents' epoll sets
_lock = threading.Lock()


def shared_loop() -> SharedLoop:
    """Return the loop of this process. Every call needs a call of `SharedLoop.release` later."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = SharedLoop()
        _shared.users += 1
        return _shared


def _in_child() -> None:
    global _shared, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _shared is not None:
        _of_parents.append(_shared)
        _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
