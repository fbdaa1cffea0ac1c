"""A `__post_init__` that refuses a received value causes a `DecodeError`, and does not end the connection."""

from __future__ import annotations

import pytest

from deli_com import Client, Codec, DecodeError, Server, WsClient, WsServer, u8, u32


class Raw(Codec):
    number: u8


class Even(Codec):
    number: u8

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ArithmeticError(f"{self.number} is odd")


PAIRS = [(WsServer, WsClient), (Server, Client)]


@pytest.mark.parametrize(("server_type", "client_type"), PAIRS)
async def test_the_client_hears_of_it_and_goes_on(server_type, client_type):
    async with server_type[Raw].bind("127.0.0.1:0") as server:
        async with client_type[Even].connect(server.local_addr()) as client:
            await server.wait_clients(1)
            for number in (1, 2):
                await server.send(Raw(number))
            with pytest.raises(DecodeError, match=r"ArithmeticError.*1 is odd") as caught:
                await client.recv()
            assert isinstance(caught.value.__cause__, ArithmeticError)
            assert await client.recv() == Even(2)


@pytest.mark.parametrize(("server_type", "client_type"), PAIRS)
async def test_the_server_counts_it_and_keeps_the_client(server_type, client_type, caplog):
    async with server_type[u32, Even].bind("127.0.0.1:0") as server:
        async with client_type[u32, Raw].connect(server.local_addr()) as client:
            for number in (1, 3, 4):
                await client.send(Raw(number))
            assert await server.recv() == Even(4)
            assert (server.undecodable, server.client_count()) == (2, 1)
    assert caplog.text.count("is odd") == 1
