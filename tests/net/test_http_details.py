"""What HTTP allows around a handshake: interim responses, empty lines, HEAD, limits, the headers of a 401."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer

from deli_com import WebSocketError, WsClient, WsServer, u32
from deli_com.ws.head import Refusal, accept_token


@contextlib.asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[Any]:
    """A server whose answer is these pieces; ``@`` is the 101 that fits."""
    tasks: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
            switch = (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_token(key)}\r\n\r\n"
            ).encode()
            for piece in pieces:
                writer.write(piece.replace(b"@", switch))
                await writer.drain()
                await asyncio.sleep(0.01)
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()
    finally:
        listening.close()
        if tasks:
            await asyncio.wait(tasks)
        for _ in range(3):
            await asyncio.sleep(0)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
VALUE = b"\x82\x04\x07\x00\x00\x00"


class TestInterimAnswers:
    @pytest.mark.parametrize(
        "pieces",
        [
            (b"HTTP/1.1 100 Continue\r\n\r\n@", VALUE),
            (HINTS, b"HTTP/1.1 102 Processing\r\n\r\n", b"@" + VALUE),
            (HINTS + b"HTT", b"P/1.1 100 Continue\r\n\r\n@" + VALUE),
            (HINTS * 16 + b"@" + VALUE,),
        ],
    )
    async def test_they_are_skipped(self, pieces: tuple[bytes, ...]) -> None:
        """RFC 9110 section 15.2: whatever comes before the answer that counts, in whatever pieces."""
        async with answering(*pieces) as address, WsClient[u32].connect(address) as client:
            assert await client.recv() == 7

    @pytest.mark.parametrize(
        ("piece", "words"),
        [
            (HINTS * 17 + b"@", "answers 103 too many times"),
            ((b"HTTP/1.1 103 E\r\nA: " + b"x" * 6000 + b"\r\n\r\n") * 3 + b"@", "over 16384 bytes"),
            (HINTS + b"SSH-2.0", "not an HTTP answer"),
            (HINTS + b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
            (b"HTTP/1.1 103 E\r\nno header\r\n\r\n@", "bad header line"),
        ],
    )
    async def test_they_are_bounded(self, piece: bytes, words: str) -> None:
        async with answering(piece) as address:
            with pytest.raises(WebSocketError, match=words):
                await WsClient[u32].connect(address)


async def answer_to(server: Any, *pieces: bytes) -> bytes:
    peer = await RawPeer.open(server.local_addr())
    for piece in pieces:
        await peer.send(piece)
        await asyncio.sleep(0.01)
    answer = await peer.read_until(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        answer += await peer.read_all()
    peer.close()
    return answer


class TestRequests:
    @pytest.mark.parametrize(
        "pieces",
        [
            (b"\r\n" + PLAIN_HEAD,),
            (b"\r", b"\n", b"\r\n", PLAIN_HEAD),
            (b"\r\n\r\n" + PLAIN_HEAD[:9], PLAIN_HEAD[9:]),
        ],
    )
    async def test_an_empty_line_before_it_is_ignored(self, pieces: tuple[bytes, ...]) -> None:
        """RFC 9112 section 2.2."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            assert (await answer_to(server, *pieces)).startswith(b"HTTP/1.1 101 ")

    async def test_empty_lines_count(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", max_head_bytes=1000) as server:
            answer = await answer_to(server, b"\r\n" * 499 + b"GET")
            assert answer.startswith(b"HTTP/1.1 431 ")

    async def test_only_empty_lines(self) -> None:
        """A limit holds for them as well."""
        async with WsServer[u32].bind("127.0.0.1:0", max_head_bytes=1000) as server:
            assert (await answer_to(server, b"\r\n" * 600)).startswith(b"HTTP/1.1 431 ")

    async def test_head_gets_no_content(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            answer = await answer_to(server, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 405 ")
            assert b"\r\nAllow: GET\r\n" in answer
            assert b"\r\nContent-Length: " in answer
            assert answer.endswith(b"\r\n\r\n")
            assert answer.count(b"\r\n\r\n") == 1

    async def test_426_lists_upgrade(self) -> None:
        """RFC 9110 section 7.8: who sends Upgrade says so in Connection."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            answer = await answer_to(server, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 426 ")
            assert b"\r\nConnection: close, Upgrade\r\n" in answer
            assert b"\r\nUpgrade: websocket\r\n" in answer


class TestUnauthorized:
    @pytest.mark.parametrize(
        ("verdict", "line"),
        [
            ((401, "who?"), b"\r\nWWW-Authenticate: Bearer\r\n"),
            (Refusal(401, "who?"), b"\r\nWWW-Authenticate: Bearer\r\n"),
            (
                Refusal(401, "who?", (("www-authenticate", 'Basic realm="r"'),)),
                b'\r\nwww-authenticate: Basic realm="r"\r\n',
            ),
        ],
    )
    async def test_it_says_how_to_ask(self, verdict: Any, line: bytes) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", authorize=lambda request: verdict) as server:
            answer = await answer_to(server, PLAIN_HEAD)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert line in answer
            assert answer.lower().count(b"www-authenticate") == 1

    async def test_others_do_not(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", authorize=lambda request: False) as server:
            assert b"WWW-Authenticate" not in await answer_to(server, PLAIN_HEAD)


class TestMaxHeadBytes:
    async def test_the_answer_names_the_option(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", max_head_bytes=512) as server:
            answer = await answer_to(server, b"GET / HTTP/1.1\r\nA: " + b"x" * 600)
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert b"over 512 bytes (max_head_bytes)" in answer
            with pytest.raises(WebSocketError, match=r"431 .*max_head_bytes"):
                await WsClient[u32].connect(server.local_addr(), headers={"Cookie": "x" * 600})

    async def test_more_than_the_default(self) -> None:
        """As the cookies of a large site need it."""
        headers = {"Cookie": "x" * 50_000}
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            with pytest.raises(WebSocketError, match="over 16384 bytes"):
                await WsClient[u32].connect(server.local_addr(), headers=headers)
        async with WsServer[u32].bind("127.0.0.1:0", max_head_bytes=64 << 10) as server:
            async with WsClient[u32].connect(server.local_addr(), headers=headers):
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.request is not None
                assert len(peer.request.headers["Cookie"]) == 50_000
