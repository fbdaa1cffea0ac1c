"""No class gives an uninitialised object that crashes in use: it gives none, or its methods check first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from alone import run_alone

PROGRAM = Path(__file__).parents[1] / "support" / "uninitialised.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each class is tried in a child of a fork")
def test_every_method_of_every_class_may_be_called_on_what_new_alone_has_made() -> None:
    """The classes are found by walking the package; each method is given what is not initialised, too."""
    done = run_alone(PROGRAM.read_text(encoding="utf-8"), limit_s=200)
    *died, counts = done.stdout.splitlines()
    assert died == []
    assert (done.stderr, done.returncode) == ("", 0)
    classes, _, refused, *_, calls, _ = counts.replace(",", "").split()
    assert int(classes) > 150
    assert int(refused) > 15
    assert int(calls) > 10_000
    print(counts, file=sys.stderr)
