"""From an address to a connected socket: the race of RFC 8305, Unix paths, and the way through a proxy.

::

    proxy = check_way(address, sock=None, proxy=True, server_hostname=None, secure=False)   # at the call
    sock = await open_socket(loop, address, sock=None, proxy=proxy, secure=False)

Addresses of a name are tried in turn, the families alternating; the next one begins as soon as one has
failed, or has not answered within `ATTEMPT_S`. The first that answers is taken, the others are given up.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Literal

from deli_com.errors import IoError
from deli_com.net.address import NOT_GIVEN, UNIX, Address, AddrInfo, address_of, resolve, unix_path
from deli_com.net.http_proxy import HttpProxy, open_tunnel, parse_proxy, proxy_of_environment
from deli_com.net.unix_socket import UnixSocket, sockaddr_of
from deli_com.net.unwatched import close_unwatched

__all__ = ["address_of_peer", "check_way", "connect_socket", "open_socket"]

ATTEMPT_S = 0.2  # that one address has alone; RFC 8305 section 5 recommends 0.25, and at least 0.1
FULL_PAUSE_S = 0.02  # between two attempts at a Unix socket whose queue is full, of which nothing tells

# What says more of this machine than of the one that is to be reached.
_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def _no_stage(_: str) -> None:
    return None


async def open_socket(
    loop: asyncio.AbstractEventLoop,
    address: Address,
    *,
    sock: socket.socket | None = None,
    proxy: HttpProxy | Literal[True] | None = None,
    secure: bool = False,
    on_stage: Callable[[str], None] = _no_stage,
) -> socket.socket:
    """Connect to `address`, through a proxy if there is one, or take the socket that is connected.

    Parameters
    ----------
    sock : socket.socket, optional
        Connected.
    proxy : HttpProxy or True, optional
        Asked for a tunnel; it resolves the name. True is the one of the environment, if that names one.
    secure : bool
        TLS will be spoken, for which the environment may have a proxy of its own.
    on_stage : callable
        Told what is waited for, for the text of a timeout.

    Raises
    ------
    IoError
        The name, the way, or the proxy.
    ValueError
        The environment names a proxy of a kind that is not spoken.
    """
    if sock is not None:
        sock.setblocking(False)
        return sock
    if proxy is True:
        proxy = proxy_of_environment(address, secure=secure)
    if proxy is None:
        return await connect_socket(loop, address)
    on_stage("connecting to the proxy")
    sock = await connect_socket(loop, proxy.address, f"connect to {address} by the proxy {proxy}")
    on_stage("waiting for the proxy's answer")
    try:
        await open_tunnel(loop, sock, proxy, address)
    except BaseException:
        close_unwatched(loop, sock)
        raise
    return sock


def check_way(
    address: Address,
    *,
    sock: socket.socket | None,
    proxy: str | bool | None,
    server_hostname: str | None,
    secure: bool,
) -> HttpProxy | Literal[True] | None:
    """Check how `address` is to be reached, and return what `open_socket` takes as its proxy.

    Raises
    ------
    ValueError
        Options that contradict each other, no proxy's URL, or an empty name.
    """
    if server_hostname is not None and (not secure or not server_hostname):
        raise ValueError(
            f"server_hostname is {server_hostname!r}, expected the name in the server's certificate"
            if secure
            else "server_hostname is given, and TLS is not spoken: it needs ssl= or wss://"
        )
    if not isinstance(proxy, str):
        return True if proxy and sock is None else None
    if sock is not None:
        raise ValueError("proxy is given, and a sock that is connected already")
    if unix_path(address) is not None:
        raise ValueError(f"proxy is given, and {address} is on this machine")
    return parse_proxy(proxy)


def address_of_peer(addr: object, sock: socket.socket | None) -> Address | None:
    """Return what a socket of the user's is connected to where no address is given; None where one is.

    Raises
    ------
    TypeError
        Neither is given.
    ValueError
        It is not connected, or no stream.
    """
    if sock is None:
        if addr is NOT_GIVEN:
            raise TypeError(
                "an address is missing: connect(addr), or connect(sock=...) for a socket that is connected"
            )
        return None
    _check_connected(sock)
    return (address_of(sock.getpeername()) or Address(UNIX, 0)) if addr is NOT_GIVEN else None


def _check_connected(sock: socket.socket) -> None:
    families = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)}
    if sock.family not in families or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"sock is {sock!r}, expected one of TCP or a Unix stream socket")
    try:
        sock.getpeername()
    except OSError as error:
        raise ValueError(f"sock is {sock!r}, which is not connected: {error.strerror}") from None


async def connect_socket(
    loop: asyncio.AbstractEventLoop, address: Address, doing: str | None = None
) -> socket.socket:
    """Resolve, and connect to the first address that answers."""
    doing = doing or f"connect to {address}"
    path = unix_path(address)
    try:
        if path is not None:
            return await _connect_path(loop, path)
        infos: list[AddrInfo] = list(dict.fromkeys(await resolve(address)))
        if len(infos) == 1:
            return await _connect_one(loop, infos[0])
    except OSError as error:
        raise IoError.of(error, doing) from error
    winner, failures = await _race(loop, alternating(infos))
    if winner is not None:
        return winner
    told = _told(failures)
    raise IoError.of(told, doing) from told


def alternating(infos: list[AddrInfo]) -> list[AddrInfo]:
    """The same addresses, the families in turn, beginning with that of the first (RFC 8305 section 4)."""
    families: dict[int, list[AddrInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    order: list[AddrInfo] = []
    for turn in range(max(map(len, families.values()))):
        order += [group[turn] for group in families.values() if turn < len(group)]
    return order


async def _race(
    loop: asyncio.AbstractEventLoop, infos: list[AddrInfo]
) -> tuple[socket.socket | None, list[tuple[AddrInfo, OSError]]]:
    running: dict[asyncio.Task[socket.socket], AddrInfo] = {}
    failures: list[tuple[AddrInfo, OSError]] = []
    left = iter(infos)
    more = True
    try:
        while True:
            if more and (info := next(left, None)) is not None:
                running[loop.create_task(_connect_one(loop, info))] = info
            else:
                more = False
            if not running:
                return None, failures
            done, _ = await asyncio.wait(
                running, timeout=ATTEMPT_S if more else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    del running[task]
                    return task.result(), failures
                if not isinstance(error, OSError):
                    raise error
                failures.append((running.pop(task), error))
    finally:
        for task in running:
            task.add_done_callback(_close_loser)
            task.cancel()
        if running:
            await asyncio.wait(running)


def _close_loser(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _told(failures: list[tuple[AddrInfo, OSError]]) -> OSError:
    """The error to raise for several: what happened most notably, with all of them in its text."""
    errors = [error for _, error in failures]
    chosen = next((error for error in errors if error.errno not in _NO_WAY), errors[0])
    if len({error.errno for error in errors}) == 1:
        return chosen
    text = "; ".join(f"{error.strerror or error} ({info[4][0]})" for info, error in failures)
    return OSError(chosen.errno, text)


async def _connect_one(loop: asyncio.AbstractEventLoop, info: AddrInfo) -> socket.socket:
    family, kind, proto, _, sockaddr = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, sockaddr)
    except BaseException:
        close_unwatched(loop, sock)
        raise
    return sock


async def _connect_path(loop: asyncio.AbstractEventLoop, path: str) -> socket.socket:
    sock: Any = UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(sockaddr_of(path))
                return sock  # type: ignore[no-any-return]
            except BlockingIOError:  # the queue is full: no connection is on its way, whatever select says
                await asyncio.sleep(FULL_PAUSE_S)
    except BaseException:
        sock.close()
        raise
