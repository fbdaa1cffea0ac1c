"""An acceptor with recording listeners, for tests of both ends of the handshake.

``async with accepting(...) as served:`` yields a `Served`. At the end it closes the acceptor and all
connections, and checks that no handshake is in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import picows
from helpers import certificates, until

from deli_com.link.request import Request
from deli_com.net.address import Address
from deli_com.net.listener import open_listener
from deli_com.ws.acceptor import WsAcceptor
from deli_com.ws.head import Refusal
from deli_com.ws.service import Route, Service


def at_path(path: str | None, service: Service) -> Route:
    """Serve `service` at exactly this path, or at every path if it is None; elsewhere 404."""

    def route(request: Request) -> Service | Refusal:
        if path is None or request.path == path:
            return service
        return Refusal(404, f"nothing at {request.path[:100]!r}")

    return route


class Recorder(picows.WSListener):
    """Keeps what picows tells it: "up", payloads as bytes, "down"."""

    def __init__(self, request: Any = None) -> None:
        self.request = request
        self.events: list[str | bytes] = []
        self.transport: Any = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        self.events.append("up")

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.events.append(frame.get_payload_as_bytes())
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.events.append("down")

    @property
    def payloads(self) -> list[bytes]:
        return [event for event in self.events if isinstance(event, bytes)]


class Served:
    """What `accepting` yields."""

    def __init__(self) -> None:
        self.address: Address
        self.acceptor: WsAcceptor
        self.tls: Any = None  # the context for clients, or None
        self.recorders: list[Recorder] = []

    def make_listener(self, request: Request, transport: asyncio.Transport) -> Recorder:
        recorder = Recorder(request)
        self.recorders.append(recorder)
        return recorder

    def endpoint(self, **options: Any) -> Service:
        return Service(**{"make_listener": self.make_listener, "max_frame_size": 1 << 20, **options})

    def count(self) -> int:
        return sum(1 for recorder in self.recorders if recorder.events[-1:] not in ([], ["down"]))


@contextlib.asynccontextmanager
async def accepting(
    *,
    tls: bool | tuple[ssl.SSLContext, ssl.SSLContext] = False,
    transports: Any = "aiofastnet",
    open_timeout: float | None = 5.0,
    max_handshakes: int = 100,
    route: Route | None = None,
    **endpoint: Any,
) -> AsyncIterator[Served]:
    served = Served()
    listener = await open_listener("127.0.0.1:0")
    served.address = listener.addresses[0]
    server_context, client_context = (certificates() if tls is True else tls) or (None, None)
    served.tls = client_context
    served.acceptor = WsAcceptor(
        listener,
        route or at_path(None, served.endpoint(**endpoint)),
        ssl=server_context,
        transports=transports,
        open_timeout=open_timeout,
        max_handshakes=max_handshakes,
    )
    try:
        yield served
    finally:
        served.acceptor.close()
        await served.acceptor.wait_closed()
        for recorder in served.recorders:
            if recorder.transport is not None:
                recorder.transport.disconnect(False)
        await until(lambda: served.count() == 0)
        assert served.acceptor.handshakes == served.acceptor.lingering == 0
