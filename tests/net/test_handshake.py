"""ws/handshake.py: from accept to the hand-over, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import aiohttp
import picows
import pytest
import websockets
from handshakes import Recorder, Served, accepting
from helpers import ACCEPT_TOKEN, CHROME_HEAD, FIREFOX_HEAD, PLAIN_HEAD, SLOW, RawPeer, until
from peers import build

from deli_com.link.request import Request
from deli_com.net.address import Address
from deli_com.ws import acceptor as acceptor_module
from deli_com.ws.head import Refusal
from deli_com.ws.service import Service

every_wire = pytest.mark.parametrize("transports", ["aiofastnet", "loop"])
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def masked(payload: bytes) -> bytes:
    """A client's binary frame."""
    return build(payload, mask=bytes(4))


def head(path: str = "/", **more: str) -> bytes:
    """A good request with more headers, _ for -."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    return PLAIN_HEAD.replace(b"GET / ", f"GET {path} ".encode())[:-2] + lines.encode("latin-1") + b"\r\n"


async def refused(served: Served, data: bytes) -> tuple[int, str, str]:
    """Send, and read the refusal to the end of stream. Returns status, head and body."""
    peer = await RawPeer.open(served.address, ssl=served.tls)
    try:
        await peer.send(data)
        answer = (await peer.read_all()).decode()
    finally:
        peer.close()
    top, _, body = answer.partition("\r\n\r\n")
    assert top.startswith("HTTP/1.1 "), answer
    assert "\r\nConnection: close" in top
    assert f"\r\nContent-Length: {len(body.encode())}" in top
    assert body.strip()
    assert body.endswith("\n")
    return int(top.split()[1]), top, body


async def accepted(served: Served, data: bytes = PLAIN_HEAD) -> RawPeer:
    """Send a head, and read the 101."""
    peer = await RawPeer.open(served.address, ssl=served.tls)
    try:
        await peer.send(data)
        answer = await peer.read_until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
    except BaseException:
        peer.close()
        raise
    return peer


class TestAccepts:
    @every_wire
    @plain_and_tls
    @pytest.mark.parametrize(
        "request_head", [FIREFOX_HEAD, CHROME_HEAD, PLAIN_HEAD], ids=["firefox", "chrome", "plain"]
    )
    async def test_browsers(self, tls: bool, transports: str, request_head: bytes) -> None:
        """The literal heads of browsers get a 101 with nothing in it that they did not ask for."""
        async with accepting(tls=tls, transports=transports) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            await peer.send(request_head)
            answer = (await peer.read_until(b"\r\n\r\n")).decode().lower().split("\r\n")
            assert answer[0] == "http/1.1 101 switching protocols"
            assert sorted(answer[1:-2]) == [
                "connection: upgrade",
                f"sec-websocket-accept: {ACCEPT_TOKEN.decode().lower()}",
                "upgrade: websocket",
            ]
            await peer.send(masked(b"hello"))
            await until(lambda: served.recorders[0].events == ["up", b"hello"])
            served.recorders[0].transport.send(picows.WSMsgType.BINARY, b"answer")
            assert await peer.read_exactly(8) == build(b"answer")
            peer.close()
            await until(lambda: served.recorders[0].events[-1] == "down")

    async def test_split_at_every_byte(self) -> None:
        """Wherever the head is cut in two, it is the same head."""
        async with accepting() as served:
            for place in range(1, len(PLAIN_HEAD)):
                peer = await RawPeer.open(served.address)
                await peer.send(PLAIN_HEAD[:place])
                await until(lambda place=place: self.held(served) == place)
                await peer.send(PLAIN_HEAD[place:])
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                peer.close()
            assert len(served.recorders) == len(PLAIN_HEAD) - 1

    @plain_and_tls
    async def test_byte_by_byte(self, tls: bool) -> None:
        async with accepting(tls=tls) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            for place, byte in enumerate(FIREFOX_HEAD):
                await peer.send(bytes([byte]))
                await until(lambda place=place: self.held(served) in (place + 1, None))
            assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            peer.close()

    @staticmethod
    def held(served: Served) -> int | None:
        """Bytes that the only handshake in progress has read; None once it is over."""
        pending = list(served.acceptor._pending)
        if not pending:
            return None if served.recorders else 0
        reader = pending[0].reader
        return len(reader.data) if reader is not None else 0

    @every_wire
    @plain_and_tls
    @pytest.mark.parametrize("later", [False, True], ids=["at-once", "after-authorize"])
    async def test_frames_behind_the_head(self, tls: bool, transports: str, later: bool) -> None:
        """What a client sends without waiting for the answer arrives, in order, however much it is."""
        gate = asyncio.Event()

        async def authorize(request: Request) -> None:
            await gate.wait()

        payloads = [b"first", b"", b"x" * 300, b"y" * 70_000, *(bytes([n]) * n for n in range(200)), b"last"]
        async with accepting(
            tls=tls, transports=transports, authorize=authorize if later else None
        ) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            sending = asyncio.create_task(peer.send(FIREFOX_HEAD + b"".join(map(masked, payloads))))
            if later:
                await until(lambda: served.acceptor.handshakes and not served.recorders)
                gate.set()
            await peer.read_until(b"\r\n\r\n")
            await sending
            await until(lambda: len(served.recorders[0].payloads) == len(payloads))
            assert served.recorders[0].payloads == payloads
            peer.close()

    async def test_the_slow_delay_nobody(self) -> None:
        """Fifty half heads in progress, and others come and go."""
        async with accepting() as served:
            slow = [await RawPeer.open(served.address) for _ in range(50)]
            for peer in slow:
                await peer.send(PLAIN_HEAD[:40])
            await until(lambda: served.acceptor.handshakes == 50)
            for _ in range(5):
                (await accepted(served)).close()
            assert served.acceptor.handshakes == 50
            for peer in slow:
                await peer.send(PLAIN_HEAD[40:])
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                peer.close()
            assert served.acceptor.handshakes == 0

    async def test_a_burst(self) -> None:
        """More connections at once than the loop accepts in one turn."""
        async with accepting(max_handshakes=1000) as served:
            peers = await asyncio.gather(*(accepted(served) for _ in range(200)))
            assert len(served.recorders) == 200
            for peer in peers:
                peer.close()

    async def test_the_request_is_as_sent(self) -> None:
        async with accepting(subprotocols=["b", "a"]) as served:
            peer = await accepted(served, head("/x%20y?q=1&r", X_Thing="one", Sec_WebSocket_Protocol="a, b"))
            request = served.recorders[0].request
            assert (request.path, request.query) == ("/x%20y", "q=1&r")
            assert request.headers["x-thing"] == "one"
            assert request.headers is not request.headers, "kept parsed"
            assert request.remote == Address(*peer.sock.getsockname())
            assert request.secure is False
            assert request.subprotocol == "b"
            assert "/x%20y" in repr(request)
            peer.close()

    async def test_one_logger_for_all(self) -> None:
        """picows makes a Logger for each connection that is given a plain one."""
        async with accepting() as served:
            peers = [await accepted(served) for _ in range(3)]
            names = [name for name in logging.root.manager.loggerDict if name.startswith("deli_com.picows.")]
            assert names == []
            for peer in peers:
                peer.close()

    @every_wire
    async def test_peers_that_leave(self, transports: str) -> None:
        """Before the head, within it, behind it; with FIN and with RST.

        On uvloop a poll handle reports nothing more after data and RST in one event, of which aiofastnet
        reads the data only: such a connection is noticed when it is written to, here at the deadline.
        """
        async with accepting(transports=transports, open_timeout=0.5) as served:
            for data in (b"", PLAIN_HEAD[:50], PLAIN_HEAD):
                for leave in (RawPeer.close, RawPeer.reset):
                    for wait in (False, True):
                        peer = await RawPeer.open(served.address)
                        await peer.send(data)
                        if wait and data != PLAIN_HEAD:
                            await until(lambda: served.acceptor.handshakes)
                        leave(peer)
            peer = await accepted(served)
            peer.close()
            await until(lambda: served.acceptor.handshakes == 0)


class TestForeignClients:
    @plain_and_tls
    async def test_websockets(self, tls: bool) -> None:
        async with accepting(tls=tls) as served:
            url = f"{'wss' if tls else 'ws'}://{served.address}/live"
            async with websockets.connect(url, ssl=served.tls) as client:
                await client.send(b"hello")
                await until(lambda: served.recorders[0].payloads == [b"hello"])
                served.recorders[0].transport.send(picows.WSMsgType.BINARY, b"world")
                assert await client.recv() == b"world"
            assert served.recorders[0].request.path == "/live"

    @plain_and_tls
    async def test_aiohttp(self, tls: bool) -> None:
        async with accepting(tls=tls) as served:
            url = f"{'wss' if tls else 'ws'}://{served.address}/live"
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(url, ssl=served.tls or True) as client,
            ):
                await client.send_bytes(b"hello")
                await until(lambda: served.recorders[0].payloads == [b"hello"])
                served.recorders[0].transport.send(picows.WSMsgType.BINARY, b"world")
                assert await client.receive_bytes() == b"world"


class TestRefuses:
    @plain_and_tls
    @pytest.mark.parametrize(
        ("data", "status", "word"),
        [
            (PLAIN_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"), 505, "HTTP/1.1"),
            (PLAIN_HEAD.replace(b"GET", b"POST"), 405, "POST"),
            (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 426, "WebSocket server"),
            (PLAIN_HEAD.replace(b": 13", b": 8"), 426, "13"),
            (PLAIN_HEAD.replace(b"dGhl", b"...."), 400, "Sec-WebSocket-Key"),
            (b"EHLO example.com\r\n\r\n", 400, "HTTP/1.1"),
            (b"\x00\x01\x02\x03", 400, "HTTP/1.1"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS"),
            (head(X=(15 * 1024) * "x") + b"", 101, ""),
            (head(X=(17 * 1024) * "x"), 431, "16384"),
            (b"GET /" + b"x" * 20_000, 431, "16384"),
        ],
        ids=[
            "http10",
            "post",
            "no-upgrade",
            "version",
            "key",
            "smtp",
            "zeros",
            "tls",
            "long",
            "too-long",
            "endless",
        ],
    )
    async def test_answers(self, tls: bool, data: bytes, status: int, word: str) -> None:
        """Every refusal is an HTTP answer that says why."""
        async with accepting(tls=tls) as served:
            if status == 101:
                (await accepted(served, data)).close()
                return
            got, top, body = await refused(served, data)
            assert got == status
            assert word in body
            assert not served.recorders
            if status == 426:
                assert "\r\nUpgrade: websocket" in top
            if "8" in body and status == 426:
                assert "\r\nSec-WebSocket-Version: 13" in top

    @every_wire
    @plain_and_tls
    async def test_the_answer_is_not_lost(self, tls: bool, transports: str) -> None:
        """A peer that goes on sending gets the answer all the same, and no RST before it."""
        async with accepting(tls=tls, transports=transports) as served:
            for _ in range(5):
                status, _, _ = await refused(
                    served, b"POST /upload HTTP/1.1\r\nHost: h\r\n\r\n" + b"x" * 30_000
                )
                assert status == 405

    @plain_and_tls
    async def test_lingering_is_bounded_in_bytes(self, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refused peer that floods is dropped (TLS: the transport drains, the limit in time ends it)."""
        if not tls:
            monkeypatch.setattr(acceptor_module, "LINGER_S", 60.0)
        async with accepting(tls=tls) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            with pytest.raises(OSError):  # noqa: PT012 - which send meets the server's close is the kernel's choice
                while True:
                    await peer.send(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 65536)
            peer.close()
            await until(lambda: served.acceptor.lingering == 0)

    @plain_and_tls
    async def test_lingering_is_bounded_in_time(self, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """A refused peer that neither sends nor leaves is dropped."""
        monkeypatch.setattr(acceptor_module, "LINGER_S", 0.1)
        async with accepting(tls=tls) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            await peer.send(b"POST / HTTP/1.1\r\n\r\n")
            await until(lambda: served.acceptor.lingering == 1)
            await until(lambda: served.acceptor.lingering == 0)
            peer.close()

    async def test_lingering_is_bounded_in_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One more refused peer than may linger: the oldest goes, after its answer."""
        monkeypatch.setattr(acceptor_module, "MAX_LINGERING", 2)
        async with accepting() as served:
            peers = []
            for _ in range(4):
                peer = await RawPeer.open(served.address)
                await peer.send(b"POST / HTTP/1.1\r\n\r\n")
                await peer.read_until(b"\r\n\r\n")
                peers.append(peer)
            assert served.acceptor.lingering == 2
            for peer in peers:
                peer.close()


class Failing:
    """A loop whose connect_accepted_socket fails."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fail: Any) -> None:
        self._loop = loop
        self.connect_accepted_socket = fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class TestDeadline:
    @every_wire
    @plain_and_tls
    @pytest.mark.parametrize("sent", [b"", PLAIN_HEAD[:60]], ids=["nothing", "half"])
    async def test_head(self, tls: bool, transports: str, sent: bytes) -> None:
        """Half a head gets 408 in time, who asked nothing gets nothing, others are served meanwhile."""
        async with accepting(tls=tls, transports=transports, open_timeout=0.3) as served:
            started = time.monotonic()
            peer = await RawPeer.open(served.address, ssl=served.tls)
            await peer.send(sent) if sent else None
            other = await accepted(served)
            try:
                answer = await peer.read_all()
            except ConnectionResetError:
                answer = b""
            assert 0.25 < time.monotonic() - started < 2 * SLOW
            assert answer[:12] == (b"HTTP/1.1 408" if sent else b"")
            await until(lambda: served.acceptor.handshakes == 0)
            await other.send(masked(b"still here"))
            await until(lambda: served.recorders[0].payloads == [b"still here"])
            peer.close()
            other.close()

    async def test_dribbling_does_not_help(self) -> None:
        """The deadline runs from accept, not from the last byte."""
        async with accepting(open_timeout=0.3) as served:
            started = time.monotonic()
            peer = await RawPeer.open(served.address)
            reading = asyncio.create_task(peer.read_until(b"\r\n\r\n"))
            for byte in FIREFOX_HEAD * 10:
                if reading.done():
                    break
                await peer.send(bytes([byte]))
                await asyncio.wait([reading], timeout=0.01)
            assert (await reading).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - started < 2 * SLOW
            peer.close()

    @every_wire
    @pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half"])
    async def test_tls_is_within(self, transports: str, sent: bytes) -> None:
        """A peer that never finishes its TLS handshake is dropped by the same deadline."""
        async with accepting(tls=True, transports=transports, open_timeout=0.3) as served:
            started = time.monotonic()
            peer = await RawPeer.open(served.address)
            await peer.send(sent)
            try:
                await peer.read_all()
            except ConnectionResetError:
                pass
            assert time.monotonic() - started < 2 * SLOW
            await until(lambda: served.acceptor.handshakes == 0)
            peer.close()

    @plain_and_tls
    async def test_no_transport(
        self, tls: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A transport that cannot be made costs its connection, not the socket's descriptor."""

        def fail(*args: Any, **options: Any) -> None:
            raise LookupError("no transport")

        async with accepting(tls=tls, transports="aiofastnet" if tls else "loop") as served:
            loop = asyncio.get_running_loop()
            if tls:
                monkeypatch.setattr("deli_com.net.transports.aiofastnet.connect_accepted_socket", fail)
            else:
                monkeypatch.setattr(served.acceptor, "_loop", Failing(loop, fail))
            peer = await RawPeer.open(served.address)
            assert await peer.read_all() == b""
            peer.close()
            await until(lambda: "no transport" in caplog.text)
            assert served.acceptor.handshakes == 0

    @every_wire
    async def test_tls_garbage(self, transports: str) -> None:
        async with accepting(tls=True, transports=transports) as served:
            peer = await RawPeer.open(served.address)
            await peer.send(PLAIN_HEAD)
            try:
                answer = await peer.read_all()
            except ConnectionResetError:
                answer = b""
            assert not answer.startswith(b"HTTP/")
            await until(lambda: served.acceptor.handshakes == 0)
            peer.close()

    async def test_none_means_for_ever(self) -> None:
        async with accepting(open_timeout=None) as served:
            peer = await RawPeer.open(served.address)
            await peer.send(PLAIN_HEAD[:50])
            await until(lambda: served.acceptor.handshakes == 1)
            await peer.send(PLAIN_HEAD[50:])
            await peer.read_until(b"\r\n\r\n")
            peer.close()


class TestRoom:
    @plain_and_tls
    async def test_max_clients(self, tls: bool) -> None:
        """503 while it is full; accepted again when one has left."""
        served: Served
        async with accepting(tls=tls, max_clients=2, client_count=lambda: served.count()) as served:
            first, second = await accepted(served), await accepted(served)
            status, _, body = await refused(served, PLAIN_HEAD)
            assert (status, body) == (503, "the server has as many clients as it accepts\n")
            first.close()
            await until(lambda: served.count() == 1)
            third = await accepted(served)
            second.close()
            third.close()

    async def test_max_clients_is_checked_again_after_authorize(self) -> None:
        """Two that are let in at the same moment do not both get the last place."""
        served: Served
        gate = asyncio.Event()

        async def authorize(request: Request) -> None:
            await gate.wait()

        async with accepting(
            max_clients=1, client_count=lambda: served.count(), authorize=authorize
        ) as served:
            peers = [await RawPeer.open(served.address) for _ in range(2)]
            for peer in peers:
                await peer.send(PLAIN_HEAD)
            await until(lambda: served.acceptor.handshakes == 2)
            gate.set()
            answers = sorted([(await peer.read_until(b"\r\n\r\n"))[:12] for peer in peers])
            assert answers == [b"HTTP/1.1 101", b"HTTP/1.1 503"]
            for peer in peers:
                peer.close()

    async def test_max_handshakes(self) -> None:
        """The one too many gets 503, and those in progress go on."""
        async with accepting(max_handshakes=2) as served:
            slow = [await RawPeer.open(served.address) for _ in range(2)]
            await until(lambda: served.acceptor.handshakes == 2)
            status, _, body = await refused(served, PLAIN_HEAD)
            assert status == 503
            assert "handshakes" in body
            for peer in slow:
                await peer.send(PLAIN_HEAD)
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                peer.close()

    @every_wire
    async def test_max_handshakes_tls(self, transports: str) -> None:
        """Under TLS the one too many is closed: an answer would cost what the cap protects."""
        async with accepting(tls=True, max_handshakes=1, transports=transports) as served:
            slow = await RawPeer.open(served.address)
            await until(lambda: served.acceptor.handshakes == 1)
            with pytest.raises((OSError, EOFError)):
                await RawPeer.open(served.address, ssl=served.tls)
            slow.close()
            await until(lambda: served.acceptor.handshakes == 0)
            (await accepted(served)).close()

    @plain_and_tls
    async def test_the_stale_make_room(self, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half heads that fill every place do not keep a good client out."""
        monkeypatch.setattr(acceptor_module, "STALE_S", 0.0)
        async with accepting(tls=tls, max_handshakes=2) as served:
            slow = [await RawPeer.open(served.address, ssl=served.tls) for _ in range(2)]
            for peer in slow:
                await peer.send(PLAIN_HEAD[:50])
            await until(lambda: all(item.reader for item in served.acceptor._pending))
            (await accepted(served)).close()
            assert (await slow[0].read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
            await slow[1].send(PLAIN_HEAD[50:])
            assert (await slow[1].read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            for peer in slow:
                peer.close()


class TestRoute:
    async def test_several_services_share_a_port(self) -> None:
        made: dict[str, Recorder] = {}

        def endpoint(name: str) -> Service:
            def make_listener(request: Request, transport: asyncio.Transport) -> Recorder:
                made[name] = Recorder(request)
                return made[name]

            return Service(make_listener=make_listener, max_frame_size=1000)

        table = {"/a": endpoint("a"), "/b": endpoint("b")}

        def route(request: Request) -> Service | Refusal:
            return table.get(request.path) or Refusal(404, f"nothing at {request.path}")

        async with accepting(route=route) as served:
            peers = [await accepted(served, head(path)) for path in ("/a?x", "/b")]
            assert [made[name].request.path for name in "ab"] == ["/a", "/b"]
            assert (await refused(served, head("/c")))[0] == 404
            assert (await refused(served, head("/a/")))[0] == 404
            for peer in peers:
                peer.close()
            await until(lambda: all(recorder.events[-1] == "down" for recorder in made.values()))

    @pytest.mark.parametrize("what", ["route", "make_listener", "authorize", "authorize-async", "origins"])
    async def test_callbacks_that_raise(self, what: str, caplog: pytest.LogCaptureFixture) -> None:
        """500 for that connection, a log record with the traceback, and the next one is served."""
        broken = True

        def fail(*args: Any) -> Any:
            if broken:
                raise LookupError("a bug of the user")
            return made(*args)

        async def fail_later(*args: Any) -> None:
            await asyncio.sleep(0)
            fail(*args)

        def made(*args: Any) -> Any:
            return True

        options: dict[str, Any] = {
            "route": {},
            "make_listener": {"make_listener": fail},
            "authorize": {"authorize": fail},
            "authorize-async": {"authorize": fail_later},
            "origins": {"origins": fail},
        }[what]
        async with accepting(**options) as served:
            if what == "route":
                inner = served.acceptor._route
                served.acceptor._route = fail
                made = inner
            elif what == "make_listener":
                made = served.make_listener
            data = head(Origin="https://a.example" if what == "origins" else "http://127.0.0.1")
            status, _, body = await refused(served, data)
            assert status == 500
            assert "bug of the user" not in body
            record = next(record for record in caplog.records if record.exc_info)
            assert record.name == "deli_com.server"
            assert "bug of the user" in str(record.exc_info[1])
            broken = False
            (await accepted(served, data)).close()

    async def test_make_listener_may_refuse(self) -> None:
        async with accepting(make_listener=lambda request, transport: Refusal(503, "going")) as served:
            assert (await refused(served, PLAIN_HEAD))[0] == 503

    def test_endpoint_checks_its_options(self) -> None:
        good: dict[str, Any] = {"make_listener": lambda request, transport: None, "max_frame_size": 1}
        for bad in (
            {"origins": "https://a.example"},
            {"subprotocols": "chat"},
            {"max_clients": 5},
        ):
            with pytest.raises(TypeError):
                Service(**good, **bad)
        with pytest.raises(ValueError, match="belongs"):
            Service(**good, response_headers={"Upgrade": "x"})


class TestOrigin:
    async def test_refused_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """403, and a log record with the ``origins=`` that would do; the record obeys a budget."""
        async with accepting() as served:
            for origin in ("https://evil.example", "null"):
                status, _, body = await refused(served, head(Origin=origin))
                assert status == 403
                assert repr(origin) in body
                assert f"origins=[{origin!r}]" in caplog.text
                assert caplog.records[-1].name == "deli_com.server"
            for _ in range(30):
                assert (await refused(served, head(Origin="null")))[0] == 403
            assert len(caplog.records) < 12

    async def test_accepted(self) -> None:
        async with accepting(origins=["https://app.example"]) as served:
            for origin in ("https://app.example", "http://127.0.0.1:1", "http://localhost"):
                (await accepted(served, head(Origin=origin))).close()
            assert (await refused(served, head(Origin="null")))[0] == 403

    async def test_twice(self) -> None:
        async with accepting() as served:
            data = head(Origin="http://127.0.0.1")[:-2] + b"Origin: http://127.0.0.1\r\n\r\n"
            assert (await refused(served, data))[0] == 400


class TestAuthorize:
    @pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
    @pytest.mark.parametrize(
        ("verdict", "status", "text"),
        [
            (None, 101, ""),
            (True, 101, ""),
            (False, 403, "not authorized"),
            ((401, "who are you?"), 401, "who are you?"),
            (Refusal(402, "pay", (("X-Price", "1"),)), 402, "pay"),
            ("yes", 500, ""),
            ((200, "fine"), 500, ""),
        ],
        ids=["none", "true", "false", "tuple", "refusal", "str", "ok-status"],
    )
    async def test_verdicts(self, verdict: Any, status: int, text: str, later: bool) -> None:
        seen: list[str] = []

        def authorize(request: Request) -> Any:
            seen.append(request.headers.get("Authorization", ""))
            return verdict

        async def authorize_later(request: Request) -> Any:
            await asyncio.sleep(0)
            return authorize(request)

        async with accepting(authorize=authorize_later if later else authorize) as served:
            data = head(Authorization="Bearer x")
            if status == 101:
                (await accepted(served, data)).close()
            else:
                got, _, body = await refused(served, data)
                assert got == status
                assert text in body
                assert not served.recorders
            assert seen == ["Bearer x"]

    @plain_and_tls
    async def test_waiting_delays_nobody(self, tls: bool) -> None:
        gate = asyncio.Event()

        async def authorize(request: Request) -> None:
            if request.path == "/slow":
                await gate.wait()

        async with accepting(tls=tls, authorize=authorize) as served:
            slow = await RawPeer.open(served.address, ssl=served.tls)
            await slow.send(head("/slow"))
            await until(lambda: served.acceptor.handshakes == 1)
            (await accepted(served)).close()
            gate.set()
            await slow.read_until(b"\r\n\r\n")
            slow.close()

    @every_wire
    async def test_out_of_time(self, transports: str) -> None:
        """503, and the user's coroutine is cancelled."""
        cancelled = asyncio.Event()

        async def authorize(request: Request) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with accepting(authorize=authorize, open_timeout=0.2, transports=transports) as served:
            assert (await refused(served, PLAIN_HEAD + masked(b"x" * 9000)))[0] == 503
            await cancelled.wait()

    @every_wire
    @plain_and_tls
    async def test_reading_waits(self, tls: bool, transports: str) -> None:
        """A client that sends 4 MB while the server decides is held back, not buffered; all of it arrives."""
        gate = asyncio.Event()

        async def authorize(request: Request) -> None:
            await gate.wait()

        payloads = [bytes([number]) * 65_536 for number in range(64)]
        async with accepting(tls=tls, transports=transports, authorize=authorize) as served:
            peer = await RawPeer.open(served.address, ssl=served.tls)
            sending = asyncio.create_task(peer.send(PLAIN_HEAD + b"".join(map(masked, payloads))))
            await until(lambda: self.decides(served))
            await asyncio.sleep(0.05)  # more than it takes to read all of it, were it read
            (handshake,) = served.acceptor._pending
            assert handshake.reader is not None
            assert len(handshake.reader.data) <= (64 if tls else 32) * 1024
            gate.set()
            await sending
            await until(lambda: served.recorders and len(served.recorders[0].payloads) == 64)
            assert served.recorders[0].payloads == payloads
            peer.close()

    @staticmethod
    def decides(served: Served) -> bool:
        return any(handshake.state.name == "DECIDING" for handshake in served.acceptor._pending)

    async def test_the_peer_leaves_meanwhile(self) -> None:
        """No listener is made for who is gone when the verdict comes."""
        gate = asyncio.Event()

        async def authorize(request: Request) -> None:
            await gate.wait()

        async with accepting(authorize=authorize) as served:
            peer = await RawPeer.open(served.address)
            await peer.send(PLAIN_HEAD)
            await until(lambda: served.acceptor.handshakes == 1)
            peer.reset()
            gate.set()
            await until(lambda: served.acceptor.handshakes == 0)
            await until(lambda: served.count() == 0)


class TestAgreement:
    @pytest.mark.parametrize(
        ("offered", "expected"),
        [("", None), ("b", "b"), ("x, b", "b"), ("c,b", "b"), ("c", "c")],
    )
    async def test_subprotocol(self, offered: str, expected: str | None) -> None:
        """The server's order decides."""
        async with accepting(subprotocols=["b", "c"]) as served:
            peer = await RawPeer.open(served.address)
            await peer.send(head(Sec_WebSocket_Protocol=offered) if offered else PLAIN_HEAD)
            answer = await peer.read_until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 ")
            line = f"\r\nSec-WebSocket-Protocol: {expected}\r\n".encode()
            assert (line in answer) == (expected is not None)
            assert (b"sec-websocket-protocol" in answer.lower()) == (expected is not None)
            assert served.recorders[0].request.subprotocol == expected
            peer.close()

    async def test_no_common_subprotocol(self) -> None:
        async with accepting(subprotocols=["b"]) as served:
            status, _, body = await refused(served, head(Sec_WebSocket_Protocol="x, y"))
            assert status == 400
            assert "b" in body

    async def test_none_spoken(self) -> None:
        """A server without subprotocols chooses none."""
        async with accepting() as served:
            peer = await RawPeer.open(served.address)
            await peer.send(head(Sec_WebSocket_Protocol="x"))
            assert b"Protocol:" not in await peer.read_until(b"\r\n\r\n")
            peer.close()

    async def test_response_headers(self) -> None:
        async with accepting(
            response_headers=[("X-A", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
        ) as served:
            for _ in range(2):  # the pairs are not used up
                peer = await RawPeer.open(served.address)
                await peer.send(PLAIN_HEAD)
                answer = await peer.read_until(b"\r\n\r\n")
                for line in (b"X-A: 1", b"Set-Cookie: a", b"Set-Cookie: b"):
                    assert answer.count(b"\r\n" + line + b"\r\n") == 1
                peer.close()


class TestClose:
    @every_wire
    @plain_and_tls
    async def test_in_progress_and_established(self, tls: bool, transports: str) -> None:
        """Half heads end, undecided ones are cancelled, established ones live on, the port is free."""
        cancelled = asyncio.Event()

        async def authorize(request: Request) -> None:
            if request.path == "/slow":
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

        async with accepting(tls=tls, transports=transports, authorize=authorize) as served:
            established = await accepted(served)
            half = await RawPeer.open(served.address, ssl=served.tls)
            await half.send(PLAIN_HEAD[:50])
            undecided = await RawPeer.open(served.address, ssl=served.tls)
            await undecided.send(head("/slow"))
            silent = await RawPeer.open(served.address)  # TLS: in the middle of that handshake
            lingering = await RawPeer.open(served.address, ssl=served.tls)
            await lingering.send(b"POST / HTTP/1.1\r\n\r\n")
            await until(lambda: served.acceptor.handshakes == 3 and served.acceptor.lingering == 1)

            served.acceptor.close()
            await served.acceptor.wait_closed()
            assert cancelled.is_set()
            assert served.acceptor.handshakes == served.acceptor.lingering == 0
            for peer in (half, undecided, silent, lingering):
                try:
                    answer = await peer.read_all()
                except ConnectionResetError:
                    answer = b""
                if peer in (half, undecided) and transports == "aiofastnet" and not tls:
                    assert answer.startswith(b"HTTP/1.1 503 ")
                peer.close()
            with pytest.raises(ConnectionRefusedError):
                await RawPeer.open(served.address)
            await established.send(masked(b"alive"))
            await until(lambda: served.recorders[0].payloads == [b"alive"])
            established.close()

    async def test_in_the_turn_of_the_accept(self) -> None:
        """Closing before a new connection had its first turn leaves no socket and no reader behind."""
        async with accepting() as served:
            inner = served.acceptor._on_socket

            def on_socket(sock: Any) -> None:
                inner(sock)
                served.acceptor.close()

            served.acceptor._accept_loops[0]._on_socket = on_socket
            peer = await RawPeer.open(served.address)
            with pytest.raises((EOFError, ConnectionResetError)):
                await peer.read_until(b"\r\n\r\n")
            peer.close()
            await served.acceptor.wait_closed()
        # The number of the closed socket is given out again; a reader left on it would steal its events.
        async with accepting() as served:
            for _ in range(5):
                (await accepted(served)).close()

    async def test_twice_and_from_a_callback(self) -> None:
        async with accepting() as served:

            def route(request: Request) -> Refusal:
                served.acceptor.close()
                served.acceptor.close()
                return Refusal(404, "x")

            served.acceptor._route = route
            peer = await RawPeer.open(served.address)
            await peer.send(PLAIN_HEAD)
            try:
                await peer.read_all()
            except ConnectionResetError:
                pass
            peer.close()
            await served.acceptor.wait_closed()

    async def test_wait_before_close(self) -> None:
        async with accepting() as served:
            with pytest.raises(RuntimeError):
                await served.acceptor.wait_closed()
