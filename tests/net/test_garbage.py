"""Closed objects are freed, whatever was left in them. Unclosed ones cause a warning."""

from __future__ import annotations

import gc
import weakref

import pytest
from helpers import until

from deli_com import Client, Server, WsClient, WsServer
from deli_com.link.connection import Connection


def connections() -> list[Connection]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Connection)]


@pytest.mark.parametrize(("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)])
async def test_unread_values_keep_nothing_alive(server_type, client_type):
    before = len(connections())
    server = await server_type[bytes].bind("127.0.0.1:0")
    client = await client_type[bytes].connect(server.local_addr())
    await server.wait_clients(1)
    for _ in range(10):
        await server.send(b"nobody reads this")
        await client.send(b"nor this")
    await server.recv()
    await client.recv()
    ends = [weakref.ref(server), weakref.ref(client)]
    await client.close()
    await server.close()
    del server, client
    await until(
        lambda: len(connections()) == before
    )  # the loop still has to call what transports left behind
    assert [end() for end in ends] == [None, None]
