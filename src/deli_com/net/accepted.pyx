"""Accepted sockets: non-blocking from the first system call on, no exception where no connection waits."""

import errno
import os
import socket

from deli_com.ground.sockets cimport DELI_COM_HAVE_ACCEPT4, deli_com_accept


class Accepted(socket.socket):
    """An accepted socket. Its family and type are plain numbers.

    They are asked several times on the way to a transport, and making an enum of a number takes as long as a
    system call.
    """

    __slots__ = ()

    family = socket.SocketType.family
    type = socket.SocketType.type


def is_supported(sock):
    """Whether `accept_from` is for this listening socket: one of Python's own, on Linux."""
    return DELI_COM_HAVE_ACCEPT4 and type(sock) is socket.socket and type(sock).__module__ == "socket"


def accept_from(int number, int family, int kind, int proto):
    """Accept one connection.

    Parameters
    ----------
    number : int
        Descriptor of a listening, non-blocking socket.
    family, kind, proto : int
        Of that socket; `kind` includes ``SOCK_NONBLOCK``, so that Python knows the timeout of the new one.

    Returns
    -------
    Accepted or None
        None: no connection waits.

    Raises
    ------
    OSError
        See accept(2).
    """
    cdef int made = deli_com_accept(number)
    if made < 0:
        if made in (-errno.EAGAIN, -errno.EWOULDBLOCK, -errno.EINTR):
            return None
        raise OSError(-made, os.strerror(-made))
    try:
        return Accepted(family, kind, proto, made)
    except BaseException:
        os.close(made)
        raise
