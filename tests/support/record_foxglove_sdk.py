"""Records what the server of ``foxglove-sdk`` says, as tests/vectors/foxglove_sdk.json.

    python tests/support/record_foxglove_sdk.py FILE

Run it in an environment with ``foxglove-sdk`` and ``websockets``. The tests need only the file.
Each scenario is a server in a process of its own, with the channels ``/Tick`` and ``/Note``, and one raw
client. Each step is what the client says or the server sends, and what the client hears until it is silent.
What is binary is in hexadecimal. What differs from run to run is replaced: the id of the session is 0, and
channels are in the order of their ids.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUIET_S = 0.3
START = 1_700_000_000_000_000_000
SDK, OLD = "foxglove.sdk.v1", "foxglove.websocket.v1"
TICK = {
    "encoding": "ros1",
    "name": "deli/Tick",
    "schema_encoding": "ros1msg",
    "schema": "uint32 variant\nuint32 stamp\nfloat32 price\n",
}
NOTE = {
    "encoding": "deli",
    "name": "Note",
    "schema_encoding": "deli",
    "schema": "deli 1\nroot Message\nsealed Message\n 0 Tick\n  stamp u32\n  price f32\n"
    " 1 Note\n  stamp u32\n  text str?\n",
}
ONE = struct.pack("<2If", 0, 1, 0.5).hex()
TWO = struct.pack("<2If", 0, 2, 1.5).hex()
OWN = {"id": 3, "topic": "/up/Go", "encoding": "ros1", "schemaName": "deli/Go"}
GO = struct.pack("<BIf", 1, 3, 0.5).hex()


def control(command: int, speed: float, seek: int | None, name: bytes) -> str:
    """A request to the player, in hexadecimal."""
    found = struct.pack("<BBfBQI", 3, command, speed, seek is not None, seek or 0, len(name)) + name
    return found.hex()


SCENARIOS: list[dict[str, Any]] = [
    {"name": "the older subprotocol alone", "offers": [OLD], "steps": []},
    {"name": "no subprotocol", "offers": [], "steps": []},
    {
        "name": "a viewer",
        "offers": [SDK],
        "steps": [
            {"says": {"op": "subscribe", "subscriptions": [{"id": 7, "channelId": 1}]}},
            {"sends": ["/Tick", ONE]},
            {"says": {"op": "subscribe", "subscriptions": [{"id": 8, "channelId": 1}]}},
            {"says": {"op": "subscribe", "subscriptions": [{"id": 7, "channelId": 2}]}},
            {"says": {"op": "subscribe", "subscriptions": [{"id": 9, "channelId": 99}]}},
            {"says": {"op": "unsubscribe", "subscriptionIds": [7]}},
            {"says": {"op": "unsubscribe", "subscriptionIds": [55]}},
            {"sends": ["/Tick", ONE]},
            {"says": {"op": "subscribe", "subscriptions": [{"id": 0, "channelId": 1}]}},
            {"sends": ["/Tick", TWO]},
        ],
    },
    {
        "name": "what the server cannot do",
        "offers": [SDK],
        "steps": [
            {"says": {"op": "advertise", "channels": [OWN]}},
            {"says_hex": GO},
            {"says": {"op": "unadvertise", "channelIds": [3]}},
            {"says": {"op": "getParameters", "parameterNames": ["a"], "id": "1"}},
            {"says": {"op": "setParameters", "parameters": [], "id": "1"}},
            {"says": {"op": "subscribeParameterUpdates", "parameterNames": []}},
            {"says": {"op": "unsubscribeParameterUpdates", "parameterNames": []}},
            {"says": {"op": "subscribeConnectionGraph"}},
            {"says": {"op": "unsubscribeConnectionGraph"}},
            {"says": {"op": "fetchAsset", "uri": "package://a", "requestId": 1}},
            {"says_hex": struct.pack("<BIII4s", 2, 5, 6, 4, b"ros1").hex()},
            {"says_hex": control(0, 1.0, None, b"r1")},
        ],
    },
    {
        "name": "what is no message",
        "offers": [SDK],
        "steps": [
            {"says": {"op": "dance"}},
            {"says_text": "{"},
            {"says": {"op": "subscribe"}},
            {"says_hex": "01"},
            {"says_hex": "63"},
            {"says_hex": ""},
        ],
    },
    {
        "name": "a viewer that publishes",
        "offers": [SDK],
        "publishes": True,
        "steps": [
            {"says": {"op": "advertise", "channels": [OWN]}},
            {"says_hex": GO},
            {"says": {"op": "advertise", "channels": [OWN]}},
            {"says_hex": struct.pack("<BIf", 1, 4, 0.5).hex()},
            {"says": {"op": "unadvertise", "channelIds": [3]}},
            {"says": {"op": "unadvertise", "channelIds": [3]}},
            {"says_hex": GO},
        ],
    },
    {
        "name": "a viewer that controls the player",
        "offers": [SDK],
        "plays": [START, START + 1_000_000_000],
        "steps": [
            {"says_hex": control(1, 2.0, START + 500_000_000, b"r1")},
            {"says_hex": control(1, 0.5, None, b"r2")},
            {"says_hex": "03"},
        ],
    },
]


def serve(name: str) -> None:
    """Serve one scenario; lines of standard input say what is sent."""
    import foxglove
    from foxglove import Channel, Context, Schema
    from foxglove.websocket import Capability, PlaybackState, PlaybackStatus

    scenario = next(each for each in SCENARIOS if each["name"] == name)
    context = Context()
    channels = {
        topic: Channel(
            topic,
            message_encoding=each["encoding"],
            schema=Schema(name=each["name"], encoding=each["schema_encoding"], data=each["schema"].encode()),
            context=context,
        )
        for topic, each in (("/Tick", TICK), ("/Note", NOTE))
    }

    class Listener:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

        def __init__(self) -> None:
            self.at = START

        def on_playback_control_request(self, request: Any) -> Any:
            self.at = self.at if request.seek_time is None else request.seek_time
            return PlaybackState(
                PlaybackStatus.Paused,
                self.at,
                request.playback_speed,
                request.seek_time is not None,
                request.request_id,
            )

    options: dict[str, Any] = {}
    if scenario.get("publishes"):
        options = {"capabilities": [Capability.ClientPublish], "supported_encodings": ["ros1", "deli"]}
    if "plays" in scenario:
        options = {
            "capabilities": [Capability.Time, Capability.PlaybackControl],
            "playback_time_range": tuple(scenario["plays"]),
        }
    server = foxglove.start_server(
        name="deli-com: Message", port=0, context=context, server_listener=Listener(), **options
    )
    print(server.port, flush=True)
    for line in sys.stdin:
        topic, payload = json.loads(line)
        channels[topic].log(bytes.fromhex(payload), log_time=START)
    server.stop()


async def exchange(scenario: dict[str, Any], port: int, say: Any) -> dict[str, Any]:
    """Talk to the server; gives what was said and heard."""
    import websockets

    found: dict[str, Any] = {key: value for key, value in scenario.items() if key != "steps"}
    try:
        ws = await websockets.connect(
            f"ws://127.0.0.1:{port}", subprotocols=scenario["offers"] or None, proxy=None
        )
    except websockets.InvalidHandshake as error:
        response = getattr(error, "response", None)
        return found | {"refused": None if response is None else response.status_code}
    async with ws:

        async def hear() -> list[Any]:
            heard: list[Any] = []
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        data = await ws.recv()
                except TimeoutError:
                    return heard
                heard.append({"hex": data.hex()} if isinstance(data, bytes) else json.loads(data))

        found["chooses"] = ws.subprotocol
        steps: list[dict[str, Any]] = [{"hears": await hear()}]
        info, advertised = steps[0]["hears"]
        info["sessionId"] = "0"
        advertised["channels"].sort(key=lambda channel: channel["id"])
        for step in scenario["steps"]:
            if "sends" in step:
                say(json.dumps(step["sends"]))
            elif "says_hex" in step:
                await ws.send(bytes.fromhex(step["says_hex"]))
            else:
                await ws.send(step.get("says_text") or json.dumps(step["says"]))
            steps.append({**step, "hears": await hear()})
    return found | {"steps": steps}


def main() -> None:
    scenarios = []
    for scenario in SCENARIOS:
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve", scenario["name"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None

        def say(line: str, stdin: Any = stdin) -> None:
            stdin.write(line + "\n")
            stdin.flush()

        scenarios.append(asyncio.run(exchange(scenario, int(stdout.readline()), say)))
        stdin.close()
        process.wait(10)
    found = {"foxglove-sdk": version("foxglove-sdk"), "scenarios": scenarios}
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        main()
