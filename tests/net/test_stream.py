"""`WsClient.stream`: comes back with backoff, tells how long it was away, gives up where nothing can heal."""

from __future__ import annotations

import asyncio

import pytest
from helpers import until

from deli_com import DecodeError, IoError, WebSocketError, WsClient, WsServer, u32
from deli_com.ws import reconnect as stream_module


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
            async with WsClient[tuple[u32, u32]].stream(server.local_addr(), first_delay=0.01) as values:
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                await server.send("abc")  # seven bytes, one short of two u32
                await server.send("abcd")
                with pytest.raises(DecodeError):
                    await step
                assert await anext(values) == (4, int.from_bytes(b"abcd", "little"))

    async def test_delays_double_from_the_first_to_the_largest_with_jitter(self, monkeypatch):
        """At once, then drawn from the upper half of 1, 2, 4, 8, 8, 8 s; a value received begins anew."""
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
        monkeypatch.setattr(stream_module.random, "uniform", uniform)
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
                assert slept == [0.5, 2.0, 3.0, 4.0, 8.0, 4.8, 8.0]
                assert limits == [(0.5, 1.0)] * 7
                await server.send(1)
                assert await step == 1
                assert values._delay == 0.0, "the next loss is followed by an attempt at once"

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
                    await go_on.wait()
                return client

            values = stream_module.Stream(connect, first_delay=0.05, max_delay=0.05)
            step = asyncio.ensure_future(anext(values))
            await until(lambda: where == "waiting" or server.client_count() == 1)
            await asyncio.sleep(0.01)
            await values.aclose()
            go_on.set()
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


class TestTypes:
    def test_a_type_is_needed(self):
        with pytest.raises(TypeError, match=r"WsClient\[T\]"):
            WsClient.stream("127.0.0.1:1")
