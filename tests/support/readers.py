"""Clients that read on command and record what they get, and messages of every policy.

::

    client = Client("a", history, is_keen=False)    # with the smallest buffers there are
    await client.dial(server, None)                 # plain
    client.pull(100)                                # reads so many bytes, if they are there
    client.got                                      # numbers of the messages that are whole
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as ssl_module
from typing import Any

from fakes import split_frames
from history import History, Reader
from peers import BINARY, CLOSE, PING, PONG, WsPeer, upgrade

from deli_com import Codec, Departure, Peer, WsServer, codec, u8, u32

SMALL, WIDE = 4096, 1 << 19  # socket buffers
TOKEN = b"all of it"  # of a PING


class Event(Codec, sealed=True):
    number: u32
    body: bytes


class Note(Event):
    pass


class Word(Event, policy="disconnect"):
    pass


class Order(Event, policy="wait"):
    pass


class Tick(Event, policy="skip"):
    pass


class Pose(Event, policy="latest", key="id"):
    id: u8


class Mode(Event, policy="latest", key="id", retain=True):
    id: u8


class State(Event, policy="latest", retain=True):
    pass


KINDS = {Word: "reliable", Order: "reliable", Tick: "skip", Pose: "latest", Mode: "latest", State: "latest"}
EVENTS = codec(Event)


def body(number: int, size: int) -> bytes:
    """What shows any byte that is missing, doubled or misplaced."""
    return (bytes(range(256)) * (size // 256 + 2))[number % 256 :][:size]


def wire_size(payload: int) -> int:
    return payload + (2 if payload < 126 else 4 if payload < 65536 else 10)


class Client(Reader):
    """The far end of one connection: reads when it is told to."""

    def __init__(self, name: str, history: History, is_keen: bool) -> None:
        super().__init__(name)
        self.history = history
        self.is_keen = is_keen
        self.peer: Peer | None = None  # the server's side
        self.departure: Departure | None = None
        self.tokens = 0
        self.wire: WsPeer

    def __repr__(self) -> str:
        return self.name

    async def dial(self, server: WsServer[Any, Any], trusting: ssl_module.SSLContext | None) -> None:
        buffer = WIDE if self.is_keen else SMALL
        # A connection inherits the send buffer of the listening socket.
        listening = server._port._acceptor._accept_loops[0]._sock  # type: ignore[union-attr]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.wire = WsPeer(sock)
        await asyncio.get_running_loop().sock_connect(sock, server.local_addr())
        if trusting is not None:
            self.wire._tls = trusting.wrap_bio(
                self.wire._incoming, self.wire._outgoing, server_hostname="localhost"
            )
            await self.wire._drive(self.wire._tls.do_handshake)
        await upgrade(self.wire)
        self.take()

    def pull(self, size: int = 1 << 20) -> bool:
        """Read so many bytes if they are there, and note every message that is whole now."""
        try:
            data = self.wire.sock.recv(size)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        if self.wire._tls is None:
            self.wire.received += data
        else:
            self.wire._incoming.write(data)
            with contextlib.suppress(ssl_module.SSLWantReadError, ssl_module.SSLZeroReturnError):
                while data := self.wire._tls.read(1 << 16):
                    self.wire.received += data
        self.take()
        return True

    def take(self) -> None:
        frames, rest = split_frames(bytes(self.wire.received))
        self.wire.received[:] = rest
        for opcode, payload in frames:
            if opcode == CLOSE:
                self.closed = True
            elif opcode == PONG:
                self.tokens += payload == TOKEN
            elif opcode != PING:  # a marker
                assert opcode == BINARY
                event = EVENTS.from_bytes(payload)
                assert event.body == body(event.number, len(event.body)), f"{event.number} is damaged"
                self.got.append((event.number, self.history.clock))

    def hang_up(self) -> None:
        self.closed = True
        self.wire.close()
