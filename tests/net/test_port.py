"""Several services on one port: which path belongs to which, what is shared, and what each close affects."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from helpers import certificates, open_sockets, until

from deli_com import (
    Codec,
    ConnectionClosed,
    IoError,
    Request,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    f32,
    u32,
)


class State(Codec):
    x: f32


class Order(Codec):
    number: u32


async def status_of(server: WsServer[Any, Any], path: str | None, **options: Any) -> int | None:
    """The status of the answer to a client that connects there; 101 if it is accepted."""
    try:
        client = await WsClient[bytes].connect(server.local_addr(), path=path, **options)
    except WebSocketError as error:
        return error.status
    await client.close()
    return 101


async def refused(call: Callable[[], Any], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        await call()


class TestPaths:
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_each_has_its_own_clients_and_types(self, tls: bool) -> None:
        """One address; values go to the clients of their own path, both ways."""
        server_tls, client_tls = certificates() if tls else (None, None)
        async with (
            WsServer[State, Order].bind("127.0.0.1:0", path="/a", ssl=server_tls) as a,
            WsServer[bytes].bind(a, path="/b") as b,
        ):
            assert a.local_addr() == b.local_addr()
            where = ("localhost" if tls else "127.0.0.1", a.local_addr().port)
            async with (
                WsClient[State, Order].connect(where, path="/a", ssl=client_tls) as of_a,
                WsClient[bytes].connect(where, path="/b?token=1", ssl=client_tls) as of_b,
            ):
                assert (a.client_count(), b.client_count()) == (1, 1)
                await a.send(State(1.5))
                await b.send(b"to b")
                assert await of_a.recv() == State(1.5)
                assert await of_b.recv() == b"to b"
                await of_a.send(Order(7))
                await of_b.send(b"from b")
                assert await a.recv() == Order(7)
                peer, value = await b.recv_from()
                assert value == b"from b"
                assert peer.request is not None
                assert (peer.request.path, peer.request.query) == ("/b", "token=1")

    async def test_elsewhere_is_404(self) -> None:
        """Paths are exact; that of the other service is none of this one's."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a") as a,
            WsServer[bytes].bind(a, path="/b") as b,
        ):
            for path in (None, "/", "/c", "/a/", "/A", "/a/b"):
                assert await status_of(a, path) == 404
            for path in ("/a", "/b", "/b?x"):
                assert await status_of(b, path) == 101

    async def test_one_without_path_gets_the_rest(self) -> None:
        """Whether it was there first or came later; exact paths come first."""
        for first, second in ((None, "/b"), ("/b", None)):
            async with (
                WsServer[bytes].bind("127.0.0.1:0", path=first) as one,
                WsServer[bytes].bind(one, path=second) as two,
            ):
                exact, rest = (one, two) if first else (two, one)
                async with (
                    WsClient[bytes].connect(one.local_addr(), path="/b"),
                    WsClient[bytes].connect(one.local_addr(), path="/any/thing"),
                    WsClient[bytes].connect(one.local_addr()),
                ):
                    assert (exact.client_count(), rest.client_count()) == (1, 2)

    async def test_a_path_twice_is_refused(self) -> None:
        """By name, whichever server of the port is asked; the one that was there goes on."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a") as a,
            WsServer[bytes].bind(a, path="/b") as b,
            WsServer[bytes].bind(b) as c,
        ):
            for at in (a, b, c):
                for path in ("/a", "/b"):
                    bind = WsServer[u32].bind
                    await refused(lambda: bind(at, path=path), ValueError, f"path '{path}' already")  # noqa: B023
                await refused(lambda: WsServer[u32].bind(at), ValueError, "one without path")  # noqa: B023
            assert [await status_of(a, path) for path in ("/a", "/b", "/c")] == [101, 101, 101]

    @pytest.mark.parametrize("path", ["", "a", "/a?b", "/a#b", "/a b", "/ü", "/a\n"])
    async def test_what_can_be_no_path_is_refused(self, path: str) -> None:
        """On a port of its own too, which is closed again."""
        before = open_sockets()
        with pytest.raises(ValueError, match="path must begin with"):
            await WsServer[bytes].bind("127.0.0.1:0", path=path)
        assert open_sockets() <= before
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            await refused(lambda: WsServer[bytes].bind(server, path=path), ValueError, "path must begin with")

    async def test_repr_tells_the_path(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as a,
            WsServer[bytes].bind(a, path="/b") as b,
        ):
            assert repr(b) == f"<WsServer[bytes] at {a.local_addr()}/b, 0 clients>"


class TestOptions:
    async def test_what_belongs_to_the_service_is_its_own(self) -> None:
        """`max_clients`, `origins`, `authorize` and `subprotocols` of one do nothing to the other."""
        seen: list[str] = []

        def authorize(request: Request) -> bool:
            seen.append(request.path)
            return request.query != "no"

        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a", max_clients=1, subprotocols=["x"]) as a,
            WsServer[bytes].bind(
                a, path="/b", authorize=authorize, origins=["https://page.test"], subprotocols=["y"]
            ) as b,
            WsClient[bytes].connect(a.local_addr(), path="/a"),
        ):
            assert await status_of(a, "/a") == 503  # full
            assert await status_of(b, "/b") == 101
            assert await status_of(b, "/b?no") == 403
            assert await status_of(a, "/a", subprotocols=["y"]) == 400
            assert await status_of(b, "/b", subprotocols=["y"]) == 101
            assert await status_of(a, "/a", origin="https://page.test") == 403
            assert await status_of(b, "/b", origin="https://page.test") == 101
            assert seen == ["/b"] * 4

    async def test_what_belongs_to_the_port_is_refused(self) -> None:
        """`ssl` and `open_timeout`, whatever their values; the error comes from the call."""
        tls, _ = certificates()
        async with WsServer[bytes].bind("127.0.0.1:0") as a:
            for name, value in (("ssl", tls), ("open_timeout", 10.0), ("open_timeout", None)):
                with pytest.raises(ValueError, match=f"{name} belongs to the port"):
                    WsServer[bytes].bind(a, path="/b", **{name: value})

    async def test_what_has_no_port_to_share_is_refused(self) -> None:
        """A TCP server, one that is closed, one whose port's owner is closed, one that was not awaited."""
        async with Server[bytes].bind("127.0.0.1:0") as tcp:
            with pytest.raises(TypeError, match="only a WsServer's port"):
                WsServer[bytes].bind(tcp, path="/b")  # type: ignore[arg-type]
        async with WsServer[bytes].bind("127.0.0.1:0") as a, WsServer[bytes].bind(a, path="/b") as b:
            async with WsServer[bytes].bind(a, path="/c") as c:
                pass
            await refused(lambda: WsServer[bytes].bind(c, path="/d"), RuntimeError, "is closed")
            await a.close()
            for closed in (a, b):
                await refused(lambda: WsServer[bytes].bind(closed, path="/d"), RuntimeError, "is closed")  # noqa: B023
        opening = WsServer[bytes].bind("127.0.0.1:0")
        await refused(lambda: WsServer[bytes].bind(opening), ValueError, "not an address")  # type: ignore[arg-type]
        opening.close()

    async def test_another_loop_cannot_share(self) -> None:
        """In another thread, or in this one after the first loop's end."""
        errors: list[BaseException] = []
        async with WsServer[bytes].bind("127.0.0.1:0") as a:

            async def bind() -> None:
                await WsServer[bytes].bind(a, path="/b")

            def work() -> None:
                try:
                    asyncio.run(bind())
                except RuntimeError as error:
                    errors.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            await asyncio.to_thread(thread.join)
            assert "thread" in str(errors[0])
            assert await status_of(a, "/b") == 101  # a's own


