"""`server.asgi()`: real clients of real ASGI servers, uvicorn and hypercorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import hypercorn.asyncio
import hypercorn.config
import pytest
import quart
import starlette.applications
import starlette.routing
import uvicorn
from helpers import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed as Closed
from websockets.exceptions import InvalidStatus

from deli_com import Codec, Departure, Peer, Request, WebSocketError, WsClient, WsServer, u32

pytestmark = pytest.mark.loops("asyncio")
SERVERS = ("uvicorn", "hypercorn")


class Point(Codec):
    x: u32


class Other(Codec):
    x: u32
    y: u32 = u32(5)


class Frame(Codec, policy="latest", retain=True):
    n: u32
    data: bytes


@contextlib.asynccontextmanager
async def running(app: Any, kind: str) -> AsyncIterator[str]:
    """`app` under an ASGI server; gives ``host:port``."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    place = f"127.0.0.1:{sock.getsockname()[1]}"
    if kind == "uvicorn":
        config = uvicorn.Config(app, log_level="error", ws_max_size=1 << 26, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve(sockets=[sock]))
        await until(lambda: server.started or task.done())
        stop = lambda: setattr(server, "should_exit", True)  # noqa: E731
    else:
        ended = asyncio.Event()
        settings = hypercorn.config.Config()
        sock.listen(128)
        settings.bind = [f"fd://{sock.detach()}"]  # which it closes
        settings.graceful_timeout = 1
        settings.websocket_max_message_size = 1 << 26
        settings.errorlog = None
        task = asyncio.create_task(
            hypercorn.asyncio.serve(app, settings, shutdown_trigger=ended.wait)  # type: ignore[arg-type]
        )
        stop = ended.set
    try:
        yield place
    finally:
        stop()
        await asyncio.wait([task], timeout=10)
        if task.done() and not task.cancelled():
            task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        sock.close()


@contextlib.asynccontextmanager
async def serving(
    kind: str, tp: Any = Point, up: Any = Point, **options: Any
) -> AsyncIterator[tuple[Any, str]]:
    async with WsServer[tp, up].bind(None, **options) as server:
        async with running(server.asgi(), kind) as place:
            yield server, place


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class TestValues:
    async def test_both_ways_in_order(self, kind: str) -> None:
        async with serving(kind) as (server, place), WsClient[Point].connect(place) as client:
            await server.wait_clients(1)
            for n in range(500):
                await server.send(Point(n))
                await client.send(Point(n))
            for n in range(500):
                assert await client.recv() == Point(n)
                assert await server.recv() == Point(n)

    @pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 3_000_000])
    async def test_of_every_size(self, kind: str, size: int) -> None:
        async with serving(kind, bytes, bytes) as (server, place):
            async with WsClient[bytes, bytes].connect(place) as client:
                await server.send(bytes(size))
                assert await client.recv() == bytes(size)
                await client.send(bytes(size))
                assert await server.recv() == bytes(size)

    async def test_groups_peers_and_what_is_retained(self, kind: str) -> None:
        async with serving(kind, Frame, None) as (server, place):
            await server.send(Frame(1, b"kept"))
            async with (
                WsClient[Frame, None].connect(place) as one,
                WsClient[Frame, None].connect(place) as two,
            ):
                assert (await one.recv()).n == (await two.recv()).n == 1
                await server.wait_clients(2)
                peer = sorted(server.clients, key=lambda each: each.remote_addr.port)[0]
                server.group("few").add(peer)
                await server.group("few").send(Frame(2, b""))
                await peer.send(Frame(3, b""))
                await server.send(Frame(4, b""))
                found = sorted([await until_n(one, 4), await until_n(two, 4)], key=len)
                assert found == [[4], [2, 3, 4]]

    async def test_a_text_is_ignored_as_ever(self, kind: str) -> None:
        async with serving(kind) as (server, place), connect(f"ws://{place}/") as client:
            await client.send("text")
            await client.send(Point(4).to_bytes())
            assert await server.recv() == Point(4)


async def until_n(client: Any, last: int) -> list[int]:
    found = [(await client.recv()).n]
    while found[-1] != last:
        found.append((await client.recv()).n)
    return found


