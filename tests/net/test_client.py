"""The behaviour of a client, seen by servers of this library and raw ones (Rust: `ws_client_tests`)."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
from helpers import open_sockets, until
from peers import BINARY, CLOSE, PING, PONG, Frame, WsPeer, build, close_payload, raw_server

from deli_com import (
    Codec,
    ConnectionClosed,
    DecodeError,
    IoError,
    MessageTooLarge,
    WebSocketError,
    WsClient,
    WsServer,
    f32,
    u32,
)


class Point(Codec):
    x: f32
    y: f32
    name: str


class Order(Codec):
    number: u32


def wire(payload: bytes) -> bytes:
    """A value of type `bytes` on the wire."""
    return struct.pack("<I", len(payload)) + payload


class TestConnect:
    async def test_connects_sends_and_receives(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            await server.send(b"down")
            assert await client.recv() == b"down"
            await client.send(b"up")
            assert await server.recv() == b"up"

    async def test_strings(self) -> None:
        """Any text of Unicode's, empty too."""
        async with (
            WsServer[str].bind("127.0.0.1:0") as server,
            WsClient[str].connect(server.local_addr()) as client,
        ):
            for text in ("hello", "", "grüße, 世界, \N{SNOWMAN}\0\U0001f40d", "x" * 100_000):
                await server.send(text)
                assert await client.recv() == text
                await client.send(text)
                assert await server.recv() == text

    async def test_structs_and_two_types(self) -> None:
        """`[Down, Up]` is written alike at both ends."""
        async with (
            WsServer[Point, Order].bind("127.0.0.1:0") as server,
            WsClient[Point, Order].connect(server.local_addr()) as client,
        ):
            await server.send(Point(1.5, -2.0, "here"))
            assert await client.recv() == Point(1.5, -2.0, "here")
            await client.send(Order(7))
            assert await server.recv() == Order(7)

    async def test_the_server_counts_the_client_when_connect_returns(self) -> None:
        """So every later `send` reaches it: nothing is waited for here."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            clients = []
            for number in range(20):
                clients.append(await WsClient[u32].connect(server.local_addr()))
                assert server.client_count() == number + 1
                server.send_nowait(number)
            for number, client in enumerate(clients):
                assert [await client.recv() for _ in range(number, 20)] == list(range(number, 20))
                await client.close()

    async def test_values_behind_the_answer_are_received(self) -> None:
        """The server's first frames may come in the same segment as its answer."""
        async with raw_server() as server:
            connecting = asyncio.create_task(WsClient[bytes].connect(server.address))
            peer = await server.accept(answer=build(wire(b"early")) + build(b"token", PING))
            client = await connecting
            assert await client.recv() == b"early"
            assert await peer.frame() == Frame(PONG, b"token", masked=True)
            await asyncio.gather(client.close(), TestFrames.answer_close(peer))

    @pytest.mark.parametrize("spell", [str, tuple, lambda a: a, lambda a: f"ws://{a}/some/path?and=query"])
    async def test_every_spelling_of_an_address(self, spell: object) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(spell(server.local_addr())) as client,  # type: ignore[operator]
        ):
            server.send_nowait(b"hello")
            assert await client.recv() == b"hello"

    async def test_refused(self) -> None:
        """An IoError that is a ConnectionRefusedError, and says where."""
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        sock.close()
        with pytest.raises(IoError, match=f"127.0.0.1:{address[1]}") as caught:
            await WsClient[bytes].connect(address)
        assert isinstance(caught.value, ConnectionRefusedError)

    async def test_out_of_time(self) -> None:
        """An IoError that is a TimeoutError: the server accepts and says nothing."""
        async with raw_server() as server:
            with pytest.raises(IoError) as caught:
                await WsClient[bytes].connect(server.address, open_timeout=0.05)
            assert isinstance(caught.value, TimeoutError)

    async def test_another_http_status(self) -> None:
        async with raw_server() as server:
            connecting = asyncio.create_task(WsClient[bytes].connect(server.address))
            peer = await server.accept(answer=None)
            await peer.read_until(b"\r\n\r\n")
            await peer.send_raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope")
            with pytest.raises(WebSocketError, match="404") as caught:
                await connecting
            assert caught.value.status == 404

    async def test_the_end_of_stream_in_the_handshake(self) -> None:
        async with raw_server() as server:
            connecting = asyncio.create_task(WsClient[bytes].connect(server.address))
            peer = await server.accept(answer=None)
            await peer.read_until(b"\r\n\r\n")
            peer.close()
            with pytest.raises(ConnectionClosed):
                await connecting

    async def test_a_cancelled_connect_leaves_no_socket(self) -> None:
        """Cancelled after each number of turns, up to past the end."""
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            before = open_sockets()
            finished = turns = 0
            while finished < 3:  # some twenty turns, more where the kernel takes its time
                turns += 1
                connecting = asyncio.create_task(WsClient[bytes].connect(server.local_addr()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                try:
                    client = await connecting
                except asyncio.CancelledError:
                    pass
                else:
                    finished += 1
                    await client.close()
                await until(lambda: server.client_count() == 0)
                await until(lambda: open_sockets() == before)

    async def test_a_client_without_a_type_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"WsClient\[T\]\.connect"):
            WsClient.connect("127.0.0.1:80")
        with pytest.raises(TypeError, match=r"await WsClient\[bytes\]\.connect"):
            WsClient[bytes]()

    async def test_repr_tells_the_state(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr()) as client,
        ):
            assert repr(client) == "<WsClient[bytes], open>"
        assert repr(client) == "<WsClient[bytes], closed>"


