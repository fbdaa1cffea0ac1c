"""``deli-com view``: the page of a server elsewhere, and its stream through this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from deli_com import Codec, Peer, Server, WsServer, codec, u32
from deli_com.cli.main import main

pytestmark = pytest.mark.loops("asyncio")


class Point(Codec):
    x: u32


class Go(Codec):
    name: str


@asynccontextmanager
async def viewing(*arguments: str, says: bytes = b"") -> AsyncIterator[str]:
    """The URL that it prints; it must say nothing else, or a line that begins so."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "deli_com", "view", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        if not line:
            _, errors = await process.communicate()
            raise AssertionError(errors.decode())
        yield line.strip()
        process.terminate()
        _, errors = await process.communicate()
        assert errors[: len(says)] == says and errors.count(b"\n") == bool(says)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def get(url: str, host: str = "") -> tuple[int, bytes]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"GET {target} HTTP/1.1\r\nHost: {host or parts.netloc}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


def page(url: str, says: str = "1.?.?") -> Any:
    """The page's own connection."""
    parts = urlsplit(url)
    origin: Any = f"http://{parts.netloc}"
    return connect(f"ws://{parts.netloc}/?{parts.query}&deli={says}", origin=origin, compression=None)


async def texts(stream: ClientConnection, count: int) -> list[str]:
    return [str(await asyncio.wait_for(stream.recv(), 10)) for _ in range(count)]


SERVERS = pytest.mark.parametrize("cls", [WsServer, Server], ids=["ws", "tcp"])


def url_of(server: Any) -> str:
    return f"{'ws' if isinstance(server, WsServer) else 'tcp'}://{server.local_addr()}"


@SERVERS
async def test_values_go_both_ways(cls: Any) -> None:
    async with cls[Point, Go].bind("127.0.0.1:0") as server, viewing(url_of(server)) as url:
        status, body = await get(url)
        assert status == 200
        assert f'data-title="{url_of(server)}"'.encode() in body
        async with page(url) as stream:
            down, up = codec(Point).schema, codec(Go).schema
            assert await texts(stream, 4) == [
                f"deli 1 hello down={down.hash} up={up.hash}",
                f"deli 1 schema down {down.hash}\n{down.text}",
                f"deli 1 schema up {up.hash}\n{up.text}",
                "deli 1 live",
            ]
            await server.send(Point(7))
            assert await stream.recv() == Point(7).to_bytes()
            await stream.send(Go("here").to_bytes())
            assert await asyncio.wait_for(server.recv(), 10) == Go("here")


async def test_only_who_has_the_url_gets_anything() -> None:
    async with (
        WsServer[Point, Go].bind("127.0.0.1:0") as server,
        viewing(url_of(server), says=b"refused a request from") as url,
    ):
        bare = url.partition("?")[0]
        assert urlsplit(url).hostname == "127.0.0.1"
        for wrong in (bare, f"{bare}?token=", f"{bare}?token=x", f"{url}x"):
            assert (await get(wrong))[0] == 403
            with pytest.raises(InvalidStatus):
                async with page(wrong):
                    pass
        assert (await get(url, host="evil.example"))[0] == 403
        assert server.client_count() == 0


async def test_it_connects_without_origin_and_with_what_it_is_told() -> None:
    asked: list[Any] = []
    options = {"origins": lambda origin: False, "authorize": lambda request: asked.append(request)}
    async with WsServer[Point, Go].bind("127.0.0.1:0", path="/live", **options) as server:
        async with viewing(f"{url_of(server)}/live?a=b", "--header", "X-Site: 4") as url, page(url) as stream:
            await texts(stream, 1)
            request = asked[-1]
            assert request.headers.get("Origin") is None
            assert request.headers["X-Site"] == "4"
            assert request.query == "a=b&deli=1.?.?"  # and not the token


async def test_each_page_has_a_connection_of_its_own() -> None:
    async with WsServer[Point, Go].bind("127.0.0.1:0") as server, viewing(url_of(server)) as url:
        async with page(url) as first, page(url) as second:
            await texts(first, 1), await texts(second, 1)
            assert server.client_count() == 2
        await until(lambda: server.client_count() == 0)


async def test_why_the_server_closed_reaches_the_page() -> None:
    peers: list[Peer[Any]] = []
    async with WsServer[Point, Go].bind("127.0.0.1:0", on_connect=peers.append) as server:
        async with viewing(url_of(server)) as url, page(url) as stream:
            await texts(stream, 4)
            peers[-1].close(4007, "go away")
            with pytest.raises(ConnectionClosed) as closed:
                await stream.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4007, "go away")


async def test_a_server_that_has_gone_is_named() -> None:
    server = await WsServer[Point, Go].bind("127.0.0.1:0")
    async with viewing(url_of(server)) as url:
        await server.close()
        async with page(url) as stream:
            with pytest.raises(ConnectionClosed) as closed:
                await stream.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1014
            assert "Connect call failed" in closed.value.rcvd.reason


async def test_a_page_that_does_not_read_holds_up_nobody_else() -> None:
    """The server sees a client that is behind, and its policy holds."""

    class Frame(Codec, policy="latest", retain=True):
        n: u32
        data: bytes

    async with WsServer[Frame, None].bind("127.0.0.1:0") as server, viewing(url_of(server)) as url:
        async with page(url) as stuck:
            await texts(stuck, 1)
            stuck.transport.pause_reading()
            for n in range(400):
                await server.send(Frame(n, bytes(1 << 18)))
            await until(lambda: server.stats().superseded > 0)
            assert server.client_count() == 1
            async with page(url) as other:
                await texts(other, 2)
                newest = 0
                while newest < 399:
                    message = await asyncio.wait_for(other.recv(), 10)
                    if isinstance(message, bytes):
                        newest = int.from_bytes(message[:4], "little")
            stuck.transport.abort()


def test_what_it_cannot_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "http://127.0.0.1:1"]) == 2
    assert "is no URL of a server" in capsys.readouterr().err
    assert main(["view", "ws://127.0.0.1:1"]) == 2
    assert "Connect call failed" in capsys.readouterr().err
    assert main(["view", "ws://127.0.0.1:1", "--port", "70000"]) == 2
    assert "--port is 0 to 65535" in capsys.readouterr().err
