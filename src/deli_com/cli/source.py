"""What a command reads a schema from: ``module:Type``, a file."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from deli_com.coding.registry import codec
from deli_com.schema.schema import Schema

__all__ = ["SOURCE_HELP", "load_type", "read_source"]

SOURCE_HELP = "module:Down[,Up], or a file with a schema text"


def read_source(source: str) -> tuple[Schema, Schema | None]:
    """The schemas of what a server sends, and of what its clients send if that is said.

    Parameters
    ----------
    source : str
        ``module:Down`` or ``module:Down,Up``, the module importable from here; or the path of a file that
        holds a schema text.

    Raises
    ------
    ValueError
        It is neither, or what is there has no schema.
    """
    if source.startswith(("ws://", "wss://")):
        raise ValueError("a server is not asked for its schema yet: give module:Type or a schema file")
    if source.endswith(".mcap"):
        raise ValueError("recordings are not read yet: give module:Type or a schema file")
    if Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8")
        return Schema.parse(text), None
    module, colon, names = source.partition(":")
    if not colon or not names:
        raise ValueError(f"{source!r} is no file, and not of the form module:Down[,Up]")
    found = [_schema_of(module, name) for name in names.split(",")]
    if len(found) > 2:
        raise ValueError(f"{source!r} names {len(found)} types: one for each direction at most")
    return found[0], found[1] if len(found) == 2 else None


def load_type(module: str, name: str) -> Any:
    """What a name of a module stands for; the module is looked for in the current directory first.

    Raises
    ------
    ValueError
        There is none.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{module}:{name} is not to be had: {error}") from error
    return found


def _schema_of(module: str, name: str) -> Schema:
    try:
        return codec(load_type(module, name)).schema
    except TypeError as error:
        raise ValueError(f"{module}:{name} has no schema: {error}") from error
