"""A TLS context may call Python at any time of a connection, and the process does not crash."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from helpers import LIMIT_S, SLOW, until

from deli_com import Client, Codec, ConnectionClosed, IoError, Server, WsClient, WsServer, u32
from deli_com.net import tls


class Reading(Codec):
    x: u32


KINDS: dict[str, tuple[Any, Any]] = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}
PSK = b"a key of sixteen"


class Ends:
    """Contexts of one server and of a client that trusts it, and what their callbacks were told."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.issue_cert("localhost").configure_cert(self.server)
        self.authority.configure_trust(self.client)
        self.told: list[Any] = []

    async def exchange(self, kind: str) -> None:
        """One value each way."""
        bound, connecting = KINDS[kind]
        async with await bound[Reading, Reading].bind("127.0.0.1:0", ssl=self.server) as server:
            port = server.local_addr().port
            async with await connecting[Reading, Reading].connect(
                f"wss://localhost:{port}" if kind == "ws" else f"localhost:{port}", ssl=self.client
            ) as client:
                await server.wait_clients(1)
                await server.send(Reading(x=1))
                assert await client.recv() == Reading(x=1)
                await client.send(Reading(x=2))
                assert await server.recv() == Reading(x=2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_servers_sni_callback_is_called_and_may_choose_another_certificate(kind: str) -> None:
    ends, other = Ends(), Ends()
    ends.client = other.client  # trusts nothing but the certificate that the callback chooses

    def choose(sock: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        ends.told.append((name, context is ends.server))
        sock.context = other.server

    ends.server.sni_callback = choose
    await ends.exchange(kind)
    assert ends.told == [("localhost", True)]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_sni_callback_that_raises_or_refuses_costs_that_connection(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends()
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    answers: list[Callable[[], Any]] = [lambda: 1 / 0, lambda: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME]
    for answer in answers:
        ends.server.sni_callback = lambda sock, name, context, answer=answer: answer()
        with pytest.raises((IoError, ConnectionClosed)):
            await ends.exchange(kind)
    assert len(unraisable) == 1
    ends.server.sni_callback = None
    await ends.exchange(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["server", "client"])
async def test_keys_are_logged_to_a_file_where_a_context_says_so(kind: str, end: str, tmp_path: Path) -> None:
    ends = Ends()
    getattr(ends, end).keylog_filename = str(tmp_path / "keys")
    await ends.exchange(kind)
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys").read_text()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["server", "client"])
async def test_a_message_callback_sees_the_records(kind: str, end: str) -> None:
    ends = Ends()
    getattr(ends, end)._msg_callback = lambda sock, *message: ends.told.append(type(sock))
    await ends.exchange(kind)
    assert set(ends.told) == {ssl.SSLObject}


@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="ssl has no pre-shared keys before 3.13")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_pre_shared_keys_are_asked_for(kind: str, version: str) -> None:
    ends = Ends()
    contexts: list[Any] = [ends.server, ends.client]
    for context in contexts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        context.set_ciphers("PSK")
    contexts[0].set_psk_server_callback(lambda identity: ends.told.append(identity) or PSK, "hint")
    contexts[1].set_psk_client_callback(lambda hint: ("me", PSK))
    await ends.exchange(kind)
    assert ends.told[0] == "me"


@pytest.mark.parametrize("kind", KINDS)
async def test_protocol_names_and_late_client_certificates_need_no_callback(kind: str) -> None:
    ends = Ends()
    for context in (ends.server, ends.client):
        context.set_alpn_protocols(["http/1.1"])
        context.post_handshake_auth = True
        assert not tls.needs_ssl_objects(context)
    await ends.exchange(kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_class_of_contexts_that_makes_its_own_objects_is_asked_for_them(kind: str) -> None:
    class Checking(ssl.SSLContext):
        made = 0

        def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
            Checking.made += 1
            return super().wrap_bio(*args, **options)

    class Object(ssl.SSLObject):
        pass

    ends = Ends()
    ends.client = Checking(ssl.PROTOCOL_TLS_CLIENT)
    ends.authority.configure_trust(ends.client)
    await ends.exchange(kind)
    assert Checking.made == 1

    other = Ends()
    other.server.sslobject_class = Object  # type: ignore[attr-defined]
    assert tls.needs_ssl_objects(other.server)
    await other.exchange(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", ["sni_callback", "keylog_filename"])
async def test_a_callback_that_is_set_while_a_handshake_waits_ends_that_handshake_only(
    kind: str, late: str, tmp_path: Path
) -> None:
    ends = Ends()
    loop = asyncio.get_running_loop()
    async with await KINDS[kind][0][Reading, Reading].bind("127.0.0.1:0", ssl=ends.server) as server:
        address = ("127.0.0.1", server.local_addr().port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = ends.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        with socket.socket() as waiting:
            waiting.setblocking(False)
            await loop.sock_connect(waiting, address)
            await until(lambda: len(asyncio.all_tasks()) == 2)  # this test and that handshake
            for _ in range(3):  # the turns in which its transport is made
                await asyncio.sleep(0)
            value = str(tmp_path / "keys") if late == "keylog_filename" else lambda *_: ends.told.append(1)
            setattr(ends.server, late, value)
            await loop.sock_sendall(waiting, outgoing.read())
            try:
                assert await loop.sock_recv(waiting, 1) == b""
            except ConnectionResetError:
                pass
        assert ends.told == []
    await ends.exchange(kind)


async def test_a_callback_that_is_set_later_leaves_open_connections_alone(tmp_path: Path) -> None:
    ends = Ends()
    async with await WsServer[Reading, Reading].bind("127.0.0.1:0", ssl=ends.server) as server:
        url = f"wss://localhost:{server.local_addr().port}"
        async with await WsClient[Reading, Reading].connect(url, ssl=ends.client) as client:
            await server.wait_clients(1)
            ends.server.sni_callback = lambda *_: None
            ends.client.keylog_filename = str(tmp_path / "keys")
            for x in range(100):
                await server.send(Reading(x=x))
                assert await client.recv() == Reading(x=x)
                await client.send(Reading(x=x))
                assert await server.recv() == Reading(x=x)


PROGRAM = """
import asyncio, ssl, sys
from deli_com import Codec, WsClient, WsServer, u32

class Reading(Codec):
    x: u32

async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
    async with await WsServer[Reading, None].bind("127.0.0.1:0", ssl=context) as server:
        url = f"wss://localhost:{server.local_addr().port}"
        async with await WsClient[Reading, None].connect(url) as client:
            await server.wait_clients(1)
            await server.send(Reading(x=7))
            print(await client.recv())

asyncio.run(main())
"""


def test_SSLKEYLOGFILE_in_the_environment_is_obeyed_at_both_ends(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "own.pem")],
        env={
            **os.environ,
            "SSLKEYLOGFILE": str(tmp_path / "keys"),
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S * SLOW,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("Reading(x=7)\n", "", 0)
    assert len((tmp_path / "keys").read_text().splitlines()) >= 10  # five secrets an end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["server", "client"])
async def test_reading_that_had_to_pause_goes_on(kind: str, end: str, tmp_path: Path) -> None:
    """The engine that such contexts get has what is read and not decrypted yet in a place of its own."""
    ends, (bound, connecting) = Ends(), KINDS[kind]
    getattr(ends, end).keylog_filename = str(tmp_path / "keys")
    async with bound[bytes, bytes].bind("127.0.0.1:0", ssl=ends.server, slow_client="wait") as server:
        address = ("localhost", server.local_addr().port)
        async with connecting[bytes, bytes].connect(address, ssl=ends.client) as client:
            await server.wait_clients(1)
            sender, receiver = (client, server) if end == "server" else (server, client)
            await sender.send(b"first")
            assert await receiver.recv() == b"first"  # from now on it wants values, and nothing is left out

            async def send_all() -> None:
                for number in range(300):
                    await sender.send(number.to_bytes(4) * 25_000)

            sending = asyncio.create_task(send_all())
            await asyncio.wait([sending], timeout=0.5)
            assert not sending.done()  # reading waits for the program
            for number in range(300):
                assert (await receiver.recv())[:4] == number.to_bytes(4)
            await sending
