"""Control texts: the messages in which two ends tell each other their schemas (docs/wire.md section 10).

::

    announcement = parse_header("1 down=<hash> up=-")      parse_query("deli=1.<hash>.-")
    told = parse(b"deli 1 hello down=<hash> up=?")     -> Hello, SchemaText, Refused, Live, Gap, Mark, Seen
    data = render(told)                                and back

Pure functions. `parse` raises `ValueError` for a malformed text; the error text can serve as a close
reason. `parse` returns None for a kind of text that this version does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias, Union
from urllib.parse import unquote

__all__ = [
    "ASK",
    "HEADER",
    "MARKER",
    "MAX_BYTES",
    "NOTHING",
    "PREFIX",
    "QUERY",
    "REFUSED",
    "Announcement",
    "Control",
    "Gap",
    "Hello",
    "Live",
    "Mark",
    "Refused",
    "SchemaText",
    "Seen",
    "is_control",
    "parse",
    "parse_header",
    "parse_query",
    "reason_of",
    "render",
    "render_header",
    "render_query",
]

HEADER: Final = "Deli-Schema"
QUERY: Final = "deli"
PREFIX: Final = b"deli 1 "
REFUSED: Final = 4400  # close code after `Refused`
MAX_BYTES = 256 * 1024  # of one control text
ASK: Final = "?"  # in place of a hash: "send me your schema"
NOTHING: Final = "-"  # in place of a hash: nothing is sent in that direction
MARKER: Final = (1 << 32) - 1  # in place of a length on TCP: a control text follows

REASON_BYTES = 123  # of a CLOSE frame (RFC 6455 section 5.5), without the code
REFUSED_BYTES = 64 * 1024  # limit on the differences that `Refused` sends
MAX_COUNT = 10**20 - 1  # of missing messages that a gap tells of
SHOWN = 80  # characters of a peer's text that an error quotes

_HASH = re.compile(r"[0-9a-f]{32}")
_PLACE = re.compile(r"[0-9a-fA-F]{32}|[?-]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}|\*")
_TOKEN = re.compile(r"[0-9a-f]{16}")
_COUNT = re.compile(r"[0-9]{1,20}")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Announcement:
    """The schema hashes that one end announces for both directions.

    Attributes
    ----------
    down, up : str
        Hash of the schema of the values that the server sends, and of those that clients send: 32 lower-case
        hexadecimal digits, or `ASK`. `up` may also be `NOTHING`.
    """

    down: str
    up: str


@dataclass(frozen=True, slots=True)
class Hello:
    """An announcement as a control text: one end begins with it, the other end answers with its own."""

    says: Announcement


@dataclass(frozen=True, slots=True)
class SchemaText:
    """The schema of one direction. The writer sends it; the server also sends that of `up` when it is asked.

    Attributes
    ----------
    direction : {"down", "up"}
    hash : str
        As announced. It has not been compared with the text yet.
    text : str
    """

    direction: str
    hash: str
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The reader cannot convert the values that are sent to its type. The connection ends."""

    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """All retained values have been sent."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of a class are missing before the next one.

    Attributes
    ----------
    name : str
        Name of the class; ``"*"`` for all classes.
    skipped, superseded : int
        Number of missing messages, by policy.
    reason : str
        ``"upstream"``; empty where the counts give the reason.
    seconds : float or None
        Duration; None while the gap lasts, or if the duration is not known.
    """

    name: str
    skipped: int = 0
    superseded: int = 0
    reason: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Asks for a `Seen` with the same token, once all messages before it have been read. TCP only."""

    token: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Answers a `Mark`."""

    token: str


Control: TypeAlias = Union[Hello, SchemaText, Refused, Live, Gap, Mark, Seen]


# --- the handshake request and its answer ---


def parse_header(value: str) -> Announcement | None:
    """Read the value of a ``Deli-Schema`` header; None if its version is not 1.

    Raises
    ------
    ValueError
        The version is 1 and the rest is malformed.
    """
    version, *pairs = value.split() or [""]
    return _announcement(pairs, value) if version == "1" else None


def render_header(says: Announcement) -> str:
    return f"1 down={says.down} up={says.up}"


def parse_query(query: str) -> Announcement | None:
    """Read the parameter ``deli`` of a query string; None if there is none, or if its version is not 1.

    Raises
    ------
    ValueError
        The version is 1 and the rest is malformed.
    """
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == QUERY:
            version, *places = unquote(value).split(".")
            if version != "1":
                return None
            if len(places) != 2:
                raise ValueError(f"expected {QUERY}=1.<down>.<up>, not {_shown(value)}")
            return Announcement(_place(places[0], "down"), _place(places[1], "up"))
    return None


def render_query(says: Announcement) -> str:
    return f"{QUERY}=1.{says.down}.{says.up}"


