"""Callbacks of the program: what they may raise, and what that means to a connection that calls them.

`KeyboardInterrupt` and `SystemExit` end the loop, as those of its own callbacks do. Any other exception is a
failure of the callback, also one that is no `Exception`, such as `asyncio.CancelledError` of a cancelled
future. It comes out of here as a `RuntimeError`, so that ``except Exception`` is enough for callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["answer_of", "called", "failure_of", "throw"]

R = TypeVar("R")

_AWAITED = "what a callback awaits was cancelled"


def called(function: Callable[..., R], *args: Any) -> R:
    """Call a callback.

    Raises
    ------
    RuntimeError
        It has raised what is no `Exception`, nor ends the loop.
    """
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise _failure(error) from error


async def answer_of(made: Awaitable[Any]) -> Any:
    """What the awaitable of a callback gives.

    A callback that awaits a cancelled task raises `asyncio.CancelledError`, although the task that runs it is
    not cancelled. That is a failure of the callback, and the peer has to be answered.

    Raises
    ------
    RuntimeError
        Something that the callback awaits was cancelled, or it has raised what is no `Exception`, nor ends
        the loop.
    """
    task = asyncio.current_task()
    try:
        return await made
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(_AWAITED) from error
    except BaseException as error:
        if _current_task() is not task:  # GeneratorExit: the coroutine is freed unfinished
            raise
        raise _failure(error) from error


def failure_of(task: asyncio.Future[Any]) -> BaseException | None:
    """The exception of a task that ran a callback. None if it returned, or this library has cancelled it."""
    if not task.cancelled():
        return task.exception()
    if isinstance(task, asyncio.Task) and not task.cancelling():
        return RuntimeError(_AWAITED)
    return None


def throw(error: BaseException) -> None:
    """Raise it: a callback for the loop, which ends by it, where the caller has to go on."""
    raise error


def _failure(error: BaseException) -> RuntimeError:
    return RuntimeError(f"a callback raised {type(error).__name__}, which is no Exception")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
