"""``deli-com schema``: types, files and servers; ``--diff``."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from random_schemas import GOLDEN

from deli_com import Codec, Server, WsServer, codec, f32, u32
from deli_com.cli.main import main


class Telemetry(Codec):
    a: u32
    b: f32


class Command(Codec):
    go: bool


class V2:
    class Telemetry(Codec):
        a: f32
        b: u32

    class Command(Codec):
        go: bool
        fast: bool = False


@pytest.fixture(autouse=True)
def module_of_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "types_here", sys.modules[__name__])


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["schema", *arguments])


def lines_of(schema: Any, direction: str = "") -> str:
    return f"{schema.text}hash {schema.hash}{direction and ' ' + direction}\n"


def test_a_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "types_here:Telemetry"]) == 0
    assert capsys.readouterr() == (lines_of(codec(Telemetry).schema), "")
    assert main(["schema", "types_here:Telemetry", "--hash"]) == 0
    assert capsys.readouterr().out == f"{codec(Telemetry).schema.hash}\n"


def test_both_directions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "types_here:Telemetry,Command"]) == 0
    down, up = codec(Telemetry).schema, codec(Command).schema
    assert capsys.readouterr().out == f"{lines_of(down, 'down')}\n{lines_of(up, 'up')}"


def test_what_it_prints_is_a_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in ("types_here:Telemetry", "types_here:Telemetry,Command"):
        assert main(["schema", source]) == 0
        text = capsys.readouterr().out
        (tmp_path / "t.schema").write_text(text)
        assert main(["schema", str(tmp_path / "t.schema")]) == 0
        assert capsys.readouterr().out == text
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert main(["schema", "-"]) == 0
        assert capsys.readouterr().out == text
    (tmp_path / "plain").write_text(GOLDEN)
    assert main(["schema", str(tmp_path / "plain"), "--hash"]) == 0
    assert capsys.readouterr().out == "625ec7b3256b865c2f1c8a71dc03790d\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOLDEN.replace("u32", "u64") + "hash 625ec7b3256b865c2f1c8a71dc03790d\n", "was edited"),
        ("nothing\n", "begins with the line"),
        (f"{GOLDEN}\n{GOLDEN}\n{GOLDEN}", "3 schema texts"),
        ("", "begins with the line"),
    ],
)
def test_a_file_that_is_none(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t").write_text(text)
    assert main(["schema", str(tmp_path / "t")]) == 2
    assert words in capsys.readouterr().err


@asynccontextmanager
async def served(kind: str, down: Any, up: Any, **options: Any) -> AsyncIterator[str]:
    cls: Any = WsServer if kind.startswith("ws") else Server
    async with cls[down, up].bind("127.0.0.1:0", **options) as server:
        yield f"{kind}://{server.local_addr()}"


@pytest.mark.parametrize("kind", ["ws", "tcp"])
async def test_a_server(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(kind, Telemetry, None) as url:
        assert await run(url) == 0
        assert capsys.readouterr().out == lines_of(codec(Telemetry).schema)
    async with served(kind, Telemetry, Command, schema="require") as url:
        assert await run(url) == 0
        down, up = codec(Telemetry).schema, codec(Command).schema
        assert capsys.readouterr().out == f"{lines_of(down, 'down')}\n{lines_of(up, 'up')}"


@pytest.mark.parametrize("kind", ["ws", "tcp"])
async def test_a_server_that_retains_and_sends(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Over TCP values may come first; they are passed over."""
    cls: Any = WsServer if kind == "ws" else Server

    async def sends(server: Any) -> None:
        while True:
            await server.send(Telemetry(1, 2.0))
            await asyncio.sleep(0)

    async with cls[Telemetry, None].bind("127.0.0.1:0") as server:
        task = asyncio.create_task(sends(server))
        assert await run(f"{kind}://{server.local_addr()}", "--hash") == 0
        task.cancel()
    assert capsys.readouterr().out == f"{codec(Telemetry).schema.hash}\n"


@pytest.mark.parametrize("kind", ["ws", "tcp"])
async def test_a_server_that_says_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(kind, Telemetry, None, schema=None) as url:
        assert await run(url) == 2
    words = "does not exchange schemas" if kind == "ws" else "it is older, or another program"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "tcp://127.0.0.1:1"])
