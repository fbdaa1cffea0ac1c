"""``deli-com demo``: shows the library in use."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

from deli_com.cli.command import OK, CommandError, describe, fail
from deli_com.cli.inspect import show_file

__all__ = ["fill", "run"]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _clients(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1000:
        raise ValueError(text)
    return count


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Broadcasts this machine's load, memory and network counters as typed values, 100 times a second,
        to client processes, and shows what each receives. Exits with 1 if any message was lost or out of
        order. The first line is the URL of a page that shows two robots, from the same port. At the end it
        shows the output of `deli-com inspect` for its recording.""",
        """deli-com demo
        deli-com demo --clients 8 --seconds 30
        deli-com demo --record demo.mcap""",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="N", help="how long; 0: until Ctrl-C (default: 10)"
    )
    parser.add_argument("--clients", type=_clients, default=4, metavar="N", help="how many (default: 4)")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="keep the recording (default: a file that is removed)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo.

    Returns
    -------
    int
        0; 1 if a message was lost or out of order; 2 if psutil or rich is missing.
    """
    from deli_com.demo import run

    if importlib.util.find_spec("mcap") is None or importlib.util.find_spec("zstandard") is None:
        if options.record is not None:
            fail('--record needs the extra: pip install "deli-com[record]"')
        return run(options.seconds, options.clients)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.mcap" if options.record is None else options.record
        try:
            status = run(options.seconds, options.clients, path)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(str(error)) from error
        if status == OK:
            print(f"\n$ deli-com inspect {path.name}")
            show_file(path)
    return status
