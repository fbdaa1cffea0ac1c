"""Replay: a recording served again, at its times, with the retained state for clients that join late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from deli_com import Codec, Recording, Replay, WsClient, WsServer, codec, f32, u32
from deli_com.recording.recorder import Recorder


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    x: f32


class Tick(Message):
    price: f32


class Stop(Codec):
    reason: str | None


MS = 1_000_000
START = 1_700_000_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A second: a tick every 10 ms, and poses of two robots at 0, 400 and 800 ms."""
    path = tmp_path / "run.mcap"
    with Recorder(path, schemas={"down": codec(Message).schema, "up": codec(Stop).schema}) as recorder:
        for number in range(101):
            at = START + 10 * number * MS
            if number % 40 == 0:
                for robot in ("a", "b"):
                    value: Message = Pose(number, robot, float(number))
                    recorder.intake.add(recorder.channel("down", "Pose"), value.to_bytes(), at)
            recorder.intake.add(recorder.channel("down", "Tick"), Tick(number, 0.5).to_bytes(), at)
            recorder.intake.add(recorder.channel("up"), Stop("no").to_bytes(), at)
    return path


async def ticks(client: Any, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        value = await client.recv()
        if isinstance(value, Tick):
            found.append(value.stamp)
    return found


async def test_the_bytes_of_the_file_are_served_to_a_client_with_the_class(path: Path):
    async with Replay(path, speed=50.0, wait_clients=1).serve("127.0.0.1:0") as replay:
        assert replay.duration == 1.0
        async with WsClient[Message, Stop].connect(replay.local_addr()) as client:
            assert client.schema.down.how == "same"
            assert await ticks(client, 101) == [*range(101)]
            await replay.wait_end()
            assert replay.position == replay.duration


async def test_the_schedule_is_the_clocks(path: Path):
    """What comes late is sent at once: nothing adds up."""
    async with Replay(path, speed=4.0, wait_clients=1).serve("127.0.0.1:0") as replay:
        async with WsClient[Message, Stop].connect(replay.local_addr()) as client:
            loop = asyncio.get_running_loop()
            await ticks(client, 1)
            began = loop.time()
            await ticks(client, 99)
            assert loop.time() - began >= 0.99 / 4 - 0.03


async def test_pause_seek_and_play(path: Path):
    replay = Replay(path, speed=1000.0)
    replay.pause()
    async with replay.serve("127.0.0.1:0"):
        async with WsClient[Message, Stop].connect(replay.local_addr()) as client:
            assert replay.position == 0.0 and not replay.is_playing
            await replay.seek("+500ms")
            assert replay.position == 0.5
            poses = [await client.recv(), await client.recv()]
            assert poses == [Pose(40, "a", 40.0), Pose(40, "b", 40.0)]  # the state of that time
            await replay.play()
            assert await ticks(client, 51) == [*range(50, 101)]
            await replay.wait_end()
            replay.play()  # again, from the start
            assert await ticks(client, 101) == [*range(101)]


@pytest.mark.parametrize(("moment", "stamp"), [("+0s", None), ("+100ms", 0), ("+410ms", 40), ("-0s", 80)])
async def test_who_comes_late_gets_the_state_of_that_time(path: Path, moment: str, stamp: int | None):
    replay = Replay(path)
    replay.pause()
    replay.seek("+900ms")  # and back: what is retained goes back as well
    async with replay.serve("127.0.0.1:0"):
        replay.seek(moment)
        async with WsClient[Message, Stop].connect(replay.local_addr()) as client:
            await replay.server.wait_clients(1)
            replay.server.send_nowait(replay.server.down.type.__subclasses__()[1](7, 7.0))
            found = []
            while not isinstance(value := await client.recv(), Tick):
                found.append(value)
            expected = (
                [] if stamp is None else [Pose(stamp, "a", float(stamp)), Pose(stamp, "b", float(stamp))]
            )
            assert found == expected


async def test_keyframes_are_where_the_state_begins(tmp_path: Path):
    path = tmp_path / "run.mcap"
    async with WsServer[Message, None].bind("127.0.0.1:0") as server:
        server.send_nowait(Pose(1, "a", 1.0))  # before the recording
        async with server.record(path):
            server.send_nowait(Tick(2, 0.0))
    replay = Replay(path)
    replay.pause()
    async with replay.serve("127.0.0.1:0"):
        replay.seek("-0s")
        async with WsClient[Message, None].connect(replay.local_addr()) as client:
            assert await client.recv() == Pose(1, "a", 1.0)


async def test_it_begins_again(path: Path):
    async with Replay(path, speed=100.0, loop=True, wait_clients=1).serve("127.0.0.1:0") as replay:
        async with WsClient[Message, Stop].connect(replay.local_addr()) as client:
            assert await ticks(client, 250) == [*range(101), *range(101), *range(48)]


async def test_a_replay_can_be_recorded(path: Path, tmp_path: Path):
    again = tmp_path / "again.mcap"
    async with Replay(path, speed=100.0).serve("127.0.0.1:0", record=again) as replay:
        await replay.wait_end()
    sent = [value for _, value in Recording[Message](path)]
    assert [value for _, value in Recording[Message](again)] == sent


async def test_what_it_refuses(path: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="speed is "):
        Replay(path, speed=0)
    with pytest.raises(FileNotFoundError):
        Replay(tmp_path / "none.mcap")
    (tmp_path / "text").write_text("no recording")
    with pytest.raises(ValueError, match="MCAP"):
        Replay(tmp_path / "text")
    with pytest.raises(RuntimeError, match="serve"):
        Replay(path).local_addr()


async def test_from_another_thread_it_is_an_error(path: Path):
    """Nothing is changed by a call that is refused."""
    async with Replay(path).serve("127.0.0.1:0") as replay:
        replay.pause()
        before = replay.position
        for call in (
            replay.play,
            replay.pause,
            lambda: replay.seek("+1ms"),
            lambda: setattr(replay, "speed", 2.0),
        ):
            with pytest.raises(RuntimeError, match=r"replay\.\w+(\(\))? was called .*thread"):
                await asyncio.to_thread(call)
        for wait in (replay.wait_end, replay.close):
            with pytest.raises(RuntimeError, match=r"replay\.\w+\(\) was called .*thread"):
                await asyncio.to_thread(asyncio.run, wait())
        assert (replay.position, replay.speed, replay.is_playing) == (before, 1.0, False)
        replay.play()
        assert replay.is_playing


async def test_it_is_served_once(path: Path):
    async with Replay(path).serve("127.0.0.1:0") as replay:
        with pytest.raises(RuntimeError, match="is served already, or was: make another Replay"):
            await replay.serve("127.0.0.1:0")
        assert replay.server.local_addr().port


class LateLoop(asyncio.SelectorEventLoop):
    """Time passes only while it waits, and each wait takes 3 ms more than it should."""

    LATE_S = 0.003

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits = 0
        real = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            found = real(0)
            if not found and timeout is None:
                return real(0.01)
            if not found and timeout:
                self.now += timeout + self.LATE_S
                self.waits += 1
            return found

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_delays_do_not_accumulate_over_a_minute(tmp_path: Path, speed: float):
    """Each of 6,000 waits is late, and so is each message, by as much: none is late by two of them."""
    with Recorder(tmp_path / "run.mcap", schemas={"down": codec(Message).schema}) as recorder:
        channel = recorder.channel("down", "Tick")
        for number in range(6000):
            recorder.intake.add(channel, Tick(number, 0.5).to_bytes(), START + number * 10 * MS)
    put: list[tuple[float, int]] = []

    class Noted(Replay):
        def _put(self, payload: bytes, at: int) -> None:
            put.append((loop.time(), at))
            super()._put(payload, at)

    async def main() -> float:
        async with Noted(tmp_path / "run.mcap", speed=speed).serve("127.0.0.1:0") as replay:
            begun = loop.time()
            await replay.wait_end()
            return begun

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        loop: Any = runner.get_loop()
        begun = runner.run(main())
        assert loop.waits >= 5999
    late = [when - begun - (at - START) / 1e9 / speed for when, at in put]
    assert len(late) == 6000
    assert min(late) >= -1e-6 and max(late) <= LateLoop.LATE_S + 1e-6, (min(late), max(late))
    assert max(late[-100:]) <= max(late[:100]) + 1e-6
