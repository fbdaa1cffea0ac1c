"""Patterns that Cython compiles incorrectly for low memory must not be in the sources."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "deli_com"


def left_handlers(source: str) -> list[int]:
    """Lines where an ``except`` clause is left by return, continue or break.

    Cython drops the reference to the traceback there, and assumes that there is one. Without memory for a
    traceback there is none, and the process crashes.
    """
    found = []
    handlers: list[int] = []  # indentations
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        indentation = len(line) - len(line.lstrip())
        while handlers and indentation <= handlers[-1]:
            handlers.pop()
        if re.match(r"except\b.*:", text):
            handlers.append(indentation)
        elif handlers and re.match(r"(return|continue|break)\b", text):
            found.append(number)
    return found


def test_no_handler_is_left_in_its_middle() -> None:
    found = {
        path.name: lines
        for path in sorted(PACKAGE.rglob("*.pyx"))
        if (lines := left_handlers(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_lists_of_comprehensions_keep_their_items_where_there_is_no_memory() -> None:
    """What setup.py corrects of Cython stands in the code of every module that has it."""
    head = "int __Pyx_ListComp_AppendAndDecref(PyObject* list, PyObject* x) {"
    made = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.c")]  # none beside a wheel
    have = [text for text in made if head in text]
    assert all("if (likely(result == 0)) Py_DECREF(x);" in text for text in have)
    assert bool(have) is bool(made)


def test_the_rule_can_fail() -> None:
    bad = "def f():\n    try:\n        g()\n    except E:\n        # why\n        return 1\n    return 2\n"
    assert left_handlers(bad) == [6]
