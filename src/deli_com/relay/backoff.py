"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

HELD_S = 1.0  # a connection that lasts less is one more failure


class Backoff:
    """Delays that double from the first to the longest, each drawn from its upper half.

    Parameters
    ----------
    first, longest : float
        Seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._delay = 0.0

    def lasted(self, seconds: float) -> None:
        """A connection has lasted so long: after a long one, the next attempt is the first again."""
        if seconds >= max(HELD_S, self._delay):
            self._delay = 0.0

    def next(self) -> float:
        """Seconds to wait now."""
        self._delay = min(max(self._first, 2 * self._delay), self._longest)
        return self._delay * random.uniform(0.5, 1.0)
