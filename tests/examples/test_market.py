"""examples/market: a viewer that joins late and a client that stalls end with the current prices."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

from programs import ended, line_of, module, running
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

SECONDS = 3
STALL_S = 1.5  # long enough to fill the kernel's buffers, at 0.8 MB a second
SUMMARY = re.compile(r"(\d+) quotes, (\d+) of them superseded; (\d+) trades")


def prices(lines: list[str]) -> dict[str, str]:
    """Bid and ask, as printed, by symbol."""
    return {line[:5]: line[5:].strip() for line in lines if line.startswith("SYM")}


def test_viewer_that_joins_late() -> None:
    """It gets every symbol, though some are quoted no more, and each trade from then on."""
    with running("market/market.py", "--port", "0", "--seconds", str(SECONDS)) as market:
        address = line_of(market).removeprefix("market at ")
        time.sleep(0.3)
        with running("market/viewer.py", address) as viewer:
            said = ended(viewer).replace("\r", "\n").splitlines()
        market_said = ended(market).splitlines()

    assert "connection closed (1001): the server is closing" in said
    assert len(prices(market_said)) == 50
    assert prices(said) == prices(market_said)
    found = re.fullmatch(r"(\d+) trades, (\d+) missing, turnover [\d.]+", said[-1])
    assert found
    assert found[2] == "0"
    assert 0 < int(found[1]) < total(market_said)[2], "it joined late"


def total(market_said: list[str]) -> tuple[int, int, int]:
    found = SUMMARY.fullmatch(market_said[-1])
    assert found
    quotes, superseded, trades = map(int, found.groups())
    return quotes, superseded, trades


def test_client_that_stalls() -> None:
    """It misses quotes, which are counted, no trade, and has the newest prices at the end."""
    events: Any = module("market/events.py")
    with running("market/market.py", "--port", "0", "--seconds", str(SECONDS)) as market:
        host, _, port = line_of(market).removeprefix("market at ").partition(":")
        received = stalled(host, int(port))
        market_said = ended(market).splitlines()

    got = [events.Event.from_bytes(raw) for raw in received]
    trades = [event.number for event in got if isinstance(event, events.Trade)]
    quotes = [event for event in got if isinstance(event, events.Quote)]
    assert trades == list(range(trades[0], total(market_said)[2])), "each trade, in order, to the last"
    newest = {quote.symbol: f"{quote.bid:8.2f} {quote.ask:8.2f}".strip() for quote in quotes}
    assert newest == prices(market_said)
    sent, superseded, _ = total(market_said)
    assert superseded > 0
    # It joined between two turns, with ten quotes for each trade, and first got the newest quote of each
    # symbol.
    due = 50 + (sent - 50 - 10 * trades[0])
    assert len(quotes) + superseded == due, "what it missed was counted"


def stalled(host: str, port: int) -> list[bytes]:
    """Connect, read nothing for a while, then all until the server closes."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, port))
    received = []
    with connect(f"ws://{host}:{port}", sock=sock, max_queue=1, compression=None) as connection:
        time.sleep(STALL_S)
        try:
            while True:
                received.append(connection.recv(timeout=30))
        except ConnectionClosedOK:
            pass
    return [message for message in received if isinstance(message, bytes)]
