"""A program that is one node of a backplane, for tests that kill or stop a whole process.

It sends a pose of its own, and numbered ticks as standard input says. Each line of it is a command:
``send N``, ``rate N`` (a second), ``stats``, ``quit``. It answers with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from backplane_rig import Ledger, Message, Pose, Tick, hurry

from deli_com import WsServer
from deli_com.backplane import Nats


async def main(url: str, room: str, number: int, orphans: Any, haste: float) -> None:
    hurry(haste)
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
    plane = Nats(url, room=room, orphans=orphans)
    async with WsServer[Message, None].bind("127.0.0.1:0", backplane=plane) as server:
        ledger = await Ledger.of(server)
        sent = 0

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                server.send_nowait(Tick(number, sent))
                sent += 1

        async def keep_sending(rate: int) -> None:
            while True:
                send(max(1, rate // 100))
                await asyncio.sleep(0.01)

        sending: asyncio.Task[None] | None = None
        server.send_nowait(Pose(f"robot {number}", 0))
        print(json.dumps({"ready": True}), flush=True)
        while True:
            words = (await lines.get()).split()
            if not words or words[0] == "quit":
                break
            if words[0] == "send":
                send(int(words[1]))
            elif words[0] == "rate":
                if sending is not None:
                    sending.cancel()
                sending = loop.create_task(keep_sending(int(words[1]))) if int(words[1]) else None
            found = server.stats().backplane
            assert found is not None
            print(json.dumps({**asdict(found), **ledger.seen(), "ticks_sent": sent}), flush=True)
        if sending is not None:
            sending.cancel()
        await ledger.close()
    print(json.dumps({"closed": True}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])))
