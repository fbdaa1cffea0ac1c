"""Collects the clients' reports and shows them: as a live table on a terminal, else as plain lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from deli_com.demo.telemetry import RATE_HZ, Report, Telemetry


class Row:
    """One client: its newest report, and rates since the previous one."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.rate = 0.0  # messages a second
        self.payload_rate = 0.0  # bytes a second

    def add(self, report: Report) -> None:
        """Add a report, which must be newer than the previous one."""
        if self.report is not None and report.stamp_ns > self.report.stamp_ns:
            elapsed_s = (report.stamp_ns - self.report.stamp_ns) / 1e9
            self.rate = (report.received - self.report.received) / elapsed_s
            self.payload_rate = (report.payload - self.report.payload) / elapsed_s
        self.report = report


class Board:
    """All clients.

    Parameters
    ----------
    clients : int
        Number of clients. Their numbers are 0 to ``clients - 1``.
    """

    def __init__(self, clients: int) -> None:
        self.rows = [Row() for _ in range(clients)]
        self.sent = 0  # samples broadcast so far

    def add(self, report: Report) -> None:
        """Add a report to the client that it names."""
        self.rows[report.client].add(report)

    def complete(self) -> bool:
        """Whether every client has sent its final report."""
        return all(row.report is not None and row.report.final for row in self.rows)

    def failures(self) -> list[str]:
        """The failures, one line for each client; empty if each has received all samples in order."""
        lines: list[str] = []
        for number, row in enumerate(self.rows):
            report = row.report
            if report is None or not report.final:
                lines.append(f"client {number}: no final report")
            elif (report.received, report.lost, report.disordered) != (self.sent, 0, 0):
                lines.append(
                    f"client {number}: {report.received} of {self.sent} received, "
                    f"{report.lost} lost, {report.disordered} out of order"
                )
        return lines


def gigabytes(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 1e9:.2f} GB"


def decoded(sample: Telemetry) -> list[tuple[str, str]]:
    """The values of a sample as a client decoded them: names and texts."""
    return [
        ("load of each core", "  ".join(f"{load:.0f} %" for load in sample.cores)),
        ("memory", f"{gigabytes(sample.memory_used)} of {gigabytes(sample.memory_total)}"),
        ("network", f"{gigabytes(sample.net_sent)} sent, {gigabytes(sample.net_received)} received"),
    ]


class View(Protocol):
    """Shows a board. `update` is called often, and decides what to show."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, board: Board, elapsed_s: float) -> None:
        """Show the board at `elapsed_s` seconds after the first sample."""


class TableView:
    """A table that is redrawn in place.

    Parameters
    ----------
    console : rich.console.Console
        A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, board: Board, elapsed_s: float) -> None:
        """Redraw the table."""
        self._live.update(self.render(board, elapsed_s), refresh=True)

    def render(self, board: Board, elapsed_s: float) -> Group:
        """The table of clients, above the values that one of them has decoded."""
        clients = Table(
            title=f"{board.sent} samples in {elapsed_s:.1f} s, {RATE_HZ} a second, "
            f"to {len(board.rows)} client processes",
            title_justify="left",
        )
        for heading in ("client", "messages/s", "kB/s", "p50 µs", "p99 µs", "received", "lost", "disordered"):
            clients.add_column(heading, justify="right")
        values = Table(title="as decoded by the clients", title_justify="left", show_header=False)
        for number, row in enumerate(board.rows):
            if row.report is None:
                clients.add_row(str(number))
                continue
            report = row.report
            clients.add_row(
                str(number),
                f"{row.rate:.1f}",
                f"{row.payload_rate / 1e3:.1f}",
                f"{report.p50_us:.0f}",
                f"{report.p99_us:.0f}",
                str(report.received),
                str(report.lost),
                str(report.disordered),
            )
        newest = max(
            (row.report.latest for row in board.rows if row.report), key=lambda s: s.seq, default=None
        )
        if newest is not None:
            values.add_row("sample", str(newest.seq))
            for name, text in decoded(newest):
                values.add_row(name, text)
        return Group(clients, values)


class LineView:
    """Prints a line for each client, once a second.

    Parameters
    ----------
    out : file object
        Where to print. It is flushed after each second, so that a pipe gets the lines in time.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._due_s = 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.flush()

    def update(self, board: Board, elapsed_s: float) -> None:
        """Print if a second has passed since the last time."""
        if elapsed_s < self._due_s:
            return
        self._due_s = elapsed_s + 1.0
        for number, row in enumerate(board.rows):
            if (report := row.report) is None:
                continue
            values = "; ".join(f"{name} {text}" for name, text in decoded(report.latest))
            print(
                f"{elapsed_s:5.1f} s  client {number}: "
                f"{row.rate:.1f} messages/s, {row.payload_rate / 1e3:.1f} kB/s, "
                f"p50 {report.p50_us:.0f} us, p99 {report.p99_us:.0f} us, {report.received} received, "
                f"{report.lost} lost; sample {report.latest.seq}: {values}",
                file=self._out,
            )
        self._out.flush()


def make_view() -> View:
    """The view for the standard output."""
    console = Console()
    return (
        TableView(console) if console.is_terminal and not console.is_dumb_terminal else LineView(sys.stdout)
    )
