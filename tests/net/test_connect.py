"""ws/connect.py: the client's side of the handshake, with correct, faulty, slow and foreign servers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import picows
import pytest
import trustme
import websockets
from handshakes import Recorder, accepting
from helpers import SLOW, certificates, open_sockets, until
from peers import build

from deli_com.errors import ComError, ConnectionClosed, IoError, WebSocketError
from deli_com.net.address import Address, parse_target
from deli_com.ws.connect import HandshakeResponse, open_websocket
from deli_com.ws.head import accept_token

every_wire = pytest.mark.parametrize("transports", ["aiofastnet", "loop"])
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


async def opened(target: Any, **options: Any) -> Recorder:
    """Open, and return the listener."""
    recorder = Recorder()

    def make_listener(response: HandshakeResponse, transport: asyncio.Transport) -> Recorder:
        recorder.request = response
        return recorder

    transport = await open_websocket(
        target, **{"make_listener": make_listener, "max_frame_size": 1 << 20, **options}
    )
    assert recorder.transport is transport
    return recorder


class Script:
    """A server that runs `serve(reader, writer, request)` for each connection; `request` is its head."""

    def __init__(self, serve: Callable[[Any, Any, bytes], Awaitable[None]]) -> None:
        self.serve = serve
        self.requests: list[bytes] = []
        self.address: Address
        self.ended = 0  # connections whose client has gone

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            await self.serve(reader, writer, request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def answer(request: bytes, **changes: str | None) -> bytes:
    """A good 101 but for the changes: header names with _ for -, None for none; status= for the line."""
    key = next(line for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))[19:]
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_token(key),
    }
    status = changes.pop("status", None) or "HTTP/1.1 101 Switching Protocols"
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [status, *(f"{name}: {value}" for name, value in headers.items() if value is not None), "\r\n"]
    return "\r\n".join(lines).encode()


@contextlib.asynccontextmanager
async def scripted(
    serve: Callable[[Any, Any, bytes], Awaitable[None]], tls: bool = False
) -> AsyncIterator[Script]:
    script = Script(serve)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(script.run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=certificates()[0] if tls else None)
    script.address = Address(*server.sockets[0].getsockname())
    try:
        yield script
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def saying(
    data: bytes | Callable[[bytes], bytes], *, hold: bool = True
) -> Callable[[Any, Any, bytes], Awaitable[None]]:
    """Answer so; then wait for the client to leave, or close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(data(request) if callable(data) else data)
        if hold:
            await reader.read()

    return serve


