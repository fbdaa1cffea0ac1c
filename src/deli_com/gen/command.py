"""``deli-com gen``: the part of the command line that writes code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_to", "run"]

_LANGUAGES = {
    "ts": "TypeScript, or JavaScript",
    "rust": "Rust, as a module without a crate",
    "cpp": "C++17, as a header",
    "python": "Python, as classes for this package",
}


def add_to(commands: Any) -> None:
    """Add ``gen`` to the sub-commands of a parser."""
    command = commands.add_parser(
        "gen",
        help="write types and codecs for other languages",
        description="Writes the types of a schema, and functions that read and write their bytes, in another "
        "language: one file without a dependency. The same input gives the same bytes.",
    )
    languages = command.add_subparsers(dest="language", required=True, metavar="LANGUAGE")
    for name, words in _LANGUAGES.items():
        one = languages.add_parser(name, help=words, description=f"{words} from a schema.")
        one.add_argument("source", metavar="SOURCE", help="module:Down[,Up], or a file with a schema text")
        one.add_argument("-o", "--output", metavar="FILE", help="where to (default: the standard output)")
        one.add_argument(
            "--check",
            action="store_true",
            help="write nothing; exit with 1 if FILE is not what would be written",
        )
        _OPTIONS.get(name, lambda _: None)(one)


def _ts_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--js", action="store_true", help="an ES module that browsers load, without types")
    one.add_argument(
        "--u64", choices=("bigint", "number"), default="bigint", help="what 64-bit integers become"
    )


def _cpp_options(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--namespace", default="wire", metavar="NAME", help="of all that is in it (default: wire)"
    )


_OPTIONS = {"ts": _ts_options, "cpp": _cpp_options}


def _write(options: argparse.Namespace) -> str:
    import deli_com.gen as gen
    from deli_com.gen.source import read_source

    schema, up = read_source(options.source)
    if options.language == "ts":
        return gen.typescript(schema, up, js=options.js, u64=options.u64)
    if options.language == "cpp":
        return gen.cpp(schema, up, namespace=options.namespace)
    if options.language == "python":
        return gen.python(schema, up)
    return gen.rust(schema, up)


def run(options: argparse.Namespace) -> int:
    """Do what was asked.

    Returns
    -------
    int
        0; 1 where ``--check`` finds a stale file; 2 where the source or the file cannot be used.
    """
    if options.check and options.output is None:
        print("deli-com gen: --check compares with a file: give -o FILE", file=sys.stderr)
        return 2
    try:
        text = _write(options)
        if options.output is None:
            sys.stdout.write(text)
            return 0
        path = Path(options.output)
        if options.check:
            found = path.read_text(encoding="utf-8") if path.is_file() else None
            if found != text:
                print(f"{path} is stale: it is not what {options.source} gives", file=sys.stderr)
                return 1
            return 0
        path.write_text(text, encoding="utf-8", newline="\n")
    except (ValueError, OSError) as error:
        print(f"deli-com gen: {error}", file=sys.stderr)
        return 2
    return 0
