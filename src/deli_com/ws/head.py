"""HTTP heads of the opening handshake (RFC 6455 section 4): parsing, checking, and rendering answers.

::

    HeadReader           collects bytes up to the empty line, at most 16 KiB or another limit
    parse_request(raw)   -> path and headers of a handshake, or the Refusal to send
    parse_plain(raw)     the same for a request that is no WebSocket handshake
    parse_response(raw)  -> ResponseHead, or ValueError
    server_feed(key)     the head that picows gets in place of the peer's own
    client_feed(...)     the same for a response

``Connection`` and ``Upgrade`` are lists of tokens (Firefox sends ``keep-alive, Upgrade``), but picows
compares whole values. So this module checks the peer's head, and picows gets a canonical one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias, Union, cast

from multidict import CIMultiDict
from picows.picows import _parse_http_request  # type: ignore[attr-defined]

__all__ = [
    "MAX_HEADERS",
    "MAX_HEAD_BYTES",
    "HeadReader",
    "HeadersLike",
    "PlainHead",
    "Refusal",
    "RequestHead",
    "ResponseHead",
    "accept_token",
    "checked_headers",
    "checked_pairs",
    "checked_subprotocols",
    "client_feed",
    "not_upgrade",
    "parse_plain",
    "parse_request",
    "parse_response",
    "server_feed",
    "tokens",
]

HeadersLike: TypeAlias = Union[Mapping[str, str], Iterable[tuple[str, str]]]

MAX_HEAD_BYTES = 16 * 1024  # limit on a response, including all interim responses
MAX_HEADERS = 128  # the same limit as in picows

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEADER_LINE = re.compile(rf"({_TOKEN}):[ \t]*([\t\x20-\x7e\x80-\xff]*)".encode("latin-1"))
_HEADER_NAME = re.compile(_TOKEN)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (.*))?")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)  # absolute form, RFC 9112 section 3.2.2


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that ends a handshake.

    Attributes
    ----------
    status : int
        400 to 599.
    text : str
        The reason, for a person; sent as the body in ``text/plain``.
    headers : tuple of (str, str)
        More headers.
    """

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"a refusal has a status of 400 to 599, got {self.status!r}")
        object.__setattr__(self, "headers", tuple(checked_pairs(self.headers)))

    def to_bytes(self, *, bare: bool = False) -> bytes:
        """Render status line, headers and body; no body if `bare`, as for HEAD.

        A 401 must name an authentication scheme (RFC 9110 section 15.5.2). It is ``WWW-Authenticate:
        Bearer``, unless `headers` has another.
        """
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Refused"
        body = f"{self.text}\n".encode("utf-8", "replace")
        headers = self.all_headers()
        names = {name.lower() for name, _ in headers}
        lines = [
            f"HTTP/1.1 {self.status} {phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close, Upgrade" if "upgrade" in names else "Connection: close",
            *(f"{name}: {value}" for name, value in headers),
        ]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (b"" if bare else body)

    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """`headers`, and for a 401 the authentication scheme."""
        if self.status == 401 and not any(name.lower() == "www-authenticate" for name, _ in self.headers):
            return (*self.headers, ("WWW-Authenticate", "Bearer"))
        return self.headers


class HeadReader:
    """Bytes up to and including the empty line that ends a head.

    1. `feed` each piece once. It returns True as soon as the head is complete. No byte is searched twice.
    2. `head` and `rest` are valid after that. `rest` has the bytes that followed the head.
    3. `too_long` is True if the limit is exceeded without an end. At most the limit and one piece are held.

    Parameters
    ----------
    limit : int
        Limit on the bytes of a head, including its empty line.
    skips_empty : bool
        Ignore empty lines before it, as for a request (RFC 9112 section 2.2). They count towards the limit.
    """

    __slots__ = ("_end", "_limit", "_skips", "data")

    def __init__(self, limit: int = MAX_HEAD_BYTES, *, skips_empty: bool = False) -> None:
        self.data = bytearray()
        self._end = -1
        self._limit = limit
        self._skips = skips_empty

    def feed(self, piece: memoryview) -> bool:
        start = max(0, len(self.data) - 3)  # the end may straddle two pieces
        self.data += piece
        if self._skips:
            while self.data.startswith(b"\r\n"):
                del self.data[:2]
                self._limit -= 2
            if not self.data or self.data == b"\r":
                return False
            self._skips, start = False, 0
        if self._end < 0:
            self._end = self.data.find(b"\r\n\r\n", start)
        return self._end >= 0 and not self.too_long

    @property
    def too_long(self) -> bool:
        if self._end >= 0:
            return self._end + 4 > self._limit
        return len(self.data) >= self._limit

    @property
    def head(self) -> bytes:
        """The head, without the empty line."""
        return bytes(self.data[: self._end])

    @property
    def rest(self) -> bytes:
        return bytes(self.data[self._end + 4 :])


