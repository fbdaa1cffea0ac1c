"""`StreamStats`: figures of a stream, over all of its connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from deli_com.link.shown_as_table import ShownAsTable
from deli_com.link.stats import ServerStats

__all__ = ["StreamStats", "Totals"]

# Of the figures of a client, those that say what it holds now; all others count up.
OF_NOW = frozenset({
    "clients", "laggards", "queued_bytes", "oldest_queued_s", "retained_keys", "retained_bytes", "slabs",
    "inbox_bytes", "oldest_inbox_s", "bounded", "transit", "in_flight", "rate",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats(ServerStats):
    """The counters of a client, over all connections of a stream; what is held is that of the current one.

    Attributes
    ----------
    connections : int
        That were made.
    away_s : float
        Seconds without a connection, since the first one.
    """

    connections: int = 0
    away_s: float = 0.0

    _repr_pretty_ = ShownAsTable._repr_pretty_


class Totals:
    """The counters of connections that are over."""

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}

    def add(self, ended: ServerStats) -> None:
        """Add what a client has counted up to its end."""
        _add(self._counts, ended, OF_NOW)

    def with_current(
        self, current: ServerStats | None, gaps: int, connections: int, away_s: float
    ) -> StreamStats:
        """Return the figures of the stream; `gaps` are those between connections."""
        counts = dict(self._counts)
        if current is not None:
            _add(counts, current)
        for name in OF_NOW:
            counts.setdefault(name, 0)
        for field in fields(ServerStats):
            counts.setdefault(field.name, {} if field.name in ("refused", "closed", "turned_away") else 0)
        counts["backplane"] = None  # of servers
        counts["gaps"] += gaps
        return StreamStats(**counts, connections=connections, away_s=away_s)


def _add(counts: dict[str, Any], more: ServerStats, without: Collection[str] = ()) -> None:
    for field in fields(ServerStats):
        if field.name in without or field.name == "backplane":
            continue
        figure = getattr(more, field.name)
        if isinstance(figure, (int, float)):
            counts[field.name] = counts.get(field.name, 0) + figure
        else:
            counts[field.name] = dict(Counter(counts.get(field.name, {})) + Counter(figure))
