"""What a server tells a client besides values: gaps, and that all retained values have been sent."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from deli_com.ground.callback import answer_of, called, failure_of, throw
from deli_com.net.log_budget import LogBudget
from deli_com.schema.control import Gap

__all__ = ["Hearing", "Listeners", "OnGap"]

OnGap: TypeAlias = Callable[[Gap], object]
MOST_UNTOLD = 64

Function = TypeVar("Function", bound=Callable[..., object])


class Listeners:
    """Functions of the program that are called when something happens; plain or coroutine functions.

    An exception of one is logged, with a limit on records, and the others are still called. This object has
    references to the loop and the functions only, so it does not keep its endpoint alive.

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
        """Add a function. Returns it, so that this can be used as a decorator."""
        if not callable(function):
            raise TypeError(f"{self._name} takes a function, got {function!r}")
        self._functions.append(function)
        return function

    def __bool__(self) -> bool:
        return bool(self._functions)

    def call(self, *args: Any) -> None:
        """Call all, in order. Coroutines that they return run as tasks."""
        for function in tuple(self._functions):
            try:
                result = called(function, *args)
                if not inspect.isawaitable(result):
                    continue
                task = asyncio.ensure_future(result)
            except Exception as error:
                self._failed(error)
                continue
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def run(self, *args: Any) -> None:
        """Call all, one after the other. Coroutines that they return are awaited here."""
        for function in tuple(self._functions):
            try:
                result = called(function, *args)
                if inspect.isawaitable(result):
                    await answer_of(result)
            except Exception as error:
                self._failed(error)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if (error := failure_of(task)) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._log.log(logging.ERROR, "%s raised", self._name, exc_info=error)


class Hearing:
    """The gaps and the end of retained values that one client has been told of.

    Parameters
    ----------
    logger : logging.Logger
        Logs exceptions of the program's functions.

    Attributes
    ----------
    is_told : bool
        The server exchanges schemas, so it reports gaps, and the end of the retained values.
    is_live : bool
        All retained values have arrived.
    gaps, skipped, superseded : int
        Gaps that the server has reported, and the messages in them, by policy.
    on_gap : Listeners
    """

    __slots__ = ("_untold", "gaps", "is_live", "is_told", "on_gap", "skipped", "superseded")

    def __init__(self, logger: logging.Logger) -> None:
        self.is_told = False
        self.is_live = False
        self.gaps = self.skipped = self.superseded = 0
        self.on_gap = Listeners("on_gap", logger)
        self._untold: deque[Gap] = deque(maxlen=MOST_UNTOLD)  # until there is a listener

    def listen(self, function: OnGap) -> OnGap:
        """Add a function that is called for every gap, also for the last 64 before the first listener."""
        self.on_gap.add(function)
        while self._untold:
            self.on_gap.call(self._untold.popleft())
        return function

    def heard_gap(self, gap: Gap) -> None:
        """Count a gap and tell the program, before the values behind the gap can be received."""
        self.gaps += 1
        self.skipped += gap.skipped
        self.superseded += gap.superseded
        if self.on_gap:
            try:
                self.on_gap.call(gap)
            except (KeyboardInterrupt, SystemExit) as error:  # once all that was read has been taken
                asyncio.get_running_loop().call_soon(throw, error)
        else:
            self._untold.append(gap)
