"""Schema negotiation: every form in which a peer announces its schema, byte by byte, and peers without one.

The foreign peers are `websockets` and raw sockets, which share no code with the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, until
from peers import CLOSE, CONTINUATION, TEXT, Frame, WsPeer, close_payload, dial, raw_server
from schema_types import DOWN, OTHER, UP, Order, Reading, State
from tcp_peers import ReferencePeer, listening, reference_client
from websockets.asyncio.client import connect as foreign
from websockets.exceptions import ConnectionClosed as ForeignClosed
from websockets.exceptions import InvalidStatus

from deli_com import (
    Client,
    Codec,
    ConnectionClosed,
    IoError,
    SchemaMismatch,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    codec,
    u32,
)

HELLO = f"deli 1 hello down={DOWN.hash} up={UP.hash}"
DOWN_TEXT = f"deli 1 schema down {DOWN.hash}\n{DOWN.text}"
UP_TEXT = f"deli 1 schema up {UP.hash}\n{UP.text}"
VALUE = struct.pack("<If", 7, 0.5)
MARKER = b"\xff\xff\xff\xff"


def url(server: WsServer[Any, Any], query: str = "") -> str:
    return f"ws://{server.local_addr()}/{query}"


def header(down: str, up: str) -> dict[str, str]:
    return {"Deli-Schema": f"1 down={down} up={up}"}


async def served() -> WsServer[Reading, Order]:
    return await WsServer[Reading, Order].bind("127.0.0.1:0")


async def texts_and_value(peer: Any, server: WsServer[Any, Any]) -> list[str | bytes]:
    """What comes up to a value that is sent now."""
    await server.wait_clients(1)
    server.send_nowait(Reading(7, 0.5))
    got: list[str | bytes] = []
    while not got or isinstance(got[-1], str):
        got.append(await peer.recv())
    return got


class TestForeignClient:
    """`websockets`, which speaks each form by hand."""

    async def test_equal_hashes_in_the_header_are_answered_in_the_header_and_by_live(self):
        async with await served() as server:
            async with foreign(url(server), additional_headers=header(DOWN.hash, UP.hash)) as peer:
                assert peer.response.headers["Deli-Schema"] == f"1 down={DOWN.hash} up={UP.hash}"
                assert await texts_and_value(peer, server) == ["deli 1 live", VALUE]
                await peer.send(b"\x05")
                assert await server.recv() == Order(5)

    async def test_questions_in_the_header_are_answered_by_both_schemas(self):
        async with await served() as server:
            async with foreign(url(server), additional_headers=header("?", "?")) as peer:
                assert await texts_and_value(peer, server) == [DOWN_TEXT, UP_TEXT, "deli 1 live", VALUE]
                await peer.send(b"\x05")
                assert await server.recv() == Order(5)

    async def test_another_hash_of_down_is_answered_by_the_text(self):
        async with await served() as server:
            async with foreign(url(server), additional_headers=header(OTHER, UP.hash)) as peer:
                assert await texts_and_value(peer, server) == [DOWN_TEXT, "deli 1 live", VALUE]

    async def test_one_that_sends_nothing_says_so(self):
        async with await served() as server:
            async with foreign(url(server), additional_headers=header(DOWN.hash, "-")) as peer:
                assert await texts_and_value(peer, server) == ["deli 1 live", VALUE]
                await peer.send(b"\x05")
                with pytest.raises(ForeignClosed) as caught:
                    await peer.recv()
                assert caught.value.rcvd is not None and caught.value.rcvd.code == 1002

    @pytest.mark.parametrize(
        "query", [f"?deli=1.{DOWN.hash}.{UP.hash}", f"?x=1&deli=1.{DOWN.hash}.{UP.hash}&y"]
    )
    async def test_the_query_form_is_answered_by_a_first_message(self, query: str):
        async with await served() as server:
            async with foreign(url(server, query)) as peer:
                assert "Deli-Schema" not in peer.response.headers
                assert await texts_and_value(peer, server) == [HELLO, "deli 1 live", VALUE]
                (known,) = server.clients
                assert known.request is not None and known.request.query == query[1:]
                await peer.send(b"\x05")
                assert await server.recv() == Order(5)

    async def test_questions_in_the_query(self):
        async with await served() as server:
            for query in ("?deli=1.?.?", "?deli=1.%3F.%3f"):
                async with foreign(url(server, query)) as peer:
                    got = await texts_and_value(peer, server)
                    assert got == [HELLO, DOWN_TEXT, UP_TEXT, "deli 1 live", VALUE]
                await until(lambda: server.client_count() == 0)

    async def test_a_hello_as_first_message_is_answered_like_the_query(self):
        async with await served() as server:
            async with foreign(url(server)) as peer:
                await peer.send("deli 1 hello down=? up=?")
                got = [await peer.recv() for _ in range(4)]
                assert got == [HELLO, DOWN_TEXT, UP_TEXT, "deli 1 live"]
                await peer.send(b"\x05")
                assert await server.recv() == Order(5)

    async def test_an_up_schema_that_the_server_has_is_taken_whatever_its_notes(self):
        """The text has another hash than was told at first only if its names differ; notes do not count."""
        async with await WsServer[Reading, State].bind("127.0.0.1:0") as server:
            state = codec(State).schema
            async with foreign(url(server), additional_headers=header(DOWN.hash, state.hash)) as peer:
                assert await peer.recv() == "deli 1 live"
                await peer.send(struct.pack("<If", 1, 2.0))
                assert await server.recv() == State(1, 2.0)
                (known,) = server.clients
                assert known.schema.up.how == "same"

    async def test_unknown_lines_are_ignored_and_not_counted(self):
        async with await served() as server:
            async with foreign(url(server), additional_headers=header(DOWN.hash, UP.hash)) as peer:
                await peer.send("deli 1 later more=1")
                await peer.send("deli 1 mark 0123456789abcdef")  # which only TCP has
                await peer.send(b"\x05")
                assert await server.recv() == Order(5)
                stats = server.stats()
                assert stats.messages_in == 1 and stats.refused["unwanted"] == 0
                await peer.send("anything else")
                await until(lambda: server.stats().refused["unwanted"] == 1)

    async def test_retained_values_come_between_the_texts_and_live(self):
        async with await WsServer[State].bind("127.0.0.1:0") as server:
            for n in range(3):
                server.send_nowait(State(n, 1.0))
            async with foreign(url(server), additional_headers=header("?", "-")) as peer:
                await server.wait_clients(1)
                server.send_nowait(State(9, 9.0))
                got = [await peer.recv() for _ in range(6)]
        assert got[0].startswith("deli 1 schema down ")
        assert [struct.unpack("<If", value)[0] for value in got[1:4]] == [0, 1, 2]
        assert got[4] == "deli 1 live"
        assert struct.unpack("<If", got[5])[0] == 9

    @pytest.mark.parametrize("count", [1, 200])
    async def test_live_has_its_place_also_where_more_is_retained_than_the_socket_takes(self, count: int):
        async with await WsServer[Blob].bind("127.0.0.1:0") as server:
            for n in range(count):
                server.send_nowait(Blob(n, bytes(50_000)))
            async with foreign(
                url(server), additional_headers=header("?", "-"), max_size=None, max_queue=1
            ) as peer:
                await server.wait_clients(1)
                server.send_nowait(Blob(1000, b""))
                order: list[int | str] = []
                while order[-1:] != [1000]:
                    got = await peer.recv()
                    order.append(got if isinstance(got, str) else struct.unpack_from("<I", got)[0])
        assert order[1:] == [*range(count), "deli 1 live", 1000]

    async def test_each_path_has_its_own(self):
        async with (
            await WsServer[Reading].bind("127.0.0.1:0", path="/a") as first,
            await WsServer[Order].bind(first, path="/b") as second,
        ):
            for path, schema in (("a", DOWN), ("b", UP)):
                address = f"ws://{first.local_addr()}/{path}"
                async with foreign(address, additional_headers=header("?", "-")) as peer:
                    assert peer.response.headers["Deli-Schema"] == f"1 down={schema.hash} up={schema.hash}"
            assert second.local_addr() == first.local_addr()


class Blob(Codec, policy="latest", key="id", retain=True):
    id: u32
    data: bytes


class TestThoseWhoDoNotAsk:
    """Today's bytes, to the last one."""

    async def test_a_websocket_client_sees_the_bytes_of_always(self):
        async with await served() as server:
            peer = await dial(server.local_addr())
            await peer.send_raw(PLAIN_HEAD)
            answer = await peer.read_until(b"\r\n\r\n")
            assert sorted(line.split(b":")[0] for line in answer.split(b"\r\n")[1:-2]) == [
                b"Connection",
                b"Sec-WebSocket-Accept",
                b"Upgrade",
            ]
            await server.wait_clients(1)
            server.send_nowait(Reading(7, 0.5))
            assert await peer.read_exactly(10) == b"\x82\x08" + VALUE
            await peer.send(b"deli 1 later", TEXT)  # is text like any other
            await peer.send(b"deli 1 hello", TEXT)
            await until(lambda: server.stats().refused["unwanted"] == 2)
            (known,) = server.clients
            assert known.schema.up.how == known.schema.down.how == "unknown"
            assert known.schema.up.theirs is None
            await peer.leave()

    async def test_a_retained_value_is_all_that_comes(self):
        async with await WsServer[State].bind("127.0.0.1:0") as server:
            server.send_nowait(State(1, 2.0))
            peer = await dial(server.local_addr())
            await peer.send_raw(PLAIN_HEAD)
            await peer.read_until(b"\r\n\r\n")
            assert await peer.read_exactly(10) == b"\x82\x08" + struct.pack("<If", 1, 2.0)
            assert await peer.round_trip() == []
            peer.close()

    async def test_a_hello_after_a_value_announces_nothing(self):
        async with await served() as server:
            peer = await dial(server.local_addr())
            await peer.send_raw(PLAIN_HEAD)
            await peer.read_until(b"\r\n\r\n")
            await peer.send(b"\x05")
            await peer.send(b"deli 1 hello down=? up=?", TEXT)
            assert await peer.round_trip() == []
            assert server.stats().refused["unwanted"] == 1
            peer.close()

    async def test_another_version_of_the_header_is_as_none(self):
        async with await served() as server:
            for headers, query in (({"Deli-Schema": "2 all=x"}, ""), ({}, "?deli=2.x")):
                async with foreign(url(server, query), additional_headers=headers) as peer:
                    assert "Deli-Schema" not in peer.response.headers
                    assert await texts_and_value(peer, server) == [VALUE]
                await until(lambda: server.client_count() == 0)

    async def test_a_server_that_was_told_to_says_nothing_to_anybody(self):
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", schema=None) as server:
            async with foreign(url(server, "?deli=1.?.?"), additional_headers=header("?", "?")) as peer:
                assert "Deli-Schema" not in peer.response.headers
                await peer.send("deli 1 hello down=? up=?")
                assert await texts_and_value(peer, server) == [VALUE]
            async with WsClient[Reading, Order].connect(server.local_addr()) as client:
                assert client.schema.down.how == "unknown" and client.schema.down.theirs is None

    async def test_a_client_asks_in_one_line_more_or_not_at_all(self):
        requests: list[bytes] = []
        for schema in (None, "check"):
            async with raw_server() as server:
                opening = asyncio.ensure_future(
                    _connected(WsClient[Reading, Order].connect(server.address, schema=schema))  # type: ignore[arg-type]
                )
                peer = await server.accept(answer=None)
                requests.append(await peer.read_until(b"\r\n\r\n"))
                opening.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await opening
        without, with_it = (re.sub(rb"(Host|Sec-WebSocket-Key): .*\r\n", b"", head) for head in requests)
        line = f"Deli-Schema: 1 down={DOWN.hash} up={UP.hash}\r\n".encode()
        assert line in with_it and with_it.replace(line, b"") == without

    async def test_a_legacy_server_is_read_as_always(self):
        async with raw_server() as server:
            opening = asyncio.ensure_future(_connected(WsClient[Reading, Order].connect(server.address)))
            peer = await server.accept()
            client = await opening
            assert client.schema.down.how == client.schema.up.how == "unknown"
            await peer.send(VALUE)
            assert await client.recv() == Reading(7, 0.5)
            await peer.send(b"deli 1 live", TEXT)
            await until(lambda: client.stats().refused["unwanted"] == 1)
            client.send_nowait(Order(3))
            assert await peer.message() == b"\x03"
            await peer.send(close_payload(1000), CLOSE)
            await client.close()

    async def test_a_legacy_server_is_refused_where_schemas_are_required(self):
        async with raw_server() as server:
            opening = asyncio.ensure_future(
                _connected(WsClient[Reading, Order].connect(server.address, schema="require"))
            )
            await server.accept()
            with pytest.raises(SchemaMismatch, match="announces no schemas"):
                await opening

    async def test_a_client_that_announces_nothing_gets_428_where_schemas_are_required(self):
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", schema="require") as server:
            with pytest.raises(InvalidStatus) as caught:
                await foreign(url(server))
            assert caught.value.response.status_code == 428
            assert b"Deli-Schema" in (caught.value.response.body or b"")
            assert server.stats().turned_away == {428: 1}
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Reading, Order].connect(server.local_addr(), schema=None)
            assert refused.value.status == 428
            async with WsClient[Reading, Order].connect(server.local_addr()) as client:
                assert client.schema.down.how == "same"
            async with foreign(url(server, "?deli=1.?.-")) as peer:
                assert await peer.recv() == HELLO

    async def test_428_ends_a_stream(self):
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", schema="require") as server:
            async with WsClient[Reading, Order].stream(server.local_addr(), schema=None) as values:
                with pytest.raises(WebSocketError):
                    await anext(values)
                with pytest.raises(StopAsyncIteration):
                    await anext(values)

    async def test_schemas_are_told_to_those_only_whom_authorize_lets_in(self):
        async with await WsServer[Reading].bind("127.0.0.1:0", authorize=lambda request: False) as server:
            with pytest.raises(InvalidStatus) as caught:
                await foreign(url(server), additional_headers=header("?", "?"))
            assert caught.value.response.status_code == 403
            assert "Deli-Schema" not in caught.value.response.headers
        async with await WsServer[Reading].bind(
            "127.0.0.1:0", schema="require", authorize=lambda request: False
        ) as server:
            with pytest.raises(InvalidStatus) as caught:
                await foreign(url(server))
            assert caught.value.response.status_code == 403  # before 428


