"""Hostile peers: what tests/net/test_hostile.py and bench/hostile.py send at a server.

Each attack is one connection: a coroutine ``(address, random) -> None`` that does its worst, bounded in bytes
and time, and then leaves without good-bye. A server may do anything to it but suffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from helpers import PLAIN_HEAD, RawPeer
from peers import BINARY, CLOSE, CONTINUATION, PING, build

Attack: TypeAlias = Callable[[tuple[str, int], random.Random], Awaitable[None]]

KEY = b"\x11\x22\x33\x44"
FLOOD_BYTES = 256 * 1024
PATIENCE_S = 0.2  # how long an attacker holds on to a connection at most


async def _attack(address: tuple[str, int], first: bytes, then: bytes, *, hold: bool, reset: bool) -> None:
    """Send `first`, wait for any answer if `then` follows, send that without ever reading, leave."""
    peer = await RawPeer.open(address)
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await peer.send(first)
                if then:
                    await peer.read_some()
                    await peer.send(then)
                if hold:
                    await peer.read_all()
    finally:
        if reset:
            peer.reset()
        else:
            peer.close()


async def garbage(address: tuple[str, int], rng: random.Random) -> None:
    """Bytes that are no request."""
    await _attack(address, rng.randbytes(rng.randrange(1, 4096)), b"", hold=True, reset=False)


async def half_handshake(address: tuple[str, int], rng: random.Random) -> None:
    """A request that stops in the middle."""
    await _attack(address, PLAIN_HEAD[: rng.randrange(len(PLAIN_HEAD))], b"", hold=True, reset=True)


async def endless_header(address: tuple[str, int], rng: random.Random) -> None:
    """A header line without an end."""
    await _attack(address, PLAIN_HEAD[:-2] + b"X-Endless: " + b"a" * FLOOD_BYTES, b"", hold=True, reset=False)


async def oversize_length(address: tuple[str, int], rng: random.Random) -> None:
    """A frame that announces up to 2^64 - 1 bytes."""
    size = rng.choice([(1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 40, (64 << 20) + 1])
    await _attack(
        address,
        PLAIN_HEAD,
        struct.pack("!BBQ", 0x82, 0xFF, size) + KEY + bytes(4096),
        hold=True,
        reset=False,
    )


async def unmasked(address: tuple[str, int], rng: random.Random) -> None:
    """Frames that a client must mask and did not."""
    await _attack(address, PLAIN_HEAD, build(b"plain", BINARY) * 100, hold=True, reset=False)


async def fragment_bomb(address: tuple[str, int], rng: random.Random) -> None:
    """A message of empty fragments that never ends."""
    bomb = build(b"", BINARY, fin=False, mask=KEY) + build(b"", CONTINUATION, fin=False, mask=KEY) * 10_000
    await _attack(address, PLAIN_HEAD, bomb, hold=False, reset=rng.random() < 0.5)


async def ping_flood(address: tuple[str, int], rng: random.Random) -> None:
    """PINGs without a pause, and no PONG is ever read."""
    ping = build(rng.randbytes(rng.randrange(126)), PING, mask=KEY)
    await _attack(
        address, PLAIN_HEAD, ping * (FLOOD_BYTES // len(ping)), hold=False, reset=rng.random() < 0.5
    )


async def cut_frame(address: tuple[str, int], rng: random.Random) -> None:
    """A frame that stops in the middle, and then the connection does."""
    frame = build(rng.randbytes(5000), BINARY, mask=KEY)
    await _attack(address, PLAIN_HEAD, frame[: rng.randrange(1, len(frame))], hold=False, reset=True)


async def bad_close(address: tuple[str, int], rng: random.Random) -> None:
    """CLOSE with a code that must not be sent, and frames behind it."""
    code = struct.pack("!H", rng.choice([0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535]))
    await _attack(
        address,
        PLAIN_HEAD,
        build(code, CLOSE, mask=KEY) + build(b"more", BINARY, mask=KEY) * 50,
        hold=True,
        reset=False,
    )


async def reserved(address: tuple[str, int], rng: random.Random) -> None:
    """Reserved bits and opcodes."""
    await _attack(
        address,
        PLAIN_HEAD,
        build(b"x", rng.randrange(16), fin=rng.random() < 0.5, rsv=rng.randrange(8), mask=KEY) * 20,
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