def test_a_loop_that_is_over_cannot_share() -> None:
    async def first() -> WsServer[bytes]:
        return await WsServer[bytes].bind("127.0.0.1:0")

    async def second(server: WsServer[bytes]) -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await WsServer[bytes].bind(server, path="/b")

    with asyncio.Runner() as one, asyncio.Runner() as two:
        server = one.run(first())
        two.run(second(server))
        one.run(server.close())


class TestClosing:
    async def test_the_owner_closes_the_port_and_only_its_own_clients(self) -> None:
        """Nobody can connect to any; the others go on with those they have, and end them themselves."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a") as a,
            WsServer[bytes].bind(a, path="/b") as b,
            WsClient[bytes].connect(a.local_addr(), path="/a") as of_a,
            WsClient[bytes].connect(a.local_addr(), path="/b") as of_b,
        ):
            await a.close()
            with pytest.raises(ConnectionClosed, match="1001"):
                await of_a.recv()
            for path in ("/a", "/b"):
                with pytest.raises(IoError):
                    await WsClient[bytes].connect(a.local_addr(), path=path)
            await b.send(b"still here")
            assert await of_b.recv() == b"still here"
            await of_b.send(b"so am I")
            assert await b.recv() == b"so am I"
            await b.close()
            with pytest.raises(ConnectionClosed, match="1001"):
                await of_b.recv()

    async def test_another_closes_its_path_and_its_clients(self) -> None:
        """The rest goes on, and the path can be served anew."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a") as a,
            WsClient[bytes].connect(a.local_addr(), path="/a") as of_a,
        ):
            for _ in range(3):
                b = await WsServer[bytes].bind(a, path="/b")
                async with WsClient[bytes].connect(a.local_addr(), path="/b") as of_b:
                    await b.send(b"last")
                    await b.close()
                    assert [value async for value in of_b] == [b"last"]
                assert await status_of(a, "/b") == 404
            await a.send(b"on")
            assert await of_a.recv() == b"on"

    async def test_the_fallback_can_close(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0", path="/a") as a:
            async with WsServer[bytes].bind(a):
                assert await status_of(a, "/b") == 101
            assert [await status_of(a, path) for path in ("/a", "/b")] == [101, 404]

    async def test_who_waits_for_an_answer_is_refused(self) -> None:
        """`authorize` of the service that closes is cancelled; that of another is not."""
        cancelled: list[str] = []
        go = asyncio.Event()

        async def authorize(request: Request) -> None:
            waiting.append(request.path)
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancelled.append(request.path)
                raise

        waiting: list[str] = []
        async with (
            WsServer[bytes].bind("127.0.0.1:0", path="/a", authorize=authorize) as a,
            WsServer[bytes].bind(a, path="/b", authorize=authorize) as b,
        ):
            knocks = [asyncio.create_task(status_of(a, path)) for path in ("/a", "/b")]
            await until(lambda: len(waiting) == 2)
            await b.close()
            assert await knocks[1] == 503
            assert cancelled == ["/b"]
            go.set()
            assert await knocks[0] == 101

    async def test_a_bind_that_fails_takes_no_path(self) -> None:
        """And closes nothing of the port's."""
        async with WsServer[bytes].bind("127.0.0.1:0", path="/a") as a:
            with pytest.raises(TypeError):
                await WsServer[bytes].bind(a, path="/b", origins="https://one.test")
            async with WsServer[bytes].bind(a, path="/b"):
                assert [await status_of(a, path) for path in ("/a", "/b")] == [101, 101]


class TestForgotten:
    async def test_a_service_that_is_forgotten_frees_its_path(self) -> None:
        """The port keeps none alive."""
        async with WsServer[bytes].bind("127.0.0.1:0", path="/a") as a:
            servers = [await WsServer[bytes].bind(a, path="/b")]
            assert await status_of(a, "/b") == 101
            await until(lambda: not servers[0]._connections())
            await forget_unclosed(servers)
            assert await status_of(a, "/b") == 404
            async with WsServer[bytes].bind(a, path="/b"):
                assert await status_of(a, "/b") == 101

    async def test_an_owner_that_is_forgotten_closes_the_port(self) -> None:
        """A service on it does not keep the owner alive, and goes on with its clients."""
        owners = [await WsServer[bytes].bind("127.0.0.1:0", path="/a")]
        address = owners[0].local_addr()
        async with (
            WsServer[bytes].bind(owners[0], path="/b") as b,
            WsClient[bytes].connect(address, path="/b") as of_b,
        ):
            await forget_unclosed(owners)
            with pytest.raises(IoError):
                await WsClient[bytes].connect(address, path="/b")
            await b.send(b"on")
            assert await of_b.recv() == b"on"

    async def test_closed_servers_are_freed(self) -> None:
        """With their port, in whichever order they close."""
        for order in ((0, 1), (1, 0)):
            servers = [await WsServer[bytes].bind("127.0.0.1:0", path="/a")]
            servers.append(await WsServer[bytes].bind(servers[0], path="/b", on_connect=lambda peer: None))
            assert await status_of(servers[0], "/b") == 101
            for index in order:
                await servers[index].close()
            await forget(servers)


async def forget(servers: list[WsServer[Any]]) -> None:
    """Let go of them, and see that nothing else holds them."""
    gone = [weakref.ref(server) for server in servers]
    servers.clear()

    def all_gone() -> bool:
        gc.collect()
        return all(reference() is None for reference in gone)

    await until(all_gone)


async def forget_unclosed(servers: list[WsServer[Any]]) -> None:
    """The same for one that was not closed, which says so. The recorded warning holds it, and goes first."""
    gone = [weakref.ref(server) for server in servers]

    async def let_go() -> None:
        servers.clear()
        await until(lambda: gc.collect() >= 0 and bool(said.list))

    with pytest.warns(ResourceWarning, match="unclosed server") as said:
        await let_go()
    del said.list[:]
    await until(lambda: all(reference() is None for reference in gone))
