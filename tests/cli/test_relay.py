"""`deli-com relay`: in one process and in several, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import SLOW, until
from websockets.asyncio.client import connect as foreign
from websockets.exceptions import ConnectionClosed as ForeignClosed

from deli_com import Codec, WsClient, WsServer, u32
from deli_com.cli.main import main
from deli_com.errors import IoError
from deli_com.relay.workers import ReservedPort, Workers

pytestmark = [
    pytest.mark.limit(60),
    pytest.mark.loops("asyncio"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind, and no SO_REUSEPORT"),
]


class Tick(Codec):
    n: u32


class Stop(Codec):
    n: u32


@contextlib.asynccontextmanager
async def robot() -> AsyncIterator[Any]:
    async with WsServer[Tick, Stop].bind("127.0.0.1:0") as server:

        async def send() -> None:
            n = 0
            while True:
                server.send_nowait(Tick(n))
                n += 1
                await asyncio.sleep(0.005)

        sending = asyncio.ensure_future(send())
        try:
            yield server
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "deli_com", "relay", *arguments, "--bind", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


@contextlib.asynccontextmanager
async def relaying(*arguments: str) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """The command, once it listens: its process, and the URL that it says."""
    with started(*arguments) as process:
        try:
            assert process.stderr is not None
            line = await asyncio.to_thread(process.stderr.readline)
            assert line.startswith("ws://"), line
            yield process, line.split()[0].rstrip(":")
        finally:
            for child in children(process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children()
    return []


async def code_of(peer: Any) -> int | None:
    try:
        while True:
            await peer.recv()
    except ForeignClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


async def connected(url: str, process: subprocess.Popen[str]) -> Any:
    """A foreign client; the workers listen a moment after the command has said where."""
    while True:
        assert process.poll() is None
        try:
            return await foreign(url)
        except OSError:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_clients_are_told(number: int):
    async with robot() as server, relaying(f"ws://{server.local_addr()}") as (process, url):
        async with foreign(url) as peer:
            assert len(await peer.recv()) == 4
            process.send_signal(number)
            assert await code_of(peer) == 1001
        assert await asyncio.to_thread(process.wait, 20 * SLOW) == 0
        assert process.stderr is not None and process.stderr.read() == ""


async def test_a_signal_ends_it_while_it_waits_for_the_server():
    with started("ws://127.0.0.1:9") as process:
        assert process.stderr is not None
        line = await asyncio.to_thread(process.stderr.readline)
        assert "next attempt in" in line
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20 * SLOW) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_workers_share_a_port_and_a_dead_one_is_replaced(number: int):
    """Clients of the one that is killed come again, at another one; a signal then ends all."""
    async with robot() as server, relaying(f"ws://{server.local_addr()}", "--workers", "2") as (process, url):
        await until(lambda: server.client_count() == 2)  # one connection each
        before = {child.pid for child in children(process)}
        assert len(before) == 2
        first = await connected(url, process)
        streams = [WsClient[Tick, Stop].stream(url, first_delay=0.01, max_delay=0.1) for _ in range(16)]
        for stream in streams:
            await anext(stream)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: server.client_count() == 1)
        await until(lambda: server.client_count() == 2)
        now = server.messages_out
        for stream in streams:
            while (await anext(stream)).n < now:
                pass
        after = {child.pid for child in children(process)}
        assert len(after) == 2 and killed not in after and len(after & before) == 1
        for stream in streams:
            assert stream.client is not None
            await stream.client.send(Stop(1))
        for _ in streams:
            assert await server.recv() == Stop(1)
        for stream in streams:
            await stream.aclose()
        await first.close()
        late = await connected(url, process)
        if number == signal.SIGINT:  # of a terminal: everybody in the group gets it
            for pid in after:
                os.kill(pid, number)
        process.send_signal(number)
        assert await code_of(late) == 1001
        assert await asyncio.to_thread(process.wait, 20 * SLOW) == 0
        await until(lambda: not any(psutil.pid_exists(pid) for pid in after))


async def test_workers_end_with_the_command_though_it_is_killed():
    async with robot() as server, relaying(f"ws://{server.local_addr()}", "--workers", "2") as (process, url):
        await until(lambda: server.client_count() == 2)
        peer = await connected(url, process)
        pids = [child.pid for child in children(process)]
        process.kill()
        assert await code_of(peer) == 1001
        await until(lambda: server.client_count() == 0)
        await until(lambda: not any(running(pid) for pid in pids))


def running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


async def test_a_hub_and_who_dials_it(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("of-the-tests\n")
    async with relaying("--accept-dial", "/up", "--token-file", str(token)) as (_, hub), robot() as server:
        dial = ["--dial", f"{hub}/up", "--token-file", str(token)]
        async with relaying(f"ws://{server.local_addr()}", *dial, "--metrics"):
            stream = WsClient[Tick, Stop].stream(hub, first_delay=0.01, max_delay=0.1)
            last = (await anext(stream)).n
            assert (await anext(stream)).n == last + 1
            assert stream.client is not None
            await stream.client.send(Stop(2))
            assert await server.recv() == Stop(2)
            await stream.aclose()


async def test_workers_find_that_they_cannot_work(tmp_path: Path):
    """An exit with status 2 is not tried again."""
    count = tmp_path / "count"
    program = f"import sys; open({str(count)!r}, 'a').write('x'); sys.exit(2)"
    waits = "import sys; sys.stdin.read()"
    workers = Workers([[sys.executable, "-c", program], [sys.executable, "-c", waits]])
    assert await workers.run(asyncio.Event()) == 2
    assert count.read_text() == "x" and workers.process_ids == []


async def test_a_reserved_port_takes_no_connection_and_is_shared():
    port = await ReservedPort.open("127.0.0.1:0")
    try:
        assert port.address.port
        async with WsServer[Tick].bind(port.address, reuse_port=True) as server:
            for _ in range(8):  # who holds it takes no connection
                async with WsClient[Tick].connect(port.address):
                    pass
            assert server.local_addr() == port.address
        async with WsServer[Tick].bind("127.0.0.1:0") as other:
            with pytest.raises(IoError):
                await ReservedPort.open(other.local_addr())
        with pytest.raises(ValueError, match="SO_REUSEPORT"):
            await ReservedPort.open("unix:/nowhere")
    finally:
        port.close()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("", "give the URL of a server, or --accept-dial"),
        ("ws://a --accept-dial /up", "give the URL of a server, or"),
        ("ws://a --dial wss://hub", "need --token-file"),
        ("ws://a --token-file /nowhere", "need --token-file"),
        ("http://a", "no URL of a server"),
        ("ws://a --tls-key x", "give --tls-cert too"),
        ("ws://a --origin dash.example/x", "origins"),
        ("--accept-dial /up --token-file TOKEN --workers 2", "one process"),
        ("ws://a --dial ws://hub.example --token-file TOKEN", "in clear"),
        ("ws://a --dial wss://hub --token-file /nowhere", "No such file"),
    ],
)
async def test_arguments_that_make_no_sense(
    arguments: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "token").write_text("of-the-tests")
    given = arguments.replace("TOKEN", str(tmp_path / "token")).split()
    assert await asyncio.to_thread(main, ["relay", *given, "--bind", "127.0.0.1:0"]) == 2
    assert why in capsys.readouterr().err
