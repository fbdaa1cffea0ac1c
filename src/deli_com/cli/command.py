"""What every command may use: failures, examples in its help, output and its colours."""

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
NOT_SO = 1  # a file is stale, schemas differ, a message was lost
FAILED = 2  # wrong arguments, no such file, nobody there
INTERRUPTED = 130  # 128 and SIGINT, as shells say it
UNREAD = 141  # 128 and SIGPIPE

Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow"]
_CODES: dict[Colour, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class CommandError(Exception):
    """What was asked cannot be done. Its text is printed, behind the command's name; the status is 2."""


def fail(text: str) -> NoReturn:
    raise CommandError(text)


def describe(parser: argparse.ArgumentParser, text: str, examples: str) -> None:
    """Give a command's help its description, and its examples as they are written.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    text : str
        One paragraph.
    examples : str
        Command lines; indentation that all of them share is removed.
    """
    parser.description = filled(text)
    parser.epilog = "examples:\n" + "\n".join(f"  {line}" for line in inspect.cleandoc(examples).split("\n"))


def filled(text: str) -> str:
    """One paragraph, as wide as the terminal; help texts with examples are not filled by argparse."""
    width = min(shutil.get_terminal_size().columns - 2, 100)
    return textwrap.fill(" ".join(text.split()), width)


def colours(stream: IO[str]) -> bool:
    """Whether a stream takes colours: a terminal that is not dumb, and ``NO_COLOR`` is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: Colour, stream: IO[str]) -> str:
    """The text in a colour where the stream takes colours, else as it is."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if text and colours(stream) else text


def note(text: str) -> None:
    """Print a line about what is done, for a person: to the standard error, which is no output."""
    print(painted(text, "dim", sys.stderr), file=sys.stderr)
