"""Where a server listens: every address of a name, Unix paths, sockets that the user made."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from namespace import in_namespace, why_no_namespace

from deli_com import Client, IoError, Server, WsClient, WsServer, serve_background, u32
from deli_com.net import unix_socket
from deli_com.net.address import Address
from deli_com.net.listener import open_listener

PAIRS: list[Any] = [pytest.param(WsServer, WsClient, id="ws"), pytest.param(Server, Client, id="tcp")]
both = pytest.mark.parametrize(("server_type", "client_type"), PAIRS)
needs_namespace = pytest.mark.skipif(why_no_namespace() is not None, reason=str(why_no_namespace()))


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not _has_v6(), reason="this machine has no ::1")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short one: the path of a socket has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="dc") as name:
        yield Path(name)


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """``both.example`` is ::1 and 127.0.0.1, as localhost is on many machines."""

    async def resolve(address: Address, *, passive: bool = False) -> Any:
        tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        six = (socket.AF_INET6, *tcp, ("::1", address.port, 0, 0))
        four = (socket.AF_INET, *tcp, ("127.0.0.1", address.port))
        return [six, four, four]

    monkeypatch.setattr("deli_com.net.listener.resolve", resolve)


async def talk(server: Any, client: Any) -> Any:
    """One value each way; returns the server's peer."""
    await server.wait_clients(1)
    await server.send(7)
    assert await client.recv() == 7
    await client.send(8)
    peer, value = await server.recv_from()
    assert value == 8
    return peer


@needs_v6
@pytest.mark.usefixtures("two_addresses")
class TestEveryAddress:
    @both
    async def test_one_port_for_all(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("both.example:0") as server:
            hosts = [address.host for address in server.local_addrs()]
            assert hosts == ["::1", "127.0.0.1"]
            assert len({address.port for address in server.local_addrs()}) == 1
            assert server.local_addr() == server.local_addrs()[0]
            for address in server.local_addrs():
                async with client_type[u32].connect(address) as client:
                    peer = await talk(server, client)
                    assert peer.remote_addr.host == address.host
        for address in server.local_addrs():
            with pytest.raises(ConnectionRefusedError):
                await client_type[u32].connect(address)

    async def test_a_port_that_one_of_them_has_in_use(self) -> None:
        """All or nothing, and nothing is left open."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
            with pytest.raises(IoError) as caught:
                await WsServer[u32].bind(("both.example", port))
            assert caught.value.errno == errno.EADDRINUSE
            with socket.socket(socket.AF_INET6) as other:
                other.bind(("::1", port))  # free again

    async def test_port_0_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel's choice for the first address may be in use at the second."""
        real, calls = socket.socket.bind, []

        def bind(sock: socket.socket, address: Any) -> None:
            calls.append(address)
            if len(calls) == 2:
                raise OSError(errno.EADDRINUSE, "in use")
            real(sock, address)

        class Socket(socket.socket):
            def bind(self, address: Any) -> None:
                bind(self, address)

        monkeypatch.setattr("deli_com.net.listener.socket.socket", Socket)
        listener = await open_listener("both.example:0")
        assert len(calls) == 4
        assert len({address.port for address in listener.addresses}) == 1
        listener.close()

    async def test_an_address_that_this_machine_lacks_is_left_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def resolve(address: Address, *, passive: bool = False) -> Any:
            tcp = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*tcp, ("192.0.2.1", address.port)), (*tcp, ("127.0.0.1", address.port))]

        monkeypatch.setattr("deli_com.net.listener.resolve", resolve)
        async with WsServer[u32].bind("some.example:0") as server:
            assert [address.host for address in server.local_addrs()] == ["127.0.0.1"]

    async def test_a_server_that_shares_the_port_has_all_of_them(self) -> None:
        async with (
            WsServer[u32].bind("both.example:0", path="/a") as a,
            WsServer[u32].bind(a, path="/b") as b,
        ):
            assert b.local_addrs() == a.local_addrs()
            for address in b.local_addrs():
                async with WsClient[u32].connect(address, path="/b") as client:
                    await talk(b, client)

    def test_in_the_background(self) -> None:
        with serve_background(WsServer[u32].bind("both.example:0")) as server:
            assert len(server.local_addrs()) == 2
            assert server.local_addrs()[0] == server.local_addr()


