"""``deli-com record``: records what a server sends into a file."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import Any

from deli_com.cli.command import OK, CommandError, describe, note
from deli_com.cli.listen import positive
from deli_com.cli.urls import add_url_options, server_of
from deli_com.errors import ComError

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Records what a server sends into an MCAP file, until Ctrl-C, the count or the server ends it. It
        asks the server for its schema, so no class is needed. If the recorder is
        killed, the file can be read up to its last complete record, and `deli-com repair` completes it.""",
        """deli-com record ws://robot:8765 -o run.mcap
        deli-com record ws://robot:8765 -o run.mcap --compression zstd --split-seconds 600 --keep 6
        deli-com record tcp://127.0.0.1:9000 -o first.mcap --count 1000""",
    )
    parser.add_argument("url", metavar="URL", help="URL of a server")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="a file that does not exist")
    parser.add_argument(
        "--compression", choices=("zstd", "lz4"), help="compression of the file (default: none)"
    )
    parser.add_argument("--split-bytes", type=positive, metavar="N", help="begin another file at this size")
    parser.add_argument("--split-seconds", type=float, metavar="S", help="begin another file after this time")
    parser.add_argument("--keep", type=positive, metavar="N", help="number of files to keep")
    parser.add_argument("--count", type=positive, metavar="N", help="end after this many values")
    add_url_options(parser)


def run(options: argparse.Namespace) -> int:
    """Record until something ends it."""
    place = server_of(options.url, options)
    schemas = place.ask()
    down = schemas.down.load()
    up = None if schemas.up is None else schemas.up.load()

    async def work() -> Any:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        where = {
            "path": options.output,
            "compression": options.compression,
            "split_bytes": options.split_bytes,
            "split_seconds": options.split_seconds,
            "keep": options.keep,
        }
        async with place.connect(down, up, record=where) as client:
            async with client.recorders[0] as recorder:
                loop.add_signal_handler(signal.SIGINT, end.set)
                loop.add_signal_handler(signal.SIGTERM, end.set)
                receiving = asyncio.ensure_future(_receive(client, recorder, options.count))
                ending = asyncio.ensure_future(end.wait())
                try:
                    await asyncio.wait([receiving, ending], return_when=asyncio.FIRST_COMPLETED)
                    if receiving.done() and receiving.exception() is not None:
                        note(f"{options.url}: {receiving.exception()}")
                finally:
                    receiving.cancel()
                    ending.cancel()
                    await asyncio.gather(receiving, ending, return_exceptions=True)
        return recorder

    try:
        recorder = asyncio.run(work())
    except (ComError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    stats = recorder.stats
    print(f"{options.output}: {stats.messages} messages, {stats.bytes} bytes")
    if stats.left_out:
        print(f"{stats.left_out} messages are left out, because the disk was too slow", file=sys.stderr)
    if stats.error is not None:
        raise CommandError(f"{options.output}: {stats.error}")
    return OK


async def _receive(client: Any, recorder: Any, count: int | None) -> None:
    show = sys.stderr.isatty()
    loop = asyncio.get_running_loop()
    shown = 0.0
    try:
        while count is None or recorder.stats.messages < count:
            await client.recv_many(4096)
            if show and loop.time() - shown > 0.25:
                shown = loop.time()
                stats = recorder.stats
                line = f"{stats.messages} messages, {stats.bytes} bytes"
                print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    finally:
        if show:  # also at Ctrl-C, which the terminal shows as ^C
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
