"""Watches the arm of robot.py: counts, looks for gaps, stops it when a joint has moved far enough."""

import argparse
import asyncio

import numpy as np
from telemetry import JOINTS, Batch, Stop

from deli_com import ConnectionClosed, WsClient


async def main(addr: str, limit: float) -> None:
    batches = []
    async with WsClient[Batch, Stop].connect(addr) as client:
        async for batch in client:
            batches.append(batch.samples)
            if batch.samples["position"].min() < limit:
                await client.send(Stop(f"a joint is below {limit} rad"))
                break
        try:
            while True:  # until the robot closes
                batches.append((await client.recv()).samples)
        except ConnectionClosed as error:
            print(error)

    samples = np.concatenate(batches)
    missing = int(np.count_nonzero(np.diff(samples["stamp"]) != 1_000_000))
    print(f"{len(samples)} samples, {missing} gaps, {np.count_nonzero(samples['contact'])} with contact")
    for joint in range(JOINTS):
        position, torque = samples["position"][:, joint], samples["torque"][:, joint]
        print(f"joint {joint}: {position.min():6.3f} to {position.max():5.3f} rad, {torque.max():.1f} Nm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch the arm of robot.py.")
    parser.add_argument("addr", nargs="?", default="127.0.0.1:8766")
    parser.add_argument("--limit", type=float, default=-0.5, help="radians at which to stop the arm")
    options = parser.parse_args()
    asyncio.run(main(options.addr, options.limit))
