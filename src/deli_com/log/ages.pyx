"""The frames of one log that grow too old: when, and where they begin.

The frames of one lane have one age. So the first frame of a lane is the first that is too old.
"""

from collections import deque

from libc.stdint cimport uint64_t

from deli_com.log.ring cimport NOWHERE, Record, Records

cdef enum:
    MANY_DEAD = 1024         # watched frames of one lane, past which the dead ones are looked for


cdef class Ages:
    """When each frame of a log is too old, by lane."""

    def __cinit__(self):
        self._by_lane = {}

    cdef int note(self, int lane, uint64_t due_ns, uint64_t start) except -1:
        # The frame that begins at `start` is too old from `due_ns` on.
        frames = self._by_lane.get(lane)
        if frames is None:
            frames = self._by_lane[lane] = deque()
        frames.append((due_ns, start))
        self.count += 1
        return 0

    cdef uint64_t take_due(self, uint64_t now_ns, uint64_t before) except? 0:
        # Returns where a frame begins that is too old and begins before `before`, and no longer watches it.
        # NOWHERE: there is none.
        cdef uint64_t start
        for frames in self._by_lane.values():
            if frames:
                due, start = frames[0]
                if <uint64_t>due <= now_ns and start < before:
                    frames.popleft()
                    self.count -= 1
                    return start
        return <uint64_t>NOWHERE

    cdef int forget_dead(self, int lane, Records log) except -1:
        # Frames that were superseded, or that every follower has, need not be watched. Looks for them only
        # where the lane has many frames, and more than twice as many as the log has records.
        cdef uint64_t start
        cdef Record* record
        cdef list live = []
        frames = self._by_lane[lane]
        if len(frames) <= MANY_DEAD or len(frames) <= 2 * <Py_ssize_t>(log._next - log._first):
            return 0
        for due, start in frames:
            if start >= log.head_offset():
                record = log._record(log._search(start))
                if record.start == start and record.data != NULL:
                    live.append((due, start))
        self.count -= len(frames) - len(live)
        frames.clear()
        frames.extend(live)
        return 0
