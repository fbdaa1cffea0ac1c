"""Memory of a relay with 1,000 clients whose server takes nothing any more.

    python tests/soak/relay_memory.py [--clients 1000] [--megabytes 200]

`deli-com relay` runs in a process of its own, with a proxy between it and the server. The proxy stalls, so
that the server takes nothing; the clients send values of 20 kB, so many megabytes in all. The relay may hold
8 MiB of them, beside what its clients' connections hold; the rest is counted as lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from proxy import fault_proxy

from deli_com import Codec, WsClient, WsServer, f32

MOST = 48 << 20  # bytes that the relay may grow by


class Pose(Codec):
    x: f32


class Stop(Codec):
    reason: str


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def run(count: int, megabytes: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * count + 100)), hard))
    async with WsServer[Pose, Stop].bind("127.0.0.1:0") as server, fault_proxy(server.local_addr()) as proxy:
        host, port = proxy.address
        relay = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "deli_com",
                "relay",
                f"ws://{host}:{port}",
                "--bind",
                "127.0.0.1:0",
            ),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert relay.stderr is not None
            url = (await relay.stderr.readline()).decode().split(": ")[0]
            empty = resident(relay.pid)
            clients: list[Any] = [await WsClient[Pose, Stop].connect(url) for _ in range(count)]
            idle = resident(relay.pid)
            proxy.links[0].up.stall()
            text = "." * 20_000
            most = idle
            for _ in range(max(1, megabytes * 1_000_000 // (count * len(text)))):
                for client in clients:
                    await client.send(Stop(text))
                await asyncio.sleep(0.05)
                most = max(most, resident(relay.pid))
            await asyncio.sleep(1.0)
            after = resident(relay.pid)
            print(f"{count} clients: {(idle - empty) / count / 1024:.1f} KiB each")
            print(
                f"{megabytes} MB sent into a server that takes nothing: "
                f"at most {(most - idle) / 2**20:.1f} MiB more, "
                f"{(after - idle) / 2**20:.1f} MiB a second later"
            )
            relay.terminate()
            codes = set()
            for client in clients:
                try:
                    await client.recv()
                except Exception as error:
                    codes.add(getattr(error, "code", None))
            status = await relay.wait()
            print(f"ended by SIGTERM with status {status}; clients were told {sorted(codes, key=str)}")
            return 0 if most - idle < MOST and codes == {1001} else 1
        finally:
            if relay.returncode is None:
                relay.kill()
                await relay.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=200)
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.clients, given.megabytes)))
