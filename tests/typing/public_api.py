"""The public interface as users write it: mypy and pyright check it, and test_public_api.py runs it."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from deli_com import (
    Address,
    Background,
    BlockingClient,
    Client,
    Codec,
    Departure,
    Gap,
    Group,
    Peer,
    Request,
    Server,
    ServerStats,
    Stream,
    StreamStats,
    WsClient,
    WsServer,
    connect_blocking,
    f32,
    serve_background,
    u32,
)


class Up(Codec):
    count: u32


class Down(Codec):
    x: f32


async def websocket() -> None:
    async with WsServer[Down, Up].bind("127.0.0.1:0", page="send", hosts=["robot"]) as server:
        assert_type(server, WsServer[Down, Up])
        assert_type(server.local_addr(), Address)
        client = await asyncio.create_task(WsClient[Down, Up].connect(server.local_addr()))
        assert_type(client, WsClient[Down, Up])
        await server.wait_clients(1)
        await server.send(Down(1.5))
        server.send_nowait(Down(2.5))
        assert_type(await client.recv(), Down)
        assert_type(await asyncio.wait_for(client.recv(), 5), Down)
        await client.send(Up(3))
        assert_type(await server.recv(), Up)
        await client.send(Up(4))
        peer, value = await server.recv_from()
        assert_type(peer, Peer[Down])
        assert_type(value, Up)
        await client.send(Up(5))
        assert_type(await server.recv_many(10), list[Up])
        await server.send(Down(3.5))
        async for down in client:
            assert_type(down, Down)
            break
        await client.send(Up(6))
        async for peer, up in server.with_peer():
            assert_type(peer, Peer[Down])
            assert_type(up, Up)
            break
        async with asyncio.TaskGroup() as group:
            group.create_task(server.send(Down(4.5)))
            receiving = group.create_task(client.recv())
        assert_type(receiving.result(), Down)
        await client.close()


async def one_type_both_ways() -> None:
    async with (
        WsServer[u32].bind(("127.0.0.1", 0)) as server,
        WsClient[u32].connect(server.local_addr()) as client,
    ):
        await server.send(7)
        assert_type(await client.recv(), int)
        await client.send(8)
        assert_type(await server.recv(), int)


async def tcp() -> None:
    async with Server[Down, Up].bind("127.0.0.1:0") as server:
        async with Client[Down, Up].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            await server.send(Down(1.5))
            assert_type(await client.recv(), Down)
            await client.send(Up(2))
            assert_type(await server.recv(), Up)


async def identity() -> None:
    departures: list[Departure] = []
    tasks: list[str] = []

    def on_connect(peer: Peer) -> None:
        peer.state = {"visits": 1}

    def on_disconnect(peer: Peer, why: Departure) -> None:
        departures.append(why)

    async def on_disconnect_later(peer: Peer, why: Departure) -> None:
        tasks.append(why.reason)

    async with (
        WsServer[u32].bind("127.0.0.1:0", path="/a", on_connect=on_connect, on_disconnect=on_disconnect) as a,
        WsServer[Down, Up].bind(a, path="/b", on_disconnect=on_disconnect_later) as b,
        WsClient[u32].connect(a.local_addr(), path="/a"),
        WsClient[Down, Up].connect(a.local_addr(), path="/b"),
    ):
        assert_type(b, WsServer[Down, Up])
        assert_type(a.clients, frozenset[Peer])
        for peer in a.clients | b.clients:
            assert_type(peer.remote_addr, Address | None)
            assert_type(peer.via, Address | None)
            assert_type(peer.request, Request)
            assert_type(peer.request.via, Address | None)
            assert_type(peer.request.host, str)
            assert_type(peer.is_open, bool)
            peer.close(4000, "by name")
    (why,) = departures
    if why.cause == "closed":  # a literal: checkers refuse words that it cannot be
        assert_type(why.code, int | None)
        assert_type(why.queued_bytes, int)
    assert (why.code, why.reason, tasks) == (4000, "by name", ["by name"])


def background() -> None:
    """Called in a thread: this program has a loop, which would stand still."""
    with serve_background(WsServer[Down, Up].bind("127.0.0.1:0")) as server:
        assert_type(server, Background[Down, Up])
        assert_type(server.local_addr(), Address)
        client = server.run(WsClient[Down, Up].connect, server.local_addr())
        assert_type(client, WsClient[Down, Up])
        server.wait_clients(1, timeout=5)
        server.send(Down(1.5))
        server.send_nowait(Down(2.5))
        assert_type(server.run(client.recv), Down)
        for count in range(3):
            server.run(client.send, Up(count))
        assert_type(server.recv(timeout=5), Up)
        assert_type(server.recv_many(1, timeout=5), list[Up])
        for up in server:
            assert_type(up, Up)
            break
        assert_type(server.run(server.server.client_count), int)
        server.run(client.close)
    with serve_background(Server[u32, None].bind("127.0.0.1:0"), loop_factory=asyncio.new_event_loop) as push:
        assert_type(push, Background[int, None])
        push.send(7)


def blocking() -> None:
    """Called in a thread, as `background`; here both ends are without asyncio."""
    with serve_background(WsServer[Down, Up].bind("127.0.0.1:0")) as server:
        with connect_blocking(WsClient[Down, Up], server.local_addr(), max_inbox=1 << 20) as client:
            assert_type(client, BlockingClient[Down, Up])
            server.wait_clients(1, timeout=5)
            assert_type(server.clients, frozenset[Peer[Down, Any]])
            assert_type(server.stats(), ServerStats)
            assert_type(server.group("all"), Group[Down])
            server.send(Down(1.5))
            server.send(Down(2.5))
            server.send(Down(3.5))
            server.flush()
            assert_type(client.recv(timeout=5), Down)
            assert_type(client.recv_many(1, timeout=5), list[Down])
            for down in client:
                assert_type(down, Down)
                break
            client.send(Up(1))
            client.send_nowait(Up(2))
            peer, up = server.recv_from(timeout=5)
            assert_type(peer, Peer[Down, Any])
            assert_type(up, Up)
            client.on_gap(lambda gap: assert_type(gap, Gap))
            client.wait_live(5)
            assert_type(client.stats(), ServerStats)
    with serve_background(Server[u32].bind("127.0.0.1:0")) as tcp_server:
        with connect_blocking(Client[u32], tcp_server.local_addr(), keepalive_interval=5) as tcp_client:
            assert_type(tcp_client, BlockingClient[int, int])
    with serve_background(WsServer[Down, None].bind("127.0.0.1:0")) as push:
        with connect_blocking(WsClient[Down, None], push.local_addr()) as listener:
            assert_type(listener, BlockingClient[Down, None])


async def links() -> None:
    async with WsServer[Down, Up].bind("127.0.0.1:0") as server:
        told: list[bool] = []

        def lost(cause: Exception) -> None:
            told.append(True)

        link = WsClient[Down, Up].stream(server.local_addr(), on_disconnect=lost, ping_timeout=5)
        assert_type(link, Stream[Down, Up])
        async with link:
            await link.send(Up(1), wait=True)
            link.send_nowait(Up(2))
            assert_type(link.connected, bool)
            assert_type(link.stats(), StreamStats)
            await link.wait_live()
            await server.send(Down(1.5))
            assert_type(await anext(link), Down)
        assert told == [True]
    async with Server[u32].bind("127.0.0.1:0") as tcp_server:
        async with Client[u32].stream(tcp_server.local_addr(), schema="check") as tcp_link:
            assert_type(tcp_link, Stream[int, int])
            await tcp_link.send(7, wait=True)


async def main() -> None:
    await websocket()
    await identity()
    await one_type_both_ways()
    await tcp()
    await asyncio.to_thread(background)
    await asyncio.to_thread(blocking)
    await links()
