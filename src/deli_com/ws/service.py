"""A service on a port, and the route from a request to a service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from picows import WSListener

from deli_com.link.request import Request
from deli_com.ws.head import HeadersLike, Refusal, checked_headers, checked_subprotocols
from deli_com.ws.origins import Origins

__all__ = ["Authorize", "ListenerFactory", "Route", "Service", "Verdict", "refusal_of"]


ListenerFactory: TypeAlias = Callable[[Request, asyncio.Transport], Union[WSListener, Refusal]]
Verdict: TypeAlias = Union[bool, "tuple[int, str]", Refusal, None]
Authorize: TypeAlias = Callable[[Request], Union[Verdict, Awaitable[Verdict]]]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service at one path of a port.

    Attributes
    ----------
    make_listener : callable
        ``(request, transport) -> WSListener``, or a `Refusal`; called after all other checks. picows then
        calls ``on_ws_connected`` in the same turn. An exception that it raises is logged and answered 500.
    max_frame_size : int
        Largest frame payload that picows accepts, in bytes.
    max_clients : int or None
        Limit on ``client_count``; further clients get 503.
    client_count : callable or None
        Returns the number of established clients of this service.
    origins : collection of str, or callable, optional
        More origins than `origins.origin_allowed` allows by default. All others get 403.
    authorize : callable, optional
        ``(request)``; may be ``async``. None or True accept; False is 403; ``(status, text)`` or a `Refusal`
        is sent.
    subprotocols : sequence of str
        The first one that the client offers is chosen. A client that offers none is accepted without one. A
        client that offers only others gets 400.
    viewer_protocols : sequence of str
        The same for those who offer none of `subprotocols`. A client that offers none of either is treated as
        if there were none of these.
    response_headers : mapping or pairs
        Headers of the 101 response.
    read_buffer_bytes : int
        First size of picows' read buffer, at least 2048. It doubles as needed.
    """

    make_listener: ListenerFactory
    max_frame_size: int
    max_clients: int | None = None
    client_count: Callable[[], int] | None = None
    origins: Origins | None = None
    authorize: Authorize | None = None
    subprotocols: Sequence[str] = ()
    viewer_protocols: Sequence[str] = ()
    response_headers: HeadersLike = ()  # kept as a tuple of pairs
    read_buffer_bytes: int = 2048

    def __post_init__(self) -> None:
        if isinstance(self.origins, str):
            raise TypeError(f"origins are a list of str or a callable, not {self.origins!r}")
        if self.max_clients is not None and self.client_count is None:
            raise TypeError("max_clients needs client_count")
        object.__setattr__(self, "subprotocols", checked_subprotocols(self.subprotocols))
        object.__setattr__(self, "response_headers", tuple(checked_headers(self.response_headers)))

    def full(self) -> bool:
        """Whether the limit on clients is reached."""
        return (
            self.max_clients is not None
            and self.client_count is not None
            and self.client_count() >= self.max_clients
        )


Route: TypeAlias = Callable[[Request], Union[Service, Refusal]]


def refusal_of(verdict: Any) -> Refusal | None:
    """Convert the result of `authorize`; `TypeError` for any other than the documented forms."""
    if verdict is None or verdict is True:
        return None
    if verdict is False:
        return Refusal(403, "not authorized")
    if isinstance(verdict, Refusal):
        return verdict
    if isinstance(verdict, tuple) and len(verdict) == 2:
        return Refusal(*verdict)
    raise TypeError(f"authorize returns None, a bool, (status, text) or a Refusal, not {verdict!r}")
