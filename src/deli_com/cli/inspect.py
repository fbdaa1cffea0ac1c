"""``deli-com inspect``: shows the contents of a recording, or what a server sends."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from deli_com.cli.command import OK, CommandError, describe, painted
from deli_com.cli.listen import listened
from deli_com.cli.urls import Place, add_url_options, is_url, server_of
from deli_com.cli.values import type_name
from deli_com.errors import ComError

__all__ = ["fill", "run", "show_file"]

RATE_S = 2.0  # window for the rates of a running server
UNITS = ("B", "KB", "MB", "GB", "TB")


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Shows the types in a recording, or those that a server sends: count, rate and size of the messages,
        and the age of the newest. For a server, a terminal shows a live table until Ctrl-C. Otherwise the
        table is printed after --seconds.""",
        """deli-com inspect run.mcap
        deli-com inspect ws://robot:8765
        deli-com inspect ws://robot:8765 --seconds 10 > rates.txt""",
    )
    parser.add_argument("source", metavar="FILE|URL", help="a recording, or the URL of a server")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="watch a server for this time (default in a pipe: 3)"
    )
    add_url_options(parser)


def run(options: argparse.Namespace) -> int:
    """Show the contents."""
    try:
        if is_url(options.source):
            return _watch(server_of(options.source, options), options)
        return show_file(options.source)
    except BrokenPipeError:
        raise
    except (ComError, OSError, ValueError, ImportError) as error:
        raise CommandError(f"{options.source}: {error}") from error


def show_file(path: str | os.PathLike[str]) -> int:
    """Print what is in a recording: channels, counts, rates and sizes."""
    from deli_com.recording.recording import Recording

    recording: Any = Recording(path)
    sizes: dict[str, int] = {}
    for _, channel, payload in recording.raw():
        sizes[channel.topic] = sizes.get(channel.topic, 0) + len(payload)
    total = sum(channel.messages for channel in recording.channels)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(recording.start / 1e9)) if total else "never"
    print(f"{path}: {total} messages, {recording.duration:.3f} s from {began}")
    if not recording.is_whole:
        line = f"incomplete: `deli-com repair {path}` completes it"
        print(painted(line, "yellow", sys.stdout))
    if recording.gaps:
        count = sum(gap.messages for gap in recording.gaps)
        line = f"{count} more messages were left out while recording: too much waited for the disk"
        print(painted(line, "yellow", sys.stdout))
    for direction, schema in recording.schemas.items():
        print(painted(f"{direction}: {schema.hash}", "dim", sys.stdout))
    rows = [
        [
            channel.topic,
            channel.type,
            str(channel.messages),
            _rate(channel.messages / recording.duration if recording.duration else 0.0),
            size_text(sizes.get(channel.topic, 0) / channel.messages if channel.messages else 0),
            size_text(sizes.get(channel.topic, 0)),
            channel.encoding,
        ]
        for channel in sorted(recording.channels, key=lambda found: found.topic)
    ]
    for line in table(["topic", "type", "messages", "rate", "mean", "bytes", "encoding"], rows):
        print(line)
    return OK


@dataclass
class Watched:
    """The counts of one class."""

    count: int = 0
    bytes: int = 0
    last: float = 0.0
    recent: float = 0.0  # messages a second, in the last complete window
    window: int = 0


def _watch(place: Place, options: argparse.Namespace) -> int:
    schemas = place.ask()
    down = schemas.down.load()
    up = None if schemas.up is None else schemas.up.load()
    is_live = sys.stdout.isatty()
    seconds = options.seconds if options.seconds is not None else None if is_live else 3.0
    seen: dict[str, Watched] = {}
    began = time.monotonic()

    def lines(now: float) -> list[str]:
        rows = [
            [
                name,
                str(one.count),
                _rate(one.recent or one.count / max(now - began, 1e-9)),
                size_text(one.bytes / one.count),
                size_text(one.bytes / max(now - began, 1e-9)) + "/s",
                f"{max(0.0, now - one.last):.1f} s",
            ]
            for name, one in sorted(seen.items())
        ]
        return table(["type", "messages", "rate", "mean", "bytes", "age"], rows)

    async def receive() -> None:
        async for _, value in listened(place, down, up):
            one = seen.setdefault(type_name(value), Watched())
            one.count += 1
            one.window += 1
            one.bytes += len(value.to_bytes()) if hasattr(value, "to_bytes") else 0
            one.last = time.monotonic()

    async def show() -> None:
        height, window = 0, began
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            if now - window >= RATE_S:
                for one in seen.values():
                    one.recent, one.window = one.window / (now - window), 0
                window = now
            head = painted(f"{place.url}  {schemas.down.hash[:8]}  {now - began:.0f} s", "dim", sys.stdout)
            found = [head, *lines(now)]
            up_by = f"\x1b[{height}F" if height else ""
            print(up_by + "\n".join(f"\x1b[K{line}" for line in found), flush=True)
            height = len(found)

    async def work() -> None:
        tasks = [asyncio.ensure_future(receive())]
        if is_live:
            tasks.append(asyncio.ensure_future(show()))
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(work())
    if not is_live:
        for line in lines(time.monotonic()):
            print(line)
    return OK


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a table. Columns of numbers are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    right = [bool(rows) and all(cell[:1].isdigit() for cell in column) for column in zip(*rows, strict=True)]
    right = right or [False] * len(titles)

    def line(cells: list[str]) -> str:
        parts = [
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return [painted(line(titles), "bold", sys.stdout), *map(line, rows)]


def size_text(size: float) -> str:
    """A number of bytes for people: ``1.2 MB``."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"


def _rate(rate: float) -> str:
    return f"{rate:.1f}/s" if rate < 100 else f"{rate:.0f}/s"
