"""From a socket to a transport: for connected or accepted sockets, plain or with TLS.

::

    await attach_connected(loop, sock, protocol, ...)      # its transport, TLS handshake done
    await attach_accepted(loop, sock, protocol, ...)
    attach_plain(loop, sock, protocol)                     # plain transports need no await

These functions take ownership of the socket in every case. A transport calls ``connection_made`` in a later
turn of the loop. A plain transport adds its reader one callback after that, even if it has been closed by the
protocol or by a failed write. The next owner of the descriptor would inherit that reader, so it is removed
directly after that callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl as ssl_module
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, TypeAlias

import aiofastnet
from aiofastnet.selector_transport import SelectorSocketTransport  # type: ignore[import-not-found]

from deli_com.errors import IoError
from deli_com.net.address import Address, address_of, unix_path
from deli_com.net.proxy_protocol import LOOK_BYTES
from deli_com.net.tls import TlsLoop, prepare, tls_hint, tls_options
from deli_com.net.unix_socket import as_transported
from deli_com.net.unwatched import close_unwatched, unwatch_if_closing

__all__ = [
    "Transports",
    "attach_accepted",
    "attach_connected",
    "attach_plain",
    "check_socket",
    "connecting",
    "peer_of",
    "remote_address",
    "reset_on_close",
]

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s

# The package that makes the transports and TLS; "loop" is the event loop.
Transports: TypeAlias = Literal["aiofastnet", "loop"]


@contextlib.asynccontextmanager
async def connecting(
    target: object,
    seconds: float | None,
    *,
    stage: Callable[[], str],
    discard: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """One deadline for all steps of connecting. Any failure discards what has been made.

    Parameters
    ----------
    target : object
        The destination, for the text of the error.
    seconds : float or None
        After this time the block is cancelled, and an `IoError` is raised that is also a `TimeoutError`.
    stage : callable
        Gives the current stage, for the text.
    discard : callable
        Aborts the connection. It is awaited before the error is raised.
    """
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except BaseException as error:
        await discard()
        if isinstance(error, TimeoutError) and scope.expired():
            late = TimeoutError(errno.ETIMEDOUT, f"out of time after {seconds:g} s, {stage()}")
            raise IoError.of(late, f"connect to {target}") from None
        raise


def check_socket(sock: socket.socket) -> None:
    """Refuse sockets of a class that replaces Python's own: transports cannot use them."""
    if type(sock).__module__.startswith("eventlet."):
        raise RuntimeError(
            "eventlet has replaced Python's sockets by its own, which asyncio's transports do not take: "
            "call eventlet.monkey_patch(socket=False)"
        )


def attach_plain(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.BaseProtocol
) -> None:
    """Make a plain transport, as aiofastnet's own functions do, but without a task and a future.

    Those functions cannot be cancelled safely: they would close the socket before its ``add_reader`` has run.
    """
    try:
        sock = as_transported(sock)
        transport = SelectorSocketTransport(loop, sock, protocol)
    except BaseException:
        close_unwatched(loop, sock)
        raise
    # This runs after the `add_reader`, and before the close of a transport that failed in `connection_made`.
    # The transport owns the socket by now. Without memory this step is skipped. (`suppress` needs memory.)
    try:
        loop.call_soon(unwatch_if_closing, loop, transport, sock)
    except MemoryError:
        pass


async def attach_connected(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    *,
    address: Address,
    ssl: ssl_module.SSLContext | None,
    server_hostname: str | None = None,
    is_made: Callable[[], bool],
    transports: Transports = "aiofastnet",
) -> None:
    """Make the transport of a connected socket; with TLS, return when its handshake is done.

    Parameters
    ----------
    address : Address
        The destination. TLS checks the certificate for its host.
    server_hostname : str, optional
        Checks the certificate for this name instead.
    is_made : callable
        Tells whether ``connection_made`` was called. Then the transport owns the socket.

    Raises
    ------
    IoError
        TLS failed, or the peer closed the connection.
    """
    try:
        check_socket(sock)
    except BaseException:
        sock.close()
        raise
    if ssl is None and transports == "aiofastnet":
        attach_plain(loop, sock, protocol)
        return
    try:
        sock = as_transported(sock)
        named: dict[str, Any] = (
            {} if ssl is None else {"server_hostname": server_hostname or _tls_name(address)}
        )
        if transports == "loop":
            named |= tls_options(ssl, small_buffers=False)
            await loop.create_connection(lambda: protocol, sock=sock, **named)
        else:
            assert ssl is not None
            prepare(ssl)
            named |= tls_options(ssl, small_buffers=True)
            own = TlsLoop.of(loop, ssl, is_made)
            await aiofastnet.create_connection(own, lambda: protocol, sock=sock, **named)
    except BaseException as error:
        if not is_made():
            loop.call_soon(close_unwatched, loop, sock)  # after the transport's own close, if there is one
        if isinstance(error, OSError):
            doing = f"connect to {address}" if ssl is None else f"TLS with {address}"
            if ssl is not None and (hint := tls_hint(error)):
                doing += f" ({hint})"
            # aiofastnet's future holds the error, and a frame of the error's traceback holds that future.
            raise IoError.of(error, doing) from error.with_traceback(None)
        raise


async def attach_accepted(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    *,
    ssl: ssl_module.SSLContext | None,
    is_made: Callable[[], bool],
    transports: Transports = "aiofastnet",
    look: Callable[[socket.socket, bytes], None] | None = None,
) -> None:
    """Make the transport of an accepted socket; with TLS, return when its handshake is done.

    `OSError` means that TLS failed or the peer closed the connection. For `is_made` see `attach_connected`.
    `look` is called with the socket and its first bytes, which TLS also gets. The loops' own transports never
    call it.
    """
    if ssl is None and transports == "aiofastnet":
        attach_plain(loop, sock, protocol)
        return
    try:
        sock = as_transported(sock)
        if transports == "loop":
            options = tls_options(ssl, small_buffers=False)
            await loop.connect_accepted_socket(lambda: protocol, sock, **options)
        else:
            assert ssl is not None
            prepare(ssl)
            options = tls_options(ssl, small_buffers=True)
            first = None if look is None else lambda: look(sock, _peek(sock))
            own = TlsLoop.of(loop, ssl, is_made, first)
            await aiofastnet.connect_accepted_socket(own, lambda: protocol, sock, **options)
    except BaseException:
        if not is_made():
            loop.call_soon(close_unwatched, loop, sock)  # after the transport's own close, if there is one
        raise


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(LOOK_BYTES, socket.MSG_PEEK)
    except OSError:
        return b""


def peer_of(sock: socket.socket) -> Address | None:
    """The peer's address of a socket without a transport; None if the peer has disconnected."""
    try:
        return address_of(sock.getpeername())
    except OSError:
        return None


def remote_address(transport: asyncio.BaseTransport) -> Address | None:
    """The peer's address; None if the kernel does not give it, for example after a disconnect."""
    return address_of(transport.get_extra_info("peername"))


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the kernel discard what the peer has not got, and reset the connection, as soon as it is closed."""
    try:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    except OSError:
        pass  # it is not connected any longer


def _tls_name(address: Address) -> str:
    if unix_path(address) is not None:
        return "localhost"
    return address.host.partition("%")[0]  # a scope is local to this machine and not in certificates
