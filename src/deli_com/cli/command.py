"""Helpers of all commands: failures, examples in help texts, output and colours."""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import sys
import textwrap
from typing import IO, Literal, NoReturn, TypeAlias

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "NOT_SO",
    "OK",
    "UNREAD",
    "Colour",
    "CommandError",
    "colours",
    "describe",
    "fail",
    "filled",
    "note",
    "painted",
]

OK = 0
NOT_SO = 1  # a file is stale, schemas differ, or a message was lost
FAILED = 2  # wrong arguments, a missing file, or a server that cannot be reached
INTERRUPTED = 130  # 128 + SIGINT, as in shells
UNREAD = 141  # 128 + SIGPIPE

Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow"]
_CODES: dict[Colour, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class CommandError(Exception):
    """A command cannot be completed. Its text is printed after the command's name; the status is 2."""


def fail(text: str) -> NoReturn:
    raise CommandError(text)


def describe(parser: argparse.ArgumentParser, text: str, examples: str) -> None:
    """Set the description of a command's help, and its examples, which keep their line breaks.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    text : str
        One paragraph.
    examples : str
        Command lines. Common indentation is removed.
    """
    parser.description = filled(text)
    parser.epilog = "examples:\n" + "\n".join(f"  {line}" for line in inspect.cleandoc(examples).split("\n"))


def filled(text: str) -> str:
    """A paragraph wrapped to the terminal's width. argparse does not wrap help texts with examples."""
    width = min(shutil.get_terminal_size().columns - 2, 100)
    return textwrap.fill(" ".join(text.split()), width)


def colours(stream: IO[str]) -> bool:
    """Whether a stream supports colours: a terminal that is not dumb, without ``NO_COLOR``."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: Colour, stream: IO[str]) -> str:
    """The text in a colour if the stream supports colours, else unchanged."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if text and colours(stream) else text


def note(text: str) -> None:
    """Print a status line for a person to the standard error, so that it is not part of the output."""
    print(painted(text, "dim", sys.stderr), file=sys.stderr)
