"""Judges distributions by their names: ``python tools/contents.py dist/*`` (exit code 1, and what is wrong).

A wheel holds each module of src/deli_com, compiled or as Python, the stubs, the .pxd files that others
compile against, and the files that are read at run time; no source that is compiled, and no test. An sdist
holds each file that git has, but for those that only a clone needs.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ONLY_IN_CLONES = (".ci/", ".github/", ".gitignore", ".pre-commit-config.yaml")
MADE = (".c", ".so", ".pyd", ".pyc", ".o", ".html")
# What setuptools adds to an sdist.
ADDED = ("PKG-INFO", "setup.cfg", "src/deli_com.egg-info/")


def sources(folder: str = "") -> set[str]:
    """The files that git has; in an sdist, those that are there and were not made."""
    if (ROOT / ".git").exists():
        tracked, others = (
            subprocess.run(
                ["git", "ls-files", *options, folder or "."],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
            for options in ([], ["--others", "--exclude-standard"])
        )
        # What is new in a folder is packed; what lies about in the root is not.
        names = [*tracked, *(name for name in others if "/" in name)]
        return {name for name in names if (ROOT / name).is_file()}
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in MADE)
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def wheel_faults(names: set[str]) -> list[str]:
    """What a wheel with these names lacks, or has too much."""
    modules = {name.removeprefix("src/") for name in sources("src/deli_com")}
    compiled = {name.removesuffix(".pyx") for name in modules if name.endswith(".pyx")}
    wanted = {name for name in modules if not name.endswith(".pyx")}
    extensions = {name for name in names if name.endswith((".so", ".pyd"))}
    metadata = {name for name in names if ".dist-info/" in name}
    built = {name.partition(".")[0] for name in extensions}
    faults = [f"lacks {name}" for name in sorted(wanted - names)]
    faults += [f"lacks the extension of {name}.pyx" for name in sorted(compiled - built)]
    faults += [f"has {name}" for name in sorted(names - wanted - extensions - metadata)]
    faults += [f"has {name}, which no source makes" for name in sorted(built - compiled)]
    for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"):
        if not any(found.endswith(f".dist-info/{name}") for found in metadata):
            faults.append(f"lacks {name}")
    return faults


def sdist_faults(names: set[str]) -> list[str]:
    """What an sdist with these names, without its folder's, lacks, or has too much."""
    wanted = {name for name in sources() if not name.startswith(ONLY_IN_CLONES)}
    added = {name for name in names if name.startswith(ADDED)}
    faults = [f"lacks {name}" for name in sorted(wanted - names)]
    faults += [f"has {name}" for name in sorted(names - wanted - added)]
    return faults if "PKG-INFO" in names else [*faults, "lacks PKG-INFO"]


def names_of(path: Path) -> set[str]:
    """The files in a distribution; of an sdist without its folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(path) as sdist:
        return {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}


def main(paths: list[Path]) -> int:
    bad = 0
    for path in paths:
        faults = (wheel_faults if path.suffix == ".whl" else sdist_faults)(names_of(path))
        bad += bool(faults)
        print(f"{path.name}: {len(names_of(path))} files", *faults, sep="\n  ")
    return 1 if bad or not paths else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
