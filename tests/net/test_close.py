"""Closing connections: during other operations, who is notified of what, and which calls are allowed when."""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers import SLOW, open_sockets, until
from peers import CLOSE, PING, Frame, WsPeer, build, close_payload, dial, raw_client, raw_server

from deli_com import Codec, ComError, ConnectionClosed, WsClient, WsServer, u32

MB = 1_000_000


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


async def answer_close(peer: WsPeer) -> tuple[list[Frame], int | None, str]:
    """Read to CLOSE, answer it, read to the end of stream and close."""
    found = await peer.read_to_close()
    await peer.send(close_payload(found[1] or 1000), CLOSE)
    assert await peer.read_all() == b""
    peer.close()
    return found


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds * SLOW


class TestServerClose:
    async def test_what_was_queued_arrives_before_the_close(self) -> None:
        """For clients that are up to date and for one that lags; then 1001 with a reason."""
        server = await WsServer[bytes].bind("127.0.0.1:0", max_backlog=64 * MB)
        async with (
            raw_client(server.local_addr()) as quick,
            raw_client(server.local_addr(), small=True) as slow,
        ):
            for number in range(8):
                server.send_nowait(b"%d" % number + bytes(MB))
            closing = asyncio.create_task(server.close(drain=60))
            for frames, code, reason in await asyncio.gather(answer_close(quick), answer_close(slow)):
                assert [frame.payload[4:5] for frame in frames] == [b"%d" % number for number in range(8)]
                assert (code, reason) == (1001, "the server is closing")
            with at_most(1):
                await closing

    async def test_a_peer_that_sends_while_we_close(self) -> None:
        """It goes on sending, reads the tail and CLOSE, answers behind all that: nothing of ours is lost."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=30)
        async with raw_client(server.local_addr()) as peer:
            for number in range(10):
                server.send_nowait(b"%d" % number + bytes(MB))
            told = asyncio.Event()

            async def talk() -> None:
                message = build(wire(bytes(MB)), mask=b"\0\0\0\0")
                while not told.is_set():
                    await peer.send_raw(message)
                for _ in range(20):  # as if it had not noticed
                    await peer.send_raw(message)
                await peer.send(close_payload(1001), CLOSE)

            talking = asyncio.create_task(talk())
            closing = asyncio.create_task(server.close())
            frames, code, _ = await peer.read_to_close()
            told.set()
            await talking
            assert await peer.read_all() == b""
            peer.close()
            await closing
            assert [frame.payload[4:5] for frame in frames] == [b"%d" % number for number in range(10)]
            assert code == 1001

    async def test_a_peer_that_never_answers_is_aborted(self) -> None:
        """After `close_timeout`: it has got everything, says nothing and stays."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2)
        async with raw_client(server.local_addr()) as peer:
            began = time.monotonic()
            await server.close()
            assert 0.2 <= time.monotonic() - began < 1.5 * SLOW
            assert (await peer.read_to_close())[1] == 1001

    async def test_a_peer_that_never_reads_is_aborted(self) -> None:
        """After `drain` and `close_timeout`; the others are not made to wait for their CLOSE by it."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2, max_backlog=64 * MB)
        async with raw_client(server.local_addr(), small=True), raw_client(server.local_addr()) as other:
            for _ in range(10):
                server.send_nowait(bytes(MB))
            closing = asyncio.create_task(server.close(drain=0.1))
            with at_most(2):
                assert len((await answer_close(other))[0]) == 10
                await closing
            assert server._connections() == []

    async def test_closing_twice(self) -> None:
        """Both calls return when it is closed, in sequence and at once."""
        server = await WsServer[bytes].bind("127.0.0.1:0")
        client = await WsClient[bytes].connect(server.local_addr())
        closes = [asyncio.create_task(server.close()) for _ in range(3)]
        await asyncio.gather(*closes)
        await server.close()
        assert server._connections() == []
        await client.close()
        await client.close()

    async def test_after_the_close(self) -> None:
        """Sends raise `ConnectionClosed` from the call; waiting and later receives too; nobody gets in."""
        server = await WsServer[bytes].bind("127.0.0.1:0")
        waiting = asyncio.create_task(server.recv())
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(ConnectionClosed):
            await waiting
        for call in (server.send, server.send_nowait):
            with pytest.raises(ConnectionClosed):
                call(b"late")
        for receive in (server.recv, server.recv_from, lambda: server.recv_many(3)):
            with pytest.raises(ConnectionClosed):
                await receive()
        assert [value async for value in server] == []
        server.flush()
        assert server.client_count() == 0
        with pytest.raises(OSError):
            await WsClient[bytes].connect(server.local_addr())

    async def test_what_had_arrived_is_received_after_the_close(self) -> None:
        """Then `ConnectionClosed`."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            async with WsClient[u32].connect(server.local_addr()) as client:
                for number in range(100):
                    client.send_nowait(number)
            await until(lambda: server.client_count() == 0)
        assert [value async for value in server] == list(range(100))
        with pytest.raises(ConnectionClosed):
            await server.recv()

    async def test_a_close_that_is_cancelled(self) -> None:
        """At each of its steps: what remains is aborted, and closing again returns."""
        for turns in (0, 1, 2, 3, 5, 8, 13, 21):
            before = open_sockets()
            server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.1)
            async with raw_client(server.local_addr(), small=True):
                for _ in range(8):
                    server.send_nowait(bytes(MB))
                closing = asyncio.create_task(server.close())
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait([closing])
                with at_most(2):
                    await server.close(drain=0.1)
                assert server._connections() == []
            await until(lambda before=before: open_sockets() <= before)

    async def test_a_second_close_does_not_depend_on_the_first_ones_task(self) -> None:
        """The first caller is cancelled while another waits: the other one returns."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=30)
        async with raw_client(server.local_addr()):
            first, second = (asyncio.create_task(server.close()) for _ in range(2))
            await until(lambda: server.client_count() == 0)
            first.cancel()
            with at_most(1):
                await second
            assert first.cancelled()

    async def test_clients_that_connect_while_it_closes(self) -> None:
        """Each is let in and told, or refused: nobody hangs, nothing leaks."""
        for turns in range(12):
            server = await WsServer[bytes].bind("127.0.0.1:0")
            connecting = [
                asyncio.create_task(WsClient[bytes].connect(server.local_addr())) for _ in range(10)
            ]
            half = await dial(server.local_addr())
            await half.send_raw(b"GET / HTT")
            for _ in range(turns):
                await asyncio.sleep(0)
            with at_most(2):
                await server.close()
                for connected in await asyncio.gather(*connecting, return_exceptions=True):
                    if isinstance(connected, WsClient):
                        with pytest.raises(ConnectionClosed):
                            await connected.recv()
                        await connected.close()
                    else:
                        assert isinstance(connected, ComError), connected
            half.close()

    async def test_an_error_in_the_block_closes(self) -> None:
        """And comes out of it as it was."""
        with pytest.raises(KeyError, match="mine"):
            async with (
                WsServer[bytes].bind("127.0.0.1:0") as server,
                WsClient[bytes].connect(server.local_addr()) as client,
            ):
                raise KeyError("mine")
        for end in (server, client):
            with pytest.raises(ConnectionClosed):
                end.send_nowait(b"late")

    async def test_a_cancelled_block_closes(self) -> None:
        """The task ends cancelled, and nothing is left."""

        async def work() -> None:
            async with (
                WsServer[bytes].bind("127.0.0.1:0") as server,
                WsClient[bytes].connect(server.local_addr()) as client,
            ):
                await client.recv()

        before = open_sockets()
        task = asyncio.create_task(work())
        await until(lambda: len(open_sockets()) >= len(before) + 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: open_sockets() <= before)

    async def test_waiting_senders_are_let_go(self) -> None:
        """An awaited send that waits for a stalled client ends when the server closes."""
        server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.1)
        async with raw_client(server.local_addr(), small=True):

            async def produce() -> None:
                while True:
                    await server.send(bytes(MB))

            producing = asyncio.create_task(produce())
            await until(lambda: not server._is_drained())
            await server.close(drain=0.05)
            with pytest.raises(ConnectionClosed):
                await producing


class TestClientClose:
    async def test_what_was_queued_arrives_before_the_close(self) -> None:
        """1000, behind everything; the server need not be quick."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            for number in range(8):
                client.send_nowait(b"%d" % number + bytes(MB))
            closing = asyncio.create_task(client.close())
            frames, code, reason = await peer.read_to_close()
            assert [frame.payload[4:5] for frame in frames] == [b"%d" % number for number in range(8)]
            assert (code, reason) == (1000, "")
            await peer.send(close_payload(1000), CLOSE)
            peer.close()
            with at_most(1):
                await closing

    async def test_what_arrives_before_the_close_is_received_after_it(self) -> None:
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            await peer.send(wire(b"one"))
            await peer.send(wire(b"two"))
            await until(lambda: client.messages_in == 2)
            closing = asyncio.create_task(client.close())
            await peer.read_to_close()
            await peer.send(close_payload(1000), CLOSE)
            peer.close()
            await closing
            assert await client.recv() == b"one"
            assert [value async for value in client] == [b"two"]
            with pytest.raises(ConnectionClosed):
                await client.recv()

    async def test_a_server_that_never_answers(self) -> None:
        async with raw_server() as server:
            client, peer = await asyncio.gather(
                WsClient[bytes].connect(server.address, close_timeout=0.2), server.accept()
            )
            began = time.monotonic()
            await client.close()
            assert 0.2 <= time.monotonic() - began < 1.5 * SLOW
            assert (await peer.read_to_close())[1] == 1000

    async def test_both_ends_at_once(self) -> None:
        """Two CLOSE frames cross: both ends are done without a timeout."""
        for _ in range(10):
            server = await WsServer[bytes].bind("127.0.0.1:0", close_timeout=30)
            client = await WsClient[bytes].connect(server.local_addr(), close_timeout=30)
            with at_most(2):
                await asyncio.gather(server.close(), client.close())

    async def test_a_close_that_is_cancelled(self) -> None:
        for turns in (0, 1, 2, 4, 8):
            async with raw_server() as server:
                client, _ = await asyncio.gather(
                    WsClient[bytes].connect(server.address, close_timeout=0.1), server.accept()
                )
                closing = asyncio.create_task(client.close())
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait([closing])
                with at_most(1):
                    await client.close()
                assert client._connections() == []

    async def test_a_close_frame_is_answered_with_its_code(self) -> None:
        """And the server ends the stream first (RFC 6455 section 7.1.1)."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for code in (1000, 1001, 1003, 1008, 1011, 3000, 4999):
                async with raw_client(server.local_addr()) as peer:
                    await peer.send(close_payload(code, b"reason"), CLOSE)
                    assert await peer.frame() == Frame(CLOSE, close_payload(code))
                    assert await peer.read_all() == b""
            async with raw_client(server.local_addr()) as peer:
                await peer.send(b"", CLOSE)
                assert (await peer.frame()).close_code == 1000
                assert await peer.read_all() == b""

    async def test_nothing_is_sent_behind_a_close(self) -> None:
        """What is broadcast in the turn of a client's CLOSE comes before our CLOSE or not at all."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for _ in range(30):
                async with raw_client(server.local_addr()) as peer:
                    peer.send_some(build(close_payload(1000), CLOSE, mask=b"\0\0\0\0"))
                    while server.client_count():
                        server.send_nowait(b"x")
                        await asyncio.sleep(0)
                    frames = await peer.read_to_end()
                    assert [frame.opcode for frame in frames].index(CLOSE) == len(frames) - 1


