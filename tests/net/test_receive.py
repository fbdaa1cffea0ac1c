"""Receiving over a connection: the contract of `recv` and related calls, and the effects of a flood."""

from __future__ import annotations

import asyncio
import logging
import struct
import sys

import pytest
from helpers import until
from peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    WsPeer,
    build,
    close_payload,
    raw_client,
    raw_server,
)

from deli_com import Codec, ConnectionClosed, DecodeError, WsClient, WsServer, u32

MB = 1_000_000
INBOX_BYTES = 16 << 20
READ_AHEAD = 10 * MB  # what one read may bring before the pause takes effect
IN_FLIGHT = 48 * MB  # more than the kernel's buffers between two sockets hold (tcp_rmem and tcp_wmem)


class Item(Codec):
    number: u32
    body: bytes


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


async def connected(server) -> tuple[WsClient[bytes], WsPeer]:  # type: ignore[no-untyped-def]
    client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
    return client, peer


async def part(client: WsClient[bytes], peer: WsPeer) -> None:
    """Close the client in good order."""

    async def answer() -> None:
        _, code, _ = await peer.read_to_close()
        await peer.send(close_payload(code or 1000), CLOSE)
        peer.close()

    await asyncio.gather(client.close(), answer())


async def until_error(client: WsClient[bytes]) -> tuple[list[bytes], Exception | None]:
    """What ``async for`` gives, and what ends it: None if nothing does but the end itself."""
    seen = []
    try:
        async for value in client:
            seen.append(value)
    except (ConnectionClosed, DecodeError) as error:
        return seen, error
    return seen, None


class TestWays:
    async def test_one_queue_is_shared(self) -> None:
        """`recv`, `recv_many`, `recv_from` and `async for` take from it in turn."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            for number in range(10):
                client.send_nowait(number)
            await until(lambda: server.messages_in == 10)
            assert await server.recv() == 0
            assert await server.recv_many(3) == [1, 2, 3]
            assert (await server.recv_from())[1] == 4
            async for value in server:
                assert value == 5
                break
            assert await server.recv_many(100) == [6, 7, 8, 9]

    async def test_recv_many_gives_what_is_there(self) -> None:
        """It waits for the first, and for no more."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            receiving = asyncio.create_task(client.recv_many(1000))
            await asyncio.sleep(0)
            for number in range(500):
                server.send_nowait(number)
            values = await receiving
            while len(values) < 500:
                values += await client.recv_many(7)
            assert values == list(range(500))

    async def test_async_for_on_both_ends(self) -> None:
        async with WsServer[Item].bind("127.0.0.1:0") as server:
            client = await WsClient[Item].connect(server.local_addr())

            async def collect(end: WsServer[Item] | WsClient[Item]) -> list[int]:
                return [item.number async for item in end]

            collecting = [asyncio.create_task(collect(end)) for end in (server, client)]
            for number in range(100):
                await server.send(Item(number, b"down"))
                await client.send(Item(number, b"up"))
            await until(lambda: server.messages_in == client.messages_in == 100)
            await server.close()
            assert await asyncio.gather(*collecting) == [list(range(100))] * 2
            await client.close()


