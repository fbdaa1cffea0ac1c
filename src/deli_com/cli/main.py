"""The commands by name. Converts errors, interrupts and closed pipes to exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from deli_com import _abi
from deli_com.cli.command import FAILED, INTERRUPTED, UNREAD, CommandError, painted

__all__ = ["COMMANDS", "main", "parser"]

# By name. Each is the module of that name in this folder.
COMMANDS = {
    "demo": "broadcast this machine's telemetry to client processes",
    "export": "write the values of a recording as JSON, CSV or Parquet",
    "gen": "write types and codecs for other languages",
    "inspect": "show what is in a recording, or what a server sends",
    "listen": "print what a server sends",
    "record": "record what a server sends",
    "relay": "serve what another server sends to more clients",
    "repair": "complete a recording whose recorder was killed",
    "replay": "serve a recording again",
    "schema": "print what a type or a server sends, and compare",
    "view": "show what a server sends in the browser",
}


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command. The command's module fills it when it is used."""

    module: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        if self.module is not None:
            name, self.module = self.module, None
            command = importlib.import_module(f"deli_com.cli.{name}")
            command.fill(self)
            self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def parser() -> argparse.ArgumentParser:
    """The `argparse` parser of the command line."""
    built_for = f"picows {_abi.PICOWS}, aiofastnet {_abi.AIOFASTNET}, CPython {platform.python_version()}"
    top = argparse.ArgumentParser(
        prog="deli-com",
        description="Typed values broadcast over WebSocket and TCP.",
        epilog="`deli-com COMMAND --help` has the options of a command, and examples.",
    )
    top.add_argument("--version", action="version", version=f"deli-com {_abi.VERSION} ({built_for})")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, summary in COMMANDS.items():
        command: _CommandParser = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.module = name
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status; see `deli_com.cli`.
    """
    name = "deli-com"
    try:
        options = parser().parse_args(argv)
        name = f"deli-com {options.command}"
        status: int = options.run(options)
        sys.stdout.flush()  # here, and not when the interpreter exits, because the pipe may be closed
        return status
    except CommandError as error:
        print(painted(f"{name}: {error}", "red", sys.stderr), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _abandon(sys.stdout)
        return UNREAD


def _abandon(stream: Any) -> None:
    # The reader of the pipe has closed it. Buffered output must not be written when the interpreter exits,
    # because that would print an error.
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
