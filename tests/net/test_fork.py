"""A forked child has its parent's objects and descriptors. It can use none, and keeps none alive."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forks import driven, in_child
from helpers import RawPeer, until

from deli_com import Client, Codec, ConnectionClosed, Recording, Server, WsClient, WsServer, codec, u32
from deli_com.errors import IoError
from deli_com.recording.recorder import _close_all

if not hasattr(os, "fork"):
    pytest.skip("this system has no fork", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Reading(Codec):
    x: u32


KINDS: dict[str, tuple[Any, Any]] = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}


@contextlib.contextmanager
def sleeping_child() -> Iterator[None]:
    """A child that does nothing but live."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_public_call_in_the_child_names_the_process(kind: str) -> None:
    bound, connecting = KINDS[kind]
    async with await bound[Reading, Reading].bind("127.0.0.1:0") as server:
        async with await connecting[Reading, Reading].connect(server.local_addr()) as client:
            await until(lambda: server.client_count() == 1)
            (peer,) = server.clients
            group = server.group("g")
            group.add(peer)
            value = Reading(x=1)
            await client.send(value)
            await until(lambda: server.stats().messages_in == 1)
            calls: dict[str, Callable[[], Any]] = {
                "server.send_nowait": lambda: server.send_nowait(value),
                "server.send": lambda: server.send(value),
                "server.flush": server.flush,
                "server.recv": lambda: driven(server.recv()),
                "server.recv_from": lambda: driven(server.recv_from()),
                "server.recv_many": lambda: driven(server.recv_many(5)),
                "async for": lambda: driven(server.__aiter__().__anext__()),
                "server.client_count": server.client_count,
                "server.stats": server.stats,
                "server.clients": lambda: server.clients,
                "server.group": lambda: server.group("h"),
                "server.forget": lambda: server.forget(),
                "server.wait_clients": lambda: driven(server.wait_clients(3)),
                "server.close": lambda: driven(server.close()),
                "peer.send_nowait": lambda: peer.send_nowait(value),
                "peer.send": lambda: peer.send(value),
                "peer.close": peer.close,
                "group.send_nowait": lambda: group.send_nowait(value),
                "group.send": lambda: group.send(value),
                "group.add": lambda: group.add(peer),
                "group.discard": lambda: group.discard(peer),
                "group.members": lambda: group.members,
                "client.send_nowait": lambda: client.send_nowait(value),
                "client.send": lambda: client.send(value),
                "client.flush": client.flush,
                "client.recv": lambda: driven(client.recv()),
                "client.stats": client.stats,
                "client.wait_live": lambda: driven(client.wait_live()),
                "client.on_gap": lambda: client.on_gap(print),
                "client.record_last": lambda: client.record_last(seconds=1),
                "server.record_last": lambda: server.record_last(seconds=1),
                "peer.stats": peer.stats,
                "group.forget": group.forget,
                "client.close": lambda: driven(client.close()),
            }
            for name, call in calls.items():
                said = in_child(call)
                assert said.startswith("RuntimeError: "), f"{name}: {said}"
                assert f"opened in process {os.getpid()}" in said, f"{name}: {said}"
            # Nothing of all that has reached anybody, and both go on.
            assert await server.recv() == value
            for x in range(20):
                await server.send(Reading(x=x))
                assert await client.recv() == Reading(x=x)
                await client.send(Reading(x=x))
                assert await server.recv() == Reading(x=x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_runs_its_parents_loop(kind: str) -> None:
    """The loop is the right one there, and so is the thread: only the process is not."""
    bound, connecting = KINDS[kind]
    loop = asyncio.new_event_loop()

    async def open_both() -> tuple[Any, Any]:
        server = await bound[Reading, Reading].bind("127.0.0.1:0")
        client = await connecting[Reading, Reading].connect(server.local_addr())
        await server.wait_clients(1)
        return server, client

    async def exchange() -> None:
        for x in range(20):
            await server.send(Reading(x=x))
            assert await client.recv() == Reading(x=x)
            await client.send(Reading(x=x))
            assert await server.recv() == Reading(x=x)
        await client.close()
        await server.close()

    server, client = loop.run_until_complete(open_both())

    def use_all() -> list[str]:
        async def attempt(call: Callable[[], Any]) -> None:
            result = call()
            if hasattr(result, "__await__"):
                await result

        value, said = Reading(x=99), []
        for call in (
            lambda: server.send(value),
            lambda: server.send_nowait(value),
            lambda: client.send(value),
            server.recv,
            client.recv,
            lambda: server.wait_clients(1),
            client.close,
            server.close,
        ):
            try:
                loop.run_until_complete(asyncio.wait_for(attempt(call), 5))
                said.append("nothing")
            except RuntimeError as error:
                said.append("refused" if f"in process {os.getppid()}" in str(error) else str(error))
        return said

    assert in_child(use_all) == repr(["refused"] * 8)
    loop.run_until_complete(asyncio.wait_for(exchange(), 20))
    loop.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_child_forgets_lives_on_in_the_parent(kind: str) -> None:
    """Finalizers in the child must not take the parent's descriptors out of the set that both share."""
    bound, connecting = KINDS[kind]
    held = [await bound[Reading, Reading].bind("127.0.0.1:0")]
    held.append(await connecting[Reading, Reading].connect(held[0].local_addr()))
    await until(lambda: held[0].client_count() == 1)

    def forget() -> str:
        held.clear()
        gc.collect()
        return "forgotten"

    assert in_child(forget) == "'forgotten'"
    server, client = held
    await server.send(Reading(x=1))
    assert await client.recv() == Reading(x=1)
    async with await connecting[Reading, Reading].connect(server.local_addr()) as second:
        await second.send(Reading(x=2))
        assert await server.recv() == Reading(x=2)
    await client.close()
    await server.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_server_listens_no_more_although_a_child_has_the_socket(kind: str) -> None:
    server = await KINDS[kind][0][Reading, Reading].bind("127.0.0.1:0")
    address = server.local_addr()
    with sleeping_child():
        await server.close()
        with pytest.raises(IoError) as caught:
            await KINDS[kind][1][Reading, Reading].connect(address)
        assert isinstance(caught.value, ConnectionRefusedError)
        again = await KINDS[kind][0][Reading, Reading].bind(address)
        await again.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_is_cut_off_ends_for_its_client_although_a_child_has_it(kind: str) -> None:
    bound, connecting = KINDS[kind]
    async with await bound[Reading, Reading].bind("127.0.0.1:0", close_timeout=0.1) as server:
        client = await connecting[Reading, Reading].connect(server.local_addr())
        await until(lambda: server.client_count() == 1)
        with sleeping_child():
            for connection in server._connections():
                connection._abort()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()


async def test_a_refused_handshake_ends_although_a_child_has_it() -> None:
    async with await WsServer[Reading, Reading].bind("127.0.0.1:0", open_timeout=0.3) as server:
        peer = await RawPeer.open(server.local_addr())
        await asyncio.sleep(0)
        with sleeping_child():
            assert await peer.read_all() == b""
        peer.close()


async def test_the_child_may_open_its_own() -> None:
    async with await WsServer[Reading, None].bind("127.0.0.1:0"):

        def work() -> str:
            async def main() -> int:
                async with await Server[Reading, None].bind("127.0.0.1:0") as own:
                    async with await Client[Reading, None].connect(own.local_addr()) as client:
                        await own.wait_clients(1)
                        await own.send(Reading(x=5))
                        return (await client.recv()).x

            asyncio.events._set_running_loop(None)
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return str(runner.run(main()))

        assert in_child(work) == "'5'"


def test_codecs_work_in_the_child() -> None:
    """As workers of multiprocessing and of torch's DataLoader, or of a preloading gunicorn, use them."""
    assert in_child(lambda: codec(Reading).from_bytes(Reading(x=9).to_bytes()).x) == "9"


@pytest.mark.loops("asyncio")
async def test_a_recording_is_its_process_own(tmp_path: Any) -> None:
    """Closing it in a child says whose it is, an exit of the child leaves the file alone, and it goes on."""
    pytest.importorskip("mcap")
    path = tmp_path / "run.mcap"
    async with await WsServer[Reading, None].bind("127.0.0.1:0") as server:
        with server.record(path) as recorder, server.record_last(60.0) as box:
            server.send_nowait(Reading(1))
            says = {
                "close": in_child(recorder.close),
                "aclose": in_child(lambda: driven(recorder.aclose())),
                "box.close": in_child(box.close),
                "dump": in_child(lambda: driven(box.dump(tmp_path / "other.mcap"))),
            }
            for call, said in says.items():
                assert said.startswith("RuntimeError: "), (call, said)
                assert f"to process {os.getpid()}" in said, (call, said)
            assert in_child(_close_all) == "None"  # as at the end of a child
            assert not recorder.is_closed
            server.send_nowait(Reading(2))
            with pytest.raises(RuntimeError, match="from thread"):
                await asyncio.to_thread(lambda: driven(box.dump(tmp_path / "other.mcap")))
            await box.dump(tmp_path / "last.mcap")
    for found in (path, tmp_path / "last.mcap"):
        assert [value.x for _, value in Recording(found)] == [1, 2]
