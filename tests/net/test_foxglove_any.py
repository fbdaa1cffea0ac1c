"""Whatever a viewer says, a server and a replay go on, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from viewers import viewing

from deli_com import Codec, Replay, WsClient, WsServer, codec, u32
from deli_com.recording.recorder import Recorder


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str


class Tick(Message):
    pass


class Stop(Codec):
    reason: str


OPERATIONS = [
    "subscribe", "unsubscribe", "advertise", "unadvertise", "getParameters", "setParameters",
    "subscribeParameterUpdates", "unsubscribeParameterUpdates", "subscribeConnectionGraph",
    "unsubscribeConnectionGraph", "fetchAsset", "serverInfo", "status",
]  # fmt: skip
NAMES = [
    "op", "subscriptions", "subscriptionIds", "channels", "channelIds", "id", "channelId", "topic",
    "encoding", "schemaName", "schema", "schemaEncoding", "requestId", "parameterNames", "parameters", "uri",
]  # fmt: skip
small = st.integers(-2, 6) | st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63, 2**64, -(2**63)])
leaves = st.none() | st.booleans() | small | st.floats() | st.text(max_size=8) | st.sampled_from(OPERATIONS)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
channel = st.fixed_dictionaries(
    {"id": small, "topic": st.text(max_size=4), "encoding": st.sampled_from(["ros1", "deli", "json"])},
    optional={"schemaName": st.sampled_from(["Stop", "deli/Stop", ""]), "channelId": small},
)
operations = st.one_of(
    st.builds(lambda op, more: {**more, "op": op}, st.sampled_from(OPERATIONS), st.dictionaries(
        st.sampled_from(NAMES), nested, max_size=4)),
    st.builds(lambda found: {"op": "subscribe", "subscriptions": found},
              st.lists(st.fixed_dictionaries({"id": small, "channelId": small}), max_size=4)),
    st.builds(lambda found: {"op": "unsubscribe", "subscriptionIds": found}, st.lists(small, max_size=4)),
    st.builds(lambda found: {"op": "advertise", "channels": found}, st.lists(channel, max_size=3)),
    st.builds(lambda found: {"op": "unadvertise", "channelIds": found}, st.lists(small, max_size=3)),
    nested,
)  # fmt: skip
binaries = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda op, rest: bytes([op]) + rest, st.integers(0, 6), st.binary(max_size=40)),
    # a message of a channel; a request to control a replay
    st.builds(lambda id, rest: struct.pack("<BI", 1, id) + rest, st.integers(0, 6), st.binary(max_size=20)),
    st.builds(
        lambda play, speed, seeks, at, ids: (
            struct.pack("<BBfBQI", 3, play, speed, seeks, at, len(ids)) + ids
        ),
        st.integers(0, 3), st.floats(width=32), st.integers(0, 2),
        st.integers(0, 2**64 - 1) | st.just(1_700_000_000_000_000_000), st.binary(max_size=8),
    ),
)  # fmt: skip
words = st.lists(st.builds(json.dumps, operations) | st.text(max_size=20) | binaries, min_size=1, max_size=20)


async def say(server: Any, said: list[Any]) -> None:
    """One viewer says all of it; after it, another one is served, and a client too."""
    async with viewing(server) as viewer:
        with contextlib.suppress(websockets.ConnectionClosed):
            for data in said:
                await viewer.ws.send(data)
    async with viewing(server) as viewer:
        await viewer.say("subscribe", subscriptions=[{"id": 1, "channelId": 2**60}])
        while isinstance(data := await viewer.ws.recv(), bytes):
            pass  # the time of a replay
        assert json.loads(data)["message"] == f"Unknown channel ID: {2**60}"


@pytest.fixture(scope="module")
def loop_of() -> Any:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("foxglove", [True, "publish"])
def test_a_server_goes_on(loop_of: Any, foxglove: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def opened() -> Any:
        return await WsServer[Message, Stop].bind("127.0.0.1:0", foxglove=foxglove)

    server = loop_of.run(opened())

    async def hear() -> None:
        async with WsClient[Message, Stop].connect(server.local_addr()) as client:
            server.send_nowait(Tick(7))
            while (await client.recv()) != Tick(7):
                pass
            await until_heard(client, server)

    async def until_heard(client: Any, server: Any) -> None:
        client.send_nowait(Stop("own"))
        while (await server.recv()) != Stop("own"):  # viewers may have published
            pass

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(words)
    def anything(said: list[Any]) -> None:
        loop_of.run(say(server, said))

    anything()
    loop_of.run(hear())
    loop_of.run(server.close())
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


def test_a_replay_goes_on(loop_of: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, schemas={"down": codec(Message).schema}) as recorder:
        for number in range(50):
            at = 1_700_000_000_000_000_000 + number * 1_000_000
            recorder.intake.add(recorder.channel("down", "Tick"), Tick(number).to_bytes(), at)

    async def opened() -> Any:
        return await Replay(path, loop=True).serve("127.0.0.1:0", foxglove=True)

    replay = loop_of.run(opened())

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(binaries | st.builds(json.dumps, operations), min_size=1, max_size=20))
    def anything(said: list[Any]) -> None:
        loop_of.run(say(replay.server, said))

    async def hear() -> None:
        replay.speed = 1.0
        replay.seek("+0s")
        replay.play()
        async with WsClient[Message, None].connect(replay.local_addr()) as client:
            assert isinstance(await client.recv(), Tick)

    anything()
    loop_of.run(hear())
    loop_of.run(replay.close())
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []
