"""Undocumented behaviour of picows and of the transports that the core depends on.

Each fact is tested on plain asyncio, on uvloop and with aiofastnet's transports. If one of these tests fails
after an update, the code that depends on it must change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiofastnet
import pytest
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
)
from picows.picows import WSProtocol

from deli_com.ws.picows_adapter import answer_with

try:
    import uvloop
except ImportError:
    uvloop = None

HEAD = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LARGE = 16 << 20  # bytes; more than the kernel buffers of both ends together


class Listener(WSListener):
    """Records what picows tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: WSTransport | None = None
        self.connected = asyncio.Event()
        self.frames: asyncio.Queue[tuple[WSMsgType, bytes, tuple[int, int, int]]] = asyncio.Queue()
        self.paused = asyncio.Event()
        self.resumed = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.connected.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames.put_nowait(
            (frame.msg_type, frame.get_payload_as_bytes(), (frame.rsv1, frame.rsv2, frame.rsv3))
        )

    def pause_writing(self) -> None:
        self.paused.set()

    def resume_writing(self) -> None:
        self.resumed.set()


class Reception(asyncio.Protocol):
    """Reads the request head, then makes the transport picows' own, as the accept path of the core does."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.head = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        self.transport.pause_reading()
        ws = WSProtocol(
            None,
            None,
            False,
            lambda request: self.listener,
            logging.getLogger("test.picows"),
            True,
            None,
            False,
            None,
            None,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong
            64 << 20,
            None,
            4096,
        )
        self.transport.set_protocol(ws)
        ws.connection_made(self.transport)
        view = ws.get_buffer(len(self.head))
        view[: len(self.head)] = self.head
        ws.buffer_updated(len(self.head))
        self.transport.resume_reading()


class Peer:
    """The other end: a raw socket that reads only when told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def send(self, opcode: int, payload: bytes, first: int = 0x80) -> None:
        """Send one masked frame (mask 0) of fewer than 126 bytes."""
        assert len(payload) < 126
        frame = bytes([first | opcode, 0x80 | len(payload)]) + bytes(4) + payload
        await self.loop.sock_sendall(self.sock, frame)

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        found = bytearray()
        while len(found) < count:
            piece = await self.loop.sock_recv(self.sock, min(count - len(found), 1 << 20))
            assert piece, f"the connection ended after {len(found)} of {count} bytes"
            found += piece
        return bytes(found)

    async def read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.read(1)
        return head


@contextlib.asynccontextmanager
async def connected(kind: str) -> AsyncIterator[tuple[Listener, WSTransport, Peer]]:
    """A picows server end and a raw peer, handshake done."""
    loop = asyncio.get_running_loop()
    listener = Listener()
    create = aiofastnet.create_server if kind == "aiofastnet" else type(loop).create_server
    server = await create(loop, lambda: Reception(listener), "127.0.0.1", 0)
    try:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            await loop.sock_sendall(sock, HEAD)
            peer = Peer(sock)
            assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
            await listener.connected.wait()
            assert listener.transport is not None
            yield listener, listener.transport, peer
    finally:
        if listener.transport is not None:
            listener.transport.disconnect(False)
        server.close()


