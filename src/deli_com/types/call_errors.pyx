"""What is wrong with a call of a `Codec` class: the texts of its TypeErrors, which are Python's own words."""

from cpython.object cimport PyObject, PyTypeObject

from deli_com.types.instance cimport RecordTypeObject, record_type


cdef object no_instance(object cls):
    cdef PyObject* declared = record_type(<PyTypeObject*>cls).spec
    if declared == NULL:
        raise TypeError("Codec makes no instances: subclass it, with annotated fields")
    spec = <object>declared
    if not spec.sealed:
        absent = ", ".join(sorted(cls.__abstractmethods__))
        raise TypeError(f"{cls.__qualname__} is abstract and makes no instances: {absent} must be defined")
    raise TypeError(
        f"{cls.__qualname__} is sealed and makes no instances: "
        f"make one of its variants ({', '.join(spec.variants) or 'none yet'})"
    )


cdef object too_many(object cls, Py_ssize_t positional, Py_ssize_t count):
    takes = f"{positional} positional argument{'' if positional == 1 else 's'}"
    given = f"{count} {'was' if count == 1 else 'were'} given"
    raise TypeError(f"{cls.__qualname__}() takes {takes} but {given}")


cdef object no_such_name(object cls, object kwnames, Py_ssize_t i):
    name = (<tuple>kwnames)[i]
    raise TypeError(f"{cls.__qualname__}() got an unexpected keyword argument {name!r}")


cdef object named_twice(object cls, object kwnames, Py_ssize_t i):
    name = (<tuple>kwnames)[i]
    raise TypeError(f"{cls.__qualname__}() got multiple values for argument {name!r}")


cdef object missing(object cls, PyObject* self):
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    cdef Py_ssize_t i
    names = []
    for i in range(type.field_count):
        if (<PyObject**>(<char*>self + type.fields[i].offset))[0] == NULL and type.fields[i].fallback == NULL:
            names.append(repr(<object>type.fields[i].name))
    raise TypeError(
        f"{cls.__qualname__}() missing {len(names)} required "
        f"argument{'' if len(names) == 1 else 's'}: {', '.join(names)}"
    )