def _announcement(pairs: Iterable[str], shown: str) -> Announcement:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in found:
            raise ValueError(f"expected down=<hash> up=<hash>, not {_shown(shown)}")
        found[name] = value  # names that later versions of this line add are ignored
    if "down" not in found or "up" not in found:
        raise ValueError(f"expected down=<hash> up=<hash>, not {_shown(shown)}")
    return Announcement(_place(found["down"], "down"), _place(found["up"], "up"))


def _place(value: str, direction: str) -> str:
    if not _PLACE.fullmatch(value) or (value == NOTHING and direction == "down"):
        raise ValueError(f"{direction} is {_shown(value)}, expected 32 hexadecimal digits")
    return value.lower()


# --- texts ---


def is_control(data: bytes) -> bool:
    return data.startswith(PREFIX)


def parse(data: bytes) -> Control | None:
    """Read one control text, which begins with `PREFIX`; None if this version does not know its kind.

    Raises
    ------
    ValueError
        The text is malformed, too long, or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a control text of {len(data)} bytes, over the limit of {MAX_BYTES}")
    head, newline, rest = data[len(PREFIX) :].partition(b"\n")
    word, _, arguments = head.partition(b" ")
    read = _READERS.get(word)
    if read is None:
        return None
    try:
        return read(arguments.decode("ascii"), rest.decode("utf-8") if newline else "")
    except UnicodeDecodeError as error:
        raise ValueError(f"a control text is not UTF-8: {error.reason}") from None


def _hello(arguments: str, rest: str) -> Hello:
    return Hello(_announcement(arguments.split(), arguments))


def _schema(arguments: str, rest: str) -> SchemaText:
    words = arguments.split(" ")
    if len(words) != 2 or words[0] not in ("down", "up") or not _HASH.fullmatch(words[1]):
        raise ValueError(f"expected schema <down|up> <hash>, not {_shown(arguments)}")
    return SchemaText(words[0], words[1], rest)


def _refused(arguments: str, rest: str) -> Refused:
    return Refused(tuple(line for line in rest.split("\n") if line))


def _live(arguments: str, rest: str) -> Live:
    return Live()


def _gap(arguments: str, rest: str) -> Gap:
    name, *pairs = arguments.split(" ")
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    skipped, superseded = found.get("skipped", "0"), found.get("superseded", "0")
    seconds = found.get("seconds")
    if (
        not _NAME.fullmatch(name)
        or not _COUNT.fullmatch(skipped)
        or not _COUNT.fullmatch(superseded)
        or not (seconds is None or _SECONDS.fullmatch(seconds))
    ):
        raise ValueError(f"expected gap <class> skipped=<n> superseded=<n>, not {_shown(arguments)}")
    return Gap(
        name,
        int(skipped),
        int(superseded),
        found.get("reason", "")[:SHOWN],
        None if seconds is None else float(seconds),
    )


def _mark(arguments: str, rest: str) -> Mark:
    return Mark(_token(arguments))


def _seen(arguments: str, rest: str) -> Seen:
    return Seen(_token(arguments))


def _token(arguments: str) -> str:
    if not _TOKEN.fullmatch(arguments):
        raise ValueError(f"expected 16 hexadecimal digits, not {_shown(arguments)}")
    return arguments


_READERS: dict[bytes, Callable[[str, str], Control]] = {
    b"hello": _hello,
    b"schema": _schema,
    b"refused": _refused,
    b"live": _live,
    b"gap": _gap,
    b"mark": _mark,
    b"seen": _seen,
}


def render(told: Control) -> bytes:
    """Render one control text.

    Raises
    ------
    ValueError
        The text would be too long.
    """
    match told:
        case Hello(says):
            text = f"hello down={says.down} up={says.up}"
        case SchemaText(direction, digest, schema):
            text = f"schema {direction} {digest}\n{schema}"
        case Refused(differences):
            text = f"refused\n{_lines(differences)}"
        case Live():
            text = "live"
        case Gap(name, skipped, superseded, "", None):
            text = f"gap {name} skipped={min(skipped, MAX_COUNT)} superseded={min(superseded, MAX_COUNT)}"
        case Gap(name, _, _, reason, None):
            text = f"gap {name} reason={reason}"
        case Gap(name, _, _, reason, seconds):
            text = f"gap {name} reason={reason} seconds={seconds:.3f}"
        case Mark(token):
            text = f"mark {token}"
        case Seen(token):
            text = f"seen {token}"
    data = PREFIX + text.encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"a control text of {len(data)} bytes, over the limit of {MAX_BYTES}")
    return data


def _lines(differences: Iterable[str]) -> str:
    """Join as many whole lines as fit in `REFUSED_BYTES`."""
    kept: list[str] = []
    left = REFUSED_BYTES
    for difference in differences:
        line = " ".join(difference.splitlines())
        left -= len(line.encode()) + 1
        if left < 0:
            break
        kept.append(line)
    return "\n".join(kept)


def reason_of(text: str) -> str:
    """Cut a text to the size of a close reason, between two characters."""
    return text.encode()[:REASON_BYTES].decode("utf-8", "ignore")


def _shown(value: str) -> str:
    return repr(value[:SHOWN])
