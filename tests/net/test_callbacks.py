"""Callbacks of the program that raise what is no `Exception`: one failure of one callback, with a log record.

`KeyboardInterrupt` and `SystemExit` end the loop, as they do from callbacks of asyncio. If it runs again, all
goes on where it was, and nobody waits for what was ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, until

from deli_com import Client, Codec, DecodeError, Server, WsClient, WsServer, codec, u32


class Other(BaseException):
    """Of a program's own."""


NO_EXCEPTIONS = [asyncio.CancelledError, GeneratorExit, Other]
ENDS = [KeyboardInterrupt, SystemExit]
PAIRS = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Raised:
    error: type[BaseException] | None = None  # by `Value`


class Value(Codec):
    """Raises what a test has set, for the number 7."""

    n: u32

    def __post_init__(self) -> None:
        if self.n == 7 and Raised.error is not None:
            raise Raised.error


class Newest(Value, policy="latest"):
    """The same, decoded by the task that receives."""


def raising(
    error: type[BaseException], is_async: bool, raised: list[object] | None = None
) -> Callable[..., Any]:
    def function(*args: object) -> None:
        if raised is not None:
            raised.append(args)
        raise error

    async def coroutine(*args: object) -> None:
        await asyncio.sleep(0)
        function(*args)

    return coroutine if is_async else function


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged; nothing by asyncio or picows, and each with the exception."""
    assert not [record for record in caplog.records if not record.name.startswith("deli_com")]
    found = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(record.exc_info for record in found)
    return [record.getMessage() for record in found]


@pytest.fixture(params=list(PAIRS))
def pair(request: pytest.FixtureRequest) -> Any:
    return PAIRS[request.param]


@pytest.fixture(params=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async")


@pytest.fixture(autouse=True)
def _no_error() -> Any:
    yield
    Raised.error = None


async def status_of(server: Any, head: bytes) -> int:
    peer = await RawPeer.open(server.local_addr())
    try:
        await peer.send(head)
        return int((await peer.read_until(b"\r\n\r\n")).split()[1])
    finally:
        peer.close()


@contextlib.asynccontextmanager
async def telling(texts: list[bytes]) -> AsyncIterator[Any]:
    """A TCP server of `u32` that gets a 3, says these texts, and then sends 5, in one piece."""
    name = codec(u32).schema.hash

    def frame(text: bytes) -> bytes:
        return b"\xff\xff\xff\xff" + struct.pack("<I", len(text)) + text

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        hello = f"deli 1 hello down={name} up={name}".encode()
        writer.write(frame(hello))
        await reader.readuntil(struct.pack("<II", 4, 3))
        writer.write(b"".join(map(frame, [*texts])) + struct.pack("<II", 4, 5))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


@pytest.mark.parametrize("error", NO_EXCEPTIONS)
class TestNoException:
    @pytest.mark.parametrize("which", ["authorize", "http", "http_authorize"])
    async def test_a_handshake_is_answered(self, which: str, is_async: bool, error: Any, caplog: Any) -> None:
        options: dict[str, Any] = {"http": {"/": b"page"}, which: raising(error, is_async)}
        async with WsServer[u32].bind("127.0.0.1:0", open_timeout=60, **options) as server:
            assert await status_of(server, PLAIN_HEAD if which == "authorize" else GET) == 500
            assert len(failures(caplog)) == 1

    async def test_origins(self, error: Any, caplog: Any) -> None:
        async with WsServer[u32].bind("127.0.0.1:0", origins=raising(error, False)) as server:
            head = PLAIN_HEAD.replace(b"\r\n\r\n", b"\r\nOrigin: http://x\r\n\r\n")
            assert await status_of(server, head) == 500
            assert len(failures(caplog)) == 1

    async def test_the_connection_lives(self, pair: Any, is_async: bool, error: Any, caplog: Any) -> None:
        """Both callbacks of a server, and what it sends meanwhile arrives."""
        server_type, client_type = pair
        told = {name: raising(error, is_async) for name in ("on_connect", "on_disconnect")}
        async with server_type[u32].bind("127.0.0.1:0", **told) as server:
            async with client_type[u32].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                await server.send(1)
                await client.send(2)
                assert await client.recv() == 1
                assert await server.recv() == 2
            await until(lambda: len(failures(caplog)) == 2)
        assert [text.split()[0] for text in failures(caplog)] == ["on_connect", "on_disconnect"]

    async def test_on_gap(self, is_async: bool, error: Any, caplog: Any) -> None:
        async with telling([b"deli 1 gap u32 skipped=1 superseded=0"]) as addr:
            async with Client[u32].connect(addr, schema="check") as client:
                client.on_gap(raising(error, is_async))
                await client.send(3)
                assert await client.recv() == 5
                await until(lambda: failures(caplog) == ["on_gap raised"])

    async def test_a_value_that_refuses_its_fields(self, pair: Any, error: Any, caplog: Any) -> None:
        """The message is lost, as for any other exception, and those around it are not."""
        server_type, client_type = pair
        async with (
            server_type[Value].bind("127.0.0.1:0") as server,
            client_type[Value].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            for end in (server, client):
                for number in (6, 7, 8):
                    end.send_nowait(Value(number))
            Raised.error = error
            assert [(await server.recv()).n for _ in range(2)] == [6, 8]
            assert server.undecodable == 1
            assert (await client.recv()).n == 6
            with pytest.raises(DecodeError, match=f"{error.__name__} while the value was made"):
                await client.recv()
            assert (await client.recv()).n == 8
            assert failures(caplog) == []

    async def test_a_value_that_is_decoded_as_it_is_taken(self, pair: Any, error: Any) -> None:
        server_type, client_type = pair
        async with (
            server_type[Newest].bind("127.0.0.1:0") as server,
            client_type[Newest].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            await server.send(Newest(7))
            Raised.error = error
            with pytest.raises(DecodeError, match=f"{error.__name__} while the value was made"):
                await client.recv()
            await server.send(Newest(8))
            assert (await client.recv()).n == 8

    async def test_a_stream_logs_its_listeners(self, is_async: bool, error: Any, caplog: Any) -> None:
        names = ("on_connect", "on_disconnect", "on_gap")
        told = {name: raising(error, is_async) for name in names}
        server = await WsServer[u32].bind("127.0.0.1:0")
        addr = server.local_addr()
        async with WsClient[u32].stream(addr, first_delay=0.01, **told) as stream:
            for number in (1, 2):
                await server.wait_clients(1)
                await server.send(number)
                assert await anext(stream) == number
                if number == 1:
                    await server.close()
                    server = await WsServer[u32].bind(addr)
        await server.close()
        await until(lambda: {text.split()[0] for text in failures(caplog)} == {*names})

    @pytest.mark.parametrize("which", ["headers", "on_reconnect"])
    async def test_a_step_of_a_stream_raises(self, which: str, is_async: bool, error: Any) -> None:
        """It is called once for a step, and no step spins."""
        calls: list[object] = []
        server = await WsServer[u32].bind("127.0.0.1:0")
        addr = server.local_addr()
        function = raising(error, is_async, calls)
        async with WsClient[u32].stream(addr, first_delay=0.01, **{which: function}) as stream:
            if which == "on_reconnect":
                step = asyncio.ensure_future(anext(stream))
                await server.wait_clients(1)
                await server.send(1)
                assert await step == 1
                await server.close()
                server = await WsServer[u32].bind(addr)
            with pytest.raises(RuntimeError, match=r"a callback raised|what a callback awaits"):
                await anext(stream)
            assert len(calls) == 1
        await server.close()


class Runs:
    """A loop that ends by an exception, and runs again."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def __call__(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def ends(self, error: type[BaseException], work: Any) -> None:
        """Run until `error` comes out of the loop; `work` goes on in its next run."""
        task = self.loop.create_task(work)
        with pytest.raises(error):
            self(asyncio.sleep(20))
        self(task)

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self(asyncio.sleep(0))
        self.loop.close()


