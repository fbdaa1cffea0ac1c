"""Public calls in the wrong event loop or thread raise RuntimeError before anything changes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from helpers import open_sockets, until

from deli_com import Client, ConnectionClosed, Server, WsClient, WsServer, u32

ADDR = "127.0.0.1:0"
PAIRS = [(WsServer, WsClient), (Server, Client)]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """What ended loops leave unclosed goes here, where its warnings are expected."""
    yield
    gc.collect()


async def opened(kinds) -> tuple[Any, Any, Any, Any]:
    """A server, its client, the client's peer and a group with it."""
    server = await kinds[0][u32].bind(ADDR)
    client = await kinds[1][u32].connect(server.local_addr())
    await server.wait_clients(1)
    (peer,) = server.clients
    group = server.group("g")
    group.add(peer)
    return server, client, peer, group


# What may be called from any thread is not in the second list.
ANYWHERE: dict[str, Callable[..., Any]] = {
    "server.send_nowait": lambda server, client, peer, group: server.send_nowait(1),
    "client.send_nowait": lambda server, client, peer, group: client.send_nowait(1),
    "peer.send_nowait": lambda server, client, peer, group: peer.send_nowait(1),
    "group.send_nowait": lambda server, client, peer, group: group.send_nowait(1),
}
AT_HOME: dict[str, Callable[..., Any]] = {
    "server.send": lambda server, client, peer, group: server.send(1),
    "client.send": lambda server, client, peer, group: client.send(1),
    "peer.send": lambda server, client, peer, group: peer.send(1),
    "group.send": lambda server, client, peer, group: group.send(1),
    "server.flush": lambda server, client, peer, group: server.flush(),
    "client.flush": lambda server, client, peer, group: client.flush(),
    "server.forget": lambda server, client, peer, group: server.forget(),
    "group.forget": lambda server, client, peer, group: group.forget(),
    "server.clients": lambda server, client, peer, group: server.clients,
    "server.group": lambda server, client, peer, group: server.group("h"),
    "group.add": lambda server, client, peer, group: group.add(peer),
    "group.discard": lambda server, client, peer, group: group.discard(peer),
    "group.members": lambda server, client, peer, group: group.members,
    "peer.close": lambda server, client, peer, group: peer.close(),
    "server.recv": lambda server, client, peer, group: server.recv(),
    "client.recv": lambda server, client, peer, group: client.recv(),
    "client.recv_many": lambda server, client, peer, group: client.recv_many(3),
    "server.recv_from": lambda server, client, peer, group: server.recv_from(),
    "async for client": lambda server, client, peer, group: client.__aiter__().__anext__(),
    "async for with_peer": lambda server, client, peer, group: server.with_peer().__aiter__().__anext__(),
    "server.wait_clients": lambda server, client, peer, group: server.wait_clients(1),
    "client.wait_live": lambda server, client, peer, group: client.wait_live(),
    "client.on_gap": lambda server, client, peer, group: client.on_gap(print),
    "server.record_last": lambda server, client, peer, group: server.record_last(seconds=1),
    "client.record_last": lambda server, client, peer, group: client.record_last(seconds=1),
    "server.close": lambda server, client, peer, group: server.close(),
    "client.close": lambda server, client, peer, group: client.close(),
    "server aexit": lambda server, client, peer, group: server.__aexit__(None, None, None),
}


async def call(function: Callable[..., Any], *given: Any) -> None:
    result = function(*given)
    if hasattr(result, "__await__"):
        await result


def stacks(kinds, stack: ExitStack, *, ended: bool):
    """A runner and what was opened in it; the runner is closed before the test goes on if `ended`."""
    runner = asyncio.Runner()
    stack.callback(runner.close)
    things = runner.run(opened(kinds))
    if ended:
        runner.close()
    return runner, things


