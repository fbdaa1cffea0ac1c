"""A robot, watched and driven from http://127.0.0.1:8765/; half a second after a command it stops."""

import asyncio
import math
import time

from deli_com import Codec, WsServer, f32


class Pose(Codec, policy="latest", key="robot", retain=True):
    robot: str
    x: f32
    y: f32
    heading: f32


class Drive(Codec):
    speed: f32
    turn: f32


async def main() -> None:
    async with WsServer[Pose, Drive].bind("127.0.0.1:8765", page="send") as server:
        command, until = Drive(0.0, 0.0), 0.0

        async def listen() -> None:
            nonlocal command, until
            async for received in server:
                command, until = received, time.monotonic() + 0.5

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen())
            x = y = heading = 0.0
            while True:
                if time.monotonic() < until:
                    heading += command.turn * 0.01
                    x += command.speed * math.cos(heading) * 0.01
                    y += command.speed * math.sin(heading) * 0.01
                server.send_nowait(Pose("r1", x, y, heading))
                await asyncio.sleep(0.01)


asyncio.run(main())
