# The slots of a type that the collector and deallocation go through, to be wrapped by hand.

from cpython.object cimport PyObject


cdef extern from *:
    ctypedef int (*visitproc)(PyObject* object, void* argument) noexcept
    ctypedef int (*traverseproc)(PyObject* self, visitproc visit, void* argument) noexcept
    ctypedef int (*inquiry)(PyObject* self) noexcept
    ctypedef void (*destructor)(PyObject* self) noexcept
    ctypedef struct CollectedType "PyTypeObject":
        traverseproc tp_traverse
        inquiry tp_clear
        destructor tp_dealloc

    void PyObject_GC_Track(PyObject* self) noexcept
    void PyObject_GC_UnTrack(PyObject* self) noexcept