class TestListener:
    async def test_port_0_gets_a_port(self) -> None:
        listener = await open_listener("127.0.0.1:0")
        (sock,) = listener.sockets
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        listener.close()
        listener.close()
        assert sock.fileno() == -1

    async def test_address_in_use(self) -> None:
        """`IoError` with the errno, saying what was being done."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            with pytest.raises(IoError, match=f"bind {server.local_addr()}") as caught:
                await open_listener(server.local_addr())
            assert caught.value.errno == errno.EADDRINUSE

    async def test_port_is_free_again_at_once(self) -> None:
        """A connection in TIME_WAIT does not keep the port."""
        listener = await open_listener("127.0.0.1:0")
        client = socket.create_connection(listener.addresses[0])
        served, _ = listener.sockets[0].accept()
        served.close()  # the side that closes first keeps TIME_WAIT
        client.close()
        listener.close()
        (await open_listener(listener.addresses[0])).close()

    async def test_name_that_does_not_resolve(self) -> None:
        with pytest.raises(IoError, match=r"bind no-such-host\.invalid:0"):
            await open_listener("no-such-host.invalid:0")

    async def test_address_of_another_machine(self) -> None:
        with pytest.raises(IoError, match=r"bind 192\.0\.2\.1:0"):
            await open_listener("192.0.2.1:0")


@both
class TestReusePort:
    async def test_two_servers_at_one_port(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0", reuse_port=True) as first:
            async with server_type[u32].bind(first.local_addr(), reuse_port=True) as second:
                assert second.local_addr() == first.local_addr()
            async with client_type[u32].connect(first.local_addr()) as client:
                await talk(first, client)

    async def test_not_unless_both_ask(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32].bind("127.0.0.1:0", reuse_port=True) as first:
            with pytest.raises(IoError):
                await server_type[u32].bind(first.local_addr())


@both
class TestUnix:
    async def test_there_and_back(self, server_type: Any, client_type: Any, directory: Path) -> None:
        path = directory / "s"
        async with server_type[u32].bind(f"unix:{path}") as server:
            assert str(server.local_addr()) == f"unix:{path}"
            assert server.local_addrs() == (server.local_addr(),)
            assert f"at unix:{path}" in repr(server)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            for address in (server.local_addr(), str(server.local_addr()), f"unix://{path}"):
                async with client_type[u32].connect(address) as client:
                    peer = await talk(server, client)
                    assert str(peer.remote_addr) == "unix:"
        assert not path.exists()

    async def test_many_large_messages(self, server_type: Any, client_type: Any, directory: Path) -> None:
        async with (
            server_type[bytes].bind(f"unix:{directory / 's'}", slow_client="wait") as server,
            client_type[bytes].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            for number in range(20):
                server.send_nowait(bytes([number]) * 300_000)
            for number in range(20):
                assert await client.recv() == bytes([number]) * 300_000

    async def test_the_mode(self, server_type: Any, client_type: Any, directory: Path) -> None:
        """As it is given, whatever the umask."""
        old = os.umask(0o077)
        try:
            async with server_type[u32].bind(f"unix:{directory / 's'}", mode=0o666):
                assert stat.S_IMODE((directory / "s").stat().st_mode) == 0o666
        finally:
            os.umask(old)

    async def test_a_path_in_use(self, server_type: Any, client_type: Any, directory: Path) -> None:
        async with server_type[u32].bind(f"unix:{directory / 's'}") as server:
            with pytest.raises(IoError, match="bind unix:") as caught:
                await server_type[u32].bind(server.local_addr())
            assert caught.value.errno == errno.EADDRINUSE
            async with client_type[u32].connect(server.local_addr()) as client:
                await talk(server, client)

    async def test_a_stale_path_is_replaced(
        self, server_type: Any, client_type: Any, directory: Path
    ) -> None:
        """As a process leaves it that was killed."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(directory / "s"))
        async with (
            server_type[u32].bind(f"unix:{directory / 's'}") as server,
            client_type[u32].connect(server.local_addr()) as client,
        ):
            await talk(server, client)

    async def test_two_that_replace_it_at_once(
        self,
        server_type: Any,
        client_type: Any,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """One gets the path, the other is told, though a path is stale to look at until `listen`."""
        path = directory / "s"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        second: list[Any] = []

        def bind_too() -> None:
            try:
                second.append(unix_socket.listen_at(str(path), 5, None))
            except OSError as error:
                second.append(error)

        other = threading.Thread(target=bind_too)
        chmod = os.chmod

        def between(*args: Any) -> None:
            chmod(*args)
            if not other.ident:
                other.start()
                other.join(0.2)  # it waits for us: without the lock it would be through by now

        monkeypatch.setattr(os, "chmod", between)
        async with server_type[u32].bind(f"unix:{path}") as server:
            other.join()
            (outcome,) = second
            assert isinstance(outcome, OSError) and outcome.errno == errno.EADDRINUSE
            async with client_type[u32].connect(server.local_addr()) as client:
                await talk(server, client)

    async def test_a_busy_server_is_not_stale(
        self, server_type: Any, client_type: Any, directory: Path
    ) -> None:
        """One whose queue is full takes no connection now, but it is there."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(directory / "s"))
            sock.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(str(directory / "s"))
            with pytest.raises(IoError):
                await server_type[u32].bind(f"unix:{directory / 's'}")
            with pytest.raises(TimeoutError):
                await client_type[u32].connect(f"unix:{directory / 's'}", open_timeout=0.1)
            for one in waiting:
                one.close()

    async def test_no_file_is_replaced(self, server_type: Any, client_type: Any, directory: Path) -> None:
        (directory / "s").write_text("precious")
        with pytest.raises(IoError):
            await server_type[u32].bind(f"unix:{directory / 's'}")
        assert (directory / "s").read_text() == "precious"

    async def test_a_path_that_another_has_made_since_stays(
        self, server_type: Any, client_type: Any, directory: Path
    ) -> None:
        async with server_type[u32].bind(f"unix:{directory / 's'}"):
            (directory / "s").unlink()
            (directory / "s").write_text("another's")
        assert (directory / "s").read_text() == "another's"

    @pytest.mark.skipif(os.uname().sysname != "Linux", reason="abstract names are Linux's")
    async def test_an_abstract_name(self, server_type: Any, client_type: Any, directory: Path) -> None:
        async with server_type[u32].bind(f"unix:@{directory}") as server:
            assert str(server.local_addr()) == f"unix:@{directory}"
            async with client_type[u32].connect(server.local_addr()) as client:
                await talk(server, client)

    async def test_nobody_there(self, server_type: Any, client_type: Any, directory: Path) -> None:
        with pytest.raises(IoError, match=f"connect to unix:{directory}/none") as caught:
            await client_type[u32].connect(f"unix:{directory}/none")
        assert caught.value.errno == errno.ENOENT


async def test_a_path_of_http_at_a_path_of_the_machine(directory: Path) -> None:
    async with WsServer[u32].bind(f"unix:{directory / 's'}", path="/live") as server:
        async with WsClient[u32].connect(server.local_addr(), path="/live?x=1") as client:
            peer = await talk(server, client)
            assert (peer.request.path, peer.request.query) == ("/live", "x=1")
            assert peer.request.headers["Host"] == "localhost"
            assert str(peer.request.remote) == "unix:"


@both
class TestSocket:
    async def test_one_that_is_bound(self, server_type: Any, client_type: Any) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        async with (
            server_type[u32].bind(sock=sock) as server,
            client_type[u32].connect(server.local_addr()) as client,
        ):
            assert server.local_addr() == address
            await talk(server, client)
        assert sock.fileno() == -1

    async def test_one_that_listens(self, server_type: Any, client_type: Any, directory: Path) -> None:
        """As systemd hands it over; its path is not ours to remove."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(directory / "s"))
        sock.listen(5)
        async with (
            server_type[u32].bind(sock=sock) as server,
            client_type[u32].connect(server.local_addr()) as client,
        ):
            assert str(server.local_addr()) == f"unix:{directory / 's'}"
            await talk(server, client)
        assert (directory / "s").exists()

    def test_what_is_refused_at_the_call(self, server_type: Any, client_type: Any) -> None:
        bind = server_type[u32].bind
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(TypeError, match="an address is missing"):
                bind()
            if server_type is Server:  # to a WsServer it means no port
                with pytest.raises(TypeError, match="addr is None"):
                    bind(None)
            with pytest.raises(TypeError, match="sock is given, and addr too"):
                bind("127.0.0.1:0", sock=sock)
            with pytest.raises(ValueError, match="not bound"):
                bind(sock=sock)
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match="reuse_port is for a socket that bind makes"):
                bind(sock=sock, reuse_port=True)
            with pytest.raises(ValueError, match="mode is for a socket that bind makes"):
                bind(sock=sock, mode=0o600)
            with pytest.raises(ValueError, match="expected one of TCP"):
                bind(sock=datagrams)
        with pytest.raises(ValueError, match="closed"):
            bind(sock=sock)
        a, b = socket.socketpair()
        with a, b, pytest.raises(ValueError, match="connected"):
            bind(sock=a)

    @pytest.mark.parametrize(
        ("addr", "options", "words"),
        [
            ("127.0.0.1:0", {"mode": 0o600}, "mode is for a path"),
            ("unix:/tmp/x", {"reuse_port": True}, "reuse_port is for a port"),
            ("unix:", {}, "the path is missing"),
            ("unix:@", {}, "the path is missing"),
            ("unix:/a\0b", {}, "no NUL"),
            ("unix:/" + "x" * 200, {}, "at most"),
            ("nowhere", {}, "the port is missing"),
        ],
    )
    def test_what_cannot_be(
        self, server_type: Any, client_type: Any, addr: str, options: Any, words: str
    ) -> None:
        with pytest.raises(ValueError, match=words):
            server_type[u32].bind(addr, **options)


