"""aiohttp: `await ws.send_bytes` for every client, as its chat example does, without compression."""

from __future__ import annotations

import sys

from drive import Job, Server, Tally, parse_job, run, tls_context

job = parse_job(sys.argv[1:])

from aiohttp import WSMsgType, web  # noqa: E402


async def start(job: Job, tally: Tally) -> Server:
    clients: list[web.WebSocketResponse] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=0)
        await ws.prepare(request)
        clients.append(ws)
        try:
            async for message in ws:
                if message.type is WSMsgType.BINARY:
                    tally.count += 1
                    if tally.count == tally.mark:
                        tally.reached()
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
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_context(job))
    await site.start()
    return Server(runner.addresses[0][1], publish_async=publish, keep=[runner, site])


run(start, job)
