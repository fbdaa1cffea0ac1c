"""`serve_background`: a server in its own thread, used by threads without an event loop."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import helpers
import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from deli_com import (
    Background,
    Codec,
    ConnectionClosed,
    EncodeError,
    IoError,
    MessageTooLarge,
    Server,
    WsClient,
    WsServer,
    codec,
    serve_background,
    server_thread,
    u32,
)

ADDR = "127.0.0.1:0"
PATIENCE_S = 20.0 * helpers.SLOW  # that no test waits in full
GOING_AWAY = 1001
MiB = 1 << 20
THREADS = 8
EACH = 2000
BYTES, U32 = codec(bytes), codec(u32)


class Nothing(Codec):
    """A message without a byte."""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no socket outlives a test."""
    threads, sockets = set(threading.enumerate()), helpers.open_sockets()
    yield
    left = set(threading.enumerate()) - threads
    assert not [thread for thread in left if thread.name == "deli_com.serve_background"]
    wait_until(lambda: not any(thread.is_alive() for thread in left))  # websockets' end a little later
    gc.collect()
    assert not helpers.open_sockets() - sockets
    assert not server_thread._running


@pytest.fixture
def serve(loop_name: str) -> Callable[[Any], Background[Any, Any]]:
    """`serve_background` on each kind of loop."""
    factory = None if loop_name == "asyncio" else helpers.LOOPS[loop_name]
    return lambda opening: serve_background(opening, loop_factory=factory)


