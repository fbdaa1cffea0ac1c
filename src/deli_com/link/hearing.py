"""What a client is told beside values: what is missing, and that all which was retained has come."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from deli_com.net.log_budget import LogBudget
from deli_com.schema.control import Gap

__all__ = ["Hearing", "Listeners", "OnGap"]

OnGap: TypeAlias = Callable[[Gap], object]
MOST_UNTOLD = 64

Function = TypeVar("Function", bound=Callable[..., object])


class Listeners:
    """Functions of the program that are called when something happens; plain or coroutine functions.

    What one raises is logged, with a bound on records, and the others are called. It refers to nothing but
    the loop and the functions: an endpoint that has it can be freed by its last reference.

    Parameters
    ----------
    name : str
        Of the event, for error texts.
    logger : logging.Logger
    """

    __slots__ = ("_functions", "_log", "_name", "_tasks")

    def __init__(self, name: str, logger: logging.Logger) -> None:
        self._name = name
        self._log = LogBudget(logger)
        self._functions: list[Callable[..., object]] = []
        self._tasks: set[asyncio.Future[Any]] = set()

    def add(self, function: Function) -> Function:
        """Call it from now on, too. Gives it back, so this can be a decorator."""
        if not callable(function):
            raise TypeError(f"{self._name} takes a function, got {function!r}")
        self._functions.append(function)
        return function

    def __bool__(self) -> bool:
        return bool(self._functions)

    def call(self, *args: Any) -> None:
        """Call all, in order; what coroutine functions return becomes tasks."""
        for function in tuple(self._functions):
            try:
                result = function(*args)
                if not inspect.isawaitable(result):
                    continue
                task = asyncio.ensure_future(result)
            except (Exception, asyncio.CancelledError) as error:
                self._failed(error)
                continue
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def run(self, *args: Any) -> None:
        """Call all, one after the other; what is awaitable is awaited here."""
        for function in tuple(self._functions):
            try:
                result = function(*args)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                self._failed(error)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._log.log(logging.ERROR, "%s raised", self._name, exc_info=error)


class Hearing:
    """What one client has been told.

    Parameters
    ----------
    logger : logging.Logger
        Told of what functions of the program raise.

    Attributes
    ----------
    is_told : bool
        The server exchanges schemas, so it tells of gaps, and of the end of what is retained.
    is_live : bool
        All that was retained has come.
    gaps, skipped, superseded : int
        Gaps that the server has told of, and the messages in them, by policy.
    on_gap : Listeners
    """

    __slots__ = ("_untold", "gaps", "is_live", "is_told", "on_gap", "skipped", "superseded")

    def __init__(self, logger: logging.Logger) -> None:
        self.is_told = False
        self.is_live = False
        self.gaps = self.skipped = self.superseded = 0
        self.on_gap = Listeners("on_gap", logger)
        self._untold: deque[Gap] = deque(maxlen=MOST_UNTOLD)  # until somebody listens

    def listen(self, function: OnGap) -> OnGap:
        """Call it for every gap from now on, and for those which came before anybody listened."""
        self.on_gap.add(function)
        while self._untold:
            self.on_gap.call(self._untold.popleft())
        return function

    def heard_gap(self, gap: Gap) -> None:
        """Note it, and tell the program: before the values that come behind it can be received."""
        self.gaps += 1
        self.skipped += gap.skipped
        self.superseded += gap.superseded
        if self.on_gap:
            self.on_gap.call(gap)
        else:
            self._untold.append(gap)
