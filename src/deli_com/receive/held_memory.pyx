"""Memory of the values that wait in a `PolicyInbox`. A few freed values are kept for the next ones."""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.string cimport memcpy, memset

from deli_com.receive.slots cimport Held

cdef enum:
    MOST_SPARES = 64
    SPARE_BYTES = 4096      # of a spare's memory
    LEAST_BYTES = 32


cdef class HeldMemory:
    """Where an inbox gets the memory of waiting values."""

    def __dealloc__(self):
        self.drop_spares()

    cdef Held* new(self, const char* data, Py_ssize_t size) except NULL:
        # All fields are 0, and `data` is copied unless it is NULL. The caller frees it.
        cdef Held* held = self._spare
        cdef char* memory
        cdef Py_ssize_t room
        if held != NULL:
            self._spare = held.after
            self._spares -= 1
            memory = held.data
            room = held.room
            memset(held, 0, sizeof(Held))
            held.data = memory
            held.room = room
        else:
            held = <Held*>PyMem_RawCalloc(1, sizeof(Held))
            if held == NULL:
                raise MemoryError("inbox")
        if data != NULL:
            if held.room < size:
                memory = <char*>PyMem_RawRealloc(held.data, max(size, LEAST_BYTES))
                if memory == NULL:
                    self.free(held)
                    raise MemoryError("inbox")
                held.data = memory
                held.room = max(size, LEAST_BYTES)
            memcpy(held.data, data, size)
        return held

    cdef void free(self, Held* held) noexcept:
        # The value is in no list. Its references are freed last, because that may run the user's code.
        cdef PyObject* value = held.value
        cdef PyObject* source = held.source
        held.value = NULL
        held.source = NULL
        if held.room > SPARE_BYTES:
            PyMem_RawFree(held.data)
            held.data = NULL
            held.room = 0
        if self._spares < MOST_SPARES:
            held.after = self._spare
            self._spare = held
            self._spares += 1
        else:
            PyMem_RawFree(held.data)
            PyMem_RawFree(held)
        Py_XDECREF(value)
        Py_XDECREF(source)

    cdef void drop_spares(self) noexcept:
        free_values(self._spare)
        self._spare = NULL
        self._spares = 0


cdef void free_values(Held* first) noexcept:
    # Frees a list of values that is linked by `after`, with their references.
    cdef Held* held = first
    cdef Held* following
    while held != NULL:
        following = held.after
        Py_XDECREF(held.value)
        Py_XDECREF(held.source)
        PyMem_RawFree(held.data)
        PyMem_RawFree(held)
        held = following
