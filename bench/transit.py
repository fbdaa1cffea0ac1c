"""What the bound on bytes in flight costs: `python bench/transit.py [--seconds 6] [--json FILE] [--markers]`.

Throughput: in a network namespace with a pair of interfaces, a delay of 0, 20 and 200 ms there and back, and
0 or 1 % of packets lost, a server sends as fast as it may to one client that reads everything. With
`max_transit=0.5` (default) and with `max_transit=None`, in turn, three times each. Reliable values are
awaited; of policy latest, a value of 64 KB is sent each turn of the loop. The figure is the ratio of the
medians of the bytes that the client received in the second half of the run. Needs root, ip and tc.
Without netem in the kernel the cases of delay and loss are left out.

Markers (`--markers`): 1,000 clients over loopback get 1 MB/s altogether, for as long. The figure is the CPU
time of the server's process with markers over that without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from deli_com import Codec, WsClient, WsServer, u32
from machine import write

CASES = [(delay, loss) for delay in (0, 20, 200) for loss in (0, 1)]
CLIENTS = 1000
BYTES_A_SECOND = 1_000_000


class Plain(Codec):
    turn: u32
    data: bytes


class Latest(Codec, policy="latest"):
    turn: u32
    data: bytes


async def throughput(kind: type[Plain] | type[Latest], max_transit: float | None, seconds: float) -> float:
    """Bytes a second that the client received in the second half."""
    data = bytes(65536)
    host = "10.9.0.1"
    async with WsServer[kind, None].bind(f"{host}:0", max_transit=max_transit) as server:  # type: ignore[valid-type]
        script = [sys.executable, __file__, "--receive", str(server.local_addr().port), kind.__name__]
        client = await asyncio.create_subprocess_exec(
            "nsenter", "--net=/run/netns/deli_bench", *script, str(seconds), stdout=asyncio.subprocess.PIPE
        )
        await server.wait_clients(1)
        turn = 0
        while server.client_count():
            turn += 1
            if kind is Plain:
                await server.send(Plain(turn, data))
            else:
                server.send_nowait(Latest(turn, data))
                await asyncio.sleep(0)
        assert client.stdout is not None
        return float(await client.stdout.read())


async def receive(port: int, kind: str, seconds: float) -> None:
    got = 0
    half = time.monotonic() + seconds / 2
    end = half + seconds / 2
    value_type = {"Plain": Plain, "Latest": Latest}[kind]
    async with WsClient[value_type, None].connect(f"10.9.0.1:{port}", conflate=False) as client:  # type: ignore[valid-type]
        while (now := time.monotonic()) < end:
            value = await client.recv()
            if now >= half:
                got += len(value.data)
    print(got / (seconds / 2))


def network(delay: int, loss: int) -> None:
    """A namespace for the client, a pair of interfaces, half of the delay and the loss on each."""
    half = f"netem delay {delay / 2}ms loss {loss / 2}% limit 100000"
    for line in (
        "ip netns add deli_bench",
        "ip link add deli0 type veth peer name deli1 netns deli_bench",
        "ip addr add 10.9.0.1/24 dev deli0",
        "ip link set deli0 up",
        "ip -n deli_bench addr add 10.9.0.2/24 dev deli1",
        "ip -n deli_bench link set deli1 up",
        *(
            (f"tc qdisc add dev deli0 root {half}", f"tc -n deli_bench qdisc add dev deli1 root {half}")
            if delay or loss
            else ()
        ),
    ):
        subprocess.run(line.split(), check=True)


def no_network() -> None:
    subprocess.run(["ip", "netns", "del", "deli_bench"], check=False, stderr=subprocess.DEVNULL)


async def cpu_of_markers(max_transit: float | None, seconds: float) -> float:
    """Seconds of CPU that the server's process took."""
    async with WsServer[Plain, None].bind("127.0.0.1:0", max_transit=max_transit) as server:
        port = server.local_addr().port
        script = [sys.executable, __file__, "--crowd", str(port)]
        crowd = await asyncio.create_subprocess_exec(*script)
        await server.wait_clients(CLIENTS)
        size = BYTES_A_SECOND // CLIENTS // 10
        before = resource.getrusage(resource.RUSAGE_SELF)
        for turn in range(round(seconds * 10)):
            server.send_nowait(Plain(turn, bytes(size)))
            await asyncio.sleep(0.1)
        after = resource.getrusage(resource.RUSAGE_SELF)
        crowd.kill()
        await crowd.wait()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def crowd(port: int) -> None:
    clients = [await WsClient[Plain, None].connect(f"127.0.0.1:{port}") for _ in range(CLIENTS)]

    async def read(client: WsClient[Plain, None]) -> None:
        async for _ in client:
            pass

    await asyncio.gather(*map(read, clients), return_exceptions=True)


def ratios(seconds: float, runs: int) -> dict[str, float]:
    found = {}
    for delay, loss in CASES:
        no_network()
        try:
            network(delay, loss)
        except subprocess.CalledProcessError as error:  # a kernel without netem has no delay and no loss
            print(f"{delay} ms, {loss} % lost: not measured, `{' '.join(error.cmd)}` failed", flush=True)
            no_network()
            continue
        try:
            for kind in (Plain, Latest):
                taken: dict[float | None, list[float]] = {0.5: [], None: []}
                for _ in range(runs):
                    for max_transit, figures in taken.items():
                        figures.append(asyncio.run(throughput(kind, max_transit, seconds)))
                name = f"{kind.__name__.lower()}, {delay} ms, {loss} % lost"
                with_bound, without = (statistics.median(figures) for figures in taken.values())
                found[name] = with_bound / without
                print(f"{name:28} {found[name]:.3f}  ({without / 1e6:.1f} MB/s without)", flush=True)
        finally:
            no_network()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--markers", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--receive", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        port, kind, seconds = options.receive
        asyncio.run(receive(int(port), kind, float(seconds)))
        return
    if options.crowd:
        asyncio.run(crowd(options.crowd))
        return
    if options.markers:
        taken = [
            asyncio.run(cpu_of_markers(max_transit, options.seconds))
            for _ in range(options.runs)
            for max_transit in (0.5, None)
        ]
        found = {"cpu of markers": statistics.median(taken[::2]) / statistics.median(taken[1::2])}
        print(json.dumps(found))
    else:
        found = ratios(options.seconds, options.runs)
    write(options.json, found)


if __name__ == "__main__":
    main()
