"""`connect_blocking` against servers that are none: an error in time, and the next connection works."""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import helpers
import pytest
from peers import build

from deli_com import (
    Client,
    ComError,
    ConnectionClosed,
    DecodeError,
    MessageTooLarge,
    Server,
    WsClient,
    WsServer,
    connect_blocking,
    serve_background,
    shared_loop,
    u32,
)

KINDS: dict[str, tuple[Any, Any]] = {"ws": (WsServer, WsClient), "tcp": (Server, Client)}
SHORT_S = 0.3  # open_timeout of what never answers
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)


def garbage(sock: socket.socket) -> None:
    sock.sendall(random.Random(1).randbytes(100_000))


def silence(sock: socket.socket) -> None:
    while sock.recv(1000):
        pass


def head_without_end(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        sock.sendall(b"X-More: and more\r\n" * 100)


def head_drop_by_drop(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"H")
        time.sleep(0.02)


def interim_without_end(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")


def body_without_end(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        sock.sendall(bytes(10_000))


def one_line_without_end(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * 10_000)


def reset(sock: socket.socket) -> None:
    sock.recv(10)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end(sock: socket.socket) -> None:
    sock.recv(10)


def tls_alert(sock: socket.socket) -> None:
    sock.sendall(bytes.fromhex("15030100020228"))


BEFORE: list[Callable[[socket.socket], None]] = [
    garbage, silence, head_without_end, head_drop_by_drop, interim_without_end, body_without_end,
    one_line_without_end, reset, end, tls_alert,
]  # fmt: skip


def accept_ws(sock: socket.socket) -> None:
    import base64
    import hashlib

    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")).split()[
        1
    ]
    made = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.sendall(ACCEPTED % base64.b64encode(made))


def values_without_end(sock: socket.socket, is_ws: bool) -> None:
    piece = build(struct.pack("<I", 7)) if is_ws else struct.pack("<II", 4, 7)
    while True:
        sock.sendall(piece * 1000)


def bad_values_without_end(sock: socket.socket, is_ws: bool) -> None:
    piece = build(b"xyz") if is_ws else struct.pack("<I", 3) + b"xyz"
    while True:
        sock.sendall(piece * 1000)


def length_of_4_gb(sock: socket.socket, is_ws: bool) -> None:
    sock.sendall(b"\x82\x7f" + struct.pack(">Q", 1 << 32) if is_ws else struct.pack("<I", (1 << 32) - 2))
    silence(sock)


def half_a_value(sock: socket.socket, is_ws: bool) -> None:
    sock.sendall(build(struct.pack("<I", 7))[:3] if is_ws else struct.pack("<I", 4) + b"x")


def nonsense(sock: socket.socket, is_ws: bool) -> None:
    sock.sendall(b"\xff" * 10_000)


AFTER: list[Callable[[socket.socket, bool], None]] = [
    values_without_end, bad_values_without_end, length_of_4_gb, half_a_value, nonsense,
]  # fmt: skip


@contextlib.contextmanager
def served(behave: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server in a thread; each connection is treated so, and closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            behave(sock)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                accepted.append(sock)
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield listener.getsockname()
    finally:
        for sock in (listener, *accepted):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, sockets = set(threading.enumerate()), helpers.open_sockets()
    yield
    gc.collect()
    while set(threading.enumerate()) - threads or helpers.open_sockets() - sockets:
        time.sleep(0.001)
    assert shared_loop._shared is None


def works(kind: str) -> None:
    """A good server and a good client, in this process."""
    bound, connected = KINDS[kind]
    with serve_background(bound[u32].bind("127.0.0.1:0")) as server:
        with connect_blocking(connected[u32], server.local_addr()) as client:
            server.wait_clients(1, 20)
            server.send_nowait(5)
            assert client.recv(20) == 5


@pytest.mark.parametrize("behave", BEFORE, ids=lambda each: each.__name__)
def test_before_the_connection_is_open(behave: Callable[[socket.socket], None]) -> None:
    """Every one of these is told within `open_timeout`, beside a connection that is good."""
    with serve_background(WsServer[u32].bind("127.0.0.1:0")) as server:
        with connect_blocking(WsClient[u32], server.local_addr()) as client:
            with served(behave) as addr, pytest.raises(ComError):
                connect_blocking(WsClient[u32], addr, open_timeout=SHORT_S)
            server.wait_clients(1, 20)
            server.send_nowait(1)
            assert client.recv(20) == 1
    works("ws")


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("behave", AFTER, ids=lambda each: each.__name__)
def test_after_it(kind: str, behave: Callable[[socket.socket, bool], None]) -> None:
    """What it sends is bounded in memory, or ends the connection with an error; `close` comes back."""

    def act(sock: socket.socket) -> None:
        if kind == "ws":
            accept_ws(sock)
        behave(sock, kind == "ws")

    with served(act) as addr:
        with connect_blocking(KINDS[kind][1][u32], addr, max_inbox=1 << 20, close_timeout=0.2) as client:
            if behave is values_without_end:
                assert [client.recv(20) for _ in range(2000)] == [7] * 2000
                assert client.stats().inbox_bytes <= 2 << 20
            elif behave is bad_values_without_end:
                for _ in range(2000):
                    with pytest.raises(DecodeError):
                        client.recv(20)
            else:
                with pytest.raises((ConnectionClosed, MessageTooLarge)):
                    client.recv(20)
    works(kind)
