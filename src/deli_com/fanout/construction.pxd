# Which code may make a hub without initialising it.

# TypeError, unless `bare` is making one or the arguments of `Hub.__init__` are given.
cdef int check_new(cls, bint is_given) except -1
