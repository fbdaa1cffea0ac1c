"""Folders are floors: a module imports from its own floor or a lower one, never from a higher one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "deli_com"

# From the bottom up. Each line is one floor. Modules at the root are listed by name.
FLOORS = [
    ["errors", "_abi", "ground"],
    ["types"],
    ["coding", "_fastcodec", "schema"],
    ["log", "gen"],
    ["page"],
    ["fanout"],
    ["receive", "recording"],
    ["net"],
    ["link", "typed", "opening", "recordable", "server_base", "client_base", "stream", "stream_options"],
    ["backplane", "foxglove"],
    ["asgi", "ws", "tcp"],
    [
        "background",
        "blocking",
        "demo",
        "metrics",
        "relay",
        "replay",
        "server_thread",
        "shared_loop",
        "__init__",
    ],
    ["cli"],
    ["__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
IMPORT = re.compile(r"^\s*(?:from\s+deli_com\.([\w.]+)\s+c?import\b|c?import\s+deli_com\.([\w.]+))", re.M)
IMPORT_FROM_ROOT = re.compile(r"^\s*from\s+deli_com\s+c?import\s+\(?([\w, ]+)", re.M)
INCLUDE = re.compile(r'(?:extern from|#include)\s+"deli_com/([\w/]+)\.h"')


def place(parts: tuple[str, ...]) -> str:
    """The folder or root module that a dotted name or a path within the package belongs to."""
    return parts[0].partition(".")[0]


def edges(name: str, source: str) -> list[tuple[str, str]]:
    """What the module at the path `name` takes from others of the package, as (name, target)."""
    targets = [".".join(filter(None, found)) for found in IMPORT.findall(source)]
    for names in IMPORT_FROM_ROOT.findall(source):
        words = [word.split()[0] for word in names.split(",") if word.strip()]
        targets += [word for word in words if word in FLOOR]  # a name of the public face is from __init__
        targets += ["__init__" for word in words if word not in FLOOR]
    targets += [found.replace("/", ".") for found in INCLUDE.findall(source)]
    return [(name, target) for target in targets]


def upward(found: list[tuple[str, str]]) -> list[str]:
    """Those edges that point to a higher floor, in words."""
    return [
        f"{name} takes from {target}, which is above it"
        for name, target in found
        if FLOOR[place((target,))] > FLOOR[place(Path(name).parts)]
    ]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".h"))


def test_no_import_is_relative():
    """A relative import names no floor, so the test below would not see it."""
    relative = [
        path
        for path in modules()
        if re.search(r"^\s*(?:from|c?import)\s+\.", path.read_text(encoding="utf-8"), re.M)
    ]
    assert relative == []


def test_no_module_takes_from_a_floor_above():
    found = [
        edge
        for path in modules()
        for edge in edges(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 250  # the patterns still see what they are meant to see
    assert upward(found) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("log/log.pyx", "from deli_com.fanout.lane cimport Lane"),
        ("log/log.pxd", "    from deli_com.fanout.lane import Lane"),
        ("ground/scalar.h", '#include "deli_com/types/metatype.h"'),
        ("ground/scalar.pxd", 'cdef extern from "deli_com/types/metatype.h":'),
        ("types/graph.py", "from deli_com import codec"),
        ("errors.py", "import deli_com.net.address"),
    ],
)
def test_an_upward_edge_is_named(name: str, line: str):
    complaints = upward(edges(name, f'"""A module."""\n{line}\n'))
    assert len(complaints) == 1 and complaints[0].startswith(f"{name} takes from ")
