"""Viewers: what they are told, what they get, and what they may not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from typing import Any

import pytest
import websockets
from helpers import certificates, until
from viewers import BOTH, Viewer, viewing

from deli_com import Codec, WsClient, WsServer, codec, f32, u8, u32, u64


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    x: f32


class Tick(Message):
    price: f32


class Note(Message):
    text: str | None


class Picture(Message, policy="latest", key="camera"):
    camera: u8
    data: bytes


class Mark(Message, policy="latest", retain=True):
    where: u64


class Stop(Codec):
    reason: str


class Chain(Codec):
    next: Chain | None


class Tree(Codec):
    branches: list[Tree]


class Holder(Codec):
    message: Message


TOPICS = ["/Pose", "/Tick", "/Note", "/Picture", "/Mark"]


async def values(viewer: Viewer, count: int) -> list[Any]:
    return [Message.from_bytes((await viewer.data()).payload) for _ in range(count)]


class TestOpening:
    async def test_what_a_viewer_is_told_first(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                assert viewer.ws.subprotocol == "foxglove.sdk.v1"
                assert viewer.info["name"] == "deli-com: Message"
                assert viewer.info["capabilities"] == []
                assert "supportedEncodings" not in viewer.info
                assert [*viewer.channels] == TOPICS
                assert viewer.channels["/Tick"] == {
                    "id": 2,
                    "topic": "/Tick",
                    "encoding": "ros1",
                    "schemaName": "deli/Tick",
                    "schemaEncoding": "ros1msg",
                    "schema": "uint32 variant\nuint32 stamp\nfloat32 price\n",
                }
                note = viewer.channels["/Note"]  # ROS 1 has no `str | None`
                assert (note["encoding"], note["schemaName"], note["schemaEncoding"]) == (
                    "deli",
                    "Note",
                    "deli",
                )
                assert note["schema"] == codec(Message).schema.text
                (peer,) = server.clients
                assert peer.request.subprotocol == "foxglove.sdk.v1"

    async def test_one_session_is_one_server(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as one, viewing(server) as two:
                assert one.info == two.info and one.info["sessionId"].isdecimal()

    @pytest.mark.parametrize("name", BOTH)
    async def test_each_name_of_the_protocol(self, name: str) -> None:
        async with WsServer[Stop, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server, subprotocols=[name]) as viewer:
                assert viewer.ws.subprotocol == name
                assert [*viewer.channels] == ["/Stop"]

    async def test_without_the_option_there_are_no_viewers(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0") as server:
            async with websockets.connect(
                f"ws://{server.local_addr()}",
                subprotocols=BOTH,
                proxy=None,
            ) as ws:
                assert ws.subprotocol is None
                server.send_nowait(Tick(1, 0.5))
                assert await ws.recv() == Tick(1, 0.5).to_bytes()

    async def test_who_offers_no_such_subprotocol_is_served_as_ever(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            url = f"ws://{server.local_addr()}"
            async with (
                viewing(server),
                WsClient[Message].connect(server.local_addr()) as client,
                websockets.connect(url, proxy=None) as plain,
                websockets.connect(url, subprotocols=["chat"], proxy=None) as other,  # type: ignore[list-item]
            ):
                assert plain.subprotocol is None and other.subprotocol is None
                server.send_nowait(Tick(1, 0.5))
                assert await client.recv() == Tick(1, 0.5)
                assert await plain.recv() == await other.recv() == Tick(1, 0.5).to_bytes()

    async def test_the_users_own_subprotocols_come_first(self) -> None:
        """A client that offers the user's and a viewer's gets the user's; one without either is refused."""
        async with WsServer[Message, None].bind(
            "127.0.0.1:0", foxglove=True, subprotocols=["v2", "v1"]
        ) as server:
            url = f"ws://{server.local_addr()}"
            names: Any = [*BOTH, "v1"]
            async with websockets.connect(url, subprotocols=names, proxy=None) as ws:
                assert ws.subprotocol == "v1"
                server.send_nowait(Tick(1, 0.5))
                assert await ws.recv() == Tick(1, 0.5).to_bytes()
            async with viewing(server) as viewer:
                assert [*viewer.channels] == TOPICS
            async with websockets.connect(url, proxy=None) as ws:
                assert ws.subprotocol is None
            other: Any = ["v3"]
            with pytest.raises(websockets.InvalidStatus, match="400"):
                await websockets.connect(url, subprotocols=other, proxy=None)

    async def test_options_that_cannot_be(self) -> None:
        for wrong in ("yes", 1, None):
            with pytest.raises(
                (TypeError, ValueError), match=r'^foxglove is .*expected True, "publish" or False'
            ):
                WsServer[Message].bind("127.0.0.1:0", foxglove=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="receives none"):
            WsServer[Message, None].bind("127.0.0.1:0", foxglove="publish")
        with pytest.raises(ValueError, match="speaks already"):
            WsServer[Message, None].bind("127.0.0.1:0", foxglove=True, subprotocols=["foxglove.sdk.v1"])

    async def test_viewers_are_clients_to_the_rules_of_the_server(self) -> None:
        """`authorize`, `origins`, `max_clients` and paths; not ``schema="require"``."""
        asked = []

        def authorize(request: Any) -> bool:
            asked.append(request.subprotocol)
            return "no" not in request.query

        async with WsServer[Message, None].bind(
            "127.0.0.1:0",
            path="/live",
            foxglove=True,
            authorize=authorize,
            max_clients=2,
            schema="require",
            origins=["https://app.foxglove.dev"],
        ) as server:
            for path, origin, status in (
                ("/live", "https://evil.example", 403),
                ("/live?no", None, 403),
                ("/", None, 404),
            ):
                with pytest.raises(websockets.InvalidStatus, match=str(status)):
                    async with viewing(server, path=path, origin=origin):
                        pass
            async with viewing(server, path="/live", origin="https://app.foxglove.dev"):
                async with viewing(server, path="/live") as viewer:
                    assert server.client_count() == 2
                    await viewer.settle()
                    with pytest.raises(websockets.InvalidStatus, match="503"):
                        async with viewing(server, path="/live"):
                            pass
            assert set(asked) == {"foxglove.sdk.v1"}

    async def test_on_connect_and_on_disconnect(self) -> None:
        seen: list[Any] = []
        async with WsServer[Message, None].bind(
            "127.0.0.1:0",
            foxglove=True,
            on_connect=lambda peer: seen.append(peer),
            on_disconnect=lambda peer, why: seen.append(why.cause),
        ) as server:
            async with viewing(server):
                assert server.clients == {seen[0]}
            await until(lambda: len(seen) == 2)
            assert seen[1] == "left"


