"""Makes the arrays of decoded values: an `array.array` or a numpy array with a copy of the bytes."""

from cpython cimport array
from cpython.object cimport PyObject
from libc.string cimport memcpy

from deli_com.coding.encoder cimport number_size
from deli_com.coding.program cimport *
from deli_com.ground.cpython cimport *

from array import array as _array_class

cdef tuple TEMPLATES = tuple([_array_class(code) for code in "BHIQbhiqfd"])
cdef tuple NUMPY_NAMES = ("<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f4", "<f8")
cdef list _dtypes = None   # numpy dtypes by kind, made when numpy is first needed
cdef object _empty = None  # numpy.empty


cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer"(PyObject* o, Py_buffer* view, int flags) except -1


# Functions for which Cython writes a `try`, in C: a new reference, or NULL with an exception set. Called in
# Cython, a `try` would allocate memory, and lose an error of that.
ctypedef PyObject* (*ArrayFunction)(int, const char*, Py_ssize_t) noexcept
ctypedef PyObject* (*ViewFunction)(PyObject*, PyObject*) noexcept
cdef ArrayFunction _make_array = <ArrayFunction><void*>_array_of
cdef ArrayFunction _make_ndarray = <ArrayFunction><void*>_ndarray_of
ctypedef PyObject* (*EmptyFunction)(int, Py_ssize_t) noexcept
cdef ViewFunction _make_view = <ViewFunction><void*>_view_of
cdef EmptyFunction _make_empty_array = <EmptyFunction><void*>_empty_array_of
cdef EmptyFunction _make_empty_ndarray = <EmptyFunction><void*>_empty_ndarray_of


cdef object _array_of(int code, const char* data, Py_ssize_t count):
    # An array.array with its own copy.
    cdef array.array result = array.clone(<array.array>TEMPLATES[code - OP_U8], count, False)
    if count > 0:  # the data of an empty array may be NULL, which memcpy must not get
        memcpy(result.data.as_chars, data, count * number_size(code))
    return result


cdef object _empty_array_of(int code, Py_ssize_t count):
    return array.clone(<array.array>TEMPLATES[code - OP_U8], count, False)


cdef inline object _empty_ndarray_of(int code, Py_ssize_t count):
    global _dtypes, _empty
    if _dtypes is None:
        import numpy
        _empty = numpy.empty
        _dtypes = [numpy.dtype(name) for name in NUMPY_NAMES]
    return _empty(count, _dtypes[code - OP_U8])


cdef object _ndarray_of(int code, const char* data, Py_ssize_t count):
    cdef Py_buffer view
    result = _empty_ndarray_of(code, count)
    get_buffer(<PyObject*>result, &view, PyBUF_SIMPLE)
    memcpy(view.buf, data, view.len)
    PyBuffer_Release(&view)
    return result


cdef object _view_of(object numbers, object dtype):
    return numbers.view(dtype)


cdef PyObject* new_array(int code, const char* data, Py_ssize_t count) noexcept:
    return _make_array(code, data, count)


cdef PyObject* new_ndarray(int code, const char* data, Py_ssize_t count) noexcept:
    return _make_ndarray(code, data, count)


cdef PyObject* empty_array(int code, Py_ssize_t count) noexcept:
    return _make_empty_array(code, count)


cdef PyObject* empty_ndarray(int code, Py_ssize_t count) noexcept:
    return _make_empty_ndarray(code, count)


cdef PyObject* new_view(PyObject* numbers, PyObject* dtype) noexcept:
    return _make_view(numbers, dtype)
