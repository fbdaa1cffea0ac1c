"""Every block of README.md and of the documentation is run, and must print what its page shows.

tests/support/pages.py describes the markup of the pages.
"""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import helpers
import pytest
from pages import ROOT, Block, Page, documents, free_ports, read

import deli_com

NOTEBOOK = ROOT / "tests/support/notebook.py"
PAGES = [read(path) for path in documents()]
LIMIT_S = 60 * helpers.SLOW


def named(page: Page) -> str:
    return page.name


@pytest.fixture
def ports() -> dict[str, str]:
    return free_ports()


def written(page: Page, directory: Path, ports: dict[str, str]) -> Page:
    """The page with free ports, its files in `directory`."""
    page = read(page.path, ports)
    for name, block in page.files.items():
        (directory / name).write_text(block.text, encoding="utf-8")
    return page


@contextmanager
def program(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def assert_printed(block: Block, printed: str) -> None:
    assert block.output is not None
    assert doctest.OutputChecker().check_output(block.output, printed, doctest.ELLIPSIS), (
        f"{block.file_name} prints\n{printed}\nbut its page says\n{block.output}"
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page.fragments], ids=named)
def test_fragments(page: Page, tmp_path: Path, ports: dict[str, str]) -> None:
    """The Python blocks of a page run from top to bottom."""
    written(page, tmp_path, ports)
    with program(tmp_path, str(NOTEBOOK), str(page.path), json.dumps(ports)) as process:
        printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert (printed, errors) == ("", "")


PROGRAMS = [
    (page, [name])
    for page in PAGES
    for name, block in page.files.items()
    if block.output is not None and not any(name in names for names in page.together)
] + [(page, names) for page in PAGES for names in page.together]


@pytest.mark.parametrize(
    ("page", "names"), PROGRAMS, ids=[f"{page.name}: {' '.join(names)}" for page, names in PROGRAMS]
)
def test_programs(page: Page, names: list[str], tmp_path: Path, ports: dict[str, str]) -> None:
    """Each file with an output is a program that prints it, alone or beside the others of its session."""
    page = written(page, tmp_path, ports)

    def play(waiting: list[str]) -> None:
        with program(tmp_path, waiting[0]) as process:
            assert process.stdout is not None
            first = process.stdout.readline() if len(waiting) > 1 else ""
            if len(waiting) > 1:
                play(waiting[1:])
            rest, errors = process.communicate(timeout=LIMIT_S)
        assert errors == ""
        assert_printed(page.files[waiting[0]], first + rest)
        assert process.returncode == 0

    play(names)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_judged(page: Page) -> None:
    """A block that is neither run nor checked says why."""
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        if block.excerpt:
            assert block.text in (ROOT / block.excerpt).read_text(encoding="utf-8"), where
        elif block.language not in ("python", "setup", "sh"):
            assert block.not_run, f"{where}: a block of {block.language!r} is not run, and says no reason"
    for names in page.together:
        assert set(names) <= set(page.files), f"{page.name}: {names}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_fences(page: Page) -> None:
    """No block escapes by its form: fences stand at the start of a line, and every one was read."""
    text = page.path.read_text(encoding="utf-8")
    fences = re.findall(r"^[ >]*(?:```|~~~)", text, re.MULTILINE)
    outputs = sum(block.output is not None for block in page.blocks)
    shown = sum(block.language != "setup" for block in page.blocks)
    assert len(fences) == 2 * (shown + outputs)


COMMAND = re.compile(
    r"make (?P<target>[\w-]+)(?: .*)?"
    r"|pip install '?deli-com(?:\[(?P<extra>\w+)\])?'?"
    r"|(?:python|pytest) (?P<file>[\w/]+\.py)(?: .*)?"
    r"|(?:deli-com|python -m deli_com)(?: (?P<command>[a-z]+)(?: .*)?| --version)?"
    r"|sysctl -w (?P<key>[\w.]+)=.+"
)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_shell_commands_exist(page: Page) -> None:
    """Commands are not run here (CI does), but targets, extras, files and kernel settings exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for block in page.blocks:
        if block.language != "sh" or block.not_run:
            continue
        for line in block.text.splitlines():
            if not (command := line.split("#")[0].strip()):
                continue
            found = COMMAND.fullmatch(command)
            assert found, f"{page.name}: a command that nobody checks: {command}"
            if target := found["target"]:
                assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), command
            if extra := found["extra"]:
                assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), command
            if file := found["file"]:
                assert (ROOT / file).is_file(), command
            if (key := found["key"]) and Path("/proc/sys").is_dir():
                assert Path("/proc/sys", *key.split(".")).exists(), command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Page) -> None:
    """Relative links name a file, and a heading of it."""
    text = re.sub(r"^```.*?^```$", "", page.path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = page.path if not path else (page.path.parent / path).resolve()
        assert found.exists(), f"{page.name}: {target}"
        if anchor and not anchor.startswith("deli_com."):
            assert anchor in headings(found), f"{page.name}: {target}"


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings."""
    return {
        re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")
        for heading in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


MODULES = [
    module.name
    for module in pkgutil.walk_packages(deli_com.__path__, "deli_com.")
    if not module.name.startswith("deli_com.demo") and module.name != "deli_com.__main__"
]


def examples() -> list[doctest.DocTest]:
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
            if test.examples:
                test.globs = {**vars(deli_com), **vars(module)}
                found.append(test)
    return found


def test_docstrings_have_examples() -> None:
    """The next test runs something."""
    assert examples()


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_of_docstrings(example: doctest.DocTest) -> None:
    """The examples of the reference print what they say."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)
