"""Keepalive where the wire has none: the system asks the peer's system whether it is there.

A frame of the TCP protocol is a message, so there is no PING to send. TCP itself can ask: a probe that is not
answered says that the peer's machine or the way to it is gone. It does not say whether a program still runs
there. What the answers were, `deli_com.link.tcp_link` reads from the kernel.
"""

from __future__ import annotations

import math
import socket

__all__ = ["probe"]

MOST_S = 32767  # that Linux takes
PROBES = 8  # unanswered, before the system itself gives up; ours comes first where the kernel can be asked
# macOS names the first one differently.
_IDLE = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)


def probe(sock: socket.socket, interval: float, timeout: float) -> None:
    """Let the system probe the peer of `sock` after so many seconds of silence, and within `timeout` again.

    The system counts in whole seconds, at least one. An infinite interval leaves the socket as it is,
    and so does a socket that is none of TCP.
    """
    if math.isinf(interval) or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if _IDLE is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _IDLE, _whole(interval))
    if hasattr(socket, "TCP_KEEPINTVL"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _whole(timeout / 4))
    if hasattr(socket, "TCP_KEEPCNT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def _whole(seconds: float) -> int:
    return min(max(1, round(seconds)), MOST_S)
