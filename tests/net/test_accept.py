"""net/accept_loop.py: the accept loop, above all when file descriptors run out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from handshakes import accepting
from helpers import PLAIN_HEAD, SLOW, RawPeer, certificates, open_descriptors, open_sockets, until

from deli_com import Server, WsServer, u32
from deli_com.net import accept_loop as accept_module
from deli_com.net import accepted as accepted_module
from deli_com.net.accept_loop import AcceptLoop
from deli_com.net.accepted import Accepted, accept_from, is_supported


@contextlib.contextmanager
def few_descriptors(left: int) -> Iterator[list[int]]:
    """Let this process open `left` more descriptors, no others; yields fillers that may be closed early."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(fillers.pop())
        yield fillers
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in fillers:
            os.close(number)


async def connecting(address: tuple[str, int], peers: list[RawPeer]) -> None:
    for peer in peers:
        await asyncio.get_running_loop().sock_connect(peer.sock, tuple(address))


def unconnected(count: int) -> list[RawPeer]:
    """Sockets made while descriptors were there."""
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.setblocking(False)
    return [RawPeer(sock) for sock in socks]


@pytest.mark.parametrize("kind", [WsServer, Server])
def test_a_server_of_an_ended_loop_leaves_no_descriptor(kind: Any) -> None:
    """Nobody has closed it; with its last reference goes all that it has opened."""

    async def body() -> Any:
        return await kind[u32].bind("127.0.0.1:0")

    before = open_descriptors()
    for _ in range(3):
        with asyncio.Runner() as runner, warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            server = runner.run(body())
            runner.close()
            del server
            gc.collect()
    assert open_descriptors() == before


