"""Clients of other libraries answer PINGs that measure what lies between, and notice nothing else of them.

A Go and a Rust client take a minute to build: ``DELI_COM_TEST_LONG=1`` runs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import toolchains
import websockets
from browser import browser, program
from helpers import SLOW, until
from pages import ROOT

from deli_com import WsServer

COUNT = 12
SIZE = 50_000  # so that a marker is due at each sweep

NODE = """
import { WebSocket } from "ws";
const socket = new WebSocket(process.argv[2]);
let count = 0;
socket.on("message", (data) => { if (data.length === Number(process.argv[3])) count += 1; });
socket.on("close", (code) => { console.log(`${count} ${code}`); });
"""
PAGE = """<script>
window.sizes = [];
window.code = 0;
const socket = new WebSocket(location.href.replace("http", "ws"));
socket.binaryType = "arraybuffer";
socket.onmessage = (event) => window.sizes.push(event.data.byteLength);
socket.onclose = (event) => { window.code = event.code; };
</script>"""
GO = """package main

import (
	"fmt"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	conn, _, err := websocket.DefaultDialer.Dial(os.Args[1], nil)
	if err != nil {
		panic(err)
	}
	count := 0
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			fmt.Println(count, err.(*websocket.CloseError).Code)
			return
		}
		if fmt.Sprint(len(data)) == os.Args[2] {
			count++
		}
	}
}
"""
CARGO = """[package]
name = "marked"
version = "0.0.0"
edition = "2021"

[dependencies]
futures-util = { version = "=0.3.31", default-features = false }
tokio = { version = "=1.47.1", features = ["net", "rt", "macros"] }
tokio-websockets = { version = "=0.13.3", features = ["client", "sha1_smol", "fastrand"] }
"""
RUST = """use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let given: Vec<String> = std::env::args().collect();
    let (mut client, _) = tokio_websockets::ClientBuilder::from_uri(given[1].parse().unwrap())
        .connect().await.unwrap();
    let (mut count, mut code) = (0, 0u16);
    while let Some(message) = client.next().await {
        let message = message.unwrap();
        if message.is_binary() && message.as_payload().len().to_string() == given[2] {
            count += 1;
        }
        if let Some((closed, _)) = message.as_close() {
            code = closed.into();
        }
    }
    println!("{count} {code}");
}
"""


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[WsServer[bytes, None], str]]:
    async with WsServer[bytes, None].bind("127.0.0.1:0", **options) as server:
        yield server, f"ws://127.0.0.1:{server.local_addr().port}/"


async def measured(server: WsServer[bytes, None]) -> None:
    """Send `COUNT` values to the one client; it has confirmed all before the last marker."""
    await server.wait_clients(1)
    (peer,) = server.clients
    for _ in range(COUNT):
        await server.send(bytes(SIZE))
        await asyncio.sleep(0.05)
    await until(lambda: peer.stats().in_flight is not None and peer.stats().in_flight <= 2 * SIZE)
    found = peer.stats()
    assert found.rate is not None and found.rate > 0
    assert found.round_trip_s is not None
    peer.close(4000)


async def runs(command: list[str], server: WsServer[bytes, None], url: str) -> None:
    """A program that prints how many values of the right size came, and the close code."""
    process = await asyncio.create_subprocess_exec(
        *command, url, str(SIZE + 4), stdout=asyncio.subprocess.PIPE
    )
    try:
        await measured(server)
        printed, _ = await process.communicate()
        assert printed.decode().split() == [str(COUNT), "4000"]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.loops("asyncio")
class TestPython:
    async def test_websockets(self) -> None:
        async with serving() as (server, url):
            async with websockets.connect(url, max_size=None) as client:
                task = asyncio.create_task(measured(server))
                sizes = [len(message) async for message in closing(client)]
                assert sizes == [SIZE + 4] * COUNT
                assert client.close_code == 4000
                await task

    async def test_aiohttp(self) -> None:
        async with serving() as (server, url):
            async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as client:
                task = asyncio.create_task(measured(server))
                sizes = [len(message.data) async for message in client]
                assert sizes == [SIZE + 4] * COUNT
                assert client.close_code == 4000
                await task


async def closing(client: Any) -> AsyncIterator[bytes]:
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            yield await client.recv()


@pytest.mark.loops("asyncio")
@pytest.mark.limit(60)
async def test_ws_of_node(tmp_path: Path) -> None:
    modules = toolchains.npm("ws")
    (tmp_path / "node_modules").symlink_to(modules)
    file = tmp_path / "client.mjs"
    file.write_text(NODE)
    async with serving() as (server, url):
        await runs(["node", str(file)], server, url)


@pytest.mark.loops("asyncio")
@pytest.mark.limit(90)
async def test_chromium(tmp_path: Path) -> None:
    program()
    async with serving(http={"/": PAGE.encode()}) as (server, url):

        def look() -> tuple[list[int], int]:
            with browser(tmp_path) as tab:
                tab.open(url.replace("ws", "http"))
                code = tab.until("window.code")
                return tab.evaluate("window.sizes"), code

        task = asyncio.create_task(asyncio.to_thread(look))
        await measured(server)
        assert await task == ([SIZE + 4] * COUNT, 4000)


LONG = pytest.mark.skipif(
    os.environ.get("DELI_COM_TEST_LONG") != "1", reason="building it takes a minute: DELI_COM_TEST_LONG=1"
)


def built(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@LONG
@pytest.mark.loops("asyncio")
@pytest.mark.limit(300 / SLOW)
async def test_gorilla_of_go(tmp_path: Path) -> None:
    go = toolchains.tool("go")
    peers = ROOT / "bench/peers/go"
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(peers / name, tmp_path / name)
    (tmp_path / "main.go").write_text(GO)
    await asyncio.to_thread(built, [go, "build", "-o", "client", "."], tmp_path)
    async with serving() as (server, url):
        await runs([str(tmp_path / "client")], server, url)


@LONG
@pytest.mark.loops("asyncio")
@pytest.mark.limit(600 / SLOW)
async def test_tokio_websockets_of_rust(tmp_path: Path) -> None:
    cargo = toolchains.tool("cargo")
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text(CARGO)
    (tmp_path / "src/main.rs").write_text(RUST)
    await asyncio.to_thread(built, [cargo, "build", "--quiet"], tmp_path)
    async with serving() as (server, url):
        await runs([str(tmp_path / "target/debug/marked")], server, url)
