"""The answer to a plain request: the result of a handler, and how it is rendered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, BinaryIO, TypeAlias, Union

from deli_com.ws.head import HeadersLike, Refusal, checked_pairs

__all__ = ["FileSlice", "Reply", "Response", "render_head", "reply_of"]

_OURS = {"connection", "content-length", "date", "keep-alive", "transfer-encoding", "upgrade"}
_EMPTY = (204, 304)  # statuses without content, RFC 9110 sections 15.3.5 and 15.4.5


@dataclass(frozen=True, slots=True)
class Response:
    """The result of a handler of plain HTTP requests.

    Attributes
    ----------
    status : int
        200 to 599.
    headers : mapping or pairs
        Stored as a tuple of pairs. The server sets ``Content-Length``, ``Date`` and ``Connection``.
    body : bytes
        The content; not sent to a HEAD request.

    Raises
    ------
    TypeError, ValueError
        A status out of range, a header that HTTP does not allow or that the server sets, a `body` that is not
        bytes, or a body for a status that allows none.
    """

    status: int = 200
    headers: HeadersLike = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        status: Any = self.status
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"status is an int, got {status!r}")
        if not 200 <= status <= 599:
            raise ValueError(f"status is 200 to 599, got {status!r}")
        pairs = tuple(checked_pairs(self.headers))
        for name, _ in pairs:
            if name.lower() in _OURS:
                raise ValueError(f"headers: {name!r} is set by the server")
        object.__setattr__(self, "headers", pairs)
        body: Any = self.body
        if isinstance(body, str):
            raise TypeError("body is bytes, got a str: write body=text.encode()")
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body is bytes, got {type(body).__name__}")
        object.__setattr__(self, "body", bytes(body))
        if self.body and status in _EMPTY:
            raise ValueError(f"a response of status {status} has no body, got {len(self.body)} bytes")


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A part of an open file. The sender closes the file.

    Attributes
    ----------
    file : binary file
    start, size : int
        Bytes.
    """

    file: BinaryIO
    start: int
    size: int


Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A checked response, ready to be sent.

    Attributes
    ----------
    status : int
    headers : tuple of (str, str)
    body : bytes or FileSlice
    """

    status: int
    headers: Headers
    body: Union[bytes, FileSlice] = b""

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    def close(self) -> None:
        """Close the file, if there is one."""
        if isinstance(self.body, FileSlice):
            self.body.file.close()


def reply_of(made: object) -> Reply:
    """Make a reply from the result of a handler.

    Raises
    ------
    TypeError
        The result is neither a `Response` nor a `Refusal`.
    """
    if isinstance(made, Reply):
        return made
    if isinstance(made, Response):
        headers: Any = made.headers  # pairs by now, no mapping
        return Reply(made.status, headers, made.body)
    if isinstance(made, Refusal):
        text = ("Content-Type", "text/plain; charset=utf-8")
        return Reply(made.status, (text, *made.all_headers()), f"{made.text}\n".encode("utf-8", "replace"))
    raise TypeError(f"an http handler returns a Response, a Refusal or None, not {made!r}")


def render_head(reply: Reply, *, keeps_alive: bool) -> bytes:
    """Render status line and headers, including the empty line."""
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Status"
    connection = "keep-alive" if keeps_alive else "close"
    if any(name.lower() == "upgrade" for name, _ in reply.headers):
        connection += ", Upgrade"
    lines = [
        f"HTTP/1.1 {reply.status} {phrase}",
        f"Date: {formatdate(time.time(), usegmt=True)}",
        f"Connection: {connection}",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    if reply.status not in _EMPTY:
        lines.append(f"Content-Length: {reply.size}")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")
