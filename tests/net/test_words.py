"""The texts about connections: errors, log records and help."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import pydoc
import re
import socket
import ssl
import threading
import typing
from typing import Any

import pytest
import trustme
from helpers import LIMIT_S, PLAIN_HEAD, RawPeer, certificates, until
from proxy import fault_proxy

import deli_com
import deli_com.gen
from deli_com import (
    BacklogFull,
    Client,
    Codec,
    ComError,
    IoError,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    field,
    u8,
    u32,
)
from deli_com.metrics import Collector
from deli_com.net.address import Address
from deli_com.net.tls import tls_hint

PAIRS: Any = [pytest.param(WsServer, WsClient, id="ws"), pytest.param(Server, Client, id="tcp")]
ADDR = "127.0.0.1:0"


def public_callables() -> list[Any]:
    """Each public class, its constructor, methods and properties, and each function."""
    found = []
    owners = [
        *(getattr(deli_com, name) for name in deli_com.__all__),
        *(getattr(deli_com.gen, name) for name in deli_com.gen.__all__),
        Collector,
    ]
    for owner in owners:
        if not inspect.isclass(owner):
            if callable(owner) and not isinstance(owner, str) and hasattr(owner, "__name__"):
                found.append(pytest.param(owner, id=owner.__name__))
            continue
        found.append(pytest.param(owner, id=owner.__name__))
        for attribute, function in inspect.getmembers(owner):
            if attribute.startswith("_") or attribute in ("add_note", "with_traceback"):
                continue  # the latter are BaseException's
            if issubclass(owner, int) and attribute in vars(int):
                continue  # Python's own
            if isinstance(function, property):
                function = function.fget
            if callable(function):
                found.append(pytest.param(function, id=f"{owner.__name__}.{attribute}"))
    return found


@pytest.mark.parametrize("function", public_callables())
def test_type_hints_resolve(function: Any) -> None:
    if typing.get_origin(function) is None:  # u8 and its kind are annotations themselves
        typing.get_type_hints(function)


@pytest.mark.parametrize("function", public_callables())
def test_signatures_are_readable(function: Any) -> None:
    if typing.get_origin(function) is not None or function in (ComError, IoError):
        return  # exceptions without attributes have Python's own constructor
    text = str(inspect.signature(function))
    assert " at 0x" not in text, text
    assert pydoc.plain(pydoc.render_doc(function)).strip()


def test_a_factory_is_shown_as_that_of_a_dataclass() -> None:
    class Box(Codec):
        items: list[u8] = field(default_factory=list)

    assert str(inspect.signature(Box)).count("= <factory>") == 1


@pytest.mark.parametrize("kind", [WsServer, Server])
async def test_a_port_that_this_process_holds(kind: Any) -> None:
    async with kind[u32].bind(ADDR) as server:
        with pytest.raises(IoError, match="in use, by this process"):
            await kind[u32].bind(server.local_addr())


@pytest.mark.parametrize(("kind", "client"), [(WsServer, WsClient), (Server, Client)])
async def test_what_send_and_recv_return_says_what_to_do(kind: Any, client: Any) -> None:
    async with kind[u32].bind(ADDR) as server:
        sending, receiving = server.send(1), server.recv()
        assert "await" in repr(sending) and "queued already" in repr(sending)
        assert repr(receiving) == "<recv(), not awaited: no value has been taken; `await` it>"
        assert repr(server.recv_many(5)).startswith("<recv_many(), not awaited")
        assert repr(server.recv_from()).startswith("<recv_from(), not awaited")
        await sending
        receiving.close()
        assert repr(receiving) == "<recv(), ended>"


async def test_a_loop_that_never_awaits_is_told_so() -> None:
    async with WsServer[bytes].bind(ADDR) as server, WsClient[bytes].connect(server.local_addr()):

        def flood() -> None:
            for _ in range(100):
                server.send_nowait(bytes(1 << 20))

        with pytest.raises(
            BacklogFull, match="the event loop has not run since they were sent: `a"
        ) as caught:
            flood()
        assert caught.value.hint


@pytest.mark.parametrize(("kind", "client"), [(WsServer, WsClient), (Server, Client)])
async def test_who_comes_and_goes_is_logged(kind: Any, client: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    async with kind[u32].bind(ADDR) as server:
        async with client[u32].connect(server.local_addr()):
            await server.wait_clients(1)
            (peer,) = server.clients
        await server.watchers.until(lambda: server.client_count() == 0)
    lines = [
        r.getMessage() for r in caplog.records if r.name == "deli_com.server" and r.levelno == logging.INFO
    ]
    assert len([line for line in lines if line.startswith(f"{peer.remote_addr} connected")]) == 1
    assert len([line for line in lines if line.startswith(f"{peer.remote_addr} is gone (left): ")]) == 1
    assert not [r for r in caplog.records if r.name == "deli_com.picows" and r.levelno >= logging.INFO]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ((b"GET ", b"GOT "), 405, "a WebSocket handshake is a GET"),
        ((b"Upgrade: websocket", b"Upgrade: h2c"), 426, "Upgrade is 'h2c'"),
        ((b"HTTP/1.1", b"HTTP/1.0"), 505, "nginx needs proxy_http_version 1.1"),
        ((b"GET /", b"GET /other"), 404, "nothing at '/other'"),
        ((b"Host: ", b"Hast: "), 400, "exactly one Host header"),
    ],
)
async def test_a_refused_handshake_is_logged(
    change: tuple[bytes, bytes], status: int, words: str, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    async with WsServer[u32].bind(ADDR, path="/") as server:
        peer = await RawPeer.open(server.local_addr())
        name = Address(*peer.sock.getsockname())
        await peer.send(PLAIN_HEAD.replace(*change))
        await peer.read_all()
        peer.close()
    (record,) = [r for r in caplog.records if r.name == "deli_com.server" and "refused" in r.getMessage()]
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"refused {name}: {status} ")
    assert words in record.getMessage()


async def test_a_flood_of_refused_handshakes_is_counted_and_hides_no_warning(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    origin = PLAIN_HEAD.replace(b"\r\n\r\n", b"\r\nOrigin: http://other.example\r\n\r\n")
    async with WsServer[u32].bind(ADDR, path="/") as server:
        for head in [b"GET /other HTTP/1.1\r\n\r\n"] * 20 + [origin]:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(head)
            await peer.read_all()
            peer.close()
    texts = [r.getMessage() for r in caplog.records if r.name == "deli_com.server"]
    assert 1 <= len([text for text in texts if text.startswith("refused 127.0.0.1:")]) < 20
    assert [text for text in texts if text.startswith("refused a page of origin")]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_loss_without_a_close_frame_has_a_reason_at_both_ends(tls: bool) -> None:
    server_tls, client_tls = certificates() if tls else (None, None)
    reasons: list[str] = []
    async with (
        WsServer[u32].bind(
            ADDR, ssl=server_tls, on_disconnect=lambda peer, why: reasons.append(why.reason)
        ) as server,
        fault_proxy(server.local_addr()) as proxy,
        WsClient[u32].connect(("localhost", proxy.address[1]), ssl=client_tls) as client,
    ):
        await server.wait_clients(1)
        proxy.links[0].down.half_close()
        proxy.links[0].up.half_close()
        with pytest.raises(deli_com.ConnectionClosed, match="the connection ended without notice") as caught:
            await client.recv()
        assert caught.value.code is None
        await until(lambda: bool(reasons))
    assert reasons == ["the connection ended without notice"]


async def test_tls_at_a_plain_server_and_back() -> None:
    tls, trusting = certificates()
    async with WsServer[u32].bind(ADDR) as server:
        addr = ("localhost", server.local_addr().port)
        with pytest.raises(IoError, match=r"does not speak TLS at this port \(ws:// instead of wss://"):
            await WsClient[u32].connect(addr, ssl=trusting)
    async with WsServer[u32].bind(ADDR, ssl=tls) as server:
        with pytest.raises((WebSocketError, deli_com.ConnectionClosed), match="TLS"):
            await WsClient[u32].connect(server.local_addr())


async def test_a_client_of_the_other_kind() -> None:
    async with Server[u32].bind(ADDR) as server:
        with pytest.raises((WebSocketError, deli_com.ConnectionClosed), match="may not speak HTTP"):
            await WsClient[u32].connect(server.local_addr(), open_timeout=5)
    async with WsServer[u32].bind(ADDR) as ws_server, Client[u32].connect(ws_server.local_addr()) as client:
        await client.send(5)
        with pytest.raises((deli_com.MessageTooLarge, deli_com.ConnectionClosed)):
            await client.recv()
        with pytest.raises(deli_com.ConnectionClosed, match=r"HTTP server.*for a WsClient"):
            await client.recv()


@pytest.mark.parametrize("own", [False, True], ids=["python's server", "our server"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize(("kind", "client"), PAIRS)
async def test_a_certificate_that_the_server_wants(kind: Any, client: Any, version: str, own: bool) -> None:
    """With TLS 1.3 the client's part of the handshake is done before the server says so, if it does."""
    authority = trustme.CA()
    wanting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(wanting)
    authority.configure_trust(wanting)
    wanting.verify_mode = ssl.CERT_REQUIRED
    without = ssl.create_default_context()
    authority.configure_trust(without)
    without.maximum_version = ssl.TLSVersion[version]

    async def connect(port: int) -> None:
        with pytest.raises((IoError, deli_com.ConnectionClosed), match=r"want a certificate of this client"):
            async with client[u32].connect(("localhost", port), ssl=without) as opened:
                await opened.recv()

    if own:
        async with kind[u32].bind(ADDR, ssl=wanting) as server:
            await connect(server.local_addr().port)
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted, contextlib.suppress(OSError):
                wanting.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=True)
            ended.wait(LIMIT_S)  # without it a reset could overtake the alert

        ended = threading.Event()
        thread = asyncio.create_task(asyncio.to_thread(serve))
        await connect(listener.getsockname()[1])
        ended.set()
        await thread


