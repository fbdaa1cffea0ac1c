"""Which web pages may open a connection: the ``Origin`` header (RFC 6455 section 10.2).

A browser lets any page of any site connect to any server, including those on the user's machine. It sends the
page's origin in ``Origin``. Programs that are not browsers send no ``Origin``.

``origins=`` allows more: ``"https://dash.example"`` (with or without the default port of the scheme),
``"https://*.dash.example"`` for all names below one, ``"null"``, and ``"*"`` for every page.

Allowed by default: no ``Origin``; an origin with the host name of ``Host``, on any port; a page from this
machine (loopback) if the server is addressed as this machine. All other origins, including ``null``, need
``origins=``. A loopback ``Host`` that a proxy made itself allows no page, because the browser has asked for
another host.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Collection
from typing import TypeAlias, Union
from urllib.parse import urlsplit

from deli_com.ground.callback import called

__all__ = ["Origins", "check_hosts", "check_origins", "host_allowed", "is_own", "origin_allowed"]

Origins: TypeAlias = Union[Collection[str], Callable[[str], bool]]


def origin_allowed(origin: str, host: str, origins: Origins | None, *, host_is_proxys: bool = False) -> bool:
    """Whether a page of `origin` may connect to a server addressed as `host`.

    Parameters
    ----------
    origin : str
        The header's value, for example ``"https://example.com:8443"`` or ``"null"``.
    host : str
        Value of the ``Host`` header.
    origins : collection of str, or callable, optional
        More origins, as for `check_origins`; or a callable that decides alone.
    host_is_proxys : bool
        True if `host` is from a trusted proxy's own request.
    """
    if callable(origins):
        return bool(called(origins, origin))
    if origins is not None:
        wanted = _normal(origin)
        if any(_matches(_listed(allowed), wanted) for allowed in origins):
            return True
    page, server = _host_of(origin), _host_of(f"//{host}")
    if page is None or server is None or (host_is_proxys and _is_loopback(server)):
        return False
    return page == server or (_is_loopback(page) and _is_loopback(server))


def check_origins(origins: Origins | None) -> None:
    """Raise `ValueError` for a listed origin that cannot match any ``Origin``."""
    if origins is not None and not callable(origins):
        for item in origins:
            _listed(item)


def is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` has come from the very address that it now connects to."""
    return _normal(origin) in (_normal(f"http://{host}"), _normal(f"https://{host}"))


def host_allowed(host: str, hosts: Collection[str]) -> bool:
    """Whether a request may be addressed to `host`, where names are not to be taken on trust.

    An IP literal and localhost always may be. For another name anybody can answer the address of this machine
    (DNS rebinding), whose page then is of the same origin as this server.
    """
    name = _host_of(f"//{host}")
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return any(name == item.lower().rstrip(".") for item in hosts)
    return True


def check_hosts(hosts: Collection[str]) -> None:
    """Raise `ValueError` for what is listed and can be no host's name."""
    for item in hosts:
        if not _NAME.fullmatch(item):
            raise ValueError(f"hosts has {item!r} in it, expected a name alone, such as 'robot.local'")


_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^/?#@:\[\]\s]*)(?::([0-9]{1,9}))?")


def _normal(origin: str) -> str:
    """The canonical form of an origin: lower case, no default port, no trailing dot."""
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return origin.lower()
    scheme, host, port = found.groups()
    suffix = "" if port is None or port == _PORTS.get(scheme) else f":{int(port)}"
    return f"{scheme}://{host.rstrip('.')}{suffix}"


def _matches(allowed: str, origin: str) -> bool:
    scheme, wildcard, name = allowed.partition("://*")
    if not wildcard:
        return allowed in ("*", origin)
    return (
        origin.startswith(f"{scheme}://")
        and origin.endswith(name)
        and len(origin) > len(scheme) + len("://") + len(name)
        and _ORIGIN.fullmatch(origin) is not None
    )


@functools.lru_cache(maxsize=1024)
def _listed(item: str) -> str:
    text = item.strip().lower()
    if text in ("*", "null"):
        return text
    found = _ORIGIN.fullmatch(text.removesuffix("/") if text.count("/") == 3 else text)
    if found is None:
        raise ValueError(f"origins has {item!r} in it, which is no origin: {_hint(text)}")
    scheme, host, port = found.groups()
    if port is not None and int(port) > 65535:
        raise ValueError(f"origins has {item!r} in it, which is no origin: port {port} is over 65535")
    name = host.removeprefix("*.")
    if "*" in name or (host.startswith("*.") and not name.strip(".")):
        raise ValueError(
            f"origins has {item!r} in it: a wildcard is the whole first part of a name "
            "('https://*.dash.example'), or '*' for every page"
        )
    if not name and scheme in _PORTS:
        raise ValueError(f"origins has {item!r} in it, which is no origin: the host is missing")
    if scheme in ("ws", "wss"):
        page = scheme.replace("ws", "http")
        raise ValueError(f"origins has {item!r} in it, but pages have {page}: write '{page}://{host}'")
    if not name.isascii():  # the form that browsers send
        try:
            host = host.removesuffix(name) + name.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(
                f"origins has {item!r} in it, which is no origin: {name!r} is no host name"
            ) from None
    return _normal(f"{scheme}://{host}" + ("" if port is None else f":{port}"))


def _hint(text: str) -> str:
    if "://" not in text:
        return f"the scheme is missing, write 'https://{text.strip('/')}'" if text else "it is empty"
    if "*" in text:
        return (
            "a wildcard is the whole first part of a name ('https://*.dash.example'), or '*' for every page"
        )
    return "an origin is scheme://host[:port] and nothing else"


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
