"""Which code may make a hub without initialising it: the façades only, in their method `_start`."""

cdef bint _bare = False


def bare(cls):
    """Make an instance of a façade's class, for its `_start` to initialise."""
    global _bare
    _bare = True
    try:
        return cls.__new__(cls)
    finally:
        _bare = False


cdef int check_new(cls, bint is_given) except -1:
    cdef object how = getattr(cls, "_made_by", None)
    if _bare:
        return 0
    if how is not None:
        raise TypeError(f"write: await {cls.__name__}.{how}(addr)")
    if not is_given:
        raise TypeError(f"{cls.__name__} takes a loop and a log")
    return 0
