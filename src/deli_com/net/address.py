"""Where a server listens and a client connects: parsing and resolving.

::

    Address(host, port)                 what local_addr() returns; str(): host:port, [v6]:port, unix:/path
    parse_address(addr) -> Address      for bind: such a str, (host, port), an Address
    parse_target(addr, ...) -> Target   for connect: the same, or a ws:// or wss:// URL
    address_of(sockaddr) -> Address     what the kernel says, in the form that people and lists know
    await resolve(address)              addresses to try, in the resolver's order

Everything that is not one of these forms is a `ValueError` that lists them.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import operator
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, Union
from urllib.parse import quote, urlsplit

from deli_com.net.options import one_checked

__all__ = [
    "NOT_GIVEN",
    "UNIX",
    "Address",
    "AddressLike",
    "NotGiven",
    "Target",
    "address_of",
    "parse_address",
    "parse_target",
    "plain_ip",
    "resolve",
    "unix_path",
]

AddrInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]


class NotGiven(enum.Enum):
    """The default of an `addr` that may be left out; None is something that a user may write."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final[Literal[NotGiven.NOT_GIVEN]] = NotGiven.NOT_GIVEN

UNIX = "unix:"
UNIX_PATH_BYTES = (
    107 if os.name == "posix" and os.uname().sysname == "Linux" else 103
)  # of sun_path, less a NUL

_BIND_FORMS = '"host:port", "[v6]:port", "unix:/path", (host, port) or what local_addr() returned'
_CONNECT_FORMS = _BIND_FORMS + ', or a "ws://" or "wss://" URL'
_NOT_IN_HOST = re.compile(
    r"[\x00-\x20\x7f/?#@\\:\[\]<>^|%]"
)  # delimiters of RFC 3986 and the WHATWG host rules
_HOST_HINT = '; write "127.0.0.1:{}"'  # where there is a port and no more
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~"  # left as they are when a path with other characters is quoted


class Address(NamedTuple):
    """A host and a port; compares equal to the plain tuple.

    Attributes
    ----------
    host : str
        Name or address, an IPv6 address without brackets and with its scope (``fe80::1%eth0``). Of a Unix
        socket ``unix:`` and the path; no path for one that has none, as clients.
    port : int
        0 to 65535; 0 lets the kernel choose when binding, and is that of a Unix socket.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if self.host.startswith(UNIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressLike: TypeAlias = Union[str, tuple[str, int], Address]  # no text in it: get_type_hints resolves it


def unix_path(address: Address) -> str | None:
    """Path of a Unix socket, a leading ``@`` for Linux's abstract ones; None for all other addresses."""
    return address.host[len(UNIX) :] if address.host.startswith(UNIX) else None


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
        if unix_path(self.address) is not None:
            return "localhost"
        address = self.address._replace(
            host=self.address.host.partition("%")[0]
        )  # a scope is of this machine
        if address.port == (443 if self.secure else 80):
            return str(address).rpartition(":")[0]
        return str(address)

    def __str__(self) -> str:
        if unix_path(self.address) is not None:
            return str(self.address) + (self.resource if self.resource != "/" else "")
        return f"{'wss' if self.secure else 'ws'}://{self.host_header}{self.resource}"


