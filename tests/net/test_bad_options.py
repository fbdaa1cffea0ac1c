"""An invalid option raises in the call that names it, before a socket, a task or a coroutine exists."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import ssl
from typing import Any

import pytest

from deli_com import Client, Replay, Server, WsClient, WsServer, serve_background, u32

ADDR = "127.0.0.1:0"
FAR = "127.0.0.1:9"
CALLS: dict[str, Any] = {
    "Server.bind": lambda **o: Server[u32].bind(ADDR, **o),
    "WsServer.bind": lambda **o: WsServer[u32].bind(ADDR, **o),
    "Client.connect": lambda **o: Client[u32].connect(FAR, **o),
    "WsClient.connect": lambda **o: WsClient[u32].connect(FAR, **o),
    "WsClient.stream": lambda **o: WsClient[u32].stream(FAR, **o),
}
TAKES = {
    "Server.bind": Server.bind,
    "WsServer.bind": WsServer.bind,
    "Client.connect": Client.connect,
    "WsClient.connect": WsClient.connect,
    "WsClient.stream": WsClient.connect,
}
BAD: list[Any] = [True, "16M", -1, math.nan, -math.inf, 10**400, object(), [1], b"x", 1j]
# Values that are valid for an option. They must stay valid.
RIGHT = {
    "ssl": [True],
    "path": [],
    "origin": ["16M"],
    "origins": [],
    "sock": [],
    "mode": [],
    "reuse_port": [True],
    "proxy": [True, "16M"],  # a host
    "proxy_protocol": [True],
    "forwarded_from": [True],
    "page": [True],
    "record": ["16M"],  # a path
    "foxglove": [True],
    "conflate": [True],
    "max_head_bytes": [10**400],
    "headers": [],
    "response_headers": [],
    "open_timeout": [10**400],
    "progress_timeout": [10**400],
    "ping_interval": [10**400],
    "ping_timeout": [10**400],
    "max_transit": [10**400],
    "keepalive_interval": [10**400],
    "keepalive_timeout": [10**400],
}


def cases() -> list[Any]:
    found = []
    for call, function in TAKES.items():
        names = list(inspect.signature(function).parameters)[1:]
        if call == "WsClient.stream":
            names += ["on_reconnect", "first_delay", "max_delay"]
            names.remove("sock")  # which could be used once; it is no option there
        for name in names:
            for value in BAD:
                if (name, call[-4:]) != ("ssl", "bind") and value in RIGHT.get(name, []):
                    continue
                found.append(pytest.param(call, name, value, id=f"{call}-{name}-{type(value).__name__}"))
    return found


@pytest.mark.parametrize(("call", "name", "value"), cases())
def test_the_error_names_the_option(call: str, name: str, value: Any) -> None:
    """Outside of an event loop: nothing can have begun. A coroutine that was made would warn."""
    with pytest.raises((TypeError, ValueError)) as caught:
        CALLS[call](**{name: value})
    text = str(caught.value)
    assert text.startswith(name), text
    assert len(text) < 400
    del caught


@pytest.mark.parametrize("call", CALLS)
def test_an_option_that_is_none(call: str) -> None:
    with pytest.raises(TypeError, match="max_backlogs"):
        CALLS[call](max_backlogs=1)


def test_a_stream_suggests_the_name_that_was_meant() -> None:
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'ping_intervall'; did you mean 'ping_int"
    ):
        WsClient[u32].stream(FAR, ping_intervall=1)  # type: ignore[call-arg]


def test_a_stream_checks_its_address_at_the_call() -> None:
    for addr in ("nowhere", "127.0.0.1:0", 5):
        with pytest.raises(ValueError, match=r"address|port 0"):
            WsClient[u32].stream(addr)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most max_delay"):
        WsClient[u32].stream(FAR, first_delay=5, max_delay=1)


def test_grammar_is_checked_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"^subprotocols: 'a b'"):
        WsServer[u32].bind(ADDR, subprotocols=["a b"])
    with pytest.raises(ValueError, match=r"^response_headers: 'Upgrade' belongs to the handshake"):
        WsServer[u32].bind(ADDR, response_headers={"Upgrade": "x"})
    with pytest.raises(ValueError, match=r"^headers: not allowed in an HTTP header: 'A'"):
        WsClient[u32].connect(FAR, headers={"A": "b\r\nc"})
    with pytest.raises(ValueError, match=r"^origin: not allowed"):
        WsClient[u32].connect(FAR, origin="a\r\nb")
    with pytest.raises(ValueError, match="ssl is False but"):
        WsClient[u32].connect("wss://localhost", ssl=False)
    with pytest.raises(ValueError, match=r"^path must begin"):
        WsServer[u32].bind(ADDR, path="live")


@pytest.mark.parametrize("kind", [WsServer, Server])
def test_a_client_context_for_a_server(kind: Any) -> None:
    with pytest.raises(ValueError, match="ssl is a context for the other side"):
        kind[u32].bind(ADDR, ssl=ssl.create_default_context())


@pytest.mark.parametrize("kind", [WsServer, Server])
@pytest.mark.parametrize("value", [-1, math.nan, "1", True, None, math.inf])
async def test_a_bad_drain_closes_nothing(kind: Any, value: Any) -> None:
    async with kind[u32].bind(ADDR) as server:
        with pytest.raises((TypeError, ValueError), match=r"^drain is"):
            await server.close(drain=value)
        client = Client if kind is Server else WsClient
        async with client[u32].connect(server.local_addr()) as other:
            await server.wait_clients(1)
            await server.send(5)
            assert await other.recv() == 5


@pytest.mark.parametrize("value", [-1, True, "1", 1.0, None])
async def test_wait_clients(value: Any) -> None:
    async with WsServer[u32].bind(ADDR) as server:
        with pytest.raises((TypeError, ValueError), match=r"^n is .*, expected clients as an int, 0 or more"):
            await server.wait_clients(value)


def test_the_background_server() -> None:
    for factory in (5, "uvloop"):
        with pytest.raises(TypeError, match=r"^loop_factory is .*, expected a function \(\)"):
            serve_background(WsServer[u32].bind(ADDR), loop_factory=factory)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError,
        match=r"takes the result of .*, got <Client\[u32\]\.connect.*a client runs in an event loop",
    ):
        serve_background(Client[u32].connect(FAR))  # type: ignore[arg-type]
    with serve_background(WsServer[u32].bind(ADDR)) as server:
        for value in (-1, math.nan, "1", True, None):
            with pytest.raises((TypeError, ValueError), match=r"^drain is"):
                server.close(drain=value)  # type: ignore[arg-type]
        for value in (math.nan, "1", True):
            with pytest.raises((TypeError, ValueError), match=r"^timeout is"):
                server.recv(value)  # type: ignore[arg-type]
            with pytest.raises((TypeError, ValueError), match=r"^timeout is"):
                server.wait_clients(1, value)  # type: ignore[arg-type]
        for value in (0, -1, "1", True, 1.0):
            with pytest.raises((TypeError, ValueError), match=r"^max is"):
                server.recv_many(value)  # type: ignore[arg-type]
        assert server.client_count() == 0


async def test_progress_timeout_may_be_never() -> None:
    for kind, client in ((WsServer, WsClient), (Server, Client)):
        async with (
            kind[u32].bind(ADDR, progress_timeout=None, ping_interval=None)
            if kind is WsServer
            else kind[u32].bind(ADDR, progress_timeout=None) as server,
            client[u32].connect(server.local_addr()) as other,
        ):
            assert server.progress_timeout == math.inf
            await server.wait_clients(1)
            await server.send(5)
            assert await other.recv() == 5


async def test_everything_huge_works() -> None:
    """What is beyond any use is taken as no limit, by every loop."""
    huge = {"max_backlog": (1 << 63) - 1, "max_message_size": (1 << 63) - 1, "max_keys": (1 << 63) - 1}
    async with WsServer[u32].bind(
        ADDR, open_timeout=math.inf, ping_interval=1e300, close_timeout=1e8, progress_timeout=math.inf, **huge
    ) as server:
        async with WsClient[u32].connect(
            server.local_addr(), open_timeout=1e300, ping_timeout=1e300
        ) as client:
            await server.send(5)
            assert await asyncio.wait_for(client.recv(), 5) == 5


RECORDINGS = [
    (name, value)
    for name in ("split_bytes", "split_seconds", "keep", "seconds", "max_bytes")
    for value in BAD
    if (name, value) != ("split_seconds", 10**400)  # never: all in one file
]


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(("name", "value"), RECORDINGS, ids=repr)
async def test_a_wrong_option_of_a_recording(name: str, value: object, tmp_path: Any) -> None:
    """It is an error of the call, and there is no file."""
    pytest.importorskip("mcap")
    path = tmp_path / "run.mcap"
    async with WsServer[u32].bind(ADDR) as server:
        in_memory = name in ("seconds", "max_bytes")
        call = server.record_last if in_memory else functools.partial(server.record, path)
        with pytest.raises((TypeError, ValueError), match=f"^{name} is .*expected"):
            call(**{name: value})
        if not in_memory:
            with pytest.raises((TypeError, ValueError), match=f"^{name} is .*expected"):
                WsServer[u32].bind(ADDR, record={"path": path, name: value})
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("speed", value) for value in (0, *BAD)] + [("loop", value) for value in BAD if value is not True],
    ids=repr,
)
def test_a_wrong_option_of_a_replay(name: str, value: object, tmp_path: Any) -> None:
    """It is an error before the file is looked for."""
    with pytest.raises((TypeError, ValueError), match=f"^{name} is .*expected"):
        Replay(tmp_path / "none.mcap", **{name: value})
