"""Helpers for all tests: event loops, time limits, raw sockets, certificates.

How to write a test that needs an event loop (tests/conftest.py does the rest)::

    async def test_something():                 # runs twice: on asyncio and on uvloop
        server = await WsServer[T].bind("127.0.0.1:0")
        ...

    @pytest.mark.loops("asyncio")               # on the named loops only
    @pytest.mark.limit(30)                      # seconds instead of 10, times DELI_COM_TEST_SLOW
    async def test_other(): ...

Each such test runs in its own `asyncio.Runner`. It fails if it exceeds its time limit, if the loop's
exception handler was called, if a task is left, or if a socket is open after the loop is closed. Fixtures are
synchronous; what needs the loop is an async context manager.

Raw peers (a thread-free socket that the test drives byte by byte)::

    peer = await RawPeer.open(address)          # or RawPeer.open(address, ssl=context)
    await peer.send(b"GET / HTTP/1.1\\r\\n...")
    await peer.read_until(b"\\r\\n\\r\\n")          # bytes up to and including; raises EOFError
    await peer.read_all()                       # up to the end of stream
    peer.close()                                # or peer.reset(): RST
    FIREFOX_HEAD, CHROME_HEAD                   # literal heads; PLAIN_HEAD the smallest one

To wait for a state without a fixed sleep, use ``await until(lambda: server.client_count() == 0)``. It turns
the loop until the condition holds, within the test's limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl as ssl_module
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
SLOW = float(
    os.environ.get("DELI_COM_TEST_SLOW", "1")
)  # factor on every limit, for sanitizers and busy machines
LIMIT_S = 10.0

# Copied from the network logs of the browsers. The list in Connection and the extension matter.
FIREFOX_HEAD = (
    b"GET / HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: */*\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Origin: http://127.0.0.1:8000\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-Fetch-Dest: empty\r\n"
    b"Sec-Fetch-Mode: websocket\r\n"
    b"Sec-Fetch-Site: same-site\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Upgrade: websocket\r\n"
    b"\r\n"
)
CHROME_HEAD = (
    b"GET / HTTP/1.1\r\n"
    b"Host: localhost:8080\r\n"
    b"Connection: Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/126.0.0.0 Safari/537.36\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: http://localhost:3000\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)
PLAIN_HEAD = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT_TOKEN = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # for the key above: RFC 6455 section 1.3


def run(loop_name: str, body: Callable[[], Coroutine[Any, Any, None]], limit_s: float = LIMIT_S) -> None:
    """Run `body` on a fresh loop, and check that nothing is left of it."""
    reports: list[dict[str, Any]] = []
    before = open_sockets()

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(limit_s * SLOW):
            await body()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(bounded())
    assert not reports, f"the loop's exception handler was called: {reports}"
    left = open_sockets() - before
    assert not left, f"sockets are left open: {left}"


def open_sockets() -> set[str]:
    """Sockets of this process, as the kernel names them; empty where /proc does not say."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/self/fd/{number}")
                if name.startswith("socket:"):
                    found.add(name)
    return found


def open_descriptors() -> int:
    """How many this process has; 0 where /proc does not say."""
    with contextlib.suppress(FileNotFoundError):
        return len(os.listdir("/proc/self/fd"))
    return 0


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until `condition()` is true; the test's own limit bounds it."""
    while not condition():  # noqa: ASYNC110 - any condition, without the library's help
        await asyncio.sleep(0.001)


class RawPeer:
    """A TCP peer that sends exactly what it is told and reads only when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self._tls: ssl_module.SSLObject | None = None
        self._incoming = ssl_module.MemoryBIO()
        self._outgoing = ssl_module.MemoryBIO()

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        *,
        ssl: ssl_module.SSLContext | None = None,
        hostname: str = "localhost",
    ) -> RawPeer:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = cls(sock)
        try:
            await asyncio.get_running_loop().sock_connect(sock, tuple(address))
            if ssl is not None:
                await peer.start_tls(ssl, hostname)
        except BaseException:
            peer.close()
            raise
        return peer

    async def start_tls(self, context: ssl_module.SSLContext, hostname: str = "localhost") -> None:
        """The client's side of the TLS handshake."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        await self._drive(self._tls.do_handshake)

    async def _drive(self, step: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = step()
            except ssl_module.SSLWantReadError:
                result = None
                wants = True
            else:
                wants = False
            if self._outgoing.pending:
                await loop.sock_sendall(self.sock, self._outgoing.read())
            if not wants:
                return result
            data = await loop.sock_recv(self.sock, 65536)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def send(self, data: bytes) -> None:
        if self._tls is not None:
            await self._drive(functools.partial(self._tls.write, data))
        else:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read_some(self, size: int = 65536) -> bytes:
        """One read; b"" at the end of stream."""
        if self._tls is None:
            data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        else:
            try:
                data = await self._drive(functools.partial(self._tls.read, size))
            except (ssl_module.SSLZeroReturnError, ssl_module.SSLEOFError):
                data = b""
        self.received += data
        return data

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            if not await self.read_some():
                raise EOFError(bytes(self.received))
        end = self.received.index(mark) + len(mark)
        data = bytes(self.received[:end])
        del self.received[:end]
        return data

    async def read_exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            if not await self.read_some():
                raise EOFError(bytes(self.received))
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def read_all(self) -> bytes:
        while await self.read_some():
            pass
        data = bytes(self.received)
        self.received.clear()
        return data

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@functools.cache
def certificates() -> tuple[ssl_module.SSLContext, ssl_module.SSLContext]:
    """Contexts of a server (localhost, 127.0.0.1, ::1) and of a client that trusts it and nobody else."""
    import trustme

    authority = trustme.CA()
    server = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(server)
    client = ssl_module.SSLContext(ssl_module.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


def has_gc_header(cls: type) -> bool:
    """Whether instances of a class are known to the garbage collector."""
    return bool(cls.__flags__ & 1 << 14)  # Py_TPFLAGS_HAVE_GC
