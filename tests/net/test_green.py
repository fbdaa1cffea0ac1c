"""gevent and eventlet replace parts of Python. Values still arrive, or an error explains why not."""

from __future__ import annotations

import importlib.util

import pytest
from alone import run_alone

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")  # eventlet's own, of its age
exec(sys.argv[1])
import asyncio
from deli_com import Client, Codec, Server, WsClient, WsServer, u32

class Reading(Codec):
    x: u32

bound, connecting = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}[sys.argv[2]]

async def main():
    async with await bound[Reading, Reading].bind("127.0.0.1:0") as server:
        async with await connecting[Reading, Reading].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            await server.send(Reading(x=1))
            print(await client.recv())
            await client.send(Reading(x=2))
            print(await server.recv())

try:
    asyncio.run(main())
except RuntimeError as error:
    print(error)
"""

GEVENT = "from gevent import monkey; monkey.patch_all()"
EVENTLET = "import eventlet; eventlet.monkey_patch()"
EVENTLET_BUT_SOCKETS = "import eventlet; eventlet.monkey_patch(socket=False)"


@pytest.mark.parametrize("kind", ["ws", "tcp"])
@pytest.mark.parametrize("patch", [GEVENT, EVENTLET, EVENTLET_BUT_SOCKETS])
def test_a_round_trip_where_python_was_patched(patch: str, kind: str) -> None:
    name = "gevent" if patch is GEVENT else "eventlet"
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: its pin is for Linux")
    done = run_alone(PROGRAM, patch, kind)
    assert (done.stderr, done.returncode) == ("", 0)
    if patch is EVENTLET:
        assert "eventlet has replaced Python's sockets" in done.stdout
    else:
        assert done.stdout == "Reading(x=1)\nReading(x=2)\n"
