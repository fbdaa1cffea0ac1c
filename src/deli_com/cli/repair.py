"""``deli-com repair``: completes a file whose recorder was killed."""

from __future__ import annotations

import argparse

from deli_com.cli.command import OK, CommandError, describe

__all__ = ["fill", "run"]


def fill(parser: argparse.ArgumentParser) -> None:
    describe(
        parser,
        """Removes the incomplete record at the end of a recording and writes its summary, in place, so that
        every MCAP reader can open it. What is damaged in the middle is left out and named; all behind it is
        kept. A complete file without damage is left unchanged.""",
        """deli-com repair run.mcap
        deli-com repair runs/*.mcap""",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="recordings")


def run(options: argparse.Namespace) -> int:
    """Repair each file."""
    from deli_com.recording.recorder import need_mcap
    from deli_com.recording.repair import repair

    for path in options.files:
        try:
            need_mcap()
            done = repair(path)
        except (OSError, ValueError, ImportError) as error:
            raise CommandError(f"{path}: {error}") from error
        what = "is complete" if done.was_whole else f"is complete now, {done.cut} bytes at its end were cut"
        print(f"{path}: {done.messages} messages; it {what}")
        for offset, size in done.damaged:
            print(f"{path}: {size} bytes at byte {offset} are damaged, and left out")
    return OK
