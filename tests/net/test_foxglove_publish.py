"""Viewers that publish, and viewers that control a replay."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
from helpers import until
from viewers import viewing

from deli_com import Codec, Replay, WsClient, WsServer, codec, f32, u32
from deli_com.foxglove.playback import parse_control, state


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str


class Tick(Message):
    price: f32


class Command(Codec, sealed=True):
    pass


class Stop(Command):
    reason: str


class Go(Command):
    speed: f32


CHANNEL = {"id": 3, "topic": "/up/Go", "encoding": "ros1", "schemaName": "deli/Go"}


def published(channel: int, value: Command) -> bytes:
    return b"\x01" + struct.pack("<I", channel) + value.to_bytes()


class TestPublishing:
    async def test_what_a_viewer_publishes_is_received_from_it(self) -> None:
        async with WsServer[Message, Command].bind("127.0.0.1:0", foxglove="publish") as server:
            async with viewing(server) as viewer:
                assert viewer.info["capabilities"] == ["clientPublish"]
                assert viewer.info["supportedEncodings"] == ["ros1", "deli"]
                await viewer.say("advertise", channels=[CHANNEL])
                await viewer.ws.send(published(3, Go(0.5)))
                peer, value = await server.recv_from()
                assert value == Go(0.5) and peer in server.clients
                await viewer.say("advertise", channels=[{**CHANNEL, "id": 4, "encoding": "deli"}])
                await viewer.ws.send(published(4, Stop("wall")))
                assert await server.recv() == Stop("wall")
                await viewer.say("unadvertise", channelIds=[3])
                await viewer.ws.send(published(3, Go(0.5)))
                assert (await viewer.text())["message"] == "Unknown channel ID: 3"
                assert server.stats().messages_in == 2

    @pytest.mark.parametrize("option", [True, "publish"])
    async def test_true_lets_nobody_publish(self, option: Any) -> None:
        async with WsServer[Message, Command].bind("127.0.0.1:0", foxglove=option) as server:
            async with viewing(server) as viewer:
                await viewer.say("advertise", channels=[CHANNEL])
                await viewer.ws.send(published(3, Go(0.5)))
                if option == "publish":
                    assert await server.recv() == Go(0.5)
                    return
                assert "supportedEncodings" not in viewer.info
                heard = [(await viewer.text())["message"] for _ in range(2)]
                assert heard == ["Server does not support clientPublish capability", "Unknown channel ID: 3"]
                assert server.stats().messages_in == 0

    async def test_authorize_is_asked_before(self) -> None:
        async with WsServer[Message, Command].bind(
            "127.0.0.1:0", foxglove="publish", authorize=lambda request: request.subprotocol is None
        ) as server:
            with pytest.raises(Exception, match="403"):
                async with viewing(server):
                    pass
            async with WsClient[Message, Command].connect(server.local_addr()) as client:
                client.send_nowait(Go(1.0))
                assert await server.recv() == Go(1.0)

    @pytest.mark.loops("asyncio")
    async def test_wrong_words(self, caplog: Any) -> None:
        async with WsServer[Message, Command].bind("127.0.0.1:0", foxglove="publish") as server:
            async with viewing(server) as viewer:
                await viewer.say("advertise", channels=[{**CHANNEL, "encoding": "json"}])
                assert "encodings are ros1, deli" in (await viewer.text())["message"]
                await viewer.say("advertise", channels=[CHANNEL, CHANNEL])
                assert (await viewer.text())["message"].startswith("Client is already advertising channel: 3")
                for junk in (b"", b"\x07", b"\1\0\0\0abc"):
                    await viewer.ws.send(b"\x01\x03\0\0\0" + junk)
                heard = [(await viewer.text())["message"] for _ in range(3)]
                assert all(text.startswith("Invalid message: it is no ") for text in heard)
                await viewer.say("advertise", channels=[{**CHANNEL, "id": 10 + i} for i in range(2000)])
                assert "1024 channels" in (await viewer.text())["message"]
                await viewer.ws.send(published(3, Go(2.0)))
                assert await server.recv() == Go(2.0)
                assert server.stats().refused["undecodable"] == 3
        assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


MS = 1_000_000
START = 1_700_000_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A second: a tick every 10 ms, and poses of two robots at 0, 400 and 800 ms."""
    pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")
    from deli_com.recording.recorder import Recorder

    path = tmp_path / "run.mcap"
    with Recorder(path, schemas={"down": codec(Message).schema}) as recorder:
        for number in range(101):
            at = START + 10 * number * MS
            if number % 40 == 0:
                for robot in ("a", "b"):
                    value: Message = Pose(number, robot)
                    recorder.intake.add(recorder.channel("down", "Pose"), value.to_bytes(), at)
            recorder.intake.add(recorder.channel("down", "Tick"), Tick(number, 0.5).to_bytes(), at)
    return path


def request(plays: bool, speed: float, seek: int | None, name: bytes) -> bytes:
    return struct.pack("<BBfBQI", 3, not plays, speed, seek is not None, seek or 0, len(name)) + name


