"""What every measured Python program shares: its job, its clock, and the loops that drive it.

One iteration of `turns` is one turn, exactly as in floor_server.c:
  1. queue `burst` messages to every client (`publish` that many times);
  2. give the event loop one round, in which the library flushes what it has buffered;
  3. wait until every live client has read the turn `window` - 1 turns ago.
CPU (getrusage of the whole process) and wall time are taken from the end of the warm-up, with nothing in
flight, to the moment when every live client has read the last turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control import READY, TURNS, Control

POOL = 4  # distinct large payloads, so that no library sends only from a hot cache
LARGE = 32768
STAMP_BYTES = 16


@dataclass(frozen=True)
class Job:
    """One measurement; field names are the options of every program in this folder, C or Python."""

    mode: str = "fanout"
    control: Path = Path()
    fifo: Path = Path()
    clients: int = 1
    stalled: int = 0
    size: int = 64
    burst: int = 1
    window: int = 8
    seconds: float = 0.5
    warmup: float = 0.1
    rate: float = 1000.0
    messages: int = 0
    lead: int = 0  # bytes of other fields before the length of `bytes` in what the C source sends
    core: int = -1
    check: int = 0
    port: int = 0
    loop: str = "uvloop"
    style: str = ""


def parse_job(argv: list[str]) -> Job:
    """Read the options and pin this process; libraries are imported after this."""
    parser = argparse.ArgumentParser()
    for name, default in Job.__dataclass_fields__.items():
        parser.add_argument(f"--{name}", type=type(default.default), default=default.default)
    job = Job(**vars(parser.parse_args(argv)))
    if job.core >= 0:
        os.sched_setaffinity(0, {job.core})
    return job


def tls_context(job: Job) -> ssl.SSLContext | None:
    """A server's context with a certificate made now, where the job's style is `tls` or `tls_many`."""
    if not job.style.startswith("tls"):
        return None
    import trustme  # in the TLS rows alone

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(made)
    return made


def status_kib(key: str) -> int:
    """Return a number of KiB from /proc/self/status or, for `Pss`, from smaps_rollup."""
    path = "/proc/self/smaps_rollup" if key == "Pss" else "/proc/self/status"
    for line in Path(path).read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise KeyError(key)


def reset_peak() -> None:
    """Reset VmHWM, the peak of resident memory, to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


class Meter:
    """CPU, wall clock and memory between `start` and `report`."""

    def start(self) -> None:
        self.rss_kib = status_kib("VmRSS")
        reset_peak()
        self.usage = resource.getrusage(resource.RUSAGE_SELF)
        self.wall = time.perf_counter()

    def stop(self) -> dict[str, Any]:
        wall = time.perf_counter() - self.wall
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "wall_s": wall,
            "user_s": usage.ru_utime - self.usage.ru_utime,
            "sys_s": usage.ru_stime - self.usage.ru_stime,
            "start_kib": self.rss_kib,
            "hwm_kib": status_kib("VmHWM"),
            "rss_kib": status_kib("VmRSS"),
        }


