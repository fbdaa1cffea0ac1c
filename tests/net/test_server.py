"""The behaviour of a server towards its clients, seen by raw sockets. Mirrors `ws_server_tests` of Rust."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import struct

import pytest
from helpers import PLAIN_HEAD, until
from multidict import CIMultiDict
from peers import BINARY, CLOSE, PONG, Frame, close_payload, dial, raw_client, upgrade

from deli_com import (
    Address,
    ConnectionClosed,
    EncodeError,
    IoError,
    MessageTooLarge,
    WsClient,
    WsServer,
    u32,
)


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire: u32 length, bytes."""
    return struct.pack("<I", len(payload)) + payload


def parsed_heads() -> int:
    return sum(isinstance(found, CIMultiDict) for found in gc.get_objects())


class TestBind:
    async def test_a_new_server_has_no_clients(self) -> None:
        """It counts none, and sending to none is no error."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            assert server.client_count() == 0
            await server.send(b"nobody hears this")
            server.send_nowait(b"nor this")
            server.flush()
            assert server.client_count() == 0

    async def test_port_zero_gives_a_port_of_the_system(self) -> None:
        """`local_addr` tells which; two servers get two; both are reached there."""
        async with WsServer[bytes].bind("127.0.0.1:0") as one, WsServer[bytes].bind(("127.0.0.1", 0)) as two:
            address = one.local_addr()
            assert isinstance(address, Address)
            assert address.host == "127.0.0.1"
            assert 0 < address.port < 65536
            assert str(address) == f"127.0.0.1:{address.port}"
            assert address != two.local_addr()
            for server in (one, two):
                async with raw_client(server.local_addr()) as peer:
                    await peer.round_trip()
                    assert server.client_count() == 1
            await until(lambda: one.client_count() == two.client_count() == 0)

    async def test_what_local_addr_returned_can_be_bound_again(self) -> None:
        """At once, though connections of the first server lie in TIME_WAIT."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            address = server.local_addr()
            async with raw_client(address) as peer:
                closing = asyncio.create_task(server.close())
                assert (await peer.read_to_close())[1] == 1001
                await peer.send(close_payload(1001), CLOSE)
                assert await peer.read_all() == b""  # the server has closed first
                peer.close()
                await closing
        async with WsServer[bytes].bind(str(address)) as server:
            assert server.local_addr() == address

    async def test_ipv6(self) -> None:
        """`[::1]:0` binds, and the address is spelled with brackets."""
        async with WsServer[bytes].bind("[::1]:0") as server:
            assert str(server.local_addr()) == f"[::1]:{server.local_addr().port}"
            async with raw_client(server.local_addr()) as peer:
                server.send_nowait(b"six")
                assert await peer.message() == wire(b"six")

    async def test_an_address_in_use_is_an_io_error(self) -> None:
        """It says which address, and keeps the errno."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            with pytest.raises(IoError, match=str(server.local_addr())) as caught:
                await WsServer[bytes].bind(server.local_addr())
            assert caught.value.errno == errno.EADDRINUSE
            assert str(caught.value).startswith("io error: ")

    async def test_an_address_of_another_machine_is_an_io_error(self) -> None:
        """192.0.2.0/24 is nobody's (RFC 5737)."""
        with pytest.raises(IoError) as caught:
            await WsServer[bytes].bind("192.0.2.1:0")
        assert caught.value.errno == errno.EADDRNOTAVAIL

    @pytest.mark.parametrize("address", ["", "localhost", "127.0.0.1:", "1.2.3.4:x", 80, ("127.0.0.1",)])
    async def test_what_is_no_address_is_a_value_error(self, address: object) -> None:
        """And nothing is left open."""
        with pytest.raises(ValueError):
            await WsServer[bytes].bind(address)  # type: ignore[arg-type]

    async def test_a_server_without_a_type_is_refused(self) -> None:
        """The error names the spelling, and comes from the call."""
        with pytest.raises(TypeError, match=r"WsServer\[T\]\.bind"):
            WsServer.bind("127.0.0.1:0")

    async def test_a_server_is_not_made_by_its_constructor(self) -> None:
        """The error says how."""
        with pytest.raises(TypeError, match=r"await WsServer\[bytes\]\.bind"):
            WsServer[bytes]()

    async def test_types_are_classes(self) -> None:
        """`WsServer[T]` is one class a type, and its instances are WsServers."""
        assert WsServer[bytes] is WsServer[bytes]
        assert WsServer[bytes] is not WsServer[str]
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            assert isinstance(server, WsServer)
            assert isinstance(server, WsServer[bytes])
            assert not isinstance(server, WsClient)

    async def test_repr_tells_the_state(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            assert repr(server) == f"<WsServer[bytes] at {server.local_addr()}, 0 clients>"
        assert repr(server) == f"<WsServer[bytes] at {server.local_addr()}, closed>"


class TestClients:
    async def test_a_connection_keeps_no_parsed_headers(self) -> None:
        """They are 2 KiB at each end. `Peer.request` has the bytes of the head, and parses them on use."""
        gc.collect()
        before = parsed_heads()
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            clients = [
                await WsClient[bytes].connect(server.local_addr(), headers={"X-Number": str(number)})
                for number in range(5)
            ]
            await server.wait_clients(5)
            assert parsed_heads() <= before
            numbers = [peer.request.headers["X-Number"] for peer in server.clients]
            assert sorted(numbers) == ["0", "1", "2", "3", "4"]
            for client in clients:
                await client.close()

    async def test_accept_adds_clients(self) -> None:
        """Each is counted once its handshake is done, and not before."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            early = await dial(server.local_addr())
            async with raw_client(server.local_addr()), raw_client(server.local_addr()):
                assert server.client_count() == 2
                await upgrade(early)
                assert server.client_count() == 3
                early.close()

    async def test_wait_clients_returns_when_enough_are_there(self) -> None:
        """Not earlier; at once if they are there already; all who wait are woken."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            await server.wait_clients(0)
            waits = [asyncio.create_task(server.wait_clients(n)) for n in (1, 2, 2)]
            async with raw_client(server.local_addr()):
                await waits[0]
                assert not waits[1].done()
                assert not waits[2].done()
                async with raw_client(server.local_addr()):
                    await asyncio.gather(*waits)
                    await server.wait_clients(2)

    async def test_wait_clients_of_a_server_that_closes_raises(self) -> None:
        """Nobody will come any more."""
        server = await WsServer[bytes].bind("127.0.0.1:0")
        wait = asyncio.create_task(server.wait_clients(1))
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(ConnectionClosed):
            await wait
        with pytest.raises(ConnectionClosed):
            await server.wait_clients(0)

    async def test_a_cancelled_wait_leaves_the_others(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            one, two = (asyncio.create_task(server.wait_clients(1)) for _ in range(2))
            await asyncio.sleep(0)
            one.cancel()
            async with raw_client(server.local_addr()):
                await two
            assert one.cancelled()

    @pytest.mark.parametrize("how", ["close frame", "end of stream", "reset"])
    async def test_a_client_that_left_is_removed(self, how: str) -> None:
        """However it left; the others stay, and get what is sent."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as stays,
            raw_client(server.local_addr()) as leaves,
        ):
            assert server.client_count() == 2
            if how == "close frame":
                await leaves.leave()
            elif how == "end of stream":
                leaves.close()
            else:
                leaves.reset()
            await until(lambda: server.client_count() == 1)
            await server.send(b"still here")
            assert await stays.message() == wire(b"still here")

    async def test_a_client_that_left_unnoticed_does_not_hurt_the_others(self) -> None:
        """The server writes to it before it has read that it is gone."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as stays,
            raw_client(server.local_addr()) as leaves,
        ):
            leaves.reset()
            for number in range(10):  # no turn of the loop in between
                server.send_nowait(b"%d" % number)
                server.flush()
            for number in range(10):
                assert await stays.message() == wire(b"%d" % number)
            await until(lambda: server.client_count() == 1)

    async def test_clients_come_and_go_for_a_while(self) -> None:
        """Descriptors are used again and again; each client gets exactly what was sent while it was there."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for number in range(100):
                async with raw_client(server.local_addr()) as peer:
                    server.send_nowait(b"%d" % number)
                    assert await peer.message() == wire(b"%d" % number)
                    if number % 3 == 0:
                        peer.reset()
                    elif number % 3 == 1:
                        await peer.leave()
                server.send_nowait(b"between")
            await until(lambda: server.client_count() == 0)

    async def test_a_descriptor_that_is_used_again_gets_nothing_old(self) -> None:
        """A frame for a client that is gone never lands in the connection that has its number now."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for _ in range(20):
                async with raw_client(server.local_addr(), small=True) as old:
                    for _ in range(16):
                        server.send_nowait(bytes(100_000))  # more than it takes: the rest waits
                    old.reset()
                    await until(lambda: server.client_count() == 0)
                async with raw_client(server.local_addr()) as new:
                    server.send_nowait(b"new")
                    assert await new.message() == wire(b"new")
                    new.reset()
                    await until(lambda: server.client_count() == 0)


class TestSend:
    async def test_two_raw_clients_get_binary_frames(self) -> None:
        """Byte for byte: FIN and opcode 2, unmasked length, u32 length, payload."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as one,
            raw_client(server.local_addr()) as two,
        ):
            await server.send(b"hello")
            for peer in (one, two):
                assert await peer.read_exactly(11) == b"\x82\x09" + b"\x05\x00\x00\x00" + b"hello"

    @pytest.mark.parametrize(
        "size", [0, 1, 121, 122, 123, 1000, 32763, 32764, 32768, 65531, 65532, 262144, 3_000_000]
    )
    async def test_every_length_of_header(self, size: int) -> None:
        """Around each size at which the header or the way of storing changes (4 bytes are the length)."""
        payload = bytes(i * 7 & 0xFF for i in range(min(size, 251))) * (size // 251 + 1)
        payload = payload[:size]
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            server.send_nowait(payload)
            server.send_nowait(b"behind")
            assert await peer.frame() == Frame(BINARY, wire(payload))
            assert await peer.frame() == Frame(BINARY, wire(b"behind"))

    async def test_the_length_takes_the_fewest_bytes(self) -> None:
        """RFC 6455 section 5.2: 125, 126 and 65535, 65536."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            for payload, head in (
                (125, b"\x82\x7d"),
                (126, b"\x82\x7e\x00\x7e"),
                (65535, b"\x82\x7e\xff\xff"),
                (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
            ):
                server.send_nowait(bytes(payload - 4))
                assert await peer.read_exactly(len(head)) == head
                assert await peer.read_exactly(payload) == wire(bytes(payload - 4))

    async def test_messages_of_one_turn_arrive_in_order(self) -> None:
        """10,000 small ones, large ones among them, nothing awaited."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            sent = [b"%d" % n + bytes(100_000 if n % 1000 == 999 else n % 300) for n in range(10_000)]
            for payload in sent:
                server.send_nowait(payload)
            for payload in sent:
                assert await peer.message() == wire(payload)

    async def test_a_late_client_gets_what_is_sent_after_it_came(self) -> None:
        """Not what was sent before, not half of it either, though that is still in the log."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr(), small=True):
            for number in range(20):
                server.send_nowait(b"old %d" % number + bytes(50_000))
            async with raw_client(server.local_addr()) as late:
                server.send_nowait(b"new")
                assert await late.message() == wire(b"new")

    async def test_a_client_that_joins_between_a_send_and_its_flush(self) -> None:
        """Its handshake ends in a turn in which messages are queued and unsent: they are not for it."""
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()):
            for _ in range(20):
                late = await dial(server.local_addr())
                sent = 0
                before = server.client_count()
                late.send_some(PLAIN_HEAD)
                while server.client_count() == before:
                    for _ in range(3):  # more than one: the first may go out at once
                        server.send_nowait(sent)
                        sent += 1
                    await asyncio.sleep(0)
                server.send_nowait(sent)
                await late.read_until(b"\r\n\r\n")
                assert struct.unpack("<I", await late.message()) == (sent,)
                late.close()
                await until(lambda before=before: server.client_count() == before)

    async def test_the_value_is_taken_when_send_returns(self) -> None:
        """A buffer may be changed at once: what was sent is what it held."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            for size in (100, 100_000):
                buffer = bytearray(b"a" * size)
                sending = server.send(buffer)  # type: ignore[arg-type]
                buffer[:] = b"b" * size
                await sending
                assert await peer.message() == wire(b"a" * size)

    async def test_a_send_that_is_not_awaited_has_queued(self) -> None:
        """Dropping what `send` returns loses nothing, and warns of nothing: the message is on its way."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            sending = server.send(b"dropped")
            del sending
            gc.collect()
            assert await peer.message() == wire(b"dropped")

    async def test_a_wrong_value_is_an_encode_error_of_the_call(self) -> None:
        """Clients or none; nothing is written, and the next value goes out."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            with pytest.raises(EncodeError):
                server.send("text")  # type: ignore[arg-type]
            async with raw_client(server.local_addr()) as peer:
                for send in (server.send, server.send_nowait):
                    with pytest.raises(EncodeError):
                        send("text")  # type: ignore[arg-type]
                server.send_nowait(b"good")
                assert await peer.message() == wire(b"good")
                assert server.messages_out == 1

    async def test_too_large_a_message_is_refused_before_queueing(self) -> None:
        """The limit counts encoded bytes; at the limit it still goes; the error carries both numbers."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_message_size=1000) as server,
            raw_client(server.local_addr()) as peer,
        ):
            before = server.log.end
            for send in (server.send, server.send_nowait):
                with pytest.raises(MessageTooLarge, match="message too large: 1001 bytes") as caught:
                    send(bytes(997))
                assert (caught.value.size, caught.value.limit) == (1001, 1000)
            assert server.log.end == before
            server.send_nowait(bytes(996))
            assert await peer.message() == wire(bytes(996))

    async def test_too_large_a_message_is_refused_without_clients(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0", max_message_size=100_000) as server:
            with pytest.raises(MessageTooLarge):
                server.send_nowait(bytes(100_000))


class TestReceive:
    async def test_recv_gets_what_any_client_sends(self) -> None:
        """`recv_from` says who: the peer's address is the socket's."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as one,
            raw_client(server.local_addr()) as two,
        ):
            await one.send(wire(b"from one"))
            assert await server.recv() == b"from one"
            for peer in (two, one):
                await peer.send(wire(b"who am I"))
                source, value = await server.recv_from()
                assert value == b"who am I"
                assert tuple(source.remote_addr) == peer.sock.getsockname()
                assert source.request.path == "/"

    async def test_a_push_only_server_counts_and_discards(self) -> None:
        """`recv` is a TypeError that says so; what arrives costs nothing and stops nobody."""
        async with (
            WsServer[bytes, None].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            for call in (server.recv, server.recv_from, lambda: server.recv_many(1), lambda: aiter(server)):
                with pytest.raises(TypeError, match="push only"):
                    call()
            for _ in range(30):
                await peer.send(bytes(1_000_000))
            await peer.round_trip()
            assert (server.messages_in, server.unwanted) == (30, 30)
            assert server.inbox.held_bytes == 0
            server.send_nowait(b"down")
            assert await peer.message() == wire(b"down")

    async def test_a_ping_is_answered(self) -> None:
        """With its own payload, by an unmasked PONG (RFC 6455 section 5.5.3)."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            for payload in (b"", b"a", bytes(125)):
                await peer.send(payload, 0x9)
                assert await peer.frame() == Frame(PONG, payload)

    async def test_a_pong_nobody_asked_for_is_ignored(self) -> None:
        """RFC 6455 section 5.5.3 allows it as a heartbeat."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            await peer.send(b"unasked", PONG)
            await peer.send(wire(b"value"))
            assert await server.recv() == b"value"
            assert await peer.round_trip() == []


async def test_backlog_of_the_kernel_is_accepted() -> None:
    """Clients that connected before the loop ran once are all accepted."""
    async with WsServer[bytes].bind("127.0.0.1:0") as server:
        socks = [socket.create_connection(server.local_addr()) for _ in range(50)]
        for sock in socks:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
        await server.wait_clients(50)
        for sock in socks:
            sock.close()
