"""Pages and files from outside docs/, for the site: no page is written twice.

README.md is the first page; the others are in `PAGES`. Relative links, which lead to files of the repository,
are turned into links of the site: to the page made of that file, or to a copy of the file. A link that leads
nowhere ends the build, and so does a public name or method that the reference does not show (it shows none
without a docstring).
"""

from __future__ import annotations

import inspect
import os
import posixpath
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from properdocs.exceptions import Abort
from properdocs.structure.files import File, Files

import deli_com

ROOT = Path(__file__).resolve().parents[2]

# Markdown file of the repository: page of the site.
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "bench/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
COPIES = "files"  # directory of the site for other files

_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_config(config: Any) -> Any:
    config.repo_url = repository()
    config.repo_name = config.repo_url and posixpath.basename(config.repo_url)
    return config


def repository() -> str | None:
    """The address of the repository, for a link on each page; None if it is unknown.

    ``DELI_COM_REPOSITORY`` has it in workflows, else the clone's remote, if that is a page.
    """
    url = os.environ.get("DELI_COM_REPOSITORY") or ""
    if not url:
        try:
            command = ["git", "remote", "get-url", "origin"]
            url = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        except OSError:  # no git
            return None
    url = url.removesuffix("/").removesuffix(".git")
    return url if url.startswith("https://") and "@" not in url else None


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    copied: set[str] = set()
    for file in files.documentation_pages():
        source = _source(file.src_uri)
        for _, target, _ in _links(file.content_string):
            path = _resolved(source, target)
            if path is not None and _page(path) is None and path not in copied:
                copied.add(path)
                files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    here = page.file.src_uri
    source = _source(here)

    def rewrite(found: re.Match[str]) -> str:
        path = _resolved(source, found[2])
        if path is None:
            return found[0]
        target = _page(path) or f"{COPIES}/{path}"
        return found[1] + posixpath.relpath(target, posixpath.dirname(here) or ".") + found[3]

    parts = _FENCED.split(markdown)
    return "".join(part if index % 2 else _LINK.sub(rewrite, part) for index, part in enumerate(parts))


def on_post_build(config: Any) -> None:
    page = Path(config.site_dir, "reference.html").read_text(encoding="utf-8")
    missing = [name for name in _public() if f'id="deli_com.{name}"' not in page]
    if missing:
        raise Abort(f"the reference does not show {', '.join(missing)}")


def _public() -> Iterator[str]:
    """Names that `deli_com` exports, and the methods of classes among them.

    Not the number types, which have a section of their own.
    """
    for name in deli_com.__all__:
        exported = getattr(deli_com, name)
        if re.fullmatch("[uif][0-9]+", name):
            continue
        yield name
        for base in inspect.getmro(exported) if inspect.isclass(exported) else ():
            if base.__module__.startswith("deli_com"):
                yield from (
                    f"{name}.{method}"
                    for method, value in vars(base).items()
                    if not method.startswith("_")
                    and (callable(value) or isinstance(value, (classmethod, staticmethod)))
                )


def _links(markdown: str) -> list[tuple[str, str, str]]:
    return _LINK.findall(_FENCED.sub("", markdown))


def _source(page: str) -> str:
    """The repository's file that a page is made of."""
    return next((source for source, made in PAGES.items() if made == page), f"docs/{page}")


def _page(path: str) -> str | None:
    """The page that is made of a file of the repository, if one is."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def _resolved(source: str, target: str) -> str | None:
    """The repository's file that a link leads to; None for a link to elsewhere."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / path).is_file():
        raise Abort(f"{source}: the link to {target} leads nowhere")
    return path
