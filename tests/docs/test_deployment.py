"""docs/deployment: the service is run by the commands that its files have, and ended as a supervisor does."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import helpers
import pytest
from pages import ROOT, free_ports

from deli_com import Codec, ConnectionClosed, WsClient, connect_blocking, f32

FOLDER = ROOT / "docs/deployment"
LIMIT_S = 30 * helpers.SLOW


class Reading(Codec, policy="latest", key="oven", retain=True):
    oven: str
    celsius: f32


def dockerfile() -> list[tuple[str, str]]:
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [
        (word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word not in ("", "#")
    ]


def of(word: str) -> str:
    return next(rest for name, rest in dockerfile() if name == word)


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(FOLDER / "oven.service", encoding="utf-8")
    return found


def here(command: list[str]) -> list[str]:
    """The command with the paths of this machine."""
    paths = {"/app/venv/bin/python": sys.executable, "/app/app.py": str(FOLDER / "app.py")}
    assert set(paths) & set(command), command
    return [paths.get(word, word) for word in command]


@contextlib.contextmanager
def serving(command: list[str], port: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        here(command), env={**os.environ, "PORT": port}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert "listening on 0.0.0.0:" + port in process.stderr.readline()
            yield process
        finally:
            process.kill()


COMMANDS = {
    "Dockerfile": json.loads(of("CMD")),
    "oven.service": shlex.split(unit()["Service"]["ExecStart"]),
}


@pytest.mark.parametrize("file", COMMANDS)
def test_the_service_runs_and_ends_in_order(file: str) -> None:
    port = free_ports()["8765"]
    stop = {"Dockerfile": of("STOPSIGNAL"), "oven.service": unit()["Service"]["KillSignal"]}[file]
    with serving(COMMANDS[file], port) as process:
        with connect_blocking(WsClient[Reading, None], f"127.0.0.1:{port}") as client:
            assert client.recv(timeout=LIMIT_S).oven == "left"
            process.send_signal(getattr(signal, stop))
            with pytest.raises(ConnectionClosed, match="1001"):
                list(iter(lambda: client.recv(timeout=LIMIT_S), None))
        assert process.stderr is not None
        assert "closed" in process.stderr.read()
        assert process.wait(LIMIT_S) == 0


def test_the_health_check_of_the_image() -> None:
    check = json.loads(of("HEALTHCHECK").partition("CMD ")[2])
    port = free_ports()["8765"]

    def asked() -> int:
        command = here(check)
        return subprocess.run(command, env={**os.environ, "PORT": port}, stderr=subprocess.DEVNULL).returncode

    assert asked() != 0, "nothing is served yet"
    with serving(COMMANDS["Dockerfile"], port):
        assert asked() == 0


def test_all_files_name_the_same_port_and_path() -> None:
    kubernetes = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    assert of("ENV") == "PORT=8765" == unit()["Service"]["Environment"]
    assert of("EXPOSE") == "8765"
    assert set(re.findall(r"[pP]ort: (\d+)", kubernetes)) == {"8765"}
    assert re.findall(r"path: (\S+),", kubernetes) == ["/healthz"] * 2
    assert '"/healthz"' in (FOLDER / "app.py").read_text(encoding="utf-8")


def test_the_stages_copy_what_exists() -> None:
    for word, rest in dockerfile():
        if word == "COPY" and not rest.startswith("--from"):
            assert (FOLDER / rest.split()[0]).is_file()
    assert COMMANDS["Dockerfile"] == COMMANDS["oven.service"]


def test_a_close_ends_before_the_supervisor_kills() -> None:
    from deli_com.server_base import DRAIN_S

    longest = DRAIN_S + 2.0  # and close_timeout
    assert int(unit()["Service"]["TimeoutStopSec"]) > longest
    text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    assert int(re.findall(r"terminationGracePeriodSeconds: (\d+)", text)[0]) > longest


def test_kubernetes_yaml_is_two_documents() -> None:
    yaml = pytest.importorskip("yaml", reason="not installed: pip install --group docs")
    with (FOLDER / "kubernetes.yaml").open(encoding="utf-8") as file:
        deployment, service = yaml.safe_load_all(file)
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    assert deployment["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze (Debian: systemd)")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    def verified(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "oven.service").write_text(text, encoding="utf-8")
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "oven.service")]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)

    text = (FOLDER / "oven.service").read_text(encoding="utf-8")
    text = text.replace("/app/venv/bin/python", sys.executable)  # must exist
    ran = verified(text)
    if "Failed to" in ran.stderr and "manager" in ran.stderr.lower():
        pytest.skip(f"systemd-analyze does not run here: {ran.stderr.strip()[-200:]}")
    assert (ran.returncode, "oven.service:" in ran.stderr) == (0, False), ran.stderr
    wrong = verified(text.replace("TimeoutStopSec=30", "TimeoutStopSec=soon"))
    assert "oven.service:" in wrong.stderr
