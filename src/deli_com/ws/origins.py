"""Which web pages may open a connection: the ``Origin`` header (RFC 6455 section 10.2).

A browser lets any page of any site connect to any server, the one on the user's own machine too, and says in
``Origin`` whose page it is. Programs that are no browsers send none.

Allowed without configuration: no ``Origin``; one whose host name is that of ``Host``, on any port; a page
from this machine (loopback) to a server addressed as this machine. Everything else, ``null`` included, needs
``origins=``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from typing import TypeAlias, Union
from urllib.parse import urlsplit

__all__ = ["Origins", "origin_allowed"]

Origins: TypeAlias = Union[Collection[str], Callable[[str], bool]]


def origin_allowed(origin: str, host: str, origins: Origins | None) -> bool:
    """Whether a page of `origin` may connect to a server addressed as `host`.

    Parameters
    ----------
    origin : str
        The header's value, for example ``"https://example.com:8443"`` or ``"null"``.
    host : str
        Value of the ``Host`` header.
    origins : collection of str, or callable, optional
        More origins, compared without regard to case, ``"*"`` for all; or a callable that decides alone.
    """
    if callable(origins):
        return bool(origins(origin))
    if origins is not None:
        wanted = origin.lower()
        if any(allowed == "*" or allowed.lower().rstrip("/") == wanted for allowed in origins):
            return True
    page, server = _host_of(origin), _host_of(f"//{host}")
    if page is None or server is None:
        return False
    return page == server or (_is_loopback(page) and _is_loopback(server))


def _host_of(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.rstrip(".") or None if host else None  # hostname is in lower case


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
