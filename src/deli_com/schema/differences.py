"""The differences of two schemas as text, from the reader's side, with a hint where a mistake is likely.

::

    celsius  f32 here, f64 there
    - battery  u8, only here and without a default
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from deli_com.errors import SchemaMismatch

__all__ = ["Differences", "aligned", "inside"]

MAX_SHOWN = 120  # characters of a type
MAX_PATH = 240  # characters of the path of a field
MAX_TOLD = 256 * 1024  # characters of the whole report; recursive structs make long paths from a short schema

_TOKEN = re.compile(r"\w+|.")


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Lay out names and their texts in two columns. A name may begin with ``"- "`` or ``"+ "``."""
    width = max((len(_bare(name)) for name, _ in rows), default=0)
    return [f"{name}{' ' * (width - len(_bare(name)))}  {text}" for name, text in rows]


def _bare(name: str) -> str:
    return name[2:] if name[:2] in ("- ", "+ ") else name


def inside(path: str, name: str) -> str:
    """The path of a part of the value at `path`. The middle of a path over `MAX_PATH` is left out."""
    where = f"{path}.{name}" if path else name
    return where if len(where) <= MAX_PATH else f"{where[:100]}...{where[103 - MAX_PATH :]}"


def shown(text: str) -> str:
    """The text of a type, cut to `MAX_SHOWN` characters."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


@dataclass(slots=True)
class _Differs:
    # A field that both ends have, with incompatible types.
    name: str
    where: str
    here: str
    there: str


@dataclass(slots=True)
class _Alone:
    # A field that only one end has, and its index there.
    place: int
    name: str
    where: str
    type: str


@dataclass(slots=True)
class Differences:
    """The differences that prevent reading values of another schema, collected struct by struct."""

    name: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    _differ: list[_Differs] = field(default_factory=list)
    _here: list[_Alone] = field(default_factory=list)
    _there: list[_Alone] = field(default_factory=list)

    def differ(self, name: str, where: str, here: str, there: str) -> None:
        """Note that a field of the current struct has another type at the writer."""
        self._differ.append(_Differs(name, where, here, there))

    def only_here(self, place: int, name: str, where: str, tp: str) -> None:
        """Note that a field of the current struct is not sent and has no default."""
        self._here.append(_Alone(place, name, where, tp))

    def only_there(self, place: int, name: str, tp: str) -> None:
        """Note a field that is sent and that the current struct lacks.

        It is no difference by itself. `add_rows` uses it to recognise a renamed field.
        """
        self._there.append(_Alone(place, name, name, tp))

    def say(self, where: str, text: str) -> None:
        """Note a difference of any other kind."""
        self.rows.append((where, text))

    def add_rows(self, moved: str = "") -> None:
        """Add the rows of the current struct, which is complete.

        Parameters
        ----------
        moved : str
            For a variant whose index differs at the writer: its index there, and the variant before it.
        """
        for item in self._differ:
            text = f"{shown(item.here)} here, {shown(item.there)} there"
            hint = self._swapped(item) or _type_hint(item.here, item.there) or moved
            self.rows.append((item.where, f"{text} ({hint})" if hint else text))
        for own in self._here:
            text = f"{shown(own.type)}, only here and without a default"
            old = next(
                (other for other in self._there if (other.place, other.type) == (own.place, own.type)), None
            )
            if old is not None:
                text += f' (in its place there is {old.name}; if renamed: field(renamed_from="{old.name}"))'
            self.rows.append((f"- {own.where}", text))
        self._differ, self._here, self._there = [], [], []

    def _swapped(self, item: _Differs) -> str:
        for other in self._differ:
            if other is not item and (other.here, other.there) == (item.there, item.here):
                return f"the types of {item.name} and {other.name} are swapped"
        return ""

    def check(self) -> None:
        """Raise `SchemaMismatch` if there are differences."""
        if self.rows:
            raise SchemaMismatch(self.name, self._told())

    def _told(self) -> list[str]:
        # Past MAX_TOLD, only the first rows are shown, and the number of the others.
        left = MAX_TOLD
        kept: list[tuple[str, str]] = []
        for row in self.rows:
            left -= len(row[0]) + len(row[1])
            if left < 0:
                break
            kept.append(row)
        lines = aligned(kept)
        more = len(self.rows) - len(kept)
        return [*lines, f"and {more} more"] if more else lines


def _type_hint(here: str, there: str) -> str:
    # A hint for types that differ in one number, which may be inside another type.
    own, other = _TOKEN.findall(here[:MAX_SHOWN]), _TOKEN.findall(there[:MAX_SHOWN])
    if len(own) != len(other):
        return ""
    found = [pair for pair in zip(own, other, strict=True) if pair[0] != pair[1]]
    return _number_hint(*found[0]) if len(found) == 1 else ""


def _number_hint(here: str, there: str) -> str:
    if here[:1] not in "ui" or there[:1] not in "ui" or not (here[1:].isdigit() and there[1:].isdigit()):
        return ""
    if here[1:] == there[1:]:
        return "signed there" if there[0] == "i" else "unsigned there"
    return (
        "wider there"
        if int(there[1:]) > int(here[1:])
        else "signed there"
        if there[0] == "i"
        else "unsigned there"
    )
