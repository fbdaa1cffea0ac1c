"""What the program, its log and its help say about connections."""

from __future__ import annotations

import inspect
import logging
import typing
from typing import Any

import pytest
from helpers import certificates

import deli_com
from deli_com import (
    BacklogFull,
    Client,
    Codec,
    IoError,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    field,
    u8,
    u32,
)

ADDR = "127.0.0.1:0"


def public_functions() -> list[Any]:
    found = []
    for name in deli_com.__all__:
        item = getattr(deli_com, name)
        if inspect.isfunction(item):
            found.append(pytest.param(item, id=name))
        elif inspect.isclass(item):
            for attribute, function in inspect.getmembers(item, inspect.isroutine):
                if not attribute.startswith("_") and inspect.isfunction(
                    getattr(function, "__func__", function)
                ):
                    found.append(pytest.param(function, id=f"{name}.{attribute}"))
    return found


@pytest.mark.parametrize("function", public_functions())
def test_type_hints_resolve(function: Any) -> None:
    typing.get_type_hints(function)


def test_a_factory_is_shown_as_that_of_a_dataclass() -> None:
    class Box(Codec):
        items: list[u8] = field(default_factory=list)

    assert str(inspect.signature(Box)).count("= <factory>") == 1


@pytest.mark.parametrize("kind", [WsServer, Server])
async def test_a_port_that_this_process_holds(kind: Any) -> None:
    async with kind[u32].bind(ADDR) as server:
        with pytest.raises(IoError, match="in use, by this very process"):
            await kind[u32].bind(server.local_addr())


@pytest.mark.parametrize(("kind", "client"), [(WsServer, WsClient), (Server, Client)])
async def test_what_send_and_recv_return_says_what_to_do(kind: Any, client: Any) -> None:
    async with kind[u32].bind(ADDR) as server:
        sending, receiving = server.send(1), server.recv()
        assert "await" in repr(sending) and "queued already" in repr(sending)
        assert repr(receiving) == "<recv(), not awaited: no value has been taken; `await` it>"
        assert repr(server.recv_many(5)).startswith("<recv_many(), not awaited")
        assert repr(server.recv_from()).startswith("<recv_from(), not awaited")
        await sending
        receiving.close()
        assert repr(receiving) == "<recv(), ended>"


async def test_a_loop_that_never_awaits_is_told_so() -> None:
    async with WsServer[bytes].bind(ADDR) as server, WsClient[bytes].connect(server.local_addr()):

        def flood() -> None:
            for _ in range(100):
                server.send_nowait(bytes(1 << 20))

        with pytest.raises(
            BacklogFull, match="the event loop has not run since they were sent: `a"
        ) as caught:
            flood()
        assert caught.value.hint


@pytest.mark.parametrize(("kind", "client"), [(WsServer, WsClient), (Server, Client)])
async def test_who_comes_and_goes_is_logged(kind: Any, client: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    async with kind[u32].bind(ADDR) as server:
        async with client[u32].connect(server.local_addr()):
            await server.wait_clients(1)
            (peer,) = server.clients
        await server._until(lambda: server.client_count() == 0)
    lines = [
        r.getMessage() for r in caplog.records if r.name == "deli_com.server" and r.levelno == logging.INFO
    ]
    assert len([line for line in lines if line.startswith(f"{peer.remote_addr} connected")]) == 1
    assert len([line for line in lines if line.startswith(f"{peer.remote_addr} is gone (left): ")]) == 1
    assert not [r for r in caplog.records if r.name == "deli_com.picows" and r.levelno >= logging.INFO]


async def test_tls_at_a_plain_server_and_back() -> None:
    tls, trusting = certificates()
    async with WsServer[u32].bind(ADDR) as server:
        addr = ("localhost", server.local_addr().port)
        with pytest.raises(IoError, match=r"does not speak TLS at this port \(ws:// instead of wss://"):
            await WsClient[u32].connect(addr, ssl=trusting)
    async with WsServer[u32].bind(ADDR, ssl=tls) as server:
        with pytest.raises((WebSocketError, deli_com.ConnectionClosed), match="TLS"):
            await WsClient[u32].connect(server.local_addr())


async def test_a_client_of_the_other_kind() -> None:
    async with Server[u32].bind(ADDR) as server:
        with pytest.raises((WebSocketError, deli_com.ConnectionClosed), match="no HTTP server"):
            await WsClient[u32].connect(server.local_addr(), open_timeout=5)
    async with WsServer[u32].bind(ADDR) as ws_server, Client[u32].connect(ws_server.local_addr()) as client:
        await client.send(5)
        with pytest.raises((deli_com.MessageTooLarge, deli_com.ConnectionClosed)):
            await client.recv()
        with pytest.raises(deli_com.ConnectionClosed, match=r"HTTP server.*for a WsClient"):
            await client.recv()


def test_a_refusal_is_public() -> None:
    assert deli_com.Refusal(403, "no").status == 403
