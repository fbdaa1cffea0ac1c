"""The PROXY protocol, versions 1 and 2: a load balancer sends the client's address before all other bytes.

::

    trusts(proxy_protocol, address)        whether a header from this peer is accepted, and required
    await read_header(loop, sock)          the client's address; None if the balancer connects for itself
    is_header_start(data)                  whether a peer sends a header that is not expected
    tell_unasked(log, remote)              the one WARNING of a port about that

``proxy_protocol`` is None (off), True (trust loopback and Unix sockets), or a tuple of networks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from typing import TypeAlias, Union

from deli_com.net.address import Address, plain_ip, unix_path
from deli_com.net.http_proxy import is_loopback
from deli_com.net.log_budget import LogBudget

__all__ = ["LOOK_BYTES", "HeaderMissing", "Trust", "is_header_start", "read_header", "tell_unasked", "trusts"]

Network: TypeAlias = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Trust: TypeAlias = Union[bool, "tuple[Network, ...]", None]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # first bytes of version 2
V1_BYTES = 107  # limit on a whole line, from the specification
V2_BYTES = 4096  # limit on the payload of version 2: addresses and TLVs

LOOK_BYTES = len(SIGNATURE)  # enough to recognise a header; every header is longer


class HeaderMissing(ValueError):
    """The first bytes are not a valid PROXY header."""


def trusts(trust: Trust, peer: Address | None) -> bool:
    """Whether `peer` is a trusted load balancer."""
    if not trust or peer is None:
        return False
    if isinstance(trust, bool):
        return unix_path(peer) is not None or is_loopback(peer.host)
    try:
        address = ipaddress.ip_address(plain_ip(peer.host.partition("%")[0]))
    except ValueError:
        return False
    return any(address in network for network in trust)


def is_header_start(data: bytes | bytearray) -> bool:
    """Whether the first bytes are of a PROXY header. Leading empty lines may have been removed."""
    if data[:1] == b"G":  # of a GET, as nearly all are
        return False
    start = bytes(data[: len(SIGNATURE)])
    return start.startswith((b"PROXY ", SIGNATURE)) or (
        start[:1] == b"\x00" and SIGNATURE[4:].startswith(start[:8])
    )


def tell_unasked(log: LogBudget, remote: Address | None) -> None:
    """Log once for a port which option would accept the headers that a peer sends."""
    log.once(
        "PROXY",
        logging.WARNING,
        "%s sends PROXY protocol headers, as balancers do: proxy_protocol=[%r] would accept them",
        remote,
        None if remote is None else remote.host,
    )


async def read_header(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Address | None:
    """Read a header, and no byte beyond it.

    Raises
    ------
    HeaderMissing
        There is no header, or it is malformed.
    EOFError, OSError
        The peer closed the connection.
    """
    first = await _exactly(loop, sock, LOOK_BYTES)
    if first == SIGNATURE:
        return await _version_2(loop, sock)
    if not first.startswith(b"PROXY "):
        raise HeaderMissing("a PROXY protocol header must come first from this address")
    line = bytearray(first)
    while not line.endswith(b"\r\n"):
        if len(line) >= V1_BYTES:
            raise HeaderMissing(f"a PROXY line is over {V1_BYTES} bytes")
        line += await _exactly(loop, sock, 1)
    return _version_1(bytes(line[:-2]))


def _version_1(line: bytes) -> Address | None:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    kinds = {b"TCP4": ipaddress.IPv4Address, b"TCP6": ipaddress.IPv6Address}
    if words[1] not in kinds or len(words) != 6:
        raise HeaderMissing("a malformed PROXY line")
    try:
        source, _ = (str(kinds[words[1]](word.decode("ascii"))) for word in words[2:4])
        port = _port(words[4])
        _port(words[5])
    except ValueError:
        raise HeaderMissing("a malformed PROXY line") from None
    return Address(plain_ip(source), port)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise ValueError
    return int(word)


async def _version_2(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Address | None:
    version, family, size = struct.unpack(">BBH", await _exactly(loop, sock, 4))
    if version not in (0x20, 0x21) or size > V2_BYTES:
        raise HeaderMissing(
            "a PROXY header of an unknown version" if size <= V2_BYTES else "a PROXY header too long"
        )
    body = await _exactly(loop, sock, size)
    if version == 0x20:  # LOCAL: a health check of the balancer
        return None
    if family == 0x11 and size >= 12:
        return Address(str(ipaddress.IPv4Address(body[:4])), int.from_bytes(body[8:10], "big"))
    if family == 0x21 and size >= 36:
        return Address(plain_ip(str(ipaddress.IPv6Address(body[:16]))), int.from_bytes(body[32:34], "big"))
    if family == 0x31 and size >= 216:
        path = body[:108].rstrip(b"\x00")
        return Address("unix:" + path.decode("utf-8", "replace").replace("\x00", "@"), 0)
    if family in (0x11, 0x12, 0x21, 0x22, 0x31, 0x32) and family & 0x0F == 1:
        raise HeaderMissing("a PROXY header without the addresses that it announces")
    return None  # UNSPEC, or no stream: use the address of the connection


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise EOFError("the peer closed the connection within the PROXY header")
        data += piece
    return data
