"""One timer for any number of equal deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

LATE_S = 0.1  # of a timer, from which on the loop did not run rather than being busy

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things that all have the same time from when they were added; one timer for all of them.

    1. Oldest first, so the timer waits for the first only; adding and discarding are one dict operation each.
    2. `expire` is called with what is out of time, which is no longer in here then.
    3. The timer may outlive the last item; `stop` cancels it.
    4. A timer that comes late, because something has blocked the loop or its clock has jumped, moves every
       time by as much: what would have saved an item may wait to be read, and is read first.
    """

    __slots__ = ("_added", "_expire", "_loop", "_seconds", "_stood_still", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float | None, expire: Callable[[T], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._added: dict[T, float] = {}  # when it came, by `_now`; oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._stood_still = 0.0  # seconds by which timers came late, in all

    def __len__(self) -> int:
        return len(self._added)

    def __iter__(self) -> Iterator[T]:
        return iter(self._added)

    def add(self, item: T) -> None:
        self._added.pop(item, None)  # a dict would keep the old place
        self._added[item] = self._now()
        if self._timer is None and self._seconds is not None:
            self._timer = self._loop.call_later(self._seconds, self._on_timer)

    def discard(self, item: T) -> None:
        self._added.pop(item, None)

    def first(self) -> T | None:
        return next(iter(self._added), None)

    def age(self, item: T) -> float:
        return self._now() - self._added[item]

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> float:
        """The loop's clock, less what it stood still."""
        return self._loop.time() - self._stood_still

    def _on_timer(self) -> None:
        assert self._timer is not None
        assert self._seconds is not None
        late = self._loop.time() - self._timer.when()
        self._timer = None
        if late > LATE_S:
            self._stood_still += late
            self._timer = self._loop.call_later(LATE_S, self._on_timer)
            return
        now = self._now() + 0.001  # loops round the time of a timer
        while (oldest := self.first()) is not None:
            due = self._added[oldest] + self._seconds
            if due > now:
                self._timer = self._loop.call_later(due - self._now(), self._on_timer)
                return
            del self._added[oldest]
            self._expire(oldest)
