"""``deli-com gen``: writes types and codecs for other languages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deli_com.cli.command import NOT_SO, OK, CommandError, describe, fail
from deli_com.cli.source import SOURCE_HELP, read_source
from deli_com.cli.urls import add_url_options

__all__ = ["fill", "run"]

_LANGUAGES = {
    "ts": "TypeScript, or JavaScript",
    "rust": "Rust, as a module without a crate",
    "cpp": "C++17, as a header",
    "dart": "Dart 3, as the Rust crates write it",
    "python": "Python, as classes for this package; SOURCE may be a lib.rs",
}


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Writes the types of a schema, and functions that read and write their bytes, in another language:
        one file without a dependency. The same input gives the same bytes.""",
        """deli-com gen ts telemetry:Telemetry,Command --client -o wire.ts
        deli-com gen cpp telemetry:Telemetry,Command -o wire.hpp --namespace robot
        deli-com gen rust telemetry.schema -o wire.rs --check""",
    )
    languages = parser.add_subparsers(
        dest="language", required=True, metavar="LANGUAGE", parser_class=argparse.ArgumentParser
    )
    for name, words in _LANGUAGES.items():
        one = languages.add_parser(name, help=words, description=f"{words} from a schema.")
        one.add_argument("source", metavar="SOURCE", help=SOURCE_HELP)
        one.add_argument("-o", "--output", metavar="FILE", help="output file (default: the standard output)")
        one.add_argument(
            "--vectors", metavar="FILE", help="write test vectors too: lines of JSON with bytes and values"
        )
        one.add_argument(
            "--check",
            action="store_true",
            help="write nothing; exit with 1 if FILE differs from what would be written",
        )
        add_url_options(one)
        _OPTIONS.get(name, lambda _: None)(one)


def _ts_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--js", action="store_true", help="an ES module that browsers load, without types")
    one.add_argument("--u64", choices=("bigint", "number"), default="bigint", help="type of 64-bit integers")
    one.add_argument(
        "--client", action="store_true", help="with a client that connects, checks schemas and reconnects"
    )
    one.add_argument("--generic", action="store_true", help="with a decoder for any schema, by its text")


def _cpp_options(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--namespace", default="wire", metavar="NAME", help="namespace of the header (default: wire)"
    )


_OPTIONS = {"ts": _ts_options, "cpp": _cpp_options}


def _write(options: argparse.Namespace) -> tuple[str, str]:
    # The text, and the vectors if they are wanted.
    import deli_com.gen as gen

    if options.language == "python" and options.source.endswith(".rs"):
        from deli_com.gen.lib_rs import python_of_rust

        if options.vectors is not None:
            fail("--vectors needs one type of a schema: a Rust file has several")
        try:
            return python_of_rust(Path(options.source).read_text(encoding="utf-8")), ""
        except (ValueError, ImportError) as error:
            raise CommandError(f"{options.source}: {error}") from error
    schema, up = read_source(options.source, options)
    made = ""
    if options.vectors is not None:
        from deli_com.gen.vectors import vectors

        made = "".join(vectors(each) for each in (schema, up) if each is not None)
    if options.language == "ts":
        text = gen.typescript(
            schema, up, js=options.js, u64=options.u64, generic=options.generic, client=options.client
        )
    elif options.language == "cpp":
        text = gen.cpp(schema, up, namespace=options.namespace)
    else:
        text = {"dart": gen.dart, "python": gen.python, "rust": gen.rust}[options.language](schema, up)
    return text, made


def run(options: argparse.Namespace) -> int:
    """Write the file, or compare it with ``--check``.

    Returns
    -------
    int
        0; 1 if ``--check`` finds a stale file.
    """
    if options.check and options.output is None:
        fail("--check compares with a file: give -o FILE")
    try:
        text, vectors = _write(options)
        if options.output is None:
            sys.stdout.write(text)
        files = [(options.output, text), (options.vectors, vectors)]
        stale = [name for name, made in files if name is not None and not _is_written(options, name, made)]
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from error
    for name in stale:
        print(f"{name} is stale: it differs from what {options.source} gives", file=sys.stderr)
    return NOT_SO if stale else OK


def _is_written(options: argparse.Namespace, name: str, text: str) -> bool:
    # Writes the file; with --check, returns whether it has this text already.
    path = Path(name)
    if options.check:
        return path.is_file() and path.read_text(encoding="utf-8") == text
    path.write_text(text, encoding="utf-8", newline="\n")
    return True
