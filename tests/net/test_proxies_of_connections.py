"""Both kinds of servers behind HAProxy `mode tcp` and nginx `stream`, as configured in examples/proxies."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import SLOW, until
from reverse_proxies import every_proxy_of_connections, in_front_of
from swallowing import swallowing_relay
from traffic import Plain, Pose, reading, sending

from deli_com import Client, Server, WsClient, WsServer

# The server, its client, what the client needs to answer marks, and the names of interval and timeout.
ENDS: dict[str, tuple[Any, Any, dict[str, Any], tuple[str, str]]] = {
    "ws": (WsServer, WsClient, {}, ("ping_interval", "ping_timeout")),
    "tcp": (Server, Client, {"schema": "check"}, ("keepalive_interval", "keepalive_timeout")),
}
every_end = pytest.mark.parametrize("ends", ENDS)


async def only_peer(server: Any) -> Any:
    """What the server knows of its one client. The proxy's first connection only looked for a listener."""
    await until(lambda: server.client_count() == 1)
    (peer,) = server.clients
    return peer


@every_end
@every_proxy_of_connections
@pytest.mark.limit(40)
class TestProxiesOfConnections:
    async def test_values(self, proxy: str, ends: str, tmp_path: Path) -> None:
        """Both ways, small and large."""
        server_class, client_class, options, _ = ENDS[ends]
        async with server_class[Plain].bind("127.0.0.1:0") as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                async with await client_class[Plain].connect(("127.0.0.1", port), **options) as client:
                    await only_peer(server)
                    for data in (b"", b"x" * 3_000_000):
                        await server.send(Plain(1, data))
                        assert await client.recv() == Plain(1, data)
                        await client.send(Plain(2, data))
                        assert await server.recv() == Plain(2, data)

    @pytest.mark.loops("asyncio")
    async def test_the_newest_stays_new(self, proxy: str, ends: str, tmp_path: Path) -> None:
        """In flight is what the client takes in about half a second, and not what the proxy holds."""
        server_class, client_class, options, _ = ENDS[ends]
        async with server_class[Pose, None].bind("127.0.0.1:0") as server:
            async with (
                in_front_of(proxy, server.local_addr().port, tmp_path) as port,
                swallowing_relay(("127.0.0.1", port), buffer=65536) as link,
            ):
                link.rate = 2e6
                async with await client_class[Pose, None].connect(link.address, **options) as client:
                    peer = await only_peer(server)
                    late: list[int] = []
                    sent = 0

                    def make(turn: int) -> Pose:
                        nonlocal sent
                        sent = turn
                        return Pose(turn, bytes(20_000))

                    async def receive() -> None:
                        while True:
                            late.append(sent - (await client.recv()).turn)

                    task = asyncio.create_task(receive())
                    async with sending(server, make, 0.002):
                        await until(lambda: peer.stats().superseded > 1000)
                        late.clear()
                        await until(lambda: len(late) > 200)
                        found = peer.stats()
                    task.cancel()
                    await asyncio.wait([task])
                    assert found.in_flight < 2_000_000
                    assert found.transit < 2.0
                    # Without a bound: 4.5 MB in the proxy, 2.25 s, in which 1,000 are sent.
                    assert max(late[-100:]) < 600

    async def test_a_cut_cable_is_found_while_the_server_sends(
        self, proxy: str, ends: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After interval and timeout, and a second at most, by the server's own clock."""
        server_class, client_class, options, (interval, timeout) = ENDS[ends]
        quick = {interval: 0.4 * SLOW, timeout: 0.4 * SLOW}
        async with server_class[Plain, None].bind("127.0.0.1:0", close_timeout=0.2, **quick) as server:
            async with (
                in_front_of(proxy, server.local_addr().port, tmp_path) as port,
                swallowing_relay(("127.0.0.1", port), buffer=65536) as link,
            ):
                client = await client_class[Plain, None].connect(link.address, **{interval: None}, **options)
                peer = await only_peer(server)
                await until(lambda: peer.stats().round_trip_s is not None)
                link.cut()
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    async with sending(server, Plain, 0.05):
                        await until(lambda: server.client_count() == 0)
                await client.close()
        found = re.search(r"no sign of life for (\d+\.\d) s", caplog.text)
        assert found
        assert 0.8 * SLOW <= float(found[1]) <= 0.8 * SLOW + 1.0

    @pytest.mark.loops("uvloop")
    async def test_an_idle_connection_outlives_the_proxys_timeout(
        self, proxy: str, ends: str, tmp_path: Path
    ) -> None:
        """Nothing flows but what the server asks, and the answers."""
        server_class, client_class, options, (interval, _) = ENDS[ends]

        def change(text: str) -> str:
            changed = re.sub(r"(proxy_timeout|timeout (client|server)) +60s", rf"\1 {SLOW:.0f}s", text)
            assert changed != text
            return changed

        async with server_class[Plain, None].bind("127.0.0.1:0", **{interval: 0.3 * SLOW}) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path, change) as port:
                async with await client_class[Plain, None].connect(
                    ("127.0.0.1", port), **{interval: None}, **options
                ) as client:
                    await only_peer(server)
                    turns: list[int] = []
                    task = asyncio.create_task(reading(client, turns))
                    await asyncio.sleep(3.0 * SLOW)
                    assert server.client_count() == 1
                    server.send_nowait(Plain(1))
                    await until(lambda: turns == [1])
                    task.cancel()
                    await asyncio.wait([task])
