"""``deli-com schema``: prints the schema of a type, and compares two."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator

from deli_com.cli.command import NOT_SO, OK, Colour, describe, painted
from deli_com.cli.source import SOURCE_HELP, read_source
from deli_com.cli.urls import add_url_options
from deli_com.coding.registry import codec
from deli_com.errors import SchemaMismatch
from deli_com.schema.question import Schemas
from deli_com.schema.schema import Schema
from deli_com.schema.text import without_notes

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Prints the schema of a type, a server or a file: the text, and its hash. With --diff it prints the
        differences to OTHER, and whether each of the two can read what the other sends. It exits with 1 if
        there are differences.""",
        """deli-com schema telemetry:Telemetry
        deli-com schema ws://robot:8765 > robot.schema
        deli-com schema telemetry:Telemetry,Command --diff ws://robot:8765
        deli-com schema telemetry:Telemetry --diff robot.schema || echo "not what the robot sends"
        deli-com schema wss://robot.example --hash --header "X-Site: 4" --ca site.pem""",
    )
    parser.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("--diff", metavar="OTHER", help="a second source; print the differences")
    parser.add_argument("--hash", action="store_true", help="print hashes only")
    add_url_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the schema, or the differences.

    Returns
    -------
    int
        0; 1 if ``--diff`` finds a difference.
    """
    found = read_source(options.source, options)
    if options.diff is not None:
        return _compare(options, found, read_source(options.diff, options))
    named = [("down", found.down), ("up", found.up)] if found.up is not None else [("", found.down)]
    for number, (direction, schema) in enumerate(named):
        assert schema is not None
        if options.hash:
            print(f"{schema.hash} {direction}".rstrip())
            continue
        line = f"hash {schema.hash} {direction}".rstrip()
        print("\n" * (number > 0) + schema.text + painted(line, "dim", sys.stdout))
    return OK


def _compare(options: argparse.Namespace, here: Schemas, there: Schemas) -> int:
    status = OK
    pairs = [("down", here.down, there.down)]
    if here.up is not None and there.up is not None:
        pairs.append(("up", here.up, there.up))
    for direction, own, other in pairs:
        title = f"{direction}: " if len(pairs) > 1 else ""
        if own == other:
            if options.hash:
                continue
            print(f"{title}the same, {own.hash}")
            continue
        status = NOT_SO
        print(painted(f"{title}{own.hash} here, {other.hash} there", "bold", sys.stdout))
        if options.hash:
            continue
        for line, colour in _changes(own, other):
            print(painted(line, colour, sys.stdout) if colour else line)
        for line in _verdict(own, other, f"{options.source} reads {options.diff}"):
            print(line)
        for line in _verdict(other, own, f"{options.diff} reads {options.source}"):
            print(line)
    if here.up is not None and there.up is None:
        print("up: nothing there")
        status = NOT_SO
    return status


def _changes(here: Schema, there: Schema) -> Iterator[tuple[str, Colour | None]]:
    # The lines that only one text has, each after the line of the definition that it belongs to.
    own, other = (without_notes(schema.text).splitlines()[1:] for schema in (here, there))
    title = None
    for line in [*difflib.unified_diff(own, other, n=len(own), lineterm="")][3:]:
        mark, text = line[0], line[1:]
        is_title = not text.startswith(" ")
        if mark == " ":
            title = text if is_title else title
            continue
        if title is not None and not is_title:
            yield f"  {title}", None
            title = None
        yield f"{mark} {text}", "red" if mark == "-" else "green"


def _verdict(reader: Schema, writer: Schema, words: str) -> Iterator[str]:
    try:
        own = codec(reader.load())
        found = own.reading(writer)
    except SchemaMismatch as mismatch:
        yield f"{words}: " + painted("no", "red", sys.stdout)
        yield from (f"  {line}" for line in mismatch.differences)
    except ValueError as error:
        yield f"{words}: not known: {error}"
    else:
        how = "as it is" if found is own else "value by value"
        yield f"{words}: " + painted(f"yes, {how}", "green", sys.stdout)
