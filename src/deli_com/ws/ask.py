"""`ask_schemas`: the schemas of a WebSocket server, for a client without types."""

from __future__ import annotations

import asyncio
from typing import Any

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from deli_com.errors import ConnectionClosed, IoError, WebSocketError
from deli_com.net.address import AddressLike
from deli_com.net.dial import check_way
from deli_com.net.options import checked
from deli_com.schema.control import HEADER, MAX_BYTES, parse_header, render_header
from deli_com.schema.question import Question, Schemas
from deli_com.ws.connect import HandshakeResponse, check_tls, open_websocket, target_of

__all__ = ["ask_schemas"]

CLOSE_S = 1.0  # limit on waiting for the transport to close


async def ask_schemas(
    addr: AddressLike,
    *,
    path: str | None = None,
    proxy: str | bool | None = True,
    ssl: Any = None,
    server_hostname: str | None = None,
    headers: Any = None,
    open_timeout: float | None = 10.0,
) -> Schemas:
    """Connect, ask, and disconnect. The parameters are those of `WsClient.connect`.

    Raises
    ------
    IoError, WebSocketError, ConnectionClosed
        As `WsClient.connect`.
    WebSocketError
        The server does not exchange schemas, or its answer is malformed.
    """
    asked = checked(client_ssl=ssl, headers=headers, open_timeout=open_timeout)
    way = checked(sock=None, proxy=proxy, server_hostname=server_hostname)
    target = target_of(addr, path=path, sock=None, secure=bool(ssl))
    check_tls(target, ssl)
    way["proxy"] = check_way(target.address, **way, secure=target.secure)
    question = Question()
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[None] = loop.create_future()
    gone: asyncio.Future[None] = loop.create_future()

    def make_listener(response: HandshakeResponse, transport: asyncio.Transport) -> WSListener:
        lines = response.headers.getall(HEADER, [])
        try:
            answer = parse_header(lines[0]) if len(lines) == 1 else None
            if answer is None:
                raise ValueError("the server does not exchange schemas")
            question.answered(answer)
        except ValueError as error:
            raise WebSocketError(f"{target}: {error}") from None
        return _Listener(question, settled, gone)

    try:
        async with asyncio.timeout(asked["open_timeout"]):
            transport = await open_websocket(
                target,
                make_listener=make_listener,
                max_frame_size=MAX_BYTES,
                schema=render_header(question.hello),
                **asked,
                **way,
            )
            try:
                await settled
            except ValueError as error:
                raise WebSocketError(f"{target}: {error}") from None
            finally:
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
                await asyncio.wait([gone], timeout=CLOSE_S)
                transport.underlying_transport.abort()
                await asyncio.sleep(0)
    except TimeoutError as error:
        if isinstance(error, IoError):
            raise
        raise IoError.of(TimeoutError("timed out"), f"ask {target} for its schemas") from None
    return question.schemas


class _Listener(WSListener):
    def __init__(self, question: Question, settled: asyncio.Future[None], gone: asyncio.Future[None]) -> None:
        super().__init__()
        self._question = question
        self._settled = settled
        self._gone = gone

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._settled.done():
            return
        try:
            if frame.msg_type == WSMsgType.CLOSE:
                reason = frame.get_close_message() or b""
                raise ConnectionClosed(frame.get_close_code().value, reason.decode("utf-8", "replace"))
            if frame.msg_type == WSMsgType.BINARY:
                raise ValueError("a value before the schema that was asked for")
            if frame.msg_type == WSMsgType.TEXT:
                self._question.handle(frame.get_payload_as_bytes())
                if self._question.is_settled:
                    self._settled.set_result(None)
        except (ValueError, ConnectionClosed) as error:
            self._settled.set_exception(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._settled.done():
            self._settled.set_exception(ConnectionClosed(None, "before the schemas had arrived"))
