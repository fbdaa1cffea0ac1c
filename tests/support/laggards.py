"""Clients that read nothing until told to, and the messages that they must then get.

A `Laggard` connects over WebSocket or TCP, plain or with TLS, and gives whole messages::

    async with laggard(server, "wss") as slow:
        ...                                       # what is sent meanwhile queues
        got = await slow.messages_until(lambda message: message.number == 99)

It gets the first messages, as far as the kernel took them, and then what was still queued.
`assert_transcript` knows the rules of each policy, and finds the boundary between the two parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from helpers import certificates
from peers import BINARY, WsPeer, dial, upgrade

from deli_com import Codec, Server, WsServer, codec, u8, u32

WIRES = ("ws", "wss", "tcp", "tcps")
FRAMING_MAX = 10  # bytes of a frame's header


class Message(Codec, sealed=True, frozen=True):
    """One message of each policy; `number` counts all of them, in the order of sending."""


class Plain(Message, frozen=True):  # as the server's slow_client says
    number: u32
    data: bytes = b""


class Sure(Message, policy="disconnect", frozen=True):
    number: u32
    data: bytes = b""


class Patient(Message, policy="wait", frozen=True):
    number: u32
    data: bytes = b""


class Window(Message, policy="skip", frozen=True):
    number: u32
    data: bytes = b""


class Newest(Message, policy="latest", frozen=True):
    number: u32
    data: bytes = b""


class Keyed(Message, policy="latest", key="key", frozen=True):
    number: u32
    key: u8
    data: bytes = b""


class Kept(Message, policy="latest", key="key", retain=True, frozen=True):
    number: u32
    key: u8
    data: bytes = b""


RELIABLE: tuple[type, ...] = (Plain, Sure, Patient)
MESSAGE = codec(Message)


class Numbered(Protocol):
    number: int


def server_of(wire: str, down: Any = Message, **options: Any) -> Any:
    """``bind`` of a server for this wire: await it, or use ``async with``."""
    kind: Any = WsServer if wire.startswith("ws") else Server
    context = certificates()[0] if wire.endswith("s") and wire != "ws" else None
    return kind[down, None].bind("127.0.0.1:0", ssl=context, **options)


class Laggard:
    """A client that reads when it is told to."""

    def __init__(self, peer: WsPeer, wire: str) -> None:
        self.peer = peer
        self.wire = wire

    async def payload(self) -> bytes:
        if self.wire.startswith("ws"):
            return await self.peer.message()
        (size,) = struct.unpack("<I", await self.peer.read_exactly(4))
        return await self.peer.read_exactly(size)

    async def message(self) -> Any:
        return MESSAGE.from_bytes(await self.payload())

    async def messages_until(self, last: int) -> list[Any]:
        """Every message up to the one of this number."""
        found = [await self.message()]
        while found[-1].number != last:
            found.append(await self.message())
        return found

    async def end(self) -> tuple[list[bytes], int | None, str]:
        """Payloads up to the end, and CLOSE's code and reason where there is one."""
        if self.wire.startswith("ws"):
            frames, code, reason = await self.peer.read_to_close()
            assert all(frame.opcode == BINARY for frame in frames)
            return [frame.payload for frame in frames], code, reason
        found: list[bytes] = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                found.append(await self.payload())
        return found, None, ""


@contextlib.asynccontextmanager
async def laggard(server: Any, wire: str, *, small: bool = True) -> AsyncIterator[Laggard]:
    """One that is connected, and counted. With `small` its kernel takes little."""
    before = server.client_count()
    peer = await dial(server.local_addr(), small=small)
    try:
        if wire in ("wss", "tcps"):
            await peer.start_tls(certificates()[1])
        if wire.startswith("ws"):
            await upgrade(peer)
        await server.wait_clients(before + 1)
        yield Laggard(peer, wire)
    finally:
        peer.close()


async def stall(server: Any, make: Callable[[int], Any]) -> list[Any]:
    """Send `make(0)`, `make(1)`, ... until the kernel takes no more of a client's; what was sent."""
    sent: list[Any] = []
    taken = -1
    while server._is_drained() or server.stats().bytes_out > taken:
        taken = server.stats().bytes_out
        sent.append(make(len(sent)))
        server.send_nowait(sent[-1])
        await asyncio.sleep(0)
        if not server._is_drained():
            await asyncio.sleep(0.03)  # kernels go on in the background, and their buffers grow
    return sent


def size_of(message: Any, wire: str) -> int:
    """Bytes in the log."""
    payload = len(MESSAGE.to_bytes(message))
    if not wire.startswith("ws"):
        return payload + 4
    return payload + (2 if payload < 126 else 4 if payload < 1 << 16 else 10)


def survivors(sent: Sequence[Any], wire: str, window: int) -> list[bool]:
    """Whether each message is still there for one that read nothing meanwhile (docs/policies.md)."""
    alive = [True] * len(sent)
    seen: set[Any] = set()
    room = window
    is_newest_skip = True
    for i in reversed(range(len(sent))):
        message = sent[i]
        if isinstance(message, RELIABLE):
            continue
        if isinstance(message, Window):
            room -= size_of(message, wire)
            alive[i] = room >= 0 or is_newest_skip
            is_newest_skip = False
            continue
        slot = (type(message), getattr(message, "key", None))
        alive[i] = slot not in seen
        seen.add(slot)
    return alive


def assert_transcript(got: list[Any], sent: list[Any], wire: str, window: int = 16 << 20) -> int:
    """`got` is a beginning of `sent`, then what survived of the rest. Returns how many were passed over."""
    alive = survivors(sent, wire, window)
    common = next(
        (i for i, (a, b) in enumerate(zip(got, sent, strict=False)) if a != b), min(len(got), len(sent))
    )
    for seam in range(common, -1, -1):
        if got[seam:] == [message for message, lives in zip(sent[seam:], alive[seam:], strict=True) if lives]:
            return len(sent) - len(got)
    rest = [message.number for message, lives in zip(sent[common:], alive[common:], strict=True) if lives]
    raise AssertionError(
        f"the first {common} of {len(sent)} arrived, then {[m.number for m in got[common:]]}, not {rest}"
    )
