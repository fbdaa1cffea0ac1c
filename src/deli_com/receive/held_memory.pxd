# Memory of the values that wait in a `PolicyInbox`.

from deli_com.receive.slots cimport Held


cdef class HeldMemory:
    cdef Held* new(self, const char* data, Py_ssize_t size) except NULL
    cdef void free(self, Held* held) noexcept
    cdef void drop_spares(self) noexcept

    # --- private ---
    cdef Held* _spare                 # list, linked by `after`
    cdef Py_ssize_t _spares


cdef void free_values(Held* first) noexcept
