"""Arrays that the decoder makes: an `array.array` or a numpy array with a copy of the bytes."""

from cpython cimport array
from cpython.object cimport PyObject
from libc.string cimport memcpy

from deli_com.coding.encoder cimport number_size
from deli_com.coding.program cimport *
from deli_com.ground.cpython cimport *

from array import array as _array_class

cdef tuple TEMPLATES = tuple([_array_class(code) for code in "BHIQbhiqfd"])
cdef tuple NUMPY_NAMES = ("<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f4", "<f8")
cdef list _dtypes = None   # of the kinds, made when numpy is first needed
cdef object _empty = None  # numpy.empty


cdef extern from *:
    """
    static void dc_set_error(PyObject *error) { PyErr_SetObject((PyObject *)Py_TYPE(error), error); }
    """
    void _set "dc_set_error"(object error) noexcept


cdef PyObject* new_array(int code, const char* data, Py_ssize_t count) noexcept:
    # An array.array of its own copy.
    cdef array.array result
    try:
        result = array.clone(<array.array>TEMPLATES[code - OP_U8], count, False)
    except BaseException as error:
        _set(error)
        return NULL
    if count > 0:  # an empty array is at NULL, which memcpy must not see
        memcpy(result.data.as_chars, data, count * number_size(code))
    Py_INCREF(<PyObject*>result)
    return <PyObject*>result


cdef PyObject* new_ndarray(int code, const char* data, Py_ssize_t count) noexcept:
    global _dtypes, _empty
    cdef Py_buffer view
    try:
        if _dtypes is None:
            import numpy
            _dtypes = [numpy.dtype(name) for name in NUMPY_NAMES]
            _empty = numpy.empty
        result = _empty(count, _dtypes[code - OP_U8])
    except BaseException as error:
        _set(error)
        return NULL
    if PyObject_GetBuffer(<PyObject*>result, &view, PyBUF_SIMPLE) < 0:
        return NULL
    memcpy(view.buf, data, view.len)
    PyBuffer_Release(&view)
    Py_INCREF(<PyObject*>result)
    return <PyObject*>result
