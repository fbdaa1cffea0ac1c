"""Schemas (a type as text), how a reader reads another writer's schema, and the control texts of the wire."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Type hints name this module. It is imported on first use: it takes 5 % of the import time of deli_com.
    if name == "tree":
        import importlib

        return importlib.import_module("deli_com.schema.tree")
    raise AttributeError(f"module 'deli_com.schema' has no attribute {name!r}")
