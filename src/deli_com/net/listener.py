"""Listening sockets: all addresses of a name with one port, a Unix path, or a socket that the user made.

::

    listener = await open_listener("localhost:8765")     # or open_listener(sock=...)
    listener.sockets                                     # non-blocking, listening
    listener.addresses                                   # one for each, as local_addrs() gives them
    listener.close()
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import weakref
from typing import Any

from deli_com.errors import IoError
from deli_com.net.address import (
    NOT_GIVEN,
    Address,
    AddressLike,
    AddrInfo,
    NotGiven,
    address_of,
    parse_address,
    resolve,
    unix_path,
)
from deli_com.net.unix_socket import listen_at, remove_path

__all__ = ["Listener", "check_listening", "open_listener"]

LISTEN_BACKLOG = 1024  # connections that the kernel completes before accept(); somaxconn may limit it further
PORT_TRIES = 20  # attempts with port 0, in case the chosen port is in use at another address of the name

# Errors of one address among several: this machine lacks the family or the address.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


_listening: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # of this process, for error texts


class Listener:
    """The listening sockets of one server.

    1. It owns the sockets, and the path of a Unix socket that it has made. `close` closes and removes them.
    2. An accept loop may close its socket first.

    Attributes
    ----------
    sockets : list of socket.socket
        Listening and non-blocking; at least one.
    addresses : tuple of Address
        The address of each socket.
    """

    def __init__(self, sockets: list[socket.socket], path: tuple[str, tuple[int, int]] | None = None) -> None:
        self.sockets = sockets
        try:
            self.addresses: tuple[Address, ...] = tuple(
                address_of(sock.getsockname()) or Address("", 0) for sock in sockets
            )
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        # The process may change its working directory.
        self._path = None if path is None else (os.path.abspath(path[0]), path[1])
        self._pid = os.getpid()

    def close(self) -> None:
        """Stop listening. May be called again."""
        for sock in self.sockets:
            sock.close()
        if (
            self._path is not None and os.getpid() == self._pid
        ):  # in a forked child the path belongs to the parent
            remove_path(*self._path)
        self._path = None


def check_listening(
    addr: object, sock: socket.socket | None, *, mode: int | None, reuse_port: bool
) -> Address | None:
    """Check the arguments of `open_listener` before it acts. Returns the address; None if there is a socket.

    Raises
    ------
    TypeError
        Both an address and a socket, or neither.
    ValueError
        The address is malformed, the socket cannot listen, or an option is not for this kind of address.
    """
    if sock is not None:
        if addr is not NOT_GIVEN:
            raise TypeError("sock is given, and addr too: the socket has its address")
        for name, given in (("mode", mode is not None), ("reuse_port", reuse_port)):
            if given:
                raise ValueError(f"{name} is for a socket that bind makes; set it on the given sock")
        _check_socket(sock)
        return None
    if addr is NOT_GIVEN:
        raise TypeError(
            "an address is missing: bind(addr), or bind(sock=...) for a socket that listens already"
        )
    if addr is None:
        raise TypeError('addr is None, expected an address such as "127.0.0.1:8765"')
    address = parse_address(addr)  # type: ignore[arg-type]
    is_unix = unix_path(address) is not None
    if mode is not None and (not is_unix or address.host.startswith("unix:@")):
        raise ValueError(f"mode is for a path (unix:/path), and {address} is none")
    if reuse_port and (is_unix or not hasattr(socket, "SO_REUSEPORT")):
        raise ValueError(
            "reuse_port is for a port, and Unix sockets have none"
            if is_unix
            else "reuse_port is not available on this system"
        )
    return address


def _check_socket(sock: socket.socket) -> None:
    families = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)}
    if sock.family not in families or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"sock is {sock!r}, expected one of TCP or a Unix stream socket")
    try:
        name = sock.getsockname()
    except OSError as error:
        raise ValueError(f"sock is {sock!r}, which is closed: {error.strerror}") from None
    try:
        sock.getpeername()
    except OSError:
        pass
    else:
        raise ValueError(f"sock is {sock!r}, which is connected; expected one that is bound to an address")
    if not name or (isinstance(name, tuple) and not name[1]):
        raise ValueError(f"sock is {sock!r}, which is not bound; expected one that is bound to an address")


async def open_listener(
    addr: AddressLike | NotGiven = NOT_GIVEN,
    *,
    sock: socket.socket | None = None,
    mode: int | None = None,
    reuse_port: bool = False,
    backlog: int = LISTEN_BACKLOG,
) -> Listener:
    """Listen at every address of `addr`, or on a given socket.

    Parameters
    ----------
    addr : str or tuple
        As for `parse_address`. If a name has several addresses, all are used, with one port. Those that this
        machine does not have are skipped, as long as one remains.
    sock : socket.socket, optional
        In place of an address: a bound socket, listening or not. The listener owns it from now on.
    mode : int, optional
        Permissions of a Unix path, 0o600 if None.
    reuse_port : bool
        Let other processes listen at the same port, if they set this option too.
    backlog : int
        Length of the kernel's queue of completed connections.

    Raises
    ------
    TypeError, ValueError
        See `check_listening`.
    IoError
        The address does not resolve, is in use, or cannot be bound.
    """
    address = check_listening(addr, sock, mode=mode, reuse_port=reuse_port)
    if address is None:
        assert sock is not None
        return _listen_on(sock, backlog)
    doing = f"bind {address}"
    path = unix_path(address)
    if path is not None:
        try:
            made, identity = listen_at(path, backlog, mode)
        except OSError as error:
            raise IoError.of(error, doing) from error
        try:
            return Listener([made], None if identity is None else (path, identity))
        except OSError as error:
            raise IoError.of(error, doing) from error
    try:
        infos = list(dict.fromkeys(await resolve(address, passive=True)))
    except OSError as error:
        raise IoError.of(error, doing) from error
    tries = PORT_TRIES if address.port == 0 and len(infos) > 1 else 1
    while True:
        tries -= 1
        try:
            return Listener(_listen_at_all(infos, backlog, reuse_port))
        except OSError as error:
            if tries > 0 and error.errno == errno.EADDRINUSE:
                continue
            if error.errno == errno.EADDRINUSE and _is_ours(address.port):
                reason = (
                    f"{error.strerror}, by this process: "
                    "another of its servers listens there, or was not closed; in a notebook, call "
                    "`await server.close()` before the cell that binds it runs again"
                )
                raise IoError.of(OSError(error.errno, reason), doing) from error
            raise IoError.of(error, doing) from error


def _is_ours(port: int) -> bool:
    with contextlib.suppress(OSError):
        return any(sock.fileno() >= 0 and sock.getsockname()[1] == port for sock in list(_listening))
    return False


def _listen_on(sock: socket.socket, backlog: int) -> Listener:
    try:
        sock.setblocking(False)
        if not sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", 30)):
            sock.listen(backlog)
        return Listener([sock])
    except OSError as error:
        sock.close()
        raise IoError.of(error, "bind the socket") from error
    except BaseException:
        sock.close()
        raise


def _listen_at_all(infos: list[AddrInfo], backlog: int, reuse_port: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    both = len({family for family, *_ in infos}) > 1
    port = 0
    try:
        for family, kind, proto, _, sockaddr in infos:
            if port and not sockaddr[1]:
                sockaddr = (sockaddr[0], port, *sockaddr[2:])
            try:
                sock = _listen(family, kind, proto, sockaddr, backlog, reuse_port, v6_only=both)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                failure = failure or error
                continue
            sockets.append(sock)
            port = sock.getsockname()[1]
        if not sockets:
            assert failure is not None  # resolve() gives at least one address
            raise failure
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(
    family: int,
    kind: int,
    proto: int,
    sockaddr: tuple[Any, ...],
    backlog: int,
    reuse_port: bool,
    v6_only: bool,
) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        if os.name == "posix":  # on Windows it would let two servers share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if v6_only and family == socket.AF_INET6:  # else the wildcard would take the IPv4 port too
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
        _listening.add(sock)
    except BaseException:
        sock.close()
        raise
    return sock
