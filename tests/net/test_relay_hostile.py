"""A server that a relay follows may say anything: the relay stays, in bounded memory, and serves the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers import PLAIN_HEAD, until
from peers import dial
from websockets.asyncio.client import connect as foreign
from websockets.exceptions import ConnectionClosed as ForeignClosed

from deli_com import Codec, Schema, WsClient, WsServer, codec, f64, u8, u32
from deli_com.relay import Relay

ROUNDS = int(os.environ.get("DELI_COM_TEST_HOSTILE", "40"))
MARKER = b"\xff\xff\xff\xff"
TOKEN = "a-token-of-a-test"
FAST = {"first_delay": 0.005, "max_delay": 0.01}


class Message(Codec, sealed=True):
    """What the good writer sends."""


class Tick(Message):
    n: u32


class Pose(Message, policy="latest", key=("robot", "part"), retain=True):
    at: f64
    robot: str
    part: u8


class Stop(Codec):
    why: str


DOWN, UP = codec(Message).schema, codec(Stop).schema
SCHEMAS = [DOWN.text, UP.text, "deli 1\nroot [u8]\n", "deli 1\nroot bytes\n", "deli 1\nroot u64\n"]
WORDS = [
    "root", "struct", "sealed", "enum", "u8", "str", "[u8]", "[u8;3]", "Tick?", "(u8,u8)", "@latest(n)",
    "@retain", "@latest(robot,part)", "@skip", "@max_age(0.5)", "@max_age(0)", "@shape(a,b,3)", "@no",
    "@nanoseconds",
    "class", "self", "Message", "0", "1", "[[[u8;9];9];9]", "bool", "f32",
]  # fmt: skip


def framed(text: bytes) -> bytes:
    return MARKER + struct.pack("<I", len(text)) + text


def value(payload: bytes) -> bytes:
    return struct.pack("<I", len(payload)) + payload


def mutated_text(rng: random.Random) -> str:
    """A schema text with other words at some places; about half of them are schemas."""
    lines = rng.choice(SCHEMAS).split("\n")
    for _ in range(rng.randrange(3)):
        at = rng.randrange(1, len(lines))
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = " ".join(words)
    if rng.random() < 0.1:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "\n".join(lines)


def hash_of(text: str) -> str:
    try:
        return Schema.parse(text).hash
    except ValueError:
        return "0" * 32


def control(rng: random.Random) -> bytes:
    """A text of this wire, with arguments that may be anything."""
    number = rng.choice(["0", "1", "99999999999999999999", "-1", "1e9", "18446744073709551616"])
    name = rng.choice(["Tick", "Pose", "*", "No", "x" * 200, ""])
    text = rng.choice(SCHEMAS)
    said = rng.choice([
        f"gap {name} skipped={number} superseded={number}", f"gap {name} reason=upstream",
        f"gap * reason=upstream seconds={number}", "gap * reason=" + "y" * 500, "live", "live live", "hello",
        "hello down=? up=?", f"schema down {hash_of(text)}\n{text}", f"schema up {'f' * 32}\n{text}",
        "refused\n" + name, "mark 0123456789abcdef", "seen 0123456789abcdef", "mark x", "nothing known", "",
    ])  # fmt: skip
    return b"deli 1 " + said.encode() + rng.choice([b"", b"", b"\xff", b"\0", b"\n" * 300])


def payload(rng: random.Random) -> bytes:
    good = [Tick(7).to_bytes(), Pose(0.5, "a", 1).to_bytes(), Pose(0.5, "b" * 300, 1).to_bytes(), b""]
    data = bytearray(rng.choice(good))
    for _ in range(rng.randrange(3) if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)


def nonsense(rng: random.Random) -> bytes:
    """What a writer over TCP says after its hello."""
    pieces = []
    down, up = mutated_text(rng), rng.choice([None, mutated_text(rng)])
    if rng.random() < 0.7:  # the truth about what follows
        pieces.append(
            framed(f"deli 1 hello down={hash_of(down)} up={'-' if up is None else hash_of(up)}".encode())
        )
        pieces.append(framed(f"deli 1 schema down {hash_of(down)}\n{down}".encode()))
        if up is not None:
            pieces.append(framed(f"deli 1 schema up {hash_of(up)}\n{up}".encode()))
    for _ in range(rng.randrange(30)):
        pieces.append(framed(control(rng)) if rng.random() < 0.4 else value(payload(rng)))
    if rng.random() < 0.2:
        pieces.append(struct.pack("<I", rng.choice([2**31, 2**32 - 2, 5])) + rng.randbytes(3))
    if rng.random() < 0.2:
        pieces.append(MARKER + struct.pack("<I", 2**31))
    rng.shuffle(pieces) if rng.random() < 0.1 else None
    return b"".join(pieces)


def good_words() -> bytes:
    texts = [
        f"deli 1 hello down={DOWN.hash} up={UP.hash}", f"deli 1 schema down {DOWN.hash}\n{DOWN.text}",
        f"deli 1 schema up {UP.hash}\n{UP.text}", "deli 1 live",
    ]  # fmt: skip
    return b"".join(framed(text.encode()) for text in texts)


class Upstream:
    """A TCP server: each connection gets the next of `says`, the last one again and again."""

    def __init__(self, says: list[bytes | Callable[[Any], Any]], *, keeps: bool) -> None:
        self.says = says
        self.keeps = keeps
        self.connections = 0
        self.writers: list[Any] = []

    async def serve(self, reader: Any, writer: Any) -> None:
        said = self.says[min(self.connections, len(self.says) - 1)]
        is_last = self.connections >= len(self.says) - 1
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)
            if callable(said):
                await said(writer)
            else:
                writer.write(said)
            if is_last or self.keeps:
                await reader.read(-1)
        writer.transport.abort()


@contextlib.asynccontextmanager
async def followed(
    says: list[Any], *, keeps: bool = False, **options: Any
) -> AsyncIterator[tuple[Any, Relay]]:
    """A relay of such a server; it has not begun to listen, maybe."""
    upstream = Upstream(says, keeps=keeps)
    listening = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    relay = Relay(
        f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}", bind="127.0.0.1:0", **FAST, **options
    )
    begun = asyncio.ensure_future(relay.wait_listening())
    try:
        yield upstream, relay
    finally:
        begun.cancel()
        await asyncio.wait([begun])
        await relay.close()
        listening.close()
        for writer in upstream.writers:
            writer.transport.abort()


async def serves(relay: Relay, upstream: Upstream) -> None:
    """The relay serves the good writer, which is connected last, both ways."""

    async def exchanged() -> bool:
        try:
            async with WsClient[Message, Stop].connect(f"ws://{relay.local_addr()}") as client:
                upstream.writers[-1].write(value(Tick(5).to_bytes()))
                return bool(await asyncio.wait_for(client.recv(), 1) == Tick(5))
        except Exception:
            return False  # it has not come back yet

    while not await exchanged():  # noqa: ASYNC110 - it is asked
        await asyncio.sleep(0.01)


class TestUpstream:
    @pytest.mark.loops("asyncio")
    @pytest.mark.limit(120)
    async def test_whatever_it_says(self, caplog: pytest.LogCaptureFixture) -> None:
        """Schemas, texts, values and lengths, right and wrong; then the same relay serves a good server."""
        rng = random.Random(3)
        says = [nonsense(rng) for _ in range(ROUNDS)] + [good_words()]
        async with followed(says) as (upstream, relay):
            await until(lambda: upstream.connections >= len(says))
            await serves(relay, upstream)
        for record in caplog.records:
            assert record.name.startswith("deli_com"), record.getMessage()
            assert record.exc_info is None, record.exc_text

    @pytest.mark.loops("asyncio")
    async def test_counts_that_no_counter_holds(self) -> None:
        """They are told on as they are, or as the most that can be told."""
        huge = "9" * 20
        texts = [f"deli 1 gap Pose skipped={huge} superseded={huge}".encode()] * 3
        async with followed([good_words() + b"".join(map(framed, texts))]) as (upstream, relay):
            await until(lambda: relay.is_connected)
            await serves(relay, upstream)
            async with WsClient[Message, Stop].connect(f"ws://{relay.local_addr()}") as client:
                for _ in range(3):
                    upstream.writers[-1].write(b"".join(map(framed, texts)))
                await until(lambda: client.stats().gaps >= 2)  # each 0.1 s
                assert upstream.connections == 1 and client.stats().superseded > 2**60

    @pytest.mark.loops("asyncio")
    async def test_a_flood_of_gaps_is_not_stored_for_a_client_that_does_not_read(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each text that waits for it has a log; one that reads has its turn between them, and gets all."""
        flood = b"".join(framed(b"deli 1 gap * reason=%s" % (b"z" * 70)) for _ in range(5_000))

        async def say(writer: Any) -> None:
            writer.write(good_words())
            await started.wait()
            writer.write(flood + value(Tick(9).to_bytes()))

        started = asyncio.Event()
        async with followed([say]) as (_, relay):
            await until(lambda: relay.stats().schemas == 1)
            slow = await dial(relay.local_addr(), small=True)
            announced = f"\r\nDeli-Schema: 1 down={DOWN.hash} up={UP.hash}\r\n\r\n".encode()
            await slow.send_raw(PLAIN_HEAD.replace(b"\r\n\r\n", announced))
            await slow.read_until(b"\r\n\r\n")
            async with WsClient[Message, Stop].connect(f"ws://{relay.local_addr()}") as good:
                await until(lambda: relay.client_count() == 2)
                started.set()
                assert await good.recv() == Tick(9)
                assert good.stats().gaps == 5_000
                assert relay.client_count() == 1
                assert "control texts wait for it" in caplog.text
            slow.close()


