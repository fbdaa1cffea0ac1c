"""Refuses to test a stale build.

Python files are live, but compiled modules are as old as the last build. Run by hand (`pytest` instead of
`make test`) the suite would judge code that is no longer there.

DELI_COM_TEST_INSTALLED=1 asks for the package that is installed in the environment, and refuses another.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
AT_START = {path.name for path in ROOT.iterdir()}


def contracts(source: Path, package: Path) -> set[Path]:
    """The .pxd files that `source` is compiled against: its own and, recursively, those it cimports."""
    found: set[Path] = set()
    waiting = [source, source.with_suffix(".pxd")]
    while waiting:
        text = path.read_text(encoding="utf-8") if (path := waiting.pop()).exists() else ""
        for name in re.findall(r"^\s*(?:from\s+deli_com\.([\w.]+)\s+)?cimport\b", text, re.MULTILINE):
            pxd = package.joinpath(*name.split(".")).with_suffix(".pxd")
            if name and pxd not in found:
                found.add(pxd)
                waiting.append(pxd)
    return {pxd for pxd in found | {source.with_suffix(".pxd")} if pxd.exists()}


def stale(package: Path) -> list[str]:
    """What is wrong with this interpreter's extensions in `package`, one line each."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    complaints = []
    for source in sorted(package.rglob("*.pyx")):
        built = next((path for suffix in suffixes if (path := source.with_suffix(suffix)).exists()), None)
        if built is None:
            complaints.append(f"{source.name} is not built for this interpreter")
            continue
        for path in sorted({source} | contracts(source, package)):
            if built.stat().st_mtime < path.stat().st_mtime:
                complaints.append(f"{built.name} is older than {path.name}")
    for built in sorted(package.rglob(f"*{suffixes[0]}")):
        if not built.with_name(built.name.removesuffix(suffixes[0]) + ".pyx").exists():
            complaints.append(f"{built.name} has lost its source")
    return complaints


def pytest_sessionstart(session: pytest.Session) -> None:
    spec = importlib.util.find_spec("deli_com")
    if spec is None or spec.origin is None:
        pytest.exit("deli_com is not installed: run `make test`", returncode=3)
    package = Path(spec.origin).parent
    if os.environ.get("DELI_COM_TEST_INSTALLED") == "1" and not package.is_relative_to(sys.prefix):
        pytest.exit(f"{package} is not the installed package that was to be tested", returncode=3)
    if package != ROOT / "src" / "deli_com":
        return  # an installed wheel, which is of one piece
    complaints = stale(package)
    if complaints:
        pytest.exit("stale build, run `make build`: " + "; ".join(complaints), returncode=3)


def left_behind() -> list[str]:
    """What has appeared beside this file since the tests began, but for what builds and tools make there."""
    found = {path.name for path in ROOT.iterdir()} - AT_START - {"build", "dist"}
    return sorted(name for name in found if not name.startswith(".") and not name.startswith("__"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves a file at the root of the clone fails: the next commit could take it along."""
    if left := left_behind():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nthe tests have left at the root: {', '.join(left)}", file=sys.stderr)