@dataclass(slots=True)
class RequestHead:
    """A valid opening handshake of RFC 6455 section 4.2.1.

    Attributes
    ----------
    path, query : str
        As sent, not percent-decoded; ``query`` without the ``?``.
    headers : CIMultiDict
        All headers, values as sent.
    key : str
        ``Sec-WebSocket-Key``: base64 of 16 bytes.
    """

    path: str
    query: str
    headers: CIMultiDict[str]
    key: str


@dataclass(slots=True)
class PlainHead:
    """A GET or HEAD that is no WebSocket handshake (RFC 9110 section 9.3).

    Attributes
    ----------
    method : str
        ``"GET"`` or ``"HEAD"``.
    path, query : str
        As sent, not percent-decoded; ``query`` without the ``?``.
    headers : CIMultiDict
        All headers, values as sent.
    keeps_alive : bool
        True if the connection may serve another request.
    """

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    keeps_alive: bool


def parse_request(raw: bytes) -> RequestHead | Refusal:
    """Check the head of an opening handshake, without its empty line.

    Returns
    -------
    RequestHead or Refusal
        A refusal has the appropriate status, and a text with the reason.
    """
    parts = _request_line(raw)
    if isinstance(parts, Refusal):
        return parts
    method, target, version = parts
    if version != b"HTTP/1.1":
        hint = "; nginx needs proxy_http_version 1.1" if version == b"HTTP/1.0" else ""
        return Refusal(505, f"{_shown(version)}: a WebSocket handshake is HTTP/1.1{hint}")
    if method != b"GET":
        return Refusal(405, f"method {_shown(method)}: a WebSocket handshake is a GET", (("Allow", "GET"),))
    resource = _resource(raw, target)
    return resource if isinstance(resource, Refusal) else _check_handshake(*resource)


def parse_plain(raw: bytes) -> PlainHead | Refusal | None:
    """Check a request head, without its empty line, on a port that also serves plain HTTP.

    Returns
    -------
    PlainHead, Refusal or None
        None: the request asks for a WebSocket, so `parse_request` must check it.
    """
    parts = _request_line(raw)
    if isinstance(parts, Refusal):
        return parts
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return Refusal(505, f"{_shown(version)}: only HTTP/1.1 is supported")
    if method not in (b"GET", b"HEAD"):
        return Refusal(405, f"method {_shown(method)}: only GET and HEAD", (("Allow", "GET, HEAD"),))
    resource = _resource(raw, target)
    if isinstance(resource, Refusal):
        return resource
    path, query, headers = resource
    if _has_token(headers, "Upgrade", "websocket"):
        return None
    if version == b"HTTP/1.1" and len(headers.getall("Host", [])) != 1:
        return Refusal(400, "exactly one Host header is needed")
    if "Transfer-Encoding" in headers or any(v != "0" for v in headers.getall("Content-Length", [])):
        return Refusal(400, f"a {method.decode()} must not have content here")
    keeps_alive = version == b"HTTP/1.1" and "close" not in tokens(headers, "Connection")
    return PlainHead(method.decode(), path, query, headers, keeps_alive)


def _request_line(raw: bytes) -> tuple[bytes, bytes, bytes] | Refusal:
    line = raw.partition(b"\r\n")[0]
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/"):
        return Refusal(400, f"bad request line {_shown(line)}: this is a WebSocket server for HTTP/1.1")
    return parts[0], parts[1], parts[2]


def _resource(raw: bytes, target: bytes) -> tuple[str, str, CIMultiDict[str]] | Refusal:
    """Parse path, query and headers."""
    if not _TARGET.fullmatch(target):
        return Refusal(400, f"bad request target {_shown(target)}")
    _, line_end, rest = raw.partition(b"\r\n")
    if rest.count(b"\r\n") >= MAX_HEADERS:
        return Refusal(431, f"more than {MAX_HEADERS} headers")
    try:  # picows accepts only this method and version
        headers: CIMultiDict[str] = _parse_http_request(b"GET / HTTP/1.1" + line_end + rest).headers
    except RuntimeError as error:
        return Refusal(400, str(error)[:200])
    resource = target.decode("ascii")
    absolute = None if resource[0] == "/" else _AUTHORITY.match(resource)
    if absolute is not None:
        resource = resource[absolute.end() :]
    path, _, query = resource.partition("?")
    if not path and absolute is not None:
        path = "/"  # absolute form without a path
    if not path.startswith("/") or "#" in resource:
        return Refusal(400, f"bad request target {_shown(target)}")
    return path, query, headers


