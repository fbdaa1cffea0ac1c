"""Age of `latest` values behind a proxy and a slow link: `python bench/proxies.py [--json FILE]`.

A server sends 1,000 values of 4 KB a second, of policy latest. The client, in a namespace of its own,
takes all that comes, over a link of 1 MB/s (delayed_link.c). Between them is no proxy, or one with the
configuration of examples/proxies: nginx, HAProxy and Caddy as proxies of HTTP, nginx and HAProxy as
proxies of connections, these also in front of a TCP server whose client exchanges schemas. The client
connects while the stream is running. With `--stall 5` it takes values for 3 s, then reads nothing for 5 s.
Times count from the end of that; what was on its way before is old.

Age is from the send call to the return of `recv`, on one clock. The figures are the worst and the
median of the times after the first value that stand in the head, over all runs. Needs Linux, root and
/dev/net/tun; a proxy that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from delayed_link import NEAR, delayed_link, enter_namespace
from deli_com import Client, Codec, Server, WsClient, WsServer, u64
from machine import describe, write

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "examples/proxies"
PORT, PROXY_PORT = 8765, 8080  # as in the configurations; the namespace is the bench's own
SIZE, EVERY_S = 4096, 0.001
LEAD_S = 3.0
SPANS = ((0.0, 1.0), (1.0, 4.0), (4.0, 8.0), (8.0, 1e9))  # seconds since the first value
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ws": (WsServer, WsClient, {"conflate": False}),
    "tcp": (Server, Client, {"conflate": False, "schema": "check"}),
}
PROXIES: dict[str, tuple[str, tuple[str, ...]]] = {  # configuration, and what is behind
    "none": ("", ("ws", "tcp")),
    "nginx": ("nginx.conf", ("ws",)),
    "haproxy": ("haproxy.cfg", ("ws",)),
    "caddy": ("Caddyfile", ("ws",)),
    "nginx stream": ("nginx-stream.conf", ("ws", "tcp")),
    "haproxy tcp": ("haproxy-tcp.cfg", ("ws", "tcp")),
}


class Sample(Codec, policy="latest"):
    """A value that says when it was sent."""

    at: u64
    load: bytes


def command(name: str, file: Path, home: Path) -> list[str]:
    program = name.split()[0]
    if program == "nginx":
        return ["nginx", "-p", str(home), "-e", "stderr", "-c", str(file), "-g", "daemon off; pid nginx.pid;"]
    if program == "haproxy":
        return ["haproxy", "-db", "-f", str(file)]
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


@contextlib.contextmanager
def proxy(name: str) -> Iterator[int]:
    """Start it, in front of the server; yields the port that the client connects to."""
    if name == "none":
        yield PORT
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        text = (CONFIGURATIONS / PROXIES[name][0]).read_text()
        file = home / PROXIES[name][0]
        file.write_text(text.replace(f"127.0.0.1:{PROXY_PORT}", f"{NEAR}:{PROXY_PORT}"))
        environment = {**os.environ, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        with (home / "log").open("w") as log:
            process = subprocess.Popen(command(name, file, home), stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 10.0
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection((NEAR, PROXY_PORT), 1.0):
                    break
                time.sleep(0.05)
            else:
                raise OSError((home / "log").read_text().strip()[-300:] or f"{name} does not listen")
            yield PROXY_PORT
        finally:
            process.terminate()
            process.wait()


async def measure(name: str, kind: str, options: argparse.Namespace, seed: int) -> list[tuple[float, float]]:
    """Pairs: seconds since the first value, and the age of a value."""
    server_class, _, _ = KINDS[kind]
    http = {"/healthz": b"ok"} if kind == "ws" else {}
    async with server_class[Sample, None].bind(
        f"0.0.0.0:{PORT}", max_transit=options.max_transit or None, **({"http": http} if http else {})
    ) as server:
        with (
            delayed_link(options.delay / 1e3, rate=options.rate, queue=options.queue, seed=seed) as link,
            proxy(name) as port,
        ):
            client = await asyncio.create_subprocess_exec(
                *link.there, sys.executable, __file__, "--receive", kind, str(port), str(options.seconds),
                str(options.stall), stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert client.stdout is not None
            found = asyncio.create_task(client.stdout.read())
            loop = asyncio.get_running_loop()
            begin, sent, load = loop.time(), 0, bytes(SIZE)
            while not found.done():
                while sent * EVERY_S < loop.time() - begin:
                    server.send_nowait(Sample(time.monotonic_ns(), load))
                    sent += 1
                await asyncio.sleep(EVERY_S)
            await client.wait()
    return [(at, age) for at, age in json.loads(await found)]


async def receive(kind: str, port: int, seconds: float, stall: float) -> None:
    _, client_class, options = KINDS[kind]
    ages: list[tuple[float, float]] = []
    async with await client_class[Sample, None].connect(
        f"{NEAR}:{port}", max_inbox=65536, **options
    ) as client:
        value = await client.recv()
        if stall:
            end = time.monotonic() + LEAD_S
            while time.monotonic() < end:
                await client.recv()
            time.sleep(stall)  # noqa: ASYNC251 - nothing is read, as by a process that is stopped
            value = await client.recv()
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            ages.append((now - begin, (time.monotonic_ns() - value.at) / 1e9))
            value = await client.recv()
    print(json.dumps(ages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--proxies", nargs="+", default=list(PROXIES), choices=list(PROXIES))
    parser.add_argument("--max-transit", type=float, default=0.5, help="0: no bound")
    parser.add_argument("--rate", type=float, default=1e6, help="of the link, bytes a second")
    parser.add_argument("--delay", type=float, default=20.0, help="of the link, ms there and back")
    parser.add_argument("--queue", type=int, default=65_536, help="of the link, bytes")
    parser.add_argument("--stall", type=float, default=0.0, help="seconds in which the client reads nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--receive", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        kind, port, seconds, stall = options.receive
        asyncio.run(receive(kind, int(port), float(seconds), float(stall)))
        return
    enter_namespace()
    print(describe())
    spans = [f"{low:.0f} to {high:.0f} s" if high < 1e9 else f"from {low:.0f} s" for low, high in SPANS]
    print(f"| proxy, server | {' | '.join(f'worst, {span}' for span in spans)} | median, {spans[-1]} |")
    print("|---" * (len(SPANS) + 2) + "|")
    found = {}
    for name in options.proxies:
        if name != "none" and shutil.which(name.split()[0]) is None:
            print(f"| {name}: not installed |")
            continue
        for kind in PROXIES[name][1]:
            try:
                runs = [asyncio.run(measure(name, kind, options, seed + 1)) for seed in range(options.runs)]
            except OSError as error:
                print(f"| {name}: {error} |")
                break
            found[f"{name}, {kind}"] = runs
            parts = [[age for run in runs for at, age in run if low <= at < high] for low, high in SPANS]
            worst = " | ".join(f"{max(part, default=0.0):.2f}" for part in parts)
            print(f"| {name}, {kind} | {worst} | {median(parts[-1] or [0.0]):.2f} |", flush=True)
    write(options.json, found)


if __name__ == "__main__":
    main()