class TestHandshake:
    async def test_schemas_by_the_header_and_by_the_query(self, kind: str) -> None:
        async with serving(kind) as (server, place):
            async with WsClient[Point].connect(place, schema="require") as client:
                assert client.schema.down.how == "same"
            async with WsClient[Other, None].connect(place) as client:
                assert client.schema.down.how == "resolved"
                await server.wait_clients(1)
                await server.send(Point(1))
                assert await client.recv() == Other(1, 5)
            async with connect(f"ws://{place}/?deli=1.?.-") as page:
                says = server.terms.says
                assert await page.recv() == f"deli 1 hello down={says.down} up={says.up}"
                assert str(await page.recv()).startswith(f"deli 1 schema down {says.down}\n")
                assert await page.recv() == "deli 1 live"

    async def test_authorize_and_identity(self, kind: str) -> None:
        asked: list[Request] = []

        async def authorize(request: Request) -> bool:
            asked.append(request)
            return request.headers.get("X-Token") == "s3cret"

        async with serving(kind, authorize=authorize) as (server, place):
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Point].connect(place)
            assert refused.value.status == 403
            url = f"ws://{place}/a%20b?c=d"
            async with WsClient[Point].connect(url, headers={"X-Token": "s3cret"}) as client:
                await client.send(Point(1))
                peer, _ = await server.recv_from()
                request = peer.request
                assert (request.path, request.query) == ("/a%20b", "c=d")
                assert request.headers["X-Token"] == "s3cret"
                assert request.host == place and request.secure is False
                assert request.scope["type"] == "websocket" and request.scope["path"] == "/a b"
                assert peer.remote_addr.host == "127.0.0.1" and peer.remote_addr.port > 0
            assert len(asked) == 2

    @pytest.mark.parametrize(("said", "status"), [((401, "who are you"), 401), ((429, "later"), 429)])
    async def test_the_status_of_a_refusal_is_told(self, kind: str, said: Any, status: int) -> None:
        async with serving(kind, authorize=lambda request: said) as (_, place):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://{place}/"):
                    pass
            assert refused.value.response.status_code == status
            assert said[1].encode() in (refused.value.response.body or b"")

    async def test_origins(self, kind: str) -> None:
        async with serving(kind, origins=["https://dash.example"]) as (_, place):
            for origin in ("https://dash.example", f"http://{place}"):
                async with connect(f"ws://{place}/", origin=origin):  # type: ignore[arg-type]
                    pass
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://{place}/", origin="https://evil.example"):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 403

    async def test_subprotocols_and_headers(self, kind: str) -> None:
        options: Any = dict(subprotocols=["b", "a"], response_headers={"X-Here": "yes"})
        async with serving(kind, **options) as (server, place):
            async with connect(f"ws://{place}/", subprotocols=["a", "b"]) as client:  # type: ignore[list-item]
                assert client.subprotocol == "b"
                assert client.response is not None and client.response.headers["X-Here"] == "yes"
                await server.wait_clients(1)
                assert next(iter(server.clients)).request.subprotocol == "b"

    async def test_max_clients(self, kind: str) -> None:
        async with serving(kind, max_clients=1) as (_, place), WsClient[Point].connect(place):
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Point].connect(place)
            assert refused.value.status == 503

    async def test_what_authorize_raises_is_a_500(self, kind: str) -> None:
        def authorize(request: Request) -> bool:
            raise LookupError("no database")

        async with serving(kind, authorize=authorize) as (_, place):
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Point].connect(place)
            assert refused.value.status == 500

    async def test_plain_http_is_told_that_this_is_a_stream(self, kind: str) -> None:
        async with serving(kind) as (_, place):
            reader, writer = await asyncio.open_connection(*place.split(":"))
            writer.write(f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
            assert (await reader.read()).split()[1] == b"426"
            writer.close()
            await writer.wait_closed()


class TestEnd:
    async def test_the_server_s_code_and_reason(self, kind: str) -> None:
        peers: list[Peer[Any]] = []
        left: list[Departure] = []
        options: Any = dict(on_connect=peers.append, on_disconnect=lambda peer, why: left.append(why))
        async with serving(kind, **options) as (_, place), connect(f"ws://{place}/") as client:
            await until(lambda: peers)
            peers[0].close(4007, "go away")
            with pytest.raises(Closed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4007, "go away")
            await until(lambda: left)
            assert left[0].code == 4007

    async def test_the_client_s_code(self, kind: str) -> None:
        left: list[Departure] = []
        async with serving(kind, on_disconnect=lambda peer, why: left.append(why)) as (server, place):
            async with connect(f"ws://{place}/") as client:
                await server.wait_clients(1)
                await client.close(4001, "enough")
            await until(lambda: left)
            # Hypercorn tells its applications no code of the client's.
            assert (left[0].cause, left[0].code) == (("left", 4001) if kind == "uvicorn" else ("lost", None))
            async with connect(f"ws://{place}/") as client:
                await server.wait_clients(1)
                client.transport.abort()
            await until(lambda: len(left) == 2)
            assert server.client_count() == 0

    async def test_close_sends_what_is_queued_and_1001(self, kind: str) -> None:
        async with serving(kind) as (server, place), WsClient[Point].connect(place) as client:
            await server.wait_clients(1)
            for n in range(100):
                server.send_nowait(Point(n))
            await server.close()
            assert [await client.recv() for _ in range(100)] == [Point(n) for n in range(100)]
            with pytest.raises(Exception) as closed:
                await client.recv()
            assert closed.value.code == 1001  # type: ignore[attr-defined]
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Point].connect(place)
            assert refused.value.status == 503


