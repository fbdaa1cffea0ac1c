"""Every block of README.md is run, and prints what the README says it prints."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PORT = "8765"  # as the README has it; replaced by a free one
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Language and text of each fenced block, in order."""
    return BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def scripts(port: str) -> dict[str, tuple[str, str]]:
    """Each Python block and the output that the README gives below it, by the file name in its first line."""
    found = {}
    all_blocks = blocks()
    for (language, text), (next_language, output) in zip(
        all_blocks, [*all_blocks[1:], ("", "")], strict=True
    ):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"a Python block starts with its file name: {text[:40]!r}"
            assert next_language == "text", f"{name[1]} is followed by its output"
            found[name[1]] = (text.replace(PORT, port), output.replace(PORT, port))
    return found


@pytest.fixture
def readme(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A directory with the scripts of the README, and what each prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    outputs = {}
    for name, (text, output) in scripts(port).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        outputs[name] = output
    return tmp_path, outputs


def start(directory: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", name],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_block_is_covered_here() -> None:
    assert set(scripts(PORT)) == {"telemetry.py", "serve.py", "receive.py"}
    assert {language for language, _ in blocks()} == {"python", "text", "sh"}


def test_define(readme: tuple[Path, dict[str, str]]) -> None:
    directory, outputs = readme
    with start(directory, "telemetry.py") as process:
        assert process.communicate(timeout=30) == (outputs["telemetry.py"], "")
    assert process.returncode == 0


def test_serve_and_receive(readme: tuple[Path, dict[str, str]]) -> None:
    directory, outputs = readme
    with start(directory, "serve.py") as server:
        try:
            assert server.stdout is not None
            listening = server.stdout.readline()
            with start(directory, "receive.py") as client:
                assert client.communicate(timeout=30) == (outputs["receive.py"], "")
            rest, errors = server.communicate(timeout=30)
            assert (listening + rest, errors) == (outputs["serve.py"], "")
        finally:
            server.kill()
    assert (server.returncode, client.returncode) == (0, 0)


def test_shell_commands_exist() -> None:
    """Each `make` line names a target; each `pip` line this distribution and an extra it has."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = [
        line.split("#")[0].strip()
        for language, text in blocks()
        if language == "sh"
        for line in text.splitlines()
    ]
    assert lines
    for line in filter(None, lines):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:.*##", makefile, re.MULTILINE), line
        else:
            extra = re.fullmatch(r"pip install '?deli-com(?:\[(\w+)\])?'?", line)
            assert extra, line
            assert extra[1] is None or re.search(rf"^{extra[1]} = \[", pyproject, re.MULTILINE), line


def test_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
