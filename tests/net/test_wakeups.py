"""Waking the loop may fail: nothing that was queued, and nobody who waits, is left behind because of that.

Failures are injected into the loop's own methods, so these tests run on asyncio's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import until

from deli_com import Client, ConnectionClosed, Server, WsClient, WsServer, u32

PAIRS = [(WsServer, WsClient), (Server, Client)]
ADDR = "127.0.0.1:0"


class Failing:
    """A method of the loop that raises `error` the next `times` that it is given a callback of this name."""

    def __init__(self, method: str, callback: str, error: type[BaseException], times: int = 1) -> None:
        self.loop = asyncio.get_running_loop()
        self.method, self.callback, self.error, self.left = method, callback, error, times
        self.real = getattr(self.loop, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = next(arg for arg in args if callable(arg))
        if self.left and getattr(given, "__name__", "") == self.callback:
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
