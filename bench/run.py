"""The bench suite: `python bench/run.py [NAME ...] [--quick]`. Read README.md before the figures.

Every measured library runs in a process of its own on one core, and the load on another core. Rounds
alternate between the libraries, and each round starts with a different one. Writes results/<date>.json, .md
and .svg.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from launch import HERE, RunFailed, cores
from machine import describe
from report import Row, case_name, chart, tables
from rows import BENCHES, QUICK, Bench, Pace, installed
from rows_peers import PEERS, ManyToOne, Peers, why_missing

NAMES = [*BENCHES, "codec"]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument(
        "bench", nargs="*", choices=[*NAMES, "all", []], default=[], help="which; all if none is named"
    )
    parser.add_argument(
        "--quick", "--smoke", action="store_true", help="seconds, for crashes: the figures mean nothing"
    )
    parser.add_argument("--rounds", type=int, help="rounds of every row (5)")
    parser.add_argument(
        "--minutes",
        type=float,
        help="the main cases of each bench, in as many rounds of all as fit (one at least)",
    )
    parser.add_argument("--seconds", type=float, help="measured seconds a run, where a run is timed (0.5)")
    parser.add_argument(
        "--loop", choices=["uvloop", "asyncio"], default="uvloop", help="event loop of all asyncio libraries"
    )
    parser.add_argument(
        "--only", default="", help="libraries, separated by |; the base of ratios is always run"
    )
    parser.add_argument(
        "--case", default="", help="only cases whose name contains this, as '100 clients, 64 B'"
    )
    parser.add_argument("--out", type=Path, help="results file without suffix; default results/<date>")
    parser.add_argument("--table", type=Path, help="print the tables of a results file and measure nothing")
    return parser.parse_args(argv)


class Selected(NamedTuple):
    """One row to be measured, and where its rounds go."""

    bench: Bench
    case: dict[str, int]
    libs: list[str]
    rows: dict[str, Row]


def select(benches: list[Bench], pace: Pace, only: list[str], case_filter: str, main: bool) -> list[Selected]:
    """All cases that are asked for, each with the libraries that take part; `main`: the main ones."""
    chosen = []
    for bench in benches:
        for case in bench.cases(pace):
            if case_filter not in case_name(case) or (main and not pace.quick and not bench.is_main(case)):
                continue
            libs = [
                lib
                for lib in bench.libs(case)
                if (not only or lib in only or lib == bench.base) and installed(lib)
            ]
            rows: dict[str, Row] = {
                lib: {"bench": bench.name, "case": case, "lib": lib, "rounds": []} for lib in libs
            }
            chosen.append(Selected(bench, case, libs, rows))
    return chosen


def run_round(chosen: Selected, turn: int, pace: Pace, log: Callable[[str], None]) -> None:
    """Runs every library of one case once; each round starts with a different one."""
    bench, case, libs, rows = chosen
    first = turn % len(libs)
    for lib in libs[first:] + libs[:first]:
        started = time.perf_counter()
        metrics = bench.measure(lib, case, pace)
        rows[lib]["rounds"].append(metrics)
        log(
            f"{bench.name} {case_name(case)} | {lib}: {bench.headline} {metrics[bench.headline]:.1f}"
            f" ({time.perf_counter() - started:.1f} s)"
        )


def run_all(chosen: list[Selected], pace: Pace, until: float | None, log: Callable[[str], None]) -> list[Row]:
    """All rounds: a case at a time or, with a deadline, a round of everything at a time for as long as the
    next one can be expected to end before it. There is one round at least;
    what is steady is run in that only."""
    if until is None:
        for one in chosen:
            for turn in range(pace.rounds):
                run_round(one, turn, pace, log)
    else:
        turn, last = 0, 0.0
        while turn == 0 or time.perf_counter() + last < until:
            last = 0.0
            for one in chosen:
                if not one.bench.is_steady or turn == 0:
                    started = time.perf_counter()
                    run_round(one, turn, pace, log)
                    last += 0.0 if one.bench.is_steady else time.perf_counter() - started
            turn += 1
            log(f"round {turn} done, {max(0.0, until - time.perf_counter()):.0f} s left")
    return [row for one in chosen for row in one.rows.values()]


def run_codec(rounds: int | None, log: Callable[[str], None]) -> dict[str, Any]:
    """The rows of bench_codec.py, which runs in a process of its own and prints its own table."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "codec.json"
        command = [sys.executable, str(HERE / "bench_codec.py"), "--json", str(out)]
        log("codec: bench_codec.py")
        subprocess.run(command + ([] if rounds is None else ["--rounds", str(rounds)]), check=True)
        loaded: dict[str, Any] = json.loads(out.read_text())
    return loaded


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    bases = {name: bench.base for name, bench in BENCHES.items()}
    if options.table is not None:
        print(tables(json.loads(options.table.read_text())["rows"], bases))
        return 0
    pace = replace(QUICK if options.quick else Pace(), loop=options.loop)
    pace = replace(pace, rounds=options.rounds or pace.rounds, seconds=options.seconds or pace.seconds)
    names = [name for name in NAMES if name in options.bench or not options.bench or "all" in options.bench]
    meta = describe() | {
        "loop": pace.loop,
        "rounds": pace.rounds,
        "seconds": pace.seconds,
        "quick": pace.quick,
        "minutes": options.minutes,
    }
    meta["cores_used"] = cores()
    rows: list[Row] = []
    codec: dict[str, Any] = {}

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    only = [lib for lib in options.only.split("|") if lib]
    short = options.minutes is not None
    until = time.perf_counter() + 60 * options.minutes if short else None
    try:
        if "codec" in names:
            codec = run_codec(1 if pace.quick else 3 if short else None, log)
        benches = [BENCHES[name] for name in names if name != "codec"]
        chosen = select(benches, pace, only, options.case, short)
        for bench in benches:
            if isinstance(bench, (Peers, ManyToOne)):
                for lib in PEERS:
                    if (not only or lib in only) and (why := why_missing(lib)):
                        log(f"{bench.name}: {lib} is left out: {why}")
        if chosen:
            rows = run_all(chosen, pace, until, log)
            meta["rounds"] = max(len(row["rounds"]) for row in rows)
    except (RunFailed, ValueError, subprocess.CalledProcessError) as exc:
        log(f"failed: {exc}")
        return 1
    text = tables(rows, bases)
    print(text)
    if pace.quick and options.out is None:
        return 0
    out = options.out or HERE / "results" / time.strftime("%Y-%m-%d")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(
        json.dumps({"meta": meta, "rows": rows, "codec": codec}, indent=1) + "\n"
    )
    out.with_suffix(".md").write_text(text)
    log(f"written: {out}.json, .md")
    if importlib.util.find_spec("matplotlib") is None:
        log("no chart: matplotlib is not installed")
    elif chart(rows, meta, out.with_suffix(".svg")):
        log(f"written: {out}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