async def _connected(opening: Any) -> Any:
    return await opening


class TestOwnClient:
    async def test_equal_types_know_it_at_both_ends(self):
        async with await served() as server:
            async with WsClient[Reading, Order].connect(server.local_addr()) as client:
                assert client.schema.down.how == "same" and client.schema.down.theirs == DOWN
                assert client.schema.up.how == "same" and client.schema.up.theirs == UP
                (peer,) = server.clients
                assert peer.schema.up.how == "same" and peer.schema.up.theirs == UP
                assert peer.schema.down.how == "same"
                server.send_nowait(Reading(1, 2.0))
                assert await client.recv() == Reading(1, 2.0)
                client.send_nowait(Order(9))
                assert await server.recv_from() == (peer, Order(9))
                assert server.stats().messages_in == client.stats().messages_in == 1

    async def test_where_clients_send_nothing_up_is_none(self):
        async with await WsServer[Reading, None].bind("127.0.0.1:0") as server:
            async with WsClient[Reading, None].connect(server.local_addr()) as client:
                assert client.schema.up is None and client.schema.down.how == "same"
                (peer,) = server.clients
                assert peer.schema.up is None
            async with WsClient[Reading, Order].connect(server.local_addr()) as client:
                client.send_nowait(Order(1))  # nobody takes it
                await until(lambda: server.stats().refused["unwanted"] == 1)

    async def test_a_type_whose_names_cannot_stand_in_a_schema_goes_as_ever(self):
        class Größe(Codec):
            länge: u32

        async with await WsServer[Größe].bind("127.0.0.1:0") as server:
            async with WsClient[Größe].connect(server.local_addr()) as client:
                assert client.schema.down.how == "unknown"
                server.send_nowait(Größe(1))
                assert await client.recv() == Größe(1)
        with pytest.raises(TypeError):
            await WsServer[Größe].bind("127.0.0.1:0", schema="require")

    @pytest.mark.parametrize("schema", ["yes", True, 1])
    async def test_other_words_for_schema_are_errors_at_once(self, schema: Any):
        for call in (
            WsServer[Reading].bind,
            WsClient[Reading].connect,
            Server[Reading].bind,
            Client[Reading].connect,
        ):
            with pytest.raises((TypeError, ValueError), match="schema is "):
                call("127.0.0.1:1", schema=schema)

    @pytest.mark.parametrize(
        "value",
        ["1 down=? up=?", "1 down=x up=y", "1", f"1 down={OTHER} up={OTHER}\r\nDeli-Schema: 1 down=? up=?"],
    )
    async def test_a_malformed_answer_is_an_error(self, value: str):
        async with raw_server() as server:
            opening = asyncio.ensure_future(_connected(WsClient[Reading].connect(server.address)))
            peer = await server.accept(answer=None)
            await _answer(peer, value)
            with pytest.raises(WebSocketError, match="Deli-Schema"):
                await opening

    async def test_a_server_that_never_sends_its_schema_is_given_up(self):
        async with raw_server() as server:
            opening = asyncio.ensure_future(
                _connected(WsClient[Reading].connect(server.address, open_timeout=0.3, close_timeout=0.1))
            )
            peer = await server.accept(answer=None)
            await _answer(peer, f"1 down={OTHER} up={OTHER}")
            with pytest.raises(TimeoutError, match="waiting for the server's schema") as caught:
                await opening
            assert isinstance(caught.value, IoError)

    async def test_a_server_that_sends_values_before_its_schema_breaks_the_protocol(self):
        async with raw_server() as server:
            opening = asyncio.ensure_future(_connected(WsClient[Reading].connect(server.address)))
            peer = await server.accept(answer=None)
            await _answer(peer, f"1 down={OTHER} up={DOWN.hash}")
            await peer.send(VALUE)
            _, code, reason = await peer.read_to_close()
            assert code == 1002 and "before the schema" in reason
            peer.close()
            with pytest.raises(ConnectionClosed, match="before the schema"):
                await opening


