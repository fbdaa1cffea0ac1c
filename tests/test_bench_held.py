"""Held instruction counts: what is above one fails, and counts of another environment are not compared.

Nothing is counted here, so valgrind is not needed; `make bench-instructions-held` counts.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
ENVIRONMENT = {"python": "CPython 3.11.7", "modules built": "gcc 12", "valgrind": "valgrind-3.19.0"}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="bench/ is for Linux: /proc, epoll, valgrind"
)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("held")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, held: Any, tmp_path: Path) -> Any:
    """The script with two workloads, whose counts are held in a file of its own."""
    instructions = importlib.import_module("instructions")
    monkeypatch.setattr(instructions, "WORKLOADS", {"encode": (None, 1), "decode": (None, 1)})
    monkeypatch.setattr(instructions, "why_impossible", lambda: None)
    monkeypatch.setattr(instructions, "prepare", lambda *_: None)
    monkeypatch.setattr(held, "FILE", tmp_path / "instructions.json")
    monkeypatch.setattr(held, "environment", lambda: dict(ENVIRONMENT))
    return instructions


def run(program: Any, monkeypatch: pytest.MonkeyPatch, costs: dict[str, float], *arguments: str) -> int:
    """The script's exit status where the workloads cost so much."""
    monkeypatch.setattr(program, "measure", lambda name, steady: costs[name])
    monkeypatch.setattr(sys, "argv", ["instructions.py", *arguments])
    status: int = program.main()
    return status


def test_more_than_is_allowed_is_a_complaint(held: Any) -> None:
    counts = {"encode": 1000.0, "decode": 500.0}
    assert held.complaints(counts, {"encode": 1020.0, "decode": 400.0}, 2.0) == []
    assert held.complaints(counts, {"encode": 1021.0, "decode": 400.0}, 2.0) == [
        "encode: 1021, held 1000: +2.10 %, allowed 2.0 %"
    ]


def test_a_workload_without_a_count_and_a_count_without_a_workload_are_complaints(held: Any) -> None:
    assert held.complaints({"encode": 1.0}, {"decode": 1.0}) == [
        "encode: a count is held, but there is no such workload",
        "decode: no count is held",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "CPython 3.11.8"}, "python: CPython 3.11.7 there, CPython 3.11.8 here"),
        ({"modules built": "gcc 13"}, "modules built: gcc 12 there, gcc 13 here"),
        ({"libc": "glibc 2.36"}, "libc: not known there, glibc 2.36 here"),
    ],
)
def test_another_environment_is_named(held: Any, change: dict[str, str], words: str) -> None:
    assert held.differences(ENVIRONMENT, ENVIRONMENT) == []
    assert held.differences(ENVIRONMENT, ENVIRONMENT | change) == [words]


@pytest.mark.parametrize(
    ("binary", "compiler"),
    [
        (b"\0GCC: (Debian 12.2.0-14+deb12u1) 12.2.0\0", "gcc 12"),
        (b"\0GCC: (GNU) 15.1.1 20250425\0", "gcc 15"),
        # clang links files of gcc
        (b"\0GCC: (Debian 12.2.0) 12.2.0\0clang version 19.1.7 (Fedora)\0", "clang 19"),
        (b"\0", "an unknown compiler"),
    ],
)
def test_a_binary_names_its_compiler(held: Any, binary: bytes, compiler: str) -> None:
    assert held.compiled_by(binary) == compiler


def test_the_environment_of_this_machine_is_known(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules' own compiler is found, and a build with a switch is another environment."""
    monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0, "valgrind-3\n"))
    plain = held.environment()
    assert set(plain) == set(held.load()["environment"])
    assert plain["modules built"].startswith(("gcc ", "clang "))
    monkeypatch.setenv("DELI_COM_TRACE", "1")
    assert held.differences(plain, held.environment())


def test_every_workload_has_a_count_in_the_committed_file(held: Any) -> None:
    assert list(held.load()["figures"]) == list(importlib.import_module("instructions").WORKLOADS)


