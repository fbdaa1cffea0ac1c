"""`bind(http=...)`: plain HTTP on the stream's port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from helpers import PLAIN_HEAD, RawPeer, certificates, open_descriptors, until

from deli_com import Codec, Refusal, Request, Response, Server, WsClient, WsServer, u32

plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Point(Codec):
    x: u32


def get(path: str = "/", *lines: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{method} {path} {version}", "Host: localhost", *lines, "\r\n"]).encode()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


async def read_answer(peer: RawPeer, *, bare: bool = False) -> Answer:
    top = (await peer.read_until(b"\r\n\r\n")).decode()
    status, *lines = top[:-4].split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    size = 0 if bare else int(headers.get("Content-Length", 0))
    return Answer(int(status.split()[1]), headers, await peer.read_exactly(size))


@contextlib.asynccontextmanager
async def serving(http: Any, **options: Any) -> AsyncIterator[WsServer[Point, Point]]:
    async with WsServer[Point].bind("127.0.0.1:0", http=http, **options) as server:
        yield server


@contextlib.asynccontextmanager
async def asking(server: Any, tls: bool = False) -> AsyncIterator[RawPeer]:
    peer = await RawPeer.open(server.local_addr(), ssl=certificates()[1] if tls else None)
    try:
        yield peer
    finally:
        peer.close()


async def ask(server: Any, data: bytes, *, bare: bool = False) -> Answer:
    async with asking(server) as peer:
        await peer.send(data)
        return await read_answer(peer, bare=bare)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what may be asked for, beside a file that may not."""
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / ".git").mkdir()
    (tmp_path / "siteless").mkdir()
    (tmp_path / "siteless" / "x").write_bytes(b"another folder")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "index.html").write_bytes(b"<p>index")
    (root / "data.json").write_bytes(b"{}")
    (root / "a b\u00fc.txt").write_bytes(b"name")
    (root / "sub" / "index.html").write_bytes(b"<p>sub")
    (root / ".hidden").write_bytes(b"secret")
    (root / ".git" / "config").write_bytes(b"secret")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    (root / "up").symlink_to(tmp_path)
    (root / "disguised").symlink_to(root / ".hidden")
    (root / "inside").symlink_to(root / "data.json")
    os.mkfifo(root / "fifo")
    return root


