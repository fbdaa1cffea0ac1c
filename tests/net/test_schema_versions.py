"""Two ends with different types: values are read by the writer's schema, or refused with all differences."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import until
from tcp_peers import ReferencePeer
from websockets.asyncio.client import connect as foreign
from websockets.exceptions import ConnectionClosed as ForeignClosed

from deli_com import (
    Client,
    Codec,
    Schema,
    SchemaMismatch,
    Server,
    WsClient,
    WsServer,
    codec,
    f32,
    u8,
    u16,
    u32,
    u64,
)
from deli_com.schema import terms


def telemetry(**fields: Any) -> Any:
    """A class named Telemetry; values of fields are types, or pairs of a type and a default."""
    body: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "__qualname__": "Telemetry"}
    for name, kind in fields.items():
        if isinstance(kind, tuple):
            kind, body[name] = kind
        body["__annotations__"][name] = kind
    return type(Codec)("Telemetry", (Codec,), body)


ONE = telemetry(a=u32, b=f32)
SWAPPED = telemetry(b=f32, a=u32)
OTHER = telemetry(a=f32, b=u32)
NEWER = telemetry(a=u64, b=f32, c=(u8, 9))
FEWER = telemetry(b=f32)


class Named(Codec):
    a: u32
    b: f32


class Command(Codec):
    speed: u16


CASES = [
    pytest.param(WsServer, WsClient, {}, id="ws"),
    pytest.param(Server, Client, {"schema": "check"}, id="tcp"),
]


@pytest.mark.parametrize(("servers", "clients", "options"), CASES)
class TestBothProtocols:
    async def test_fields_in_another_order_are_read_without_a_word(
        self, servers: Any, clients: Any, options: Any, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.WARNING, "deli_com.server"):
            async with await servers[ONE].bind("127.0.0.1:0") as server:
                async with clients[SWAPPED].connect(server.local_addr(), **options) as client:
                    await server.wait_clients(1)
                    server.send_nowait(ONE(7, 0.5))
                    assert await client.recv() == SWAPPED(b=0.5, a=7)
                    client.send_nowait(SWAPPED(b=1.5, a=8))
                    peer, value = await server.recv_from()
                    assert value == ONE(8, 1.5)
                    assert client.schema.down.how == "resolved"
                    assert client.schema.down.theirs == codec(ONE).schema
                    assert peer.schema.up.how == "resolved" and peer.schema.up.theirs == codec(SWAPPED).schema
                    assert peer.schema.down.how == client.schema.up.how == "unknown"  # the reader's business
        assert not [record for record in caplog.records if record.name.startswith("deli_com.server")]

    async def test_fields_of_other_types_are_refused_at_connect(
        self, servers: Any, clients: Any, options: Any
    ):
        async with await servers[ONE].bind("127.0.0.1:0") as server:
            with pytest.raises(SchemaMismatch) as caught:
                await clients[OTHER].connect(server.local_addr(), **options)
            await until(lambda: server.client_count() == 0)
        text = str(caught.value)
        assert text.startswith("another Telemetry is sent here:\n")
        assert len(caught.value.differences) >= 2
        for words in ("a", "b", "f32 here", "u32 there", "u32 here", "f32 there"):
            assert words in text

    async def test_the_newcomers_case(
        self, servers: Any, clients: Any, options: Any, capsys: pytest.CaptureFixture[str], caplog: Any
    ):
        """Another order: no word of it. Two types swapped: `connect` says which fields have them."""
        with caplog.at_level(logging.DEBUG):
            async with await servers[ONE].bind("127.0.0.1:0") as server:
                async with clients[SWAPPED].connect(server.local_addr(), **options) as client:
                    await server.wait_clients(1)
                    server.send_nowait(ONE(7, 0.5))
                    assert await client.recv() == SWAPPED(b=0.5, a=7)
                    client.send_nowait(SWAPPED(b=1.5, a=8))
                    assert await server.recv() == ONE(8, 1.5)
                quiet = [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO]
                with pytest.raises(SchemaMismatch) as caught:
                    await clients[OTHER].connect(server.local_addr(), **options)
                await until(lambda: server.client_count() == 0)
        assert not [line for line in quiet if "chema" in line]
        assert capsys.readouterr() == ("", "")
        assert str(caught.value) == (
            "another Telemetry is sent here:\n"
            "  a  f32 here, u32 there (the types of a and b are swapped)\n"
            "  b  u32 here, f32 there (the types of b and a are swapped)"
        )
        assert isinstance(caught.value, ValueError) and caught.value.__cause__ is None

    async def test_other_names_of_types_alone_are_no_difference(
        self, servers: Any, clients: Any, options: Any
    ):
        async with await servers[ONE].bind("127.0.0.1:0") as server:
            async with clients[Named].connect(server.local_addr(), **options) as client:
                await server.wait_clients(1)
                assert client.schema.down.how == "renamed"
                server.send_nowait(ONE(7, 0.5))
                assert await client.recv() == Named(7, 0.5)
                client.send_nowait(Named(8, 0.5))
                peer, value = await server.recv_from()
                assert value == ONE(8, 0.5) and peer.schema.up.how == "renamed"

    async def test_a_server_reads_each_client_by_its_own_schema(
        self, servers: Any, clients: Any, options: Any
    ):
        wide = telemetry(a=u64, b=(f32, 0.25), c=(u8, 9))
        newest = telemetry(a=u64, b=f32, c=u8, d=bytes)
        async with (
            await servers[Command, wide].bind("127.0.0.1:0") as server,
            contextlib.AsyncExitStack() as stack,
        ):
            old = await stack.enter_async_context(
                clients[Command, telemetry(a=u32)].connect(server.local_addr(), **options)
            )
            middle = await stack.enter_async_context(
                clients[Command, telemetry(b=f32, a=u32)].connect(server.local_addr(), **options)
            )
            new = await stack.enter_async_context(
                clients[Command, newest].connect(server.local_addr(), **options)
            )
            silent = await stack.enter_async_context(
                clients[Command, wide].connect(server.local_addr(), schema=None)
            )
            await server.wait_clients(4)
            for n in range(3):
                old.send_nowait(telemetry_of(old)(n))
                middle.send_nowait(telemetry_of(middle)(b=1.5, a=n))
                new.send_nowait(telemetry_of(new)(n, 2.5, 3, b"dropped"))
                silent.send_nowait(wide(n, 3.5, 4))
            got = sorted((value.b, value.a, value.c) for value in [await server.recv() for _ in range(12)])
            server.send_nowait(Command(5))
            for client in (old, middle, new, silent):
                assert await client.recv() == Command(5)
        assert got == [(b, n, c) for b, c in ((0.25, 9), (1.5, 9), (2.5, 3), (3.5, 4)) for n in range(3)]

    async def test_what_a_server_cannot_read_is_refused_with_4400_and_told_once(
        self, servers: Any, clients: Any, options: Any, caplog: pytest.LogCaptureFixture
    ):
        gone: list[Any] = []

        def left(peer: Any, why: Any) -> None:
            gone.append(why)

        async with await servers[Command, ONE].bind("127.0.0.1:0", on_disconnect=left) as server:
            for _ in range(3):
                client = await clients[Command, OTHER].connect(server.local_addr(), **options)
                with pytest.raises(SchemaMismatch, match="the server refuses the Telemetry") as caught:
                    await client.recv()
                assert any("u32 here" in line for line in caught.value.differences)
                with pytest.raises(SchemaMismatch):
                    client.send_nowait(OTHER(1.0, 2))
                await client.close()
            await until(lambda: len(gone) == 3)
        assert {why.cause for why in gone} == {"refused"}
        if servers is WsServer:
            assert {why.code for why in gone} == {4400}
        warnings = [r for r in caplog.records if r.name == "deli_com.server" and r.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert "another Telemetry is sent here" in warnings[0].getMessage()

    async def test_values_sent_at_once_behind_another_schema_are_read(
        self, servers: Any, clients: Any, options: Any
    ):
        async with await servers[Command, NEWER].bind("127.0.0.1:0") as server:
            async with clients[Command, ONE].connect(server.local_addr(), **options) as client:
                for n in range(1000):
                    client.send_nowait(ONE(n, 0.5))
                for n in range(1000):
                    assert await server.recv() == NEWER(n, 0.5, 9)
                assert server.stats().messages_in == 1000

    async def test_variants_that_the_reader_lacks_are_passed_over_and_counted(
        self, servers: Any, clients: Any, options: Any
    ):
        theirs, own = messages(3), messages(1)
        async with await servers[theirs].bind("127.0.0.1:0") as server:
            async with clients[own].connect(server.local_addr(), **options) as client:
                await server.wait_clients(1)
                for n in range(9):
                    server.send_nowait(variants(theirs)[n % 3](n))
                for n in (0, 3, 6):
                    assert await client.recv() == variants(own)[0](n)
                await until(lambda: client.stats().unknown == 6)
                client.send_nowait(variants(own)[0](7))
                assert await server.recv() == variants(theirs)[0](7)
                assert server.stats().unknown == 0


def telemetry_of(client: Any) -> Any:
    return type(client)._types[1]


def messages(count: int) -> Any:
    """A sealed class Message of so many variants."""

    class Message(Codec, sealed=True):
        pass

    for n in range(count):
        name = f"Kind{n}"
        body = {"__annotations__": {"n": u32}, "__module__": __name__, "__qualname__": name}
        type(Codec)(name, (Message,), body)
    return Message


def variants(message: Any) -> list[Any]:
    return sorted(message.__subclasses__(), key=lambda cls: cls.__name__)


def url(server: WsServer[Any, Any]) -> str:
    return f"ws://{server.local_addr()}/"


def header(down: str, up: str) -> dict[str, str]:
    return {"Deli-Schema": f"1 down={down} up={up}"}


def text_of(schema: Schema) -> str:
    return f"deli 1 schema up {schema.hash}\n{schema.text}"


class TestForeignClient:
    async def test_its_own_schema_is_read_and_its_values_right_behind(self):
        own = codec(SWAPPED).schema
        async with await WsServer[Command, ONE].bind("127.0.0.1:0") as server:
            async with foreign(url(server), additional_headers=header("?", own.hash)) as peer:
                await peer.send(text_of(own))
                await peer.send(struct.pack("<fI", 0.5, 7))
                assert await server.recv() == ONE(7, 0.5)

    async def test_the_refusal_has_all_differences_and_the_close_the_first(self):
        own, down = codec(OTHER).schema, codec(Command).schema
        async with await WsServer[Command, ONE].bind("127.0.0.1:0") as server:
            async with foreign(url(server), additional_headers=header(down.hash, own.hash)) as peer:
                await peer.send(text_of(own))
                assert await peer.recv() == "deli 1 live"
                refused = str(await peer.recv())
                with pytest.raises(ForeignClosed) as caught:
                    await peer.recv()
        head, *differences = refused.split("\n")
        assert head == "deli 1 refused" and len(differences) >= 2
        close = caught.value.rcvd
        assert close is not None and close.code == 4400
        assert close.reason and differences[0].startswith(close.reason)

    async def test_its_refusal_is_told_once_and_it_has_left(self, caplog: pytest.LogCaptureFixture):
        gone: list[Any] = []

        def left(peer: Any, why: Any) -> None:
            gone.append(why)

        async with await WsServer[ONE].bind("127.0.0.1:0", on_disconnect=left) as server:
            for _ in range(3):
                async with foreign(url(server), additional_headers=header("?", "-")) as peer:
                    await peer.recv()
                    await peer.send("deli 1 refused\nmade up\nand more")
                    await peer.close(4400, "made up")
            await until(lambda: len(gone) == 3)
        assert {(why.cause, why.code) for why in gone} == {("left", 4400)}
        told = [r.getMessage() for r in caplog.records if "made up" in r.getMessage()]
        assert len(told) == 1 and "and more" in told[0]

    async def test_a_text_with_other_notes_is_the_same_schema(self):
        own = codec(SWAPPED).schema
        noted = own.text.replace("struct Telemetry", "struct Telemetry @later(1)")
        assert noted != own.text and Schema.parse(noted).hash == own.hash
        async with await WsServer[Command, ONE].bind("127.0.0.1:0") as server:
            for text in (own.text, noted, own.text):
                async with foreign(url(server), additional_headers=header("?", own.hash)) as peer:
                    await peer.send(f"deli 1 schema up {own.hash}\n{text}")
                    await peer.send(struct.pack("<fI", 0.5, 7))
                    assert await server.recv() == ONE(7, 0.5)
            (known,) = server.terms._known.values()
            assert server.terms._known_bytes == known.size and known.users == 0


async def until_closed(peer: Any) -> AsyncIterator[Any]:
    """What comes up to the end, whatever the close code."""
    with contextlib.suppress(ForeignClosed):
        while True:
            yield await peer.recv()


class TestBounds:
    """However many other schemas come: 64 are held, those in use included."""

    @pytest.mark.limit(60)
    async def test_a_flood_of_schemas_is_held_to_64(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(terms, "MAX_KNOWN", 8)
        async with await WsServer[Command, FEWER].bind("127.0.0.1:0") as server:
            for n in range(20):
                kind = telemetry(b=f32, **{f"x{n}": u8})
                async with WsClient[Command, kind].connect(server.local_addr()) as one:
                    one.send_nowait(kind(0.5, 1))
                    assert await server.recv() == FEWER(0.5)
                await until(lambda: server.client_count() == 0)
            assert len(server.terms._known) == 8

    @pytest.mark.limit(60)
    async def test_where_all_are_in_use_one_more_is_told_to_come_again(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(terms, "MAX_KNOWN", 3)
        async with (
            await WsServer[Command, FEWER].bind("127.0.0.1:0") as server,
            contextlib.AsyncExitStack() as stack,
        ):
            for n in range(3):
                kind = telemetry(b=f32, **{f"x{n}": u8})
                one = await stack.enter_async_context(WsClient[Command, kind].connect(server.local_addr()))
                one.send_nowait(kind(0.5, 1))
                await server.recv()
            own = codec(telemetry(b=f32, x3=u8)).schema
            async with foreign(url(server), additional_headers=header("?", own.hash)) as peer:
                await peer.send(text_of(own))
                assert [text async for text in until_closed(peer)][-1] == "deli 1 live"
                assert peer.close_code == 1013
            again = await stack.enter_async_context(WsClient[Command, kind].connect(server.local_addr()))
            again.send_nowait(kind(0.5, 1))  # a known one has room
            assert await server.recv() == FEWER(0.5)
        assert not any(known.users for known in server.terms._known.values())

    async def test_their_text_is_held_to_a_mebibyte(self):
        async with await WsServer[Command, FEWER].bind("127.0.0.1:0") as server:
            for n in range(8):
                fields = "".join(f" {'y' * 120}{i} u8\n" for i in range(1600))
                own = Schema.parse(f"deli 1\nroot T{n}\nstruct T{n}\n b f32\n{fields}")
                assert 200_000 < len(own.text) < 262_000
                async with foreign(url(server), additional_headers=header("?", own.hash)) as peer:
                    await peer.send(text_of(own))
                    await peer.send(struct.pack("<f", 0.5) + bytes(1600))
                    assert await server.recv() == FEWER(0.5)
                await until(lambda: server.client_count() == 0)
                assert server.terms._known_bytes <= 1 << 20
            assert len(server.terms._known) < 8

    async def test_what_peers_make_up_is_neither_kept_nor_logged_whole(
        self, caplog: pytest.LogCaptureFixture
    ):
        """A refusal of 200 KiB, and of each kind one line of the log."""
        async with await WsServer[ONE].bind("127.0.0.1:0") as server:
            for n in range(2):
                async with foreign(url(server), additional_headers=header("?", "-")) as peer:
                    await peer.send("deli 1 refused\n" + "\n".join(f"{n}{'y' * 99}{i}" for i in range(2000)))
                    await peer.ping()
                    await peer.close()
                await until(lambda: server.client_count() == 0)
            told = [r.getMessage() for r in caplog.records if "has refused" in r.getMessage()]
            assert len(told) == 2 and all(len(text) < 5000 and "(2000 differences)" in text for text in told)
            assert all(isinstance(kind, int) for kind in server.terms._warned)

    async def test_at_most_256_kinds_are_told(self, monkeypatch: pytest.MonkeyPatch, caplog: Any):
        monkeypatch.setattr(terms, "MAX_WARNED", 3)
        async with await WsServer[ONE].bind("127.0.0.1:0") as server:
            for n in range(6):
                async with foreign(url(server), additional_headers=header("?", "-")) as peer:
                    await peer.send(f"deli 1 refused\nkind {n}")
                    await peer.close()
                await until(lambda: server.client_count() == 0)
        assert sum("has refused" in r.getMessage() for r in caplog.records) == 3


class TestStream:
    async def test_a_newer_server_is_read_anew_and_told(self, caplog: pytest.LogCaptureFixture):
        server = await WsServer[ONE].bind("127.0.0.1:0")
        address = server.local_addr()
        with caplog.at_level(logging.INFO, "deli_com.client"):
            async with WsClient[ONE].stream(address, first_delay=0.01, max_delay=0.05) as values:
                step = asyncio.ensure_future(anext(values))
                await server.wait_clients(1)
                server.send_nowait(ONE(1, 0.5))
                assert await step == ONE(1, 0.5)
                assert values.client is not None and values.client.schema.down.how == "same"
                await server.close()
                async with await WsServer[SWAPPED].bind(address) as newer:
                    step = asyncio.ensure_future(anext(values))
                    await newer.wait_clients(1)
                    newer.send_nowait(SWAPPED(b=1.5, a=2))
                    assert await step == ONE(2, 1.5)
                    assert values.client.schema.down.how == "resolved"
        told = [r for r in caplog.records if "another schema than before" in r.getMessage()]
        assert len(told) == 1 and told[0].levelno == logging.INFO

    async def test_a_mismatch_ends_it(self):
        async with await WsServer[ONE].bind("127.0.0.1:0") as server:
            async with WsClient[OTHER].stream(server.local_addr()) as values:
                with pytest.raises(SchemaMismatch):
                    await anext(values)
                with pytest.raises(StopAsyncIteration):
                    await anext(values)

    async def test_a_refusal_ends_it(self):
        async with await WsServer[Command, ONE].bind("127.0.0.1:0") as server:
            async with WsClient[Command, OTHER].stream(server.local_addr()) as values:
                with pytest.raises(SchemaMismatch, match="the server refuses"):
                    await anext(values)
                with pytest.raises(StopAsyncIteration):
                    await anext(values)
            await until(lambda: server.client_count() == 0)


def framed(*texts: str) -> bytes:
    return b"".join(b"\xff\xff\xff\xff" + struct.pack("<I", len(t.encode())) + t.encode() for t in texts)


class TestTcpByHand:
    async def test_a_refusal_is_the_last_text(self):
        own, down = codec(OTHER).schema, codec(Command).schema
        async with await Server[Command, ONE].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(framed(f"deli 1 hello down={down.hash} up={own.hash}", text_of(own)))
            got = await peer.read_all()
            peer.close()
        answer = f"deli 1 hello down={down.hash} up={codec(ONE).schema.hash}"
        start = framed(answer, "deli 1 live")
        assert got.startswith(start)
        assert got[len(start) + 8 :].startswith(b"deli 1 refused\n")

    async def test_a_schema_in_pieces_and_a_value_behind_it(self):
        own = codec(SWAPPED).schema
        async with await Server[Command, ONE].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            data = framed(f"deli 1 hello down=? up={own.hash}", text_of(own))
            data += struct.pack("<IfI", 8, 0.5, 7)
            for at in range(0, len(data), 11):
                await peer.send(data[at : at + 11])
            assert await server.recv() == ONE(7, 0.5)
            peer.close()