@pytest.mark.parametrize("kinds", PAIRS, ids=["ws", "tcp"])
class TestAnotherLoop:
    @pytest.mark.parametrize("name", [*ANYWHERE, *AT_HOME])
    def test_after_the_loop_has_ended(self, kinds, name):
        """In a second asyncio.run every call is refused, each time that it is tried."""
        with ExitStack() as stack:
            _, things = stacks(kinds, stack, ended=True)
            function = (ANYWHERE | AT_HOME)[name]
            for _ in range(3):
                with pytest.raises(RuntimeError, match=r"after its event loop had ended|another event loop"):
                    asyncio.run(call(function, *things))

    @pytest.mark.parametrize("name", [*ANYWHERE, *AT_HOME])
    def test_while_the_own_loop_only_rests(self, kinds, name):
        """Nothing is changed: back in the own loop, all works."""
        with ExitStack() as stack:
            runner, things = stacks(kinds, stack, ended=False)
            with pytest.raises(RuntimeError, match="in another event loop"):
                asyncio.run(call((ANYWHERE | AT_HOME)[name], *things))
            runner.run(self.check(*things))

    async def check(self, server, client, peer, group) -> None:
        assert server.clients == {peer} == group.members
        server.send_nowait(7)
        assert await client.recv() == 7
        await client.send(8)
        assert await server.recv() == 8
        await client.close()
        await server.close()

    def test_from_within_a_thread_that_has_a_loop(self, kinds):
        """`to_thread(asyncio.run, server.close())` is refused, and the right close() still works."""

        async def body() -> None:
            before = open_sockets()
            things = await opened(kinds)
            client = things[1]
            for name in AT_HOME:
                with pytest.raises(RuntimeError, match="from thread"):
                    await asyncio.to_thread(lambda name=name: asyncio.run(call(AT_HOME[name], *things)))
            await self.check(*things)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await until(lambda: open_sockets() == before)

        asyncio.run(body())

    def test_other_threads_may_send_and_are_told_when_the_loop_has_ended(self, kinds):
        with ExitStack() as stack:
            runner, things = stacks(kinds, stack, ended=False)
            errors: list[BaseException | None] = []

            def work() -> None:
                try:
                    things[0].send_nowait(1)
                    errors.append(None)
                except BaseException as error:
                    errors.append(error)

            async def sent() -> None:
                await asyncio.to_thread(work)
                assert await things[1].recv() == 1

            runner.run(sent())
            runner.close()
            for _ in range(2):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
            assert errors[0] is None
            assert [type(error) for error in errors[1:]] == [RuntimeError] * 2


def test_what_has_been_checked_once_is_checked_again_in_the_next_run():
    """The short look holds for one run of the loop, not for its next one, nor for a loop in between."""
    runner, other = asyncio.Runner(), asyncio.Runner()

    async def sends(server) -> None:
        server.send_nowait(1)

    async def bind() -> Any:
        server = await WsServer[u32].bind(ADDR)
        server.send_nowait(1)
        return server

    server = runner.run(bind())
    for _ in range(3):
        runner.run(sends(server))
        with pytest.raises(RuntimeError, match="another event loop"):
            other.run(sends(server))
    server.send_nowait(1)  # between two runs: it goes out in the next
    runner.run(server.close())
    runner.close()
    other.close()


@pytest.mark.parametrize("kind", [WsServer, Server, WsClient, Client])
def test_without_an_event_loop_of_asyncio_nothing_is_opened(kind):
    """As under trio: the coroutine is stepped by something that is no asyncio loop."""
    opening = kind[u32].bind(ADDR) if kind in (WsServer, Server) else kind[u32].connect("127.0.0.1:9")
    before = open_sockets()
    with pytest.raises(RuntimeError, match="asyncio"):
        opening.send(None)
    assert open_sockets() == before


@pytest.mark.parametrize("kind", [WsServer, Server, WsClient, Client])
def test_under_trio_nothing_is_opened(kind):
    """The error of the call itself, and the same of `async with`; no socket is left."""
    opening = kind[u32].bind if kind in (WsServer, Server) else kind[u32].connect
    before = open_sockets()

    async def awaited() -> None:
        await opening("127.0.0.1:9")

    async def entered() -> None:
        async with opening("127.0.0.1:9"):
            pass

    for use in (awaited, entered):
        with pytest.raises(RuntimeError, match="asyncio"):
            trio.run(use)
        assert open_sockets() == before


def test_under_trio_a_server_of_asyncio_says_so():
    """What was opened in a loop that rests is refused, by trio where it would wait, and works in its loop."""
    with ExitStack() as stack:
        runner, things = stacks((WsServer, WsClient), stack, ended=False)
        for name in ("server.close", "client.close", "server.recv", "client.recv", "server.wait_clients"):
            with pytest.raises((RuntimeError, TypeError), match="asyncio"):
                trio.run(call, AT_HOME[name], *things)
        runner.run(TestAnotherLoop().check(*things))


def test_without_an_event_loop_of_asyncio_a_stream_says_so():
    step = WsClient[u32].stream("127.0.0.1:9").__anext__()
    with pytest.raises(RuntimeError, match=r"WsClient.stream\(\) needs a running event loop of asyncio"):
        step.send(None)


async def test_a_loop_that_sets_no_hooks_is_only_slower():
    """If the hook of the run is removed, the whole check is made each time."""
    import sys

    hooks = sys.get_asyncgen_hooks()
    async with (
        WsServer[u32].bind(ADDR) as server,
        WsClient[u32].connect(server.local_addr()) as client,
    ):
        sys.set_asyncgen_hooks(None, None)
        try:
            for value in range(3):
                server.send_nowait(value)
                assert await client.recv() == value
        finally:
            sys.set_asyncgen_hooks(*hooks)
        await until(lambda: server.stats().messages_out == 3)
