"""Slots: one for each key that has a waiting value, or had one lately.

A table finds them by source, class and key bytes. A heap of the slots whose turn may be next gives the one
that was not taken for longest. A new slot counts as taken when it arrives, so that a stream of new keys
cannot starve another key.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from *:
    """
    /* Peers choose the keys, so this uses CPython's own hash, which has a secret seed. */
    static inline uint64_t deli_com_hash(const char *data, Py_ssize_t size) {
    #if PY_VERSION_HEX >= 0x030E0000
        return (uint64_t)Py_HashBuffer(data, size);
    #else
        return (uint64_t)_Py_HashBytes(data, size);
    #endif
    }
    """
    uint64_t deli_com_hash(const char* data, Py_ssize_t size) noexcept

cdef enum:
    MOST_IDLE = 4096      # limit on idle slots that are kept
    FEW_BUCKETS = 16


cdef class SlotTable:
    """Slots by key."""

    def __cinit__(self):
        self._buckets = <Slot**>PyMem_RawCalloc(FEW_BUCKETS, sizeof(Slot*))
        if self._buckets == NULL:
            raise MemoryError
        self._mask = FEW_BUCKETS - 1

    def __dealloc__(self):
        cdef Slot* slot
        cdef Slot* following
        cdef Py_ssize_t i
        if self._buckets == NULL:
            return
        for i in range(self._mask + 1):
            slot = self._buckets[i]
            while slot != NULL:
                following = slot.next
                if slot.key != slot.own:
                    PyMem_RawFree(slot.key)
                PyMem_RawFree(slot)
                slot = following
        PyMem_RawFree(self._buckets)
        PyMem_RawFree(self.heap)

    cdef Slot* get(self, PyObject* source, int lane, const char* key, Py_ssize_t size) except NULL:
        cdef uint64_t hash = deli_com_hash(key, size) ^ (<uint64_t>source >> 4) ^ (<uint64_t>lane << 32)
        cdef Slot* slot = self._buckets[hash & self._mask]
        while slot != NULL:
            if (
                slot.hash == hash and slot.source == source and slot.lane == lane and slot.size == size
                and memcmp(slot.key, key, size) == 0
            ):
                if slot.is_idle:
                    self._unlink_idle(slot)
                return slot
            slot = slot.next
        if self.count > 2 * self._mask:
            self._grow()
        slot = <Slot*>PyMem_RawCalloc(1, sizeof(Slot))
        if slot == NULL:
            raise MemoryError("a key of the inbox")
        slot.key = slot.own
        if size > KEY_BYTES:
            slot.key = <char*>PyMem_RawMalloc(size)
            if slot.key == NULL:
                PyMem_RawFree(slot)
                raise MemoryError("a key of the inbox")
        memcpy(slot.key, key, size)
        slot.size = size
        slot.source = source
        slot.lane = lane
        slot.hash = hash
        slot.place = NO_PLACE
        self.taken(slot)
        slot.next = self._buckets[hash & self._mask]
        self._buckets[hash & self._mask] = slot
        self.count += 1
        return slot

    cdef int _grow(self) except -1:
        cdef Py_ssize_t mask = 4 * self._mask + 3
        cdef Py_ssize_t i
        cdef Slot* slot
        cdef Slot* following
        cdef Slot** buckets = <Slot**>PyMem_RawCalloc(mask + 1, sizeof(Slot*))
        if buckets == NULL:
            raise MemoryError("keys of the inbox")
        for i in range(self._mask + 1):
            slot = self._buckets[i]
            while slot != NULL:
                following = slot.next
                slot.next = buckets[slot.hash & mask]
                buckets[slot.hash & mask] = slot
                slot = following
        PyMem_RawFree(self._buckets)
        self._buckets = buckets
        self._mask = mask
        return 0

    cdef void taken(self, Slot* slot) noexcept:
        # Marks it as taken now. A slot in the heap moves to the end.
        self._tick += 1
        slot.since = self._tick
        if slot.place != NO_PLACE:
            self._sift_down(slot.place)

    cdef void rest(self, Slot* slot) noexcept:
        if slot.place != NO_PLACE:
            self.leave(slot)
        if slot.key != slot.own:  # a long key is not kept
            self._drop(slot)
            return
        slot.is_idle = True
        slot.newer = NULL
        slot.older = self._newest
        if self._newest != NULL:
            self._newest.newer = slot
        else:
            self._oldest = slot
        self._newest = slot
        self.idle += 1
        if self.idle > MOST_IDLE:
            self.forget_idle(MOST_IDLE)

    cdef void forget_idle(self, Py_ssize_t most) noexcept:
        # Frees the slots that have been idle for longest.
        cdef Slot* slot
        while self.idle > most:
            slot = self._oldest
            self._unlink_idle(slot)
            self._drop(slot)

    cdef void _unlink_idle(self, Slot* slot) noexcept:
        if slot.older != NULL:
            slot.older.newer = slot.newer
        else:
            self._oldest = slot.newer
        if slot.newer != NULL:
            slot.newer.older = slot.older
        else:
            self._newest = slot.older
        slot.is_idle = False
        self.idle -= 1

    cdef void _drop(self, Slot* slot) noexcept:
        cdef Slot** link = &self._buckets[slot.hash & self._mask]
        while link[0] != slot:
            link = &link[0].next
        link[0] = slot.next
        if slot.key != slot.own:
            PyMem_RawFree(slot.key)
        PyMem_RawFree(slot)
        self.count -= 1

    # --- the heap ------------------------------------------------------------------------

    cdef int enter(self, Slot* slot) except -1:
        cdef Slot** heap
        cdef Py_ssize_t room
        if self.heaped == self._heap_room:
            room = 2 * self._heap_room + 16
            heap = <Slot**>PyMem_RawRealloc(self.heap, room * sizeof(Slot*))
            if heap == NULL:
                raise MemoryError("keys of the inbox")
            self.heap = heap
            self._heap_room = room
        self.heap[self.heaped] = slot
        slot.place = self.heaped
        self.heaped += 1
        self._sift_up(slot.place)
        return 0

    cdef void leave(self, Slot* slot) noexcept:
        cdef Py_ssize_t at = slot.place
        cdef Slot* last
        slot.place = NO_PLACE
        self.heaped -= 1
        if at == self.heaped:
            return
        last = self.heap[self.heaped]
        self.heap[at] = last
        last.place = at
        self._sift_up(at)
        self._sift_down(last.place)

    cdef void _sift_up(self, Py_ssize_t at) noexcept:
        cdef Slot* slot = self.heap[at]
        cdef Slot* above
        while at > 0:
            above = self.heap[(at - 1) >> 1]
            if above.since < slot.since:
                break
            self.heap[at] = above
            above.place = at
            at = (at - 1) >> 1
        self.heap[at] = slot
        slot.place = at

    cdef void _sift_down(self, Py_ssize_t at) noexcept:
        cdef Slot* slot = self.heap[at]
        cdef Py_ssize_t below = 2 * at + 1
        while below < self.heaped:
            if below + 1 < self.heaped and self.heap[below + 1].since < self.heap[below].since:
                below += 1
            if slot.since < self.heap[below].since:
                break
            self.heap[at] = self.heap[below]
            self.heap[at].place = at
            at = below
            below = 2 * at + 1
        self.heap[at] = slot
        slot.place = at
