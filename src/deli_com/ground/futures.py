"""Futures of `concurrent.futures` that one thread waits for and another completes."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

__all__ = ["GLANCE_S", "fail", "result", "succeed"]

GLANCE_S = 0.5  # a Ctrl-C that comes right before a thread waits does not wake it, so it looks up

R = TypeVar("R")


def result(done: Future[R]) -> R:
    """Wait for it; see GLANCE_S."""
    while not done.done():
        try:
            return done.result(GLANCE_S)
        except TimeoutError:  # of this wait, or the result itself
            pass
    return done.result()


def succeed(done: Future[Any], result: Any) -> bool:
    """Set a result, unless the future is done already."""
    try:
        done.set_result(result)
    except InvalidStateError:
        return False
    return True


def fail(done: Future[Any], error: BaseException) -> bool:
    """Set an exception, unless the future is done already."""
    try:
        done.set_exception(error)
    except InvalidStateError:
        return False
    return True
