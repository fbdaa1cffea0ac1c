"""Behind nginx, HAProxy and Caddy, with the configurations of examples/proxies."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from pathlib import Path

import aiohttp
import pytest
from helpers import SLOW, until
from reverse_proxies import every_proxy, in_front_of
from swallowing import swallowing_relay

from deli_com import Codec, ConnectionClosed, Peer, Request, Response, WebSocketError, WsClient, WsServer, u32

HTTP = {"/": b"<p>page", "/healthz": lambda request: Response(body=b"ok")}


LONG = pytest.mark.skipif(
    os.environ.get("DELI_COM_TEST_LONG") != "1", reason="25 s at 30 KB/s: DELI_COM_TEST_LONG=1"
)


class Point(Codec):
    x: u32
    data: bytes = b""


@every_proxy
class TestProxies:
    async def test_page_and_values(self, proxy: str, tmp_path: Path) -> None:
        """Both ways, small and large, on one port with a page."""
        async with WsServer[Point].bind("127.0.0.1:0", http=HTTP) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/any?path") as client:
                    assert client.schema.down.how == "same"
                    for data in (b"", b"x" * 3_000_000):
                        await server.send(Point(1, data))
                        assert await client.recv() == Point(1, data)
                        await client.send(Point(2, data))
                        assert await server.recv() == Point(2, data)
                    (peer,) = server.clients
                    assert (peer.request.path, peer.request.query) == ("/any", "path")
                    async with (
                        aiohttp.ClientSession() as session,
                        session.get(f"http://127.0.0.1:{port}/") as answer,
                    ):
                        assert (answer.status, await answer.read()) == (200, b"<p>page")

    async def test_pages_of_the_proxys_host_may_connect(self, proxy: str, tmp_path: Path) -> None:
        async with WsServer[Point].bind("127.0.0.1:0", http=HTTP) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                url = f"ws://127.0.0.1:{port}/"
                async with WsClient[Point].connect(url, origin=f"http://127.0.0.1:{port}"):
                    pass
                with pytest.raises(WebSocketError) as caught:
                    await WsClient[Point].connect(url, origin="http://elsewhere.example")
                assert caught.value.status == 403

    async def test_the_address_is_the_proxys_word(self, proxy: str, tmp_path: Path) -> None:
        seen: list[list[str]] = []

        def authorize(request: Request) -> None:
            seen.append(request.headers.getall("X-Forwarded-For"))

        async with WsServer[Point].bind("127.0.0.1:0", http=HTTP, authorize=authorize) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                claimed = {"X-Forwarded-For": "8.8.8.8"}
                async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/", headers=claimed):
                    pass
        assert seen == [["127.0.0.1"]]

    async def test_the_clients_address(self, proxy: str, tmp_path: Path) -> None:
        """What the client claims itself is not believed; the proxies of examples/proxies set the header."""
        peers: list[Peer] = []
        async with WsServer[Point].bind(
            "127.0.0.1:0", http=HTTP, forwarded_from=True, on_connect=peers.append
        ) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                claimed = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.4.4"}
                async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/", headers=claimed):
                    await server.wait_clients(1)
        (peer,) = peers
        assert peer.remote_addr == ("127.0.0.1", 0)
        assert peer.via is not None
        assert peer.via.port != 0

    async def test_the_end_comes_through(self, proxy: str, tmp_path: Path) -> None:
        """Close code and reason reach the client, and what a client that leaves says reaches the server."""
        left: list[int | None] = []
        async with WsServer[Point].bind(
            "127.0.0.1:0", http=HTTP, on_disconnect=lambda peer, why: left.append(why.code)
        ) as server:
            async with in_front_of(proxy, server.local_addr().port, tmp_path) as port:
                async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/") as client:
                    (peer,) = server.clients
                    peer.close(4001, "enough")
                    with pytest.raises(ConnectionClosed) as caught:
                        await client.recv()
                    assert (caught.value.code, caught.value.reason) == (4001, "enough")
                async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/"):
                    pass
                await until(lambda: len(left) == 2)
                assert left[1] == 1000

    async def test_a_stream_returns(self, proxy: str, tmp_path: Path) -> None:
        """The server goes and comes back at its port, behind a proxy that stays."""
        server = await WsServer[Point].bind("127.0.0.1:0", http=HTTP)
        port_of_server = server.local_addr().port
        try:
            async with (
                in_front_of(proxy, port_of_server, tmp_path) as port,
                WsClient[Point].stream(f"ws://127.0.0.1:{port}/", first_delay=0.01, max_delay=0.1) as values,
            ):
                for number in range(3):
                    value = asyncio.ensure_future(anext(values))
                    await server.wait_clients(1)
                    await server.send(Point(number))
                    assert await value == Point(number)
                    await server.close()
                    server = await WsServer[Point].bind(f"127.0.0.1:{port_of_server}", http=HTTP)
        finally:
            await server.close()


class Pose(Codec, policy="latest"):
    turn: u32
    data: bytes = b""


@every_proxy
@pytest.mark.limit(40)
class TestWhatLiesBetween:
    """The client's own link is a relay without a buffer to speak of; what waits, waits in the proxy."""

    async def test_the_newest_stays_new(self, proxy: str, tmp_path: Path) -> None:
        """In flight is what the client takes in about half a second, and not what the proxy holds."""
        async with WsServer[Pose, None].bind("127.0.0.1:0", http=HTTP) as server:
            async with (
                in_front_of(proxy, server.local_addr().port, tmp_path) as port,
                swallowing_relay(("127.0.0.1", port), buffer=65536) as link,
            ):
                link.rate = 2e6
                async with WsClient[Pose, None].connect(f"ws://127.0.0.1:{link.address[1]}/") as client:
                    await server.wait_clients(1)
                    (peer,) = server.clients
                    late: list[int] = []
                    sent = 0

                    async def receive() -> None:
                        while True:
                            late.append(sent - (await client.recv()).turn)

                    async def send() -> None:
                        nonlocal sent
                        while True:
                            sent += 1
                            server.send_nowait(Pose(sent, bytes(20_000)))
                            await asyncio.sleep(0.002)

                    tasks = [asyncio.create_task(receive()), asyncio.create_task(send())]
                    await until(lambda: peer.stats().superseded > 1000)
                    late.clear()
                    await until(lambda: len(late) > 200)
                    assert peer.stats().in_flight < 2_000_000
                    assert peer.stats().transit < 2.0
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                    # Without a bound: 4.5 MB in the proxy, 2.25 s, in which 1,000 are sent.
                    assert max(late[-100:]) < 600

    async def test_a_cut_cable_is_found_while_the_server_sends(
        self, proxy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After `ping_interval` and `ping_timeout`, and a second at most, by the server's own clock."""
        quick = {"ping_interval": 0.4 * SLOW, "ping_timeout": 0.4 * SLOW}
        async with WsServer[Point].bind("127.0.0.1:0", http=HTTP, close_timeout=0.2, **quick) as server:
            async with (
                in_front_of(proxy, server.local_addr().port, tmp_path) as port,
                swallowing_relay(("127.0.0.1", port), buffer=65536) as link,
            ):
                url = f"ws://127.0.0.1:{link.address[1]}/"
                client = await WsClient[Point].connect(url, ping_interval=None)
                await server.wait_clients(1)
                (peer,) = server.clients
                await until(lambda: peer.stats().round_trip_s is not None)
                link.cut()

                async def send() -> None:
                    while True:
                        server.send_nowait(Point(1))
                        await asyncio.sleep(0.05)

                task = asyncio.create_task(send())
                with caplog.at_level(logging.WARNING, "deli_com.server"):
                    await until(lambda: server.client_count() == 0)
                task.cancel()
                await asyncio.wait([task])
                await client.close()
        found = re.search(r"no sign of life for (\d+\.\d) s", caplog.text)
        assert found
        assert 0.8 * SLOW <= float(found[1]) <= 0.8 * SLOW + 1.0

    @LONG
    async def test_one_that_takes_30_kb_a_second_stays(self, proxy: str, tmp_path: Path) -> None:
        """What it gets of a stream of 100 KB/s is 10 s old at most; the proxy would hold 150 s of it."""
        async with WsServer[Pose, None].bind(
            "127.0.0.1:0", http=HTTP, ping_interval=2.0, ping_timeout=2.0
        ) as server:
            async with (
                in_front_of(proxy, server.local_addr().port, tmp_path) as port,
                swallowing_relay(("127.0.0.1", port), buffer=16384) as link,
            ):
                link.rate = 30e3
                url = f"ws://127.0.0.1:{link.address[1]}/"
                async with WsClient[Pose, None].connect(url, ping_interval=None) as client:
                    await server.wait_clients(1)
                    sent: list[float] = []
                    ages: list[float] = []

                    async def send() -> None:
                        while True:
                            server.send_nowait(Pose(len(sent), bytes(1000)))
                            sent.append(time.monotonic())
                            await asyncio.sleep(0.01)

                    task = asyncio.create_task(send())
                    end = time.monotonic() + 25.0
                    while time.monotonic() < end:
                        turn = (await client.recv()).turn
                        ages.append(time.monotonic() - sent[turn])
                    assert server.client_count() == 1
                    task.cancel()
                    await asyncio.wait([task])
                    assert max(ages) < 10.0 * SLOW


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
async def test_one_that_speaks_the_proxy_protocol(tmp_path: Path) -> None:
    """With the configurations here, only HAProxy of the three can report it."""
    peers: list[Peer] = []
    async with WsServer[Point].bind(
        "127.0.0.1:0", http=HTTP, proxy_protocol=True, on_connect=peers.append
    ) as server:

        def change(text: str) -> str:
            return text.replace("check inter 1s", "check inter 1s send-proxy-v2 check-send-proxy")

        async with in_front_of("haproxy", server.local_addr().port, tmp_path, change) as port:
            async with WsClient[Point].connect(f"ws://127.0.0.1:{port}/") as client:
                await server.send(Point(1))
                assert await client.recv() == Point(1)
                assert peers[0].remote_addr is not None
                assert peers[0].remote_addr.host == "127.0.0.1"
