"""Fan-out and receiving over TLS: each client has a cipher of its own, most of any library's cost."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

from launch import run_server
from rows import CAP_TURN_BYTES, MESSAGES, WINDOW_BYTES, WINDOW_TURNS, Case, Metrics, Pace, _cost, _job

SERVERS = {
    "deli-com": "servers/ours",
    "picows": "servers/picows_loop",
    "websockets": "servers/websockets_broadcast",
    "aiohttp": "servers/aiohttp_loop",
}


class Tls:
    """CPU and wall time a delivery over TLS 1.3, server core; the certificate is one of `trustme` (ECDSA)."""

    name = "tls"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "picows"

    def cases(self, pace: Pace) -> Iterator[Case]:
        if pace.quick:
            yield {"clients": 3, "size": 64, "burst": 16}
            return
        for clients, size in ((1, 64), (10, 64), (100, 64), (10, 1024), (10, 65_536), (10, 1_000_000)):
            for burst in (1, 16, 64):
                if burst * size <= CAP_TURN_BYTES and size * burst * clients <= 4 * CAP_TURN_BYTES:
                    yield {"clients": clients, "size": size, "burst": burst}

    def is_main(self, case: Case) -> bool:
        return case["clients"] == 100 or case["size"] == 1_000_000

    def libs(self, case: Case) -> list[str]:
        return [lib for lib in SERVERS if importlib.util.find_spec(lib.replace("-", "_")) is not None]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        window = max(1, min(WINDOW_TURNS, WINDOW_BYTES // (case["burst"] * case["size"])))
        job = replace(_job(pace, window=window, **case), style="tls")
        result = run_server(SERVERS[lib], job, load_program="load_tls")
        return _cost(result, result["messages"] * case["clients"])


class TlsUplink:
    """CPU and wall time a message in a server that clients send to over TLS 1.3."""

    name = "tls-uplink"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "picows"

    def cases(self, pace: Pace) -> Iterator[Case]:
        cases = ((2, 64),) if pace.quick else ((100, 64), (10, 1024), (10, 65_536), (10, 1_000_000))
        yield from ({"clients": clients, "size": size} for clients, size in cases)

    def is_main(self, case: Case) -> bool:
        return case["size"] in (64, 1_000_000)

    def libs(self, case: Case) -> list[str]:
        found = [lib for lib in SERVERS if importlib.util.find_spec(lib.replace("-", "_")) is not None]
        return [*found, "deli-com, recv_many"]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        name, _, style = lib.partition(", ")
        messages = MESSAGES[case["size"]] // (100 if pace.quick else 2)
        job = _job(pace, mode="uplink", messages=messages, **case)
        job = replace(job, style="tls_many" if style else "tls")
        result = run_server(SERVERS[name], job, load_program="load_tls", mode="send")
        return _cost(result, result["messages"])
