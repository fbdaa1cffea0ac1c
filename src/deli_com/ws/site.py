"""Bytes, files and folders by path: plain HTTP requests get what ``bind(http={...})`` lists.

::

    {
        "/": Path("page/index.html"),              # a file
        "/static/": Path("page/static"),           # a folder, with all files below it
        "/version.json": b'{"version": 1}',        # bytes; the suffix of the path gives their type
        "/healthz": lambda request: Response(body=b"ok"),
    }

Bytes without a suffix are HTML if the path ends with "/", else plain text. An exact path comes first, then
the longest folder path that contains the requested one. A folder serves only files below its resolved path.
It serves no names that begin with a dot, and no listing; a folder in it is served as its ``index.html``.
Files are opened and read in a thread of the loop's executor.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, Union
from urllib.parse import unquote_to_bytes

from deli_com.link.request import Request
from deli_com.ws.head import Refusal
from deli_com.ws.response import FileSlice, Reply, Response

__all__ = ["Handler", "Http", "conditional", "entity_tag", "handler_of"]

Answer: TypeAlias = Union[Response, Refusal, None]
Handler: TypeAlias = Callable[[Request], Union[Answer, Awaitable[Answer]]]
Http: TypeAlias = Union[Handler, Mapping[str, Union[bytes, str, os.PathLike[str], Handler]]]

Headers: TypeAlias = list[tuple[str, str]]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_INDEX = "index.html"
_NOT_FOUND = Refusal(404, "nothing here")
_TEXTS = ("application/javascript", "application/json", "application/xml", "image/svg+xml")


def handler_of(http: Http) -> Handler:
    """Make one handler from the argument ``http=``.

    Raises
    ------
    TypeError, ValueError
        A path does not begin with ``/``, a value has another type, or a file or folder does not exist.
    """
    return _Site(http) if isinstance(http, Mapping) else http


class _Site:
    """A handler that looks paths up."""

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._exact: dict[str, Callable[[Request], Any]] = {}
        self._folders: list[tuple[str, Path]] = []
        for path, entry in entries.items():
            if not isinstance(path, str) or not path.startswith("/"):
                raise ValueError(f'http: a path is a str that begins with "/", got {path!r}')
            self._add(path, entry)
        self._folders.sort(key=lambda folder: -len(folder[0]))

    def _add(self, path: str, entry: Any) -> None:
        if isinstance(entry, (bytes, bytearray, memoryview)):
            self._exact[path] = _Content(path, bytes(entry))
        elif isinstance(entry, (str, os.PathLike)):
            place = Path(entry).resolve()
            if place.is_dir():
                self._folders.append((path if path.endswith("/") else f"{path}/", place))
            elif place.is_file():
                self._exact[path] = lambda request: _open_file(request, place)
            else:
                raise ValueError(f"http: {path!r}: there is no file or folder {os.fspath(entry)!r}")
        elif callable(entry):
            self._exact[path] = entry
        else:
            raise TypeError(
                f"http: {path!r}: expected bytes, a path of a file or folder, or a function (request), "
                f"got {entry!r}"
            )

    def __call__(self, request: Request) -> Any:
        handler = self._exact.get(request.path)
        if handler is not None:
            return handler(request)
        for prefix, folder in self._folders:
            if request.path.startswith(prefix):
                return _open_below(request, prefix, folder)
            if request.path == prefix[:-1]:
                return _moved_to_folder(request)
        return None


class _Content:
    """A handler for constant bytes."""

    def __init__(self, path: str, body: bytes) -> None:
        self._body = body
        self._tag = entity_tag(body)
        name = path.rpartition("/")[2]
        self._type = _content_type(name if "." in name else "page.html" if not name else "text.txt")

    def __call__(self, request: Request) -> Reply:
        status, headers, start, size = conditional(request, self._tag, len(self._body), self._type)
        return Reply(status, tuple(headers), self._body[start : start + size])


async def _open_file(request: Request, place: Path) -> Reply | Refusal:
    opening = asyncio.ensure_future(asyncio.to_thread(_opened, place))
    try:
        found = await asyncio.shield(opening)
    except asyncio.CancelledError:  # the peer has disconnected; the file that the thread opens must be closed
        opening.add_done_callback(_close_unwanted)
        raise
    if isinstance(found, Refusal):
        return found
    file, status = found
    try:
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        code, headers, start, size = conditional(request, tag, status.st_size, _content_type(place.name))
    except BaseException:
        file.close()
        raise
    return Reply(code, tuple(headers), FileSlice(file, start, size))


def _opened(place: Path) -> tuple[BinaryIO, os.stat_result] | Refusal:
    try:  # without O_NONBLOCK a FIFO would block the thread forever
        descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except PermissionError:
        return Refusal(403, "this file cannot be read")
    except (OSError, ValueError):
        return _NOT_FOUND
    file = os.fdopen(descriptor, "rb", buffering=0)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        return _NOT_FOUND
    return file, status


def _close_unwanted(opening: asyncio.Future[tuple[BinaryIO, os.stat_result] | Refusal]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        found = opening.result()
        if not isinstance(found, Refusal):
            found[0].close()


async def _open_below(request: Request, prefix: str, folder: Path) -> Any:
    name = _safe_name(request.path[len(prefix) :])
    if name is None:
        return _NOT_FOUND
    place, is_folder = await asyncio.to_thread(_resolved, folder, name)
    if place is None or (request.path.endswith("/") and not is_folder):
        return _NOT_FOUND
    if is_folder and not request.path.endswith("/"):
        return _moved_to_folder(request)
    return await _open_file(request, place)


def _safe_name(encoded: str) -> str | None:
    """Decode the rest of a path; None if a part of it must not be served."""
    try:
        name = unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in name or "\\" in name or ":" in name:
        return None
    parts = name.split("/")
    if parts[-1] == "":
        parts.pop()
    if any(not part or part.startswith(".") for part in parts):
        return None
    return "/".join(parts)


def _resolved(folder: Path, name: str) -> tuple[Path | None, bool]:
    """The file for `name`, and whether `name` is a folder."""
    try:
        place = (folder / name).resolve()
        is_folder = place.is_dir()
        if is_folder:
            place = (place / _INDEX).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of symbolic links, or a name that is too long
        return None, False
    if not place.is_relative_to(folder) or any(p.startswith(".") for p in place.relative_to(folder).parts):
        return None, False
    return place, is_folder


def _moved_to_folder(request: Request) -> Response:
    query = f"?{request.query}" if request.query else ""
    # Only the last part, because a path of "//host/" would lead to another host.
    last = request.path.rpartition("/")[2]
    return Response(301, {"Location": f"./{last}/{query}"})


def _content_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name, strict=False)
    if kind is None or encoding is not None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind in _TEXTS else kind


def entity_tag(body: bytes) -> str:
    """Return the ``ETag`` of content that is known whole."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def conditional(request: Request, tag: str, size: int, kind: str) -> tuple[int, Headers, int, int]:
    """Return status, headers, and which bytes are sent (RFC 9110 sections 13 and 14)."""
    headers = [("ETag", tag), ("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")]
    known = [t.strip() for line in request.headers.getall("If-None-Match", []) for t in line.split(",")]
    if "*" in known or any(t.removeprefix("W/") == tag for t in known):
        return 304, headers, 0, 0
    headers += [("Content-Type", kind), ("Accept-Ranges", "bytes")]
    asked = request.headers.get("Range")
    if asked is None or request.method != "GET" or request.headers.get("If-Range", tag) != tag:
        return 200, headers, 0, size
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return 200, headers, 0, size  # another unit, or several ranges: sending the whole is allowed
    if found[1]:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return 200, headers, 0, size  # not a range
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first >= size or first > last:
        return 416, [*headers[:-2], ("Content-Range", f"bytes */{size}")], 0, 0
    return 206, [*headers, ("Content-Range", f"bytes {first}-{last}/{size}")], first, last - first + 1
