"""`Tunnel`: a WebSocket of a page, joined to a connection of its own to a server elsewhere.

::

    page ── WebSocket ──> Tunnel ── open_far() ──> FarWebSocket or FarTcp ──> the server
      └── messages go both ways as they are; the slower end pauses the other <─────┘

Each page has its own connection, so that the server's policies hold for this page alone, and what a page
announces of schemas reaches the server unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from deli_com.errors import ComError
from deli_com.schema.control import MAX_BYTES, Announcement, Hello, parse_query, reason_of, render
from deli_com.ws.connect import HandshakeResponse

__all__ = ["Far", "FarListener", "FarTcp", "FarWebSocket", "Tunnel"]

MAX_FRAME_BYTES = 1 << 28
QUIET_S = 20.0  # without anything from the server: it is asked; twice that, and the connection ends
NOT_REACHED = 1014  # registered as "bad gateway"
MARKER = b"\xff\xff\xff\xff"  # in place of a length on TCP: a control text follows
MARK = b"deli 1 mark "

_DATA = (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION)


class Far(Protocol):
    """The connection to the server."""

    def send(self, kind: WSMsgType, data: bytes, fin: bool) -> None: ...
    def ask(self) -> None:
        """Have it say something, to know that it is there."""
        ...

    def pause(self) -> None:
        """Read nothing more for now."""
        ...

    def resume(self) -> None: ...
    def close(self, code: int, reason: str) -> None: ...


class Tunnel(WSListener):
    """The page's end.

    Parameters
    ----------
    open_far : callable
        ``(tunnel, announcement) -> Far``, async. It calls ``tunnel.deliver`` and ``tunnel.ended``.
    query : str
        Of the page's request.
    """

    def __init__(self, open_far: Callable[[Tunnel, Announcement], Any], query: str) -> None:
        super().__init__()
        self._open_far = open_far
        self._says = parse_query(query) or Announcement("?", "-")
        self._far: Far | None = None
        self._transport: WSTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_full = False  # the page does not read
        self._heard = 0  # times that the server has said anything

    # --- called by picows ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        transport.underlying_transport.pause_reading()  # until the server is connected
        self._task = asyncio.get_running_loop().create_task(self._run())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in _DATA:
            if self._far is not None:
                self._far.send(frame.msg_type, frame.get_payload_as_bytes(), frame.fin)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            _close(transport, *_closed_by(frame))

    def pause_writing(self) -> None:
        self._is_full = True
        if self._far is not None:
            self._far.pause()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._far is not None:
            self._far.resume()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        if self._far is not None:
            self._far.close(1001, "")

    # --- called by the far end ---

    def deliver(self, kind: WSMsgType, data: bytes, fin: bool = True) -> None:
        """Give the page a message of the server's, or a part of one."""
        self._heard += 1
        if self._transport is not None:
            self._transport.send(kind, data, fin)

    def heard(self) -> None:
        """The server is there."""
        self._heard += 1

    def ended(self, code: int, reason: str) -> None:
        """The server's end has gone: the page is told why."""
        if self._transport is not None:
            _close(self._transport, code, reason)

    def page_paused(self, is_paused: bool) -> None:
        """Whether the server takes nothing more from the page for now."""
        transport = self._transport
        if transport is not None and self._far is not None:
            inner = transport.underlying_transport
            if is_paused:
                inner.pause_reading()
            else:
                inner.resume_reading()

    # --- private ---

    async def _run(self) -> None:
        try:
            far: Far = await self._open_far(self, self._says)
        except (ComError, OSError, ValueError) as error:
            self.ended(NOT_REACHED, str(error))
            return
        if self._transport is None:
            far.close(1001, "")
            return
        self._far = far
        self._transport.underlying_transport.resume_reading()
        if self._is_full:
            far.pause()
        quiet = 0
        while quiet < 2:
            before = self._heard
            await asyncio.sleep(QUIET_S)
            quiet = 0 if self._heard != before or self._is_full else quiet + 1
            if quiet == 1:
                far.ask()
        self.ended(1011, f"the server has said nothing for {2 * QUIET_S:.0f} s")