class TestFrames:
    async def test_what_a_client_sends_is_masked(self) -> None:
        """Each frame with a key of its own, over every size of header (RFC 6455 section 5.3)."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            keys = set()
            for size in (0, 1, 2, 3, 5, 121, 122, 1000, 32768, 65531, 65532, 300_001):
                payload = bytes(i & 0xFF for i in range(size))
                client.send_nowait(payload)
                frame = await peer.frame()
                assert frame == Frame(BINARY, wire(payload), masked=True)
            for _ in range(100):
                client.send_nowait(b"same")
                first = await peer.read_exactly(2 + 4 + 8)
                keys.add(first[2:6])
            assert len(keys) == 100
            await asyncio.gather(client.close(), self.answer_close(peer))

    @staticmethod
    async def answer_close(peer: WsPeer) -> None:
        frames, code, _ = await peer.read_to_close()
        assert (frames, code) == ([], 1000)
        await peer.send(close_payload(1000), CLOSE)
        peer.close()

    async def test_a_ping_is_answered_with_a_masked_pong(self) -> None:
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            await peer.send(b"token", PING)
            assert await peer.frame() == Frame(PONG, b"token", masked=True)
            await asyncio.gather(client.close(), self.answer_close(peer))

    async def test_a_masked_frame_of_a_server_is_refused(self) -> None:
        """RFC 6455 section 5.1: the client fails the connection, 1002."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            await peer.send(wire(b"masked"), mask=True)
            assert (await peer.read_to_close())[1] == 1002
            peer.close()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.code == 1002
            await client.close()

    async def test_too_large_a_message_is_refused_before_queueing(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            WsClient[bytes].connect(server.local_addr(), max_message_size=1000) as client,
        ):
            with pytest.raises(MessageTooLarge) as caught:
                client.send(bytes(997))
            assert (caught.value.size, caught.value.limit) == (1001, 1000)
            client.send_nowait(bytes(996))
            assert await server.recv() == bytes(996)

    async def test_too_large_a_message_received_ends_the_connection(self) -> None:
        """1009, told to the server and to `recv`."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(
                WsClient[bytes].connect(server.address, max_message_size=1000), server.accept()
            )
            await peer.send(wire(bytes(996)))
            assert await client.recv() == bytes(996)
            await peer.send(bytes(1001))
            assert (await peer.read_to_close())[1] == 1009
            peer.close()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.code == 1009
            await client.close()

    async def test_an_undecodable_message_is_raised_and_the_next_one_received(self) -> None:
        """In order with the values around it; the connection lives."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[str].connect(server.address), server.accept())
            await peer.send(wire(b"one"))
            await peer.send(wire(b"\xff"))
            await peer.send(b"\x01")
            await peer.send(wire(b"two"))
            assert await client.recv() == "one"
            for text in ("invalid UTF-8 in string", "unexpected end of buffer"):
                with pytest.raises(DecodeError, match=text):
                    await client.recv()
            assert await client.recv() == "two"
            assert client.undecodable == 2
            await asyncio.gather(client.close(), self.answer_close(peer))


