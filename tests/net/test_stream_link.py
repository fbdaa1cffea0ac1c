"""A stream as a link: it sends too, tells when it comes and goes, and keeps nothing while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from helpers import until
from laggards import Kept, Message
from peers import raw_server

from deli_com import (
    Client,
    ConnectionClosed,
    Gap,
    NotConnected,
    Server,
    StreamStats,
    WebSocketError,
    WsClient,
    WsServer,
    u32,
)

WIRES = ["ws", "tcp"]
BOUND: dict[str, Any] = {"ws": WsServer, "tcp": Server}
STREAMED: dict[str, Any] = {"ws": WsClient, "tcp": Client}
QUICK: Any = {"first_delay": 0.01, "max_delay": 0.05}


async def an_address(wire: str) -> Any:
    """An address where nobody listens now."""
    async with BOUND[wire][u32].bind("127.0.0.1:0") as probe:
        return probe.local_addr()


def stream_of(wire: str, addr: Any, types: Any = u32, **options: Any) -> Any:
    return STREAMED[wire][types].stream(addr, **QUICK, **options)


@pytest.mark.parametrize("wire", WIRES)
class TestSending:
    async def test_values_go_both_ways(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with stream_of(wire, server.local_addr()) as link:
                await link.send(1, wait=True)
                assert await server.recv() == 1
                link.send_nowait(2)
                assert await server.recv() == 2
                await server.send(3)
                assert await anext(link) == 3

    async def test_without_a_link_nothing_is_kept(self, wire: str) -> None:
        addr = await an_address(wire)
        async with stream_of(wire, addr) as link:
            with pytest.raises(NotConnected, match="no connection has been made yet"):
                link.send_nowait(1)
            with pytest.raises(NotConnected):
                await link.send(2)
            assert not link.connected
            async with BOUND[wire][u32].bind(addr) as server:
                await until(lambda: link.connected)  # it connects by itself: nobody iterates
                link.send_nowait(3)
                assert await server.recv() == 3
            await until(lambda: not link.connected)
            with pytest.raises(NotConnected):
                link.send_nowait(4)
            await until(lambda: link.client is None)
            with pytest.raises(NotConnected, match=r"the connection was lost [\d.]+ s ago"):
                await link.send(5)
            async with BOUND[wire][u32].bind(addr) as server:
                await link.send(6, wait=True)
                assert await server.recv() == 6
                assert server.stats().messages_in == 1

    async def test_who_waits_sends_over_the_next_connection(self, wire: str) -> None:
        addr = await an_address(wire)
        async with stream_of(wire, addr) as link:
            sending = [asyncio.ensure_future(link.send(number, wait=True)) for number in range(3)]
            await until(lambda: link._backoff.delay > 0)  # an attempt has failed
            assert not any(task.done() for task in sending)
            async with BOUND[wire][u32].bind(addr) as server:
                assert sorted([await server.recv() for _ in range(3)]) == [0, 1, 2]
                await asyncio.gather(*sending)

    async def test_a_value_of_another_type_is_refused(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with stream_of(wire, server.local_addr()) as link:
                with pytest.raises(ValueError, match="u32"):
                    await link.send("no", wait=True)

    async def test_after_the_end_it_says_so(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            link = stream_of(wire, server.local_addr())
            await link.send(1, wait=True)
            await link.aclose()
            for wait in (True, False):
                with pytest.raises(NotConnected, match="the stream has ended"):
                    await link.send(2, wait=wait)


@pytest.mark.parametrize("wire", WIRES)
class TestTelling:
    async def test_it_tells_of_each_connection_in_order(self, wire: str) -> None:
        seen: list[str] = []
        addr = await an_address(wire)

        def gap(told: Gap) -> None:
            assert told.name == "*" and told.reason == "link" and told.seconds is not None
            seen.append("gap")

        async def connected() -> None:
            await asyncio.sleep(0)
            assert link.connected
            link.send_nowait(len(seen))
            seen.append("connected")

        def gone(cause: Exception) -> None:
            assert not link.connected and isinstance(cause, ConnectionClosed)
            seen.append("gone")

        async with stream_of(
            wire,
            addr,
            on_connect=connected,
            on_disconnect=gone,
            on_gap=gap,
            on_reconnect=lambda away: seen.append("again"),
        ) as link:
            for expected in (0, 4):
                async with BOUND[wire][u32].bind(addr) as server:
                    assert await server.recv() == expected
                    await server.send(expected)
                    value = await anext(link)
                    seen.append(f"value {value}")
                await until(lambda: seen[-1] == "gone")
        assert seen == ["connected", "value 0", "gone", "gap", "connected", "again", "value 4", "gone"]

    async def test_the_end_is_told_though_nobody_iterates(self, wire: str) -> None:
        """And what had come before is given out afterwards."""
        gone = asyncio.Event()
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            addr = server.local_addr()
            link = stream_of(wire, addr)
            link.on_disconnect(lambda cause: gone.set())
            async with link:
                await server.wait_clients(1)
                for number in range(10):
                    await server.send(number)
                await until(lambda: link.connected and link.client.stats().messages_in == 10)
                await server.close()
                await gone.wait()
                async with BOUND[wire][u32].bind(addr) as server:
                    await until(lambda: link.connected)
                    await server.wait_clients(1)
                    await server.send(10)
                    assert [await anext(link) for _ in range(11)] == list(range(11))

    async def test_its_own_end_is_told_too(self, wire: str) -> None:
        causes: list[Exception] = []
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with stream_of(wire, server.local_addr(), on_disconnect=causes.append) as link:
                await until(lambda: link.connected)
        assert [str(cause) for cause in causes] == ["connection closed (1000): closed by this side"]

    async def test_what_they_raise_is_logged_and_changes_nothing(
        self, wire: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(*_: object) -> None:
            raise ZeroDivisionError

        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with stream_of(wire, server.local_addr(), on_connect=fails, on_disconnect=fails) as link:
                await link.send(1, wait=True)
                assert await server.recv() == 1
        errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert errors == ["on_connect raised", "on_disconnect raised"]

    async def test_it_may_be_ended_by_what_it_calls(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            link = stream_of(wire, server.local_addr())

            @link.on_connect
            async def end() -> None:
                await link.aclose()

            with pytest.raises(StopAsyncIteration):
                await anext(link)
            await until(lambda: server.client_count() == 0)

    async def test_figures_are_of_all_connections(self, wire: str) -> None:
        addr = await an_address(wire)
        async with stream_of(wire, addr) as link:
            assert link.stats() == StreamStats(
                **dict.fromkeys(_NUMBERS, 0), refused={}, closed={}, turned_away={}
            )
            for _ in range(2):
                async with BOUND[wire][u32].bind(addr) as server:
                    await link.send(1, wait=True)
                    await server.recv()
                    await server.wait_clients(1)
                    await server.send(2)
                    assert await anext(link) == 2
                await until(lambda: not link.connected)
            await until(lambda: link.client is None)
            stats = link.stats()
        assert (stats.connections, stats.messages_in, stats.messages_out, stats.gaps) == (2, 2, 2, 1)
        assert stats.clients == 0 and stats.away_s > 0 and sum(stats.closed.values()) == 2

    async def test_the_schema_of_the_last_connection_stays_known(self, wire: str) -> None:
        async with BOUND[wire][u32].bind("127.0.0.1:0") as server:
            async with stream_of(wire, server.local_addr(), schema="check") as link:
                assert link.schema.down.how == "unknown" and link.schema.up is not None
                await link.send(1, wait=True)
                assert link.schema.down.how == "same"
                await server.close()
                await until(lambda: link.client is None)
                assert link.schema.down.how == "same"


_NUMBERS = [
    name
    for name in StreamStats.__dataclass_fields__
    if name not in ("refused", "closed", "turned_away", "backplane", "connections", "away_s")
]


@pytest.mark.parametrize("wire", WIRES)
async def test_wait_live_connects_and_waits(wire: str) -> None:
    async with BOUND[wire][Message, None].bind("127.0.0.1:0") as server:
        for number in range(10):
            server.send_nowait(Kept(number, number))
        async with stream_of(wire, server.local_addr(), (Message, None), schema="check") as link:
            await link.wait_live()
            assert [(await anext(link)).number for _ in range(10)] == list(range(10))


async def test_a_link_without_a_sign_of_life_is_told_of() -> None:
    """The other end has gone without a word: nothing comes, and no PING is answered."""
    gone = asyncio.Event()
    async with raw_server() as server:
        async with WsClient[u32].stream(
            server.address, ping_interval=0.1, ping_timeout=0.2, on_disconnect=lambda cause: gone.set()
        ):
            await server.accept()
            await gone.wait()


async def test_a_terminal_code_is_raised_once_by_whoever_asks_next() -> None:
    async with WsServer[u32].bind("127.0.0.1:0") as server:
        async with WsClient[u32].stream(server.local_addr(), **QUICK) as link:
            await link.send(1, wait=True)
            for peer in server.clients:
                peer.close(4403, "no")
            await until(lambda: link._closed)
            with pytest.raises(ConnectionClosed) as caught:
                await anext(link)
            assert caught.value.code == 4403
            assert [value async for value in link] == []


async def test_a_refusal_for_good_is_raised_by_the_next_step_or_send() -> None:
    async with WsServer[u32].bind("127.0.0.1:0", authorize=lambda request: False) as server:
        for ask in ("step", "send"):
            async with WsClient[u32].stream(server.local_addr(), on_connect=print, **QUICK) as link:
                await until(lambda link=link: link._closed)
                with pytest.raises(WebSocketError):
                    await (anext(link) if ask == "step" else link.send(1, wait=True))


async def test_another_thread_is_refused() -> None:
    async with WsServer[u32].bind("127.0.0.1:0") as server:
        async with WsClient[u32].stream(server.local_addr()) as link:
            await link.send(1, wait=True)
            with pytest.raises(RuntimeError, match="thread"):
                await asyncio.to_thread(link.send_nowait, 2)


@pytest.mark.parametrize("wire", WIRES)
def test_an_option_that_is_none_is_named(wire: str) -> None:
    with pytest.raises(TypeError, match=r"on_conect.*did you mean 'on_connect'"):
        STREAMED[wire][u32].stream("127.0.0.1:1", on_conect=print)
    with pytest.raises(TypeError, match="on_disconnect takes a function"):
        STREAMED[wire][u32].stream("127.0.0.1:1", on_disconnect=3)


async def test_a_stream_that_is_only_iterated_has_no_task_of_its_own() -> None:
    """So it connects while a step waits, as before."""
    async with WsServer[u32].bind("127.0.0.1:0") as server:
        async with WsClient[u32].stream(server.local_addr()) as values:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(values)
            assert values._keeper is None
    gc.collect()
