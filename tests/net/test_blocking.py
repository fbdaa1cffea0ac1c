"""`connect_blocking`: a client for threads that know no event loop."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import helpers
import pytest

from deli_com import (
    Background,
    Client,
    Codec,
    ConnectionClosed,
    DecodeError,
    Gap,
    IoError,
    SchemaMismatch,
    Server,
    WsClient,
    WsServer,
    connect_blocking,
    serve_background,
    shared_loop,
    u8,
    u32,
)

ADDR = "127.0.0.1:0"
PATIENCE_S = 20.0 * helpers.SLOW  # that no test waits in full
WIRES = ["ws", "tcp"]
BOUND: dict[str, Any] = {"ws": WsServer, "tcp": Server}
CONNECTED: dict[str, Any] = {"ws": WsClient, "tcp": Client}


class Telling(Codec, sealed=True):
    """What robots tell."""


class Pose(Telling, policy="latest", key="robot", retain=True):
    robot: str
    x: u32


class Cell(Telling, policy="latest", key=("row", "column")):
    row: u8
    value: u32
    column: u8


class Battery(Telling, policy="latest"):
    percent: u8


class Alarm(Telling):
    code: u32


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no socket outlives a test."""
    threads, sockets = set(threading.enumerate()), helpers.open_sockets()
    yield
    gc.collect()
    wait_until(lambda: not set(threading.enumerate()) - threads)
    assert not helpers.open_sockets() - sockets
    assert shared_loop._shared is None


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "out of patience"
        time.sleep(0.001)


def serving(wire: str, types: Any = u32, **options: Any) -> Background[Any, Any]:
    return serve_background(BOUND[wire][types].bind(ADDR, **options))


def connect(wire: str, server: Background[Any, Any], types: Any = u32, **options: Any) -> Any:
    client = connect_blocking(CONNECTED[wire][types], server.local_addr(), **options)
    server.wait_clients(1, PATIENCE_S)
    return client


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def run_program(body: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(body), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        **options,
    )


