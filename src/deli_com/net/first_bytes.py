"""Recognises other protocols by their first four bytes, where a TCP connection should begin with a length."""

from __future__ import annotations

__all__ = ["foreign_protocol"]

# The first bytes of an HTTP client, of an HTTP server, and of a balancer (PROXY protocol versions 1 and 2).
HTTP_REQUESTS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"PRI ")
HTTP_RESPONSE = b"HTTP"
PROXY_HEADERS = (b"PROX", b"\r\n\r\n")


def foreign_protocol(start: bytes, *, is_client: bool) -> tuple[str, str | None] | None:
    """Describe the program at the other end.

    Parameters
    ----------
    start : bytes
        The first four bytes of the stream.
    is_client : bool
        Whether this end, which received the bytes, is a client.

    Returns
    -------
    tuple of (str, str or None), or None
        The text, and a key. With a key, every connection from that peer does the same, so it is logged once.
        None: the protocol is not known.
    """
    if start in HTTP_REQUESTS:
        return f"this is an HTTP client ({start.decode()!r} where a length should be), for a WsServer", None
    if start in PROXY_HEADERS and not is_client:
        return (
            "this is a balancer that sends PROXY protocol headers, which are accepted from those that "
            "proxy_protocol= names"
        ), "PROXY"
    if start == HTTP_RESPONSE:
        return "this is an HTTP server ('HTTP' where a length should be), for a WsClient", None
    return None
