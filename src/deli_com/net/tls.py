"""TLS of both ends: the choice of engine, small buffers, our own deadline, no log records for lost peers.

By default aiofastnet takes 257 KiB each way, which is meant for few connections. It also reports a peer that
closes within the TLS handshake to the loop's exception handler, with the class `ConnectionResetError` in
place of an instance. Anyone can cause that, so `TlsLoop` drops it.

aiofastnet's native engine makes SSL objects without the application data in which the callbacks of `ssl` look
up their object. A context with such a callback crashes the process at its first call. For such a context,
`prepare` selects aiofastnet's other engine, which uses `ssl.SSLObject`. It runs before each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl as ssl_module
from collections.abc import Callable
from typing import Any, cast

__all__ = ["CERTIFICATE_HINT", "TlsLoop", "prepare", "tls_hint", "tls_options"]

BUFFER_BYTES = 32 * 1024  # in each direction
CERTIFICATE_HINT = "want a certificate of this client (ssl_context.load_cert_chain)"
SHUTDOWN_S = 2.0  # how long a close waits for the peer's close_notify; the default is 30 s
# Our own deadline ends a handshake, so the transport's must be longer. The loops require a number.
HANDSHAKE_S = 24 * 3600.0
# Up to OpenSSL 1.1, a peer may renegotiate at any time, which runs the callbacks of a handshake again.
RENEGOTIATES = ssl_module.OPENSSL_VERSION_INFO < (3,)


def tls_options(context: ssl_module.SSLContext | None, *, small_buffers: bool) -> dict[str, Any]:
    """Keyword arguments for ``create_connection`` and ``connect_accepted_socket``; empty without a context.

    Parameters
    ----------
    context : ssl.SSLContext or None
        None for plain TCP.
    small_buffers : bool
        Whether to set buffer sizes, which aiofastnet's functions accept and those of the loops do not.
    """
    if context is None:
        return {}
    options: dict[str, Any] = {
        "ssl": context,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": SHUTDOWN_S,
    }
    if small_buffers:
        options["ssl_incoming_bio_size"] = options["ssl_outgoing_bio_size"] = BUFFER_BYTES
    return options


def calls_python(context: ssl_module.SSLContext) -> bool:
    """Whether an established connection can call Python through this context in its present state."""
    return context.sni_callback is not None or context.keylog_filename is not None


@functools.cache
def _psk_slots() -> tuple[int, ...]:
    """Offsets, in words, of a context's callbacks for pre-shared keys. There is no public way to read them.

    They are found by setting both callbacks. The result is empty before Python 3.13, which has none. With
    these callbacks aiofastnet's native engine does not crash; it only finds no key.
    """
    if not getattr(ssl_module, "HAS_PSK", False):
        return ()
    client: Any = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_CLIENT)
    client.set_psk_client_callback(_no_key)
    server: Any = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_SERVER)
    server.set_psk_server_callback(_no_key)
    with contextlib.suppress(ImportError, NotImplementedError, ValueError):
        return tuple(_words(context).index(id(_no_key)) for context in (client, server))
    return ()


def _no_key(_: Any) -> Any:
    return None


def _words(context: ssl_module.SSLContext) -> list[int]:
    import ctypes

    base = ssl_module.SSLContext.__base__
    count = base.__basicsize__ // ctypes.sizeof(ctypes.c_size_t) if base is not None else 0
    return list((ctypes.c_size_t * count).from_address(id(context)))


def has_psk(context: ssl_module.SSLContext) -> bool:
    """Whether this context has a callback for pre-shared keys, as far as that can be found out."""
    slots = _psk_slots()
    return bool(slots) and any(map(_words(context).__getitem__, slots))


def needs_ssl_objects(context: ssl_module.SSLContext) -> bool:
    """Whether connections of this context must use `ssl.SSLObject`.

    They must if the context has a callback, or if its class overrides how connections are made: the native
    engine bypasses ``wrap_bio``, and with it the checks that a subclass adds.
    """
    return (
        calls_python(context)
        or context._msg_callback is not None  # type: ignore[attr-defined]
        or type(context).wrap_bio is not ssl_module.SSLContext.wrap_bio
        or context.sslobject_class is not ssl_module.SSLObject
        or has_psk(context)
    )


def prepare(context: ssl_module.SSLContext) -> None:
    """Select aiofastnet's engine for the next connection. Once `ssl.SSLObject` is selected, it stays so."""
    if needs_ssl_objects(context):
        # aiofastnet reads this attribute, which the class of the standard library does not declare.
        context._aiofastnet_force_fallback_ssl = True  # type: ignore[attr-defined]


