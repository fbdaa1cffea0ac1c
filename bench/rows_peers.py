"""Alternatives in other languages: their libraries, in one table with ours.

Each library is used in the best way that its documentation recommends; the sources in peers/ say which. All
use the clients of load_client.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from drive import LARGE
from foreign import NotBuilt, command

if TYPE_CHECKING:
    from rows import Case, Metrics, Pace

# Library -> language and style; the program is built by foreign.py.
PEERS = {
    "tokio-websockets": ("rust", "tokio-websockets"),
    "fastwebsockets": ("rust", "fastwebsockets"),
    "tungstenite": ("rust", "tungstenite"),
    "deli (Rust)": ("rust", "deli"),
    "gorilla, prepared": ("go", "gorilla"),
    "coder/websocket": ("go", "coder"),
    "ws": ("node", "ws"),
    "ws, corked": ("node", "corked"),
}


def why_missing(lib: str) -> str:
    """Builds a peer. Returns why it cannot take part, or an empty str."""
    try:
        command(PEERS[lib][0])
    except NotBuilt as error:
        return str(error)
    return ""


class Peers:
    """CPU and wall time a delivery, server core, as `Fanout`; libraries of other languages."""

    name = "peers"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "C floor"

    def cases(self, pace: Pace) -> Iterator[Case]:
        if pace.quick:
            yield {"clients": 3, "size": 64, "burst": 4}
            return
        for clients in (1, 100):
            for burst in (1, 16, 64):
                yield {"clients": clients, "size": 64, "burst": burst}
        yield {"clients": 100, "size": 65_536, "burst": 1}

    def is_main(self, case: Case) -> bool:
        return case["size"] == 64 and case["burst"] != 16

    def libs(self, case: Case) -> list[str]:
        return ["C floor", "deli-com", "picows", *PEERS]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        from rows import BENCHES, Fanout

        fanout = BENCHES["fanout"]
        assert isinstance(fanout, Fanout)
        return fanout.measure(lib, case, pace)


class ManyToOne:
    """CPU and wall time a message in a server that many clients send to, as `Uplink`; other languages."""

    name = "many-to-one"
    is_steady = False
    headline = "cpu_ns"
    base: str | None = "deli-com, recv"

    def cases(self, pace: Pace) -> Iterator[Case]:
        for clients in (2,) if pace.quick else (10, 100):
            for size in (64,) if pace.quick else (64, 65_536):
                yield {"clients": clients, "size": size}

    def is_main(self, case: Case) -> bool:
        return case["clients"] == 10

    def libs(self, case: Case) -> list[str]:
        # deli receives by tokio-websockets; corking is of what is sent.
        others = [lib for lib in PEERS if lib not in ("deli (Rust)", "ws, corked")]
        floors = ["C floor", "C floor of values"] if case["size"] >= LARGE else ["C floor"]
        return [*floors, "deli-com, recv", "deli-com, recv_many", "picows", *others]

    def measure(self, lib: str, case: Case, pace: Pace) -> Metrics:
        from rows import BENCHES

        return BENCHES["uplink"].measure(lib, case, pace)