class TestDialling:
    @pytest.mark.loops("asyncio")
    @pytest.mark.limit(120)
    async def test_whatever_it_says(self, caplog: pytest.LogCaptureFixture) -> None:
        """With the right token; then a relay that is none of these dials in, and is served."""
        rng = random.Random(5)
        async with Relay(None, bind="127.0.0.1:0", accept_dial="/up", token=TOKEN, **FAST) as hub:
            here = f"ws://{hub.local_addr()}"
            for _ in range(ROUNDS):
                down, up = mutated_text(rng), rng.choice([None, mutated_text(rng)])
                shows = {
                    "Authorization": f"Bearer {TOKEN}",
                    "Deli-Schema": f"1 down={hash_of(down)} up={'-' if up is None else hash_of(up)}",
                }
                await until(lambda: not hub.is_connected)
                with contextlib.suppress(ForeignClosed, OSError):
                    async with foreign(f"{here}/up", additional_headers=shows, proxy=None) as peer:
                        if rng.random() < 0.8:
                            await peer.send(f"deli 1 schema down {hash_of(down)}\n{down}")
                            if up is not None:
                                await peer.send(f"deli 1 schema up {hash_of(up)}\n{up}")
                        for _ in range(rng.randrange(20)):
                            if rng.random() < 0.5:
                                await peer.send(control(rng), text=True)
                            else:
                                await peer.send(payload(rng))
            async with WsServer[Message, Stop].bind("127.0.0.1:0") as server:
                url = f"ws://{server.local_addr()}"
                async with Relay(url, bind="127.0.0.1:0", dial=f"{here}/up", token=TOKEN, **FAST) as beside:
                    await until(lambda: hub.is_connected)
                    upstream = Upstream([], keeps=True)
                    upstream.writers = [_Sends(server)]
                    await serves(hub, upstream)
                    assert beside.is_connected
        for record in caplog.records:
            assert record.exc_info is None, record.exc_text


class _Sends:
    def __init__(self, server: Any) -> None:
        self._server = server

    def write(self, data: bytes) -> None:
        self._server.send_nowait(Tick(5))
