"""Where a server listens and a client connects: parsing, resolving, binding.

::

    Address(host, port)                 what local_addr() returns; str() gives host:port or [v6]:port
    parse_address(addr) -> Address      for bind: "host:port", "[v6]:port", (host, port), an Address
    parse_target(addr, ...) -> Target   for connect: the same, or a ws:// or wss:// URL
    await resolve(address)              addresses to try, in the resolver's order
    await open_listener(addr)           one listening, non-blocking socket

Everything that is not one of these forms is a `ValueError` that lists them. Failures of the resolver and
of the kernel are `IoError`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import operator
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, Union
from urllib.parse import quote, urlsplit

from deli_com.errors import IoError
from deli_com.net.options import one_checked

__all__ = ["Address", "AddressLike", "Target", "open_listener", "parse_address", "parse_target", "resolve"]

AddressLike: TypeAlias = Union[str, "tuple[str, int]", "Address"]
AddrInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]

LISTEN_BACKLOG = 1024  # connections the kernel completes before accept(); it may cap this lower (somaxconn)

_BIND_FORMS = '"host:port", "[v6]:port", (host, port) or what local_addr() returned'
_CONNECT_FORMS = _BIND_FORMS + ', or a "ws://" or "wss://" URL'
_NOT_IN_HOST = re.compile(
    r"[\x00-\x20\x7f/?#@\\:\[\]<>^|%]"
)  # delimiters of RFC 3986 and the WHATWG host rules
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~"  # left as they are when a path with other characters is quoted


class Address(NamedTuple):
    """A host and a port; compares equal to the plain tuple.

    Attributes
    ----------
    host : str
        Name or address, an IPv6 address without brackets.
    port : int
        0 to 65535; 0 lets the kernel choose when binding.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a client connects to.

    Attributes
    ----------
    address : Address
        Port 1 to 65535.
    secure : bool
        TLS is wanted (``wss://``).
    resource : str
        Path and query as they go on the request line, ASCII, beginning with ``/``.
    """

    address: Address
    secure: bool = False
    resource: str = "/"

    @property
    def host_header(self) -> str:
        """Value of the ``Host`` header, without the port if it is the scheme's own (RFC 6455 section 4.1)."""
        if self.address.port == (443 if self.secure else 80):
            return str(self.address).rpartition(":")[0]
        return str(self.address)

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.host_header}{self.resource}"


def parse_address(addr: AddressLike) -> Address:
    """Read an address to bind.

    Parameters
    ----------
    addr : str or tuple
        ``"host:port"``, ``"[v6]:port"``, ``(host, port)`` or an `Address`. Port 0 lets the kernel choose.

    Raises
    ------
    ValueError
        For anything else, listing these forms.
    """
    return _parse(addr, _BIND_FORMS)


def parse_target(addr: AddressLike, *, path: str | None = None, secure: bool = False) -> Target:
    """Read an address or a URL to connect to.

    Parameters
    ----------
    addr : str or tuple
        As for `parse_address`, or ``ws://host[:port][/path][?query]``, or ``wss://…`` (ports 80 and 443 by
        default).
    path : str, optional
        Path and query, beginning with ``/``; not together with a URL that has a path of its own.
    secure : bool
        TLS for an address that is no URL; for a ``ws://`` URL it is a contradiction.

    Raises
    ------
    ValueError
        For any other form, an empty host, a port that is missing or out of range (0 included),
        user information or a fragment in a URL.
    """
    one_checked("path", path)
    if path is not None and (not path.startswith("/") or "#" in path):
        raise ValueError(f'path must begin with "/" and have no fragment, got {path!r}')
    if isinstance(addr, str) and "://" in addr:
        target = _parse_url(addr, secure)
        if path is not None:
            if target.resource != "/":
                raise ValueError(f"two paths: {path!r} and that of {addr!r}")
            target = Target(target.address, target.secure, _quote(path))
    else:
        address = _parse(addr, _CONNECT_FORMS)
        target = Target(address, secure, _quote(path) if path is not None else "/")
    if target.address.port == 0:
        raise ValueError(f"cannot connect to port 0: {addr!r}")
    return target


def _parse(addr: object, forms: str) -> Address:
    if isinstance(addr, str):
        if addr.startswith("["):
            host, bracket, port = addr[1:].partition("]:")
            if not bracket:
                raise _bad(addr, "no port after the brackets", forms)
            return Address(_check_v6(host, addr, forms), _check_port(port, addr, forms))
        host, colon, port = addr.rpartition(":")
        if not colon:
            raise _bad(addr, "the port is missing", forms)
        if ":" in host:
            raise _bad(addr, "an IPv6 address goes in brackets", forms)
        return Address(_check_name(host, addr, forms), _check_port(port, addr, forms))
    if (
        isinstance(addr, tuple)
        and len(addr) == 2
        and isinstance(addr[0], str)
        and not isinstance(addr[1], (str, bool))
    ):
        host, number = addr
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            number = operator.index(number)
        except TypeError:
            raise _bad(addr, "the port is no integer", forms) from None
        host = _check_v6(host, addr, forms) if ":" in host else _check_name(host, addr, forms)
        if not 0 <= number <= 65535:
            raise _bad(addr, f"port {number} is not 0 to 65535", forms)
        return Address(host, number)
    raise _bad(addr, "not an address", forms)


