"""Recorded servers and clients: the file has what they send and receive."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from helpers import until

from deli_com import (
    Array,
    BacklogFull,
    Client,
    Codec,
    Server,
    WsClient,
    WsServer,
    connect_blocking,
    f32,
    serve_background,
    u8,
    u32,
)
from deli_com.recording import live
from deli_com.recording import recorder as recorder_module
from deli_com.recording.recording import Recording


class Point(Codec):
    x: f32
    y: f32


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: Point


class Tick(Message):
    price: f32


class Stop(Codec):
    reason: str | None


class Picture(Codec):
    number: u32
    data: bytes


def topics(path: Path) -> dict[str, int]:
    return {channel.topic: channel.messages for channel in Recording(path).channels}


def values(path: Path, *wanted: str) -> list[Any]:
    return [value.to_bytes() for _, value in Recording(path).select(*wanted)]


async def test_a_server_is_recorded_with_nobody_connected(tmp_path: Path):
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        async with server.record(tmp_path / "run.mcap") as recorder:
            for number in range(100):
                server.send_nowait(Tick(number, number / 2))
        server.send_nowait(Tick(1, 1.0))  # after its end
    assert (recorder.stats.messages, recorder.stats.left_out, recorder.stats.error) == (100, 0, None)
    recording = Recording[Message](tmp_path / "run.mcap")
    assert recording.is_whole
    assert [value for _, value in recording] == [Tick(number, number / 2) for number in range(100)]
    times = [at for at, _ in recording]
    assert times == sorted(times)


@pytest.mark.parametrize("kind", [(WsServer, WsClient), (Server, Client)])
async def test_all_ways_to_send_are_recorded_once_in_their_order(tmp_path: Path, kind: Any):
    server_class, client_class = kind
    async with (
        server_class[Message, Stop].bind("127.0.0.1:0") as server,
        client_class[Message, Stop].connect(server.local_addr()) as client,
    ):
        await server.wait_clients(1)
        [peer] = server.clients
        group = server.group("left")
        async with server.record(tmp_path / "run.mcap"):
            server.send_nowait(Tick(0, 0.0))
            await server.send(Tick(1, 0.0))
            group.send_nowait(Pose(2, "a", Point(0.0, 0.0)))
            group.send_nowait(Tick(3, 0.0))
            peer.send_nowait(Tick(4, 0.0))
            server.send_nowait(Pose(5, "b", Point(0.0, 0.0)), except_=peer)
            thread = threading.Thread(target=server.send_nowait, args=(Tick(6, 0.0),))
            thread.start()
            await asyncio.to_thread(thread.join)
            client.send_nowait(Stop("enough"))
            assert await server.recv() == Stop("enough")
    assert topics(tmp_path / "run.mcap") == {
        "/Tick": 3, "/group/left/Pose": 1, "/group/left/Tick": 1, "/peer/Tick": 1, "/Pose": 1, "/up/Stop": 1,
    }  # fmt: skip
    down = [value.stamp for _, value in Recording(tmp_path / "run.mcap") if hasattr(value, "stamp")]
    assert sorted(down) == [0, 1, 2, 3, 4, 5, 6] and down[:3] == [0, 1, 2]


async def test_a_client_records_what_it_sends_and_receives(tmp_path: Path):
    async with (
        WsServer[Message, Stop].bind("127.0.0.1:0") as server,
        WsClient[Message, Stop].connect(server.local_addr()) as client,
    ):
        await server.wait_clients(1)
        async with client.record(tmp_path / "run.mcap") as recorder:
            client.send_nowait(Stop("a" * 200))  # masked on its way
            await server.recv()
            server.send_nowait(Pose(1, "a", Point(1.0, 2.0)))
            await client.recv()
        assert recorder.stats.messages == 2
    assert values(tmp_path / "run.mcap") == [
        Stop("a" * 200).to_bytes(),
        Pose(1, "a", Point(1.0, 2.0)).to_bytes(),
    ]
    assert topics(tmp_path / "run.mcap") == {"/up/Stop": 1, "/Pose": 1}


class Wide(Codec):
    number: u32
    data: Array[f32]
    last: bytes


@pytest.mark.parametrize("size", [0, 1, 125, 126, 32_767, 32_768, 300_000, 1_000_000])
async def test_payloads_of_every_size(tmp_path: Path, size: int):
    """In a slab, in an object of their own, with a tail by reference."""
    sent: list[Any] = [Picture(1, os.urandom(size)), Picture(2, os.urandom(size // 2))]
    async with WsServer[Picture, None].bind("127.0.0.1:0") as server, server.record(tmp_path / "a.mcap"):
        for picture in sent:
            server.send_nowait(picture)
        await server.send(sent[0])
    assert [v for _, v in Recording[Picture](tmp_path / "a.mcap")] == [*sent, sent[0]]
    numbers: npt.NDArray[np.float32] = np.arange(size // 4, dtype=np.float32)
    wide = Wide(1, numbers, os.urandom(size))
    async with WsServer[Wide, None].bind("127.0.0.1:0") as server, server.record(tmp_path / "b.mcap"):
        server.send_nowait(wide)
    assert values(tmp_path / "b.mcap") == [wide.to_bytes()]


async def test_what_is_refused_is_not_recorded(tmp_path: Path):
    async with WsServer[Picture, None].bind("127.0.0.1:0", max_message_size=1000) as server:
        async with server.record(tmp_path / "run.mcap"):
            with pytest.raises(Exception, match="1000"):
                server.send_nowait(Picture(1, bytes(2000)))
            with pytest.raises(Exception, match="u32"):
                server.send_nowait(Picture(-1, b""))
            server.send_nowait(Picture(1, b"x"))
        with pytest.raises(Exception, match="1000"):  # nor is a limit forgotten when it ends
            server.send_nowait(Picture(1, bytes(2000)))
    assert values(tmp_path / "run.mcap") == [Picture(1, b"x").to_bytes()]


async def test_what_is_no_value_is_not_recorded(tmp_path: Path):
    async with (
        WsServer[Message, Stop].bind("127.0.0.1:0", schema=None) as server,
        WsClient[Message, bytes].connect(server.local_addr(), schema=None) as client,
    ):
        async with server.record(tmp_path / "run.mcap"):
            client.send_nowait(b"another type")
            await until(lambda: server.stats().refused["undecodable"])
    assert topics(tmp_path / "run.mcap") == {}


class NewStop(Codec):
    level: u8 = 3
    reason: str | None = None


async def test_what_was_written_by_another_schema_is_recorded_as_ours(tmp_path: Path):
    class Stop(Codec):
        reason: str | None

    async with (
        WsServer[Message, NewStop].bind("127.0.0.1:0") as server,
        WsClient[Message, Stop].connect(server.local_addr()) as client,
    ):
        async with server.record(tmp_path / "run.mcap"):
            client.send_nowait(Stop("old"))
            assert await server.recv() == NewStop(3, "old")
    assert [value for _, value in Recording[NewStop](tmp_path / "run.mcap")] == [NewStop(3, "old")]


async def test_the_retained_values_are_keyframes_of_each_part(tmp_path: Path):
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        server.send_nowait(Pose(1, "a", Point(0.0, 0.0)))
        server.send_nowait(Pose(2, "b" * 70_000, Point(0.0, 0.0)))
        async with server.record(tmp_path / "run.mcap", split_bytes=400_000) as recorder:
            for number in range(200):
                server.send_nowait(Pose(number, "c" * 9_000, Point(0.0, 0.0)))
                await server.send(Tick(number, 0.0))
                await until(lambda: not recorder.stats.waiting)
    assert len(recorder.files) > 2
    for number, path in enumerate(recorder.files[:-1]):
        robots = {value.robot[0] for _, value in Recording(path).select("/keyframe/Pose")}
        assert robots == ({"a", "b", "c"} if number else {"a", "b"}), path


async def test_several_recordings_at_once_and_one_that_ends(tmp_path: Path):
    async with WsServer[Message, None].bind("127.0.0.1:0", record=tmp_path / "bind.mcap") as server:
        first = server.record(tmp_path / "first.mcap")
        server.send_nowait(Tick(1, 0.0))
        with server.record(tmp_path / "second.mcap", compression="zstd"):
            server.send_nowait(Tick(2, 0.0))
        server.send_nowait(Tick(3, 0.0))
        await first.aclose()
        server.send_nowait(Tick(4, 0.0))
    for name, expected in {"bind": [1, 2, 3, 4], "first": [1, 2, 3], "second": [2]}.items():
        assert [value.stamp for _, value in Recording(tmp_path / f"{name}.mcap")] == expected


async def test_bind_takes_the_arguments_by_name_and_fails_whole(tmp_path: Path):
    path = tmp_path / "run.mcap"
    async with Server[Message, None].bind(
        "127.0.0.1:0", record={"path": path, "compression": "lz4"}
    ) as server:
        server.send_nowait(Tick(1, 0.0))
    assert len(Recording(path)) == 1
    with pytest.raises(FileExistsError, match="not empty"):
        await WsServer[Message, None].bind("127.0.0.1:0", record=path)


async def test_the_server_keeps_its_recorder_and_ends_it(tmp_path: Path):
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        held = weakref.ref(server.record(tmp_path / "run.mcap"))
        gc.collect()
        server.send_nowait(Tick(1, 0.0))
        assert held() is not None
    assert Recording(tmp_path / "run.mcap").is_whole


async def test_a_forgotten_server_is_not_kept_by_its_recorder(tmp_path: Path):
    server = await WsServer[Message, None].bind("127.0.0.1:0")
    recorder = server.record(tmp_path / "run.mcap")
    await server.close()
    gone = weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None and recorder.is_closed


async def test_without_room_it_counts_or_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recorder_module, "MAX_WAITING", 1000)
    async with WsServer[Picture, Picture].bind("127.0.0.1:0") as server:
        async with server.record(tmp_path / "count.mcap") as counts:
            server.send_nowait(Picture(1, bytes(2000)))
            server.send_nowait(Picture(2, bytes(20)))
        assert (counts.stats.messages, counts.stats.left_out) == (1, 1)
        async with server.record(tmp_path / "raise.mcap", on_full="raise") as raises:
            with pytest.raises(BacklogFull, match="recorded"):
                server.send_nowait(Picture(1, bytes(2000)))
            server.send_nowait(Picture(2, bytes(20)))
            async with WsClient[Picture].connect(server.local_addr()) as client:
                client.send_nowait(Picture(3, bytes(2000)))
                assert (await server.recv()).number == 3  # who sent it is not here to be told
        assert (raises.stats.messages, raises.stats.error) == (1, None)


async def test_a_disk_that_fails_costs_the_recording_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from deli_com.recording import file

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        async with server.record(tmp_path / "run.mcap") as recorder:
            monkeypatch.setattr(file.os, "write", full)
            server.send_nowait(Tick(1, 0.0))
            await until(lambda: recorder.stats.error is not None)
            monkeypatch.undo()
            server.send_nowait(Tick(2, 0.0))
            assert "No space left" in (recorder.stats.error or "")
    errors = [entry for entry in caplog.records if entry.name == "deli_com.recording"]
    assert len(errors) == 1 and "No space left" in errors[0].getMessage()


async def test_the_last_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with WsServer[Picture, None].bind("127.0.0.1:0") as server:
        box = server.record_last(seconds=60, max_bytes=100_000)
        for number in range(100):
            server.send_nowait(Picture(number, bytes(10_000)))
        assert box.held_bytes <= 100_000
        await box.dump(tmp_path / "one.mcap")
        numbers = [value.number for _, value in Recording(tmp_path / "one.mcap")]
        assert numbers == [*range(numbers[0], 100)] and 7 <= len(numbers) <= 10
        server.send_nowait(Picture(100, b""))
        await box.dump(tmp_path / "two.mcap", compression="zstd")
        assert [value.number for _, value in Recording(tmp_path / "two.mcap")][-1] == 100
        box.seconds = 1e-6
        await box.dump(tmp_path / "none.mcap")
        assert len(Recording(tmp_path / "none.mcap")) == 0
        with pytest.raises(FileExistsError):
            await box.dump(tmp_path / "two.mcap")
        box.close()
        server.send_nowait(Picture(101, b""))
        assert box.held_bytes == 0
        with pytest.raises(ValueError, match="seconds is "):
            server.record_last(seconds=0)


async def test_from_another_thread_it_is_an_error(tmp_path: Path):
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        with pytest.raises(RuntimeError, match="record"):
            await asyncio.to_thread(server.record, tmp_path / "run.mcap")
    assert not (tmp_path / "run.mcap").exists()


PROGRAM = """
import asyncio, sys
from deli_com import Codec, WsServer, u32
class Tick(Codec):
    stamp: u32
