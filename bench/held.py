"""The counts that `instructions.json` holds: what each workload of `instructions.py` may cost at most.

A count depends on the interpreter, on the compilers, on the C library and on valgrind. The file has those
that it was made with. Elsewhere nothing is compared, and `not_compared` says so in one line.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deli_com import _fastcodec
from machine import describe

FILE = Path(__file__).resolve().parent / "instructions.json"
# Percent. Where no socket takes part, runs of one build, builds in two folders and builds with more code
# differ by 0.0 to 0.3 %, once allocations are steady. The others depend on the clock too, which runs on while
# valgrind is slow: timers wake up, and a read finds more or less. Single runs of them differ by up to 2.5 %
# (20 clients; 64 KiB by recv_many). So the larger of two runs is held, and the least of up to TRIES is
# compared.
ALLOWED = 2.0
TRIES = 3
SWITCHES = ("DEBUG", "TRACE", "SANITIZE", "NO_SENDMSG")  # of setup.py: builds that cost more


def compiled_by(binary: bytes) -> str:
    """The compiler of a binary and its major version, as the compiler itself has written them into it."""
    for name, pattern in (("clang", rb"clang version (\d+)\."), ("gcc", rb"GCC: \([^)]*\) (\d+)\.")):
        if found := re.search(pattern, binary):
            return f"{name} {found[1].decode()}"
    return "an unknown compiler"


def _processor() -> str:
    """Valgrind shows a program the vector instructions of the machine; libc chooses its `memcpy` by them."""
    flags = Path("/proc/cpuinfo")
    avx2 = flags.exists() and re.search(r"^flags\s*:.*\bavx2\b", flags.read_text(), re.MULTILINE)
    return f"{platform.machine()}, {'AVX2' if avx2 else 'no AVX2'}"


def environment() -> dict[str, str]:
    """What a count depends on beside this tree."""
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimized = [name for name in ("--enable-optimizations", "--with-lto") if name in configured]
    switches = [name for name in SWITCHES if os.environ.get(f"DELI_COM_{name}") == "1"]
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True).stdout.strip()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python built": " ".join([platform.python_compiler(), *optimized]),
        "modules built": " ".join([compiled_by(Path(_fastcodec.__file__).read_bytes()), *switches]),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": valgrind,
        "processor": _processor(),
    }


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """In what two environments differ, in words; empty if their counts can be compared."""
    return [
        f"{name}: {there.get(name, 'not known')} there, {here.get(name, 'not known')} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]


def not_compared(reasons: list[str]) -> str:
    """The line that says so; .ci/run repeats it at its end."""
    return f"NOT COMPARED with {FILE.name}: {'; '.join(reasons)}"


def complaints(
    counts: Mapping[str, float], figures: Mapping[str, float], allowed: float = ALLOWED
) -> list[str]:
    """What is wrong with the figures of this tree, in words: above the held count, or without one."""
    found = []
    for name in dict.fromkeys([*counts, *figures]):
        if name not in figures:
            found.append(f"{name}: a count is held, but there is no such workload")
        elif name not in counts:
            found.append(f"{name}: no count is held")
        elif over(counts, {name: figures[name]}, allowed):
            change = 100 * (figures[name] / counts[name] - 1)
            found.append(
                f"{name}: {figures[name]:.0f}, held {counts[name]:.0f}: {change:+.2f} %, allowed {allowed} %"
            )
    return found


def over(counts: Mapping[str, float], figures: Mapping[str, float], allowed: float = ALLOWED) -> list[str]:
    """The workloads that cost more than is held."""
    return [name for name in figures if name in counts and figures[name] > counts[name] * (1 + allowed / 100)]


def load() -> dict[str, Any]:
    """The file."""
    loaded: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


def write(figures: Mapping[str, float], where: Mapping[str, str]) -> None:
    """Replace the file by these figures, with the environment and the machine that they are of."""
    counts = {name: round(figure, 1) for name, figure in figures.items()}
    text = json.dumps({"environment": where, "machine": describe(), "figures": counts}, indent=1)
    FILE.write_text(text + "\n", encoding="utf-8")
