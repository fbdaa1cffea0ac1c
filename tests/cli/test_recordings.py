"""The commands for recordings: listen, record, replay, inspect, repair, export."""

from __future__ import annotations

import array
import contextlib
import csv
import enum
import io
import json
import math
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

from deli_com import Array, Codec, Recording, WsServer, codec, f32, f64, serve_background, u8, u16, u32, u64
from deli_com.cli.main import main
from deli_com.recording.recorder import Recorder


class Point(Codec):
    x: f32
    y: f32


class Message(Codec, sealed=True):
    stamp: u32


class Pose(Message, policy="latest", key="robot", retain=True):
    robot: str
    at: Point


class Picture(Message):
    data: bytes
    note: str | None


COMMAND = [sys.executable, "-m", "deli_com"]


@pytest.fixture
def url() -> Iterator[str]:
    """A server that sends a pose and a picture again and again."""
    end = threading.Event()
    with serve_background(WsServer[Message, None].bind("127.0.0.1:0")) as server:

        def send() -> None:
            number = 0
            while not end.wait(0.002):
                server.send_nowait(Pose(number, f"r{number % 2}", Point(0.5, -1.0)))
                server.send_nowait(Picture(number, b"\x01\x02\x03", "a\nb" if number % 2 else None))
                number += 1

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield f"ws://{server.local_addr()}"
        finally:
            end.set()
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.mcap"
    with Recorder(path, schemas={"down": codec(Message).schema}) as recorder:
        for number in range(50):
            for value in (Pose(number, f"r{number % 2}", Point(0.5, -1.0)), Picture(number, b"\1\2", None)):
                at = 1_700_000_000_000_000_000 + number * 10_000_000
                recorder.intake.add(recorder.channel("down", type(value).__name__), value.to_bytes(), at)
    return path


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_listen_prints_json_lines(url: str) -> None:
    done = run("listen", url, "--json", "--count", "20")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 20
    assert {line["type"] for line in lines} == {"Pose", "Picture"}
    for line in lines:
        assert list(line) == ["time", "type", "value"] and isinstance(line["time"], float)
        if line["type"] == "Pose":
            assert list(line["value"]) == ["stamp", "robot", "at"]
            assert line["value"]["at"] == {"x": 0.5, "y": -1.0}
        else:
            assert line["value"]["data"] == "AQID"


