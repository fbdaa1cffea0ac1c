"""`WsClient.stream`: it reconnects with backoff, tells how long it was away, and ends after fatal errors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket

import pytest
from helpers import until

from deli_com import ConnectionClosed, DecodeError, IoError, WebSocketError, WsClient, WsServer, u32
from deli_com import stream as stream_module
from deli_com.net import backoff as backoff_module


class TestStream:
    async def test_values_of_several_servers_in_one_loop(self):
        """The server is restarted twice; the stream tells each time how long it was away."""
        away: list[float] = []
        got: list[int] = []
        server = await WsServer[u32].bind("127.0.0.1:0")
        addr = server.local_addr()
        async with WsClient[u32].stream(
            addr, on_reconnect=away.append, first_delay=0.01, max_delay=0.05
        ) as values:
            for generation in range(3):
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                await server.send(generation)
                got.append(await step)
                await server.close()
                if generation < 2:
                    step = asyncio.ensure_future(anext(values))
                    await until(lambda: values.client is None)
                    server = await WsServer[u32].bind(addr)
                    await server.wait_clients(1)
                    await server.send(10 + generation)
                    got.append(await step)
        assert got == [0, 10, 1, 11, 2]
        assert len(away) == 2 and all(0 < seconds < 5 for seconds in away)

    async def test_on_reconnect_may_be_async_and_comes_before_the_first_value(self):
        seen: list[object] = []

        async def told(seconds: float) -> None:
            await asyncio.sleep(0)
            seen.append("told")

        server = await WsServer[u32].bind("127.0.0.1:0")
        addr = server.local_addr()
        async with WsClient[u32].stream(addr, on_reconnect=told, first_delay=0.01) as values:
            step = asyncio.ensure_future(anext(values))
            await server.wait_clients(1)
            await server.send(1)
            seen.append(await step)
            await server.close()
            step = asyncio.ensure_future(anext(values))
            await until(lambda: values.client is None)
            async with WsServer[u32].bind(addr) as server:
                await server.wait_clients(1)
                await server.send(2)
                seen.append(await step)
        assert seen == [1, "told", 2]

    async def test_one_that_is_left_by_a_break_ends_its_connection(self):
        """Nobody holds it any more, so nobody could end it."""
        gone: list[int | None] = []
        async with WsServer[u32].bind(
            "127.0.0.1:0", on_disconnect=lambda peer, why: gone.append(why.code)
        ) as server:

            async def take_one() -> int:
                async for value in WsClient[u32].stream(server.local_addr()):
                    return value
                raise AssertionError("the stream ended")

            step = asyncio.ensure_future(take_one())
            await server.wait_clients(1)
            await server.send(7)
            assert await step == 7
            del step
            gc.collect()
            await until(lambda: gone == [1000])

    async def test_the_first_connection_may_be_late(self):
        async with WsServer[u32].bind("127.0.0.1:0") as probe:
            addr = probe.local_addr()
        told: list[float] = []
        async with WsClient[u32].stream(
            addr, on_reconnect=told.append, first_delay=0.01, max_delay=0.02
        ) as values:
            step = asyncio.ensure_future(anext(values))
            await asyncio.sleep(0.03)  # some attempts fail: that is what is tested
            async with WsServer[u32].bind(addr) as server:
                await server.wait_clients(1)
                await server.send(5)
                assert await step == 5
        assert told == [], "it was never there, so it was never away"

    @pytest.mark.parametrize(
        ("verdict", "status"),
        [((401, "who?"), 401), (False, 403), ((404, "nobody"), 404), ((410, "no more"), 410)],
    )
    async def test_gives_up_where_the_server_refuses_for_good(self, verdict, status):
        async with WsServer[u32].bind("127.0.0.1:0", authorize=lambda request: verdict) as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=0.01) as values:
                with pytest.raises(WebSocketError) as caught:
                    await anext(values)
                assert caught.value.status == status
                assert [value async for value in values] == []

    async def test_a_wrong_path_is_hopeless_and_a_full_server_is_not(self):
        async with WsServer[u32].bind("127.0.0.1:0", path="/here", max_clients=1) as server:
            async with WsClient[u32].stream(server.local_addr(), path="/there", first_delay=0.01) as values:
                with pytest.raises(WebSocketError) as caught:
                    await anext(values)
                assert caught.value.status == 404
            first = await WsClient[u32].connect(server.local_addr(), path="/here")
            async with WsClient[u32].stream(
                server.local_addr(), path="/here", first_delay=0.01, max_delay=0.02
            ) as values:
                step = asyncio.ensure_future(anext(values))
                await asyncio.sleep(0.03)
                await first.close()
                await until(lambda: values.client is not None)
                await server.send(9)
                assert await step == 9

    @pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.06])
    async def test_a_cancelled_step_loses_nothing(self, moment):
        server = await WsServer[u32].bind("127.0.0.1:0")
        addr = server.local_addr()
        async with WsClient[u32].stream(addr, first_delay=0.01, max_delay=0.02) as values:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(moment):
                    await anext(values)
            step = asyncio.ensure_future(anext(values))
            while not step.done():  # the connection that was cancelled may be counted for a moment
                await server.send(3)
                await asyncio.sleep(0.01)
            assert await step == 3
        await server.close()

    async def test_goes_on_after_a_message_that_is_no_value(self):
        async with WsServer[str].bind("127.0.0.1:0") as server:
            async with WsClient[tuple[u32, u32]].stream(
                server.local_addr(), first_delay=0.01, schema=None
            ) as values:
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                await server.send("abc")  # seven bytes, one short of two u32
                await server.send("abcd")
                with pytest.raises(DecodeError):
                    await step
                assert await anext(values) == (4, int.from_bytes(b"abcd", "little"))

    async def test_delays_double_from_the_first_to_the_largest_with_jitter(self, monkeypatch):
        """At once, then drawn from the upper half of 1, 2, 4, 8, 8, 8 s."""
        slept: list[float] = []
        draws = iter([0.5, 1.0, 0.75, 0.5, 1.0, 0.6, 1.0])
        limits: list[tuple[float, float]] = []
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await real(0)

        def uniform(low: float, high: float) -> float:
            limits.append((low, high))
            return next(draws)

        monkeypatch.setattr(stream_module.asyncio, "sleep", sleep)
        monkeypatch.setattr(backoff_module.random, "uniform", uniform)
        attempts = 0
        async with WsServer[u32].bind("127.0.0.1:0") as server:

            async def connect():
                nonlocal attempts
                attempts += 1
                if attempts <= 7:
                    raise IoError("refused")
                return await WsClient[u32].connect(server.local_addr())

            async with stream_module.Stream(connect, first_delay=1.0, max_delay=8.0) as values:
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                assert slept == pytest.approx([0.5, 2.0, 3.0, 4.0, 8.0, 4.8, 8.0], rel=0.5)
                assert limits == [(0.5, 1.0)] * 7
                await server.send(1)
                assert await step == 1

    @pytest.mark.parametrize("where", ["connecting", "waiting", "receiving"])
    async def test_aclose_of_another_task_leaves_no_client(self, where):
        """While a connection is being made, too: what comes out of that is closed."""
        go_on = asyncio.Event()
        clients = []
        async with WsServer[u32].bind("127.0.0.1:0") as server:

            async def connect():
                if where == "waiting":
                    raise IoError("refused")
                client = await WsClient[u32].connect(server.local_addr())
                clients.append(client)
                if where == "connecting":
                    try:
                        await go_on.wait()
                    finally:
                        await client.close()
                return client

            values = stream_module.Stream(connect, first_delay=0.05, max_delay=0.05)
            step = asyncio.ensure_future(anext(values))
            await until(lambda: where == "waiting" or server.client_count() == 1)
            await asyncio.sleep(0.01)
            await values.aclose()
            with pytest.raises(StopAsyncIteration):
                await step
            await until(lambda: server.client_count() == 0)
            assert all(client._is_ended() for client in clients)
            assert values.client is None

    def test_delays_must_make_sense(self):
        with pytest.raises(ValueError, match="first_delay"):
            WsClient[u32].stream("127.0.0.1:1", first_delay=0)

    async def test_aclose_ends_it_wherever_it_stands(self):
        values = WsClient[u32].stream("127.0.0.1:1", first_delay=30)
        step = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0.01)
        step.cancel()
        await values.aclose()
        await values.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(values)


class Clock:
    """The time of streams, moved by their own waits only."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            if seconds >= 0.5:  # else it is a test's
                self.waits.append(seconds)
                self.now += seconds
            await real(0)

        monkeypatch.setattr(stream_module.asyncio, "sleep", sleep)
        monkeypatch.setattr(backoff_module.random, "uniform", lambda low, high: high)
        monkeypatch.setattr(stream_module.Stream, "_now", lambda stream: self.now)


