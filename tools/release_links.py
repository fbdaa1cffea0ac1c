"""Makes the README readable where its files are not beside it: ``python tools/release_links.py URL TAG``.

A file of the repository is a relative link in README.md, which PyPI cannot follow. The address of the
repository is known where the release is made, and nowhere in the tree. So the release workflow calls this
before it builds the sdist: relative links become links to the file at this tag, pictures to its bytes, and
pyproject.toml gets the addresses that PyPI shows beside the text. Nothing of it is committed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+)\)")


def absolute(text: str, url: str, tag: str) -> str:
    """The text of a README, its links led to the repository at `url`."""

    def lead(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}{url}/{'raw' if found[1] else 'blob'}/{tag}/{found[3]})"

    parts = _FENCED.split(text)
    return "".join(part if index % 2 else _LINK.sub(lead, part) for index, part in enumerate(parts))


def with_urls(pyproject: str, url: str, tag: str) -> str:
    """The text of pyproject.toml with the addresses of the project."""
    urls = (
        f'[project.urls]\nRepository = "{url}"\nIssues = "{url}/issues"\n'
        f'Changelog = "{url}/blob/{tag}/CHANGELOG.md"\nDocumentation = "{url}/tree/{tag}/docs"\n\n'
    )
    return pyproject.replace(
        "[project.optional-dependencies]\n", urls + "[project.optional-dependencies]\n", 1
    )


def main(url: str, tag: str) -> None:
    if not re.fullmatch(r"https://[\w.-]+/[\w./-]+", url) or not re.fullmatch(r"[\w./-]+", tag):
        raise SystemExit(f"no address of a repository and tag: {url} {tag}")
    for name, change in (("README.md", absolute), ("pyproject.toml", with_urls)):
        path = ROOT / name
        path.write_text(change(path.read_text(encoding="utf-8"), url, tag), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
