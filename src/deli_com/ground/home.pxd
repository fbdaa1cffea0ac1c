# Where an object may be used: the process, the thread and the event loop that it was made for.

from cpython.object cimport PyObject


cdef extern from *:
    """
    /* What says, for the price of a thread's identity, which run of which loop this is: each run of asyncio's
     * and uvloop's loops sets a new hook for its thread, and takes it away at its end. NULL outside. */
    static inline PyObject *deli_com_running_hook(void) {
        return PyThreadState_Get()->async_gen_firstiter;
    }
    """
    PyObject* deli_com_running_hook() noexcept


# How often this process has forked.
cdef Py_ssize_t home_forks() noexcept


cdef class Home:
    cdef readonly object loop
    cdef readonly unsigned long thread    # of the loop
    cdef readonly long process
    cdef object __weakref__
    cdef object _hook                     # of the run of the loop in which `check` last passed
    cdef int _refuse_others(self, str what) except -1
    cdef int _refuse_closed(self, str what) except -1

    # RuntimeError in a child of the process that it was made in.
    cdef int check_process(self, str what) except -1

    # RuntimeError unless the caller is on the loop's thread, with this loop or none running in it.
    cdef int check(self, str what) except -1

    # The same, and for what awaits: this loop runs.
    cdef int check_running(self, str what) except -1

    # Whether the caller is another thread, which may hand over to this one; RuntimeError where even that is
    # wrong.
    cdef bint is_elsewhere(self, str what) except -1


cdef inline bint at_home(Home home) noexcept:
    # What `check` would pass, seen at once. False says nothing: ask one of the three.
    return deli_com_running_hook() == <PyObject*>home._hook