class TestPlayback:
    def test_the_bytes_are_those_of_the_crate(self) -> None:
        """From the snapshots in the sources of the Rust crate `foxglove` (tests of protocol/v1)."""
        found = parse_control(
            b"\x03\x00\x00\x00\x80?\x01\x15\xcd[\x07\x00\x00\x00\x00\x07\x00\x00\x00some-id"
        )
        assert (found.plays, found.speed, found.seek, found.id) == (True, 1.0, 123_456_789, b"some-id")
        head = b"\x05\x00\x39\x30\x00\x00\x00\x00\x00\x00\x00\x00\x80?"
        assert state(0, 12345, 1.0, False, b"i-am-a-request") == head + b"\x00\x0e\x00\x00\x00i-am-a-request"
        assert state(0, 12345, 1.0, True) == head + b"\x01\x00\x00\x00\x00"

    @pytest.mark.parametrize(
        "data",
        [
            b"\x03",
            request(True, 1.0, None, b"x")[:-1],
            b"\x03\x02" + request(True, 1.0, None, b"x")[2:],
            request(True, 0.0, None, b"x"),
            request(True, float("nan"), None, b"x"),
            request(True, float("inf"), None, b"x"),
            request(True, -1.0, None, b"x"),
            request(True, 1.0, None, b"\xff"),
            request(True, 1.0, None, b"x" * 5000),
        ],
    )
    def test_what_is_no_request(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            parse_control(data)

    async def test_a_viewer_controls_a_replay(self, path: Path) -> None:
        replay = Replay(path, speed=1.0)
        replay.pause()
        async with replay.serve("127.0.0.1:0", foxglove=True):
            async with viewing(replay.server) as viewer, viewing(replay.server) as other:
                assert viewer.info["capabilities"] == ["time", "playbackControl"]
                assert viewer.info["dataStartTime"] == {"sec": START // 10**9, "nsec": 0}
                assert viewer.info["dataEndTime"] == {"sec": START // 10**9 + 1, "nsec": 0}
                await viewer.subscribe("/Tick")
                await viewer.settle()

                async def next_of(who: Any, *opcodes: int) -> bytes:
                    while (data := await who.ws.recv())[0] not in opcodes:
                        pass
                    assert isinstance(data, bytes)
                    return data

                target = START + 500 * MS
                await viewer.ws.send(request(False, 2.0, target, b"r1"))
                for who in (viewer, other):  # all are told, and nothing of the new time comes before
                    assert await next_of(who, 5, 1) == state(1, target, 2.0, True, b"r1")
                assert not replay.is_playing and replay.speed == 2.0
                await viewer.ws.send(request(True, 50.0, None, b"r2"))
                told = await next_of(viewer, 5, 1)
                assert told[1] == 0 and told[-2:] == b"r2"
                for number in range(50, 101):
                    data = await next_of(viewer, 1)
                    at = struct.unpack_from("<Q", data, 5)[0]
                    assert Message.from_bytes(data[13:]) == Tick(number, 0.5)
                    assert at == START + 10 * number * MS  # the times of the file
                assert await next_of(viewer, 5) == state(3, START + 1000 * MS, 50.0, False)
                replay.seek("+0s")  # the program's doing is told as well
                told = await next_of(viewer, 5)
                assert told[14] == 1 and told[15:] == bytes(4)
                await viewer.ws.send(b"\x03junk")
                while isinstance(data := await viewer.ws.recv(), bytes):
                    pass
                assert "Invalid message: Buffer too short" in data

    async def test_requests_are_answered_in_their_order_also_refused_ones(self, path: Path) -> None:
        replay = Replay(path)
        replay.pause()
        async with replay.serve("127.0.0.1:0", foxglove=True):
            async with viewing(replay.server) as viewer:
                await viewer.ws.send(request(False, 1.0, START + 100 * MS, b"r1"))
                await viewer.ws.send(b"\x03junk")
                await viewer.ws.send(request(False, 2.0, None, b"r2"))
                await viewer.ws.send(request(False, 0.0, None, b"r3"))
                await viewer.ws.send(request(False, 3.0, None, b"r4"))
                heard: list[Any] = []
                while len(heard) < 5:
                    data = await viewer.ws.recv()
                    if isinstance(data, str):
                        heard.append(json.loads(data)["message"].split(":")[0])
                    elif data[0] == 5:
                        heard.append(data[-2:])
                assert heard[:3] == [b"r1", "Invalid message", b"r2"]
                assert heard[4] == b"r4" and replay.speed == 3.0, heard

    async def test_a_seek_gives_the_state_of_that_time_after_it_is_told(self, path: Path) -> None:
        replay = Replay(path)
        replay.pause()
        async with replay.serve("127.0.0.1:0", foxglove=True):
            async with viewing(replay.server) as viewer:
                await viewer.subscribe("/Pose")
                await viewer.settle()
                await viewer.ws.send(request(False, 1.0, START + 500 * MS, b"r"))
                assert (await viewer.ws.recv())[0] == 5
                found = [await viewer.data() for _ in range(2)]
                assert [Message.from_bytes(each.payload).stamp for each in found] == [40, 40]
                assert {each.at for each in found} == {START + 500 * MS}

    async def test_viewers_are_told_the_time_while_it_plays(self, path: Path) -> None:
        async with Replay(path, speed=0.5).serve("127.0.0.1:0", foxglove=True) as replay:
            async with viewing(replay.server) as viewer:
                times: list[int] = []
                while len(times) < 5:
                    data = await viewer.ws.recv()
                    if data[0] == 2:
                        times.append(struct.unpack("<Q", data[1:])[0])
                assert times == sorted(times) and times[0] >= START and times[-1] <= START + 1000 * MS
                replay.pause()
            await until(lambda: replay.server.client_count() == 0)
            await asyncio.sleep(0)
