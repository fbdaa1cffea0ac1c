"""Micro rows by pytest-benchmark: the cost of encoding, sending and receiving one value, call by call.

`pytest bench/test_micro.py --benchmark-json=micro.json`; CI keeps the file, `pytest-benchmark compare` reads
two. A round of the send rows is one turn of 64 calls, of the recv rows 256 calls: `extra_info["calls"]` says
how many, so that time / calls is the figure.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from control import READY, Control
from deli_com import WsClient, WsServer, codec
from evolved import EVOLVED
from launch import Child, compiled, options
from values import Reading

TURN = 64
BATCH = 256
CALLS = {"rounds": 200, "iterations": 2000, "warmup_rounds": 5}  # without this it times one call a round


class MsgspecReading(msgspec.Struct, array_like=True):
    """msgspec's counterpart of `values.Reading`."""

    stamp: int
    x: float
    y: float
    count: int
    good: bool


READING = Reading(1_700_000_000, 1.5, -2.5, 7, True)
RIVAL = MsgspecReading(1_700_000_000, 1.5, -2.5, 7, True)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def connect(runner: asyncio.Runner) -> Iterator[Callable[[WsServer[Any, Any], int], None]]:
    """Connects so many clients of the load generator to a server, and lets the server see them."""
    children: list[Child] = []
    with tempfile.TemporaryDirectory() as name:
        page, fifo = Control.create(Path(name))
        control = Control(page, fifo)

        def connect(server: WsServer[Any, Any], count: int) -> None:
            given = {"control": page, "fifo": fifo, "port": server.local_addr().port, "clients": count}
            children.append(Child([str(compiled("load_client")), *options(given)], Path(name) / "load"))

            async def wait() -> None:
                await server.wait_clients(count)
                while control.cells[READY] < count:  # noqa: ASYNC110 (another process sets it)
                    await asyncio.sleep(0.001)

            runner.run(wait())

        yield connect
        for child in children:
            child.end()
        control.close()


class TestCodec:
    def test_encode_five_fields(self, benchmark: Any) -> None:
        benchmark.pedantic(READING.to_bytes, **CALLS)

    def test_decode_five_fields(self, benchmark: Any) -> None:
        benchmark.pedantic(Reading.from_bytes, (READING.to_bytes(),), **CALLS)

    def test_encode_five_fields_msgspec(self, benchmark: Any) -> None:
        benchmark.pedantic(msgspec.msgpack.Encoder().encode, (RIVAL,), **CALLS)

    def test_decode_five_fields_msgspec(self, benchmark: Any) -> None:
        encoded = msgspec.msgpack.encode(RIVAL)
        benchmark.pedantic(msgspec.msgpack.Decoder(MsgspecReading).decode, (encoded,), **CALLS)


class TestSendNowait:
    @pytest.mark.parametrize("clients", [1, 100])
    def test_a_turn(self, benchmark: Any, runner: asyncio.Runner, connect: Any, clients: int) -> None:
        """64 calls in one turn. The first send of a turn, which few clients get at once, is in the set-up."""
        server = runner.run(_bind())
        connect(server, clients)
        send, value = server.send_nowait, READING

        def set_up() -> None:
            runner.run(asyncio.sleep(0.0005))
            send(value)

        def turn() -> None:
            for _ in repeat(None, TURN):
                send(value)

        benchmark.extra_info["calls"] = TURN
        benchmark.pedantic(turn, setup=set_up, rounds=1000, warmup_rounds=20)
        runner.run(server.close(drain=0))

    def test_one_that_is_flushed_at_once(self, benchmark: Any, runner: asyncio.Runner, connect: Any) -> None:
        """One call on a quiet line with one client: encoding and the system call."""
        server = runner.run(_bind())
        connect(server, 1)
        benchmark.extra_info["calls"] = 1
        benchmark.pedantic(
            server.send_nowait, (READING,), setup=lambda: runner.run(asyncio.sleep(0.0005)), rounds=1000
        )
        runner.run(server.close(drain=0))

    def test_encode_msgspec_a_turn(self, benchmark: Any) -> None:
        """The same loop around msgspec's encoder."""
        encode, value = msgspec.msgpack.Encoder().encode, RIVAL

        def turn() -> None:
            for _ in repeat(None, TURN):
                encode(value)

        benchmark.extra_info["calls"] = TURN
        benchmark.pedantic(turn, rounds=1000, warmup_rounds=20)


class TestRecv:
    @pytest.mark.parametrize("style", ["recv", "async_for", "recv_many"])
    def test_values_that_are_there(self, benchmark: Any, runner: asyncio.Runner, style: str) -> None:
        """256 values of five fields that wait in the inbox, taken by a coroutine that never suspends."""
        server, client = runner.run(_pair())

        async def by_recv() -> None:
            for _ in repeat(None, BATCH):
                await client.recv()

        async def by_async_for() -> None:
            left = BATCH
            async for _ in client:
                left -= 1
                if not left:
                    break

        async def by_recv_many() -> None:
            left = BATCH
            while left:
                left -= len(await client.recv_many(left))

        take = {"recv": by_recv, "async_for": by_async_for, "recv_many": by_recv_many}[style]

        async def arrive() -> None:
            wanted = client.messages_in + BATCH
            for _ in range(BATCH):
                server.send_nowait(READING)
            while client.messages_in < wanted:  # noqa: ASYNC110 (nothing else may take part)
                await asyncio.sleep(0)

        def taken() -> None:
            try:
                take().send(None)
            except StopIteration:
                return
            raise AssertionError("it suspended")

        benchmark.extra_info["calls"] = BATCH
        benchmark.pedantic(taken, setup=lambda: runner.run(arrive()), rounds=300, warmup_rounds=5)
        runner.run(_close(server, client))


async def _bind() -> WsServer[Reading, Reading]:
    return await WsServer[Reading].bind("127.0.0.1:0")


async def _pair() -> tuple[WsServer[Reading, Reading], WsClient[Reading, Reading]]:
    server = await _bind()
    return server, await WsClient[Reading].connect(server.local_addr())


async def _close(server: WsServer[Any, Any], client: WsClient[Any, Any]) -> None:
    await client.close()
    await server.close(drain=0)


@pytest.mark.parametrize("name", EVOLVED)
@pytest.mark.parametrize("how", ["plain", "resolved"])
def test_evolved(benchmark: Any, name: str, how: str) -> None:
    """Decoding another version's bytes; `plain` decodes with the same version. Wanted: a ratio below 1.5."""
    writer, reader, value = EVOLVED[name]
    decode = codec(reader).reading(codec(writer).schema) if how == "resolved" else codec(writer)
    benchmark.pedantic(decode.from_bytes, (value.to_bytes(),), **CALLS)
