"""Waking the loop may fail. No queued message and no waiting task is left behind then.

Failures are injected into methods of the loop, so these tests run on asyncio's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, until

from deli_com import Client, Codec, ConnectionClosed, Server, WsClient, WsServer, u32

PAIRS = [(WsServer, WsClient), (Server, Client)]
ADDR = "127.0.0.1:0"


class Failing:
    """A method of the loop that raises `error` the next `times` that it is given a callback of this name."""

    def __init__(
        self, method: str, callback: str, error: type[BaseException], times: int = 1, skip: int = 0
    ) -> None:
        self.loop, self.skip = asyncio.get_running_loop(), skip
        self.method, self.callback, self.error, self.left = method, callback, error, times
        self.real = getattr(self.loop, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = next(arg for arg in args if callable(arg))
        if self.left and getattr(given, "__name__", "") == self.callback:
            if self.skip:
                self.skip -= 1
                return self.real(*args, **kwargs)
            self.left -= 1
            raise self.error("injected")
        return self.real(*args, **kwargs)

    def __enter__(self) -> Failing:
        setattr(self.loop, self.method, self)
        return self

    def __exit__(self, *_: object) -> None:
        delattr(self.loop, self.method)


def in_asyncio(body: Callable[..., Any]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(limited())


def in_thread(work: Callable[[], Any]) -> BaseException | None:
    """Run it in another thread while the loop stands still; gives what it raised."""
    raised: list[BaseException] = []

    def caught() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=caught)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.parametrize("kinds", PAIRS, ids=["ws", "tcp"])
class TestSending:
    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
    @pytest.mark.parametrize("again", [True, False], ids=["next send", "sweep"])
    def test_a_turn_that_could_not_be_scheduled(self, kinds, error, again):
        """What was queued goes out with the next send, or within a sweep where there is none."""

        async def body() -> None:
            async with (
                kinds[0][u32].bind(ADDR) as server,
                kinds[1][u32].connect(server.local_addr()) as client,
            ):
                await server.wait_clients(1)
                sent = 0
                with Failing("call_soon", "_turn_of", error) as failing:
                    while failing.left:  # the first goes out at once, and needs no turn
                        sent += 1
                        with contextlib.suppress(error):
                            server.send_nowait(sent)
                    if again:
                        sent += 1
                        server.send_nowait(sent)
                assert [await client.recv() for _ in range(sent)] == list(range(1, sent + 1))

        in_asyncio(body)

    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
    @pytest.mark.parametrize("again", [True, False], ids=["next send", "sweep"])
    def test_a_thread_that_could_not_wake_the_loop(self, kinds, error, again):
        async def body() -> None:
            async with (
                kinds[0][u32].bind(ADDR) as server,
                kinds[1][u32].connect(server.local_addr()) as client,
            ):
                await server.wait_clients(1)
                with Failing("call_soon_threadsafe", "_drain_of", error):
                    assert isinstance(in_thread(lambda: server.send_nowait(1)), error)
                    if again:
                        assert in_thread(lambda: server.send_nowait(2)) is None
                assert await client.recv() == 1
                if again:
                    assert await client.recv() == 2

        in_asyncio(body)

    def test_a_drain_that_an_exception_ends_goes_on(self, kinds):
        """One message's trouble is told to the loop; those behind it arrive."""

        async def body() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with (
                kinds[0][u32].bind(ADDR) as server,
                kinds[1][u32].connect(server.local_addr()) as client,
            ):
                await server.wait_clients(1)
                assert in_thread(lambda: [server.send_nowait(i) for i in range(100)]) is None
                with Failing("call_soon", "_turn_of", MemoryError):
                    assert [await client.recv() for _ in range(100)] == list(range(100))
            assert [type(context["exception"]) for context in told] == [MemoryError]

        in_asyncio(body)

    def test_a_sweep_that_could_not_be_set_comes_with_the_next_send(self, kinds):
        """Without it no deadline would be watched any more."""

        async def body() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with kinds[0][bytes].bind(ADDR, progress_timeout=0.2) as server:
                stalled = await RawPeer.open(server.local_addr())
                stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                if kinds[0] is WsServer:
                    await stalled.send(PLAIN_HEAD)
                    await stalled.read_until(b"\r\n\r\n")
                await server.wait_clients(1)
                with Failing("call_later", "_run", MemoryError) as failing:
                    with contextlib.suppress(MemoryError):
                        server.send_nowait(bytes(8 << 20))
                    await until(lambda: not failing.left)
                server.send_nowait(b"next")
                await until(lambda: server.client_count() == 0)
                stalled.close()
            assert len(told) <= 1 and all(isinstance(c["exception"], MemoryError) for c in told)

        in_asyncio(body)

    @pytest.mark.parametrize("window", ["first", "second"])
    def test_a_window_of_the_pacer_that_could_not_be_set(self, kinds, window):
        """One that takes nothing holds others up for a fraction of a second all the same."""

        async def body() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
            async with (
                kinds[0][bytes].bind(ADDR, progress_timeout=None) as server,
                kinds[1][bytes].connect(server.local_addr()) as client,
            ):
                stalled = await RawPeer.open(server.local_addr())
                stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                if kinds[0] is WsServer:
                    await stalled.send(PLAIN_HEAD)
                    await stalled.read_until(b"\r\n\r\n")
                await server.wait_clients(2)

                async def receive() -> None:
                    while len(await client.recv()) > 1:
                        pass

                async def produce(least: int) -> None:
                    # 12 MiB: less than the backlog, more than what pacing waits for
                    for _ in range(24):
                        try:
                            await server.send(bytes(1 << 19))
                        except MemoryError:
                            assert window == "first"

                receiving = asyncio.create_task(receive())
                producing = asyncio.create_task(produce(24))
                if window == "second":
                    await until(lambda: any(w for w in [server.stats().laggards]))
                with Failing("call_later", "_window_of", MemoryError) as failing:
                    await until(lambda: not failing.left)
                await producing
                await server.send(b".")
                await receiving
                assert server.client_count() == 2
                stalled.close()
            assert len(told) == (window == "second")

        in_asyncio(body)

    def test_a_departure_that_could_not_be_told_at_once(self, kinds):
        """The next one brings it."""

        async def body() -> None:
            gone: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            async with kinds[0][u32].bind(ADDR, on_disconnect=lambda peer, why: gone.append(peer)) as server:
                clients = [await kinds[1][u32].connect(server.local_addr()) for _ in range(2)]
                await server.wait_clients(2)
                with Failing("call_soon", "_tell", MemoryError):
                    await clients[0].close()
                    await until(lambda: server.client_count() == 1)
                await clients[1].close()
                await until(lambda: len(gone) == 2)

        in_asyncio(body)

    def test_an_acceptor_that_fails_to_close_ends_the_server_all_the_same(self, kinds):
        async def body() -> None:
            server = await kinds[0][u32].bind(ADDR)
            client = await kinds[1][u32].connect(server.local_addr())
            receiving = asyncio.ensure_future(server.recv())
            await server.wait_clients(1)
            real = server._acceptor

            class Broken:
                def close(self) -> None:
                    raise MemoryError

                async def wait_closed(self) -> None:
                    pass

            server._acceptor = Broken()
            with pytest.raises(MemoryError):
                await server.close()
            with pytest.raises(ConnectionClosed):
                await receiving
            await server.close()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()
            real.close()
            await real.wait_closed()

        in_asyncio(body)


