"""Sphinx accepts the docstrings for documentation that users build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="not installed: pip install --group test")

CONFIGURATION = """
project = "users'"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_google_docstring = False
napoleon_use_ivar = True
"""
PAGE = """
API
===

.. automodule:: deli_com
   :members:
   :imported-members:
   :undoc-members:
   :inherited-members: object, int

.. automodule:: deli_com.gen
   :members:

.. automodule:: deli_com.metrics
   :members:
"""


def warnings(folder: Path, page: str) -> str:
    (folder / "conf.py").write_text(CONFIGURATION)
    (folder / "index.rst").write_text(page)
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "text", str(folder), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.mark.timeout(300)
def test_autodoc_has_nothing_to_say_about_public_modules(tmp_path: Path) -> None:
    assert warnings(tmp_path, PAGE) == ""
    text = (tmp_path / "out" / "index.txt").read_text()
    assert "class deli_com.TypeCodec(type, node, facts" in text  # and has found them, with signatures
    assert "bind(" in text and "from_bytes(data, strict=False)" in text


@pytest.mark.timeout(300)
def test_it_would_say_something(tmp_path: Path) -> None:
    assert "WARNING" in warnings(tmp_path, "x\n=\n\n*not ended\n")