class TestOpens:
    @every_wire
    @plain_and_tls
    async def test_our_server(self, tls: bool, transports: str) -> None:
        async with accepting(tls=tls) as served:
            target = parse_target(served.address, path="/live?x=1", secure=tls)
            client = await opened(
                target,
                ssl=served.tls,
                transports=transports,
                headers=[("X-Thing", "a"), ("X-Thing", "b")],
                origin="http://127.0.0.1:1",
            )
            assert client.events == ["up"]
            request = served.recorders[0].request
            assert (request.path, request.query) == ("/live", "x=1")
            assert request.headers.getall("X-Thing") == ["a", "b"]
            assert request.headers["Host"] == str(served.address)
            assert request.headers["Origin"] == "http://127.0.0.1:1"
            assert request.secure is tls
            client.transport.send(picows.WSMsgType.BINARY, b"hello")
            await until(lambda: served.recorders[0].payloads == [b"hello"])
            served.recorders[0].transport.send(picows.WSMsgType.BINARY, b"x" * 100_000)
            await until(lambda: client.payloads == [b"x" * 100_000])
            client.transport.disconnect(False)
            await until(lambda: client.events[-1] == "down")

    @plain_and_tls
    async def test_websockets_server(self, tls: bool) -> None:
        async def serve(connection: Any) -> None:
            await connection.send(b"first")  # may come in one segment with the answer
            async for message in connection:
                await connection.send(message)

        context = certificates()[0] if tls else None
        async with websockets.serve(serve, "127.0.0.1", 0, ssl=context, subprotocols=["b"]) as server:  # type: ignore[list-item]
            port = server.sockets[0].getsockname()[1]
            client = await opened(
                f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/",
                ssl=certificates()[1] if tls else None,
                subprotocols=["a", "b"],
            )
            assert client.request.subprotocol == "b"
            client.transport.send(picows.WSMsgType.BINARY, b"second")
            await until(lambda: client.payloads == [b"first", b"second"])
            client.transport.disconnect(False)

    @every_wire
    @plain_and_tls
    async def test_frames_behind_the_answer(self, tls: bool, transports: str) -> None:
        """What the server sends without waiting arrives, in order."""
        payloads = [b"first", b"", b"y" * 70_000, *(bytes([n]) * n for n in range(200)), b"last"]
        frames = b"".join(build(payload) for payload in payloads)
        async with scripted(saying(lambda request: answer(request) + frames), tls) as script:
            client = await opened(
                script.address, ssl=certificates()[1] if tls else None, transports=transports
            )
            await until(lambda: len(client.payloads) == len(payloads))
            assert client.payloads == payloads
            client.transport.disconnect(False)
            await until(lambda: script.ended)

    async def test_answer_byte_by_byte(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in answer(request) + build(b"hello"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            await reader.read()

        async with scripted(serve) as script:
            client = await opened(script.address)
            await until(lambda: client.payloads == [b"hello"])
            client.transport.disconnect(False)
            await until(lambda: script.ended)

    @pytest.mark.parametrize(
        "changes",
        [
            {"Connection": "keep-alive, Upgrade"},
            {"Connection": "upgrade,keep-alive", "Upgrade": "WebSocket"},
            {"status": "HTTP/1.1 101"},
            {"status": "HTTP/1.1 101 Welcome", "Content_Length": "0"},
            {"Sec_WebSocket_Extensions": ""},
        ],
    )
    async def test_lenient(self, changes: dict[str, str | None]) -> None:
        """Legal answers that are spelt otherwise."""
        async with scripted(saying(lambda request: answer(request, **changes))) as script:
            client = await opened(script.address)
            client.transport.disconnect(False)
            await until(lambda: script.ended)

    async def test_the_request(self) -> None:
        """Exactly what RFC 6455 section 4.1 asks for, and what the user adds."""
        async with scripted(saying(answer)) as script:
            url = f"ws://localhost:{script.address.port}/p?q"
            client = await opened(
                url, headers={"Host": "other.example", "Authorization": "Bearer x"}, origin="http://o"
            )
            client.transport.disconnect(False)
            lines = script.requests[0].decode().split("\r\n")
            key = next(line for line in lines if line.startswith("Sec-WebSocket-Key: "))
            assert lines[0] == "GET /p?q HTTP/1.1"
            assert sorted(lines[1:]) == sorted(
                [
                    "",
                    "",
                    "Host: other.example",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Sec-WebSocket-Version: 13",
                    key,
                    "Authorization: Bearer x",
                    "Origin: http://o",
                ]
            )
            await until(lambda: script.ended)

    async def test_the_second_address_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every address of a name is tried."""
        async with accepting() as served:

            async def resolve(address: Address) -> Any:
                tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
                return [(*tcp, ("127.0.0.1", 1)), (*tcp, tuple(served.address))]

            monkeypatch.setattr("deli_com.net.dial.resolve", resolve)
            client = await opened(("several.example", served.address.port))
            client.transport.disconnect(False)


class TestArguments:
    @pytest.mark.parametrize(
        ("target", "options"),
        [
            ("nowhere", {}),
            ("h:0", {}),
            ("ws://h", {"ssl": True}),
            (parse_target("ws://h"), {"ssl": True}),
            ("wss://h", {"ssl": False}),
            ("h:1", {"headers": {"A": "b\r\nC: d"}}),
            ("h:1", {"headers": {"Connection": "close"}}),
            ("h:1", {"origin": "http://o\r\nX: y"}),
            ("h:1", {"subprotocols": ["a b"]}),
        ],
    )
    async def test_bad(self, target: Any, options: dict[str, Any]) -> None:
        """`ValueError` before anything is opened."""
        with pytest.raises(ValueError):
            await opened(target, **options)


class TestFails:
    """Every failure is of the documented type, and leaves no socket."""

    @every_wire
    async def test_refused(self, transports: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            address = Address(*sock.getsockname())
        with pytest.raises(IoError) as caught:
            await opened(address, transports=transports)
        assert isinstance(caught.value, ConnectionRefusedError)
        assert caught.value.errno == errno.ECONNREFUSED
        assert f"connect to {address}" in str(caught.value)

    async def test_name_that_does_not_resolve(self) -> None:
        with pytest.raises(IoError, match=r"connect to no-such-host\.invalid:80") as caught:
            await opened("ws://no-such-host.invalid")
        assert not isinstance(caught.value, (TimeoutError, ConnectionRefusedError))

    @pytest.mark.parametrize(
        ("data", "status", "word"),
        [
            (
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot  \x1bhere",
                404,
                "404 Not Found: not \ufffdher",
            ),
            (
                b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n",
                401,
                "who",
            ),
            (b"HTTP/1.0 502 Bad Gateway\r\n\r\n" + b"gone " * 1000, 502, "gone gone"),
            (b"HTTP/1.1 301 Moved\r\nLocation: ws://other/\r\nContent-Length: 0\r\n\r\n", 301, "ws://other/"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "200 OK"),
            (b"HTTP/1.1 599\r\nContent-Length: 0\r\n\r\n", 599, "599"),
            (b"HTTP/1.1 500 x\r\nContent-Length: 5\r\n\r\nab", 500, "ab"),
        ],
        ids=["404", "chunked", "long", "redirect", "200", "odd", "short"],
    )
    @pytest.mark.parametrize("hold", [False, True], ids=["closes", "holds"])
    async def test_status(self, data: bytes, status: int, word: str, hold: bool) -> None:
        """`WebSocketError` with the status and first words of the body, also of one that never ends."""
        async with scripted(saying(data, hold=hold)) as script:
            with pytest.raises(WebSocketError) as caught:
                await opened(script.address)
            assert caught.value.status == status
            assert word in str(caught.value)
            assert len(str(caught.value)) < 500
            assert len(script.requests) == 1, "a redirect was followed"
            await until(lambda: script.ended)

    @pytest.mark.parametrize(
        ("head", "page", "said"),
        [
            (
                b"Content-Type: text/html",
                b"<TITLE>502 Bad\r\nGateway</title>",
                "(an HTML page, '502 Bad Gateway')",
            ),
            (b"Content-Type: Text/HTML; charset=utf-8", b"no title", "(an HTML page)"),
            (b"Server: nginx", b"\n <html><title>\x1b[2J</title>", "(an HTML page, '\ufffd[2J')"),
        ],
    )
    async def test_a_page_is_not_shown_raw(self, head: bytes, page: bytes, said: str) -> None:
        body = page + b"<p>" * 1000
        data = b"HTTP/1.1 502 Bad Gateway\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
        async with scripted(saying(data)) as script:
            with pytest.raises(WebSocketError) as caught:
                await opened(script.address)
        assert str(caught.value).endswith(f"the server answered 502 Bad Gateway {said}")

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"HTTP/2 101\r\n\r\n",
            b"HTTP/1.1 what\r\n\r\n",
            b"HTTP/1.1 101 x\r\nno colon\r\n\r\n",
            b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            b"HTTP/1.1 101 x\r\nA: " + b"b" * 20_000,
            b"HTTP/1.1 101 x\r\n\r\n",
        ],
        ids=["ssh", "tls", "http2", "status", "header", "headers", "endless", "empty"],
    )
    async def test_not_a_good_answer(self, data: bytes) -> None:
        async with scripted(saying(data)) as script:
            with pytest.raises(WebSocketError) as caught:
                await opened(script.address)
            assert caught.value.status is None
            assert len(str(caught.value)) < 300
            await until(lambda: script.ended)

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"status": "HTTP/1.0 101 x"}, "HTTP/1.0"),
            ({"Upgrade": None}, "websocket"),
            ({"Upgrade": "h2c"}, "h2c"),
            ({"Connection": None}, "Connection"),
            ({"Connection": "close"}, "Connection"),
            ({"Sec_WebSocket_Accept": None}, "key"),
            ({"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "key"),
            ({"Sec_WebSocket_Extensions": "permessage-deflate"}, "permessage-deflate"),
            ({"Sec_WebSocket_Protocol": "c"}, "'c'"),
            ({"Sec_WebSocket_Protocol": "a, b"}, "'a, b'"),
            ({"Sec_WebSocket_Protocol": ""}, "subprotocol"),
        ],
    )
    async def test_nothing_unrequested(self, changes: dict[str, str | None], word: str) -> None:
        """`WebSocketError` for what was not asked for and for what is missing; picows never gets it."""
        async with scripted(saying(lambda request: answer(request, **changes))) as script:
            with pytest.raises(WebSocketError) as caught:
                await opened(script.address, subprotocols=["a", "b"])
            assert word in str(caught.value)
            await until(lambda: script.ended)

    async def test_two_subprotocols(self) -> None:
        def twice(request: bytes) -> bytes:
            return answer(request, Sec_WebSocket_Protocol="a")[:-2] + b"Sec-WebSocket-Protocol: b\r\n\r\n"

        async with scripted(saying(twice)) as script:
            with pytest.raises(WebSocketError, match="subprotocol"):
                await opened(script.address, subprotocols=["a", "b"])
            await until(lambda: script.ended)

    @every_wire
    @plain_and_tls
    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 101 Swi"], ids=["nothing", "half"])
    async def test_end_of_stream(self, tls: bool, transports: str, sent: bytes) -> None:
        async with scripted(saying(sent, hold=False), tls) as script:
            with pytest.raises(ConnectionClosed, match="during the handshake") as caught:
                await opened(script.address, ssl=certificates()[1] if tls else None, transports=transports)
            assert caught.value.code is None

    async def test_reset(self) -> None:
        async def serve(reader: Any, writer: asyncio.StreamWriter, request: bytes) -> None:
            writer.transport.abort()

        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            task = loop.create_task(opened(sock.getsockname()))
            served, _ = await loop.sock_accept(sock)
            served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            served.close()
            with pytest.raises((ConnectionClosed, IoError)):
                await task

    async def test_make_listener_raises(self) -> None:
        """Its own exception comes out."""

        def make_listener(response: HandshakeResponse, transport: asyncio.Transport) -> Any:
            raise LookupError("a bug of the user")

        async with scripted(saying(answer)) as script:
            with pytest.raises(LookupError, match="bug of the user"):
                await opened(script.address, make_listener=make_listener)
            await until(lambda: script.ended)


class TestTls:
    @every_wire
    async def test_unknown_authority(self, transports: str) -> None:
        context = ssl.create_default_context()
        trustme.CA().configure_trust(context)
        async with accepting(tls=True) as served:
            with pytest.raises(IoError, match=r"(?i)certificate") as caught:
                await opened(served.address, ssl=context, transports=transports)
            assert f"TLS with {served.address}" in str(caught.value)
            await until(lambda: served.acceptor.handshakes == 0)

    @every_wire
    async def test_wrong_host(self, transports: str) -> None:
        authority = trustme.CA()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("other.example").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        async with accepting(tls=(server, client)) as served:
            with pytest.raises(IoError, match=r"127\.0\.0\.1"):
                await opened(served.address, ssl=client, transports=transports)
            await until(lambda: served.acceptor.handshakes == 0)

    @every_wire
    async def test_server_speaks_no_tls(self, transports: str) -> None:
        async with accepting() as served:
            with pytest.raises(IoError, match="TLS with"):
                await opened(served.address, ssl=certificates()[1], transports=transports)

    @every_wire
    async def test_server_ends_within(self, transports: str) -> None:
        """`IoError`, and nothing in the loop's exception handler."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)  # all of the ClientHello, so that the close is a FIN
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with pytest.raises(IoError, match="TLS with"):
            await opened(server.sockets[0].getsockname(), ssl=certificates()[1], transports=transports)
        server.close()
        await server.wait_closed()

    async def test_client_without_tls(self) -> None:
        """A ws:// client at a wss:// port."""
        async with accepting(tls=True) as served:
            with pytest.raises((ConnectionClosed, WebSocketError)):
                await opened(served.address)
            await until(lambda: served.acceptor.handshakes == 0)


@contextlib.contextmanager
def silent_server() -> Any:
    """Listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield Address(*sock.getsockname())


class TestDeadline:
    @every_wire
    @plain_and_tls
    async def test_silence(self, tls: bool, transports: str) -> None:
        """`IoError` that is a `TimeoutError`, in time, saying where it stood; TLS is within it."""
        with silent_server() as address:
            before = open_sockets()
            started = time.monotonic()
            with pytest.raises(IoError) as caught:
                await opened(
                    address, open_timeout=0.2, ssl=certificates()[1] if tls else None, transports=transports
                )
            assert open_sockets() == before
            assert 0.15 < time.monotonic() - started < 1 * SLOW
            assert isinstance(caught.value, TimeoutError)
            assert caught.value.errno == errno.ETIMEDOUT
            assert "0.2 s" in str(caught.value)
            assert ("TLS" if tls else "answer") in str(caught.value)
            assert str(address) in str(caught.value)

    async def test_dribbling_does_not_help(self) -> None:
        async def serve(reader: Any, writer: asyncio.StreamWriter, request: bytes) -> None:
            for byte in b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        async with scripted(serve) as script:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                await opened(script.address, open_timeout=0.2)
            assert time.monotonic() - started < 1 * SLOW

    async def test_resolver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def resolve(address: Address) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr("deli_com.net.dial.resolve", resolve)
        with pytest.raises(TimeoutError):
            await opened("slow.example:1", open_timeout=0.1)

    async def test_connect(self) -> None:
        """A listener whose backlog is full answers no SYN."""
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(0)
            fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(sock.getsockname())
                fillers.append(filler)
            with pytest.raises(TimeoutError) as caught:
                await opened(sock.getsockname(), open_timeout=0.2)
            assert isinstance(caught.value, IoError)
            for filler in fillers:
                filler.close()

    async def test_an_outer_timeout_is_not_ours(self) -> None:
        """`asyncio.timeout` around it raises a plain TimeoutError."""
        with silent_server() as address, pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await opened(address, open_timeout=60)
        assert not isinstance(caught.value, ComError)


class TestCancel:
    @every_wire
    @plain_and_tls
    async def test_at_every_turn(self, tls: bool, transports: str) -> None:
        """Cancelled after 0, 1, 2 … turns of the loop, until one succeeds: no socket, no task, no report."""
        async with accepting(tls=tls) as served:
            for turns in range(400):
                before = open_sockets()
                task = asyncio.create_task(opened(served.address, ssl=served.tls, transports=transports))
                for _ in range(turns):
                    await asyncio.sleep(0)
                won = task.done()
                task.cancel()
                if won:
                    (await task).transport.disconnect(False)
                    break
                with pytest.raises(asyncio.CancelledError):
                    await task
                await until(lambda: served.acceptor.handshakes == 0 and served.count() == 0)
                await until(lambda before=before: not open_sockets() - before)
            else:
                pytest.fail("400 turns and no connection")
            assert turns > 3

    @every_wire
    @plain_and_tls
    async def test_closed_when_it_comes_out(self, tls: bool, transports: str) -> None:
        """Whenever it is cancelled, whoever gets the cancellation finds the socket closed."""
        with silent_server() as address:
            before = open_sockets()
            for turns in range(15):
                context = certificates()[1] if tls else None
                task = asyncio.create_task(opened(address, ssl=context, transports=transports))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert open_sockets() == before, f"after {turns} turns"

    async def test_no_transport(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A transport that cannot be made does not keep the socket."""

        def fail(*args: Any, **options: Any) -> None:
            raise LookupError("no transport")

        monkeypatch.setattr("deli_com.net.transports.SelectorSocketTransport", fail)
        with silent_server() as address:
            before = open_sockets()
            with pytest.raises(LookupError):
                await opened(address)
            assert open_sockets() == before

    @plain_and_tls
    async def test_while_waiting(self, tls: bool) -> None:
        """The socket is closed by the time the cancellation comes out."""
        with silent_server() as address:
            before = open_sockets()
            task = asyncio.create_task(opened(address, ssl=certificates()[1] if tls else None))
            await until(lambda: len(open_sockets() - before) == 1)
            await asyncio.sleep(0.02)  # anywhere within the handshake
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert open_sockets() == before

    async def test_many(self) -> None:
        """A hundred attempts, half of them cancelled."""
        async with accepting(max_handshakes=1000) as served:
            tasks = [asyncio.create_task(opened(served.address)) for _ in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if number % 2:
                    assert isinstance(result, Recorder)
                    result.transport.disconnect(False)
                else:
                    assert isinstance(result, asyncio.CancelledError)
            await until(lambda: served.count() == 0)
