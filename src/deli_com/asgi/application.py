"""`AsgiApplication`: what ``server.asgi()`` returns."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from multidict import CIMultiDict
from picows import WSUpgradeResponse, WSUpgradeResponseWithListener

from deli_com.asgi.transport import AsgiTransport, Message, Receive, Send
from deli_com.ground.callback import answer_of, called
from deli_com.link.request import Request
from deli_com.net.address import Address, plain_ip
from deli_com.net.log_budget import LogBudget
from deli_com.ws.head import Refusal, checked_headers, server_feed
from deli_com.ws.picows_adapter import feed, server_protocol
from deli_com.ws.service import Service, choose_subprotocol, judge_page, refusal_of

__all__ = ["AsgiApplication", "NoPort"]

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="  # a fixed key: the ASGI server has checked the real one
CLOSING = Refusal(503, "the server is closing")


class NoPort:
    """Replaces the acceptor of a server that has no port and is reached by ASGI applications only."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)


class AsgiApplication:
    """An ASGI 3 application: WebSockets become clients of a server.

    1. It has no task of its own: a connection runs in the coroutine of the ASGI server.
    2. A connection is accepted or refused by the same rules as on a port of the server's own.

    Parameters
    ----------
    find : callable
        Returns the service and its loop; None once the server is closed.
    """

    def __init__(self, find: Callable[[], tuple[Service, asyncio.AbstractEventLoop] | None]) -> None:
        self._find = find
        self._budget = LogBudget(logging.getLogger("deli_com.server"))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await self._connect(scope, receive, send)
        elif kind == "http":
            await _answer(
                send, Refusal(426, "this is a stream, for WebSockets", (("Upgrade", "websocket"),)), "http"
            )
        else:
            raise ValueError(f"an ASGI scope of type {kind!r} is not supported")

    async def _connect(self, scope: Message, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        found = self._find()
        if found is not None and found[1] is not asyncio.get_running_loop():
            raise RuntimeError("this server belongs to another event loop than the ASGI server")
        made = CLOSING if found is None else await self._decide(scope, found[0])
        if isinstance(made, Refusal):
            await _refuse(scope, send, made)
            return
        assert found is not None
        service = found[0]
        transport = AsgiTransport(receive, send, scope.get("client"))
        try:
            listener = service.make_listener(made, transport)
        except Exception as error:
            listener = self._failed(error)
        if isinstance(listener, Refusal):
            await _refuse(scope, send, listener)
            return
        headers = [*checked_headers(service.response_headers)]
        size = service.max_frame_size
        if made._answer is not None:
            headers += made._answer.headers
            size = max(size, made._answer.least_frame_size)
        response = WSUpgradeResponse.create_101_response()
        protocol = server_protocol(
            WSUpgradeResponseWithListener(response, listener),
            max_frame_size=size,
            read_buffer_bytes=service.read_buffer_bytes,
        )
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        made._forget_head()
        try:
            feed(protocol, transport, server_feed(KEY))
            await send(
                {
                    "type": "websocket.accept",
                    "subprotocol": made.subprotocol,
                    "headers": [
                        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
                    ],
                }
            )
        except BaseException:
            transport.lose()
            raise
        await transport.run()

    async def _decide(self, scope: Message, service: Service) -> Request | Refusal:
        try:
            request = _request(scope)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            self._budget.log(
                logging.WARNING, "refused a WebSocket: the ASGI server describes it wrongly: %r", error
            )
            return Refusal(400, "the request is malformed")
        full = Refusal(503, "the server has as many clients as it takes")
        try:
            refused = judge_page(request, service, self._budget)
            if refused is None:
                refused = choose_subprotocol(request, service, scope.get("subprotocols") or [])
            if refused is not None:
                return refused
            if service.full():
                return full
            verdict: Any = None if service.authorize is None else called(service.authorize, request)
            refusal = refusal_of(await answer_of(verdict) if inspect.isawaitable(verdict) else verdict)
        except Exception as error:
            return self._failed(error)
        return refusal or (full if service.full() else request)

    def _failed(self, error: Exception) -> Refusal:
        self._budget.log(logging.ERROR, "a callback raised during a handshake", exc_info=error)
        return Refusal(500, "the server failed to handle the request")


def _request(scope: Message) -> Request:
    """Make the request of a scope. One of several errors is raised if the scope is malformed."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope.get("headers") or ()]
    headers: CIMultiDict[str] = CIMultiDict(pairs)
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    path = raw_path.partition(b"?")[0].decode("latin-1")
    query = (scope.get("query_string") or b"").decode("latin-1")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    raw = "\r\n".join(lines).encode("latin-1")
    remote = _remote(scope.get("client"))
    return Request(
        raw,
        headers,
        path,
        query,
        remote,
        scope.get("scheme") in ("wss", "https"),
        host=headers.get("Host", ""),
        scope=dict(scope),
    )


def _remote(client: Any) -> Address | None:
    if not client or not client[0]:
        return None
    host, port = client
    return Address(f"{host}", 0) if port is None else Address(plain_ip(host), int(port))


async def _refuse(scope: Message, send: Send, refusal: Refusal) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _answer(send, refusal, "websocket.http")
    else:  # the ASGI server answers 403, whatever the status is
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.text[:120]})


async def _answer(send: Send, refusal: Refusal, kind: str) -> None:
    body = f"{refusal.text}\n".encode("utf-8", "replace")
    pairs = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *refusal.all_headers(),
    ]
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    await send({"type": f"{kind}.response.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body, "more_body": False})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