def test_listen_by_type_and_key_as_text(url: str) -> None:
    done = run("listen", url, "--type", "Pose", "--key", "r1", "--count", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    for line in done.stdout.splitlines():
        assert "\x1b" not in line and " Pose stamp=" in line and 'robot="r1" at=(x=0.5 y=-1)' in line


def test_listen_says_what_is_sent_where_a_type_is_not(url: str) -> None:
    done = run("listen", url, "--type", "Pos")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "deli-com listen: the server sends no Pos, only Pose, Picture\n"


def test_listen_flushes_each_line_and_ends_quietly(url: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "listen", url, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as one:
        assert one.stdout is not None and one.stderr is not None
        json.loads(one.stdout.readline())
        one.send_signal(signal.SIGINT)
        assert one.wait(30) == 130
        assert one.stderr.read() == b""
    with subprocess.Popen(
        [*COMMAND, "listen", url, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as two:
        assert two.stdout is not None and two.stderr is not None
        two.stdout.readline()
        two.stdout.close()  # the reader has closed the pipe
        assert two.wait(30) == 141
        assert two.stderr.read() == b""


@pytest.mark.parametrize(
    "arguments", [["export", "--json"], ["export", "--csv", "--type", "Pose"], ["inspect"], ["schema"]]
)
def test_a_pipe_that_is_closed_is_quiet(path: Path, arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, arguments[0], str(path), *arguments[1:]],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("name", ["replay", "inspect"])
def test_ctrl_c_is_quiet(url: str, path: Path, name: str) -> None:
    """Commands that run until Ctrl-C, in a terminal."""
    commands = {
        "replay": ["replay", str(path), "--bind", "127.0.0.1:0", "--loop", "--speed", "0.01"],
        "inspect": ["inspect", url],
    }
    here, there = pty.openpty()
    with subprocess.Popen([*COMMAND, *commands[name]], stdout=there, stderr=there) as process:
        os.close(there)
        shown = os.read(here, 1)  # it has begun
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(here, 65536):
                shown += part
        assert process.wait(30) == 130
    os.close(here)
    assert b"Traceback" not in shown and b"Interrupt" not in shown


def test_nobody_is_there(tmp_path: Path) -> None:
    for arguments in (["listen"], ["record", "-o", str(tmp_path / "a.mcap")], ["inspect"]):
        done = run(arguments[0], "ws://127.0.0.1:1", *arguments[1:])
        assert done.returncode == 2 and done.stderr.startswith(f"deli-com {arguments[0]}: "), done
        assert len(done.stderr.splitlines()) == 1


def test_record_by_count_and_until_it_is_told_to_end(url: str, tmp_path: Path) -> None:
    done = run("record", url, "-o", str(tmp_path / "a.mcap"), "--count", "30", "--compression", "zstd")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(Recording(tmp_path / "a.mcap")) >= 30 and " messages, " in done.stdout
    with subprocess.Popen(
        [*COMMAND, "record", url, "-o", str(tmp_path / "b.mcap")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while not (tmp_path / "b.mcap").exists() or (tmp_path / "b.mcap").stat().st_size < 2000:
            assert process.poll() is None
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert Recording(tmp_path / "b.mcap").is_whole
    again = run("record", url, "-o", str(tmp_path / "b.mcap"))
    assert again.returncode == 2 and "not empty" in again.stderr


def test_record_has_what_is_retained(tmp_path: Path) -> None:
    """It comes with the connection, and not again."""
    with serve_background(WsServer[Message, None].bind("127.0.0.1:0")) as server:
        for number in range(3):
            server.send_nowait(Pose(number, f"r{number}", Point(0.5, -1.0)))
        done = run("record", f"ws://{server.local_addr()}", "-o", str(tmp_path / "a.mcap"), "--count", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert [value.robot for _, value in Recording(tmp_path / "a.mcap")] == ["r0", "r1", "r2"]


def test_replay_and_listen(path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "replay", str(path), "--bind", "127.0.0.1:0", "--wait-clients", "1", "--speed", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        where = process.stderr.readline().split(": ")[0]
        # Asking for the schema uses a connection of its own. Values sent before the second connection are
        # missed.
        done = run("listen", where, "--json", "--type", "Picture")
        assert (done.returncode, done.stderr) == (0, "")
        stamps = [json.loads(line)["value"]["stamp"] for line in done.stdout.splitlines()]
        assert stamps and stamps == [*range(stamps[0], 50)]
        assert process.wait(30) == 0


def test_replay_shows_on_a_terminal_how_far_it_is_and_serves_viewers(path: Path) -> None:
    here, there = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "replay", str(path), "--bind", "127.0.0.1:0", "--speed", "0.1", "--loop", "--foxglove"],
        stdout=subprocess.PIPE,
        stderr=there,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        os.close(there)
        shown = ""
        while "client" not in shown:
            shown += os.read(here, 65536).decode()
        address = re.search(r"ws://(\S+): ", shown)
        assert address is not None
        host, port = address[1].split(":")
        with socket.create_connection((host, int(port)), 10) as sock:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                b"Sec-WebSocket-Protocol: foxglove.sdk.v1\r\n\r\n"
            )
            said = b""
            while b"playbackControl" not in said:
                part = sock.recv(65536)
                assert part, said
                said += part
            while "0.1x, 1 client\r" not in shown:
                shown += os.read(here, 65536).decode()
        process.send_signal(signal.SIGINT)
        while True:
            try:
                shown += os.read(here, 65536).decode()
            except OSError:  # it has ended
                break
        assert process.wait(30) == 130
    os.close(here)
    assert shown.endswith("\r\x1b[K") and "Traceback" not in shown


def test_inspect_a_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: 100 messages, 0.490 s from ")
    assert lines[2].split() == ["topic", "type", "messages", "rate", "mean", "bytes", "encoding"]
    assert [line.split()[:3] for line in lines[3:]] == [
        ["/Picture", "Picture", "50"],
        ["/Pose", "Pose", "50"],
    ]


def test_inspect_a_server_that_is_piped(url: str) -> None:
    done = run("inspect", url, "--seconds", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["type", "Picture", "Pose"]


def test_inspect_lives_on_a_terminal(url: str) -> None:
    here, there = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "inspect", url, "--seconds", "1"],
        stdout=there,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm"},
    ) as process:
        assert process.wait(30) == 0
    os.close(there)
    shown = os.read(here, 65536).decode()
    os.close(here)
    assert "\x1b[4F" in shown and "\x1b[1mtype" in shown  # drawn over itself


def test_repair(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\x0f\x04") - 20])
    assert main(["inspect", str(path)]) == 0
    assert "deli-com repair" in capsys.readouterr().out
    assert main(["repair", str(path), str(path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "were cut" in first and "100 messages; it is complete" in second
    assert main(["repair", __file__]) == 2


def test_export_as_lines_and_tables(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(path), "--json", "--from", "+100ms", "--to", "+200ms"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 20 and lines[0]["value"]["stamp"] == 10
    assert (
        main(["export", str(path), "--csv", "--type", "Pose", "--key", "r1", "-o", str(tmp_path / "a.csv")])
        == 0
    )
    rows = [*csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))]
    assert len(rows) == 25
    assert rows[0] == {
        "time": "1700000000.010000000",
        "stamp": "1",
        "robot": "r1",
        "at.x": "0.5",
        "at.y": "-1.0",
    }
    assert main(["export", str(path), "--csv"]) == 2
    assert "choose one with --type" in capsys.readouterr().err
    assert main(["export", str(path), "--json", "--type", "Nothing"]) == 2


def test_export_to_parquet(path: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    assert main(["export", str(path), "--parquet", "-o", str(tmp_path / "tables")]) == 0
    table = parquet.read_table(tmp_path / "tables" / "Pose.parquet")
    assert table.column_names == ["time", "stamp", "robot", "at.x", "at.y"] and table.num_rows == 50
    pictures = parquet.read_table(tmp_path / "tables" / "Picture.parquet")
    assert pictures["data"].to_pylist() == [b"\1\2"] * 50 and pictures["note"].to_pylist() == [None] * 50


class Side(enum.Enum):
    BUY = 0
    SELL = 1


class Chain(Codec):
    next: Chain | None


class Every(Codec):
    """A field of each kind of column."""

    big: u64
    small: f32
    numbers: list[f32]
    array: Array[f64]
    data: bytes
    many: list[Point]
    point: Point | None
    side: Side
    pair: tuple[u8, f64]
    deep: list[list[u16]]
    chain: Chain
    sealed: Message
    flag: bool


def test_columns_of_parquet_have_the_types_of_the_schema(tmp_path: Path) -> None:
    """And every row is one value, across the batches in which rows are written."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    one = Every(
        2**64 - 1, math.nan, [1.5], array.array("d", [2.5]), b"\xff", [Point(1.0, 2.0)], None, Side.SELL,
        (1, 0.5), [[1], []], Chain(Chain(None)), Pose(1, "r", Point(0.0, 0.0)), True,
    )  # fmt: skip
    two = Every(
        0, math.inf, [], array.array("d"), b"", [], Point(3.0, 4.0), Side.BUY, (2, 1.5), [], Chain(None),
        Picture(1, b"", None), False,
    )  # fmt: skip
    with Recorder(tmp_path / "run.mcap", schemas={"down": codec(Every).schema}) as recorder:
        channel = recorder.channel("down")
        for number in range(10_001):
            recorder.intake.add(channel, (two if number % 2 else one).to_bytes(), 1 + number)
    assert main(["export", str(tmp_path / "run.mcap"), "--parquet", "-o", str(tmp_path)]) == 0
    table = parquet.read_table(tmp_path / "Every.parquet")
    assert table["time"].cast(arrow.int64()).to_pylist() == [*range(1, 10_002)]
    point = arrow.struct([("x", arrow.float32()), ("y", arrow.float32())])
    assert dict(zip(table.column_names[1:], table.schema.types[1:], strict=True)) == {
        "big": arrow.uint64(),
        "small": arrow.float32(),
        "numbers": arrow.list_(arrow.float32()),
        "array": arrow.list_(arrow.float64()),
        "data": arrow.binary(),
        "many": arrow.list_(point),
        "point": point,
        "side": arrow.string(),
        "pair": arrow.struct([("0", arrow.uint8()), ("1", arrow.float64())]),
        "deep": arrow.list_(arrow.list_(arrow.uint16())),
        "chain.next": arrow.string(),
        "sealed": arrow.string(),
        "flag": arrow.bool_(),
    }
    rows = table.drop_columns(["time", "small"]).slice(9_998, 3).to_pylist()
    assert rows[0] == rows[2] != rows[1]
    assert rows[0] == {
        "big": 2**64 - 1, "numbers": [1.5], "array": [2.5], "data": b"\xff", "many": [{"x": 1.0, "y": 2.0}],
        "point": None, "side": "SELL", "pair": {"0": 1, "1": 0.5}, "deep": [[1], []],
        "chain.next": '{"next": null}', "flag": True,
        "sealed": '{"stamp": 1, "robot": "r", "at": {"x": 0.0, "y": 0.0}}',
    }  # fmt: skip
    assert (rows[1]["point"], rows[1]["chain.next"]) == ({"x": 3.0, "y": 4.0}, None)
    assert [math.isnan(table["small"][0].as_py()), table["small"][1].as_py()] == [True, math.inf]


def test_values_that_are_of_no_class_are_one_column(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    with Recorder(tmp_path / "run.mcap", schemas={"down": codec(list[u16]).schema}) as recorder:
        recorder.intake.add(recorder.channel("down"), codec(list[u16]).to_bytes([1, 2]))
    assert main(["export", str(tmp_path / "run.mcap"), "--parquet", "-o", str(tmp_path)]) == 0
    assert parquet.read_table(tmp_path / "list.parquet")["value"].to_pylist() == [[1, 2]]


def test_the_schema_of_a_recording(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", str(path), "--hash"]) == 0
    assert capsys.readouterr().out.split() == [codec(Message).schema.hash]