async def test_a_certificate_that_the_server_does_not_trust() -> None:
    authority = trustme.CA()
    wanting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(wanting)
    wanting.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(wanting)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    trustme.CA().issue_cert("stranger").configure_cert(context)
    async with WsServer[u32].bind(ADDR, ssl=wanting) as server:
        with pytest.raises((IoError, deli_com.ConnectionClosed)):
            await WsClient[u32].connect(("localhost", server.local_addr().port), ssl=context)
    assert "does not accept the certificate of this client" in tls_hint(
        ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    )


@pytest.mark.parametrize("client", [WsClient, Client])
async def test_tls_at_a_tcp_server_without(client: Any, caplog: Any) -> None:
    """What it begins is a length there, of a message that would never be complete."""
    async with Server[u32].bind(ADDR) as server:
        with pytest.raises(IoError, match="it may not speak TLS at this port"):
            await client[u32].connect(("localhost", server.local_addr().port), ssl=certificates()[1])
    assert "this client begins TLS, which this port does not speak" in caplog.text


async def test_a_message_that_begins_as_tls_does_is_a_message() -> None:
    """Its length is 66,326 bytes, 16 03 01 00, and what follows is none of TLS."""
    async with Server[bytes].bind(ADDR) as server, Client[bytes].connect(server.local_addr()) as client:
        message = bytes(range(256)) * 260
        message = message[: 0x010316 - 4]
        await client.send(message)
        assert await server.recv() == message


