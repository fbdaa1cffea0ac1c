"""From a socket to a transport: connected or accepted, plain or TLS.

::

    await attach_connected(loop, sock, protocol, ...)      # its transport, TLS handshake done
    await attach_accepted(loop, sock, protocol, ...)
    attach_plain(loop, sock, protocol)                     # without TLS nothing needs to be awaited

Who passes a socket owns it no more, whatever happens. A transport calls ``connection_made`` in a later turn
of the loop, and a plain one adds its reader one callback after that, closed or not: by a protocol that gave
it up, or by a write that failed there. The next owner of the descriptor would inherit the reader, so it is
taken away right behind that callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl as ssl_module
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
]

Transports: TypeAlias = Literal[
    "aiofastnet", "loop"
]  # whose transports and TLS; "loop" is the event loop's own


@contextlib.asynccontextmanager
async def connecting(
    target: object,
    seconds: float | None,
    *,
    stage: Callable[[], str],
    discard: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """One deadline over all steps of connecting; a failure of any kind discards what there is.

    Parameters
    ----------
    target : object
        For the error's text.
    seconds : float or None
        When they have passed, the block is cancelled and an `IoError` raised that is a `TimeoutError`.
    stage : callable
        Says where that was, for the text.
    discard : callable
        Aborts; awaited before any error goes on.
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
    """Refuse sockets that only look like Python's own: transports would have none that they can name."""
    if type(sock).__module__.startswith("eventlet."):
        raise RuntimeError(
            "eventlet has replaced Python's sockets by its own, which asyncio's transports do not take: "
            "call eventlet.monkey_patch(socket=False)"
        )


def attach_plain(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.BaseProtocol
) -> None:
    """Make a transport without TLS: aiofastnet's own functions, less their task and future.

    They could not be cancelled either: they would close the socket before its ``add_reader`` has run.
    """
    try:
        sock = as_transported(sock)
        transport = SelectorSocketTransport(loop, sock, protocol)
    except BaseException:
        close_unwatched(loop, sock)
        raise
    # Behind its `add_reader`, ahead of the close of a transport that has failed in `connection_made`. The
    # transport has the socket now: without memory for this step, it goes without. (`suppress` needs memory.)
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
        What was connected to; TLS checks the certificate for its host.
    server_hostname : str, optional
        For another name than that.
    is_made : callable
        Whether ``connection_made`` was called: then the transport owns the socket.

    Raises
    ------
    IoError
        TLS failed, or the peer left.
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
            # A future of aiofastnet's has the error, and a frame in its traceback has that future.
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

    An `OSError` is TLS that failed, or a peer that left. For `is_made` see `attach_connected`. `look` is
    called with the socket and its first bytes, which TLS gets too; the loops' own transports never call it.
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
    """Return the peer's address of a socket that has no transport yet; None where the peer has left."""
    try:
        return address_of(sock.getpeername())
    except OSError:
        return None


def remote_address(transport: asyncio.BaseTransport) -> Address | None:
    """Return the peer's address; None where the kernel does not say, as for a peer that has left."""
    return address_of(transport.get_extra_info("peername"))


def _tls_name(address: Address) -> str:
    if unix_path(address) is not None:
        return "localhost"
    return address.host.partition("%")[0]  # a scope is this machine's own, no certificate has it
