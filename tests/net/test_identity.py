"""Who is connected: `server.clients`, and the attributes and methods of a `Peer`."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from helpers import RawPeer, certificates, until
from peers import CLOSE, Frame, close_payload, raw_client

from deli_com import Address, Client, ConnectionClosed, Peer, Server, WsClient, WsServer, u32

MB = 1_000_000
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)


async def elsewhere(call: Any) -> Any:
    """Call it in another thread."""
    return await asyncio.to_thread(call)


class TestClients:
    @PAIRS
    async def test_it_is_a_snapshot(self, server_type: Any, client_type: Any) -> None:
        """It holds the counted clients, one object for each, and does not change afterwards."""
        async with server_type[u32].bind("127.0.0.1:0") as server:
            assert server.clients == frozenset()
            async with client_type[u32].connect(server.local_addr()) as one:
                await server.wait_clients(1)
                alone = server.clients
                async with client_type[u32].connect(server.local_addr()) as two:
                    await server.wait_clients(2)
                    both = server.clients
                    assert len(alone) == 1 and len(both) == 2 and alone < both
                    assert all(isinstance(peer, Peer) for peer in both)
                    for number, client in enumerate((one, two)):
                        await client.send(number)
                    pairs = [await server.recv_from() for _ in range(2)]
                    assert {peer for peer, _ in pairs} == both
                    assert {value for peer, value in pairs if peer in alone} == {0}
                await until(lambda: server.client_count() == 1)
                assert server.clients == alone
            assert len(both) == 2
        assert server.clients == frozenset()

    @PAIRS
    async def test_one_that_lingers_is_none(self, server_type: Any, client_type: Any) -> None:
        """Told to go, it is neither counted nor open, though its connection is still there."""
        async with server_type[u32].bind("127.0.0.1:0") as server:
            raw = (
                raw_client(server.local_addr())
                if server_type is WsServer
                else closing(RawPeer.open(server.local_addr()))
            )
            async with raw:
                await server.wait_clients(1)
                (peer,) = server.clients
                assert peer.is_open
                peer.close()
                assert server._connections() == [peer]
                assert not peer.is_open
                assert server.clients == frozenset()
                assert server.client_count() == 0

    async def test_from_another_thread(self) -> None:
        """`client_count` is for any thread, `clients` and `peer.close` are not."""
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            (peer,) = server.clients
            with pytest.raises(RuntimeError, match=r"server\.clients was called from thread"):
                await elsewhere(lambda: server.clients)
            with pytest.raises(RuntimeError, match=r"peer\.close was called from thread"):
                await elsewhere(peer.close)
            assert await elsewhere(server.client_count) == 1
            assert peer.is_open
            await server.send(1)
            assert await client.recv() == 1


class closing:
    def __init__(self, opening: Any) -> None:
        self.opening = opening

    async def __aenter__(self) -> RawPeer:
        self.peer: RawPeer = await self.opening
        return self.peer

    async def __aexit__(self, *_: object) -> None:
        self.peer.close()


class TestPeer:
    async def test_what_it_says_over_websocket(self) -> None:
        """Its address and its request, also when it is gone."""
        async with WsServer[u32].bind("127.0.0.1:0", subprotocols=["v2", "v1"]) as server:
            async with WsClient[u32].connect(
                server.local_addr(), path="/live?robot=7", headers={"X-Who": "me"}, subprotocols=["v1"]
            ) as client:
                await client.send(1)
                peer, _ = await server.recv_from()
            await until(lambda: not server._connections())
            assert not peer.is_open
            assert isinstance(peer.remote_addr, Address)
            assert peer.remote_addr.host == "127.0.0.1"
            assert peer.request is not None
            assert (peer.request.path, peer.request.query) == ("/live", "robot=7")
            assert peer.request.headers["x-who"] == "me"
            assert peer.request.subprotocol == "v1"
            assert not peer.request.secure
            assert repr(peer) == f"<Peer {peer.remote_addr}>"

    async def test_what_it_says_over_tcp(self) -> None:
        async with Server[u32].bind("127.0.0.1:0") as server, Client[u32].connect(server.local_addr()):
            await server.wait_clients(1)
            (peer,) = server.clients
            assert peer.remote_addr is not None
            assert peer.remote_addr.host == "127.0.0.1"
            assert peer.request is None

    @PAIRS
    async def test_its_state_is_the_users(self, server_type: Any, client_type: Any) -> None:
        """None at first, each its own, and still there when the client has left."""
        left: list[Any] = []
        async with server_type[u32].bind(
            "127.0.0.1:0",
            on_connect=lambda peer: setattr(peer, "state", {"seen": peer.state}),
            on_disconnect=lambda peer, why: left.append(peer.state),
        ) as server:
            clients = [await client_type[u32].connect(server.local_addr()) for _ in range(2)]
            await server.wait_clients(2)
            for number, client in enumerate(clients):
                await client.send(number)
                peer, value = await server.recv_from()
                assert peer.state == {"seen": None}
                peer.state["seen"] = value
            for client in clients:
                await client.close()
            await until(lambda: len(left) == 2)
        assert sorted(state["seen"] for state in left) == [0, 1]

    @PAIRS
    async def test_a_state_that_holds_the_server_is_freed_with_it(
        self, server_type: Any, client_type: Any
    ) -> None:
        """As are callbacks that do."""

        class Room:
            server: Any = None
            gone: Any = None

            def enter(self, peer: Peer) -> None:
                peer.state = [self, peer]
                self.gone = weakref.ref(peer)

        room = Room()
        room.server = await server_type[u32].bind("127.0.0.1:0", on_connect=room.enter)
        async with client_type[u32].connect(room.server.local_addr()):
            await room.server.wait_clients(1)
            await room.server.close()
        gone = [weakref.ref(room.server), weakref.ref(room), room.gone]
        del room

        def is_gone() -> bool:
            gc.collect()
            return all(reference() is None for reference in gone)

        await until(is_gone)

    async def test_users_make_none(self) -> None:
        with pytest.raises(TypeError, match="a Peer is not made"):
            Peer()


class TestClose:
    async def test_a_websocket_client_is_told_code_and_reason(self) -> None:
        """Behind what was sent before, though no turn of the loop came in between."""
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as raw:
            (peer,) = server.clients
            for number in range(3):
                server.send_nowait(number)
            peer.close(4321, "enough")
            server.send_nowait(9)
            frames, code, reason = await raw.read_to_close()
            assert [frame.payload[0] for frame in frames] == [0, 1, 2]
            assert (code, reason) == (4321, "enough")
            await raw.send(close_payload(4321), CLOSE)
            assert await raw.read_all() == b""

    async def test_without_arguments_it_is_1000(self) -> None:
        async with (
            WsServer[u32].bind("127.0.0.1:0") as server,
            WsClient[u32].connect(server.local_addr()) as client,
        ):
            for peer in server.clients:
                peer.close()
            assert [value async for value in client] == []
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.code, caught.value.reason) == (1000, "")

    async def test_a_tcp_client_gets_what_was_sent_and_the_end_of_stream(self) -> None:
        async with (
            Server[u32].bind("127.0.0.1:0") as server,
            Client[u32].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            for number in range(3):
                server.send_nowait(number)
            for peer in server.clients:
                peer.close(1000, "enough")
            server.send_nowait(9)
            assert [value async for value in client] == [0, 1, 2]

    async def test_a_tcp_client_that_misses_something_is_reset(self) -> None:
        """An end of stream would say that it has all."""
        async with Server[bytes].bind("127.0.0.1:0") as server:
            raw = await RawPeer.open(server.local_addr())
            await server.wait_clients(1)
            for _ in range(12):
                server.send_nowait(bytes(MB))
            for peer in server.clients:
                peer.close()
            with pytest.raises(ConnectionResetError):
                await raw.read_all()
            raw.close()

    async def test_a_laggard_gets_whole_frames_and_the_close(self) -> None:
        """The frame that was cut is finished, what is queued behind it is dropped."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", close_timeout=30) as server,
            raw_client(server.local_addr(), small=True) as raw,
        ):
            for _ in range(12):
                server.send_nowait(bytes(MB))
            for peer in server.clients:
                peer.close(3000, "laggard")
            frames, code, reason = await raw.read_to_close()
            assert 1 <= len(frames) < 12
            assert {len(frame.payload) for frame in frames} == {MB + 4}
            assert (code, reason) == (3000, "laggard")
            await raw.send(close_payload(3000), CLOSE)

    @PAIRS
    async def test_closing_again_does_nothing(self, server_type: Any, client_type: Any) -> None:
        """While it lingers, when it is gone, when the server is closed; the first code counts."""
        async with server_type[u32].bind("127.0.0.1:0") as server:
            async with client_type[u32].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                (peer,) = server.clients
                peer.close(4001, "first")
                peer.close(4002, "second")
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                if server_type is WsServer:
                    assert (caught.value.code, caught.value.reason) == (4001, "first")
            await until(lambda: not server._connections())
            peer.close()
        peer.close()

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
    async def test_codes_that_may_be_sent(self, code: int) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as raw:
            for peer in server.clients:
                peer.close(code)
            assert await raw.frame() == Frame(CLOSE, close_payload(code))

    @PAIRS
    @pytest.mark.parametrize(
        "code", [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 66_536, 1 << 70]
    )
    async def test_codes_that_may_not(self, server_type: Any, client_type: Any, code: int) -> None:
        """RFC 6455 section 7.4; nothing has happened then."""
        async with (
            server_type[u32].bind("127.0.0.1:0") as server,
            client_type[u32].connect(server.local_addr()) as client,
        ):
            await server.wait_clients(1)
            (peer,) = server.clients
            with pytest.raises(ValueError, match=f"close code {code} must not be sent"):
                peer.close(code)
            for wrong in ((None,), ("1000",), (1000, b"reason"), (1000, None)):
                with pytest.raises(TypeError, match=r"close\(code, reason\) takes"):
                    peer.close(*wrong)
            assert peer.is_open
            await server.send(1)
            assert await client.recv() == 1

    @pytest.mark.parametrize(
        ("reason", "sent"),
        [("x" * 123, "x" * 123), ("x" * 124, "x" * 123), ("x" + "ü" * 100, "x" + "ü" * 61), ("", "")],
    )
    async def test_a_long_reason_is_cut_between_characters(self, reason: str, sent: str) -> None:
        """A control frame has room for 123 bytes (RFC 6455 section 5.5)."""
        async with WsServer[u32].bind("127.0.0.1:0") as server, raw_client(server.local_addr()) as raw:
            for peer in server.clients:
                peer.close(1000, reason)
            assert (await raw.read_to_close())[1:] == (1000, sent)

    async def test_over_tls(self) -> None:
        tls, trust = certificates()
        for server_type, client_type in ((WsServer, WsClient), (Server, Client)):
            async with server_type[u32].bind("127.0.0.1:0", ssl=tls) as server:
                address = ("localhost", server.local_addr().port)
                async with client_type[u32].connect(address, ssl=trust) as client:
                    await server.wait_clients(1)
                    server.send_nowait(5)
                    for peer in server.clients:
                        assert peer.request is None or peer.request.secure
                        peer.close()
                    assert [value async for value in client] == [5]

    async def test_the_others_stay(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as server:
            clients = [await WsClient[u32].connect(server.local_addr()) for _ in range(3)]
            await clients[1].send(1)
            peer, _ = await server.recv_from()
            peer.close()
            await server.send(2)
            assert [await clients[index].recv() for index in (0, 2)] == [2, 2]
            with pytest.raises(ConnectionClosed):
                await clients[1].recv()
            for client in clients:
                await client.close()
