"""Logging that a hostile peer cannot turn into a flood.

`LogBudget` bounds the records a second; `picows_log` is the one logger that all connections share.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

__all__ = ["LogBudget", "picows_log"]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class LogBudget:
    """At most so many records a second; what was left out is counted in the next record.

    Parameters
    ----------
    logger : logging.Logger
        Where the records go.
    per_second : int
        Records in each second on the monotonic clock.
    """

    __slots__ = ("_left", "_logger", "_per_second", "_second", "_suppressed")

    def __init__(self, logger: logging.Logger, per_second: int = 2) -> None:
        self._logger = logger
        self._per_second = per_second
        self._second = -1  # whole second that _left counts for
        self._left = per_second
        self._suppressed = 0

    def log(self, level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log, or count, one record."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._left = self._per_second
        if not self._left:
            self._suppressed += 1
            return
        self._left -= 1
        if self._suppressed:
            message += " (%d like this were not logged)"
            args += (self._suppressed,)
            self._suppressed = 0
        self._logger.log(level, message, *args, exc_info=exc_info)


class _PicowsLog(_Adapter):
    """An adapter, because picows makes a `logging.Logger` for each connection that is given a plain one.

    What a peer can cause at will (``WS parser error``) is lowered from ERROR to INFO: the connection ends
    with a close code and a reason, and a log that anyone can fill is a fault of its own.
    """

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        level = logging.INFO if isinstance(msg, str) and msg.startswith("WS parser error") else logging.ERROR
        self.log(level, msg, *args, **kwargs)


picows_log: logging.LoggerAdapter[logging.Logger] = _PicowsLog(logging.getLogger("deli_com.picows"), {})
