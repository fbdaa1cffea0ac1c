"""The page under load: `python bench/page.py [--seconds 600] [--rate 10000] [--keys 1000] [--json FILE]`.

A server, in a process of its own, sends so many values a second to so many keys; a headless Chromium shows
its page, with one number plotted. For each tenth of the time: frames a second, the longest frame, CPU of
the tab's process (1: a core), the JavaScript heap after a collection, memory of the tab's process, and what
the server sent and left out. The first row is the same browser with an empty page, in the same run: what a
frame can be on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import psutil
from chromium import Tab, tab

from deli_com import Codec, WsServer, f32, u32, u64
from machine import write

TURN_S = 0.005
COUNT = """
(() => {
  const count = { frames: 0, longest: 0, last: performance.now() };
  const step = (now) => {
    count.frames += 1;
    count.longest = Math.max(count.longest, now - count.last);
    count.last = now;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
  window.benchCount = count;
})()
"""
TAKE = """
(() => {
  const { frames, longest } = window.benchCount;
  window.benchCount.frames = window.benchCount.longest = 0;
  return [frames, longest];
})()
"""


class Reading(Codec, policy="latest", key="sensor", retain=True):
    sensor: str
    number: u64
    value: f32
    state: u32


def serve(pipe: Connection, rate: int, keys: int) -> None:
    """Send until told to end; answer each question with what was sent and left out."""

    async def main() -> None:
        names = [f"sensor {number:04}" for number in range(keys)]
        async with WsServer[Reading, None].bind("127.0.0.1:0", page=True) as server:
            pipe.send(str(server.local_addr()))
            number, start = 0, time.monotonic()
            while True:
                if pipe.poll():
                    if pipe.recv() is None:
                        return
                    stats = server.stats()
                    pipe.send((stats.messages_out, stats.superseded, stats.clients))
                due = int((time.monotonic() - start) * rate)
                while number < due:
                    server.send_nowait(Reading(names[number % keys], number, number % 997 / 10, number & 3))
                    number += 1
                await asyncio.sleep(TURN_S)

    asyncio.run(main())


def renderer(browser: int) -> psutil.Process:
    """The process of the tab: the largest of the browser's renderers."""
    found = [
        child
        for child in psutil.Process(browser).children(recursive=True)
        if "--type=renderer" in child.cmdline()
    ]
    return max(found, key=lambda process: process.memory_info().rss)


def cpu_s(browser: int) -> float:
    times = renderer(browser).cpu_times()
    return float(times.user + times.system)


def measured(page: Tab, browser: int, seconds: float, pipe: Connection | None) -> dict[str, Any]:
    """One row: over so many seconds from now."""
    before, cpu = asked(pipe), cpu_s(browser)
    page.evaluate(TAKE)
    start = time.monotonic()
    time.sleep(seconds)
    frames, longest = page.evaluate(TAKE)
    took = time.monotonic() - start
    after, cpu = asked(pipe), cpu_s(browser) - cpu
    page.call("HeapProfiler.collectGarbage")
    heap = page.call("Runtime.getHeapUsage")["usedSize"]
    return {
        "frames_per_s": frames / took,
        "longest_ms": longest,
        "cpu": cpu / took,
        "heap_mb": heap / 1e6,
        "rss_mb": renderer(browser).memory_info().rss / 1e6,
        "sent_per_s": (after[0] - before[0]) / took,
        "superseded": after[1] - before[1],
    }


def asked(pipe: Connection | None) -> tuple[int, int, int]:
    if pipe is None:
        return 0, 0, 0
    pipe.send(True)
    found: tuple[int, int, int] = pipe.recv()
    return found


def show(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name:>12}  {row['frames_per_s']:6.1f} frames/s  longest {row['longest_ms']:6.1f} ms  "
        f"CPU {row['cpu']:4.2f}  "
        f"JS heap {row['heap_mb']:5.1f} MB  tab {row['rss_mb']:6.1f} MB  "
        f"{row['sent_per_s']:8.0f} values/s  {row['superseded']:6} superseded",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The page under load.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--nice", type=int, help="of browser and server, on a busy machine: -10 (needs root)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, options.rate, options.keys), daemon=True)
    server.start()
    address = pipe.recv()
    rows = {}
    with tab() as (page, browser):
        page.call("Page.enable")
        page.call("HeapProfiler.enable")
        page.size(1280, 800)
        page.evaluate(COUNT)
        if options.nice is not None:
            for process in [
                psutil.Process(server.pid),
                *psutil.Process(browser.pid).children(recursive=True),
            ]:
                process.nice(options.nice)
        rows["empty page"] = measured(page, browser.pid, min(10, options.seconds / 6), None)
        show("empty page", rows["empty page"])
        page.open(f"http://{address}/")
        page.until("document.querySelectorAll('#list .row:not([hidden])').length > 10")
        page.until("document.querySelector('.plot canvas') !== null")  # what moves is plotted by itself
        page.evaluate(COUNT)
        if options.nice is not None:
            renderer(browser.pid).nice(options.nice)  # the page of another site has another process
        for tenth in range(1, 11):
            name = f"to {options.seconds * tenth / 10:.0f} s"
            rows[name] = measured(page, browser.pid, options.seconds / 10, pipe)
            show(name, rows[name])
    pipe.send(None)
    server.join(10)
    if options.json:
        write(options.json, {"page": rows})


if __name__ == "__main__":
    main()
