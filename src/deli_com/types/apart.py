"""Two classes of one name, told apart in an error's text: reloaded modules, notebook cells that ran twice."""

from __future__ import annotations

import sys
from typing import Any

from deli_com.types.instance import RecordType, record_spec

__all__ = ["names_apart", "variants_apart"]


def names_apart(wanted: type, got: type) -> tuple[str, str]:
    """Names for "expected …, got …": of two classes with one name, what they differ in."""
    if wanted.__qualname__ != got.__qualname__:
        return wanted.__qualname__, got.__qualname__
    if wanted.__module__ != got.__module__:
        why = ""
        if "__main__" in (wanted.__module__, got.__module__):
            why = " (a file that is run and imported as well makes its classes twice)"
        return _full(wanted), _full(got) + why
    name = _full(wanted)
    if _now(wanted) is wanted:
        return name, f"{name} of an earlier definition (its module was reloaded, or its cell run again)"
    if _now(got) is got:
        return f"{name} of an earlier definition", (
            f"{name} of now: open anew what was opened with the earlier one"
        )
    return name, f"{name} of another definition"


def variants_apart(variant: Any, got: type) -> tuple[str, str]:
    """The same where any variant of a sealed class is expected; `variant` is one of them."""
    wanted = record_spec(variant).variant_of
    theirs = record_spec(got) if isinstance(got, RecordType) else None
    base = None if theirs is None else theirs.variant_of
    if base is None or base is wanted or base.__qualname__ != wanted.__qualname__:
        return wanted.__qualname__, got.__qualname__
    first, second = names_apart(wanted, base)
    return first, f"{got.__qualname__}, a variant of {second}"


def _full(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _now(cls: type) -> object:
    """What the name of a class means today; None where nobody can say."""
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)  # of "<locals>" too
    return found
