"""Pages, docstrings and comments use the technical words that people search for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, documents

# Words that must not be used, and the technical words for them.
INSTEAD = {
    r"chok(?:e|es|ed|ing)": "pause, resume; high water mark",
    r"doomed": "superseded, to be freed",
    r"(?:fall|falls|fell) in": "join",
    r"sets? apart": "exclude, separate",
    r"goes? over(?= (?:a value|bytes|values))|gone over": "skip",
    r"passe[sd] over": "skip, ignore",
    r"(?:is|are) no more": "has ended, is closed",
    r"comes? back by (?:it|them)sel(?:f|ves)": "reconnects",
    r"(?:say|says|said|told) otherwise": "sets another value",
    r"who is no member": "non-members",
    r"too much alone|alone never is": "exceeds the limit by itself",
    r"is no silence": "does not count as quiet",
    r"given back and fetched anew": "returned and requested again",
    r"in good order": "normally",
    r"whoever": "the caller, a client",
    r"somebody": "a client, a task, the program",
    r"nobody's": "of no client",
    r"anew": "again",
    r"at hand": "available",
    r"(?:is|are|was|were) to be had": "is available",
    r"within one another": "nested",
    r"spoken here": "exchanged",
    r"(?:one|class|type|root|frame|length) that is none": "is not one",
}
TRIED = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in INSTEAD), re.IGNORECASE)


def found(text: str) -> list[str]:
    """The words, also across the end of a line."""
    return [" ".join(match[0].split()) for match in TRIED.finditer(" ".join(text.split()))]


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_fields_words(path: Path) -> None:
    assert found(path.read_text(encoding="utf-8")) == []


SOURCES = sorted(
    path for path in (ROOT / "src" / "deli_com").rglob("*.p[xy]*") if path.suffix in (".py", ".pyx", ".pxd")
)


def test_sources_do_too() -> None:
    assert len(SOURCES) > 100
    wrong = {str(path.relative_to(ROOT)): found(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: words for name, words in wrong.items() if words} == {}


@pytest.mark.parametrize(
    "text", ["the transport is choked", "Unless the types say\notherwise", "Its own time is no silence."]
)
def test_the_check_can_fail(text: str) -> None:
    assert found(text)