Scenario = Callable[[Listener, WSTransport, Peer], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "aiofastnet", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh connection."""
    kind = request.param
    if kind == "uvloop" and uvloop is None:
        pytest.skip("uvloop does not exist for this platform")

    async def main(scenario: Scenario) -> None:
        async with asyncio.timeout(30), connected(kind) as ends:
            await scenario(*ends)

    def run(scenario: Scenario) -> None:
        factory = uvloop.new_event_loop if kind == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(scenario))

    return run


class TestHandOver:
    def test_frames_follow_a_head_read_by_another_protocol(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            await peer.send(0x2, b"abc")
            assert await listener.frames.get() == (WSMsgType.BINARY, b"abc", (0, 0, 0))

        play(scenario)


class TestLeftToUs:
    def test_a_ping_reaches_the_listener_and_is_not_answered(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            await peer.send(0x9, b"hi")
            assert await listener.frames.get() == (WSMsgType.PING, b"hi", (0, 0, 0))
            transport.send(WSMsgType.BINARY, b"next")
            assert await peer.read(6) == b"\x82\x04next"

        play(scenario)

    def test_reserved_bits_are_not_judged(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            await peer.send(0x2, b"x", first=0xF0)  # FIN, RSV1, RSV2, RSV3
            assert await listener.frames.get() == (WSMsgType.BINARY, b"x", (1, 1, 1))

        play(scenario)

    @pytest.mark.parametrize("code", [0, 1006, 5000])
    def test_close_codes_are_not_judged_and_close_is_not_answered(self, play, code: int) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            await peer.send(0x8, struct.pack("!H", code))
            assert await listener.frames.get() == (WSMsgType.CLOSE, struct.pack("!H", code), (0, 0, 0))
            assert not transport.is_close_frame_sent
            transport.send(WSMsgType.BINARY, b"next")
            assert await peer.read(6) == b"\x82\x04next"

        play(scenario)

    def test_a_continuation_that_continues_nothing_is_delivered(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            await peer.send(0x0, b"x")
            assert await listener.frames.get() == (WSMsgType.CONTINUATION, b"x", (0, 0, 0))

        play(scenario)


class TestClose:
    def test_a_close_without_code_puts_zero_on_the_wire(self, play) -> None:
        """RFC 6455 section 7.4.2 forbids it: so a code is always given."""

        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            transport.send_close()
            assert await peer.read(4) == b"\x88\x02\x00\x00"

        play(scenario)

    def test_the_flag_is_set_as_the_close_frame_is_sent(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            assert not transport.is_close_frame_sent
            transport.send_close(WSCloseCode.TRY_AGAIN_LATER, "late")
            assert transport.is_close_frame_sent
            assert await peer.read(8) == b"\x88\x06\x03\xf5late"

        play(scenario)


class TestWritability:
    def test_limits_of_zero_report_the_first_byte_that_waits_and_the_last_that_left(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            under = transport.underlying_transport
            under.set_write_buffer_limits(0, 0)
            under.write(b"small")
            assert await peer.read(5) == b"small"
            assert not listener.paused.is_set()
            under.write(bytes(LARGE))
            await listener.paused.wait()
            assert under.get_write_buffer_size() > 0
            assert not listener.resumed.is_set()
            await peer.read(LARGE)
            await listener.resumed.wait()
            assert under.get_write_buffer_size() == 0

        play(scenario)

    def test_bytes_sent_beside_an_empty_transport_keep_their_place(self, play) -> None:
        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            under = transport.underlying_transport
            wire = b""
            with socket.socket(fileno=under.get_extra_info("socket").fileno()) as beside:
                try:
                    for number in range(100):
                        assert under.get_write_buffer_size() == 0
                        assert beside.send(b"beside %02d;" % number, socket.MSG_DONTWAIT) == 10
                        under.write(b"through %02d;" % number)
                        wire += b"beside %02d;through %02d;" % (number, number)
                        await asyncio.sleep(0)  # uvloop writes at the end of the turn
                finally:
                    beside.detach()
            assert await peer.read(len(wire)) == wire

        play(scenario)

    def test_a_view_of_bytes_waits_by_reference(self, play, request: pytest.FixtureRequest) -> None:
        """The rest of a large frame, handed to a blocked transport, is not copied a client."""
        if "asyncio" in request.node.callspec.id and sys.version_info < (3, 12):
            pytest.skip("asyncio's own transport copies before 3.12; the core does not rely on it there")

        async def scenario(listener: Listener, transport: WSTransport, peer: Peer) -> None:
            under = transport.underlying_transport
            frame = bytes(LARGE)
            before = sys.getrefcount(frame)
            under.set_write_buffer_limits(0, 0)
            under.write(memoryview(frame))
            assert under.get_write_buffer_size() > 0
            assert sys.getrefcount(frame) == before + 1
            await peer.read(LARGE)
            await listener.resumed.wait()
            assert sys.getrefcount(frame) == before

        play(scenario)


@pytest.mark.parametrize(
    "headers", [(), (("X-One", "1"), ("X-One", "2"), ("Sec-WebSocket-Protocol", "chat"))]
)
def test_the_answer_of_a_server_is_as_picows_writes_it(headers: tuple[tuple[str, str], ...]) -> None:
    """Its first lines are rendered once for all connections, by `answer_with`."""
    listener = Listener()
    answer = answer_with(listener, headers)
    expected = WSUpgradeResponse.create_101_response(headers)
    for response in (answer.response, expected):
        response.headers["Sec-WebSocket-Accept"] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.listener is listener
    assert answer.response.status == expected.status
    assert answer.response.to_bytes() == expected.to_bytes()
