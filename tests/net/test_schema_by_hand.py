"""Schema negotiation, sentence by sentence of docs/wire.md section 10, with hand-written peers.

Captured bytes check what must not change: the whole session of a peer that announces nothing is the same, to
the last byte, whether the server negotiates schemas or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, until
from peers import (
    ANSWER,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WsPeer,
    accept_token,
    build,
    close_payload,
    dial,
    raw_server,
)
from schema_types import DOWN, OTHER, STATE, UP, Order, Reading, State
from tcp_peers import ReferencePeer, listening, reference_client

from deli_com import (
    Client,
    Codec,
    ConnectionClosed,
    Schema,
    SchemaMismatch,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    codec,
    u8,
    u32,
)

SAYS = f"deli 1 hello down={DOWN.hash} up={UP.hash}"
DOWN_TEXT = f"deli 1 schema down {DOWN.hash}\n{DOWN.text}"
UP_TEXT = f"deli 1 schema up {UP.hash}\n{UP.text}"
LIVE = "deli 1 live"
VALUE = struct.pack("<If", 7, 0.5)


def text(frame: Frame) -> str:
    assert frame.opcode == TEXT and frame.fin and not frame.rsv
    return frame.payload.decode()


def tcp_text(*texts: str) -> bytes:
    parts = [each.encode() for each in texts]
    return b"".join(b"\xff\xff\xff\xff" + struct.pack("<I", len(part)) + part for part in parts)


@contextlib.asynccontextmanager
async def asked(
    server: WsServer[Any, Any], *lines: str, path: str = "/"
) -> AsyncIterator[tuple[str, WsPeer]]:
    """A raw client whose request has these header lines, and the head of the answer."""
    peer = await dial(server.local_addr())
    try:
        head = PLAIN_HEAD.decode().replace("GET / ", f"GET {path} ")[:-2]
        await peer.send_raw("".join([head, *(f"{line}\r\n" for line in lines), "\r\n"]).encode())
        yield (await peer.read_until(b"\r\n\r\n")).decode(), peer
    finally:
        peer.close()


def said(head: str) -> list[str]:
    return re.findall(r"(?im)^deli-schema: (.*)\r$", head)


# --- peers that announce nothing ---


async def silent_websocket(server: WsServer[Any, Any]) -> bytes:
    """All that a client gets which has never heard of schemas, and does much."""
    peer = await dial(server.local_addr())
    await peer.send_raw(PLAIN_HEAD)
    received = await peer.read_until(b"\r\n\r\n")
    await server.wait_clients(1)
    server.send_nowait(State(2, 2.0))
    await peer.send(b"deli 1 later", TEXT)
    await peer.send(b"deli 1 hello down=? up=?"[:12], TEXT)
    await peer.send(b"hello", TEXT, fin=False)
    await peer.send(b" again", CONTINUATION)
    await peer.send(b"\x05")
    assert await server.recv() == Order(5)
    await peer.send(b"deli 1 hello down=? up=?", TEXT)  # too late: a value came before
    server.send_nowait(State(3, 3.0))
    await peer.send(b"still there?", PING)
    await peer.send(close_payload(1000), CLOSE)
    received += await peer.read_all()
    peer.close()
    await until(lambda: server.client_count() == 0)
    assert server.stats().messages_in == 1 and server.stats().refused["unwanted"] == 4
    return received


async def broken_websocket(server: WsServer[Any, Any]) -> bytes:
    """A message over the limit, in fragments."""
    peer = await dial(server.local_addr())
    await peer.send_raw(PLAIN_HEAD)
    received = await peer.read_until(b"\r\n\r\n")
    await peer.send(bytes(3000), BINARY, fin=False)
    await peer.send(bytes(3000), CONTINUATION)
    received += await peer.read_all()
    peer.close()
    return received


async def long_frame(server: WsServer[Any, Any]) -> bytes:
    """A message over the limit, in one frame."""
    peer = await dial(server.local_addr())
    await peer.send_raw(PLAIN_HEAD)
    received = await peer.read_until(b"\r\n\r\n")
    await peer.send(bytes(5000))
    received += await peer.read_all()
    peer.close()
    return received


class TestByteForByte:
    @pytest.mark.parametrize("session", [silent_websocket, broken_websocket, long_frame])
    async def test_a_websocket_session_is_what_it_was(
        self, session: Callable[[WsServer[Any, Any]], Awaitable[bytes]]
    ) -> None:
        captured = []
        for schema in (None, "check"):
            async with await WsServer[State, Order].bind(
                "127.0.0.1:0",
                schema=schema,
                max_message_size=4096,  # type: ignore[arg-type]
            ) as server:
                server.send_nowait(State(1, 1.0))
                captured.append(await session(server))
        assert captured[0] == captured[1]
        accepted = ANSWER % accept_token(re.search(rb"Key: (\S+)", PLAIN_HEAD)[1])  # type: ignore[index]
        assert captured[1].startswith(accepted[:34])
        assert b"deli" not in captured[1].lower()
        retained = build(struct.pack("<If", 1, 1.0))
        assert captured[1].count(retained) == 1
        if session is silent_websocket:
            values = [build(struct.pack("<If", n, n)) for n in (1, 2, 3)]
            end = build(b"still there?", PONG) + build(close_payload(1000), CLOSE)
            head, _, rest = captured[1].partition(b"\r\n\r\n")
            assert head.count(b"\r\n") == 3
            assert rest in (
                b"".join(values) + end,
                b"".join(values[:2]) + build(b"still there?", PONG) + values[2],
            )
        else:
            assert captured[1][-80:].count(struct.pack("!H", 1009)) == 1

    async def test_a_tcp_session_is_what_it_was(self) -> None:
        captured = []
        for schema in (None, "check"):
            async with await Server[State, Order].bind("127.0.0.1:0", schema=schema) as server:  # type: ignore[arg-type]
                server.send_nowait(State(1, 1.0))
                async with reference_client(server) as peer:
                    server.send_nowait(State(2, 2.0))
                    await peer.send(b"\1\0\0\0\5")
                    assert await server.recv() == Order(5)
                    server.send_nowait(State(3, 3.0))
                    received = await peer.read_exactly(36)
                    await peer.send(struct.pack("<I", (64 << 20) + 1))
                    captured.append(received + await peer.read_all())
        assert captured[0] == captured[1]
        assert captured[1] == b"".join(b"\x08\0\0\0" + struct.pack("<If", n, n) for n in (1, 2, 3))

    async def test_a_tcp_client_that_was_not_told_to_says_nothing(self) -> None:
        async with listening() as listener:
            async with Client[Reading, Order].connect(listener.address, close_timeout=0.1) as client:
                peer = await listener.accept()
                client.send_nowait(Order(5))
                assert await peer.read_exactly(5) == b"\1\0\0\0\5"
                await peer.send(b"\x08\0\0\0" + VALUE)
                assert await client.recv() == Reading(7, 0.5)
            assert await peer.read_all() == b""
            peer.close()


# --- the announcement ---


class TestAnnouncement:
    @pytest.mark.parametrize(
        "value",
        [
            f"1 down={DOWN.hash} up={UP.hash}",
            f"1 down={DOWN.hash.upper()} up={UP.hash.upper()}",
            f"1 up={UP.hash} down={DOWN.hash}",
            f"1  down={DOWN.hash}   up={UP.hash} later=1",
        ],
    )
    async def test_what_says_the_same_is_answered_in_lower_case_and_by_live(self, value: str) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            async with asked(server, f"deli-SCHEMA: {value}") as (head, peer):
                assert said(head) == [f"1 down={DOWN.hash} up={UP.hash}"]
                assert [text(frame) for frame in await peer.round_trip()] == [LIVE]

    @pytest.mark.parametrize(
        "lines",
        [
            ["Deli-Schema: 1"],
            ["Deli-Schema: 1 down=?"],
            ["Deli-Schema: 1 up=?"],
            ["Deli-Schema: 1 down=- up=?"],
            ["Deli-Schema: 1 down=? up=? down=?"],
            [f"Deli-Schema: 1 down={OTHER[1:]} up=?"],
            [f"Deli-Schema: 1 down={OTHER}0 up=?"],
            [f"Deli-Schema: 1 down={'g' * 32} up=?"],
            [f"Deli-Schema: 1 down:{OTHER} up:{OTHER}"],
            ["Deli-Schema: 1 down=? up=?", "Deli-Schema: 1 down=? up=?"],
            ["Deli-Schema: 2 x", "Deli-Schema: 1 down=? up=?"],
        ],
    )
    async def test_a_malformed_one_is_400_and_reveals_nothing(self, lines: list[str]) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            async with asked(server, *lines) as (head, peer):
                assert head.startswith("HTTP/1.1 400 ") and not said(head)
                body = await peer.read_all()
                assert DOWN.hash.encode() not in body and body
            assert server.stats().turned_away == {400: 1}

    @pytest.mark.parametrize(
        "query",
        [
            "deli=1",
            "deli=1.?",
            "deli=1.-.?",
            "deli=1.?.?.?",
            f"deli=1.{OTHER[1:]}.?",
            "deli=1.?.%",
            "a&deli=1.?.x",
        ],
    )
    async def test_a_malformed_query_is_400(self, query: str) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            async with asked(server, path=f"/?{query}") as (head, _):
                assert head.startswith("HTTP/1.1 400 ")

    async def test_the_header_counts_where_there_is_a_query_too(self) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            line = f"Deli-Schema: 1 down={DOWN.hash} up={UP.hash}"
            async with asked(server, line, path="/?deli=1.?.?") as (head, peer):
                assert said(head) and [text(frame) for frame in await peer.round_trip()] == [LIVE]

    async def test_the_first_parameter_of_that_name_counts(self) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            query = f"deli=1.{DOWN.hash.upper()}.{UP.hash}&deli=1.?.?"
            async with asked(server, path=f"/?{query}") as (_, peer):
                assert [text(frame) for frame in await peer.round_trip()] == [SAYS, LIVE]
                (known,) = server.clients
                assert known.request is not None and known.request.query == query

    async def test_who_may_not_connect_learns_nothing_in_any_form(self) -> None:
        async def no(request: Any) -> bool:
            await asyncio.sleep(0)
            return False

        for options, lines in (
            ({"authorize": lambda request: False}, []),
            ({"authorize": no}, []),
            ({}, ["Origin: https://elsewhere.example"]),
            ({"max_clients": 0}, []),
        ):
            async with await WsServer[Reading, Order].bind(
                "127.0.0.1:0",
                schema="require",
                **options,  # type: ignore[arg-type]
            ) as server:
                for form, path in (
                    (["Deli-Schema: 1 down=? up=?"], "/"),
                    (["Deli-Schema: 1 down=nonsense"], "/"),
                    ([], "/?deli=1.?.?"),
                    ([], "/"),
                ):
                    async with asked(server, *lines, *form, path=path) as (head, peer):
                        status = 503 if "max_clients" in options else 403
                        assert head.startswith(f"HTTP/1.1 {status} "), (options, form)
                        shown = head.encode() + await peer.read_all()
                        assert not said(head) and DOWN.hash.encode() not in shown and b"Reading" not in shown

    async def test_a_path_that_speaks_of_schemas_beside_one_that_does_not(self) -> None:
        async with (
            await WsServer[Reading, Order].bind("127.0.0.1:0", path="/a") as server,
            await WsServer[State, None].bind(server, path="/b") as other,
            await WsServer[State, None].bind(server, path="/c", schema=None),
        ):
            for path, expected in (
                ("/a", [f"1 down={DOWN.hash} up={UP.hash}"]),
                ("/b", [f"1 down={STATE.hash} up=-"]),
                ("/c", []),
            ):
                async with asked(server, "Deli-Schema: 1 down=? up=?", path=path) as (head, _):
                    assert said(head) == expected
            assert other.local_addr() == server.local_addr()


# --- order of the texts ---


class TestOrder:
    async def test_a_query_with_another_hash_hello_schema_retained_live_values(self) -> None:
        async with await WsServer[State, Order].bind("127.0.0.1:0") as server:
            server.send_nowait(State(1, 1.0))
            async with asked(server, path=f"/?deli=1.{OTHER}.?") as (_, peer):
                await server.wait_clients(1)
                server.send_nowait(State(2, 2.0))
                frames = [await peer.frame() for _ in range(6)]
            texts = [text(frame) for frame in (*frames[:3], frames[4])]
            assert texts == [
                f"deli 1 hello down={STATE.hash} up={UP.hash}",
                f"deli 1 schema down {STATE.hash}\n{STATE.text}",
                UP_TEXT,
                LIVE,
            ]
            assert [struct.unpack("<If", frames[i].payload) for i in (3, 5)] == [(1, 1.0), (2, 2.0)]

    async def test_a_hello_behind_retained_values_is_answered_behind_them(self) -> None:
        async with await WsServer[State, Order].bind("127.0.0.1:0") as server:
            server.send_nowait(State(1, 1.0))
            async with asked(server) as (_, peer):
                assert struct.unpack("<If", (await peer.frame()).payload) == (1, 1.0)
                await peer.send(b"deli 1 hello down=? up=-", TEXT)
                got = [text(frame) for frame in await peer.round_trip()]
                assert [line.split()[2] for line in got] == ["hello", "schema", "live"]
                await peer.send(b"\5")
                _, code, reason = await peer.read_to_close()
                assert code == 1002 and "it announced that it sends none" in reason

    async def test_schemas_of_a_server_that_takes_nothing(self) -> None:
        async with await WsServer[Reading, None].bind("127.0.0.1:0") as server:
            for up in ("?", "-", OTHER):
                async with asked(server, f"Deli-Schema: 1 down={DOWN.hash} up={up}") as (head, peer):
                    assert said(head) == [f"1 down={DOWN.hash} up=-"]
                    await peer.send(f"deli 1 schema up {OTHER}\nwhatever".encode(), TEXT)  # nobody reads it
                    assert [text(frame) for frame in await peer.round_trip()] == [LIVE]
                    (known,) = server.clients
                    assert known.schema.up is None and known.schema.down.how == "same"
                await until(lambda: server.client_count() == 0)

    async def test_texts_are_neither_messages_nor_bytes_of_any(self) -> None:
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", max_message_size=8) as server:
            async with asked(server, f"Deli-Schema: 1 down=? up={OTHER}") as (_, peer):
                wide = Schema.parse("deli 1\nroot O\nstruct O\n more str\n code u8\n")
                assert len(wide.text) > 8
                await peer.send(b"deli 1 later " + bytes(100), TEXT)
                assert len(await peer.round_trip()) == 2
                stats = server.stats()
                assert (stats.messages_in, stats.bytes_in, stats.messages_out, stats.bytes_out) == (
                    0,
                    0,
                    0,
                    0,
                )
                assert stats.refused["unwanted"] == 0

    async def test_a_long_schema_behind_a_hello_comes_in_fragments_where_values_are_short(self) -> None:
        """`max_message_size` also limits the frames of a client that has announced its schema so."""
        fields = "".join(f" field_{i} u8\n" for i in range(200))
        own = Schema.parse(f"deli 1\nroot O\nstruct O\n{fields} code u8\n")
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", max_message_size=300) as server:
            async with asked(server) as (_, peer):
                await peer.send(f"deli 1 hello down={DOWN.hash} up={own.hash}".encode(), TEXT)
                data = f"deli 1 schema up {own.hash}\n{own.text}".encode()
                pieces = [data[i : i + 300] for i in range(0, len(data), 300)]
                await peer.send(pieces[0], TEXT, fin=False)
                for piece in pieces[1:-1]:
                    await peer.send(piece, CONTINUATION, fin=False)
                await peer.send(pieces[-1], CONTINUATION)
                await peer.send(bytes(200) + b"\5")
                assert await server.recv() == Order(5)
                (known,) = server.clients
                assert known.schema.up.how == "resolved" and known.schema.up.theirs == own

    async def test_binary_messages_are_values_whatever_they_begin_with(self) -> None:
        async with await WsServer[Reading, bytes].bind("127.0.0.1:0") as server:
            line = f"Deli-Schema: 1 down=? up={codec(bytes).schema.hash}"
            async with asked(server, line) as (_, peer):
                assert await peer.round_trip()
                value = b"deli 1 live"
                await peer.send(struct.pack("<I", len(value)) + value)
                assert await server.recv() == value

    @pytest.mark.parametrize("size", [11, 1 << 20])
    async def test_several_things_in_one_read_keep_their_order(self, size: int) -> None:
        """A hello, the schema, and values of that, in pieces and in one."""
        own = Schema.parse("deli 1\nroot O\nstruct O\n pad u8\n code u8\n")
        frames = [
            build(f"deli 1 hello down={DOWN.hash} up={own.hash}".encode(), TEXT, mask=bytes(4)),
            build(f"deli 1 schema up {own.hash}\n{own.text}".encode(), TEXT, mask=bytes(4)),
            *(build(bytes([0, n]), mask=b"abcd") for n in range(50)),
        ]
        data = b"".join(frames)
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            async with asked(server) as (_, peer):
                for at in range(0, len(data), size):
                    await peer.send_raw(data[at : at + size])
                assert [(await server.recv()).code for _ in range(50)] == [*range(50)]


# --- refusals ---

LONG = "x" * 128
EXPECTED = f"- {LONG}  u8, only here and without a default"


class Demanding(Codec):
    x: u8


LONG_NAMED: Any = type(Codec)(
    "Demanding", (Codec,), {"__module__": __name__, "__annotations__": {LONG: u8, "y": u32}}
)


async def answered(server: Any, down: str, up: str, *texts: str) -> WsPeer:
    """Answer the request of a client of ours with these hashes, and say these texts."""
    peer: WsPeer = await server.accept(answer=None)
    head = await peer.read_until(b"\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.IGNORECASE)
    assert key
    line = f"Deli-Schema: 1 down={down} up={up}\r\n\r\n".encode()
    data = (ANSWER % accept_token(key[1]))[:-2] + line
    await peer.send_raw(data + b"".join(build(each.encode(), TEXT) for each in texts))
    return peer


async def connected(opening: Any) -> Any:
    return await opening


class TestRefusal:
    async def test_of_a_client_every_byte(self) -> None:
        there = Schema.parse("deli 1\nroot Demanding\nstruct Demanding\n y i32\n")
        sent = f"deli 1 schema down {there.hash}\n{there.text}"
        async with raw_server() as server:
            opening = asyncio.ensure_future(connected(WsClient[LONG_NAMED, None].connect(server.address)))
            peer = await answered(server, there.hash, "-", sent)
            frames = [await peer.frame(), await peer.frame()]
            peer.close()
            with pytest.raises(SchemaMismatch) as caught:
                await opening
        lines = [
            f"y{' ' * 127}  u32 here, i32 there (signed there)",
            f"- {LONG}  u8, only here and without a default",
        ]
        assert caught.value.differences == lines
        assert frames[0] == Frame(TEXT, ("deli 1 refused\n" + "\n".join(lines)).encode(), masked=True)
        assert frames[1] == Frame(CLOSE, close_payload(4400, lines[0].encode()[:123]), masked=True)
        assert len(frames[1].payload) == 125  # all that a CLOSE can hold

    async def test_of_a_server_every_byte(self) -> None:
        own = Schema.parse("deli 1\nroot Demanding\nstruct Demanding\n y u32\n")
        async with await WsServer[Reading, LONG_NAMED].bind("127.0.0.1:0") as server:
            async with asked(server, f"Deli-Schema: 1 down=? up={own.hash}") as (_, peer):
                await peer.send(f"deli 1 schema up {own.hash}\n{own.text}".encode(), TEXT)
                await peer.send(b"\1\0\0\0")  # which nobody decodes any more
                frames = [await peer.frame() for _ in range(4)]
                await peer.send(close_payload(4400), CLOSE)
                assert await peer.read_all() == b""
            assert server.stats().messages_in == 0 and server.stats().refused["undecodable"] == 0
        assert [text(frame).split()[2] for frame in frames[:2]] == ["schema", "live"]
        assert frames[2] == Frame(TEXT, f"deli 1 refused\n{EXPECTED}".encode())
        assert frames[3] == Frame(CLOSE, close_payload(4400, EXPECTED.encode()[:123]))

    async def test_of_a_tcp_client_every_byte(self) -> None:
        there = Schema.parse("deli 1\nroot Demanding\nstruct Demanding\n y u8\n")
        async with listening() as listener:
            opening = asyncio.ensure_future(
                connected(Client[Demanding, Order].connect(listener.address, schema="check"))
            )
            peer = await listener.accept()
            await peer.send(
                tcp_text(
                    f"deli 1 hello down={there.hash} up={UP.hash}",
                    f"deli 1 schema down {there.hash}\n{there.text}",
                )
            )
            received = await peer.read_all()
            peer.close()
            with pytest.raises(SchemaMismatch) as caught:
                await opening
        (line,) = caught.value.differences
        assert line == (
            "- x  u8, only here and without a default (in its place there is y; if renamed: "
            'field(renamed_from="y"))'
        )
        hello = f"deli 1 hello down={codec(Demanding).schema.hash} up={UP.hash}"
        assert received == tcp_text(hello, f"deli 1 refused\n{line}")

    @pytest.mark.parametrize(
        ("told", "words"),
        [
            (f"deli 1 schema down {OTHER}\n{DOWN.text}", "has the hash"),
            (f"deli 1 schema down {DOWN.hash}\n{DOWN.text}", "another hash than was announced"),
            (f"deli 1 schema down {OTHER}\nnonsense", "not a schema"),
            (f"deli 1 schema down {OTHER}", "not a schema"),
            (f"deli 1 schema up {OTHER}\n{UP.text}", "what this end sends"),
            (SAYS, "a second hello"),
        ],
    )
    async def test_a_server_that_breaks_the_protocol_is_left_with_1002(self, told: str, words: str) -> None:
        async with raw_server() as server:
            opening = asyncio.ensure_future(connected(WsClient[Reading, Order].connect(server.address)))
            peer = await answered(server, OTHER, UP.hash, told)
            frame = await peer.frame()
            assert frame.opcode == CLOSE and frame.close_code == 1002 and words in frame.payload[2:].decode()
            peer.close()
            with pytest.raises(ConnectionClosed, match=words):
                await opening

    async def test_a_schema_that_nobody_needs_and_texts_that_nobody_knows(self) -> None:
        async with raw_server() as server:
            opening = asyncio.ensure_future(connected(WsClient[Reading, Order].connect(server.address)))
            peer = await answered(server, DOWN.hash, UP.hash, "deli 1 later", LIVE, "deli 1 ", "something")
            client = await opening
            assert client.schema.down.how == client.schema.up.how == "same"
            await peer.send(VALUE)
            assert await client.recv() == Reading(7, 0.5)
            assert client.stats().messages_in == 1 and client.stats().refused["unwanted"] == 1
            await peer.send(DOWN_TEXT.encode(), TEXT)
            frame = await peer.frame()
            assert frame.close_code == 1002 and b"too late, or not needed" in frame.payload
            peer.close()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            await client.close()

    @pytest.mark.parametrize("answer", [f"1 down={OTHER} up=?", "1 down=? up=-", "1 down", "1"])
    async def test_an_answer_that_asks_back_or_is_none(self, answer: str) -> None:
        async with raw_server() as server:
            opening = asyncio.ensure_future(connected(WsClient[Reading, Order].connect(server.address)))
            peer: WsPeer = await server.accept(answer=None)
            head = await peer.read_until(b"\r\n\r\n")
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.IGNORECASE)
            assert key
            await peer.send_raw(
                (ANSWER % accept_token(key[1]))[:-2] + f"Deli-Schema: {answer}\r\n\r\n".encode()
            )
            with pytest.raises(WebSocketError, match="Deli-Schema header"):
                await opening


class TestWhereNothingGoesUp:
    async def test_a_client_says_no_schema_to_a_server_that_takes_nothing(self) -> None:
        async with raw_server() as server:
            opening = asyncio.ensure_future(connected(WsClient[Reading, Order].connect(server.address)))
            peer = await answered(server, DOWN.hash, "-")
            client = await opening
            assert client.schema.up is not None and client.schema.up.how == "unknown"
            client.send_nowait(Order(5))
            client.flush()
            assert await peer.frame() == Frame(BINARY, b"\5", masked=True)
            peer.close()
            await client.close()

    async def test_there_is_no_schema_of_what_is_not_sent(self) -> None:
        async with await WsServer[Reading, None].bind("127.0.0.1:0") as server:
            async with asked(server) as (_, _):
                await server.wait_clients(1)
                (known,) = server.clients
                assert known.schema.up is None and known.schema.down.how == "unknown"
            for schema in ("check", None):
                async with WsClient[Reading, None].connect(server.local_addr(), schema=schema) as client:  # type: ignore[arg-type]
                    assert client.schema.up is None
            async with WsClient[State, None].connect(server.local_addr(), schema=None) as client:
                assert client.schema.up is None and client.schema.down.how == "unknown"

    async def test_of_another_schema_down_up_is_none_all_the_same(self) -> None:
        class Part(Codec):
            a: u32

        async with await WsServer[Reading, None].bind("127.0.0.1:0") as server:
            async with WsClient[Part, None].connect(server.local_addr()) as client:
                assert client.schema.up is None and client.schema.down.how == "resolved"
                (known,) = server.clients
                assert known.schema.up is None and known.schema.down.how == "unknown"


class TestTcpByHand:
    async def test_marks_are_answered_in_turn_also_where_many_come(self) -> None:
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            marks = [f"{n:016x}" for n in range(50)]
            await peer.send(tcp_text(SAYS) + tcp_text(*(f"deli 1 mark {mark}" for mark in marks)))
            expected = tcp_text(SAYS, LIVE, *(f"deli 1 seen {mark}" for mark in marks))
            assert await peer.read_exactly(len(expected)) == expected
            peer.close()

    async def test_a_control_text_is_no_message_of_4_gib_where_that_may_be(self) -> None:
        """The largest length is that of none, whatever `max_message_size` says."""
        most = (1 << 32) - 1
        async with await Server[Reading, Order].bind("127.0.0.1:0", max_message_size=most) as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(tcp_text(SAYS))
            assert await peer.read_exactly(len(tcp_text(SAYS, LIVE))) == tcp_text(SAYS, LIVE)
            peer.close()
            async with Client[Reading, Order].connect(
                server.local_addr(), schema="check", max_message_size=most
            ) as client:
                assert client.schema.down.how == "same"

    @pytest.mark.parametrize("size", [7, 1 << 20])
    async def test_values_before_the_hello_are_read_by_the_schema_behind_it(self, size: int) -> None:
        """They are no values that came before their schema; those between hello and schema are."""
        there = Schema.parse("deli 1\nroot R\nstruct R\n b f32\n a u16\n")
        hello = tcp_text(f"deli 1 hello down={there.hash} up={UP.hash}")
        schema = tcp_text(f"deli 1 schema down {there.hash}\n{there.text}")
        values = [b"\x06\0\0\0" + struct.pack("<fH", 0.5, n) for n in range(9)]
        async with listening() as listener:
            for between in ([], values[7:]):
                opening = asyncio.ensure_future(
                    connected(
                        Client[Reading, Order].connect(listener.address, schema="check", close_timeout=0.1)
                    )
                )
                peer = await listener.accept()
                data = b"".join([*values[:7], hello, *between, schema, *values[7:]])
                with contextlib.suppress(ConnectionError):
                    for at in range(0, len(data), size):
                        await peer.send(data[at : at + size])
                if between:
                    with pytest.raises(ConnectionClosed, match="a value before the schema"):
                        await opening
                else:
                    client = await opening
                    assert [await client.recv() for _ in range(9)] == [Reading(n, 0.5) for n in range(9)]
                    assert client.stats().messages_in == 9 and client.schema.down.how == "resolved"
                    await client.close()
                peer.close()

    async def test_a_mark_before_the_hello_ends_it(self) -> None:
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(tcp_text("deli 1 mark 0000000000000000"))
            assert await peer.read_all() == b""
            peer.close()

    async def test_text_that_is_no_control_text_is_counted_and_passed_over(self) -> None:
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(tcp_text(SAYS, "anything", "", "deli 1") + b"\1\0\0\0\5")
            assert await server.recv() == Order(5)
            assert server.stats().refused["unwanted"] == 3 and server.stats().messages_in == 1
            peer.close()

    async def test_a_schema_after_values_ends_it(self, caplog: pytest.LogCaptureFixture) -> None:
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(tcp_text(SAYS) + b"\1\0\0\0\5" + tcp_text(UP_TEXT))
            assert await peer.read_all() == tcp_text(SAYS, LIVE)
            assert await server.recv() == Order(5)
            peer.close()
        assert "too late" in caplog.text


# --- many of them ---


class TestMany:
    @pytest.mark.limit(60)
    async def test_questions_on_one_connection_after_another_leave_nothing(self) -> None:
        """`bench/schema_flood.py` does it a hundred thousand times."""
        async with await WsServer[Reading, Order].bind("127.0.0.1:0") as server:
            for n in range(300):
                form = ["Deli-Schema: 1 down=? up=?"] if n % 3 else []
                path = "/?deli=1.?.?" if n % 3 == 0 else "/"
                async with asked(server, *form, path=path) as (_, peer):
                    frames = await peer.round_trip()
                    assert text(frames[-1]) == LIVE and len(frames) == (3 if n % 3 else 4)
            await until(lambda: server.client_count() == 0)
            assert not server.terms._known and not server.terms._warned
            assert server.quota.buffered == 0