class TestAsyncForEnds:
    @pytest.mark.parametrize("code", [1000, 1001, None])
    async def test_after_a_close_in_good_order(self, code: int | None) -> None:
        """1000, 1001, and a CLOSE without a code."""
        async with raw_server() as server:
            client, peer = await connected(server)
            await peer.send(wire(b"last"))
            await peer.send(b"" if code is None else close_payload(code), CLOSE)
            peer.close()
            assert [value async for value in client] == [b"last"]
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()

    async def test_after_our_own_close(self) -> None:
        """The client's `recv` and the server's, while they wait."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            client = await WsClient[bytes].connect(server.local_addr())

            async def collect(end: WsServer[bytes] | WsClient[bytes]) -> list[bytes]:
                return [value async for value in end]

            of_client, of_server = (asyncio.create_task(collect(end)) for end in (client, server))
            await asyncio.sleep(0)
            await client.close()
            assert await of_client == []
            await server.close()
            assert await of_server == []

    @pytest.mark.parametrize("code", [1002, 1011, 1013, 4000])
    async def test_it_raises_after_any_other(self, code: int) -> None:
        async with raw_server() as server:
            client, peer = await connected(server)
            await peer.send(wire(b"last"))
            await peer.send(close_payload(code, b"why"), CLOSE)
            peer.close()
            seen, end = await until_error(client)
            assert seen == [b"last"]
            assert isinstance(end, ConnectionClosed)
            assert (end.code, end.reason) == (code, "why")
            await client.close()

    async def test_it_raises_after_an_abrupt_end(self) -> None:
        async with raw_server() as server:
            client, peer = await connected(server)
            peer.close()
            seen, end = await until_error(client)
            assert seen == []
            assert isinstance(end, ConnectionClosed)
            await client.close()

    async def test_a_decode_error_ends_one_and_another_goes_on(self) -> None:
        async with raw_server() as server:
            client, peer = await connected(server)
            for payload in (wire(b"one"), b"\x05", wire(b"two"), wire(b"three")):
                await peer.send(payload)
            await peer.send(close_payload(1000), CLOSE)
            peer.close()
            seen, end = await until_error(client)
            assert seen == [b"one"]
            assert isinstance(end, DecodeError)
            assert [value async for value in client] == [b"two", b"three"]
            await client.close()


class TestCancelling:
    async def test_timeouts_lose_nothing(self) -> None:
        """2000 values received by waits that mostly run out just then."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):

            async def produce() -> None:
                for number in range(2000):
                    client.send_nowait(number)
                    if number % 3 == 0:
                        await asyncio.sleep(0)

            producing = asyncio.create_task(produce())
            received: list[int] = []
            ran_out = 0
            while len(received) < 2000:
                try:
                    async with asyncio.timeout(1e-6 * (len(received) % 50)):
                        received.append(await server.recv())
                        received += await server.recv_many(3)
                except TimeoutError:
                    ran_out += 1
            assert received == list(range(2000))
            assert ran_out > 0
            await producing

    async def test_cancelled_in_the_turn_of_the_value(self) -> None:
        """The waiter is woken by a value and cancelled before it runs: the next one gets the value."""
        loop = asyncio.get_running_loop()
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            in_time = 0
            for number in range(50):
                first, second = asyncio.create_task(server.recv()), asyncio.create_task(server.recv())
                await asyncio.sleep(0)

                def look(task: asyncio.Task[int] = first, number: int = number) -> None:
                    """Once a turn; in the turn in which the message came it may run before the task does."""
                    if server.messages_in > number:
                        task.cancel()
                    elif not task.done():
                        loop.call_soon(look)

                look()
                await peer.send(struct.pack("<I", number))
                await asyncio.wait([first])
                if first.cancelled():
                    in_time += 1
                    assert await second == number
                else:
                    assert first.result() == number
                    second.cancel()
                    await asyncio.wait([second])
            assert in_time > 0


class TestUndecodable:
    async def test_the_server_logs_once_counts_and_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        """A warning a connection, with the peer's address and the reason; the connection lives."""
        async with (
            WsServer[str].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as one,
            raw_client(server.local_addr()) as two,
        ):
            with caplog.at_level(logging.WARNING, "deli_com.server"):
                for peer in (one, two):
                    for payload in (b"\x01", wire(b"good"), wire(b"\xff"), b"", wire(b"fine")):
                        await peer.send(payload)
                    assert [await server.recv(), await server.recv()] == ["good", "fine"]
            assert server.undecodable == 6
            records = [record for record in caplog.records if record.name == "deli_com.server"]
            assert len(records) == 2
            for record, peer in zip(records, (one, two), strict=True):
                host, port = peer.sock.getsockname()
                assert f"{host}:{port}" in record.getMessage()
                assert "unexpected end of buffer" in record.getMessage()
            assert server.client_count() == 2

    async def test_text_is_ignored_with_one_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        """On both ends, in whole messages and fragments; all are counted."""

        async def chat(peer: WsPeer) -> None:
            await peer.send(b"hello", TEXT)
            await peer.send(b"hel", TEXT, fin=False)
            await peer.send(b"lo", CONTINUATION)
            await peer.send(wire(b"value"))

        with caplog.at_level(logging.WARNING, "deli_com"):
            async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
                await chat(peer)
                assert await server.recv() == b"value"
                assert server.unwanted == 2
            async with raw_server() as foreign:
                client, peer = await connected(foreign)
                await chat(peer)
                assert await client.recv() == b"value"
                assert client.unwanted == 2
                await part(client, peer)
        texts = [(record.name, "text" in record.getMessage()) for record in caplog.records]
        assert texts == [("deli_com.server", True), ("deli_com.client", True)]


