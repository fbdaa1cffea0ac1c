"""Where an object may be used: the thread and the event loop that it was made for.

Everything public of servers and clients asks here before it changes anything. What is called often looks with
`at_home` first; all the words, and all further conditions, are in `Home._refuse_others`.
"""

from asyncio import _get_running_loop

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident

cdef object NO_RUN = object()  # the hook of no run: what `_hook` is where none is known


cdef class Home:
    """The thread that this was made in, and a loop of it.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __cinit__(self, loop):
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self._hook = NO_RUN

    def refuse_others(self, str what not None):
        """Raise RuntimeError unless this is the thread, and the running loop, that it was made for."""
        self.check_running(what)

    cdef int check(self, str what) except -1:
        if not at_home(self):
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
        if PyThread_get_thread_ident() != self.thread:
            self._refuse_closed(what)
            return True
        self._refuse_others(what)
        return False

    cdef int _refuse_others(self, str what) except -1:
        # On the right thread. Passed, the next look is a short one, for as long as this run of the loop lasts.
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
                f"{what} was called after its event loop had ended: open it anew in the loop that runs now")
        return 0
