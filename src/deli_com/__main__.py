"""``python -m deli_com``: the version, the demo, and code for other languages."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from deli_com import _abi
from deli_com.gen import command


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


def parser() -> argparse.ArgumentParser:
    """The command line, as `argparse` knows it."""
    built_for = f"picows {_abi.PICOWS}, aiofastnet {_abi.AIOFASTNET}, CPython {platform.python_version()}"
    top = argparse.ArgumentParser(
        prog="python -m deli_com", description="Typed values broadcast over WebSocket and TCP."
    )
    top.add_argument("--version", action="version", version=f"deli-com {_abi.VERSION} ({built_for})")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="broadcast this machine's telemetry to client processes",
        description="Broadcasts this machine's load, memory and network counters as typed values, 100 times "
        "a second, to client processes, and shows what each receives. Exits with 1 if any message was lost "
        "or out of order.",
    )
    demo.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="N", help="how long; 0: until Ctrl-C (default: 10)"
    )
    demo.add_argument("--clients", type=_clients, default=4, metavar="N", help="how many (default: 4)")
    command.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; by default that of the process.

    Returns
    -------
    int
        Exit status: 0 in good order, 1 where the demo lost a message or a generated file is stale, 2 where it
        cannot start, 130 where it was interrupted at once.
    """
    options = parser().parse_args(argv)
    if options.command == "gen":
        return command.run(options)
    try:
        from deli_com.demo import run

        return run(options.seconds, options.clients)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