async def _answer(peer: WsPeer, value: str) -> None:
    """A 101 with this header."""
    from peers import ANSWER, accept_token

    head = await peer.read_until(b"\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head, re.IGNORECASE)
    assert key
    answer = ANSWER % accept_token(key[1])
    await peer.send_raw(answer[:-2] + f"Deli-Schema: {value}\r\n\r\n".encode())


@contextlib.asynccontextmanager
async def announced(server: WsServer[Any, Any], down: str, up: str) -> AsyncIterator[WsPeer]:
    """A raw client whose request has the header, `live` or the schemas unread."""
    peer = await dial(server.local_addr())
    try:
        line = f"Deli-Schema: 1 down={down} up={up}\r\n\r\n".encode()
        await peer.send_raw(PLAIN_HEAD[:-2] + line)
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield peer
    finally:
        peer.close()


class TestHostile:
    """Each is closed, with a code that says why, and nothing stays behind."""

    @pytest.mark.parametrize(
        ("texts", "words"),
        [
            ([f"deli 1 schema up {OTHER}\n{UP.text}"], "has the hash"),
            ([f"deli 1 schema up {UP.hash}\n{UP.text}"], "another hash than was announced"),
            ([f"deli 1 schema up {OTHER}\nno schema"], "not a schema"),
            ([f"deli 1 schema up {OTHER}\ndeli 1\nroot {'[' * 100_000}u8{']' * 100_000}\n"], "not a schema"),
            ([f"deli 1 schema down {OTHER}\n{UP.text}"], "what this end sends"),
            (["deli 1 hello down=? up=?"], "second hello"),
            (["deli 1 schema"], "expected schema"),
            ([b"deli 1 schema up \xff\n"], "UTF-8"),
            ([b"\x05"], "a value before the schema"),
        ],
    )
    async def test_what_breaks_the_protocol_is_1002(self, texts: list[str | bytes], words: str):
        async with await served() as server:
            async with announced(server, DOWN.hash, OTHER) as peer:
                for text in texts:
                    if isinstance(text, str) or text.startswith(b"deli"):
                        await peer.send(text.encode() if isinstance(text, str) else text, TEXT)
                    else:
                        await peer.send(text)
                frames, code, reason = await peer.read_to_close()
                assert frames == [Frame(TEXT, b"deli 1 live")]
                assert code == 1002 and words in reason
            await until(lambda: server.client_count() == 0)
            assert server.stats().refused["undecodable"] == 0

    async def test_a_schema_after_values_is_too_late(self):
        async with await served() as server:
            async with announced(server, DOWN.hash, UP.hash) as peer:
                await peer.send(b"\x05")
                await peer.send(UP_TEXT.encode(), TEXT)
                _, code, reason = await peer.read_to_close()
                assert code == 1002 and "too late" in reason
            assert await server.recv() == Order(5)

    @pytest.mark.parametrize("limit", [1000, 64 << 20])
    async def test_a_text_may_have_256_kib_whatever_a_value_may_have(self, limit: int):
        """In one frame and in several; beyond it, 1009. A value is held to its own limit."""
        async with await WsServer[Reading, Order].bind("127.0.0.1:0", max_message_size=limit) as server:
            text = b"deli 1 later " + bytes(262_144 - 13)
            async with announced(server, DOWN.hash, UP.hash) as peer:
                await peer.send(text, TEXT)
                await peer.send(text[:100_000], TEXT, fin=False)
                await peer.send(text[100_000:], CONTINUATION)
                assert await peer.round_trip() == [Frame(TEXT, b"deli 1 live")]
                await peer.send(text[:100_000], TEXT, fin=False)
                await peer.send(text[100_000:] + b"x", CONTINUATION)
                _, code, reason = await peer.read_to_close()
                assert code == 1009 and "262144" in reason
            async with announced(server, DOWN.hash, UP.hash) as peer:
                await peer.send(text + b"x", TEXT)
                _, code, reason = await peer.read_to_close()
                assert code == 1009 and "262144" in reason
            if limit == 1000:
                async with announced(server, DOWN.hash, UP.hash) as peer:
                    await peer.send(bytes(1001))
                    _, code, reason = await peer.read_to_close()
                    assert code == 1009 and "1001 > 1000" in reason
            assert server.stats().messages_in == 0

    async def test_text_that_is_no_control_text_is_not_kept_however_long(self):
        async with await served() as server:
            async with announced(server, DOWN.hash, UP.hash) as peer:
                await peer.send(bytes(200_000), TEXT, fin=False)
                for _ in range(10):
                    await peer.send(bytes(200_000), CONTINUATION, fin=False)
                await peer.send(b"", CONTINUATION)
                assert await peer.round_trip() == [Frame(TEXT, b"deli 1 live")]
                assert server.stats().refused["unwanted"] == 1
                assert server.quota.buffered < 1 << 20

    @pytest.mark.limit(60)
    async def test_a_flood_of_hellos_ends_at_the_second(self):
        async with await served() as server:
            peer = await dial(server.local_addr())
            await peer.send_raw(PLAIN_HEAD)
            await peer.read_until(b"\r\n\r\n")
            from peers import build

            hello = build(b"deli 1 hello down=? up=?", TEXT, mask=bytes(4))
            with contextlib.suppress(OSError):
                await peer.send_raw(hello * 100_000)
            frames, code, reason = await peer.read_to_close()
            assert len(frames) == 4 and code == 1002 and "second hello" in reason
            peer.close()
            await until(lambda: server.client_count() == 0)

    @pytest.mark.parametrize("value", ["1", "1 down=x up=y", f"1 down={OTHER} up={OTHER} up=-"])
    async def test_a_malformed_request_is_400(self, value: str):
        async with await served() as server:
            with pytest.raises(InvalidStatus) as caught:
                await foreign(url(server), additional_headers={"Deli-Schema": value})
            assert caught.value.response.status_code == 400
            with pytest.raises(InvalidStatus) as caught:
                await foreign(url(server, "?deli=1.x"))
            assert caught.value.response.status_code == 400


def framed(*texts: str | bytes) -> bytes:
    """Control texts on TCP."""
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(MARKER + struct.pack("<I", len(part)) + part for part in parts)


LIVE = framed("deli 1 live")


class TestTcp:
    @pytest.mark.parametrize("schema", ["check", "require"])
    @pytest.mark.parametrize("piece", [1, 7, 1 << 20])
    async def test_a_hello_is_answered_in_the_same_form(self, schema: Any, piece: int):
        async with await Server[Reading, Order].bind("127.0.0.1:0", schema=schema) as server:
            peer = await ReferencePeer.open(server.local_addr())
            data = framed("deli 1 hello down=? up=?", "deli 1 later") + b"\1\0\0\0\5"
            for at in range(0, len(data), piece):
                await peer.send(data[at : at + piece])
            expected = framed(HELLO, DOWN_TEXT, UP_TEXT) + LIVE
            assert await peer.read_exactly(len(expected)) == expected
            assert await server.recv() == Order(5)
            server.send_nowait(Reading(7, 0.5))
            assert await peer.message() == VALUE
            assert server.stats().messages_in == 1 and server.stats().refused["unwanted"] == 0
            peer.close()

    async def test_equal_hashes_are_answered_by_hello_and_live(self):
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(framed(HELLO))
            assert await peer.read_exactly(len(framed(HELLO) + LIVE)) == framed(HELLO) + LIVE
            peer.close()

    async def test_who_says_nothing_gets_the_bytes_of_always(self):
        async with await Server[State].bind("127.0.0.1:0") as server:
            server.send_nowait(State(1, 2.0))
            async with reference_client(server) as peer:
                assert await peer.read_exactly(12) == b"\x08\0\0\0" + struct.pack("<If", 1, 2.0)
                server.send_nowait(State(2, 2.0))
                assert await peer.read_exactly(12) == b"\x08\0\0\0" + struct.pack("<If", 2, 2.0)
                (known,) = server.clients
                assert known.schema.up.how == "unknown"

    async def test_where_schemas_are_required_nobody_else_is_a_client(self):
        async with await Server[Reading, Order].bind("127.0.0.1:0", schema="require") as server:
            peer = await RawPeer.open(server.local_addr())
            server.send_nowait(Reading(7, 0.5))
            await peer.send(b"\1\0\0\0\5")
            assert await peer.read_all() == b""
            assert server.client_count() == 0 and server.stats().messages_in == 0
            peer.close()

    async def test_a_hello_that_does_not_come_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch):
        async with await Server[Reading, Order].bind("127.0.0.1:0", schema="require") as server:
            silent = await RawPeer.open(server.local_addr())
            early = await RawPeer.open(server.local_addr())
            await early.send(framed("deli 1 hello down=? up=?")[:20])
            early.close()  # before it was complete
            await asyncio.sleep(0)
            assert server.client_count() == 0
            silent.close()

    async def test_a_mark_is_answered_once_all_before_it_was_read(self):
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(framed(HELLO))
            await peer.read_exactly(len(framed(HELLO) + LIVE))
            await peer.send(b"\1\0\0\0\5" + framed("deli 1 mark 0123456789abcdef"))
            answer = framed("deli 1 seen 0123456789abcdef")
            assert await peer.read_exactly(len(answer)) == answer
            assert server.stats().messages_in == 1
            peer.close()

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (MARKER + struct.pack("<I", 262_145), "at most 262144"),
            (framed(HELLO, HELLO), "a second hello"),
            (framed("deli 1 schema up x"), "before the hello|expected schema"),
            (framed("deli 1 live"), "before the hello"),
            (b"\1\0\0\0\5" + framed(HELLO), "a hello after values"),
            (
                framed(f"deli 1 hello down={DOWN.hash} up={OTHER}") + b"\1\0\0\0\5",
                "a value before the schema",
            ),
            (framed(f"deli 1 hello down={DOWN.hash} up=-") + b"\1\0\0\0\5", "sends none"),
            (framed(f"deli 1 hello down={DOWN.hash} up={OTHER}", UP_TEXT), "another hash than was announced"),
        ],
    )
    async def test_what_breaks_the_protocol_ends_the_connection(
        self, data: bytes, words: str, caplog: pytest.LogCaptureFixture
    ):
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(data)
            await peer.read_all()
            peer.close()
            await until(lambda: server.client_count() == 0)
        assert re.search(words, caplog.text)

    async def test_a_text_of_256_kib_in_pieces_is_taken(self):
        async with await Server[Reading, Order].bind("127.0.0.1:0", max_message_size=100) as server:
            peer = await ReferencePeer.open(server.local_addr())
            await peer.send(framed(HELLO, b"deli 1 later " + bytes(262_144 - 13)) + b"\1\0\0\0\5")
            assert await server.recv() == Order(5)
            peer.close()

    async def test_own_ends_agree(self):
        for schema in ("check", "require"):
            async with await Server[Reading, Order].bind("127.0.0.1:0", schema=schema) as server:  # type: ignore[arg-type]
                async with Client[Reading, Order].connect(server.local_addr(), schema="check") as client:
                    assert client.schema.down.how == client.schema.up.how == "same"
                    (peer,) = server.clients
                    assert peer.schema.up.how == "same" and peer.schema.up.theirs == UP
                    server.send_nowait(Reading(1, 2.0))
                    assert await client.recv() == Reading(1, 2.0)
                    client.send_nowait(Order(9))
                    assert await server.recv() == Order(9)
        async with await Server[Reading, Order].bind("127.0.0.1:0") as server:
            async with Client[Reading, Order].connect(server.local_addr()) as client:
                assert client.schema.down.how == "unknown"
                server.send_nowait(Reading(1, 2.0))
                await server.wait_clients(1)
                server.send_nowait(Reading(1, 2.0))
                assert await client.recv() == Reading(1, 2.0)

    async def test_values_that_come_before_the_hello_are_kept_for_it(self):
        """The server waits for nobody; the client decodes once it knows how."""
        async with listening() as listener:
            opening = asyncio.ensure_future(
                _connected(Client[Reading, Order].connect(listener.address, schema="check"))
            )
            peer = await listener.accept()
            for n in range(100):
                await peer.send_message(struct.pack("<If", n, 0.0))
            expected = framed(HELLO)
            assert await peer.read_exactly(len(expected)) == expected
            await peer.send(framed(HELLO))
            client = await opening
            await peer.send_message(struct.pack("<If", 100, 0.0))
            assert [(await client.recv()).a for _ in range(101)] == list(range(101))
            assert client.stats().messages_in == 101
            peer.close()
            await client.close()

    async def test_a_server_that_knows_no_schemas_is_named_so(self):
        async with await Server[Reading, Order].bind("127.0.0.1:0", schema=None) as server:
            with pytest.raises(ConnectionClosed, match="connect with schema=None"):
                await Client[Reading, Order].connect(server.local_addr(), schema="check")
        async with listening() as listener:
            opening = asyncio.ensure_future(
                _connected(
                    Client[Reading, Order].connect(
                        listener.address, schema="check", open_timeout=0.3, close_timeout=0.1
                    )
                )
            )
            peer = await listener.accept()
            with pytest.raises(TimeoutError):
                await opening
            peer.close()