class Tally:
    """Counts received messages: measuring starts after a tenth of `total` and ends at `total`."""

    def __init__(self, total: int) -> None:
        self.count = 0
        self.total = total
        self.first = max(1, total // 10)
        self.mark = self.first  # handlers call `reached` when count == mark
        self.meter = Meter()
        self.done: asyncio.Future[dict[str, Any]] | None = None
        self.on_done: Callable[[dict[str, Any]], None] | None = None
        self.result: dict[str, Any] = {}

    def reached(self) -> None:
        if self.mark == self.first:
            self.mark = self.total
            self.meter.start()
        elif not self.result:
            self.result = {"messages": self.total - self.first} | self.meter.stop()
            if self.on_done is not None:
                self.on_done(self.result)
            if self.done is not None:
                self.done.set_result(self.result)

    async def wait(self) -> dict[str, Any]:
        if not self.result:
            self.done = asyncio.get_running_loop().create_future()
            await self.done
        return self.result


@dataclass
class Server:
    """One library's server, as the drivers see it."""

    port: int
    publish: Callable[[bytes], object] | None = None  # queues one message to every client
    publish_async: Callable[[bytes], Awaitable[object]] | None = None  # if the library has only this
    prefix: int = 0  # bytes the library itself puts before the payload on the wire
    consume: Callable[[Tally], Coroutine[Any, Any, None]] | None = None  # None: handlers count into `tally`
    keep: list[object] = field(default_factory=list)  # what must outlive start-up
    connected: Callable[[int], Awaitable[None]] | None = None  # where a client connects before it is accepted


def say(line: dict[str, Any]) -> None:
    """One JSON line to the runner."""
    print(json.dumps(line), flush=True)


def body(size: int) -> bytearray:
    """The content that load_client.c checks, from byte 16 on."""
    return bytearray((bytes(range(251)) * (size // 251 + 1))[:size])


def stamped(payload: bytearray, seq: int) -> bytes:
    """A copy of `payload` that carries the time and its number in its first 16 bytes, if it has so many."""
    if len(payload) >= STAMP_BYTES:
        struct.pack_into("<QQ", payload, 0, time.monotonic_ns(), seq)
    return bytes(payload)


def payloads(job: Job, prefix: int) -> list[bytes]:
    """What is published: one payload, or a few distinct ones where they are large."""
    count = POOL if job.size >= LARGE else 1
    return [stamped(body(job.size - prefix), index) for index in range(count)]


async def turns(job: Job, server: Server, control: Control) -> dict[str, Any]:
    """Drive the turns of the fan-out benches; see the module's docstring."""
    cells, window, burst = control.cells, job.window, range(job.burst)
    publish, publish_async = server.publish, server.publish_async
    pool = payloads(job, server.prefix)
    template = body(job.size - server.prefix)
    meter = Meter()
    turn = first = 0
    measuring = False
    until = time.perf_counter() + job.warmup
    while True:
        if time.perf_counter() >= until:
            await control.turn_read(turn)
            if measuring:
                break
            measuring, first = True, turn
            meter.start()
            until = time.perf_counter() + job.seconds
        if job.check:
            for index in burst:
                payload = stamped(template, turn * job.burst + index)
                if publish is not None:
                    publish(payload)
                elif publish_async is not None:
                    await publish_async(payload)
        elif publish is not None:
            payload = pool[turn % len(pool)]
            for _ in burst:
                publish(payload)
        elif publish_async is not None:
            payload = pool[turn % len(pool)]
            for _ in burst:
                await publish_async(payload)
        await asyncio.sleep(0)
        turn += 1
        if cells[TURNS] <= turn - window:
            await control.turn_read(turn - window + 1)
    return {"turns": turn - first, "messages": (turn - first) * job.burst} | meter.stop()


async def paced(job: Job, server: Server, control: Control) -> dict[str, Any]:
    """Publish one stamped message `rate` times a second; the load takes the latencies."""
    template = body(job.size - server.prefix)
    meter = Meter()
    meter.start()
    due = time.perf_counter()
    total = int((job.warmup + job.seconds) * job.rate)
    for seq in range(total):
        due += 1 / job.rate
        delay = due - time.perf_counter()
        await asyncio.sleep(delay if delay > 0 else 0)
        payload = stamped(template, seq)
        if server.publish is not None:
            server.publish(payload)
        elif server.publish_async is not None:
            await server.publish_async(payload)
    await control.turn_read(total)
    return {"turns": total, "messages": total} | meter.stop()


async def idle(job: Job, control: Control, tally: Tally) -> dict[str, Any]:
    """Memory of `clients` idle connections and the CPU of accepting them; then, with `messages`, of one large
    message from each: what is still held when the connections have been silent for `seconds`."""
    usage, pss, rss = resource.getrusage(resource.RUSAGE_SELF), status_kib("Pss"), status_kib("VmRSS")
    await control.all_ready(job.clients)
    after = resource.getrusage(resource.RUSAGE_SELF)
    if job.messages:
        await tally.wait()
    await asyncio.sleep(job.seconds)
    later = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(0.5)
    still = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "accept_s": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "idle_cpu_s": (still.ru_utime + still.ru_stime - later.ru_utime - later.ru_stime) / 0.5,
        "pss_kib": status_kib("Pss") - pss,
        "held_kib": status_kib("VmRSS") - rss,
    }


async def serve(job: Job, start: Callable[[Job, Tally], Awaitable[Server]]) -> None:
    """Start a library's server, run the job's mode, report."""
    control = Control(job.control, job.fifo)
    control.attach(asyncio.get_running_loop())
    tally = Tally(job.messages // job.clients * job.clients)
    server = await start(job, tally)
    say({"port": server.port, "prefix": server.prefix})
    task = None
    if job.messages and server.consume is not None:
        task = asyncio.ensure_future(server.consume(tally))
    if job.mode == "idle":
        result = await idle(job, control, tally)
    elif job.mode == "uplink":
        result = await tally.wait()
    else:
        await control.all_ready(job.clients)
        if server.connected is not None:
            await server.connected(job.clients)
        result = await (paced if job.mode == "latency" else turns)(job, server, control)
    say(result)
    control.stop()
    if task is not None:
        task.cancel()
    sys.stdout.flush()
    os._exit(0)  # closing a thousand connections in good order is not what is measured


def new_loop(job: Job) -> asyncio.AbstractEventLoop:
    """The event loop that the job names."""
    if job.loop == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run(start: Callable[[Job, Tally], Awaitable[Server]], job: Job) -> None:
    """Entry point of an asyncio server program."""
    with asyncio.Runner(loop_factory=lambda: new_loop(job)) as runner:
        runner.run(serve(job, start))


def run_turns_blocking(
    job: Job, control: Control, publish: Callable[[bytes], object], pump: Callable[[], object]
) -> dict[str, Any]:
    """`turns` and `paced` for libraries with a loop of their own: `pump` gives that loop one round."""
    pool, template = payloads(job, 0), body(job.size)
    is_paced = job.mode == "latency"
    window = (1 << 40) if is_paced else job.window
    meter = Meter()
    turn = first = 0
    measuring = False
    due = time.perf_counter()
    until = due + job.warmup

    def read_all(need: int) -> None:
        while control.cells[TURNS] < need:
            pump()
            control.turn_read_blocking(need, 0.0005)

    while True:
        if time.perf_counter() >= until:
            read_all(turn)
            if measuring:
                break
            measuring, first = True, turn
            meter.start()
            until = time.perf_counter() + job.seconds
        if is_paced:
            due += 1 / job.rate
            while (delay := due - time.perf_counter()) > 0:
                pump()
                time.sleep(min(delay, 0.001))
        for index in range(job.burst):
            publish(
                stamped(template, turn * job.burst + index)
                if job.check or is_paced
                else pool[turn % len(pool)]
            )
        pump()
        turn += 1
        if control.cells[TURNS] <= turn - window:
            read_all(turn - window + 1)
    return {"turns": turn - first, "messages": (turn - first) * job.burst} | meter.stop()


def wait_ready_blocking(job: Job, control: Control, pump: Callable[[], object]) -> None:
    """Let the load connect to a library that has its own loop."""
    while control.cells[READY] < job.clients:
        pump()
        time.sleep(0.0002)
