"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

HELD_S = 1.0  # a connection that lasts less is one more failure, whatever it has delivered


class Backoff:
    """Delays that double from the first to the longest, each drawn from its upper half.

    Parameters
    ----------
    first, longest : float
        Seconds.

    Attributes
    ----------
    delay : float
        The longest that the last wait may have been, in seconds; 0 before the first.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.delay = 0.0

    def lasted(self, seconds: float) -> bool:
        """Note how long a connection has lasted. True: long enough, so the delays begin again."""
        if seconds < max(HELD_S, self.delay):
            return False
        self.delay = 0.0
        return True

    def next(self) -> float:
        """Return the seconds to wait now."""
        self.delay = min(max(self._first, 2 * self.delay), self._longest)
        return self.delay * random.uniform(0.5, 1.0)