def test_nobody_there(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", url]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"deli-com schema: {url}: io error: ") and shown.count("\n") == 1


async def test_headers_and_the_token_arrive(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def authorize(request: Any) -> bool:
        seen.append((request.headers.get("Authorization"), request.headers.get("X-Site")))
        return request.headers.get("Authorization") == "Bearer t0k"

    async with served("ws", Telemetry, None, authorize=authorize) as url:
        assert await run(url) == 2
        assert "403 Forbidden: not authorized" in capsys.readouterr().err
        monkeypatch.setenv("DELI_TOKEN", "t0k")
        assert await run(url, "--header", "X-Site: 4") == 0
    assert seen == [(None, None), ("Bearer t0k", "4")]


@pytest.mark.parametrize("kind", ["wss", "tcps"])
async def test_tls(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    leaf = authority.issue_cert("me.example")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert")
    async with served(kind, Telemetry, None, ssl=context) as url:
        assert await run(url, "--ca", str(tmp_path / "ca")) == 2  # it wants a certificate of ours
        capsys.readouterr()
        assert await run(url, "--ca", str(tmp_path / "ca"), "--cert", str(tmp_path / "cert"), "--hash") == 0
    assert capsys.readouterr().out == f"{codec(Telemetry).schema.hash}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["http://robot:8765"],
            "'http://robot:8765' is no URL of a server: ws://, wss://, tcp:// or tcps://",
        ),
        (["types_here"], "'types_here' is no file, and not of the form module:Down[,Up]"),
        (["types_here:Nothing"], "types_here:Nothing cannot be loaded: module "),
        (["no_such_module:T"], "no_such_module:T cannot be loaded: No module named 'no_such_module'"),
        (["types_here:Telemetry,Command,Command"], "names 3 types: one for each direction at most"),
        (["types_here:trustme"], "types_here:trustme has no schema: "),
        (["ws://127.0.0.1:1", "--ca", "x"], "are for TLS: wss:// instead of ws://?"),
        (["wss://127.0.0.1:1", "--key", "x"], "give --cert too"),
        (["wss://127.0.0.1:1", "--ca", "no/such/file"], "no/such/file: [Errno 2] No such file or directory"),
        (["ws://127.0.0.1:1", "--header", "X"], "--header takes K:V, not 'X'"),
        (["tcp://127.0.0.1:1", "--header", "X: 1"], "TCP has no headers"),
        (["tcp://127.0.0.1:1/path"], "TCP has no paths: tcp://HOST:PORT"),
        (["types_here:Telemetry", "--diff", "types_here:Nothing"], "types_here:Nothing cannot be loaded"),
    ],
)
def test_what_cannot_be_done_is_2_and_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("deli-com schema: ") and words in shown.err
    assert shown.err.count("\n") == 1


def test_help_is_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["schema", "--help"])
    shown, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert max(map(len, shown.splitlines())) <= 80
    assert examples.count("deli-com schema ") >= 5
    for option in ("--diff", "--hash", "--header", "--ca", "--cert", "--key", "DELI_TOKEN", "SOURCE"):
        assert option in shown


def test_modules_are_looked_for_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "kinds_of_mine.py").write_text(
        "from deli_com import Codec, u8\nclass Mine(Codec):\n    x: u8\n"
    )
    for command in ([sys.executable, "-m", "deli_com"], [str(Path(sys.executable).with_name("deli-com"))]):
        if not Path(command[0]).exists():
            continue  # the package is used in place, and was not installed
        done = subprocess.run(
            [*command, "schema", "kinds_of_mine:Mine"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.startswith("deli 1\nroot Mine\nstruct Mine\n x u8\nhash "), done.stderr


@pytest.mark.parametrize("kind", ["ws", "tcp"])
async def test_a_file_against_a_server_and_the_other_way(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(kind, Telemetry, Command) as url:
        assert await run(url) == 0
        file = tmp_path / "robot.schema"
        file.write_text(capsys.readouterr().out)
        same = f"down: the same, {codec(Telemetry).schema.hash}\nup: the same, {codec(Command).schema.hash}\n"
        for source, other in ((str(file), url), (url, str(file)), ("types_here:Telemetry,Command", url)):
            assert await run(source, "--diff", other) == 0
            assert capsys.readouterr().out == same
        assert await run("types_here:V2.Telemetry", "--diff", url, "--hash") == 1
        down = f"{codec(V2.Telemetry).schema.hash} here, {codec(Telemetry).schema.hash} there\n"
        assert capsys.readouterr().out == down


# --- differences ---


def test_no_difference_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "types_here:Telemetry", "--diff", "types_here:Telemetry"]) == 0
    assert capsys.readouterr().out == f"the same, {codec(Telemetry).schema.hash}\n"
    assert main(["schema", "types_here:Telemetry", "--diff", "types_here:Telemetry", "--hash"]) == 0
    assert capsys.readouterr().out == ""


async def test_a_difference_is_1_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    async with served("ws", Telemetry, Command) as url:
        assert await run("types_here:V2.Telemetry,V2.Command", "--diff", url) == 1
    here = "types_here:V2.Telemetry,V2.Command"
    assert capsys.readouterr().out.splitlines() == [
        f"down: {codec(V2.Telemetry).schema.hash} here, {codec(Telemetry).schema.hash} there",
        "  struct Telemetry",
        "-  a f32",
        "-  b u32",
        "+  a u32",
        "+  b f32",
        f"{here} reads {url}: no",
        "  a  f32 here, u32 there (the types of a and b are swapped)",
        "  b  u32 here, f32 there (the types of b and a are swapped)",
        f"{url} reads {here}: no",
        "  a  u32 here, f32 there (the types of a and b are swapped)",
        "  b  f32 here, u32 there (the types of b and a are swapped)",
        f"up: {codec(V2.Command).schema.hash} here, {codec(Command).schema.hash} there",
        "  struct Command",
        "-  fast bool",
        f"{here} reads {url}: yes, value by value",
        f"{url} reads {here}: yes, value by value",
    ]


def test_the_direction_that_one_lacks_is_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "types_here:Telemetry,Command", "--diff", "types_here:Telemetry"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "up: nothing there"
    # A type alone says nothing of the other direction.
    assert main(["schema", "types_here:Telemetry", "--diff", "types_here:Telemetry,Command"]) == 0
