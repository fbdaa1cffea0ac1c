"""``deli-com export``: writes the values of a recording for other programs."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from deli_com.cli.command import OK, CommandError, describe, fail
from deli_com.cli.listen import wanted
from deli_com.cli.values import json_line, row, type_name
from deli_com.errors import ComError

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Prints the values of a recording: as JSON lines, the form of `deli-com listen --json`, or as CSV
        with a column for each field. --parquet writes a file for each class, and needs pyarrow.""",
        """deli-com export run.mcap --json | jq .value.speed
        deli-com export run.mcap --csv --type Pose --from +10s --to +20s > poses.csv
        deli-com export run.mcap --parquet -o tables""",
    )
    parser.add_argument("file", metavar="FILE", help="a recording")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--json", action="store_true", help="one object per line")
    form.add_argument("--csv", action="store_true", help="a table of one class")
    form.add_argument("--parquet", action="store_true", help="a file for each class, in the folder of -o")
    parser.add_argument("-o", "--output", metavar="PLACE", help="file, or folder for --parquet")
    parser.add_argument("--type", metavar="T", help="only values of this class")
    parser.add_argument("--key", metavar="K", help="only values whose key is K")
    parser.add_argument("--from", dest="start", metavar="T", help="+10s from the start, -10s from the end")
    parser.add_argument("--to", dest="end", metavar="T", help="the same")


def run(options: argparse.Namespace) -> int:
    """Write the values."""
    from deli_com.recording.recording import Recording

    try:
        recording: Any = Recording(options.file).between(options.start, options.end)
        if options.type is not None:
            recording = recording.select(options.type)
        if options.parquet:
            return _parquet(recording, options)
        if options.output is None:
            return _lines(recording, options, sys.stdout)
        with Path(options.output).open("w", encoding="utf-8", newline="") as stream:
            return _lines(recording, options, stream)
    except BrokenPipeError:
        raise
    except (ComError, OSError, ValueError, ImportError) as error:
        raise CommandError(f"{options.file}: {error}") from error


def _lines(recording: Any, options: argparse.Namespace, stream: Any) -> int:
    if options.json:
        for at, value in recording:
            if wanted(value, None, options.key):
                stream.write(json_line(at, value) + "\n")
        return OK
    writer, columns, name = None, [], None
    for at, value in recording:
        if not wanted(value, None, options.key):
            continue
        cells = row(value)
        if writer is None:
            writer, columns, name = csv.writer(stream, lineterminator="\n"), [*cells], type_name(value)
            writer.writerow(["time", *columns])
        if type_name(value) != name:
            fail(f"{options.file} has {name} and {type_name(value)}: choose one with --type")
        if [*cells] != columns:  # an option is not in every row; JSON keeps it in one cell
            cells = {column: cells.get(column) for column in columns}
        writer.writerow([f"{at // 10**9}.{at % 10**9:09d}", *cells.values()])
    return OK


def _parquet(recording: Any, options: argparse.Namespace) -> int:
    try:
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: F401
    except ImportError:
        fail('--parquet needs the extra: pip install "deli-com[parquet]"')
    if options.output is None:
        fail("--parquet writes files: give -o FOLDER")
    from deli_com.cli.parquet import write_tables

    values = ((at, value) for at, value in recording if wanted(value, None, options.key))
    for table in write_tables(values, recording.schemas.values(), Path(options.output)):
        print(f"{table.path}: {table.rows} rows")
    return OK
