"""Connecting through an HTTP proxy: choosing it, and asking it for a tunnel (RFC 9110 section 9.3.6).

::

    proxy = parse_proxy("http://user:secret@proxy:3128")      # str() shows no password
    proxy = proxy_of_environment(address, secure=True)        # HTTPS_PROXY and the like; or None
    await open_tunnel(loop, sock, proxy, address)             # sock is connected to the proxy
"""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from deli_com.errors import IoError
from deli_com.net.address import Address, parse_address, plain_ip, unix_path

__all__ = ["HttpProxy", "is_loopback", "open_tunnel", "parse_proxy", "proxy_of_environment"]

MAX_ANSWER_BYTES = 16 * 1024  # of all response heads of a proxy together
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: (.*))?")


@dataclass(frozen=True)
class HttpProxy:
    """An HTTP proxy.

    Attributes
    ----------
    address : Address
        Address where it listens.
    authorization : str or None
        Value of ``Proxy-Authorization``. repr and str do not show it.
    """

    address: Address
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"http://{self.address}"


def parse_proxy(url: str, name: str = "proxy") -> HttpProxy:
    """Read ``http://[user[:password]@]host[:port]``. The scheme may be omitted; the default port is 80.

    Raises
    ------
    ValueError
        For any other text. The error contains no password.
    """
    full = url if "://" in url else f"http://{url}"
    shown = re.sub(r"://[^/?#]*@", "://...@", full)[:100]
    expected = 'expected "http://host:port" or "http://user:password@host:port"'
    if re.search(r"[\x00-\x20\x7f]", full):
        raise ValueError(f"{name} has white space or control characters in it, {expected}")
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{name} is {shown!r}, {expected}: {error}") from None
    if parts.scheme.lower() != "http":
        raise ValueError(f"{name} is {shown!r}, {expected}: only HTTP CONNECT without TLS is supported")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{name} is {shown!r}, {expected}: a proxy has no path")
    try:
        address = parse_address((parts.hostname or "", 80 if port is None else port))
    except ValueError:
        raise ValueError(f"{name} is {shown!r}, {expected}") from None
    if address.port == 0 or unix_path(address) is not None:
        raise ValueError(f"{name} is {shown!r}, {expected}")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
    return HttpProxy(address, authorization)


def is_loopback(host: str) -> bool:
    """Whether the name or address itself says that a host is this machine."""
    host = host.partition("%")[0].rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ipaddress.ip_address(plain_ip(host)).is_loopback
    except ValueError:
        return False


def proxy_of_environment(address: Address, *, secure: bool) -> HttpProxy | None:
    """The proxy that the environment names for a connection, as the standard library reads it.

    ``HTTPS_PROXY`` for TLS, otherwise ``HTTP_PROXY``; then ``ALL_PROXY``. Hosts in ``NO_PROXY`` are excluded.
    Loopback addresses and Unix sockets never use a proxy.

    Raises
    ------
    ValueError
        It names a proxy of an unsupported kind.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # avoids the import below, which is slow
    if unix_path(address) is not None or is_loopback(address.host):
        return None
    import urllib.request

    known: Any = urllib.request
    proxies: dict[str, str] = known.getproxies_environment()
    scheme = "https" if secure else "http"
    url = proxies.get(scheme) or proxies.get("all")
    host = address.host.partition("%")[0]
    shown = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    if not url or known.proxy_bypass_environment(shown, proxies):
        return None
    if ":" in host and known.proxy_bypass_environment(host, proxies):
        return None
    used = scheme if proxies.get(scheme) else "all"
    try:
        return parse_proxy(url, f"{used.upper()}_PROXY")
    except ValueError as error:
        raise ValueError(f"{error}; proxy=None connects without the environment's proxies") from None


async def open_tunnel(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: HttpProxy, address: Address
) -> None:
    """Ask for a tunnel to `address`. It reads no byte beyond the proxy's response.

    Raises
    ------
    IoError
        The proxy refused, closed the connection, or is no HTTP proxy.
    """
    host = address.host.partition("%")[0]
    where = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    doing = f"connect to {address} by the proxy {proxy}"
    try:
        await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        status, phrase = await _answer(loop, sock)
    except OSError as error:
        raise IoError.of(error, doing) from error
    if not 200 <= status <= 299:
        kind = errno.EACCES if status in (401, 403, 407) else errno.ECONNREFUSED
        text = f"the proxy answered {status} {phrase}".rstrip()
        if status == 407:
            text += ": it requires authentication, proxy='http://user:password@host:port'"
        refusal = OSError(kind, text)
        raise IoError.of(refusal, doing) from refusal


async def _answer(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> tuple[int, str]:
    total = 0
    while True:
        head = bytearray()
        # Byte by byte: the server behind the proxy may send first, and its bytes belong to the transport.
        while not head.endswith(b"\r\n\r\n"):
            piece = await loop.sock_recv(sock, 1)
            if not piece:
                raise ConnectionResetError(errno.ECONNRESET, "the proxy closed the connection")
            head += piece
            total += 1
            if not b"HTTP/1.".startswith(head[:7]):
                raise OSError(errno.EPROTO, "the answer is not from an HTTP proxy")
            if total > MAX_ANSWER_BYTES:
                raise OSError(errno.EPROTO, f"the proxy's answer is over {MAX_ANSWER_BYTES} bytes")
        found = _STATUS.fullmatch(bytes(head.partition(b"\r\n")[0]))
        if not found:
            raise OSError(errno.EPROTO, "the answer is not from an HTTP proxy")
        status = int(found[1])
        if status >= 200:
            words = (found[2] or b"").decode("latin-1")
            return status, "".join(c if c.isprintable() else "?" for c in words)[:100]
