"""What another protocol's first four bytes are, where a TCP stream of messages should begin with a length."""

from __future__ import annotations

__all__ = ["foreign_protocol"]

# What an HTTP client sends first; an HTTP server; a balancer, in version 1 and 2 of the PROXY protocol.
HTTP_REQUESTS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"PRI ")
HTTP_RESPONSE = b"HTTP"
PROXY_HEADERS = (b"PROX", b"\r\n\r\n")


def foreign_protocol(start: bytes, *, is_client: bool) -> tuple[str, str | None] | None:
    """Say who stands at the other end.

    Parameters
    ----------
    start : bytes
        The first four bytes of the stream.
    is_client : bool
        Of the end that has received them.

    Returns
    -------
    tuple of (str, str or None), or None
        The text; and a key, where every connection of that peer does the same and one log record is enough.
        None: no protocol that is known.
    """
    if start in HTTP_REQUESTS:
        return f"this is an HTTP client ({start.decode()!r} where a length should be), for a WsServer", None
    if start in PROXY_HEADERS and not is_client:
        return (
            "this is a balancer that sends PROXY protocol headers, which are believed from those that "
            "proxy_protocol= names"
        ), "PROXY"
    if start == HTTP_RESPONSE:
        return "this is an HTTP server ('HTTP' where a length should be), for a WsClient", None
    return None
