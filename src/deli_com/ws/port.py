"""A port: where a server listens, and what is served there by path.

::

    port = Port(listener, ssl=None, open_timeout=10.0, max_head_bytes=16 << 10, proxy_protocol=None,
                http=None, http_authorize=None)
    place = port.add("/live", service)     # ValueError: something is there
    place.close()                          # 404 from here on; what is established lives on
    port.close()

An exact path comes first, then the one service without a path, which serves all others; else 404. Paths are
compared as they are on the wire, percent-encoded: ``/b`` and ``/b/`` are two.
"""

from __future__ import annotations

import asyncio
import re
import ssl as ssl_module
from collections.abc import Collection

from deli_com.link.request import Request
from deli_com.net.listener import Listener
from deli_com.net.options import one_checked
from deli_com.net.proxy_protocol import Trust
from deli_com.ws.acceptor import WsAcceptor
from deli_com.ws.forwarded import NOBODY, Forwarding
from deli_com.ws.head import Refusal
from deli_com.ws.service import Authorize, Service
from deli_com.ws.site import Handler

__all__ = ["Mount", "Port", "check_path"]

_PATH = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*")  # neither white space nor "#" nor "?"


def check_path(path: str | None) -> None:
    """Raise for what no service can be at: `TypeError` for no str, `ValueError` for one that is no path."""
    one_checked("path", path)
    if path is not None and not _PATH.fullmatch(path):
        raise ValueError(
            f'path must begin with "/" and have no query, fragment or space, got {path!r}; '
            "characters beyond ASCII are percent-encoded"
        )


class Port:
    """A listener, its acceptor, and the services by path.

    1. It owns the listener, and closes it if it can't be made.
    2. It knows services, not servers: the event loop holds the acceptor, which holds this, and a server that
       its user has forgotten must be free to go.
    3. TLS, balancers, plain HTTP, the deadline of handshakes and the caps on them are the port's; the rest
       is the service's.
    4. It must be made, used and closed on the loop's thread.

    Parameters
    ----------
    listener : Listener
        What `open_listener` returned.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    open_timeout : float or None
        Seconds from accept to the end of a handshake.
    max_head_bytes : int
        Of a request.
    proxy_protocol : bool or tuple of networks, optional
        Who must say for whom it has connected.
    forwarding : Forwarding
        Which HTTP proxies are believed when they say for whom they ask.
    http, http_authorize : callable, optional
        The handler of plain requests, and who is asked before it.
    hosts : collection of str, optional
        Names that requests may be addressed to.
    has_page : bool
        A page that this port serves may connect to it.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        ssl: ssl_module.SSLContext | None,
        open_timeout: float | None,
        max_head_bytes: int,
        proxy_protocol: Trust,
        forwarding: Forwarding = NOBODY,
        http: Handler | None = None,
        http_authorize: Authorize | None = None,
        hosts: Collection[str] | None = None,
        has_page: bool = False,
    ) -> None:
        self._services: dict[str | None, Service] = {}
        self.is_closed = False
        try:
            self.loop = asyncio.get_running_loop()
            self.addresses = listener.addresses
            self.address = self.addresses[0]
            self._acceptor = WsAcceptor(
                listener,
                self._route,
                ssl=ssl,
                open_timeout=open_timeout,
                max_head_bytes=max_head_bytes,
                proxy_protocol=proxy_protocol,
                forwarding=forwarding,
                http=http,
                http_authorize=http_authorize,
                hosts=hosts,
                has_page=has_page,
            )
        except BaseException:
            listener.close()
            raise

    def check(self, path: str | None) -> None:
        """Raise what `add` would.

        Raises
        ------
        ValueError
            The path is none, or is served already.
        """
        check_path(path)
        if path in self._services:
            what = "a service for all other paths (one without path)" if path is None else f"path {path!r}"
            raise ValueError(f"{self.address} has {what} already")

    def add(self, path: str | None, service: Service) -> Mount:
        """Serve `service` at exactly this path, or where nothing else is if it is None."""
        self.check(path)
        self._services[path] = service
        return Mount(self, path, service)

    def remove(self, path: str | None, service: Service) -> None:
        """Serve `service` there no more; handshakes that wait for its `authorize` are refused (503)."""
        if self._services.get(path) is service:
            del self._services[path]
            self._acceptor.drop(service)

    def close(self) -> None:
        """Stop accepting, and refuse the handshakes in progress. May be called again."""
        self.is_closed = True
        self._acceptor.close()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of what `close` has refused."""
        await self._acceptor.wait_closed()

    def turned_away(self) -> dict[int, int]:
        """Return how many handshakes were refused, by HTTP status."""
        return dict(self._acceptor.turned_away)

    def _route(self, request: Request) -> Service | Refusal:
        service = self._services.get(request.path) or self._services.get(None)
        return service or Refusal(404, f"nothing at {request.path[:100]!r}")


class Mount:
    """Where one service is on its port; closing it leaves the port to the others."""

    def __init__(self, port: Port, path: str | None, service: Service) -> None:
        self._port = port
        self._path = path
        self._service = service

    def close(self) -> None:
        """Free the path. May be called again."""
        self._port.remove(self._path, self._service)

    async def wait_closed(self) -> None:
        """Wait for handshakes that were refused a moment ago to be told."""
        await asyncio.sleep(0)