class TestFragments:
    @pytest.mark.parametrize(
        "pieces", [[b"a", b"b"], [b"", b"x", b""], [b"", b""], [b"z"] * 100, [bytes(40_000)] * 3]
    )
    async def test_fragments_are_joined(self, pieces: list[bytes]) -> None:
        """Whatever their sizes; the next message is itself again."""
        body = wire(b"".join(pieces))
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            await peer.send(body[:4], fin=False)
            for piece in pieces:
                await peer.send(piece, CONTINUATION, fin=False)
            await peer.send(b"", CONTINUATION)
            await peer.send(wire(b"whole"))
            assert await server.recv() == b"".join(pieces)
            assert await server.recv() == b"whole"

    async def test_control_frames_in_between(self) -> None:
        """RFC 6455 section 5.4: PING is answered at once, and the message goes on."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            await peer.send(wire(b"one")[:5], fin=False)
            assert await peer.round_trip(b"now") == []
            await peer.send(wire(b"one")[5:], CONTINUATION)
            assert await server.recv() == b"one"

    async def test_two_clients_fragment_at_once(self) -> None:
        """Each message is joined from its own connection."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as one,
            raw_client(server.local_addr()) as two,
        ):
            data = {one: wire(b"1" * 10), two: wire(b"2" * 10)}
            for at in range(14):
                for peer in (one, two):
                    opcode = BINARY if at == 0 else CONTINUATION
                    await peer.send(data[peer][at : at + 1], opcode, fin=at == 13)
            assert {await server.recv(), await server.recv()} == {b"1" * 10, b"2" * 10}


async def flood(peer: WsPeer, data: bytes, count: int) -> None:
    for _ in range(count):
        await peer.send_raw(data)


