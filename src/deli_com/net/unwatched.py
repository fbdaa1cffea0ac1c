"""Closing a socket that the event loop may still watch.

A registration that outlives its descriptor is inherited by the next socket with that number: the loop then
calls somebody else, or cannot watch the new one at all. Cancelled and failed operations of loops leave such
registrations behind: uvloop's and asyncio's ``sock_connect`` where the peer resets or memory is short.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

__all__ = ["close_unwatched", "unwatch", "unwatch_if_closing"]


def unwatch(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Take a descriptor out of what the loop watches. May be called again."""
    for forget in (loop.remove_reader, loop.remove_writer):
        try:
            forget(number)
        # A transport of the loop's own has it, and forgets by itself; a loop that watches no descriptors
        # (Windows' proactor); nobody knows that descriptor.
        except (RuntimeError, NotImplementedError, OSError, ValueError):
            pass


def close_unwatched(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Take `sock` out of what the loop watches, then close it. May be called again."""
    try:
        number = sock.fileno()
        if number >= 0 and not loop.is_closed():
            unwatch(loop, number)
    finally:
        sock.close()


def unwatch_if_closing(loop: asyncio.AbstractEventLoop, transport: Any, sock: socket.socket) -> None:
    """Take away what a transport that has failed in the meantime has added; it closes `sock` itself."""
    if transport.is_closing() and sock.fileno() >= 0:
        unwatch(loop, sock.fileno())
