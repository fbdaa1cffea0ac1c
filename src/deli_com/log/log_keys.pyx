"""The keys of one log: for each lane, the key values that it knows and where the newest frame of each is."""

cimport cython
from libc.stdint cimport uint64_t

from deli_com.log.arena cimport Arena
from deli_com.log.ring cimport NOWHERE, Key


@cython.no_gc_clear  # its end gives keys back to the arena, so that must live as long
cdef class KeyTable:
    """The keys of one log, by lane and value.

    Parameters
    ----------
    arena : Arena
        That of the log.
    """

    def __cinit__(self, Arena arena not None):
        self.arena = arena
        self._tables = []

    def __dealloc__(self):
        # The log's records are freed as well, so none of the keys holds a frame any more.
        self.arena.keys -= self._count
        self.arena.stale_keys -= self._count

    cdef Key get(self, Py_ssize_t lane, object value):
        # The key of this value; a new one if there is none. None if there would be too many.
        # May run Python code: the hash of an enum's member.
        cdef dict table
        cdef Key key
        while len(self._tables) <= lane:
            self._tables.append({})
        table = self._tables[lane]
        key = table.get(value)
        if key is None:
            if self.arena.keys >= self.arena.max_keys:
                if self.arena.stale_keys:
                    self.purge()
                if self.arena.keys >= self.arena.max_keys:
                    return None
            key = Key.__new__(Key)
            key.value = value
            key.start = <uint64_t>NOWHERE
            table[value] = key
            self._count += 1
            self.arena.keys += 1
            self.arena.stale_keys += 1
        return key

    cdef Key pop(self, Py_ssize_t lane, object value):
        # Removes a key and returns it; None if it is not known. Its newest frame is the caller's business.
        cdef Key key
        if lane >= len(self._tables):
            return None
        key = (<dict>self._tables[lane]).pop(value, None)
        if key is not None:
            self._count -= 1
            self.arena.keys -= 1
            if key.start == <uint64_t>NOWHERE:
                self.arena.stale_keys -= 1
        return key

    cdef list tables(self):
        # By lane: key value to Key.
        return self._tables

    cdef int purge(self) except -1:
        # Forgets the keys that hold no frame.
        cdef Key key
        for table in self._tables:
            for key in list((<dict>table).values()):
                if key.start == <uint64_t>NOWHERE:
                    del (<dict>table)[key.value]
                    self._count -= 1
                    self.arena.keys -= 1
                    self.arena.stale_keys -= 1
        return 0
