"""A hub on socket pairs, without an event loop. The hub's tests and the model test step it by hand."""

from __future__ import annotations

import socket
from typing import Any

from fakes import FakeLoop, FakeTransport, split_frames

from deli_com.log.log import Log


class Rig:
    """A hub, its loop, and receivers that read when they are told to."""

    def __init__(self, probe: Any, **limits: Any) -> None:
        self.probe = probe
        self.loop = FakeLoop()
        self.hub = probe.ProbeHub(self.loop, Log("ws-server"), **limits)
        self.ends: list[End] = []

    def connect(self, **kind: Any) -> End:
        end = End(self, **kind)
        end.follower.join(self.hub)
        self.ends.append(end)
        return end

    def settle(self) -> None:
        """Read and turn until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for end in self.ends:
                moved = end.read() or moved
                end.transport.pump()
            moved = self.loop.turn() or moved
        self.hub.check()

    def close(self) -> None:
        for end in self.ends:
            end.follower.leave_()
            end.ours.close()
            end.theirs.close()


class End:
    """One receiver: a follower, its transport, and the other side of the socket."""

    patient = False  # it is read all the time

    def __init__(self, rig: Rig, fd: bool = True, eager: bool = True, buffer: int = 4096) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.transport = FakeTransport(self.ours, eager)
        self.follower = rig.probe.ProbeFollower(self.transport, self.ours.fileno() if fd else -1)
        self.transport.follower = self.follower
        self.stream = bytearray()
        self.expected: list[bytes] = []

    def read(self, most: int = 1 << 20) -> bool:
        try:
            data = self.theirs.recv(most)
        except BlockingIOError:
            return False
        self.stream += data
        return bool(data)

    def enlarge(self) -> None:
        """Let the sockets hold megabytes."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)

    def whole_messages(self) -> list[bytes]:
        """Those before a frame that is cut, if one is."""
        return [payload for opcode, payload in split_frames(bytes(self.stream))[0] if opcode == 2]

    def messages(self) -> list[bytes]:
        frames, rest = split_frames(bytes(self.stream))
        assert not rest, "a frame is cut"
        return [payload for opcode, payload in frames if opcode == 2]