def parse_address(addr: AddressLike) -> Address:
    """Read an address to bind.

    Parameters
    ----------
    addr : str or tuple
        ``"host:port"``, ``"[v6]:port"``, ``"unix:/path"``, ``(host, port)`` or an `Address`. Port 0 lets the
        kernel choose.

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
    if isinstance(addr, str) and "://" in addr and not addr.startswith(UNIX):
        target = _parse_url(addr, secure)
        if path is not None:
            if target.resource != "/":
                raise ValueError(f"two paths: {path!r} and that of {addr!r}")
            target = Target(target.address, target.secure, _quote(path))
    else:
        address = _parse(addr, _CONNECT_FORMS)
        target = Target(address, secure, _quote(path) if path is not None else "/")
    if target.address.port == 0 and unix_path(target.address) is None:
        raise ValueError(f"cannot connect to port 0: {addr!r}")
    return target


def _parse(addr: object, forms: str) -> Address:
    if isinstance(addr, str):
        if addr.startswith(UNIX):
            return Address(_check_unix(addr, addr, forms), 0)
        if addr.startswith("["):
            host, bracket, port = addr[1:].partition("]:")
            if not bracket:
                raise _bad(addr, "no port after the brackets", forms)
            return Address(_check_v6(host, addr, forms), _check_port(port, addr, forms))
        host, colon, port = addr.rpartition(":")
        if not colon:
            raise _bad(addr, f"the port is missing{_HOST_HINT.format(addr) if addr.isdigit() else ''}", forms)
        if "://" in host:
            raise _bad(addr, "a URL is for clients, a server has a host and a port", forms)
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
        if host.startswith(UNIX):
            return Address(_check_unix(host, addr, forms), 0)
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
    a_port = isinstance(addr, int) and not isinstance(addr, bool)
    raise _bad(addr, f"not an address{_HOST_HINT.format(addr) if a_port else ''}", forms)


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
        meant = {"http": "; write ws://", "https": "; write wss://"}.get(parts.scheme, "")
        raise _bad(url, f"scheme {parts.scheme!r}{meant}", _CONNECT_FORMS)
    if parts.scheme == "ws" and secure:
        raise ValueError(f"ssl is given but {url!r} is not a wss:// URL")
    if "@" in parts.netloc:
        raise _bad(url, "user information is not sent; use headers=", _CONNECT_FORMS)
    if "#" in url:
        raise _bad(url, "a fragment has no meaning here", _CONNECT_FORMS)
    if parts.netloc.endswith(":"):
        raise _bad(url, "the port is missing", _CONNECT_FORMS)
    host, percent, scope = (parts.hostname or "").partition("%")
    if percent:  # RFC 6874: the percent sign of a scope is itself encoded; browsers' users write it bare
        host = f"{host}%{scope[2:] if scope.startswith('25') and len(scope) > 2 else scope}"
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


def _check_unix(host: str, addr: object, forms: str) -> str:
    path = host[len(UNIX) :]
    if path.startswith("///"):
        path = path[2:]  # unix:///path, the URL's way to write it
    if not hasattr(socket, "AF_UNIX"):
        raise _bad(addr, "this Python has no Unix sockets", forms)
    if not path or path == "@" or "\0" in path:
        raise _bad(addr, "the path is missing" if not path or path == "@" else "a path has no NUL", forms)
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        raise _bad(addr, f"the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes", forms)
    return UNIX + path


def _check_v6(host: str, addr: object, forms: str) -> str:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise _bad(addr, f"{host!r} is no IPv6 address", forms) from None
    return host


def _check_name(host: str, addr: object, forms: str) -> str:
    if not host:
        hint = ""
        if forms is _BIND_FORMS:
            hint = " (127.0.0.1 is this machine alone; 0.0.0.0 and [::] are all of its addresses)"
        raise _bad(addr, f"the host is empty{hint}", forms)
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


def plain_ip(host: str) -> str:
    """An IPv4 address that is mapped into IPv6 (``::ffff:a.b.c.d``) as itself; anything else as it is."""
    if ":" in host and "ffff" in host.lower():
        try:
            mapped = ipaddress.IPv6Address(host).ipv4_mapped
        except ValueError:
            return host
        if mapped is not None:
            return str(mapped)
    return host


def address_of(sockaddr: Any) -> Address | None:
    """What ``getsockname`` or ``getpeername`` gave, as an `Address`; None for what is no address.

    An IPv6 address keeps its scope, by the name of the interface, so that one can connect to it. A mapped
    IPv4 address is that IPv4 address: lists of who may connect are written so.
    """
    if isinstance(sockaddr, (str, bytes)):
        path = os.fsdecode(sockaddr)
        return Address(UNIX + ("@" + path[1:] if path.startswith("\0") else path), 0)
    if not isinstance(sockaddr, tuple) or len(sockaddr) < 2 or not isinstance(sockaddr[0], str):
        return None
    host, port = sockaddr[:2]
    if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        try:
            host += f"%{socket.if_indextoname(sockaddr[3])}"
        except OSError:  # it is gone
            host += f"%{sockaddr[3]}"
    return Address(plain_ip(host), port)


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