class TestBackPressure:
    async def test_before_anybody_receives_values_are_dropped_and_counted(self) -> None:
        """Reading never stops: the client's PING is answered behind 40 MB, and its leaving is seen."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            message = build(wire(bytes(MB - 4)), mask=b"\0\0\0\0")
            await flood(peer, message, 40)
            await peer.round_trip()
            kept = -(-INBOX_BYTES // MB)
            assert server.messages_in == 40
            assert server.inbox.dropped == 40 - kept
            assert server.inbox.held_bytes == kept * MB
            await peer.leave()
            await until(lambda: server.client_count() == 0)
            assert len(await server.recv_many(100)) == kept

    async def test_a_client_that_floods_is_paused_and_others_are_not(self) -> None:
        """The flood stands still while another client is answered and heard; then all of it arrives."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as loud,
            raw_client(server.local_addr()) as calm,
        ):
            first = asyncio.create_task(server.recv())
            await asyncio.sleep(0)
            total = (INBOX_BYTES + READ_AHEAD + IN_FLIGHT) // MB
            message = build(wire(bytes(MB - 4)), mask=b"\0\0\0\0")
            flooding = asyncio.create_task(flood(loud, message, total))
            assert len(await first) == MB - 4
            await until(lambda: server.inbox.held_bytes >= INBOX_BYTES)
            for _ in range(50):
                assert await calm.round_trip() == []
            taken = server.messages_in
            assert taken <= (INBOX_BYTES + READ_AHEAD) // MB
            assert not flooding.done()
            for _ in range(50):
                assert await calm.round_trip() == []
            assert server.messages_in == taken
            await calm.send(wire(b"calm"))
            await until(lambda: server.messages_in == taken + 1)
            values = []
            while len(values) < total:
                values += await server.recv_many(4)
            assert values.count(b"calm") == 1
            assert server.inbox.dropped == 0
            await flooding
            assert await loud.round_trip() == []

    async def test_a_client_is_paused_as_well(self) -> None:
        """Its server sends faster than it receives: the server's socket fills, and nothing is lost."""
        async with raw_server() as server:
            client, peer = await connected(server)
            assert await asyncio.gather(client.recv(), peer.send(wire(b"first"))) == [b"first", None]
            total = (INBOX_BYTES + READ_AHEAD + IN_FLIGHT) // MB
            flooding = asyncio.create_task(flood(peer, build(wire(bytes(MB - 4))), total))
            await until(lambda: client.inbox.held_bytes >= INBOX_BYTES)
            for _ in range(50):
                client.send_nowait(b"still able to send")
                assert (await peer.frame()).payload == wire(b"still able to send")
            assert client.messages_in <= (INBOX_BYTES + READ_AHEAD) // MB
            assert not flooding.done()
            for _ in range(total):
                assert await client.recv() == bytes(MB - 4)
            await flooding
            await part(client, peer)

    @pytest.mark.parametrize("wait_s", [0.0, 0.8])
    async def test_a_paused_client_that_leaves(self, wait_s: float) -> None:
        """What it had sent before is received in full, however late: here some sweeps later."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
            first = asyncio.create_task(server.recv())
            await asyncio.sleep(0)
            message = build(wire(bytes(MB - 4)), mask=b"\0\0\0\0")
            flooding = asyncio.create_task(flood(peer, message, 20))
            await first
            await until(lambda: server.inbox.held_bytes >= INBOX_BYTES)
            await flooding
            peer.close()
            await asyncio.sleep(wait_s)
            values = []
            while len(values) < 19:
                values += await server.recv_many(100)
            assert len(values) == 19
            await until(lambda: server.client_count() == 0)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a peer has ended its stream")
    async def test_a_paused_client_that_leaves_gets_no_sign_of_life(self) -> None:
        """It would answer by a reset, which discards what it had sent. Each 0.25 s one would be due here."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", ping_timeout=1.0) as server,
            raw_client(server.local_addr()) as peer,
        ):
            first = asyncio.create_task(server.recv())
            await asyncio.sleep(0)
            flooding = asyncio.create_task(flood(peer, build(wire(bytes(MB - 4)), mask=b"\0\0\0\0"), 20))
            await first
            await until(lambda: server.inbox.held_bytes >= INBOX_BYTES)
            await flooding
            peer.close()
            await asyncio.sleep(0.9)
            values = []
            while len(values) < 19:
                values += await server.recv_many(100)
            assert len(values) == 19

    async def test_closing_with_a_paused_client(self) -> None:
        """`close` reads on, so that the client's CLOSE is seen, and does not wait for its deadline."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=60)
        async with raw_client(server.local_addr()) as peer:
            first = asyncio.create_task(server.recv())
            await asyncio.sleep(0)
            message = build(wire(bytes(MB - 4)), mask=b"\0\0\0\0")
            flooding = asyncio.create_task(flood(peer, message, 60))
            await first
            await until(lambda: server.inbox.held_bytes >= INBOX_BYTES)
            closing = asyncio.create_task(server.close())
            assert (await peer.read_to_close())[1] == 1001
            await flooding
            await peer.send(close_payload(1001), CLOSE)
            assert await peer.read_all() == b"", "the server ends the stream first"
            peer.close()
            await closing


async def test_ping_of_a_paused_client_is_answered_later() -> None:
    """Once reading goes on: the PING stands behind the flood."""
    async with WsServer[bytes].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:
        first = asyncio.create_task(server.recv())
        await asyncio.sleep(0)
        flooding = asyncio.create_task(flood(peer, build(wire(bytes(MB - 4)), mask=b"\0\0\0\0"), 40))
        await first
        await until(lambda: server.inbox.held_bytes >= INBOX_BYTES)
        received = 1
        while received < 40:
            received += len(await server.recv_many(100))
        await flooding
        await peer.send(b"x", PING)
        assert (await peer.frame()).payload == b"x"
