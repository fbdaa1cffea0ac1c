"""Servers, clients and their figures as short tables: what notebooks and IPython show of them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

__all__ = ["ShownAsTable", "figures"]


class ShownAsTable:
    """A class whose objects IPython shows as a table; their `repr` stays one line, for logs.

    Its other half has ``_table``: a title, and rows of a name and what belongs to it.
    """

    __slots__ = ()

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        raise NotImplementedError

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        title, rows = self._table()
        width = max((len(name) for name, _ in rows), default=0)
        printer.text("\n".join([title, *(f"  {name:{width}}  {_shown(value)}" for name, value in rows)]))

    def _repr_html_(self) -> str:
        title, rows = self._table()
        lines = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(_shown(value))}</td></tr>"
            for name, value in rows
        )
        return f"<table><caption>{html.escape(title)}</caption>{lines}</table>"


def figures(stats: Any, *names: str) -> list[tuple[str, object]]:
    """Rows of some of the counters; those of rare events only where they have happened."""
    rare = ("skipped", "superseded", "unknown", "gaps")
    return [
        (name.replace("_", " "), getattr(stats, name))
        for name in names
        if name not in rare or getattr(stats, name)
    ]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(count)}" for key, count in value.items() if count) or "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