class TestOutOfDescriptors:
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_waiting_costs_little_and_ends(self, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
        """Clients that cannot be served are closed at once, with little CPU; service resumes within 2 s."""
        async with accepting(tls=tls) as served:
            peers = unconnected(60)
            with few_descriptors(left=3) as fillers:
                await connecting(served.address, peers)
                # 3 get a descriptor, the others are told by the end of stream.
                ended = [asyncio.create_task(ends(peer)) for peer in peers]
                await until(lambda: sum(task.done() for task in ended) == 57)
                assert served.acceptor.handshakes == 3

                cpu = time.process_time()
                await asyncio.sleep(1.0)  # the span that is measured
                used = time.process_time() - cpu
                assert used < 0.1 * SLOW, f"{used:.3f} s of CPU in 1 s"
                records = [record for record in caplog.records if record.name == "deli_com.server"]
                assert 1 <= len(records) <= 10
                assert all(record.levelno == logging.WARNING for record in records)
                assert "Too many open files" in records[0].getMessage()

                for number in fillers:
                    os.close(number)
                fillers.clear()
                started = time.monotonic()
                peer = await RawPeer.open(served.address, ssl=served.tls)
                await peer.send(PLAIN_HEAD)
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                assert time.monotonic() - started < 2 * SLOW
                peer.close()
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
            for one in peers:
                one.close()

    async def test_a_flood_of_attempts(self, caplog: pytest.LogCaptureFixture) -> None:
        """Peers that try again at once neither take the CPU nor fill the log."""
        async with accepting() as served:
            peers = unconnected(200)
            with few_descriptors(left=0):
                started, cpu = time.monotonic(), time.process_time()
                loop = asyncio.get_running_loop()
                for peer in peers:
                    await asyncio.sleep(0.005)
                    await loop.sock_connect(peer.sock, tuple(served.address))
                wall = time.monotonic() - started
                assert time.process_time() - cpu < 0.5 * wall * SLOW  # mostly this test's own work
                assert len(caplog.records) <= 5 * (wall + 1)
                assert served.acceptor.handshakes == 0
            for peer in peers:
                peer.close()
            peer = await RawPeer.open(served.address)
            await peer.send(PLAIN_HEAD)
            await peer.read_until(b"\r\n\r\n")
            peer.close()

    async def test_the_last_descriptor_is_no_alarm(self, caplog: pytest.LogCaptureFixture) -> None:
        """EMFILE with nobody waiting: no record, no pause."""
        async with accepting() as served:
            peers = unconnected(1)
            with few_descriptors(left=1):
                await connecting(served.address, peers)
                await until(lambda: served.acceptor.handshakes == 1)
                await peers[0].send(PLAIN_HEAD)
                assert (await peers[0].read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                assert served.acceptor._accept_loops[0]._timer is None
            assert not caplog.records
            peers[0].close()


async def ends(peer: RawPeer) -> None:
    with contextlib.suppress(ConnectionResetError):
        await peer.read_all()


class Listener:
    """A listening socket whose accept fails as it is told."""

    def __init__(self, *errors: int) -> None:
        self.inner = socket.create_server(("127.0.0.1", 0))
        self.inner.setblocking(False)
        self.errors = list(errors)

    def accept(self) -> Any:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self.inner.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETUNREACH])
    async def test_of_one_connection(self, number: int, caplog: pytest.LogCaptureFixture) -> None:
        """accept(2): the next connection may be good, and is tried in the same turn."""
        await self.accept_after(number, number)
        assert not caplog.records

    @pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
    async def test_of_the_system(self, number: int, caplog: pytest.LogCaptureFixture) -> None:
        """A record, a pause, and another try."""
        await self.accept_after(number, number)
        assert len(caplog.records) == 2
        assert os.strerror(number) in caplog.text

    @staticmethod
    async def accept_after(*errors: int) -> None:
        listener: Any = Listener(*errors)
        got: list[socket.socket] = []
        loop = AcceptLoop(asyncio.get_running_loop(), listener, got.append)
        client = socket.create_connection(listener.getsockname())
        await until(lambda: got)
        assert not got[0].getblocking()
        loop.close()
        client.close()
        got[0].close()

    async def test_close_while_it_rests(self) -> None:
        """The timer goes, the socket is closed, and a second close does nothing."""
        listener: Any = Listener(errno.ENOMEM)
        loop = AcceptLoop(asyncio.get_running_loop(), listener, lambda sock: None)
        client = socket.create_connection(listener.getsockname())
        await until(lambda: loop._timer)
        loop.close()
        loop.close()
        assert listener.fileno() == -1
        assert loop._timer is None
        client.close()

    async def test_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No more than so many in a turn of the loop; the others follow."""
        monkeypatch.setattr(accept_module, "ACCEPTS_A_TURN", 3)
        listener: Any = Listener()
        got: list[socket.socket] = []
        running = asyncio.get_running_loop()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(10)]
        loop = AcceptLoop(running, listener, got.append)
        inner = loop._ready
        counts: list[int] = []
        running.remove_reader(listener.fileno())

        def ready() -> None:
            before = len(got)
            inner()
            counts.append(len(got) - before)

        running.add_reader(listener.fileno(), ready)
        await until(lambda: len(got) == 10)
        assert counts[:4] == [3, 3, 3, 1]
        loop.close()
        for sock in clients + got:
            sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="accept4 is used on Linux only")
class TestAccepted:
    """A socket of Python's own accepts by one system call."""

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            yield listener

    @staticmethod
    def accept(listener: socket.socket) -> Accepted | None:
        kind = listener.type | socket.SOCK_NONBLOCK
        return accept_from(listener.fileno(), listener.family, kind, listener.proto)

    def test_it_is_as_one_that_python_accepts(self, listener: socket.socket) -> None:
        with socket.create_connection(listener.getsockname()) as client, contextlib.ExitStack() as stack:
            made = self.accept(listener)
            assert made is not None
            stack.enter_context(made)
            with socket.create_connection(listener.getsockname()):
                other = stack.enter_context(listener.accept()[0])
                other.setblocking(False)
            for name in ("family", "type", "proto"):
                assert getattr(made, name) == getattr(other, name)
            assert made.gettimeout() == 0.0
            assert not os.get_blocking(made.fileno())
            assert not made.get_inheritable()
            assert made.getpeername() == client.getsockname()

    def test_its_family_is_no_enum(self, listener: socket.socket) -> None:
        """Transports ask three times, and each time an enum is made of a number anew."""
        with socket.create_connection(listener.getsockname()):
            made = self.accept(listener)
        assert made is not None
        with made:
            assert type(made.family) is type(made.type) is int

    def test_none_waits(self, listener: socket.socket) -> None:
        """No exception: making one takes as long as the accept."""
        assert self.accept(listener) is None

    def test_errors(self) -> None:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            accept_from(-1, socket.AF_INET, socket.SOCK_STREAM, 0)
        assert caught.value.errno == errno.EBADF

    def test_a_socket_that_cannot_be_made_leaves_no_descriptor(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object) -> None:
            raise MemoryError

        with socket.create_connection(listener.getsockname()) as client:
            before = open_descriptors()
            monkeypatch.setattr(accepted_module, "Accepted", fail)
            with pytest.raises(MemoryError):
                self.accept(listener)
            assert open_descriptors() == before
            assert client.recv(1) == b""

    async def test_the_loop_uses_it(self, listener: socket.socket) -> None:
        got: list[socket.socket] = []
        loop = AcceptLoop(asyncio.get_running_loop(), listener, got.append)
        with socket.create_connection(listener.getsockname()):
            await until(lambda: got)
        loop.close()
        with got.pop() as made:
            assert type(made) is Accepted

    def test_sockets_of_other_classes_accept_by_themselves(self, listener: socket.socket) -> None:
        class Other(socket.socket):
            pass

        assert is_supported(listener)
        with Other(fileno=listener.detach()) as other:
            assert not is_supported(other)


@pytest.mark.parametrize("kind", [WsServer, Server])
@pytest.mark.parametrize("options", ["tls", "proxy", "both"])
async def test_close_in_the_turn_of_an_accept(kind: Any, options: str) -> None:
    """The task that would read what comes ahead of the protocol is cancelled before its first step."""
    context = None if options == "proxy" else certificates()[0]
    proxies = None if options == "tls" else True
    before = open_sockets()
    server = await kind[u32].bind("127.0.0.1:0", ssl=context, proxy_protocol=proxies)
    acceptor = getattr(server._acceptor, "_acceptor", server._acceptor)
    (accepting,) = acceptor._accept_loops
    with socket.create_connection(server.local_addr()) as client:
        accepting._ready()
        assert acceptor._tasks
        async with asyncio.timeout(5 * SLOW):
            await server.close()
        client.settimeout(5 * SLOW)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    await until(lambda: open_sockets() == before)
