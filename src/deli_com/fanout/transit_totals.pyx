"""Figures of all followers that answer markers, summed up at each sweep: reading them costs nothing."""

cimport cython
from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.transit cimport Transit
from deli_com.ground.sockets cimport deli_com_clock_ns


@cython.final
cdef class TransitTotals:
    """The totals at the last sweep."""

    cdef int sum_up(self, set followers) except -1:
        cdef Follower follower
        cdef Transit transit
        cdef uint64_t now = deli_com_clock_ns()
        self.longest_ns = self.in_flight = 0
        self.least_rate = 0.0
        for follower in followers:
            transit = follower.transit
            if transit is None or not transit.answers:
                continue
            self.longest_ns = max(self.longest_ns, transit.queueing_ns, transit.waiting_ns(now))
            self.in_flight += transit.in_flight(follower.given_bytes)
            if follower.is_bounded and transit.rate and (
                self.least_rate == 0.0 or transit.rate < self.least_rate
            ):
                self.least_rate = transit.rate
        return 0
