# Who may make a hub without initialising it.

# TypeError, unless `bare` is making one or there are the arguments of `Hub.__init__`.
cdef int check_new(cls, Py_ssize_t arguments) except -1
