"""A client in Rust at a relay: the crate's wire, over WebSocket by hand, and no schema."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from helpers import until
from toolchains import tool

from deli_com import Codec, WsServer, f32, u32
from deli_com.coding.registry import codec
from deli_com.gen import rust
from deli_com.relay import Relay

MAIN = r"""
mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;

// A frame of a server: FIN and binary, not masked.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut size = head[1] as usize;
    if size == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long).unwrap();
        size = u16::from_be_bytes(long) as usize;
    }
    let mut data = vec![0; size];
    stream.read_exact(&mut data).unwrap();
    match head[0] {
        0x82 => Some(data),
        0x88 => { println!("closed {}", u16::from_be_bytes([data[0], data[1]])); None }
        other => panic!("a frame of kind {other:x}"),
    }
}

// A frame of a client: masked, here by zeros.
fn send(stream: &mut TcpStream, data: &[u8]) {
    let mut frame = vec![0x82, 0x80 | data.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(data);
    stream.write_all(&frame).unwrap();
}

fn main() {
    let mut stream = TcpStream::connect(std::env::args().nth(1).unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        head.push(one[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    send(&mut stream, &wire::Stop { reason: "from Rust".to_string() }.to_bytes());
    while let Some(data) = receive(&mut stream) {
        match wire::Message::from_bytes(&data).unwrap() {
            wire::Message::Pose { robot, at, trace } => println!("pose {robot} {at} {}", trace.len()),
            wire::Message::Tick { n } => println!("tick {n}"),
        }
        std::io::stdout().flush().unwrap();
    }
}
"""


class Message(Codec, sealed=True):
    pass


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: f32
    trace: list[f32]


class Tick(Message):
    n: u32


class Stop(Codec):
    reason: str


async def test_a_client_in_rust(tmp_path: Path) -> None:
    compiler = tool("rustc")
    (tmp_path / "wire.rs").write_text(rust(codec(Message).schema, codec(Stop).schema))
    (tmp_path / "main.rs").write_text(MAIN)
    await asyncio.to_thread(
        subprocess.run,
        [compiler, "--edition", "2021", "-A", "dead_code", "-o", "main", "main.rs"],
        cwd=tmp_path,
        check=True,
    )
    async with (
        WsServer[Message, Stop].bind("127.0.0.1:0") as server,
        Relay(f"ws://{server.local_addr()}", bind="127.0.0.1:0") as relay,
    ):
        server.send_nowait(Pose("retained", 0.5, [1.0, 2.0]))
        await until(lambda: relay.server.stats().retained_keys == 1)
        program = await asyncio.create_subprocess_exec(
            str(tmp_path / "main"), str(relay.local_addr()), stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        try:
            assert await program.stdout.readline() == b"pose retained 0.5 2\n"
            assert await server.recv() == Stop("from Rust")
            server.send_nowait(Pose("second", 1.5, [0.0] * 100))
            server.send_nowait(Tick(7))
            assert await program.stdout.readline() == b"pose second 1.5 100\n"
            assert await program.stdout.readline() == b"tick 7\n"
            await relay.close()
            assert await program.stdout.read() == b"closed 1001\n"
        finally:
            if program.returncode is None:
                program.kill()
            await program.wait()