class TestReceiving:
    def test_values_come_in_order_by_every_way(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            for number in range(100):
                server.send_nowait(number)
            got = [client.recv(PATIENCE_S) for _ in range(10)]
            while len(got) < 50:
                got += client.recv_many(50 - len(got), PATIENCE_S)
            got.append(next(client))
            for value in client:
                got.append(value)
                if value == 99:
                    break
            assert got == list(range(100))

    def test_values_of_every_size_and_kind(self, wire: str) -> None:
        """As plain bytes in the inbox, and made by the loop's thread."""
        for types, values in (
            (str, ["", "a", "ö" * 1000]),
            (list[u32], [[1, 2], [], list(range(1000))]),
            (tuple[u32, u8], [(1, 2), (3, 4)]),
        ):
            with serving(wire, types) as server, connect(wire, server, types) as client:
                for value in values:
                    server.send_nowait(value)
                assert [client.recv(PATIENCE_S) for _ in values] == values

    @pytest.mark.parametrize("timeout", [0, 0.02])
    def test_a_timeout_loses_nothing(self, wire: str, timeout: float) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            for number in range(50):
                with pytest.raises(TimeoutError, match="no value within"):
                    client.recv(timeout)
                server.send_nowait(number)
                assert client.recv(PATIENCE_S) == number

    def test_a_timeout_of_nothing_takes_what_has_arrived(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            server.send_nowait(1)
            server.run(server.server.flush)
            wait_until(lambda: _is_there(client))

    def test_each_value_goes_to_one_of_many_threads(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            got: list[list[int]] = [[] for _ in range(8)]
            threads = [in_thread(lambda own=own: own.extend(client)) for own in got]
            for number in range(20_000):
                server.send_nowait(number)
            wait_until(lambda: sum(map(len, got)) == 20_000)
            client.close()
            for thread, outcome in threads:
                thread.join()
                assert outcome == [None]
            assert all(own == sorted(own) for own in got)
            assert sorted(value for own in got for value in own) == list(range(20_000))

    def test_the_end_comes_after_what_has_arrived(self, wire: str) -> None:
        with serving(wire) as server:
            client = connect(wire, server)
            for number in range(3):
                server.send_nowait(number)
            server.close()
            assert list(client) == [0, 1, 2]
            with pytest.raises(ConnectionClosed) as caught:
                client.recv()
            assert caught.value.code == (1001 if wire == "ws" else None)
            assert not client.connected
            client.close()

    def test_its_own_close_wakes_those_who_wait(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            waiting = [in_thread(client.recv), in_thread(lambda: list(client)), in_thread(client.recv)]
            wait_until(lambda: client.stats().messages_in == 0)
            threading.Thread(target=client.close).start()
            outcomes = []
            for thread, outcome in waiting:
                thread.join()
                outcomes += outcome
            assert [type(outcome) for outcome in outcomes] == [ConnectionClosed, list, ConnectionClosed]
            client.close()

    def test_a_message_that_is_no_value_is_raised_and_the_next_one_comes(self) -> None:
        with serving("ws", str) as server:
            client = connect("ws", server, tuple[u32, u32], schema=None)
            with client:
                server.send_nowait("abc")
                server.send_nowait("abcd")
                with pytest.raises(DecodeError):
                    client.recv(PATIENCE_S)
                assert client.recv(PATIENCE_S) == (4, int.from_bytes(b"abcd", "little"))

    def test_reading_pauses_while_the_inbox_is_full_and_goes_on(self, wire: str) -> None:
        with serving(wire, bytes) as server, connect(wire, server, bytes, max_inbox=64 << 10) as client:
            server.send_nowait(b"first")
            assert client.recv(PATIENCE_S) == b"first"
            for number in range(2000):
                server.send_nowait(number.to_bytes(4, "little") * 256)
            wait_until(lambda: client.stats().inbox_bytes >= 64 << 10)
            for number in range(2000):
                assert client.recv(PATIENCE_S)[:4] == number.to_bytes(4, "little")
            assert client.stats().inbox_bytes == 0

    def test_nobody_receives_from_the_thread_that_serves_it(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            for call in (client.recv, lambda: client.recv_many(3), lambda: iter(client), client.close):
                with pytest.raises(RuntimeError, match="the thread of blocking clients itself"):
                    client._shared.run(_called(call))

    def test_wrong_arguments_are_named(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            with pytest.raises(TypeError, match="timeout is 'soon'"):
                client.recv("soon")
            with pytest.raises((TypeError, ValueError), match="max is"):
                client.recv_many(0)


def _is_there(client: Any) -> bool:
    try:
        return bool(client.recv(0) == 1)
    except TimeoutError:
        return False


async def _called(function: Callable[[], object]) -> object:
    return function()


class TestHandOver:
    """The model: what one thread sends is what another receives, however both stop and go."""

    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("types", [u32, tuple[u32, str]], ids=["as bytes", "as values"])
    def test_sent_is_received(self, wire: str, types: Any, seed: int) -> None:
        draw = random.Random(seed)
        total = draw.randrange(1, 4000)
        make: Callable[[int], Any] = (lambda n: n) if types is u32 else (lambda n: (n, str(n)))
        closes_at = total if draw.random() < 0.5 else draw.randrange(total)
        with serving(wire, types) as server:
            client = connect(wire, server, types, max_inbox=draw.choice([1 << 10, 16 << 20]))

            def send() -> None:
                pauses = random.Random(seed + 1)
                for number in range(total):
                    server.send_nowait(make(number))
                    if pauses.random() < 0.01:
                        time.sleep(pauses.random() * 0.003)

            with pytest.raises(TimeoutError):
                client.recv(0.001)  # until a first call, values past `max_inbox` are dropped
            sender, _ = in_thread(send)
            got: list[Any] = []
            try:
                while len(got) < total:
                    if len(got) >= closes_at:
                        client.close()
                    way = draw.randrange(4)
                    if way == 0:
                        got.append(client.recv())
                    elif way == 1:
                        got += client.recv_many(draw.randrange(1, 200))
                    elif way == 2:
                        try:
                            got.append(client.recv(draw.choice([0, 0.0005])))
                        except TimeoutError:
                            pass
                    else:
                        for value in client:
                            got.append(value)
                            if draw.random() < 0.05 or len(got) == total:
                                break
                    if draw.random() < 0.02:
                        time.sleep(draw.random() * 0.003)
            except ConnectionClosed:
                assert closes_at < total
            sender.join()
            client.close()
            assert got == [make(number) for number in range(len(got))]
            assert len(got) >= closes_at


class TestNewest:
    def test_the_newest_of_a_key_stays_until_a_newer_one_comes(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            for x in range(10):
                server.send_nowait(Pose("a", x))
                server.send_nowait(Pose("b", 100 + x))
            server.send_nowait(Alarm(1))
            wait_until(lambda: client.stats().messages_in > 2 and _latest(client, "b") == Pose("b", 109))
            assert client.latest("a") == client.latest("a", 0) == Pose("a", 9)
            values = []
            while Alarm(1) not in values:
                values.append(client.recv(PATIENCE_S))
            while client.stats().inbox_bytes:
                values.append(client.recv(PATIENCE_S))
            assert [v for v in values if isinstance(v, Pose) and v.robot == "a"][-1] == Pose("a", 9)
            assert client.latest("a", 0) == Pose("a", 9), "taken, and known all the same"
            server.send_nowait(Pose("a", 10))
            wait_until(lambda: client.latest("a") == Pose("a", 10))

    def test_it_waits_for_the_first(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            with pytest.raises(TimeoutError, match="no value of this key within"):
                client.latest("a", 0.01)
            thread, outcome = in_thread(lambda: client.latest("a", PATIENCE_S))
            server.send_nowait(Pose("b", 1))  # of another key: it goes on waiting
            server.send_nowait(Pose("a", 2))
            thread.join()
            assert outcome == [Pose("a", 2)]
            assert client.recv_many(10) == [Pose("b", 1), Pose("a", 2)]

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RUSAGE_THREAD is Linux's")
    def test_a_thread_that_waits_for_a_key_does_not_poll_while_others_wait(self, wire: str) -> None:
        """Each wake-up of a thread is a context switch that it has made by itself."""
        import resource

        switches: list[int] = []

        def wait_for_a() -> Any:
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            value = client.latest("a", PATIENCE_S)
            switches.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)
            return value

        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            server.send_nowait(Alarm(1))
            server.send_nowait(Pose("b", 1))
            assert client.latest("b", PATIENCE_S) == Pose("b", 1)  # they wait in the inbox
            thread, outcome = in_thread(wait_for_a)
            time.sleep(0.6)
            server.send_nowait(Pose("a", 2))
            thread.join()
            assert outcome == [Pose("a", 2)]
            assert switches[0] < 40, "a look each 5 ms makes 120 of them"

    def test_many_threads_wait_for_their_keys(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            waiting = [in_thread(lambda key=key: client.latest(key, PATIENCE_S)) for key in "abcdefgh"]
            for x, key in enumerate("hgfedcba"):
                server.send_nowait(Pose(key, x))
            for thread, _ in waiting:
                thread.join()
            assert [outcome for _, outcome in waiting] == [
                [Pose(key, 7 - x)] for x, key in enumerate("abcdefgh")
            ]

    def test_keys_of_several_fields_and_of_none(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            server.send_nowait(Cell(1, 7, 2))
            server.send_nowait(Battery(80))
            assert client.latest((1, 2), PATIENCE_S) == Cell(1, 7, 2)
            assert client.latest(None, PATIENCE_S) == client.latest() == Battery(80)
            assert client.latest(type=Battery) == Battery(80)
            assert client.latest((1, 2), type=Cell) == Cell(1, 7, 2)
            with pytest.raises(TimeoutError):
                client.latest((2, 1), 0)

    def test_what_has_no_newest_says_why(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server:
            with connect(wire, server, (Telling, None)) as client:
                with pytest.raises(TypeError, match="is not, or no type of what is received has policy"):
                    client.latest("a", type=Alarm)
                with pytest.raises(TypeError, match="is no key of what is received"):
                    client.latest(1.5)
            with connect(wire, server, (Telling, None), conflate=False) as client:
                with pytest.raises(TypeError, match="conflate=False"):
                    client.latest("a")
        with serving(wire) as server, connect(wire, server) as client:
            with pytest.raises(TypeError, match="no type of what is received has policy 'latest'"):
                client.latest("a")

    def test_the_end_is_raised_where_there_is_none(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            server.send_nowait(Pose("a", 1))
            assert client.latest("a", PATIENCE_S) == Pose("a", 1)
            thread, outcome = in_thread(lambda: client.latest("b"))
            server.close()
            thread.join()
            assert isinstance(outcome[0], ConnectionClosed)
            assert client.latest("a") == Pose("a", 1)

    def test_who_is_slow_gets_the_newest_and_every_reliable_one(self, wire: str) -> None:
        """What is not taken yet is still replaced."""
        with serving(wire, (Telling, None)) as server, connect(wire, server, (Telling, None)) as client:
            server.send_nowait(Alarm(0))
            assert client.recv(PATIENCE_S) == Alarm(0)
            for x in range(2000):
                server.send_nowait(Pose("a", x))
                if x % 100 == 0:
                    server.send_nowait(Alarm(x))
                    server.run(asyncio.sleep, 0.001)  # the client's loop reads meanwhile
            server.send_nowait(Alarm(9999))
            wait_until(lambda: _latest(client, "a") == Pose("a", 1999))
            values: list[Any] = []
            while Alarm(9999) not in values or Pose("a", 1999) not in values:
                values += client.recv_many(1, PATIENCE_S)
            assert [v.code for v in values if isinstance(v, Alarm)] == [*range(0, 2000, 100), 9999]
            poses = [v.x for v in values if isinstance(v, Pose)]
            assert poses == sorted(poses) and len(poses) < 2000
            assert client.stats().superseded == 2000 - len(poses)


def _latest(client: Any, key: str) -> Any:
    try:
        return client.latest(key, 0)
    except TimeoutError:
        return None


class TestSending:
    def test_every_thread_keeps_its_order(self, wire: str) -> None:
        with serving(wire, tuple[u32, u32]) as server, connect(wire, server, tuple[u32, u32]) as client:

            def send(own: int) -> None:
                for number in range(500):
                    (client.send if number % 2 else client.send_nowait)((own, number))

            threads = [in_thread(lambda own=own: send(own)) for own in range(4)]
            got = [server.recv(PATIENCE_S) for _ in range(2000)]
            for thread, outcome in threads:
                thread.join()
                assert outcome == [None]
            for own in range(4):
                assert [number for who, number in got if who == own] == list(range(500))

    def test_send_keeps_the_pace_of_a_server_that_does_not_receive(self, wire: str) -> None:
        with serving(wire, (u32, bytes), max_inbound=4 << 20) as server:
            with connect(wire, server, (u32, bytes)) as client:
                thread, outcome = in_thread(lambda: [client.send(b"." * 100_000) for _ in range(300)])
                got = 0
                while got < 300:
                    got += len(server.recv_many(10, PATIENCE_S))
                thread.join()
                assert outcome == [[None] * 300]

    def test_what_was_sent_goes_out_before_the_close(self, wire: str) -> None:
        with serving(wire) as server:
            with connect(wire, server) as client:
                for number in range(1000):
                    client.send_nowait(number)
            assert [server.recv(PATIENCE_S) for _ in range(1000)] == list(range(1000))
            with pytest.raises(ConnectionClosed):
                client.send(1)


class TestOpening:
    def test_what_connect_raises_is_raised_at_the_call(self, wire: str) -> None:
        with serving(wire) as server:
            addr = server.local_addr()
        with pytest.raises(IoError):
            connect_blocking(CONNECTED[wire][u32], addr)
        with pytest.raises(TypeError, match=r"max_inbx.*did you mean 'max_inbox'"):
            connect_blocking(CONNECTED[wire][u32], addr, max_inbx=3)
        with pytest.raises(TypeError, match="connect_blocking takes WsClient"):
            connect_blocking(u32, addr)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="which type"):
            connect_blocking(CONNECTED[wire], addr)

    def test_a_schema_that_cannot_be_read_is_refused(self, wire: str) -> None:
        with serving(wire, str) as server, pytest.raises(SchemaMismatch):
            connect_blocking(CONNECTED[wire][u32], server.local_addr(), schema="check")

    def test_all_share_one_thread_which_ends_with_the_last(self, wire: str) -> None:
        def threads() -> int:
            return sum(thread.name == "deli_com.connect_blocking" for thread in threading.enumerate())

        with serving(wire) as server:
            clients = [connect(wire, server) for _ in range(5)]
            assert threads() == 1
            for client in clients[:-1]:
                client.close()
            assert threads() == 1
            clients[-1].close()
            assert threads() == 0
            with connect(wire, server):
                assert threads() == 1

    def test_what_it_tells_beside_values(self, wire: str) -> None:
        with serving(wire, (Telling, None)) as server:
            for number in range(20):
                server.send_nowait(Pose(str(number), number))
            with connect(wire, server, (Telling, None), schema="check") as client:
                client.wait_live(PATIENCE_S)
                assert len(client.recv_many(100, 0)) == 20
                gaps: list[Gap] = []
                assert client.on_gap(gaps.append) == gaps.append
                assert client.schema.down.how == "same" and client.connected
                assert client.stats().messages_in == 20
                assert repr(client).startswith(f"<BlockingClient <{type(client._client).__name__}, open>>")

    def test_one_that_is_forgotten_is_closed_with_a_warning(self, wire: str) -> None:
        with serving(wire) as server:
            client = connect(wire, server)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client
                gc.collect()
            assert [str(warning.message) for warning in caught if "BlockingClient" in str(warning.message)]
            wait_until(lambda: server.client_count() == 0)

    def test_close_may_be_called_from_many_threads_at_once(self, wire: str) -> None:
        with serving(wire) as server:
            client = connect(wire, server)
            threads = [in_thread(client.close) for _ in range(8)]
            for thread, outcome in threads:
                thread.join()
                assert outcome == [None]


class TestElsewhere:
    async def test_beside_a_loop_that_runs_in_the_same_thread(self, wire: str) -> None:
        """As in a notebook: the loop stands still meanwhile, and the connection does not need it."""
        with serving(wire) as server, connect(wire, server) as client:
            server.send_nowait(1)
            assert client.recv(PATIENCE_S) == 1
            client.send(2)
            assert server.recv(PATIENCE_S) == 2
            assert await asyncio.to_thread(lambda: _closed(client))

    def test_a_script_without_asyncio(self, wire: str) -> None:
        with serving(wire) as server:
            server_side = in_thread(lambda: server.send_nowait(server.recv(PATIENCE_S) + 1))
            done = run_program(
                f"""
                import sys
                from deli_com import {CONNECTED[wire].__name__} as Client, connect_blocking, u32

                with connect_blocking(Client[u32], sys.argv[1]) as client:
                    client.send(1)
                    print(client.recv())
                """,
                str(server.local_addr()),
            )
            server_side[0].join()
        assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)

    @pytest.mark.parametrize("way", ["open", "in an error", "in a thread"])
    def test_the_interpreter_exits_quietly_with_one_open(self, wire: str, way: str) -> None:
        last = {
            "open": "print('end')",
            "in an error": "sys.exit(3)",
            "in a thread": "threading.Thread(target=client.recv, daemon=True).start(); print('end')",
        }[way]
        with serving(wire) as server:
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import sys, threading\nfrom deli_com import {CONNECTED[wire].__name__} as Client, "
                    f"connect_blocking, u32\nclient = connect_blocking(Client[u32], sys.argv[1])\n{last}",
                    str(server.local_addr()),
                ],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.stderr == ""
            assert (done.stdout, done.returncode) == (("", 3) if way == "in an error" else ("end\n", 0))
            wait_until(lambda: server.client_count() == 0)
            code = 1000 if wire == "ws" else None
            assert server.stats().closed == {code: 1}, "it has said goodbye"

    @pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
    @pytest.mark.parametrize("where", ["client.recv()", "next(iter(client))", "client.recv_many(9, 3600)"])
    def test_ctrl_c_ends_a_wait_at_once(self, wire: str, where: str) -> None:
        program = f"""
            import signal, sys
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from deli_com import {CONNECTED[wire].__name__} as Client, connect_blocking, u32

            with connect_blocking(Client[u32], sys.argv[1]) as client:
                try:
                    print("ready", flush=True)
                    {where}
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                print(client.recv())
            """
        with serving(wire) as server:
            with subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(program), str(server.local_addr())],
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                server.wait_clients(1, PATIENCE_S)
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
                server.send_nowait(7)
                assert process.stdout.readline() == "7\n"
                assert process.wait(PATIENCE_S) == 0

    def test_ctrl_c_in_this_thread_loses_no_value(self, wire: str) -> None:
        with serving(wire) as server, connect(wire, server) as client:
            for number in range(4):
                waits = threading.Event()
                thread, _ = in_thread(lambda waits=waits: (waits.wait(), _thread.interrupt_main()))
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes when it comes
                    waits.set()
                    client.recv()
                thread.join()
                server.send_nowait(number)
                assert client.recv(PATIENCE_S) == number

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    def test_a_fork_is_refused_and_may_connect_by_itself(self, wire: str) -> None:
        done_by = f"""
            import os, sys
            from deli_com import {CONNECTED[wire].__name__} as Client, connect_blocking, u32

            client = connect_blocking(Client[u32], sys.argv[1])
            child = os.fork()
            if not child:
                for call in (client.recv, lambda: client.recv(0), lambda: client.recv_many(3), client.close,
                             lambda: client.send(1), lambda: client.send_nowait(1), lambda: next(client),
                             client.stats, lambda: list(client)):
                    try:
                        call()
                    except RuntimeError as error:
                        assert str(os.getppid()) in str(error) and str(os.getpid()) in str(error), error
                    else:
                        print("not refused", flush=True)
                with connect_blocking(Client[u32], sys.argv[1]) as own:
                    own.send(1)
                print("child", flush=True)
                os._exit(0) if len(sys.argv) > 2 else sys.exit(0)
            os.waitpid(child, 0)
            client.send(2)
            print(client.recv(), flush=True)
            client.close()
            """
        with serving(wire) as server:
            for more in ((), ("_exit",)):
                thread, outcome = in_thread(lambda: [server.recv(PATIENCE_S), server.recv(PATIENCE_S)])
                answering = in_thread(lambda thread=thread: (thread.join(), server.send_nowait(3)))
                done = run_program(done_by, str(server.local_addr()), *more)
                answering[0].join()
                assert done.stdout == "child\n3\n", done.stderr
                assert (outcome, done.stderr, done.returncode) == ([[1, 2]], "", 0)


def _closed(client: Any) -> bool:
    client.close()
    return True