class TestSlow:
    async def test_a_stalled_client_is_bounded_by_the_log(self, kind: str) -> None:
        """It holds one batch; the newest is what it gets when it reads again; others get all."""
        async with serving(kind, Frame, None) as (server, place):
            stalled = await connect(f"ws://{place}/", max_queue=1, max_size=None, compression=None)
            async with WsClient[Frame, None].connect(place) as other:
                await server.wait_clients(2)
                stalled.transport.pause_reading()
                for n in range(300):
                    await server.send(Frame(n, bytes(1 << 17)))
                    await other.recv()
                assert server.stats().laggards == 1
                assert server.stats().queued_bytes < 1 << 20
                stalled.transport.resume_reading()
                found = 0
                while found != 299:
                    found = int.from_bytes((await asyncio.wait_for(stalled.recv(), 10))[:4], "little")
                assert server.stats().superseded > 100
            await stalled.close()

    async def test_one_that_takes_nothing_is_closed(self, kind: str) -> None:
        left: list[Departure] = []
        options: Any = dict(progress_timeout=0.3, on_disconnect=lambda peer, why: left.append(why))
        async with serving(kind, bytes, None, close_timeout=0.2, **options) as (server, place):
            stalled = await connect(f"ws://{place}/", max_queue=1, max_size=None, compression=None)
            await server.wait_clients(1)
            stalled.transport.pause_reading()
            for _ in range(100):
                server.send_nowait(bytes(1 << 17))
            await until(lambda: left)
            assert (left[0].code, left[0].cause) == (1013, "no progress")
            assert server.client_count() == 0
            stalled.transport.abort()


class TestApplications:
    async def test_starlette(self, kind: str) -> None:
        async with WsServer[Point].bind(None) as server:
            app = starlette.applications.Starlette(
                routes=[starlette.routing.Mount("/live", app=server.asgi())]
            )
            async with running(app, kind) as place:
                async with WsClient[Point].connect(f"ws://{place}/live/x") as client:
                    await client.send(Point(1))
                    peer, _ = await server.recv_from()
                    assert peer.request.path == "/live/x"

    async def test_fastapi_with_a_lifespan_that_opens_the_server(self, kind: str) -> None:
        opened: list[Any] = []

        @contextlib.asynccontextmanager
        async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
            async with WsServer[Point].bind(None) as server:
                app.mount("/live", server.asgi())
                opened.append(server)
                yield

        app = fastapi.FastAPI(lifespan=lifespan)

        @app.get("/clients")
        def clients() -> int:
            count: int = opened[0].client_count()
            return count

        async with running(app, kind) as place:
            await until(lambda: opened)
            async with WsClient[Point].connect(f"ws://{place}/live/") as client:
                await opened[0].wait_clients(1)
                await opened[0].send(Point(7))
                assert await client.recv() == Point(7)
                reader, writer = await asyncio.open_connection(*place.split(":"))
                writer.write(f"GET /clients HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
                assert (await reader.read()).endswith(b"1")
                writer.close()
                await writer.wait_closed()
        assert "closed" in repr(opened[0])

    async def test_quart(self, kind: str) -> None:
        async with WsServer[Point].bind(None) as server:
            app = quart.Quart(__name__)
            inner, stream = app.asgi_app, server.asgi()

            async def dispatch(scope: Any, receive: Any, send: Any) -> None:
                is_ours = scope["type"] == "websocket" and scope["path"] == "/live"
                await (stream if is_ours else inner)(scope, receive, send)

            app.asgi_app = dispatch  # type: ignore[method-assign]
            async with running(app, kind) as place:
                async with WsClient[Point].connect(f"ws://{place}/live") as client:
                    await client.send(Point(1))
                    assert await server.recv() == Point(1)


class TestWithoutAPort:
    async def test_it_says_that_it_has_none(self) -> None:
        async with WsServer[Point].bind(None) as server:
            assert repr(server) == "<WsServer[Point] without a port, 0 clients>"
            assert server.local_addrs() == ()
            with pytest.raises(RuntimeError, match="has no address"):
                server.local_addr()
            with pytest.raises(RuntimeError, match="has no port that could be shared"):
                await WsServer[Point].bind(server, path="/x")

    @pytest.mark.parametrize(
        "options", [{"path": "/x"}, {"page": True}, {"http": {}}, {"reuse_port": True}, {"open_timeout": 3.0}]
    )
    def test_options_of_a_port_need_one(self, options: Any) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(options))} belongs to a port"):
            WsServer[Point].bind(None, **options)

    async def test_a_server_with_a_port_has_both(self, kind: str) -> None:
        async with WsServer[Point].bind("127.0.0.1:0") as server, running(server.asgi(), kind) as place:
            async with (
                WsClient[Point].connect(place) as one,
                WsClient[Point].connect(server.local_addr()) as two,
            ):
                await server.wait_clients(2)
                await server.send(Point(1))
                assert await one.recv() == await two.recv() == Point(1)

    async def test_another_loop_is_refused(self) -> None:
        async with WsServer[Point].bind(None) as server:
            app = server.asgi()

            async def ask() -> None:
                async def receive() -> Any:
                    return {"type": "websocket.connect"}

                async def send(message: Any) -> None:
                    raise AssertionError(message)

                await app({"type": "websocket", "headers": [], "path": "/"}, receive, send)

            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, ask())


