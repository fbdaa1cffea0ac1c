"""WebSocket peers that do exactly what a test wants, correct or not, byte by byte (RFC 6455).

Client side, against a server of ours::

    async with raw_client(server.local_addr()) as peer:     # handshake done
        await peer.send(b"payload")                          # one masked binary frame
        await peer.send(b"lo", opcode=CONTINUATION, fin=True)
        assert await peer.frame() == Frame(BINARY, b"payload")
        frames, code, reason = await peer.read_to_close()    # data frames up to CLOSE

Server side, against a client of ours::

    async with raw_server() as server:
        client, peer = await asyncio.gather(WsClient[T].connect(server.address), server.accept())

Neither reads before it is told to, so an unattended peer is a stalled one. `small` gives it a small receive
buffer, so that a few hundred kilobytes fill the path to it instead of several megabytes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from helpers import PLAIN_HEAD, RawPeer

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)
SMALL_BYTES = 4096
READ_BYTES = 1 << 18


@dataclass(frozen=True)
class Frame:
    """One frame as it was on the wire; the payload is unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False

    @property
    def close_code(self) -> int | None:
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    def __repr__(self) -> str:
        shown = self.payload if len(self.payload) <= 32 else self.payload[:32] + b"..."
        return f"Frame({self.opcode:#x}, {shown!r} of {len(self.payload)}, fin={self.fin}, rsv={self.rsv})"


def build(
    payload: bytes, opcode: int = BINARY, *, fin: bool = True, rsv: int = 0, mask: bytes | None = None
) -> bytes:
    """One frame (RFC 6455 section 5.2); `mask` is the masking key, or None for none."""
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if len(payload) < 126:
        head.append(bit | len(payload))
    elif len(payload) < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    return bytes(head) + payload if mask is None else bytes(head) + mask + masked(payload, mask)


def masked(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3)."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


class WsPeer(RawPeer):
    """A `RawPeer` that knows frames. `masks` is True on the client's side."""

    masks = True

    async def send(
        self,
        payload: bytes,
        opcode: int = BINARY,
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: bool | None = None,
    ) -> None:
        """Send one frame."""
        key = os.urandom(4) if (self.masks if mask is None else mask) else None
        await self.send_raw(build(payload, opcode, fin=fin, rsv=rsv, mask=key))

    async def send_raw(self, data: bytes) -> None:
        await RawPeer.send(self, data)

    async def frame(self) -> Frame:
        """Read one frame."""
        first, second = await self.read_exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.read_exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.read_exactly(8))
        key = await self.read_exactly(4) if second & 0x80 else None
        payload = await self.read_exactly(size)
        if key is not None:
            payload = masked(payload, key)
        return Frame(first & 0xF, payload, bool(first & 0x80), first >> 4 & 7, key is not None)

    async def message(self) -> bytes:
        """Read one whole binary message in one frame; anything else but a PING before it is an error."""
        while (frame := await self.frame()).opcode == PING:
            pass
        assert frame.opcode == BINARY, frame
        assert frame.fin, frame
        assert frame.rsv == 0, frame
        assert frame.masked is not self.masks, frame
        return frame.payload

    async def read_to_close(self, pings: bool = False) -> tuple[list[Frame], int | None, str]:
        """Read up to CLOSE: the frames before it but PINGs, its code and its reason."""
        frames: list[Frame] = []
        while (frame := await self.frame()).opcode != CLOSE:
            if pings or frame.opcode != PING:
                frames.append(frame)
        return frames, frame.close_code, frame.payload[2:].decode()

    async def read_to_end(self) -> list[Frame]:
        """Read every frame but PINGs up to the end of stream, which is at a frame's end."""
        frames: list[Frame] = []
        while self.received or await self.read_some():
            frame = await self.frame()
            if frame.opcode != PING:
                frames.append(frame)
        return frames

    async def round_trip(self, token: bytes = b"are you there") -> list[Frame]:
        """PING, and read up to its PONG; the frames in between. What was sent before has been read then."""
        await self.send(token, PING)
        frames: list[Frame] = []
        while (frame := await self.frame()) != Frame(PONG, token, masked=not self.masks):
            frames.append(frame)
        return frames

    async def leave(self, code: int = 1000) -> None:
        """Close in good order: CLOSE, the answer, the end of stream."""
        await self.send(close_payload(code), CLOSE)
        await self.read_to_close()
        assert await self.read_all() == b""
        self.close()

    def send_some(self, data: bytes) -> int:
        """Send what the kernel takes now; 0 if nothing."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    async def read_some(self, size: int = READ_BYTES) -> bytes:
        return await RawPeer.read_some(self, size)


@contextlib.asynccontextmanager
async def raw_client(address: tuple[str, int], *, small: bool = False) -> AsyncIterator[WsPeer]:
    """A raw client whose handshake is done."""
    peer = await dial(address, small=small)
    try:
        await upgrade(peer)
        yield peer
    finally:
        peer.close()


async def dial(address: tuple[str, int], *, small: bool = False) -> WsPeer:
    """A raw client that is connected and has said nothing yet."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
    return await _connected(sock, address)


async def _connected(sock: socket.socket, address: tuple[str, int]) -> WsPeer:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(sock, tuple(address))
    except BaseException:
        sock.close()
        raise
    return WsPeer(sock)


async def upgrade(peer: WsPeer) -> None:
    """The client's opening handshake."""
    await peer.send_raw(PLAIN_HEAD)
    answer = await peer.read_until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer


class RawServer:
    """Listens, and accepts one connection at a time, when told to."""

    def __init__(self, sock: socket.socket, small: bool) -> None:
        self.address: tuple[str, int] = sock.getsockname()
        self._sock = sock
        self._small = small
        self._peers: list[WsPeer] = []

    async def accept(self, *, answer: bytes | None = b"") -> WsPeer:
        """The next connection, with its handshake; `answer` goes behind that, None answers nothing at all."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = WsPeer(sock)
        peer.masks = False
        self._peers.append(peer)
        if answer is not None:
            head = await peer.read_until(b"\r\n\r\n")
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.IGNORECASE)
            assert key, head
            await peer.send_raw(ANSWER % accept_token(key[1]) + answer)
        return peer

    def close(self) -> None:
        self._sock.close()
        for peer in self._peers:
            peer.close()


def accept_token(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


@contextlib.asynccontextmanager
async def raw_server(*, small: bool = False) -> AsyncIterator[RawServer]:
    """A raw server; `small` gives the connections it accepts a small receive buffer."""
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    sock.setblocking(False)
    server = RawServer(sock, small)
    try:
        yield server
    finally:
        server.close()
