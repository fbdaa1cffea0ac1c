"""The path to the faulty part of a value, built from the inside out as a walk unwinds."""

from cpython.object cimport PyObject

from deli_com.ground.cpython cimport Py_DECREF, PyErr_Clear, PyList_Append, PyList_New


cdef object _index(Py_ssize_t i):
    return f"[{i}]"


# Functions for which Cython writes a `try`, in C: a new reference, or NULL with an exception set. Called in
# Cython, a `try` would allocate memory, and lose an error of that.
ctypedef PyObject* (*IndexFunction)(Py_ssize_t) noexcept
cdef IndexFunction _make_index = <IndexFunction><void*>_index


cdef void add_piece(PyObject** path, object piece) noexcept:
    if path[0] == NULL:
        path[0] = PyList_New(0)
    if path[0] == NULL or PyList_Append(path[0], <PyObject*>piece) < 0:
        PyErr_Clear()


cdef void add_index(PyObject** path, Py_ssize_t i) noexcept:
    cdef PyObject* piece = _make_index(i)
    if piece == NULL:
        PyErr_Clear()
        return
    add_piece(path, <object>piece)
    Py_DECREF(piece)


cdef str path_text(PyObject* path, str name):
    return name if path == NULL else name + "".join(reversed(<list>path))
