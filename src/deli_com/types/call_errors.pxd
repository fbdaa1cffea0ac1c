# What is wrong with a call of a `Codec` class. Each of these raises a TypeError.

from cpython.object cimport PyObject


cdef object no_instance(object cls)
cdef object too_many(object cls, Py_ssize_t positional, Py_ssize_t count)

# Of the keyword at place `i`.
cdef object no_such_name(object cls, object kwnames, Py_ssize_t i)
cdef object named_twice(object cls, object kwnames, Py_ssize_t i)

# `self` has some slots that are NULL, and whose fields have no default.
cdef object missing(object cls, PyObject* self)
