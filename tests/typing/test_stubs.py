"""Each compiled module has a stub, or stubtest's list names it: found without `make stubs`."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PACKAGE = HERE / "src" / "deli_com"


def allowed(text: str) -> list[re.Pattern[str]]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [re.compile(line) for line in lines if line]


def lacking(sources: list[Path], patterns: list[re.Pattern[str]]) -> list[str]:
    """The compiled modules that have neither a stub nor a line in the list."""
    names = {
        path: "deli_com." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in sources
        if not path.with_suffix(".pyi").exists()
    }
    return sorted(name for name in names.values() if not any(p.fullmatch(name) for p in patterns))


def test_each_compiled_module_has_a_stub_or_a_line_in_the_list() -> None:
    sources = sorted(PACKAGE.rglob("*.pyx"))
    assert len(sources) > 50
    patterns = allowed((HERE / "tests/typing/stubtest.allow").read_text())
    assert lacking(sources, patterns) == []
    assert "deli_com.fanout.limits" in lacking(sources, []), "this test can't fail"