@pytest.fixture
def runs() -> Any:
    made = Runs()
    yield made
    made.close()


@pytest.mark.parametrize("error", ENDS)
class TestEnds:
    @pytest.mark.parametrize("which", ["authorize", "http", "http_authorize"])
    def test_a_handshake_is_answered_all_the_same(
        self, which: str, is_async: bool, error: Any, runs: Any
    ) -> None:
        options: dict[str, Any] = {"http": {"/": b"page"}, which: raising(error, is_async)}
        head = PLAIN_HEAD if which == "authorize" else GET
        server = runs(_made(WsServer[u32].bind("127.0.0.1:0", open_timeout=60, **options)))

        async def ask() -> None:
            assert await status_of(server, head) == 500

        runs.ends(error, ask())
        runs(server.close())

    def test_origins(self, error: Any, runs: Any) -> None:
        bad = raising(error, False)
        server = runs(_made(WsServer[u32].bind("127.0.0.1:0", open_timeout=60, origins=bad)))

        async def ask() -> None:
            head = PLAIN_HEAD.replace(b"\r\n\r\n", b"\r\nOrigin: http://x\r\n\r\n")
            assert await status_of(server, head) == 500

        runs.ends(error, ask())
        runs(server.close())

    @pytest.mark.parametrize("which", ["on_connect", "on_disconnect"])
    def test_others_are_served(self, pair: Any, which: str, is_async: bool, error: Any, runs: Any) -> None:
        server_type, client_type = pair
        bad = raising(error, is_async)
        calls: list[object] = []

        def first(*args: object) -> Any:
            calls.append(args)
            return bad() if len(calls) == 1 else None

        server = runs(_made(server_type[u32].bind("127.0.0.1:0", **{which: first})))

        async def come_and_go() -> None:
            async with client_type[u32].connect(server.local_addr()) as client:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(client.recv(), 0.1)

        async def exchange() -> None:
            async with client_type[u32].connect(server.local_addr()) as client:
                await client.send(1)
                assert await server.recv() == 1
                await server.send(2)
                assert await client.recv() == 2

        runs.ends(error, come_and_go())
        runs(exchange())
        runs(server.close())
        assert server.client_count() == 0

    def test_on_gap(self, is_async: bool, error: Any, runs: Any) -> None:
        """What came behind the gap is not lost."""

        async def hear() -> None:
            async with telling([b"deli 1 gap u32 skipped=1 superseded=0"] * 2) as addr:
                async with Client[u32].connect(addr, schema="check") as client:
                    bad = raising(error, is_async)
                    client.on_gap(lambda gap: bad() if client.stats().gaps == 1 else None)
                    await client.send(3)
                    assert await client.recv() == 5
                    assert client.stats().gaps == 2
                    await asyncio.sleep(0.01)

        runs.ends(error, hear())

    def test_a_value_that_refuses_its_fields(self, pair: Any, error: Any, runs: Any) -> None:
        """What came behind it, in the same read, is not lost."""
        server_type, client_type = pair

        async def exchange() -> None:
            async with (
                server_type[Value].bind("127.0.0.1:0") as server,
                client_type[Value].connect(server.local_addr()) as client,
            ):
                await server.wait_clients(1)
                for number in (6, 7, 8):
                    client.send_nowait(Value(number))
                Raised.error = error
                assert [(await server.recv()).n for _ in range(2)] == [6, 8]

        runs.ends(error, exchange())


async def _made(opening: Any) -> Any:
    return await opening