def _parse_url(url: str, secure: bool) -> Target:
    # urlsplit drops tabs and line ends in silence: refuse them, and all that no URL may contain, first.
    if re.search(r"[\x00-\x20\x7f]", url):
        raise _bad(url, "white space or control characters", _CONNECT_FORMS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(url, str(error), _CONNECT_FORMS) from None
    if parts.scheme not in ("ws", "wss"):
        raise _bad(url, f"scheme {parts.scheme!r}", _CONNECT_FORMS)
    if parts.scheme == "ws" and secure:
        raise ValueError(f"ssl is given but {url!r} is not a wss:// URL")
    if "@" in parts.netloc:
        raise _bad(url, "user information is not sent; use headers=", _CONNECT_FORMS)
    if "#" in url:
        raise _bad(url, "a fragment has no meaning here", _CONNECT_FORMS)
    if parts.netloc.endswith(":"):
        raise _bad(url, "the port is missing", _CONNECT_FORMS)
    host = parts.hostname or ""
    host = (
        _check_v6(host, url, _CONNECT_FORMS)
        if parts.netloc.startswith("[")
        else _check_name(host, url, _CONNECT_FORMS)
    )
    is_secure = parts.scheme == "wss"
    if port is None:
        port = 443 if is_secure else 80
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(Address(host, port), is_secure, _quote(resource))


def _quote(resource: str) -> str:
    return quote(resource, safe=_URL_SAFE)


def _check_v6(host: str, addr: object, forms: str) -> str:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise _bad(addr, f"{host!r} is no IPv6 address", forms) from None
    return host


def _check_name(host: str, addr: object, forms: str) -> str:
    if not host:
        raise _bad(addr, "the host is empty", forms)
    if _NOT_IN_HOST.search(host):
        raise _bad(addr, f"{host!r} is no host name", forms)
    try:
        # The resolver encodes names like this, and would raise far from here.
        return (
            host if host.isascii() and len(host) < 64 and ".." not in host else host.encode("idna").decode()
        )
    except UnicodeError:
        raise _bad(addr, f"{host!r} is no host name", forms) from None


def _check_port(port: str, addr: object, forms: str) -> int:
    if not port:
        raise _bad(addr, "the port is missing", forms)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise _bad(addr, f"port {port!r} is not 0 to 65535", forms)
    return int(port)


def _bad(addr: object, why: str, forms: str) -> ValueError:
    return ValueError(f"bad address {addr!r}: {why}; expected {forms}")


async def resolve(address: Address, *, passive: bool = False) -> list[AddrInfo]:
    """Resolve to the addresses to try, in order, by ``loop.getaddrinfo``; literals are not looked up.

    Raises
    ------
    OSError
        `socket.gaierror` of the resolver; the caller wraps it, saying what it was doing.
    """
    host, port = address
    if "%" not in host:  # a scope id needs the resolver
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            if literal.version == 6:
                return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    infos = await asyncio.get_running_loop().getaddrinfo(
        host,
        port,
        type=socket.SOCK_STREAM,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_PASSIVE if passive else 0,
    )
    if not infos:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return list(infos)


async def open_listener(addr: AddressLike, *, backlog: int = LISTEN_BACKLOG) -> socket.socket:
    """Open one listening socket on the first resolved address that can be bound.

    Parameters
    ----------
    addr : str or tuple
        As for `parse_address`.
    backlog : int
        Completed connections that the kernel keeps until they are accepted.

    Returns
    -------
    socket.socket
        Non-blocking and listening; the caller owns it.

    Raises
    ------
    ValueError
        No address (see `parse_address`).
    IoError
        It does not resolve, is in use, or may not be bound.
    """
    address = parse_address(addr)
    doing = f"bind {address}"
    try:
        infos = await resolve(address, passive=True)
    except OSError as error:
        raise IoError.of(error, doing) from error
    failure: OSError | None = None
    for family, kind, proto, _, sockaddr in infos:
        try:
            return _listen(family, kind, proto, sockaddr, backlog)
        except OSError as error:
            failure = error
    assert failure is not None  # resolve() returns at least one address
    raise IoError.of(failure, doing) from failure


def _listen(family: int, kind: int, proto: int, sockaddr: tuple[Any, ...], backlog: int) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if os.name == "posix":  # on Windows this option would let two servers share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
