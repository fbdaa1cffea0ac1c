# The reasons why a value cannot be encoded. Each function returns -1 and stores the reason in the Encoder.
# `fail_of_value` takes an exception that the value's code has raised. None raises. The path is built only
# here, from the inside out, as the walk unwinds.

from cpython.object cimport PyObject

from deli_com.coding.encoder cimport Encoder
from deli_com.coding.program cimport Op, Table


cdef int fail(Encoder* enc, str detail) noexcept
cdef int fail_of_value(Encoder* enc) noexcept
cdef int fail_made(Encoder* enc, PyObject* detail, str otherwise) noexcept
cdef int fail_counts(Encoder* enc, str text, Py_ssize_t first, Py_ssize_t second) noexcept
cdef int mismatch(Encoder* enc, object wanted, PyObject* v) noexcept
cdef int mismatch_of(Encoder* enc, str wanted, object name, PyObject* v) noexcept
cdef int out_of_range(Encoder* enc, int code, PyObject* v) noexcept
cdef int float_too_large(Encoder* enc, double value) noexcept
cdef int wrong_class(Encoder* enc, Op* op, PyObject* v) noexcept
cdef int wrong_member(Encoder* enc, Table* table, PyObject* v) noexcept
cdef int wrong_tuple(Encoder* enc, Py_ssize_t count, PyObject* v) noexcept
cdef int too_long(Encoder* enc, Py_ssize_t count) noexcept
cdef str number_name(int code)
cdef str shown_kind(object value)  # for "got …": its class, or that it is one; raises

# Add a piece to the path. They do nothing if an exception is set, which needs no path.
cdef void encode_note(Encoder* enc, object piece) noexcept
cdef void encode_note_index(Encoder* enc, Py_ssize_t i) noexcept

# Raises the error of a failed walk.
cdef int report(Encoder* enc, str name) except -1