async def test_options_of_the_port_are_refused_where_it_is_shared() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with WsServer[u32].bind("127.0.0.1:0", path="/a") as server:
            for option in (
                {"reuse_port": True},
                {"mode": 0o600},
                {"max_head_bytes": 1000},
                {"proxy_protocol": True},
                {"forwarded_host": True},
                {"forwarded_header": "forwarded"},
                {"sock": sock},
            ):
                (name,) = option
                with pytest.raises(ValueError, match=f"{name} belongs to the port"):
                    WsServer[u32].bind(server, path="/b", **option)  # type: ignore[arg-type]


class TestWhatAnAddressIsCalled:
    @needs_v6
    @both
    async def test_a_mapped_address_is_that_ipv4_address(self, server_type: Any, client_type: Any) -> None:
        """Lists of who may connect are written with it."""
        async with server_type[u32].bind("[::]:0") as server:
            async with client_type[u32].connect(("127.0.0.1", server.local_addr().port)) as client:
                peer = await talk(server, client)
                assert peer.remote_addr.host == "127.0.0.1"
                if peer.request is not None:
                    assert peer.request.remote == peer.remote_addr
        async with server_type[u32].bind("[::ffff:127.0.0.1]:0") as server:
            assert server.local_addr().host == "127.0.0.1"
            async with client_type[u32].connect(server.local_addr()) as client:
                await talk(server, client)

    @needs_namespace
    def test_a_scope_is_kept(self) -> None:
        source = """
import asyncio
from deli_com import Client, Server, WsClient, WsServer, u32

async def main():
    for server_type, client_type in ((WsServer, WsClient), (Server, Client)):
        async with server_type[u32].bind("[fe80::1%v0]:0") as server:
            address = server.local_addr()
            assert address.host == "fe80::1%v0", address
            targets = [address, str(address)]
            if client_type is WsClient:
                targets.append(f"ws://[fe80::1%25v0]:{address.port}/")
            for target in targets:
                async with client_type[u32].connect(target) as client:
                    await server.wait_clients(1)
                    (peer,) = server.clients
                    assert peer.remote_addr.host == "fe80::1%v0", peer
                    if peer.request is not None:
                        assert peer.request.headers["Host"] == f"[fe80::1]:{address.port}"
                        assert peer.request.remote == peer.remote_addr
                    await server.send(1)
                    assert await client.recv() == 1
                while server.client_count():
                    await asyncio.sleep(0.01)
    print("ok")

asyncio.run(main())
"""
        setup = [
            "ip link add v0 type veth peer name v1",
            "ip link set v0 up",
            "ip link set v1 up",
            "ip addr add fe80::1/64 dev v0 nodad",
        ]
        assert in_namespace(source, *setup) == "ok\n"
