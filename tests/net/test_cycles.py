"""Closed clients and failed connects are freed by reference counting, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import weakref
from pathlib import Path

import pytest
from helpers import certificates, until

from deli_com import Client, ComError, ConnectionClosed, Server, WsClient, WsServer

PAIRS = [(WsServer, WsClient), (Server, Client)]
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.parametrize("kinds", PAIRS, ids=["ws", "tcp"])
@pytest.mark.parametrize("end", ["close", "server closes", "reset"])
@pytest.mark.parametrize("secure", ["", "tls", "tls with callbacks"], ids=["plain", "tls", "callbacks"])
async def test_a_client_that_is_over_goes_with_its_last_reference(kinds, end, secure, no_collector):
    """Also with values that nobody has taken; those can be received until then, with who has sent them."""
    here, there = certificates() if secure == "tls" else certificates.__wrapped__()
    if secure == "tls with callbacks":
        here.sni_callback = lambda *_: None
        there._msg_callback = lambda *_: None
    elif not secure:
        here = there = None
    async with kinds[0][bytes].bind("127.0.0.1:0", ssl=here) as server:
        address = ("localhost", server.local_addr().port) if secure else server.local_addr()
        client = await kinds[1][bytes].connect(address, ssl=there)
        await server.wait_clients(1)
        server.send_nowait(b"first")
        assert await client.recv() == b"first"
        for value in (b"second", b"third"):
            server.send_nowait(value)
        await until(lambda client=client: client.inbox.held_bytes >= 19)
        if end == "close":
            await client.close()
        elif end == "server closes":
            for peer in server.clients:
                peer.close()
            del peer
        else:
            for connection in server._connections():
                connection._abort()
            del connection
        await until(lambda client=client: not client._connections())
        peer, value = await client.recv_from()
        assert value == b"second" and not peer.is_open
        with pytest.raises(ConnectionClosed):
            peer.send_nowait(b"")
        with pytest.raises(ConnectionClosed):
            peer.send(b"")
        peer.close()
        assert peer.stats().messages_in == 3
        assert peer.state is None
        if end != "close":
            await client.close()
        gone = weakref.ref(client)
        del client, peer
        await until(lambda: gone() is None)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.limit(60)
async def test_clients_in_turn_that_leave_megabytes_untaken_do_not_add_up(no_collector):
    """300 clients, one after the other, each with 4 MB that nobody has taken."""
    block = bytes(range(256)) * 4096
    async with WsServer[bytes].bind("127.0.0.1:0") as server:
        before = 0
        for number in range(300):
            client = await WsClient[bytes].connect(server.local_addr())
            client.recv().close()  # it wants values, so none is dropped
            for _ in range(4):
                await server.send(block)
            await until(lambda client=client: client.inbox.held_bytes >= 4 << 20)
            await client.close()
            if number == 20:
                before = resident()
        assert resident() - before < 100 << 20


@pytest.mark.parametrize("kind", [WsClient, Client])
@pytest.mark.parametrize("why", ["refused", "no name", "hangs up", "nonsense", "tls", "cancelled", "late"])
async def test_a_connect_that_failed_leaves_nothing(kind, why, no_collector):
    """Neither the client nor what made it: tracebacks are cycles only where a frame holds its own error."""
    freed: list[weakref.ref] = []
    start = kind._start

    def noted(self, *args, **kwargs):
        freed.append(weakref.ref(self))
        return start(self, *args, **kwargs)

    kind._start = noted
    try:
        served: list[int] = []

        async def serve(reader, writer):
            if why in ("nonsense", "tls"):
                writer.write(b"\xff" * 64)
            if why in ("cancelled", "late"):
                await reader.read()
            writer.close()
            served.append(1)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = {"refused": "127.0.0.1:1", "no name": "no.such.name.invalid:1"}.get(
            why, "{}:{}".format(*server.sockets[0].getsockname())
        )
        options = {"open_timeout": 0.05} if why == "late" else {}
        if why == "tls":
            options["ssl"] = ssl.create_default_context()
        for _ in range(3):
            try:
                if why == "cancelled":
                    async with asyncio.timeout(0.05):
                        client = await kind[bytes].connect(address, open_timeout=None)
                else:
                    client = await kind[bytes].connect(address, **options)
            except (ComError, TimeoutError):
                continue
            await client.close()
            del client
        server.close()
        if why not in ("refused", "no name"):
            await until(lambda: len(served) == 3)
        assert len(freed) == 3
        await until(lambda: not any(found() for found in freed))
    finally:
        kind._start = start
