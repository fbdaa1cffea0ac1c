"""The demo as a user runs it, and the functions that find a lost message."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from deli_com import Recording, WsServer
from deli_com.demo.client import WINDOW, Tally
from deli_com.demo.telemetry import Report, Sampler, Telemetry
from deli_com.demo.view import Board, LineView, TableView

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and pseudo-terminals of POSIX")
SUMMARY = re.compile(
    r"(\d+) samples in ([\d.]+) s to (\d+) client processes: each received all of them, in order$",
    re.MULTILINE,
)

PAGE = re.compile(r"two robots on a page: (http://127\.0\.0\.1:\d+/)\n")


def sample(seq: int, *, sent_ns: int = 0, last: bool = False) -> Telemetry:
    return Telemetry(
        seq=seq,
        sent_ns=sent_ns,
        cores=array("f", [12.5, 50.0]),
        memory_used=3_000_000_000,
        memory_total=8_000_000_000,
        net_sent=1_500_000_000,
        net_received=2_500_000_000,
        last=last,
    )


def tally_of(*seqs: int) -> Report:
    """What a client reports that received these."""
    tally = Tally(0)
    for seq in seqs:
        tally.add(sample(seq), 1000)
    return tally.report(sample(seqs[-1]), 1000, final=True)


class TestTally:
    @pytest.mark.parametrize(
        ("seqs", "lost", "disordered"),
        [
            ((0, 1, 2), 0, 0),
            ((1, 2), 1, 0),
            ((0, 1, 3), 1, 0),
            ((0, 5), 4, 0),
            ((0, 1, 1), 0, 1),
            ((0, 2, 1), 1, 1),
        ],
    )
    def test_gaps_and_late_comers_are_counted(
        self, seqs: tuple[int, ...], lost: int, disordered: int
    ) -> None:
        report = tally_of(*seqs)
        assert (report.received, report.lost, report.disordered) == (len(seqs), lost, disordered)

    def test_latency_percentiles(self) -> None:
        tally = Tally(0)
        for seq in range(100):
            tally.add(sample(seq, sent_ns=0), (seq + 1) * 1000)
        report = tally.report(sample(99), 0, final=False)
        assert (report.p50_us, report.p99_us) == (51.0, 100.0)

    def test_latencies_are_those_of_the_last_messages(self) -> None:
        tally = Tally(0)
        for seq in range(2 * WINDOW):
            tally.add(sample(seq, sent_ns=0), 9_000_000 if seq < WINDOW else 1000)
        assert tally.report(sample(0), 0, final=False).p99_us == 1.0

    def test_payload_is_what_the_messages_take_on_the_wire(self) -> None:
        assert tally_of(0, 1).payload == 2 * len(sample(0).to_bytes())


class TestSampler:
    def test_samples_are_numbered_and_hold_this_machine(self) -> None:
        sampler = Sampler()
        samples = [sampler.sample() for _ in range(40)]
        assert [each.seq for each in samples] == list(range(40))
        assert samples == [Telemetry.from_bytes(each.to_bytes()) for each in samples]
        assert len(samples[-1].cores) == psutil.cpu_count()
        assert samples[-1].memory_total == psutil.virtual_memory().total
        stamps = [each.sent_ns for each in samples]
        assert stamps == sorted(stamps)


def board_of(*reports: Report, clients: int = 1, sent: int = 3) -> Board:
    board = Board(clients)
    board.sent = sent
    for report in reports:
        board.add(report)
    return board


class TestBoard:
    def test_all_received_in_order_is_no_failure(self) -> None:
        board = board_of(tally_of(0, 1, 2))
        assert board.complete()
        assert board.failures() == []

    @pytest.mark.parametrize(
        ("seqs", "line"),
        [
            ((0, 1), "client 0: 2 of 3 received, 0 lost, 0 out of order"),
            ((0, 2), "client 0: 2 of 3 received, 1 lost, 0 out of order"),
            ((0, 2, 1), "client 0: 3 of 3 received, 1 lost, 1 out of order"),
            ((0, 1, 2, 2), "client 0: 4 of 3 received, 0 lost, 1 out of order"),
        ],
    )
    def test_anything_else_is(self, seqs: tuple[int, ...], line: str) -> None:
        assert board_of(tally_of(*seqs)).failures() == [line]

    def test_a_client_without_final_report_is_named(self) -> None:
        board = board_of(tally_of(0, 1, 2), clients=2)
        assert not board.complete()
        assert board.failures() == ["client 1: no final report"]

    def test_rates_are_taken_between_two_reports(self) -> None:
        tally = Tally(0)
        tally.add(sample(0), 0)
        first = tally.report(sample(0), 1_000_000_000, final=False)
        tally.add(sample(1), 0)
        tally.add(sample(2), 0)
        second = tally.report(sample(2), 1_500_000_000, final=False)
        row = board_of(first, second).rows[0]
        assert row.rate == 4.0
        assert row.payload_rate == 4.0 * len(sample(0).to_bytes())


class TestViews:
    WORDS = ("12 %", "50 %", "3.00 GB of 8.00 GB", "1.50 GB sent, 2.50 GB received")

    def test_the_table_shows_every_client_and_the_decoded_values(self) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=120)
        with TableView(console) as view:
            view.update(board_of(tally_of(0, 1, 2), clients=2), 1.0)
        text = out.getvalue()
        for word in ("3 samples in 1.0 s", "messages/s", "p99 µs", "disordered", *self.WORDS):
            assert word in text

    def test_lines_come_once_a_second(self) -> None:
        out = io.StringIO()
        board = board_of(tally_of(0, 1, 2), clients=2)
        with LineView(out) as view:
            for tenth in range(31):
                view.update(board, tenth / 10)
        lines = out.getvalue().splitlines()
        assert [line.split(" s ")[0].strip() for line in lines] == ["1.0", "2.0", "3.0"]
        for word in self.WORDS:
            assert word in lines[0]


def demo(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "deli_com", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A demo that has printed its first line, and its client processes; none is left afterwards."""
    with demo(*arguments) as process:
        clients: list[psutil.Process] = []
        try:
            assert process.stdout is not None
            assert PAGE.fullmatch(process.stdout.readline())
            assert "client 0" in process.stdout.readline()
            clients = psutil.Process(process.pid).children(recursive=True)
            yield process, clients
        finally:
            process.kill()
            for client in clients:
                with contextlib.suppress(psutil.NoSuchProcess):
                    client.kill()


