"""A limit on the rate of log records, so that a hostile peer cannot flood the log."""

from __future__ import annotations

import logging
import time

__all__ = ["LogBudget"]


class LogBudget:
    """Logs at most `per_second` records a second. The next record reports the number of dropped ones.

    Parameters
    ----------
    logger : logging.Logger
        Logger for the records.
    per_second : int
        Limit in each second of the monotonic clock.
    """

    __slots__ = ("_left", "_logger", "_per_second", "_second", "_suppressed", "_told")

    def __init__(self, logger: logging.Logger, per_second: int = 2) -> None:
        self._logger = logger
        self._per_second = per_second
        self._second = -1  # the whole second that _left belongs to
        self._left = per_second
        self._suppressed = 0
        self._told: set[str] = set()

    def log(self, level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log one record, or count it as dropped."""
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

    def once(self, kind: str, level: int, message: str, *args: object) -> None:
        """Log the first record of a kind at `level`, and later ones at DEBUG."""
        if kind in self._told:
            self._logger.debug(message, *args)
            return
        self._told.add(kind)
        self._logger.log(level, message, *args)
