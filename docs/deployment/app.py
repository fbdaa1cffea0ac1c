"""A service: values for anyone who connects, a page, /healthz; ends in order on SIGTERM."""

import asyncio
import logging
import os
import random
import signal

from deli_com import Codec, Response, WsServer, f32


class Reading(Codec, policy="latest", key="oven", retain=True):
    oven: str
    celsius: f32


async def produce(server: WsServer[Reading, None]) -> None:
    while True:
        server.send_nowait(Reading("left", random.gauss(180, 1)))
        await asyncio.sleep(0.1)


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port = os.environ.get("PORT", "8765")
    http = {"/healthz": lambda request: Response(body=b"ok")}
    async with WsServer[Reading, None].bind(f"0.0.0.0:{port}", page=True, http=http) as server:
        logging.info("listening on %s", server.local_addr())
        producing = asyncio.create_task(produce(server))
        await stop.wait()
        producing.cancel()
    logging.info("closed")


logging.basicConfig(level=logging.INFO)
asyncio.run(main())
