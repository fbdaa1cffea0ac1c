"""nginx, HAProxy and Caddy, started with the configurations of examples/proxies.

`every_proxy` are those of HTTP, `every_proxy_of_connections` those that pass whatever a connection carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import pytest
from pages import ROOT, free_ports

CONFIGURATIONS = ROOT / "examples/proxies"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def _nginx(file: Path, home: Path) -> list[str]:
    return [
        "nginx", "-p", str(home), "-e", "stderr", "-c", str(file),
        "-g", f"daemon off; pid {home}/nginx.pid;",
    ]  # fmt: skip


def _haproxy(file: Path, home: Path) -> list[str]:
    return ["haproxy", "-db", "-f", str(file)]


def _caddy(file: Path, home: Path) -> list[str]:
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


COMMANDS: dict[str, tuple[str, Callable[[Path, Path], list[str]]]] = {
    "nginx": ("nginx.conf", _nginx),
    "haproxy": ("haproxy.cfg", _haproxy),
    "caddy": ("Caddyfile", _caddy),
    "nginx-stream": ("nginx-stream.conf", _nginx),
    "haproxy-tcp": ("haproxy-tcp.cfg", _haproxy),
}
OF_HTTP = ("nginx", "haproxy", "caddy")


def _why_not(name: str) -> str | None:
    program = name.split("-")[0]
    if shutil.which(program) is None:
        return f"{program} is not installed"
    if name == "nginx-stream" and not STREAM_MODULE.exists():
        return "nginx has no stream module (Debian: libnginx-mod-stream)"
    return None


def _each(names: Iterable[str]) -> pytest.MarkDecorator:
    whys = {name: _why_not(name) for name in names}
    skips = {name: pytest.mark.skipif(why is not None, reason=str(why)) for name, why in whys.items()}
    return pytest.mark.parametrize("proxy", [pytest.param(name, marks=skip) for name, skip in skips.items()])


every_proxy = _each(OF_HTTP)
every_proxy_of_connections = _each(name for name in COMMANDS if name not in OF_HTTP)


def _started(command: list[str], output: BinaryIO, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)


@contextlib.asynccontextmanager
async def in_front_of(
    name: str, server: int, home: Path, change: Callable[[str], str] = str
) -> AsyncIterator[int]:
    """Start a proxy of the server at this port; yields the proxy's own port, at which it listens.

    Parameters
    ----------
    change : callable, optional
        Applied to the text of the configuration.
    """
    file_name, command = COMMANDS[name]
    port = int(next(iter(free_ports().values())))
    text = (CONFIGURATIONS / file_name).read_text(encoding="utf-8")
    assert text.count("127.0.0.1:8765") == 2  # the comment, and the place
    file = home / file_name
    file.write_text(
        change(text).replace(":8765", f":{server}").replace(":8080", f":{port}"), encoding="utf-8"
    )
    log = home / "log"
    environment = {**os.environ, "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    with log.open("wb") as output:
        process = _started(command(file, home), output, environment)
    try:
        while True:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            await asyncio.sleep(0.01)
        yield port
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