class TestBackoff:
    async def test_a_server_that_sends_its_state_and_closes_is_not_hammered(self, monkeypatch):
        """A value received is no success: what counts is how long the connection was held."""
        clock = Clock(monkeypatch)

        def told(peer) -> None:
            peer.send_nowait(1)
            peer.close(1011, "no more of you")

        async with WsServer[u32].bind("127.0.0.1:0", on_connect=told) as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=1, max_delay=8) as values:
                assert [await anext(values) for _ in range(7)] == [1] * 7
        assert clock.waits == [1, 2, 4, 8, 8, 8]

    async def test_after_a_connection_that_was_held_the_next_comes_at_once(self, monkeypatch):
        """Held as long as the last delay, and a second at least."""
        clock = Clock(monkeypatch)
        held = [0.0, 0.5, 1.9, 4.0, 0.5, 1.0, 1.5, 0.9]
        got = 0
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=1, max_delay=8) as values:
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                for seconds in held:
                    server.send_nowait(got)
                    assert await step == got
                    got += 1
                    clock.now += seconds
                    step = asyncio.ensure_future(anext(values))
                    for peer in server.clients:
                        peer.close()
                    await until(lambda: server.client_count() == 0)
                    await until(lambda: server.client_count() == 1)
                step.cancel()
        # 0.0, 0.5 and 1.9 s were too short, 4.0 s was long enough; then 0.5 too short, 1.0 and 1.5 long
        # enough.
        assert clock.waits == [1, 2, 4, 1, 1]

    async def test_two_tasks_share_one_connection(self):
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=0.01) as values:
                steps = [asyncio.ensure_future(anext(values)) for _ in range(5)]
                await server.wait_clients(1)
                for number in range(5):
                    await server.send(number)
                assert sorted(await asyncio.gather(*steps)) == [0, 1, 2, 3, 4]
                assert server.client_count() == 1
                steps = [asyncio.ensure_future(anext(values)) for _ in range(5)]
                for peer in server.clients:
                    peer.close()
                await until(lambda: server.client_count() == 0)
                await until(lambda: server.client_count() == 1)
                for number in range(5):
                    await server.send(number)
                assert sorted(await asyncio.gather(*steps)) == [0, 1, 2, 3, 4]
            await until(lambda: server.client_count() == 0)
            assert server.stats().closed.keys() <= {1000, 1005, 1006, None}

    async def test_one_of_two_steps_may_be_cancelled_while_it_connects(self):
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=0.01) as values:
                first, second = (asyncio.ensure_future(anext(values)) for _ in range(2))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                first.cancel()
                await server.wait_clients(1)
                await server.send(4)
                assert await second == 4
                with pytest.raises(asyncio.CancelledError):
                    await first


