"""TCP keepalive: the kernel probes the peer's machine, because the TCP protocol of deli-com has no PING.

Each frame of that protocol is a message, so it has no PING frame. An unanswered probe means that the peer's
machine or the network is down. An answer does not mean that the peer's program still runs.
`deli_com.link.tcp_link` reads the results from the kernel.
"""

from __future__ import annotations

import math
import socket

__all__ = ["probe"]

MOST_S = 32767  # the most that Linux accepts
PROBES = 8  # unanswered probes until the kernel gives up; our timeout mostly comes first
# macOS has another name for the first option.
_IDLE = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)


def probe(sock: socket.socket, interval: float, timeout: float) -> None:
    """Let the kernel probe the peer of `sock` after `interval` seconds of silence, at least once a `timeout`.

    The kernel counts whole seconds, at least one. An infinite interval leaves the socket unchanged, and so
    does a socket that is not TCP.
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
