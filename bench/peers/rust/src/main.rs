//! Rust's WebSocket libraries, each in the form that its documentation recommends for many messages.
//!
//! `--style`:
//! - `tokio-websockets`: `feed` for each message of a turn, then `flush`, one client after the other.
//! - `fastwebsockets`: `write_frame` for each message.
//! - `tungstenite`: tokio-tungstenite, `feed` and `flush`.
//! - `deli`: as the deli crate sends: a task for each client takes from a broadcast channel and calls `send`.
//!
//! `--mode uplink`: a task for each client reads its messages, by `next` or `read_frame`.
//!
//! The turns are those of bench/floor_server.c. All run on one core, on one thread but for `deli`, whose tasks
//! run on tokio's threads.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use futures_util::{SinkExt, Stream, StreamExt};
use sha1::{Digest, Sha1};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

type Tungstenite = tokio_tungstenite::WebSocketStream<TcpStream>;
type Tokio = tokio_websockets::WebSocketStream<TcpStream>;

/// The page that server, load and runner share; layout in net.h.
struct Control {
    cells: *const AtomicU64,
    fifo: AsyncFd<RawFd>,
}

const READY: usize = 0;
const TURNS: usize = 8;
const WANT: usize = 16;
const STOP: usize = 24;

impl Control {
    fn open(page: &str, fifo: &str) -> Control {
        unsafe {
            let page = std::ffi::CString::new(page).unwrap();
            let fd = libc::open(page.as_ptr(), libc::O_RDWR);
            let cells = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0);
            assert!(fd >= 0 && cells != libc::MAP_FAILED, "the control page");
            let fifo = std::ffi::CString::new(fifo).unwrap();
            let fifo = libc::open(fifo.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK);
            assert!(fifo >= 0, "the fifo");
            Control { cells: cells as *const AtomicU64, fifo: AsyncFd::new(fifo).unwrap() }
        }
    }

    fn cell(&self, index: usize) -> &AtomicU64 {
        unsafe { &*self.cells.add(index) }
    }

    async fn turn_read(&self, turn: u64) {
        while self.cell(TURNS).load(SeqCst) < turn {
            self.cell(WANT).store(turn, SeqCst);
            if self.cell(TURNS).load(SeqCst) >= turn {
                break;
            }
            let mut ready = self.fifo.readable().await.unwrap();
            let mut bytes = [0u8; 64];
            let fd = *self.fifo.get_ref();
            if unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) } < 0 {
                ready.clear_ready();
            }
        }
        self.cell(WANT).store(0, SeqCst);
    }
}

enum Clients {
    Tokio(Vec<Tokio>),
    Fast(Vec<WebSocket<TcpStream>>),
    Tungstenite(Vec<Tungstenite>),
    Deli(broadcast::Sender<Bytes>),
}

