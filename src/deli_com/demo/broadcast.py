"""The server process of the demo: broadcasts, starts the clients, judges their reports; serves the page."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from deli_com import WsServer
from deli_com.demo.robots import Scene, drive
from deli_com.demo.telemetry import RATE_HZ, Report, Sampler, Telemetry
from deli_com.demo.view import Board, View, make_view

START_S = 30.0  # limit on the time until all clients are connected
FINISH_S = 5.0  # limit on waiting for final reports, and again for the processes to end
SHOW_S = 0.25
PATH = "/telemetry"  # of what goes to the client processes; the page and its robots are at "/"

INTERRUPTED = 130


@contextlib.asynccontextmanager
async def client_processes(addr: str, count: int) -> AsyncGenerator[list[Process]]:
    """Start `count` clients. All have ended when the block is left."""
    processes: list[Process] = []
    try:
        for number in range(count):
            processes.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "deli_com.demo.client", addr, str(number)),
                    # In their own process group: Ctrl-C is only for this process, which then ends the clients
                    # normally. If this process dies, the clients see the connection end, and exit.
                    start_new_session=sys.platform != "win32",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            )
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for process in processes:
            await process.wait()


@contextlib.asynccontextmanager
async def driving(scene: WsServer[Scene, None]) -> AsyncGenerator[None]:
    """Let the robots drive while the block runs."""
    task = asyncio.create_task(drive(scene))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stop_on_signals(stop: asyncio.Event) -> None:
    """The first Ctrl-C (or SIGTERM) ends the broadcast normally, a second one at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupted() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows' loops have no signal handlers: there Ctrl-C is a KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, interrupted)


async def all_connected(
    server: WsServer[Telemetry, Report], processes: list[Process], stop: asyncio.Event
) -> str | None:
    """Wait until every client is connected. Returns the reason for a failure; it is empty after Ctrl-C."""
    connected = asyncio.ensure_future(server.wait_clients(len(processes)))
    stopped = asyncio.ensure_future(stop.wait())
    exits = [asyncio.ensure_future(process.wait()) for process in processes]
    waits: list[asyncio.Future[Any]] = [connected, stopped, *exits]
    try:
        await asyncio.wait(waits, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return ""
        if any(task.done() for task in exits):
            return "a client process ended before it was connected"
        return None if connected.done() else f"not all clients connected within {START_S:.0f} s"
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def broadcast(
    server: WsServer[Telemetry, Report], board: Board, view: View, seconds: float, stop: asyncio.Event
) -> None:
    """Send a sample every 1 / `RATE_HZ` s until `seconds` are over (0: never) or `stop` is set."""
    loop = asyncio.get_running_loop()
    sampler = Sampler()
    total = max(round(seconds * RATE_HZ), 1) if seconds else 0  # 0: no end
    start_s = shown_s = loop.time()
    while True:
        last = stop.is_set() or board.sent + 1 == total
        await server.send(sampler.sample(last=last))
        board.sent += 1
        if last:
            return
        # In a turn of its own, after the sample is sent: drawing takes about 6 of the 10 ms until the next
        # one.
        await asyncio.sleep(0)
        if loop.time() - shown_s >= SHOW_S:
            shown_s += SHOW_S
            view.update(board, loop.time() - start_s)
        # Relative to the schedule, not to the last sample, so that one delay does not lower the rate.
        await asyncio.sleep(max(0.0, start_s + board.sent / RATE_HZ - loop.time()))


async def collect(server: WsServer[Telemetry, Report], board: Board) -> None:
    """Take reports until every client has sent its final one."""
    while not board.complete():
        board.add(await server.recv())


async def serve(seconds: float, clients: int, record: Path | None) -> int:
    """Run server and clients, and record the telemetry. Returns the exit status."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    board = Board(clients)
    loop = asyncio.get_running_loop()
    async with (
        WsServer[Scene, None].bind("127.0.0.1:0", path="/", page=True) as scene,
        WsServer[Telemetry, Report].bind(scene, path=PATH) as server,
        driving(scene),
        server.record(record, compression="zstd") if record is not None else contextlib.nullcontext(),
    ):
        print(f"two robots on a page: http://{scene.local_addr()}/", flush=True)
        async with client_processes(f"ws://{scene.local_addr()}{PATH}", clients) as processes:
            problem = await all_connected(server, processes, stop)
            if problem is not None:
                print(problem or "interrupted", file=sys.stderr)
                return 1 if problem else INTERRUPTED
            reports = asyncio.create_task(collect(server, board))
            try:
                with make_view() as view:
                    start_s = loop.time()
                    await broadcast(server, board, view, seconds, stop)
                    elapsed_s = loop.time() - start_s
                    await asyncio.wait([reports], timeout=FINISH_S)
                    if reports.done():
                        reports.result()
                    view.update(board, elapsed_s)
            finally:
                reports.cancel()
                await asyncio.gather(reports, return_exceptions=True)
            # A client that has sent its final report exits by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_S if board.complete() else 0):
                    for process in processes:
                        await process.wait()
    failures = board.failures()
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        return 1
    print(
        f"{board.sent} samples in {elapsed_s:.1f} s to {clients} client processes: "
        "each received all of them, in order"
    )
    return 0


def main(seconds: float, clients: int, record: Path | None = None) -> int:
    """Run the demo on its own event loop. Returns the exit status."""
    try:
        return asyncio.run(serve(seconds, clients, record))
    except asyncio.CancelledError:
        return INTERRUPTED