class TestServes:
    @plain_and_tls
    async def test_page_and_stream_on_one_port(self, tls: bool) -> None:
        contexts = certificates() if tls else (None, None)
        async with (
            serving({"/": b"<p>page"}, ssl=contexts[0]) as server,
            aiohttp.ClientSession() as session,
            WsClient[Point].connect(server.local_addr(), ssl=contexts[1]) as client,
        ):
            url = f"http{'s' * tls}://localhost:{server.local_addr().port}/"
            async with session.get(url, ssl=contexts[1] or False) as answer:
                assert answer.status == 200
                assert await answer.read() == b"<p>page"
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            await server.send(Point(x=1))
            assert await client.recv() == Point(x=1)

    @plain_and_tls
    async def test_large_bodies(self, tls: bool, tmp_path: Path) -> None:
        """Bytes and files of many pieces arrive whole, over one connection."""
        content = os.urandom(3_000_001)
        (tmp_path / "file").write_bytes(content)
        paths = {"/bytes": content, "/file": tmp_path / "file"}
        async with (
            serving(paths, ssl=certificates()[0] if tls else None) as server,
            asking(server, tls) as peer,
        ):
            for path in ("/bytes", "/file"):
                await peer.send(get(path))
                answer = await read_answer(peer)
                assert answer.body == content, path

    async def test_without_it_a_plain_request_gets_426(self) -> None:
        async with WsServer[Point].bind("127.0.0.1:0") as server:
            answer = await ask(server, get())
            assert (answer.status, answer.headers["Connection"]) == (426, "close, Upgrade")

    async def test_a_path_of_a_stream_says_so(self) -> None:
        async with serving({"/": b""}, path="/live") as server:
            answer = await ask(server, get("/live"))
            assert answer.status == 426
            assert b"this is a WebSocket server" in answer.body
            assert "Upgrade" in answer.headers["Connection"]
            assert (await ask(server, get("/other"))).status == 404

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_handler(self, is_async: bool) -> None:
        seen: list[Request] = []

        def handler(request: Request) -> Response | None:
            seen.append(request)
            if request.path == "/none":
                return None
            return Response(201, {"X-Asked": f"{request.method} {request.path}?{request.query}"}, b"made")

        async def later(request: Request) -> Response | None:
            await asyncio.sleep(0)
            return handler(request)

        async with serving(later if is_async else handler, path="/live") as server:
            answer = await ask(server, get("/a%20b?q=1", "X-Mine: 2"))
            assert (answer.status, answer.body) == (201, b"made")
            assert answer.headers["X-Asked"] == "GET /a%20b?q=1"
            assert seen[0].headers["X-Mine"] == "2"
            assert seen[0].remote is not None
            assert (await ask(server, get("/none"))).status == 404

    async def test_handler_in_a_mapping(self) -> None:
        async with serving({"/healthz": lambda request: Response(body=request.query.encode())}) as server:
            assert (await ask(server, get("/healthz?ok"))).body == b"ok"

    async def test_a_refusal_is_an_answer(self) -> None:
        async with serving(lambda request: Refusal(401, "who?")) as server:
            answer = await ask(server, get())
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Connection"] == "keep-alive"

    async def test_head(self, folder: Path) -> None:
        paths = {"/b": b"12345", "/f": folder / "data.json", "/h": lambda request: Response(body=b"123")}
        async with serving(paths) as server, asking(server) as peer:
            for path, size in (("/b", "5"), ("/f", "2"), ("/h", "3")):
                await peer.send(get(path, method="HEAD"))
                assert (await read_answer(peer, bare=True)).headers["Content-Length"] == size
            await peer.send(get("/b"))  # nothing of a body is in between
            assert (await read_answer(peer)).body == b"12345"

    async def test_head_line(self) -> None:
        async with serving({"/": b"x"}) as server:
            answer = await ask(server, get())
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["Date"])
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


