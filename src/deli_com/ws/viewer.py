"""The page of ``bind(page=True)``, in front of what ``http=`` serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, Union

from deli_com.link.request import Request
from deli_com.page.html import made_page
from deli_com.ws.response import Reply
from deli_com.ws.site import Handler, Http, conditional, entity_tag, handler_of

__all__ = ["PageUse", "with_page"]

PageUse: TypeAlias = Union[bool, Literal["send"]]

_HOST = re.compile(r"[A-Za-z0-9.\-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")


def with_page(http: Http | None, page: PageUse, path: str | None, title: str = "") -> Handler:
    """Make a handler that serves the page at ``/``, and else what `http` says.

    Parameters
    ----------
    path : str or None
        Where the stream is.

    Raises
    ------
    ValueError
        `http` has something at ``/``.
    """
    if isinstance(http, Mapping) and "/" in http:
        raise ValueError('page: http has something at "/" already, which is where the page would be')
    others = None if http is None else handler_of(http)
    viewer = _Viewer((path or "/")[1:], page == "send", title)

    def handler(request: Request) -> Any:
        if request.path == "/":
            return viewer(request)
        return None if others is None else others(request)

    return handler


class _Viewer:
    """A handler for the page alone."""

    def __init__(self, path: str, sends: bool, title: str) -> None:
        self._page = made_page(path=path, sends=sends, title=title)
        self._tag = entity_tag(self._page.body)

    def __call__(self, request: Request) -> Reply:
        body, policy = self._page
        status, headers, start, size = conditional(request, self._tag, len(body), "text/html; charset=utf-8")
        host = request.host
        # Not all browsers take 'self' for the same host by ws:// and wss://.
        places = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
        headers += [
            ("Content-Security-Policy", f"{policy}; connect-src 'self'{places}"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ]
        return Reply(status, tuple(headers), body[start : start + size])