SCOPES: dict[str, dict[str, Any]] = {
    "surrogate": {"path": "/\ud800"},
    "no path": {"path": None},
    "raw path of text": {"raw_path": "/"},
    "header of text": {"headers": [("host", "x")]},
    "header of one": {"headers": [(b"host",)]},
    "headers of nothing": {"headers": [None]},
    "headers of a number": {"headers": 7},
    "query of text": {"query_string": "a=b"},
    "client of one": {"client": ["127.0.0.1"]},
    "client of three": {"client": ["127.0.0.1", 1, 2]},
    "client of no text": {"client": [7, 8]},
    "client of no port": {"client": ["127.0.0.1", "x"]},
}


class TestScopes:
    """What an ASGI server says of a connection; no server is needed."""

    async def said(self, server: Any, **changes: Any) -> list[Any]:
        """What the application sends to who connects, and leaves once it is accepted."""
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", **changes}
        scope = {name: value for name, value in scope.items() if value is not ...}
        scope["extensions"] = {"websocket.http.response": {}}
        heard = iter([{"type": "websocket.connect"}])
        told: list[Any] = []

        async def receive() -> Any:
            return next(heard, {"type": "websocket.disconnect", "code": 1000})

        async def send(message: Any) -> None:
            told.append(message)

        await server.asgi()(scope, receive, send)
        return told

    @pytest.mark.parametrize("which", list(SCOPES))
    async def test_one_that_is_malformed_is_refused(self, which: str, caplog: Any) -> None:
        async with WsServer[Point, Point].bind(None) as server:
            told = await self.said(server, **SCOPES[which])
            assert told[0]["status"] == 400
            assert "the ASGI server describes it wrongly" in caplog.text

    @pytest.mark.parametrize("missing", ["headers", "query_string", "raw_path", "client", "subprotocols"])
    async def test_what_may_be_missing(self, missing: str) -> None:
        async with WsServer[Point, Point].bind(None) as server:
            assert (await self.said(server, **{missing: ...}))[0]["type"] == "websocket.accept"
            assert (await self.said(server, **{missing: None}))[0]["type"] == "websocket.accept"

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
    @pytest.mark.parametrize("option", ["origins", "authorize"])
    async def test_what_a_callback_raises_is_a_500(self, option: str, error: Any) -> None:
        def bad(*args: object) -> Any:
            raise error

        async with WsServer[Point, Point].bind(None, **{option: bad}) as server:
            headers = [(b"origin", b"http://x")] if option == "origins" else []
            assert (await self.said(server, headers=headers))[0]["status"] == 500

    async def test_an_origin_whose_port_has_too_many_digits_is_refused(self) -> None:
        async with WsServer[Point, Point].bind(None) as server:
            told = await self.said(server, headers=[(b"origin", b"http://x:" + b"9" * 9000)])
            assert told[0]["status"] == 403
