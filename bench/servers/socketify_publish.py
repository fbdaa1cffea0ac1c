"""socketify (uWebSockets): `app.publish` to one topic, its libuv loop turned by hand, without asyncio."""

from __future__ import annotations

import os
import sys
from typing import Any

from control import Control
from drive import Tally, parse_job, run_turns_blocking, say, wait_ready_blocking

job = parse_job(sys.argv[1:])

from socketify import App, AppListenOptions, CompressOptions, OpCode  # type: ignore[import-untyped,unused-ignore]  # noqa: E402

control = Control(job.control, job.fifo)
tally = Tally(job.messages // job.clients * job.clients)
app = App()
port: list[int] = []


def on_open(ws: Any) -> None:
    ws.subscribe("all")


def on_message(ws: Any, message: bytes, opcode: Any) -> None:
    tally.count += 1
    if tally.count == tally.mark:
        tally.reached()


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 64 << 20,
        "max_backpressure": 0,  # no limit: nothing may be dropped here
        "idle_timeout": 0,
        "send_pings_automatically": False,
        "open": on_open,
        "message": on_message,
    },
)
app.listen(AppListenOptions(port=0, host="127.0.0.1"), lambda config: port.append(config.port))
pump = app.loop.uv_loop.run_nowait
pump()
say({"port": app.socket_port() if not port[0] else port[0], "prefix": 0})
wait_ready_blocking(job, control, pump)
if job.mode == "uplink":
    while not tally.result:
        app.loop.uv_loop.run_once()
    say(tally.result)
else:
    say(run_turns_blocking(job, control, lambda payload: app.publish("all", payload, OpCode.BINARY), pump))
control.stop()
os._exit(0)
