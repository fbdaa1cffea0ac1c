"""Calls in the child of a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def in_child(work: Callable[[], Any]) -> str:
    """What `work` gives, or raises, in a child of a fork."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return said


def driven(awaitable: Any) -> Any:
    """The first step of what would be awaited; no loop runs in the child."""
    return next(awaitable.__await__(), None)
