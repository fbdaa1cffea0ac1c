"""Hostile peers: what hostile.py and tests/net/test_hostile.py send at a server.

Each attack is one connection: a coroutine ``(address, random) -> None`` that misuses the protocol, bounded in
bytes and time, and then drops the connection. The server may close it, but its other clients must not suffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeAlias

Attack: TypeAlias = Callable[[tuple[str, int], random.Random], Awaitable[None]]

CONTINUATION, BINARY, CLOSE, PING = 0x0, 0x2, 0x8, 0x9
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
KEY = b"\x11\x22\x33\x44"
FLOOD_BYTES = 256 * 1024
READ_BYTES = 65536
PATIENCE_S = 0.2  # how long an attacker holds on to a connection at most


def frame(payload: bytes, opcode: int = BINARY, *, fin: bool = True, rsv: int = 0, key: bytes = KEY) -> bytes:
    """A frame as an attacker sends it (RFC 6455 section 5.2); without a key it is not masked."""
    bit, size = 0x80 if key else 0, len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode, bit | (size if size < 126 else 126)])
    if size >= 126:
        head += struct.pack("!H", size)
    masked = bytes(byte ^ key[i & 3] for i, byte in enumerate(payload)) if key else payload
    return head + key + masked


async def _attack(address: tuple[str, int], first: bytes, then: bytes, *, hold: bool, reset: bool) -> None:
    """Send `first`, wait for any answer if `then` follows, send that without ever reading, leave."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, tuple(address))
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_sendall(sock, first)
                if then:
                    await loop.sock_recv(sock, READ_BYTES)
                    await loop.sock_sendall(sock, then)
                while hold and await loop.sock_recv(sock, READ_BYTES):
                    pass
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def garbage(address: tuple[str, int], rng: random.Random) -> None:
    """Bytes that are not an HTTP request."""
    await _attack(address, rng.randbytes(rng.randrange(1, 4096)), b"", hold=True, reset=False)


async def half_handshake(address: tuple[str, int], rng: random.Random) -> None:
    """A request that stops in the middle."""
    await _attack(address, REQUEST[: rng.randrange(len(REQUEST))], b"", hold=True, reset=True)


async def endless_header(address: tuple[str, int], rng: random.Random) -> None:
    """A header line without an end."""
    await _attack(address, REQUEST[:-2] + b"X-Endless: " + b"a" * FLOOD_BYTES, b"", hold=True, reset=False)


async def oversize_length(address: tuple[str, int], rng: random.Random) -> None:
    """A frame that announces up to 2^64 - 1 bytes."""
    size = rng.choice([(1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 40, (64 << 20) + 1])
    await _attack(
        address,
        REQUEST,
        struct.pack("!BBQ", 0x82, 0xFF, size) + KEY + bytes(4096),
        hold=True,
        reset=False,
    )


async def unmasked(address: tuple[str, int], rng: random.Random) -> None:
    """Frames that a client must mask and did not."""
    await _attack(address, REQUEST, frame(b"plain", key=b"") * 100, hold=True, reset=False)


async def fragment_bomb(address: tuple[str, int], rng: random.Random) -> None:
    """A message of empty fragments that never ends."""
    bomb = frame(b"", BINARY, fin=False) + frame(b"", CONTINUATION, fin=False) * 10_000
    await _attack(address, REQUEST, bomb, hold=False, reset=rng.random() < 0.5)


async def ping_flood(address: tuple[str, int], rng: random.Random) -> None:
    """PINGs without a pause, and no PONG is ever read."""
    ping = frame(rng.randbytes(rng.randrange(126)), PING)
    await _attack(address, REQUEST, ping * (FLOOD_BYTES // len(ping)), hold=False, reset=rng.random() < 0.5)


async def cut_frame(address: tuple[str, int], rng: random.Random) -> None:
    """An incomplete frame, after which the connection ends."""
    sent = frame(rng.randbytes(5000), BINARY)
    await _attack(address, REQUEST, sent[: rng.randrange(1, len(sent))], hold=False, reset=True)


async def bad_close(address: tuple[str, int], rng: random.Random) -> None:
    """CLOSE with a code that must not be sent, and frames behind it."""
    code = struct.pack("!H", rng.choice([0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535]))
    await _attack(
        address,
        REQUEST,
        frame(code, CLOSE) + frame(b"more", BINARY) * 50,
        hold=True,
        reset=False,
    )


async def reserved(address: tuple[str, int], rng: random.Random) -> None:
    """Reserved bits and opcodes."""
    await _attack(
        address,
        REQUEST,
        frame(b"x", rng.randrange(16), fin=rng.random() < 0.5, rsv=rng.randrange(8)) * 20,
        hold=True,
        reset=False,
    )


ATTACKS: list[Attack] = [
    garbage,
    half_handshake,
    endless_header,
    oversize_length,
    unmasked,
    fragment_bomb,
    ping_flood,
    cut_frame,
    bad_close,
    reserved,
]


async def crowd(address: tuple[str, int], connections: int, together: int, seed: int) -> dict[str, int]:
    """Attack with so many connections, at most `together` at a time; returns how often each attack ran."""
    rng = random.Random(seed)
    counts: dict[str, int] = {}
    left = connections

    async def attacker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            attack = rng.choice(ATTACKS)
            with contextlib.suppress(OSError):
                await attack(address, rng)
            counts[attack.__name__] = counts.get(attack.__name__, 0) + 1

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(attacker())
    return counts
