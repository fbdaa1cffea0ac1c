"""Counters of a server and of one client: the results of `stats()`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from deli_com.link.shown_as_table import ShownAsTable

__all__ = ["BackplaneStats", "PeerStats", "ServerStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackplaneStats(ShownAsTable):
    """Counters of a server's backplane, since it was bound. For each receiver, what it has received and its
    gaps together are what the other nodes have sent since it joined them.

    Attributes
    ----------
    connected : bool
        Whether the backplane is connected now.
    sent : int
        Messages for the other nodes that have a number: those that were published, and those that were lost
        here.
    received : int
        Messages of other nodes.
    gaps : int
        Messages of other nodes that never came, or that could not be read or put here.
    duplicates : int
        Messages of other nodes that came again, and were dropped.
    nodes : int
        Other nodes that are there now.
    conflicts : int
        Messages of other nodes with a key that this node sends as well.
    lost : int
        Own messages that were dropped because the backplane was away, or too slow, and ``max_backlog`` bytes
        waited. The other nodes count them as gaps.
    skipped, superseded : int
        Own messages that were dropped by their policy then. They have no number, and are no gaps.
    batches : int
        Messages of the backplane that carried those that were sent.
    waiting_bytes : int
        Bytes of own messages that wait for the backplane now.
    """

    connected: bool
    sent: int
    received: int
    gaps: int
    duplicates: int
    nodes: int
    conflicts: int
    lost: int
    skipped: int
    superseded: int
    batches: int
    waiting_bytes: int

    _repr_pretty_ = ShownAsTable._repr_pretty_

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        return _all_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats(ShownAsTable):
    """Counters since the server was bound, and what it holds now. Making it does not take time for each
    client.

    Attributes
    ----------
    clients : int
        Connected now.
    laggards : int
        Connected clients with queued messages.
    messages_out, messages_in : int
        Messages sent (to all, a group or one client; each counted once), and messages received.
    bytes_out, bytes_in : int
        Bytes sent to all clients together, frame headers included; payload bytes received.
    queued_bytes : int
        Bytes held for clients that have yet to get them; each message is counted once, whatever the number of
        clients.
    oldest_queued_s : float
        Seconds since the oldest message was sent that waits for a client; 0.0 if none does. To
        about 10 ms.
    retained_keys, retained_bytes : int
        Newest messages held of each key for clients that join later (``retain=True``), and their bytes
        on the wire.
    skipped, superseded : int
        Messages that clients did not get because they were behind: of policy skip and latest. Of a client's
        stats, also those that its program did not get: see `inbox_skipped`, `inbox_superseded` and `gaps`.
    inbox_bytes : int
        Received, and not taken by the program yet.
    oldest_inbox_s : float
        Seconds since the oldest of those came; 0.0 if there are none. Where no type has policy skip or
        latest, it is seen only once it has waited for some seconds.
    inbox_skipped, inbox_superseded : int
        Values that came and that the program did not get because it was behind: of policy skip and latest.
    gaps, gap_skipped, gap_superseded : int
        Of a client: how often its server has told it that messages are missing because the client was behind,
        and how many, by policy; `skipped` and `superseded` count them, too. Of a stream, `gaps` counts
        reconnects, too.
    unknown : int
        Received values that were dropped because their variant exists only in the sender's schema.
    refused : Mapping of str to int
        Messages that were not sent or not accepted, by reason: ``"backlog full"``, ``"undecodable"``,
        ``"unwanted"`` (text, or there is no `Up`), ``"inbox full"`` (the program has not received yet).
    closed : Mapping of int or None to int
        Connections that have ended, by close code; None where there was none.
    turned_away : Mapping of int to int
        Handshakes refused, by HTTP status; of all services on its port. Empty over TCP.
    slabs : int
        Blocks of 256 KiB allocated for messages, spare ones included.
    bounded : int
        Connected clients to whom only so much is sent as they take in time: see ``max_transit``.
    transit : float
        Seconds that bytes wait on their way to the client for which that is longest, about 0.25 s ago; 0.0
        if no client has answered a PING or a mark.
    in_flight : int
        Bytes given to the sockets of all clients together that no answer confirms, likewise.
    rate : float
        Bytes a second that the slowest of the bounded clients takes, likewise; 0.0 if there are none.
    backplane : BackplaneStats or None
        Of the messages of other servers; None: there is no backplane.
    """

    clients: int
    laggards: int
    messages_out: int
    messages_in: int
    bytes_out: int
    bytes_in: int
    queued_bytes: int
    oldest_queued_s: float
    retained_keys: int
    retained_bytes: int
    skipped: int
    superseded: int
    unknown: int
    refused: Mapping[str, int]
    closed: Mapping[int | None, int]
    turned_away: Mapping[int, int]
    slabs: int
    inbox_bytes: int = 0
    oldest_inbox_s: float = 0.0
    inbox_skipped: int = 0
    inbox_superseded: int = 0
    gaps: int = 0
    gap_skipped: int = 0
    gap_superseded: int = 0
    bounded: int = 0
    transit: float = 0.0
    in_flight: int = 0
    rate: float = 0.0
    backplane: BackplaneStats | None = None

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        return _all_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStats(ShownAsTable):
    """The same for one client.

    Attributes
    ----------
    messages_in : int
        Received from it.
    bytes_out : int
        Given to its socket, frame headers included.
    queued_bytes : int
        Reliable messages that it has yet to be given, and what its transport holds; without the
        latter where another thread than the event loop's asks.
    behind_s : float
        Seconds since it was last up to date, counted each 0.25 s; 0.0 if it is.
    skipped, superseded : int
        Messages that it did not get because it was behind: of policy skip and latest.
    undecodable : int
        Its messages that did not decode as the server's type.
    round_trip_s : float or None
        Seconds that its answer to the last PING took, or over TCP to the last mark, which only peers that
        exchange schemas get; None before the first.
    transit : float or None
        Seconds that bytes wait on their way to it, whatever stands between: what a PING or a mark behind them
        takes beyond the least round trip seen. None before the first answer.
    in_flight : int or None
        Bytes given to its socket that no answer confirms. None as above.
    rate : float or None
        Bytes a second that it takes: the largest of the last 10 s, and at least as many. 0.0 before so many
        were sent to it that a PING or mark is due. None as above.
    """

    messages_in: int
    bytes_out: int
    queued_bytes: int
    behind_s: float
    skipped: int
    superseded: int
    undecodable: int
    round_trip_s: float | None
    transit: float | None = None
    in_flight: int | None = None
    rate: float | None = None

    _repr_pretty_ = ShownAsTable._repr_pretty_  # IPython takes it from the class that has `__repr__`

    def _table(self) -> tuple[str, list[tuple[str, object]]]:
        return _all_of(self)


def _all_of(stats: ServerStats | PeerStats | BackplaneStats) -> tuple[str, list[tuple[str, object]]]:
    rows = [(field.name.replace("_", " "), getattr(stats, field.name)) for field in fields(stats)]
    return type(stats).__name__, rows
