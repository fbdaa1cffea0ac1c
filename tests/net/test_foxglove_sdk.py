"""What a server says to viewers is, field by field, what the server of ``foxglove-sdk`` says.

tests/vectors/foxglove_sdk.json is a recorded exchange with that server, made by
tests/support/record_foxglove_sdk.py. Here the same is said to a server of ours.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets

from deli_com import Codec, Replay, WsServer, codec, f32, u32

EXCHANGE = json.loads((Path(__file__).parents[1] / "vectors" / "foxglove_sdk.json").read_text())
SCENARIOS = EXCHANGE["scenarios"]
START = 1_700_000_000_000_000_000

# The differences, each with its reason. All else is equal: which fields there are, their types, their values.
OUR_OWN_VALUE = {
    "sessionId": "a number that is another for each server, as theirs",
    "metadata": "names the library: its key is theirs",
}
OUR_OWN_WORDS = "Invalid message: "  # what follows are the words of a JSON parser
ALSO_SERVED = {
    "the older subprotocol alone": "Lichtblick and older viewers offer no other",
    "no subprotocol": "it is no viewer, but a client like any other",
}


class Message(Codec, sealed=True):
    stamp: u32


class Tick(Message):
    price: f32


class Note(Message):
    text: str | None


class Go(Codec):
    speed: f32


def test_the_scenarios_are_those_that_were_meant() -> None:
    assert EXCHANGE["foxglove-sdk"] == "0.30.3"
    assert sum(len(each.get("steps", ())) for each in SCENARIOS) == 43
    assert [each["name"] for each in SCENARIOS if "refused" in each] == [*ALSO_SERVED]


def same(ours: Any, theirs: Any, place: str = "") -> None:
    """Compare what was heard."""
    assert type(ours) is type(theirs), f"{place}: {ours!r}, theirs is {theirs!r}"
    if isinstance(theirs, dict) and place.endswith("metadata"):
        assert all(isinstance(value, str) for value in ours.values())
    elif isinstance(theirs, dict):
        assert [*ours] == [*theirs], f"{place} has {[*ours]}, theirs has {[*theirs]}"
        for key in theirs:
            if key not in OUR_OWN_VALUE or key == "metadata":
                same(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), f"{place}: {ours}, theirs is {theirs}"
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            same(*pair, f"{place}[{number}]")
    elif isinstance(theirs, str) and theirs.startswith(OUR_OWN_WORDS):
        assert ours.startswith(OUR_OWN_WORDS) and len(ours) > len(OUR_OWN_WORDS)
    else:
        assert ours == theirs, f"{place}: {ours!r}, theirs is {theirs!r}"


def heard_as(data: str | bytes) -> Any:
    """A message as it is in the file, without the time at which a value was sent."""
    if isinstance(data, str):
        return json.loads(data)
    is_value = data[0] == 1
    return {"hex": (data[:5] + bytes(8) + data[13:] if is_value else data).hex()}


def without_time(heard: dict[str, Any]) -> dict[str, Any]:
    return heard_as(bytes.fromhex(heard["hex"])) if "hex" in heard else heard


async def served(stack: AsyncExitStack, scenario: dict[str, Any], folder: Path) -> Any:
    """A server like theirs."""
    if "plays" not in scenario:
        foxglove: Any = "publish" if scenario.get("publishes") else True
        return await stack.enter_async_context(WsServer[Message, Go].bind("127.0.0.1:0", foxglove=foxglove))
    pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")
    from deli_com.recording.recorder import Recorder

    with Recorder(folder / "run.mcap", schemas={"down": codec(Message).schema}) as recorder:
        for at in scenario["plays"]:
            recorder.intake.add(recorder.channel("down", "Tick"), Tick(1, 0.5).to_bytes(), at)
    replay = Replay(folder / "run.mcap")
    replay.pause()
    await stack.enter_async_context(replay.serve("127.0.0.1:0", foxglove=True))
    return replay.server


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each["name"])
async def test_a_scenario(scenario: dict[str, Any], tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await served(stack, scenario, tmp_path)
        ws = await stack.enter_async_context(
            websockets.connect(
                f"ws://{server.local_addr()}", subprotocols=scenario["offers"] or None, proxy=None
            )
        )
        if scenario["name"] in ALSO_SERVED:
            assert scenario["refused"] == 400
            assert ws.subprotocol == (scenario["offers"] or [None])[0]
            return
        assert ws.subprotocol == scenario["chooses"]

        async def hear(count: int) -> list[Any]:
            return [heard_as(await ws.recv()) for _ in range(count)]

        async def silence() -> None:
            # Whatever else was said came before the answer to this.
            await ws.send('{"op":"subscribe","subscriptions":[{"id":1,"channelId":12345}]}')
            assert await hear(1) == [{"op": "status", "level": 2, "message": "Unknown channel ID: 12345"}]

        for step in scenario["steps"]:
            if "sends" in step:
                server.send_nowait(Message.from_bytes(bytes.fromhex(step["sends"][1])))
            elif "says_hex" in step:
                await ws.send(bytes.fromhex(step["says_hex"]))
            elif "says_text" in step:
                await ws.send(step["says_text"])
            elif "says" in step:
                await ws.send(json.dumps(step["says"]))
            theirs = [without_time(each) for each in step["hears"]]
            same(await hear(len(theirs)), theirs, f"after {step.get('says') or step}")
            await silence()
