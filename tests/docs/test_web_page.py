"""The program of docs/guide/web-page.md, with its page in a headless Chromium."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from browser import browser
from pages import ROOT, free_ports, read


def test_the_page_shows_values_and_sends_some(tmp_path: Path) -> None:
    block = read(ROOT / "docs/guide/web-page.md", free_ports()).files["speed.py"]
    (tmp_path / "speed.py").write_text(block.text, encoding="utf-8")
    with (
        browser(tmp_path / "profile") as tab,
        subprocess.Popen(
            [sys.executable, "-W", "error", "speed.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as program,
    ):
        try:
            assert program.stdout is not None
            tab.open(program.stdout.readline().split()[1])
            text = "(document.getElementById('text')?.textContent ?? '')"
            tab.until(f"parseFloat({text}) > 10 && {text}.endsWith(' m/s')")
            tab.evaluate("document.getElementById('slow').click()")
            # A sine that is cut at 10.
            tab.until(f"{text} === '10.0 m/s' && document.getElementById('speed').value === 10")
        finally:
            program.kill()