class TestTheServerGoes:
    async def test_what_had_arrived_comes_first(self) -> None:
        """Then ConnectionClosed, with the server's code and reason, each time."""
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            client = await WsClient[u32].connect(server.local_addr())
            for number in range(1000):
                server.send_nowait(number)
            await server.close()
            await until(client._is_ended)
            assert [await client.recv() for _ in range(1000)] == list(range(1000))
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.code == 1001
            with pytest.raises(ConnectionClosed):
                client.send(1)
            with pytest.raises(ConnectionClosed):
                client.send_nowait(1)
            await client.close()

    async def test_a_waiting_recv_is_told(self) -> None:
        """The server's code and reason arrive there."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            waiting = [asyncio.create_task(client.recv()) for _ in range(3)]
            await asyncio.sleep(0)
            await peer.send(close_payload(4321, b"because"), CLOSE)
            assert await peer.frame() == Frame(CLOSE, close_payload(4321), masked=True)
            peer.close()
            for task in waiting:
                with pytest.raises(ConnectionClosed, match="because") as caught:
                    await task
                assert (caught.value.code, caught.value.reason) == (4321, "because")
            await client.close()

    @pytest.mark.parametrize("how", ["end of stream", "reset"])
    async def test_an_abrupt_end_has_no_code(self, how: str) -> None:
        """What had arrived comes first here too."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(WsClient[bytes].connect(server.address), server.accept())
            await peer.send(wire(b"last words"))
            assert await client.recv() == b"last words"
            if how == "reset":
                peer.reset()
            else:
                peer.close()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.code is None
            await client.close()


class TestForgotten:
    @pytest.mark.parametrize("what", ["server", "client"])
    def test_what_was_not_closed_is_a_resource_warning(self, what: str) -> None:
        """At the latest when the program ends; nothing else is said, and it ends."""
        program = textwrap.dedent(
            f"""
            import asyncio
            from deli_com import WsClient, WsServer

            async def main():
                server = await WsServer[bytes].bind("127.0.0.1:0")
                client = await WsClient[bytes].connect(server.local_addr())
                if {what!r} == "server":
                    await client.close()
                else:
                    await server.close()
                    client = await WsClient[bytes].connect((await other()).local_addr())

            opened = []
            async def other():
                opened.append(await WsServer[bytes].bind("127.0.0.1:0"))
                return opened[0]

            asyncio.run(main())
            opened.clear()
            """
        )
        ran = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "default", "-c", program],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert f"ResourceWarning: unclosed {what} " in ran.stderr
        assert "Traceback" not in ran.stderr
        assert "Exception ignored" not in ran.stderr

    async def test_a_forgotten_server_without_clients_warns_and_stops(self) -> None:
        """As soon as nobody holds it; the port is free again."""
        server = await WsServer[bytes].bind("127.0.0.1:0")
        address = server.local_addr()
        with pytest.warns(ResourceWarning, match=f"unclosed server .*{address}"):  # noqa: PT031
            del server
            gc.collect()
        with pytest.raises(IoError):
            await WsClient[bytes].connect(address)

    async def test_a_connect_never_awaited_warns(self) -> None:
        opening = WsClient[bytes].connect("127.0.0.1:1")
        with pytest.warns(RuntimeWarning, match=r"WsClient\[bytes\]\.connect' was never awaited"):
            del opening
