"""`Collector`: Prometheus gets the values of `stats()`, and these match what was done."""

from __future__ import annotations

import json
import random
import re
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra metrics is not installed")

from helpers import until
from peers import TEXT, raw_client
from prometheus_client import CollectorRegistry, generate_latest

from deli_com import Client, Server, ServerStats, WebSocketError, WsClient, WsServer, u32
from deli_com.metrics import COUNTERS, GAUGES, LABELLED, Collector

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)
Samples = dict[tuple[str, str], float]


def samples(collector: Collector) -> Samples:
    """Every sample by its name and last label; all are of the server "a"."""
    found: Samples = {}
    for family in collector.collect():
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("server") == "a"
            found[sample.name, next(iter(labels.values()), "")] = sample.value
    return found


def expected(stats: ServerStats) -> Samples:
    """The same, from a `ServerStats` as a reader of its documentation would name it."""
    found: Samples = {}
    for name in ("clients", "laggards", "queued_bytes", "inbox_bytes", "retained_keys", "retained_bytes"):
        found[f"deli_{name}", ""] = getattr(stats, name)
    found["deli_oldest_queued_seconds", ""] = stats.oldest_queued_s
    found["deli_bounded", ""] = stats.bounded
    found["deli_transit_seconds", ""] = stats.transit
    found["deli_in_flight_bytes", ""] = stats.in_flight
    found["deli_least_rate_bytes", ""] = stats.rate
    found["deli_oldest_inbox_seconds", ""] = stats.oldest_inbox_s
    for name in (
        *("messages_out", "messages_in", "bytes_out", "bytes_in", "skipped", "superseded", "unknown"),
        *("inbox_skipped", "inbox_superseded"),
    ):
        found[f"deli_{name}_total", ""] = getattr(stats, name)
    for name in ("refused", "closed", "turned_away"):
        for key, count in getattr(stats, name).items():
            found[f"deli_{name}_total", "none" if key is None else str(key)] = count
    return found


NOT_HERE = {"backplane"}  # only where there is one: test_backplane
NOT_A_SERVERS = {"slabs", "gaps", "gap_skipped", "gap_superseded"}  # the memory pool's; of clients only


def test_every_figure_is_there():
    """All of ServerStats that says something of servers."""
    given = {family.field for family in [*GAUGES, *COUNTERS, *(family for family, _ in LABELLED)]}
    assert given == {field.name for field in fields(ServerStats)} - NOT_A_SERVERS - NOT_HERE


@PAIRS
@pytest.mark.parametrize("seed", range(5))
async def test_the_figures_are_those_of_what_was_done(server_type: Any, client_type: Any, seed: int):
    """Random sends, receives, joins and leaves: a plain count of each is what is collected."""
    draw = random.Random(seed)
    async with server_type[u32].bind("127.0.0.1:0") as server:
        collector = Collector(server, "a")
        clients: list[Any] = []
        out = received = left = 0

        def ended() -> bool:
            return sum(server.stats().closed.values()) == left

        for _ in range(60):
            match draw.choice(["join", "leave", "send", "send", "up"]):
                case "join" if len(clients) < 4:
                    clients.append(await client_type[u32].connect(server.local_addr()))
                    await server.wait_clients(len(clients))
                case "leave" if clients:
                    await clients.pop(draw.randrange(len(clients))).close()
                    left += 1
                    await until(ended)
                case "send":
                    await server.send(draw.randrange(1 << 32))
                    out += 1
                case "up" if clients:
                    await draw.choice(clients).send(7)
                    assert await server.recv() == 7
                    received += 1
            found = samples(collector)
            stats = server.stats()
            found["deli_oldest_queued_seconds", ""] = stats.oldest_queued_s  # moves by itself
            assert found == expected(stats)
            assert found["deli_clients", ""] == len(clients)
            assert found["deli_messages_out_total", ""] == out
            assert found["deli_messages_in_total", ""] == received
            assert found["deli_bytes_in_total", ""] == 4 * received
            assert sum(count for (name, _), count in found.items() if name == "deli_closed_total") == left
        for client in clients:
            await client.close()


async def test_what_is_refused_has_its_reason():
    async with WsServer[u32].bind("127.0.0.1:0", max_clients=1) as server:
        collector = Collector(server, "a")
        async with raw_client(server.local_addr()) as peer:
            await server.wait_clients(1)
            await peer.send(b"hello", TEXT)
            await peer.round_trip()
            with pytest.raises(WebSocketError, match="503"):
                await WsClient[u32].connect(server.local_addr())
            found = samples(collector)
            assert found["deli_refused_total", "unwanted"] == 1
            assert found["deli_refused_total", "undecodable"] == 0
            assert found["deli_turned_away_total", "503"] == 1
            peer.reset()
        await until(lambda: sum(server.stats().closed.values()) == 1)
        found = samples(collector)
        assert found.get(("deli_closed_total", "none")) or found.get(("deli_closed_total", "1006"))


async def test_the_text_that_is_scraped():
    """Two servers in one collector: a family once, a series for each; asked in another thread."""
    async with WsServer[u32].bind("127.0.0.1:0") as first, Server[u32].bind("127.0.0.1:0") as second:
        collector = Collector(first, "quotes")
        collector.add(second)
        registry = CollectorRegistry(auto_describe=True)
        registry.register(collector)
        first.send_nowait(1)
        texts: list[str] = []
        thread = threading.Thread(target=lambda: texts.append(generate_latest(registry).decode()))
        thread.start()
        thread.join()
        [text] = texts
        assert text.count("# TYPE deli_messages_out_total counter\n") == 1
        assert 'deli_messages_out_total{server="quotes"} 1.0\n' in text
        assert f'deli_messages_out_total{{server="{second.local_addr()}"}} 0.0\n' in text
        assert f'deli_clients{{server="{second.local_addr()}"}} 0.0\n' in text
        with pytest.raises(ValueError, match="a server named 'quotes' is collected already"):
            collector.add(second, "quotes")
        collector.remove("quotes")
        assert "quotes" not in generate_latest(registry).decode()


def test_what_is_no_server():
    with pytest.raises(TypeError, match="a Collector takes servers, got int"):
        Collector(7)  # type: ignore[arg-type]


def test_the_dashboard_asks_for_metrics_that_there_are():
    dashboard = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) >= 10
    known = {family.name for family in GAUGES}
    known |= {f"{family.name}_total" for family in [*COUNTERS, *(family for family, _ in LABELLED)]}
    asked = {name for query in queries for name in re.findall(r"deli_\w+", query)}
    assert asked <= known
    assert known - asked <= {"deli_retained_keys", "deli_unknown_total"}
    grid = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        (x, y)
        for place in grid
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len({*cells}) and max(x for x, _ in cells) < 24  # no panel lies on another
