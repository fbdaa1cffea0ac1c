"""A rover that drives in a circle and says so, over WebSocket and TCP: ``python serve.py``."""

from __future__ import annotations

import argparse
import asyncio
import math
import time

from rover import Alarm, Command, Event, Mode, Pose

from deli_com import Server, WsServer


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--tcp-port", type=int, default=8766)
    options = parser.parse_args()
    async with (
        await WsServer[Event, Command].bind(("127.0.0.1", options.port)) as ws,
        await Server[Event, Command].bind(("127.0.0.1", options.tcp_port)) as tcp,
    ):
        print(ws.local_addr()[1], tcp.local_addr()[1], flush=True)
        mode = Mode.IDLE

        async def listen(server: WsServer[Event, Command] | Server[Event, Command]) -> None:
            nonlocal mode
            while True:
                command = await server.recv()
                mode = command.mode
                print(f"{command.mode.name} at {command.speed} m/s", flush=True)
                await server.send(Alarm(code=1, stamp=time.time_ns(), text=f"mode is {mode.name}"))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(ws))
            tasks.create_task(listen(tcp))
            for turn in range(1 << 30):
                angle = turn / 50
                pose = Pose("rover", math.cos(angle), math.sin(angle), mode, [angle, 2 * angle])
                await ws.send(pose)
                await tcp.send(pose)
                await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main())
