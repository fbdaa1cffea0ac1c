"""A service on a port, and the route from a request to a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from picows import WSListener

from deli_com.link.request import Request
from deli_com.net.log_budget import LogBudget
from deli_com.ws.head import HeadersLike, Refusal, checked_headers, checked_subprotocols
from deli_com.ws.origins import Origins, origin_allowed

__all__ = [
    "Authorize",
    "ListenerFactory",
    "Route",
    "Service",
    "Verdict",
    "choose_subprotocol",
    "judge_page",
    "refusal_of",
]


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
        The same for clients that offer none of `subprotocols`. If a client offers none of these either, they
        are ignored.
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


def judge_page(
    request: Request, service: Service, log: LogBudget, *, is_own: bool = False, host_is_proxys: bool = False
) -> Refusal | None:
    """Return the refusal of a web page that may not connect, or None.

    Parameters
    ----------
    log : LogBudget
        Gets a WARNING that names the option which would allow it.
    is_own : bool
        The page came from this port, so ``origins`` is not asked.
    host_is_proxys : bool
        ``request.host`` is what a trusted proxy wrote in its own request.
    """
    origins = request.headers.getall("Origin", [])
    if len(origins) > 1:
        return Refusal(400, "more than one Origin header")
    if not origins or is_own:
        return None
    if origin_allowed(origins[0], request.host, service.origins, host_is_proxys=host_is_proxys):
        return None
    shown = origins[0][:200]
    log.log(
        logging.WARNING,
        "refused a page of origin %r from %s at %r: origins=[%r] would allow it",
        shown,
        request.remote,
        request.host[:200],
        shown,
    )
    return Refusal(403, f"pages of origin {shown!r} may not connect here")


def choose_subprotocol(
    request: Request, service: Service, offered: Sequence[str], more: Sequence[str] = ()
) -> Refusal | None:
    """Set the subprotocol of a request to the first of the service's that is offered, or of `more`.

    Returns
    -------
    Refusal or None
        400 if the client offers only others than the service's.
    """
    known = (*service.subprotocols, *more)
    request.subprotocol = next((name for name in known if name in offered), None)
    if request.subprotocol is None and service.subprotocols and any(offered):
        spoken = ", ".join(service.subprotocols)
        return Refusal(400, f"none of the offered subprotocols is supported; these are: {spoken}")
    return None
