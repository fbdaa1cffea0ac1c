"""Foxglove's own client, `FoxgloveClient` of ``@foxglove/ws-protocol`` in Node, at a server and a replay."""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from foxglove_client import foxglove_client

from deli_com import Array, Codec, Replay, WsServer, codec, f32, u32, u64

pytestmark = pytest.mark.loops("asyncio")  # what differs between loops is tested with a client in Python


class Point(Codec):
    x: f32
    y: f32


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: Point


class Scan(Message):
    ranges: Array[f32]
    big: u64


class Note(Message):
    text: str | None


class Go(Codec):
    robot: str
    speed: f32


def pose(stamp: int, robot: str, x: float) -> tuple[str, Any]:
    return "/Pose", {"variant": 0, "stamp": stamp, "robot": robot, "at": {"x": x, "y": 0.5}}


async def test_it_is_told_of_channels_and_gets_what_it_subscribes_to(tmp_path: Path) -> None:
    async with WsServer[Message, Go].bind("127.0.0.1:0", foxglove=True) as server:
        server.send_nowait(Pose(1, "a", Point(1.0, 0.5)))
        server.send_nowait(Pose(2, "b", Point(2.0, 0.5)))
        server.send_nowait(Pose(3, "a", Point(3.0, 0.5)))
        async with foxglove_client(tmp_path, server) as client:
            info = await client.begin()
            assert info["name"] == "deli-com: Message" and info["capabilities"] == []
            await client.hear_channels(3)
            fields = {topic: channel.get("fields") for topic, channel in client.channels.items()}
            assert fields == {
                "/Pose": ["variant", "stamp", "robot", "at"],
                "/Scan": ["variant", "stamp", "ranges", "big"],
                "/Note": None,
            }
            assert client.channels["/Note"]["encoding"] == "deli"
            assert client.channels["/Note"]["schema"] == codec(Message).schema.text

            await client.do("subscribe", topic="/Pose")  # it is late: it gets the newest of each robot
            assert sorted((await client.messages(2)), key=str) == sorted(
                [pose(2, "b", 2.0), pose(3, "a", 3.0)], key=str
            )
            await client.do("subscribe", topic="/Scan")
            await client.settle()
            before = time.time_ns()
            server.send_nowait(Scan(4, array("f", [0.5, -1.0]), 2**64 - 1))
            server.send_nowait(Note(5, "nobody asked for it"))
            server.send_nowait(Pose(6, "a", Point(4.0, 0.5)))
            scan = await client.heard("message")
            assert (scan["topic"], scan["value"]) == (
                "/Scan",
                {"variant": 1, "stamp": 4, "ranges": [0.5, -1.0], "big": str(2**64 - 1)},
            )
            assert before <= int(scan["at"]) <= time.time_ns()
            assert await client.messages(1) == [pose(6, "a", 4.0)]

            await client.do("subscribe", topic="/Note")
            await client.do("unsubscribe", topic="/Scan")
            await client.settle()
            server.send_nowait(Scan(7, array("f", [1.0]), 0))
            server.send_nowait(Note(8, "x"))
            assert await client.messages(1) == [("/Note", [*Note(8, "x").to_bytes()])]

            await client.do("parameters")
            status = await client.heard("status")
            assert (status["level"], status["message"]) == (
                2,
                "Server does not support parameters capability",
            )

            async with foxglove_client(tmp_path, server) as late:
                await late.begin()
                await late.hear_channels(3)
                await late.do("subscribe", topic="/Pose")
                found = await late.messages(2)
                assert sorted(found, key=str) == sorted([pose(2, "b", 2.0), pose(6, "a", 4.0)], key=str)
        await server.wait_clients(0)


@pytest.mark.parametrize("option", ["publish", True])
async def test_it_publishes_where_the_server_lets_it(tmp_path: Path, option: Any) -> None:
    channel = {"topic": "/up/Go", "encoding": "ros1", "schemaName": "deli/Go"}
    text = "string robot\nfloat32 speed\n"
    async with WsServer[Message, Go].bind("127.0.0.1:0", foxglove=option) as server:
        async with foxglove_client(tmp_path, server) as client:
            info = await client.begin()
            await client.hear_channels(3)
            await client.do("advertise", channel=channel)
            go = {"robot": "é", "speed": 0.5}
            await client.do("publish", topic="/up/Go", definition=text, value=go)
            if option is True:
                assert info["capabilities"] == [] and "supportedEncodings" not in info
                heard = [(await client.heard("status"))["message"] for _ in range(2)]
                assert heard == ["Server does not support clientPublish capability", "Unknown channel ID: 1"]
                assert server.stats().messages_in == 0
                return
            assert info["capabilities"] == ["clientPublish"]
            assert info["supportedEncodings"] == ["ros1", "deli"]
            peer, value = await server.recv_from()
            assert value == Go("é", 0.5) and peer in server.clients
            await client.settle()
            await client.do("unadvertise", topic="/up/Go")
            await client.do("publish", topic="/up/Go", definition=text, value=go)
            assert (await client.heard("status"))["message"] == "Unknown channel ID: 1"
            await client.do("close")
            assert (await client.heard("close"))["code"] in (1000, 1005)


async def test_a_replay_tells_it_the_time_and_nothing_that_it_does_not_know(tmp_path: Path) -> None:
    """The state of the player is of ``foxglove.sdk.v1`` only: this client takes it for an error."""
    pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")
    from deli_com.recording.recorder import Recorder

    start = 1_700_000_000_000_000_000
    with Recorder(tmp_path / "run.mcap", schemas={"down": codec(Message).schema}) as recorder:
        for number in range(50):
            channel = recorder.channel("down", "Scan")
            recorder.intake.add(
                channel, Scan(number, array("f", [1.0]), 1).to_bytes(), start + number * 20_000_000
            )
    replay = Replay(tmp_path / "run.mcap", speed=1.0)
    replay.pause()
    async with replay.serve("127.0.0.1:0", foxglove=True):
        async with foxglove_client(tmp_path, replay) as client:
            info = await client.begin()
            assert info["capabilities"] == ["time"]
            await client.hear_channels(3)
            await client.do("subscribe", topic="/Scan")
            await client.settle()
            replay.seek("+500ms")
            replay.play()
            times: list[int] = []
            stamps: list[int] = []
            while len(stamps) < 25:
                found = await client.next_event()
                assert found["event"] in ("time", "message"), found
                if found["event"] == "time":
                    times.append(int(found["at"]))
                else:
                    stamps.append(found["value"]["stamp"])
                    assert int(found["at"]) == start + stamps[-1] * 20_000_000
            assert stamps == [*range(25, 50)]
            assert times == sorted(times) and times
            assert start + 500_000_000 <= times[0] and times[-1] <= start + 49 * 20_000_000
