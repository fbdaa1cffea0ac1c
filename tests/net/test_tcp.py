"""`Server` and `Client` against a reference peer and broken ones. Mirrors the Rust TCP suites."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct

import pytest
from helpers import certificates, open_sockets, until
from tcp_peers import ReferencePeer, listening, reference_client, served, value

from deli_com import (
    Client,
    Codec,
    ComError,
    ConnectionClosed,
    DecodeError,
    IoError,
    MessageTooLarge,
    Server,
    f32,
    u16,
    u64,
)

MIB = 1 << 20


class Sample(Codec):
    stamp: u64
    temperature: f32
    name: str
    codes: list[u16]


class TestWire:
    async def test_the_bytes_of_a_server(self) -> None:
        async with Server[Sample].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            await server.send(Sample(0x0102030405060708, 1.5, "né", [1, 0xFFFE]))
            assert await peer.read_exactly(31) == (
                b"\x1b\0\0\0"  # length: 27
                b"\x08\x07\x06\x05\x04\x03\x02\x01"  # stamp
                b"\0\0\xc0\x3f"  # temperature
                b"\x03\0\0\0n\xc3\xa9"  # name
                b"\x02\0\0\0\x01\0\xfe\xff"  # codes
            )

    async def test_a_reference_client(self) -> None:
        """Both ways, many messages under way at once."""
        async with Server[Sample].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            for n in range(500):
                server.send_nowait(Sample(n, 0.5, "x" * n, list(range(n % 7))))
            for n in range(500):
                assert await peer.sample() == (n, 0.5, "x" * n, list(range(n % 7)))
                await peer.send_sample(n, -0.5, "y" * n, [n])
            for n in range(500):
                assert await server.recv() == Sample(n, -0.5, "y" * n, [n])

    async def test_a_reference_server(self) -> None:
        async with listening() as listener:
            async with Client[Sample].connect(listener.address) as client:
                peer = await listener.accept()
                for n in range(500):
                    await peer.send_sample(n, 0.25, "x" * n, [n])
                    await client.send(Sample(n, 4.0, "", []))
                for n in range(500):
                    assert await client.recv() == Sample(n, 0.25, "x" * n, [n])
                    assert await peer.sample() == (n, 4.0, "", [])
                peer.close()

    @pytest.mark.parametrize("size", [0, 1, 32763, 32764, 32765, 262144, 3 * MIB])
    async def test_every_kind_of_size(self, size: int) -> None:
        """In a slab of the log, beside it, over several reads; both ways."""
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            data = os.urandom(size)
            await peer.send_message(value(data))
            assert await server.recv() == data
            server.send_nowait(data)
            assert await peer.message() == value(data)

    async def test_an_undecodable_message_is_skipped_by_a_server(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            await peer.send_message(b"\xff\xff\xff\xff")
            await peer.send_message(value(b"next"))
            assert await server.recv() == b"next"
            assert server.undecodable == 1
        assert "sent a message of 4 bytes" in caplog.text

    async def test_an_undecodable_message_is_raised_by_a_client(self) -> None:
        async with served() as (client, peer):
            await peer.send_message(b"\xff\xff\xff\xff")
            await peer.send_message(value(b"next"))
            with pytest.raises(DecodeError, match="unexpected end of buffer"):
                await client.recv()
            assert await client.recv() == b"next"

    async def test_a_push_only_server_counts_and_discards(self) -> None:
        async with Server[bytes, None].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            await peer.send_message(value(b"unheard"))
            await until(lambda: server.unwanted == 1)
            with pytest.raises(TypeError, match="push only"):
                server.recv()


class TestLimits:
    async def test_a_client_that_announces_too_much_is_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        """The log says both sizes; what came before is there, the other client lives."""
        async with Server[bytes].bind("127.0.0.1:0", max_message_size=1000) as server:
            async with reference_client(server) as good, reference_client(server) as bad:
                await bad.send_message(value(bytes(996)))
                await bad.send(struct.pack("<I", 1001))
                assert await bad.read_all() == b""
                assert await server.recv() == bytes(996)
                assert server.client_count() == 1
                await server.send(b"on")
                assert await good.message() == value(b"on")
        assert "message too large: 1001 bytes (limit 1000)" in caplog.text

    async def test_a_client_learns_of_a_message_that_is_too_large(self) -> None:
        """`recv` says it once, in its turn; then the connection is closed, not in good order."""
        async with served(max_message_size=1000) as (client, peer):
            await peer.send_message(value(bytes(996)))
            await peer.send(struct.pack("<I", 1001))
            assert await peer.read_all() == b""
            assert await client.recv() == bytes(996)
            with pytest.raises(MessageTooLarge) as caught:
                await client.recv()
            assert (caught.value.size, caught.value.limit) == (1001, 1000)
            with pytest.raises(ConnectionClosed, match="message too large: 1001 bytes"):
                client.send(b"")
            for _ in range(2):
                with pytest.raises(ConnectionClosed, match="message too large: 1001 bytes"):
                    await client.recv()
            with pytest.raises(ConnectionClosed):
                async for _ in client:
                    pass

    async def test_the_default_limit_is_64_mib(self) -> None:
        """Both ways: a byte more is refused by `send`, and ends the connection when it is announced."""
        async with served() as (client, peer):
            with pytest.raises(MessageTooLarge) as caught:
                client.send(bytes(64 * MIB - 3))
            assert (caught.value.size, caught.value.limit) == (64 * MIB + 1, 64 * MIB)
            await peer.send(struct.pack("<I", 64 * MIB))
            await peer.send(value(bytes(64 * MIB - 4)))
            assert await client.recv() == bytes(64 * MIB - 4)
            await peer.send(struct.pack("<I", 64 * MIB + 1))
            with pytest.raises(MessageTooLarge, match=f"{64 * MIB + 1} bytes"):
                await client.recv()

    @pytest.mark.parametrize("size", [-1, 1 << 32])
    async def test_a_limit_that_a_length_cannot_say_is_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="a length has four bytes"):
            Server[bytes].bind("127.0.0.1:0", max_message_size=size)
        with pytest.raises(ValueError, match="a length has four bytes"):
            Client[bytes].connect("127.0.0.1:1", max_message_size=size)

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", b"POST /x HTTP/1.1\r\n"])
    async def test_an_http_client_is_named_in_the_log(
        self, start: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            await peer.send(start)
            assert await peer.read_all() == b""
            await until(lambda: server.client_count() == 0)
        assert f"this is an HTTP client ('{start[:4].decode()}' where a length should be)" in caplog.text

    async def test_an_http_server_is_named_in_the_reason(self) -> None:
        async with served() as (client, peer):
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(MessageTooLarge):
                await client.recv()
            with pytest.raises(ConnectionClosed, match="this is an HTTP server"):
                await client.recv()

    async def test_more_clients_than_may_be_are_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        """Those of one batch of accepts too. When one leaves, the next may come."""
        async with Server[bytes].bind("127.0.0.1:0", max_clients=2) as server:
            # In the kernel's queue all together, before the loop turns.
            peers = [ReferencePeer(socket.create_connection(server.local_addr())) for _ in range(4)]
            for peer in peers:
                peer.sock.setblocking(False)
            assert [await peer.read_all() for peer in peers[2:]] == [b"", b""]
            assert server.client_count() == 2
            peers[0].close()
            await until(lambda: server.client_count() == 1)
            async with reference_client(server):
                assert server.client_count() == 2
            for peer in peers:
                peer.close()
        assert "refused a client: the limit of 2 clients" in caplog.text

    @pytest.mark.limit(60)
    async def test_a_stalled_client_costs_no_more_than_its_backlog(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is reset, so that it cannot take the end for that of all messages; the others get everything."""
        count, size = 100, MIB
        async with (
            Server[bytes].bind("127.0.0.1:0", max_backlog=8 * MIB) as server,
            Client[bytes].connect(server.local_addr()) as client,
            reference_client(server, small=True) as stalled,
        ):
            payload = bytes(size)
            receiving = asyncio.create_task(receive(client, count))
            before = resident()
            for _ in range(count):
                await server.send(payload)
            assert await receiving == count
            assert resident() - before < 48 * MIB
            await until(lambda: server.client_count() == 1)
            with pytest.raises(ConnectionResetError):
                await stalled.read_all()
        assert "too slow: " in caplog.text

    async def test_a_client_that_takes_nothing_is_reset_in_time(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with (
            Server[bytes].bind("127.0.0.1:0", progress_timeout=0.5) as server,
            reference_client(server, small=True) as stalled,
        ):
            for _ in range(12):
                server.send_nowait(bytes(MIB))
            await until(lambda: server.client_count() == 0)
            with pytest.raises(ConnectionResetError):
                await stalled.read_all()
        assert "no progress for 0.5 s" in caplog.text


class TestEndOfStream:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"\x05", "the stream ended inside a length: 1 of 4 bytes"),
            (b"\x05\0\0", "the stream ended inside a length: 3 of 4 bytes"),
            (b"\x05\0\0\0", "the stream ended inside a message: 0 of 5 bytes"),
            (b"\x05\0\0\0abcd", "the stream ended inside a message: 4 of 5 bytes"),
        ],
    )
    async def test_inside_a_message_it_is_not_in_good_order(self, data: bytes, why: str) -> None:
        """The reason says where; what had arrived comes first."""
        async with served() as (client, peer):
            await peer.send_message(value(b"whole"))
            await peer.send(data)
            peer.close()
            assert [await anext(client)] == [b"whole"]
            with pytest.raises(ConnectionClosed) as caught:
                await anext(client)
            assert (caught.value.code, caught.value.reason) == (None, why)
            with pytest.raises(ConnectionClosed):
                await client.recv()

    async def test_between_messages_it_is_in_good_order(self) -> None:
        """`async for` ends; `recv` raises, and so does `send`."""
        async with served() as (client, peer):
            for n in range(3):
                await peer.send_message(value(b"%d" % n))
            peer.close()
            assert [data async for data in client] == [b"0", b"1", b"2"]
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.code, caught.value.reason) == (None, "the peer has closed the connection")
            with pytest.raises(ConnectionClosed):
                client.send_nowait(b"")

    async def test_a_reset_is_not_in_good_order(self) -> None:
        async with served() as (client, peer):
            await peer.send_message(value(b"whole"))
            assert await client.recv() == b"whole"
            peer.reset()
            with pytest.raises(ConnectionClosed, match="reset"):
                await anext(client)

    async def test_a_reset_right_behind_a_message_is_noticed(self) -> None:
        """Both are there when the loop looks: uvloop tells of the bytes only, the kernel must be asked."""
        async with Server[bytes].bind("127.0.0.1:0") as server, served() as (client, peer):
            other = await ReferencePeer.open(server.local_addr())
            await server.wait_clients(1)
            for end in (peer, other):
                end.sock.send(struct.pack("<I", 9) + value(b"whole"))
                end.reset()
            assert await client.recv() == b"whole"
            with pytest.raises(ConnectionClosed, match="reset") as caught:
                await anext(client)
            assert caught.value.code is None
            assert await server.recv() == b"whole"
            await until(lambda: server.client_count() == 0)

    async def test_all_that_had_arrived_comes_though_reading_was_paused(self) -> None:
        """The peer ends in good order while our inbox is full: nothing of it is lost."""
        async with served() as (client, peer):
            receiving = asyncio.create_task(client.recv())
            await asyncio.sleep(0)
            # One more than fills it is received; what is left over fits the kernel's receive buffer.
            sending = asyncio.create_task(self.send_and_close(peer, 260))
            await receiving
            await until(lambda: client.inbox.held_bytes >= 16 * MIB)
            await sending
            await asyncio.sleep(0.6)  # what is tested: two sweeps
            assert client.messages_in < 260
            assert [data[:2] async for data in client] == [struct.pack("<H", n) for n in range(1, 260)]

    @staticmethod
    async def send_and_close(peer: ReferencePeer, count: int) -> None:
        for n in range(count):
            await peer.send_message(value(struct.pack("<H", n) * 32768))
        peer.close()

    @pytest.mark.parametrize("how", ["close", "reset", "inside a length", "inside a message"])
    async def test_a_server_drops_a_client_that_has_left(self, how: str) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as stays:
            async with reference_client(server) as leaves:
                await leaves.send_message(value(b"was here"))
                if how.startswith("inside"):
                    await leaves.send(b"\x05\0" if how == "inside a length" else b"\x05\0\0\0ab")
                assert await server.recv() == b"was here"
                if how == "reset":
                    leaves.reset()
            await until(lambda: server.client_count() == 1)
            await server.send(b"on")
            assert await stays.message() == value(b"on")

    async def test_a_peer_that_closes_one_direction_gets_what_was_queued(self) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            await peer.send_message(value(b"last"))
            assert await server.recv() == b"last"
            peer.sock.shutdown(socket.SHUT_WR)
            for n in range(100):
                server.send_nowait(b"%d" % n)
            for n in range(100):
                assert await peer.message() == value(b"%d" % n)
            assert await peer.read_all() == b""


class TestConnect:
    async def test_connect_does_not_wait_for_accept(self) -> None:
        """The kernel answers. `wait_clients` of the server is what to wait for."""
        async with listening() as listener:
            client = await Client[bytes].connect(listener.address)
            await client.send(b"early")
            peer = await listener.accept()
            assert await peer.message() == value(b"early")
            peer.close()
            await client.close()
        async with Server[bytes].bind("127.0.0.1:0") as server:
            clients = [await Client[bytes].connect(server.local_addr()) for _ in range(5)]
            await server.wait_clients(5)
            await server.send(b"all")
            assert [await client.recv() for client in clients] == [b"all"] * 5
            for client in clients:
                await client.close()

    async def test_every_spelling_of_an_address(self) -> None:
        async with Server[bytes].bind(("127.0.0.1", 0)) as server:
            host, port = server.local_addr()
            for address in (f"{host}:{port}", (host, port), server.local_addr(), f"localhost:{port}"):
                async with Client[bytes].connect(address) as client:
                    await client.send(b"x")
                    assert await server.recv() == b"x"

    async def test_ipv6(self) -> None:
        async with (
            Server[bytes].bind("[::1]:0") as server,
            Client[bytes].connect(server.local_addr()) as client,
        ):
            await client.send(b"six")
            peer, got = await server.recv_from()
            assert got == b"six"
            assert peer.remote_addr.host == "::1"

    @pytest.mark.parametrize("address", ["", "localhost", "127.0.0.1:0", "ws://127.0.0.1:1", 80, None])
    async def test_what_is_no_address_is_a_value_error(self, address: object) -> None:
        """A URL too: there is nothing on this wire that could carry a path."""
        with pytest.raises(ValueError):
            Client[bytes].connect(address)  # type: ignore[arg-type]

    async def test_without_a_type_both_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"Server\[T\]\.bind"):
            Server.bind("127.0.0.1:0")
        with pytest.raises(TypeError, match=r"Client\[T\]\.connect"):
            Client.connect("127.0.0.1:1")

    async def test_refused(self) -> None:
        async with listening() as listener:
            address = listener.address
        with pytest.raises(IoError) as caught:
            await Client[bytes].connect(address)
        assert isinstance(caught.value, ConnectionRefusedError)
        assert caught.value.errno == errno.ECONNREFUSED

    async def test_out_of_time_in_tls(self) -> None:
        """A server that says nothing; no socket is left."""
        async with listening() as listener:
            with pytest.raises(IoError, match="in the TLS handshake") as caught:
                await Client[bytes].connect(listener.address, ssl=certificates()[1], open_timeout=0.05)
            assert isinstance(caught.value, TimeoutError)

    @pytest.mark.parametrize("turns", range(8))
    @pytest.mark.parametrize("tls", [False, True])
    async def test_a_cancelled_connect_leaves_no_socket(self, turns: int, tls: bool) -> None:
        """In whichever turn it is cancelled: neither here nor at the server."""
        server_tls, client_tls = certificates() if tls else (None, None)
        async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            address = ("localhost", server.local_addr().port) if tls else server.local_addr()
            before = open_sockets()
            task = asyncio.create_task(Client[bytes].connect(address, ssl=client_tls))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await (await task).close()
            await until(lambda: open_sockets() == before)

    async def test_a_server_that_is_closed_drops_who_is_half_accepted(self) -> None:
        for turns in range(4):
            server = await Server[bytes].bind("127.0.0.1:0", close_timeout=0.1)
            peers = [await ReferencePeer.open(server.local_addr()) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.close()
            for peer in peers:
                with contextlib.suppress(ConnectionResetError):
                    assert await peer.read_all() == b""
                peer.close()


class TestClose:
    async def test_a_client_gets_all_that_was_queued_then_the_end(self) -> None:
        """More than the kernel takes at once. The end is in good order."""
        async with Server[bytes].bind("127.0.0.1:0") as server:
            client = await Client[bytes].connect(server.local_addr())
            await server.wait_clients(1)
            for n in range(10):
                server.send_nowait(bytes([n]) * MIB)
            await server.close()
            assert [data[0] async for data in client] == list(range(10))
            await client.close()

    async def test_half_is_closed_and_what_arrives_is_discarded(self) -> None:
        """The peer goes on sending and reads late: it still gets all, and no reset."""
        async with Server[bytes].bind("127.0.0.1:0") as server, reference_client(server) as peer:
            for n in range(100):
                server.send_nowait(b"%d" % n)
            closing = asyncio.create_task(server.close())
            await until(lambda: server.client_count() == 0)
            for _ in range(20):
                await peer.send_message(bytes(10_000))
            for n in range(100):
                assert await peer.message() == value(b"%d" % n)
            assert await peer.read_all() == b""
            assert not closing.done()
            peer.close()
            await closing

    async def test_a_peer_that_does_not_close_is_aborted(self) -> None:
        loop = asyncio.get_running_loop()
        server = await Server[bytes].bind("127.0.0.1:0", close_timeout=0.3)
        async with reference_client(server):
            start = loop.time()
            await server.close()
            assert 0.25 < loop.time() - start < 2

    async def test_a_client_that_lacks_messages_is_reset(self) -> None:
        """An end of stream would say that it has all, though it reads on while the server closes."""
        server = await Server[bytes].bind("127.0.0.1:0")
        async with reference_client(server, small=True) as peer:
            for _ in range(12):
                server.send_nowait(bytes(MIB))
            closing = asyncio.create_task(server.close(drain=0))
            with pytest.raises(ConnectionResetError):
                await peer.read_all()
            await closing

    async def test_a_client_closes_in_good_order(self) -> None:
        async with Server[bytes].bind("127.0.0.1:0") as server:
            async with Client[bytes].connect(server.local_addr()) as client:
                for n in range(1000):
                    client.send_nowait(b"%d" % n)
            for n in range(1000):
                assert await server.recv() == b"%d" % n
            await until(lambda: server.client_count() == 0)


class TestTls:
    async def test_both_ends(self) -> None:
        """Small and large messages, both ways, and an end in good order."""
        server_tls, client_tls = certificates()
        async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            address = ("localhost", server.local_addr().port)
            client = await Client[bytes].connect(address, ssl=client_tls)
            await server.wait_clients(1)
            for size in (0, 1, 100, 40_000, 3 * MIB):
                data = os.urandom(size)
                await server.send(data)
                assert await client.recv() == data
                await client.send(data)
                assert await server.recv() == data
            for n in range(5):
                server.send_nowait(bytes([n]) * MIB)
            closing = asyncio.create_task(server.close())
            assert [data[0] async for data in client] == list(range(5))
            await client.close()
            await closing

    async def test_a_reference_peer(self) -> None:
        server_tls, client_tls = certificates()
        async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            peer = await ReferencePeer.open(server.local_addr(), ssl=client_tls)
            await server.wait_clients(1)
            await peer.send_message(value(b"up"))
            assert await server.recv() == b"up"
            await server.send(b"down")
            assert await peer.message() == value(b"down")
            peer.close()
            await until(lambda: server.client_count() == 0)

    async def test_a_certificate_nobody_trusts_is_an_io_error(self) -> None:
        """The client's error; the server continues."""
        server_tls, client_tls = certificates()
        async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            address = ("localhost", server.local_addr().port)
            with pytest.raises(IoError, match="TLS with localhost"):
                await Client[bytes].connect(address, ssl=True)
            async with Client[bytes].connect(address, ssl=client_tls):
                await server.wait_clients(1)

    async def test_a_client_without_tls_is_dropped(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with Server[bytes].bind("127.0.0.1:0", ssl=certificates()[0]) as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send_message(value(b"plain"))
            with contextlib.suppress(ConnectionResetError):
                await peer.read_all()
            peer.close()
            assert server.client_count() == 0

    async def test_a_truncated_stream_is_not_in_good_order(self) -> None:
        """Without TLS's close_notify anybody on the way could have cut it."""
        server_tls, client_tls = certificates()
        async with Server[bytes].bind("127.0.0.1:0", ssl=server_tls) as server:
            client = await Client[bytes].connect(("localhost", server.local_addr().port), ssl=client_tls)
            await server.wait_clients(1)
            await server.send(b"whole")
            assert await anext(client) == b"whole"
            for stream in server._connections():
                stream._abort()
            with pytest.raises(ComError, match=r"without notice|reset"):
                await anext(client)
            await client.close()


async def receive(client: Client[bytes, bytes], count: int) -> int:
    for got in range(count):
        assert len(await client.recv()) == MIB, got
    return count


def resident() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
