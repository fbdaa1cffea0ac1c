"""A port: a listening address, and the services on it by path.

::

    port = Port(listener, ssl=None, open_timeout=10.0, max_head_bytes=16 << 10, proxy_protocol=None,
                http=None, http_authorize=None)
    place = port.add("/live", service)     # ValueError if the path is in use
    place.close()                          # 404 from now on; open connections stay
    port.close()

A service with exactly the requested path comes first, then the one without a path, which serves all others;
else the answer is 404. Paths are compared as sent, percent-encoded. ``/b`` and ``/b/`` differ.
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

_PATH = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]*")  # without white space, "#" and "?"


def check_path(path: str | None) -> None:
    """Check the path of a service: `TypeError` if it is no str, `ValueError` if it is no valid path."""
    one_checked("path", path)
    if path is not None and not _PATH.fullmatch(path):
        raise ValueError(
            f'path must begin with "/" and have no query, fragment or space, got {path!r}; '
            "characters beyond ASCII are percent-encoded"
        )


class Port:
    """A listener, its acceptor, and its services by path.

    1. It owns the listener, and closes it if the constructor fails.
    2. It refers to services, not to servers. The event loop holds the acceptor, which holds this object, and
    a
       server without other references must be freed.
    3. TLS, load balancers, plain HTTP, and the deadline and limits of handshakes belong to the port. All
    other
       options belong to the service.
    4. It must be made, used and closed on the loop's thread.

    Parameters
    ----------
    listener : Listener
        The result of `open_listener`.
    ssl : ssl.SSLContext, optional
        Use TLS.
    open_timeout : float or None
        Seconds from accept to the end of a handshake.
    max_head_bytes : int
        Limit on the head of a request.
    proxy_protocol : bool or tuple of networks, optional
        Load balancers that must send a PROXY header.
    forwarding : Forwarding
        HTTP proxies whose forwarding headers are trusted.
    http, http_authorize : callable, optional
        The handler of plain requests, and the function that authorizes them.
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
        """Raise the errors of `add`.

        Raises
        ------
        ValueError
            The path is invalid, or is in use.
        """
        check_path(path)
        if path in self._services:
            what = "a service for all other paths (one without path)" if path is None else f"path {path!r}"
            raise ValueError(f"{self.address} has {what} already")

    def add(self, path: str | None, service: Service) -> Mount:
        """Serve `service` at exactly this path. None serves all paths that no other service has."""
        self.check(path)
        self._services[path] = service
        return Mount(self, path, service)

    def remove(self, path: str | None, service: Service) -> None:
        """Stop serving `service` there. Handshakes that wait for its `authorize` are refused (503)."""
        if self._services.get(path) is service:
            del self._services[path]
            self._acceptor.drop(service)

    def close(self) -> None:
        """Stop accepting, and refuse the handshakes in progress. May be called again."""
        self.is_closed = True
        self._acceptor.close()

    async def wait_closed(self) -> None:
        """Wait until all connections that `close` has refused are gone."""
        await self._acceptor.wait_closed()

    def turned_away(self) -> dict[int, int]:
        """The number of refused handshakes, by HTTP status."""
        return dict(self._acceptor.turned_away)

    def _route(self, request: Request) -> Service | Refusal:
        service = self._services.get(request.path) or self._services.get(None)
        return service or Refusal(404, f"nothing at {request.path[:100]!r}")


class Mount:
    """The place of one service on its port. Closing it does not affect other services."""

    def __init__(self, port: Port, path: str | None, service: Service) -> None:
        self._port = port
        self._path = path
        self._service = service

    def close(self) -> None:
        """Free the path. May be called again."""
        self._port.remove(self._path, self._service)

    async def wait_closed(self) -> None:
        """Give handshakes that were just refused a turn of the loop."""
        await asyncio.sleep(0)
