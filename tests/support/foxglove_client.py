"""Foxglove's own client, `FoxgloveClient` of ``@foxglove/ws-protocol``, driven by lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from helpers import LIMIT_S
from toolchains import npm, tool

PROGRAM = """
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
const [modules, url] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { WebSocket } = require("ws");
const { FoxgloveClient } = require("@foxglove/ws-protocol");
const { parse } = require("@foxglove/rosmsg");
const { MessageReader, MessageWriter } = require("@foxglove/rosmsg-serialization");

const plain = (_, v) =>
  typeof v === "bigint" ? String(v) : ArrayBuffer.isView(v) ? Array.from(v) : v;
const print = (event, said = {}) => console.log(JSON.stringify({ event, ...said }, plain));
const ws = new WebSocket(url, [FoxgloveClient.SUPPORTED_SUBPROTOCOL]);
const client = new FoxgloveClient({ ws });
const channels = new Map(), subscriptions = new Map(), own = new Map();
client.on("open", () => print("open", { subprotocol: ws.protocol }));
client.on("close", (event) => print("close", { code: event.code }));
client.on("error", (error) => print("error", { message: error.message }));
client.on("serverInfo", (said) => print("serverInfo", said));
client.on("status", (said) => print("status", said));
client.on("time", (said) => print("time", { at: said.timestamp }));
client.on("unadvertise", (ids) => print("unadvertise", { ids }));
client.on("advertise", (found) => {
  for (const each of found) {
    const definitions = each.schemaEncoding === "ros1msg" ? parse(each.schema) : null;
    channels.set(each.topic, { ...each, reader: definitions && new MessageReader(definitions) });
    print("channel", { ...each, fields: definitions?.[0].definitions.map((field) => field.name) });
  }
});
client.on("message", ({ subscriptionId, timestamp, data }) => {
  const channel = subscriptions.get(subscriptionId);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const value = channel.reader ? channel.reader.readMessage(data) : bytes;
  print("message", { topic: channel.topic, at: timestamp, value });
});
const doing = {
  subscribe: ({ topic }) => subscriptions.set(client.subscribe(channels.get(topic).id), channels.get(topic)),
  unsubscribe: ({ topic }) => {
    for (const [id, channel] of subscriptions) if (channel.topic === topic) client.unsubscribe(id);
  },
  unknown: ({ id }) => client.subscribe(id),
  advertise: ({ channel }) => own.set(channel.topic, client.advertise(channel)),
  unadvertise: ({ topic }) => client.unadvertise(own.get(topic)),
  publish: ({ topic, definition, value }) =>
    client.sendMessage(own.get(topic), new MessageWriter(parse(definition)).writeMessage(value)),
  parameters: () => client.getParameters(["a"], "1"),
  close: () => client.close(),
};
createInterface({ input: process.stdin })
  .on("line", (line) => { const said = JSON.parse(line); doing[said.do](said); })
  .on("close", () => process.exit(0));
"""


class FoxgloveClient:
    """What one client was told, an event at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.channels: dict[str, dict[str, Any]] = {}  # by topic

    async def begin(self) -> dict[str, Any]:
        """Hear what the server says first; gives its ``serverInfo``."""
        assert (await self.heard("open"))["subprotocol"] == "foxglove.websocket.v1"
        return await self.heard("serverInfo")

    async def hear_channels(self, count: int) -> None:
        """Hear of so many channels."""
        for _ in range(count):
            channel = await self.heard("channel")
            self.channels[channel["topic"]] = channel

    async def heard(self, event: str) -> dict[str, Any]:
        """The next event, which is that one."""
        found = await self.next_event()
        assert found["event"] == event, found
        return found

    async def next_event(self) -> dict[str, Any]:
        """The next event."""
        assert self._process.stdout is not None and self._process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            line = await self._process.stdout.readline()
            if not line:
                raise AssertionError((await self._process.stderr.read()).decode()[-2000:])
        found: dict[str, Any] = json.loads(line)
        return found

    async def messages(self, count: int) -> list[tuple[str, Any]]:
        """Topics and values of the next events, which are messages."""
        found = [await self.heard("message") for _ in range(count)]
        return [(each["topic"], each["value"]) for each in found]

    async def do(self, what: str, **said: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **said}).encode() + b"\n")
        await self._process.stdin.drain()

    async def settle(self) -> None:
        """Wait until the server has heard all that was said: an unknown channel is answered."""
        await self.do("unknown", id=10**6)
        status = await self.heard("status")
        assert (status["level"], status["message"]) == (2, "Unknown channel ID: 1000000")


@asynccontextmanager
async def foxglove_client(folder: Path, server: Any) -> AsyncIterator[FoxgloveClient]:
    """A client that is connected, or connects."""
    modules = npm("ws", "@foxglove/ws-protocol", "@foxglove/rosmsg", "@foxglove/rosmsg-serialization")
    (folder / "client.mjs").write_text(PROGRAM, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        tool("node"),
        "client.mjs",
        str(modules),
        f"ws://{server.local_addr()}/",
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield FoxgloveClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
