"""``deli-com demo``: shows the library in use."""

from __future__ import annotations

import argparse

from deli_com.cli.command import describe

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
        order. The first line is the URL of a page that shows two robots, from the same port.""",
        """deli-com demo
        deli-com demo --clients 8 --seconds 30""",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="N", help="how long; 0: until Ctrl-C (default: 10)"
    )
    parser.add_argument("--clients", type=_clients, default=4, metavar="N", help="how many (default: 4)")


def run(options: argparse.Namespace) -> int:
    """Run the demo.

    Returns
    -------
    int
        0; 1 if a message was lost or out of order; 2 if psutil or rich is missing.
    """
    from deli_com.demo import run

    return run(options.seconds, options.clients)