@contextmanager
def client_of(
    server: Background[Any, Any], receive_buffer: int | None = None, **options: Any
) -> Iterator[ClientConnection]:
    """A foreign, blocking client; `receive_buffer` keeps its kernel from taking up to 32 MB by itself."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(tuple(server.local_addr()))
    with connect(f"ws://{server.local_addr()}", sock=sock, compression=None, proxy=None, **options) as client:
        yield client


def received(client: ClientConnection, kind: Any, count: int) -> list[Any]:
    return [kind.from_bytes(client.recv(PATIENCE_S)) for _ in range(count)]


def close_code(client: ClientConnection) -> int:
    """Read until the close, and say how the peer closed."""
    with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as caught:  # noqa: PT012 - sooner or later
        while True:
            client.recv(PATIENCE_S)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Run `work`; the list gets its result or its exception."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "out of patience"
        time.sleep(0.001)


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """A Ctrl-C in this thread, which is the main one, unless the block ends before."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestStart:
    def test_the_block_has_a_bound_server_on_a_thread_of_its_own(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            assert isinstance(server, Background)
            assert isinstance(server.server, WsServer)
            assert server.local_addr() == server.server.local_addr()
            assert server.client_count() == 0
            assert server.run(threading.current_thread) is not threading.current_thread()
            assert server.run(threading.current_thread).daemon
            assert str(server.local_addr()) in repr(server)

    def test_the_loop_is_the_one_asked_for(self, serve, loop_name):
        with serve(WsServer[u32].bind(ADDR)) as server:
            module = type(server.run(asyncio.get_running_loop)).__module__
            assert module.split(".")[0] == loop_name

    def test_tcp_is_served_alike(self, serve):
        with serve(Server[u32].bind(ADDR)) as server, socket.create_connection(server.local_addr()) as peer:
            server.wait_clients(1, PATIENCE_S)
            server.send(7)
            assert peer.recv(8, socket.MSG_WAITALL) == bytes.fromhex("0400000007000000")
            peer.sendall(bytes.fromhex("0400000008000000"))
            assert server.recv(PATIENCE_S) == 8

    def test_what_binding_raises_comes_from_the_with_statement(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            with pytest.raises(IoError, match="in use"):
                with serve(WsServer[u32].bind(server.local_addr())):
                    pytest.fail("entered")

    def test_what_making_the_loop_raises_too(self):
        def no_loop() -> asyncio.AbstractEventLoop:
            raise LookupError("no loop today")

        server = serve_background(WsServer[u32].bind(ADDR), loop_factory=no_loop)
        with pytest.raises(LookupError, match="no loop today"):
            server.start()

    @pytest.mark.parametrize("wrong", [WsServer[u32], None, ADDR, asyncio.sleep])
    def test_what_cannot_be_bound_is_refused(self, wrong):
        with pytest.raises(TypeError, match=r"takes the result of WsServer\[T\]\.bind\(addr\), got"):
            serve_background(wrong)

    def test_a_client_is_no_server(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            with pytest.raises(TypeError, match=r"takes the result of .*bind\(addr\), got <WsClient\[u32\]"):
                serve(WsClient[u32].connect(server.local_addr()))  # at the call

    def test_nothing_works_before_it_is_entered(self, serve):
        server = serve(WsServer[u32].bind(ADDR))
        for call in (server.local_addr, server.client_count, server.recv, lambda: server.send(1)):
            with pytest.raises(RuntimeError, match="use it in `with`"):
                call()
        server.close()
        assert "not started" in repr(server)
        with server:
            server.send(1)

    def test_it_is_started_once(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            with pytest.raises(RuntimeError, match="started once"):
                server.start()
        with pytest.raises(RuntimeError, match="started once"):
            server.start()

    def test_one_that_is_never_entered_warns_as_a_forgotten_await(self, serve):
        server = serve(WsServer[u32].bind(ADDR))
        with pytest.warns(RuntimeWarning, match=r"WsServer\[u32\]\.bind' was never awaited"):
            del server

    def test_start_and_close_are_the_two_halves_of_with(self, serve):
        server = serve(WsServer[u32].bind(ADDR)).start()
        with client_of(server) as client:
            server.close()
            assert close_code(client) == GOING_AWAY

    def test_ctrl_c_while_binding_leaves_nothing(self, serve):
        """A server that comes to be after all is closed again."""
        gate = threading.Event()
        opening = WsServer[u32].bind(ADDR)
        work = opening._work

        async def late() -> Any:
            await asyncio.to_thread(gate.wait)
            return await work

        opening._work = late()
        timer = threading.Timer(0.3, gate.set)
        timer.start()
        with pytest.raises(KeyboardInterrupt), interrupt_after(0.05):
            serve(opening).start()
        timer.join()
        work.close()


class TestSending:
    def test_all_arrives_in_order_for_each_thread(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:

            async def read() -> Counter[int]:
                seen: Counter[int] = Counter()
                async with WsClient[u32].connect(server.local_addr()) as client:
                    while seen.total() < THREADS * EACH:
                        for value in await client.recv_many(10_000):
                            assert value & 0xFFFF == seen[value >> 16]
                            seen[value >> 16] += 1
                return seen

            def write(number: int) -> None:
                for i in range(EACH):
                    (server.send if i % 3 == 0 else server.send_nowait)(number << 16 | i)

            reader, seen = in_thread(lambda: asyncio.run(read()))
            server.wait_clients(1, PATIENCE_S)
            writers = [in_thread(lambda number=number: write(number)) for number in range(THREADS)]
            for writer, outcome in writers:
                writer.join(PATIENCE_S)
                assert outcome == [None]
            reader.join(PATIENCE_S)
            assert seen == [dict.fromkeys(range(THREADS), EACH)]

    def test_the_loops_own_thread_may_send_too(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            server.wait_clients(1, PATIENCE_S)
            server.run(server.send, 1)
            server.run(server.send_nowait, 2)
            server.send(3)
            assert received(client, U32, 3) == [1, 2, 3]

    @pytest.mark.parametrize("name", ["send", "send_nowait"])
    def test_errors_come_from_the_call(self, serve, name):
        with serve(WsServer[bytes].bind(ADDR, max_message_size=10)) as server, client_of(server) as client:
            server.wait_clients(1, PATIENCE_S)
            send = getattr(server, name)
            with pytest.raises(EncodeError, match="expected bytes, got int"):
                send(1)
            with pytest.raises(MessageTooLarge):
                send(bytes(7))
            send(bytes(6))
            assert received(client, BYTES, 1) == [bytes(6)]
        with pytest.raises(ConnectionClosed):
            send(b"")

    def test_send_keeps_the_pace_of_a_client_that_is_slow(self, serve):
        """More than the log would hold for it (16 MiB) goes to the one client, and it is not cut off."""
        count = 40
        with serve(WsServer[bytes].bind(ADDR)) as server, client_of(server, 1 << 16, max_size=None) as client:
            server.wait_clients(1, PATIENCE_S)
            sent: list[int] = []

            def work() -> None:
                for i in range(count):
                    server.send(bytes([i]) * MiB)
                    sent.append(i)

            thread, outcome = in_thread(work)
            wait_until(lambda: len(sent) >= 4)
            thread.join(0.5)
            assert thread.is_alive() and len(sent) < 30, "it waits for the client"
            assert [value[0] for value in received(client, BYTES, count)] == list(range(count))
            thread.join(PATIENCE_S)
            assert outcome == [None]
            assert server.client_count() == 1

    def test_a_sender_that_waits_is_released_by_close(self, serve):
        with serve(WsServer[bytes].bind(ADDR)) as server, client_of(server) as client:
            server.wait_clients(1, PATIENCE_S)
            sent: list[int] = []

            def work() -> None:
                while True:
                    server.send(bytes(MiB))
                    sent.append(1)

            thread, outcome = in_thread(work)
            wait_until(lambda: len(sent) >= 4)
            server.close(drain=0)
            thread.join(PATIENCE_S)
            assert [type(error) for error in outcome] == [ConnectionClosed]
            client.socket.close()


class TestReceiving:
    def test_values_come_in_order(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            for i in range(3000):
                client.send(U32.to_bytes(i))
            got = [server.recv(PATIENCE_S)]
            while len(got) < 2990:
                more = server.recv_many(7, timeout=PATIENCE_S)
                assert 1 <= len(more) <= 7
                got += more
            while len(got) < 3000:
                got.append(next(server))
            assert got == list(range(3000))

    def test_out_of_time_is_a_TimeoutError_and_loses_nothing(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            for timeout in (0.05, 0, -1):
                with pytest.raises(TimeoutError, match="no value within"):
                    server.recv(timeout)
                with pytest.raises(TimeoutError, match="no value within"):
                    server.recv_many(2, timeout=timeout)
            for i in range(5):
                client.send(U32.to_bytes(i))
            assert [server.recv(PATIENCE_S) for _ in range(5)] == [0, 1, 2, 3, 4]

    def test_no_time_at_all_takes_what_has_arrived(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            client.send(U32.to_bytes(7))
            wait_until(lambda: server.server.messages_in)
            assert server.recv(0) == 7
            client.send(U32.to_bytes(8))
            wait_until(lambda: server.server.messages_in == 2)
            assert server.recv_many(9, timeout=0) == [8]

    def test_ctrl_c_while_waiting_loses_nothing(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            with pytest.raises(KeyboardInterrupt), interrupt_after(0.1):
                server.recv()
            client.send(U32.to_bytes(1))
            client.send(U32.to_bytes(2))
            assert [server.recv(PATIENCE_S), server.recv(PATIENCE_S)] == [1, 2]

    @pytest.mark.timeout(20 * helpers.SLOW)
    @pytest.mark.parametrize("name", ["recv", "run"])
    def test_ctrl_c_right_before_the_wait_is_seen(self, serve, name):
        """Such a signal is noted, and wakes nobody: `interrupt_main` is exactly that."""
        with serve(WsServer[u32].bind(ADDR)) as server:
            timer = threading.Timer(0.1, _thread.interrupt_main)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                server.recv() if name == "recv" else server.run(asyncio.sleep, 3600)
            timer.join()

    def test_several_threads_share_the_values(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            workers = [in_thread(lambda: list(server)) for _ in range(4)]
            for i in range(EACH):
                client.send(U32.to_bytes(i))
            wait_until(lambda: server.server.messages_in == EACH)
        for thread, _ in workers:
            thread.join(PATIENCE_S)
        parts = [outcome[0] for _, outcome in workers]
        assert sorted(value for part in parts for value in part) == list(range(EACH))
        assert all(part == sorted(part) for part in parts)

    def test_what_arrived_before_the_close_can_be_taken_after_it(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            for i in range(5):
                client.send(U32.to_bytes(i))
            wait_until(lambda: server.server.messages_in == 5)
        assert server.recv() == 0
        assert server.recv_many(2) == [1, 2]
        assert list(server) == [3, 4]
        for call in (server.recv, lambda: server.recv(0), lambda: server.recv_many(1)):
            with pytest.raises(ConnectionClosed, match="the server is closed"):
                call()
        assert list(server) == []

    def test_a_push_only_server_receives_nothing(self, serve):
        with serve(WsServer[u32, None].bind(ADDR)) as server:
            for call in (server.recv, lambda: server.recv_many(3), lambda: list(server)):
                with pytest.raises(TypeError, match="push only"):
                    call()

    def test_a_batch_has_room_for_one_at_least(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            with pytest.raises(ValueError, match="max is 0"):
                server.recv_many(0)


class TestWaitClients:
    def test_it_returns_when_they_are_there(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            thread, outcome = in_thread(lambda: server.wait_clients(2, PATIENCE_S))
            with client_of(server), client_of(server):
                thread.join(PATIENCE_S)
                assert outcome == [None]
                assert server.client_count() == 2

    def test_out_of_time_it_says_how_many_there_are(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server):
            server.wait_clients(1, PATIENCE_S)
            with pytest.raises(TimeoutError, match=r"1 of 2 clients within 0\.05 s"):
                server.wait_clients(2, 0.05)

    def test_close_ends_it(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            thread, outcome = in_thread(lambda: server.wait_clients(1))
            wait_until(lambda: server._thread._waiting)
        thread.join(PATIENCE_S)
        assert [type(error) for error in outcome] == [ConnectionClosed]


class TestRun:
    def test_a_function_gives_its_result(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            assert server.run(divmod, 7, 2) == (3, 1)
            assert server.run(int, "11", base=3) == 4
            assert server.run(server.server.flush) is None

    def test_a_coroutine_function_is_awaited(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            client.send(U32.to_bytes(7))
            peer, value = server.run(server.server.recv_from)
            assert value == 7 and "127.0.0.1" in repr(peer)

    def test_another_server_can_be_opened_on_the_same_loop(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            other = server.run(WsServer[u32].bind, ADDR)
            assert other.local_addr() != server.local_addr()
            server.run(other.close)

    @pytest.mark.parametrize("kind", [LookupError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
    def test_what_it_raises_comes_to_the_caller_and_the_loop_goes_on(self, serve, kind):
        def fail() -> None:
            raise kind("on purpose")

        async def fail_later() -> None:
            await asyncio.sleep(0)
            fail()

        with serve(WsServer[u32].bind(ADDR)) as server:
            for function in (fail, fail_later):
                with pytest.raises(kind, match="on purpose"):
                    server.run(function)
            assert server.run(int) == 0

    def test_the_loops_own_thread_would_wait_for_itself(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            for call in (lambda: server.run(int), server.recv, lambda: server.wait_clients(0), server.close):
                with pytest.raises(RuntimeError, match="which would wait for itself"):
                    server.run(call)

    def test_ctrl_c_cancels_it(self, serve):
        cancelled = threading.Event()

        async def never() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        with serve(WsServer[u32].bind(ADDR)) as server:
            with pytest.raises(KeyboardInterrupt), interrupt_after(0.1):
                server.run(never)
            assert cancelled.wait(PATIENCE_S)

    def test_close_ends_what_runs(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            thread, outcome = in_thread(lambda: server.run(asyncio.sleep, 3600))
            wait_until(lambda: server._thread._waiting)
        thread.join(PATIENCE_S)
        assert [type(error) for error in outcome] == [ConnectionClosed]
        with pytest.raises(ConnectionClosed):
            server.run(int)


class TestClose:
    def test_an_exception_in_the_block_closes_the_server_and_goes_on(self, serve):
        with pytest.raises(LookupError, match="in the block"):  # noqa: PT012 - the block is what raises
            with serve(WsServer[u32].bind(ADDR)) as server:
                client = connect(f"ws://{server.local_addr()}", compression=None, proxy=None)
                server.wait_clients(1, PATIENCE_S)
                server.send_nowait(7)
                raise LookupError("in the block")
        with client:
            assert received(client, U32, 1) == [7]
            assert close_code(client) == GOING_AWAY

    def test_it_may_be_called_again_and_by_any_thread(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            closers = [in_thread(server.close) for _ in range(3)]
            server.close()
            for thread, outcome in closers:
                thread.join(PATIENCE_S)
                assert outcome == [None]
        server.close()
        assert "closed" in repr(server)

    @pytest.mark.parametrize("kind", [bytes, Nothing])
    def test_all_that_was_queued_before_arrives(self, serve, kind):
        """Also what is still on its way from the thread to the loop, which takes 1 MiB a turn of it."""
        value, count = (bytes(MiB), 14) if kind is bytes else (Nothing(), 60_000)
        with serve(WsServer[kind].bind(ADDR)) as server:

            async def read() -> int:
                got = 0
                async with WsClient[kind].connect(server.local_addr()) as client:
                    async for _ in client:
                        got += 1
                return got

            thread, got = in_thread(lambda: asyncio.run(read()))
            server.wait_clients(1, PATIENCE_S)
            for _ in range(count):
                server.send_nowait(value)
        thread.join(PATIENCE_S)
        assert got == [count]

    def test_under_traffic_every_thread_is_told_and_what_arrived_has_no_gap(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:

            async def read() -> dict[int, int]:
                seen: Counter[int] = Counter()
                async with WsClient[u32].connect(server.local_addr()) as client:
                    async for value in client:
                        assert value & 0xFFFFFF == seen[value >> 24]
                        seen[value >> 24] += 1
                return seen

            def write(number: int) -> int:
                sent = 0
                try:
                    while True:
                        server.send(number << 24 | sent)
                        sent += 1
                except ConnectionClosed:
                    return sent

            reader, seen = in_thread(lambda: asyncio.run(read()))
            server.wait_clients(1, PATIENCE_S)
            writers = [in_thread(lambda number=number: write(number)) for number in range(4)]
            wait_until(lambda: server.server.messages_in >= 0 and seen == [])
            time.sleep(0.2)  # of traffic
            server.close(drain=PATIENCE_S)  # a busy machine may need more than the usual second
        for thread, _ in writers:
            thread.join(PATIENCE_S)
        reader.join(PATIENCE_S)
        sent = {number: outcome[0] for number, (_, outcome) in enumerate(writers)}
        assert all(count > 0 for count in sent.values())
        # A message whose send raised nothing was queued before the close, so it arrived.
        assert dict(seen[0]) == sent

    def test_a_client_that_never_reads_delays_it_for_a_bounded_time(self, serve):
        with serve(WsServer[bytes].bind(ADDR, close_timeout=0.2)) as server:
            client = socket.create_connection(server.local_addr())
            client.sendall(helpers.PLAIN_HEAD)
            server.wait_clients(1, PATIENCE_S)
            for _ in range(10):
                server.send_nowait(bytes(MiB))
            server.close(drain=0.1)
        client.close()

    def test_a_second_ctrl_c_waits_for_nobody(self, serve):
        with serve(WsServer[bytes].bind(ADDR, close_timeout=3600)) as server:
            client = socket.create_connection(server.local_addr())
            client.sendall(helpers.PLAIN_HEAD)
            server.wait_clients(1, PATIENCE_S)
            for _ in range(10):
                server.send_nowait(bytes(MiB))
            with pytest.raises(KeyboardInterrupt), interrupt_after(0.2):
                server.close(drain=3600)
        client.close()

    def test_a_loop_that_is_blocked_is_named(self, serve, monkeypatch):
        monkeypatch.setattr(server_thread, "JOIN_S", 0.1)
        go_on = threading.Event()
        server = serve(WsServer[u32].bind(ADDR, close_timeout=0)).start()
        thread, _ = in_thread(lambda: server.run(go_on.wait))
        wait_until(lambda: server._thread._waiting)
        with pytest.raises(RuntimeError, match="a function that runs on it blocks it"):
            server.close(drain=0)
        go_on.set()
        thread.join(PATIENCE_S)
        server._thread._thread.join(PATIENCE_S)

    def test_that_does_not_hide_the_exception_of_the_block(self, serve, monkeypatch):
        monkeypatch.setattr(server_thread, "JOIN_S", 0.1)
        go_on = threading.Event()
        with pytest.raises(LookupError, match="in the block") as caught:  # noqa: PT012 - the block is what raises
            with serve(WsServer[u32].bind(ADDR, close_timeout=0)) as server:
                thread, _ = in_thread(lambda: server.run(go_on.wait))
                wait_until(lambda: server._thread._waiting)
                raise LookupError("in the block")
        assert "did not end within" in caught.value.__notes__[0]
        go_on.set()
        thread.join(PATIENCE_S)
        server._thread._thread.join(PATIENCE_S)


class TestFailure:
    """Something ends the loop that should not."""

    def break_loop(self, server: Background[Any, Any]) -> None:
        server.run(lambda: asyncio.get_running_loop().call_soon(sys.exit, 3))
        wait_until(lambda: server._thread._over)

    def test_it_is_told_once_by_the_end_of_the_block(self, serve, caplog):
        with pytest.raises(RuntimeError, match=r"event loop of the background server has failed") as caught:
            with serve(WsServer[u32].bind(ADDR)) as server:
                self.break_loop(server)
        assert isinstance(caught.value.__cause__, SystemExit)
        assert "the event loop of <WsServer[u32]" in caplog.text
        server.close()

    def test_it_is_told_by_every_call(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            self.break_loop(server)
            for call in (
                lambda: server.send(1),
                lambda: server.send_nowait(1),
                server.recv,
                lambda: server.recv_many(1),
                lambda: next(server),
                server.client_count,
                lambda: server.wait_clients(1),
                lambda: server.run(int),
            ):
                with pytest.raises(RuntimeError, match="has failed: SystemExit") as caught:
                    call()
                assert isinstance(caught.value.__cause__, SystemExit)

    def test_waiting_threads_are_told(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server:
            waiting = [in_thread(work) for work in (server.recv, lambda: server.wait_clients(1))]
            wait_until(lambda: server._thread._waiting and server.server.inbox.wanted)
            self.break_loop(server)
            for thread, outcome in waiting:
                thread.join(PATIENCE_S)
                assert [type(error) for error in outcome] == [RuntimeError]

    def test_a_stopped_loop_is_a_failure_too(self, serve):
        with pytest.raises(RuntimeError, match="has failed"):  # noqa: PT012 - the block is what raises
            with serve(WsServer[u32].bind(ADDR)) as server:
                server.run(lambda: asyncio.get_running_loop().stop())
                wait_until(lambda: server._thread._over)

    def test_clients_see_a_close_in_good_order(self, serve):
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as client:
            server.wait_clients(1, PATIENCE_S)
            thread, code = in_thread(lambda: close_code(client))
            self.break_loop(server)
            thread.join(PATIENCE_S)
            assert code == [GOING_AWAY]
            with pytest.raises(RuntimeError):
                server.send(1)

    def test_it_does_not_hide_the_exception_of_the_block(self, serve):
        with pytest.raises(LookupError, match="in the block") as caught:  # noqa: PT012 - the block is what raises
            with serve(WsServer[u32].bind(ADDR)) as server:
                self.break_loop(server)
                raise LookupError("in the block")
        assert "has failed: SystemExit" in caught.value.__notes__[0]


# --- whole programs ------------------------------------------------------------------------

PRELUDE = """
import asyncio, os, signal, sys, threading, time
import uvloop
from deli_com import *
FACTORY = {"asyncio": None, "uvloop": uvloop.new_event_loop}[sys.argv[1]]
def serve(addr="127.0.0.1:0", **options):
    return serve_background(WsServer[u32].bind(addr, **options), loop_factory=FACTORY)
def tell(server):
    print(server.local_addr().port, flush=True)
"""


@contextmanager
def program(loop_name: str, text: str, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python program that prints the port of its server; gives it and the server's URL."""
    command = [sys.executable, *flags, "-c", PRELUDE + text, loop_name]
    environ = {**os.environ, "PYTHONWARNINGS": ""}
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, f"ws://127.0.0.1:{line.strip()}"
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status and stderr of a program that ends by itself."""
    _, stderr = process.communicate(timeout=PATIENCE_S)
    return process.returncode, stderr


def client_at(url: str) -> ClientConnection:
    return connect(url, compression=None, proxy=None)


class TestPrograms:
    @pytest.mark.parametrize("addr", ["127.0.0.1:0", "localhost:0"])
    def test_a_forgotten_server_ends_with_the_program_in_good_order(self, loop_name, addr):
        """`localhost` is resolved by the loop's executor, whose threads have ended before."""
        text = f"""
server = serve({addr!r}).start()
tell(server)
server.wait_clients(1)
for i in range(1000):
    server.send_nowait(i)
"""
        with program(loop_name, text) as (process, url), client_at(url) as client:
            assert received(client, U32, 1000) == list(range(1000))
            assert close_code(client) == GOING_AWAY
            assert ended(process) == (0, "")

    def test_a_thread_that_still_waits_does_not_keep_the_program(self, loop_name):
        text = """
server = serve().start()
tell(server)
threading.Thread(target=lambda: list(server), daemon=True).start()
server.wait_clients(1)
"""
        with program(loop_name, text) as (process, url), client_at(url) as client:
            assert close_code(client) == GOING_AWAY
            assert ended(process) == (0, "")

    def test_developers_are_told_what_they_forgot(self, loop_name):
        with program(loop_name, "server = serve().start()\ntell(server)", "-X", "dev") as (process, _):
            status, stderr = ended(process)
            assert status == 0
            assert "ResourceWarning: unclosed <Background <WsServer[u32]" in stderr
            assert "Traceback" not in stderr

    def test_ctrl_c_closes_it_and_ends_the_program(self, loop_name):
        text = """
with serve() as server:
    tell(server)
    for value in server:
        print(value, flush=True)
"""
        with program(loop_name, text) as (process, url), client_at(url) as client:
            client.send(U32.to_bytes(7))
            assert process.stdout is not None and process.stdout.readline() == "7\n"
            process.send_signal(signal.SIGINT)
            assert close_code(client) == GOING_AWAY
            status, stderr = ended(process)
            assert status == -signal.SIGINT
            assert stderr.count("Traceback") == 1 and stderr.rstrip().endswith("KeyboardInterrupt")

    def test_a_program_that_fails_closes_it(self, loop_name):
        text = """
with serve() as server:
    tell(server)
    server.wait_clients(1)
    raise SystemExit(5)
"""
        with program(loop_name, text) as (process, url), client_at(url) as client:
            assert close_code(client) == GOING_AWAY
            assert ended(process) == (5, "")

    def test_a_forked_child_is_refused_and_harms_nothing(self, loop_name):
        text = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a program with threads
with serve() as server:
    tell(server)
    server.wait_clients(1)
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (server.recv, lambda: server.send(1), lambda: server.run(int), server.client_count):
            try:
                call()
            except RuntimeError as error:
                refused += "parent process" in str(error)
        server.close()
        sys.exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    server.wait_clients(2)
    server.send(8)
    server.recv()
"""
        with program(loop_name, text) as (process, url), client_at(url) as first:
            wait_until(lambda: first.protocol.state.name == "OPEN")
            with client_at(url) as second:
                assert received(second, U32, 1) == [8]
                assert received(first, U32, 1) == [8]
                second.send(U32.to_bytes(1))
                assert close_code(second) == close_code(first) == GOING_AWAY
            assert ended(process) == (0, "")


def test_importing_starts_no_thread() -> None:
    script = "import threading, deli_com; assert threading.active_count() == 1"
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=PATIENCE_S)


class Place(Codec, sealed=True):
    """What is known of places."""


class Heat(Place, policy="latest", key="where", retain=True):
    where: str
    celsius: u32


class TestAllThatAServerHas:
    """What an ordinary server has, as blocking calls."""

    def test_values_with_their_senders(self, serve) -> None:
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as one, client_of(server) as two:
            server.wait_clients(2, PATIENCE_S)
            one.send(U32.to_bytes(1))
            peer, value = server.recv_from(PATIENCE_S)
            assert value == 1 and peer in server.clients and len(server.clients) == 2
            peer.send_nowait(5)
            assert received(one, U32, 1) == [5]
            two.send(U32.to_bytes(2))
            other, value = server.recv_from(PATIENCE_S)
            assert value == 2 and {peer, other} == server.clients
            with pytest.raises(TimeoutError):
                server.recv_from(0)
            assert server.stats().messages_in == 2

    def test_groups(self, serve) -> None:
        with serve(WsServer[u32].bind(ADDR)) as server, client_of(server) as one, client_of(server) as two:
            server.wait_clients(2, PATIENCE_S)
            one.send(U32.to_bytes(1))
            peer, _ = server.recv_from(PATIENCE_S)
            group = server.group("some")
            assert server.run(group.add, peer)
            group.send_nowait(7)
            server.send_nowait(8)
            assert received(one, U32, 2) == [7, 8]
            assert received(two, U32, 1) == [8]
            assert server.group("some") == group

    def test_forget_and_flush(self, serve) -> None:
        with serve(WsServer[Place, None].bind(ADDR)) as server:
            server.send_nowait(Heat("here", 20))
            server.send_nowait(Heat("there", 30))
            server.flush()
            assert server.stats().retained_keys == 2
            assert server.forget("here") and not server.forget("here")
            assert server.forget("there", Heat)
            assert server.stats().retained_keys == 0

    def test_they_are_refused_once_it_is_closed(self, serve) -> None:
        with serve(WsServer[u32].bind(ADDR)) as server:
            pass
        for call in (server.flush, lambda: server.group("a"), lambda: server.clients, server.recv_from):
            with pytest.raises(ConnectionClosed):
                call()
        assert server.stats().clients == 0
