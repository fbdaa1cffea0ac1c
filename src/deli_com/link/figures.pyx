"""What an endpoint has counted, and what it holds now."""

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Audience
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.stats import ServerStats


def figures_of(Endpoint endpoint not None):
    """Return counters, and what is held now, as `ServerStats`. Legal from any thread."""
    cdef uint64_t oldest = _oldest_ns(endpoint) if endpoint.log.queued_bytes() else 0
    cdef uint64_t unread = endpoint.inbox.oldest_ns()
    return ServerStats(
        clients=len(endpoint.followers),
        laggards=endpoint.hub.rosters.ready.count + endpoint.hub.rosters.blocked.count,
        messages_out=endpoint.sender.messages_out,
        messages_in=endpoint.messages_in,
        bytes_out=endpoint.hub.writer.bytes_out,
        bytes_in=endpoint.bytes_in,
        queued_bytes=endpoint.log.queued_bytes(),
        oldest_queued_s=(deli_com_clock_ns() - oldest) / 1e9 if oldest else 0.0,
        retained_keys=_retained_keys(endpoint),
        retained_bytes=endpoint.arena.retained,
        skipped=endpoint.hub.writer.skipped + (endpoint.inbox.skipped if endpoint.is_client else 0),
        superseded=endpoint.hub.writer.superseded + (endpoint.inbox.superseded if endpoint.is_client else 0),
        inbox_bytes=endpoint.inbox.held_bytes,
        oldest_inbox_s=(deli_com_clock_ns() - unread) / 1e9 if unread else 0.0,
        inbox_skipped=endpoint.inbox.skipped,
        inbox_superseded=endpoint.inbox.superseded,
        unknown=endpoint.unknown,
        refused={
            "backlog full": endpoint.sender.refused_sends,
            "undecodable": endpoint.undecodable + endpoint.inbox.undecodable,
            "unwanted": endpoint.unwanted,
            "inbox full": endpoint.inbox.dropped,
        },
        closed=dict(endpoint.closed),
        turned_away=endpoint._turned_away(),
        slabs=endpoint.arena.slabs,
        bounded=len(endpoint.hub.bounded),
        transit=endpoint.hub.transit_totals.longest_ns / 1e9,
        in_flight=endpoint.hub.transit_totals.in_flight,
        rate=endpoint.hub.transit_totals.least_rate,
    )


cdef Py_ssize_t _retained_keys(Endpoint endpoint) except -1:
    cdef Py_ssize_t count = endpoint.log.retained_keys
    cdef Audience audience
    for audience in list(endpoint.sender.kept):
        count += audience.retained_keys
    return count


cdef uint64_t _oldest_ns(Endpoint endpoint) except? 0:
    # For the logs of all and of groups. Not for those of single clients, which may be many.
    cdef uint64_t oldest = endpoint.log.oldest_ns()
    cdef uint64_t other
    cdef Audience audience
    for reference in endpoint._groups.valuerefs():  # a copy made at once: another thread may look
        audience = reference()
        other = audience.oldest_ns() if audience is not None else 0
        if other and (oldest == 0 or other < oldest):
            oldest = other
    return oldest
