"""Points in time of a recording, in the forms that people write."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TypeAlias

__all__ = ["Moment", "nanoseconds"]

Moment: TypeAlias = int | str | datetime | timedelta

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_OFFSET = re.compile(r"([+-])(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_EXPECTED = (
    'expected "+10s" (from the start) or "-10s" (from the end; units ns, us, ms, s, m, h), int nanoseconds '
    "since the epoch, a datetime with a time zone, or a timedelta from the start"
)


def nanoseconds(moment: Moment, start: int, end: int) -> int:
    """A moment as nanoseconds since the epoch.

    Parameters
    ----------
    moment : int, str, datetime or timedelta
        Nanoseconds since the epoch; ``"+1.5m"`` from `start` or ``"-10s"`` from `end`; a datetime with a
        time zone; a timedelta from `start`.
    start, end : int
        Times of the first and the last message, ns.

    Raises
    ------
    TypeError, ValueError
        The value has another form.
    """
    match moment:
        case bool():
            pass
        case int():
            return moment
        case str() if found := _OFFSET.fullmatch(moment):
            whole, _, part = found[2].partition(".")
            unit = UNITS[found[3]]
            distance = int(whole) * unit + (int(part) * unit // 10 ** len(part) if part else 0)
            return start + distance if found[1] == "+" else end - distance
        case str():
            raise ValueError(f"{moment!r} is no moment of a recording: {_EXPECTED}")
        case timedelta():
            return start + (moment // timedelta(microseconds=1)) * 1000
        case datetime() if moment.tzinfo is not None:
            since = moment - datetime.fromtimestamp(0, moment.tzinfo)
            return (since // timedelta(microseconds=1)) * 1000
        case datetime():
            raise ValueError(f"{moment!r} has no time zone, so it is no moment: {_EXPECTED}")
    raise TypeError(f"{moment!r} is no moment of a recording: {_EXPECTED}")
