"""The pictures of terminals in docs/guide/recording.md: commands that are run in a terminal, as SVG.

    python tools/terminal_pictures.py          writes docs/guide/recording/*.svg

A server of two robots is recorded and looked at with `deli-com`, and a recorder is killed. The commands run
in a pseudo-terminal, so that they show what they show people. What they wrote is drawn by `rich`.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "guide" / "recording"
WIDTH = 92

SERVER = """
import asyncio, math
from deli_com import Codec, WsServer, f32, u32


class Point(Codec):
    x: f32
    y: f32


class Message(Codec, sealed=True):
    robot: str


class Pose(Message, policy="latest", key="robot", retain=True):
    at: Point
    battery: f32


class Scan(Message, policy="latest", key="robot"):
    ranges: list[f32]


class Alarm(Message):
    code: u32
    text: str | None


async def main():
    async with WsServer[Message, None].bind("127.0.0.1:8765") as server:
        print("ready", flush=True)
        step = 0
        while True:
            for robot in ("left", "right"):
                x, y = math.cos(step / 50), math.sin(step / 50)
                server.send_nowait(Pose(robot, Point(x, y), 1 - step / 10_000))
                server.send_nowait(Scan(robot, [x, y, x * y]))
            if step % 100 == 99:
                server.send_nowait(Alarm("left", 7, "bumper" if step % 200 == 99 else None))
            step += 1
            await asyncio.sleep(0.02)


asyncio.run(main())
"""

# As rich's, without the fonts that it would fetch.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="#1c1f26" width="{width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
THEME = TerminalTheme(
    (28, 31, 38),
    (215, 218, 224),
    [(0, 0, 0), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221),
     (86, 182, 194), (215, 218, 224)],
)  # fmt: skip


def in_terminal(folder: Path, command: str, seconds: float | None = None) -> str:
    """What a command shows in a terminal; Ctrl-C is pressed after a time."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 30, WIDTH, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environ["PATH"]))
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}" if seconds else command],
        cwd=folder, stdin=there, stdout=there, stderr=there, env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(there)
    os.set_blocking(here, False)
    until, data = None if seconds is None else time.monotonic() + seconds, b""
    while True:
        try:
            part = os.read(here, 65536)
        except BlockingIOError:
            part = None
        except OSError:  # the command has ended
            break
        if part:
            data += part
        elif part == b"":
            break
        else:
            time.sleep(0.02)
        if until is not None and time.monotonic() > until:
            process.send_signal(signal.SIGINT)
            until = None
    process.wait(30)
    os.close(here)
    return data.decode().replace("\r\n", "\n")


def last_drawn(text: str) -> str:
    """Without what was drawn over: a line again (CR), or a table (cursor up)."""
    text = re.split(r"\x1b\[\d+F", text)[-1].replace("\x1b[K", "")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))


def draw(name: str, shown: list[tuple[str, str]]) -> None:
    """Write one picture of commands and what they showed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for command, output in shown:
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        text = last_drawn(output).rstrip("\n")
        if text:
            console.print(Text.from_ansi(text))
    svg = console.export_svg(title=name, theme=THEME, code_format=SVG, unique_id=f"t-{name}")
    path = PICTURES / f"{name}.svg"
    path.write_text(re.sub(r"[ \t]+\n", "\n", svg))
    print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(command: str, seconds: float | None = None) -> tuple[str, str]:
            return command, in_terminal(folder, command, seconds)

        with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                server.stdout.readline()
                url = "ws://127.0.0.1:8765"
                draw("listen", [run(f"deli-com listen {url} --count 8")])
                draw("inspect-live", [run(f"deli-com inspect {url}", 5.0)])
                record = run(f"deli-com record {url} -o run.mcap", 6.0)
                killed = subprocess.Popen(
                    [sys.executable, "-m", "deli_com", "record", url, "-o", "torn.mcap"], cwd=folder
                )
                torn = folder / "torn.mcap"
                while not torn.exists() or torn.stat().st_size < 20_000:
                    time.sleep(0.1)
                killed.kill()
                killed.wait()
            finally:
                server.kill()
        draw("inspect", [record, run("deli-com inspect run.mcap")])
        command, output = run("deli-com replay run.mcap --bind 127.0.0.1:8765 --speed 0.5 --foxglove", 9.0)
        draw("replay", [(command, output.removesuffix("\r\x1b[K"))])  # as it was before Ctrl-C
        draw("repair", [run("deli-com inspect torn.mcap"), run("deli-com repair torn.mcap")])
        draw(
            "export",
            [
                run("deli-com export run.mcap --json --type Alarm | head -n 3"),
                run("deli-com export run.mcap --csv --type Pose --key left --to +100ms"),
            ],
        )


if __name__ == "__main__":
    main()
