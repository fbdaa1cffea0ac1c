"""A failure in the hand-over of a connection, within its handshake, affects only that connection."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, certificates, until

from deli_com import Client, Codec, ConnectionClosed, IoError, Server, WsClient, WsServer, u32
from deli_com.ws import picows_adapter


class Reading(Codec):
    x: u32


async def works(server: Any, ssl: Any = None) -> None:
    """A client still gets what is sent, and nothing is left of earlier ones."""
    scheme = "wss://localhost" if ssl else "ws://127.0.0.1"
    async with await WsClient[Reading, Reading].connect(
        f"{scheme}:{server.local_addr().port}", ssl=ssl
    ) as client:
        await until(lambda: server.client_count() == 1)
        await server.send(Reading(x=1))
        assert await client.recv() == Reading(x=1)
    await until(lambda: server.client_count() == 0)


@pytest.mark.parametrize("option", ["TCP_NODELAY", "TCP_QUICKACK", "all"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("decides", ["at once", "later"])
async def test_socket_options_that_fail_at_the_server(
    option: str, tls: bool, decides: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some systems do after the peer's reset: picows' half-made protocol must not hear of the loss."""
    served, trusting = certificates() if tls else (None, None)
    failed: list[tuple[Any, ...]] = []

    def fail(self: TransportSocket, *args: Any) -> None:
        if option == "all" or args[1] == getattr(socket, option):
            failed.append(args)
            raise OSError(errno.EINVAL, "Invalid argument")

    async def authorize(request: Any) -> bool:
        await asyncio.sleep(0)
        return True

    async with await WsServer[Reading, Reading].bind(
        "127.0.0.1:0", ssl=served, authorize=authorize if decides == "later" else None
    ) as server:
        with monkeypatch.context() as patched:
            patched.setattr(TransportSocket, "setsockopt", fail)
            peer = await RawPeer.open(server.local_addr(), ssl=trusting)
            await peer.send(PLAIN_HEAD)
            with pytest.raises((EOFError, ConnectionResetError)):
                await peer.read_until(b"\r\n\r\n")
            peer.close()
        assert failed
        await works(server, trusting)


@pytest.mark.parametrize("option", ["TCP_NODELAY", "TCP_QUICKACK"])
@pytest.mark.parametrize("kind", [WsClient, Client])
async def test_socket_options_that_fail_at_the_client(
    option: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TransportSocket, *args: Any) -> None:
        if args[1] == getattr(socket, option):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(TransportSocket, "setsockopt", fail)
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        if kind is Client:  # it sets none of these by itself
            await (await Client[Reading, Reading].connect(listener.getsockname())).close()
            return
        with pytest.raises(IoError) as caught:
            await kind[Reading, Reading].connect(listener.getsockname())
        assert caught.value.errno == errno.EINVAL
    finally:
        listener.close()


async def first(kind: Any, address: str, ssl: Any) -> Reading:
    client = await kind[Reading, Reading].connect(address, ssl=ssl)
    return await client.recv()


class Failing:
    """picows' protocol, but for one method, which raises at one of the two ends."""

    def __init__(self, real: Any, method: str, error: Exception, *, at_client: bool) -> None:
        self.real, self.method, self.error, self.at_client = real, method, error, at_client

    def __call__(self, *args: Any) -> Any:
        if args[2] is not self.at_client:  # is_client_side
            return self.real(*args)
        if self.method == "__init__":
            raise self.error
        method, error = self.method, self.error

        class Protocol(self.real):  # type: ignore[name-defined,misc]
            pass

        def fail(self: Any, *args: Any) -> Any:
            raise error

        setattr(Protocol, method, fail)
        return Protocol(*args)


@pytest.mark.parametrize("method", ["__init__", "connection_made", "get_buffer", "buffer_updated"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no")])
async def test_picows_fails_at_the_server(
    method: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with await WsServer[Reading, Reading].bind("127.0.0.1:0") as server:
        with monkeypatch.context() as patched:
            patched.setattr(
                picows_adapter,
                "WSProtocol",
                Failing(picows_adapter.WSProtocol, method, error, at_client=False),
            )
            peer = await RawPeer.open(server.local_addr())
            await peer.send(PLAIN_HEAD)
            if method in ("__init__", "connection_made"):
                assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 500 ")
            else:
                with pytest.raises((EOFError, ConnectionResetError)):
                    await peer.read_until(b"\r\n")
            peer.close()
        assert [record.levelno for record in caplog.records if record.name == "deli_com.server"] == [
            logging.ERROR
        ]
        await works(server)


@pytest.mark.parametrize("method", ["__init__", "connection_made", "get_buffer", "buffer_updated"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no")])
async def test_picows_fails_at_the_client(
    method: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await WsServer[Reading, Reading].bind("127.0.0.1:0") as server:
        with monkeypatch.context() as patched:
            patched.setattr(
                picows_adapter,
                "WSProtocol",
                Failing(picows_adapter.WSProtocol, method, error, at_client=True),
            )
            with pytest.raises(type(error)):
                await WsClient[Reading, Reading].connect(server.local_addr())
        await until(lambda: server.client_count() == 0)
        await works(server)


@pytest.mark.parametrize("kind", ["ws", "tcp"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_transport_that_refuses_its_limits(
    kind: str, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing that a connection asks of its transport; before it, nothing follows the log."""
    served, trusting = certificates() if tls else (None, None)
    bound, connecting = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}[kind]
    async with await bound[Reading, Reading].bind("127.0.0.1:0", ssl=served) as server:
        refused: list[Any] = []

        def fileno(self: TransportSocket) -> int:
            refused.append(self)
            raise OSError(errno.EBADF, "Bad file descriptor")

        port = server.local_addr().port
        address = f"localhost:{port}" if kind == "tcp" else f"{'wss' if tls else 'ws'}://localhost:{port}"
        with monkeypatch.context() as patched:
            patched.setattr(TransportSocket, "fileno", fileno)
            with pytest.raises((IoError, ConnectionClosed, OSError)):
                await first(connecting, address, trusting)
        assert refused
        await until(lambda: server.client_count() == 0)
        async with await connecting[Reading, Reading].connect(address, ssl=trusting):
            await until(lambda: server.client_count() == 1)