class FarListener(WSListener):
    """What comes from a WebSocket server."""

    def __init__(self, tunnel: Tunnel, response: HandshakeResponse) -> None:
        super().__init__()
        self._tunnel = tunnel
        self._code, self._reason = 1006, "the connection to the server was lost"

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in _DATA:
            self._tunnel.deliver(frame.msg_type, frame.get_payload_as_bytes(), frame.fin)
            return
        self._tunnel.heard()
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self._code, self._reason = _closed_by(frame)
            _close(transport, self._code, "")

    def pause_writing(self) -> None:
        self._tunnel.page_paused(True)

    def resume_writing(self) -> None:
        self._tunnel.page_paused(False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._tunnel.ended(self._code, self._reason)


class FarWebSocket:
    """A WebSocket server."""

    def __init__(self, transport: WSTransport) -> None:
        self._transport = transport

    def send(self, kind: WSMsgType, data: bytes, fin: bool) -> None:
        self._transport.send(kind, data, fin)

    def ask(self) -> None:
        self._transport.send_ping(b"")

    def pause(self) -> None:
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        self._transport.underlying_transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        _close(self._transport, code, reason)


class FarTcp:
    """A TCP server: lengths and control texts (docs/wire.md section 10) to messages and back."""

    def __init__(
        self,
        tunnel: Tunnel,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        says: Announcement,
    ) -> None:
        self._tunnel = tunnel
        self._writer = writer
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._parts: list[bytes] = []
        self._text(render(Hello(says)))
        self._task = asyncio.get_running_loop().create_task(self._read(reader))

    def send(self, kind: WSMsgType, data: bytes, fin: bool) -> None:
        if kind == WSMsgType.TEXT:
            self._text(data)
            return
        self._parts.append(data)
        if fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._writer.write(len(whole).to_bytes(4, "little") + whole)

    def ask(self) -> None:
        self._text(MARK + b"0000000000000000")

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def close(self, code: int, reason: str) -> None:
        self._task.cancel()
        self._writer.transport.abort()

    def _text(self, data: bytes) -> None:
        self._writer.write(MARKER + len(data).to_bytes(4, "little") + data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        code, reason = 1001, "the server has closed"
        try:
            while True:
                await self._may_read.wait()
                size = await reader.readexactly(4)
                is_text = size == MARKER
                if is_text:
                    size = await reader.readexactly(4)
                length = int.from_bytes(size, "little")
                if length > (MAX_BYTES if is_text else MAX_FRAME_BYTES):
                    raise ValueError(f"a message of {length} bytes")
                data = await reader.readexactly(length)
                self._tunnel.heard()
                if is_text and data.startswith(MARK):
                    self._text(b"deli 1 seen " + data[len(MARK) :])
                else:
                    self._tunnel.deliver(WSMsgType.TEXT if is_text else WSMsgType.BINARY, data)
        except ValueError as error:
            code, reason = 1002, str(error)
        except (OSError, EOFError):
            pass
        finally:
            self._writer.transport.abort()
        self._tunnel.ended(code, reason)


def _closed_by(frame: WSFrame) -> tuple[int, str]:
    data = frame.get_payload_as_bytes()
    if len(data) < 2:
        return 1005, ""
    return int.from_bytes(data[:2], "big"), data[2:].decode("utf-8", "replace")


def _close(transport: WSTransport, code: int, reason: str) -> None:
    # 1005 and 1006 say that there was no code, and cannot be sent (RFC 6455 section 7.4.1).
    said = 1001 if code in (0, 1005, 1006, 1015) else code
    transport.send(WSMsgType.CLOSE, said.to_bytes(2, "big") + reason_of(reason).encode())
    transport.disconnect()
