"""`Collector`: metrics of servers for Prometheus (extra ``deli-com[metrics]``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from deli_com.link.stats import ServerStats
else:
    Metric = Any  # from a package that only users of Collector have

__all__ = ["Collector"]


class _Server(Protocol):
    def stats(self) -> ServerStats: ...


class _Family(NamedTuple):
    name: str
    words: str
    field: str  # name of the attribute of ServerStats


GAUGES = [
    _Family("deli_clients", "Clients connected now.", "clients"),
    _Family("deli_laggards", "Clients with queued messages.", "laggards"),
    _Family("deli_queued_bytes", "Bytes of messages that are queued for clients.", "queued_bytes"),
    _Family("deli_oldest_queued_seconds", "Age of the oldest queued message.", "oldest_queued_s"),
    _Family("deli_inbox_bytes", "Bytes of received values that wait for recv.", "inbox_bytes"),
    _Family("deli_oldest_inbox_seconds", "Age of the oldest value that waits for recv.", "oldest_inbox_s"),
    _Family("deli_bounded", "Clients whose data in flight max_transit limits now.", "bounded"),
    _Family("deli_transit_seconds", "Longest time that bytes wait on their way to a client.", "transit"),
    _Family("deli_in_flight_bytes", "Bytes on their way to all clients together.", "in_flight"),
    _Family("deli_least_rate_bytes", "Bytes a second that the slowest bounded client takes.", "rate"),
    _Family("deli_retained_keys", "Keys whose newest message is retained.", "retained_keys"),
    _Family("deli_retained_bytes", "Bytes of those messages.", "retained_bytes"),
]
COUNTERS = [
    _Family("deli_messages_out", "Messages sent; a broadcast counts once.", "messages_out"),
    _Family("deli_messages_in", "Messages received.", "messages_in"),
    _Family("deli_bytes_out", "Bytes sent to all clients together.", "bytes_out"),
    _Family("deli_bytes_in", "Bytes of payloads received.", "bytes_in"),
    _Family("deli_skipped", "Messages of policy skip, or too old, that clients did not get.", "skipped"),
    _Family("deli_superseded", "Messages of policy latest that clients did not get.", "superseded"),
    _Family(
        "deli_inbox_skipped",
        "Values of policy skip, or too old, that the program did not get.",
        "inbox_skipped",
    ),
    _Family("deli_inbox_superseded", "Values of policy latest it did not get.", "inbox_superseded"),
    _Family("deli_unknown", "Received messages of a variant that this program does not know.", "unknown"),
]
# Of a relay, which has more to say: see RelayStats.
RELAY_GAUGES = [
    _Family("deli_upstream_connected", "1 while the relay is connected to its server.", "connected"),
    _Family("deli_upstream_away_seconds", "Seconds for which the server has been away.", "away_s"),
]
RELAY_COUNTERS = [
    _Family("deli_upstream_connects", "Connections to the server.", "connects"),
    _Family("deli_relayed", "Messages of the server passed on.", "passed"),
    _Family("deli_relayed_up", "Messages of clients passed on to the server.", "up_passed"),
    _Family("deli_relay_lost", "Messages of the server that could not be passed on.", "lost"),
    _Family("deli_relay_up_lost", "Messages of clients that did not reach the server.", "up_lost"),
]
# Of servers with a backplane: attributes of BackplaneStats.
BACKPLANE_GAUGES = [
    _Family("deli_backplane_connected", "1 while the backplane is connected.", "connected"),
    _Family("deli_backplane_nodes", "Other nodes that are alive.", "nodes"),
    _Family("deli_backplane_waiting_bytes", "Bytes of messages that wait to be sent.", "waiting_bytes"),
]
BACKPLANE_COUNTERS = [
    _Family("deli_backplane_sent", "Messages for the other nodes.", "sent"),
    _Family("deli_backplane_received", "Messages of other nodes.", "received"),
    _Family("deli_backplane_gaps", "Messages of other nodes that did not arrive.", "gaps"),
    _Family("deli_backplane_duplicates", "Messages of other nodes that arrived twice.", "duplicates"),
    _Family("deli_backplane_conflicts", "Messages with a key that two nodes send.", "conflicts"),
    _Family("deli_backplane_lost", "Reliable messages that were dropped because too many waited.", "lost"),
]
# Counters with a label. The label is the key of the mapping in ServerStats.
LABELLED = [
    (_Family("deli_refused", "Messages that were refused.", "refused"), "reason"),
    (_Family("deli_closed", "Connections that have ended.", "closed"), "code"),
    (_Family("deli_turned_away", "Refused handshakes on all paths of the port.", "turned_away"), "status"),
]


class Collector:
    """Gives Prometheus the values of ``stats()`` at each scrape.

    ::

        from prometheus_client import REGISTRY
        REGISTRY.register(Collector(server))

    The time of a scrape does not depend on the number of clients, and there are no time series for single
    clients. Each series has the label ``server``. One collector serves any number of servers: `add` them to
    it. It may be called in any thread.

    Parameters
    ----------
    server : WsServer, Server, Background or Relay
        `add` adds more servers.
    name : str, optional
        Value of the label ``server``; the address of the server if None.

    Raises
    ------
    ImportError
        The extra ``deli-com[metrics]`` is not installed.
    TypeError
        The object has no ``stats()``.
    """

    def __init__(self, server: _Server, name: str | None = None) -> None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise ImportError('metrics need the extra: pip install "deli-com[metrics]"') from error
        self._servers: dict[str, _Server] = {}
        self.add(server, name)

    def add(self, server: _Server, name: str | None = None) -> None:
        """Collect the metrics of another server.

        Raises
        ------
        ValueError
            A server with that name is already collected.
        """
        if not callable(getattr(server, "stats", None)):
            raise TypeError(f"a Collector takes servers, got {type(server).__qualname__}")
        if name is None:
            name = str(server.local_addr())  # type: ignore[attr-defined]
        if name in self._servers:
            raise ValueError(f"a server named {name!r} is collected already")
        self._servers[name] = server

    def remove(self, name: str) -> None:
        """Stop collecting the metrics of that server.

        Raises
        ------
        KeyError
            There is no server with that name.
        """
        del self._servers[name]

    def collect(self) -> Iterator[Metric]:
        """Make the metrics. `prometheus_client` calls this at each scrape."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        taken = {name: server.stats() for name, server in [*self._servers.items()]}
        relays = {name: stats for name, stats in taken.items() if hasattr(stats, "up_lost")}
        planes = {name: stats.backplane for name, stats in taken.items() if stats.backplane is not None}
        groups: list[tuple[Mapping[str, Any], list[_Family], list[_Family]]] = [
            (taken, GAUGES, COUNTERS),
            (relays, RELAY_GAUGES if relays else [], RELAY_COUNTERS if relays else []),
            (planes, BACKPLANE_GAUGES if planes else [], BACKPLANE_COUNTERS if planes else []),
        ]
        for members, gauges, counters in groups:
            yield from _families(GaugeMetricFamily, gauges, members)
            yield from _families(CounterMetricFamily, counters, members)
        for family, label in LABELLED:
            counter = CounterMetricFamily(family.name, family.words, labels=["server", label])
            for name, stats in taken.items():
                counts: Mapping[Any, int] = getattr(stats, family.field)
                for key, count in counts.items():
                    counter.add_metric([name, "none" if key is None else str(key)], count)
            yield counter


def _families(made: Any, families: list[_Family], members: Mapping[str, Any]) -> Iterator[Metric]:
    # One metric for each family, with a series for each member.
    for family in families:
        metric = made(family.name, family.words, labels=["server"])
        for name, stats in members.items():
            metric.add_metric([name], float(getattr(stats, family.field)))
        yield metric