def test_what_is_refreshed_is_held(
    program: Any, held: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(held, "describe", lambda: {"cpu": "one"})
    assert run(program, monkeypatch, {"encode": 1000.0, "decode": 500.0}, "--refresh") == 0
    assert run(program, monkeypatch, {"encode": 1001.0, "decode": 400.0}, "--held") == 0
    assert "2 workloads cost at most" in capsys.readouterr().out
    assert run(program, monkeypatch, {"encode": 1001.0, "decode": 600.0}, "--held") == 1
    assert "decode: 600, held 500: +20.00 %" in capsys.readouterr().err
    # One alone, which leaves the other as it was.
    assert run(program, monkeypatch, {"decode": 600.0}, "--refresh", "decode") == 0
    assert held.load()["figures"] == {"encode": 1000.0, "decode": 600.0}
    assert held.load()["environment"] == ENVIRONMENT
    assert run(program, monkeypatch, {"decode": 600.0}, "--held", "decode") == 0


def test_the_least_of_three_counts(
    program: Any, held: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workload that costs too much is measured again, by itself; one that does so three times fails."""
    held.write({"encode": 100.0, "decode": 100.0}, ENVIRONMENT)
    monkeypatch.setattr(sys, "argv", ["instructions.py", "--held", "--jobs", "1"])
    asked: list[str] = []
    left: list[float] = []

    def measure(name: str, steady: bool) -> float:
        assert steady
        asked.append(name)
        return left.pop(0)

    monkeypatch.setattr(program, "measure", measure)
    for costs, status in ([100.0, 103.0, 104.0, 101.0], 0), ([100.0, 103.0, 104.0, 105.0], 1):
        asked.clear()
        left[:] = costs
        assert program.main() == status
        assert asked == ["encode", "decode", "decode", "decode"]
    assert capsys.readouterr().err == "decode: 103, held 100: +3.00 %, allowed 2.0 %\n"


def test_the_larger_of_two_is_held(program: Any, held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "describe", lambda: {"cpu": "one"})
    left = [100.0, 100.0, 102.0, 99.0]
    monkeypatch.setattr(program, "measure", lambda name, steady: left.pop(0))
    monkeypatch.setattr(sys, "argv", ["instructions.py", "--refresh", "--jobs", "1"])
    assert program.main() == 0
    assert held.load()["figures"] == {"encode": 102.0, "decode": 100.0}


def test_elsewhere_nothing_is_compared_and_it_says_so(
    program: Any, held: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Costs a hundred times above what is held pass, in words that say why."""
    monkeypatch.setattr(held, "describe", lambda: {"cpu": "one"})
    cheap, dear = {"encode": 1.0, "decode": 1.0}, {"encode": 100.0, "decode": 100.0}
    assert run(program, monkeypatch, cheap, "--refresh") == 0
    monkeypatch.setattr(held, "environment", lambda: ENVIRONMENT | {"python": "CPython 3.12.1"})
    capsys.readouterr()
    assert run(program, monkeypatch, dear, "--held") == 0
    said = capsys.readouterr().out
    assert said == (
        "NOT COMPARED with instructions.json: python: CPython 3.11.7 there, CPython 3.12.1 here\n"
    )
    # Nor are counts of two environments put into one file.
    assert run(program, monkeypatch, dear, "--refresh", "encode") == 1
    assert held.load()["figures"] == cheap
    monkeypatch.setattr(program, "why_impossible", lambda: "valgrind is not installed")
    assert run(program, monkeypatch, dear, "--held") == 0
    assert capsys.readouterr().out == "NOT COMPARED with instructions.json: valgrind is not installed\n"


def test_without_valgrind_it_says_what_is_missing(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    callgrind = importlib.import_module("callgrind")
    found = {"valgrind": "/usr/bin/valgrind", "gcc": "/usr/bin/gcc"}
    monkeypatch.setattr("shutil.which", found.get)
    monkeypatch.setenv("CC", "gcc")
    answer = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)
    assert callgrind.why_impossible() is None
    answer.returncode = 1  # of the preprocessor
    assert callgrind.why_impossible() == "valgrind/callgrind.h is not installed"
    del found["gcc"]
    assert callgrind.why_impossible() == "there is no C compiler"
    del found["valgrind"]
    assert callgrind.why_impossible() == "valgrind is not installed"
