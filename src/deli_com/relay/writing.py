"""The connection that a relay opens to a hub, over which it sends what its clients get."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from deli_com.errors import ConnectionClosed
from deli_com.link.passing import Passing, tell
from deli_com.link.shown import retained_payloads
from deli_com.relay.ends import writer_of
from deli_com.relay.keeping import keep_connected
from deli_com.schema.control import Gap, Live, render
from deli_com.ws.server import WsServer

__all__ = ["GONE", "LIVE", "Writing"]

GONE = render(Gap("*", reason="upstream"))
LIVE = render(Live())
TOO_SLOW = 1013  # close code of RFC 6455's registry: try again later

_log = logging.getLogger("deli_com.relay")


class Source(Protocol):
    """What `Writing` needs of the relay."""

    changed: asyncio.Event  # set when there is another server

    def current(self) -> tuple[WsServer[Any, Any] | None, Passing, Passing, bool]:
        """The server, the `Passing` down and up, and whether upstream is away."""
        ...


class Writing:
    """Keeps a connection to a hub.

    Parameters
    ----------
    url : str
    token : str
        Sent to the hub.
    options : mapping
        Of `WsClient.connect`.
    delays : (float, float)
        First and longest between attempts, in seconds.
    source : Source
    """

    def __init__(
        self, url: str, token: str, options: Mapping[str, Any], delays: tuple[float, float], source: Source
    ) -> None:
        self.url = url
        self._options = {**options, "schema": "require"}
        given = self._options.pop("headers", None) or ()
        pairs = [*(given.items() if isinstance(given, Mapping) else given)]
        self._headers = [*pairs, ("Authorization", f"Bearer {token}")]
        self._delays = delays
        self._source = source
        self._client: Any = None
        self._server: WsServer[Any, Any] | None = None  # whose values it sends
        self._down: Passing | None = None  # gives the values to the client

    async def run(self) -> None:
        """Connect, and reconnect after each end; send to the hub what the server's clients get."""
        await keep_connected(f"dial {self.url}", self._connect, self._begin, self._lost, self._delays)

    async def _connect(self) -> Any:
        server = await self._served()
        _, self._down, up, _ = self._source.current()
        self._server = server
        return await writer_of(server, up).connect(self.url, headers=self._headers, **self._options)

    def _lost(self) -> None:
        self._client = None
        if self._down is not None:
            self._down.close_also()

    def renew(self) -> None:
        """Reconnect, because the type of what is sent has changed."""
        if self._client is not None:
            self._client._end(ConnectionClosed(None, "the schema has changed"), True)

    async def _served(self) -> WsServer[Any, Any]:
        while (server := self._source.current()[0]) is None:
            self._source.changed.clear()
            await self._source.changed.wait()
        return server

    def _begin(self, client: Any) -> None:
        # The hub gets what a new client would get: retained values, `live`, then all values; in one turn.
        def full() -> None:
            client._end(ConnectionClosed(TOO_SLOW, "the hub is too slow: too much is queued for it"), True)

        server, down, _, is_away = self._source.current()
        if server is None or server is not self._server:
            raise ConnectionClosed(None, "the schema has changed meanwhile")
        _log.info("%s is dialled", self.url)
        self._client = client
        down.open_also(client, full)
        for payload in retained_payloads(server):
            down.put_also(payload)
        if not client._is_ended():
            tell(client, LIVE)
            if is_away:
                tell(client, GONE)