impl Clients {
    async fn turn(&mut self, messages: &[Bytes]) {
        match self {
            Clients::Tokio(clients) => {
                for client in clients {
                    for message in messages {
                        let payload = tokio_websockets::Payload::from(message.clone());
                        client.feed(tokio_websockets::Message::binary(payload)).await.unwrap();
                    }
                    client.flush().await.unwrap();
                }
            }
            Clients::Fast(clients) => {
                for client in clients {
                    for message in messages {
                        let frame = Frame::new(true, OpCode::Binary, None, Payload::Borrowed(message));
                        client.write_frame(frame).await.unwrap();
                    }
                }
            }
            Clients::Tungstenite(clients) => {
                for client in clients {
                    for message in messages {
                        client.feed(tokio_tungstenite::tungstenite::Message::Binary(message.clone())).await.unwrap();
                    }
                    client.flush().await.unwrap();
                }
            }
            Clients::Deli(channel) => {
                for message in messages {
                    channel.send(message.clone()).unwrap();
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn shake_hands(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let key = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| line[18..].trim().to_owned()))
        .expect("a key");
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

async fn accept_all(listener: &TcpListener, style: &str, count: usize) -> Clients {
    let mut clients = match style {
        "tokio-websockets" => Clients::Tokio(Vec::new()),
        "fastwebsockets" => Clients::Fast(Vec::new()),
        "tungstenite" => Clients::Tungstenite(Vec::new()),
        "deli" => Clients::Deli(broadcast::channel(1 << 16).0),
        _ => panic!("no such style: {style}"),
    };
    for _ in 0..count {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &mut clients {
            Clients::Tokio(all) => all.push(tokio_websockets::ServerBuilder::new().accept(stream).await.unwrap().1),
            Clients::Fast(all) => {
                shake_hands(&mut stream).await;
                all.push(WebSocket::after_handshake(stream, Role::Server));
            }
            Clients::Tungstenite(all) => all.push(tokio_tungstenite::accept_async(stream).await.unwrap()),
            Clients::Deli(channel) => {
                let mut messages = channel.subscribe();
                let (_, mut client) = tokio_websockets::ServerBuilder::new().accept(stream).await.unwrap();
                tokio::spawn(async move {
                    while let Ok(message) = messages.recv().await {
                        let payload = tokio_websockets::Payload::from(message);
                        client.send(tokio_websockets::Message::binary(payload)).await.unwrap();
                    }
                });
            }
        }
    }
    clients
}

fn stamped(size: usize, number: u64) -> Bytes {
    let mut payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    payload[..8].copy_from_slice(&(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).to_le_bytes());
    payload[8..16].copy_from_slice(&number.to_le_bytes());
    Bytes::from(payload)
}

/// User and system time of this process, in seconds.
fn cpu() -> (f64, f64) {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime), seconds(usage.ru_stime))
}

/// Counts what all clients send: measuring starts after a tenth of the messages, and ends at the last.
struct Tally {
    count: AtomicU64,
    total: u64,
    began: Mutex<Option<(Instant, (f64, f64))>>,
    control: Control,
}

// The page is shared by processes, so by threads, too.
unsafe impl Send for Tally {}
unsafe impl Sync for Tally {}

impl Tally {
    fn add(&self) {
        let first = (self.total / 10).max(1);
        let count = self.count.fetch_add(1, SeqCst) + 1;
        if count == first {
            *self.began.lock().unwrap() = Some((Instant::now(), cpu()));
        } else if count == self.total {
            let (started, (user, sys)) = self.began.lock().unwrap().unwrap();
            let (wall, (user_end, sys_end)) = (started.elapsed().as_secs_f64(), cpu());
            self.control.cell(STOP).store(1, SeqCst);
            println!(
                "{{\"messages\": {}, \"wall_s\": {wall:.6}, \"user_s\": {:.6}, \"sys_s\": {:.6}}}",
                self.total - first,
                user_end - user,
                sys_end - sys
            );
            std::process::exit(0);
        }
    }
}

fn count_all<S, M, E>(clients: Vec<S>, tally: &Arc<Tally>)
where
    S: Stream<Item = Result<M, E>> + Unpin + Send + 'static,
    E: std::fmt::Debug,
    M: Send,
{
    for mut client in clients {
        let tally = tally.clone();
        tokio::spawn(async move {
            while let Some(message) = client.next().await {
                message.unwrap();
                tally.add();
            }
        });
    }
}

async fn receive(clients: Clients, tally: Arc<Tally>) {
    match clients {
        Clients::Tokio(all) => count_all(all, &tally),
        Clients::Tungstenite(all) => count_all(all, &tally),
        Clients::Fast(all) => {
            for mut client in all {
                let tally = tally.clone();
                tokio::spawn(async move {
                    loop {
                        client.read_frame().await.unwrap();
                        tally.add();
                    }
                });
            }
        }
        Clients::Deli(_) => panic!("deli receives as tokio-websockets does"),
    }
    std::future::pending::<()>().await;
}

async fn serve(given: HashMap<String, String>) {
    let number = |name: &str, otherwise: f64| given.get(name).map_or(otherwise, |text| text.parse().unwrap());
    let control = Control::open(&given["control"], &given["fifo"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{{\"port\": {}}}", listener.local_addr().unwrap().port());
    let count = number("clients", 1.0) as usize;
    let mut clients = accept_all(&listener, &given["style"], count).await;
    if given.get("mode").is_some_and(|mode| mode == "uplink") {
        let total = number("messages", 0.0) as u64;
        let tally = Tally { count: AtomicU64::new(0), total, began: Mutex::new(None), control };
        return receive(clients, Arc::new(tally)).await;
    }
    while control.cell(READY).load(SeqCst) < count as u64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let size = number("size", 64.0) as usize;
    let burst = number("burst", 1.0) as u64;
    let window = number("window", 8.0) as u64;
    let checked = number("check", 0.0) != 0.0;
    let distinct = if size >= 32768 { 4 } else { 1 };
    let pool: Vec<Vec<Bytes>> = (0..distinct).map(|index| vec![stamped(size, index); burst as usize]).collect();
    let (mut turn, mut first) = (0u64, 0u64);
    let mut measuring = None;
    let mut until = Instant::now() + Duration::from_secs_f64(number("warmup", 0.1));
    loop {
        if Instant::now() >= until {
            control.turn_read(turn).await;
            if measuring.is_some() {
                break;
            }
            first = turn;
            measuring = Some((Instant::now(), cpu()));
            until = Instant::now() + Duration::from_secs_f64(number("seconds", 0.5));
        }
        if checked {
            let messages: Vec<Bytes> = (0..burst).map(|index| stamped(size, turn * burst + index)).collect();
            clients.turn(&messages).await;
        } else {
            clients.turn(&pool[turn as usize % pool.len()]).await;
        }
        turn += 1;
        if turn >= window {
            control.turn_read(turn + 1 - window).await;
        }
    }
    let (started, (user, sys)) = measuring.unwrap();
    let (wall, (user_end, sys_end)) = (started.elapsed().as_secs_f64(), cpu());
    control.cell(STOP).store(1, SeqCst);
    println!(
        "{{\"turns\": {}, \"messages\": {}, \"wall_s\": {wall:.6}, \"user_s\": {:.6}, \"sys_s\": {:.6}}}",
        turn - first,
        (turn - first) * burst,
        user_end - user,
        sys_end - sys
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given: HashMap<String, String> =
        arguments.chunks(2).map(|pair| (pair[0].trim_start_matches("--").to_owned(), pair[1].clone())).collect();
    if let Some(core) = given.get("core").map(|text| text.parse::<i64>().unwrap()).filter(|core| *core >= 0) {
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core as usize, &mut set);
            libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
        }
    }
    let mut builder = match given["style"].as_str() {
        "deli" => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().unwrap().block_on(serve(given));
}
