"""Logging that a hostile peer cannot turn into a flood: a bounded number of records a second."""

from __future__ import annotations

import logging
import time

__all__ = ["LogBudget"]


class LogBudget:
    """Logs at most `per_second` records a second; the number of dropped records is added to the next one.

    Parameters
    ----------
    logger : logging.Logger
        Where the records go.
    per_second : int
        Records in each second on the monotonic clock.
    """

    __slots__ = ("_left", "_logger", "_per_second", "_second", "_suppressed", "_told")

    def __init__(self, logger: logging.Logger, per_second: int = 2) -> None:
        self._logger = logger
        self._per_second = per_second
        self._second = -1  # whole second that _left counts for
        self._left = per_second
        self._suppressed = 0
        self._told: set[str] = set()

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

    def once(self, kind: str, level: int, message: str, *args: object) -> None:
        """Log the first record of a kind; the next ones are DEBUG."""
        if kind in self._told:
            self._logger.debug(message, *args)
            return
        self._told.add(kind)
        self._logger.log(level, message, *args)