async def main():
    server = await WsServer[Tick, None].bind("127.0.0.1:0")
    server.record(sys.argv[1])
    for number in range(1000):
        server.send_nowait(Tick(number))
    return server
kept = asyncio.run(main())
"""


def test_a_program_that_just_ends_leaves_a_whole_file(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", PROGRAM, str(tmp_path / "run.mcap")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    recording = Recording(tmp_path / "run.mcap")
    assert recording.is_whole and len(recording) == 1000


async def test_keyframes_come_again_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "KEYFRAME_S", 0.01)
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        server.send_nowait(Pose(1, "a", Point(0.0, 0.0)))
        async with server.record(tmp_path / "run.mcap") as recorder:
            await until(lambda: recorder.stats.messages >= 4)
        seen = recorder.stats.messages
    assert topics(tmp_path / "run.mcap") == {"/keyframe/Pose": seen}


def test_a_program_without_asyncio_records_all_that_it_has_sent(tmp_path: Path):
    """Also what the loop has yet to take from the thread at the end of the block."""
    with serve_background(WsServer[Picture, None].bind("127.0.0.1:0")) as pictures:
        with pictures.record(tmp_path / "run.mcap", compression="zstd") as recorder:
            for number in range(300):
                pictures.send_nowait(Picture(number, bytes(50_000)))
    assert (recorder.stats.messages, recorder.stats.error) == (300, None)
    assert [value.number for _, value in Recording(tmp_path / "run.mcap")] == [*range(300)]
    with serve_background(WsServer[Message, Stop].bind("127.0.0.1:0")) as server:
        with connect_blocking(WsClient[Message, Stop], server.local_addr()) as client:
            with client.record(tmp_path / "client.mcap"):
                client.send(Stop("enough"))
                assert server.recv(10) == Stop("enough")
                server.send(Tick(1, 0.0))
                assert client.recv(10) == Tick(1, 0.0)
        box = server.record_last(seconds=60)
        server.send_nowait(Tick(2, 0.0))
        server.run(box.dump, tmp_path / "last.mcap")
    assert topics(tmp_path / "client.mcap") == {"/up/Stop": 1, "/Tick": 1}
    assert topics(tmp_path / "last.mcap") == {"/Tick": 1}


@pytest.mark.parametrize("kind", [(WsServer, WsClient), (Server, Client)])
async def test_a_client_records_from_its_first_message_on(tmp_path: Path, kind: Any):
    """What is retained comes with the connection, before the program has a client to call `record` of."""
    server_class, client_class = kind
    async with server_class[Message, Stop].bind("127.0.0.1:0") as server:
        for robot in "abc":
            server.send_nowait(Pose(1, robot, Point(0.0, 0.0)))
        where = {"path": tmp_path / "run.mcap", "compression": "zstd"}
        async with client_class[Message, Stop].connect(
            server.local_addr(), schema="check", record=where
        ) as client:
            assert [(await client.recv()).robot for _ in range(3)] == ["a", "b", "c"]
            client.send_nowait(Stop("enough"))
            await server.recv()
            server.send_nowait(Tick(2, 0.0))
            await client.recv()
            assert client.recorders[0].stats.messages == 5
    assert topics(tmp_path / "run.mcap") == {"/Pose": 3, "/up/Stop": 1, "/Tick": 1}
    times = [at for at, _ in Recording(tmp_path / "run.mcap")]
    assert times == sorted(times)
    with pytest.raises(FileExistsError):
        async with server_class[Message, None].bind("127.0.0.1:0") as server:
            await client_class[Message].connect(server.local_addr(), record=tmp_path / "run.mcap")


async def test_what_a_newer_server_retains_is_recorded_by_its_schema(tmp_path: Path):
    class Message(Codec, sealed=True):
        stamp: u32

    class Gone(Message):
        pass

    class Pose(Message, policy="latest", key="robot", retain=True):
        robot: str
        at: Point
        battery: u8

    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        server.send_nowait(Pose(1, "a", Point(0.5, 0.5), 90))
        path = tmp_path / "run.mcap"
        async with WsClient[globals()["Message"]].connect(server.local_addr(), record=path) as client:
            assert (await client.recv()).at == Point(0.5, 0.5)
    assert [value.battery for _, value in Recording(path)] == [90]
    assert [value.robot for _, value in Recording[globals()["Message"]](path)] == ["a"]


async def test_a_stream_records_each_connection(tmp_path: Path):
    paths = [tmp_path / "0.mcap", tmp_path / "1.mcap"]
    left = iter(paths)
    server = await WsServer[Message, None].bind("127.0.0.1:0")
    server.send_nowait(Pose(1, "a", Point(0.0, 0.0)))
    with pytest.raises(TypeError, match="a path for each connection"):
        WsClient[Message].stream(server.local_addr(), record=paths[0])
    async with WsClient[Message].stream(
        server.local_addr(), record=lambda: next(left), first_delay=0.01
    ) as stream:
        assert (await anext(stream)).stamp == 1
        await server.close()
        server = await WsServer[Message, None].bind(server.local_addr())
        server.send_nowait(Pose(2, "a", Point(0.0, 0.0)))
        assert (await anext(stream)).stamp == 2
    await server.close()
    assert [[value.stamp for _, value in Recording(path)] for path in paths] == [[1], [2]]
