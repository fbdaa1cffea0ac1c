"""The accept loop. It accepts in bounded batches, and recovers when file descriptors run out.

A listening socket stays readable while a connection waits, so a loop whose ``accept`` fails with EMFILE or
ENFILE would spin. Therefore this class closes a spare descriptor, accepts and closes the waiting connections
(their peers see that at once, without a timeout), and reopens the spare. Then it pauses accepting: 50 ms,
doubling up to 1 s, until an accept succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

from deli_com.ground.home import forks
from deli_com.net.accepted import accept_from, is_supported
from deli_com.net.log_budget import LogBudget
from deli_com.net.transports import check_socket
from deli_com.net.unwatched import begin_unwatched, close_unwatched

__all__ = ["AcceptLoop"]

ACCEPTS_A_TURN = (
    8  # accepts in one turn; the loop's other work waits about 2 ms for them and their handshakes
)
SHED_A_TURN = 64  # connections closed at once before a pause, when descriptors have run out
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0  # accepting resumes within this time after descriptors are free again

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Errors of one connection, not of the listener (accept(2)). The loop goes on with the next connection.
_GONE = {
    errno.ECONNABORTED,
    errno.ENETDOWN,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN if hasattr(errno, "EHOSTDOWN") else errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.EPERM,
    errno.EINTR,
}

_log = logging.getLogger("deli_com.server")


class AcceptLoop:
    """Calls a function with each accepted socket.

    1. It owns the listening socket and the spare descriptor; `close` closes both.
    2. `on_socket` owns the non-blocking socket that it gets, unless it raises: then the socket is closed.
    3. It uses no task, and a timer only while accepting is paused.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        A loop with ``add_reader``: every loop except Windows' proactor, for which it raises
        NotImplementedError.
    sock : socket.socket
        Listening and non-blocking socket.
    on_socket : callable
        Gets each accepted socket. If it raises, the loop's exception handler gets the error.
    """

    __slots__ = ("_budget", "_forks", "_kind", "_loop", "_on_socket", "_pause_s", "_sock", "_spare", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_socket: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._forks = forks()
        self._on_socket = on_socket
        self._spare: int | None = None
        self._pause_s = 0.0  # the last pause; 0 after an accept that succeeded
        self._timer: asyncio.TimerHandle | None = None
        self._budget = LogBudget(_log)
        check_socket(sock)
        # Family, type and protocol, for `accept_from`; None: the socket accepts by itself.
        self._kind: tuple[int, int, int] | None = None
        if is_supported(sock):
            self._kind = int(sock.family), sock.type | socket.SOCK_NONBLOCK, sock.proto
        try:
            loop.add_reader(sock.fileno(), self._ready)
        except NotImplementedError:
            raise NotImplementedError(
                f"{type(loop).__name__} cannot watch a listening socket: serve on a loop with add_reader, "
                "on Windows asyncio.SelectorEventLoop"
            ) from None
        self._spare = _open_spare()

    def close(self) -> None:
        """Stop accepting, and close the listening socket. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if forks() != self._forks:
            # A forked child has the descriptor, too. Without shutdown, the port stays open while it lives.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        close_unwatched(self._loop, self._sock)
        self._close_spare()

    def __del__(self) -> None:
        self._close_spare()  # for a server that was not closed before its loop ended

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _ready(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            number = self._sock.fileno()
            if number < 0:
                return  # closed by on_socket
            try:
                sock = self._sock.accept()[0] if self._kind is None else accept_from(number, *self._kind)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._rest(error)
                return
            if sock is None:
                return
            self._pause_s = 0.0
            try:
                if self._kind is None:
                    sock.setblocking(False)
                begin_unwatched(self._loop, sock)
                self._on_socket(sock)
            except BaseException:
                close_unwatched(self._loop, sock)
                raise

    def _rest(self, error: OSError) -> None:
        shed, emptied = self._shed() if error.errno in (errno.EMFILE, errno.ENFILE) else (0, False)
        if emptied and not shed:
            return  # no connection waits; accept() fails first because it needs a free descriptor
        self._pause_s = min(max(self._pause_s * 2, PAUSE_MIN_S), PAUSE_MAX_S)
        if error.errno in _EXHAUSTED:
            self._budget.log(
                logging.WARNING,
                "cannot accept connections: %s; %d closed, next attempt in %.2f s",
                error.strerror,
                shed,
                self._pause_s,
            )
        else:
            self._budget.log(logging.ERROR, "accept failed: %s; next attempt in %.2f s", error, self._pause_s)
        self._timer = self._loop.call_later(self._pause_s, self._resume)  # first, because it may fail
        self._loop.remove_reader(self._sock.fileno())

    def _resume(self) -> None:
        if self._spare is None:
            self._spare = _open_spare()
        try:
            self._loop.add_reader(self._sock.fileno(), self._ready)
            self._timer = None
        except OSError as error:  # the kernel is out of memory; retry later
            self._budget.log(logging.WARNING, "cannot watch for connections: %s", error)
            self._timer = self._loop.call_later(PAUSE_MAX_S, self._resume)

    def _shed(self) -> tuple[int, bool]:
        """Accept and close with the spare descriptor. Returns the number, and whether the queue is empty."""
        count = 0
        while self._spare is not None and count < SHED_A_TURN:
            os.close(self._spare)
            self._spare = None
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return count, True
            except OSError:
                break  # another thread has taken the descriptor
            else:
                sock.close()
                count += 1
            finally:
                self._spare = _open_spare()
        return count, False


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None  # retried after the next pause
