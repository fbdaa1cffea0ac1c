"""What a command reads a schema from: ``module:Type``, a file, a server's URL."""

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
    """The schemas of what a server sends, and of what its clients send if that is said.

    Parameters
    ----------
    source : str
        See `SOURCE_HELP`. A module is looked for in the current directory first.
    options : argparse.Namespace
        With those of `urls.add_url_options`.

    Raises
    ------
    CommandError
        It is none of these, or what is there has no schema.
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
    # One schema text or two, each with or without the line of its hash behind it.
    found: list[Schema] = []
    for part in text.split("\ndeli 1\n"):
        lines = (part if not found else f"deli 1\n{part}").rstrip("\n").split("\n")
        said = lines.pop() if lines[-1].startswith("hash ") else None
        try:
            schema = Schema.parse("\n".join(lines).rstrip("\n") + "\n")
        except ValueError as error:
            raise CommandError(f"{name}: {error}") from error
        if said is not None and said.split()[1:2] != [schema.hash]:
            fail(f"{name}: it was changed by hand: its hash is {schema.hash}, the file says {said[5:37]}")
        found.append(schema)
    if len(found) > 2:
        fail(f"{name} has {len(found)} schema texts: one for each direction at most")
    return Schemas(found[0], found[1] if len(found) == 2 else None)


def _recorded(source: str) -> Schemas:
    # By direction. One by another writer has schemas by topic, of which a single one can be meant.
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
    """What a name of a module stands for; the module is looked for in the current directory first.

    Raises
    ------
    CommandError
        There is none.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"{module}:{name} is not to be had: {error}") from error
    return found


def _schema_of(module: str, name: str) -> Schema:
    try:
        return codec(load_type(module, name)).schema
    except TypeError as error:
        raise CommandError(f"{module}:{name} has no schema: {error}") from error
