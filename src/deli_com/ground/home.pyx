"""Where an object may be used: the process, the thread and the event loop that it was made for.

Everything public of servers and clients asks here before it changes anything. What is called often looks with
`at_home` first; all the words, and all further conditions, are in `Home._refuse_others`.
"""

import os
from asyncio import _get_running_loop
from weakref import WeakSet

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident

cdef object NO_RUN = object()  # the hook of no run: what `_hook` is where none is known


# A fork copies everything, the descriptors too: what the child would write, it would write into its parent's
# connections. It keeps thread and loop, so what makes `at_home` short is taken from every home of the child.
cdef object _homes = WeakSet()
cdef long here = os.getpid()
cdef Py_ssize_t _forks = 0


cdef Py_ssize_t home_forks() noexcept:
    return _forks


def forks():
    """Return how often this process has forked: what was open then may be open in a child, too."""
    return _forks


def _forked():
    global _forks
    _forks += 1


def _in_child():
    global here
    cdef Home home
    here = os.getpid()
    for home in list(_homes):
        home._hook = NO_RUN


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_forked, after_in_child=_in_child)


cdef class Home:
    """The thread that this was made in, and a loop of it.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __cinit__(self, loop):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.process = here
        self._hook = NO_RUN
        _homes.add(self)

    cdef int check_process(self, str what) except -1:
        if self.process != here:
            raise RuntimeError(
                f"{what} was called in process {here}, but what it is of was opened in process "
                f"{self.process}, from which this one was forked: open one here, after the fork"
            )
        return 0

    @property
    def is_foreign(self):
        """Whether this is a child of the process that it was made in."""
        return self.process != here

    def refuse_others(self, str what not None):
        """Raise RuntimeError unless this is the thread, and the running loop, that it was made for."""
        self.check_running(what)

    def refuse_elsewhere(self, str what not None):
        """Raise RuntimeError in another thread, event loop or process; its own loop need not run."""
        self.check(what)

    def refuse_child(self, str what not None):
        """Raise RuntimeError in a child of the process that it was made in."""
        self.check_process(what)

    cdef int check(self, str what) except -1:
        if not at_home(self):
            self.check_process(what)
            if PyThread_get_thread_ident() != self.thread:
                raise RuntimeError(
                    f"{what} was called from thread {PyThread_get_thread_ident()}, but its event loop "
                    f"runs in thread {self.thread}; use loop.call_soon_threadsafe"
                )
            self._refuse_others(what)
        return 0

    cdef int check_running(self, str what) except -1:
        self.check(what)
        if _get_running_loop() is not self.loop:
            raise RuntimeError(f"{what} needs its asyncio event loop, and that does not run here")
        return 0

    cdef bint is_elsewhere(self, str what) except -1:
        if at_home(self):
            return False
        self.check_process(what)
        if PyThread_get_thread_ident() != self.thread:
            self._refuse_closed(what)
            return True
        self._refuse_others(what)
        return False

    cdef int _refuse_others(self, str what) except -1:
        # On the right thread. Passed, the next look is a short one, as long as this run of the loop lasts.
        cdef PyObject* hook
        running = _get_running_loop()
        if running is None:
            return self._refuse_closed(what)
        if running is not self.loop:
            raise RuntimeError(
                f"{what} was called in another event loop than the one that it was opened in: "
                "open one in each loop, and close it there"
            )
        hook = deli_com_running_hook()
        if hook != NULL:  # else a kind of loop that sets none
            self._hook = <object>hook
        return 0

    cdef int _refuse_closed(self, str what) except -1:
        if self.loop.is_closed():
            raise RuntimeError(
                f"{what} was called after its event loop had ended: open it again in the loop that runs now")
        return 0
