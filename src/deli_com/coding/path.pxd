# The path to what is at fault in a value: a list of pieces, innermost first, or NULL. None of these raises:
# if memory is short, the path is.

from cpython.object cimport PyObject


cdef void add_piece(PyObject** path, object piece) noexcept
cdef void add_index(PyObject** path, Py_ssize_t i) noexcept
# From `name` on, outermost first. May raise.
cdef str path_text(PyObject* path, str name)