class Pose(Codec, policy="latest"):
    x: u32


@pytest.mark.parametrize("kinds", PAIRS, ids=["ws", "tcp"])
@pytest.mark.parametrize(("callback", "skip"), [("_on_turn", 0), ("_on_refresh", 0), ("_on_refresh", 1)])
def test_a_turn_of_an_inbox_that_could_not_be_scheduled(kinds, callback, skip):
    """A program that was away reads once more before it takes: it gets its value whatever fails there."""

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with kinds[0][Pose].bind(ADDR) as server, kinds[1][Pose].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            with Failing("call_soon", callback, MemoryError, skip=skip) as failing:
                for number in range(30):
                    server.send_nowait(Pose(x=number))
                    server.send_nowait(Pose(x=number))
                    with contextlib.suppress(MemoryError, ConnectionClosed):
                        await client.recv()
                    time.sleep(0.02)  # noqa: ASYNC251 - the loop stands still, as in a program that works
                    with contextlib.suppress(MemoryError, ConnectionClosed):
                        async with asyncio.timeout(1):
                            await client.recv()
                    if not failing.left:
                        break
            assert not failing.left
            server.send_nowait(Pose(x=99))
            try:
                while (await client.recv()).x != 99:
                    pass
            except ConnectionClosed:  # a value that could not be taken in costs its connection
                assert callback == "_on_turn"

    in_asyncio(body)


@pytest.mark.parametrize("kinds", PAIRS, ids=["ws", "tcp"])
def test_accepting_comes_back_when_the_kernel_has_no_memory_to_watch(kinds):
    async def body() -> None:
        async with kinds[0][u32].bind(ADDR) as server:
            acceptor = server._acceptor
            (accepting,) = getattr(acceptor, "_acceptor", acceptor)._accept_loops
            with Failing("add_reader", "_ready", OSError) as failing:
                accepting._rest(OSError(errno.ENOMEM, "injected"))
                await until(lambda: not failing.left)
            async with kinds[1][u32].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                server.send_nowait(3)
                assert await client.recv() == 3

    in_asyncio(body)


PROGRAM = """
import asyncio, deli_com, sys
kinds = (deli_com.WsServer, deli_com.WsClient) if {ws} else (deli_com.Server, deli_com.Client)
async def main():
    global server, client
    server = await kinds[0][bytes].bind("127.0.0.1:0")
    client = await kinds[1][bytes].connect(server.local_addr())
    await server.wait_clients(1)
    server.send_nowait(b"x")
    if {leave} == "sys.exit":
        sys.exit(0)
    if {leave} == "raise":
        raise LookupError("of the program")
if {uvloop}:
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
loop = asyncio.new_event_loop()
if {runner}:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
else:
    loop.run_until_complete(main())
"""


@pytest.mark.parametrize("ws", [True, False], ids=["ws", "tcp"])
@pytest.mark.parametrize("leave", ["sys.exit", "raise", "end"])
@pytest.mark.parametrize("runner", [True, False], ids=["runner", "loop"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_interpreter_exits_quietly_with_a_global_server_and_its_client(ws, leave, runner, loop):
    """But for the program's own traceback, if it ends by an exception."""
    program = PROGRAM.format(ws=ws, leave=repr(leave), runner=runner, uvloop=loop == "uvloop")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    if leave == "raise":
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):\n")
        assert done.stderr.count("Traceback") == 1
        assert done.stderr.endswith("\nLookupError: of the program\n")
    else:
        assert (done.returncode, done.stderr) == (0, "")
