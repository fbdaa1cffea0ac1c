"""Tasks that nobody awaits. An event loop holds tasks by weak references, so these are held here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

__all__ = ["keep"]

_kept: set[asyncio.Task[Any]] = set()


def keep(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> None:
    """Run it as a task, which is held until its end. Called in the loop's thread."""
    task = loop.create_task(work)
    _kept.add(task)
    task.add_done_callback(_kept.discard)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.clear)
