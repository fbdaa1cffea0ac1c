"""Trees to classes made at run time."""

from __future__ import annotations

from typing import Any

from deli_com.schema.tree import Tree

__all__ = ["load"]


def load(found: Tree) -> tuple[Any, dict[str, Any]]:
    """The root as a type, and the classes by name."""
    raise NotImplementedError("classes from a schema text are not made yet")
