"""The counters of a relay."""

from __future__ import annotations

from dataclasses import dataclass

from deli_com.link.stats import ServerStats

__all__ = ["NOTHING", "RelayStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStats(ServerStats):
    """The counters of a relay's server, and of the relay.

    Attributes
    ----------
    connected : bool
        Whether upstream is connected.
    away_s : float
        Seconds since upstream was lost; 0.0 if it is connected, or never was.
    connects : int
        Connections to the server.
    passed, up_passed : int
        Messages passed on to clients, and to upstream.
    lost : int
        Messages from upstream that were dropped: larger than ``max_message_size``, of a key past
        ``max_keys``, or of a schema that was replaced before they were served.
    up_lost : int
        Messages of clients that did not reach upstream, because it was away or too slow.
    undecodable : int
        Messages whose class or key could not be read, in both directions.
    schemas : int
        Number of schemas served so far, one after the other.
    """

    connected: bool = False
    away_s: float = 0.0
    connects: int = 0
    passed: int = 0
    lost: int = 0
    up_passed: int = 0
    up_lost: int = 0
    undecodable: int = 0
    schemas: int = 0


NOTHING = ServerStats(
    clients=0,
    laggards=0,
    messages_out=0,
    messages_in=0,
    bytes_out=0,
    bytes_in=0,
    queued_bytes=0,
    oldest_queued_s=0.0,
    retained_keys=0,
    retained_bytes=0,
    skipped=0,
    superseded=0,
    unknown=0,
    refused={},
    closed={},
    turned_away={},
    slabs=0,
)  # before there is a server
