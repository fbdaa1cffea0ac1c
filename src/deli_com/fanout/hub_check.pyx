"""The invariants of a hub, for builds and runs that look closer."""

from deli_com.fanout.follower cimport FOLLOWER_BLOCKED, FOLLOWER_CURRENT, FOLLOWER_READY, Follower
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.rosters cimport Roster
from deli_com.log.log cimport Log


cdef int check_hub(Hub hub) except -1:
    # Raises AssertionError where one does not hold.
    cdef Follower follower
    cdef Roster* roster
    cdef Py_ssize_t found = 0
    for state in (FOLLOWER_CURRENT, FOLLOWER_READY, FOLLOWER_BLOCKED):
        roster = hub.rosters.of(state)
        for i in range(roster.count):
            if roster.items[i] == NULL:
                assert state == FOLLOWER_CURRENT and hub.rosters.in_round, "Hub: hole outside a round"
                continue
            follower = <Follower>roster.items[i]
            found += 1
            assert follower.state == state and follower.slot == i, "Hub: follower in the wrong roster"
            for c in range(follower.cursor_count):
                assert follower.cursors[c].pinned == follower.is_behind(), "Hub: pinned by mistake"
                assert (<Log>follower.cursors[c].log).head_offset() <= follower.cursors[c].at.offset, \
                    "Hub: its place was freed"
            if state == FOLLOWER_BLOCKED:
                assert follower.writing_paused or follower.is_held, "Hub: blocked, but no event will come"
            elif state == FOLLOWER_READY:
                assert hub._scheduled, "Hub: ready, but no turn is scheduled"
            elif not hub.rosters.in_round:
                assert follower.cursors.at.offset == hub.log.flushed.offset, \
                    "Hub: current, but not up to date"
    assert found == len(hub.followers), "Hub: rosters and followers differ"
    return 0
