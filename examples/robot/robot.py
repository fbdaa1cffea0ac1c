"""A robot arm that sends 1,000 samples a second, ten in a message, until a monitor stops it.

Run ``python examples/robot/robot.py`` and, beside it, ``python examples/robot/monitor.py``.
"""

import argparse
import asyncio

import numpy as np
from telemetry import JOINTS, Batch, Sample, Stop

from deli_com import WsServer, codec

RATE = 1000  # samples a second
ROWS = 10  # samples a message


def measure(first: int) -> np.ndarray:
    """The samples of this number and the nine after it: each joint swings at a speed of its own."""
    samples = np.zeros(ROWS, codec(Sample).dtype)
    seconds = (first + np.arange(ROWS)) / RATE
    samples["stamp"] = (first + np.arange(ROWS)) * (1_000_000_000 // RATE)
    samples["position"] = np.sin(np.outer(seconds, 1 + np.arange(JOINTS)))
    samples["torque"] = 10 * np.cos(np.outer(seconds, 1 + np.arange(JOINTS)))
    samples["contact"] = samples["position"][:, 0] > 0.5
    return samples


async def move(server: WsServer[Batch, Stop]) -> None:
    first = 0
    while True:
        # Never waits: a monitor that cannot keep up is closed, and does not hold the arm.
        server.send_nowait(Batch("arm-1", measure(first)))
        first += ROWS
        await asyncio.sleep(ROWS / RATE)


async def main(port: int) -> None:
    async with WsServer[Batch, Stop].bind(("127.0.0.1", port)) as server:
        print("arm-1 at", server.local_addr(), flush=True)
        await server.wait_clients(1)
        moving = asyncio.create_task(move(server))
        stop = await server.recv()
        moving.cancel()
        print("stopped:", stop.reason)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A robot arm that sends samples until it is stopped.")
    parser.add_argument("--port", type=int, default=8766)
    asyncio.run(main(parser.parse_args().port))
