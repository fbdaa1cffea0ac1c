"""PyInstaller freezes an application without options, and it finds every compiled module."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import deli_com

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio
from deli_com import Client, Codec, Server, WsClient, WsServer, u32

class Count(Codec):
    n: u32

async def main():
    for server_type, client_type in ((WsServer, WsClient), (Server, Client)):
        async with server_type[Count].bind("127.0.0.1:0") as server:
            async with client_type[Count].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                await server.send(Count(7))
                print(server_type.__name__, await client.recv())
                await client.send(Count(8))
                print(client_type.__name__, await server.recv())

asyncio.run(main())
"""
WANTED = ["WsServer Count(n=7)", "WsClient Count(n=8)", "Server Count(n=7)", "Client Count(n=8)"]


def entry_points(folder: Path) -> None:
    """Writes metadata of the tree's own package into `folder`, as an installation has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"deli_com-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: deli-com\nVersion: {project['version']}\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["pyinstaller40"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pyinstaller40]", *lines, ""]))


@pytest.mark.timeout(400)
def test_a_frozen_application_runs(tmp_path: Path):
    try:
        importlib.metadata.version("pyinstaller")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pyinstaller is not installed (dependency group test)")
    (tmp_path / "app.py").write_text(PROGRAM)
    path = [str(Path(deli_com.__file__).parent.parent)]
    hooks = importlib.metadata.entry_points(group="pyinstaller40")
    if not any(found.module == "deli_com._pyinstaller" for found in hooks):
        (tmp_path / "metadata").mkdir()
        entry_points(tmp_path / "metadata")
        path.append(str(tmp_path / "metadata"))
    done = subprocess.run(
        [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "app.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    run = subprocess.run(
        [str(tmp_path / "dist" / "app" / "app")],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout.splitlines() == WANTED
    assert run.returncode == 0
