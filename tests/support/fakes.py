"""A fake loop and fake transports that the hub's tests step by hand."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any


class FakeTimer:
    def __init__(self, when: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.when, self.callback, self.args = when, callback, args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Time stands still until `advance`; callbacks run in `turn`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.timers: list[FakeTimer] = []

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> FakeTimer:
        timer = FakeTimer(self.now + delay, callback, args)
        self.timers.append(timer)
        return timer

    def turn(self) -> bool:
        """Run what is scheduled now; False if nothing was."""
        due, self.soon = self.soon, []
        for callback, args in due:
            callback(*args)
        return bool(due)

    def advance(self, seconds: float) -> None:
        """Let time pass in one jump; each timer that is due runs once."""
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer.when > self.now and not timer.cancelled]
        for timer in due:
            timer.callback(*timer.args)


class FakeTransport:
    """Buffers what the socket does not take, and tells its follower, as limits of 0 make transports do.

    Parameters
    ----------
    sock : socket.socket
        Non-blocking.
    eager : bool
        Tries to send inside `write` (asyncio, aiofastnet), or only in `pump` (uvloop).
    """

    def __init__(self, sock: socket.socket, eager: bool = True) -> None:
        self.sock = sock
        self.eager = eager
        self.follower: Any = None
        self.buffered = b""
        self.held: list[Any] = []
        self.paused = False
        self.ever_held = False  # the socket did not take all at once, some time

    def get_write_buffer_size(self) -> int:
        return len(self.buffered)

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, pieces: list[Any]) -> None:
        self.held = list(pieces)
        data = b"".join(pieces)
        if not self.buffered and self.eager:
            data = data[self._send(data) :]
        self.buffered += data
        self.ever_held = self.ever_held or bool(self.buffered)
        if self.buffered and not self.paused:
            self.paused = True
            self.follower.pause_writing_()

    def pump(self) -> None:
        """The socket may have room: what the event loop's writer callback does."""
        self.buffered = self.buffered[self._send(self.buffered) :]
        if not self.buffered and self.paused:
            self.paused = False
            self.follower.resume_writing_()

    def _send(self, data: bytes) -> int:
        try:
            return self.sock.send(data) if data else 0
        except BlockingIOError:
            return 0


def split_frames(stream: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Opcode and payload of each whole unmasked frame in `stream`, and what is left over."""
    frames = []
    at = 0
    while len(stream) - at >= 2:
        size, head = stream[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(stream[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(stream[at + 2 : at + 10], "big"), 10
        if len(stream) - at < head + size:
            break
        assert stream[at] & 0xF0 == 0x80, f"no frame begins at byte {at}: {stream[at : at + 4].hex()}"
        frames.append((stream[at] & 0x0F, stream[at + head : at + head + size]))
        at += head + size
    return frames, stream[at:]
