"""One plain HTTP request on a connection of the acceptor, and its answer.

::

    Handshake ── a head without Upgrade ──> Exchange.begin() ── http_authorize ── handler ── answer ──┐
        └───────────── the next request, or a close ── Handshake.answered() <─────────────────────────┘

If a handler does not wait and its answer has at most 64 KiB, the answer is written at once, without a task.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from deli_com.ground.callback import answer_of, called
from deli_com.link.request import Request
from deli_com.ws.head import Refusal
from deli_com.ws.response import FileSlice, Reply, render_head, reply_of
from deli_com.ws.service import refusal_of

if TYPE_CHECKING:
    from deli_com.ws.handshake import Handshake

__all__ = ["Exchange"]

PIECE_BYTES = 64 * 1024  # read and written in one step


class Exchange:
    """One plain request and its answer.

    1. Until it calls ``handshake.answered``, only this object writes to the transport of `handshake`.
    2. If a handler raises, the answer is a 500, the error is logged, and the connection stays open.
    3. For a slow reader it holds one piece of 64 KiB in memory. The reader has ``open_timeout`` for each
    piece.
    """

    __slots__ = ("_handshake", "_is_begun", "_keeps_alive", "_request")

    def __init__(self, handshake: Handshake, request: Request, *, keeps_alive: bool) -> None:
        self._handshake = handshake
        self._request = request
        self._keeps_alive = keeps_alive
        self._is_begun = False

    @property
    def is_begun(self) -> bool:
        """Whether bytes of the answer have been written. Then no other answer can be sent."""
        return self._is_begun

    def begin(self) -> None:
        """Answer, or start a task that answers."""
        acceptor = self._handshake.acceptor
        try:
            if acceptor.http_authorize is None:
                made = self._asked()
            else:
                verdict = called(acceptor.http_authorize, self._request)
                if inspect.isawaitable(verdict):
                    self._handshake.run(self._judge(verdict))
                    return
                made = refusal_of(verdict) or self._asked()
            if inspect.isawaitable(made):
                self._handshake.run(self._await(made))
                return
            reply = self._reply_of(made)
        except Exception as error:
            reply = self._failed(error)
        if isinstance(reply.body, bytes) and len(reply.body) <= PIECE_BYTES:
            body = b"" if self._request.method == "HEAD" else reply.body
            self._write(render_head(reply, keeps_alive=self._keeps_alive) + body)
            if self._handshake.writable is None:
                self._handshake.answered(self._keeps_alive)
            else:  # the peer does not read
                self._handshake.run(self._finish())
        else:
            self._handshake.run(self._send(reply))

    # --- private ---

    def _asked(self) -> Any:
        handler = self._handshake.acceptor.http
        assert handler is not None
        return called(handler, self._request)

    def _reply_of(self, made: Any) -> Reply:
        return reply_of(self._handshake.acceptor.nothing_at(self._request) if made is None else made)

    def _failed(self, error: Exception) -> Reply:
        self._handshake.acceptor.log_failure("an http handler raised", error)
        return reply_of(Refusal(500, "the server failed to handle the request"))

    async def _judge(self, verdict: Any) -> None:
        try:
            made = refusal_of(await answer_of(verdict)) or self._asked()
        except Exception as error:
            await self._send(self._failed(error))
            return
        await self._await(made)

    async def _await(self, made: Any) -> None:
        try:
            reply = self._reply_of(await answer_of(made) if inspect.isawaitable(made) else made)
        except Exception as error:
            reply = self._failed(error)
        await self._send(reply)

    async def _send(self, reply: Reply) -> None:
        try:
            if not self._handshake.is_answering:
                return  # the deadline has passed, and a 503 was sent
            self._write(render_head(reply, keeps_alive=self._keeps_alive))
            if self._request.method != "HEAD":
                try:
                    await self._send_body(reply.body)
                except OSError as error:  # the file has become shorter, or cannot be read
                    self._handshake.acceptor.log_failure("an answer could not be completed", error)
                    self._handshake.abort()
                    return
            await self._finish()
        finally:
            reply.close()

    async def _finish(self) -> None:
        await self._handshake.drained()
        self._handshake.answered(self._keeps_alive)

    async def _send_body(self, body: bytes | FileSlice) -> None:
        if isinstance(body, bytes):
            view = memoryview(body)
            for start in range(0, len(view), PIECE_BYTES):
                self._write(view[start : start + PIECE_BYTES])
                await self._handshake.drained()
            return
        left = body.size
        await asyncio.to_thread(body.file.seek, body.start)
        while left:
            piece = await asyncio.to_thread(body.file.read, min(left, PIECE_BYTES))
            if not piece:
                raise OSError("the file has become shorter")
            left -= len(piece)
            self._write(piece)
            await self._handshake.drained()

    def _write(self, data: bytes | memoryview) -> None:
        transport = self._handshake.transport
        assert transport is not None
        self._is_begun = True
        if not transport.is_closing():
            transport.write(data)
