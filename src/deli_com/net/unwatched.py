"""Closing a socket that the event loop may still watch.

A registration that outlives its descriptor is inherited by the next socket with that number: the loop then
calls somebody else, or cannot watch the new one at all. Cancelled and failed operations of loops leave such
registrations behind: uvloop's and asyncio's ``sock_connect`` where the peer resets or memory is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

__all__ = ["close_unwatched"]


def close_unwatched(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Take `sock` out of what the loop watches, then close it. May be called again."""
    try:
        number = sock.fileno()
        if number >= 0 and not loop.is_closed():
            for forget in (loop.remove_reader, loop.remove_writer):
                # RuntimeError: a transport of the loop's own has it, and forgets by itself.
                with contextlib.suppress(RuntimeError, NotImplementedError, OSError):
                    forget(number)
    finally:
        sock.close()