class TestEnds:
    async def test_aclose_ends_a_backoff_at_once(self):
        """The step ends in a few turns of the loop, whatever the delay."""
        values = WsClient[u32].stream("127.0.0.1:1", first_delay=3600, max_delay=3600)
        steps = [asyncio.ensure_future(anext(values)) for _ in range(2)]
        await until(lambda: values._backoff.delay == 3600)
        await values.aclose()
        for step in steps:
            with pytest.raises(StopAsyncIteration):
                await step

    async def test_aclose_ends_a_connecting_at_once(self):
        """A server that accepts and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            addr = silent.getsockname()
            values = WsClient[u32].stream(addr, open_timeout=3600)
            step = asyncio.ensure_future(anext(values))
            silent.setblocking(False)
            taken, _ = await asyncio.get_running_loop().sock_accept(silent)
            await values.aclose()
            with pytest.raises(StopAsyncIteration):
                await step
            with taken:
                taken.setblocking(True)
                with contextlib.suppress(ConnectionResetError):
                    while taken.recv(4096):
                        pass

    async def test_aclose_from_on_reconnect(self):
        values = None

        async def back(seconds: float) -> None:
            await values.aclose()

        async with WsServer[u32].bind("127.0.0.1:0") as server:
            values = WsClient[u32].stream(server.local_addr(), on_reconnect=back, first_delay=0.01)
            step = asyncio.ensure_future(anext(values))
            await server.wait_clients(1)
            for peer in server.clients:
                peer.close()
            with pytest.raises(StopAsyncIteration):
                await step
            await until(lambda: server.client_count() == 0)

    @pytest.mark.parametrize("code", [1008, 4400, 4401, 4403])
    async def test_a_terminal_code_reaches_the_program(self, code):
        """What came before it is received; then ConnectionClosed, then the end."""

        def told(peer) -> None:
            peer.send_nowait(1)
            peer.close(code, "for good")

        async with WsServer[u32].bind("127.0.0.1:0", on_connect=told) as server:
            async with WsClient[u32].stream(server.local_addr(), first_delay=0.01) as values:
                assert await anext(values) == 1
                with pytest.raises(ConnectionClosed, match="for good") as caught:
                    await anext(values)
                assert caught.value.code == code
                assert [value async for value in values] == []
            assert server.stats().messages_out == 1

    @pytest.mark.parametrize(
        ("terminal", "code", "ends"),
        [((), 1008, False), ({4000}, 1008, False), ({4000}, 4000, True), ([1001, 1012], 1012, True)],
    )
    async def test_the_codes_may_be_chosen(self, terminal, code, ends):
        async with WsServer[u32].bind(
            "127.0.0.1:0", on_connect=lambda peer: (peer.send_nowait(1), peer.close(code))[1]
        ) as server:
            async with WsClient[u32].stream(
                server.local_addr(), first_delay=0.01, max_delay=0.01, terminal=terminal
            ) as values:
                assert await anext(values) == 1
                if ends:
                    with pytest.raises(ConnectionClosed):
                        await anext(values)
                else:
                    assert await anext(values) == 1

    @pytest.mark.parametrize(
        ("terminal", "kind"),
        [
            (4401, TypeError),
            ("4401", TypeError),
            (["4401"], TypeError),
            ([True], TypeError),
            ([99], ValueError),
        ],
    )
    def test_codes_must_be_codes(self, terminal, kind):
        with pytest.raises(kind, match="terminal"):
            WsClient[u32].stream("127.0.0.1:1", terminal=terminal)


class TestHeaders:
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize("how", ["401", "4401"])
    async def test_a_callable_is_called_at_each_attempt(self, is_async, how):
        """A token that has expired is followed by a fresh one: 401 and 4401 are not the last word then."""
        tokens = iter(["old", "new"])
        seen: list[str] = []

        def make() -> dict[str, str]:
            return {"Authorization": f"Bearer {next(tokens)}"}

        async def make_async() -> dict[str, str]:
            await asyncio.sleep(0)
            return make()

        def authorize(request):
            seen.append(request.headers["Authorization"])
            return (401, "expired") if how == "401" and seen[-1] == "Bearer old" else True

        def told(peer) -> None:
            if peer.request.headers["Authorization"] == "Bearer old":
                peer.close(4401, "expired")
            else:
                peer.send_nowait(5)

        async with WsServer[u32].bind("127.0.0.1:0", authorize=authorize, on_connect=told) as server:
            async with WsClient[u32].stream(
                server.local_addr(), headers=make_async if is_async else make, first_delay=0.01
            ) as values:
                assert await anext(values) == 5
        assert seen == ["Bearer old", "Bearer new"]

    async def test_what_it_raises_comes_from_the_step_and_the_next_step_tries_again(self):
        answers = iter([KeyError("no token"), {"X": 1}, {"X": "1"}])

        def make():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with WsServer[u32].bind("127.0.0.1:0", on_connect=lambda peer: peer.send_nowait(1)) as server:
            async with WsClient[u32].stream(server.local_addr(), headers=make) as values:
                with pytest.raises(KeyError):
                    await anext(values)
                with pytest.raises(TypeError, match="headers"):
                    await anext(values)
                assert await anext(values) == 1


class TestLog:
    async def test_one_warning_an_outage(self, caplog):
        """The first failure, with cause and next try; the others and the return are INFO."""
        caplog.set_level(logging.INFO, "deli_com.client")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            addr = taken.getsockname()
        async with WsClient[u32].stream(addr, first_delay=0.01, max_delay=0.01) as values:
            step = asyncio.ensure_future(anext(values))
            await until(lambda: len(caplog.records) >= 3)
            async with WsServer[u32].bind(addr, on_connect=lambda peer: peer.send_nowait(1)):
                assert await step == 1
        first, *others = [record for record in caplog.records if record.name == "deli_com.client"]
        assert first.levelno == logging.WARNING
        assert "connect to 127.0.0.1" in first.getMessage() and "next attempt in" in first.getMessage()
        assert {record.levelno for record in others} == {logging.INFO}
        assert "connected" in others[-1].getMessage()


class TestTypes:
    def test_a_type_is_needed(self):
        with pytest.raises(TypeError, match=r"WsClient\[T\]"):
            WsClient.stream("127.0.0.1:1")
