"""The addresses of servers and clients: parsing and resolving.

::

    Address(host, port)                 what local_addr() returns; str(): host:port, [v6]:port, unix:/path
    parse_address(addr) -> Address      for bind: such a str, (host, port), an Address
    parse_target(addr, ...) -> Target   for connect: the same, or a ws:// or wss:// URL
    address_of(sockaddr) -> Address     a kernel address, in the form that people and lists use
    await resolve(address)              addresses to try, in the resolver's order

All other input raises `ValueError`, which lists the valid forms.
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
    """The default of an `addr` that may be omitted. None cannot serve, because a user may pass it."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final[Literal[NotGiven.NOT_GIVEN]] = NotGiven.NOT_GIVEN

UNIX = "unix:"
UNIX_PATH_BYTES = (
    107 if os.name == "posix" and os.uname().sysname == "Linux" else 103
)  # of sun_path, without the NUL

_BIND_FORMS = '"host:port", "[v6]:port", "unix:/path", (host, port) or what local_addr() returned'
_CONNECT_FORMS = _BIND_FORMS + ', or a "ws://" or "wss://" URL'
_NOT_IN_HOST = re.compile(
    r"[\x00-\x20\x7f/?#@\\:\[\]<>^|%]"
)  # delimiters of RFC 3986 and the WHATWG host rules
_HOST_HINT = '; write "127.0.0.1:{}"'  # hint if only a port is given
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~"  # not quoted when a path has other characters to quote


class Address(NamedTuple):
    """A host and a port. It compares equal to a plain tuple.

    Attributes
    ----------
    host : str
        Name or address. An IPv6 address has no brackets, and keeps its scope (``fe80::1%eth0``). For a Unix
        socket it is ``unix:`` and the path; the path is empty for a socket without one, such as a client's.
    port : int
        0 to 65535. When binding, 0 lets the kernel choose. It is 0 for a Unix socket.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if self.host.startswith(UNIX):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressLike: TypeAlias = Union[str, tuple[str, int], Address]  # no strings: get_type_hints resolves it


def unix_path(address: Address) -> str | None:
    """Path of a Unix socket, with a leading ``@`` for Linux's abstract names; None for other addresses."""
    return address.host[len(UNIX) :] if address.host.startswith(UNIX) else None


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of a client.

    Attributes
    ----------
    address : Address
        Port 1 to 65535.
    secure : bool
        Whether TLS is used (``wss://``).
    resource : str
        Path and query as on the request line: ASCII, beginning with ``/``.
    """

    address: Address
    secure: bool = False
    resource: str = "/"

    @property
    def host_header(self) -> str:
        """Value of the ``Host`` header, without the default port of the scheme (RFC 6455 section 4.1)."""
        if unix_path(self.address) is not None:
            return "localhost"
        address = self.address._replace(
            host=self.address.host.partition("%")[0]
        )  # a scope has no meaning on other machines
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
        For any other value. The error lists these forms.
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
        Path and query, beginning with ``/``. Not valid together with a URL that has a path.
    secure : bool
        Use TLS for an address that is not a URL. For a ``ws://`` URL it raises.

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
    # urlsplit silently drops tabs and line ends. All characters that a URL may not contain are refused first.
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
    if percent:  # RFC 6874 encodes the percent sign of a scope; users write it unencoded, too
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
        path = path[2:]  # unix:///path, the form of a URL
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
            hint = " (127.0.0.1 accepts from this machine only; 0.0.0.0 and [::] are all its addresses)"
        raise _bad(addr, f"the host is empty{hint}", forms)
    if _NOT_IN_HOST.search(host):
        raise _bad(addr, f"{host!r} is no host name", forms)
    try:
        # The resolver encodes names like this, and would raise a less clear error later.
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
    """The IPv4 address that is mapped into an IPv6 address (``::ffff:a.b.c.d``); other hosts unchanged."""
    if ":" in host and "ffff" in host.lower():
        try:
            mapped = ipaddress.IPv6Address(host).ipv4_mapped
        except ValueError:
            return host
        if mapped is not None:
            return str(mapped)
    return host


def address_of(sockaddr: Any) -> Address | None:
    """The result of ``getsockname`` or ``getpeername`` as an `Address`; None if it is no address.

    An IPv6 address keeps its scope as an interface name, so that one can connect to it. A mapped IPv4 address
    becomes the IPv4 address, because access lists use that form.
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
        except OSError:  # the interface is gone
            host += f"%{sockaddr[3]}"
    return Address(plain_ip(host), port)


async def resolve(address: Address, *, passive: bool = False) -> list[AddrInfo]:
    """Resolve to a list of addresses to try in order, by ``loop.getaddrinfo``. Literals need no lookup.

    Raises
    ------
    OSError
        The resolver's `socket.gaierror`. The caller wraps it in an error that names the operation.
    """
    host, port = address
    if "%" not in host:  # a scope needs the resolver
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
