"""The HTTP request that opened a connection, kept for the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict
from picows.picows import _parse_http_request  # type: ignore[attr-defined]

from deli_com.net.address import Address

__all__ = ["Answer", "Request"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What this one request gets that others of its service do not.

    Attributes
    ----------
    headers : tuple of (str, str)
        Go into the 101 response.
    least_frame_size : int
        Frames of so many bytes are accepted, even above the service's limit.
    """

    headers: tuple[tuple[str, str], ...]
    least_frame_size: int


class Request:
    """The request of one handshake, as `authorize` sees it and as `Peer.request` keeps it; or a plain one.

    Attributes
    ----------
    method : str
        ``"GET"``; of a plain request also ``"HEAD"``.
    path, query : str
        As sent, not percent-decoded; ``query`` without the ``?``.
    remote : Address or None
        The client's address; behind a load balancer with ``proxy_protocol``, the address that the load
        balancer sent; behind a proxy with ``forwarded_from``, the one that the proxy's header says, with port
        0 where it says none.
    via : Address or None
        Address of the proxy of ``forwarded_from``; None if the client has connected itself.
    host : str
        The host that was asked for: the ``Host`` header, or with ``forwarded_host`` what the proxy says.
    secure : bool
        Over TLS; with ``forwarded_host`` what the proxy says of the client's own connection.
    subprotocol : str or None
        The one agreed on; set before ``authorize`` runs.
    peer_certificate : dict or None
        The client's certificate as `ssl.SSLSocket.getpeercert` gives it: None without one or without TLS,
        empty where the server's context verifies none.
    scope : dict or None
        The ASGI scope of a connection of ``server.asgi()``; None on a port of the server's own.
    """

    __slots__ = (
        "_answer",
        "_headers",
        "_raw",
        "host",
        "method",
        "path",
        "peer_certificate",
        "query",
        "remote",
        "scope",
        "secure",
        "subprotocol",
        "via",
    )

    def __init__(
        self,
        raw: bytes,
        headers: CIMultiDict[str],
        path: str,
        query: str,
        remote: Address | None,
        secure: bool,
        peer_certificate: dict[str, Any] | None = None,
        method: str = "GET",
        via: Address | None = None,
        host: str = "",
        scope: dict[str, Any] | None = None,
    ) -> None:
        self._raw = raw
        self._headers: CIMultiDict[str] | None = headers
        self.method = method
        self.path = path
        self.query = query
        self.remote = remote
        self.via = via
        self.host = host
        self.secure = secure
        self.peer_certificate = peer_certificate
        self.scope = scope
        self.subprotocol: str | None = None
        self._answer: Answer | None = None  # until the handshake is over

    @property
    def headers(self) -> CIMultiDict[str]:
        """All headers; once the handshake is over parsed on each use: only the bytes are kept."""
        if self._headers is not None:
            return self._headers
        headers: CIMultiDict[str] = _parse_http_request(self._raw).headers
        return headers

    def _forget_head(self) -> None:
        self._headers = self._answer = None

    def __repr__(self) -> str:
        return f"<Request {self.path!r} from {self.remote}>"
