"""Compares values of the core's thresholds: `python bench/settle.py [NAME ...] [--rounds 5] [--json FILE]`.

Each threshold is a constant of the compiled core. For each value to compare with the shipped one, the tree is
copied to _build/settle/, that one constant is changed there, and the extensions are built. Then the builds
take turns: every round measures each of them once in each case. The figures are the medians of the ratios to
the shipped value within the rounds. 1.00 is the shipped value, and more is worse.

Thresholds for few clients and a quiet line are judged by latency, all others by CPU a delivery.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from launch import BUILD, HERE
from machine import describe
from report import case_name
from rows import BENCHES, Case, Latency, Pace

ROOT = HERE.parent


@dataclass(frozen=True)
class Threshold:
    """A constant, the values that are compared with the shipped one, and what they are judged by."""

    path: str
    constant: str
    values: tuple[int, ...]
    fanout: tuple[Case, ...] = ()
    latency: tuple[Case, ...] = ()

    def pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(\b{self.constant} = )(\d+)\b")

    def shipped(self) -> int:
        found = self.pattern().search((ROOT / self.path).read_text(encoding="utf-8"))
        if found is None:
            raise SystemExit(f"{self.path} has no line '{self.constant} = <number>'")
        return int(found[2])


def _cases(*rows: tuple[int, int, int]) -> tuple[Case, ...]:
    return tuple({"clients": clients, "size": size, "burst": burst} for clients, size, burst in rows)


def _alone(*clients: int) -> tuple[Case, ...]:
    return tuple({"clients": count, "size": 64} for count in clients)


THRESHOLDS = {
    "slab": Threshold(
        "src/deli_com/log/arena.pxd",
        "SLAB_BYTES",
        (131_072, 1_048_576),
        fanout=_cases((100, 64, 64), (100, 1024, 64), (10, 16_384, 16), (1, 64, 64)),
    ),
    "early flush": Threshold(
        "src/deli_com/fanout/hub.pyx",
        "EARLY_BYTES",
        (16_384, 65_536, 524_288),
        fanout=_cases((100, 1024, 64), (10, 1024, 64), (10, 16_384, 16), (100, 16_384, 16)),
    ),
    "few clients": Threshold(
        "src/deli_com/fanout/hub.pyx",
        "EAGER_FOLLOWERS",
        (0, 64),
        fanout=_cases((4, 64, 1), (32, 64, 1), (32, 64, 16)),
        latency=_alone(1, 4, 32),
    ),
    "quiet line": Threshold(
        "src/deli_com/fanout/hub.pyx",
        "EAGER_QUIET_NS",
        (0, 10_000, 1_000_000),
        fanout=_cases((1, 64, 1), (1, 64, 16), (1, 64, 64)),
        latency=_alone(1),
    ),
    "by reference": Threshold(
        "src/deli_com/log/arena.pxd",
        "LARGE_BYTES",
        (8_192, 16_384, 131_072),
        fanout=_cases(
            *((clients, size, 1) for clients in (1, 20) for size in (8_192, 16_384, 32_768, 65_536))
        ),
    ),
}


def built(threshold: Threshold, value: int) -> Path:
    """The `src` of a copy of this tree with that value; rebuilt only if the sources have changed."""
    shipped = value == threshold.shipped()  # one build for all thresholds
    copy = BUILD / "settle" / ("shipped" if shipped else f"{threshold.constant}-{value}")
    copy.mkdir(parents=True, exist_ok=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    shutil.copytree(
        ROOT / "src",
        copy / "src",
        ignore=shutil.ignore_patterns("*.so", "*.c", "*.html", "*.egg-info", "__pycache__"),
        dirs_exist_ok=True,
    )
    target = copy / threshold.path
    text, count = threshold.pattern().subn(rf"\g<1>{value}", target.read_text(encoding="utf-8"))
    assert count == 1, f"{threshold.constant} is set {count} times in {threshold.path}"
    target.write_text(text, encoding="utf-8")
    print(f"building with {threshold.constant} = {value}", file=sys.stderr)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{copy}: {done.stderr}")
    return copy / "src"


def once(source: Path, case: Case, pace: Pace) -> float:
    """One run: CPU ns a delivery, or for single messages the median latency in µs."""
    os.environ["PYTHONPATH"] = str(source)
    if "burst" in case:
        return BENCHES["fanout"].measure("deli-com", case, pace)["cpu_ns"]
    latency = Latency()
    latency._seconds = 1.0
    return latency.measure("deli-com", case, pace)["p50_us"]


def settle(threshold: Threshold, pace: Pace) -> dict[str, Any]:
    shipped = threshold.shipped()
    values = sorted({shipped, *threshold.values})
    sources = {value: built(threshold, value) for value in values}
    rows: list[dict[str, Any]] = []
    for case in (*threshold.fanout, *threshold.latency):
        runs: dict[int, list[float]] = {value: [] for value in values}
        for turn in range(pace.rounds):
            for value in values[turn % len(values) :] + values[: turn % len(values)]:
                runs[value].append(once(sources[value], case, pace))
        ratios = {
            value: statistics.median(a / b for a, b in zip(runs[value], runs[shipped], strict=True))
            for value in values
        }
        rows.append({"case": case, "runs": runs, "ratios": ratios})
        unit = "CPU a delivery" if "burst" in case else "latency"
        shown = ", ".join(f"{value}: {ratio:.2f}" for value, ratio in ratios.items())
        absolute = statistics.median(runs[shipped])
        print(
            f"{case_name(case)}, {unit} ({absolute:.0f} {'ns' if 'burst' in case else 'µs'}): {shown}",
            flush=True,
        )
    return {"constant": threshold.constant, "shipped": shipped, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(THRESHOLDS)}; all if none is named"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    unknown = set(options.names) - set(THRESHOLDS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(map(repr, THRESHOLDS))}")
    pace = replace(Pace(), rounds=options.rounds, seconds=0.3)
    results = {}
    for name in options.names or THRESHOLDS:
        threshold = THRESHOLDS[name]
        print(f"\n{name} ({threshold.constant}, shipped: {threshold.shipped()})", flush=True)
        results[name] = settle(threshold, pace)
    if options.json:
        options.json.write_text(json.dumps({"machine": describe(), "settled": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
