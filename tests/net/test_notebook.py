"""In IPython, and so in notebooks: `await` at the top level, cells that run again, what objects look like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import helpers
import pytest

from deli_com import Server, WsClient, WsServer, u32

PATIENCE_S = 30.0 * helpers.SLOW

# Runs cells as IPython does, in one loop that stands still in between; prints what each shows.
CELLS = """
import json, sys, warnings
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

warnings.simplefilter("error")
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
shown = []
for cell in json.loads(sys.argv[1]):
    with capture_output() as printed:
        result = shell.run_cell(cell, store_history=False)
    if not result.success:
        error = result.error_before_exec or result.error_in_exec
        shown.append(f"{type(error).__name__}: {error}")
    elif result.result is not None:
        shown.append(shell.display_formatter.format(result.result)[0])
    else:
        shown.append({"text": printed.stdout})
print(json.dumps(shown))
"""

TYPES = """
from deli_com import Codec, WsClient, WsServer, connect_blocking, serve_background, u32

class Tick(Codec):
    number: u32
"""


@pytest.fixture
def run_cells(tmp_path: Path):
    def run(*cells: str) -> list:
        done = subprocess.run(
            [sys.executable, "-c", CELLS, json.dumps(cells)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_await_at_the_top_level(run_cells) -> None:
    """Each in a cell of its own: what was opened in one is used in the next."""
    shown = run_cells(
        TYPES,
        "server = await WsServer[Tick].bind('127.0.0.1:0')",
        "client = await WsClient[Tick].connect(server.local_addr())",
        "await server.send(Tick(7))",
        "print(await client.recv())",
        "await client.send(Tick(8)); print(await server.recv())",
        "await client.close(); await server.close()",
    )
    assert [one["text"] for one in shown] == ["", "", "", "", "Tick(number=7)\n", "Tick(number=8)\n", ""]


def test_without_await(run_cells) -> None:
    shown = run_cells(
        TYPES,
        "server = serve_background(WsServer[Tick].bind('127.0.0.1:0')).start()",
        "client = connect_blocking(WsClient[Tick], server.local_addr())",
        "client.send(Tick(1)); print(server.recv(20))",
        "server.send(Tick(2)); print(client.recv(20))",
        # Beside the loop of the cell itself, which runs meanwhile.
        "import asyncio; await asyncio.sleep(0); server.send(Tick(3)); print(client.recv(20))",
        "client.close(); server.close()",
    )
    assert [one["text"] for one in shown[3:]] == [
        "Tick(number=1)\n",
        "Tick(number=2)\n",
        "Tick(number=3)\n",
        "",
    ]


def test_a_cell_that_binds_a_server_runs_again(run_cells) -> None:
    """The error tells what to do, and that works."""
    bind = "server = await WsServer[Tick].bind(address)"
    shown = run_cells(
        TYPES,
        "server = await WsServer[Tick].bind('127.0.0.1:0'); address = server.local_addr()",
        bind,
        "await server.close()",
        bind,
        "await server.close()",
    )
    assert shown[2].startswith("IoError: io error: ")
    assert "`await server.close()` before the cell that binds it runs again" in shown[2]
    assert shown[4] == {"text": ""}


def test_a_cell_that_defines_a_class_runs_again(run_cells) -> None:
    """What is made and opened afterwards is of the new class; what is older is named in the error."""
    shown = run_cells(
        TYPES,
        "server = await WsServer[Tick, None].bind('127.0.0.1:0'); old = Tick(1)",
        TYPES,
        "server.send_nowait(Tick(2))",
        "await server.close(); server = await WsServer[Tick, None].bind('127.0.0.1:0')",
        "server.send_nowait(Tick(2))",
        "server.send_nowait(old)",
        "await server.close()",
    )
    assert shown[3].startswith("EncodeError") and shown[5] == {"text": ""}
    assert "its cell run again" in shown[6]


QUOTES = """
from deli_com import Codec, u32

class Quote(Codec):
    number: u32
    names: list[str]

    def times(self):
        return {factor} * self.number

class Plain:
    def times(self):
        return {factor}
"""


@pytest.mark.parametrize("mode", ["2", "2 --full"])
def test_autoreload(run_cells, tmp_path: Path, mode: str) -> None:
    """A module of structs is edited: what is made afterwards works, and so does all else of the module."""
    module = tmp_path / "quotes_that_change.py"
    module.write_text(QUOTES.format(factor=1), encoding="utf-8")
    edit = f"""
import os, pathlib
module = pathlib.Path({str(module)!r})
module.write_text({QUOTES.format(factor=20)!r}, encoding="utf-8")
os.utime(module, (2_000_000_000, 2_000_000_000))
"""
    shown = run_cells(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})",
        f"%load_ext autoreload\n%autoreload {mode}",
        "import quotes_that_change as quotes; from quotes_that_change import Quote",
        "from deli_com import codec",
        "old = Quote(1, ['a']); plain = quotes.Plain(); print(old.times(), plain.times())",
        edit,
        "print(old.to_bytes() == b'\\1\\0\\0\\0\\1\\0\\0\\0\\1\\0\\0\\0a')",
        "new = quotes.Quote(2, ['b']); print(new.times(), plain.times())",
        "print(quotes.Quote.from_bytes(new.to_bytes()) == new, bool(codec(quotes.Quote).to_bytes(new)))",
        "print(Quote.from_bytes(Quote(3, []).to_bytes()).number)",
        "codec(quotes.Quote).to_bytes(old); print('same')",
    )
    told = [one if isinstance(one, str) else one["text"] for one in shown]
    assert told[4:10] == ["1 1\n", "", "True\n", "40 20\n", "True True\n", "3\n"]
    assert told[10] == "same\n" or "Quote of an earlier definition" in told[10]


def test_what_is_shown_of_objects(run_cells) -> None:
    shown = run_cells(
        TYPES,
        "server = await WsServer[Tick].bind('127.0.0.1:0'); server",
        "client = await WsClient[Tick].connect(server.local_addr()); client",
        "link = WsClient[Tick].stream(server.local_addr()); link",
        "await server.send(Tick(1)); server.stats()",
        "client.stats()",
        "await link.aclose(); await client.close(); await server.close(); server",
    )
    tables = [one["text/plain"].splitlines() for one in shown[1:]]
    assert [table[0] for table in tables] == [
        "WsServer[Tick]",
        "WsClient[Tick]",
        "Stream",
        "ServerStats",
        "ServerStats",
        "WsServer[Tick]",
    ]
    assert "  state         open" in tables[0] and "  clients       0" in tables[0]
    assert "  schema        same" in tables[1]
    assert "  state         not connected" in tables[2]
    assert "  messages out      1" in tables[3]
    assert "  state         closed" in tables[5]
    for one in shown[1:]:
        assert one["text/html"].startswith("<table><caption>") and one["text/html"].count("<tr>") >= 5
    assert (
        "<th style='text-align:left'>messages out</th><td style='text-align:left'>1</td>"
        in (shown[4]["text/html"])
    )


async def test_a_repr_stays_one_line() -> None:
    """For logs, and for texts of errors."""
    for server_type in (WsServer, Server):
        async with server_type[u32].bind("127.0.0.1:0") as server:
            assert repr(server) == f"<{server_type.__name__}[u32] at {server.local_addr()}, 0 clients>"
    assert "\n" not in repr(WsClient[u32].stream("127.0.0.1:1"))
    assert "\n" not in repr(server.stats())
