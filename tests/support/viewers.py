"""A viewer that speaks Foxglove's protocol, for tests."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import websockets

BOTH = ["foxglove.sdk.v1", "foxglove.websocket.v1"]


class Data(NamedTuple):
    """One message of a channel."""

    subscription: int
    at: int  # ns since the epoch
    payload: bytes


class Viewer:
    """What is said and heard on one connection."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws
        self.info: dict[str, Any] = {}
        self.channels: dict[str, dict[str, Any]] = {}  # by topic
        self._next = 100

    async def begin(self) -> None:
        """Hear what the server says first."""
        self.info = await self.text()
        assert self.info["op"] == "serverInfo"
        await self.hear_channels()

    async def hear_channels(self) -> None:
        """Hear one message about channels."""
        said = await self.text()
        assert said["op"] == "advertise"
        for channel in said["channels"]:
            self.channels[channel["topic"]] = channel

    async def say(self, operation: str, **fields: Any) -> None:
        """Say something."""
        await self.ws.send(json.dumps({"op": operation, **fields}))

    async def subscribe(self, *topics: str) -> list[int]:
        """Subscribe; gives the numbers of the subscriptions."""
        numbers = [self._next + i for i in range(len(topics))]
        self._next += len(topics)
        pairs = zip(numbers, topics, strict=True)
        found = [{"id": number, "channelId": self.channels[topic]["id"]} for number, topic in pairs]
        await self.say("subscribe", subscriptions=found)
        return numbers

    async def settle(self) -> None:
        """Wait until all that was said has been heard: an unknown channel is answered."""
        await self.say("subscribe", subscriptions=[{"id": 1, "channelId": 2**60}])
        assert (await self.text())["message"] == f"Unknown channel ID: {2**60}"

    async def text(self) -> dict[str, Any]:
        """The next message, which is a text."""
        data = await self.ws.recv()
        assert isinstance(data, str), data[:40]
        said = json.loads(data)
        assert isinstance(said, dict)
        return said

    async def data(self) -> Data:
        """The next message, which is one of a channel."""
        data = await self.ws.recv()
        assert isinstance(data, bytes) and data[0] == 1, data[:200]
        subscription, at = struct.unpack_from("<IQ", data, 1)
        return Data(subscription, at, data[13:])


@contextlib.asynccontextmanager
async def viewing(
    server: Any, *, path: str = "/", subprotocols: Any = BOTH, **options: Any
) -> AsyncIterator[Viewer]:
    """A viewer that has heard what a server says first."""
    scheme = "wss" if options.get("ssl") else "ws"
    url = f"{scheme}://{server.local_addr()}{path}"
    async with websockets.connect(
        url, subprotocols=subprotocols, compression=None, max_size=None, proxy=None, **options
    ) as ws:
        viewer = Viewer(ws)
        await viewer.begin()
        yield viewer
