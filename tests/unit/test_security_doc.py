"""The table of limits in SECURITY.md says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from deli_com import Client, Server, WsClient, WsServer

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1}
CALLS = [WsServer.bind, WsClient.connect, Server.bind, Client.connect, WsServer.close]
# Constants that are no limits themselves, so the table does not list them.
NO_LIMITS = {
    "conflate",
    "addr",
    "path",
    "ssl",
    "origins",
    "origin",
    "authorize",
    "on_connect",
    "on_disconnect",
    "slow_client",
    "subprotocols",
    "response_headers",
    "headers",
    "schema",
    "sock",
    "mode",
    "reuse_port",
    "proxy",
    "proxy_protocol",
    "forwarded_from",
    "forwarded_header",
    "forwarded_host",
    "server_hostname",
    "http",
    "http_authorize",
    "page",
    "hosts",
    "record",
    "foxglove",
    "backplane",
}


def limits() -> list[tuple[str, str, str]]:
    """(what, where, default) of each row."""
    table = TEXT[TEXT.index("| what |") : TEXT.index("In addition, the kernel")]
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in table.strip().splitlines()[2:]
    ]
    assert len(rows) > 25
    assert all(len(row) == 4 for row in rows)
    return [(what, where, default) for what, where, default, _ in rows]


def amount(text: str) -> float | None:
    """``64 MiB``, ``65,536``, ``10 s`` or ``none``."""
    if text == "none":
        return None
    found = re.fullmatch(r"([\d.,]+)(?: (KiB|MiB|s))?", text)
    assert found, text
    return float(found[1].replace(",", "")) * UNITS[found[2] or ""]


def constant(file: str, name: str) -> float:
    """A number that a source file gives to a name."""
    source = (ROOT / "src" / "deli_com" / file).read_text(encoding="utf-8")
    found = re.findall(rf"\b{name}(?:: int)?\s*=\s*([\d_]+(?:\.\d+)?(?:\s*(?:\*|<<)\s*\d+)*)", source)
    assert found, f"{file} gives no number to {name}"
    values = {eval(value) for value in found}
    assert len(values) == 1, f"{file}: {name} is {values}"
    return float(values.pop())


@pytest.mark.parametrize(("what", "where", "default"), limits(), ids=[where for _, where, _ in limits()])
def test_defaults_are_those_of_the_code(what: str, where: str, default: str) -> None:
    named = re.findall(r"`([^`]+)`", where)
    for name in named:
        if ": " in name:
            assert constant(*name.split(": ")) == amount(default), what
            continue
        found = [
            call.__qualname__
            for call in CALLS
            if (option := inspect.signature(call).parameters.get(name)) is not None
            and (option.default == amount(default) or (option.default is None and len(named) > 1))
        ]
        takes = [call.__qualname__ for call in CALLS if name in inspect.signature(call).parameters]
        assert takes, f"nothing takes {name}"
        assert found == takes, what


def test_every_option_that_limits_something_is_in_the_table() -> None:
    named = {name for _, where, _ in limits() for name in re.findall(r"`([^`:]+)`", where)}
    for call in CALLS:
        options = set(inspect.signature(call).parameters) - {"self"} - NO_LIMITS
        assert options <= named, f"{call.__qualname__}: {options - named} missing in SECURITY.md"
