"""`bind(page=True)`: how the page is served, and who may connect. tests/page looks at it in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from helpers import RawPeer, certificates
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from deli_com import Codec, Response, WsClient, WsServer, u32

MOST_BYTES = 150_000


class Point(Codec):
    x: u32


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[WsServer[Point, Point]]:
    async with WsServer[Point].bind("127.0.0.1:0", **options) as server:
        yield server


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines)


async def get(server: Any, path: str = "/", *lines: str, host: str = "", tls: bool = False) -> Answer:
    peer = await RawPeer.open(server.local_addr(), ssl=certificates()[1] if tls else None)
    host = host or str(server.local_addr())
    head = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "\r\n"]
    try:
        await peer.send("\r\n".join(head).encode())
        while await peer.read_some():
            pass
        return Answer(bytes(peer.received))
    finally:
        peer.close()


async def status_of(server: Any, *, host: str = "", origin: str | None = None, path: str = "/") -> int:
    """What a WebSocket handshake gets."""
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="] + ([f"Origin: {origin}"] if origin else [])
    peer = await RawPeer.open(server.local_addr())
    host = host or str(server.local_addr())
    try:
        await peer.send("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "\r\n"]).encode())
        return int((await peer.read_until(b"\r\n")).split()[1])
    finally:
        peer.close()


class TestPage:
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_it_is_one_file_from_the_stream_s_own_port(self, tls: bool) -> None:
        async with serving(page=True, ssl=certificates()[0] if tls else None) as server:
            answer = await get(server, tls=tls)
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert len(answer.body) <= MOST_BYTES
            # Nothing is loaded, and there is no address of anything else.
            assert not re.search(rb"""https?://|//[a-z0-9-]+\.[a-z]|\ssrc=|@import|url\(""", answer.body)
            assert re.findall(rb'href="([^"]{0,22})', answer.body) == [b"data:image/png;base64,"]

    async def test_nothing_but_its_own_script_and_style_may_run(self) -> None:
        async with serving(page=True) as server:
            answer = await get(server)
            policy = answer.headers["Content-Security-Policy"].split("; ")
            text = answer.body.decode()
            for name in ("script", "style"):
                found = re.findall(rf"<{name}>(.*?)</{name}>", text, re.S)
                assert len(found) == 1
                digest = b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
                assert f"{name}-src 'sha256-{digest}'" in policy
            addr = server.local_addr()
            assert f"connect-src 'self' ws://{addr} wss://{addr}" in policy
            for directive in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
                assert directive in policy
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    async def test_a_host_that_is_none_does_not_reach_the_policy(self) -> None:
        async with serving(page=True) as server:
            answer = await get(server, host="x; script-src *")
            assert "script-src *" not in answer.headers["Content-Security-Policy"]

    async def test_it_is_not_sent_again_to_who_has_it(self) -> None:
        async with serving(page=True) as server:
            tag = (await get(server)).headers["ETag"]
            answer = await get(server, "/", f"If-None-Match: {tag}")
            assert (answer.status, answer.body) == (304, b"")

    async def test_the_query_string_is_not_its_business(self) -> None:
        async with serving(page=True) as server:
            assert (await get(server, "/?token=x")).status == 200

    async def test_beside_other_pages(self) -> None:
        async with serving(page=True, http={"/healthz": lambda request: Response(body=b"ok")}) as server:
            assert (await get(server, "/healthz")).body == b"ok"
            assert b"<!doctype html>" in (await get(server)).body
            assert (await get(server, "/other")).status == 426
        async with serving(page=True, http=lambda request: Response(body=b"mine")) as server:
            assert (await get(server, "/x")).body == b"mine"
            assert b"<!doctype html>" in (await get(server)).body

    async def test_http_authorize_is_asked(self) -> None:
        async with serving(page=True, http_authorize=lambda request: request.query == "t=1") as server:
            assert (await get(server)).status == 403
            assert (await get(server, "/?t=1")).status == 200

    async def test_the_stream_s_path_is_written_as_text(self) -> None:
        async with serving(page=True, path='/a"><script>alert(1)</script>') as server:
            body = (await get(server)).body
            assert b"<script>alert" not in body
            assert b'data-path="a&quot;&gt;&lt;script&gt;' in body

    async def test_without_page_there_is_none(self) -> None:
        async with serving() as server:
            assert (await get(server)).status == 426

    def test_what_cannot_be(self) -> None:
        with pytest.raises(ValueError, match='http has something at "/"'):
            WsServer[Point].bind("127.0.0.1:0", page=True, http={"/": b"mine"})
        with pytest.raises(ValueError, match="page is 'yes'"):
            WsServer[Point].bind("127.0.0.1:0", page="yes")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="page is 1"):
            WsServer[Point].bind("127.0.0.1:0", page=1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="schema=None"):
            WsServer[Point].bind("127.0.0.1:0", page=True, schema=None)
        with pytest.raises(ValueError, match="hosts has 'a:1' in it"):
            WsServer[Point].bind("127.0.0.1:0", page="send", hosts=["a:1"])
        with pytest.raises(TypeError, match="hosts"):
            WsServer[Point].bind("127.0.0.1:0", page="send", hosts="robot")

    async def test_it_belongs_to_the_port(self) -> None:
        async with serving() as server:
            with pytest.raises(ValueError, match="page belongs to the port"):
                WsServer[Point].bind(server, path="/x", page=True)
            with pytest.raises(ValueError, match="hosts belongs to the port"):
                WsServer[Point].bind(server, path="/x", hosts=["robot"])

    def test_it_is_in_the_package(self) -> None:
        import deli_com.page.html as html

        source = Path(html.__file__).with_name("source")
        names = {path.name for path in source.iterdir()}
        assert names == {"shell.htm", "style.css", *html.SCRIPTS}


