"""Tells two classes of the same name apart in an error text, after reloading or in notebooks."""

from __future__ import annotations

import sys
from typing import Any

from deli_com.types.instance import RecordType, record_spec

__all__ = ["names_apart", "variants_apart"]


def names_apart(wanted: type, got: type) -> tuple[str, str]:
    """Names for "expected …, got …". If both classes have the same name, these say how they differ."""
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
            f"the present {name}: reopen servers and clients that use the earlier one"
        )
    return name, f"{name} of another definition"


def variants_apart(variant: Any, got: type) -> tuple[str, str]:
    """The same, for an expected variant of a sealed class. `variant` is any of its variants."""
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
    """The object that the name of a class refers to now; None if that is unknown."""
    found: object = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)  # None for "<locals>" too
    return found