def _check_handshake(path: str, query: str, headers: CIMultiDict[str]) -> RequestHead | Refusal:
    if not _has_token(headers, "Upgrade", "websocket"):
        return not_upgrade(headers)
    if not _has_token(headers, "Connection", "upgrade"):
        return Refusal(400, "the Connection header does not contain Upgrade")
    if len(headers.getall("Host", [])) != 1:
        return Refusal(400, "exactly one Host header is needed")
    versions = headers.getall("Sec-WebSocket-Version", [])
    if versions != ["13"]:
        return Refusal(
            426,
            f"Sec-WebSocket-Version {', '.join(versions)[:100]!r} is not supported, only 13",
            (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        )
    keys = headers.getall("Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refusal(400, "Sec-WebSocket-Key must be there once, the base64 of 16 bytes")
    return RequestHead(path, query, headers, keys[0])


def not_upgrade(headers: CIMultiDict[str]) -> Refusal:
    """The refusal of a request that asks for no WebSocket, on a port that serves nothing else."""
    upgrade = tokens(headers, "Upgrade")
    why = f"Upgrade is {', '.join(upgrade)[:100]!r}" if upgrade else "the request has no Upgrade header"
    return Refusal(426, f"this is a WebSocket server, and {why}", (("Upgrade", "websocket"),))


def _is_key(key: str) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except ValueError:  # not ASCII, or binascii.Error
        return False


def _shown(raw: bytes) -> str:
    return repr(raw[:80].decode("latin-1"))


def tokens(headers: CIMultiDict[str], name: str) -> list[str]:
    """The members of a list header, from all its lines, in lower case (RFC 9110 section 5.6.1)."""
    return [
        t for line in headers.getall(name, []) for t in (m.strip(" \t").lower() for m in line.split(",")) if t
    ]


def _has_token(headers: CIMultiDict[str], name: str, token: str) -> bool:
    lines = headers.getall(name, [])
    return (len(lines) == 1 and lines[0].lower() == token) or token in tokens(headers, name)


def checked_headers(headers: HeadersLike | None, option: str = "headers") -> list[tuple[str, str]]:
    """The user's headers as pairs; `ValueError` for those that are malformed or set by this library."""
    pairs = checked_pairs(headers or (), option)
    for name, _ in pairs:
        if name.lower() in _OURS:
            raise ValueError(f"{option}: {name!r} belongs to the handshake and is set by this library")
    return pairs


def checked_pairs(headers: HeadersLike, option: str = "headers") -> list[tuple[str, str]]:
    """Headers as pairs; `TypeError` or `ValueError` for those that HTTP does not allow."""
    source: Any = headers
    pairs: list[tuple[str, str]] = list(source.items() if isinstance(headers, Mapping) else source)
    for name, value in cast("list[tuple[object, object]]", pairs):
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{option}: a header is a name and a value, both str, got {name!r}: {value!r}")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{option}: not allowed in an HTTP header: {name!r}: {value!r}")
    return pairs


_OURS = {
    "connection",
    "content-length",
    "deli-schema",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
}


def checked_subprotocols(names: Iterable[str]) -> tuple[str, ...]:
    """The user's subprotocols; `ValueError` for one that is not a token (RFC 6455 section 4.1)."""
    if isinstance(names, str):
        raise TypeError(f"subprotocols are a list of str, not {names!r}")
    checked = tuple(names)
    for name in cast("tuple[object, ...]", checked):
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"subprotocols: {name!r} is none, expected a token of HTTP: no space, no comma")
    return checked


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and headers of a response, parsed but not checked."""

    minor: int  # minor HTTP version: 0 or 1
    status: int
    phrase: str
    headers: CIMultiDict[str]


def parse_response(raw: bytes) -> ResponseHead:
    """Read a response head, without its empty line.

    Raises
    ------
    ValueError
        The head is not HTTP/1.x, a header line is malformed, or there are more than 128.
    """
    line, *rest = raw.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(line)
    if not status:
        raise ValueError(f"bad status line {_shown(line)}")
    if len(rest) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    headers: CIMultiDict[str] = CIMultiDict()
    for header in rest:
        found = _HEADER_LINE.fullmatch(header)
        if not found:
            raise ValueError(f"bad header line {_shown(header)}")
        headers.add(found[1].decode("ascii"), found[2].decode("ascii", "surrogateescape").rstrip(" \t"))
    return ResponseHead(int(status[1]), int(status[2]), (status[3] or b"").decode("latin-1"), headers)


def accept_token(key: str) -> str:
    """The ``Sec-WebSocket-Accept`` of a key (RFC 6455 section 4.2.2, step 5)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()).decode(
        "ascii"
    )


def server_feed(key: str) -> bytes:
    """The request for picows' server side, which reads only the key."""
    return (
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode("ascii")


def client_feed(token: str) -> bytes:
    """The response for picows' client side, after the real one has been checked."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        f"Sec-WebSocket-Accept: {token}\r\n\r\n"
    ).encode("ascii")
