"""What an sdist and a wheel hold, and what the release changes in the README."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class TestContents:
    contents = tool("contents")

    def wheel(self) -> set[str]:
        """The names of a wheel as it should be."""
        modules = {name.removeprefix("src/") for name in self.contents.sources("src/deli_com")}
        metadata = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
        return {re.sub(r"\.pyx$", ".cpython-314-x86_64-linux-gnu.so", name) for name in modules} | {
            f"deli_com-0.1.0.dist-info/{name}" for name in metadata
        }

    @pytest.mark.parametrize(
        ("lost", "added", "faults"),
        [
            (None, None, []),
            ("deli_com/py.typed", None, ["lacks deli_com/py.typed"]),
            ("deli_com/page/source/store.js", None, ["lacks deli_com/page/source/store.js"]),
            ("deli_com/_abi.pyi", None, ["lacks deli_com/_abi.pyi"]),
            (
                "deli_com/_abi.cpython-314-x86_64-linux-gnu.so",
                None,
                ["lacks the extension of deli_com/_abi.pyx"],
            ),
            (None, "deli_com/_abi.pyx", ["has deli_com/_abi.pyx"]),
            (None, "tests/conftest.py", ["has tests/conftest.py"]),
            ("deli_com-0.1.0.dist-info/licenses/LICENSE", None, ["lacks licenses/LICENSE"]),
        ],
    )
    def test_a_wheel(self, lost: str | None, added: str | None, faults: list[str]) -> None:
        names = self.wheel()
        assert lost is None or lost in names
        names -= {lost}  # type: ignore[arg-type]
        names |= {added} if added else set()
        assert self.contents.wheel_faults(names) == faults

    def test_an_sdist(self) -> None:
        names = {
            name for name in self.contents.sources() if not name.startswith(self.contents.ONLY_IN_CLONES)
        }
        assert {"README.md", "docs/deployment/Dockerfile", "src/deli_com/_abi.pyx"} < names
        names.add("PKG-INFO")
        assert self.contents.sdist_faults(names) == []
        assert self.contents.sdist_faults(names - {"docs/pictures/page.png"}) == [
            "lacks docs/pictures/page.png"
        ]
        assert self.contents.sdist_faults(names | {"src/deli_com/_abi.c"}) == ["has src/deli_com/_abi.c"]

    def test_each_distribution_that_make_builds_is_judged(self) -> None:
        text = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert text.count("tools/contents.py $(DIST)/*") == 2  # sdist, wheel


class TestReleaseLinks:
    links = tool("release_links")
    URL = "https://code.example/people/deli-com"

    def test_the_readme_has_no_relative_link_left(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        changed = self.links.absolute(text, self.URL, "v1.2.3")
        assert f"]({self.URL}/blob/v1.2.3/docs/guide/quickstart.md)" in changed
        assert f"]({self.URL}/raw/v1.2.3/docs/pictures/page.png)" in changed
        assert re.findall(r"\]\((?!https://)[^)]*\)", re.sub(r"(?ms)^```.*?^```$", "", changed)) == []
        assert self.links.absolute(changed, self.URL, "v1.2.3") == changed

    def test_blocks_and_headings_stay(self) -> None:
        text = "[a](#b) [c](d.md#e)\n```python\nx = [y](z)\n```\n"
        assert self.links.absolute(text, self.URL, "v1") == text.replace(
            "d.md#e", f"{self.URL}/blob/v1/d.md#e"
        )

    def test_the_project_gets_addresses(self) -> None:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        urls = tomllib.loads(self.links.with_urls(text, self.URL, "v1"))["project"]["urls"]
        assert urls["Repository"] == self.URL

    def test_nothing_else_is_taken(self) -> None:
        with pytest.raises(SystemExit):
            self.links.main("http://code.example/x", "v1")