class TestOrigins:
    async def test_the_page_itself_may_always_connect(self) -> None:
        """Also where a function decides alone, or a list does not have this host."""
        for origins in (lambda origin: False, ["https://dash.example"], None):
            async with serving(page=True, origins=origins) as server:
                addr = server.local_addr()
                assert await status_of(server, origin=f"http://{addr}") == 101
                assert await status_of(server, origin=f"https://{addr}") == 101
                assert await status_of(server, origin="https://evil.example") == 403

    async def test_without_page_a_function_decides_alone(self) -> None:
        async with serving(origins=lambda origin: False) as server:
            assert await status_of(server, origin=f"http://{server.local_addr()}") == 403


class TestHosts:
    LOCAL = (
        "127.0.0.1",
        "127.0.0.1:8765",
        "[::1]:8765",
        "localhost",
        "LOCALHOST:1",
        "x.localhost",
        "10.1.2.3",
    )
    ELSEWHERE = ("evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example", "")

    async def test_a_page_that_sends_is_not_to_be_had_by_a_name_on_trust(self) -> None:
        """Against DNS rebinding: neither page nor stream, whatever its origin."""
        async with serving(page="send") as server:
            for host in self.LOCAL:
                assert (await get(server, host=host)).status == 200, host
                assert await status_of(server, host=host) == 101, host
            for host in self.ELSEWHERE[:-1]:
                assert (await get(server, host=host)).status == 403, host
                assert await status_of(server, host=host, origin=f"http://{host}") == 403, host
                assert await status_of(server, host=host) == 403, host

    async def test_hosts_names_more(self) -> None:
        async with serving(page="send", hosts=["robot.local", "Robot"]) as server:
            for host in ("robot.local", "ROBOT.local.:8765", "robot", *self.LOCAL):
                assert (await get(server, host=host)).status == 200, host
            for host in ("arobot", "robot.local.evil.example"):
                assert (await get(server, host=host)).status == 403, host

    async def test_without_send_any_host_may_be_asked_for(self) -> None:
        async with serving(page=True) as server:
            assert (await get(server, host="robot.local")).status == 200
        async with serving(page=True, hosts=[]) as server:
            assert (await get(server, host="robot.local")).status == 403
            assert (await get(server)).status == 200


async def test_what_a_page_says_and_hears() -> None:
    """`?` for both schemas, by the query: hello, both texts, what is kept, live."""
    async with serving(page="send") as server:
        async with connect(f"ws://{server.local_addr()}/?a=b&deli=1.?.?") as page:
            down, up = server_hashes(server)
            assert await page.recv() == f"deli 1 hello down={down} up={up}"
            assert str(await page.recv()).startswith(f"deli 1 schema down {down}\ndeli 1\n")
            assert str(await page.recv()).startswith(f"deli 1 schema up {up}\ndeli 1\n")
            assert await page.recv() == "deli 1 live"
            await page.send(Point(7).to_bytes())
            assert await asyncio.wait_for(server.recv(), 10) == Point(7)


def server_hashes(server: Any) -> tuple[str, str]:
    says = server.terms.says
    return says.down, says.up


async def test_programs_connect_as_ever() -> None:
    async with serving(page=True) as server, WsClient[Point].connect(str(server.local_addr())) as client:
        await server.send(Point(3))
        assert await client.recv() == Point(3)
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://{server.local_addr()}/", origin="http://evil.example"):  # type: ignore[arg-type]
                pass
