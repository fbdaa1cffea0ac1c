"""From rounds to medians, tables and a chart."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # {"bench", "case", "lib", "rounds": [metrics, ...]}; see results/*.json

BUSY = 0.9  # below this the measured core waited: the CPU time is still right, the wall time is not

TITLES = {
    "fanout": "Fan-out: CPU a delivery in the server, times the C floor",
    "stalled": "Latency of 100 clients without and with one that never reads (µs: p50 / p99 / p99.9); growth",
    "latency": "One-way latency of one message (µs: p50 / p99 / p99.9)",
    "receive": "Receiving in one client: CPU a message, times picows' Python listener",
    "uplink": "Many clients to one server: CPU a message in the server, times picows",
    "idle": "Idle clients: memory each (KiB), CPU of an accept (µs)",
    "peers": "Fan-out beside libraries of other languages: CPU a delivery in the server, times the C floor",
    "many-to-one": "Many clients to one server, other languages too: CPU a message, times deli-com's recv",
    "tls": "Fan-out over TLS: CPU a delivery in the server, times picows",
    "tls-uplink": "Many clients to one server over TLS: CPU a message in the server, times picows",
    "footprint": "Held after one 9 MB message each, some seconds later (KiB)",
}
COLOURS = {"C floor": "#555555", "deli-com": "#1668b8", "picows": "#e08214", "websockets": "#7b3294"}


def median(row: Row, metric: str) -> float:
    return float(statistics.median(entry[metric] for entry in row["rounds"]))


def spread(row: Row, metric: str) -> float:
    """Half the distance between the smallest and the largest round, as a fraction of the median."""
    values = [entry[metric] for entry in row["rounds"]]
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def ratio(row: Row, base: Row, metric: str) -> float:
    """Median of the ratios within each round: a slowdown of the machine then affects both sides."""
    pairs = zip(row["rounds"], base["rounds"], strict=False)
    return float(statistics.median(ours[metric] / theirs[metric] for ours, theirs in pairs))


def nanoseconds(value: float) -> str:
    if value < 1e3:
        return f"{value:.0f} ns"
    return f"{value / 1e3:.2f} µs" if value < 1e5 else f"{value / 1e3:.0f} µs"


def size_name(size: int) -> str:
    if size >= 1_000_000:
        return f"{size // 1_000_000} MB"
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def case_name(case: dict[str, int]) -> str:
    parts = []
    for key, value in case.items():
        parts.append(size_name(value) if key == "size" else f"{value} {key}")
    return ", ".join(parts)


def cell(bench: str, row: Row, base: Row | None) -> str:
    """One library in one case."""
    if bench in ("fanout", "receive", "uplink", "tls", "tls-uplink", "peers", "many-to-one"):
        text = nanoseconds(median(row, "cpu_ns"))
        if base is not None and base is not row:
            text += f" **{ratio(row, base, 'cpu_ns'):.2f}**"
        text += f" ±{spread(row, 'cpu_ns') * 100:.0f} %"
        return text + (" \\*" if median(row, "busy") < BUSY else "")
    if bench in ("latency", "stalled"):
        text = " / ".join(f"{median(row, f'{p}_us'):.0f}" for p in ("p50", "p99", "p999"))
        text += f" ±{spread(row, 'p99_us') * 100:.0f} %"
        return text + (f"; +{median(row, 'grown_mib'):.1f} MiB" if bench == "stalled" else "")
    if bench == "idle":
        return f"{median(row, 'client_kib'):.1f} KiB; {median(row, 'accept_us'):.0f} µs"
    return f"{median(row, 'held_kib'):.0f}"


def tables(rows: list[Row], bases: dict[str, str | None]) -> str:
    """All benches as Markdown: one line for each case, one column for each library."""
    lines: list[str] = []
    for bench in TITLES:
        mine = [row for row in rows if row["bench"] == bench]
        libs = list(dict.fromkeys(row["lib"] for row in mine))
        cases = list(dict.fromkeys(case_name(row["case"]) for row in mine))
        if not mine:
            continue
        lines += [f"### {TITLES[bench]}", "", f"| | {' | '.join(libs)} |", "|---" * (len(libs) + 1) + "|"]
        for case in cases:
            found = {row["lib"]: row for row in mine if case_name(row["case"]) == case}
            base = found.get(bases[bench] or "")
            cells = [cell(bench, found[lib], base) if lib in found else "" for lib in libs]
            lines.append(f"| {case} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def chart(rows: list[Row], meta: dict[str, Any], path: Path) -> bool:
    """Draw fan-out to 100 clients and 1 MB to 20 as bars; False if the rows have none of it."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    wanted = [
        {"clients": 100, "size": 64, "burst": 1},
        {"clients": 100, "size": 64, "burst": 16},
        {"clients": 100, "size": 64, "burst": 64},
        {"clients": 20, "size": 1_000_000, "burst": 1},
    ]
    fanout = [row for row in rows if row["bench"] == "fanout" and row["case"] in wanted]
    libs = list(dict.fromkeys(row["lib"] for row in fanout if row["lib"] != "deli-com, awaited"))
    cases = [case for case in wanted if any(row["case"] == case for row in fanout)]
    if not cases:
        return False
    matplotlib.rcParams["svg.hashsalt"] = "deli-com"  # the same figures make the same file
    figure, axes = pyplot.subplots(1, len(cases), figsize=(3.1 * len(cases), 3.4), squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        found = {row["lib"]: row for row in fanout if row["case"] == case}
        names = [lib for lib in libs if lib in found]
        values = [median(found[lib], "cpu_ns") for lib in names]
        bars = axis.bar(range(len(names)), values, color=[COLOURS.get(lib, "#bbbbbb") for lib in names])
        axis.bar_label(
            bars, [f"{ratio(found[lib], found['C floor'], 'cpu_ns'):.2f}" for lib in names], fontsize=7
        )
        axis.set_yscale("log")
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axis.set_title(case_name(case).replace("burst", "a turn"), fontsize=9)
        axis.tick_params(axis="y", labelsize=7)
        axis.margins(y=0.15)
    axes[0][0].set_ylabel("CPU a delivery, ns (log)", fontsize=8)
    figure.suptitle(
        "Broadcast: CPU a delivery; the number over a bar is times the C floor\n"
        f"{meta['cpu']}, {meta['kernel']}, Python {meta['python']}, {str(meta['date'])[:10]}, "
        f"commit {meta['commit']}",
        fontsize=8,
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return True
