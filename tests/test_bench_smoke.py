"""The bench suite runs, its counts are correct, and its checks can fail. Figures are not checked here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the load generator and the C floor need epoll"
)


@pytest.fixture(autouse=True)
def _bench_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def module(name: str) -> Any:
    return importlib.import_module(name)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


class TestEveryBenchRuns:
    @pytest.mark.parametrize(
        "name", ["fanout", "stalled", "latency", "receive", "uplink", "idle", "footprint", "tls"]
    )
    def test_quick_run_measures_every_installed_library(self, name: str, tmp_path: Path) -> None:
        """Each library yields its headline metric; contents are checked by the load where it broadcasts."""
        rows = module("rows")
        out = tmp_path / "result"
        done = run(name, "--quick", "--out", str(out))
        assert done.returncode == 0, done.stderr
        result = json.loads(out.with_suffix(".json").read_text())
        bench = rows.BENCHES[name]
        for case in bench.cases(rows.QUICK):
            wanted = {lib for lib in bench.libs(case) if rows.installed(lib)}
            found = [row for row in result["rows"] if row["case"] == case]
            assert {row["lib"] for row in found} == wanted
            assert any("deli-com" in lib for lib in wanted)
            for row in found:
                assert bench.headline in row["rounds"][0], row

    def test_result_names_its_circumstances(self, tmp_path: Path) -> None:
        """Date, machine, kernel, commit and versions stand in the file with the figures."""
        out = tmp_path / "result"
        done = run("fanout", "--quick", "--only", "deli-com", "--case", "64 B", "--out", str(out))
        assert done.returncode == 0, done.stderr
        meta = json.loads(out.with_suffix(".json").read_text())["meta"]
        for key in ("date", "cpu", "kernel", "python", "commit", "versions", "rounds", "loop"):
            assert meta[key], key


class TestChecksCanFail:
    def test_wrong_content_is_counted(self) -> None:
        """A server that does not number its messages is caught by the load's check."""
        job = module("drive").Job(clients=2, seconds=0.02, warmup=0.01)
        right = module("launch").run_server("floor_server", module("dataclasses").replace(job, check=1))
        wrong = module("launch").run_server("floor_server", job, check=1)
        assert right["load"]["bad"] == 0
        assert wrong["load"]["bad"] > 0

    def test_wrong_content_fails_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A quick run of such a server is an error, not a figure."""
        rows = module("rows")

        def broken(*_: Any, **__: Any) -> dict[str, Any]:
            return {"load": {"bad": 1}}

        monkeypatch.setattr(rows, "run_server", broken)
        with pytest.raises(ValueError, match="1 messages arrived wrong"):
            rows.Fanout().measure("C floor", {"clients": 1, "size": 64, "burst": 1}, rows.QUICK)

    def test_program_that_dies_is_an_error_with_its_words(self, tmp_path: Path) -> None:
        """What a program wrote before it died is in the message."""
        launch = module("launch")
        with pytest.raises(launch.RunFailed, match="no_such_program"):
            launch.run_server("servers/no_such_program", module("drive").Job(loop="no-such-loop"))


class TestReport:
    def rows(self) -> list[dict[str, Any]]:
        def row(lib: str, *cpu: float) -> dict[str, Any]:
            rounds = [{"cpu_ns": value, "wall_ns": value, "busy": 1.0} for value in cpu]
            case = {"clients": 100, "size": 64, "burst": 64}
            return {"bench": "fanout", "case": case, "lib": lib, "rounds": rounds}

        return [row("C floor", 100.0, 200.0, 100.0), row("deli-com", 110.0, 230.0, 120.0)]

    def test_ratio_pairs_the_rounds(self) -> None:
        """A round in which the machine was slow counts as a ratio and not as a time."""
        report = module("report")
        floor, ours = self.rows()
        assert report.ratio(ours, floor, "cpu_ns") == pytest.approx(1.15)
        assert report.median(ours, "cpu_ns") == 120.0
        assert report.spread(ours, "cpu_ns") == pytest.approx(0.5)

    def test_table_marks_a_server_that_waited(self) -> None:
        """A figure whose core was not the busy one carries a star."""
        report = module("report")
        rows = self.rows()
        bases = {"fanout": "C floor"}
        assert "120 ns **1.15** ±50 %" in report.tables(rows, bases)
        assert "\\*" not in report.tables(rows, bases)
        for entry in rows[1]["rounds"]:
            entry["busy"] = 0.5
        assert "±50 % \\*" in report.tables(rows, bases)


class TestSettle:
    """The thresholds are found in the sources, and both kinds of figure come out."""

    def test_every_threshold_is_one_number_in_its_file(self, tmp_path: Path) -> None:
        settle = module("settle")
        for threshold in settle.THRESHOLDS.values():
            text = (settle.ROOT / threshold.path).read_text(encoding="utf-8")
            assert len(threshold.pattern().findall(text)) == 1
            assert threshold.shipped() not in threshold.values
        gone = settle.Threshold("src/deli_com/fanout/hub.pyx", "NO_SUCH_BYTES", (1,))
        with pytest.raises(SystemExit, match="no line 'NO_SUCH_BYTES"):
            gone.shipped()

    @pytest.mark.parametrize("kind", ["fanout", "latency"])
    def test_one_run(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        settle, rows = module("settle"), module("rows")
        monkeypatch.setenv("PYTHONPATH", "")  # `once` sets it
        case = next(iter(rows.BENCHES[kind].cases(rows.QUICK)))
        assert settle.once(settle.ROOT / "src", case, rows.QUICK) > 0


class TestPeers:
    """Libraries of other languages broadcast the same messages, which the load checks."""

    @pytest.mark.parametrize(("language", "libs"), [
        ("go", {"gorilla, prepared", "coder/websocket"}),
        ("node", {"ws", "ws, corked"}),
    ])  # fmt: skip
    def test_each_of_a_language(
        self, language: str, libs: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rust's take minutes to build: `bench/run.py peers` runs them."""
        monkeypatch.setenv("DELI_COM_BENCH_PEERS", language)
        out = tmp_path / "result"
        done = run("peers", "many-to-one", "--quick", "--out", str(out))
        assert done.returncode == 0, done.stderr
        rows = json.loads(out.with_suffix(".json").read_text())["rows"]
        found = {row["lib"] for row in rows if row["bench"] == "peers"}
        received = {row["lib"] for row in rows if row["bench"] == "many-to-one"}
        missing = [
            line for line in done.stderr.splitlines() if line.startswith("peers: ") and "is left" in line
        ]
        if any(lib in line for lib in libs for line in missing):
            pytest.skip("; ".join(missing)[:300])
        assert found == {"C floor", "deli-com", "picows"} | libs
        assert received == {"C floor", "deli-com, recv", "deli-com, recv_many", "picows"} | libs - {
            "ws, corked"
        }
        assert len(missing) == 8 - len(libs)

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        foreign = module("foreign")
        foreign.command.cache_clear()
        monkeypatch.setattr("shutil.which", lambda name: None)
        assert module("rows_peers").why_missing("ws") == "npm is not installed"
        foreign.command.cache_clear()


class TestRecording:
    """What it counts is complete; its figures come out."""

    def test_it_runs(self, tmp_path: Path) -> None:
        out = tmp_path / "result.json"
        command = [
            sys.executable, str(BENCH / "recording.py"), "--folder", str(tmp_path), "--json", str(out),
            "--rounds", "2", "--megabytes", "4", "--messages", "3000",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        figures = json.loads(out.read_text())["figures"]
        assert set(figures) == {"send, 64 B", "send, 1 MB", "write, 64 B", "write, 1 MB", "read, 64 B"}
        assert figures["read, 64 B"]["messages"] == 3000
        assert not [path for path in tmp_path.iterdir() if path != out]


class TestReplay:
    def test_it_runs(self, tmp_path: Path) -> None:
        out = tmp_path / "result.json"
        command = [sys.executable, str(BENCH / "replay.py"), "--seconds", "1", "--json", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        figures = json.loads(out.read_text())["figures"]
        assert [row["messages"] for row in figures.values()] == [101, 101]
