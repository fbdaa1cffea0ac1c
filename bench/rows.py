"""Which cases each bench has, which libraries take part, and what one run of one library yields.

A case is a dict that names the row. `measure` runs one library once; the metrics it returns are named with
their units.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from drive import LARGE, Job
from launch import run_client, run_server
from rows_peers import PEERS, ManyToOne, Peers, why_missing

SIZES = (64, 1024, 65_536, 1_000_000)
CLIENTS = (1, 10, 100, 1000)
BURSTS = (1, 16, 64)

WINDOW_TURNS = 8  # a server may be so many turns ahead of its slowest client ...
WINDOW_BYTES = 262_144  # ... but not so many bytes, one turn apart
CAP_WINDOW_CLIENTS = 100  # a flush to more takes so long that a library may yield, so turns would merge
CAP_TURN_BYTES = 32 << 20  # larger turns would measure the limits of each library's queue
CAP_FLIGHT_BYTES = 1 << 30  # of one turn to all clients: the kernel's TCP memory


class Program(NamedTuple):
    """A program of this folder, its `--style`, and the distribution that it measures ("" is our own C)."""

    path: str
    style: str = ""
    measures: str = ""


SERVERS = {
    "C floor": Program("floor_server"),
    "C floor of values": Program("floor_server", "values"),
    "deli-com": Program("servers/ours", "", "deli_com"),
    "deli-com, awaited": Program("servers/ours", "await", "deli_com"),
    "deli-com, TCP": Program("servers/ours", "tcp", "deli_com"),
    "picows": Program("servers/picows_loop", "", "picows"),
    "websockets": Program("servers/websockets_broadcast", "", "websockets"),
    "aiohttp": Program("servers/aiohttp_loop", "", "aiohttp"),
    "socketify": Program("servers/socketify_publish", "", "socketify"),
    "pyzmq": Program("servers/pyzmq_pub", "", "zmq"),
    "deli-com, recv": Program("servers/ours", "recv", "deli_com"),
    "deli-com, recv_many": Program("servers/ours", "recv_many", "deli_com"),
}
SERVERS |= {lib: Program(f"peers/{language}", style) for lib, (language, style) in PEERS.items()}
PROTOCOLS = {"pyzmq": "zmq", "deli-com, TCP": "tcp"}  # of the load; the others are WebSocket
RECEIVERS = {
    "C floor": Program("floor_client"),
    "C floor of values": Program("floor_client", "values"),
    "picows, listener": Program("clients/picows_listener", "", "picows"),
    "deli-com, recv": Program("clients/ours", "recv", "deli_com"),
    "deli-com, recv of bytes": Program("clients/ours", "recv_bytes", "deli_com"),
    "deli-com, recv of 2 numbers + bytes": Program("clients/ours", "recv_packet", "deli_com"),
    "deli-com, async for": Program("clients/ours", "async_for", "deli_com"),
    "deli-com, recv_many": Program("clients/ours", "recv_many", "deli_com"),
    "deli-com, recv_many of bytes": Program("clients/ours", "recv_many_bytes", "deli_com"),
    "deli-com, blocking": Program("clients/ours", "blocking", "deli_com"),
    "deli-com, blocking recv_many": Program("clients/ours", "blocking_many", "deli_com"),
    "picows.websockets": Program("clients/picows_websockets_recv", "", "picows"),
    "websockets": Program("clients/websockets_recv", "", "websockets"),
    "aiohttp": Program("clients/aiohttp_async_for", "", "aiohttp"),
}


def installed(lib: str) -> bool:
    """Whether this interpreter can import what `lib` measures, or its other language could be built."""
    if lib in PEERS:
        return not why_missing(lib)
    module = (SERVERS.get(lib) or RECEIVERS[lib]).measures
    return not module or importlib.util.find_spec(module) is not None


PACKET_LEAD = 12  # bytes of values.Packet before the length of its `data`

MESSAGES = {64: 400_000, 1024: 200_000, 65_536: 10_000, 1_000_000: 800}

Case = dict[str, int]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Pace:
    """How many messages and seconds the benches take."""

    rounds: int = 5
    seconds: float = 0.5
    warmup: float = 0.15
    loop: str = "uvloop"
    quick: bool = False


QUICK = Pace(rounds=1, seconds=0.05, warmup=0.02, quick=True)


def _job(pace: Pace, **values: Any) -> Job:
    return replace(Job(seconds=pace.seconds, warmup=pace.warmup, loop=pace.loop), **values)


def _server(lib: str, job: Job, **load: Any) -> dict[str, Any]:
    name, style, _ = SERVERS[lib]
    if lib in PROTOCOLS:
        load["proto"] = PROTOCOLS[lib]
    result = run_server(name, replace(job, style=style), **load)
    if result["load"].get("bad"):
        raise ValueError(f"{lib}: {result['load']['bad']} messages arrived wrong")
    return result


def _cost(result: dict[str, Any], each: float) -> Metrics:
    cpu = result["user_s"] + result["sys_s"]
    return {
        "cpu_ns": cpu / each * 1e9,
        "wall_ns": result["wall_s"] / each * 1e9,
        "busy": cpu / result["wall_s"],
    }


class Fanout:
    """CPU and wall time a delivery (one message to one client), server core."""

    name = "fanout"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "C floor"

    def cases(self, pace: Pace) -> Iterator[Case]:
        if pace.quick:
            yield {"clients": 3, "size": 64, "burst": 16}
            yield {"clients": 2, "size": 1_000_000, "burst": 1}
            return
        for clients in CLIENTS:
            for size in SIZES:
                for burst in BURSTS:
                    if burst * size <= CAP_TURN_BYTES and clients * size * burst <= CAP_FLIGHT_BYTES:
                        yield {"clients": clients, "size": size, "burst": burst}
            if clients == 10:
                yield {"clients": 20, "size": 1_000_000, "burst": 1}

    def is_main(self, case: Case) -> bool:
        clients, size, burst = case["clients"], case["size"], case["burst"]
        return (clients in (1, 100) and size == 64) or (clients, size, burst) in (
            (20, 1_000_000, 1),
            (1000, 64, 16),
            (100, 1024, 16),
        )

    def libs(self, case: Case) -> list[str]:
        few = ["C floor", "deli-com", "deli-com, TCP", "picows", "websockets"]
        full = ["deli-com, awaited", "aiohttp", "socketify", "pyzmq"]
        if case["clients"] == 1:
            return [*few, "deli-com, awaited"]
        return few + full if case["clients"] in (2, 3, 20, 100) else few

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        window = max(1, min(WINDOW_TURNS, WINDOW_BYTES // (case["burst"] * case["size"])))
        if case["clients"] > CAP_WINDOW_CLIENTS:
            window = 1
        job = _job(pace, window=window, check=int(pace.quick), **case)
        result = _server(lib, job)
        return _cost(result, result["messages"] * case["clients"])


class Latency:
    """One-way latency: single stamped messages, 500 a second, to 1 and to 100 clients."""

    name = "latency"
    is_steady = False
    headline = "p50_us"
    base: str | None = "C floor"
    _rate = 500.0
    _seconds = 2.0

    def cases(self, pace: Pace) -> Iterator[Case]:
        yield from ({"clients": count, "size": 64} for count in ((3,) if pace.quick else (1, 100)))

    def libs(self, case: Case) -> list[str]:
        return ["C floor", "deli-com", "picows", "websockets", "aiohttp", "socketify"]

    def is_main(self, case: Case) -> bool:
        return True

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        seconds = 0.1 if pace.quick else self._seconds
        job = _job(pace, mode="latency", rate=self._rate, check=int(pace.quick), **case)
        job = replace(job, seconds=seconds)
        result = _server(lib, job, stamp=0, skip=int(job.warmup * job.rate))
        load = result["load"]
        metrics = {f"{key}_us": load[key] / 1e3 for key in ("p50", "p90", "p99", "p999", "max")}
        growth = (result["hwm_kib"] - result["start_kib"]) / 1024 if "start_kib" in result else 0.0
        return metrics | {"grown_mib": growth, "samples": load["samples"]}


class Stalled(Latency):
    """Latency of 100 clients, 16 KiB 500 times a second, without and with one more that never reads."""

    name = "stalled"
    headline = "p99_us"
    _seconds = 5.0

    def cases(self, pace: Pace) -> Iterator[Case]:
        count = 3 if pace.quick else 100
        yield {"clients": count, "stalled": 0, "size": 16_384}
        yield {"clients": count + 1, "stalled": 1, "size": 16_384}

    def libs(self, case: Case) -> list[str]:
        return ["C floor", "deli-com", "picows", "websockets", "socketify"]


class Receive:
    """CPU and wall time a message in one client process, fed by C as fast as it takes them."""

    name = "receive"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "picows, listener"

    def cases(self, pace: Pace) -> Iterator[Case]:
        yield from ({"size": size} for size in ((64, 65_536) if pace.quick else SIZES))

    def is_main(self, case: Case) -> bool:
        return case["size"] in (64, 1_000_000)

    def libs(self, case: Case) -> list[str]:
        # Larger messages of ours are `bytes` in any row, so these would repeat `recv` and `recv_many`.
        libs = [lib for lib in RECEIVERS if case["size"] == 64 or not lib.endswith("bytes")]
        return [lib for lib in libs if case["size"] >= LARGE or lib != "C floor of values"]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        name, style, _ = RECEIVERS[lib]
        messages = MESSAGES[case["size"]] // (100 if pace.quick else 1)
        lead = PACKET_LEAD if style == "recv_packet" else 0
        result = run_client(name, _job(pace, style=style, messages=messages, lead=lead, **case))
        return _cost(result, result["messages"])


class Uplink:
    """CPU and wall time a message in a server that many clients send to as fast as it takes them."""

    name = "uplink"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "picows"

    def cases(self, pace: Pace) -> Iterator[Case]:
        for clients in (2,) if pace.quick else (1, 10, 100):
            for size in (64,) if pace.quick else SIZES[: 3 if clients == 100 else 4]:
                yield {"clients": clients, "size": size}

    def is_main(self, case: Case) -> bool:
        return case["size"] == 64

    def libs(self, case: Case) -> list[str]:
        return [
            "C floor",
            *(["C floor of values"] if case["size"] >= LARGE else []),
            "picows",
            "deli-com, recv",
            "deli-com, recv_many",
            "websockets",
            "aiohttp",
            "socketify",
        ]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        messages = MESSAGES[case["size"]] // (100 if pace.quick else 1)
        result = _server(lib, _job(pace, mode="uplink", messages=messages, **case), mode="send")
        return _cost(result, result["messages"])


class Idle:
    """Memory of an idle client in the server, and CPU of accepting one."""

    name = "idle"
    is_steady = True  # memory: a second round says the same
    headline = "client_kib"
    base: str | None = None

    def cases(self, pace: Pace) -> Iterator[Case]:
        yield from ({"clients": count} for count in ((5,) if pace.quick else (100, 1000, 2000)))

    def is_main(self, case: Case) -> bool:
        return case["clients"] >= 1000

    def libs(self, case: Case) -> list[str]:
        return ["deli-com", "picows", "websockets", "aiohttp"]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        result = _server(lib, replace(_job(pace, mode="idle", **case), seconds=0.05 if pace.quick else 1.0))
        return {
            "client_kib": result["pss_kib"] / case["clients"],
            "accept_us": result["accept_s"] / case["clients"] * 1e6,
            "idle_cpu_percent": result["idle_cpu_s"] * 100,
        }


class Footprint:
    """Memory held some seconds after a 9 MB message: in a client, and in a server for each of 20 senders."""

    name = "footprint"
    is_steady = True  # memory: a second round says the same
    headline = "held_kib"
    base: str | None = None
    _size = 9_000_000

    def cases(self, pace: Pace) -> Iterator[Case]:
        yield {"receiver": 1, "size": self._size}
        yield {"senders": 2 if pace.quick else 20, "size": self._size}

    def is_main(self, case: Case) -> bool:
        return True

    def libs(self, case: Case) -> list[str]:
        if "senders" in case:
            return ["deli-com, recv", "picows", "websockets", "aiohttp"]
        return ["deli-com, recv", "picows, listener", "picows.websockets", "websockets", "aiohttp"]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        seconds = 0.1 if pace.quick else 4.0
        count = case.get("senders", 0)
        if count:
            job = _job(pace, mode="idle", clients=count, messages=count, size=case["size"])
            result = _server(lib, replace(job, seconds=seconds), mode="send")
            return {"held_kib": result["pss_kib"] / count}
        name, style, _ = RECEIVERS[lib]
        job = _job(pace, mode="footprint", style=style, size=case["size"], messages=1)
        result = run_client(name, replace(job, seconds=seconds))
        return {"held_kib": result["held_kib"], "peak_kib": result["peak_kib"]}


from rows_tls import Tls, TlsUplink  # noqa: E402 - it is made of the above

Bench = Fanout | Latency | Stalled | Receive | Uplink | Idle | Footprint | Tls | TlsUplink | Peers
BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (
        Fanout(),
        Stalled(),
        Latency(),
        Receive(),
        Uplink(),
        Idle(),
        Footprint(),
        Tls(),
        TlsUplink(),
        Peers(),
        ManyToOne(),
    )
}
