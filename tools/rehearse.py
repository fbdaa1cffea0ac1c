"""Rehearses a release: ``python tools/rehearse.py WHEEL`` (make rehearse builds it).

The wheel is installed in an empty environment by the step of docs/deployment/Dockerfile, with nothing but
what the index gives for it. Then the programs of README.md run there, each alone or beside the others of its
session, and must print what the README shows.
"""

from __future__ import annotations

import doctest
import json
import shlex
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from pages import free_ports, read  # type: ignore[import-not-found]  # noqa: E402

LIMIT_S = 60
# deli-com, what it names, and what those name.
ALLOWED = {"deli-com", "picows", "aiofastnet", "typing_extensions", "multidict", "python-socks", "pip"}


def installed(wheel: Path, folder: Path) -> str:
    """The Python of a new environment in which the Dockerfile's step has installed the wheel."""
    venv.create(folder, with_pip=True, clear=True, symlinks=True)
    dockerfile = (ROOT / "docs/deployment/Dockerfile").read_text(encoding="utf-8")
    (step,) = [line for line in dockerfile.splitlines() if line.startswith("RUN /app/venv/bin/pip")]
    words = shlex.split(step.removeprefix("RUN "))
    assert words[-1] == "deli-com", step
    words[0] = str(folder / "bin/pip")
    subprocess.run([*words[:-1], "--quiet", "--disable-pip-version-check", str(wheel)], check=True)
    return str(folder / "bin/python")


def session(python: str, folder: Path, names: list[str]) -> list[str]:
    """What each program prints; each starts when the one before has printed its first line."""
    with subprocess.Popen(
        [python, "-W", "error", names[0]], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline() if len(names) > 1 else ""
            others = session(python, folder, names[1:]) if len(names) > 1 else []
            rest, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    if process.returncode != 0:
        raise SystemExit(f"{names[0]} ended with {process.returncode}")
    return [first + rest, *others]


def main(wheel: Path) -> None:
    python = installed(wheel.resolve(), ROOT / "build/rehearsal")
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True
    ).stdout
    names = {entry["name"] for entry in json.loads(listed)}
    print("installed:", *sorted(names))
    if extra := names - ALLOWED - {"setuptools"}:  # CPython 3.11 has setuptools in every new environment
        raise SystemExit(f"these came along, and are not known as dependencies: {sorted(extra)}")
    page = read(ROOT / "README.md", free_ports())
    alone = [
        [name]
        for name, block in page.files.items()
        if block.output is not None and not any(name in together for together in page.together)
    ]
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, block in page.files.items():
            Path(folder, name).write_text(block.text, encoding="utf-8")
        for programs in [*alone, *page.together]:
            for name, printed in zip(programs, session(python, Path(folder), programs), strict=True):
                wanted = page.files[name].output
                if not doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS):
                    raise SystemExit(f"{name} prints\n{printed}\nbut the README says\n{wanted}")
                count += 1
    if not count:
        raise SystemExit("the README has no program")
    version = subprocess.run([Path(python).parent / "deli-com", "--version"], check=True, capture_output=True)
    print(version.stdout.decode().strip())
    print(f"rehearsed: {count} programs of README.md print what it shows")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
