# A future: one task awaits it, other code ends it.

cdef class Waiter:
    cdef readonly object loop
    cdef public object _asyncio_future_blocking  # of asyncio's protocol for futures: true while it is yielded
    cdef object _callback            # the first, and mostly the only one; None: there is none
    cdef object _context
    cdef list _others                # further (callback, context), or None
    cdef object _result              # what it gives; an exception it raises
    cdef bint _is_error
    cdef bint _is_done
    cdef object _cancelled           # the message of a cancellation, in a tuple; None: it was not cancelled

    # Whether it has ended. The task that awaits it is woken in a later step of the loop.
    cdef bint is_done(self) noexcept

    # Ends it. False if it had ended before. If waking the task raises, it has not ended.
    cdef bint end(self, object result, bint is_error) except -1

    cdef int _tell(self) except -1
    cdef int _undo_end(self) except -1
    cdef int _end_or_again(self, object result, bint is_error) except -1
