"""``deli-com replay``: serves a recording again."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from deli_com.cli.command import OK, CommandError, describe, note
from deli_com.cli.listen import positive
from deli_com.errors import ComError

if TYPE_CHECKING:
    from deli_com.replay import Replay

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Serves the values of a recording again, at the same intervals as the recorded server. It ends with
        the file; with --loop it starts over.""",
        """deli-com replay run.mcap --bind 127.0.0.1:8765
        deli-com replay run.mcap --bind 0.0.0.0:8765 --speed 4 --loop
        deli-com replay run.mcap --bind 127.0.0.1:8765 --start +1m --wait-clients 1
        deli-com replay run.mcap --bind 127.0.0.1:8765 --foxglove""",
    )
    parser.add_argument("file", metavar="FILE", help="a recording")
    parser.add_argument("--bind", metavar="HOST:PORT", required=True, help="where to serve it")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="speed factor (default: 1)")
    parser.add_argument("--loop", action="store_true", help="start over at the end")
    parser.add_argument("--start", metavar="+S", help="start at this time: +90s, +1m, -10s")
    parser.add_argument(
        "--wait-clients", type=positive, default=0, metavar="N", help="start with this many clients"
    )
    parser.add_argument(
        "--foxglove", action="store_true", help="serve Foxglove and Lichtblick too; they can control it"
    )


def run(options: argparse.Namespace) -> int:
    """Serve the recording."""
    from deli_com.replay import Replay

    async def work() -> None:
        replay = Replay(
            options.file, speed=options.speed, loop=options.loop, wait_clients=options.wait_clients
        )
        if options.start is not None:
            replay.seek(options.start)
        async with replay.serve(options.bind, foxglove=options.foxglove):
            note(f"ws://{replay.local_addr()}: {replay.duration:.1f} s of {options.file}")
            sys.stderr.flush()
            showing = asyncio.ensure_future(_show(replay)) if sys.stderr.isatty() else None
            try:
                await replay.wait_end()
            finally:
                if showing is not None:
                    showing.cancel()
                    await asyncio.wait([showing])
                    print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        asyncio.run(work())
    except (ComError, OSError, ValueError, ImportError) as error:
        raise CommandError(f"{options.file}: {error}") from error
    return OK


async def _show(replay: Replay) -> None:
    """Show the position on one line of the terminal, until cancelled."""
    while True:
        clients = replay.server.client_count()
        state = f"{replay.speed:g}x" if replay.is_playing else "paused"
        line = (
            f"{replay.position:.1f} of {replay.duration:.1f} s, {state}, "
            f"{clients} client{'' if clients == 1 else 's'}"
        )
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(0.25)
