"""deli-com: `send_nowait` of `bytes`; styles: `await`, `tcp`, `tls`; `recv`, `recv_many`, `tls_many`."""

from __future__ import annotations

import sys

from drive import Job, Server, Tally, parse_job, run, tls_context

job = parse_job(sys.argv[1:])

import deli_com  # noqa: E402


async def start(job: Job, tally: Tally) -> Server:
    kind = deli_com.Server if job.style == "tcp" else deli_com.WsServer
    server = await kind[bytes].bind("127.0.0.1:0", ssl=tls_context(job))

    async def consume(tally: Tally) -> None:
        if job.style.endswith("_many"):
            while tally.count < tally.total:
                values = await server.recv_many(min(256, tally.mark - tally.count))
                tally.count += len(values)
                if tally.count == tally.mark:
                    tally.reached()
        else:
            recv = server.recv
            while tally.count < tally.total:
                await recv()
                tally.count += 1
                if tally.count == tally.mark:
                    tally.reached()

    awaited = job.style == "await"
    return Server(
        server.local_addr()[1],
        publish=None if awaited else server.send_nowait,
        publish_async=server.send if awaited else None,
        prefix=4,  # the u32 length of `bytes`
        consume=consume,
        keep=[server],
        connected=server.wait_clients,
    )


run(start, job)