def gone(processes: list[psutil.Process]) -> bool:
    """Do all of them end within ten seconds? (Zombies have.)"""
    _, alive = psutil.wait_procs(processes, timeout=10)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


class TestRun:
    def test_it_ends_by_itself_and_every_message_arrived(self) -> None:
        with demo("--seconds", "2", "--clients", "3") as process:
            out, errors = process.communicate(timeout=60)
        assert errors == ""
        assert process.returncode == 0
        summary = SUMMARY.search(out)
        assert summary, out
        assert (summary[1], summary[3]) == ("200", "3")
        assert float(summary[2]) >= 1.9
        for number in range(3):
            assert f"client {number}: " in out
        # The recording, which is inspected at the end, has every sample.
        assert re.search(r"^\$ deli-com inspect demo\.mcap$", out, re.MULTILINE), out
        assert re.search(r"^/Telemetry +Telemetry +200 ", out, re.MULTILINE), out
        assert re.search(r"^/up/Report +Report +\d+ ", out, re.MULTILINE), out

    def test_the_recording_may_be_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "demo.mcap"
        with demo("--seconds", "0.5", "--clients", "1", "--record", str(path)) as process:
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        samples = [value for _, value in Recording[Telemetry](path)]
        assert [each.seq for each in samples] == [*range(50)] and samples[-1].last
        with demo("--seconds", "0.5", "--record", str(path)) as process:  # it is not overwritten
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 2 and "not empty" in errors

    def test_a_client_that_dies_makes_it_fail(self) -> None:
        with running("--seconds", "2", "--clients", "2") as (process, clients):
            assert len(clients) == 2
            clients[0].kill()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1
            assert re.search(r"^client \d: no final report$", errors, re.MULTILINE), errors
            assert gone(clients)

    @POSIX
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_in_good_order(self, number: signal.Signals) -> None:
        with running("--seconds", "0", "--clients", "2") as (process, clients):
            assert len(clients) == 2
            process.send_signal(number)
            out, errors = process.communicate(timeout=60)
            assert errors == ""
            assert SUMMARY.search(out), out
            assert process.returncode == 0
            assert gone(clients)

    @POSIX
    def test_clients_follow_a_server_that_was_killed(self) -> None:
        with running("--seconds", "0", "--clients", "2") as (process, clients):
            process.kill()
            assert gone(clients)

    @POSIX
    def test_on_a_terminal_it_draws_a_table(self) -> None:
        import pty

        leader, follower = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "deli_com", "demo", "--seconds", "1", "--clients", "1"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        ) as process:
            os.close(follower)
            shown = b""
            # Linux reports the end of a pseudo-terminal as an error.
            with contextlib.suppress(OSError):
                while piece := os.read(leader, 65536):
                    shown += piece
            os.close(leader)
            assert process.wait(60) == 0
        text = shown.decode()
        assert "messages/s" in text
        assert "load of each core" in text
        assert SUMMARY.search(text.replace("\r\n", "\n")), text

    @pytest.mark.parametrize("name", ["psutil", "rich"])
    def test_what_is_missing_is_named_with_the_way_to_get_it(self, name: str) -> None:
        script = (
            f"import sys; sys.modules[{name!r}] = None\n"
            "from deli_com.__main__ import main; sys.exit(main(['demo']))"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert ran.returncode == 2
        assert ran.stderr == f"the demo needs {name}: pip install deli-com[demo]\n"


class TestClientProcess:
    async def test_it_reports_what_the_server_left_out(self) -> None:
        async with WsServer[Telemetry, Report].bind("127.0.0.1:0") as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "deli_com.demo.client", str(server.local_addr()), "7"
            )
            await server.wait_clients(1)
            for seq in (0, 1, 3, 2, 4):
                await server.send(sample(seq, last=seq == 4))
            report = await server.recv()
            while not report.final:
                report = await server.recv()
            assert (report.client, report.received, report.lost, report.disordered) == (7, 5, 1, 1)
            assert report.latest == sample(4, last=True)
            assert await process.wait() == 0

    async def test_without_a_server_it_says_so_and_fails(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deli_com.demo.client", "127.0.0.1:1", "7", stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert errors.startswith(b"demo client 7: io error: ")
        assert b"Traceback" not in errors
