//! An operator in Rust, over TCP and without a crate: rustc --edition 2021 operator.rs
mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;

fn receive(stream: &mut TcpStream) -> Result<wire::Event, Box<dyn std::error::Error>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut data = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut data)?;
    Ok(wire::Event::from_bytes(&data)?)
}

fn send(stream: &mut TcpStream, command: &wire::Command) -> std::io::Result<()> {
    let data = command.to_bytes();
    stream.write_all(&(data.len() as u32).to_le_bytes())?;
    stream.write_all(&data)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(std::env::args().nth(1).expect("host:port"))?;
    send(
        &mut stream,
        &wire::Command {
            speed: 2.5,
            mode: wire::Mode::DRIVE,
        },
    )?;
    loop {
        match receive(&mut stream)? {
            wire::Event::Alarm { code, text, .. } => println!("alarm {code}: {text:?}"),
            wire::Event::Pose { mode, .. } if mode == wire::Mode::IDLE => {}
            wire::Event::Pose { name, trail, .. } => {
                println!("{name} drives, trail of {}", trail.len());
                return Ok(());
            }
        }
    }
}
