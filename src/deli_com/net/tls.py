"""How both ends use TLS: small buffers, our own deadline, and no log record for a peer that left.

aiofastnet takes 257 KiB each way by default, which is for few connections. And it reports a peer that ends
the stream within the TLS handshake to the loop's exception handler: what it passes on is the class
`ConnectionResetError`, no instance. Anyone can cause that at will, so `QuietLoop` drops it.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from typing import Any, cast

__all__ = ["QuietLoop", "tls_options"]

BUFFER_BYTES = 32 * 1024  # each way
SHUTDOWN_S = 2.0  # how long a close waits for the peer's close_notify; 30 s by default
# Our own deadline ends a handshake; that of the transport must only not come first. The loops want a number.
HANDSHAKE_S = 24 * 3600.0


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


class QuietLoop:
    """An event loop to aiofastnet's TLS transports: the real one but for its exception handler."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # What a transport calls often is found without __getattr__.
        self.add_reader, self.remove_reader = loop.add_reader, loop.remove_reader
        self.add_writer, self.remove_writer = loop.add_writer, loop.remove_writer
        self.call_soon, self.call_later = loop.call_soon, loop.call_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if context.get("exception") is not ConnectionResetError:
            self._loop.call_exception_handler(context)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, cls(loop))