async def test_a_tcp_client_whose_server_says_nothing() -> None:
    """As a WsServer does, or one of TLS, to a client that only listens."""
    async with Server[u32].bind(ADDR) as server, Client[u32].connect(server.local_addr()) as client:
        await server.wait_clients(1)
        await server.close()
        with pytest.raises(deli_com.ConnectionClosed, match="it has sent nothing: is it a TCP server"):
            await client.recv()
    async with Server[u32].bind(ADDR) as server, Client[u32].connect(server.local_addr()) as client:
        await server.send(1)
        assert await client.recv() == 1
        await server.close()
        with pytest.raises(deli_com.ConnectionClosed) as caught:
            await client.recv()
        assert "it has sent nothing" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("max_bakclog", "did you mean 'max_backlog'?"),
        ("timeout", "unexpected keyword argument 'timeout'"),
        ("polizy", "policy is an option of a message class"),
        ("retain", "retain is an option of a message class"),
    ],
)
def test_an_option_that_is_none(option: str, words: str) -> None:
    for call in (WsServer[u32].bind, Server[u32].bind):
        with pytest.raises(TypeError, match=rf"Server\[u32\]\.bind\(\) got an .*{re.escape(words)}"):
            call(ADDR, **{option: 1})
    for connect in (WsClient[u32].connect, Client[u32].connect):
        with pytest.raises(TypeError, match=r"Client\[u32\]\.connect\(\) got an unexpected .*'max_inbox'\?"):
            connect(ADDR, max_inbx=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("made", [WsServer, Server, WsClient, Client])
def test_too_many_types(made: Any) -> None:
    name = made.__name__
    for types, got in (((u32, u32, u32), "3: u32, u32, u32"), ((), r"0: \(\)")):
        with pytest.raises(TypeError) as caught:
            made[types]
        words = rf"{name} takes one type or two, {name}\[T\] or {name}\[Down, Up\], got {got}"
        assert re.fullmatch(words, str(caught.value))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (8765, 'write "127.0.0.1:8765"'),
        ("8765", 'write "127.0.0.1:8765"'),
        (":8765", r"0\.0\.0\.0 and \[::\] are all"),
        ("ws://127.0.0.1:8765", "a URL is for clients"),
        ("http://127.0.0.1:8765/", "a URL is for clients"),
    ],
)
def test_an_address_that_is_none(address: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WsServer[u32].bind(address)


def test_a_url_of_pages() -> None:
    with pytest.raises(ValueError, match="scheme 'https'; write wss://"):
        WsClient[u32].connect("https://robot:8765")


async def test_a_stream_says_what_to_do_with_it() -> None:
    async with WsServer[u32].bind(ADDR) as server:
        async with WsClient[u32].stream(server.local_addr()) as values:
            assert "`async for`" in repr(values)
            step = asyncio.ensure_future(anext(values))
            await server.wait_clients(1)
            await server.send(5)
            assert await step == 5
            assert repr(values) == f"<Stream, {values.client!r}>"
    assert repr(values) == "<Stream, closed>"


def test_a_refusal_is_public() -> None:
    assert deli_com.Refusal(403, "no").status == 403
