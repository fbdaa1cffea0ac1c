"""Reads a schema from the SOURCE of a command: ``module:Type``, a file, a server's URL."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from deli_com.cli.command import CommandError, fail
from deli_com.cli.urls import is_url, server_of
from deli_com.coding.registry import codec
from deli_com.schema.question import Schemas
from deli_com.schema.schema import Schema

__all__ = ["SOURCE_HELP", "load_type", "read_source"]

SOURCE_HELP = "module:Down[,Up], the URL of a server, a file with schema texts, a recording (x.mcap), or -"


def read_source(source: str, options: argparse.Namespace) -> Schemas:
    """The schemas of what a server sends and, if known, of what its clients send.

    Parameters
    ----------
    source : str
        See `SOURCE_HELP`. A module is first searched in the current directory.
    options : argparse.Namespace
        Contains the options of `urls.add_url_options`.

    Raises
    ------
    CommandError
        The source is none of these, or has no schema.
    """
    if is_url(source):
        return server_of(source, options).ask()
    if source == "-":
        return _texts(sys.stdin.read(), "the input")
    if source.endswith(".mcap"):
        return _recorded(source)
    path = Path(source)
    if path.is_file():
        try:
            return _texts(path.read_text(encoding="utf-8"), source)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{source}: {error}") from error
    if "://" in source:
        fail(f"{source!r} is no URL of a server: ws://, wss://, tcp:// or tcps://")
    module, colon, names = source.partition(":")
    if not colon or not names:
        fail(f"{source!r} is no file, and not of the form module:Down[,Up]")
    found = [_schema_of(module, name) for name in names.split(",")]
    if len(found) > 2:
        fail(f"{source!r} names {len(found)} types: one for each direction at most")
    return Schemas(found[0], found[1] if len(found) == 2 else None)


def _texts(text: str, name: str) -> Schemas:
    # One or two schema texts, each with or without a hash line after it.
    found: list[Schema] = []
    for part in text.split("\ndeli 1\n"):
        lines = (part if not found else f"deli 1\n{part}").rstrip("\n").split("\n")
        said = lines.pop() if lines[-1].startswith("hash ") else None
        try:
            schema = Schema.parse("\n".join(lines).rstrip("\n") + "\n")
        except ValueError as error:
            raise CommandError(f"{name}: {error}") from error
        if said is not None and said.split()[1:2] != [schema.hash]:
            fail(f"{name} was edited: its hash is {schema.hash}, but the file has {said[5:37]}")
        found.append(schema)
    if len(found) > 2:
        fail(f"{name} has {len(found)} schema texts: one for each direction at most")
    return Schemas(found[0], found[1] if len(found) == 2 else None)


def _recorded(source: str) -> Schemas:
    # Schemas by direction. A file of another writer has schemas by topic; only a single one is unambiguous.
    try:
        from deli_com.recording.recording import Recording

        recording: Recording[Any] = Recording(source)
        with recording:
            found = dict(recording.schemas)
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(f"{source}: {error}") from error
    if "down" not in found and len(found) == 1:
        return Schemas(next(iter(found.values())), None)
    if "down" not in found:
        fail(f"{source} does not say what a server sent: {', '.join(sorted(found)) or 'it has no schema'}")
    return Schemas(found["down"], found.get("up"))


def load_type(module: str, name: str) -> Any:
    """The object that a name of a module refers to. The module is first searched in the current directory.

    Raises
    ------
    CommandError
        There is no such object.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"{module}:{name} cannot be loaded: {error}") from error
    return found


def _schema_of(module: str, name: str) -> Schema:
    try:
        return codec(load_type(module, name)).schema
    except TypeError as error:
        raise CommandError(f"{module}:{name} has no schema: {error}") from error
