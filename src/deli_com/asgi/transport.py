"""`AsgiTransport`: a transport whose other end is ASGI's ``send`` and ``receive``.

::

    WsLink <── frames of RFC 6455 ──> AsgiTransport <── messages ──> send(), receive() <──> the ASGI server

The link writes whole frames, as to TLS. The transport reports at once that it is full. So it holds at most
one write (64 KiB, or one message), one ``send`` is outstanding, and the log holds the rest. A client that
reads nothing makes no progress, as on any transport.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple, TypeAlias, cast

from deli_com.ws.picows_adapter import feed

__all__ = ["AsgiTransport", "Message", "Receive", "Send"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10  # opcodes, RFC 6455 section 5.2
LAST_WORD_S = 1.0  # limit for sending a close while the message before it is blocked
NO_CODE = (1005, 1006, 1015)  # never in a frame, RFC 6455 section 7.4.1


class Frame(NamedTuple):
    """A frame that waits to be sent."""

    opcode: int
    payload: bytes
    size: int  # with its head


class NoSocket:
    """Replaces the socket, which belongs to the ASGI server."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *args: Any) -> None:
        return None

    def getsockopt(self, *args: Any) -> int:
        return 0


class AsgiTransport(asyncio.Transport):
    """One connection of an ASGI server.

    1. The application awaits `run`. When it returns, the link knows that the connection is lost.
    2. At most one `send` is outstanding. The link is paused while anything waits here.
    """

    def __init__(self, receive: Receive, send: Send, remote: Any) -> None:
        super().__init__({"socket": NoSocket(), "ssl_object": self, "peername": remote})
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._send = send
        self._protocol: Any = None
        self._has_head = False  # picows' answer to the handshake was dropped: ASGI has its own
        self._partial = bytearray()
        self._frames: deque[Frame] = deque()
        self._size = 0
        self._is_closing = False
        self._is_lost = False
        self._is_said = False  # the close was sent to ASGI, or received from it
        self._has_frames = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()

    # --- called by the link ---

    def write(self, data: Any) -> None:
        """Parse whole frames that the link sends."""
        if self._is_lost:
            return
        if not self._has_head:
            self._has_head = True
            data = bytes(data).partition(b"\r\n\r\n")[2]
        self._partial += data
        self._parse()
        if self._frames:
            self._has_frames.set()
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return self._size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return None

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 0

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def is_reading(self) -> bool:
        return self._may_read.is_set()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Send what waits, then close."""
        self._is_closing = True
        self._has_frames.set()

    def abort(self) -> None:
        self._is_closing = True
        self._loop.call_soon(self.lose)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    # --- called by the application ---

    async def run(self) -> None:
        """Pass messages both ways until either end has closed."""
        tasks = [asyncio.ensure_future(self._pump()), asyncio.ensure_future(self._read())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.lose()
        if not self._is_said:
            await self._last_word()

    def feed(self, opcode: int, payload: bytes) -> None:
        """Give the link a frame as a client sends it: masked, with a mask of zeros."""
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        if not self._is_lost:
            feed(self._protocol, cast(Any, _Open(self)), head + bytes(4) + payload)

    def lose(self) -> None:
        """Tell the link that the connection is lost. May be called again."""
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._has_frames.set()
        self._may_read.set()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    # --- private ---

    def _parse(self) -> None:
        data = self._partial
        at = 0
        while len(data) - at >= 2:
            length, start = data[at + 1], at + 2
            wide = 2 if length == 126 else 8 if length == 127 else 0
            if wide:
                length = int.from_bytes(data[start : start + wide], "big")
                start += wide
            if len(data) < start + length:
                break
            end = start + length
            self._frames.append(Frame(data[at] & 15, bytes(data[start:end]), end - at))
            self._size += end - at
            at = end
        del data[:at]

    async def _pump(self) -> None:
        while not self._is_lost:
            if not self._frames:
                if self._is_closing:
                    return
                self._has_frames.clear()
                await self._has_frames.wait()
                continue
            frame = self._frames[0]
            if frame.opcode == CLOSE:
                await self._say_close(frame.payload)
                self.feed(CLOSE, frame.payload)  # the ASGI server handles the client's answer
                return
            try:
                if frame.opcode == BINARY:
                    await self._send({"type": "websocket.send", "bytes": frame.payload})
                elif frame.opcode == TEXT:
                    await self._send({"type": "websocket.send", "text": frame.payload.decode()})
            except (OSError, RuntimeError):  # the client has left; servers raise different errors
                return
            if self._protocol is None:  # closed meanwhile
                return
            self._frames.popleft()
            self._size -= frame.size
            if frame.opcode == PING:
                self.feed(PONG, frame.payload)
            if not self._frames and self._protocol is not None:  # the PONG may have ended the connection
                self._protocol.resume_writing()

    async def _read(self) -> None:
        while True:
            await self._may_read.wait()
            message = await self._receive()
            kind = message["type"]
            if kind == "websocket.receive":
                data = message.get("bytes")
                if data is not None:
                    self.feed(BINARY, bytes(data))
                else:
                    self.feed(TEXT, message["text"].encode("utf-8", "replace"))
            elif kind == "websocket.disconnect":
                self._is_said = True
                code = message.get("code") or 1005
                if code not in NO_CODE:
                    self.feed(CLOSE, code.to_bytes(2, "big") + (message.get("reason") or "").encode()[:123])
                elif code == 1005:
                    self.feed(CLOSE, b"")
                return

    async def _say_close(self, payload: bytes) -> None:
        self._is_said = True
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1000
        message = {"type": "websocket.close", "code": code, "reason": payload[2:].decode("utf-8", "replace")}
        try:
            await self._send(message)
        except (OSError, RuntimeError):
            return

    async def _last_word(self) -> None:
        # The link has ended the connection. A close may wait behind a message that is blocked.
        payload = next((frame.payload for frame in self._frames if frame.opcode == CLOSE), b"\x03\xf3")
        try:
            await asyncio.wait_for(self._say_close(payload), LAST_WORD_S)
        except TimeoutError:
            return


class _Open:
    """For `feed`: reports that it is not closing until it is lost, so that a closing connection is read."""

    def __init__(self, transport: AsgiTransport) -> None:
        self._transport = transport

    def is_closing(self) -> bool:
        return self._transport._is_lost
