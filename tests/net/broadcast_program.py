"""A server, or clients, in a separate process, to measure its peak memory. test_memory.py runs it.

::

    broadcast_program.py server '{"kind": "bytes", "readers": 20, "stalled": 1, "messages": 9, "options": {}}'
    broadcast_program.py clients '{"kind": "bytes", "address": [...], "clients": 5, "messages": 9}'

Both print one JSON object per line. The server prints its address. When it has sent everything and the
reading clients have the last message, it prints its observations, and waits for the end of its standard
input. The clients print how many messages each got, without duplicates and in order, after the end of their
standard input.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import struct
import sys
import time
from typing import Any

from deli_com import Array, ConnectionClosed, WsClient, WsServer, f32

MESSAGE_BYTES = 1_000_000
PATIENCE_S = 10.0  # for a reader to catch up
TYPES: dict[str, Any] = {"bytes": bytes, "array": Array[f32]}


def peak_bytes() -> int:
    """Largest resident size that this process ever had (VmHWM)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def value_of(kind: str, number: int) -> Any:
    """The message `number`: 1 MB on the wire, another one each time."""
    if kind == "bytes":
        return struct.pack("<I", number) + bytes(MESSAGE_BYTES - 8)
    values = array.array("f", bytes(MESSAGE_BYTES - 4))
    values[0] = number
    return values


def number_of(kind: str, value: Any) -> int:
    if kind == "bytes":
        assert len(value) == MESSAGE_BYTES - 4
        return int(struct.unpack_from("<I", value)[0])
    assert len(value) == (MESSAGE_BYTES - 4) // 4
    return int(value[0])


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.name}: {record.getMessage()}")


async def serve(kind: str, readers: int, stalled: int, messages: int, options: dict[str, Any]) -> None:
    records = Records()
    logging.getLogger("deli_com").addHandler(records)
    server = await WsServer[TYPES[kind]].bind("127.0.0.1:0", close_timeout=60.0, **options)
    say(address=server.local_addr())
    await server.wait_clients(readers + stalled)
    before, began = peak_bytes(), time.monotonic()
    longest = 0.0
    for number in range(messages):
        value = value_of(kind, number)
        start = time.monotonic()
        await server.send(value)
        longest = max(longest, time.monotonic() - start)
        del value
    seconds = time.monotonic() - began
    with contextlib.suppress(TimeoutError):  # a reader that was cut off says nothing: the test sees that
        for _ in range(readers):  # each says with one empty message that it has everything
            await asyncio.wait_for(server.recv(), PATIENCE_S)
    say(
        growth=peak_bytes() - before,
        seconds=seconds,
        longest=longest,
        warnings=records.texts,
        clients=server.client_count(),
        skipped=server.stats().skipped,
        superseded=server.stats().superseded,
    )
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for connection in server._connections():
        connection._abort()
    await server.close()


async def read_all(kind: str, address: list[Any], clients: int, messages: int) -> None:
    async def one() -> int:
        async with WsClient[TYPES[kind]].connect(tuple(address)) as client:
            received, last = 0, -1
            try:
                while last < messages - 1:
                    number = number_of(kind, await client.recv())
                    assert number > last
                    received, last = received + 1, number
            except ConnectionClosed as error:
                print(error, file=sys.stderr)
            else:
                await client.send(b"" if kind == "bytes" else array.array("f"))
                await leaving.wait()
            return received

    leaving = asyncio.Event()
    tasks = [asyncio.create_task(one()) for _ in range(clients)]
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: leaving.set())
    say(received=await asyncio.gather(*tasks))


if __name__ == "__main__":
    role, settings = sys.argv[1], json.loads(sys.argv[2])
    asyncio.run(serve(**settings) if role == "server" else read_all(**settings))
