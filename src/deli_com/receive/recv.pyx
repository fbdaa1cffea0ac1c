"""`recv` and related calls: the coroutine objects that take values from an inbox.

A value is taken in the last step, so a coroutine that is cancelled, closed or dropped loses no value. If a
value is waiting, the coroutine ends in its first step, without a turn of the loop.
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF

from deli_com.ground.gc_slots cimport (
    CollectedType,
    PyObject_GC_Track,
    PyObject_GC_UnTrack,
    destructor,
    inquiry,
)
from deli_com.ground.waiter cimport Waiter
from deli_com.receive.inbox cimport Entry, Inbox

cdef extern from "deli_com/receive/stop.h":
    int stop_ready() except -1

cdef extern from *:
    """
    #ifndef Py_TPFLAGS_HAVE_AM_SEND
    #define Py_TPFLAGS_HAVE_AM_SEND (1UL << 21)
    #endif
    typedef PySendResult (*deli_com_sendfunc)(PyObject *, PyObject *, PyObject **);

    static PyObject *deli_com_iternext(PyObject *self) {
        PyObject *result = NULL;
        PySendResult how = ((deli_com_sendfunc)Py_TYPE(self)->tp_as_async->am_send)(self, Py_None, &result);
        if (how != PYGEN_RETURN) return how == PYGEN_NEXT ? result : NULL;
        stop_with(result);
        Py_DECREF(result);
        return NULL;
    }

    /* With am_send, `await` gets the result in C, without a StopIteration: in the bytecode of 3.11, and in
     * the steps of a task. From 3.12 on, the bytecode calls tp_iternext. */
    static void deli_com_set_slots(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **)) {
        type->tp_as_async->am_send = (deli_com_sendfunc)(void (*)(void))send;
        type->tp_flags |= Py_TPFLAGS_HAVE_AM_SEND;
        type->tp_iternext = deli_com_iternext;
        PyType_Modified(type);
    }

    #define deli_com_revive(self) Py_SET_REFCNT(self, 1)

    /* Takes the current exception, if there is one, for the time of a deallocation. */
    static PyObject *deli_com_put_error_aside(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (type == NULL) return NULL;
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) PyException_SetTraceback(error, traceback);
        Py_DECREF(type);
        Py_XDECREF(traceback);
        return error;
    #endif
    }
    static void deli_com_put_error_back(PyObject *error) {
        if (error == NULL) return;
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(error);
    #else
        PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, PyException_GetTraceback(error));
    #endif
    }
    """
    void deli_com_set_slots(PyTypeObject* type, int (*send)(PyObject*, PyObject*, PyObject**) except -1)
    PyObject* deli_com_put_error_aside() noexcept
    void deli_com_put_error_back(PyObject* error) noexcept
    void deli_com_revive(PyObject* self) noexcept

cdef enum:
    NEW
    WAITING
    ENDED

cdef object PENDING = object()
cdef dict NAMES = {
    RECV_VALUE: "recv", RECV_PAIR: "recv_from", RECV_MANY: "recv_many",
    NEXT_VALUE: "__anext__", NEXT_PAIR: "__anext__",
}


cdef Recv recv_from_inbox(Inbox inbox, RecvMode mode, Py_ssize_t most):
    global _spare
    cdef Recv recv
    if most < 1:
        raise ValueError(f"recv_many: max is {most}, expected 1 or more")
    if _spare != NULL:
        recv = <Recv>_spare
        Py_DECREF(recv)
        _spare = NULL
        PyObject_GC_Track(<PyObject*>recv)
        recv._state = NEW
    else:
        recv = <Recv>Recv.__new__(Recv)
    recv._inbox = inbox
    recv._mode = mode
    recv._most = most
    inbox.wanted = True
    return recv


@cython.final
cdef class Recv:
    """A coroutine object that takes from an inbox when it is awaited."""

    def __repr__(self):
        name = NAMES[self._mode]
        if self._state == ENDED:
            return f"<{name}(), ended>"
        return f"<{name}(), not awaited: no value has been taken; `await` it>"

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        result = self._step()
        if result is PENDING:
            return self._awaited()
        raise StopIteration(result)

    def send(self, value):
        """Advance, as a coroutine's ``send``; `value` is ignored."""
        result = self._step()
        if result is PENDING:
            return self._awaited()
        raise StopIteration(result)

    def throw(self, type, value=None, traceback=None):
        """Raise inside the wait. A cancellation arrives here. No value is lost."""
        self._give_up()
        if value is None:
            value = type() if isinstance(type, _TYPE) else type
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """Stop waiting."""
        self._give_up()

    cdef object _step(self):
        # The result, or PENDING if the caller must yield `_awaited`.
        cdef Inbox inbox = self._inbox
        if inbox is None:
            raise RuntimeError("not made by recv(), recv_from(), recv_many() or an async for")
        if self._state == NEW:
            inbox.home.check("await recv")
            if inbox.may_take():
                self._state = ENDED
                return self._value()
        elif self._state == WAITING:
            if not self._waiter.is_done():
                return PENDING
            self._waiter = None
            inbox._woken -= 1
            if inbox.count() > 0:
                self._state = ENDED
                return self._value()
        else:
            raise RuntimeError("cannot reuse an already awaited recv()")
        if inbox._closed is not None and inbox.count() <= inbox._woken:
            self._state = ENDED
            if inbox._in_order and (self._mode == NEXT_VALUE or self._mode == NEXT_PAIR):
                raise StopAsyncIteration
            raise inbox._ending()
        self._waiter = Waiter(inbox.loop)
        inbox._waiters.append(self._waiter)
        self._state = WAITING
        inbox._waiting += 1
        inbox._wake()  # there may be more values than earlier waiters will take
        return PENDING

    cdef object _awaited(self):
        # If it is woken already, a bare yield of one loop turn lets the earlier waiters run first.
        if self._waiter.is_done():
            return None
        self._waiter._asyncio_future_blocking = True
        return self._waiter

    cdef object _value(self):
        cdef Inbox inbox = self._inbox
        cdef Entry entry
        cdef list values
        if inbox.take(&entry):
            self._state = NEW
            return self._step()
        value = <object>entry.value
        source = <object>entry.source
        Py_DECREF(value)
        Py_DECREF(source)
        if entry.is_error:
            raise value
        if self._mode == RECV_VALUE or self._mode == NEXT_VALUE:
            return value
        if self._mode != RECV_MANY:
            return source, value
        values = [value]
        inbox.take_more(values, self._most)
        return values

    cdef int _give_up(self) except -1:
        cdef Inbox inbox = self._inbox
        cdef Waiter waiter = self._waiter
        if self._state == WAITING and waiter is not None:
            self._waiter = None
            self._state = ENDED
            inbox._leave_queue(waiter)
            waiter.cancel()
        self._state = ENDED
        return 0


cdef object _TYPE = type


cdef int _recv_am_send(PyObject* self, PyObject* argument, PyObject** result) except -1:
    # 0: returned, 1: yielded, -1: raised (PySendResult).
    cdef Recv recv = <Recv>self
    cdef bint wants_value = recv._mode == RECV_VALUE or recv._mode == NEXT_VALUE
    if recv._state == NEW and wants_value and recv._inbox is not None:
        result[0] = recv._inbox.take_at_once()
        if result[0] != NULL:
            recv._state = ENDED
            return 0
    value = recv._step()
    if value is PENDING:
        value = recv._awaited()
        Py_INCREF(value)
        result[0] = <PyObject*>value
        return 1
    Py_INCREF(value)
    result[0] = <PyObject*>value
    return 0


# A coroutine that was driven by hand and dropped while waiting, without close(), leaves the queue, too.

cdef destructor _free_recv = (<CollectedType*>Recv).tp_dealloc
cdef inquiry _clear_recv = (<CollectedType*>Recv).tp_clear


# A free list of one, for a program that awaits one `recv` after another. The spare object holds nothing
# and is not tracked by the collector, which may be running when it gets here.
cdef PyObject* _spare = NULL


cdef void _recv_dealloc(PyObject* self) noexcept:
    global _spare
    if (<Recv>self)._state == WAITING:
        (<Recv>self)._state = ENDED
        _abandon(<PyObject*>(<Recv>self)._inbox, <PyObject*>(<Recv>self)._waiter)
    if _spare == NULL:
        PyObject_GC_UnTrack(self)
        (<Recv>self)._inbox = None  # may run code that sets `_spare`
        if (<Recv>self)._waiter is not None:
            (<Recv>self)._waiter = None
        if _spare == NULL:
            deli_com_revive(self)
            _spare = self
            return
        PyObject_GC_Track(self)
    _free_recv(self)


cdef int _recv_clear(PyObject* self) noexcept:
    if (<Recv>self)._state == WAITING:
        (<Recv>self)._state = ENDED
        _abandon(<PyObject*>(<Recv>self)._inbox, <PyObject*>(<Recv>self)._waiter)
    return _clear_recv(self)


cdef int _abandon(PyObject* of, PyObject* waited_by) noexcept:
    # Errors are not reported: there is no caller, and a freed inbox or closed loop has no next waiter.
    cdef Inbox inbox
    cdef Waiter waiter
    cdef PyObject* error = deli_com_put_error_aside()
    try:
        inbox = <Inbox>of
        waiter = <Waiter>waited_by
        if PyThread_get_thread_ident() == inbox.home.thread:
            inbox._leave_queue(waiter)
        else:  # the collector may run in any thread
            inbox.loop.call_soon_threadsafe(inbox._left, waiter)
    except BaseException:
        pass
    deli_com_put_error_back(error)
    return 0


stop_ready()
deli_com_set_slots(<PyTypeObject*>Recv, _recv_am_send)
(<CollectedType*>Recv).tp_dealloc = _recv_dealloc
(<CollectedType*>Recv).tp_clear = _recv_clear
