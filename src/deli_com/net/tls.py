"""How both ends use TLS: which engine, small buffers, our own deadline, no log record for a peer that left.

aiofastnet takes 257 KiB each way by default, which is for few connections. And it reports a peer that ends
the stream within the TLS handshake to the loop's exception handler: what it passes on is the class
`ConnectionResetError`, no instance. Anyone can cause that at will, so `TlsLoop` drops it.

aiofastnet's own engine makes its SSL objects beside Python's `ssl`, without the application data in which
`ssl`'s callbacks look their object up: a context with one of them ends the process at its first call. Such a
context gets aiofastnet's other engine, which is made of `ssl.SSLObject`: `prepare` chooses at each one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl as ssl_module
from collections.abc import Callable
from typing import Any, cast

__all__ = ["CERTIFICATE_HINT", "TlsLoop", "prepare", "tls_hint", "tls_options"]

BUFFER_BYTES = 32 * 1024  # each way
CERTIFICATE_HINT = "want a certificate of this client (ssl_context.load_cert_chain)"
SHUTDOWN_S = 2.0  # how long a close waits for the peer's close_notify; 30 s by default
# Our own deadline ends a handshake; that of the transport must only not come first. The loops want a number.
HANDSHAKE_S = 24 * 3600.0
# Up to OpenSSL 1.1 a peer may begin another handshake at any time, and with it call what a first one calls.
RENEGOTIATES = ssl_module.OPENSSL_VERSION_INFO < (3,)


def tls_options(context: ssl_module.SSLContext | None, *, small_buffers: bool) -> dict[str, Any]:
    """Keyword arguments of ``create_connection`` and ``connect_accepted_socket``; none without a context.

    Parameters
    ----------
    context : ssl.SSLContext or None
        None is plain TCP.
    small_buffers : bool
        aiofastnet's functions take their sizes, the loops' own do not.
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
    """Whether a connection that exists already can call Python through this context, as it is now."""
    return context.sni_callback is not None or context.keylog_filename is not None


@functools.cache
def _psk_slots() -> tuple[int, ...]:
    """Where contexts keep their callbacks for pre-shared keys, in words: nothing public tells of them.

    Found by setting both; empty where there are none (before 3.13). With these callbacks aiofastnet's engine
    does not crash; it only finds no key.
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
    """Whether this context has a callback for pre-shared keys, as far as it can be known."""
    slots = _psk_slots()
    return bool(slots) and any(map(_words(context).__getitem__, slots))


def needs_ssl_objects(context: ssl_module.SSLContext) -> bool:
    """Whether connections of this context must be `ssl.SSLObject`.

    So they must where the context has a callback, and where its class makes them its own way: the engine of
    aiofastnet would go past ``wrap_bio``, and past the checks that a subclass adds there.
    """
    return (
        calls_python(context)
        or context._msg_callback is not None  # type: ignore[attr-defined]
        or type(context).wrap_bio is not ssl_module.SSLContext.wrap_bio
        or context.sslobject_class is not ssl_module.SSLObject
        or has_psk(context)
    )


def prepare(context: ssl_module.SSLContext) -> None:
    """Choose aiofastnet's engine for the next connection of this context; once chosen, Python's stays."""
    if needs_ssl_objects(context):
        # An attribute that aiofastnet looks for; the class of the standard library does not declare it.
        context._aiofastnet_force_fallback_ssl = True  # type: ignore[attr-defined]


class TlsLoop:
    """An event loop to one of aiofastnet's TLS transports: the real one but for four things.

    1. The exception handler does not hear of peers that left within the handshake.
    2. A callback may be set while a handshake waits for its peer, whose engine was chosen before that: such a
       handshake is aborted instead of going on.
    3. `first` is called before the first read.
    4. A transport of the engine made of `ssl.SSLObject` that goes on reading asks by a method of the other
       engine, which raises, and the connection would stand still for ever.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    context : ssl.SSLContext
        After `prepare`.
    is_made : callable
        Whether the handshake is done.
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
        # What a transport calls often is found without __getattr__.
        self.remove_reader = loop.remove_reader
        self.add_writer, self.remove_writer = loop.add_writer, loop.remove_writer
        self.call_later = loop.call_later
        self._first = first
        self._is_native = not getattr(context, "_aiofastnet_force_fallback_ssl", False)
        # What goes to the loop itself hides the method here. (A bound method in its place would be a cycle.)
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
        # The engine made of SSL objects adds it in a later turn, before which a write may have failed.
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
    """Have a transport deliver what it has read and not decrypted yet."""
    transport.get_tls_protocol().data_received(b"")


def tls_hint(error: BaseException) -> str:
    """What stands at the other end, if OpenSSL's words say it to those who know them; else nothing."""
    text = f"{getattr(error, 'reason', None) or ''} {error}".upper().replace("_", " ")
    if "CERTIFICATE REQUIRED" in text or "HANDSHAKE FAILURE" in text:
        return f"the server may {CERTIFICATE_HINT}"
    if "ALERT UNKNOWN CA" in text or "ALERT BAD CERTIFICATE" in text or "ALERT CERTIFICATE " in text:
        return "the server does not accept the certificate of this client"
    if any(words in text for words in ("WRONG VERSION NUMBER", "HTTP REQUEST", "RECORD LAYER FAILURE")):
        return "the server does not speak TLS at this port (ws:// instead of wss://, no ssl=)"
    if isinstance(error, ConnectionResetError) and not error.args:  # aiofastnet's, within the TLS handshake
        return f"the server has ended it: it may not speak TLS at this port, or {CERTIFICATE_HINT}"
    return ""
