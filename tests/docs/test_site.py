"""The built site: what its search finds; it asks no other host. `make docs` builds it and runs this."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Tab, browser
from pages import ROOT

SITE = Path(os.environ.get("DELI_COM_SITE", ""))
WORDS = [
    "authentication",
    "backpressure",
    "heartbeat",
    "quickstart",
    "notebook",
    "jupyter",
    "dictionary",
    "typescript",
    "reconnect",
    "kubernetes",
    "docker",
]
built = pytest.mark.skipif(
    "DELI_COM_SITE" not in os.environ, reason="make docs builds the site and judges it (DELI_COM_SITE)"
)
# What a browser loads by itself; a link that a reader clicks is no request.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


class Requests(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.next_page = False
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if tag in LOADED:
            self.urls.append(found.get(LOADED[tag], ""))
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.urls.append(found.get("href", ""))
        if tag == "a" and "md-footer__link" in found.get("class", ""):
            self.next_page = True


def html_pages() -> list[Path]:
    return [path for path in sorted(SITE.rglob("*.html")) if "files" not in path.relative_to(SITE).parts]


def is_elsewhere(url: str) -> bool:
    return bool(re.match(r"(?:[a-z]+:)?//", url.strip(), re.IGNORECASE))


@built
def test_no_page_asks_another_host() -> None:
    assert len(html_pages()) > 40
    for path in html_pages():
        text = path.read_text(encoding="utf-8")
        reader = Requests()
        reader.feed(text)
        assert reader.urls, path
        assert [url for url in reader.urls if is_elsewhere(url)] == [], path
        assert 'data-md-component="source"' not in text, "it asks for the number of stars"
    for path in SITE.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", path.read_text(encoding="utf-8"))
        assert [url for url in loaded if is_elsewhere(url)] == [], path


@built
def test_every_page_of_the_guide_leads_to_the_previous_and_the_next() -> None:
    for path in html_pages():
        if path.parent.name == "guide":
            reader = Requests()
            reader.feed(path.read_text(encoding="utf-8"))
            assert reader.next_page, path


def test_the_check_can_fail() -> None:
    reader = Requests()
    reader.feed('<script src="//cdn.example/a.js"></script><link rel="stylesheet" href="https://x/a.css">')
    assert list(map(is_elsewhere, reader.urls)) == [True, True]
    assert not is_elsewhere("../assets/a.js")


@built
def test_the_index_has_every_word() -> None:
    entries = json.loads((SITE / "search/search_index.json").read_text(encoding="utf-8"))["docs"]
    texts = [(entry["title"] + entry["text"]).lower() for entry in entries]
    assert [word for word in WORDS if not any(word in text for text in texts)] == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Keep quiet about requests."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@built
@pytest.mark.timeout(300)
def test_the_search_finds_in_a_browser(address: str, tmp_path: Path) -> None:
    """Each word gives results, and nothing was asked of another host."""
    with browser(tmp_path) as tab:
        for word in WORDS:
            assert results(tab, f"{address}/guide/serve.html", word), word
            asked = tab.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
            assert asked
            assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@built
@pytest.mark.timeout(300)
def test_the_search_finds_from_the_disk(tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        assert results(tab, (SITE / "guide/serve.html").resolve().as_uri(), "backpressure")


def results(tab: Tab, page: str, word: str) -> list[str]:
    tab.open(f"{page}?q={word}")
    tab.until("document.querySelectorAll('.md-search-result__item').length > 0")
    found: list[str] = tab.evaluate(
        "[...document.querySelectorAll('.md-search-result__item h1')].map((one) => one.textContent.trim())"
    )
    return found


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://code.example/people/deli-com", "https://code.example/people/deli-com"),
        ("https://code.example/people/deli-com.git", "https://code.example/people/deli-com"),
        ("git@code.example:people/deli-com.git", None),
        ("https://user:secret@code.example/deli-com", None),
        ("/somewhere/hub.git", None),
    ],
)
def test_the_link_to_the_repository(url: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the address of a page is shown, never a path of a machine or a password."""
    pytest.importorskip("properdocs", reason="not installed: pip install --group docs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/_site/hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    monkeypatch.setenv("DELI_COM_REPOSITORY", url)
    assert hooks.repository() == wanted