class TestFolders:
    async def test_what_is_in_it(self, folder: Path) -> None:
        found = {
            "/static/": b"<p>index",
            "/static/index.html": b"<p>index",
            "/static/data.json": b"{}",
            "/static/a%20b%C3%BC.txt": b"name",
            "/static/sub/": b"<p>sub",
            "/static/sub/index.html": b"<p>sub",
            "/static/inside": b"{}",
            "/static/up/site/data.json": b"{}",
        }
        async with serving({"/static": folder}) as server, asking(server) as peer:
            for path, content in found.items():
                await peer.send(get(path))
                answer = await read_answer(peer)
                assert (answer.status, answer.body) == (200, content), path

    @pytest.mark.parametrize("prefix", ["/static", "/"])
    async def test_what_is_not(self, folder: Path, prefix: str) -> None:
        names = [
            "../secret",
            "..%2fsecret",
            "%2e%2e/secret",
            "%2e%2e%2fsecret",
            "sub/../../secret",
            "..",
            "../",
            "..%5csecret",
            "..\\secret",
            "%00",
            "index.html%00.txt",
            ".hidden",
            ".git/config",
            "%2ehidden",
            "outside",
            "up/secret",
            "disguised",
            "up/site/.hidden",
            "loop",
            "fifo",
            "less/x",
            "data.json/x",
            "/data.json",
            "//etc/passwd",
            "%2fetc%2fpasswd",
            "/etc/passwd",
            "nothing",
            "%ff",
            "a" * 5000,
            "C:/x",
            "index.html::$DATA",
            "data.json/",
            "index.html/",
        ]
        async with serving({prefix: folder}, path="/live") as server, asking(server) as peer:
            for name in names:
                path = f"{prefix.rstrip('/')}/{name}"
                await peer.send(get(path))
                answer = await read_answer(peer)
                assert answer.status == 404, (path, answer.body)

    async def test_folder_without_a_slash(self, folder: Path) -> None:
        """The answer leads to the folder, and to no other host."""
        async with serving({"/static/": folder, "/": folder}, path="/live") as server, asking(server) as peer:
            for path, to in (("/static", "./static/"), ("/static/sub?a=1", "./sub/?a=1"), ("/sub", "./sub/")):
                await peer.send(get(path))
                answer = await read_answer(peer)
                assert (answer.status, answer.headers["Location"]) == (301, to)

    async def test_longest_first(self, folder: Path, tmp_path: Path) -> None:
        async with serving({"/": tmp_path / "siteless", "/a/": folder, "/a/data.json": b"exact"}) as server:
            assert (await ask(server, get("/x"))).body == b"another folder"
            assert (await ask(server, get("/a/"))).body == b"<p>index"
            assert (await ask(server, get("/a/data.json"))).body == b"exact"

    async def test_a_file_that_goes_and_comes(self, tmp_path: Path) -> None:
        place = tmp_path / "page.css"
        place.write_bytes(b"1")
        async with serving({"/page": place}) as server, asking(server) as peer:
            for content, status in ((b"1", 200), (None, 404), (b"22", 200)):
                place.unlink() if content is None else place.write_bytes(content)
                await peer.send(get("/page"))
                answer = await read_answer(peer)
                assert answer.status == status
                if content is not None:
                    assert answer.body == content
                    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"

    async def test_a_file_that_may_not_be_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system's answer is given by hand: an administrator may read every file."""
        opened = os.open

        def refusing(path: Any, *args: Any, **options: Any) -> int:
            if os.fspath(path).endswith("data.json"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return opened(path, *args, **options)

        monkeypatch.setattr(os, "open", refusing)
        async with serving({"/": folder}) as server:
            assert (await ask(server, get("/data.json"))).status == 403


class TestConditions:
    @pytest.mark.parametrize("kind", ["bytes", "file"])
    async def test_etag(self, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "f.txt"
        place.write_bytes(b"0123456789")
        entry = place if kind == "file" else b"0123456789"
        async with serving({"/f": entry}) as server, asking(server) as peer:

            async def of(*lines: str) -> Answer:
                await peer.send(get("/f", *lines))
                return await read_answer(peer)

            tag = (await of()).headers["ETag"]
            for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
                answer = await of(f"If-None-Match: {known}")
                assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag)
                assert "Content-Length" not in answer.headers
            assert (await of('If-None-Match: "x"')).status == 200
            if kind == "file":
                place.write_bytes(b"0123456789+")
                assert (await of(f"If-None-Match: {tag}")).status == 200

    @pytest.mark.parametrize("kind", ["bytes", "file"])
    async def test_ranges(self, tmp_path: Path, kind: str) -> None:
        place = tmp_path / "f.txt"
        place.write_bytes(b"0123456789")
        part: dict[str, tuple[int, bytes, str | None]] = {
            "bytes=0-0": (206, b"0", "bytes 0-0/10"),
            "bytes=2-4": (206, b"234", "bytes 2-4/10"),
            "bytes=7-": (206, b"789", "bytes 7-9/10"),
            "bytes=7-99": (206, b"789", "bytes 7-9/10"),
            "bytes=-3": (206, b"789", "bytes 7-9/10"),
            "bytes=-99": (206, b"0123456789", "bytes 0-9/10"),
            "bytes=10-": (416, b"", "bytes */10"),
            "bytes=-0": (416, b"", "bytes */10"),
            "bytes=4-2": (200, b"0123456789", None),
            "bytes=0-1,3-4": (200, b"0123456789", None),
            "bytes=-": (200, b"0123456789", None),
            "bytes=x": (200, b"0123456789", None),
            "lines=0-1": (200, b"0123456789", None),
            f"bytes={'9' * 40}-": (200, b"0123456789", None),
        }
        entry = place if kind == "file" else b"0123456789"
        async with serving({"/f": entry}) as server, asking(server) as peer:
            for asked, (status, body, shown) in part.items():
                await peer.send(get("/f", f"Range: {asked}"))
                answer = await read_answer(peer)
                assert (answer.status, answer.body, answer.headers.get("Content-Range")) == (
                    status,
                    body,
                    shown,
                )
            await peer.send(get("/f", "Range: bytes=0-0", 'If-Range: "other"'))
            assert (await read_answer(peer)).status == 200
            tag = answer.headers["ETag"]
            await peer.send(get("/f", "Range: bytes=0-0", f"If-Range: {tag}"))
            assert (await read_answer(peer)).status == 206

    async def test_empty_content(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_bytes(b"")
        async with serving({"/b": b"", "/f": tmp_path / "empty"}) as server, asking(server) as peer:
            for path in ("/b", "/f"):
                await peer.send(get(path))
                answer = await read_answer(peer)
                assert (answer.status, answer.headers["Content-Length"]) == (200, "0")


class TestConnections:
    async def test_pipelined_requests_are_answered_in_order(self, folder: Path) -> None:
        async def slow(request: Request) -> Response:
            await asyncio.sleep(0)
            return Response(body=request.query.encode())

        paths = {"/now": lambda request: Response(body=request.query.encode()), "/slow": slow, "/f": folder}
        async with serving(paths) as server, asking(server) as peer:
            wants = [
                (f"/{'now' if i % 3 else 'slow'}?{i}", str(i).encode()) if i % 5 else ("/f/data.json", b"{}")
                for i in range(600)
            ]
            async with asyncio.TaskGroup() as group:
                group.create_task(peer.send(b"".join(get(path) for path, _ in wants)))
                for path, body in wants:
                    answer = await read_answer(peer)
                    assert (answer.status, answer.body) == (200, body), path

    @plain_and_tls
    @pytest.mark.parametrize("pipelined", [False, True])
    async def test_an_upgrade_may_follow(self, tls: bool, pipelined: bool) -> None:
        async with serving({"/": b"page"}, ssl=certificates()[0] if tls else None) as server:
            async with asking(server, tls) as peer:
                if pipelined:
                    await peer.send(get() + PLAIN_HEAD)
                    assert (await read_answer(peer)).body == b"page"
                else:
                    await peer.send(get())
                    assert (await read_answer(peer)).body == b"page"
                    await peer.send(PLAIN_HEAD)
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                await server.send(Point(x=7))
                assert await peer.read_exactly(6) == b"\x82\x04\x07\0\0\0"
                await peer.send(b"\x82\x84\0\0\0\0\x08\0\0\0")
                assert await server.recv() == Point(x=8)

    @pytest.mark.parametrize(
        "data", [get(version="HTTP/1.0"), get("/", "Connection: close")], ids=["HTTP/1.0", "close"]
    )
    async def test_it_is_closed_when_asked_to(self, data: bytes) -> None:
        async with serving({"/": b"page"}) as server, asking(server) as peer:
            await peer.send(data)
            answer = await peer.read_all()
            assert b"\r\nConnection: close\r\n" in answer
            assert answer.endswith(b"\r\n\r\npage")

    async def test_a_closed_one_gives_all(self) -> None:
        content = os.urandom(2_000_000)
        async with serving({"/": content}) as server, asking(server) as peer:
            await peer.send(get("/", "Connection: close"))
            assert (await peer.read_all()).endswith(content)

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (get(method="POST"), 405),
            (get(method="DELETE"), 405),
            (get("/", "Content-Length: 3") + b"abc", 400),
            (get("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
            (get(version="HTTP/2.0"), 505),
            (get("no-slash"), 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (get("/", "Host: twice"), 400),
            (get("/", "bad header"), 400),
            (get("/", *(f"X-{i}: 1" for i in range(130))), 431),
            (get("/", f"X: {'x' * 20000}"), 431),
        ],
    )
    async def test_bad_requests(self, data: bytes, status: int) -> None:
        async with serving(lambda request: Response()) as server:
            answer = await ask(server, data)
            assert (answer.status, answer.headers["Connection"]) == (status, "close")

    async def test_no_header_at_all(self) -> None:
        """What health checks of HTTP/1.0 send."""
        async with serving({"/": b"page"}) as server, asking(server) as peer:
            await peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await peer.read_all()).startswith(b"HTTP/1.1 200 OK\r\n")
        async with WsServer[Point].bind("127.0.0.1:0") as server:
            assert (await ask(server, b"GET / HTTP/1.1\r\n\r\n")).status == 426

    async def test_no_content_length_of_zero_is_refused(self) -> None:
        async with serving({"/": b"page"}) as server:
            assert (await ask(server, get("/", "Content-Length: 0"))).status == 200

    async def test_idle_ones_end_without_a_word(self) -> None:
        async with serving({"/": b"page"}, open_timeout=0.2) as server, asking(server) as peer:
            await peer.send(get())
            await read_answer(peer)
            assert await peer.read_all() == b""

    async def test_half_a_second_request_gets_408(self) -> None:
        async with serving({"/": b"page"}, open_timeout=0.3) as server, asking(server) as peer:
            await peer.send(get() + b"GET /")
            await read_answer(peer)
            assert (await read_answer(peer)).status == 408

    async def test_idle_ones_make_room(self) -> None:
        """As many idle connections as there is room for turn nobody away."""
        async with serving({"/": b"page"}) as server, contextlib.AsyncExitStack() as stack:
            acceptor = server._port._acceptor  # type: ignore[union-attr]
            acceptor._max_handshakes = 8
            peers = []
            for _ in range(20):
                peers.append(await stack.enter_async_context(asking(server)))
                await peers[-1].send(get())
                assert (await read_answer(peers[-1])).status == 200
            assert acceptor.handshakes <= 8
            assert await peers[0].read_all() == b""
            await peers[-1].send(get())
            assert (await read_answer(peers[-1])).status == 200
            async with WsClient[Point].connect(server.local_addr()):
                pass

    async def test_a_slow_reader_is_bounded(self, tmp_path: Path) -> None:
        """What it does not take stays in the file, and the stream's clients go on."""
        (tmp_path / "big").write_bytes(bytes(64 << 20))
        reads: list[int] = []

        async with (
            serving({"/big": tmp_path / "big"}) as server,
            WsClient[Point].connect(server.local_addr()) as client,
            asking(server) as peer,
        ):
            acceptor = server._port._acceptor  # type: ignore[union-attr]
            await peer.send(get("/big"))
            await until(
                lambda: acceptor.handshakes == 1 and next(iter(acceptor._pending)).writable is not None
            )
            handshake = next(iter(acceptor._pending))
            for i in range(50):
                await server.send(Point(x=i))
                assert await client.recv() == Point(x=i)
                reads.append(handshake.transport.get_write_buffer_size())
            assert max(reads) <= 128 << 10
            answer = await read_answer(peer)
            assert len(answer.body) == 64 << 20

    async def test_a_reader_that_takes_nothing_is_closed(self) -> None:
        async with serving({"/": bytes(64 << 20)}, open_timeout=0.3) as server, asking(server) as peer:
            await peer.send(get())
            acceptor = server._port._acceptor  # type: ignore[union-attr]
            await until(lambda: acceptor.handshakes == 1)
            await until(lambda: acceptor.handshakes == 0)
            with pytest.raises((EOFError, ConnectionResetError)):
                await read_answer(peer)

    async def test_a_reader_that_leaves_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(bytes(64 << 20))
        async with serving({"/": bytes(64 << 20), "/f": tmp_path / "big"}) as server:
            acceptor = server._port._acceptor  # type: ignore[union-attr]
            before = open_descriptors()
            for path in ("/", "/f"):
                for end in (RawPeer.close, RawPeer.reset):
                    async with asking(server) as peer:
                        await peer.send(get(path))
                        await peer.read_until(b"\r\n\r\n")
                        end(peer)
                    await until(lambda: acceptor.handshakes == 0 and not acceptor._tasks)
            await until(lambda: open_descriptors() <= before)

    async def test_closing_the_server_ends_answers(self, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(bytes(64 << 20))
        async with contextlib.AsyncExitStack() as stack:
            server = await WsServer[Point].bind("127.0.0.1:0", http={"/": tmp_path / "big"})
            peer, idle = [await stack.enter_async_context(asking(server)) for _ in range(2)]
            await idle.send(get("/nothing"))
            await read_answer(idle)
            await peer.send(get())
            await peer.read_until(b"\r\n\r\n")
            await server.close()
            assert await idle.read_all() == b""
            with contextlib.suppress(ConnectionResetError):
                assert len(await peer.read_all()) < 64 << 20


class TestHandlersFail:
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize("how", ["raises", "returns"])
    async def test_it_costs_one_answer(
        self, caplog: pytest.LogCaptureFixture, is_async: bool, how: str
    ) -> None:
        def handler(request: Request) -> Any:
            if request.path == "/ok":
                return Response()
            if how == "raises":
                raise LookupError("mine")
            return "text"

        async def later(request: Request) -> Any:
            return handler(request)

        async with serving(later if is_async else handler) as server, asking(server) as peer:
            await peer.send(get("/bad") + get("/ok"))
            assert (await read_answer(peer)).status == 500
            assert (await read_answer(peer)).status == 200
        shown = "mine" if how == "raises" else "returns a Response, a Refusal or None, not 'text'"
        assert [r.levelno for r in caplog.records if r.name == "deli_com.server"].count(logging.ERROR) == 1
        assert shown in caplog.text

    async def test_out_of_time(self) -> None:
        async def never(request: Request) -> Response:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        async with serving(never, open_timeout=0.2) as server:
            answer = await ask(server, get())
            assert answer.status == 503
            assert b"did not answer in time" in answer.body

    @pytest.mark.parametrize("how", ["waits", "waits on", "in a thread"])
    @pytest.mark.parametrize("which", ["http", "http_authorize", "authorize"])
    async def test_many_that_hang(self, how: str, which: str, caplog: pytest.LogCaptureFixture) -> None:
        """Each is answered at the deadline, a client is served meanwhile, and close comes back."""
        ended = threading.Event()

        async def hang(request: Request) -> Any:
            if how == "in a thread":
                await asyncio.to_thread(ended.wait)
            while not ended.is_set():  # "waits on" although it is cancelled
                try:
                    await asyncio.sleep(0.2 if how == "waits on" else 60)
                except asyncio.CancelledError:
                    if how != "waits on":
                        raise
            return None

        async def judge(request: Request) -> Any:
            return await hang(request) if request.path == "/hangs" else None

        given: dict[str, Any] = {"http": {"/": b"", "/hangs": hang}, "open_timeout": 0.3}
        if which != "http":
            given |= {"http": {"/": b"", "/hangs": b""}, which: judge}
        data = PLAIN_HEAD.replace(b"GET /", b"GET /hangs") if which == "authorize" else get("/hangs")
        before = len(asyncio.all_tasks())
        try:
            server = await WsServer[Point].bind("127.0.0.1:0", **given)
            async with WsClient[Point].connect(server.local_addr()) as client:
                asked = [asyncio.ensure_future(ask(server, data)) for _ in range(20)]
                for number in range(20):
                    await server.send(Point(x=number))
                    assert await client.recv() == Point(x=number)
                assert [(await each).status for each in asked] == [503] * 20
            await server.close()
        finally:
            ended.set()
        assert ("go on, although they were cancelled" in caplog.text) == (how == "waits on")
        await until(lambda: len(asyncio.all_tasks()) == before)

    async def test_file_that_becomes_shorter(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        place = tmp_path / "big"
        place.write_bytes(bytes(64 << 20))
        async with serving({"/": place}) as server, asking(server) as peer:
            await peer.send(get())
            await peer.read_until(b"\r\n\r\n")
            os.truncate(place, 1 << 20)
            with contextlib.suppress(ConnectionResetError):
                assert len(await peer.read_all()) < 64 << 20
            await until(lambda: "the file has become shorter" in caplog.text)


class TestAuthorize:
    async def test_plain_requests_do_not_pass_authorize(self) -> None:
        async with serving({"/": b"page"}, authorize=lambda request: False) as server:
            assert (await ask(server, get())).status == 200
            assert (await ask(server, PLAIN_HEAD)).status == 403

    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        ("verdict", "status"),
        [
            (None, 200),
            (True, 200),
            (False, 403),
            ((401, "who?"), 401),
            (Refusal(410, "x"), 410),
            ("yes", 500),
        ],
    )
    async def test_http_authorize(self, is_async: bool, verdict: Any, status: int) -> None:
        seen: list[str] = []

        def decide(request: Request) -> Any:
            seen.append(request.path)
            return verdict

        async def later(request: Request) -> Any:
            return decide(request)

        async with serving({"/": b"page"}, http_authorize=later if is_async else decide) as server:
            assert (await ask(server, get("/"))).status == status
            assert (await ask(server, PLAIN_HEAD)).status == 101
            assert seen == ["/"]


class TestRefusedOptions:
    @pytest.mark.parametrize(
        ("http", "error", "text"),
        [
            (1, TypeError, "a function (request), a mapping of paths, or None"),
            ({"page": b""}, ValueError, "begins with \"/\", got 'page'"),
            ({1: b""}, ValueError, 'begins with "/", got 1'),
            ({"/": 5}, TypeError, "'/': expected bytes, a path of a file or folder, or a function"),
            ({"/": "/no/such/place"}, ValueError, "there is no file or folder '/no/such/place'"),
        ],
    )
    async def test_at_the_call(self, http: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=re.escape(text)):
            WsServer[Point].bind("127.0.0.1:0", http=http)

    async def test_they_belong_to_the_port(self) -> None:
        async with WsServer[Point].bind("127.0.0.1:0", path="/a") as server:
            with pytest.raises(ValueError, match="http belongs to the port"):
                WsServer[Point].bind(server, path="/b", http={})
        with pytest.raises(ValueError, match="http_authorize is given without http="):
            WsServer[Point].bind("127.0.0.1:0", http_authorize=lambda request: None)
        with pytest.raises(TypeError, match="http"):
            Server[Point].bind("127.0.0.1:0", http={})  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"status": 100}, ValueError, "status is 200 to 599, got 100"),
            ({"status": "200"}, TypeError, "status is an int"),
            ({"status": True}, TypeError, "status is an int"),
            ({"body": "text"}, TypeError, "write body=text.encode()"),
            ({"body": 5}, TypeError, "body is bytes, got int"),
            ({"status": 204, "body": b"x"}, ValueError, "has no body"),
            ({"headers": {"X": "a\r\nY: b"}}, ValueError, "not allowed in an HTTP header"),
            ({"headers": {"content-length": "1"}}, ValueError, "is set by the server"),
            ({"headers": {"Connection": "close"}}, ValueError, "is set by the server"),
            ({"headers": [("X", 1)]}, TypeError, "a header is a name and a value"),
        ],
    )
    def test_response(self, options: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=re.escape(text)):
            Response(**options)

    def test_body_is_copied(self) -> None:
        body = bytearray(b"abc")
        response = Response(body=body)  # type: ignore[arg-type]
        body[0] = 0
        assert response.body == b"abc"


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("which", ["http", "http_authorize", "authorize"])
async def test_a_callback_that_awaits_what_was_cancelled_is_answered(which: str) -> None:
    """The task that runs the callback is not cancelled, and the peer hears of the failure at once."""

    async def cancelled(request: Request) -> Any:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    options: dict[str, Any] = {"http": {"/": b"page"}, which: cancelled}
    async with WsServer[Point].bind("127.0.0.1:0", **options, open_timeout=60) as server:
        async with asking(server) as peer:
            await peer.send(PLAIN_HEAD if which == "authorize" else get())
            assert (await read_answer(peer)).status == 500
