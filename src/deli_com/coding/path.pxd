# The path to the faulty part of a value: a list of pieces, innermost first, or NULL. The functions that add
# pieces do not raise: if memory is short, the path is incomplete.

from cpython.object cimport PyObject


cdef void add_piece(PyObject** path, object piece) noexcept
cdef void add_index(PyObject** path, Py_ssize_t i) noexcept
# The text of a path, outermost piece first, beginning with `name`. May raise.
cdef str path_text(PyObject* path, str name)
