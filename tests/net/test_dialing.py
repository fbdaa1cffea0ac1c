"""How a client connects to a server: several addresses, a socket of the user, an HTTP proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers import SLOW, certificates, until

from deli_com import Client, IoError, Server, WsClient, WsServer, u32
from deli_com.net import dial
from deli_com.net.address import Address

PAIRS: list[Any] = [pytest.param(WsServer, WsClient, id="ws"), pytest.param(Server, Client, id="tcp")]
both = pytest.mark.parametrize(("server_type", "client_type"), PAIRS)
TCP4 = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
TCP6 = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


@contextlib.contextmanager
def swallowing() -> Any:
    """An address that answers no SYN: its queue is full."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()


def resolves_to(monkeypatch: pytest.MonkeyPatch, *infos: Any) -> None:
    async def resolve(address: Address) -> Any:
        return list(infos)

    monkeypatch.setattr("deli_com.net.dial.resolve", resolve)


class TestSeveralAddresses:
    @both
    async def test_one_that_swallows_costs_no_more_than_its_turn(
        self, monkeypatch: pytest.MonkeyPatch, server_type: Any, client_type: Any
    ) -> None:
        """Not the whole of open_timeout, which is 10 s."""
        with swallowing() as nowhere:
            async with server_type[u32].bind("127.0.0.1:0") as server:
                resolves_to(monkeypatch, (*TCP4, nowhere), (*TCP4, tuple(server.local_addr())))
                began = time.monotonic()
                async with client_type[u32].connect(("several.example", 80)):
                    took = time.monotonic() - began
                    assert dial.ATTEMPT_S * 0.9 <= took < 3 * SLOW
                    await server.wait_clients(1)

    async def test_one_that_refuses_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deli_com.net.dial.ATTEMPT_S", 3600.0)
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            resolves_to(monkeypatch, (*TCP4, ("127.0.0.1", 1)), (*TCP4, tuple(server.local_addr())))
            async with WsClient[u32].connect("several.example:80"):
                pass

    async def test_the_families_alternate(self) -> None:
        """RFC 8305 section 4: the second family does not wait for all of the first."""
        six = [(*TCP6, (f"2001:db8::{n}", 1, 0, 0)) for n in range(3)]
        four = [(*TCP4, ("192.0.2.1", 1))]
        assert dial.alternating([*six, *four]) == [six[0], four[0], six[1], six[2]]
        assert dial.alternating([*four, *six]) == [four[0], *six]
        assert dial.ATTEMPT_S <= 0.25

    async def test_all_that_failed_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what was refused is a refusal, although there is no way to the first."""
        resolves_to(monkeypatch, (*TCP6, ("2001:db8::1", 1, 0, 0)), (*TCP4, ("127.0.0.1", 1)))

        async def connect_one(loop: Any, info: Any) -> socket.socket:
            if info[0] == socket.AF_INET6:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

        monkeypatch.setattr("deli_com.net.dial._connect_one", connect_one)
        with pytest.raises(ConnectionRefusedError) as caught:
            await WsClient[u32].connect("several.example:80", proxy=None)
        assert "Network is unreachable (2001:db8::1)" in str(caught.value)
        assert "Connection refused (127.0.0.1)" in str(caught.value)
        assert isinstance(caught.value, IoError)

    async def test_all_swallow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """open_timeout bounds all of it, and no socket is left (the loop's fixture looks)."""
        with swallowing() as one, swallowing() as two:
            resolves_to(monkeypatch, (*TCP4, one), (*TCP4, two))
            with pytest.raises(TimeoutError):
                await WsClient[u32].connect("several.example:80", open_timeout=0.5)

    async def test_cancelled_in_mid_race(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with swallowing() as one, swallowing() as two:
            resolves_to(monkeypatch, (*TCP4, one), (*TCP4, two))
            task = asyncio.ensure_future(WsClient[u32].connect("several.example:80"))
            await asyncio.sleep(dial.ATTEMPT_S * 1.5)  # both are on their way
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_both_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One is taken, the other one is closed."""
        monkeypatch.setattr("deli_com.net.dial.ATTEMPT_S", 0.0)
        async with Server[u32].bind("127.0.0.1:0") as one, Server[u32].bind("127.0.0.1:0") as two:
            resolves_to(monkeypatch, (*TCP4, tuple(one.local_addr())), (*TCP4, tuple(two.local_addr())))
            async with Client[u32].connect("several.example:80"):
                await until(lambda: one.client_count() + two.client_count() == 1)


@both
class TestSocket:
    async def test_connected(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0") as server:
            sock = socket.create_connection(server.local_addr())
            async with client_type[u32].connect(sock=sock) as client:
                await server.wait_clients(1)
                await server.send(5)
                assert await client.recv() == 5
            assert sock.fileno() == -1

    async def test_a_pair(self, server_type: Any, client_type: Any) -> None:
        """Without any address: it is what a parent leaves to its child."""
        ours, theirs = socket.socketpair()
        theirs.close()
        with pytest.raises((IoError, ConnectionError)):
            async with client_type[u32].connect(sock=ours) as client:
                await client.recv()

    async def test_tls_for_the_name_that_is_given(self, server_type: Any, client_type: Any) -> None:
        server_context, client_context = certificates()
        async with server_type[u32].bind("127.0.0.1:0", ssl=server_context) as server:
            for options in ({"addr": ("localhost", 1)}, {"server_hostname": "localhost"}, {}):
                sock = socket.create_connection(server.local_addr())
                async with client_type[u32].connect(sock=sock, ssl=client_context, **options):
                    await server.wait_clients(1)
                await until(lambda: server.client_count() == 0)
            sock = socket.create_connection(server.local_addr())
            with pytest.raises(IoError):
                await client_type[u32].connect(sock=sock, ssl=client_context, server_hostname="other.example")

    def test_what_is_refused_at_the_call(self, server_type: Any, client_type: Any) -> None:
        connect = client_type[u32].connect
        with socket.socket() as sock:
            with pytest.raises(TypeError, match="an address is missing"):
                connect()
            with pytest.raises(ValueError, match="not connected"):
                connect(sock=sock)
            with pytest.raises(ValueError, match="server_hostname is given without TLS"):
                connect("h:1", server_hostname="h")
            with pytest.raises(ValueError, match="server_hostname is ''"):
                connect("h:1", ssl=True, server_hostname="")
            with pytest.raises(ValueError, match="on this machine"):
                connect("unix:/x", proxy="http://p:1")
        a, b = socket.socketpair()
        with a, b, pytest.raises(ValueError, match="a connected sock"):
            connect(sock=a, proxy="http://p:1")


async def test_a_stream_takes_no_socket() -> None:
    """It could be used once."""
    a, b = socket.socketpair()
    with a, b, pytest.raises(TypeError, match="sock"):
        WsClient[u32].stream("h:1", sock=a)  # type: ignore[call-arg]


async def test_server_hostname() -> None:
    server_context, client_context = certificates()
    async with WsServer[u32].bind("127.0.0.1:0", ssl=server_context) as server:
        port = server.local_addr().port
        url = f"wss://127.0.0.2:{port}"  # no name in the certificate
        listener = socket.create_connection(server.local_addr())
        with pytest.raises(IoError):
            await WsClient[u32].connect(url, sock=listener, ssl=client_context)
        async with WsClient[u32].connect(
            url,
            sock=socket.create_connection(server.local_addr()),
            ssl=client_context,
            server_hostname="localhost",
        ):
            await server.wait_clients(1)


# --- proxies -----------------------------------------------------------------------------------


class HttpProxy:
    """A proxy as small as one can be: heads that came, and tunnels."""

    def __init__(self, answer: bytes | None) -> None:
        self.heads: list[bytes] = []
        self.answer = answer
        self.target: Any = None
        self.address: Any = None
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address[1]}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.answer is not None:
                writer.write(self.answer)
                if not self.answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"2"):
                    await writer.drain()
                    return
            else:
                await reader.read()
                return
            there = await asyncio.open_connection(*self.target)
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()


@contextlib.asynccontextmanager
async def proxying(
    target: Any, answer: bytes | None = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 p\r\n\r\n"
) -> AsyncIterator[HttpProxy]:
    proxy = HttpProxy(answer)
    proxy.target = tuple(target)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.tasks.add(task)
        await proxy.serve(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.address = listening.sockets[0].getsockname()
    try:
        yield proxy
    finally:
        listening.close()
        if proxy.tasks:
            await asyncio.wait(proxy.tasks)
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no", "ws", "wss"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@both
class TestProxy:
    async def test_explicit(self, server_type: Any, client_type: Any) -> None:
        """The proxy resolves the name. The TCP server speaks first: no byte of its is lost."""
        async with server_type[u32].bind(
            "127.0.0.1:0", on_connect=lambda peer: peer.send_nowait(1)
        ) as server:
            async with proxying(server.local_addr()) as proxy:
                async with client_type[u32].connect("far.example:8765", proxy=proxy.url) as client:
                    assert await client.recv() == 1
                    await server.send(5)
                    assert await client.recv() == 5
        assert proxy.heads == [b"CONNECT far.example:8765 HTTP/1.1\r\nHost: far.example:8765\r\n\r\n"]

    async def test_with_tls(self, server_type: Any, client_type: Any) -> None:
        server_context, client_context = certificates()
        async with server_type[u32].bind("127.0.0.1:0", ssl=server_context) as server:
            async with proxying(server.local_addr()) as proxy:
                async with client_type[u32].connect(
                    "localhost:8765", ssl=client_context, proxy=proxy.url
                ) as client:
                    await server.wait_clients(1)
                    await server.send(5)
                    assert await client.recv() == 5

    async def test_its_password(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0") as server:
            async with proxying(server.local_addr()) as proxy:
                url = proxy.url.replace("//", "//me:s%40crt@")
                async with client_type[u32].connect("[2001:db8::1]:8765", proxy=url):
                    pass
        assert b"CONNECT [2001:db8::1]:8765 HTTP/1.1\r\n" in proxy.heads[0]
        token = base64.b64encode(b"me:s@crt")
        assert b"\r\nProxy-Authorization: Basic " + token + b"\r\n" in proxy.heads[0]

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407 .*user:password"),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy answered 403 Forbidden"),
            (b"HTTP/1.1 502 \x1b[31mBad\r\n\r\n", r"the proxy answered 502 \?\[31mBad"),
            (b"SSH-2.0-OpenSSH\r\n\r\nHTTP/1.1 ", "not from an HTTP proxy"),
            (b"HTTP/1.1 3x0 A\r\n\r\n", "not from an HTTP proxy"),
            (b"HTTP/1.1 502 A\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", "over 16384 bytes"),
            (b"HTTP/1.1 502", "the proxy closed the connection|reset"),
        ],
    )
    async def test_it_refuses(self, server_type: Any, client_type: Any, answer: bytes, words: str) -> None:
        async with proxying(("127.0.0.1", 1), answer) as proxy:
            url = proxy.url.replace("//", "//me:s3cret@")
            with pytest.raises(IoError, match=words) as caught:
                await client_type[u32].connect("far.example:1", proxy=url)
            assert f"connect to far.example:1 by the proxy {proxy.url}" in str(caught.value)
            assert "s3cret" not in repr(caught.value) + str(caught.value)

    async def test_interim_answers_are_skipped(self, server_type: Any, client_type: Any) -> None:
        answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        async with (
            server_type[u32].bind("127.0.0.1:0") as server,
            proxying(server.local_addr(), answer) as proxy,
        ):
            async with client_type[u32].connect("far.example:1", proxy=proxy.url):
                await server.wait_clients(1)

    async def test_it_says_nothing(self, server_type: Any, client_type: Any) -> None:
        async with proxying(("127.0.0.1", 1), None) as proxy:
            with pytest.raises(TimeoutError, match="waiting for the proxy's answer"):
                await client_type[u32].connect("far.example:1", proxy=proxy.url, open_timeout=0.2)

    async def test_it_is_not_there(self, server_type: Any, client_type: Any) -> None:
        with pytest.raises(ConnectionRefusedError, match=r"by the proxy http://127\.0\.0\.1:1"):
            await client_type[u32].connect("far.example:1", proxy="127.0.0.1:1")

    def test_what_is_no_proxy(self, server_type: Any, client_type: Any) -> None:
        for url in (
            "socks5://h:1",
            "https://h:1",
            "http://",
            "http://h:x",
            "http://me:s3cret@h:1/p",
            "http://h h",
        ):
            with pytest.raises(ValueError, match=r'^proxy .*expected "http://host:port"') as caught:
                client_type[u32].connect("far.example:1", proxy=url)
            assert "s3cret" not in str(caught.value)


class TestTheEnvironment:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    async def test_a_proxy_is_used(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server, proxying(server.local_addr()) as proxy:
            monkeypatch.setenv(name, proxy.url)
            async with WsClient[u32].connect("ws://far.example/"):
                await server.wait_clients(1)
            assert proxy.heads[0].startswith(b"CONNECT far.example:80 ")

    async def test_that_of_tls_is_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server_context, client_context = certificates()
        async with WsServer[u32].bind("127.0.0.1:0", ssl=server_context) as server:
            async with proxying(server.local_addr()) as proxy:
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
                monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
                async with WsClient[u32].connect(
                    "wss://far.example/", ssl=client_context, server_hostname="localhost"
                ):
                    await server.wait_clients(1)

    @pytest.mark.parametrize("no_proxy", ["far.example", "*", ".example", "far.example:80"])
    async def test_no_proxy(self, monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            resolves_to(monkeypatch, (*TCP4, tuple(server.local_addr())))
            async with WsClient[u32].connect("ws://far.example/"):
                await server.wait_clients(1)

    async def test_none_and_false_switch_it_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            resolves_to(monkeypatch, (*TCP4, tuple(server.local_addr())))
            for proxy in (None, False):
                async with WsClient[u32].connect("ws://far.example/", proxy=proxy):
                    await server.wait_clients(1)

    async def test_this_machine_is_reached_directly(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        async with WsServer[u32].bind("localhost:0") as server:
            port = server.local_addr().port
            for host in ("localhost", "127.0.0.1"):
                async with WsClient[u32].connect((host, port)):
                    pass
        async with (
            WsServer[u32].bind(f"unix:{tmp_path}/s") as server,
            WsClient[u32].connect(server.local_addr()),
        ):
            pass

    async def test_a_tcp_client_does_not_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        async with Server[u32].bind("127.0.0.1:0") as server:
            resolves_to(monkeypatch, (*TCP4, tuple(server.local_addr())))
            async with Client[u32].connect("far.example:1"):
                await server.wait_clients(1)

    async def test_a_kind_that_is_not_spoken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Going past it would be worse than to say so."""
        monkeypatch.setenv("ALL_PROXY", "socks5://me:s3cret@h:1")
        with pytest.raises(ValueError, match=r"ALL_PROXY is .*proxy=None connects without") as caught:
            await WsClient[u32].connect("ws://far.example/")
        assert "s3cret" not in str(caught.value)

    async def test_a_stream_takes_the_option(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server, proxying(server.local_addr()) as proxy:
            async with WsClient[u32].stream("ws://far.example/", proxy=proxy.url) as values:
                reading = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                await server.send(3)
                assert await reading == 3
            assert len(proxy.heads) == 1


# --- certificates of clients -------------------------------------------------------------------


def mutual() -> tuple[ssl.SSLContext, Callable[..., ssl.SSLContext]]:
    import trustme

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    authority.configure_trust(server)

    def client(name: str | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        if name is not None:
            authority.issue_cert(name).configure_cert(context)
        return context

    return server, client


@both
class TestPeerCertificate:
    async def test_it_is_what_getpeercert_gives(self, server_type: Any, client_type: Any) -> None:
        server_context, client_context = mutual()
        server_context.verify_mode = ssl.CERT_OPTIONAL
        async with server_type[u32].bind("127.0.0.1:0", ssl=server_context) as server:
            async with client_type[u32].connect(server.local_addr(), ssl=client_context("robot.example")):
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.peer_certificate["subjectAltName"] == (("DNS", "robot.example"),)
                if peer.request is not None:
                    assert peer.request.peer_certificate == peer.peer_certificate
            await until(lambda: server.client_count() == 0)
            assert peer.peer_certificate["subjectAltName"] == (("DNS", "robot.example"),)
            async with client_type[u32].connect(server.local_addr(), ssl=client_context(None)):
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.peer_certificate is None

    async def test_without_tls(self, server_type: Any, client_type: Any) -> None:
        async with (
            server_type[u32].bind("127.0.0.1:0") as server,
            client_type[u32].connect(server.local_addr()),
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            assert peer.peer_certificate is None
            assert peer.request is None or peer.request.peer_certificate is None


async def test_authorize_by_certificate() -> None:
    server_context, client_context = mutual()
    server_context.verify_mode = ssl.CERT_REQUIRED

    def authorize(request: Any) -> bool:
        names = request.peer_certificate["subjectAltName"]
        return ("DNS", "robot.example") in names

    async with WsServer[u32].bind("127.0.0.1:0", ssl=server_context, authorize=authorize) as server:
        async with WsClient[u32].connect(server.local_addr(), ssl=client_context("robot.example")):
            await server.wait_clients(1)
        from deli_com import WebSocketError

        with pytest.raises(WebSocketError, match="403"):
            await WsClient[u32].connect(server.local_addr(), ssl=client_context("other.example"))
