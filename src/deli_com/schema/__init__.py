"""What a type is, as text that travels: schemas, what a reader makes of another writer, control texts."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Hints name it, and only who asks for them pays for the import: it is 5 % of that of deli_com.
    if name == "tree":
        import importlib

        return importlib.import_module("deli_com.schema.tree")
    raise AttributeError(f"module 'deli_com.schema' has no attribute {name!r}")
