"""Where all TCP connections of one endpoint read into, and one spare piece of memory for large frames."""

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t

cdef double SPARE_S = 1.0        # how long memory of a large frame is kept for the next


cdef class ReadBuffer:
    """Where all connections of one endpoint read into.

    A transport asks for the buffer, reads, and reports in one step of its loop, so no other
    read comes in between. An incomplete frame is copied out of it.

    It keeps one piece of memory of a large frame for the next one, until no large frame came for
    `SPARE_S`. Allocating the pages costs more than reading into them.
    """

    def __cinit__(self, loop):
        self.loop = loop
        self.data = <uint8_t*>PyMem_RawMalloc(READ_BYTES)
        if self.data == NULL:
            raise MemoryError("read buffer")
        self.view = PyMemoryView_FromMemory(<char*>self.data, READ_BYTES, PyBUF_WRITE)

    def __dealloc__(self):
        PyMem_RawFree(self.data)
        PyMem_RawFree(self.spare)

    cdef uint8_t* take_spare(self, Py_ssize_t* size) noexcept:
        # The caller then owns it. NULL if there is none.
        cdef uint8_t* spare = self.spare
        size[0] = self.spare_bytes
        self.spare = NULL
        self.spare_bytes = 0
        return spare

    cdef int keep_spare(self, uint8_t* memory, Py_ssize_t size) except -1:
        # Frees it, or keeps it for the next large frame.
        if size <= PART_BYTES or size < self.spare_bytes:
            PyMem_RawFree(memory)
            return 0
        PyMem_RawFree(self.spare)
        self.spare = memory
        self.spare_bytes = size
        self.spare_used = True
        if self.timer is None:
            self.timer = self.loop.call_later(SPARE_S, self._on_timer)
        return 0

    def _on_timer(self):
        self.timer = None
        if self.spare_used:
            self.spare_used = False
            self.timer = self.loop.call_later(SPARE_S, self._on_timer)
            return
        PyMem_RawFree(self.spare)
        self.spare = NULL
        self.spare_bytes = 0
