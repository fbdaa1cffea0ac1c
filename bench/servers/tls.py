"""The servers of the TLS rows: `--style` says which library; each as in its file without TLS, with `ssl=`."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Callable

import trustme

from drive import Job, Server, Tally, parse_job, run

job = parse_job(sys.argv[1:])


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(made)
    return made


async def deli_com(job: Job, tally: Tally) -> Server:
    from deli_com import WsServer

    server = await WsServer[bytes].bind("127.0.0.1:0", ssl=context())
    return Server(
        server.local_addr()[1], server.send_nowait, prefix=4, keep=[server], connected=server.wait_clients
    )


async def picows(job: Job, tally: Tally) -> Server:
    from picows import WSListener, WSMsgType, WSTransport, ws_create_server

    transports: list[WSTransport] = []

    class Listener(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transports.append(transport)

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            transports.remove(transport)

    def publish(payload: bytes) -> None:
        for transport in transports:
            transport.send(WSMsgType.BINARY, payload)

    server = await ws_create_server(
        lambda request: Listener(), "127.0.0.1", 0, max_frame_size=1 << 26, ssl=context()
    )
    return Server(server.sockets[0].getsockname()[1], publish, keep=[server])


async def websockets(job: Job, tally: Tally) -> Server:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    server = await serve(
        handler, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None, ssl=context()
    )
    port = next(iter(server.sockets)).getsockname()[1]
    return Server(port, lambda payload: broadcast(connections, payload), keep=[server])


async def aiohttp(job: Job, tally: Tally) -> Server:
    from aiohttp import web

    clients: list[web.WebSocketResponse] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=0)
        await ws.prepare(request)
        clients.append(ws)
        try:
            async for _ in ws:
                pass
        finally:
            clients.remove(ws)
        return ws

    async def publish(payload: bytes) -> None:
        for ws in clients:
            await ws.send_bytes(payload)

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context())
    await site.start()
    return Server(runner.addresses[0][1], publish_async=publish, keep=[runner, site])


STARTS: dict[str, Callable[[Job, Tally], Awaitable[Server]]] = {
    "deli_com": deli_com,
    "picows": picows,
    "websockets": websockets,
    "aiohttp": aiohttp,
}

run(STARTS[job.style], job)
