# Makes the arrays of decoded values.

from cpython.object cimport PyObject


# A new reference to an array of `count` numbers of the kind `code`, copied from `data`; NULL with an
# exception set.
cdef PyObject* new_array(int code, const char* data, Py_ssize_t count) noexcept
cdef PyObject* new_ndarray(int code, const char* data, Py_ssize_t count) noexcept
# The same, but not filled.
cdef PyObject* empty_array(int code, Py_ssize_t count) noexcept
cdef PyObject* empty_ndarray(int code, Py_ssize_t count) noexcept
# The same bytes under another dtype: ``array.view(dtype)``.
cdef PyObject* new_view(PyObject* numbers, PyObject* dtype) noexcept