class TlsLoop:
    """The event loop that one TLS transport of aiofastnet gets. It differs from the real loop in four ways.

    1. The exception handler gets no error for a peer that closed within the handshake.
    2. If a callback is set during a handshake whose native engine is already chosen, the handshake is
    aborted. 3. `first` is called before the first read.
    4. To continue reading, the `ssl.SSLObject` engine calls a method that only the native engine has. This
    would
       raise, and the connection would stall. The loop calls the right method instead.
       engine, which raises, and the connection would stand still for ever.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    context : ssl.SSLContext
        The context, after `prepare`.
    is_made : callable
        Tells whether the handshake is done.
    first : callable, optional
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl_module.SSLContext,
        is_made: Callable[[], bool],
        first: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._context = context
        self._is_made = is_made
        # Methods that a transport calls often are attributes, which bypasses __getattr__.
        self.remove_reader = loop.remove_reader
        self.add_writer, self.remove_writer = loop.add_writer, loop.remove_writer
        self.call_later = loop.call_later
        self._first = first
        self._is_native = not getattr(context, "_aiofastnet_force_fallback_ssl", False)
        # For the native engine, the loop's method hides the one below. (A bound method would make a cycle.)
        if self._is_native:
            self.__dict__["call_soon"] = loop.call_soon

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if context.get("exception") is not ConnectionResetError:
            self._loop.call_exception_handler(context)

    def call_soon(self, callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.Handle:
        if args == (0,) and getattr(callback, "__name__", "") == "buffer_updated":
            return self._loop.call_soon(_read_on, cast(Any, callback).__self__, **options)
        return self._loop.call_soon(callback, *args, **options)

    def add_reader(self, fd: int, read: Callable[[], None]) -> None:
        # The `ssl.SSLObject` engine adds the reader in a later turn. A write may have failed before that.
        if self._is_native or not cast(Any, read).__self__.is_closing():
            self._loop.add_reader(fd, self._read, fd, read)

    def _read(self, fd: int, read: Callable[[], None]) -> None:
        first, self._first = self._first, None
        if first is not None:
            first()
        if self._is_native and calls_python(self._context) and (RENEGOTIATES or not self._is_made()):
            cast(Any, read).__self__.abort()
            return
        read()
        is_watched = self._is_native and (RENEGOTIATES or not self._is_made())
        if not is_watched and "add_reader" not in self.__dict__:
            self.__dict__["add_reader"] = self._loop.add_reader
            if cast(Any, read).__self__.is_reading():
                self._loop.add_reader(fd, read)

    @classmethod
    def of(
        cls,
        loop: asyncio.AbstractEventLoop,
        context: ssl_module.SSLContext,
        is_made: Callable[[], bool],
        first: Callable[[], None] | None = None,
    ) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, cls(loop, context, is_made, first))


def _read_on(transport: Any) -> None:
    """Make a transport deliver data that it has received but not decrypted yet."""
    transport.get_tls_protocol().data_received(b"")


def tls_hint(error: BaseException) -> str:
    """A hint about the other end from an OpenSSL error whose text is obscure; empty if there is none."""
    text = f"{getattr(error, 'reason', None) or ''} {error}".upper().replace("_", " ")
    if "CERTIFICATE REQUIRED" in text or "HANDSHAKE FAILURE" in text:
        return f"the server may {CERTIFICATE_HINT}"
    if "ALERT UNKNOWN CA" in text or "ALERT BAD CERTIFICATE" in text or "ALERT CERTIFICATE " in text:
        return "the server does not accept the certificate of this client"
    if any(words in text for words in ("WRONG VERSION NUMBER", "HTTP REQUEST", "RECORD LAYER FAILURE")):
        return "the server does not speak TLS at this port (ws:// instead of wss://, no ssl=)"
    if isinstance(error, ConnectionResetError) and not error.args:  # from aiofastnet, within the handshake
        return f"the server closed the connection: it may not speak TLS at this port, or {CERTIFICATE_HINT}"
    return ""
