"""The PROXY protocol: load balancers send the client's address, and only trusted ones may."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, certificates, until

from deli_com import Client, Server, WsClient, WsServer, u32
from deli_com.net.address import Address
from deli_com.net.proxy_protocol import SIGNATURE, HeaderMissing, read_header, trusts

PAIRS: list[Any] = [pytest.param(WsServer, WsClient, id="ws"), pytest.param(Server, Client, id="tcp")]
both = pytest.mark.parametrize(("server_type", "client_type"), PAIRS)

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n"


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


FOUR = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack(">HH", 4321, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack(">HH", 4321, 443)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + struct.pack(">HH", 4321, 443)
UNIX = b"/run/x".ljust(108, b"\0") * 2
TLV = struct.pack(">BH", 0x04, 3) + b"abc"

GOOD: list[Any] = [
    (V1, Address("192.0.2.7", 4321)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n", Address("2001:db8::7", 4321)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4321 443\r\n", Address("192.0.2.7", 4321)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 4321 443\r\n", None),
    (v2(0x21, 0x11, FOUR), Address("192.0.2.7", 4321)),
    (v2(0x21, 0x11, FOUR + TLV), Address("192.0.2.7", 4321)),
    (v2(0x21, 0x21, SIX), Address("2001:db8::7", 4321)),
    (v2(0x21, 0x21, MAPPED), Address("192.0.2.7", 4321)),
    (v2(0x21, 0x31, UNIX), Address("unix:/run/x", 0)),
    (v2(0x20, 0x11, FOUR), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x21, 0x00, TLV), None),
    (v2(0x21, 0x12, FOUR), None),
]
BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01" + b"\0" * 20,
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4321\r\n",
    b"PROXY TCP4 192.0.2.700 198.51.100.1 4321 443\r\n",
    b"PROXY TCP4 2001:db8::7 198.51.100.1 4321 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
    b"PROXY TCP9 192.0.2.7 198.51.100.1 4321 443\r\n",
    b"PROXY UNKNOWN" + b"x" * 200 + b"\r\n",
    v2(0x31, 0x11, FOUR),
    v2(0x22, 0x11, FOUR),
    v2(0x21, 0x11, FOUR[:8]),
    v2(0x21, 0x21, FOUR),
    v2(0x21, 0x31, FOUR),
    v2(0x21, 0x11, FOUR + b"\0" * 5000),
]


class TestReading:
    @pytest.mark.parametrize(("header", "address"), GOOD)
    @pytest.mark.parametrize("piecewise", [False, True])
    async def test_good(self, header: bytes, address: Any, piecewise: bool) -> None:
        """Not one byte behind the header is taken."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            reading = asyncio.ensure_future(read_header(loop, ours))
            for start in range(0, len(header), 1 if piecewise else len(header)):
                theirs.send(header[start : start + 1] if piecewise else header)
                await asyncio.sleep(0)
            theirs.send(b"rest")
            assert await reading == address
            assert await loop.sock_recv(ours, 100) == b"rest"

    @pytest.mark.parametrize("header", BAD)
    async def test_bad(self, header: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(header)
            with pytest.raises(HeaderMissing):
                await read_header(asyncio.get_running_loop(), ours)

    @pytest.mark.parametrize(("header", "_"), GOOD[:6])
    async def test_cut(self, header: bytes, _: Any) -> None:
        for size in range(len(header) - 1):
            ours, theirs = socket.socketpair()
            with ours:
                ours.setblocking(False)
                theirs.send(header[:size])
                theirs.close()
                with pytest.raises(EOFError):
                    await read_header(asyncio.get_running_loop(), ours)


class TestTrust:
    @pytest.mark.parametrize(
        ("host", "is_trusted"),
        [("127.0.0.1", True), ("::1", True), ("unix:", True), ("10.0.0.1", False), ("fe80::1%lo", False)],
    )
    def test_true_is_this_machine(self, host: str, is_trusted: bool) -> None:
        assert trusts(True, Address(host, 1)) == is_trusted

    def test_networks(self) -> None:
        import ipaddress

        networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fe80::/10"))
        assert trusts(networks, Address("10.1.2.3", 1))
        assert trusts(networks, Address("::ffff:10.1.2.3", 1))
        assert trusts(networks, Address("fe80::1%eth0", 1))
        assert not trusts(networks, Address("127.0.0.1", 1))
        assert not trusts(networks, Address("unix:", 0))
        assert not trusts(networks, None)
        assert not trusts(None, Address("127.0.0.1", 1))

    @pytest.mark.parametrize(
        "value", ["10.0.0.0/8", ["10.0.0.0/33"], ["10.0.0.1/8"], ["host"], [1], 1, object()]
    )
    def test_what_is_no_network(self, value: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=r"^proxy_protocol "):
            WsServer[u32].bind("127.0.0.1:0", proxy_protocol=value)


async def behind(address: Any, header: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, tuple(address))
    await loop.sock_sendall(sock, header)
    return sock


@both
class TestServing:
    @pytest.mark.parametrize("trust", [True, ["127.0.0.0/8"]])
    @pytest.mark.parametrize("header", [V1, v2(0x21, 0x11, FOUR)])
    async def test_the_client_is_who_it_is_said_to_be(
        self, server_type: Any, client_type: Any, trust: Any, header: bytes
    ) -> None:
        async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=trust) as server:
            sock = await behind(server.local_addr(), header)
            async with client_type[u32].connect(sock=sock) as client:
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.remote_addr == Address("192.0.2.7", 4321)
                assert peer.request is None or peer.request.remote == peer.remote_addr
                await server.send(3)
                assert await client.recv() == 3

    async def test_with_tls(self, server_type: Any, client_type: Any) -> None:
        """The header comes ahead of it."""
        server_context, client_context = certificates()
        async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=True, ssl=server_context) as server:
            sock = await behind(server.local_addr(), V1)
            async with client_type[u32].connect(sock=sock, ssl=client_context):
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.remote_addr == Address("192.0.2.7", 4321)

    async def test_local_is_the_balancer_itself(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=True) as server:
            for header in (v2(0x20, 0, b""), b"PROXY UNKNOWN\r\n"):
                sock = await behind(server.local_addr(), header)
                async with client_type[u32].connect(sock=sock):
                    await server.wait_clients(1)
                    (peer,) = server.clients
                    assert peer.remote_addr.host == "127.0.0.1"
                await until(lambda: server.client_count() == 0)

    async def test_a_look_whether_we_are_there(
        self, server_type: Any, client_type: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Connects and leaves: nothing to tell."""
        async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=True) as server:
            with caplog.at_level(logging.INFO):
                (await behind(server.local_addr(), b"")).close()
                (await behind(server.local_addr(), V1[:14])).close()
                sock = await behind(server.local_addr(), V1)
                async with client_type[u32].connect(sock=sock):
                    await server.wait_clients(1)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    async def test_who_says_nothing_is_bounded_and_dropped_at_close(
        self, server_type: Any, client_type: Any
    ) -> None:
        async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=True) as server:
            sock = await behind(server.local_addr(), V1[:14])
            await asyncio.sleep(0.05)
        with sock:
            assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""

    async def test_others_connect_as_ever(self, server_type: Any, client_type: Any) -> None:
        """From an address that is no balancer's."""
        async with (
            server_type[u32].bind("127.0.0.1:0", proxy_protocol=["192.0.2.0/24"]) as server,
            client_type[u32].connect(server.local_addr()),
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            assert peer.remote_addr.host == "127.0.0.1"


class TestRefusing:
    async def test_from_a_trusted_address_it_is_required(self, caplog: pytest.LogCaptureFixture) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", proxy_protocol=True) as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(PLAIN_HEAD)
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"a PROXY protocol header must come first" in answer
            peer.close()
            assert server.stats().turned_away == {400: 1}
        assert "proxy_protocol" in caplog.text

    async def test_it_is_required_with_tls_and_over_tcp(self, caplog: pytest.LogCaptureFixture) -> None:
        server_context, _ = certificates()
        cases: list[tuple[Any, ssl.SSLContext | None]] = [
            (WsServer, server_context),
            (Server, server_context),
            (Server, None),
        ]
        for server_type, context in cases:
            caplog.clear()
            async with server_type[u32].bind("127.0.0.1:0", proxy_protocol=True, ssl=context) as server:
                peer = await RawPeer.open(server.local_addr())
                await peer.send(b"\x16\x03\x01" + b"x" * 20)
                try:
                    assert await peer.read_all() == b""
                except ConnectionError:
                    pass
                peer.close()
            assert "a PROXY protocol header must come first" in caplog.text

    @pytest.mark.parametrize("trust", [None, ["192.0.2.0/24"]])
    @pytest.mark.parametrize("header", [V1, v2(0x21, 0x11, FOUR), SIGNATURE[:9]])
    async def test_from_any_other_it_is_400(
        self, caplog: pytest.LogCaptureFixture, trust: Any, header: bytes
    ) -> None:
        """Without the option one WARNING names it, once."""
        async with WsServer[u32].bind("127.0.0.1:0", proxy_protocol=trust) as server:
            for _ in range(2):
                peer = await RawPeer.open(server.local_addr())
                await peer.send(header)
                assert (await peer.read_all()).startswith(b"HTTP/1.1 400 ")
                peer.close()
        named = [record for record in caplog.records if "proxy_protocol=['127.0.0.1']" in record.getMessage()]
        assert len(named) == (1 if trust is None else 0)

    @pytest.mark.parametrize("header", [V1, v2(0x21, 0x11, FOUR)])
    async def test_over_tcp_it_is_no_message(self, caplog: pytest.LogCaptureFixture, header: bytes) -> None:
        async with Server[u32].bind("127.0.0.1:0") as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(header)
            try:
                assert await peer.read_all() == b""
            except ConnectionError:
                pass
            peer.close()
        assert "proxy_protocol=" in caplog.text

    @both
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("header", [V1, v2(0x21, 0x11, FOUR)])
    async def test_one_warning_for_a_port(
        self,
        server_type: Any,
        client_type: Any,
        secure: bool,
        header: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It names the option, also where TLS would be the first to read; good clients are served as ever."""
        tls, trusting = certificates() if secure else (None, None)
        async with server_type[u32].bind("127.0.0.1:0", ssl=tls) as server:
            for _ in range(4):
                peer = await RawPeer.open(server.local_addr())
                await peer.send(header + b"\x16\x03\x01\x02\x00\x01" + bytes(20))
                with contextlib.suppress(ConnectionError):
                    await peer.read_all()
                peer.close()
            async with client_type[u32].connect(
                ("localhost", server.local_addr().port), ssl=trusting
            ) as client:
                await server.wait_clients(1)
                await server.send(7)
                assert await client.recv() == 7
        warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert len(warnings) == 1 and "proxy_protocol=" in warnings[0]

    async def test_a_warning_of_tls_with_callbacks(self, caplog: pytest.LogCaptureFixture) -> None:
        """Their engine is another."""
        tls, trusting = certificates.__wrapped__()  # of its own: those of all tests have no callback
        tls.sni_callback = lambda *_: None
        async with WsServer[u32].bind("127.0.0.1:0", ssl=tls) as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(V1)
            with contextlib.suppress(ConnectionError):
                await peer.read_all()
            peer.close()
            async with WsClient[u32].connect(("localhost", server.local_addr().port), ssl=trusting):
                await server.wait_clients(1)
        assert "proxy_protocol=['127.0.0.1']" in caplog.text

    async def test_time_is_up(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", proxy_protocol=True, open_timeout=0.1) as server:
            sock = await behind(server.local_addr(), V1[:14])
            with sock:
                assert await asyncio.get_running_loop().sock_recv(sock, 10) == b""
