"""The load of the TLS rows: N WebSocket clients that read and count, or send, as load_client.c without TLS.

Python's `ssl` costs several times what C would. It runs on the other core, and only the server's CPU is
reported. Rows in which the server waited for this load have a star. Bytes are counted instead of frames,
since all messages of a run have one size. The options are those of load_client.c; unused ones are ignored.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import ssl
import struct
from pathlib import Path

from control import READY, STOP, TURNS, WANT, Control

HEAD = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
READ_BYTES = 1 << 18
BLOCK_BYTES = 1 << 16  # of frames, sent to one connection at a time
KEY = b"\x17\x2a\x99\xe4"


class Client:
    """One connection, and how many bytes of frames it has read."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain)
        self.sock.sendall(HEAD % port)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.sock.recv(1)  # byte by byte: frames may follow
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(answer.decode())
        self.sock.setblocking(False)
        self.read = 0

    def drain(self, into: memoryview) -> bool:
        """Read what has arrived; False at the end of the stream."""
        with contextlib.suppress(ssl.SSLWantReadError):
            while size := self.sock.recv_into(into):
                self.read += size
            return False
        return True


def wire_bytes(size: int) -> int:
    """Of one unmasked frame (RFC 6455 section 5.2)."""
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def masked_frames(size: int, prefix: int) -> bytes:
    """As many masked frames of `size` bytes as a block takes; with a `prefix`, they are values of `bytes`."""
    payload = struct.pack("<I", size) + bytes(size) if prefix else bytes(size)
    head = b"\x82"
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack("!BH", 0xFE, len(payload))
    else:
        head += struct.pack("!BQ", 0xFF, len(payload))
    pad = (KEY * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")
    frame = head + KEY + body
    return frame * max(1, BLOCK_BYTES // len(frame))


def send_until_stop(clients: list[Client], control: Control, block: bytes) -> int:
    """Send a block to each client in turn; return how many."""
    sent = 0
    for client in clients:
        client.sock.settimeout(1.0)
    with contextlib.suppress(OSError):  # the server reads no more: it has what it counts
        while not control.cells[STOP]:
            for client in clients:
                client.sock.sendall(block)
                sent += 1
    return sent


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("control", "fifo", "mode"):
        parser.add_argument(f"--{name}")
    for name in ("port", "core", "clients", "size", "burst", "prefix"):
        parser.add_argument(f"--{name}", type=int)
    job, _ = parser.parse_known_args()
    os.sched_setaffinity(0, {job.core})
    control = Control(Path(job.control), Path(job.fifo))
    cells, fifo = control.cells, os.open(job.fifo, os.O_RDWR | os.O_NONBLOCK)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    turn_bytes = wire_bytes(job.size) * job.burst
    clients, waiting = [], selectors.DefaultSelector()
    for _ in range(job.clients):
        clients.append(Client(job.port, context))
        waiting.register(clients[-1].sock, selectors.EVENT_READ, clients[-1])
        cells[READY] = len(clients)
    if job.mode == "send":
        sent = send_until_stop(clients, control, masked_frames(job.size, job.prefix))
        print(json.dumps({"messages": sent}), flush=True)
        return
    into = memoryview(bytearray(READ_BYTES))
    while not cells[STOP]:
        for key, _ in waiting.select(0.1):
            if not key.data.drain(into):
                waiting.unregister(key.fileobj)
        cells[TURNS] = min(client.read for client in clients) // turn_bytes
        if cells[WANT] and cells[TURNS] >= cells[WANT]:
            os.write(fifo, b"x")
    print(
        json.dumps({"messages": sum(client.read for client in clients) // wire_bytes(job.size)}), flush=True
    )


if __name__ == "__main__":
    main()
