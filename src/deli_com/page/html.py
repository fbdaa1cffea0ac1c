"""The page as one file: its sources, and the generated decoder of any schema.

::

    page = made_page(path="live", sends=False, title="")
    page.body         HTML, with script and style inside; nothing is loaded from elsewhere
    page.policy       its Content-Security-Policy, without the hosts that it may connect to

The page gets the server's values from the stream only. This file contains none of them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import re
from importlib import resources
from typing import NamedTuple

__all__ = ["Page", "made_page"]

# Joined to one script in this order: a file uses names of the files before it.
SCRIPTS = (
    "stream.js",
    "text.js",
    "store.js",
    "node.js",
    "list.js",
    "card.js",
    "picture.js",
    "plot.js",
    "table.js",
    "board.js",
    "form.js",
    "main.js",
)


class Page(NamedTuple):
    """A page that is ready to be served.

    Attributes
    ----------
    body : bytes
        HTML in UTF-8.
    policy : str
        Directives of the ``Content-Security-Policy``. The server adds ``connect-src``.
    """

    body: bytes
    policy: str


@functools.lru_cache(maxsize=64)
def made_page(*, path: str, sends: bool, title: str) -> Page:
    """Make the page of one stream.

    Parameters
    ----------
    path : str
        Path of the stream, relative to the page, without a leading slash; empty: the path of the page.
    sends : bool
        Whether the page has a form that sends values to the server.
    title : str
        Title of the page; empty: the name of the type that the server sends.
    """
    script, style = _script(), _style()
    words = {
        "path": html.escape(path),
        "send": "yes" if sends else "no",
        "title": html.escape(title),
        "style": style,
        "script": script,
    }
    body = re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], _source("shell.htm"))
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
    return Page(body.encode(), policy)


@functools.cache
def _script() -> str:
    from deli_com.gen.ts import generic_decoder  # not for servers without a page

    parts = [generic_decoder(), *map(_source, SCRIPTS)]
    return '"use strict";\n(() => {\n' + _bare("\n".join(parts)) + "})();\n"


@functools.cache
def _style() -> str:
    return _bare(_source("style.css"))


def _source(name: str) -> str:
    return resources.files("deli_com.page").joinpath("source", name).read_text(encoding="utf-8")


def _bare(text: str) -> str:
    # Removes comments on lines of their own, and indentation.
    text = re.sub(r"(?ms)^ */\*\*.*?\*/\n", "", text)
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
