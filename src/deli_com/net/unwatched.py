"""Closes sockets that the event loop may still watch.

A registration that outlives its descriptor is inherited by the next socket with that number: the loop then
calls the wrong callback, or cannot watch the new socket at all. Cancelled and failed loop operations leave
such registrations behind: ``sock_connect`` of uvloop and asyncio does if the peer resets or memory is short.

Removing a registration needs memory, too. Without any it is tried some times more. If all fail, new sockets
are removed from those that the loop watches before they are used.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

__all__ = ["begin_unwatched", "close_unwatched", "unwatch", "unwatch_if_closing"]

ATTEMPTS = 100  # counted down in small ints, which take no memory

_is_left_behind = False  # whether a closed socket may still be watched


def unwatch(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Remove a descriptor from those that the loop watches. May be called again."""
    global _is_left_behind
    left = ATTEMPTS
    while left:
        try:
            _forget(loop, number)
        except MemoryError:
            left -= 1
        else:
            return
    _is_left_behind = True


def _forget(loop: asyncio.AbstractEventLoop, number: int) -> None:
    for forget in (loop.remove_reader, loop.remove_writer):
        try:
            forget(number)
        # One of: a transport of the loop has it, and will remove it; the loop watches no descriptors
        # (Windows' proactor); the descriptor is unknown.
        except (RuntimeError, NotImplementedError, OSError, ValueError):
            pass


def close_unwatched(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Remove `sock` from those that the loop watches, then close it. May be called again."""
    try:
        number = sock.fileno()
        if number >= 0 and not loop.is_closed():
            unwatch(loop, number)
    finally:
        sock.close()


def begin_unwatched(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Remove what an earlier socket of the same number has left behind, if any may have. `sock` is new."""
    if _is_left_behind:
        unwatch(loop, sock.fileno())


def unwatch_if_closing(loop: asyncio.AbstractEventLoop, transport: Any, sock: socket.socket) -> None:
    """Remove the reader that a failed transport has added after its failure. It closes `sock` itself."""
    if transport.is_closing() and sock.fileno() >= 0:
        unwatch(loop, sock.fileno())
