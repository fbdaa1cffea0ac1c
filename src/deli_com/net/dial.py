"""From an address to a connected socket: the race of RFC 8305, Unix paths, and tunnels through a proxy.

::

    proxy = check_way(address, sock=None, proxy=True, server_hostname=None, secure=False)   # at the call
    sock = await open_socket(loop, address, sock=None, proxy=proxy, secure=False)

Addresses of a name are tried in turn, with alternating families. The next attempt begins as soon as one has
failed, or has not connected within `ATTEMPT_S`. The first connection is used; the other attempts are
cancelled.
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
from deli_com.net.unwatched import begin_unwatched, close_unwatched

__all__ = ["address_of_peer", "check_way", "connect_socket", "open_socket"]

ATTEMPT_S = 0.2  # delay before the next attempt; RFC 8305 section 5 recommends 0.25, at least 0.1
FULL_PAUSE_S = 0.02  # retry delay for a Unix socket with a full queue; there is no event to wait for

# Errors that describe this machine rather than the remote one.
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
    """Connect to `address`, through a proxy if there is one; or use a socket that is already connected.

    Parameters
    ----------
    sock : socket.socket, optional
        A connected socket.
    proxy : HttpProxy or True, optional
        The proxy to ask for a tunnel; it resolves the name. True uses the proxy of the environment, if any.
    secure : bool
        TLS will be used. The environment may have another proxy for it.
    on_stage : callable
        Called with the current stage, for the text of a timeout.

    Raises
    ------
    IoError
        The name does not resolve, or connecting fails, or the proxy refuses.
    ValueError
        The environment names a proxy of an unsupported kind.
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
    """Check how `address` is to be reached. Returns the proxy argument for `open_socket`.

    Raises
    ------
    ValueError
        Options contradict each other, the proxy's URL is malformed, or a name is empty.
    """
    if server_hostname is not None and (not secure or not server_hostname):
        raise ValueError(
            f"server_hostname is {server_hostname!r}, expected the name in the server's certificate"
            if secure
            else "server_hostname is given without TLS: it needs ssl= or wss://"
        )
    if not isinstance(proxy, str):
        return True if proxy and sock is None else None
    if sock is not None:
        raise ValueError("proxy is given together with a connected sock")
    if unix_path(address) is not None:
        raise ValueError(f"proxy is given, but {address} is on this machine")
    return parse_proxy(proxy)


def address_of_peer(addr: object, sock: socket.socket | None) -> Address | None:
    """The address to which a user's socket is connected; None if there is no socket.

    Raises
    ------
    TypeError
        Neither an address nor a socket is given.
    ValueError
        The socket is not connected, or is no stream socket.
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
    """Resolve, and connect to the address that answers first."""
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
    """The same addresses with alternating families, beginning with the first one's (RFC 8305 section 4)."""
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
    """The error to raise for several failures: the most significant one, with all of them in its text."""
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
        begin_unwatched(loop, sock)
        await loop.sock_connect(sock, sockaddr)
    except BaseException:
        close_unwatched(loop, sock)
        raise
    return sock


async def _connect_path(loop: asyncio.AbstractEventLoop, path: str) -> socket.socket:
    sock: Any = UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        begin_unwatched(loop, sock)
        while True:
            try:
                sock.connect(sockaddr_of(path))
                return sock  # type: ignore[no-any-return]
            except BlockingIOError:  # the queue is full; no connection is pending, even if select reports one
                await asyncio.sleep(FULL_PAUSE_S)
    except BaseException:
        sock.close()
        raise
