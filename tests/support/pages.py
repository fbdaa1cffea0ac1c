"""Markdown pages as lists of blocks, with their instructions for running them.

A page is read from top to bottom, as a notebook:

- A ``python`` block is run in the namespace of its page. ``await`` is allowed at its top level. If its first
line is
  ``# name.py``, it is a file instead, which other blocks can import.
- A ``text`` block below a ``python`` block is the output of that block; ``...`` matches anything. A block
that prints
  must have one. A file with one is also run as a program.
- Ports from 8765 to 8769 are replaced by free ones.

HTML comments hold what readers need not see, each on its own lines::

    <!-- setup                           Python that is run here and not shown
    ...
    -->
    <!-- together: serve.py receive.py   programs that run at the same time; each starts when the one
    -->                                  before has printed its first line
    <!-- not run: reason -->             of the next block
    <!-- excerpt: path -->               the next block is, word for word, in this file, which other tests run
"""

from __future__ import annotations

import random
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PORTS = range(8765, 8770)

_ITEM = re.compile(
    r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)[ ]*$"
    r"|^<!--[ ](?P<mark>setup|together:|not[ ]run:|excerpt:)(?P<rest>.*?)-->[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")


@dataclass
class Block:
    """One fenced block, or one ``setup`` comment (language ``setup``)."""

    language: str
    text: str
    line: int  # of the first line of the text, from 1
    output: str | None = None  # of the text block below a python block
    not_run: str = ""  # the reason
    excerpt: str = ""  # path of the file that has it

    @property
    def file_name(self) -> str:
        """``name.py`` of a block that is a file, else empty."""
        found = _FILE_NAME.match(self.text) if self.language == "python" else None
        return found[1] if found else ""


@dataclass
class Page:
    """The blocks of one Markdown file, in order; outputs are in the block that they belong to."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    together: list[list[str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.path.name

    @property
    def files(self) -> dict[str, Block]:
        return {block.file_name: block for block in self.blocks if block.file_name}

    @property
    def fragments(self) -> list[Block]:
        """What is run in the namespace of the page."""
        return [
            block
            for block in self.blocks
            if block.language in ("python", "setup")
            and not (block.file_name or block.not_run or block.excerpt)
        ]


def documents() -> list[Path]:
    """Every page of the project that people read."""
    listed = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    found = [path for path in listed if path.exists()]
    for folder in ("docs", "bench", "examples"):
        found += sorted(path for path in (ROOT / folder).rglob("*.md") if "_build" not in path.parts)
    return found


def read(path: Path, ports: dict[str, str] | None = None) -> Page:
    """Read one file; what is wrong with its form is a ValueError with file and line."""
    text = path.read_text(encoding="utf-8")
    page = Page(path)
    mark, mark_line = None, 0
    for found in _ITEM.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["mark"] in ("not run:", "excerpt:"):
            if mark:
                raise ValueError(f"{page.name}:{mark_line}: no block belongs to this comment")
            mark, mark_line = (found["mark"], found["rest"].strip()), line
            if not mark[1]:
                raise ValueError(f"{page.name}:{line}: {found['mark']} needs a reason or a path")
        elif found["mark"] == "together:":
            page.together.append(found["rest"].split())
        elif found["mark"] == "setup":
            page.blocks.append(Block("setup", _with_ports(found["rest"].partition("\n")[2], ports), line + 1))
        else:
            block = Block(found["language"].strip(), _with_ports(found["text"], ports), line + 1)
            if mark:
                setattr(block, "not_run" if mark[0] == "not run:" else "excerpt", mark[1])
                mark = None
            elif block.language == "text" and page.blocks and _may_print(page.blocks[-1]):
                page.blocks[-1].output = block.text
                continue
            page.blocks.append(block)
    if mark:
        raise ValueError(f"{page.name}:{mark_line}: no block belongs to this comment")
    return page


def _may_print(block: Block) -> bool:
    return block.language == "python" and block.output is None and not (block.not_run or block.excerpt)


def _with_ports(text: str, ports: dict[str, str] | None) -> str:
    for port, free in (ports or {}).items():
        text = text.replace(port, free)
    return text


def free_ports() -> dict[str, str]:
    """A free port for each that pages may name."""
    found: list[str] = []
    while len(found) < len(PORTS):
        # Below the range of ephemeral ports, so that the system gives these to no other connection meanwhile.
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        if str(port) not in found:
            found.append(str(port))
    return dict(zip(map(str, PORTS), found, strict=True))
