"""Peers that break the protocol or attack: each gets a reason, costs little, and disturbs no other."""

from __future__ import annotations

import asyncio
import gc
import importlib
import struct
from pathlib import Path
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, certificates, until
from peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WsPeer,
    build,
    close_payload,
    raw_client,
    raw_server,
    upgrade,
)

from deli_com import ConnectionClosed, WsClient, WsServer

KEY = b"\xa1\xb2\xc3\xd4"
LIMIT = 1 << 20  # max_message_size here


def masked(payload: bytes, opcode: int = BINARY, *, fin: bool = True, rsv: int = 0) -> bytes:
    return build(payload, opcode, fin=fin, rsv=rsv, mask=KEY)


MORE = masked(b"m" * 1000) * 2000  # 2 MB: enough that some of it is unread at the close
BROKEN = {
    # name: (what is sent, close code)
    "rsv1": (masked(b"x", rsv=4), 1002),
    "rsv2": (masked(b"x", rsv=2), 1002),
    "rsv3": (masked(b"x", rsv=1), 1002),
    "rsv of a ping": (masked(b"x", PING, rsv=4), 1002),
    "rsv of a close": (masked(close_payload(1000), CLOSE, rsv=4), 1002),
    "opcode 3": (masked(b"x", 3), 1002),
    "opcode 0xB": (masked(b"x", 0xB), 1002),
    "unmasked": (build(b"x", BINARY), 1002),
    "fragmented ping": (masked(b"x", PING, fin=False), 1002),
    "ping of 126 bytes": (masked(bytes(126), PING), 1002),
    "length not minimal, 16 bits": (struct.pack("!BBH", 0x82, 0xFE, 125) + KEY + bytes(125), 1002),
    "length not minimal, 64 bits": (struct.pack("!BBQ", 0x82, 0xFF, 125) + KEY + bytes(125), 1002),
    "length of 2^63": (struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + KEY, 1002),
    "length of 2^63 - 1": (struct.pack("!BBQ", 0x82, 0xFF, (1 << 63) - 1) + KEY, 1009),
    "one byte over the limit": (struct.pack("!BBQ", 0x82, 0xFF, LIMIT + 1) + KEY, 1009),
    "over the limit in fragments": (masked(bytes(LIMIT), fin=False) + masked(b"x", CONTINUATION), 1009),
    "continuation of nothing": (masked(b"x", CONTINUATION), 1002),
    "continuation of a whole message": (masked(b"x") + masked(b"x", CONTINUATION), 1002),
    "message inside a message": (masked(b"x", fin=False) + masked(b"y"), 1002),
    "text inside a message": (masked(b"x", fin=False) + masked(b"y", TEXT), 1002),
    "close of one byte": (masked(b"x", CLOSE), 1002),
    "close with a broken reason": (masked(close_payload(1000, b"\xff"), CLOSE), 1007),
    **{
        f"close code {code}": (masked(close_payload(code), CLOSE), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
class TestBroken:
    @pytest.mark.parametrize("name", BROKEN)
    async def test_a_peer_that_goes_on_sending_still_reads_why_it_was_closed(
        self, name: str, secure: bool
    ) -> None:
        """Unread input at a close is answered with RST, which takes the CLOSE along: the server lingers."""
        sent, code = BROKEN[name]
        tls, trusting = certificates()
        async with WsServer[bytes].bind(
            "127.0.0.1:0", max_message_size=LIMIT, ssl=tls if secure else None
        ) as server:
            peer = await WsPeer.open(server.local_addr(), ssl=trusting if secure else None)
            assert isinstance(peer, WsPeer)
            try:
                await upgrade(peer)
                sending = asyncio.create_task(peer.send_raw(sent + MORE))
                if secure:
                    await asyncio.wait([sending])  # one TLS object: not both ways at once
                frames, got, reason = await peer.read_to_close()
                assert (frames, got) == ([], code), reason
                await asyncio.wait([sending])
                if not secure:
                    assert await peer.read_all() == b"", "and then the end of the stream, in good order"
            finally:
                peer.close()
            await until(lambda: server.client_count() == 0)

    async def test_what_came_whole_before_the_fault_counts(self, secure: bool) -> None:
        """picows' parser looks one frame ahead; the message before the bad one is delivered all the same."""
        tls, trusting = certificates()
        value = struct.pack("<I", 4) + b"good"
        async with WsServer[bytes].bind("127.0.0.1:0", ssl=tls if secure else None) as server:
            for bad in (masked(b"x", 3), masked(b"x", rsv=1), build(b"x", BINARY)):
                peer = await WsPeer.open(server.local_addr(), ssl=trusting if secure else None)
                assert isinstance(peer, WsPeer)
                await upgrade(peer)
                await peer.send_raw(masked(value) + bad + masked(value))
                assert await server.recv() == b"good"
                assert (await peer.read_to_close())[1] == 1002
                peer.close()
            await until(lambda: server.client_count() == 0)
            assert server.messages_in == 3, "nothing after the bad frame does"


class TestClient:
    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (build(b"x", rsv=4), 1002),
            (build(b"x", 3), 1002),
            (build(b"x", CONTINUATION), 1002),
            (build(close_payload(1006), CLOSE), 1002),
            (build(b"x" * 2000), 1009),
            (masked(b"x"), 1002),
        ],
        ids=["rsv1", "opcode 3", "continuation of nothing", "close code 1006", "too large", "masked"],
    )
    async def test_a_server_that_breaks_the_protocol_is_told_so(self, sent: bytes, code: int) -> None:
        """The same rules hold on the client's side, and `recv` says which was broken."""
        async with raw_server() as server:
            client, peer = await asyncio.gather(
                WsClient[bytes].connect(server.address, max_message_size=1000), server.accept()
            )
            await peer.send_raw(sent)
            assert (await peer.read_to_close())[1] == code
            peer.close()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.code == code
            await client.close()


class TestFragments:
    async def test_4096_are_a_message_and_one_more_is_not(self) -> None:
        """A message of empty fragments would otherwise never end."""
        value = struct.pack("<I", 2000) + bytes(2000)
        head, tail = [value[i : i + 1] for i in range(len(value))], [b""] * (4096 - len(value))
        pieces = head + tail
        frames = [masked(pieces[0], fin=False)] + [masked(p, CONTINUATION, fin=False) for p in pieces[1:]]
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send_raw(b"".join(frames[:-1]) + masked(pieces[-1], CONTINUATION))
            assert await server.recv() == bytes(2000)
            await peer.send_raw(b"".join(frames) + masked(b"", CONTINUATION))
            _, code, reason = await peer.read_to_close()
            assert (code, reason) == (1009, "a message of more than 4096 fragments")

    async def test_control_frames_may_come_between(self) -> None:
        value = struct.pack("<I", 2) + b"ok"
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send_raw(masked(value[:3], fin=False) + masked(b"now", PING) + masked(b"", PONG))
            await peer.send_raw(masked(value[3:], CONTINUATION))
            assert await server.recv() == b"ok"
            assert await peer.frame() == Frame(PONG, b"now")


class TestPings:
    @pytest.mark.limit(30)
    async def test_a_flood_that_reads_nothing_is_not_stored(self) -> None:
        """One PONG is owed however many PINGs came; picows' own answers cost 438 MB in 3 s."""
        ping = masked(b"p" * 125, PING)
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr(), small=True) as peer,
            raw_client(server.local_addr()) as good,
        ):
            await server.wait_clients(2)
            for _ in range(40):  # 10 MB; what the kernels hold of the answers is far less
                await peer.send_raw(ping * 2000)
                await good.round_trip()
            held = [c.stats().queued_bytes for c in server._connections()]
            assert max(held) < 4096, "what was cut, and one PONG"
            last = masked(b"the last", PING)
            await peer.send_raw(last)
            await good.round_trip()
            while (frame := await peer.frame()).payload != b"the last":
                assert frame == Frame(PONG, b"p" * 125)

    async def test_few_are_answered_one_by_one(self) -> None:
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            payloads = [b"%d" % i for i in range(10)]
            await peer.send_raw(b"".join(masked(payload, PING) for payload in payloads))
            for payload in payloads:
                assert await peer.frame() == Frame(PONG, payload)

    async def test_of_many_in_one_read_the_last_is_answered(self) -> None:
        """RFC 6455 section 5.5.3; each answer is a system call, and the peer's PINGs cost it nothing."""
        async with (
            WsServer[bytes].bind("127.0.0.1:0") as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send_raw(b"".join(masked(b"%d" % i, PING) for i in range(100)))
            seen = []
            while not seen or seen[-1] != b"99":
                frame = await peer.frame()
                assert frame.opcode == PONG
                seen.append(frame.payload)
            assert len(seen) < 60, "two reads at most, of 16 and one each; 100 without the bound"


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hostile peers of the bench of that name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    return importlib.import_module("attacks")


class TestCrowd:
    @pytest.mark.limit(40)
    async def test_good_clients_lose_nothing_meanwhile(self, attacks: Any) -> None:
        """600 hostile connections of ten kinds; bench/hostile.py does it with 20,000 and a stop-watch."""
        values = 400
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            clients = [await WsClient[bytes].connect(server.local_addr()) for _ in range(5)]
            attack = asyncio.create_task(attacks.crowd(server.local_addr(), 600, 40, seed=6))

            async def produce() -> None:
                for number in range(values):
                    await server.send(b"%d" % number)
                    await asyncio.sleep(0.002)

            async def consume(client: WsClient[bytes]) -> list[bytes]:
                return [await client.recv() for _ in range(values)]

            expected = [b"%d" % number for number in range(values)]
            _, *received = await asyncio.gather(produce(), *map(consume, clients))
            assert received == [expected] * 5
            counts = await attack
            assert len(counts) == len(attacks.ATTACKS)
            await until(lambda: server.client_count() == 5)
            assert server._acceptor is not None
            for client in clients:
                await client.close()
            await until(lambda: len(server._connections()) == 0)

    @pytest.mark.limit(40)
    async def test_nothing_is_left_of_them(self, attacks: Any) -> None:
        """No connection, no peer object and no transport once they are gone."""
        from deli_com.link.ws_link import WsLink

        async with WsServer[bytes].bind("127.0.0.1:0", close_timeout=0.2) as server:
            await attacks.crowd(server.local_addr(), 200, 40, seed=7)
            await until(lambda: not server._connections())
            for _ in range(3):
                await asyncio.sleep(0)
            gc.collect()
            assert [
                found for found in gc.get_objects() if isinstance(found, WsLink) and found.endpoint is server
            ] == []
            async with WsClient[bytes].connect(server.local_addr()) as client:
                await server.send(b"as before")
                assert await client.recv() == b"as before"


class TestHalfOpen:
    async def test_a_peer_that_shuts_its_side_is_let_go(self) -> None:
        async with WsServer[bytes].bind("127.0.0.1:0") as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(PLAIN_HEAD)
            await peer.read_until(b"\r\n\r\n")
            await until(lambda: server.client_count() == 1)
            peer.sock.shutdown(1)
            await until(lambda: server.client_count() == 0)
            assert await peer.read_all() == b""
            peer.close()