class TestFromOtherPlaces:
    def test_other_threads(self) -> None:
        """Everything but `send_nowait` and `client_count` is a RuntimeError there, and changes nothing."""

        async def main() -> None:
            async with (
                WsServer[bytes].bind("127.0.0.1:0") as server,
                WsClient[bytes].connect(server.local_addr()) as client,
            ):
                found: list[object] = []

                def elsewhere() -> None:
                    for call in (
                        lambda: server.send(b"x"),
                        lambda: client.send(b"x"),
                        server.flush,
                        client.flush,
                        lambda: server.recv().send(None),  # type: ignore[attr-defined]
                        lambda: client.recv().send(None),  # type: ignore[attr-defined]
                    ):
                        try:
                            found.append(call())
                        except RuntimeError as error:
                            found.append("thread" in str(error))
                    found.append(server.client_count())

                thread = threading.Thread(target=elsewhere)
                thread.start()
                thread.join()
                assert found == [True] * 6 + [1]
                server.send_nowait(b"as before")
                assert await client.recv() == b"as before"

        asyncio.run(main())

    async def test_from_a_logging_handler(self) -> None:
        """A client that is too slow is logged inside a flush: sending, flushing, closing there is legal."""
        server = await WsServer[bytes].bind("127.0.0.1:0", max_backlog=2 * MB, close_timeout=0.1)
        closing: list[asyncio.Task[None]] = []

        class Busy(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                server.send_nowait(record.getMessage().encode())
                server.flush()
                if not closing:
                    server.send_nowait(bytes(100_000))
                    closing.append(asyncio.ensure_future(server.close(drain=0.1)))

        handler = Busy()
        logger = logging.getLogger("deli_com.server")
        logger.addHandler(handler)
        try:
            async with (
                raw_client(server.local_addr(), small=True),
                raw_client(server.local_addr(), small=True),
                raw_client(server.local_addr()) as good,
            ):
                reading = asyncio.create_task(answer_close(good))
                while not closing:
                    server.send_nowait(bytes(MB))
                    await asyncio.sleep(0)
                frames, code, _ = await reading
                assert code == 1001
                warnings = [frame.payload for frame in frames if b"too slow" in frame.payload]
                assert len(warnings) == 2
                await closing[0]
        finally:
            logger.removeHandler(handler)

    async def test_sending_while_a_value_is_encoded(self) -> None:
        """`__index__` of a value sends: the inner one goes out behind the outer one, both whole."""

        class Pair(Codec):
            first: u32
            second: u32

        async with WsServer[Pair].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as peer:

            class Sneaky:
                def __index__(self) -> int:
                    server.send_nowait(Pair(3, 4))
                    server.flush()
                    return 2

            class Failing:
                def __index__(self) -> int:
                    server.send_nowait(Pair(5, 6))
                    raise ZeroDivisionError("mine")

            server.send_nowait(Pair(1, Sneaky()))  # type: ignore[arg-type]
            with pytest.raises((ZeroDivisionError, ComError)):
                server.send_nowait(Pair(7, Failing()))  # type: ignore[arg-type]
            server.send_nowait(Pair(8, 9))
            found = [struct.unpack("<II", await peer.message()) for _ in range(4)]
            assert sorted(found) == [(1, 2), (3, 4), (5, 6), (8, 9)]
            assert found[-1] == (8, 9)

    async def test_a_garbage_collection_in_between(self) -> None:
        """Collecting at every turn while clients come, receive and go: nothing that is in use is lost."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            for number in range(4):
                client = await WsClient[bytes].connect(server.local_addr())
                gc.collect()
                server.send_nowait(b"%d" % number)
                gc.collect()
                assert await client.recv() == b"%d" % number
                await client.close()
                gc.collect()

    async def test_closed_ends_are_freed(self) -> None:
        """No cycle keeps a closed server or client, or their connections."""
        gc.collect()
        kinds = ("WsServer[bytes]", "WsClient[bytes]", "Peer")

        def alive() -> int:
            gc.collect()
            return sum(type(thing).__name__ in kinds for thing in gc.get_objects())

        before = alive()
        for _ in range(5):
            async with (
                WsServer[bytes].bind("127.0.0.1:0") as server,
                WsClient[bytes].connect(server.local_addr()) as client,
            ):
                server.send_nowait(b"x")
                await client.recv()
            del server, client
        await until(lambda: alive() <= before)  # timers hold them for a moment

    async def test_ping_while_closing(self) -> None:
        """A PING behind our CLOSE is not answered: nothing may follow a CLOSE."""
        server = await WsServer[bytes].bind("127.0.0.1:0")
        async with raw_client(server.local_addr()) as peer:
            closing = asyncio.create_task(server.close())
            assert (await peer.read_to_close())[1] == 1001
            await peer.send(b"late", PING)
            await peer.send(close_payload(1001), CLOSE)
            assert await peer.read_all() == b""
            peer.close()
            await closing
