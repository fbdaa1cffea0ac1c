"""Keepalive where the wire has none: the system asks the peer's system whether it is there.

A frame of the TCP protocol is a message, so there is no PING to send. TCP itself can ask: a probe that is not
answered says that the peer's machine or the way to it is gone. It does not say whether a program still runs
there. What the answers were, `deli_com.link.tcp_link` reads from the kernel.
"""

from __future__ import annotations

import math
import socket

__all__ = ["check_keepalive", "probe"]

PROBES = 8  # unanswered, before the system itself gives up; ours comes first where the kernel can be asked
# macOS names the first one differently.
_IDLE = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)


def check_keepalive(interval: float | None, timeout: float | None) -> None:
    """Raise `ValueError` unless both are None or positive."""
    for name, value in (("keepalive_interval", interval), ("keepalive_timeout", timeout)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}, expected seconds above 0, or None for never")


def probe(sock: socket.socket, interval: float, timeout: float) -> None:
    """Let the system probe the peer of `sock` after so many seconds of silence, and within `timeout` again.

    The system counts in whole seconds, at least one. An infinite interval leaves the socket as it is,
    and so does a socket that is none of TCP.
    """
    if math.isinf(interval) or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if _IDLE is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _IDLE, max(1, round(interval)))
    if hasattr(socket, "TCP_KEEPINTVL"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(timeout / 4)))
    if hasattr(socket, "TCP_KEEPCNT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
