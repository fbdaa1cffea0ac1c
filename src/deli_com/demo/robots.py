"""Two robots that drive in circles: what the demo's page shows."""

from __future__ import annotations

import asyncio
import enum
import math
import struct
import zlib
from array import array

from deli_com import Array, Codec, WsServer, f32, u8, u16, u64

TICK_S = 0.02
PICTURE_EVERY = 5  # ticks
SCAN_EVERY = 10
BEAMS = 180
WIDTH, HEIGHT = 160, 120


class Vector(Codec):
    x: f32
    y: f32
    z: f32


class Mode(enum.Enum):
    HOLD = enum.auto()
    MOVE = enum.auto()


class Joint(Codec):
    name: str
    angle: f32  # radians
    torque: f32  # newton metres
    mode: Mode


class Scene(Codec, sealed=True):
    """What the robots and their camera send."""


class Pose(Scene, policy="latest", key="robot", retain=True):
    robot: str
    at: Vector  # metres
    heading: f32  # radians
    speed: f32  # metres a second


class Battery(Scene, policy="latest", key="robot", retain=True):
    robot: str
    volts: f32
    percent: u8
    charging: bool


class Arm(Scene, policy="latest", retain=True):
    joints: list[Joint]


class Scan(Scene, policy="latest"):
    ranges: Array[f32]  # metres, all around


class Camera(Scene, policy="latest", retain=True):
    number: u64
    width: u16
    height: u16
    image: bytes  # PNG


class Robots:
    """Where everything is at a time, in seconds."""

    def __init__(self) -> None:
        sky = b"".join(bytes((20 + y // 3, 30 + y // 2, 46 + y)) * WIDTH for y in range(HEIGHT // 2))
        ground = b"".join(bytes((38 + y // 4, 52 + y // 3, 44)) * WIDTH for y in range(HEIGHT // 2))
        self._ground = sky + ground
        self._pictures = 0

    def poses(self, t: float) -> list[Pose]:
        found: list[Pose] = []
        for number, name in enumerate(("rover-1", "rover-2")):
            turn = t * (0.35 + 0.15 * number) + 2 * number
            radius = 3.0 + number
            at = Vector(radius * math.cos(turn), radius * math.sin(turn), 0.05 * math.sin(9 * turn))
            speed = radius * (0.35 + 0.15 * number) + 0.1 * math.sin(5 * t)
            found.append(Pose(name, at, math.remainder(turn + math.pi / 2, math.tau), speed))
        return found

    def batteries(self, t: float) -> list[Battery]:
        return [
            Battery(name, 25.2 - (t / 600) % 3 + 0.05 * math.sin(3 * t), 100 - int(t / 6) % 100, number == 1)
            for number, name in enumerate(("rover-1", "rover-2"))
        ]

    def arm(self, t: float) -> Arm:
        return Arm(
            [
                Joint(name, math.sin(t * (0.4 + 0.2 * n) + n), 4 * math.cos(t * (0.4 + 0.2 * n) + n), mode)
                for n, name in enumerate(("base", "shoulder", "elbow", "wrist"))
                for mode in (Mode.MOVE if math.sin(t + n) > -0.5 else Mode.HOLD,)
            ]
        )

    def scan(self, t: float) -> Scan:
        turn = 0.35 * t
        beams = (math.tau * n / BEAMS for n in range(BEAMS))
        return Scan(
            array("f", (4 + math.sin(3 * a + turn) + 0.6 * math.cos(7 * a - 2 * turn) for a in beams))
        )

    def camera(self, t: float) -> Camera:
        """A ball that jumps, before hills."""
        self._pictures += 1
        rows = bytearray(self._ground)
        x = int(WIDTH / 2 + (WIDTH / 2 - 20) * math.sin(0.7 * t))
        y = int(HEIGHT - 24 - 70 * abs(math.sin(2.1 * t)))
        _disc(rows, x, HEIGHT - 12, 12, 3, (24, 32, 30))
        _disc(rows, x, y, 12, 12, (255, 166, 64))
        _disc(rows, x - 3, y - 4, 4, 4, (255, 214, 150))
        return Camera(self._pictures, WIDTH, HEIGHT, _png(rows))


def _disc(rows: bytearray, x: int, y: int, wide: int, high: int, colour: tuple[int, int, int]) -> None:
    for row in range(max(0, y - high), min(HEIGHT, y + high + 1)):
        half = int(wide * math.sqrt(max(0.0, 1 - ((row - y) / high) ** 2)))
        left, right = max(0, x - half), min(WIDTH, x + half)
        at = 3 * (row * WIDTH + left)
        rows[at : at + 3 * max(0, right - left)] = bytes(colour) * max(0, right - left)


def _png(rows: bytes | bytearray) -> bytes:
    """8-bit RGB as a PNG (ISO/IEC 15948)."""
    line = 3 * WIDTH
    raw = b"".join(b"\0" + rows[at : at + line] for at in range(0, len(rows), line))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw, 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


async def drive(server: WsServer[Scene, None]) -> None:
    """Send what the robots do until it is cancelled."""
    loop = asyncio.get_running_loop()
    robots = Robots()
    start_s = loop.time()
    tick = 0
    while True:
        t = tick * TICK_S
        if server.client_count():
            for pose in robots.poses(t):
                server.send_nowait(pose)
            if tick % PICTURE_EVERY == 0:
                server.send_nowait(robots.camera(t))
            if tick % PICTURE_EVERY == 1:
                server.send_nowait(robots.arm(t))
            if tick % SCAN_EVERY == 2:
                server.send_nowait(robots.scan(t))
            if tick % 50 == 3:
                for battery in robots.batteries(t):
                    server.send_nowait(battery)
        tick += 1
        await asyncio.sleep(max(0.0, start_s + tick * TICK_S - loop.time()))
