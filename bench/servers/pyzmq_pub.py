"""pyzmq: one PUB socket, its I/O thread on the same core. Not WebSocket: ZMTP over TCP, for scale."""

from __future__ import annotations

import os
import sys
import time

from control import Control
from drive import parse_job, run_turns_blocking, say, wait_ready_blocking

job = parse_job(sys.argv[1:])

import zmq  # noqa: E402

control = Control(job.control, job.fifo)
socket = zmq.Context().socket(zmq.PUB)
socket.set(zmq.SNDHWM, 0)  # no limit: a PUB drops messages above its high-water mark
port = socket.bind_to_random_port("tcp://127.0.0.1")
say({"port": port, "prefix": 0})
wait_ready_blocking(job, control, lambda: None)
time.sleep(0.3)  # PUB does not report that subscriptions have arrived; the load's count shows if one was late
say(run_turns_blocking(job, control, socket.send, lambda: None))
control.stop()
os._exit(0)