class TestMessages:
    async def test_only_what_is_subscribed_to_in_the_order_of_sending(self) -> None:
        before = time.time_ns()
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                server.send_nowait(Tick(0, 0.0))
                await asyncio.sleep(0)
                tick, note = await viewer.subscribe("/Tick", "/Note")
                await viewer.settle()
                for number in range(1, 50):
                    server.send_nowait(Tick(number, number / 2))
                    server.send_nowait(Pose(number, "a", 1.0))
                    server.send_nowait(Note(number, "x" if number % 2 else None))
                found = [await viewer.data() for _ in range(98)]
                assert [each.subscription for each in found] == [tick, note] * 49
                assert [Message.from_bytes(each.payload).stamp for each in found] == [
                    number for number in range(1, 50) for _ in range(2)
                ]
                times = [each.at for each in found]
                assert times == sorted(times)
                assert before <= times[0] and times[-1] <= time.time_ns()

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_payloads_of_all_sizes_are_those_of_the_log(self, tls: bool) -> None:
        """In slabs and by reference, alone and in runs, whatever a merge cuts them into."""
        server_ssl, client_ssl = certificates() if tls else (None, None)
        rng = random.Random(5)
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True, ssl=server_ssl) as server:
            options = {"ssl": client_ssl, "server_hostname": "localhost"} if tls else {}
            async with viewing(server, **options) as viewer:
                (tick,) = await viewer.subscribe("/Tick")
                await viewer.settle()
                (note,) = await viewer.subscribe("/Note")
                await viewer.settle()
                for _ in range(20):
                    sent: list[Message] = []
                    for number in range(rng.choice([1, 3, 200])):
                        size = rng.choice([0, 1, 90, 105, 120, 2000, 32_700, 32_768, 40_000, 70_000, 300_000])
                        if number > 20:
                            size = min(size, 200)
                        kind = rng.randrange(3)
                        value: Message = (
                            Tick(number, 1.0) if kind == 0 else Note(number, "é" * (size // 2) or None)
                        )
                        if kind == 2:
                            server.send_nowait(Picture(number, 1, b"x" * size))
                        else:
                            sent.append(value)
                            server.send_nowait(value)
                    for value in sent:
                        found = await viewer.data()
                        assert found.payload == value.to_bytes()
                        assert found.subscription == (tick if isinstance(value, Tick) else note)

    @pytest.mark.parametrize("name", ["Chain", "Tree", "Holder"])
    async def test_what_ros_1_cannot_express_is_advertised_with_its_text(self, name: str) -> None:
        """An option, recursion, a sealed type in a struct; messages are their bytes."""
        kinds: dict[str, Any] = {
            "Chain": Chain(None),
            "Tree": Tree([Tree([])]),
            "Holder": Holder(Tick(1, 0.5)),
        }
        value = kinds[name]
        async with WsServer[type(value), None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                assert viewer.channels[f"/{name}"] == {
                    "id": 1,
                    "topic": f"/{name}",
                    "encoding": "deli",
                    "schemaName": name,
                    "schemaEncoding": "deli",
                    "schema": codec(type(value)).schema.text,
                }
                await viewer.subscribe(f"/{name}")
                await viewer.settle()
                server.send_nowait(value)
                assert (await viewer.data()).payload == value.to_bytes()

    async def test_types_that_are_not_sealed(self) -> None:
        async with WsServer[list[u32], None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                assert viewer.channels["/value"]["schema"] == "uint32[] value\n"
                await viewer.subscribe("/value")
                await viewer.settle()
                for value in ([], [1, 2], [*range(20_000)]):
                    server.send_nowait(value)
                    found = await viewer.data()
                    assert found.payload == codec(list[u32]).to_bytes(value)

    async def test_what_is_retained_comes_with_the_subscription(self) -> None:
        """The newest of each key, once; and nothing of other classes."""
        before = time.time_ns()
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            for number in range(30):
                server.send_nowait(Pose(number, f"r{number % 3}", 0.0))
            server.send_nowait(Mark(7, 1))
            server.send_nowait(Tick(1, 0.0))
            between = time.time_ns()
            async with viewing(server) as viewer:
                await viewer.settle()
                await viewer.subscribe("/Pose")
                found = [await viewer.data() for _ in range(3)]
                assert [Message.from_bytes(each.payload).stamp for each in found] == [27, 28, 29]
                assert all(before <= each.at <= between for each in found)  # when they were sent
                await viewer.subscribe("/Mark", "/Tick")
                assert await values(viewer, 1) == [Mark(7, 1)]
                server.send_nowait(Pose(30, "r0", 0.0))
                server.send_nowait(Tick(31, 0.0))
                assert [value.stamp for value in await values(viewer, 2)] == [30, 31]
                await viewer.settle()

    async def test_a_subscription_that_ends_and_begins_again(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            server.send_nowait(Pose(1, "a", 0.0))
            async with viewing(server) as viewer:
                for number in range(20):
                    (own,) = await viewer.subscribe("/Pose")
                    assert (await viewer.data()).subscription == own
                    await viewer.say("unsubscribe", subscriptionIds=[own, 5])
                    await viewer.settle()
                    server.send_nowait(Pose(number, "a", 0.0))
                    await asyncio.sleep(0)
                # At once: what is on its way for one that has ended does not come.
                for number in range(50):
                    await viewer.say("subscribe", subscriptions=[{"id": number, "channelId": 1}])
                    await viewer.say("unsubscribe", subscriptionIds=[number])
                (own,) = await viewer.subscribe("/Pose")
                while (found := await viewer.data()).subscription != own:
                    pass
                assert Message.from_bytes(found.payload).stamp == 19
                await viewer.settle()

    async def test_neither_gap_nor_duplicate_where_a_subscription_begins(self) -> None:
        """While poses are sent all the time: from what is retained on, every version of every key."""
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            version = 0

            async def produce() -> None:
                nonlocal version
                while True:
                    for _ in range(3):
                        version += 1
                        await server.send(Pose(version, f"r{version % 4}", 0.0))
                    await asyncio.sleep(0)

            task = asyncio.create_task(produce())
            try:
                async with viewing(server) as viewer:
                    await until(lambda: version > 20)
                    for _ in range(10):
                        (own,) = await viewer.subscribe("/Pose")
                        seen: dict[str, int] = {}
                        for _ in range(100):
                            found = await viewer.data()
                            if found.subscription != own:
                                continue
                            pose: Any = Message.from_bytes(found.payload)
                            assert pose.stamp == seen.get(pose.robot, pose.stamp - 4) + 4
                            seen[pose.robot] = pose.stamp
                        assert len(seen) == 4
                        await viewer.say("unsubscribe", subscriptionIds=[own])
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def test_a_viewer_that_does_not_read_gets_the_newest(self) -> None:
        """Policy latest holds: it is not closed, and the others get everything."""
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True, max_backlog=1 << 20) as server:
            async with (
                viewing(server, max_queue=1) as viewer,
                WsClient[Message].connect(server.local_addr()) as client,
            ):
                await viewer.subscribe("/Picture", "/Pose")
                await viewer.settle()
                (slow,) = [peer for peer in server.clients if peer.request.subprotocol]
                for number in range(400):
                    server.send_nowait(Picture(number, 1, bytes(200_000)))
                    assert (await client.recv()).stamp == number
                server.send_nowait(Pose(400, "a", 0.0))
                stamps = [Message.from_bytes((await viewer.data()).payload).stamp]
                while stamps[-1] < 400:
                    stamps.append(Message.from_bytes((await viewer.data()).payload).stamp)
                assert stamps == sorted(stamps)
                assert stamps[-2] == 399 and len(stamps) < 200
                assert slow.stats().superseded == 401 - len(stamps)

    async def test_a_viewer_that_is_too_slow_for_reliable_messages_is_closed(self, caplog: Any) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True, max_backlog=1 << 20) as server:
            async with viewing(server, max_queue=1) as viewer:
                await viewer.subscribe("/Note")
                await viewer.settle()
                text = "x" * 100_000
                while server.client_count():
                    server.send_nowait(Note(1, text))
                    await asyncio.sleep(0)
                with contextlib.suppress(websockets.ConnectionClosed):
                    while True:
                        await viewer.data()
                assert viewer.ws.close_code == 1013

    async def test_messages_for_it_alone_and_for_all_but_it(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.subscribe("/Tick")
                await viewer.settle()
                (peer,) = server.clients
                server.send_nowait(Tick(1, 0.0))
                peer.send_nowait(Tick(2, 0.0))
                server.send_nowait(Tick(3, 0.0), except_=peer)
                peer.send_nowait(Note(4, None))
                server.send_nowait(Tick(5, 0.0))
                assert [value.stamp for value in await values(viewer, 3)] == [1, 2, 5]

    async def test_it_goes_on_after_much_that_it_did_not_want(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True, max_backlog=1 << 20) as server:
            async with viewing(server) as viewer:
                await viewer.subscribe("/Tick")
                await viewer.settle()
                for number in range(200):
                    server.send_nowait(Note(number, "x" * 50_000))
                    if number % 8 == 0:
                        await asyncio.sleep(0)
                server.send_nowait(Tick(1, 0.0))
                assert (await values(viewer, 1))[0].stamp == 1
                assert server.stats().queued_bytes == 0

    async def test_the_server_says_goodbye(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.subscribe("/Tick")
                await viewer.settle()
                server.send_nowait(Tick(1, 0.0))
                await server.close()
                assert (await values(viewer, 1))[0].stamp == 1
                with pytest.raises(websockets.ConnectionClosed):
                    await viewer.data()
                assert viewer.ws.close_code == 1001


class TestWrongWords:
    """What a viewer says wrongly is answered by a status, as foxglove's own server does."""

    @pytest.mark.parametrize(
        ("said", "level", "answer"),
        [
            ("{", 2, "Invalid message: "),
            ("", 2, "Invalid message: "),
            ("[]", 2, "Invalid message: a message is a JSON object"),
            ("{}", 2, "Invalid message: missing field `op`"),
            ('{"op":7}', 2, "Invalid message: `op` is 7"),
            ('{"op":"nope"}', 2, "Invalid message: unknown operation 'nope'"),
            ('{"op":"\\ud800"}', 2, "Invalid message: unknown operation"),
            ('{"op":"subscribe"}', 2, "Invalid message: missing field `subscriptions`"),
            ('{"op":"subscribe","subscriptions":{}}', 2, "Invalid message: `subscriptions` is an object"),
            ('{"op":"subscribe","subscriptions":[7]}', 2, "Invalid message: 7 is no JSON object"),
            (
                '{"op":"subscribe","subscriptions":[{"id":1}]}',
                2,
                "Invalid message: missing field `channelId`",
            ),
            (
                '{"op":"subscribe","subscriptions":[{"id":-1,"channelId":1}]}',
                2,
                "Invalid message: `id` is -1",
            ),
            (
                '{"op":"subscribe","subscriptions":[{"id":true,"channelId":1}]}',
                2,
                "Invalid message: `id` is T",
            ),
            (
                '{"op":"subscribe","subscriptions":[{"id":1.5,"channelId":1}]}',
                2,
                "Invalid message: `id` is 1.5",
            ),
            (
                '{"op":"subscribe","subscriptions":[{"id":4294967296,"channelId":1}]}',
                2,
                "Invalid message: `id`",
            ),
            ('{"op":"subscribe","subscriptions":[{"id":1,"channelId":0}]}', 2, "Unknown channel ID: 0"),
            ('{"op":"subscribe","subscriptions":[{"id":1,"channelId":99}]}', 2, "Unknown channel ID: 99"),
            ('{"op":"unsubscribe","subscriptionIds":["a"]}', 2, "Invalid message: `subscriptionIds` is 'a'"),
            ('{"op":"unadvertise","channelIds":[5]}', 1, "Client is not advertising channel: 5"),
            ('{"op":"advertise","channels":[]}', 2, "Server does not support clientPublish capability"),
            ('{"op":"advertise","channels":[{"id":1}]}', 2, "Invalid message: missing field `topic`"),
            ('{"op":"getParameters"}', 2, "Server does not support parameters capability"),
            ('{"op":"fetchAsset"}', 2, "Server does not support assets capability"),
            ('{"op":"subscribeConnectionGraph"}', 2, "Server does not support connection graph capability"),
            ("[" * 200_000, 2, "Invalid message: JSON that is nested too deeply"),
            ("9" * 200_000, 2, "Invalid message: "),
            (json.dumps({"op": "x" * 300_000}), 2, "Invalid message: a text of more than 262144 bytes"),
            (json.dumps({"op": "x" * 200_000}), 2, "Invalid message: unknown operation 'xxx"),
            (b"\x01\x01", 2, "Invalid message: Buffer too short"),
            (b"\xff", 2, "Invalid message: Unknown binary opcode 255"),
            (b"\x01\x07\0\0\0abc", 2, "Unknown channel ID: 7"),
            (b"\x03" + bytes(18), 2, "Server does not support playback control capability"),
        ],
    )
    @pytest.mark.loops("asyncio")
    async def test_a_status_and_no_more(self, said: Any, level: int, answer: str, caplog: Any) -> None:
        caplog.set_level(logging.DEBUG)
        async with WsServer[Message, Stop].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.ws.send(said)
                heard = await viewer.text()
                assert (heard["op"], heard["level"]) == ("status", level)
                assert heard["message"].startswith(answer) and len(heard["message"]) < 300
                await viewer.subscribe("/Tick")
                await viewer.settle()
                server.send_nowait(Tick(1, 0.0))
                assert (await values(viewer, 1))[0].stamp == 1
                assert server.stats().inbox_bytes == 0 and server.stats().messages_in == 0
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    async def test_ids_that_collide(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.say("subscribe", subscriptions=[{"id": 7, "channelId": 2}])
                await viewer.say("subscribe", subscriptions=[{"id": 8, "channelId": 2}])
                heard = await viewer.text()
                assert (heard["level"], heard["message"]) == (
                    1,
                    "Client is already subscribed to channel: 2; ignoring subscription",
                )
                await viewer.say("subscribe", subscriptions=[{"id": 7, "channelId": 3}])
                heard = await viewer.text()
                assert (heard["level"], heard["message"]) == (
                    2,
                    "Subscription ID was already used: 7; ignoring subscription",
                )
                server.send_nowait(Note(1, None))
                server.send_nowait(Tick(2, 0.0))
                found = await viewer.data()
                assert found.subscription == 7 and Message.from_bytes(found.payload).stamp == 2

    async def test_calls_of_services_fail(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.ws.send(b"\x02" + b"\x05\0\0\0" + b"\x06\0\0\0" + b"\x04\0\0\0jsonx")
                assert await viewer.text() == {
                    "op": "serviceCallFailure",
                    "serviceId": 5,
                    "callId": 6,
                    "message": "Server does not support services",
                }

    async def test_a_text_that_is_not_utf8_ends_the_connection(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.ws.send(b"\xff\xfe", text=True)
                with pytest.raises(websockets.ConnectionClosed):
                    await viewer.text()
                assert viewer.ws.close_code == 1007

    async def test_a_hello_of_ours_is_a_text_like_any_other(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server) as viewer:
                await viewer.ws.send("deli 1 hello down=? up=-")
                assert (await viewer.text())["message"].startswith("Invalid message")

    async def test_one_message_has_few_answers_and_who_does_not_read_none(self) -> None:
        """Nothing that a viewer causes waits in memory."""
        async with WsServer[Message, None].bind("127.0.0.1:0", foxglove=True) as server:
            async with viewing(server, max_queue=1) as viewer:
                await viewer.say(
                    "subscribe", subscriptions=[{"id": 1, "channelId": 50 + i} for i in range(2000)]
                )
                for number in range(8):
                    assert (await viewer.text())["message"] == f"Unknown channel ID: {50 + number}"
                await viewer.settle()
                await viewer.subscribe("/Picture")
                await viewer.settle()
                (peer,) = server.clients
                for _ in range(100):  # it reads nothing of this
                    server.send_nowait(Picture(1, 1, bytes(200_000)))
                    await asyncio.sleep(0)
                for _ in range(500):
                    await viewer.ws.send("{")
                size = peer.stats().queued_bytes
                for _ in range(500):
                    await viewer.ws.send("{")
                await until(lambda: peer.stats().queued_bytes <= size)
                assert peer.is_open
                viewer.ws.transport.abort()  # who reads nothing gets no CLOSE either

    @pytest.mark.loops("asyncio")
    async def test_junk_ends_in_statuses_or_a_close(self, caplog: Any) -> None:
        """Mutations of what a viewer may say; the server goes on, and logs nothing above INFO."""
        rng = random.Random(11)
        good: list[bytes] = [
            b'{"op":"subscribe","subscriptions":[{"id":1,"channelId":1},{"id":2,"channelId":2}]}',
            b'{"op":"unsubscribe","subscriptionIds":[1,2]}',
            b'{"op":"advertise","channels":[{"id":1,"topic":"/a","encoding":"ros1","schemaName":"x"}]}',
            b'{"op":"unadvertise","channelIds":[1]}',
            b"\x01\x01\x00\x00\x00\x01\x00\x00\x00a",
            b"\x03\x00\x00\x00\x80?\x01\x00^\xd0\xb2\x00\x00\x00\x00\x02\x00\x00\x00hi",
        ]
        async with WsServer[Message, Stop].bind("127.0.0.1:0", foxglove=True) as server:
            for _ in range(15):
                async with viewing(server) as viewer:
                    with contextlib.suppress(websockets.ConnectionClosed):
                        for _ in range(60):
                            data = bytearray(rng.choice(good))
                            for _ in range(rng.randrange(4)):
                                data[rng.randrange(len(data))] = rng.randrange(256)
                            await viewer.ws.send(bytes(data), text=bool(rng.random() < 0.6))
                            server.send_nowait(Tick(1, 0.0))
            async with viewing(server) as viewer:
                await viewer.settle()
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []
