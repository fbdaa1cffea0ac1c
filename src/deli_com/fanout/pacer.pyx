"""How `await send` waits for the clients that keep up.

`send` has queued when the call returns; awaiting what it returns slows the producer down to
its receivers. It waits while a paced follower is more than `high_water` behind. All followers
are paced except those that are far slower than the rest. A follower is far slower if it is
behind and drained less than an eighth of what the fastest one drained, in two windows in a row.
A window is 100 ms in which a sender waited. A far slower follower is paced again once it drains
more. If no follower would be paced, the fastest one is. If a type's policy is to wait, senders
wait for all. A message to a group waits for the group's members, and one to a single client
waits for that client.

So clients that are equally fast are not evicted for being slower than the producer, even if they
share a core and drain in bursts. A stalled client delays the others by about 0.2 s, once, and
then is evicted when it exceeds its limits.
"""

from cpython.object cimport PyObject

from deli_com.fanout.follower cimport FOLLOWER_CURRENT, Audience, Follower
from deli_com.fanout.hub cimport Hub
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.ground.waiter cimport Waiter

cdef enum:
    FAR_SLOWER = 8           # drained less than one part in so many
    WINDOWS = 2              # so many times in a row; with 1, equal receivers on a busy machine were cut
    SENDS_A_TURN = 64        # awaited sends before the loop runs
    NS_A_TURN = 1000000      # or nanoseconds, whichever comes first

cdef double WINDOW_SECONDS = 0.1


cdef class Pacer:
    """Which senders of one hub wait for which followers.

    Parameters
    ----------
    hub : Hub
        Its owner calls `on_flushed` after each flush.
    high_water : int
        Bytes that a paced follower may be behind before an awaited send waits.
    """

    def __cinit__(self, Hub hub not None, Py_ssize_t high_water=1 << 20):
        self._hub = <PyObject*>hub
        self.high_water = high_water
        self._waiters = {}

    cdef bint must_wait(self, object scope, bint waits) except -1:
        # Whether a follower of `scope` is too far behind: a paced one, or any one if `waits`.
        cdef Follower follower
        if isinstance(scope, Follower):
            return self._is_full(scope)
        if (<Hub>self._hub).arena.reliable <= self.high_water:
            return False  # no follower can be that far behind
        for follower in (<Hub>self._hub).rosters.laggards():
            if scope is not None and follower not in (<Audience>scope).members:
                continue
            if (follower.paced or waits) and follower.lag() > self.high_water:
                return True
        return False

    cdef bint _is_full(self, Follower follower) except -1:
        # A sender to one follower waits from half of the private log's limit on. At the limit it is refused.
        cdef Audience private = follower.private
        if not follower.is_behind():
            return False
        if private is not None and 2 * private.reliable > private.cap:
            return True
        return follower.lag() > self.high_water

    cdef bint must_yield(self) noexcept:
        # A loop of awaited sends that never waits must still let the event loop run.
        if self._turn_seen != (<Hub>self._hub).rosters.turns:
            self._turn_seen = (<Hub>self._hub).rosters.turns
            self.loop_ran()
        self._sends += 1
        return self._sends >= SENDS_A_TURN or deli_com_clock_ns() - self._loop_ran_ns > NS_A_TURN

    cdef int loop_ran(self) noexcept:
        self._sends = 0
        self._loop_ran_ns = deli_com_clock_ns()
        return 0

    cdef Waiter wait(self, object scope, bint waits):
        # The waiter ends once no follower of `scope` is too far behind.
        cdef Waiter waiter = Waiter((<Hub>self._hub).loop)
        if self._timer is None:  # no sender waits, or the timer could not be set
            self._open_window()
        self._waiters[waiter] = (scope, waits)
        return waiter

    cdef int forget(self, Waiter waiter) except -1:
        # It was cancelled.
        self._waiters.pop(waiter, None)  # it may have been released
        if not self._waiters:
            self._close_window()
        return 0

    cdef int release(self) except -1:
        # Wakes every waiter; each has queued its message already, so there is nothing to recheck.
        # One that cannot be woken stays, and is woken with the next change.
        cdef Waiter waiter
        for waiter in list(self._waiters):
            waiter.end(None, False)
            self._waiters.pop(waiter, None)
        return self._close_window()

    cdef int heal(self) except -1:
        # Called periodically. Tries again where the timer could not be started or a sender not be woken.
        if self._waiters:
            if self._timer is None:
                self._open_window()
            self.on_flushed()
        return 0

    cdef bint has_waiters(self) noexcept:
        return len(self._waiters) != 0

    cdef int on_flushed(self) except -1:
        cdef dict answers
        cdef Waiter waiter
        if not self._waiters:
            return 0
        answers = {}  # many wait for the same
        for waiter, (scope, waits) in list(self._waiters.items()):
            if (scope, waits) not in answers:
                answers[scope, waits] = self.must_wait(scope, waits)
            if not answers[scope, waits]:
                waiter.end(None, False)
                self._waiters.pop(waiter, None)
        if not self._waiters:
            self._close_window()
        elif self._timer is None:
            self._open_window()
        return 0

    # --- the window ----------------------------------------------------------------------

    cdef int _open_window(self) except -1:
        # A sender starts to wait. The marks stay until senders have waited for 100 ms.
        cdef Follower follower
        if not self._window_open:
            self._window_open = True
            self._waited = 0
            for follower in (<Hub>self._hub).followers:
                follower.paced_mark = follower.sent_bytes()
        self._waiting_since = (<Hub>self._hub).loop.time()
        self._timer = (<Hub>self._hub).loop.call_later(
            max(0.001, WINDOW_SECONDS - self._waited), _window_of, self, (<Hub>self._hub).kept())
        return 0

    cdef int _close_window(self) except -1:
        # The last sender has stopped waiting.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._waited += max(0.0, (<Hub>self._hub).loop.time() - self._waiting_since)
        return 0

    def _window(self):
        # After 100 ms of waiting: measures how much each follower drained.
        self._timer = None
        self._window_open = False
        try:
            self._weigh()
            self.on_flushed()
        finally:
            if self._waiters and self._timer is None:
                self._open_window()

    cdef int _weigh(self) except -1:
        cdef Follower follower, fastest = None
        cdef unsigned long long drained, best = 0
        cdef bint anybody = False
        for follower in (<Hub>self._hub).followers:
            drained = _drained(follower)
            if follower.state == FOLLOWER_CURRENT:
                # Idle while others are waited for: it could have taken this much at least.
                drained = max(drained, <unsigned long long>self.high_water)
            if fastest is None or drained > best:
                fastest = follower
                best = drained
        for follower in (<Hub>self._hub).followers:
            if follower.is_behind() and FAR_SLOWER * _drained(follower) < best:
                follower.slow_windows += 1
            else:
                follower.slow_windows = 0
            follower.paced = follower.slow_windows < WINDOWS
            anybody = anybody or follower.paced
        if fastest is not None and not anybody:
            fastest.paced = True
        return 0


def _window_of(Pacer pacer not None, kept):
    # The timer keeps the hub and its owner.
    pacer._window()


cdef unsigned long long _drained(Follower follower) except? 0:
    # Bytes that have left this process since the window began.
    cdef unsigned long long sent = follower.sent_bytes()
    return sent - follower.paced_mark if sent > follower.paced_mark else 0


cdef class Paced:
    """What `send` returns: a coroutine object that ends when the producer may send more.

    The message is queued already, and cancelling the wait does not remove it.
    """

    def __cinit__(self, Pacer pacer not None, object scope=None, bint waits=False):
        self._pacer = pacer
        self._hub = <Hub>pacer._hub
        self._kept = self._hub.kept()
        self._scope = scope
        self._waits = waits

    def __repr__(self):
        if self._state == _ENDED:
            return "<send(), awaited: the value was queued>"
        return "<send(), not awaited: the value is queued already; `await` it to keep the clients' pace>"

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._step() is _DONE:
            raise StopIteration
        return self._yielded()

    def send(self, value):
        """Advance, as a coroutine's ``send``; `value` is ignored."""
        if self._step() is _DONE:
            raise StopIteration
        return self._yielded()

    def throw(self, type, value=None, traceback=None):
        """Raise inside the wait: cancellation arrives here."""
        self.close()
        if value is None:
            value = type() if isinstance(type, _TYPE) else type
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        """Stop waiting."""
        cdef Waiter waiter = self._waiter
        self._state = _ENDED
        if waiter is not None:
            self._waiter = None
            self._pacer.forget(waiter)
            waiter.cancel()

    cdef object _step(self):
        # _DONE, or None where `_yielded` is to be yielded.
        if self._state == _NEW:
            self._hub.home.check("await send")
            if self._pacer.must_wait(self._scope, self._waits):
                self._waiter = self._pacer.wait(self._scope, self._waits)
                self._state = _WAITING
                return None
            if self._pacer.must_yield():
                self._state = _YIELDED
                return None
            self._state = _ENDED
            return _DONE
        if self._state == _WAITING:
            if not self._waiter.is_done():
                return None
            self._waiter = None
        elif self._state == _ENDED:
            raise RuntimeError("cannot reuse an already awaited send()")
        self._pacer.loop_ran()
        self._state = _ENDED
        return _DONE

    cdef object _yielded(self):
        # What the loop waits for, or nothing at all: one turn.
        if self._waiter is not None:
            self._waiter._asyncio_future_blocking = True
        return self._waiter


cdef enum:
    _NEW
    _WAITING
    _YIELDED
    _ENDED

cdef object _DONE = object()
cdef object _TYPE = type
