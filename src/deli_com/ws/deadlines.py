"""Many deadlines of equal length with one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

LATE_S = 0.1  # a timer that is later than this means that the loop was blocked

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items that each expire the same time after they were added. One timer serves all of them.

    1. Items are ordered by age, so the timer waits for the first only. Adding and discarding are one dict
       operation each.
    2. `expire` is called with each expired item, after its removal.
    3. The timer may outlive the last item; `stop` cancels it.
    4. If a timer is late, because the loop was blocked or its clock has jumped, all deadlines move by as
    much.
       Data that would have saved an item may still wait to be read, and is read first.
    """

    __slots__ = ("_added", "_expire", "_loop", "_seconds", "_stood_still", "_timer", "_when")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float | None, expire: Callable[[T], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._expire = expire
        self._added: dict[T, float] = {}  # time of adding, by `_now`; oldest first
        self._timer: asyncio.Handle | None = None  # of uvloop, one without `when` if the delay rounds to 0
        self._when = 0.0  # when it is due, by the loop's clock
        self._stood_still = 0.0  # total delay of late timers, in seconds

    def __len__(self) -> int:
        return len(self._added)

    def __iter__(self) -> Iterator[T]:
        return iter(self._added)

    def add(self, item: T) -> None:
        self._added.pop(item, None)  # else the dict would keep the old position
        self._added[item] = self._now()
        if self._timer is None and self._seconds is not None:
            self._wait(self._seconds)

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

    def _wait(self, seconds: float) -> None:
        self._when = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _now(self) -> float:
        """The loop's clock, without the times when it was blocked."""
        return self._loop.time() - self._stood_still

    def _on_timer(self) -> None:
        seconds = self._seconds
        assert self._timer is not None
        assert seconds is not None
        late = self._loop.time() - self._when
        self._timer = None
        if late > LATE_S:
            self._stood_still += late
            self._wait(LATE_S)
            return
        try:
            self._expire_due(seconds)
        finally:  # also if an end has raised, for example without memory
            self._wait_for_first(seconds)

    def _wait_for_first(self, seconds: float) -> None:
        if self._timer is None and (oldest := self.first()) is not None:
            self._wait(max(0.0, self._added[oldest] + seconds - self._now()))

    def _expire_due(self, seconds: float) -> None:
        now = self._now() + 0.001  # loops round the times of timers
        while (oldest := self.first()) is not None and self._added[oldest] + seconds <= now:
            del self._added[oldest]
            self._expire(oldest)
